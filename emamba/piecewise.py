"""Piecewise-linear SiLU, exp and softplus: three ways to choose the segments, one integer form, errors over every input code.

Source: paper, section on piecewise-linear functions (17 segments for SiLU on [−7, 7], 11 for exp on [−4, 1]); the minimax rule
is our choice. `python -m emamba.piecewise` prints the errors of all rules as a table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from .arithmetic import piecewise_linear
from .errors import EmambaError
from .formats import IntFormat, Rounding

Array = np.ndarray
Domain = tuple[float, float]


def _exp(x: Array) -> Array:
    return np.exp(np.minimum(x, 600.0))  # saturates in every format long before; keeps scaled values finite


def _silu(x: Array) -> Array:
    decay = np.exp(-np.abs(x))
    return x * np.where(x >= 0, 1.0, decay) / (1.0 + decay)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


FUNCTIONS: dict[str, Callable[[Array], Array]] = {"silu": _silu, "exp": _exp, "softplus": _softplus}
RULES = ("minimax", "chord", "authors", "authors_5bit")

# δ ≥ 0 and A < 0: exp never sees a positive argument, so the minimax rule spends no segment there.
_ARGUMENTS = {"silu": (-np.inf, np.inf), "exp": (-np.inf, 0.0), "softplus": (-np.inf, np.inf)}
_CHORD_DOMAINS = {"silu": (-7.0, 7.0), "exp": (-4.0, 1.0), "softplus": (-7.0, 7.0)}
# A chord across a zero of the function has unbounded relative error; below this absolute error any chord is accepted.
# 40 times finer than half an INT8 step at 2^−7, and the value at which SiLU takes the paper's 17 segments.
_CHORD_FLOOR = 1e-4

# knots, m, c of y = m·x + c between neighbouring knots, as printed in the authors' hardware
_AUTHORS = {
    "silu": (
        (-7, -6.417, -5.821, -5.205, -4.560, -3.862, -3.033, -1.547, -0.998, -0.594, -0.294, -0.093, -0.004, 0.004, 0.098, 0.327,
         1.085, 7),
        (-0.007, -0.011, -0.018, -0.029, -0.046, -0.072, -0.089, 0.005, 0.142, 0.287, 0.406, 0.476, 0.500, 0.526, 0.605, 0.856,
         1.045),
        (-0.055, -0.083, -0.123, -0.180, -0.258, -0.358, -0.409, -0.265, -0.127, -0.041, -0.006, 0, 0, 0, -0.008, -0.117, -0.324),
    ),
    "exp": (
        (-4, -3.513, -3.026, -2.539, -2.052, -1.565, -1.077, -0.590, -0.103, 0.384, 0.871, 1),
        (0.024, 0.038, 0.063, 0.102, 0.166, 0.270, 0.439, 0.714, 1.162, 1.891, 2.550),
        (0.113, 0.165, 0.238, 0.337, 0.468, 0.631, 0.813, 0.976, 1.022, 0.742, 0.160),
    ),
}

MAX_BITS = 18  # tables over every code stay small, and a slope fits one DSP multiplier
_MAX_SHIFT = 28  # finer slopes than 2^−28 LSB a code change nothing over 2^18 codes; the accumulator stays within 48 bits
_ACCUMULATOR_BITS = 48


@dataclass(frozen=True, eq=False)
class Segments:
    """y = requantize(slopes[k]·x + offsets[k], shift, o) for knots[k−1] ≤ x < knots[k].

    `knots` are input codes of format `i`, increasing; the last may be i.max + 1, the first i.min: then the outer piece never
    acts. K knots bound K − 1 sloped segments; the first piece is 0, the last the identity or a constant. One step of `slopes`
    is 2^−shift output LSB a code, of `offsets` 2^−shift output LSB. With `truncate`, the offsets carry the rounding half.
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
            raise EmambaError(f"{count} knots, {len(self.slopes)} slopes and {len(self.offsets)} offsets make no segments; "
                              "K knots, at least one, need K + 1 slopes and offsets")
        if (np.diff(self.knots) <= 0).any():
            raise EmambaError("the knots of segments must ascend")
        if not 0 <= self.shift <= _ACCUMULATOR_BITS:
            raise EmambaError(f"the shift of segments must lie in 0..{_ACCUMULATOR_BITS}, not {self.shift}")
        if self.i.bits > 32 or np.abs(self.slopes).max() > 1 << 30:
            raise EmambaError("the products of segments are wider than 62 bits: use fewer input bits or smaller slopes")
        for array in (self.knots, self.slopes, self.offsets):
            array.setflags(write=False)

    def __call__(self, x: Array) -> Array:
        return piecewise_linear(x, self.knots, self.slopes, self.offsets, self.shift, self.o, self.rounding)

    @property
    def segments(self) -> int:
        """Sloped segments, as the paper counts them: without the two outer pieces."""
        return len(self.knots) - 1

    @property
    def bound(self) -> int:
        """Largest |slope·x|, |offset| and |slope·x + offset| over every input code: sizes product and accumulator."""
        low = np.concatenate(([self.i.min], np.clip(self.knots, self.i.min, self.i.max)))
        high = np.concatenate((np.clip(self.knots - 1, self.i.min, self.i.max), [self.i.max]))
        product = np.stack((self.slopes * low, self.slopes * high))
        return int(max(abs(product).max(), abs(self.offsets).max(), abs(product + self.offsets).max()))


