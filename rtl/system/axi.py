"""AMBA protocol adapters: AXI4-Lite to a register bus, AXI4-Stream packets to tokens and back.

A packet is a sequence: its integers in the order [token, channel], each sign-extended to the narrowest of 1, 2, 4 or 8 bytes that
holds its format, little-endian. There is no padding between tokens. The packet's last word is padded; its TKEEP marks the bytes
that count. Only the last word has TLAST.
"""

from math import ceil, gcd

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from emamba.base.formats import IntFormat

from ..kit.block import Port, shape_of
from .registers import ADDRESS_BITS

BUS_WIDTHS = (32, 64, 128)
OKAY, SLVERR = 0, 2


def element_bytes(format: IntFormat) -> int:
    """Bytes of an integer in a packet."""
    return next(size for size in (1, 2, 4, 8) if 8 * size >= format.bits)


class Word(data.StructLayout):
    """A word of an AXI4-Stream; `user` marks the result of a malformed packet, on its last word."""

    def __init__(self, size: int):
        super().__init__({"data": 8 * size, "keep": size, "last": 1, "user": 1})


def lite_ports(address_bits: int = ADDRESS_BITS) -> dict[str, wiring.Member]:
    """The ports of an AXI4-Lite slave, but for clock and reset."""
    return {
        "awaddr": In(address_bits), "awprot": In(3), "awvalid": In(1), "awready": Out(1),
        "wdata": In(32), "wstrb": In(4), "wvalid": In(1), "wready": Out(1),
        "bresp": Out(2), "bvalid": Out(1), "bready": In(1),
        "araddr": In(address_bits), "arprot": In(3), "arvalid": In(1), "arready": Out(1),
        "rdata": Out(32), "rresp": Out(2), "rvalid": Out(1), "rready": In(1),
    }


