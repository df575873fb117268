"""Matrix–vector product, with any folding from one multiplier to all of them."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np

from emamba.base.formats import IntFormat
from emamba.ops import MULTIPLIER
from emamba.ops import Linear as Operator

from ..kit import adder_graph, cascade, pairs
from ..kit.block import Port, beats, transfers
from ..kit.datapath import (
    Pipeline,
    Products,
    accumulate,
    adder_tree,
    fold,
    rounded_bias,
    tap_format,
    weighted_sum,
)
from ..kit.hdl import Memory, Mux, Signal, counted, unsigned
from ..kit.light import later
from ..kit.registry import Stage, realizes
from ..kit.rom import rom
from .weighted import Weighted

SUM_COST = 0.22
"""What the memory of an output's sum takes of a chip where a product takes 1 (by mapping MARS to ASAP7)."""


@realizes(Operator)
@dataclass(frozen=True)
class Linear(Weighted):
    """y = requantize(W·x + b) with `in_lanes` × `lanes` multipliers.

    A token's input arrives in `chunks` beats; each beat is held for `groups` cycles, in which it meets the weights of every
    group of outputs. With one chunk the outputs leave group by group, each a full dot product; with one group all outputs
    accumulate while the input arrives. Any folding in between is possible; a token takes chunks × groups cycles.
    `products`: with pairs, outputs two by two share a multiplier where their formats fit it; with constants, where a token takes
    one cycle, the weights are wired in as one graph of adders.
    Formats, rounding and bounds: `emamba.ops.Linear`.
    """

    stores = "accumulators"
    holds = True  # an input beat while it meets every group of outputs

    op: Operator
    in_lanes: int
    lanes: int
    products: Products = Products.MULTIPLIERS

    @cached_property
    def inputs(self):
        return {"i": Port(self.op.i, self.op.weight.shape[1], self.in_lanes)}

    @property
    def terms(self) -> int:
        return self.in_lanes

    @property
    def chunks(self) -> int:
        return self.inputs["i"].beats

    @property
    def groups(self) -> int:
        return self.output.beats

    @cached_property
    def graph(self):
        return adder_graph.solve(self.op.weight, self.op.i) if self.constant else None

    @property
    def accumulates(self) -> bool:
        return self.chunks > 1

    @property
    def stored(self) -> bool:
        return self.chunks > 1 and self.groups > 1

    @cached_property
    def paired(self) -> bool:
        if self.links:
            return cascade.both_fit(self.element, self.op.i, self.shape.width)
        shared = self.products in (Products.PAIRS, Products.CASCADES, Products.CONSTANTS)
        return shared and pairs.possible(self.op.weight, self.op.i)

    @classmethod
    def fold(cls, op: Operator, stage: Stage) -> "Linear":
        """That with chunks × groups ≤ budget. On a lean chip the memory of sums counts beside multipliers."""
        outputs, inputs = op.weight.shape
        choices = []
        for chunks in range(1, min(inputs, stage.budget) + 1):
            in_lanes = ceil(inputs / chunks)
            out_lanes = ceil(outputs / min(stage.budget // beats(inputs, in_lanes), outputs))
            preferred = out_lanes if stage.order == "emit" else in_lanes
            cost = (in_lanes + op.dyadic) * out_lanes
            if stage.lean:
                cost += SUM_COST * outputs * (chunks > 1 and out_lanes < outputs)
            choices.append((cost, preferred, chunks, in_lanes, out_lanes))
        return cls(op, *min(choices)[-2:], stage.products)

    @cached_property
    def cycles(self) -> int:
        return self.chunks * self.groups

    def schedule(self, arrivals):
        taken = transfers(arrivals, self.groups)
        final = taken[self.chunks - 1::self.chunks]
        return taken, (final[:, None] + np.arange(self.latency + 1 - self.groups, self.latency + 1)).reshape(-1)

    def weight_rows(self, op: Operator) -> np.ndarray:
        """ROM rows, one per step: [chunks·groups, out_lanes·in_lanes]."""
        in_lanes, out_lanes = self.in_lanes, self.lanes
        by_group = fold(op.weight, self.groups, out_lanes).transpose(2, 0, 1)  # in, groups, out_lanes
        by_chunk = fold(by_group, self.chunks, in_lanes)  # chunks, in_lanes, groups, out_lanes
        return by_chunk.transpose(0, 2, 3, 1).reshape(self.chunks * self.groups, -1)

    def _stored_rows(self, op: Operator) -> np.ndarray:
        """The rows as the ROM holds them: [chunks·groups, out_lanes, in_lanes]."""
        out_lanes = self.lanes
        rows = self.weight_rows(op).reshape(-1, out_lanes, self.in_lanes)
        twice = out_lanes // 2 * 2 if self.paired else 0
        rows[:, 1:twice:2] = pairs.encode(rows[:, :twice:2], rows[:, 1:twice:2])
        return rows

    def constants(self, op: Operator | None = None) -> dict[str, tuple[np.ndarray, IntFormat]]:
        """By name, the rows of every constant memory and their format; of another operator, where one is given."""
        op = op or self.op
        bias, _ = rounded_bias(op)
        found = {"bias": (fold(bias, self.groups, self.lanes), tap_format(bias))}
        if self.links:
            found |= cascade.by_skew(self._stored_rows(op), self.element, self.links)
        elif self.graph is None:
            found["weight"] = self._stored_rows(op).reshape(self.cycles, -1), self.element
        if op.dyadic:
            found["scale"] = fold(op.multiplier, self.groups, self.lanes), MULTIPLIER
        return found

    def circuit(self, m, block, platform):
        op, chunks, groups = self.op, self.chunks, self.groups
        pipeline, constants = Pipeline(m, block.o, block.loads, block.clips), self.constants()
        advance = pipeline.advance
        pipeline.rest(platform, block.i.valid, self.latency)

        step, group, chunk = Signal(range(chunks * groups)), Signal(range(groups)), Signal(range(chunks))
        last_group, last_chunk = group == groups - 1, chunk == chunks - 1
        m.d.comb += block.i.ready.eq(advance & last_group if self.holds else advance)
        with m.If(block.i.valid & advance):
            m.d.sync += [
                step.eq(Mux(last_group & last_chunk, 0, step + 1)),
                group.eq(Mux(last_group, 0, group + 1)),
            ]
            with m.If(last_group):
                m.d.sync += chunk.eq(Mux(last_chunk, 0, chunk + 1))

        before = self.latency - 2 - op.dyadic  # steps from the input to the accumulator's inputs
        if self.links:
            sums = self.cascaded(pipeline, constants, step, group, chunk == 0, block.i.valid,
                                 self._late(block, pipeline, group), self.lanes // 2 * 2 if self.paired else 0)
        else:
            sums = self._sums(block, pipeline, step, constants)
        if not self.links or self.stored:
            biases = rom(pipeline, "bias", *constants["bias"], group, before)
            sums = self._accumulate(m, block, pipeline, sums, biases, group, chunk, before, self.shape)

        if op.dyadic:
            scale = rom(pipeline, "scale", *constants["scale"], group, before + 1)
            sums = pipeline.each(lambda own, a, s: own.register(a * s, "scaled"), sums, scale)
        _, rounding = rounded_bias(op)
        lanes = pipeline.each(lambda own, a: own.result(a, op.shift, op.o, rounding, 0 if op.relu else None), sums)
        pipeline.finish(lanes, block.i.payload.first, block.i.payload.last, block.i.valid & last_chunk, self.latency)

    def _late(self, block, pipeline, group):
        """The factors [lanes][terms], each as late as its link. A beat that is held is taken late, not delayed."""
        found = []
        for lane, link in zip(block.i.payload.data, self.links, strict=True):
            late = self.lookup + link.skew
            if not self.holds or late > self.groups:
                found.append(pipeline.register(lane, "x", late))
                continue
            x = Signal.like(lane, name="x", reset_less=True)
            with pipeline.m.If(pipeline.moves & (group == late - 1)):
                pipeline.m.d.sync += x.eq(lane)
            if counted():
                later(x, lane, late)
            found.append(x)
        return [found] * self.lanes

    def _sums(self, block, pipeline, step, constants):
        """Of every output lane the sum of its in_lanes products."""
        op, in_lanes, out_lanes = self.op, self.in_lanes, self.lanes
        x = pipeline.each(lambda own, lane: own.register(lane, "x", self.lookup), block.i.payload.data)
        if self.graph:
            return adder_graph.hardware(pipeline, self.graph, x, op.i)
        twice = out_lanes // 2 * 2 if self.paired else 0
        weights = rom(pipeline, "weight", *constants["weight"], step, self.lookup)
        by_lane = [weights[j * in_lanes:(j + 1) * in_lanes] for j in range(out_lanes)]
        field = pairs.field_bits(op.weight, op.i)
        products = pipeline.each(
            lambda own, low, stored: own.each(lambda one, *factors: pairs.products(one, *factors, field), low, stored, x),
            by_lane[:twice:2], by_lane[1:twice:2])
        both = pipeline.each(lambda own, pair: [adder_tree(own, list(lane), "tree") for lane in zip(*pair, strict=True)],
                             products)
        alone = pipeline.each(lambda own, lane: weighted_sum(own, lane, x, self.products, self.halved), by_lane[twice:])
        return [total for pair in both for total in pair] + alone

    def _accumulate(self, m, block, pipeline, sums, bias, group, chunk, before, shape):
        """Per output lane, bias plus the sums of all chunks so far; one step."""
        if self.chunks == 1:
            return pipeline.each(lambda own, s, b: own.register(s + b, "acc", shape=shape), sums, bias)
        start = pipeline.register(chunk == 0, "acc_start", before)
        live = pipeline.flag(block.i.valid, "acc_live", before)
        if self.groups == 1:
            return pipeline.each(lambda own, s, b: accumulate(own.m, own, s, b, start, live, shape), sums, bias)
        # A group's sum is read a step before it is needed: its last write was at least `groups` steps ago.
        m.submodules.accumulators = memory = Memory(shape=unsigned(shape.width * len(sums)), depth=self.groups, init=[])
        read, write = memory.read_port(domain="comb"), memory.write_port()
        at = pipeline.register(group, "acc_group", before - 1)
        word, bits = pipeline.register(read.data, "so_far"), shape.width
        m.d.comb += [read.addr.eq(at), write.addr.eq(pipeline.register(at, "acc_row")), write.en.eq(pipeline.advance & live)]
        written = write.data

        def total(own, k, so_far, s, b):
            total = Signal(shape, name="total")
            own.m.d.comb += [total.eq(s + Mux(start, b, so_far)), written[k * bits:(k + 1) * bits].eq(total)]
            return own.register(total, "acc")

        parts = [word[k * bits:(k + 1) * bits].as_signed() for k in range(len(sums))]
        return pipeline.each(total, range(len(sums)), parts, sums, bias)
