"""An AXI4 read master: rows from a memory outside, by bursts that are asked for ahead."""

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..kit.streams import Fifo
from .machine import BOUNDARY

ADDRESS_BITS = 40
INCREMENTING, BUFFERED, DATA = 1, 0b0011, 0
"""ARBURST, ARCACHE (normal, not cached), ARPROT."""


def read_ports(bits: int) -> dict[str, wiring.Member]:
    """The signals of a master of `bits` data bits that reads alone."""
    return {"arvalid": Out(1), "arready": In(1), "araddr": Out(ADDRESS_BITS), "arlen": Out(8), "arsize": Out(3),
            "arburst": Out(2), "arcache": Out(4), "arprot": Out(3), "rvalid": In(1), "rready": Out(1), "rdata": In(bits),
            "rresp": In(2), "rlast": In(1)}


class Reader(wiring.Component):
    """Reads `beats` beats from byte `first` after `base`, for every job; `row` is the next row while `level`, the rows that are
    there, is not 0, and `next` takes it.

    No more is asked for than finds room, so the memory never waits for `rready`. Bursts begin and end at multiples of their
    size. While `flush` is high and until what was asked for has come, everything is dropped, and `ready` is low.
    """

    def __init__(self, bits: int, row_bits: int, rows: int, burst: int):
        self.bits, self.row_bits, self.rows = bits, row_bits, rows
        self.beats = -(-row_bits // bits)
        """Of a row."""
        self.burst = min(burst, BOUNDARY * 8 // bits, 1 << (rows * self.beats).bit_length() - 1)
        job = data.StructLayout({"first": ADDRESS_BITS, "beats": 32})
        super().__init__({"base": In(ADDRESS_BITS), "flush": In(1), "ready": Out(1), "job": In(stream.Signature(job)),
                          "row": Out(row_bits), "level": Out(range(rows + 1)), "next": In(1), "error": Out(1)}
                         | read_ports(bits))

    def elaborate(self, platform):
        m = Module()
        room = self.rows * self.beats
        free, coming = Signal(range(room + 1), init=room), Signal(range(room + 1))  # beats: not asked for; on their way
        place, left, length = Signal(ADDRESS_BITS), Signal(32), Signal(range(self.burst + 1))
        draining, stopped, taken = Signal(), Signal(), Signal()
        size = self.bits // 8
        aligned = self.burst - place[size.bit_length() - 1:][:self.burst.bit_length() - 1]  # beats to the burst's end
        m.d.comb += [
            stopped.eq(self.flush | draining), self.ready.eq(~stopped), taken.eq(self.rvalid & self.rready), self.rready.eq(1),
            length.eq(Mux(left < aligned, left, aligned)), self.job.ready.eq((left == 0) & ~stopped),
            self.arsize.eq(size.bit_length() - 1), self.arburst.eq(INCREMENTING), self.arcache.eq(BUFFERED), self.arprot.eq(DATA),
        ]
        asks = Signal()
        m.d.comb += asks.eq((left != 0) & (~self.arvalid | self.arready) & (free >= length) & ~stopped)
        with m.If(self.arready):
            m.d.sync += self.arvalid.eq(0)
        with m.If(asks):
            m.d.sync += [self.arvalid.eq(1), self.araddr.eq(self.base + place), self.arlen.eq(length - 1),
                         place.eq(place + (length << size.bit_length() - 1)), left.eq(left - length)]
        with m.If(self.job.valid & self.job.ready):
            m.d.sync += [place.eq(self.job.payload.first), left.eq(self.job.payload.beats)]
        gone = self.next & (self.level != 0)
        m.d.sync += [free.eq(free - Mux(asks, length, 0) + Mux(gone, self.beats, 0)),
                     coming.eq(coming + Mux(asks, length, 0) - taken)]
        m.d.sync += self.error.eq(taken & self.rresp[1])

        # Rows.
        layout = data.StructLayout({"row": self.row_bits})
        m.submodules.fifo = fifo = ResetInserter(stopped)(Fifo(layout, self.rows, through=False, deep=True))
        part, parts = Signal(range(max(2, self.beats))), []
        for k in range(self.beats - 1):
            held = Signal(self.bits, name=f"part_{k}", reset_less=True)
            with m.If(taken & (part == k)):
                m.d.sync += held.eq(self.rdata)
            parts.append(held)
        m.d.comb += [fifo.i.valid.eq(taken & (part == self.beats - 1) & ~stopped), fifo.i.payload.row.eq(Cat(parts, self.rdata)),
                     fifo.o.ready.eq(self.next), self.row.eq(fifo.o.payload.row)]
        with m.If(taken):
            m.d.sync += part.eq(Mux(part == self.beats - 1, 0, part + 1))
        m.d.sync += self.level.eq(self.level + fifo.i.valid - gone)
        with m.If(self.flush):
            m.d.sync += draining.eq(1)
        with m.Elif(~self.arvalid & (coming == 0)):
            m.d.sync += draining.eq(0)
        with m.If(stopped):
            m.d.sync += [left.eq(0), free.eq(room), part.eq(0), self.level.eq(0)]
        return m