class AxiLite(wiring.Component):
    """An AXI4-Lite slave of 32-bit words. Address and data of a write may come in any order.

    The bus: `w_en` with `w_address`, `w_data` and `w_strobe` writes; `w_error` answers in the same cycle. `r_en` with
    `r_address` reads; `r_data` and `r_error` answer in the same cycle. Addresses count words.
    """

    def __init__(self, address_bits: int = ADDRESS_BITS):
        words = address_bits - 2
        super().__init__(lite_ports(address_bits) | {
            "w_en": Out(1), "w_address": Out(words), "w_data": Out(32), "w_strobe": Out(4), "w_error": In(1),
            "r_en": Out(1), "r_address": Out(words), "r_data": In(32), "r_error": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        addressed, given, asked = Signal(), Signal(), Signal()
        m.d.comb += [
            self.awready.eq(~addressed), self.wready.eq(~given), self.arready.eq(~asked),
            self.w_en.eq(addressed & given & ~self.bvalid), self.r_en.eq(asked & ~self.rvalid),
        ]
        with m.If(self.awvalid & self.awready):
            m.d.sync += [addressed.eq(1), self.w_address.eq(self.awaddr[2:])]
        with m.If(self.wvalid & self.wready):
            m.d.sync += [given.eq(1), self.w_data.eq(self.wdata), self.w_strobe.eq(self.wstrb)]
        with m.If(self.w_en):
            m.d.sync += [addressed.eq(0), given.eq(0), self.bvalid.eq(1), self.bresp.eq(Mux(self.w_error, SLVERR, OKAY))]
        with m.Elif(self.bready):
            m.d.sync += self.bvalid.eq(0)
        with m.If(self.arvalid & self.arready):
            m.d.sync += [asked.eq(1), self.r_address.eq(self.araddr[2:])]
        with m.If(self.r_en):
            m.d.sync += [asked.eq(0), self.rvalid.eq(1), self.rdata.eq(self.r_data),
                         self.rresp.eq(Mux(self.r_error, SLVERR, OKAY))]
        with m.Elif(self.rready):
            m.d.sync += self.rvalid.eq(0)
        return m


class Shelf(wiring.Component):
    """A queue of at most `capacity` elements, several in and several out in a cycle.

    `push` appends the first `pushed` of the `values`, `pop` removes the first `popped` elements, `clear` removes all. `level` is
    the number of elements.

    Parameters
    ----------
    shape
        of an element
    capacity
        most elements
    pushes, pops
        the values that `pushed` and `popped` take
    """

    def __init__(self, shape: Shape, capacity: int, pushes: set[int], pops: set[int]):
        self.shape, self.capacity, self.counts_in, self.counts_out = shape, capacity, sorted(pushes), sorted(pops)
        super().__init__({
            "values": In(shape).array(max(pushes)), "push": In(1), "pushed": In(range(max(pushes) + 1)),
            "elements": Out(shape).array(capacity), "pop": In(1), "popped": In(range(max(pops) + 1)),
            "clear": In(1), "level": Out(range(capacity + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        base = Signal.like(self.level, name="base")
        m.d.comb += base.eq(self.level - Mux(self.pop, self.popped, 0))
        m.d.sync += self.level.eq(Mux(self.clear, 0, base + Mux(self.push, self.pushed, 0)))
        step = gcd(*self.counts_in, *self.counts_out)
        for k, element in enumerate(self.elements):
            with m.If(self.pop), m.Switch(self.popped):
                for count in self.counts_out:
                    if k + count < self.capacity:
                        with m.Case(count):
                            m.d.sync += element.eq(self.elements[k + count])
            with m.If(self.push), m.Switch(base):
                for before in range(0, k + 1, step):
                    if k - before < len(self.values):
                        with m.Case(before):
                            m.d.sync += element.eq(self.values[k - before])
        return m


class PacketReader(wiring.Component):
    """Packets of `size`-byte words at `i` become sequences of `tokens` tokens at `o`.

    Short packets are zero-padded, long ones truncated; `flag.bad` marks both. A packet begins only while `admit` is high; its
    `first` is set if `clear` is high then. `drop` discards the rest of an open packet. `started` is high for a cycle as a packet
    begins, `flag.valid` as its verdict is known; `short`, `long`, `no_tlast` and `bad_keep` as such a fault is seen.
    """

    def __init__(self, port: Port, tokens: int, size: int):
        self.port, self.tokens, self.size = port, tokens, size
        self.bytes = element_bytes(port.format)
        self.per_word = size // self.bytes
        self.words = ceil(tokens * port.width / self.per_word)
        super().__init__({
            "i": In(stream.Signature(Word(size))), "o": Out(port.signature), "admit": In(1), "clear": In(1), "drop": In(1),
            "started": Out(1), "flag": Out(data.StructLayout({"valid": 1, "bad": 1})), "in_packet": Out(1), "excess": Out(1),
            "short": Out(1), "long": Out(1), "no_tlast": Out(1), "bad_keep": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        port, per_word = self.port, self.per_word
        bits, lanes = port.format.bits, port.lanes
        tail = port.width - (port.beats - 1) * lanes  # channels of a token's last beat
        capacity = lanes + 2 * per_word
        m.submodules.shelf = shelf = Shelf(unsigned(bits), capacity, {per_word}, {lanes, tail})
        word, taken = self.i.payload, self.i.valid & self.i.ready

        # What the words say.
        index, inside = Signal(range(self.words)), Signal()  # of the open packet; whether one is open and wants more
        padding, closing, dropping = Signal(), Signal(), Signal()
        excess_words, bad, sequence_first = Signal(range(self.words + 1)), Signal(), Signal()
        final = index == self.words - 1
        needed = self.bytes * (self.tokens * port.width - (self.words - 1) * per_word)  # bytes of the final word
        enough = ~final & word.keep.all() | final & word.keep[:needed].all()
        hole = (word.keep & (word.keep + 1)).any() | ~word.last & ~word.keep.all()
        room = ~closing & (shelf.level <= capacity - per_word)
        may_begin = self.admit & ~closing
        reads = ~dropping & ~self.excess & ~padding
        m.d.comb += [
            self.i.ready.eq(dropping | self.excess | reads & room & (inside | may_begin)),
            self.started.eq(taken & reads & ~inside),
            self.short.eq(taken & reads & word.last & ~(final & enough)),
            self.long.eq(taken & reads & final & ~word.last),
            self.bad_keep.eq(taken & reads & hole),
            self.no_tlast.eq(taken & self.excess & (excess_words == self.words - 1)),
            self.in_packet.eq(inside & ~padding | self.excess | dropping),
        ]
        wrong = self.short | self.long | self.bad_keep
        push = taken & reads | padding & room
        with m.If(self.started):
            m.d.sync += [inside.eq(1), sequence_first.eq(self.clear)]
        with m.If(push):
            m.d.sync += index.eq(Mux(final, 0, index + 1))
            with m.If(final):
                m.d.sync += [inside.eq(0), padding.eq(0), closing.eq(1), bad.eq(0)]
                m.d.comb += [self.flag.valid.eq(1), self.flag.bad.eq(bad | wrong)]
            with m.Elif(taken):
                m.d.sync += [bad.eq(bad | wrong), padding.eq(word.last)]
        with m.If(self.long):
            m.d.sync += [self.excess.eq(1), excess_words.eq(0)]
        with m.If(taken & self.excess):
            m.d.sync += excess_words.eq(Mux(excess_words == self.words, self.words, excess_words + 1))
            with m.If(word.last):
                m.d.sync += self.excess.eq(0)
        with m.If(taken & dropping & word.last):
            m.d.sync += dropping.eq(0)
        with m.If(self.drop):
            m.d.sync += dropping.eq(1)

        # From words to beats.
        for k, value in enumerate(shelf.values):
            low = k * self.bytes
            kept = Cat(byte.replicate(8) for byte in word.keep[low:low + self.bytes])
            m.d.comb += value.eq(Mux(padding, 0, word.data[8 * low:8 * (low + self.bytes)] & kept))
        beat, token = Signal(range(port.beats)), Signal(range(self.tokens))
        last_beat, last_token = beat == port.beats - 1, token == self.tokens - 1
        count = Mux(last_beat, tail, lanes)
        given = self.o.valid & self.o.ready
        m.d.comb += [
            shelf.push.eq(push), shelf.pushed.eq(per_word), shelf.pop.eq(given), shelf.popped.eq(count),
            shelf.clear.eq(given & last_beat & last_token),
            self.o.valid.eq(shelf.level >= count),
            self.o.payload.first.eq((token == 0) & sequence_first), self.o.payload.last.eq(last_token),
            *(lane.eq(element) for lane, element in zip(self.o.payload.data, shelf.elements, strict=False)),
        ]
        with m.If(given):
            m.d.sync += beat.eq(Mux(last_beat, 0, beat + 1))
            with m.If(last_beat):
                m.d.sync += token.eq(Mux(last_token, 0, token + 1))
            with m.If(last_beat & last_token):
                m.d.sync += closing.eq(0)
        return m


class PacketWriter(wiring.Component):
    """Sequences at `i` become packets of `size`-byte words at `o`. With the last word, `done` is high and `bad` its `user`."""

    def __init__(self, port: Port, size: int):
        self.port, self.size = port, size
        self.bytes = element_bytes(port.format)
        self.per_word = size // self.bytes
        super().__init__({"i": In(port.signature), "o": Out(stream.Signature(Word(size))), "bad": In(1), "done": Out(1)})

    def elaborate(self, platform):
        m = Module()
        port, per_word = self.port, self.per_word
        tail = port.width - (port.beats - 1) * port.lanes
        capacity = per_word - 1 + max(port.lanes, per_word) + port.lanes
        m.submodules.shelf = shelf = Shelf(unsigned(port.format.bits), capacity, {port.lanes, tail}, {per_word})
        ending, beat = Signal(), Signal(range(port.beats))
        last_beat = beat == port.beats - 1
        taken, given = self.i.valid & self.i.ready, self.o.valid & self.o.ready
        finishing = ending & (shelf.level <= per_word)
        m.d.comb += [
            self.i.ready.eq(~ending & (shelf.level <= capacity - port.lanes)),
            shelf.push.eq(taken), shelf.pushed.eq(Mux(last_beat, tail, port.lanes)),
            shelf.pop.eq(given), shelf.popped.eq(per_word), shelf.clear.eq(given & finishing),
            *(value.eq(lane) for value, lane in zip(shelf.values, self.i.payload.data, strict=False)),
            self.o.valid.eq(ending | (shelf.level >= per_word)),
            self.o.payload.last.eq(finishing), self.o.payload.user.eq(finishing & self.bad), self.done.eq(given & finishing),
        ]
        shape = shape_of(port.format)
        for k in range(per_word):
            low = k * self.bytes
            live = Signal(name=f"live_{k}")
            element = Signal(Shape(8 * self.bytes, shape.signed), name=f"element_{k}")
            m.d.comb += [
                live.eq(~finishing | (shelf.level > k)),
                element.eq(shelf.elements[k].as_signed() if shape.signed else shelf.elements[k]),
                self.o.payload.data[8 * low:8 * (low + self.bytes)].eq(Mux(live, element, 0)),
                self.o.payload.keep[low:low + self.bytes].eq(live.replicate(self.bytes)),
            ]
        with m.If(taken):
            m.d.sync += beat.eq(Mux(last_beat, 0, beat + 1))
            with m.If(last_beat & self.i.payload.last):
                m.d.sync += ending.eq(1)
        with m.If(self.done):
            m.d.sync += ending.eq(0)
        return m


class PacketGuard(wiring.Component):
    """An output register that survives a reset of what is upstream.

    After `cut`, a waiting word stays, and a word of one byte with `user` ends a begun packet. `open` is high in a packet.
    """

    def __init__(self, size: int):
        self.size = size
        super().__init__({"i": In(stream.Signature(Word(size))), "o": Out(stream.Signature(Word(size))), "cut": In(1),
                          "open": Out(1)})

    def elaborate(self, platform):
        m = Module()
        ends = Signal()  # a packet is still to be ended
        free = ~self.o.valid | self.o.ready
        m.d.comb += self.i.ready.eq(free & ~ends & ~self.cut)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(self.i.payload), self.open.eq(~self.i.payload.last)]
        with m.Elif(free & ends & ~self.cut):
            m.d.sync += [
                self.o.valid.eq(1), self.o.payload.data.eq(0), self.o.payload.keep.eq(1), self.o.payload.last.eq(1),
                self.o.payload.user.eq(1), ends.eq(0), self.open.eq(0),
            ]
        with m.If(self.cut & self.open):
            m.d.sync += ends.eq(1)
        return m