def codes(i: IntFormat) -> Array:
    """Every input code, ascending."""
    return np.arange(i.min, i.max + 1, dtype=np.int64)


def _function(name: str) -> Callable[[Array], Array]:
    if name not in FUNCTIONS:
        raise EmambaError(f"there is no piecewise-linear function {name!r}; choose one of {', '.join(FUNCTIONS)}")
    return FUNCTIONS[name]


def _check(name: str, side: str, f: IntFormat) -> None:
    if not 2 <= f.bits <= MAX_BITS:
        raise EmambaError(f"the {side} of {name} must have 2 to {MAX_BITS} bits, not {f.bits}; requantize to a narrower format")


def _target(name: str, i: IntFormat, o: IntFormat) -> Array:
    """The true function at every input code in output LSBs, not rounded, not clipped."""
    return _function(name)(codes(i) * i.step) / o.step


def exact(name: str, i: IntFormat, o: IntFormat) -> Array:
    """The correctly rounded (half up, saturated) table; the entry of a code is at code − i.min."""
    _function(name)
    _check(name, "input", i)
    _check(name, "output", o)
    return np.floor(np.clip(_target(name, i, o), o.min, o.max) + 0.5).astype(np.int64)


def errors(segments: Segments, name: str, domain: Domain | None = None) -> dict[str, float | int]:
    """Errors over every input code (within `domain`), against the true function clipped to the output's range.

    max_lsb: |y − true| in output LSBs; max_table: |y − exact table| in output LSBs; max_real, mean_real: |y − true| as values;
    code: where max_lsb happens.
    """
    i, o = segments.i, segments.o
    x = codes(i)
    low, high = domain or (-np.inf, np.inf)
    keep = (x * i.step >= low) & (x * i.step <= high)
    if not keep.any():
        raise EmambaError(f"no code of {i} lies in [{low:g}, {high:g}]; widen the domain")
    y = segments(x)
    error = np.abs(y - np.clip(_target(name, i, o), o.min, o.max))[keep]
    return {
        "max_lsb": float(error.max()),
        "max_table": int(np.abs(y - exact(name, i, o))[keep].max()),
        "max_real": float(error.max() * o.step),
        "mean_real": float(error.mean() * o.step),
        "code": int(x[keep][error.argmax()]),
    }


