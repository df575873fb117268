"""LayerNorm and RMSNorm without a divider or a root, the comparison to RangeNorm."""

from functools import cached_property

from amaranth.lib import data

from emamba.ops import LayerNorm as Operator

from ..kit.datapath import adder_tree, balanced_sum, times, tree_stages, width_of
from ..kit.hdl import Mux, unsigned
from ..kit.registry import realizes
from .norm import Norm


@realizes(Operator)
class LayerNorm(Norm):
    """The statistics are Q, the token's sum of squares, from one more multiplier a lane and a tree of adders, and its sum; the
    spread is V = D·Q − (Σx)², from one multiplier, and n = D·x − Σx. An RMSNorm has no sum; its spread is Q and its n is x.
    Formats and rounding: `emamba.ops.LayerNorm`.
    """

    halved = True

    @cached_property
    def statistics(self):
        total = {"total": width_of(self.op.channels * self.op.i.magnitude)} if self.op.centered else {}
        return data.StructLayout({"squares": unsigned(self.op.squares_bound.bit_length())} | total)

    @property
    def delay(self) -> int:
        return 1 + tree_stages(min(self.lanes, self.op.channels))

    @property
    def spread_steps(self) -> int:
        return 1 + self.op.centered

    @property
    def multipliers(self) -> int:
        return 2 * self.lanes + self.op.centered

    @property
    def multiplies(self) -> int:
        return 2 * self.op.width + self.op.groups * self.op.centered

    def collect(self, m, free, padded, start, kept):
        lanes = padded(0)
        squares = free.each(lambda own, x: own.register(x * x, "square", shape=self._square), lanes)
        found = {"squares": Mux(start, self.op.epsilon, kept.squares) + adder_tree(free, squares, "squares")}
        if self.op.centered:
            found["total"] = Mux(start, 0, kept.total) + free.register(balanced_sum(lanes), "beat_total", self.delay)
        return found

    def spread(self, pipeline, statistics):
        bits = unsigned(self.op.spread_bits)
        if not self.op.centered:
            return pipeline.register(statistics.squares, "spread", shape=bits)
        product = pipeline.register(statistics.total * statistics.total, "total_squared")
        scaled = pipeline.register(times(statistics.squares, self.op.channels), "squares_scaled")
        return pipeline.register(scaled - product, "spread", shape=bits)

    def deviation(self, x, statistics):
        return times(x, self.op.channels) - statistics.total if self.op.centered else x

    @property
    def _square(self):
        return unsigned((self.op.i.magnitude**2).bit_length())
