"""A serial line to an AXI system of 64-bit streams: the driver's functions as messages that are framed, numbered and checked.

A message is its bytes, their CRC-32 (zlib's, begun with the message's number in its direction, of 16 bits), and END; within it
END and ESC are sent as ESC ESCAPED_END and ESC ESCAPED_ESC (SLIP, RFC 1055). All is little-endian.

To the design: `HELLO nonce(4)`, `READ address(2)`, `WRITE address(2) data(4)`, and words of an input packet, `DATA byte…` or,
with its end, `LAST byte…`. Each is answered, in order, when it is done, by `kind status data(4)`: HELLO by version and nonce,
READ and WRITE by the response. A sender that counts the answers never has more than RECEIVED bytes waiting. The design also
sends `RESULT byte… flags`, words of a result.

ENDS bytes of END in a row empty the line and close it. A closed line takes only HELLO, after which both directions count from 0;
meanwhile the design's output is dropped. A message that is damaged, lost or doubled has a wrong CRC: it has no effect, is
answered by `REFUSED`, and closes the line. A packet's last word waits for the CRC. So the messages acted on are a prefix of those
sent, and the answers taken are a prefix of those given.
"""

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from ..plan.loads import crc_step
from .system import System

BYTES = 8
VERSION = 2
END, ESC, ESCAPED_END, ESCAPED_ESC = 0xC0, 0xDB, 0xDC, 0xDD
REFUSED, HELLO, READ, WRITE, DATA, LAST, RESULT = range(7)
ENDED, MARKED = 1, 2  # flags of a result
ENDS = 8
RECEIVED = 2048
"""Bytes that may wait while a word waits for the design: one block RAM."""
CHECK = 4
"""Bytes of a CRC."""
RESIDUE = 0xDEBB20E3
"""The CRC register after a message and its CRC."""


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
    """Bytes to a line of the same format."""

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


def first_crc(number: Signal):
    return Cat(~number, Const(-1, 32 - len(number)))


