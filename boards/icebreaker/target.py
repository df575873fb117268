"""The target `icebreaker`: a small engine on the USB serial port of a 1BitSquared iCEBreaker (Lattice iCE40 UP5K), by open tools
alone, with its weights in the board's flash memory.

Pins and package come from amaranth-boards (`amaranth_boards.icebreaker`).
"""

import json
import re
import tempfile
from dataclasses import replace
from pathlib import Path

from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Instance, Module, ResetSignal, Signal
from amaranth.lib import io
from amaranth.lib.cdc import FFSynchronizer
from amaranth_boards.icebreaker import ICEBreakerPlatform

from boards.describe import describe, golden_frames
from emamba.base.errors import DesignLimit, SettingError, ToolFailed
from emamba.base.progress import say
from rtl.engine.machine import Machine
from rtl.engine.schedule import EngineSchedule
from rtl.engine.shared_store import MOST_LANES
from rtl.kit import tools
from rtl.plan import devices
from rtl.plan.engine_cost import estimate
from rtl.system.flash import FlashSystem
from rtl.system.system import System

BAUD = 1_000_000
CRYSTAL_MHZ = 12.0
CLOCK_MHZ = devices.find("icebreaker").clock_mhz
SLOWEST_MHZ, FASTEST_MHZ = 16.875, 33.0
DIVIDED = 32
"""Of the PLL's oscillator, which runs at 533 to 1066 MHz."""
OFFSET = 0x20000
"""Byte of the flash memory from which the weights lie; the bitstream before has 104,161 bytes."""
SETTLED = 1 << 9
"""Cycles until the block RAMs answer after the configuration."""
UNRUN = "no board was used"
CELLS = {"ICESTORM_LC": "logic cells", "ICESTORM_RAM": "block RAMs", "ICESTORM_DSP": "multipliers", "ICESTORM_SPRAM": "SPRAMs"}
ESTIMATED = {"ICESTORM_LC": "lut", "ICESTORM_RAM": "ebr"}
"""What a design may have too much of, as the cost model calls it; multipliers that a device lacks become logic."""
SEEDS = 2, 1, 3
"""Of the placement, until one meets the clock."""

class Board(Elaboratable):
    """The system between the pins of a serial line and of the flash memory, on a clock of `multiple` / 32 crystals'. `own_pin`:
    the crystal's is the PLL's."""

    def __init__(self, system: FlashSystem, multiple: int, own_pin: bool = True):
        self.system, self.multiple, self.own_pin = system, multiple, own_pin

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain()
        m.submodules.system = system = self.system
        locked, steady, waited = Signal(), Signal(), Signal(range(SETTLED), reset_less=True)
        crystal = platform.request("clk12", 0, dir="-")
        if self.own_pin:
            kind, source = "SB_PLL40_PAD", {"i_PACKAGEPIN": crystal.io}
        else:
            m.submodules.crystal = pin = io.Buffer("i", crystal)
            kind, source = "SB_PLL40_CORE", {"i_REFERENCECLK": pin.i}
        m.submodules.pll = Instance(
            kind, p_FEEDBACK_PATH="SIMPLE", p_DIVR=0, p_DIVF=self.multiple - 1, p_DIVQ=DIVIDED.bit_length() - 1,
            p_FILTER_RANGE=1, **source, i_RESETB=Const(1), i_BYPASS=Const(0), o_PLLOUTGLOBAL=ClockSignal(), o_LOCK=locked)
        m.submodules.steady = FFSynchronizer(locked, steady, reset_less=True)
        with m.If(steady & ~waited.all()):
            m.d.sync += waited.eq(waited + 1)
        m.d.comb += ResetSignal().eq(~waited.all())
        line, flash = platform.request("uart", 0, dir="-"), platform.request("spi_flash_1x", 0, dir="-")
        for name in ("cs", "clk", "copi", "wp", "hold"):
            if hasattr(flash, name):
                m.submodules[name] = buffer = io.Buffer("o", getattr(flash, name))
                m.d.comb += buffer.o.eq(getattr(system, f"flash_{name}", 0))
        m.submodules.cipo, m.submodules.rx, m.submodules.tx = cipo, rx, tx = (
            io.Buffer("i", flash.cipo), io.Buffer("i", line.rx), io.Buffer("o", line.tx))
        m.d.comb += [system.flash_cipo.eq(cipo.i), system.rx.eq(rx.i), tx.o.eq(system.tx)]
        return m


