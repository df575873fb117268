"""The one function that fits: it checks what is asked, and hands over to the rule's file."""

from functools import lru_cache
from typing import Literal

import numpy as np

from ..base.errors import SettingError
from ..base.formats import IntFormat, Rounding
from .accuracy import check_format, errors
from .authors import printed
from .chord import DOMAINS, chords
from .density import shares
from .functions import EVERYWHERE, Domain, Scalar, arguments, name_of, scalar
from .least_squares import least_squares
from .lines import from_lines
from .minimax import minimax
from .outer import saturates_early
from .segments import MAX_BITS, Segments
from .target import Target

Array = np.ndarray

RULES = ("minimax", "chord", "authors", "authors_5bit", "least_squares")
FREE_KNOTS = ("minimax", "least_squares")
"""Rules that place their knots on any multiple of `knot_step`."""

FLOOR = 0.01
"""Share of the weight that `least_squares` spreads evenly over all codes, so that unseen ones stay sane (our choice, measured:
docs/numerics.md)."""

RMS_SLACK = 1.05
"""Of knot_step = "auto": how much the root mean square error may grow (our choice)."""


def fit(function: str | Scalar, i: IntFormat, o: IntFormat, segments: int, rule: str = "minimax", domain: Domain | None = None,
        rounding: Rounding = Rounding.HALF_UP, slope_bits: int = 12, tolerance: float = 0.03,
        knot_step: int | Literal["auto"] = 1, density: Array | None = None, floor: float = FLOOR) -> Segments:
    """At most `segments` sloped segments for `function`, slopes signed in `slope_bits`. A function is a name of FUNCTIONS, or
    any callable that maps an array of real arguments to one of values.

    minimax        smallest largest error over the input's codes; the outer pieces take what they can (our choice)
    least_squares  least mean square error where code x occurs as often as density[x − i.min] says, of which `floor` is spread
                   evenly; without a density all are equal (our choice)
    chord          the paper's: left to right, each chord extended until its largest relative error is `tolerance`
    authors        the authors' printed tables; authors_5bit: with their slopes at 5 fraction bits
    `domain` bounds the arguments that are fitted; by default exp's are ≤ 0 for minimax and least_squares, and the paper's
    intervals for chord. Knots are multiples of `knot_step` codes, a power of two; "auto" takes the largest that neither moves
    an output further from the exact table than 1 does, nor raises the root mean square error by more than 5 %.
    """
    name = name_of(function)
    scalar(function)
    check_format(name, "input", i)
    check_format(name, "output", o)
    if rule not in RULES:
        raise SettingError(f"there is no rule {rule!r} to fit {name}; choose one of {', '.join(RULES)}")
    if segments < 1:
        raise SettingError(f"{name} needs at least 1 segment, not {segments}")
    if not 4 <= slope_bits <= MAX_BITS:
        raise SettingError(f"the slopes of {name} must have 4 to {MAX_BITS} bits, not {slope_bits}")
    most = 1 << i.bits - 1
    if knot_step != "auto" and not (type(knot_step) is int and 1 <= knot_step <= most and knot_step.bit_count() == 1):
        raise SettingError(f"knot_step of {name} must be \"auto\" or a power of two in 1..{most}, not {knot_step!r}")
    if rule not in FREE_KNOTS and knot_step != 1:
        raise SettingError(f"the rule {rule} places the knots of {name} itself; use knot_step = 1, or the rule minimax or "
                           "least_squares")
    if not 0 < floor <= 1:
        raise SettingError(f"the floor of the density of {name} must lie above 0 and at most at 1, not {floor:g}")
    if density is not None and rule == "least_squares":
        return _fit.__wrapped__(function, i, o, segments, rule, domain, rounding, slope_bits, tolerance, knot_step,
                                np.asarray(density), floor)
    return _fit(function, i, o, segments, rule, domain, rounding, slope_bits, tolerance, knot_step)


@lru_cache(maxsize=256)
def _fit(function, i, o, segments, rule, domain, rounding, slope_bits, tolerance, knot_step, density=None, floor=FLOOR):
    """The same without checks; kept, where there is no density."""
    if knot_step == "auto":
        return _coarsest(function, i, o, segments, rule, domain, rounding, slope_bits, density, floor)
    if rule in FREE_KNOTS:
        target = Target(function, i, o, domain or arguments(function), knot_step, rounding, slope_bits)
        if rule == "minimax":
            return minimax(target, segments)
        weights = shares(density, i, target.keep)
        return least_squares(target, segments, (1 - floor) * weights + floor / len(weights))
    if rule == "chord":
        knots, m, c = _chords(function, i, o, domain, tolerance)
    else:
        knots, m, c = printed(name_of(function), five_bits=rule == "authors_5bit")
    if len(m) > segments:
        raise SettingError(f"the rule {rule} needs {len(m)} segments for {name_of(function)}, more than {segments}; "
                           f"allow {len(m)} or use the rule minimax")
    return from_lines(function, i, o, knots, m, c, rounding, slope_bits)


def _chords(function: str | Scalar, i: IntFormat, o: IntFormat, domain: Domain | None, tolerance: float) -> tuple[Array, ...]:
    """Of a softplus of small values alone, from half an output step, which is also the error that any chord may have, to the
    largest output."""
    if domain is None and function == "softplus" and saturates_early(function, i, o):
        low, high = (float(np.log(np.expm1(y * o.step))) for y in (0.5, o.max))
        return chords(function, low, high, tolerance, o.step / 2)
    usual = DOMAINS.get(function, EVERYWHERE) if isinstance(function, str) else EVERYWHERE
    return chords(function, *(domain or usual), tolerance)


def _coarsest(function, i, o, segments, rule, domain, rounding, slope_bits, density, floor) -> Segments:
    """The fit with the largest knot_step that costs nothing worth mentioning."""

    def fitted(step: int) -> tuple[Segments, dict]:
        result = _fit.__wrapped__(function, i, o, segments, rule, domain, rounding, slope_bits, 0.0, step, density, floor)
        return result, errors(result, function, domain or arguments(function), density if rule == "least_squares" else None)

    finest, limit = fitted(1)
    step = 1 << i.bits - 1
    while step > 1:
        result, found = fitted(step)
        if found["max_table"] <= limit["max_table"] and found["rms_lsb"] <= RMS_SLACK * limit["rms_lsb"]:
            return result
        step >>= 1
    return finest
