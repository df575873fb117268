"""Real lines between real knots, as `chord` and `authors` give them, become integers."""

import numpy as np

from ..base.formats import IntFormat, Rounding
from .functions import Scalar, name_of
from .outer import outer
from .segments import Segments, largest_shift, make

Array = np.ndarray


def from_lines(function: str | Scalar, i: IntFormat, o: IntFormat, knots: Array, m: Array, c: Array, rounding: Rounding,
               slope_bits: int) -> Segments:
    """Knots to the next code, and each line kept where it counts, at its segment's middle."""
    name, per_code = name_of(function), i.step / o.step
    (first, below), (last, above) = outer(function, i, o, (float(knots[0]), float(knots[-1])))
    ends = np.clip(np.ceil(knots / i.step), i.min, i.max + 1)
    keep = np.diff(ends) > 0  # segments that hold a code
    held, middle = np.diff(ends)[keep], ((knots[1:] + knots[:-1]) / 2)[keep]
    m, c = m[keep], c[keep]
    steep = (held == 1) & (np.abs(m) * per_code >= 1 << (slope_bits - 1))  # of one code only its value counts
    m, c = np.where(steep, 0.0, m), np.where(steep, m * ends[:-1][keep] * i.step + c, c)
    slopes = np.concatenate(([first], m * per_code, [last]))
    shift = largest_shift(name, i, o, slopes, slope_bits)
    rounded = np.round(slopes * 2.0**shift)
    lines = (m * middle + c) / o.step - rounded[1:-1] * 2.0**-shift * middle / i.step
    offsets = np.concatenate(([below], lines, [above]))
    return make(name, i, o, ends[np.concatenate(([True], keep))], rounded, offsets, shift, rounding)
