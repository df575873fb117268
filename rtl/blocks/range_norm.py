"""RangeNorm without a divider."""

import operator
from functools import cached_property

from amaranth.lib import data

from emamba.ops import RangeNorm as Operator

from ..kit.block import shape_of
from ..kit.datapath import levels, reduce_tree, register_tree, times, width_of
from ..kit.hdl import Mux
from ..kit.registry import realizes
from .norm import Norm


@realizes(Operator)
class RangeNorm(Norm):
    """The statistics are the token's sum, maximum and minimum; the spread is R = max − min, and n = D·x − Σx. Formats and
    rounding: `emamba.ops.RangeNorm`. `narrow` also puts a register before the comparisons, for slower fabrics, `registers` one
    behind each level of the trees.
    """

    @cached_property
    def statistics(self):
        x = shape_of(self.op.i)
        return data.StructLayout({"total": width_of(self.op.channels * self.op.i.magnitude), "high": x, "low": x})

    @property
    def delay(self) -> int:
        return levels(min(self.lanes, self.op.channels)) if self.registers else int(self.narrow)

    def collect(self, m, free, padded, start, kept):
        x, op = kept.high.shape(), self.op

        def tree(neutral: int, pick, name: str, shape=None):
            if self.registers:
                return register_tree(free, padded(neutral), pick, name, shape)
            return free.register(reduce_tree(padded(neutral), pick), name, self.delay, shape)

        high = tree(op.i.min, lambda a, b: Mux(a > b, a, b), "beat_high", x)
        low = tree(op.i.max, lambda a, b: Mux(a < b, a, b), "beat_low", x)
        total = tree(0, operator.add, "beat_total")
        return {
            "total": Mux(start, 0, kept.total) + total,
            "high": Mux(start | (high > kept.high), high, kept.high),
            "low": Mux(start | (low < kept.low), low, kept.low),
        }

    def spread(self, pipeline, statistics):
        return pipeline.register((statistics.high - statistics.low)[:self.op.spread_bits], "span")

    def deviation(self, x, statistics):
        return times(x, self.op.channels) - statistics.total
