"""The paper's rule: walk from the left; each segment is the chord extended until its largest relative error is 3 %."""

from functools import lru_cache

import numpy as np

from ..base.errors import SettingError
from .functions import Scalar, name_of, values

Array = np.ndarray

DOMAINS = {"silu": (-7.0, 7.0), "exp": (-4.0, 1.0), "softplus": (-7.0, 7.0), "sigmoid": (-7.0, 7.0)}
"""Paper for SiLU and exp; our choice for softplus and sigmoid."""

# A chord across a zero of the function has unbounded relative error; below this absolute error any chord is accepted.
# 40 times finer than half an INT8 step at 2^−7, and the value at which SiLU takes the paper's 17 segments.
FLOOR = 1e-4


def _error(function: str | Scalar, a: float, b: Array, tolerance: float, floor: float) -> Array:
    """Largest error of the chords a..b as a fraction of what is allowed; `b` is an array."""
    part = np.linspace(0.0, 1.0, 257)
    x = a + (b[:, None] - a) * part
    true = values(function, x)
    if not np.isfinite(true).all():
        raise SettingError(f"{name_of(function)} is not finite at {x[~np.isfinite(true)][0]:g}; narrow the domain of its chords")
    line = true[:, :1] + (true[:, -1:] - true[:, :1]) * part
    return (np.abs(line - true) / np.maximum(tolerance * np.abs(true), floor)).max(-1)


@lru_cache(maxsize=32)
def chords(function: str | Scalar, low: float, high: float, tolerance: float, floor: float = FLOOR) -> tuple[Array, Array, Array]:
    """Knots, m, c; an absolute error below `floor` is allowed. Ends are searched upwards, since the error is not monotone across
    an inflection."""
    name = name_of(function)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise SettingError(f"the chord rule for {name} needs a finite domain, not [{low:g}, {high:g}]")
    if not tolerance > 0:
        raise SettingError(f"the chord rule for {name} needs a relative error above 0, not {tolerance:g}")
    knots = [low]
    while knots[-1] < high:
        inside, end = knots[-1], high
        for _ in range(4):
            ends = np.linspace(inside, end, 130)[1:]
            bad = _error(function, knots[-1], ends, tolerance, floor) > 1.0
            if not bad.any():
                inside = end
                break
            first = int(bad.argmax())
            inside, end = (float(ends[first - 1]) if first else inside), float(ends[first])
        if inside == knots[-1]:
            raise SettingError(f"the chord rule takes no function that jumps, as {name} does at {inside:g}; use the rule minimax")
        knots.append(inside)
    x = np.array(knots)
    y = values(function, x)
    m = np.diff(y) / np.diff(x)
    return x, m, y[:-1] - m * x[:-1]
