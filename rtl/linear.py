"""Matrix–vector product, with any folding from one multiplier to all of them."""

import numpy as np
from amaranth.hdl import Array, Module, Mux, Signal

from emamba.operators import MULTIPLIER
from emamba.operators import Linear as Operator

from . import adder_graph, pairs
from . import inventory as inv
from .datapath import (
    TREE_FANIN,
    Pipeline,
    Products,
    adder_tree,
    bounded,
    fold,
    requantize,
    rom,
    rounded_bias,
    tap_format,
    tree_stages,
    width_of,
)
from .streams import Block, Port, transfers


class Linear(Block):
    """y = requantize(W·x + b) with `in_lanes` × `out_lanes` multipliers.

    A token's input arrives in `chunks` beats; each beat is held for `groups` cycles, in which it meets the weights of every
    group of outputs. With one chunk the outputs leave group by group, each a full dot product; with one group all outputs
    accumulate while the input arrives. Any folding in between is possible; a token takes chunks × groups cycles.
    With `pairs`, outputs two by two share a multiplier where their formats fit it. With `constants`, where a token takes one
    cycle, the weights are wired in as one graph of adders.
    Formats, rounding and bounds: `emamba.operators.Linear`.
    """

    def __init__(self, op: Operator, in_lanes: int, out_lanes: int, products: Products = Products.MULTIPLIERS):
        self.op = op
        out, inputs = op.weight.shape
        constant = products is Products.CONSTANTS and (in_lanes, out_lanes) == (inputs, out)
        self.graph = adder_graph.solve(op.weight, op.i) if constant else None
        self.paired = products is not Products.MULTIPLIERS and pairs.possible(op.weight, op.i)
        super().__init__({"i": Port(op.i, inputs, in_lanes)}, Port(op.o, out, out_lanes))
        self.chunks, self.groups = self.inputs["i"].beats, self.output.beats
        self.multipliers = out_lanes * ((0 if constant else in_lanes) + op.dyadic)
        self.multiplies = op.multiplies - (op.weight.size if constant else 0)

    def model(self, x):
        return self.op(x)

    @property
    def cycles(self) -> int:
        return self.chunks * self.groups

    @property
    def latency(self) -> int:
        """Cycles from a step to its output: weights, products and adder tree, or adder graph; accumulator, (multiplier,)
        requantizer."""
        sums = 1 + adder_graph.stages(self.graph) if self.graph else 2 + tree_stages(self.inputs["i"].lanes)
        return sums + 2 + self.op.dyadic

    def schedule(self, arrivals):
        taken = transfers(arrivals, self.groups)
        final = taken[self.chunks - 1::self.chunks]
        return taken, [t - self.groups + 1 + g + self.latency for t in final for g in range(self.groups)]

    def weight_rows(self) -> np.ndarray:
        """ROM rows, one per step: [chunks·groups, out_lanes·in_lanes]."""
        in_lanes, out_lanes = self.inputs["i"].lanes, self.output.lanes
        by_group = fold(self.op.weight, self.groups, out_lanes).transpose(2, 0, 1)  # in, groups, out_lanes
        by_chunk = fold(by_group, self.chunks, in_lanes)  # chunks, in_lanes, groups, out_lanes
        return by_chunk.transpose(0, 2, 3, 1).reshape(self.chunks * self.groups, -1)

    @property
    def inventory(self) -> inv.Inventory:
        op, groups, out_lanes = self.op, self.groups, self.output.lanes
        before = self.latency - 2 - op.dyadic
        bias, rounding = rounded_bias(op)
        bits = width_of(op.bound + int((bias - op.bias).max())).width
        start = (inv.register(1, before) + inv.register(1) * before + inv.register(inv.width(groups), before)
                 if self.chunks > 1 else inv.Inventory())
        bank = inv.Inventory(muxes=bits * groups, registers=bits * groups) if self.chunks > 1 else inv.Inventory()
        held = inv.register(bits) if self.chunks == 1 or groups > 1 else inv.Inventory()
        scaled, scale = bits, inv.Inventory()
        if op.dyadic:
            scaled = bits + inv.signed_bits(MULTIPLIER)
            scale = inv.product(bits, inv.signed_bits(MULTIPLIER))
        lane = (inv.Inventory(adders=bits) + bank + held + scale + inv.register(op.o.bits)
                + inv.requantizer(scaled, op.shift, op.o, rounding))
        return (self._sums_inventory() + lane * out_lanes + start + inv.rom(groups, out_lanes * tap_format(bias).bits)
                + inv.rom(groups, out_lanes * MULTIPLIER.bits * op.dyadic) + inv.register(inv.width(groups), before - 1)
                + inv.counter(self.cycles) + inv.counter(groups) + inv.counter(self.chunks) + inv.finish(self.latency))

    def _sums_inventory(self) -> inv.Inventory:
        op, in_lanes, out_lanes = self.op, self.inputs["i"].lanes, self.output.lanes
        x = inv.register(op.i.bits * in_lanes)
        if self.graph:
            return x + adder_graph.inventory(self.graph, op.i)
        a, b = bounded(int(np.abs(op.weight).max())).bits, inv.signed_bits(op.i)
        if self.paired and out_lanes > 1:
            field = pairs.field_bits(op.weight, op.i)
            low, _ = inv.tree([field] * in_lanes, TREE_FANIN)
            high, _ = inv.tree([a + b] * in_lanes, TREE_FANIN)
            pair = inv.product(field + a, b) * in_lanes + low + high + inv.Inventory(compressors=in_lanes)
            sums = pair * (out_lanes // 2)
        else:
            sums = inv.Inventory()
        alone = out_lanes % 2 if self.paired else out_lanes
        tree, _ = inv.tree([a + b] * in_lanes, TREE_FANIN)
        sums += (inv.product(a, b) * in_lanes + tree) * alone
        if self.cycles == 1 and not self.paired:
            sums += inv.product(a, b) * (-in_lanes * alone) + inv.constants(op.weight.ravel(), b)
        return x + sums + inv.rom(self.cycles, in_lanes * out_lanes * a)

    def elaborate(self, platform):
        m = Module()
        op, chunks, groups = self.op, self.chunks, self.groups
        out_lanes = self.output.lanes
        pipeline = Pipeline(m, self.o)
        advance = pipeline.advance

        step, group, chunk = Signal(range(chunks * groups)), Signal(range(groups)), Signal(range(chunks))
        last_group, last_chunk = group == groups - 1, chunk == chunks - 1
        m.d.comb += self.i.ready.eq(advance & last_group)
        with m.If(self.i.valid & advance):
            m.d.sync += [
                step.eq(Mux(last_group & last_chunk, 0, step + 1)),
                group.eq(Mux(last_group, 0, group + 1)),
            ]
            with m.If(last_group):
                m.d.sync += chunk.eq(Mux(last_chunk, 0, chunk + 1))

        sums = self._sums(m, pipeline, step)

        before = self.latency - 2 - op.dyadic  # steps from the input to the accumulator's inputs
        bias, rounding = rounded_bias(op)
        group_rows = fold(bias, groups, out_lanes)
        biases = rom(m, "bias", group_rows, tap_format(bias), pipeline.register(group, "bias_group", before - 1), advance)
        shape = width_of(op.bound + int((bias - op.bias).max()))
        accumulated = self._accumulate(m, pipeline, sums, biases, group, chunk, before, shape)

        if op.dyadic:
            scale = rom(m, "scale", fold(op.multiplier, groups, out_lanes), MULTIPLIER,
                        pipeline.register(group, "scale_group", before), advance)
            accumulated = [pipeline.register(a * s, "scaled") for a, s in zip(accumulated, scale, strict=True)]
        lanes = [pipeline.register(requantize(m, a, op.shift, op.o, rounding, 0 if op.relu else None), "y")
                 for a in accumulated]
        pipeline.finish(lanes, self.i.payload.first, self.i.payload.last, self.i.valid & last_chunk, self.latency)
        return m

    def _sums(self, m, pipeline, step):
        """Of every output lane the sum of its in_lanes products."""
        op, in_lanes, out_lanes = self.op, self.inputs["i"].lanes, self.output.lanes
        x = [pipeline.register(lane, "x") for lane in self.i.payload.data]
        if self.graph:
            return adder_graph.hardware(pipeline, self.graph, x, op.i)
        rows = self.weight_rows().reshape(-1, out_lanes, in_lanes)
        twice = out_lanes // 2 * 2 if self.paired else 0
        rows[:, 1:twice:2] = pairs.encode(rows[:, :twice:2], rows[:, 1:twice:2])
        element = bounded(int(np.abs(op.weight).max()))
        weights = rom(m, "weight", rows.reshape(len(rows), -1), element, step, pipeline.advance)
        by_lane = [weights[j * in_lanes:(j + 1) * in_lanes] for j in range(out_lanes)]
        products = []
        for low, stored in zip(by_lane[:twice:2], by_lane[1:twice:2], strict=True):
            field = pairs.field_bits(op.weight, op.i)
            both = [pairs.products(pipeline, *factors, field) for factors in zip(low, stored, x, strict=True)]
            products += zip(*both, strict=True)
        for lane in by_lane[twice:]:
            products.append([pipeline.register(w * value, "product") for w, value in zip(lane, x, strict=True)])
        return [adder_tree(pipeline, list(lane), "tree") for lane in products]

    def _accumulate(self, m, pipeline, sums, bias, group, chunk, before, shape):
        """Per output lane, bias plus the sums of all chunks so far; one step."""
        if self.chunks == 1:
            return [pipeline.register(s + b, "acc", shape=shape) for s, b in zip(sums, bias, strict=True)]
        start = pipeline.register(chunk == 0, "acc_start", before)
        live = pipeline.flag(self.i.valid, "acc_live", before)
        at = pipeline.register(group, "acc_group", before)
        accumulators = []
        for s, b in zip(sums, bias, strict=True):
            bank = Array(Signal(shape, name=f"acc_{g}", reset_less=True) for g in range(self.groups))
            total = Signal(shape, name="total")
            m.d.comb += total.eq(s + Mux(start, b, bank[at]))
            with m.If(pipeline.advance & live):
                m.d.sync += bank[at].eq(total)
            accumulators.append(pipeline.register(total, "acc") if self.groups > 1 else bank[0])
        return accumulators


