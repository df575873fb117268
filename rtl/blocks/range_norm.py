"""RangeNorm without a divider."""

from functools import cached_property

from amaranth.hdl import Mux
from amaranth.lib import data

from emamba.ops import RangeNorm as Operator

from ..kit import inventory as inv
from ..kit.block import shape_of
from ..kit.datapath import balanced_sum, reduce_tree, signed_digits, times, width_of
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

    @property
    def gathering(self) -> inv.Inventory:
        lanes, bits, total = self.lanes, self.op.i.bits, self.statistics["total"].width
        return inv.total([bits] * lanes + [total])[0] + inv.Inventory(
            adders=2 * lanes * bits, muxes=2 * lanes * bits, operand_muxes=total,
            registers=total + 2 * bits + self.delay * (inv.total([bits] * lanes)[1] + 2 * bits))

    @property
    def spread_inventory(self) -> inv.Inventory:
        return inv.Inventory(adders=self.op.i.bits, registers=self.op.i.bits)

    @property
    def n_inventory(self) -> inv.Inventory:
        x, total = inv.signed_bits(self.op.i), self.statistics["total"].width
        return inv.total([x + shift for shift, _ in signed_digits(self.op.channels)] + [total])[0]
