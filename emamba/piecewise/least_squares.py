"""The least mean square error under a density of the input's codes (our choice): segmented least squares.

1. Knots: dynamic programming over the lines' errors, which prefix sums give at once for any two positions. Over at most
   CANDIDATES positions it is optimal; where there are more, it is repeated with finer positions around the knots found.
2. Integers: with the largest shift that fits, the lower and the upper neighbour of each line's slope, each with the best offset
   for the output as it is rounded and clipped. Then every knot moves to where its two integer lines change places best; and
   again, while the error falls.
The descent starts from 1 and from `minimax`, so that the error never exceeds `minimax`'s.
"""

from itertools import pairwise

import numpy as np

from ..base.formats import IntFormat
from .minimax import minimax
from .segments import Segments, largest_shift, make
from .target import Target

Array = np.ndarray

CANDIDATES = 512
_ROUNDS = 8


def least_squares(target: Target, segments: int, weights: Array) -> Segments:
    """`weights` [n] > 0, of the codes target.x."""
    weights = weights / weights.sum()
    start = minimax(target, segments)
    found = [start, _descend(target, weights, target.grid.searchsorted(start.knots), start.shift)]
    sums = _Sums(target, weights)
    knots = sums.knots(segments)
    slopes = [sums.slope(a, b) for a, b in pairwise(knots)]
    shift = largest_shift(target.name, target.i, target.o, np.array([target.below[0], *slopes, target.above[0]]),
                          target.slope_bits)
    found.append(_descend(target, weights, knots, shift))
    return min(found, key=lambda fitted: squared_error(target, weights, fitted))


def squared_error(target: Target, weights: Array, segments: Segments) -> float:
    return float((weights * (segments(target.x) - target.y) ** 2).sum())


# -- knots of real lines ------------------------------------------------------------------------------------------------------


