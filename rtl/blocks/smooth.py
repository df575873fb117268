"""An exponential filter over the tokens."""

from dataclasses import dataclass

from emamba.base.formats import IntFormat
from emamba.ops import Smooth as Operator

from ..kit.block import Elementwise, shape_of
from ..kit.datapath import Pipeline, requantize
from ..kit.hdl import Cat, Memory, Mux, Signal, unsigned
from ..kit.parity import decode, encode
from ..kit.registry import Stage, realizes


@realizes(Operator)
@dataclass(frozen=True)
class Smooth(Elementwise):
    """`lanes` channels a cycle; the filter's values of a token are the rows of one memory. Formats: `emamba.ops.Smooth`."""

    stores = "filter"
    latency = 2  # filter, requantizer

    op: Operator
    lanes: int

    @classmethod
    def fold(cls, op: Operator, stage: Stage) -> "Smooth":
        return cls(op, stage.quick_lanes(op.width))

    @property
    def _word(self) -> IntFormat:
        """Format of a state."""
        return IntFormat(self.op.i.bits + self.op.shift + 1, self.op.i.signed)

    @property
    def state(self) -> tuple[int, int]:
        return self.output.beats, self.lanes * self._word.bits

    def circuit(self, m, block, platform):
        op, count, bits = self.op, self.output.beats, self._word.bits
        pipeline = Pipeline(m, block.o)
        taken = pipeline.join(block.i)
        pipeline.rest(platform, taken, self.latency)
        parity, first, beat = block.fault is not None, block.i.payload.first, Signal(range(count))
        moves = taken & pipeline.advance
        with m.If(moves):
            m.d.sync += beat.eq(Mux(beat == count - 1, 0, beat + 1))
        m.submodules.states = memory = Memory(shape=unsigned(bits * self.lanes + parity), depth=count, init=[])
        read, write = memory.read_port(domain="comb"), memory.write_port()
        before = decode(read.data, parity)

        def follow(own, kept, x):
            old, new = (Signal(shape_of(self._word), name=name) for name in ("old", "new"))
            own.m.d.comb += old.eq(kept)
            left = requantize(own.m, old, op.shift, self._word, op.rounding, fits=True)
            own.m.d.comb += new.eq(Mux(first, x.shift_left(op.shift), old + x - left))
            return new

        kept = [before[k * bits:(k + 1) * bits] for k in range(self.lanes)]
        states = pipeline.each(follow, kept, block.i.payload.data)
        m.d.comb += [read.addr.eq(beat), write.addr.eq(beat), write.en.eq(moves), write.data.eq(encode(Cat(states), parity))]
        if parity:
            m.d.comb += block.fault.eq(moves & ~first & read.data.xor())
        if block.window:
            block.window.connect_memory(m, read, write)
        results = pipeline.each(
            lambda own, state: own.result(own.register(state, "filtered"), op.shift, op.o, op.rounding), states)
        pipeline.finish(results, first, block.i.payload.last, taken, self.latency)
