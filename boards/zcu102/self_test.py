"""A design that tests the accelerator on the board, without a processor."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.kit import packing
from rtl.kit.block import Beat
from rtl.plan.schedule import Schedule


class Player(wiring.Component):
    """A stream that plays the rows of a ROM again and again."""

    def __init__(self, layout: data.Layout, rows: list[int]):
        self.rows = rows
        super().__init__({"o": Out(stream.Signature(layout))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.storage = storage = Memory(shape=self.o.payload.shape().size, depth=len(self.rows), init=self.rows)
        read = storage.read_port()
        row = Signal(range(len(self.rows)))
        m.d.comb += [read.en.eq(self.o.ready | ~self.o.valid), read.addr.eq(row), self.o.payload.eq(read.data)]
        with m.If(read.en):
            m.d.sync += [self.o.valid.eq(1), row.eq(Mux(row == len(self.rows) - 1, 0, row + 1))]
        return m


class SelfTest(wiring.Component):
    """Streams golden frames through `accelerator` without end and compares every output beat with the golden answer.

    `done` counts frames. `passed` is high once all golden frames were right; `failed` stays high after the first wrong beat, or
    after so long a silence that a result must be missing. `inject` inverts one bit of every result: the test must then fail.

    frames [n, L, input width], answers [n, L', outputs] of integers.
    """

    def __init__(self, accelerator: wiring.Component, schedule: Schedule, frames, answers):
        self.accelerator, self.schedule = accelerator, schedule
        self.frames, self.answers = frames, answers
        super().__init__({"inject": In(1), "passed": Out(1), "failed": Out(1), "done": Out(32)})

    @property
    def patience(self) -> int:
        """More cycles than ever pass between two output beats."""
        return 2 * (self.schedule.latency + self.schedule.cycles_per_frame) + 16

    def golden_rows(self, layout: data.StructLayout) -> list[int]:
        """One row a beat: the beat, the bits of it that count, whether it ends a frame, whether it ends the last frame."""
        port = self.schedule.output
        beats = packing.to_ints(packing.pack(port, self.answers, self.schedule.graph.window(len(self.answers))))
        masks = packing.to_ints(packing.mask(port))
        per_frame = len(beats) // len(self.answers)
        return [layout.const({
            "beat": beat, "mask": masks[k % port.beats], "end": (k + 1) % per_frame == 0, "final": k + 1 == len(beats),
        }).as_bits() for k, beat in enumerate(beats)]

    def elaborate(self, platform):
        m = Module()
        m.submodules.accelerator = accelerator = self.accelerator
        beat = packing.payload_bits(self.schedule.output)
        layout = data.StructLayout({"beat": beat, "mask": beat, "end": 1, "final": 1})
        port = self.schedule.input
        questions = packing.to_ints(packing.pack(port, self.frames, self.schedule.graph.window(len(self.frames))))
        m.submodules.questions = source = Player(Beat(port.format, port.lanes), questions)
        m.submodules.golden = golden = Player(layout, self.golden_rows(layout))
        wiring.connect(m, source.o, accelerator.i)

        transfer = accelerator.o.valid & golden.o.valid
        expected = golden.o.payload
        result = accelerator.o.payload.as_value() ^ self.inject
        wrong, checked = Signal(), Signal(data.StructLayout({"live": 1, "end": 1, "final": 1}))
        silence = Signal(range(self.patience + 1))
        m.d.comb += [accelerator.o.ready.eq(golden.o.valid), golden.o.ready.eq(accelerator.o.valid)]
        m.d.sync += [
            checked.live.eq(transfer), checked.end.eq(expected.end), checked.final.eq(expected.final),
            wrong.eq(((result ^ expected.beat) & expected.mask).any()),
            silence.eq(Mux(transfer, 0, silence + 1)),
        ]
        with m.If(checked.live & wrong | (silence == self.patience)):
            m.d.sync += [self.failed.eq(1), self.passed.eq(0)]
        with m.Elif(checked.live & checked.final & ~self.failed):
            m.d.sync += self.passed.eq(1)
        with m.If(checked.live & checked.end):
            m.d.sync += self.done.eq(self.done + 1)
        return m