class SerialSystem(wiring.Component):
    """`system` on a serial line, `rx` and `tx`, with a bit every `divisor` cycles."""

    def __init__(self, system: System, divisor: int):
        self.system, self.divisor = system, divisor
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.system = system = self.system
        m.submodules.receiver = receiver = Receiver(self.divisor)
        m.submodules.transmitter = transmitter = Transmitter(self.divisor)
        m.d.comb += [receiver.line.eq(self.rx), self.tx.eq(transmitter.line)]
        ends, clear = Signal(range(ENDS)), Signal()
        with m.If(receiver.o.valid):
            m.d.sync += ends.eq(Mux(receiver.o.payload == END, ends + 1, 0))
            m.d.comb += clear.eq((receiver.o.payload == END) & (ends == ENDS - 1))
        m.submodules.received = received = ResetInserter(clear)(SyncFIFOBuffered(width=8, depth=RECEIVED))
        m.d.comb += [received.w_data.eq(receiver.o.payload), received.w_en.eq(receiver.o.valid)]
        closed = Signal(init=1)
        answered, answer, opened = self._commands(m, system, received, clear, closed)
        self._results(m, system, transmitter.i, closed, answered, answer, opened)
        return m

    def _commands(self, m, system, received, clear, closed):
        """Turns messages into accesses and words. Returns whether an answer waits, the answer, and whether it answers HELLO."""
        kind, body, filled = Signal(8), Signal(8 * BYTES), Signal(range(BYTES + 1))
        begun, kept, escaped = Signal(), Signal(range(CHECK + 1)), Signal()  # the kind is known; bytes of `last`
        last, crc, number = Signal(8 * CHECK), Signal(32), Signal(16)
        reading, writing, addressed, given, word, final = (Signal(name=name) for name in
                                                           ("reading", "writing", "addressed", "given", "word", "final"))
        answered, answer, opened = Signal(), Signal(48), Signal()
        idle = ~(reading | writing | word | answered)

        byte, coded = Signal(8), received.r_data
        words = ~closed & ((kind == DATA) | (kind == LAST))
        is_byte = (coded != END) & (coded != ESC)
        leaves = is_byte & (kept == CHECK)  # the byte before the last CHECK ones is none of the CRC
        full = leaves & begun & words & (filled == BYTES)
        take = received.r_rdy & idle & ~full
        before = Signal(32)
        m.d.comb += [
            byte.eq(Mux(escaped, Mux(coded == ESCAPED_END, END, ESC), coded)), received.r_en.eq(take),
            before.eq(Mux(begun | (kept != 0), crc, first_crc(number))),
        ]
        with m.If(received.r_rdy & idle & full):
            m.d.sync += [word.eq(1), final.eq(0)]
        with m.If(take & ~is_byte):
            m.d.sync += escaped.eq(coded == ESC)
        with m.If(take & is_byte):
            m.d.sync += [
                escaped.eq(0), last.eq(Cat(last[8:], byte)), kept.eq(Mux(kept == CHECK, CHECK, kept + 1)),
                crc.eq(Cat(crc_step(before, byte))),
            ]
        with m.If(take & leaves):
            with m.If(~begun):
                m.d.sync += [begun.eq(1), kind.eq(last[:8])]
            with m.Elif(filled != BYTES):
                m.d.sync += [body.word_select(filled, 8).eq(last[:8]), filled.eq(filled + 1)]

        right = begun & (crc == RESIDUE) & ~escaped
        with m.If(take & (coded == END) & (kept != 0)):
            m.d.sync += [begun.eq(0), kept.eq(0)]
            with m.If(right & (~closed | (kind == HELLO))):
                m.d.sync += [number.eq(number + 1), closed.eq(0), answer.eq(Cat(kind, Const(VERSION, 8), body[:32])), final.eq(1),
                             opened.eq(kind == HELLO), addressed.eq(0), given.eq(0)]
                with m.Switch(kind):
                    with m.Case(READ):
                        m.d.sync += [reading.eq(1), filled.eq(0)]
                    with m.Case(WRITE):
                        m.d.sync += [writing.eq(1), filled.eq(0)]
                    with m.Case(DATA, LAST):
                        m.d.sync += word.eq(1)
                    with m.Default():
                        m.d.sync += [answered.eq(1), filled.eq(0)]
            with m.Else():
                m.d.sync += [filled.eq(0), closed.eq(1)]
                with m.If(~closed):
                    m.d.sync += [answered.eq(1), answer.eq(REFUSED), opened.eq(0)]

        m.d.comb += [
            system.s_axis_tvalid.eq(word), system.s_axis_tdata.eq(body), system.s_axis_tlast.eq(final & (kind == LAST)),
            system.s_axis_tkeep.eq((1 << filled) - 1),
            system.s_axil_awaddr.eq(body), system.s_axil_awvalid.eq(writing & ~addressed),
            system.s_axil_wdata.eq(body[16:]), system.s_axil_wstrb.eq(-1), system.s_axil_wvalid.eq(writing & ~given),
            system.s_axil_bready.eq(writing),
            system.s_axil_araddr.eq(body), system.s_axil_arvalid.eq(reading & ~addressed), system.s_axil_rready.eq(reading),
        ]
        with m.If(word & system.s_axis_tready):
            m.d.sync += [word.eq(0), filled.eq(0), answered.eq(final)]
        with m.If(writing & system.s_axil_awready | reading & system.s_axil_arready):
            m.d.sync += addressed.eq(1)
        with m.If(writing & system.s_axil_wready):
            m.d.sync += given.eq(1)
        with m.If(writing & system.s_axil_bvalid):
            m.d.sync += [writing.eq(0), answered.eq(1), answer[8:16].eq(system.s_axil_bresp)]
        with m.If(reading & system.s_axil_rvalid):
            m.d.sync += [reading.eq(0), answered.eq(1), answer[8:].eq(Cat(system.s_axil_rresp, Const(0, 6), system.s_axil_rdata))]
        with m.If(clear):  # an access to a register ends by itself; its answer comes before the answer to HELLO
            m.d.sync += [closed.eq(1), word.eq(0), begun.eq(0), kept.eq(0), filled.eq(0), escaped.eq(0), number.eq(0)]
        return answered, answer, opened

    def _results(self, m, system, o, closed, answered, answer, opened):
        """Turns answers and words into messages; an answer goes before a word. A message of words ends when none waits, or an
        answer does."""
        body, left = Signal(8 * BYTES), Signal(range(BYTES + 1))
        crc, number = Signal(32), Signal(16)
        keep, flags, escaped = system.m_axis_tkeep, Signal(2), Signal()
        byte = body[:8]
        special = (byte == END) | (byte == ESC)

        def sends(done):
            """Sends the bytes of `body`, then calls `done` in the cycle in which none is left."""
            m.d.comb += [o.valid.eq(left != 0), o.payload.eq(Mux(escaped, Mux(byte == END, ESCAPED_END, ESCAPED_ESC),
                                                                 Mux(special, ESC, byte)))]
            with m.If(o.valid & o.ready):
                m.d.sync += escaped.eq(special & ~escaped)
                with m.If(~special | escaped):
                    m.d.sync += [body.eq(body >> 8), left.eq(left - 1), crc.eq(Cat(crc_step(crc, byte)))]
            with m.If((left == 0) & o.ready):
                done()

        def check():
            m.d.sync += [body.eq(~crc), left.eq(CHECK)]
            m.next = "check"

        def finish():
            m.next = "end"

        def more():
            m.d.comb += system.m_axis_tready.eq(closed | ~(answered | flags.any()))
            with m.If(system.m_axis_tvalid & ~(closed | answered | flags.any())):
                m.d.sync += [body.eq(system.m_axis_tdata), left.eq(sum(keep[k] for k in range(BYTES))),
                             flags.eq(Cat(system.m_axis_tlast, system.m_axis_tuser))]
            with m.Else():
                m.d.sync += [body.eq(flags), left.eq(1)]
                m.next = "rest"

        with m.FSM(init="end"):  # what came before is ended
            with m.State("idle"):
                m.d.comb += system.m_axis_tready.eq(closed)
                m.d.sync += [crc.eq(first_crc(number)), flags.eq(0)]
                with m.If(answered):
                    m.d.sync += [body.eq(answer), left.eq(6), answered.eq(0), number.eq(number + 1)]
                    with m.If(opened):
                        m.d.sync += [crc.eq(-1), number.eq(1), opened.eq(0)]
                    m.next = "rest"
                with m.Elif(system.m_axis_tvalid & ~closed):
                    m.d.sync += [body.eq(RESULT), left.eq(1), number.eq(number + 1)]
                    m.next = "words"
            with m.State("words"):
                sends(more)
            with m.State("rest"):
                sends(check)
            with m.State("check"):
                sends(finish)
            with m.State("end"):
                m.d.comb += [o.valid.eq(1), o.payload.eq(END)]
                with m.If(o.ready):
                    m.next = "idle"
