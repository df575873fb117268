"""The messages of `rtl.system.serial` a byte at a time, and their CRCs a bit a cycle: what a small device has room for."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..plan.loads import crc_step
from .serial import CHECK, DATA, END, ESC, ESCAPED_END, ESCAPED_ESC, HELLO, LAST, REFUSED, RESIDUE, RESULT, first_crc

BODY = 4
"""Bytes of a message that are kept: a nonce, or an address and the lower half of what is written."""
ANSWER = 6
"""Bytes of an answer."""


class Inbound(wiring.Component):
    """Bytes from the line at `i`; those of packets leave at `o`. While `asked`, a message of `kind` with the bytes `body`, its
    last ones uppermost, waits for `answered`; nothing else is taken meanwhile. `clear` closes the line."""

    def __init__(self):
        super().__init__({
            "i": In(stream.Signature(8)), "clear": In(1), "o": Out(stream.Signature(data.StructLayout({"data": 8, "last": 1}))),
            "kind": Out(3), "body": Out(8 * BODY), "asked": Out(1), "answered": In(1), "closed": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        code, byte, turn = self.i.payload, Signal(8), Signal(3)
        last, crc, number = Signal(8 * CHECK), Signal(32), Signal(16)
        escaped, begun, final = Signal(), Signal(), Signal()  # `begun`: the kind is known
        kept, filled = Signal(range(CHECK + 1)), Signal(range(BODY + 1))  # bytes of `last`, of `body`
        packet = (self.kind == DATA) | (self.kind == LAST)
        end, escape, leaves = Signal(), Signal(), kept == CHECK  # the byte before the last CHECK ones is none of the CRC
        right = begun & (crc == RESIDUE) & ~escaped
        taken, steady, bit = Signal(), Signal(), Signal()  # the byte at `i` is taken; has been there since the cycle before
        goes, plain = self.i.valid & steady & ~self.asked & ~self.o.valid & ~taken, ~end & ~escape
        m.d.sync += [taken.eq(0), steady.eq(self.i.valid & ~taken), end.eq(code == END), escape.eq(code == ESC)]
        m.d.comb += [
            self.i.ready.eq(taken),
            byte.eq(Mux(escaped, Cat(code[0], code[0], 0, code[0], code[0], 0, 1, 1), code)),  # ESCAPED_END or ESCAPED_ESC
            bit.eq(Array(byte)[turn]), self.o.payload.data.eq(self.body[-8:]),
            self.o.payload.last.eq(final & (self.kind == LAST)),
        ]
        with m.If(goes & plain & leaves & begun & packet & ~self.closed & (filled != 0)):  # the byte before goes first
            m.d.sync += [self.o.valid.eq(1), filled.eq(0), final.eq(0)]
        with m.Elif(goes & plain):
            before = Mux((turn == 0) & (kept == 0) & ~begun, first_crc(number), crc)
            m.d.sync += [turn.eq(turn + 1), last.eq(Cat(last[1:], bit)), crc.eq(Cat(crc_step(before, bit)))]
            with m.If(leaves & ~begun & (turn < len(self.kind))):
                m.d.sync += self.kind.eq(Cat(self.kind[1:], last[0]))
            with m.If(leaves & begun & (packet | (filled != BODY))):
                m.d.sync += self.body.eq(Cat(self.body[1:], last[0]))
            with m.If(turn == 7):
                m.d.sync += [taken.eq(1), escaped.eq(0), kept.eq(Mux(leaves, kept, kept + 1)), begun.eq(leaves)]
                with m.If(leaves & begun & (filled != BODY)):
                    m.d.sync += filled.eq(filled + 1)
        with m.Elif(goes):
            m.d.sync += [taken.eq(1), escaped.eq(escape)]
            with m.If(end & (kept != 0)):
                m.d.sync += [begun.eq(0), kept.eq(0)]
                with m.If(right & (~self.closed | (self.kind == HELLO))):
                    m.d.sync += [number.eq(number + 1), self.closed.eq(0), final.eq(1), self.o.valid.eq(packet),
                                 self.asked.eq(~packet)]
                with m.Else():
                    m.d.sync += [filled.eq(0), self.closed.eq(1)]
                    with m.If(~self.closed):
                        m.d.sync += [self.asked.eq(1), self.kind.eq(REFUSED)]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [self.o.valid.eq(0), self.asked.eq(final)]
        with m.If(self.answered):
            m.d.sync += [self.asked.eq(0), filled.eq(0)]
        with m.If(self.clear):
            m.d.sync += [self.closed.eq(1), self.o.valid.eq(0), begun.eq(0), kept.eq(0), filled.eq(0), escaped.eq(0),
                         number.eq(0), turn.eq(0)]
        return m


class Outbound(wiring.Component):
    """Answers and results as messages: bytes at `o`, to the line.

    While `asked`, byte `place` of the answer is `content`; `answered` as its last one is taken, which `opens` the line or not.
    `i`: bytes of results, which are dropped while `closed`, each with the flags of a result
    that ends with it. `broken`: the flags with which a result that has begun is to end; `mended` as they are on their way."""

    def __init__(self):
        byte = data.StructLayout({"data": 8, "flags": 2})
        super().__init__({
            "o": Out(stream.Signature(8)), "asked": In(1), "opens": In(1), "content": In(8), "place": Out(range(ANSWER + 1)),
            "answered": Out(1), "i": In(stream.Signature(byte)), "closed": In(1), "broken": In(2), "mended": Out(1)})

    def elaborate(self, platform):
        m = Module()
        out, turns, full, escaped = Signal(8), Signal(range(9)), Signal(), Signal()  # the byte that is sent, its bits for the CRC
        crc, number, flags, place = Signal(32), Signal(16), Signal(2), self.place
        special, free, checks = (out == END) | (out == ESC), ~full, Signal()  # `checks`: the byte becomes one of the CRC
        with m.If(turns != 0):
            m.d.sync += [turns.eq(turns - 1), out.eq(Cat(out[1:], Mux(checks, ~crc[0], out[0]))),
                         crc.eq(Mux(checks, crc >> 1, Cat(crc_step(crc, out[0]))))]
        m.d.comb += [self.o.valid.eq(full & (turns == 0)),
                     self.o.payload.eq(Mux(escaped, Mux(out == END, ESCAPED_END, ESCAPED_ESC), Mux(special, ESC, out)))]
        with m.If(full & (turns == 0) & self.o.ready):
            m.d.sync += [escaped.eq(special & ~escaped), full.eq(special & ~escaped)]

        def send(byte, check=0):
            m.d.sync += [out.eq(byte), turns.eq(8), full.eq(1), checks.eq(check)]

        with m.FSM(init="end"):  # what came before is ended
            with m.State("idle"):
                m.d.sync += [crc.eq(Mux(self.asked & self.opens, -1, first_crc(number))), flags.eq(self.broken)]
                m.d.comb += self.i.ready.eq(self.closed)
                with m.If(self.asked):
                    m.d.sync += number.eq(Mux(self.opens, 1, number + 1))
                    m.next = "answer"
                with m.Elif((self.i.valid | self.broken.any()) & ~self.closed):
                    m.d.sync += number.eq(number + 1)
                    m.d.comb += self.mended.eq(self.broken.any())
                    m.next = "kind"
            with m.State("answer"), m.If(free):
                send(self.content)
                m.d.sync += place.eq(place + 1)
                with m.If(place == ANSWER - 1):
                    m.d.comb += self.answered.eq(1)
                    m.d.sync += place.eq(0)
                    m.next = "check"
            with m.State("kind"):
                send(RESULT)
                m.next = "results"
            with m.State("results"), m.If(free):
                with m.If(self.i.valid & ~self.closed & ~self.asked & ~flags.any()):
                    send(self.i.payload.data)
                    m.d.comb += self.i.ready.eq(1)
                    m.d.sync += flags.eq(self.i.payload.flags)
                with m.Elif(self.closed | self.asked | flags.any()):
                    send(flags)
                    m.next = "check"
            with m.State("check"), m.If(free):
                with m.If(place == CHECK):
                    m.d.sync += place.eq(0)
                    m.next = "end"
                with m.Else():
                    send(0, check=1)
                    m.d.sync += place.eq(place + 1)
            with m.State("end"), m.If(free):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(END)]
                with m.If(self.o.ready):
                    m.next = "idle"
        return m
