# amaranth: UnusedElaboratable=no
"""A serial line to an AXI system of 64-bit streams: the driver's five functions as messages of bytes.

To the design: `1 address address` reads a register, `2 address address data data data data` writes one, numbers little-endian;
`h byte…` is a word of an input packet. From it: `1 response data data data data` and `2 response` answer; `h byte…` is a word
of a result. The header h is 0x80, plus 0x40 on a packet's last word, 0x20 where that is marked, and the number of bytes less one.
"""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from .streams import Fifo
from .system import System

BYTES = 8
READ, WRITE, WORD, LAST, MARKED = 0x01, 0x02, 0x80, 0x40, 0x20
RECEIVED = 64
"""Bytes that may wait while a word waits for the design."""


class Receiver(wiring.Component):
    """Bytes from a line of 8 data bits, no parity, one stop bit, at a bit every `divisor` cycles. `o` is not waited for."""

    def __init__(self, divisor: int):
        self.divisor = divisor
        super().__init__({"line": In(1, init=1), "o": Out(stream.Signature(8, always_ready=True))})

    def elaborate(self, platform):
        m = Module()
        line = Signal(init=1)
        m.submodules.sync = FFSynchronizer(self.line, line, init=1)
        wait, bit, shift = Signal(range(2 * self.divisor)), Signal(range(11)), Signal(9)
        m.d.sync += self.o.valid.eq(0)
        with m.If(bit == 0), m.If(~line):  # half a bit from the edge, then the middle of every bit
            m.d.sync += [bit.eq(10), wait.eq(self.divisor // 2 - 1)]
        with m.Elif(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Else():
            m.d.sync += [bit.eq(bit - 1), wait.eq(self.divisor - 1), shift.eq(Cat(shift[1:], line))]
            with m.If((bit == 10) & line):  # no start bit
                m.d.sync += bit.eq(0)
            with m.If(bit == 1):
                m.d.sync += [self.o.valid.eq(line), self.o.payload.eq(shift[1:])]
        return m


class Transmitter(wiring.Component):
    """Bytes to such a line."""

    def __init__(self, divisor: int):
        self.divisor = divisor
        super().__init__({"line": Out(1, init=1), "i": In(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        wait, bits, shift = Signal(range(self.divisor)), Signal(range(11)), Signal(10, init=-1)
        m.d.comb += [self.line.eq(shift[0]), self.i.ready.eq(bits == 0)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [shift.eq(Cat(0, self.i.payload, 1)), bits.eq(10), wait.eq(self.divisor - 1)]
        with m.Elif(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Elif(bits != 0):
            m.d.sync += [shift.eq(Cat(shift[1:], 1)), bits.eq(bits - 1), wait.eq(self.divisor - 1)]
        return m


class SerialSystem(wiring.Component):
    """`system` behind the lines `rx` and `tx`, a bit every `divisor` cycles. Nothing holds the line up: the design must take
    input as fast as it comes, but for RECEIVED bytes."""

    def __init__(self, system: System, divisor: int):
        self.system, self.divisor = system, divisor
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.system = system = self.system
        m.submodules.receiver = receiver = Receiver(self.divisor)
        m.submodules.transmitter = transmitter = Transmitter(self.divisor)
        byte = data.StructLayout({"byte": 8})
        m.submodules.received = received = Fifo(byte, RECEIVED, through=False)
        m.d.comb += [
            receiver.line.eq(self.rx), self.tx.eq(transmitter.line),
            received.i.payload.byte.eq(receiver.o.payload), received.i.valid.eq(receiver.o.valid),
        ]
        answered, answer, responded, response = self._commands(m, system, received.o)
        self._results(m, system, transmitter.i, answered, answer, responded, response)
        return m

    def _commands(self, m, system, i):
        """Bytes to accesses and words. Returns what a read gave, and what a write did."""
        kind, count, left = Signal(8), Signal(4), Signal(4)
        body = Signal(8 * BYTES)
        reading, writing, addressed, given, word = (Signal(name=name) for name in
                                                    ("reading", "writing", "addressed", "given", "word"))
        answered, answer = Signal(), Signal(40)
        responded, response = Signal(), Signal(8)
        idle = ~(reading | writing | word | answered | responded)
        header = i.payload.byte
        m.d.comb += i.ready.eq(idle)
        with m.If(i.valid & i.ready):
            with m.If(left == 0):
                m.d.sync += [kind.eq(header), count.eq(0)]
                with m.If(header[7]):
                    m.d.sync += left.eq(header[:3] + 1)
                with m.Elif(header == READ):
                    m.d.sync += left.eq(2)
                with m.Elif(header == WRITE):
                    m.d.sync += left.eq(6)
            with m.Else():
                m.d.sync += [body.word_select(count, 8).eq(header), count.eq(count + 1), left.eq(left - 1)]
                with m.If(left == 1):
                    m.d.sync += [word.eq(kind[7]), reading.eq(kind == READ), writing.eq(kind == WRITE), addressed.eq(0),
                                 given.eq(0)]
        m.d.comb += [
            system.s_axis_tvalid.eq(word), system.s_axis_tdata.eq(body), system.s_axis_tlast.eq(kind[6]),
            system.s_axis_tkeep.eq((2 << kind[:3]) - 1),
            system.s_axil_awaddr.eq(body), system.s_axil_awvalid.eq(writing & ~addressed),
            system.s_axil_wdata.eq(body[16:]), system.s_axil_wstrb.eq(-1), system.s_axil_wvalid.eq(writing & ~given),
            system.s_axil_bready.eq(writing),
            system.s_axil_araddr.eq(body), system.s_axil_arvalid.eq(reading & ~addressed), system.s_axil_rready.eq(reading),
        ]
        with m.If(word & system.s_axis_tready):
            m.d.sync += word.eq(0)
        with m.If(writing & system.s_axil_awready | reading & system.s_axil_arready):
            m.d.sync += addressed.eq(1)
        with m.If(writing & system.s_axil_wready):
            m.d.sync += given.eq(1)
        with m.If(writing & system.s_axil_bvalid):
            m.d.sync += [writing.eq(0), responded.eq(1), response.eq(system.s_axil_bresp)]
        with m.If(reading & system.s_axil_rvalid):
            m.d.sync += [reading.eq(0), answered.eq(1), answer.eq(Cat(system.s_axil_rresp, Const(0, 6),
                                                                      system.s_axil_rdata))]
        return answered, answer, responded, response

    def _results(self, m, system, o, answered, answer, responded, response):
        """Answers and words to bytes; an answer goes before a word."""
        body, left = Signal(8 * (BYTES + 1)), Signal(range(BYTES + 2))
        keep, size = system.m_axis_tkeep, Signal(range(BYTES + 1))
        m.d.comb += [size.eq(sum(keep[k] for k in range(BYTES))), o.valid.eq(left != 0), o.payload.eq(body[:8])]
        free = left == 0
        with m.If(o.valid & o.ready):
            m.d.sync += [body.eq(body >> 8), left.eq(left - 1)]
        m.d.comb += system.m_axis_tready.eq(free & ~answered & ~responded)
        with m.If(free & answered):
            m.d.sync += [body.eq(Cat(Const(READ, 8), answer)), left.eq(6), answered.eq(0)]
        with m.Elif(free & responded):
            m.d.sync += [body.eq(Cat(Const(WRITE, 8), response)), left.eq(2), responded.eq(0)]
        with m.Elif(free & system.m_axis_tvalid):
            header = Cat((size - 1)[:3], Const(0, 2), system.m_axis_tuser, system.m_axis_tlast, Const(1))
            m.d.sync += [body.eq(Cat(header, system.m_axis_tdata)), left.eq(size + 1)]
