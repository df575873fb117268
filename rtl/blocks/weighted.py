"""What the blocks with weights share."""

from functools import cached_property

from ..kit import adder_graph
from ..kit.block import Spec
from ..kit.datapath import Products, sum_stages
from ..kit.rom import rom_latency


class Weighted(Spec):
    """Sums of `terms` products a lane. A subclass has the fields `op`, `lanes` and `products`, and the adder `graph`."""

    stores = None

    @property
    def terms(self) -> int:
        """Products that a lane sums at a time."""
        raise NotImplementedError

    @property
    def constant(self) -> bool:
        """Whether the weights are wired in as an adder graph."""
        return self.products is Products.CONSTANTS and self.cycles == 1

    @property
    def multipliers(self) -> int:
        return self.lanes * ((0 if self.constant else self.terms) + self.op.dyadic)

    @property
    def multiplies(self) -> int:
        return self.op.multiplies - (self.op.weight.size if self.constant else 0)

    @property
    def lookup(self) -> int:
        """Steps to the weights."""
        return 1 if self.constant else rom_latency(self.cycles)

    @property
    def halved(self) -> bool:
        """Whether a product is two terms, since logic is slower."""
        return self.products is Products.LOGIC and self.cycles > 1

    @cached_property
    def latency(self) -> int:
        """Cycles from a step's operands to its output: weights, products and adder tree, or adder graph; accumulator or bias,
        (multiplier,) requantizer."""
        sums = adder_graph.stages(self.graph) if self.constant else sum_stages(self.terms, self.products, self.halved)
        return self.lookup + sums + 2 + self.op.dyadic
