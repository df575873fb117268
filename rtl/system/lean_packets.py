"""Bytes to the beats of sequences, and back: `rtl.system.axi`'s packets without words."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..kit.block import Port
from .axi import element_bytes


class ByteReader(wiring.Component):
    """Packets of bytes at `i` become sequences of `tokens` tokens at `o`.

    As of `PacketReader`: `admit`, `started`, `in_packet`, `excess`, `short`, `long` and `no_tlast`; `closes` as a packet's last
    value is there, `bad` with it. `drop` makes the rest of an open packet excess.
    """

    def __init__(self, port: Port, tokens: int):
        self.port, self.tokens = port, tokens
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"data": 8, "last": 1}))), "o": Out(port.signature), "admit": In(1),
            "drop": In(1), "started": Out(1), "closes": Out(1), "bad": Out(1), "in_packet": Out(1), "excess": Out(1),
            "short": Out(1), "long": Out(1), "no_tlast": Out(1)})

    def elaborate(self, platform):
        m = Module()
        port, size = self.port, element_bytes(self.port.format)
        part, lane = Signal(range(max(2, size))), Signal(range(max(2, port.lanes)))
        channel, token = Signal(range(max(2, port.width))), Signal(range(max(2, self.tokens)))
        inside, padding, full, wrong = Signal(), Signal(), Signal(), Signal()
        values = [Signal(8 * size, name=f"value_{k}") for k in range(port.lanes)]
        taken = self.i.valid & self.i.ready
        step = taken | padding & ~full
        whole, last_channel, last_token = part == size - 1, channel == port.width - 1, token == self.tokens - 1
        closes = step & whole & last_channel & last_token
        ends = self.i.payload.last & taken
        m.d.comb += [
            self.i.ready.eq(self.excess | ~full & ~padding & (inside | self.admit)),
            self.started.eq(taken & ~inside & ~self.excess), self.closes.eq(closes & ~self.excess),
            self.short.eq(ends & ~self.excess & ~closes), self.long.eq(taken & ~self.excess & closes & ~ends),
            self.no_tlast.eq(closes & self.excess & ~ends), self.bad.eq(wrong | self.long),
            self.in_packet.eq(inside & ~padding | self.excess), self.o.valid.eq(full),
            *(own.eq(value) for own, value in zip(self.o.payload.data, values, strict=True)),
        ]
        with m.If(self.o.ready):
            m.d.sync += full.eq(0)
        with m.If(step):
            m.d.sync += part.eq(Mux(whole, 0, part + 1))
            with m.If(whole):
                m.d.sync += [lane.eq(Mux(last_channel | (lane == port.lanes - 1), 0, lane + 1)),
                             channel.eq(Mux(last_channel, 0, channel + 1))]
                with m.If(last_channel):
                    m.d.sync += token.eq(Mux(last_token, 0, token + 1))
        with m.If(step & ~self.excess):
            for k, value in enumerate(values):
                for byte in range(size):
                    with m.If((lane == k) & (part == byte)):
                        m.d.sync += value[8 * byte:8 * byte + 8].eq(Mux(padding, 0, self.i.payload.data))
            m.d.sync += [inside.eq(~closes), self.o.payload.first.eq(token == 0), self.o.payload.last.eq(last_token),
                         full.eq(whole & (last_channel | (lane == port.lanes - 1)))]
            with m.If(closes):
                m.d.sync += [wrong.eq(0), padding.eq(0), self.excess.eq(self.long)]
            with m.Elif(ends):
                m.d.sync += [wrong.eq(1), padding.eq(1)]
        with m.If(ends & self.excess):
            m.d.sync += [self.excess.eq(0), part.eq(0), lane.eq(0), channel.eq(0), token.eq(0)]
        with m.If(self.drop):
            m.d.sync += self.excess.eq(1)
        return m


class ByteWriter(wiring.Component):
    """Sequences at `i` become bytes at `o`, `last` with the last of a packet."""

    def __init__(self, port: Port):
        self.port = port
        super().__init__({"i": In(port.signature), "o": Out(stream.Signature(data.StructLayout({"data": 8, "last": 1})))})

    def elaborate(self, platform):
        m = Module()
        port, size = self.port, element_bytes(self.port.format)
        part, lane, channel = (Signal(range(max(2, count)), name=name) for name, count in (
            ("part", size), ("lane", port.lanes), ("channel", port.width)))
        whole, last_channel = part == size - 1, channel == port.width - 1
        last_lane = last_channel | (lane == port.lanes - 1)
        value = Signal(8 * size)
        m.d.comb += [value.eq(self.i.payload.data[lane]),
                     self.o.payload.data.eq(Array(value[k:k + 8] for k in range(0, 8 * size, 8))[part]),
                     self.o.payload.last.eq(self.i.payload.last & last_channel & whole), self.o.valid.eq(self.i.valid),
                     self.i.ready.eq(self.o.ready & whole & last_lane)]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += part.eq(Mux(whole, 0, part + 1))
            with m.If(whole):
                m.d.sync += [lane.eq(Mux(last_lane, 0, lane + 1)), channel.eq(Mux(last_channel, 0, channel + 1))]
        return m
