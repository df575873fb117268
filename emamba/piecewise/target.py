"""What `minimax` and `least_squares` fit: the true values at the input's codes, the outer pieces, where a knot may lie."""

from functools import cached_property

import numpy as np

from ..base.errors import SettingError
from ..base.formats import IntFormat, Rounding
from .functions import Domain, Scalar, name_of, values
from .outer import at, outer
from .segments import codes

Array = np.ndarray


class Target:
    """`x`, the n input codes within the domain; `true`, the function there in output LSBs, and `y`, the same within the output's
    range; `below` and `above`, the outer pieces.

    Knots are the codes `grid`: multiples of `knot_step`, from the last one below the domain to the first one above. `start`
    gives, for each of them, the first x that is not below it (n: none).
    """

    def __init__(self, function: str | Scalar, i: IntFormat, o: IntFormat, domain: Domain, knot_step: int = 1,
                 rounding: Rounding = Rounding.HALF_UP, slope_bits: int = 12):
        self.function, self.name, self.i, self.o = function, name_of(function), i, o
        self.rounding, self.slope_bits = rounding, slope_bits
        every = codes(i)
        self.keep = (every * i.step >= domain[0]) & (every * i.step <= domain[1])
        if not self.keep.any():
            raise SettingError(f"no code of {i} lies in [{domain[0]:g}, {domain[1]:g}], the domain of {self.name}; "
                               "widen the domain")
        self.x = every[self.keep]
        self.true = values(function, self.x * i.step) / o.step
        self.y = np.clip(self.true, o.min, o.max)
        first, last = int(self.x[0]), int(self.x[-1])
        self.below, self.above = outer(function, i, o, (first * i.step, last * i.step))
        self.grid = np.arange(first // knot_step, -(-(last + 1) // knot_step) + 1) * knot_step
        self.start = np.clip(self.grid - first, 0, len(self.x))

    @cached_property
    def below_error(self) -> Array:
        """|outer piece − true| at every x, in output LSBs, before rounding."""
        return np.abs(at(self.below, self.x, self.o) - self.y)

    @cached_property
    def above_error(self) -> Array:
        return np.abs(at(self.above, self.x, self.o) - self.y)
