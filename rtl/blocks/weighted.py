"""What the blocks with weights share."""

from functools import cached_property

import numpy as np

from emamba.base.formats import IntFormat

from ..kit import adder_graph, cascade
from ..kit.block import Spec
from ..kit.datapath import Pipeline, Products, bounded, rounded_bias, sum_stages, width_of
from ..kit.hdl import Const, Shape, Value
from ..kit.rom import rom, rom_latency


class Weighted(Spec):
    """Sums of `terms` products a lane. A subclass has the fields `op`, `lanes` and `products`, and the adder `graph`."""

    stores = None
    stored = False  # whether several accumulators of a lane lie in a memory, which no DSP48E2 reads

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
    def accumulates(self) -> bool:
        """Whether a lane adds up several sums of products, one after the other."""
        raise NotImplementedError

    @cached_property
    def shape(self) -> Shape:
        """Of a sum with its bias."""
        bias, _ = rounded_bias(self.op)
        return width_of(self.op.bound + int((bias - self.op.bias).max()))

    @property
    def element(self) -> IntFormat:
        """Of a weight, or of what `pairs.encode` makes of it."""
        return bounded(int(np.abs(self.op.weight).max(initial=0)))

    @cached_property
    def links(self) -> list[cascade.Link]:
        """The DSP48E2s of a lane, where they sum."""
        fits = self.products is Products.CASCADES and cascade.possible(self.element, self.op.i, self.shape.width)
        return cascade.links(self.terms, self.accumulates and not self.stored) if fits else []

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
        if self.links:  # with bias and accumulator, unless that is stored
            return self.lookup + cascade.steps(self.links) + self.stored + 1 + self.op.dyadic
        sums = adder_graph.stages(self.graph) if self.constant else sum_stages(self.terms, self.products, self.halved)
        return self.lookup + sums + 2 + self.op.dyadic

    def cascaded(self, pipeline: Pipeline, constants: dict, step: Value, group: Value, first: Value, live: Value,
                 values: list[list[Value]], both: int = 0) -> list[Value]:
        """The sums of all lanes, with their bias unless they are stored, from the step of the operands on.

        Parameters:
            step, group: the addresses of weights and of bias
            first, live: mark the first sum of an accumulator, and one that counts
            values: the factors [lanes][terms], each as late as its link
            both: lanes below it share DSP48E2s two by two
        """
        links, lookup = self.links, self.lookup
        late = [step]
        for _ in range(links[-1].skew):
            late.append(pipeline.register(late[-1], "late"))
        skews = sorted({link.skew for link in links})
        memories = {skew: rom(pipeline, f"weight_{skew}", *constants[f"weight_{skew}"], late[skew], lookup) for skew in skews}
        weights = cascade.by_lane(memories, links, self.lanes)
        inside = self.accumulates and not self.stored
        before = lookup + (cascade.steps(links) - 1 if inside else 1)
        bias = [Const(0)] * self.lanes if self.stored else rom(pipeline, "bias", *constants["bias"], group, before)
        accumulation = {}
        if inside:
            accumulation = {"start": pipeline.register(first, "start", before), "live": pipeline.flag(live, "live", before)}

        def pair(own, low, stored, x, *addends):
            return cascade.pair_of(own, links, low, stored, x, addends, self.shape.width, **accumulation)

        def alone(own, words, x, addend):
            return cascade.sum_of(own, links, words, x, addend, **accumulation)[:self.shape.width].as_signed()

        pairs = pipeline.each(pair, weights[:both:2], weights[1:both:2], values[:both:2], bias[:both:2], bias[1:both:2])
        return [total for found in pairs for total in found] + pipeline.each(alone, weights[both:], values[both:], bias[both:])
