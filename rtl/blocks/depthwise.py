"""A product for each channel of a window."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np

from emamba.ops import Depthwise as Operator

from ..kit import adder_graph
from ..kit.block import Port, beats, transfers
from ..kit.datapath import fold, weighted_sum
from ..kit.registry import Stage, realizes
from ..kit.rom import rom
from .conv1d import of_channels
from .linear import Linear


@realizes(Operator)
@dataclass(frozen=True)
class Depthwise(Linear):
    """`lanes` channels × `terms` taps a cycle. The taps of a token come one after the other, each with all of its channels: the
    sums of all channels accumulate meanwhile, as in a Linear whose `groups` of outputs each have an input beat of their own.

    Several taps at a time are whole tokens; else `lanes` divide the channels. Formats, rounding and bounds:
    `emamba.ops.Depthwise`.
    """

    holds = paired = False

    op: Operator

    @cached_property
    def inputs(self):
        return {"i": Port(self.op.i, self.op.weight.size, self.in_lanes)}

    @property
    def terms(self) -> int:
        return self.in_lanes // self.lanes

    @property
    def chunks(self) -> int:
        return beats(self.op.weight.shape[1], self.terms)

    @cached_property
    def graph(self):
        return adder_graph.solve(of_channels(self.op.weight, by_tap=True), self.op.i) if self.constant else None

    @classmethod
    def fold(cls, op: Operator, stage: Stage) -> "Depthwise":
        """That with groups of channels × chunks of taps ≤ budget."""
        channels, taps = op.weight.shape
        choices = [(lanes, 1) for lanes in range(1, channels + 1) if channels % lanes == 0]
        choices += [(channels, ceil(taps / chunks)) for chunks in range(taps - 1, 0, -1)]
        blocks = [cls(op, lanes * terms, lanes, stage.products) for lanes, terms in choices]
        return min((block for block in blocks if block.cycles <= stage.budget), default=blocks[-1],
                   key=lambda block: block.lanes * (block.terms + op.dyadic))

    def schedule(self, arrivals):
        taken = transfers(arrivals)
        return taken, taken.reshape(-1, self.chunks, self.groups)[:, -1].reshape(-1) + self.latency

    def _stored_rows(self, op: Operator) -> np.ndarray:
        by_tap = fold(op.weight.T, self.chunks, self.terms)  # chunks, terms, channels
        rows = fold(by_tap.transpose(2, 0, 1), self.groups, self.lanes)  # groups, lanes, chunks, terms
        return rows.transpose(2, 0, 1, 3).reshape(self.cycles, self.lanes, self.terms)

    def _late(self, block, pipeline, group):
        x = list(block.i.payload.data)
        return [[pipeline.register(value, "x", self.lookup + link.skew)
                 for value, link in zip(x[lane::self.lanes], self.links, strict=True)] for lane in range(self.lanes)]

    def _sums(self, block, pipeline, step, constants):
        """Of every lane the sum of its products."""
        terms, lanes = self.terms, self.lanes
        x = pipeline.each(lambda own, value: own.register(value, "x", self.lookup), block.i.payload.data)
        if self.graph:
            return adder_graph.hardware(pipeline, self.graph, x, self.op.i)
        weights = rom(pipeline, "weight", *constants["weight"], step, self.lookup)
        by_lane = [(weights[lane * terms:(lane + 1) * terms], x[lane::lanes]) for lane in range(lanes)]
        return pipeline.each(lambda own, lane: weighted_sum(own, *lane, self.products, self.halved), by_lane)
