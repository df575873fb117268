import math
import subprocess
import sys
from fractions import Fraction
from itertools import combinations, pairwise

import numpy as np
import pytest

from emamba.base.arithmetic import requantize
from emamba.base.errors import EmambaError
from emamba.base.formats import IntFormat, Rounding
from emamba.piecewise import FUNCTIONS, RULES, Segments, codes, errors, exact, fit, histogram, products, rules
from emamba.piecewise.chord import chords
from emamba.piecewise.least_squares import _Sums, best_offset, squared_error
from emamba.piecewise.target import Target

AUTHORS_SILU = (-7, -6.417, -5.821, -5.205, -4.560, -3.862, -3.033, -1.547, -0.998, -0.594, -0.294, -0.093, -0.004)
AUTHORS_EXP = (-4, -3.513, -3.026, -2.539, -2.052, -1.565, -1.077, -0.590, -0.103, 0.384, 0.871, 1)
TRUE = {
    "silu": lambda x: x / (1 + math.exp(-x)) if x > -700 else 0.0,
    "exp": lambda x: math.exp(x),
    "softplus": lambda x: math.log1p(math.exp(x)) if x < 30 else x,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
}


def int8(frac: int) -> IntFormat:
    return IntFormat(8, True, frac)


def same(a: Segments, b: Segments) -> bool:
    return a.shift == b.shift and all(np.array_equal(getattr(a, k), getattr(b, k)) for k in ("knots", "slopes", "offsets"))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_true_and_safe(name):
    x = np.linspace(-20, 20, 401)
    assert np.allclose(FUNCTIONS[name](x), [TRUE[name](float(v)) for v in x], rtol=1e-14, atol=0)
    assert np.isfinite(FUNCTIONS[name](np.array([-1e30, 1e30]))).all()


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("o", [int8(4), IntFormat(6, False, 3)], ids=str)
def test_exact_is_the_rounded_function_at_every_code(name, o):
    i = int8(4)
    table = exact(name, i, o)
    assert len(table) == 256
    for code in range(i.min, i.max + 1):
        true = TRUE[name](code / 16) * 2**o.frac
        assert table[code - i.min] == min(max(math.floor(true + 0.5), o.min), o.max)


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("name", ["silu", "softplus"])
@pytest.mark.parametrize("i_frac", range(2, 8))
@pytest.mark.parametrize("o_frac", range(2, 8))
def test_int8_within_one_step_of_the_exact_table(name, i_frac, o_frac, rounding):
    table = fit(name, int8(i_frac), int8(o_frac), 17, rounding=rounding)
    assert table.segments <= 17
    assert errors(table, name)["max_table"] <= 1


@pytest.mark.parametrize("i_frac", range(8, 15))
@pytest.mark.parametrize("o_frac", range(2, 8))
def test_softplus_int16_within_one_step(i_frac, o_frac):
    table = fit("softplus", IntFormat(16, True, i_frac), int8(o_frac), 17)
    assert errors(table, "softplus")["max_table"] <= 1


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("frac", range(8, 15))
def test_exp_int16_within_one_step_and_saturates(frac, rounding):
    i = IntFormat(16, True, frac)
    table = fit("exp", i, int8(7), 11, rounding=rounding)
    assert table.segments == 11
    e = errors(table, "exp")
    assert e["max_table"] <= 1
    assert e["max_lsb"] < 0.8
    y = table(codes(i))
    assert y[-i.min:].min() == y.max() == 127
    assert table.knots[-1] <= 0


@pytest.mark.parametrize("name, i, o, worst", [
    ("silu", int8(4), int8(4), 0.53),
    ("silu", IntFormat(16, True, 12), int8(4), 0.55),
    ("silu", IntFormat(12, True, 8), IntFormat(12, True, 8), 1.21),
    ("softplus", IntFormat(12, True, 8), IntFormat(12, True, 8), 1.00),
], ids=str)
def test_minimax_largest_error(name, i, o, worst):
    assert errors(fit(name, i, o, 17), name)["max_lsb"] < worst


@pytest.mark.parametrize("name, segments", [("silu", 17), ("exp", 11), ("softplus", 17), ("sigmoid", 17)])
def test_minimax_is_better_than_the_paper(name, segments):
    i, o, domain = IntFormat(16, True, 12), IntFormat(12, True, 9), (-7.0, 0.0) if name == "exp" else None
    minimax, chord = (errors(fit(name, i, o, segments, rule), name, domain)["max_lsb"] for rule in ("minimax", "chord"))
    assert 3 * minimax < chord


