# amaranth: UnusedElaboratable=no
"""The interface of every block, proven for any data: arithmetic is replaced by free values, what is left is control.

The output keeps the stream rules. A free choice marks one token; with the beats that are owed for the tokens before it, its
beats must carry its own `first` and `last`, in its place: no token is lost, duplicated or reordered. With fair partners, a block
never stops.
"""

from amaranth.hdl import Module, Mux, Signal, Value

from rtl.pool import Pool
from rtl.streams import Block
from sim import cases

from .stream_rules import FAIR, StreamBench


class BlockRules(StreamBench):
    cut = True

    def __init__(self, block: Block, fair: bool = False):
        super().__init__(fair)
        self.block = block

    def body(self, m: Module) -> None:
        m.submodules.dut = block = self.block
        o, count = block.o, block.output.beats
        beats = {name: self.drive(m, getattr(block, name), name, port.beats) for name, port in block.inputs.items()}
        self.sink(m, o, "o")
        leaves = o.valid & o.ready
        if self.fair:
            work = max(block.cycles, *(port.beats for port in block.inputs.values()), count)
            self.moves(m, leaves, 2 * (FAIR + 1) * (work + self._depth()))
            return
        self.keeps_the_rules(m, o, "o")
        name, beat = next(iter(beats.items()))
        i = getattr(block, name)
        waiting, marked, done = Signal(), Signal(), Signal()
        m.d.sync += waiting.eq(i.valid & ~i.ready)
        counts = i.payload.last if isinstance(block, Pool) else 1  # a pool owes one token a sequence
        offered = i.valid & ~waiting & (beat == 0) & counts
        most = count * (self._depth() + 2)
        owed, ahead = Signal(range(most + count + 1)), Signal(range(most + 1))
        m.d.sync += owed.eq(owed + Mux(offered, count, 0) - leaves)
        self.check(m, ~leaves | (owed != 0))
        self.check(m, owed <= most)
        saved, left = Signal(2, reset_less=True), Signal(range(count + 1))
        flags = Value.cast(o.payload)[-2:]
        with m.If(marked & leaves):
            with m.If(ahead != 0):
                m.d.sync += ahead.eq(ahead - 1)
            with m.Else():
                m.d.sync += [left.eq(left - 1), marked.eq(left != 1), done.eq(left == 1)]
        self.check(m, ~(marked & leaves & (ahead == 0)) | (flags == saved))
        with m.If(self.any(1, "mark") & offered & ~marked & ~done):
            pooled = 3 if isinstance(block, Pool) else Value.cast(i.payload)[-2:]
            m.d.sync += [marked.eq(1), saved.eq(pooled), ahead.eq(owed - leaves), left.eq(count)]

    def _depth(self) -> int:
        """Tokens or beats that can be inside."""
        block = self.block
        return getattr(block, "latency", 4) + getattr(block, "depth", 0) + 2
