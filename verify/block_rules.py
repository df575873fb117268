# amaranth: UnusedElaboratable=no
"""The interface of every block, proven for any data: products and requantized values are free, what is left is control.

The output keeps the stream rules. No token is lost, duplicated or reordered: blocks hand `first` and `last` on with a token, so
that these can paint two tokens, any one by `first` and any later one by `last` (Wolper's method: a design that does not look at
a colour treats all tokens alike). As many beats as a token has must leave painted, one after another from the token's first beat
on, and the second token's only after all of the first one's. With fair partners some beat leaves within a bounded time, always.
"""

from amaranth.hdl import Module, Mux, Signal, Value

from rtl.pool import Pool
from rtl.scan import Scan
from rtl.streams import Block

from .stream_rules import FAIR, StreamBench


class BlockRules(StreamBench):
    cut = True

    def __init__(self, block: Block, fair: bool = False):
        super().__init__(fair)
        self.block = block

    def body(self, m: Module) -> None:
        m.submodules.dut = block = self.block
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
        self.block = block

    def body(self, m: Module) -> None:
        m.submodules.dut = block = self.block
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


class ScanRules(BlockRules):
    """A scan is a pipeline: each beat leaves `latency` steps behind that of `u` and `dt`, with its flags, and a token's last
    beat takes that of B and C. This says more than two colours do, and a copy of the flags beside it shows it at once."""

    def body(self, m: Module) -> None:
        if self.fair:
            super().body(m)
            return
        m.submodules.dut = block = self.block
        o = block.o
        beat = self.drive(m, block.u, "u", block.inputs["u"].beats)
        for name in ("dt", "B", "C"):
            self.drive(m, getattr(block, name), name, block.inputs[name].beats)
        self.sink(m, o, "o")
        self.keeps_the_rules(m, o, "o")
        enters = block.u.valid & block.u.ready
        valid, flags = enters, Value.cast(block.u.payload)[-2:]
        for stage in range(block.latency):
            moved = Signal(name=f"valid_{stage}"), Signal(2, name=f"flags_{stage}", reset_less=True)
            with m.If(~o.valid | o.ready):
                m.d.sync += [moved[0].eq(valid), moved[1].eq(flags)]
            valid, flags = moved
        self.check(m, (o.valid == valid) & (~valid | (Value.cast(o.payload)[-2:] == flags)))
        self.check(m, (block.dt.valid & block.dt.ready) == enters)
        for name in ("B", "C"):
            other = getattr(block, name)
            self.check(m, (other.valid & other.ready) == (enters & (beat == block.inputs["u"].beats - 1)))


def rules(block: Block, fair: bool) -> StreamBench:
    special = {Pool: PoolRules, Scan: ScanRules}
    return special.get(type(block), BlockRules)(block, fair)
