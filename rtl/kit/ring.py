"""A queue of the fewest cells, for a reader that is slow and a sender that counts."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class Ring(wiring.Component):
    """The last `depth` words of `i`, a power of two; it gives one in two cycles at most. Nothing says when it is full: a sender
    counts."""

    def __init__(self, shape, depth: int):
        self.shape, self.depth = shape, depth
        super().__init__({"i": In(stream.Signature(shape, always_ready=True)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.storage = storage = Memory(shape=self.shape, depth=self.depth, init=[])
        write, read = storage.write_port(), storage.read_port()
        taken = self.o.valid & self.o.ready
        m.d.comb += [write.data.eq(self.i.payload), write.en.eq(self.i.valid), self.o.payload.eq(read.data)]
        m.d.sync += [write.addr.eq(write.addr + self.i.valid), read.addr.eq(read.addr + taken),
                     self.o.valid.eq((read.addr != write.addr) & ~taken)]
        return m