@lru_cache(maxsize=256)
def fit(name: str, i: IntFormat, o: IntFormat, segments: int, rule: str = "minimax", domain: Domain | None = None,
        rounding: Rounding = Rounding.HALF_UP, slope_bits: int = 12, tolerance: float = 0.03) -> Segments:
    """At most `segments` sloped segments for function `name`, slopes signed in `slope_bits`.

    minimax       smallest largest error over the input's codes; the outer pieces take what they can (our choice)
    chord         the paper's: left to right, each chord extended until its largest relative error is `tolerance`
    authors       the authors' printed tables; authors_5bit: with their slopes at 5 fraction bits
    `domain` bounds the arguments that are fitted; by default exp's are ≤ 0 for minimax, and the paper's intervals for chord.
    """
    _function(name)
    _check(name, "input", i)
    _check(name, "output", o)
    if rule not in RULES:
        raise EmambaError(f"there is no rule {rule!r} to fit {name}; choose one of {', '.join(RULES)}")
    if segments < 1:
        raise EmambaError(f"{name} needs at least 1 segment, not {segments}")
    if not 4 <= slope_bits <= MAX_BITS:
        raise EmambaError(f"the slopes of {name} must have 4 to {MAX_BITS} bits, not {slope_bits}")
    if rule == "minimax":
        return _minimax(name, i, o, segments, domain or _ARGUMENTS[name], rounding, slope_bits)
    if rule == "chord":
        knots, m, c = _chords(name, *(domain or _CHORD_DOMAINS[name]), tolerance)
    elif name in _AUTHORS:
        knots, m, c = (np.array(v, dtype=np.float64) for v in _AUTHORS[name])
        m = np.round(m * 32) / 32 if rule == "authors_5bit" else m
    else:
        raise EmambaError(f"the authors have no table for {name}; use the rule minimax or chord")
    if len(m) > segments:
        raise EmambaError(f"the rule {rule} needs {len(m)} segments for {name}, more than {segments}; "
                          f"allow {len(m)} or use the rule minimax")
    return _from_lines(name, i, o, knots, m, c, rounding, slope_bits)


def _shift(name: str, i: IntFormat, o: IntFormat, slopes: Array, slope_bits: int) -> int:
    """The largest shift at which every slope, in output LSBs a code, fits slope_bits."""
    steepest = max(float(np.abs(slopes).max()), 2.0**-64)
    shift = int(np.floor(np.log2(((1 << (slope_bits - 1)) - 1) / steepest)))
    if shift < 0:
        raise EmambaError(f"{name} from {i} to {o} climbs {steepest:.0f} output steps an input step, more than a slope of "
                          f"{slope_bits} bits holds; use fewer fraction bits in the output, more in the input, or wider slopes")
    return min(shift, _MAX_SHIFT)


def _upper(name: str, i: IntFormat, o: IntFormat, x: float) -> tuple[float, float]:
    """Slope and offset, in output LSBs, of the piece above the last knot."""
    if name == "exp":
        return 0.0, float(np.clip(_exp(np.float64(x * i.step)) / o.step, o.min, o.max))
    return i.step / o.step, 0.0


def _segments(name: str, i: IntFormat, o: IntFormat, knots: Array, slopes: Array, offsets: Array, shift: int,
              rounding: Rounding) -> Segments:
    """`slopes` are integers already; `offsets` are still in output LSBs."""
    half = 0.5 if rounding is Rounding.TRUNCATE and shift > 0 else 0.0
    scaled = np.round((offsets + half) * 2.0**shift)
    if np.abs(scaled).max() >= 1 << (_ACCUMULATOR_BITS - 1):
        raise EmambaError(f"{name} from {i} to {o} needs offsets of more than {_ACCUMULATOR_BITS} bits; "
                          f"use fewer fraction bits in the output")
    return Segments(knots.astype(np.int64), slopes.astype(np.int64), scaled.astype(np.int64), shift, i, o, rounding)


# -- the chord rule and the printed tables ------------------------------------------------------------------------------------


def _chord_error(f: Callable[[Array], Array], a: float, b: Array, tolerance: float) -> Array:
    """Largest error of the chords a..b as a fraction of what is allowed; `b` is an array."""
    part = np.linspace(0.0, 1.0, 257)
    x = a + (b[:, None] - a) * part
    true = f(x)
    line = true[:, :1] + (true[:, -1:] - true[:, :1]) * part
    return (np.abs(line - true) / np.maximum(tolerance * np.abs(true), _CHORD_FLOOR)).max(-1)


