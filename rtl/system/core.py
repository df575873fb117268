"""The path of packets: the accelerator between its stream adapters, with resets, admission and counts of packets."""

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import data, wiring

from ..kit.block import Beat
from ..kit.shared import Restarted
from ..kit.streams import Fifo
from ..plan.accelerator import Accelerator
from ..plan.schedule import Schedule
from .axi import PacketGuard, PacketReader, PacketWriter, Word
from .bank import Bank


class Core:
    """An accelerator that takes and gives packets of `size`-byte words, and the signals that the parts of a system share."""

    def __init__(self, schedule: Schedule, accelerator: Accelerator, size: int):
        self.schedule, self.accelerator, self.size = schedule, accelerator, size
        self.reader, self.writer = PacketReader(schedule.input, schedule.tokens, size), PacketWriter(schedule.output, size)
        self.depth = -(-schedule.latency // schedule.cycles_per_frame) + 4
        """Packets that may be on their way through the design."""
        self.reset, self.abandon = Signal(), Signal()
        self.idle = Signal()  # no packet is on its way
        self.begins = self.reader.started  # a packet
        self.cleared = Signal(init=1)  # the next packet begins with a state of zeros
        self.clears = Signal()  # sets `cleared`
        # Driven by `loading` and `state`, where a design has them; else 0.
        self.committing, self.takes_over = Signal(), Signal()  # a load waits for packets on their way; it replaces the weights
        self.restored = Signal()  # the last word of a whole state is written

    def connect(self, m: Module, bank: Bank) -> tuple[Fifo, PacketGuard]:
        """Returns where words come in and where they leave."""
        command = bank.command
        m.d.sync += [self.reset.eq(command.reset), self.abandon.eq(command.reset & command.abandon)]
        words, guard = self._streams(m)
        self._admit(m, bank)
        self._count(m, bank)
        reader = self.reader
        bank.status.reads(idle=self.idle, in_packet=reader.in_packet, excess=reader.excess,
                          out_packet=guard.open | guard.o.valid, cleared=self.cleared)
        bank.errors.on(short=reader.short, long=reader.long, no_tlast=reader.no_tlast, bad_tkeep=reader.bad_keep)
        return words, guard

    def _streams(self, m: Module) -> tuple[Fifo, PacketGuard]:
        schedule, size, reset = self.schedule, self.size, self.reset
        m.submodules.words = words = ResetInserter(self.abandon)(Fifo(Word(size), 2, through=False))
        m.submodules.reader = reader = ResetInserter(reset)(self.reader)
        m.submodules.tokens = tokens = ResetInserter(reset)(Fifo(Beat(schedule.input.format, schedule.input.lanes),
                                                                 2 * schedule.input.beats, through=False))
        m.submodules.core, core = Restarted(self.accelerator, reset), self.accelerator
        m.submodules.writer = writer = ResetInserter(reset)(self.writer)
        m.submodules.flags = flags = ResetInserter(reset)(Fifo(data.StructLayout({"bad": 1}), self.depth, through=False))
        m.submodules.guard = guard = ResetInserter(self.abandon)(PacketGuard(size))
        m.d.comb += [  # a word taken in the cycle of a reset would be lost, and its packet with it
            reader.i.payload.eq(words.o.payload), reader.i.valid.eq(words.o.valid & ~reset),
            words.o.ready.eq(reader.i.ready & ~reset), guard.cut.eq(reset),
        ]
        for source, sink in ((reader.o, tokens.i), (tokens.o, core.i), (core.o, writer.i), (writer.o, guard.i)):
            wiring.connect(m, source, sink)
        m.d.comb += [flags.i.valid.eq(reader.flag.valid), flags.i.payload.bad.eq(reader.flag.bad),
                     writer.bad.eq(flags.o.payload.bad), flags.o.ready.eq(writer.done)]
        return words, guard

    def _admit(self, m: Module, bank: Bank) -> None:
        """Decides when a packet may begin, and with which state."""
        reader, reset = self.reader, self.reset
        inside = Signal(range(self.depth + 1))  # packets on their way
        was_open = Signal()
        with m.If(reset):
            m.d.sync += [inside.eq(0), was_open.eq(reader.in_packet & ~self.abandon)]
        with m.Else():
            m.d.sync += [inside.eq(inside + reader.started - self.writer.done), was_open.eq(0)]
        m.d.comb += [
            self.idle.eq((inside == 0) & getattr(self.accelerator, "rests", 1) & ~reset),
            reader.drop.eq(was_open),
            reader.admit.eq(bank.control.enable & (inside < self.depth) & ~reset & ~was_open & ~self.committing),
            self.clears.eq(bank.command.clear_state | reset | self.takes_over),
            reader.clear.eq(self.cleared | ~bank.control.keep),
        ]
        with m.If(self.clears):
            m.d.sync += self.cleared.eq(1)
        with m.Elif(self.begins | self.restored):
            m.d.sync += self.cleared.eq(0)

    def _count(self, m: Module, bank: Bank) -> None:
        reader = self.reader
        marked = reader.flag.valid & reader.flag.bad
        frames = bank.frames_in.count(reader.started)
        bank.frames_out.count(self.writer.done)
        bank.frames_bad.count(marked)
        bank.short_packets.count(reader.short)
        bank.long_packets.count(reader.long)
        bank.bad_tkeeps.count(reader.bad_keep)
        first_bad = Signal(32)
        with m.If(bank.command.clear_counters):
            m.d.sync += first_bad.eq(0)
        with m.Elif(marked & (first_bad == 0)):
            m.d.sync += first_bad.eq(frames + reader.started)
        bank.first_bad.reads(first_bad)