def test_one_line_of_exp_is_the_known_minimax_line():
    # on [0, 1] the best line of exp has slope e − 1 = 1.718 and error 0.1059; the constant e above it takes the end over
    i, o = IntFormat(11, False, 11), IntFormat(18, True, 15)
    table = fit("exp", i, o, 1, domain=(0.0, 1.0), slope_bits=18)
    slope = table.slopes[1] * 2.0**(i.frac - o.frac - table.shift)
    assert slope == pytest.approx(math.e - 1, rel=0.05)
    assert 0.09 < errors(table, "exp")["max_real"] < 0.1059


@pytest.mark.parametrize("name, o_frac, segments", [("silu", 4, 17), ("exp", 7, 11), ("softplus", 5, 17), ("sigmoid", 7, 17)])
def test_segments_meet_their_promises(name, o_frac, segments):
    i, o = IntFormat(12, True, 8), int8(o_frac)
    table = fit(name, i, o, segments)
    assert len(table.slopes) == len(table.offsets) == len(table.knots) + 1 == table.segments + 2
    assert (np.diff(table.knots) > 0).all()
    assert table.slopes[0] == 0 and abs(table.slopes).max() < 1 << 11
    x = codes(i)
    piece = np.array([sum(code >= k for k in table.knots) for code in x])
    wide = table.slopes[piece] * x + table.offsets[piece]
    assert table.bound == max(abs(wide).max(), abs(table.offsets).max(), abs(table.slopes[piece] * x).max())
    assert np.array_equal(table(x), np.clip((wide + (1 << (table.shift - 1))) >> table.shift, o.min, o.max))
    with pytest.raises(ValueError, match="read-only"):
        table.slopes[0] = 1


@pytest.mark.parametrize("name", ["silu", "softplus"])
def test_identity_above_is_exact(name):
    table = fit(name, IntFormat(12, True, 7), IntFormat(12, True, 7), 17)
    x = np.arange(table.knots[-1], 2048)
    assert len(x) > 100
    assert np.array_equal(table(x), x)


def test_truncation_is_made_up_for_by_the_offsets():
    i = int8(4)
    up, down = (fit("silu", i, int8(5), 17, rounding=r) for r in (Rounding.HALF_UP, Rounding.TRUNCATE))
    assert np.array_equal(up(codes(i)), down(codes(i)))
    assert np.array_equal(up.offsets + (1 << (up.shift - 1)), down.offsets)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_deterministic(name):
    arguments = (name, int8(5), int8(5), 9)
    first = fit(*arguments)
    rules._fit.cache_clear()
    assert same(first, fit(*arguments))


def test_few_codes_take_few_segments():
    i = IntFormat(3, True, 1)
    table = fit("silu", i, int8(5), 17)
    assert table.segments <= 4
    assert errors(table, "silu")["max_table"] <= 1
    assert table.knots[0] >= i.min and table.knots[-1] <= i.max + 1


def test_any_formats_fit_or_are_refused():
    rng = np.random.default_rng(0)
    fitted = 0
    for _ in range(150):
        name, rule = rng.choice(list(FUNCTIONS)), rng.choice(RULES)
        i, o = (IntFormat(int(b := rng.integers(2, 19)), bool(rng.integers(2)), int(rng.integers(-2, b + 4))) for _ in range(2))
        slope_bits = int(rng.integers(4, 19))
        try:
            table = fit(str(name), i, o, 20, str(rule), slope_bits=slope_bits)
        except EmambaError:
            continue
        fitted += 1
        assert (np.diff(table.knots) > 0).all() and i.min <= table.knots[0] and table.knots[-1] <= i.max + 1
        assert table.shift >= 0 and abs(table.slopes).max() < 1 << (slope_bits - 1)
        y = table(codes(i))
        assert o.min <= y.min() and y.max() <= o.max
    assert fitted > 75


