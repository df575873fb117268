"""The integer form of a piecewise-linear function, which the integer model and the hardware share."""

from dataclasses import dataclass

import numpy as np

from ..base.arithmetic import piecewise_linear
from ..base.errors import DesignLimit
from ..base.formats import IntFormat, Rounding

Array = np.ndarray

MAX_BITS = 18  # tables over every code stay small, and a slope fits one DSP multiplier
_MAX_SHIFT = 28  # finer slopes than 2^−28 LSB a code change nothing over 2^18 codes; the accumulator stays within 48 bits
_ACCUMULATOR_BITS = 48


@dataclass(frozen=True)
class Segments:
    """y = requantize(slopes[k]·x + offsets[k], shift, o) for knots[k−1] ≤ x < knots[k].

    `knots` are input codes of format `i`, increasing; the last may be i.max + 1, the first i.min: then the outer piece never
    acts. K knots bound K − 1 sloped segments; the outer pieces are constants or the identity. One step of `slopes` is 2^−shift
    output LSB a code, of `offsets` 2^−shift output LSB. With `truncate`, the offsets carry the rounding half.
    """

    knots: Array
    slopes: Array
    offsets: Array
    shift: int
    i: IntFormat
    o: IntFormat
    rounding: Rounding

    def __post_init__(self):
        count = len(self.knots)
        if not count or len(self.slopes) != count + 1 or len(self.offsets) != count + 1:
            raise DesignLimit(f"{count} knots, {len(self.slopes)} slopes and {len(self.offsets)} offsets make no segments; "
                              "K knots, at least one, need K + 1 slopes and offsets")
        if (np.diff(self.knots) <= 0).any():
            raise DesignLimit("the knots of segments must ascend")
        if not 0 <= self.shift <= _ACCUMULATOR_BITS:
            raise DesignLimit(f"the shift of segments must lie in 0..{_ACCUMULATOR_BITS}, not {self.shift}")
        if self.i.bits > 32 or np.abs(self.slopes).max() > 1 << 30:
            raise DesignLimit("the products of segments are wider than 62 bits: use fewer input bits or smaller slopes")
        for array in (self.knots, self.slopes, self.offsets):
            array.setflags(write=False)

    def __call__(self, x: Array) -> Array:
        return piecewise_linear(x, self.knots, self.slopes, self.offsets, self.shift, self.o, self.rounding)

    @property
    def segments(self) -> int:
        """Sloped segments, as the paper counts them: without the two outer pieces."""
        return len(self.knots) - 1

    @property
    def knot_step(self) -> int:
        """The largest power of two that divides every knot that acts: comparators need no bits below it."""
        acting = int(np.bitwise_or.reduce(self.knots[(self.knots > self.i.min) & (self.knots <= self.i.max)]))
        return acting & -acting or 1 << self.i.bits - 1

    @property
    def bound(self) -> int:
        """Largest |slope·x|, |offset| and |slope·x + offset| over every input code: sizes product and accumulator."""
        low = np.concatenate(([self.i.min], np.clip(self.knots, self.i.min, self.i.max)))
        high = np.concatenate((np.clip(self.knots - 1, self.i.min, self.i.max), [self.i.max]))
        product = np.stack((self.slopes * low, self.slopes * high))
        return int(max(abs(product).max(), abs(self.offsets).max(), abs(product + self.offsets).max()))


class TooSteep(DesignLimit):
    """A slope is wider than it may be."""


def codes(i: IntFormat) -> Array:
    """Every input code, ascending."""
    return np.arange(i.min, i.max + 1, dtype=np.int64)


def largest_shift(name: str, i: IntFormat, o: IntFormat, slopes: Array, slope_bits: int) -> int:
    """The largest shift at which every slope, in output LSBs a code, fits slope_bits."""
    steepest = max(float(np.abs(slopes).max()), 2.0**-64)
    shift = int(np.floor(np.log2(((1 << (slope_bits - 1)) - 1) / steepest)))
    if shift < 0:
        raise TooSteep(f"{name} from {i} to {o} climbs {steepest:.0f} output steps an input step, more than a slope of "
                       f"{slope_bits} bits holds; use fewer fraction bits in the output, more in the input, or wider slopes")
    return min(shift, _MAX_SHIFT)


def make(name: str, i: IntFormat, o: IntFormat, knots: Array, slopes: Array, offsets: Array, shift: int,
         rounding: Rounding) -> Segments:
    """`slopes` are integers already; `offsets` are still in output LSBs."""
    half = 0.5 if rounding is Rounding.TRUNCATE and shift > 0 else 0.0
    scaled = np.round((offsets + half) * 2.0**shift)
    if np.abs(scaled).max() >= 1 << (_ACCUMULATOR_BITS - 1):
        raise DesignLimit(f"{name} from {i} to {o} needs offsets of more than {_ACCUMULATOR_BITS} bits; "
                          f"use fewer fraction bits in the output")
    return Segments(knots.astype(np.int64), slopes.astype(np.int64), scaled.astype(np.int64), shift, i, o, rounding)
