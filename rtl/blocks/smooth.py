"""An exponential filter over the tokens."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Mux, Signal
from amaranth.lib.memory import Memory

from emamba.base.formats import IntFormat
from emamba.ops import Smooth as Operator

from ..kit import inventory as inv
from ..kit.block import PLAIN, Elementwise, shape_of
from ..kit.datapath import Pipeline, requantize
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

    def inventory(self, options=PLAIN) -> inv.Inventory:
        op, bits = self.op, self._word.bits
        lane = (inv.Inventory(adders=2 * bits, muxes=bits, registers=bits + op.o.bits)
                + inv.requantizer(bits, op.shift, op.o, op.rounding, True) * 2)
        return self.lanes * lane + inv.ram(self.output.beats, bits * self.lanes) + inv.counter(self.output.beats) + inv.finish(2)

    def circuit(self, m, block, platform):
        op, count, bits = self.op, self.output.beats, self._word.bits
        pipeline = Pipeline(m, block.o)
        taken = pipeline.join(block.i)
        pipeline.rest(platform, taken, self.latency)
        parity, first, beat = block.fault is not None, block.i.payload.first, Signal(range(count))
        moves = taken & pipeline.advance
        with m.If(moves):
            m.d.sync += beat.eq(Mux(beat == count - 1, 0, beat + 1))
        m.submodules.states = memory = Memory(shape=bits * self.lanes + parity, depth=count, init=[])
        read, write = memory.read_port(domain="comb"), memory.write_port()
        before, states = decode(read.data, parity), []
        for k, x in enumerate(block.i.payload.data):
            old = Signal(shape_of(self._word), name=f"old_{k}")
            new = Signal(shape_of(self._word), name=f"new_{k}")
            m.d.comb += old.eq(before[k * bits:(k + 1) * bits])
            left = requantize(m, old, op.shift, self._word, op.rounding, fits=True)
            m.d.comb += new.eq(Mux(first, x.shift_left(op.shift), old + x - left))
            states.append(new)
        m.d.comb += [read.addr.eq(beat), write.addr.eq(beat), write.en.eq(moves), write.data.eq(encode(Cat(states), parity))]
        if parity:
            m.d.comb += block.fault.eq(moves & ~first & read.data.xor())
        if block.window:
            block.window.connect_memory(m, read, write)
        results = [pipeline.result(pipeline.register(state, "filtered"), op.shift, op.o, op.rounding) for state in states]
        pipeline.finish(results, first, block.i.payload.last, taken, self.latency)
