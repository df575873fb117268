"""RangeNorm without a divider."""

from functools import cached_property

from amaranth.lib import data

from emamba.ops import RangeNorm as Operator

from ..kit.block import shape_of
from ..kit.datapath import balanced_sum, reduce_tree, times, width_of
from ..kit.hdl import Mux
from ..kit.registry import realizes
from .norm import Norm


@realizes(Operator)
class RangeNorm(Norm):
    """The statistics are the token's sum, maximum and minimum; the spread is R = max − min, and n = D·x − Σx. Formats and
    rounding: `emamba.ops.RangeNorm`. `narrow` also puts a register before the comparisons, for slower fabrics.
    """

    @cached_property
    def statistics(self):
        x = shape_of(self.op.i)
        return data.StructLayout({"total": width_of(self.op.channels * self.op.i.magnitude), "high": x, "low": x})

    @property
    def delay(self) -> int:
        return int(self.narrow)

    def collect(self, m, free, padded, start, kept):
        x, op = kept.high.shape(), self.op
        high = free.register(reduce_tree(padded(op.i.min), lambda a, b: Mux(a > b, a, b)), "beat_high", self.delay, x)
        low = free.register(reduce_tree(padded(op.i.max), lambda a, b: Mux(a < b, a, b)), "beat_low", self.delay, x)
        total = free.register(balanced_sum(padded(0)), "beat_total", self.delay)
        return {
            "total": Mux(start, 0, kept.total) + total,
            "high": Mux(start | (high > kept.high), high, kept.high),
            "low": Mux(start | (low < kept.low), low, kept.low),
        }

    def spread(self, pipeline, statistics):
        return pipeline.register((statistics.high - statistics.low)[:self.op.spread_bits], "span")

    def deviation(self, x, statistics):
        return times(x, self.op.channels) - statistics.total
