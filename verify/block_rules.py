"""The interface of every block, proven for any data: products and requantized values are free, what is left is control.

The output keeps the stream rules. No token is lost, duplicated or reordered: blocks hand `first` and `last` on with a token, so
that these can paint two tokens, any one by `first` and any later one by `last` (Wolper's method: a design that does not look at
a colour treats all tokens alike). As many beats as a token has must leave painted, one after another from the token's first beat
on, and the second token's only after all of the first one's. With fair partners some beat leaves within a bounded time, always.
"""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data

from rtl.blocks.norm import Norm
from rtl.blocks.pool import Pool
from rtl.blocks.scan import Scan
from rtl.kit.block import Spec
from rtl.kit.streams import Fifo

from .stream_rules import FAIR, StreamBench


class BlockRules(StreamBench):
    cut = True

    def __init__(self, block: Spec, fair: bool = False):
        super().__init__(fair)
        self.spec = block

    def body(self, m: Module) -> None:
        m.submodules.dut = self.block = block = self.spec.build()
        o, count = block.o, block.output.beats
        name, *others = block.inputs
        i, port = getattr(block, name), block.inputs[name]
        painted = Signal(2)  # which of the two tokens have been offered
        choice = self.any(1, "paint")
        paint = Mux(choice, Mux(painted == 0, 1, Mux(painted == 1, 2, 0)), 0)
        beat = self.drive(m, i, name, port.beats, paint)
        for other in others:
            self.drive(m, getattr(block, other), other, block.inputs[other].beats)
        self.sink(m, o, "o")
        flags = Value.cast(i.payload)[-2:]
        with m.If(i.valid & (beat == 0)):
            m.d.sync += painted.eq(painted | flags)
        leaves, colours = o.valid & o.ready, Value.cast(o.payload)[-2:]
        place = Signal(range(count), name="place")
        with m.If(leaves):
            m.d.sync += place.eq(Mux(place == count - 1, 0, place + 1))
        left = [Signal(range(count + 1), name=f"left_{k}") for k in range(2)]
        for k in range(2):
            with m.If(leaves & colours[k]):
                m.d.sync += left[k].eq(left[k] + 1)
        if self.fair:
            work = max(block.cycles, *(port.beats for port in (*block.inputs.values(), block.output)))
            self.moves(m, leaves, (FAIR + 1) * (2 * work + block.latency + 2))
            return
        self.keeps_the_rules(m, o, "o")
        for k in range(2):
            begun = (left[k] != 0) & (left[k] != count)
            offered = painted[k] | (i.valid & flags[k])
            self.check(m, ~(leaves & colours[k]) | (left[k] == place) & offered)  # in its beat, never twice, never invented
            self.check(m, ~(leaves & begun) | colours[k])
        self.check(m, ~(leaves & colours[1]) | (left[0] == count))


class PoolRules(StreamBench):
    """A pool answers a sequence: it owes one token for every `last`, by count, and `first` and `last` are both set."""

    cut = True

    def __init__(self, block: Pool, fair: bool = False):
        super().__init__(fair)
        self.spec = block

    def body(self, m: Module) -> None:
        m.submodules.dut = self.block = block = self.spec.build()
        i, o, count = block.i, block.o, block.output.beats
        self.drive(m, i, "i", count)
        self.sink(m, o, "o")
        enters, leaves = i.valid & i.ready & i.payload.last, o.valid & o.ready
        owed = Signal(range(block.latency + 2))
        m.d.sync += owed.eq(owed + enters - leaves)
        if self.fair:
            age, bound = Signal(range(16)), FAIR * (block.latency + 2)
            m.d.sync += age.eq(Mux((owed == 0) | leaves, 0, age + 1))
            self.check(m, age < bound)
            return
        self.keeps_the_rules(m, o, "o")
        self.check(m, ~leaves | (owed != 0) & o.payload.first & o.payload.last)
        self.check(m, owed <= block.latency)


class CopyRules(BlockRules):
    """Of a block whose control is a pipeline, behind a FIFO or not: a copy of that beside it, of proven parts, which carries the
    flags alone, gives the same beats in the same cycles. This says more than two colours do, and is proven much sooner."""

    def body(self, m: Module) -> None:
        if self.fair:
            super().body(m)
            return
        m.submodules.dut = self.block = block = self.spec.build()
        count = next(iter(block.inputs.values())).beats
        beat, *_ = [self.drive(m, getattr(block, name), name, port.beats) for name, port in block.inputs.items()]
        self.sink(m, block.o, "o")
        self.keeps_the_rules(m, block.o, "o")
        valid, flags = self.copy(m, beat == count - 1)
        for stage in range(block.latency):
            moved = Signal(name=f"valid_{stage}"), Signal(2, name=f"flags_{stage}", reset_less=True)
            with m.If(self.advance):
                m.d.sync += [moved[0].eq(valid), moved[1].eq(flags)]
            valid, flags = moved
        self.check(m, (block.o.valid == valid) & (~valid | (Value.cast(block.o.payload)[-2:] == flags)))

    @property
    def advance(self) -> Value:
        return ~self.block.o.valid | self.block.o.ready

    def copy(self, m: Module, end: Value) -> tuple[Value, Value]:
        """Whether a beat enters the pipeline, and its flags; `end` says that the first input's is a token's last."""
        raise NotImplementedError


class ScanRules(CopyRules):
    """Each beat of `u` enters as it is taken; the last beat of a head takes the one of `dt`, the last of a group B's and C's."""

    def copy(self, m: Module, end: Value) -> tuple[Value, Value]:
        block = self.block
        u = block.u.valid & block.u.ready
        for name in ("dt", "B", "C"):
            port, rows = getattr(block, name), block.inputs["u"].beats // block.inputs[name].beats
            last = end
            if rows < block.inputs["u"].beats:
                place = Signal(range(rows), name=f"place_{name}")
                last = place == rows - 1
                with m.If(u):
                    m.d.sync += place.eq(Mux(last, 0, place + 1))
            self.check(m, (u & last) == (port.valid & port.ready))
        return u, Value.cast(block.u.payload)[-2:]


class NormRules(CopyRules):
    """A beat waits in a FIFO until a token's statistics, `delay` steps after its last beat, are in another."""

    def copy(self, m: Module, end: Value) -> tuple[Value, Value]:
        block = self.block
        i, count = block.i, block.output.beats
        m.submodules.beats_copy = beats = Fifo(data.StructLayout({"flags": 2}), block.depth, through=False)
        m.submodules.ends_copy = ends = Fifo(data.StructLayout({}), block.tokens, through=False)
        enters = i.valid & i.ready
        late = enters & end
        for stage in range(block.delay):
            before, late = late, Signal(name=f"late_{stage}")
            m.d.sync += late.eq(before)
        place = Signal(range(count), name="place")
        step = beats.o.valid & ends.o.valid
        moves, final = step & self.advance, place == count - 1
        m.d.comb += [
            beats.i.valid.eq(i.valid), beats.i.payload.flags.eq(Value.cast(i.payload)[-2:]), ends.i.valid.eq(late),
            beats.o.ready.eq(moves), ends.o.ready.eq(moves & final),
        ]
        with m.If(moves):
            m.d.sync += place.eq(Mux(final, 0, place + 1))
        self.check(m, (i.ready == beats.i.ready) & (~late | ends.i.ready))
        return step, beats.o.payload.flags


def rules(block: Spec, fair: bool) -> StreamBench:
    if isinstance(block, Norm):
        return NormRules(block, fair)
    if isinstance(block, Scan):
        return ScanRules(block, fair)
    return (PoolRules if isinstance(block, Pool) else BlockRules)(block, fair)
