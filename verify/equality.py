"""Arithmetic units against their specification: by induction for every input, or over every input there is.

The requantizer's specification is the definition of a rounded quotient, not the shifts that both the model and the hardware use.
The others run as Verilated hardware on all codes, and must give what `emamba.ops` gives.
"""

from collections import deque
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from amaranth.hdl import Module, Mux, Signal, signed

from emamba.artifact import Artifact
from emamba.base.formats import IntFormat, Rounding
from emamba.ops import Activation as ActivationOp
from emamba.ops import Scan as ScanOp
from emamba.piecewise import Segments, codes, fit
from rtl.blocks.activation import PIECEWISE_LATENCY, Activation, piecewise_linear
from rtl.blocks.range_norm import RangeNorm
from rtl.blocks.scan import Scan
from rtl.kit import packing, pairs
from rtl.kit.block import Elementwise, Port, Spec, shape_of
from rtl.kit.datapath import Pipeline, requantize
from sim import cases
from sim.native import NativeSimulation

from .prove import Bench

BUILD = Path("build/native")


class Requantizer(Bench):
    """For every x of `bits`: y is the one integer with
        half_up     2^s·y − 2^(s−1) ≤ x < 2^s·y + 2^(s−1)
        half_even   |x − 2^s·y| ≤ 2^(s−1), where y is even if both sides are equal
        truncate    2^s·y ≤ x < 2^s·(y + 1)
    or, where that lies outside `o`, the nearest end of `o`."""

    unroll = 3

    def __init__(self, bits: int, shift: int, rounding: Rounding, o: IntFormat, low: int | None = None, make=requantize):
        super().__init__()
        self.bits, self.shift, self.rounding, self.o, self.low, self.make = bits, shift, rounding, o, low, make

    def body(self, m: Module) -> None:
        shift, o = self.shift, self.o
        low = o.min if self.low is None else self.low
        x, y = self.any(signed(self.bits), "x"), self.any(signed(self.bits + max(0, -shift) + 2), "quotient")
        s = max(shift, 0)
        error = (x << max(0, -shift)) - (y << s)  # y is any integer: of those that satisfy the definition there is one
        half = 1 << (s - 1) if s else 0
        if not s:
            right = error == 0
        elif self.rounding is Rounding.TRUNCATE:
            right = (error >= 0) & (error < (1 << s))
        elif self.rounding is Rounding.HALF_UP:
            right = (error >= -half) & (error < half)
        else:
            right = (error > -half) & (error < half) | ((error == half) | (error == -half)) & ~y[0]
        clipped = Mux(y < low, low, Mux(y > o.max, o.max, y))
        result = Signal(signed(o.bits + 2))
        m.d.comb += result.eq(self.make(m, x, shift, o, self.rounding, self.low))
        self.check(m, ~right | (result == clipped))


class PiecewiseLinear(Bench):
    """For every code x: the unit's answer, once its pipeline has filled, is the table entry that the segments say."""

    unroll = PIECEWISE_LATENCY + 4

    def __init__(self, segments: Segments, make=None):
        super().__init__()
        self.segments, self.made = segments, make or segments

    def body(self, m: Module) -> None:
        i, o = self.segments.i, self.segments.o
        x, filled = Signal(shape_of(i), reset_less=True), Signal(range(PIECEWISE_LATENCY + 2))
        code = self.any(i.bits, "code")
        with m.If(~self.live):
            m.d.always += x.eq(code)
        m.d.sync += filled.eq(Mux(filled == PIECEWISE_LATENCY + 1, filled, filled + 1))
        y = piecewise_linear(m, Pipeline(m), x, self.made)
        wanted = Signal(shape_of(o))
        with m.Switch(x):
            for code, entry in zip(codes(i).tolist(), self.segments(codes(i)).tolist(), strict=True):
                with m.Case(code):
                    m.d.comb += wanted.eq(entry)
        self.check(m, (filled != PIECEWISE_LATENCY + 1) | (y == wanted))


class PackedProduct(Bench):
    """For every low, high and x of `bits`: both products, a cycle later, equal two multipliers'."""

    unroll = 4

    def __init__(self, bits: int, make=pairs.products):
        super().__init__()
        self.bits, self.make = bits, make

    def body(self, m: Module) -> None:
        bits, least = self.bits, -(1 << (self.bits - 1))
        low, high, x = (self.any(signed(bits), name) for name in ("low", "high", "x"))
        stored, usual = Signal(signed(bits + 1)), (low != least) & (high != least)
        m.d.comb += stored.eq(high - (low < 0))
        format = IntFormat(bits)
        both = self.make(Pipeline(m), low, stored, x, pairs.field_bits(np.array([format.max]), format))
        for factor, product in zip((low, high), both, strict=True):
            wanted = Signal(signed(2 * bits))
            m.d.sync += wanted.eq(factor * x)
            before = Signal()
            m.d.sync += before.eq(usual)
            self.check(m, ~before | (product == wanted))


