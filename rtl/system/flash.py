"""A small engine on a serial line, whose memories are filled from a flash memory at the start."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from emamba.artifact import Artifact

from ..engine.engine import Engine
from ..engine.schedule import EngineSchedule
from ..engine.shared_store import WORD, Image, load_ports
from .lean import LeanSystem

READ_DATA = 0x03
"""The command of every SPI flash; a 24-bit address follows, then come bytes until the chip is deselected."""
COMMAND_BITS = 32
SPI = {"cs": Out(1), "clk": Out(1), "copi": Out(1), "cipo": In(1)}
"""The lines of a flash memory; it is selected by a high `cs`."""


class FlashLoader(wiring.Component):
    """Fills the memories of `image` with the bytes from `offset` on, a bit every two cycles; `done` from then on."""

    def __init__(self, image: Image, offset: int):
        self.image, self.command = image, READ_DATA << 24 | offset
        super().__init__(SPI | {name: member.flip() for name, member in load_ports(image).items()} | {"done": Out(1)})

    def elaborate(self, platform):
        m = Module()
        bits, shift, begun = Signal(range(COMMAND_BITS)), Signal(WORD), Signal()  # of the command, or of a word
        last_bank, last_row = self.load_bank == self.image.banks - 1, self.load_row == self.image.depth - 1
        m.d.comb += [
            self.copi.eq(Array(Const(self.command, COMMAND_BITS))[~bits] & ~begun),
            self.load_data.eq(Cat(shift[8:], shift[:8])),
        ]
        m.d.sync += self.load_en.eq(0)
        with m.If(self.load_en):
            m.d.sync += self.load_bank.eq(Mux(last_bank, 0, self.load_bank + 1))
            with m.If(last_bank):
                m.d.sync += self.load_row.eq(self.load_row + 1)
            with m.If(last_bank & last_row):
                m.d.sync += self.done.eq(1)
        with m.If(self.done | self.load_en & last_bank & last_row):
            m.d.sync += [self.cs.eq(0), self.clk.eq(0)]
        with m.Elif(~self.cs):
            m.d.sync += self.cs.eq(1)
        with m.Elif(~self.clk):
            m.d.sync += [self.clk.eq(1), shift.eq(Cat(self.cipo, shift))]
        with m.Else():
            m.d.sync += [self.clk.eq(0), bits.eq(bits + 1)]
            with m.If(~begun & (bits == COMMAND_BITS - 1)):
                m.d.sync += begun.eq(1)
            with m.If(begun & (bits[:4] == WORD - 1)):
                m.d.sync += self.load_en.eq(1)
        return m


class FlashSystem(wiring.Component):
    """A `LeanSystem` of a small engine, its weights in the flash memory from byte `offset` on."""

    def __init__(self, schedule: EngineSchedule, divisor: int, offset: int, artifact: Artifact | None = None):
        self.image, self.offset = schedule.encoded.shared, offset
        self.engine = Engine(schedule, boots=True)
        self.lean = LeanSystem(schedule, divisor, artifact, self.engine)
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1)} | {f"flash_{name}": line for name, line in SPI.items()})

    def elaborate(self, platform):
        m = Module()
        m.submodules.lean, m.submodules.loader = lean, loader = self.lean, FlashLoader(self.image, self.offset)
        m.d.comb += [
            lean.rx.eq(self.rx), self.tx.eq(lean.tx), lean.hold.eq(~loader.done), loader.cipo.eq(self.flash_cipo),
            *(getattr(self, f"flash_{name}").eq(getattr(loader, name)) for name in ("cs", "clk", "copi")),
            *(getattr(self.engine, name).eq(getattr(loader, name)) for name in load_ports(self.image)),
        ]
        return m