class Target:
    """Attributes and functions: `rtl.build.TARGETS`."""

    CLOCK_MHZ, LEAST_CLOCK_MHZ = CLOCK_MHZ, SLOWEST_MHZ
    DEVICE = "icebreaker"
    PLATFORM, OWN_PIN = ICEBreakerPlatform, True
    """Where the pins are from; whether the clock's pin is the PLL's."""
    BOARD, NOTES = "icebreaker", ()
    MACHINE = Machine(8, 1, 16, rows=256, small=True)
    """What is built where nothing else is asked for."""

    def write(self, folder: Path, system: System, clock_mhz: float) -> tuple[dict, list[str]]:
        """Writes the flash memory's content and the driver's description; returns utilization and clock rate for the report."""
        multiple = check(system, clock_mhz)
        design = FlashSystem(system.schedule, round(clock_mhz * 1e6 / BAUD), OFFSET, system.artifact)
        (folder / "accelerator.json").write_text(json.dumps(describe(design.lean, golden_frames(system.artifact))) + "\n",
                                                 encoding="utf-8")
        plan = self.PLATFORM().build(Board(design, multiple, self.OWN_PIN), do_build=False)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            work = Path(temporary)
            (work / "top.il").write_text(tools.collisions_apart(_text(plan.files["top.il"])), encoding="utf-8")
            (work / "top.pcf").write_text(_text(plan.files["top.pcf"]), encoding="utf-8")
            say("synthesis")
            tools.yosys(work, ["read_rtlil top.il", "synth_ice40 -dsp -abc9 -device u -top top", "write_json top.json"])
            for seed in SEEDS:
                report = place(work, seed, system.schedule)
                rate = tools.rate(report)
                if rate >= clock_mhz:
                    break
            tools.icepack(work, ["-s", "top.asc", "top.bin"])  # -s: the flash memory stays awake
            (folder / "flash.bin").write_bytes(flash_content((work / "top.bin").read_bytes(), design))
            (work / "top.pcf").rename(folder / "top.pcf")
        if rate < clock_mhz:
            raise DesignLimit(f"nextpnr reaches {rate:.2f} MHz where {clock_mhz:g} are needed: build it with a lower "
                              "--clock-mhz")
        frames = clock_mhz * 1e6 / system.schedule.cycles_per_frame
        return {"placed_on": self.BOARD, "baud": BAUD} | tools.routed(report, "ice40"), [
            f"placed and routed on {self.BOARD}: {rate:.1f} MHz by nextpnr where {clock_mhz:g} are needed, {frames:.0f} "
            f"frames a second; {UNRUN}",
            f"load it with iceprog flash.bin; the driver's transport is SerialTransport at {BAUD:,} baud", *self.NOTES]


def check(system: System, clock_mhz: float) -> int:
    """Refuses what cannot be built, before anything is; returns by how much the PLL multiplies."""
    tools.packages("ice40")
    options, machine = system.options, system.schedule.machine
    if options.loadable or options.stateful or options.parity:
        raise SettingError("--weights, --state and --parity: an iCE40 UP5K's system has few registers, and none for these; leave "
                           "them out")
    if machine.lanes > MOST_LANES:
        raise DesignLimit(f"--lanes {machine.lanes}: an iCE40 UP5K has {MOST_LANES} multipliers, and memory for the weights of "
                          "as many lanes")
    multiple = round(clock_mhz * DIVIDED / CRYSTAL_MHZ)
    if clock_mhz > FASTEST_MHZ or multiple * CRYSTAL_MHZ != clock_mhz * DIVIDED:
        step = CRYSTAL_MHZ / DIVIDED
        raise SettingError(f"--clock-mhz {clock_mhz:g}: the board's PLL makes multiples of {step:g} MHz from {SLOWEST_MHZ:g} to "
                           f"{FASTEST_MHZ:g}")
    return multiple


def place(work: Path, seed: int, schedule: EngineSchedule) -> dict:
    """Runs nextpnr in a folder with top.json and top.pcf; its report. A design that does not fit is refused with its size."""
    try:
        return tools.nextpnr("ice40", work, [
            "--up5k", "--package", "sg48", "--pcf", "top.pcf", "--asc", "top.asc", "--freq", str(CLOCK_MHZ), "--log", "top.log",
            "--seed", str(seed), "--router", "router2", "--tmg-ripup", "--timing-allow-fail"])
    except ToolFailed:
        log = (work / "top.log").read_text(encoding="utf-8") if (work / "top.log").is_file() else ""
        used = {name: (int(count), int(most)) for name, count, most in re.findall(r"(ICESTORM_\w+): +(\d+)/ +(\d+)", log)}
        if over := [f"{used[cell][0]:,} of {used[cell][1]:,} {name}" for cell, name in CELLS.items() if cell in used]:
            lanes = fewer_lanes(schedule, used)
            raise DesignLimit(f"the design does not fit an iCE40 UP5K: it takes {', '.join(over)}; "
                              + (f"take --lanes {lanes}, which fits by estimate, " if lanes else "take a smaller model ")
                              + "or a larger device") from None
        raise


def fewer_lanes(schedule: EngineSchedule, used: dict[str, tuple[int, int]]) -> int:
    """The most lanes with which a design that takes `used` (count, limit) of each cell fits: what lanes save is estimated. 0
    where none do."""
    now = estimate(schedule, "ice40")
    for lanes in range(schedule.machine.lanes - 1, 0, -1):
        try:
            less = estimate(EngineSchedule(schedule.artifact, replace(schedule.machine, lanes=lanes, posts=0)), "ice40")
        except DesignLimit:  # as of lanes that do not divide what they must
            continue
        if all(used[cell][0] - now[name] + less[name] <= used[cell][1] for cell, name in ESTIMATED.items() if cell in used):
            return lanes
    return 0


def flash_content(bitstream: bytes, design: FlashSystem) -> bytes:
    """Bitstream and weights."""
    return bitstream.ljust(design.offset, b"\xff") + design.image.data


def _text(content: str | bytes) -> str:
    return content if isinstance(content, str) else content.decode()
