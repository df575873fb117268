"""The target `ulx3s`: the AXI system on the USB serial port of a Radiona ULX3S, as a bitstream, by open tools alone.

Pins, package and speed grade come from amaranth-boards (`amaranth_boards.ulx3s`); the clock is the board's 25 MHz.
"""

import json
import tempfile
from pathlib import Path

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import io
from amaranth_boards import ulx3s

from boards.describe import describe, golden_frames
from emamba.base.errors import DesignLimit, SettingError
from emamba.base.progress import say
from rtl.engine.schedule import EngineSchedule
from rtl.kit import tools
from rtl.plan import devices
from rtl.system.serial import BYTES, SerialSystem
from rtl.system.system import System

BAUD = 1_000_000
CLOCK_MHZ = devices.find("ulx3s-85f").clock_mhz
UNRUN = "no board was used"
PLATFORMS = {"ulx3s-85f": (ulx3s.ULX3S_85F_Platform, "85k"), "ulx3s-45f": (ulx3s.ULX3S_45F_Platform, "45k"),
             "ulx3s-25f": (ulx3s.ULX3S_25F_Platform, "25k"), "ulx3s-12f": (ulx3s.ULX3S_12F_Platform, "12k")}
"""Of each device: its platform, and nextpnr's name for it."""
FLOW = ["read_rtlil top.il", f"scratchpad -set abc9.D {1e6 / CLOCK_MHZ:.0f}", "synth_ecp5 -top top", "write_json top.json"]
"""The delay asked of abc9, in ps, is a clock period: with less it would trade area for speed that nothing needs."""
SEED = 1


class Board(Elaboratable):
    """The system between the pins of the USB serial chip."""

    def __init__(self, system: SerialSystem):
        self.system = system

    def elaborate(self, platform):
        m = Module()
        m.submodules.system = system = self.system
        line = platform.request("uart", 0, dir="-")
        m.submodules.rx, m.submodules.tx = rx, tx = io.Buffer("i", line.rx), io.Buffer("o", line.tx)
        m.d.comb += [system.rx.eq(rx.i), tx.o.eq(system.tx)]
        return m


class Target:
    """Attributes and functions: `rtl.build.TARGETS`."""

    CLOCK_MHZ = LEAST_CLOCK_MHZ = CLOCK_MHZ
    CYCLES_PER_TOKEN = 400

    def __init__(self, device: str = "ulx3s-85f"):
        self.DEVICE = device

    def on(self, device: str) -> "Target":
        if device not in PLATFORMS:
            raise SettingError(f"--device {device}: the target ulx3s is for {', '.join(PLATFORMS)}")
        return Target(device)

    def write(self, folder: Path, system: System, clock_mhz: float) -> tuple[dict, list[str]]:
        """Writes the bitstream and the driver's description; returns utilization and clock rate for the report."""
        check(system, clock_mhz)
        (folder / "accelerator.json").write_text(json.dumps(describe(system, golden_frames(system.artifact))) + "\n",
                                                 encoding="utf-8")
        platform, name = PLATFORMS[self.DEVICE]
        plan = platform().build(Board(SerialSystem(system, round(clock_mhz * 1e6 / BAUD))), do_build=False)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            work = Path(temporary)
            for file in ("top.il", "top.lpf"):
                content = plan.files[file]
                (work / file).write_bytes(content if isinstance(content, bytes) else content.encode())
            if isinstance(system.schedule, EngineSchedule) and not system.options.stateful:
                text = (work / "top.il").read_text(encoding="utf-8")
                (work / "top.il").write_text(tools.collisions_apart(text), encoding="utf-8")
            say("synthesis")
            tools.yosys(work, FLOW)
            report = tools.nextpnr("ecp5", work, [
                f"--{name}", "--package", platform.package.replace("BG", "CABGA"), "--speed", platform.speed, "--lpf", "top.lpf",
                "--textcfg", "top.config", "--seed", str(SEED)])
            tools.ecppack(work, ["--compress", "--input", "top.config", "--bit", "top.bit"])
            for file in ("top.bit", "top.lpf"):
                (work / file).rename(folder / file)
        return {"placed_on": self.DEVICE, "baud": BAUD} | tools.routed(report, "ecp5"), [
            f"placed and routed on {self.DEVICE}: {tools.rate(report):.1f} MHz by nextpnr where {clock_mhz:g} are needed; "
            f"{UNRUN}",
            f"load it with openFPGALoader --board ulx3s top.bit; the driver's transport is SerialTransport at {BAUD:,} baud"]


def check(system: System, clock_mhz: float) -> None:
    """Refuses what cannot be built, before anything is."""
    tools.packages("ecp5")
    if system.options.bus_bits != 8 * BYTES:
        raise SettingError(f"--bus-bits {system.options.bus_bits}: the serial line of the target ulx3s carries words of "
                           f"{8 * BYTES} bits")
    if clock_mhz != CLOCK_MHZ:
        raise SettingError(f"--clock-mhz {clock_mhz:g}: the target ulx3s runs at the board's {CLOCK_MHZ:g} MHz")
    schedule = system.schedule
    line = schedule.tokens * schedule.input.width * system.input_bytes * 10 * round(clock_mhz * 1e6 / BAUD)
    if line < schedule.cycles_per_frame:
        raise DesignLimit(f"at {schedule.period} cycles per token the design is slower than its serial line, which brings a "
                          f"sequence in {line} cycles and waits for the rest; ask for at most {line // schedule.tokens} "
                          "cycles per token")