@lru_cache(maxsize=32)
def _chords(name: str, low: float, high: float, tolerance: float) -> tuple[Array, Array, Array]:
    """Knots, m, c of the paper's rule. Ends are searched upwards, since the error is not monotone across an inflection."""
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise EmambaError(f"the chord rule for {name} needs a finite domain, not [{low:g}, {high:g}]")
    if not tolerance > 0:
        raise EmambaError(f"the chord rule for {name} needs a relative error above 0, not {tolerance:g}")
    f = FUNCTIONS[name]
    knots = [low]
    while knots[-1] < high:
        inside, end = knots[-1], high
        for _ in range(4):
            ends = np.linspace(inside, end, 130)[1:]
            bad = _chord_error(f, knots[-1], ends, tolerance) > 1.0
            if not bad.any():
                inside = end
                break
            first = int(bad.argmax())
            inside, end = (float(ends[first - 1]) if first else inside), float(ends[first])
        knots.append(inside)
    x = np.array(knots)
    y = f(x)
    m = np.diff(y) / np.diff(x)
    return x, m, y[:-1] - m * x[:-1]


def _from_lines(name: str, i: IntFormat, o: IntFormat, knots: Array, m: Array, c: Array, rounding: Rounding,
                slope_bits: int) -> Segments:
    """Real lines to integers: knots to the next code, and each line kept where it counts, at its segment's middle."""
    per_code = i.step / o.step
    top, constant = _upper(name, i, o, knots[-1] / i.step)
    slopes = np.concatenate(([0.0], m * per_code, [top]))
    shift = _shift(name, i, o, slopes, slope_bits)
    rounded = np.round(slopes * 2.0**shift)
    middle = (knots[1:] + knots[:-1]) / 2
    lines = (m * middle + c) / o.step - rounded[1:-1] * 2.0**-shift * middle / i.step
    offsets = np.concatenate(([0.0], lines, [constant]))
    ends = np.clip(np.ceil(knots / i.step), i.min, i.max + 1)
    keep = np.diff(ends) > 0  # segments that hold a code
    pieces = np.concatenate(([True], keep, [True]))
    return _segments(name, i, o, ends[np.concatenate(([True], keep))], rounded[pieces], offsets[pieces], shift, rounding)


# -- the minimax rule ---------------------------------------------------------------------------------------------------------


def _gap(x: Array, low: Array, high: Array, slope: float) -> tuple[float, float, int, int]:
    """The lowest offset above `low` and the highest below `high` of a line of this slope, and the points that decide them."""
    above, below = low - slope * x, high - slope * x
    p, q = int(above.argmax()), int(below.argmin())
    return above[p], below[q], p, q


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
        sides.append((slope, above - below, x[q] - x[p]))
        best = min(best, (slope, above - below), key=lambda b: b[1])
    for _ in range(40):
        (s0, v0, d0), (s1, v1, d1) = sides
        if d0 >= 0 or d1 <= 0 or best[1] <= 0:
            break
        slope = (v1 - v0 + d0 * s0 - d1 * s1) / (d0 - d1)
        above, below, p, q = _gap(x, low, high, slope)
        value, turn = above - below, x[q] - x[p]
        best = min(best, (slope, value), key=lambda b: b[1])
        if value <= (v0 + d0 * (slope - s0)) + 1e-9 or turn == 0:
            break
        sides[0 if turn < 0 else 1] = (slope, value, turn)
    return best[0], max(best[1], 0.0) / 2


class _Bounds:
    """What a line must meet at each code. Where the true value saturates, only one side binds: the clip does the rest."""

    def __init__(self, x: Array, true: Array, o: IntFormat):
        self.x = x.astype(np.float64)
        self.y = np.clip(true, o.min, o.max)
        self.low = np.where(true <= o.min, -np.inf, self.y)
        self.high = np.where(true >= o.max, np.inf, self.y)

    def error(self, a: int, b: int) -> float:
        """Of the best line over codes a..b−1, on at most 65 of them: 0.1 % off at most, the final lines use all."""
        n = b - a
        at = np.arange(a, b) if n <= 65 else a + np.arange(65) * (n - 1) // 64
        return _best_slope(self.x[at], self.low[at], self.high[at])[1]

    def split(self, a: int, end: int, level: float, limit: int) -> list[int] | None:
        """Longest segments from a to end that keep the error within level; None where `limit` do not suffice."""
        knots = [a]
        while knots[-1] < end:
            if len(knots) > limit:
                return None
            good, bad = knots[-1] + 1, end + 1
            if self.error(knots[-1], end) <= level:
                good = end
            while bad - good > 1 and good < end:
                middle = (good + bad) // 2
                good, bad = (middle, bad) if self.error(knots[-1], middle) <= level else (good, middle)
            knots.append(good)
        return knots


