"""The two outer pieces, which take what lies beyond the first and the last knot without a segment: constants or the identity."""

import numpy as np

from ..base.formats import IntFormat
from .functions import FUNCTIONS, Domain, Scalar, values
from .segments import codes

Array = np.ndarray
Line = tuple[float, float]
"""Slope in output LSBs a code, offset in output LSBs."""


STEEP = 8
"""How many times as steep as the function within the output's range the identity may be, to be an outer piece (our choice)."""


def saturates_early(function: str | Scalar, i: IntFormat, o: IntFormat) -> bool:
    """Whether the output is at its largest long before the identity is."""
    y = np.clip(values(function, codes(i) * i.step) / o.step, o.min, o.max)
    return bool(y[-1] >= o.max and i.step / o.step > STEEP * np.abs(np.diff(y)).max())


def outer(function: str | Scalar, i: IntFormat, o: IntFormat, fitted: Domain) -> tuple[Line, Line]:
    """The pieces below and above the arguments `fitted`, both ends finite.

    SiLU and softplus: 0 and the identity; exp and sigmoid: 0 and the constant of the upper end (paper for exp). Where the output
    saturates long before the identity, it is the largest output instead, so that the identity's slope does not cost the others
    their bits (our choice). Another function: the rounded constant of each end, or the identity where that meets more codes from
    there on (our choice).
    """
    identity = (i.step / o.step, 0.0)

    def constant(end: float) -> float:
        return float(np.clip(values(function, np.array(end)) / o.step, o.min, o.max))

    if isinstance(function, str):
        assert function in FUNCTIONS
        above = (0.0, constant(fitted[1])) if function in ("exp", "sigmoid") or saturates_early(function, i, o) else identity
        return (0.0, 0.0), above
    x = codes(i)
    x = x[(x * i.step >= fitted[0]) & (x * i.step <= fitted[1])]
    y = np.clip(values(function, x * i.step) / o.step, o.min, o.max)

    def pick(end: float, order: int) -> Line:
        lines = ((0.0, float(np.floor(constant(end) + 0.5))), identity)
        return max(lines, key=lambda line: _met(line, x[::order], y[::order], o))

    return pick(fitted[0], 1), pick(fitted[1], -1)


def _met(line: Line, x: Array, y: Array, o: IntFormat) -> int:
    """How many codes from the first on the line meets within half an output LSB."""
    off = np.abs(at(line, x, o) - y) > 0.5
    return int(off.argmax()) if off.any() else len(x)


def at(line: Line, x: Array, o: IntFormat) -> Array:
    """What the line gives at codes x, in output LSBs, not rounded."""
    return np.clip(line[0] * x + line[1], o.min, o.max)