def test_chord_rule_gives_the_papers_segments():
    silu, m, _ = chords("silu", -7.0, 7.0, 0.03)
    assert len(m) == 17
    assert np.abs(silu[:13] - AUTHORS_SILU).max() < 1.5e-3
    exp, m, _ = chords("exp", -4.0, 1.0, 0.03)
    assert len(m) == 11
    assert np.abs(exp - AUTHORS_EXP).max() < 1e-3
    i, o = IntFormat(16, True, 11), IntFormat(16, True, 11)
    assert fit("silu", i, o, 17, "chord").segments == 17
    assert fit("exp", i, o, 11, "chord").segments == 11


@pytest.mark.parametrize("name, low, high", [("silu", -7.0, 7.0), ("exp", -4.0, 1.0), ("softplus", -7.0, 7.0),
                                             ("sigmoid", -7.0, 7.0)])
def test_chord_rule_keeps_three_percent(name, low, high):
    knots, m, c = chords(name, low, high, 0.03)
    x = np.linspace(low, high, 40001)[:-1]
    k = np.searchsorted(knots, x, side="right") - 1
    true = FUNCTIONS[name](x)
    assert (np.abs(m[k] * x + c[k] - true) <= np.maximum(0.0301 * np.abs(true), 1.01e-4)).all()


def test_authors_slopes_at_five_fraction_bits():
    i, o = int8(5), IntFormat(16, True, 12)
    five = errors(fit("silu", i, o, 17, "authors_5bit", slope_bits=18), "silu")["max_real"]
    printed = errors(fit("silu", i, o, 17, "authors", slope_bits=18), "silu")["max_real"]
    assert 0.126 < five < 0.127
    assert printed < 0.09


def test_errors_counts_what_it_says():
    i, o = int8(4), int8(4)
    table = fit("silu", i, o, 3)
    e = errors(table, "silu")
    y = [int(v) for v in table(codes(i))]
    off = [abs(y[k] - min(max(TRUE["silu"]((k - 128) / 16) * 16, -128), 127)) for k in range(256)]
    assert e["max_lsb"] == pytest.approx(max(off)) and off[e["code"] + 128] == pytest.approx(max(off))
    assert e["max_real"] == pytest.approx(max(off) / 16) and e["mean_real"] == pytest.approx(sum(off) / 256 / 16)
    assert e["max_table"] == max(abs(a - b) for a, b in zip(y, exact("silu", i, o).tolist(), strict=True))


@pytest.mark.parametrize("arguments, options, sentence", [
    (("tanh", int8(4), int8(4), 17), {},
     "there is no piecewise-linear function 'tanh'; choose one of silu, exp, softplus, sigmoid"),
    (("silu", int8(4), int8(4), 17, "best"), {},
     "there is no rule 'best' to fit silu; choose one of minimax, chord, authors, authors_5bit, least_squares"),
    (("silu", IntFormat(20), int8(4), 17), {},
     "the input of silu must have 2 to 18 bits, not 20; requantize to a narrower format"),
    (("silu", int8(4), IntFormat(1), 17), {},
     "the output of silu must have 2 to 18 bits, not 1; requantize to a narrower format"),
    (("silu", int8(4), int8(4), 0), {}, "silu needs at least 1 segment, not 0"),
    (("silu", int8(4), int8(4), 17), {"slope_bits": 19}, "the slopes of silu must have 4 to 18 bits, not 19"),
    (("silu", int8(4), int8(4), 16, "chord"), {},
     "the rule chord needs 17 segments for silu, more than 16; allow 17 or use the rule minimax"),
    (("silu", int8(4), int8(4), 17, "chord"), {"tolerance": 0.0},
     "the chord rule for silu needs a relative error above 0, not 0"),
    (("silu", int8(4), int8(4), 17, "chord"), {"domain": (2.0, 1.0)},
     "the chord rule for silu needs a finite domain, not [2, 1]"),
    (("softplus", int8(4), int8(4), 17, "authors"), {},
     "the authors have no table for softplus; use the rule minimax or chord"),
    (("silu", int8(4), int8(4), 17), {"domain": (9.0, 10.0)},
     "no code of INT8·2^-4 lies in [9, 10], the domain of silu; widen the domain"),
    (("silu", int8(0), IntFormat(18, True, 16), 17), {"slope_bits": 8},
     "silu from INT8·2^0 to INT18·2^-16 climbs 65536 output steps an input step, more than a slope of 8 bits holds; "
     "use fewer fraction bits in the output, more in the input, or wider slopes"),
    (("exp", IntFormat(8, True, 40), IntFormat(8, True, 40), 11, "chord"), {},
     "exp from INT8·2^-40 to INT8·2^-40 needs offsets of more than 48 bits; use fewer fraction bits in the output"),
])
def test_refusals(arguments, options, sentence):
    with pytest.raises(EmambaError) as refusal:
        fit(*arguments, **options)
    assert str(refusal.value) == sentence