def _minimax(name: str, i: IntFormat, o: IntFormat, segments: int, domain: Domain, rounding: Rounding,
             slope_bits: int) -> Segments:
    every = codes(i)
    inside = np.flatnonzero((every * i.step >= domain[0]) & (every * i.step <= domain[1]))
    if not len(inside):
        raise EmambaError(f"no code of {i} lies in [{domain[0]:g}, {domain[1]:g}], the domain of {name}; widen the domain")
    x = every[inside]
    bounds = _Bounds(x, _target(name, i, o)[inside], o)
    top, constant = _upper(name, i, o, float(x[-1]))
    below = np.abs(np.clip(0, o.min, o.max) - bounds.y)
    above = np.abs(np.clip(top * x + constant, o.min, o.max) - bounds.y)

    def knots_at(level: float) -> list[int] | None:
        start, end = np.flatnonzero(below > level), np.flatnonzero(above > level)
        a, b = (int(start[0]) if len(start) else len(x)), (int(end[-1]) + 1 if len(end) else 0)
        return [b] if a >= b else bounds.split(a, b, level, segments)

    # log2 of the error in output LSBs: the outer pieces alone meet the first, the second is fine enough
    good, bad = float(o.bits), -10.0
    knots = knots_at(2.0**good)
    for _ in range(12):
        middle = (good + bad) / 2
        found = knots_at(2.0**middle)
        good, bad, knots = (middle, bad, found) if found else (good, middle, knots)

    parts = [(bounds.x[a:b], bounds.low[a:b], bounds.high[a:b]) for a, b in pairwise(knots)]
    lines = [_best_slope(*part)[0] for part in parts]
    shift = _shift(name, i, o, np.array([*lines, top]), slope_bits)
    slopes, offsets = [0.0], [0.0]
    for part, line in zip(parts, lines, strict=True):
        choices = []
        for slope in (np.floor(line * 2.0**shift), np.ceil(line * 2.0**shift)):
            high, low, _, _ = _gap(*part, slope * 2.0**-shift)
            finite = [v for v in (high, low) if np.isfinite(v)]
            choices.append((high - low, slope, sum(finite) / len(finite)))
        _, slope, centre = min(choices)
        slopes.append(slope)
        offsets.append(centre)
    slopes.append(np.round(top * 2.0**shift))
    offsets.append(constant)
    return _segments(name, i, o, np.array(knots) + x[0], np.array(slopes), np.array(offsets), shift, rounding)


def main() -> None:
    int8 = {frac: IntFormat(8, True, frac) for frac in range(8)}
    cases = (("silu", int8[4], int8[4], 17), ("silu", int8[4], int8[5], 17), ("silu", IntFormat(12, True, 8), int8[4], 17),
             ("exp", IntFormat(16, True, 11), int8[7], 11), ("softplus", int8[4], int8[4], 17),
             ("softplus", IntFormat(16, True, 12), int8[4], 17))
    print("| function | input | output | rule | segments | largest error, LSB | from the exact table, LSB | largest error | "
          "mean error |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, i, o, segments in cases:
        for rule in RULES[: 4 if name in _AUTHORS else 2]:
            table = fit(name, i, o, segments, rule)
            e = errors(table, name, _ARGUMENTS[name])
            print(f"| {name} | {i} | {o} | {rule} | {table.segments} | {e['max_lsb']:.2f} | {e['max_table']} | "
                  f"{e['max_real']:.4f} | {e['mean_real']:.5f} |")


if __name__ == "__main__":
    main()
