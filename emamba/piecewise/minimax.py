"""The smallest largest error over the input's codes with a given number of segments (our choice).

A bisection over the error: at each level the outer pieces take what they can, and segments are extended from the left as far as
the level allows, which needs the fewest.
"""

from itertools import pairwise

import numpy as np

from .segments import Segments, largest_shift, make
from .target import Target

Array = np.ndarray

SURE = 1e-6  # LSBs, above any rounding of floating point


def minimax(target: Target, segments: int) -> Segments:
    bounds = _Bounds(target)

    def knots_at(level: float) -> list[int] | None:
        """Positions in the grid."""
        start, end = np.flatnonzero(target.below_error > level), np.flatnonzero(target.above_error > level)
        a = int(target.start.searchsorted(start[0], "right")) - 1 if len(start) else len(target.grid) - 1
        b = int(target.start.searchsorted(end[-1] + 1)) if len(end) else 0
        return [b] if a >= b else bounds.split(a, b, level, segments)

    # log2 of the error in output LSBs: the outer pieces alone meet the first, the second is fine enough
    good, bad = float(target.o.bits), -10.0
    knots = knots_at(2.0**good)
    for _ in range(12):
        middle = (good + bad) / 2
        found = knots_at(2.0**middle)
        good, bad, knots = (middle, bad, found) if found else (good, middle, knots)
    assert knots, "an error of 2^bits is always met"

    (first, below), (last, above) = target.below, target.above
    parts = [bounds.part(a, b) for a, b in pairwise(knots)]
    lines = [_best_slope(*part)[0] for part in parts]
    shift = largest_shift(target.name, target.i, target.o, np.array([first, *lines, last]), target.slope_bits)
    slopes, offsets = [np.round(first * 2.0**shift)], [below]
    for part, line in zip(parts, lines, strict=True):
        choices = []
        for slope in (np.floor(line * 2.0**shift), np.ceil(line * 2.0**shift)):
            high, low, _, _ = _gap(*part, slope * 2.0**-shift)
            finite = [v for v in (high, low) if np.isfinite(v)]
            choices.append((high - low, slope, sum(finite) / len(finite)))
        _, slope, centre = min(choices)
        slopes.append(slope)
        offsets.append(centre)
    slopes.append(np.round(last * 2.0**shift))
    offsets.append(above)
    return make(target.name, target.i, target.o, target.grid[knots], np.array(slopes), np.array(offsets), shift, target.rounding)


class _Bounds:
    """What a line must meet at each code. Where the true value saturates, only one side binds: the clip does the rest."""

    def __init__(self, target: Target):
        self.x, self.start = target.x.astype(np.float64), target.start
        self.low = np.where(target.true <= target.o.min, -np.inf, target.y)
        self.high = np.where(target.true >= target.o.max, np.inf, target.y)

    def part(self, a: int, b: int) -> tuple[Array, Array, Array]:
        """The codes between two positions in the grid, and their bounds."""
        inside = slice(self.start[a], self.start[b])
        return self.x[inside], self.low[inside], self.high[inside]

    def meets(self, a: int, b: int, level: float) -> bool:
        """Whether the best line between two positions has at most this error, on at most 65 codes: 0.1 % off at most, the final
        lines use all."""
        first, n = self.start[a], self.start[b] - self.start[a]
        at = slice(first, first + n) if n <= 65 else first + np.arange(65) * (n - 1) // 64
        x, low, high = self.x[at], self.low[at], self.high[at]
        met = _met_by_chord(x, low, high, level)
        return _best_slope(x, low, high)[1] <= level if met is None else met

    def split(self, a: int, end: int, level: float, limit: int) -> list[int] | None:
        """Longest segments from a to end that keep the error within level; None where `limit` do not suffice."""
        knots = [a]
        while knots[-1] < end:
            if len(knots) > limit:
                return None
            good, bad = knots[-1] + 1, end + 1
            if self.meets(knots[-1], end, level):
                good = end
            elif not self.meets(knots[-1], good, level):  # several codes, where knots are coarse
                return None
            while bad - good > 1 and good < end:
                middle = (good + bad) // 2
                good, bad = (middle, bad) if self.meets(knots[-1], middle, level) else (good, middle)
            knots.append(good)
        return knots


def _gap(x: Array, low: Array, high: Array, slope: float) -> tuple[float, float, int, int]:
    """The lowest offset above `low` and the highest below `high` of a line of this slope, and the points that decide them."""
    line = slope * x
    above, below = low - line, high - line
    p, q = int(above.argmax()), int(below.argmin())
    return above.item(p), below.item(q), p, q


def _met_by_chord(x: Array, low: Array, high: Array, level: float) -> bool | None:
    """Whether the best line has at most this error, where the chord of the ends tells: it is the best line of a convex function,
    and no line is nearer to both ends and the point between them that is furthest from the chord."""
    if len(x) == 1:
        return True
    (x0, low0, high0), (x1, low1, high1) = ((x.item(k), low.item(k), high.item(k)) for k in (0, -1))
    y0, y1 = low0 if low0 > -np.inf else high0, low1 if low1 > -np.inf else high1
    above, below, p, q = _gap(x, low, high, (y1 - y0) / (x1 - x0))
    if above - below <= 2 * level - SURE:
        return True
    for k in (p, q):
        share = (x.item(k) - x0) / (x1 - x0)
        if 0 < share < 1:
            over = low.item(k) - ((1 - share) * high0 + share * high1)
            under = (1 - share) * low0 + share * low1 - high.item(k)
            if max(over, under) > 2 * level + SURE:
                return False
    return None


def _best_slope(x: Array, low: Array, high: Array) -> tuple[float, float]:
    """The slope whose line is nearest to low ≤ y ≤ high in the largest error, and that error.

    The gap is convex and piecewise linear in the slope, so intersecting the tangents at both ends of a bracket ends exactly.
    """
    if len(x) == 1:
        return 0.0, 0.0
    y = np.where(np.isfinite(low), low, high)
    steps = np.diff(y) / np.diff(x)
    best = (0.0, np.inf)
    sides: list[tuple[float, float, float]] = []
    for slope in (float(steps.min()), float(steps.max())):
        above, below, p, q = _gap(x, low, high, slope)
        sides.append((slope, above - below, x.item(q) - x.item(p)))
        best = min(best, (slope, above - below), key=lambda b: b[1])
    for _ in range(40):
        (s0, v0, d0), (s1, v1, d1) = sides
        if d0 >= 0 or d1 <= 0 or best[1] <= 0:
            break
        slope = (v1 - v0 + d0 * s0 - d1 * s1) / (d0 - d1)
        above, below, p, q = _gap(x, low, high, slope)
        value, turn = above - below, x.item(q) - x.item(p)
        best = min(best, (slope, value), key=lambda b: b[1])
        if value <= (v0 + d0 * (slope - s0)) + 1e-9 or turn == 0:
            break
        sides[0 if turn < 0 else 1] = (slope, value, turn)
    return best[0], max(best[1], 0.0) / 2