def requantizers() -> dict[str, Bench]:
    cases = {}
    for rounding in Rounding:
        for bits, shift in ((24, 9), (24, 0), (20, 1), (12, -3), (10, 13)):
            cases[f"INT{bits} >> {shift}, {rounding}, to INT8"] = Requantizer(bits, shift, rounding, IntFormat(8))
        cases[f"INT24 >> 11, {rounding}, to UINT7 with ReLU"] = Requantizer(24, 11, rounding, IntFormat(7, False), 0)
        cases[f"INT24 >> 5, {rounding}, to INT12"] = Requantizer(24, 5, rounding, IntFormat(12))
    return cases


def run(block: Spec, *tokens: np.ndarray) -> np.ndarray:
    """Tokens [L, width] through the Verilated hardware as one sequence."""
    simulation = NativeSimulation((Joined(block) if len(block.inputs) > 1 else block).build(), BUILD, fast=False)
    words = packing.pack(simulation.i, np.concatenate(tokens, 1)[None])
    return packing.unpack(simulation.o, simulation.run(words).output)


@dataclass(frozen=True)
class Joined(Spec):
    """A block of several inputs, each of one beat a token, fed by one input that joins them, as wide as the widest."""

    block: Spec
    stores = None

    @property
    def inputs(self) -> dict[str, Port]:
        ports = self.block.inputs.values()
        width = sum(port.width for port in ports)
        return {"i": Port(max((port.format for port in ports), key=lambda format: format.bits), width, width)}

    @property
    def output(self) -> Port:
        return self.block.output

    def circuit(self, m, block, platform):
        m.submodules.block = inner = self.block.build()
        start, ready = 0, [getattr(inner, name).ready for name in inner.inputs]
        for name, port in inner.inputs.items():
            i = getattr(inner, name)
            m.d.comb += [
                i.valid.eq(block.i.valid),
                i.payload.first.eq(block.i.payload.first),
                i.payload.last.eq(block.i.payload.last),
            ]
            for k in range(port.width):
                m.d.comb += i.payload.data[k].eq(block.i.payload.data[start + k])
            start += port.width
        m.d.comb += block.i.ready.eq(ready[0])
        m.d.comb += [block.o.valid.eq(inner.o.valid), block.o.payload.eq(inner.o.payload), inner.o.ready.eq(block.o.ready)]


def activations(artifact: Artifact) -> dict[str, ActivationOp]:
    """The piecewise-linear functions of an artifact, its scans' exp among them."""
    found = {name: op for name, op in artifact.operators.items() if isinstance(op, ActivationOp) and op.segments}
    for name, op in artifact.operators.items():
        if isinstance(op, ScanOp):
            found[f"{name} exp"] = ActivationOp(channels=1, i=op.decay.i, o=op.a_bar, segments=op.decay)
    return found


def every_code(op: ActivationOp) -> tuple[int, int, int]:
    """Codes tried, codes that differ, and segments that they reach."""
    op = replace(op, channels=1)
    x = codes(op.i)[:, None]
    y = run(Activation(op, 1), x)
    reached = len(np.unique(np.searchsorted(op.segments.knots, x, side="right")))
    return len(x), int((y != op.segments(x)).sum()), reached


def every_token(bits: int = 8) -> tuple[int, int]:
    """RangeNorm of two channels on every pair of values: every R and every n."""
    block = RangeNorm(cases.range_norm(2, IntFormat(bits, True, bits - 3)), 2)
    every = codes(block.op.i)
    x = np.stack(np.meshgrid(every, every), -1).reshape(-1, 2)
    return len(x), int((run(block, x) != block.model(x[None])[0]).sum())


def every_span(bits: int = 12, channels: int = 20) -> tuple[int, int]:
    """RangeNorm on every R, each with random values between the two ends."""
    rng = np.random.default_rng(0)
    block = RangeNorm(cases.range_norm(channels, IntFormat(bits, True, bits - 3)), channels)
    low, spans = -(1 << (bits - 1)), np.repeat(np.arange(1 << bits), 4)
    x = low + rng.integers(0, (1 << bits) - spans)[:, None] + rng.integers(0, spans[:, None] + 1, (len(spans), channels))
    x[:, 0], x[:, 1] = x.min(1), x.min(1) + spans
    x = np.clip(x, low, -low - 1)
    return len(x), int((run(block, x) != block.model(x[None])[0]).sum())


