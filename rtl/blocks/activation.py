"""Scalar functions of every channel: a piecewise-linear unit, or a table of every code."""

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Cat, Module, Signal, Value

from emamba.ops import Activation as Operator
from emamba.piecewise import Segments

from ..kit import inventory as inv
from ..kit.block import PLAIN, Elementwise, shape_of
from ..kit.datapath import Pipeline, requantize, rounded_offsets, tap_format
from ..kit.registry import Stage, realizes
from ..kit.rom import rom, rom_inventory, rom_latency

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


def piecewise_inventory(bits: int, segments: Segments) -> inv.Inventory:
    """Of `piecewise_linear` for an x of `bits`."""
    knots, slope, offset = len(segments.knots), tap_format(segments.slopes), tap_format(segments.offsets)
    a, b = inv.signed_bits(slope), offset.bits
    slopes, offsets = inv.columns(segments.slopes, slope.bits)[1], inv.columns(segments.offsets, b)[1]
    compared = sum(bits - _unread(bits, int(knot)) for knot in segments.knots)
    return (inv.Inventory(comparisons=compared, selects=knots * (slopes + offsets) // 4)
            + inv.Inventory(registers=knots + 2 * bits + slopes + 2 * offsets)
            + inv.product(bits, a) + inv.Inventory(adders=bits + a, registers=segments.o.bits)
            + inv.requantizer(max(bits + a, b) + 1, segments.shift, segments.o, segments.rounding))


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

    def inventory(self, options=PLAIN) -> inv.Inventory:
        op = self.op
        lane = (rom_inventory(self._entries(), op.o, self.latency, "block") if self.tabled
                else piecewise_inventory(inv.signed_bits(op.i), op.segments))
        return self.lanes * lane + inv.finish(self.latency)

    def circuit(self, m, block, platform):
        op = self.op
        pipeline = Pipeline(m, block.o)
        valid = pipeline.join(block.i)
        pipeline.rest(platform, valid, self.latency)
        if self.tabled:
            lanes = []
            for k, x in enumerate(block.i.payload.data):
                lanes += rom(pipeline, f"table_{k}", self._entries(), op.o, Value.cast(x), self.latency, "block")
        else:
            lanes = [piecewise_linear(m, pipeline, x, op.segments) for x in block.i.payload.data]
        pipeline.finish(lanes, block.i.payload.first, block.i.payload.last, valid, self.latency)