class _Sums:
    """Prefix sums over the codes: the error of the best line between any two positions of the grid."""

    def __init__(self, target: Target, weights: Array):
        x = (target.x - target.x[0]) / max(1, len(target.x) - 1) - 0.5  # small numbers lose nothing in sums of squares
        y = target.y - target.y.mean()
        self.scale = max(1, len(target.x) - 1)
        self.target, self.weights, self.start = target, weights, target.start
        moments = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y]) * weights
        self.sums = np.concatenate((np.zeros((6, 1)), moments.cumsum(1)), 1)
        outer = np.stack((weights * target.below_error**2, weights * target.above_error**2))
        self.outer = np.concatenate((np.zeros((2, 1)), outer.cumsum(1)), 1)

    def _moments(self, a: Array, b: Array) -> tuple[Array, Array, Array]:
        """Σw(x − mean)², Σw(x − mean)(y − mean), Σw(y − mean)² of the codes between positions a and b."""
        w, x, y, xx, xy, yy = self.sums[:, self.start[b]] - self.sums[:, self.start[a]]
        w = np.where(w > 0, w, 1.0)
        return xx - x * x / w, xy - x * y / w, yy - y * y / w

    def errors(self, a: Array, b: Array) -> Array:
        """Squared error of the best line between positions a and b, arrays that broadcast."""
        xx, xy, yy = self._moments(a, b)
        one = self.start[b] - self.start[a] <= 1
        return np.where(one, 0.0, np.maximum(yy - xy * xy / np.where(one | (xx <= 0), 1.0, xx), 0.0))

    def slope(self, a: int, b: int) -> float:
        """In output LSBs a code."""
        xx, xy, _ = self._moments(np.array(a), np.array(b))
        return float(xy / xx) / self.scale if self.start[b] - self.start[a] > 1 and xx > 0 else 0.0

    def knots(self, segments: int) -> Array:
        """Positions in the grid."""
        at = self._first_candidates()
        while True:
            chosen = self._best(at, segments)
            finer = [at]
            for k in chosen:
                low, high = at[max(k - 1, 0)], at[min(k + 1, len(at) - 1)]
                finer.append(np.linspace(low, high, max(3, CANDIDATES // (2 * len(chosen)))).astype(np.int64))
            around = np.unique(np.concatenate((at[chosen], *finer[1:], at[[0, -1]])))
            if len(at) == len(self.start) or set(around) <= set(at):
                return at[chosen]
            at = around

    def _first_candidates(self) -> Array:
        """All positions; where they are too many, half of them evenly, half where weight and curvature call for short segments:
        the best length of a segment goes with the fifth root of weight · curvature²."""
        count = len(self.start)
        if count <= CANDIDATES:
            return np.arange(count)
        curvature = np.abs(np.gradient(np.gradient(self.target.y)))
        need = np.concatenate(([0.0], ((self.weights * curvature**2) ** 0.2).cumsum()))[self.start]
        half = np.linspace(0, 1, CANDIDATES // 2)
        by_need = np.interp(half * need[-1], need, np.arange(count))
        return np.unique(np.concatenate((half * (count - 1), by_need)).astype(np.int64))

    def _best(self, at: Array, segments: int) -> Array:
        """The best knots among the positions `at`, as indices into it: dynamic programming, a segment at a time."""
        last = len(at) - 1
        errors = self.errors(at[:, None], at[None, :])
        errors[np.tril_indices(len(at))] = np.inf
        above = self.outer[1, -1] - self.outer[1, self.start[at]]
        reach, came = self.outer[0, self.start[at]], []  # reach: least error up to each position
        totals = [reach + above]
        for _ in range(min(segments, last)):
            paths = reach[:, None] + errors
            came.append(paths.argmin(0))
            reach = np.take_along_axis(paths, came[-1][None], 0)[0]
            totals.append(reach + above)
        used = int(np.argmin([total.min() for total in totals]))
        chosen = [int(totals[used].argmin())]
        for k in reversed(range(used)):
            chosen.append(int(came[k][chosen[-1]]))
        return np.array(chosen[::-1])


# -- integers -----------------------------------------------------------------------------------------------------------------


def _descend(target: Target, weights: Array, knots: Array, shift: int) -> Segments:
    """Integer lines for knots, knots for integer lines, while the error falls."""
    best, least = None, np.inf
    for _ in range(_ROUNDS):
        fitted = _integer_lines(target, weights, knots, shift)
        error = squared_error(target, weights, fitted)
        if not error < least:
            break
        best, least = fitted, error
        knots = _cut(target, weights, fitted)
    assert best, "the first error is finite"
    return best


def _integer_lines(target: Target, weights: Array, knots: Array, shift: int) -> Segments:
    limit = (1 << (target.slope_bits - 1)) - 1
    slopes, offsets = [np.round(target.below[0] * 2.0**shift)], [target.below[1]]
    for a, b in pairwise(target.start[knots]):
        x, y, w = target.x[a:b], target.y[a:b], weights[a:b]
        steep = _slope(x, y, w) * 2.0**shift
        tried = {int(np.clip(slope, -limit, limit)) for slope in (np.floor(steep), np.ceil(steep))}
        choices = [(*best_offset(x, y, w, slope, shift, target.o), slope) for slope in sorted(tried)]
        _, offset, slope = min(choices)
        slopes.append(slope)
        offsets.append(offset * 2.0**-shift)
    slopes.append(np.round(target.above[0] * 2.0**shift))
    offsets.append(target.above[1])
    return make(target.name, target.i, target.o, target.grid[knots], np.array(slopes), np.array(offsets), shift, target.rounding)


def _slope(x: Array, y: Array, w: Array) -> float:
    off = x - (w * x).sum() / w.sum()
    return float((w * off * y).sum() / (w * off * off).sum()) if len(x) > 1 else 0.0


def best_offset(x: Array, y: Array, w: Array, slope: int, shift: int, o: IntFormat) -> tuple[float, int]:
    """Least squared error of requantize(slope·x + offset, shift, o) within one output LSB of the line's own offset, and the
    offset in the middle of those that have it.

    A growing offset moves each code's output up by one at known places, so that sorted changes of the error give it for all.
    """
    unit, half = 1 << shift, (1 << shift) >> 1
    centre = round(float((w * (y * 2.0**shift - slope * x)).sum() / w.sum()))
    base = slope * x + (centre - unit + half)
    first = base >> shift
    rise = unit - (base & (unit - 1))
    steps = [w * (np.clip(first + k, o.min, o.max) - y) ** 2 for k in range(3)]
    places = np.concatenate((rise, rise + unit))
    order = places.argsort(kind="stable")
    places = np.concatenate(([0], places[order], [2 * unit + 1]))
    changes = np.concatenate((steps[1] - steps[0], steps[2] - steps[1]))[order]
    error = steps[0].sum() + np.concatenate(([0.0], changes.cumsum()))
    ends = np.flatnonzero(np.diff(places) > 0)  # of equal places, only the last has the changes of all
    best = int(ends[error[ends].argmin()])
    return float(error[best]), centre - unit + int(places[best] + places[best + 1] - 1) // 2


def _cut(target: Target, weights: Array, fitted: Segments) -> Array:
    """Each knot moved between its neighbours to where its two lines change places best. Positions in the grid."""
    knots = target.grid.searchsorted(fitted.knots)

    def line_error(k: int, inside: slice) -> Array:
        piece = Segments(np.array([fitted.i.max + 1]), fitted.slopes[[k, k]], fitted.offsets[[k, k]], fitted.shift, fitted.i,
                         fitted.o, fitted.rounding)
        return weights[inside] * (piece(target.x[inside]) - target.y[inside]) ** 2

    for k in range(len(knots)):
        low = knots[k - 1] + 1 if k else 0
        high = knots[k + 1] if k + 1 < len(knots) else len(target.grid)
        first, last = int(target.start[low]), int(target.start[high - 1])
        inside = slice(first, last)
        left, right = line_error(k, inside), line_error(k + 1, inside)
        gain = np.concatenate(([0.0], (left - right).cumsum()))  # of the error, where the knot lies so many codes further
        places = target.start[low:high] - first
        knots[k] = low + int(gain[places].argmin())
    return knots