def test_errors_refuses_an_empty_domain():
    with pytest.raises(EmambaError) as refusal:
        errors(fit("silu", int8(4), int8(4), 17), "silu", (100.0, 101.0))
    assert str(refusal.value) == "no code of INT8·2^-4 lies in [100, 101]; widen the domain"


# -- any scalar function ------------------------------------------------------------------------------------------------------


def gelu(x):
    return x / 2 * (1 + np.array([math.erf(v) for v in (x / math.sqrt(2)).ravel()]).reshape(x.shape))


@pytest.mark.parametrize("rule", ["minimax", "least_squares"])
@pytest.mark.parametrize("function, o, below, above", [
    (gelu, int8(4), 0, "identity"),
    (np.tanh, int8(7), -128, 127),
    (lambda x: 1 / (1 + np.exp(-300 * x)), int8(6), 0, 64),
    (lambda x: np.minimum(x, 0.5), int8(5), "identity", 16),
], ids=["gelu", "tanh", "step", "min"])
def test_any_function(function, o, below, above, rule):
    i = int8(5)
    table = fit(function, i, o, 17, rule)
    assert errors(table, function)["max_table"] <= 1
    for piece, wanted in ((0, below), (-1, above)):
        slope, offset = table.slopes[piece] * 2.0**-table.shift, table.offsets[piece] * 2.0**-table.shift
        assert (slope, offset) == ((i.step / o.step, 0.0) if wanted == "identity" else (0.0, max(wanted, o.min)))


def test_a_callable_equals_the_named_function():
    own = fit(FUNCTIONS["silu"], int8(4), int8(4), 17)
    assert errors(own, "silu") == errors(own, FUNCTIONS["silu"])
    assert same(own, fit("silu", int8(4), int8(4), 17))


def test_chords_of_any_function():
    table = fit(gelu, int8(4), int8(5), 40, "chord", domain=(-4.0, 4.0))
    assert errors(table, gelu)["max_table"] <= 3


# -- least squares ------------------------------------------------------------------------------------------------------------


def exact_errors(target: Target, weights: np.ndarray):
    """A function of knots: the squared error of real lines between them and of the outer pieces; all values are integers."""
    n = len(target.x)
    x, y, below, above = (values.astype(np.int64) for values in (target.x, target.y, target.below_error, target.above_error))

    def line(a: int, b: int) -> Fraction:
        u, v, w = x[a:b], y[a:b], weights[a:b]
        total, wx, wy = int(w.sum()), int((w * u).sum()), int((w * v).sum())
        xx, xy, yy = (int((w * p * q).sum()) - Fraction(r, total)
                      for p, q, r in ((u, u, wx * wx), (u, v, wx * wy), (v, v, wy * wy)))
        return yy - xy * xy / xx if xx else yy

    lines = {(a, b): line(a, b) for a in range(n) for b in range(a + 1, n + 1)}

    def error(knots) -> Fraction:
        at = [int(target.start[k]) for k in knots]
        outer = int((weights * below**2)[:at[0]].sum() + (weights * above**2)[at[-1]:].sum())
        return outer + sum(lines[pair] for pair in pairwise(at))

    return error


