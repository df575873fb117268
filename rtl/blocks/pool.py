"""One token per sequence."""

from dataclasses import dataclass, replace

from emamba.ops import Pool as Operator

from ..kit.block import Spec, transfers
from ..kit.datapath import Pipeline, times, width_of
from ..kit.hdl import Cat, Const, Memory, Module, Mux, Signal, Value
from ..kit.registry import Stage, realizes


@realizes(Operator)
@dataclass(frozen=True)
class Pool(Spec):
    """The last token, or the mean of the sequence, `lanes` channels a cycle; leaves with the sequence's last token.

    `tokens` is the nominal sequence length, for the schedule only. Formats: `emamba.ops.Pool`.
    """

    stores = "pool sum"

    latency = 3  # sum, product, requantizer

    op: Operator
    lanes: int
    tokens: int

    @classmethod
    def fold(cls, op: Operator, stage: Stage) -> "Pool":
        return cls(op, stage.quick_lanes(op.width), stage.reads)

    def over(self, tokens):
        return replace(self, tokens=tokens)

    def schedule(self, arrivals):
        taken = transfers(arrivals)
        count = self.output.beats
        return taken, taken.reshape(-1, self.tokens, count)[:, -1].reshape(-1) + self.latency

    def circuit(self, m, block, platform):
        op, lanes, count = self.op, self.lanes, self.output.beats
        pipeline = Pipeline(m, block.o, clips=block.clips)
        pipeline.rest(platform, block.i.valid, self.latency)
        m.d.comb += block.i.ready.eq(pipeline.advance)
        values, began = list(block.i.payload.data), Const(1)
        taken, beat = block.i.valid & pipeline.advance, Signal(range(count))
        if op.mean or block.carries:
            with m.If(taken):
                m.d.sync += beat.eq(Mux(beat == count - 1, 0, beat + 1))
        first = block.i.payload.first
        if block.carries:
            first = self._first(m, block, taken & (beat == count - 1))
            began = self._began(m, block, taken, first)
        if op.mean:
            shape = width_of(op.bound)
            m.submodules.sums = sums = Memory(shape=shape.width * lanes, depth=count, init=[])
            read, write = sums.read_port(domain="comb"), sums.write_port()
            totals = []
            for k, x in enumerate(values):
                total = Signal(shape, name=f"total_{k}")
                so_far = read.data[k * shape.width:(k + 1) * shape.width].as_signed()
                m.d.comb += total.eq(x + Mux(first, 0, so_far))
                totals.append(total)
            m.d.comb += [
                read.addr.eq(beat), write.addr.eq(beat), write.data.eq(Cat(totals)),
                write.en.eq(taken),
            ]
            values = totals

        def result(own, value):
            total = own.register(value, "total")
            product = own.register(times(total, op.multiplier) if op.mean else total, "product")
            return own.result(product, op.shift if op.mean else 0, op.o, op.rounding)

        pipeline.finish(pipeline.each(result, values), began, Const(1), block.i.valid & block.i.payload.last, self.latency)

    def _first(self, m: Module, block, end: Value) -> Signal:
        """High at the first token of a packet, which has no `first` where it goes on with the state of the one before."""
        first = Signal(init=1, name="first_token")
        with m.If(end):
            m.d.sync += first.eq(block.i.payload.last)
        return first

    def _began(self, m: Module, block, taken: Value, first: Value) -> Value:
        """Whether the packet begins with a cleared state, from its first token on: for what keeps a state after the pool."""
        kept, now = Signal(init=1, name="began_kept"), block.i.payload.first
        with m.If(taken & first):
            m.d.sync += kept.eq(now)
        return Mux(first, now, kept)
