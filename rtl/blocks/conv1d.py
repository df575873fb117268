"""Causal depthwise convolution over tokens."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np

from emamba.base.formats import IntFormat
from emamba.ops import MULTIPLIER
from emamba.ops import Conv1d as Operator

from ..kit import adder_graph, cascade
from ..kit.block import beats, transfers
from ..kit.datapath import (
    Pipeline,
    Products,
    accumulate,
    choose,
    fold,
    rounded_bias,
    tap_format,
    weighted_sum,
)
from ..kit.hdl import Memory, Mux, Signal, unsigned
from ..kit.parity import decode, encode
from ..kit.registry import Stage, realizes
from ..kit.rom import rom
from .weighted import Weighted


@realizes(Operator)
@dataclass(frozen=True)
class Conv1d(Weighted):
    """`lanes` channels × `tap_lanes` taps a cycle; a token takes ceil(channels / lanes) · ceil(taps / tap_lanes) cycles. The
    taps − 1 tokens before the current one are kept per channel and count as zero where `first` is set. With `constants`, where a
    token takes one cycle, the weights are wired in as one graph of adders. Formats, rounding and bounds:
    `emamba.ops.Conv1d`.
    """

    stores = "convolution history"

    op: Operator
    lanes: int
    tap_lanes: int
    products: Products = Products.MULTIPLIERS

    @property
    def taps(self) -> int:
        return self.op.weight.shape[1]

    @property
    def terms(self) -> int:
        return self.tap_lanes

    @property
    def groups(self) -> int:
        return beats(self.taps, self.tap_lanes)

    @property
    def accumulates(self) -> bool:
        return self.groups > 1

    @cached_property
    def graph(self):
        return adder_graph.solve(of_channels(self.op.weight), self.op.i) if self.constant else None

    @classmethod
    def fold(cls, op: Operator, stage: Stage) -> "Conv1d":
        """That with groups of channels × groups of taps ≤ budget."""
        width, taps = op.weight.shape
        choices = []
        for groups in range(1, min(taps, stage.budget) + 1):
            tap_lanes = ceil(taps / groups)
            lanes = ceil(width / min(width, stage.budget // beats(taps, tap_lanes)))
            choices.append((lanes * (tap_lanes + op.dyadic), lanes, groups, tap_lanes))
        _, lanes, _, tap_lanes = min(choices)
        return cls(op, lanes, tap_lanes, stage.products)

    @cached_property
    def cycles(self) -> int:
        return self.output.beats * self.groups

    @property
    def state(self) -> tuple[int, int]:
        """Rows of the tokens kept, and bits of a row."""
        return self.output.beats, self.lanes * (self.taps - 1) * self.op.i.bits

    @property
    def settle(self) -> int:
        """Steps from the input to the taps: one where the weights take more, so that no path goes from a FIFO to the history."""
        return int(self.lookup > 1 and self.output.beats > 1)

    def schedule(self, arrivals):
        taken = transfers(arrivals, self.groups)
        return taken, taken + self.latency

    def _weight_rows(self, op: Operator) -> np.ndarray:
        """[cycles, lanes·tap_lanes]."""
        by_lane = fold(op.weight, self.output.beats, self.lanes).transpose(2, 0, 1)  # taps, beats, lanes
        return fold(by_lane, self.groups, self.tap_lanes).transpose(2, 0, 3, 1).reshape(self.cycles, -1)

    def constants(self, op: Operator | None = None) -> dict[str, tuple[np.ndarray, IntFormat]]:
        """By name, the rows of every constant memory and their format; of another operator, where one is given."""
        op, places = op or self.op, (self.output.beats, self.lanes)
        bias, _ = rounded_bias(op)
        found = {"bias": (fold(bias, *places), tap_format(bias))}
        if self.links:
            found |= cascade.by_skew(self._weight_rows(op).reshape(self.cycles, self.lanes, -1), self.element, self.links)
        elif self.graph is None:
            found["weight"] = self._weight_rows(op), tap_format(op.weight)
        if op.dyadic:
            found["scale"] = fold(op.multiplier, *places), MULTIPLIER
        return found

    def circuit(self, m, block, platform):
        op, lanes, taps, groups, tap_lanes = self.op, self.lanes, self.taps, self.groups, self.tap_lanes
        token_beats, bits = self.output.beats, op.i.bits
        pipeline, constants = Pipeline(m, block.o, block.loads, block.clips), self.constants()
        advance, register = pipeline.advance, pipeline.register
        pipeline.rest(platform, block.i.valid, self.latency)
        step, beat, group = Signal(range(self.cycles)), Signal(range(token_beats)), Signal(range(groups))
        last_group, last_beat = group == groups - 1, beat == token_beats - 1
        m.d.comb += block.i.ready.eq(advance & last_group)
        with m.If(block.i.valid & advance):
            m.d.sync += [
                step.eq(Mux(last_group & last_beat, 0, step + 1)),
                group.eq(Mux(last_group, 0, group + 1)),
            ]
            with m.If(last_group):
                m.d.sync += beat.eq(Mux(last_beat, 0, beat + 1))

        data = pipeline.each(lambda own, x: own.register(x, "newest", self.settle), block.i.payload.data)
        windows = [[x] for x in data]
        if taps > 1:
            row = unsigned(lanes * (taps - 1) * bits)
            past, kept = Signal(row, name="past"), Signal(row, name="kept")
            self._history(m, block, pipeline, past, kept, beat)
            for lane, x in enumerate(data):
                base = lane * (taps - 1) * bits
                slices = [past[base + k * bits:base + (k + 1) * bits] for k in range(taps - 1)]
                windows[lane] = [s.as_signed() if op.i.signed else s for s in slices] + [x]
                for k, value in enumerate(windows[lane][1:]):
                    m.d.comb += kept[base + k * bits:base + (k + 1) * bits].eq(value)

        chosen = register(group, "chosen_group", self.settle)
        late = [self.lookup - self.settle + link.skew for link in self.links] or [self.lookup - self.settle] * tap_lanes
        held = [[pipeline.register(tap, "tap", steps)
                 for tap, steps in zip(choose(m, window, chosen, groups, tap_lanes), late, strict=True)] for window in windows]
        before = self.latency - 2 - op.dyadic
        _, rounding = rounded_bias(op)
        if self.links:
            sums = self.cascaded(pipeline, constants, step, beat, group == 0, block.i.valid, held)
        else:
            sums = self._sums(pipeline, constants, step, held)
            biases = rom(pipeline, "bias", *constants["bias"], beat, before)
            start = register(group == 0, "start", before)
            live = pipeline.flag(block.i.valid, "live", before)
            sums = pipeline.each(lambda own, s, b: accumulate(own.m, own, s, b, start, live, self.shape) if groups > 1
                                 else own.register(s + b, "acc", shape=self.shape), sums, biases)
        if op.dyadic:
            scale = rom(pipeline, "scale", *constants["scale"], beat, before + 1)
            sums = pipeline.each(lambda own, s, k: own.register(s * k, "scaled"), sums, scale)
        results = pipeline.each(lambda own, s: own.result(s, op.shift, op.o, rounding), sums)
        pipeline.finish(results, block.i.payload.first, block.i.payload.last, block.i.valid & last_group, self.latency)

    def _sums(self, pipeline, constants, step, held):
        """Of every lane the sum of its products."""
        if self.graph:
            return adder_graph.hardware(pipeline, self.graph, [tap for lane in held for tap in lane], self.op.i)
        weights = rom(pipeline, "weight", *constants["weight"], step, self.lookup)
        by_lane = [weights[lane * self.tap_lanes:(lane + 1) * self.tap_lanes] for lane in range(self.lanes)]
        return pipeline.each(lambda own, *lane: weighted_sum(own, *lane, self.products, self.halved), by_lane, held)

    def _history(self, m, block, pipeline, past, kept, beat):
        """`past` are the taps before the token, 0 before the first, `settle` steps after its beat; `kept` those before the next
        one."""
        taken = block.i.valid & block.i.ready
        first = block.i.payload.first
        if self.output.beats == 1 and block.carries:
            row = Signal.like(past, name="row")
            with m.If(taken):
                m.d.sync += row.eq(kept)
            if block.window:
                with m.If(block.window.write):
                    m.d.sync += row.eq(block.window.connect(m, row))
            m.d.comb += past.eq(Mux(first, 0, row))
            return
        if self.output.beats == 1:  # registers, cleared behind the last token: clearing costs nothing there
            with m.If(taken & block.i.payload.last):
                m.d.sync += past.eq(0)
            with m.Elif(taken):
                m.d.sync += past.eq(kept)
            return
        parity = block.fault is not None
        m.submodules.history = history = Memory(shape=unsigned(len(past) + parity), depth=self.output.beats, init=[])
        read, write = history.read_port(domain="comb"), history.write_port()
        row, fresh = (pipeline.register(value, name, self.settle) for value, name in (
            (decode(read.data, parity), "row"), (first, "fresh")))
        m.d.comb += [
            read.addr.eq(beat), write.addr.eq(pipeline.register(beat, "write_row", self.settle)),
            write.en.eq(pipeline.advance & pipeline.flag(taken, "written", self.settle)), write.data.eq(encode(kept, parity)),
            past.eq(Mux(fresh, 0, row)),
        ]
        if parity:
            m.d.comb += block.fault.eq(taken & ~first & read.data.xor())
        if block.window:
            block.window.connect_memory(m, read, write)


def of_channels(weight: np.ndarray, by_tap: bool = False) -> np.ndarray:
    """[channels, channels · taps], so that channel by channel its taps meet its weights; or `by_tap` its channels."""
    channels, taps = weight.shape
    matrix = np.zeros((channels, channels, taps), np.int64)
    matrix[np.arange(channels), np.arange(channels)] = weight
    return (matrix.swapaxes(1, 2) if by_tap else matrix).reshape(channels, -1)
