"""Matrix–vector product, with any folding from one multiplier to all of them."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np
from amaranth.hdl import Mux, Signal, unsigned
from amaranth.lib.memory import Memory

from emamba.base.formats import IntFormat
from emamba.ops import MULTIPLIER
from emamba.ops import Linear as Operator

from ..kit import adder_graph, pairs
from ..kit import inventory as inv
from ..kit.block import PLAIN, Port, beats, transfers
from ..kit.datapath import (
    Pipeline,
    Products,
    accumulate,
    adder_tree,
    bounded,
    fold,
    rounded_bias,
    sum_inventory,
    tap_format,
    tree_inventory,
    weighted_sum,
    width_of,
)
from ..kit.registry import Stage, realizes
from ..kit.rom import memory_inventory, rom
from .weighted import Weighted


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

    @cached_property
    def paired(self) -> bool:
        return self.products in (Products.PAIRS, Products.CONSTANTS) and pairs.possible(self.op.weight, self.op.i)

    @classmethod
    def fold(cls, op: Operator, stage: Stage) -> "Linear":
        """That with chunks × groups ≤ budget."""
        outputs, inputs = op.weight.shape
        choices = []
        for chunks in range(1, min(inputs, stage.budget) + 1):
            in_lanes = ceil(inputs / chunks)
            out_lanes = ceil(outputs / min(stage.budget // beats(inputs, in_lanes), outputs))
            preferred = out_lanes if stage.order == "emit" else in_lanes
            choices.append(((in_lanes + op.dyadic) * out_lanes, preferred, chunks, in_lanes, out_lanes))
        return cls(op, *min(choices)[-2:], stage.products)

    @cached_property
    def cycles(self) -> int:
        return self.chunks * self.groups

    def schedule(self, arrivals):
        taken = transfers(arrivals, self.groups)
        final = taken[self.chunks - 1::self.chunks]
        return taken, [t - self.groups + 1 + g + self.latency for t in final for g in range(self.groups)]

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
        if self.graph is None:
            found["weight"] = self._stored_rows(op).reshape(self.cycles, -1), bounded(int(np.abs(op.weight).max()))
        if op.dyadic:
            found["scale"] = fold(op.multiplier, self.groups, self.lanes), MULTIPLIER
        return found

    def inventory(self, options=PLAIN) -> inv.Inventory:
        op, groups, out_lanes = self.op, self.groups, self.lanes
        before = self.latency - 2 - op.dyadic
        bias, rounding = rounded_bias(op)
        bits = width_of(op.bound + int((bias - op.bias).max())).width
        shared = memory_inventory(self, "bias", before, options)
        if self.chunks > 1:
            shared += inv.register(1, before) + inv.register(1) * before + inv.Inventory(operand_muxes=bits * out_lanes)
            if groups > 1:
                shared += (inv.ram(groups, bits * out_lanes, held=True) + inv.register(inv.width(groups), before - 1)
                           + inv.register(inv.width(groups)))
        scaled, scale = bits, inv.Inventory()
        if op.dyadic:
            scaled = bits + inv.signed_bits(MULTIPLIER)
            scale = inv.product(bits, inv.signed_bits(MULTIPLIER))
            shared += memory_inventory(self, "scale", before + 1, options)
        unread = inv.unread(op.shift, rounding) if op.dyadic or groups > 1 or self.chunks == 1 else 0
        lane = (inv.register(bits) + scale + inv.register(op.o.bits) + inv.Inventory(registers=-unread)
                + inv.requantizer(scaled, op.shift, op.o, rounding))
        return (self._sums_inventory(bits, options) + lane * out_lanes + shared
                + inv.counter(self.cycles) + inv.counter(groups) + inv.counter(self.chunks) + inv.finish(self.latency))

    def _sums_inventory(self, bits: int, options) -> inv.Inventory:
        """Products and sums, up to the adder of the bias or of the sum so far, which has `bits`."""
        def summed(widths):
            tree, left = tree_inventory(widths)
            return tree + inv.total([*left, bits])[0]

        op, in_lanes, out_lanes = self.op, self.in_lanes, self.lanes
        x = inv.register(op.i.bits * in_lanes, self.lookup)
        if self.graph:
            return x + inv.Inventory(adders=bits * out_lanes) + adder_graph.inventory(self.graph, op.i)
        a, b, logic = bounded(int(np.abs(op.weight).max())).bits, inv.signed_bits(op.i), self.products is Products.LOGIC
        if self.paired and out_lanes > 1:
            field = pairs.field_bits(op.weight, op.i)
            pair = (inv.product(field + a, b) * in_lanes + summed([field] * in_lanes) + summed([a + b] * in_lanes)
                    + inv.Inventory(compressors=in_lanes * (a + b)))
            sums = pair * (out_lanes // 2)
        else:
            sums = inv.Inventory()
        alone = out_lanes % 2 if self.paired else out_lanes
        product, tree, left = sum_inventory(a, b, in_lanes, self.products, self.halved)
        sums += (product * in_lanes + tree + inv.total([*left, bits])[0]) * alone
        if self.cycles == 1 and not self.paired and not options.loads:
            sums += product * (-in_lanes * alone) + inv.constants(op.weight.ravel(), b, logic)
        return x + sums + memory_inventory(self, "weight", self.lookup, options)

    def circuit(self, m, block, platform):
        op, chunks, groups = self.op, self.chunks, self.groups
        pipeline, constants = Pipeline(m, block.o, block.loads, block.clips), self.constants()
        advance = pipeline.advance
        pipeline.rest(platform, block.i.valid, self.latency)

        step, group, chunk = Signal(range(chunks * groups)), Signal(range(groups)), Signal(range(chunks))
        last_group, last_chunk = group == groups - 1, chunk == chunks - 1
        m.d.comb += block.i.ready.eq(advance & last_group)
        with m.If(block.i.valid & advance):
            m.d.sync += [
                step.eq(Mux(last_group & last_chunk, 0, step + 1)),
                group.eq(Mux(last_group, 0, group + 1)),
            ]
            with m.If(last_group):
                m.d.sync += chunk.eq(Mux(last_chunk, 0, chunk + 1))

        sums = self._sums(block, pipeline, step, constants)

        before = self.latency - 2 - op.dyadic  # steps from the input to the accumulator's inputs
        bias, rounding = rounded_bias(op)
        biases = rom(pipeline, "bias", *constants["bias"], group, before)
        shape = width_of(op.bound + int((bias - op.bias).max()))
        accumulated = self._accumulate(m, block, pipeline, sums, biases, group, chunk, before, shape)

        if op.dyadic:
            scale = rom(pipeline, "scale", *constants["scale"], group, before + 1)
            accumulated = [pipeline.register(a * s, "scaled") for a, s in zip(accumulated, scale, strict=True)]
        lanes = [pipeline.result(a, op.shift, op.o, rounding, 0 if op.relu else None) for a in accumulated]
        pipeline.finish(lanes, block.i.payload.first, block.i.payload.last, block.i.valid & last_chunk, self.latency)

    def _sums(self, block, pipeline, step, constants):
        """Of every output lane the sum of its in_lanes products."""
        op, in_lanes, out_lanes = self.op, self.in_lanes, self.lanes
        x = [pipeline.register(lane, "x", self.lookup) for lane in block.i.payload.data]
        if self.graph:
            return adder_graph.hardware(pipeline, self.graph, x, op.i)
        twice = out_lanes // 2 * 2 if self.paired else 0
        weights = rom(pipeline, "weight", *constants["weight"], step, self.lookup)
        by_lane = [weights[j * in_lanes:(j + 1) * in_lanes] for j in range(out_lanes)]
        products = []
        for low, stored in zip(by_lane[:twice:2], by_lane[1:twice:2], strict=True):
            field = pairs.field_bits(op.weight, op.i)
            both = [pairs.products(pipeline, *factors, field) for factors in zip(low, stored, x, strict=True)]
            products += zip(*both, strict=True)
        sums = [adder_tree(pipeline, list(lane), "tree") for lane in products]
        return sums + [weighted_sum(pipeline, lane, x, self.products, self.halved) for lane in by_lane[twice:]]

    def _accumulate(self, m, block, pipeline, sums, bias, group, chunk, before, shape):
        """Per output lane, bias plus the sums of all chunks so far; one step."""
        if self.chunks == 1:
            return [pipeline.register(s + b, "acc", shape=shape) for s, b in zip(sums, bias, strict=True)]
        start = pipeline.register(chunk == 0, "acc_start", before)
        live = pipeline.flag(block.i.valid, "acc_live", before)
        # A group's sum is read a step before it is needed: its last write was at least `groups` steps ago.
        if self.groups > 1:
            m.submodules.accumulators = memory = Memory(shape=unsigned(shape.width * len(sums)), depth=self.groups, init=[])
            read, write = memory.read_port(domain="comb"), memory.write_port()
            at = pipeline.register(group, "acc_group", before - 1)
            word = pipeline.register(read.data, "so_far")
            m.d.comb += [read.addr.eq(at), write.addr.eq(pipeline.register(at, "acc_row")), write.en.eq(pipeline.advance & live)]
            so_far = [word[k * shape.width:(k + 1) * shape.width].as_signed() for k in range(len(sums))]
        accumulators = []
        for k, (s, b) in enumerate(zip(sums, bias, strict=True)):
            if self.groups == 1:
                accumulators.append(accumulate(m, pipeline, s, b, start, live, shape))
                continue
            total = Signal(shape, name="total")
            m.d.comb += [total.eq(s + Mux(start, b, so_far[k])), write.data[k * shape.width:(k + 1) * shape.width].eq(total)]
            accumulators.append(pipeline.register(total, "acc"))
        return accumulators