@dataclass(frozen=True)
class Pair(Elementwise):
    """The packed multiplier alone: low, high and x to low·x and high·x."""

    format: IntFormat
    latency = 1

    @property
    def inputs(self) -> dict[str, Port]:
        return {"i": Port(self.format, 3, 3)}

    @property
    def output(self) -> Port:
        return Port(IntFormat(2 * self.format.bits), 2, 2)

    def circuit(self, m, block, platform):
        pipeline = Pipeline(m, block.o)
        valid = pipeline.join(block.i)
        low, high, x = block.i.payload.data
        field = pairs.field_bits(np.array([self.format.min + 1]), self.format)
        stored = Signal(signed(self.format.bits + 1))
        m.d.comb += stored.eq(high - (low < 0))
        both = pairs.products(pipeline, low, stored, x, field)
        pipeline.finish(list(both), block.i.payload.first, block.i.payload.last, valid, self.latency)


def every_product(bits: int) -> tuple[int, int]:
    """The packed multiplier on every low, high (without the least, which no weight is) and x."""
    top = 1 << (bits - 1)
    low, high, x = (
        part.reshape(-1)
        for part in np.meshgrid(np.arange(1 - top, top), np.arange(1 - top, top), np.arange(-top, top), indexing="ij")
    )
    y = run(Pair(IntFormat(bits)), np.stack([low, high, x], 1))
    return len(x), int((y != np.stack([low * x, high * x], 1)).any(1).sum())


def small_scan(rounding: Rounding = Rounding.HALF_UP, *, saturates: bool = True) -> ScanOp:
    """A lane so small that every state meets every input: one channel, one state, formats of a few bits."""
    dt, a, B = IntFormat(3, True, 2), IntFormat(3, True, 1), IntFormat(3, True, 1)
    u = B if saturates else IntFormat(2, True, 1)
    a_bar = IntFormat(4, True, 3)
    decay = fit("exp", IntFormat(dt.bits + a.bits, True, dt.frac + a.frac), a_bar, 4)
    h = IntFormat(6 if saturates else 12, True, 2)
    return ScanOp(
        o=IntFormat(6, True, 2),
        rounding=rounding,
        A=np.array([[-2]]),
        D=np.array([3]),
        u=u,
        dt=dt,
        B=B,
        C=IntFormat(2, True, 0),
        a=a,
        d=IntFormat(3, True, 1),
        decay=decay,
        h=h,
        h_wide=IntFormat(h.bits + 2, True, h.frac + 3),
    )


def every_transition(op: ScanOp, block: Spec | None = None) -> dict[str, int]:
    """A walk on which every state that can be reached meets every input, through the hardware and the model."""
    formats = (op.u, op.dt, op.B, op.C)
    grid = np.meshgrid(*(codes(f) for f in formats), indexing="ij")
    inputs = np.stack([part.reshape(-1) for part in grid], 1)

    @cache
    def after(h: int) -> list[int]:
        """The state after each input."""
        u, dt, B, C = (inputs[:, k : k + 1] for k in range(4))
        _, state, _ = op.step(np.full((len(inputs), 1, 1), h), u, dt, B, C)
        return state.reshape(-1).tolist()

    @cache
    def neighbours(h: int) -> dict[int, int]:
        """The states after it, each with an input that leads there."""
        return {state: k for k, state in enumerate(after(h))}

    walk, left, h = [], {}, 0
    while True:
        todo = left.setdefault(h, list(range(len(inputs))))
        if todo:
            walk.append(todo.pop())
            h = after(h)[walk[-1]]
            continue
        path = _nearest(h, neighbours, lambda state: left.get(state) != [])
        if path is None:
            break
        walk += path
        for k in path:
            h = after(h)[k]
    x = inputs[walk]
    parts = [x[:, k : k + 1] for k in range(4)]
    expected = op(*(part[None] for part in parts))[0]
    y = run(block or Scan(op, 1, 1), *parts)
    return {
        "states": len(left),
        "inputs": len(inputs),
        "pairs": len(left) * len(inputs),
        "tokens": len(walk),
        "different": int((y != expected).sum()),
    }


def _nearest(start: int, neighbours, wanted) -> list[int] | None:
    """Inputs that lead from a state to the nearest one that is wanted."""
    before: dict[int, tuple[int, int]] = {start: (start, -1)}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        if wanted(state):
            path = []
            while state != start:
                state, k = before[state]
                path.append(k)
            return path[::-1]
        for found, k in neighbours(state).items():
            if found not in before:
                before[found] = (state, k)
                queue.append(found)
    return None
