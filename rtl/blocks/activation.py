"""Scalar functions of every channel: a piecewise-linear unit, or a table of every code."""

from dataclasses import dataclass

import numpy as np

from emamba.ops import Activation as Operator
from emamba.piecewise import Segments

from ..kit.block import Elementwise, shape_of
from ..kit.datapath import Pipeline, requantize, rounded_offsets, tap_format
from ..kit.hdl import Cat, Module, Signal, Value
from ..kit.registry import Stage, realizes
from ..kit.rom import rom, rom_latency

PIECEWISE_LATENCY = 4  # comparisons, slope and offset, product, sum and requantizer

TABLE_BITS = 8
"""Input bits up to which a table of a function takes less logic than comparisons, slopes and a multiplier."""


def piecewise_linear(m: Module, pipeline: Pipeline, x: Value, segments: Segments) -> Value:
    """`segments(x)`, PIECEWISE_LATENCY steps later; one multiplier."""
    above = pipeline.register(Cat(_at_least(x, int(knot)) for knot in segments.knots), "above")
    offsets, rounding = rounded_offsets(segments.offsets, segments.shift, segments.rounding)
    slope, offset = Signal(shape_of(tap_format(segments.slopes))), Signal(shape_of(tap_format(offsets)))
    count = len(segments.knots)
    with m.Switch(above):
        for k in reversed(range(count)):
            with m.Case("-" * (count - 1 - k) + "1" + "-" * k):
                m.d.comb += [slope.eq(int(segments.slopes[k + 1])), offset.eq(int(offsets[k + 1]))]
        with m.Default():
            m.d.comb += [slope.eq(int(segments.slopes[0])), offset.eq(int(offsets[0]))]
    product = pipeline.register(pipeline.register(x, "x", stages=2) * pipeline.register(slope, "slope"), "product")
    total = product + pipeline.register(offset, "offset", stages=2)
    return pipeline.register(requantize(m, total, segments.shift, segments.o, rounding), "y")


def _at_least(x: Value, knot: int) -> Value:
    """x ≥ knot, without the low bits of x where those of the knot are zero."""
    low = _unread(len(x), knot)
    return x.shift_right(low) >= (knot >> low)


def _unread(bits: int, knot: int) -> int:
    """Low bits of an x of `bits` that a comparison with `knot` leaves out; at 0 the sign is enough."""
    return min((knot & -knot).bit_length() - 1, bits - 1) if knot else bits - 1


@realizes(Operator)
@dataclass(frozen=True)
class Activation(Elementwise):
    """`lanes` channels a cycle. Segments take one multiplier a lane; with `table`, their value at every input code is a table,
    which takes none. Formats: `emamba.ops.Activation`.
    """

    op: Operator
    lanes: int
    table: bool = False

    @property
    def multipliers(self) -> int:
        return 0 if self.tabled else self.lanes

    @property
    def multiplies(self) -> int:
        return 0 if self.tabled else self.op.channels

    @property
    def tabled(self) -> bool:
        return self.table or self.op.segments is None

    @property
    def latency(self) -> int:
        return rom_latency(1 << self.op.i.bits) if self.tabled else PIECEWISE_LATENCY

    @classmethod
    def fold(cls, op: Operator, stage: Stage) -> "Activation":
        return cls(op, stage.lanes(op.width), table=stage.realization.tables and op.i.bits <= TABLE_BITS)

    def _entries(self) -> np.ndarray:
        codes = np.arange(1 << self.op.i.bits)  # two's complement: codes 0..max come first
        return self.op(np.where(codes > self.op.i.max, codes - (1 << self.op.i.bits), codes)).reshape(-1, 1)

    def circuit(self, m, block, platform):
        op = self.op
        pipeline = Pipeline(m, block.o)
        valid = pipeline.join(block.i)
        pipeline.rest(platform, valid, self.latency)
        if self.tabled:
            entries = self._entries()

            def table(own, k, x):
                return rom(own, f"table_{k}", entries, op.o, Value.cast(x), self.latency, "block")[0]

            lanes = pipeline.each(table, range(self.lanes), block.i.payload.data)
        else:
            lanes = pipeline.each(lambda own, x: piecewise_linear(own.m, own, x, op.segments), block.i.payload.data)
        pipeline.finish(lanes, block.i.payload.first, block.i.payload.last, valid, self.latency)
