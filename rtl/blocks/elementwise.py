"""Sums and products of two streams, channel by channel."""

from dataclasses import dataclass
from functools import cached_property

from emamba import ops as operators

from ..kit.block import Elementwise, Port
from ..kit.datapath import Pipeline
from ..kit.registry import Stage, realizes


@dataclass(frozen=True)
class _Pair(Elementwise):
    op: operators.Operator
    lanes: int

    @cached_property
    def inputs(self):
        return {name: Port(format, self.op.channels, self.lanes) for name, format in (("a", self.op.a), ("b", self.op.b))}

    def circuit(self, m, block, platform):
        pipeline = Pipeline(m, block.o, clips=block.clips)
        valid = pipeline.join(block.a, block.b)
        pipeline.rest(platform, valid, self.latency)
        results = pipeline.each(
            lambda own, a, b: own.result(self._combine(own, a, b), self.op.shift, self.op.o, self.op.rounding),
            block.a.payload.data, block.b.payload.data)
        pipeline.finish(results, block.a.payload.first, block.a.payload.last, valid, self.latency)


@realizes(operators.Multiply)
class Multiply(_Pair):
    """The gate, `lanes` channels a cycle, one multiplier each. Formats: `emamba.ops.Multiply`."""

    latency = 3  # operands, product, requantizer

    @property
    def multipliers(self) -> int:
        return self.lanes

    @property
    def multiplies(self) -> int:
        return self.op.channels

    @classmethod
    def fold(cls, op: operators.Multiply, stage: Stage) -> "Multiply":
        return cls(op, stage.lanes(op.width))

    def _combine(self, pipeline, a, b):
        return pipeline.register(pipeline.register(a, "a") * pipeline.register(b, "b"), "product")


@realizes(operators.Add)
class Add(_Pair):
    """The residual sum, `lanes` channels a cycle. Formats: `emamba.ops.Add`."""

    latency = 2  # sum, requantizer

    @classmethod
    def fold(cls, op: operators.Add, stage: Stage) -> "Add":
        return cls(op, stage.quick_lanes(op.width))

    def _combine(self, pipeline, a, b):
        return pipeline.register(a.shift_left(self.op.frac - self.op.a.frac) + b.shift_left(self.op.frac - self.op.b.frac), "sum")
