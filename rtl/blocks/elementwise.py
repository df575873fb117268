"""Sums and products of two streams, channel by channel."""

from amaranth.hdl import Module

from emamba import ops as operators

from ..kit import inventory as inv
from ..kit.datapath import Pipeline
from ..kit.registry import Stage, realizes
from ..kit.streams import Elementwise, Port


class _Pair(Elementwise):
    def __init__(self, op, lanes: int):
        self.op = op
        a, b, o = (Port(format, op.channels, lanes) for format in (op.a, op.b, op.o))
        super().__init__({"a": a, "b": b}, o)

    def model(self, a, b):
        return self.op(a, b)

    def elaborate(self, platform):
        m = Module()
        pipeline = Pipeline(m, self.o, clips=self.clips)
        valid = pipeline.join(self.a, self.b)
        pipeline.rest(platform, valid, self.latency)
        results = []
        for a, b in zip(self.a.payload.data, self.b.payload.data, strict=True):
            exact = self._combine(pipeline, a, b)
            results.append(pipeline.result(exact, self.op.shift, self.op.o, self.op.rounding))
        pipeline.finish(results, self.a.payload.first, self.a.payload.last, valid, self.latency)
        return m


@realizes(operators.Multiply)
class Multiply(_Pair):
    """The gate, `lanes` channels a cycle, one multiplier each. Formats: `emamba.ops.Multiply`."""

    latency = 3  # operands, product, requantizer

    def __init__(self, op: operators.Multiply, lanes: int):
        super().__init__(op, lanes)
        self.multipliers, self.multiplies = lanes, op.channels

    @classmethod
    def fold(cls, op: operators.Multiply, stage: Stage) -> "Multiply":
        return cls(op, stage.lanes(op.width))

    @property
    def inventory(self) -> inv.Inventory:
        op, a, b = self.op, inv.signed_bits(self.op.a), inv.signed_bits(self.op.b)
        lane = (inv.register(op.a.bits + op.b.bits + op.o.bits - inv.unread(op.shift, op.rounding)) + inv.product(a, b)
                + inv.requantizer(a + b, op.shift, op.o, op.rounding))
        return self.output.lanes * lane + inv.finish(self.latency)

    def _combine(self, pipeline, a, b):
        return pipeline.register(pipeline.register(a, "a") * pipeline.register(b, "b"), "product")


@realizes(operators.Add)
class Add(_Pair):
    """The residual sum, `lanes` channels a cycle. Formats: `emamba.ops.Add`."""

    latency = 2  # sum, requantizer

    @classmethod
    def fold(cls, op: operators.Add, stage: Stage) -> "Add":
        return cls(op, stage.quick_lanes(op.width))

    @property
    def inventory(self) -> inv.Inventory:
        op = self.op
        bits = max(inv.signed_bits(x) + op.frac - x.frac for x in (op.a, op.b)) + 1
        lane = (inv.Inventory(adders=bits, registers=bits + op.o.bits - inv.unread(op.shift, op.rounding))
                + inv.requantizer(bits, op.shift, op.o, op.rounding))
        return self.output.lanes * lane + inv.finish(self.latency)

    def _combine(self, pipeline, a, b):
        return pipeline.register(a.shift_left(self.op.frac - self.op.a.frac) + b.shift_left(self.op.frac - self.op.b.frac), "sum")