@pytest.mark.parametrize("segments", [1, 2, 3])
@pytest.mark.parametrize("knot_step", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_knots_of_least_squares_are_optimal(seed, knot_step, segments):
    rng = np.random.default_rng(seed)
    i, o = IntFormat(4, True, 0), IntFormat(8, True, 0)
    heights = rng.integers(-100, 100, 16).cumsum() // 2
    target = Target(lambda x: heights[x.astype(int) + 8], i, o, (-8.0, 5.0), knot_step)
    weights = rng.integers(1, 50, len(target.x))
    found = _Sums(target, weights).knots(segments)
    assert len(found) <= segments + 1
    error, places = exact_errors(target, weights), range(len(target.grid))
    assert error(found) == min(error(knots) for count in range(1, segments + 2) for knots in combinations(places, count))


@pytest.mark.parametrize("seed", range(6))
def test_offsets_are_optimal_after_rounding_and_clipping(seed):
    rng = np.random.default_rng(seed)
    o, shift = IntFormat(5, True, 0), int(rng.integers(0, 6))
    x = np.arange(-9, 12)
    slope = int(rng.integers(-40, 40))
    y, w = rng.integers(-64, 64, len(x)) / 4, rng.integers(1, 9, len(x)).astype(float)

    def error(offset: int) -> float:
        return float((w * (requantize(slope * x + offset, shift, o) - y) ** 2).sum())  # exact: sixteenths

    least, offset = best_offset(x, y, w, slope, shift, o)
    centre = round(float((w * (y * 2.0**shift - slope * x)).sum() / w.sum()))
    assert least == error(offset) == min(error(centre + k) for k in range(-(1 << shift), (1 << shift) + 1))


def density_of(i: IntFormat, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return histogram(np.clip(rng.normal(rng.uniform(-1, 1), rng.uniform(0.2, 3), 5000) // i.step, i.min, i.max).astype(int), i)


@pytest.mark.parametrize("name, i, o", [("silu", int8(4), int8(4)), ("silu", IntFormat(11, True, 7), IntFormat(10, True, 6)),
                                        ("exp", IntFormat(12, True, 8), int8(7)), ("softplus", int8(4), IntFormat(7, False, 4))],
                         ids=str)
@pytest.mark.parametrize("segments", [2, 5, 11])
@pytest.mark.parametrize("knot_step", [1, 8])
def test_least_squares_is_never_worse_than_minimax(name, i, o, segments, knot_step):
    for seed in range(3):
        density = density_of(i, seed)
        fits = [fit(name, i, o, segments, rule, knot_step=knot_step, density=density) for rule in ("least_squares", "minimax")]
        assert fits[0].segments <= segments and abs(fits[0].slopes).max() < 1 << 11
        target = Target(name, i, o, rules.arguments(name))
        weights = density[target.keep] / density[target.keep].sum() * (1 - rules.FLOOR) + rules.FLOOR / len(target.x)
        ours, other = (squared_error(target, weights / weights.sum(), table) for table in fits)
        assert ours <= other


def test_least_squares_follows_the_density():
    """Few segments lie where the inputs are; the floor keeps the rest in sight."""
    i, o = IntFormat(10, True, 6), IntFormat(10, True, 6)
    density = histogram(np.random.default_rng(0).normal(-64, 20, 5000).astype(int), i)
    near, even = (fit("silu", i, o, 3, "least_squares", density=d) for d in (density, None))
    rms = [errors(table, "silu", density=density)["rms_lsb"] for table in (near, even)]
    assert 2 * rms[0] < rms[1]
    worst = [errors(fit("silu", i, o, 3, "least_squares", density=density, floor=floor), "silu")["max_lsb"]
             for floor in (1e-9, 0.5)]
    assert worst[1] < worst[0]
    assert same(even, fit("silu", i, o, 3, "least_squares", density=density, floor=1.0))


def test_many_codes_are_searched_from_coarse_to_fine():
    """2^16 codes: knots of the first, coarse candidates only would be worse."""
    i, o = IntFormat(16, True, 12), IntFormat(16, True, 12)
    fine, coarse = (errors(fit("silu", i, o, 17, "least_squares", knot_step=step), "silu")["rms_lsb"] for step in (1, 128))
    assert fine < coarse


# -- coarse knots -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", rules.FREE_KNOTS)
@pytest.mark.parametrize("name, i, o", [("silu", int8(4), int8(4)), ("exp", IntFormat(12, True, 8), int8(7)),
                                        ("softplus", IntFormat(7, False, 3), int8(4))], ids=str)
def test_knots_are_multiples_of_the_step(name, i, o, rule):
    for log in range(i.bits):
        table = fit(name, i, o, 11, rule, knot_step=1 << log)
        assert not (table.knots % (1 << log)).any() and table.knot_step % (1 << log) == 0
        assert i.min <= table.knots[0] and table.knots[-1] <= i.max + 1 and 0 <= table.segments <= 11


@pytest.mark.parametrize("rule", rules.FREE_KNOTS)
def test_the_automatic_step_is_the_largest_that_costs_nothing(rule):
    i, o = int8(4), int8(4)

    def measure(step):
        found = errors(fit("silu", i, o, 17, rule, knot_step=step), "silu")
        return found["max_table"], found["rms_lsb"]

    chosen, (most, rms) = fit("silu", i, o, 17, rule, knot_step="auto"), measure(1)
    good = [step for step in (1, 2, 4, 8, 16, 32, 64, 128)
            if measure(step)[0] <= most and measure(step)[1] <= rules.RMS_SLACK * rms]
    assert max(good) == 8 and same(chosen, fit("silu", i, o, 17, rule, knot_step=8))


# -- densities ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hold", [False, True])
def test_products_count_what_exp_sees(hold):
    rng = np.random.default_rng(3)
    dt, p = IntFormat(4, False, 2), IntFormat(8, True, 3)
    delta, A = rng.integers(0, 16, (2, 5, 3)), rng.integers(-4, 0, (3, 2))
    counts = products(delta, A, dt, p, hold=hold)
    seen = delta[..., None] * A
    seen = seen[np.broadcast_to(delta[..., None] > 0, seen.shape)] if hold else seen
    assert np.array_equal(counts, [(seen == code).sum() for code in codes(p)])
    assert counts.sum() == seen.size


def test_rms_is_weighed():
    i, density = int8(4), density_of(int8(4), 0)
    table = fit("silu", i, int8(4), 3)
    off = table(codes(i)) - np.clip(FUNCTIONS["silu"](codes(i) / 16) * 16, -128, 127)
    e = errors(table, "silu", density=density)
    assert e["rms_lsb"] == pytest.approx(math.sqrt((density * off**2).sum() / density.sum()), rel=1e-12)
    assert e["rms_real"] == e["rms_lsb"] / 16


@pytest.mark.parametrize("function, options, sentence", [
    ("silu", {"knot_step": 3}, "knot_step of silu must be \"auto\" or a power of two in 1..128, not 3"),
    ("silu", {"knot_step": 256}, "knot_step of silu must be \"auto\" or a power of two in 1..128, not 256"),
    ("silu", {"knot_step": True}, "knot_step of silu must be \"auto\" or a power of two in 1..128, not True"),
    ("silu", {"rule": "chord", "knot_step": 2},
     "the rule chord places the knots of silu itself; use knot_step = 1, or the rule minimax or least_squares"),
    ("silu", {"rule": "least_squares", "floor": 0.0},
     "the floor of the density of silu must lie above 0 and at most at 1, not 0"),
    ("silu", {"rule": "least_squares", "density": np.ones(255)},
     "the density has the shape [255]; INT8·2^-4 needs one weight for each of its 256 codes"),
    ("silu", {"rule": "least_squares", "density": -np.ones(256)},
     "the density holds a weight that is negative or not finite; count how often each code occurs"),
    ("exp", {"rule": "least_squares", "density": np.arange(256) > 128},
     "the density is zero at every code of the domain; give values that lie in it"),
    (np.log, {}, "log(-8) is not a number; narrow the input's range or the domain"),
    (np.sum, {}, "sum makes the shape [] from [256]; it must map an array to one of the same shape"),
    (np.tanh, {"rule": "chord"}, "the chord rule for tanh needs a finite domain, not [-inf, inf]"),
    (np.sign, {"rule": "chord", "domain": (-1.0, 1.0)},
     "the chord rule takes no function that jumps, as sign does at -…; use the rule minimax"),
    (np.reciprocal, {"rule": "chord", "domain": (0.0, 1.0)}, "reciprocal is not finite at 0; narrow the domain of its chords"),
    (np.tanh, {"rule": "authors"}, "the authors have no table for tanh; use the rule minimax or chord"),
])
def test_refusals_of_densities_steps_and_functions(function, options, sentence):
    with pytest.raises(EmambaError) as refusal:
        fit(function, int8(4), int8(4), 17, **options)
    start, _, end = sentence.partition("…")
    assert str(refusal.value).startswith(start) and str(refusal.value).endswith(end)
    assert "…" in sentence or str(refusal.value) == sentence


def test_main_prints_a_table():
    run = subprocess.run([sys.executable, "-m", "emamba.piecewise"], capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert lines[1] == "| " + " | ".join(["---"] * 11) + " |"
    assert len(lines) == 45 and len({line.count("|") for line in lines}) == 1
    free = [line.split("|") for line in lines if "| minimax |" in line or "| least_squares |" in line]
    assert len(free) == 28 and all(cells[8].strip() in "01" for cells in free)
