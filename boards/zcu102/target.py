"""The target `zcu102`: the AXI system for Linux in the folder `system`; a self-test for the board without a processor, and an
out-of-context synthesis of the accelerator; for Vivado.

`top.v` is the accelerator as `rtl.kit.emit` wrote it, once, and what Vivado reads in both. The self-test instantiates it and
AMD's buffers; that shell comes from the board's platform, whose Verilog keeps the attributes on which Vivado's constraints rely.
"""

from pathlib import Path

from amaranth.hdl import ClockSignal, Elaboratable, Instance, Module, ResetSignal, Signal, Value
from amaranth.lib import io, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from boards import vivado
from boards.describe import golden_frames
from boards.vivado import UNRUN
from boards.zynqmp import bundle
from boards.zynqmp.presets import PRESETS
from emamba.run.integer import IntegerModel
from rtl.kit import emit
from rtl.kit.emit import to_verilog
from rtl.plan import devices
from rtl.plan.accelerator import accelerator
from rtl.plan.schedule import Schedule
from rtl.system.system import System

from .platform import ZCU102Platform
from .self_test import SelfTest

DEVICE = "zcu102"
CLOCK_MHZ = devices.find(DEVICE).clock_mhz
CLOCKS = {"clk74": 74.25, "clk125": 125.0, "clk300": 300.0}
LEAST_CLOCK_MHZ = min(CLOCKS.values())
SCRIPTS = (*(f"system/{name}" for name in bundle.SCRIPTS), "self_test.tcl", "out_of_context.tcl")


class Emitted(wiring.Component):
    """The module of top.v, as a black box."""

    def __init__(self, schedule: Schedule):
        super().__init__({"i": In(schedule.input.signature), "o": Out(schedule.output.signature)})

    def elaborate(self, platform):
        m = Module()
        ports = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
        for path, member, value in self.signature.flatten(self):
            ports[f"{'i' if member.flow is In else 'o'}_{'__'.join(path)}"] = Value.cast(value)
        m.submodules.top = Instance("top", **ports)
        return m


class Board(Elaboratable):
    """The self-test between LEDs 0 heartbeat, 1 passed, 2 failed, 3 to 7 frames done, and DIP switch 0, which injects a fault."""

    def __init__(self, test: SelfTest, hertz: float):
        self.test, self.hertz = test, hertz

    def elaborate(self, platform):
        m = Module()
        m.submodules.test = test = self.test
        switch, heartbeat = Signal(), Signal(max(1, int(self.hertz).bit_length()))
        # The slowest of the five changes about every 4 s, whatever the frame rate.
        frames = max(1, int(self.hertz / test.schedule.cycles_per_frame))
        low = max(0, min(frames.bit_length() - 2, len(test.done) - 5))
        m.submodules.inject_sync = FFSynchronizer(switch, test.inject)
        m.d.sync += heartbeat.eq(heartbeat + 1)
        lit = [heartbeat[-1], test.passed, test.failed, *test.done[low:low + 5]]
        for k, value in enumerate(lit):
            m.submodules[f"led_{k}"] = led = io.Buffer("o", platform.request("led", k, dir="-"))
            m.d.comb += led.o.eq(value)
        m.submodules.switch = pin = io.Buffer("i", platform.request("switch", 0, dir="-"))
        m.d.comb += switch.eq(pin.i)
        return m


def write(folder: Path, system: System, clock_mhz: float) -> tuple[dict, list[str]]:
    """Writes the target's files; returns resources and notes for the report."""
    clock = board_clock(clock_mhz)
    bundle.write(folder / "system", system, PRESETS["zcu102"], clock_mhz)
    if system.supply:
        return {}, [UNRUN, "no self-test and no synthesis out of context: the weights are in the processor's memory"]
    # The accelerator alone has blocks of its own: the system's blocks are made for its counters and loads.
    schedule = system.schedule.of(system.artifact)
    frames = golden_frames(schedule.artifact)
    answers = IntegerModel(schedule.artifact).answer(frames)
    top = to_verilog(accelerator(schedule))
    emit.write(folder / "top.v", top)
    board = Board(SelfTest(Emitted(schedule), schedule, frames, answers), CLOCKS[clock] * 1e6)
    for name, content in shell(board, clock, top).items():
        (folder / name).write_text(content, encoding="utf-8")
    templates = vivado.templates(__package__)
    values = {"name": schedule.artifact.name, "part": part(), "frames": len(frames), "unrun": UNRUN,
              "board_mhz": f"{CLOCKS[clock]:g}", "clock_mhz": f"{clock_mhz:g}", "period": f"{1000 / clock_mhz:.3f}"}
    for name in ("out_of_context.tcl", "out_of_context.xdc", "program.tcl", "README.txt"):
        (folder / name).write_text(templates.get_template(f"{name}.j2").render(values), encoding="utf-8")
    return {}, [UNRUN, f"clocks: {CLOCKS[clock]:g} MHz, one of the board's, in the self-test, {clock_mhz:g} MHz in the "
                "system and out of context"]


def run(folder: Path) -> list[str]:
    """Runs Vivado where it is on PATH, and returns notes for the report in place of UNRUN; else says what to run."""
    return vivado.run(folder, [name for name in SCRIPTS if (folder / name).is_file()])


def shell(board: Board, clock: str, top: str) -> dict[str, str]:
    """The Verilog, constraints and script of the self-test around `top.v`."""
    platform = ZCU102Platform()
    platform.default_clk = clock
    platform.add_file("top.v", top)
    plan = platform.build(board, "self_test", do_build=False,
                          script_before_bitstream="set_property BITSTREAM.GENERAL.COMPRESS TRUE [current_design]")
    files = {name: plan.files[name] for name in ("self_test.v", "self_test.xdc", "self_test.tcl")}
    return files | {name: f"# {UNRUN}\n{files[name]}\n" for name in ("self_test.xdc", "self_test.tcl")}


def part() -> str:
    return f"{ZCU102Platform.device}-{ZCU102Platform.package}-{ZCU102Platform.speed}"


def board_clock(clock_mhz: float) -> str:
    """The board's fastest clock that is not above `clock_mhz`."""
    return max((name for name, mhz in CLOCKS.items() if mhz <= clock_mhz), key=CLOCKS.get)
