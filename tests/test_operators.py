"""Every operator: the sentences about wrong parameters and inputs, and its integers against plain Python numbers."""

import itertools
import math
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from emamba.base.arithmetic import EXACT_FLOAT, EXACT_FLOAT32, matmul, requantize, word
from emamba.base.errors import EmambaError
from emamba.base.formats import IntFormat, Rounding
from emamba.ops import (
    OPERATORS,
    Activation,
    Add,
    Conv1d,
    HeadScan,
    Input,
    LayerNorm,
    Linear,
    Lookup,
    Multiply,
    Pool,
    RangeNorm,
    Reverse,
    RMSNorm,
    Scan,
    Smooth,
)
from emamba.piecewise import codes, exact, fit
from emamba.run import integer
from emamba.run.integer import IntegerModel
from sim.models import random_artifact, random_inputs

pytestmark = pytest.mark.quick

I8, I12, U7 = IntFormat(8, True, 5), IntFormat(12, True, 7), IntFormat(7, False, 4)
RNG = np.random.default_rng(11)


def ones(*shape):
    return np.ones(shape, np.int64)


def refuses(sentence):
    return pytest.raises(EmambaError, match=f"^{re.escape(sentence)}$")


def rounded(value: Fraction, rounding: Rounding) -> int:
    if rounding is Rounding.TRUNCATE:
        return math.floor(value)
    return math.floor(value + Fraction(1, 2)) if rounding is Rounding.HALF_UP else round(value)


def to_format(value: Fraction, o: IntFormat, rounding: Rounding) -> int:
    """A value in output steps, rounded and saturated."""
    return min(max(rounded(value, rounding), o.min), o.max)


def power(exponent: int) -> Fraction:
    return Fraction(2) ** exponent


def scan_parts(channels=2, states=3, *, delta_b=False, rounding=Rounding.HALF_UP, h_bits=17, seed=0, **changes) -> dict:
    rng = np.random.default_rng(seed)
    u, dt, a = I8, U7, IntFormat(8, True, 3)
    b_bar = IntFormat(8, True, 5) if delta_b else None
    h = IntFormat(h_bits, True, b_bar.frac + u.frac if delta_b else 9)
    decay = fit("exp", IntFormat(15, True, dt.frac + a.frac), IntFormat(8, True, 7), 11, rounding=rounding)
    return {"A": -rng.integers(1, 129, (channels, states)), "D": rng.integers(-128, 128, channels), "u": u, "dt": dt, "B": I8,
            "C": IntFormat(8, True, 4), "a": a, "d": IntFormat(8, True, 6), "decay": decay, "h": h,
            "h_wide": IntFormat(h_bits + 7, True, h.frac + 7), "delta_b": delta_b, "b_bar": b_bar, "o": IntFormat(12, True, 5),
            "rounding": rounding} | changes


def head_scan_parts(channels=4, heads=2, groups=2, states=3, **changes) -> dict:
    return scan_parts(heads, 1, **changes) | {"channels": channels, "groups": groups, "states": states}


GOOD = {
    "Input": {"o": I8, "channels": 3},
    "Linear": {"o": I8, "weight": ones(2, 3), "bias": ones(2), "multiplier": ones(2), "i": I12, "w": I8, "shift": 4},
    "Lookup": {"o": I8, "table": ones(5, 3), "i": IntFormat(3, False, 0)},
    "RangeNorm": {"o": IntFormat(8, True, 7), "channels": 4, "i": I12},
    "LayerNorm": {"o": I8, "channels": 4, "i": I12, "epsilon": 1},
    "RMSNorm": {"o": I8, "channels": 4, "i": I12, "epsilon": 1},
    "Conv1d": {"o": I8, "weight": ones(2, 3), "bias": ones(2), "multiplier": ones(2), "i": I12, "w": I8, "shift": 4},
    "Activation": {"o": I8, "channels": 4, "i": I8, "entries": exact("silu", I8, I8)},
    "Scan": scan_parts(),
    "HeadScan": head_scan_parts(),
    "Multiply": {"o": I8, "channels": 4, "a": I12, "b": I8},
    "Add": {"o": I8, "channels": 4, "a": I12, "b": I8},
    "Smooth": {"o": I8, "channels": 4, "i": I8, "shift": 3},
    "Pool": {"o": I8, "channels": 4, "i": I8, "mean": True, "tokens": 3, "multiplier": 5461, "shift": 14},
    "Reverse": {"o": I8, "channels": 4, "i": I8},
    "Attention": {"o": I8, "channels": 4, "heads": 2, "causal": False, "tokens": 3, "q": I8, "k": I12, "v": I8,
                  "multiplier": 2896, "shift": 17, "exp": fit("exp", IntFormat(12, True, 8), IntFormat(8, False, 8), 11)},
    "Window": {"o": I8, "channels": 2, "i": I8, "rows": 3, "columns": 4, "kernel_rows": 1, "kernel_columns": 2},
    "Depthwise": {"o": I8, "weight": ones(2, 3), "bias": ones(2), "multiplier": ones(2), "i": I12, "w": I8, "shift": 4},
}
NORMS = ("RangeNorm", "LayerNorm", "RMSNorm")
SILU = fit("silu", I8, I8, 5)
SHIFT = "is out of range; a requantization shift must lie in −40..62"
POSITIVE = "A holds a positive value, so the state would grow without bound; A must be ≤ 0"
D_SCALE = "are out of range: D·u must align to y's accumulator by a left shift of 0..40, not"

BAD = [
    *[(kind, change, sentence) for kind in ("Linear", "Conv1d", "Depthwise") for change, sentence in [
        ({"weight": ones(3)}, "weight has 1 dimensions, but the node needs 2"),
        ({"weight": np.int64(3)}, "weight has 0 dimensions, but the node needs 2"),
        ({"bias": ones(3)}, "the shape of bias is (3,), but the node needs (2,)"),
        ({"bias": ones(2, 1)}, "the shape of bias is (2, 1), but the node needs (2,)"),
        ({"multiplier": ones(1)}, "the shape of multiplier is (1,), but the node needs (2,)"),
        ({"weight": ones(2, 3) * 128}, "weight holds 128, outside -128..127 of its format INT8·2^-5"),
        ({"weight": ones(2, 3) * -129}, "weight holds -129, outside -128..127 of its format INT8·2^-5"),
        ({"multiplier": -ones(2)}, "multiplier holds -1, outside 0..65535 of its format UINT16·2^0"),
        ({"multiplier": ones(2) << 16}, "multiplier holds 65536, outside 0..65535 of its format UINT16·2^0"),
        ({"bias": ones(2) << 31}, "bias holds 2147483648, outside -2147483648..2147483647 of its format INT32·2^0"),
        ({"shift": 63}, f"shift = 63 {SHIFT}"),
        ({"shift": -41}, f"shift = -41 {SHIFT}"),
    ]],
    ("Lookup", {"table": ones(3)}, "table has 1 dimensions, but the node needs 2"),
    ("Lookup", {"table": ones(3, 2) * -129}, "table holds -129, outside -128..127 of its format INT8·2^-5"),
    *[(kind, {"channels": 0}, "channels and groups of a norm must be at least 1, not 0 and 1") for kind in NORMS],
    *[(kind, {"index_bits": i, "entry_bits": e},
       f"a norm's table of {i} index bits and {e} entry bits is out of range; 1..12 and 4..16 are possible")
      for kind in NORMS for i, e in ((0, 12), (13, 12), (8, 3), (8, 17))],
    *[(kind, change, sentence) for kind in ("LayerNorm", "RMSNorm") for change, sentence in [
        ({"epsilon": -1}, "epsilon of a norm must be at least 0, not -1"),
        ({"epsilon": 1 << 61}, f"a norm's sum of squares can reach {64 if kind == 'LayerNorm' else 62} bits; at most 62 are "
                               "possible: use narrower formats"),
        ({"o": IntFormat(8, True, 64), "i": I8}, f"shift = {-43 - 2 * (kind == 'RMSNorm')} {SHIFT}"),
    ]],
    ("Activation", {"entries": None}, "the activation must have either segments or entries"),
    ("Activation", {"segments": SILU}, "the activation must have either segments or entries"),
    ("Activation", {"entries": ones(255)},
     "the number of entries of the activation is (255,), but the node needs (256,)"),
    ("Activation", {"entries": ones(256) * 128}, "entries holds 128, outside -128..127 of its format INT8·2^-5"),
    ("Activation", {"entries": None, "segments": SILU, "i": I12},
     "the segments' input format of the activation is INT8·2^-5, but the node needs INT12·2^-7"),
    ("Activation", {"entries": None, "segments": SILU, "o": I12},
     "the segments' output format of the activation is INT8·2^-5, but the node needs INT12·2^-7"),
    ("Scan", {"A": -ones(4)}, "A has 1 dimensions, but the node needs 2"),
    ("Scan", {"D": ones(3)}, "the shape of D is (3,), but the node needs (2,)"),
    ("Scan", {"A": -ones(2, 3) * 129}, "A holds -129, outside -128..127 of its format INT8·2^-3"),
    ("Scan", {"A": np.array([[-1, -1, 1], [-1, -1, -1]])}, POSITIVE),
    ("Scan", {"D": ones(2) * 128}, "D holds 128, outside -128..127 of its format INT8·2^-6"),
    ("Scan", {"decay": fit("exp", IntFormat(16, True, 7), IntFormat(8, True, 7), 11)},
     "the decay reads INT16·2^-7: it must read δ·A, INT15·2^-7, or fewer bits of it"),
    ("Scan", {"decay": fit("exp", IntFormat(12, True, 8), IntFormat(8, True, 7), 11)},
     "the decay reads INT12·2^-8: it must read δ·A, INT15·2^-7, or fewer bits of it"),
    ("Scan", {"h0": ones(3, 2)}, "the shape of h0 is (3, 2), but the node needs (2, 3)"),
    ("Scan", {"h0": ones(2, 3) << 20}, "h0 holds 1048576, outside -65536..65535 of its format INT17·2^-9"),
    ("Scan", {"h_wide": IntFormat(24, True, 15)}, "the fraction bits of h_wide is 15, but the node needs 16"),
    ("Scan", scan_parts(delta_b=True) | {"b_bar": IntFormat(8, True, 6)},
     "the fraction bits of h is 10, but the node needs 11"),
    ("Scan", {"dt": IntFormat(7, False, -40), "a": IntFormat(8, True, 47)}, f"term_shift = -46 {SHIFT}"),
    ("Scan", {"o": IntFormat(12, True, 61)}, f"y_shift = -41 {SHIFT}"),
    ("Scan", scan_parts(delta_b=True) | {"b_bar": IntFormat(8, True, 50), "h": IntFormat(17, True, 55),
                                         "h_wide": IntFormat(24, True, 62)}, f"b_bar_shift = -41 {SHIFT}"),
    ("Scan", {"d": IntFormat(8, True, 16)}, f"D's 16 fraction bits {D_SCALE} -1; lower D's fraction bits"),
    ("Scan", {"d": IntFormat(8, True, -26)}, f"D's -26 fraction bits {D_SCALE} 41; lower D's fraction bits"),
    ("HeadScan", {"A": -ones(2, 3)}, "the columns of A is 3, but the node needs 1"),
    ("HeadScan", {"channels": 5}, "5 channels do not divide into 2 heads"),
    ("HeadScan", {"groups": 3}, "2 heads do not divide into 3 groups"),
    ("HeadScan", {"D": ones(3)}, "the shape of D is [3], but the node needs [2] or [4]"),
    ("HeadScan", {"states": 0}, "states = 0 is out of range; it must lie in 1..16384"),
    ("Multiply", {"o": IntFormat(8, True, 53)}, f"shift = -41 {SHIFT}"),
    ("Add", {"o": IntFormat(8, True, 48)}, f"shift = -41 {SHIFT}"),
    ("Attention", {"heads": 3}, "4 channels do not divide into 3 heads"),
    *[("Attention", {"tokens": tokens}, f"an attention is possible over 1..256 tokens, not {tokens}: shorten the sequences")
      for tokens in (0, 257)],
    ("Attention", {"multiplier": 0}, "multiplier = 0 is out of range; it must lie in 1..65535"),
    ("Attention", {"index_bits": 13},
     "an attention's table of 13 index bits and 12 entry bits is out of range; 1..12 and 4..16 are possible"),
    ("Attention", {"exp": fit("exp", I12, I8, 11)},
     "exp is from INT12·2^-7 to INT8·2^-5, but an attention needs it from signed to unsigned"),
    ("Attention", {"shift": 63}, f"shift = 63 {SHIFT}"),
    ("Attention", {"o": IntFormat(8, True, 64), "v": IntFormat(8, True, -14)}, f"y_shift = -58 {SHIFT}"),
    ("Attention", {"q": IntFormat(30), "k": IntFormat(30)},
     "the scaled score can reach 72 bits; at most 62 are possible: use narrower formats"),
    ("Attention", {"v": IntFormat(42, True, 5)},
     "the scaled sum can reach 64 bits; at most 62 are possible: use narrower formats"),
    ("Smooth", {"shift": 0}, "shift = 0 is out of range; a filter's must lie in 1..16"),
    ("Window", {"kernel_rows": 4},
     "its kernel of 4×2 is larger than its grid of 3×4 with its border: choose a smaller kernel or a wider border"),
    ("Window", {"stride_rows": 0}, "its stride_rows are 0; at least 1 is possible"),
    *[("Window", {f"pad_{side}": pad}, f"its border of {pad} zeros on the {side} is not narrower than its kernel of {kernel}")
      for side, pad, kernel in (("top", 1, 1), ("left", 2, 2), ("bottom", 9, 1), ("right", -1, 2))],
    *[(kind, {"o": I12}, "the output's format is INT12·2^-7, but the node needs INT8·2^-5")
      for kind in ("Reverse", "Smooth", "Window")],
    ("Pool", {"shift": 63}, f"shift = 63 {SHIFT}"),
    ("Pool", {"multiplier": 0}, "multiplier = 0 is out of range; it must lie in 1..65535"),
    ("Pool", {"multiplier": 65536}, "multiplier = 65536 is out of range; it must lie in 1..65535"),
    ("Pool", {"tokens": 0}, "tokens = 0 is out of range; a mean is possible over 1..1048576 tokens"),
    ("Pool", {"tokens": 1048577}, "tokens = 1048577 is out of range; a mean is possible over 1..1048576 tokens"),
]


@pytest.mark.parametrize("kind, change, sentence", BAD, ids=[f"{kind}-{k}" for k, (kind, _, _) in enumerate(BAD)])
def test_wrong_parameters_are_refused(kind, change, sentence):
    OPERATORS[kind](**GOOD[kind])
    with refuses(sentence):
        OPERATORS[kind](**GOOD[kind] | change)


INPUTS = [
    ("Linear", [Input(o=I12, channels=3)], "linear"),
    ("Lookup", [Input(o=IntFormat(3, False, 0), channels=1)], "lookup"),
    *[(kind, [Input(o=I12, channels=4)], "norm") for kind in NORMS],
    ("Conv1d", [Input(o=I12, channels=2)], "convolution"),
    ("Activation", [Input(o=I8, channels=4)], "activation"),
    ("Scan", [Input(o=I8, channels=2), Input(o=U7, channels=2), Input(o=I8, channels=3),
              Input(o=IntFormat(8, True, 4), channels=3)], "u dt B C"),
    ("HeadScan", [Input(o=I8, channels=4), Input(o=U7, channels=2), Input(o=I8, channels=6),
                  Input(o=IntFormat(8, True, 4), channels=6)], "u dt B C"),
    ("Multiply", [Input(o=I12, channels=4), Input(o=I8, channels=4)], "first second"),
    ("Add", [Input(o=I12, channels=4), Input(o=I8, channels=4)], "first second"),
    ("Pool", [Input(o=I8, channels=4)], "pool"),
    ("Smooth", [Input(o=I8, channels=4)], "filter"),
    ("Reverse", [Input(o=I8, channels=4)], "reverse"),
    ("Attention", [Input(o=I8, channels=4), Input(o=I12, channels=4), Input(o=I8, channels=4)], "q k v"),
    ("Window", [Input(o=I8, channels=2)], "window"),
    ("Depthwise", [Input(o=I12, channels=6)], "depthwise"),
]


@pytest.mark.parametrize("kind, producers, names", INPUTS, ids=[case[0] for case in INPUTS])
def test_wrong_producers_are_refused(kind, producers, names):
    operator = OPERATORS[kind](**GOOD[kind])
    operator.check_inputs(producers)
    for k, name in enumerate(names.split()):
        right = producers[k]
        for wrong, sentence in (
            (replace(right, channels=9), f"the width of the {name} input is 9, but the node needs {right.channels}"),
            (replace(right, o=IntFormat(9, True, 2)),
             f"the format of the {name} input is INT9·2^-2, but the node needs {right.o}"),
        ):
            with refuses(sentence):
                operator.check_inputs([*producers[:k], wrong, *producers[k + 1:]])


@pytest.mark.parametrize("kind", OPERATORS)
def test_width(kind):
    widths = {"Input": 3, "Linear": 2, "Lookup": 3, "Conv1d": 2, "Depthwise": 2, "Scan": 2}
    assert OPERATORS[kind](**GOOD[kind]).width == widths.get(kind, 4)
    assert len(GOOD) == len(OPERATORS)


def test_matmul_is_exact_on_both_sides_of_the_float_bound():
    """Two terms whose sum is odd and near 2^53: float64 holds it below the bound, int64 above."""
    for top, exact_in_float in ((1 << 26, True), (1 << 27, False)):
        x = np.array([[top - 1, top - 1], [1 - top, 1 - top], [top - 1, 1], [-top, 3]])
        weight = np.array([[top - 1, -1], [top - 1, top - 2], [3, 5], [-(1 << 26), 1]])
        bound = int(np.abs(weight).sum(1).max()) * top
        assert (bound < EXACT_FLOAT) == exact_in_float
        expected = [[sum(a * b for a, b in zip(row, column, strict=True)) for column in weight.tolist()] for row in x.tolist()]
        assert matmul(x, weight, bound).tolist() == expected
        assert max(abs(v) for row in expected for v in row) > bound // 2
    x = RNG.integers(-(1 << 25), 1 << 25, (50, 4))
    weight = RNG.integers(-(1 << 25), 1 << 25, (30, 4))
    assert np.array_equal(matmul(x, weight, 4 << 50), x @ weight.T)
    for a, b, limit in ((1 << 12, 1 << 12, EXACT_FLOAT32), (1 << 26, 1 << 27, EXACT_FLOAT)):
        for one in (-1, 1):  # above the limit the float would lose it
            assert matmul(np.array([[a, 1]]), np.array([[b, one]]), limit + one).tolist() == [[limit + one]]


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("shift", [-5, 0, 1, 7, 30])
def test_int32_requantizes_up_to_its_bound(shift, rounding):
    bound = ((1 << 31) - 1) >> -shift if shift < 0 else (1 << 31) - 1 - (1 << shift)
    for o in (IntFormat(31), IntFormat(31, False), IntFormat(8)):
        assert word(bound, shift, o) == np.int32 and word(bound + 1, shift, o) == np.int64
        x = np.array([-bound, 1 - bound, -1, 0, 1, bound - 1, bound], np.int32)
        y = requantize(x, shift, o, rounding)
        assert y.dtype == np.int32
        assert y.tolist() == [to_format(value * power(-shift), o, rounding) for value in x.tolist()]
    assert word(1, 0, IntFormat(32)) == word(1, 0, IntFormat(32, False)) == word(1, 31) == np.int64


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("dyadic", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_linear_against_fractions(rounding, dyadic, relu):
    rng = np.random.default_rng(1)
    multiplier = rng.integers(1, 1 << 16, 5) if dyadic else ones(5)
    op = Linear(o=I8, rounding=rounding, weight=rng.integers(-128, 128, (5, 7)), bias=rng.integers(-3000, 3000, 5),
                multiplier=multiplier, i=I8, w=I8, shift=23 if dyadic else 8, relu=relu)
    assert op.dyadic == dyadic
    x = rng.integers(-128, 128, (4, 6, 7))
    x[0, 0], x[0, 1] = 127 * np.sign(op.weight[0]), -128 * np.sign(op.weight[0])
    accumulators = x @ op.weight.T + op.bias
    assert abs(accumulators).max() <= op.bound
    y = op(x)
    for index, value in np.ndenumerate(accumulators):
        expected = to_format(Fraction(int(value) * int(multiplier[index[2]])) / (1 << op.shift), I8, rounding)
        assert y[index] == (max(expected, 0) if relu else expected)
    assert y.max() == 127 and y.min() == (0 if relu else -128)


@pytest.mark.parametrize("above", [0, 1])
@pytest.mark.parametrize("limit, bits", [(EXACT_FLOAT32 - 1, 31), ((1 << 31) - 17, 31), (EXACT_FLOAT - 1, 51)])
@pytest.mark.parametrize("kind", [Linear, Conv1d])
def test_weighted_at_the_limits_of_its_types(kind, limit, bits, above):
    """Accumulators that reach a bound just inside or outside float32, int32 and float64."""
    o, weight = IntFormat(bits), (limit - (1 << 20)) // 128
    op = kind(o=o, weight=np.array([[weight]]), bias=np.array([128 * weight - limit - above]), multiplier=ones(1), i=I8,
              w=IntFormat(50), shift=4)
    assert op.bound == limit + above
    assert op.word == (np.int32 if op.bound < (1 << 31) - 16 else np.int64)
    x = codes(I8)[:, None, None]
    expected = [to_format(Fraction(int(weight * v + op.bias[0]), 16), o, Rounding.HALF_UP) for v in x.ravel().tolist()]
    assert op(x).ravel().tolist() == op(x.astype(np.int32)).ravel().tolist() == expected


@pytest.mark.parametrize("taps", [1, 2, 4, 9])
def test_conv1d_against_a_loop(taps):
    rng = np.random.default_rng(taps)
    op = Conv1d(o=I8, weight=rng.integers(-128, 128, (3, taps)), bias=rng.integers(-3000, 3000, 3), multiplier=ones(3), i=I8,
                w=I8, shift=7)
    x = rng.integers(-128, 128, (2, 6, 3))
    y = op(x)
    for b, t, c in np.ndindex(*x.shape):
        total = int(op.bias[c])
        for k in range(taps):
            past = t - (taps - 1) + k
            total += int(op.weight[c, k]) * int(x[b, past, c]) if past >= 0 else 0
        assert y[b, t, c] == to_format(Fraction(total, 128), I8, Rounding.HALF_UP)
        assert abs(total) <= op.bound


def test_lookup_clamps_ids_to_its_last_row():
    table = RNG.integers(-128, 128, (5, 3))
    op = Lookup(o=I8, table=table, i=IntFormat(3, False, 0))
    assert op(np.array([[[0], [4], [5], [7]]])).tolist() == [table[[0, 4, 4, 4]].tolist()]


@pytest.mark.parametrize("size", [255, 256])
def test_activation_by_segments_and_by_entries(size, monkeypatch):
    monkeypatch.setattr("emamba.ops.activation.TABLE_SIZE", size)
    x = codes(I8)[None, :, None]
    table = Activation(o=I8, channels=1, i=I8, entries=exact("silu", I8, I8))
    assert table(x).ravel().tolist() == exact("silu", I8, I8).tolist()
    lines = Activation(o=I8, channels=1, i=I8, segments=SILU)
    assert np.array_equal(lines(x), SILU(x)) and ("table" in vars(lines)) == (size >= 256)  # a table that is made is kept
    assert 0 < abs(lines(x) - table(x)).max() <= 4


@pytest.mark.parametrize("channels", [1, 3, 20])
def test_range_norm_near_the_fraction(channels):
    op = RangeNorm(o=IntFormat(8, True, 7), channels=channels, i=I12)
    for token in np.random.default_rng(2).integers(-2048, 2048, (60, channels)):
        total, span = int(token.sum()), int(token.max() - token.min())
        for value, out in zip(token.tolist(), op(token[None, None])[0, 0].tolist(), strict=True):
            true = Fraction((channels * value - total) * 128, channels * span) if span else Fraction(0)
            assert abs(out - min(max(true, -128), 127)) < 1


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm])
@pytest.mark.parametrize("channels, i, epsilon", [(1, I12, 0), (2, I8, 1), (3, I12, 0), (20, I12, 3),
                                                  (5, IntFormat(24, True, 20), 9)])
def test_layer_norm_in_plain_integers(channels, i, epsilon, kind, rounding):
    """By docs/numerics.md, in Python's integers: every token's table entry from its own definition."""
    op = kind(o=IntFormat(8, True, 4), channels=channels, i=i, epsilon=epsilon, rounding=rounding)
    bits, exponent = op.spread_bits, op.reciprocals[1]
    rng = np.random.default_rng(4)
    tokens = rng.integers(i.min, i.max + 1, (60, channels)) >> rng.integers(0, i.bits, (60, 1))
    tokens = np.concatenate([tokens, np.full((1, channels), i.min), np.full((1, channels), i.max), np.zeros((1, channels), int),
                             rng.choice([i.min, i.max], (9, channels)), np.eye(channels, dtype=int)[:1]])
    for token, normed in zip(tokens.tolist(), op(tokens[None])[0].tolist(), strict=True):
        squares, total = sum(value**2 for value in token) + epsilon, sum(token)
        spread = channels * squares - total**2 if kind is LayerNorm else squares
        assert spread < 1 << bits
        zeros = bits - spread.bit_length() if spread else 0
        for value, out in zip(token, normed, strict=True):
            n = channels * value - total if kind is LayerNorm else value
            entry = 0
            if spread:
                below = 7  # bits below the leading one, which the table's 8 index bits leave beside the shift's lowest
                first = spread << zeros >> (bits - 1 - below) << (bits - 1 - below)
                middle = first + Fraction((1 << (bits - 1 - below)) - 1, 2)
                gain = 1 if kind is LayerNorm else channels
                square = 4**exponent * gain * Fraction(2) ** (zeros % 2) / middle
                entry = (math.isqrt(math.floor(4 * square)) + 1) // 2
            assert out == to_format((n << zeros // 2) * entry * power(op.o.frac - exponent), op.o, rounding)
            assert abs(n << zeros // 2) <= op.shifted_bound and abs(n) <= op.n_bound
            assert n == 0 or zeros // 2 <= op.largest_shift


# -- the scan -----------------------------------------------------------------------------------------------------------------


def big_integer_step(op: Scan, h: list, u: list, dt: list, B: list, C: list):
    """One token of one sequence in plain Python integers and fractions of the paper's formulas, scale by scale."""
    y, stored, wide = [], [], []
    one = 1 << op.a_bar.frac
    for e in range(op.width):
        row, acc = [], Fraction(0)
        for n in range(op.d_state):
            p = dt[e] * int(op.A[e, n])
            piece = sum(p >= int(knot) for knot in op.decay.knots)
            line = int(op.decay.slopes[piece]) * p + int(op.decay.offsets[piece])
            a_bar = to_format(line * power(-op.decay.shift), op.a_bar, op.rounding)
            if op.hold and dt[e] == 0:
                a_bar = one
            if op.delta_b:
                value = dt[e] * B[n] * power(-op.dt.frac - op.B.frac)
                b_bar = to_format(value * power(op.b_bar.frac), op.b_bar, op.rounding)
                term = b_bar * u[e] * one
            else:
                value = dt[e] * u[e] * B[n] * power(-op.dt.frac - op.u.frac - op.B.frac)
                term = rounded(value * power(op.h_wide.frac), op.rounding)
            row.append(min(max(a_bar * h[e][n] + term, op.h_wide.min), op.h_wide.max))
            acc += row[-1] * C[n] * power(-op.h_wide.frac - op.C.frac)
        acc += int(op.D[e]) * u[e] * power(-op.d.frac - op.u.frac)
        y.append(to_format(acc * power(op.o.frac), op.o, op.rounding))
        wide.append(row)
        stored.append([to_format(Fraction(value, one), op.h, op.rounding) for value in row])
    return y, stored, wide


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("delta_b", [False, True])
@pytest.mark.parametrize("h_bits", [17, 10])
@pytest.mark.parametrize("hold", [False, True])
def test_scan_step_against_big_integers(hold, h_bits, delta_b, rounding):
    op = Scan(**scan_parts(delta_b=delta_b, rounding=rounding, h_bits=h_bits, seed=h_bits), hold=hold)
    rng = np.random.default_rng(5)
    tokens, batch = 60, 2
    u = rng.integers(op.u.min, op.u.max + 1, (batch, tokens, 2))
    dt = rng.integers(0, op.dt.max + 1, (batch, tokens, 2)) >> rng.integers(0, 6, (batch, tokens, 1))
    B = rng.integers(op.B.min, op.B.max + 1, (batch, tokens, 3))
    C = rng.integers(op.C.min, op.C.max + 1, (batch, tokens, 3))
    # twenty tokens that drive the state to each end
    u[:, 20:40], dt[:, 20:40], B[:, 20:30, :2], B[:, 20:40, 2:] = -128, 2, -128, 127
    B[:, 30:40, :2] = 127
    h = np.zeros((batch, 2, 3), np.int64)
    plain = [h[b].tolist() for b in range(batch)]
    low = high = False
    ys = []
    for t in range(tokens):
        y, h, wide = op.step(h, u[:, t], dt[:, t], B[:, t], C[:, t])
        for b in range(batch):
            expected = big_integer_step(op, plain[b], *(x[b, t].tolist() for x in (u, dt, B, C)))
            assert (y[b].tolist(), h[b].tolist(), wide[b].tolist()) == expected
            plain[b] = expected[1]
        low, high = low or (wide == op.h_wide.min).any(), high or (wide == op.h_wide.max).any()
        ys.append(y)
    assert low == high == (h_bits == 10)  # the narrow state saturates on both sides, the wide one on neither
    assert np.array_equal(op(u, dt, B, C), np.stack(ys, 1))


@pytest.mark.parametrize("delta_b", [False, True])
@pytest.mark.parametrize("channels, heads, groups, states, each", [
    (4, 2, 2, 3, False), (6, 3, 1, 2, True), (5, 1, 1, 4, False), (3, 3, 3, 1, False), (12, 6, 3, 5, True)])
def test_heads_are_scans_with_shared_factors(channels, heads, groups, states, each, delta_b):
    parts = head_scan_parts(channels, heads, groups, states, delta_b=delta_b, seed=channels)
    rng = np.random.default_rng(channels)
    if each:
        parts["D"] = rng.integers(-128, 128, channels)
    op = HeadScan(**parts)
    u, dt, B, C = (rng.integers(f.min, f.max + 1, (2, 30, width)) for f, width in (
        (op.u, channels), (op.dt, heads), (op.B, groups * states), (op.C, groups * states)))
    dt[:, ::5] = 0
    found, size = op(u, dt, B, C), channels // groups
    for group in range(groups):
        own, of_B = slice(group * size, (group + 1) * size), slice(group * states, (group + 1) * states)
        head = np.arange(channels)[own] // (channels // heads)
        alone = {key: value for key, value in parts.items() if key not in ("channels", "groups", "states")}
        plain = Scan(**alone | {"A": np.repeat(parts["A"][head], states, 1), "D": op.direct[own]})
        assert np.array_equal(found[..., own], plain(u[..., own], dt[..., head], B[..., of_B], C[..., of_B]))
    first, state = op.resume(None, *(x[:, :13] for x in (u, dt, B, C)))
    rest, _ = op.resume(state, *(x[:, 13:] for x in (u, dt, B, C)))
    assert np.array_equal(np.concatenate([first, rest], 1), found)


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("delta_b", [False, True])
@pytest.mark.parametrize("B, C", [(I8, I8), (I8, IntFormat(20, True, 17)), (IntFormat(26, True, 23), I8)])
@pytest.mark.parametrize("h_bits", [10, 17, 23, 24, 30])
def test_scan_step_at_the_extremes_of_its_formats(h_bits, B, C, delta_b, rounding):
    op = Scan(**scan_parts(delta_b=delta_b, rounding=rounding, h_bits=h_bits, B=B, C=C))
    assert op.word == (np.int32 if h_bits < 24 and B is I8 else np.int64)
    assert word(op.y_bound, op.y_shift, op.o) == (np.int32 if h_bits == 10 and C is I8 else np.int64)
    edges = list(itertools.product(*((f.min, f.max) for f in (op.h, op.u, op.dt, op.B, op.C))))
    h, u, dt, B, C = (np.array(x)[:, None] for x in zip(*edges, strict=True))
    h = np.broadcast_to(h[..., None], (len(edges), 2, 3))
    u, dt, B, C = (np.repeat(x, width, 1) for x, width in ((u, 2), (dt, 2), (B, 3), (C, 3)))
    results = [x.tolist() for x in op.step(h, u, dt, B, C)]
    for k, result in enumerate(zip(*results, strict=True)):
        assert result == big_integer_step(op, *(x[k].tolist() for x in (h, u, dt, B, C)))


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("dt", [U7, IntFormat(7, True, 4), IntFormat(18, False, 15)])
def test_the_table_of_decays_changes_nothing(dt, hold, monkeypatch):
    decay = fit("exp", IntFormat(15, True, dt.frac + 3), IntFormat(8, True, 7), 11)
    parts = scan_parts(dt=dt, hold=hold, decay=replace(decay, i=IntFormat(dt.bits + 8, True, dt.frac + 3)))
    op, rng = Scan(**parts), np.random.default_rng(4)
    assert (op.decay_table is None) == (dt.bits == 18)
    x = [rng.integers(f.min, f.max + 1, (3, 200, width)) for f, width in ((op.u, 2), (dt, 2), (op.B, 3), (op.C, 3))]
    x[1][:, :3] = [[dt.min], [dt.max], [0]]
    y = op(*x)
    monkeypatch.setattr("emamba.ops.decay.TABLE_SIZE", 0)
    direct = Scan(**parts)
    assert direct.decay_table is None
    assert np.array_equal(direct(*x), y)
    if op.decay_table is not None:
        table = op.decay_table.reshape(3, 2, -1)
        assert np.array_equal(table.transpose(2, 1, 0), direct.decays(np.repeat(codes(dt)[:, None], 2, 1)))


@pytest.mark.parametrize("delta_b", [False, True])
def test_scan_goes_on_from_a_state(delta_b):
    op, rng = Scan(**scan_parts(delta_b=delta_b)), np.random.default_rng(6)
    u, dt, B, C = (rng.integers(f.min, f.max + 1, (1, 8, width)) for f, width in ((op.u, 2), (op.dt, 2), (op.B, 3), (op.C, 3)))
    h = np.zeros((1, 2, 3), np.int64)
    for t in range(4):
        _, h, _ = op.step(h, u[:, t], dt[:, t], B[:, t], C[:, t])
    whole, rest = op(u, dt, B, C), op.resume(h, *(x[:, 4:] for x in (u, dt, B, C)))[0]
    assert np.array_equal(rest, whole[:, 4:])
    assert not np.array_equal(op(*(x[:, 4:] for x in (u, dt, B, C))), whole[:, 4:])


@pytest.mark.parametrize("rounding", Rounding)
def test_delta_b_is_the_papers_input_term(rounding):
    """From a zero state, h = (requantize(δ·B to b_bar) · u) exactly; within half a step of δ·B·u where b_bar holds it."""
    op = Scan(**scan_parts(1, 1, delta_b=True, rounding=rounding))
    dt, B = (x.ravel() for x in np.meshgrid(np.arange(128), np.arange(-128, 128)))
    u = np.random.default_rng(7).integers(-128, 128, dt.size)
    zero = np.zeros((dt.size, 1, 1), np.int64)
    _, h, wide = op.step(zero, u[:, None], dt[:, None], B[:, None], zero[..., 0])
    one = 1 << op.a_bar.frac
    b_bar = [to_format(Fraction(d * b) * power(op.b_bar.frac - op.dt.frac - op.B.frac), op.b_bar, rounding)
             for d, b in zip(dt.tolist(), B.tolist(), strict=True)]
    assert wide.ravel().tolist() == [value * v * one for value, v in zip(b_bar, u.tolist(), strict=True)]
    assert h.ravel().tolist() == [value * v for value, v in zip(b_bar, u.tolist(), strict=True)]
    true = dt * op.dt.step * B * op.B.step
    inside = (true >= op.b_bar.min * op.b_bar.step) & (true <= op.b_bar.max * op.b_bar.step)
    error = abs(h.ravel() * op.h.step - true * u * op.u.step)[inside]
    limit = (1.0 if rounding is Rounding.TRUNCATE else 0.5) * op.b_bar.step * abs(u[inside]) * op.u.step
    assert inside.sum() > 10_000 and not inside.all()
    assert (error <= limit).all()
    assert max(map(abs, b_bar)) == op.b_bar.magnitude
    assert abs(wide).max() <= op.term_bound


@pytest.mark.parametrize("rounding", Rounding)
def test_scan_bounds_hold_at_the_extremes(rounding):
    op = Scan(**scan_parts(rounding=rounding))
    edges = [(u, dt, B) for u in (op.u.min, op.u.max) for dt in (op.dt.min, op.dt.max) for B in (op.B.min, op.B.max)]
    u, dt, B = (np.array(x)[:, None] for x in zip(*edges, strict=True))
    zero = np.zeros((len(edges), 2, 3), np.int64)
    _, _, wide = op.step(zero, np.repeat(u, 2, 1), np.repeat(dt, 2, 1), np.repeat(B, 3, 1), zero[:, 0])
    largest = int(abs(wide).max())
    assert largest <= op.term_bound <= largest + 1
    assert op.y_bound == 3 * 128 * (1 << 23) + (int(abs(op.D).max()) * 128 << op.d_shift)


# -- elementwise and pool -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("a, b, o", [(I12, I8, IntFormat(12, True, 8)), (I8, I12, IntFormat(8, True, 3)),
                                     (U7, IntFormat(6, True, -2), IntFormat(14, True, 4)), (I8, I8, IntFormat(16, True, 13)),
                                     (IntFormat(16), IntFormat(16), IntFormat(31)), (IntFormat(17), IntFormat(16), IntFormat(31)),
                                     (IntFormat(30), IntFormat(30, True, 1), IntFormat(31, True, -4)),
                                     (IntFormat(30), IntFormat(30, True, 2), IntFormat(31, True, -4))])
@pytest.mark.parametrize("kind", [Multiply, Add])
def test_elementwise_against_fractions(kind, a, b, o, rounding):
    rng = np.random.default_rng(8)
    op = kind(o=o, rounding=rounding, channels=5, a=a, b=b)
    x, y = (rng.integers(f.min, f.max + 1, (3, 40, 5)) for f in (a, b))
    x[0, :2], y[0, :2] = [[a.max], [a.min]], b.max
    x[0, 2:4], y[0, 2:4] = [[a.max], [a.min]], b.min
    result = op(x, y)
    assert np.array_equal(op(x.astype(np.int32), y.astype(np.int32)), result)
    for p, q, r in zip(x.ravel().tolist(), y.ravel().tolist(), result.ravel().tolist(), strict=True):
        left, right = p * power(-a.frac), q * power(-b.frac)
        true = left * right if kind is Multiply else left + right
        assert r == to_format(true * power(o.frac), o, rounding)


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("tokens", [1, 3, 16, 1000])
def test_pool_against_fractions(tokens, rounding):
    power_of_two = tokens & (tokens - 1) == 0
    extra = tokens.bit_length() - 1
    multiplier, shift = (1, extra) if power_of_two else (round(2 ** (14 + extra) / tokens), 14 + extra)
    o = IntFormat(9, True, I8.frac + 1)
    op = Pool(o=o, rounding=rounding, channels=4, i=I8, mean=True, tokens=tokens, multiplier=multiplier, shift=shift - 1)
    x = np.random.default_rng(9).integers(-128, 128, (3, tokens, 4))
    x[0, :, 0], x[0, :, 1] = 127, -128
    y = op(x)
    assert y.shape == (3, 1, 4)
    for (b, c), total in np.ndenumerate(x.sum(1)):
        total = int(total)
        assert abs(total) <= op.bound
        assert y[b, 0, c] == to_format(Fraction(2 * total * multiplier, 1 << shift), o, rounding)
        assert abs(y[b, 0, c] - min(max(Fraction(2 * total, tokens), o.min), o.max)) <= (1 if rounding is Rounding.TRUNCATE
                                                                                         else Fraction(1, 2)) + Fraction(1, 50)
    last = Pool(o=I8, rounding=rounding, channels=4, i=I8, mean=False, tokens=tokens)
    assert np.array_equal(last(x), x[:, -1:])


@pytest.mark.parametrize("tokens", [1, 2, 5, 1000])
def test_reverse_puts_the_last_token_first(tokens):
    op = Reverse(o=I8, channels=3, i=I8)
    x = np.random.default_rng(10).integers(-128, 128, (2, tokens, 3))
    y = op(x)
    for b, t in np.ndindex(2, tokens):
        assert y[b, t].tolist() == x[b, tokens - 1 - t].tolist()
    with refuses("a Reverse needs whole sequences, so none goes on from a state: give each whole"):
        op.resume(None, x)


# -- the integer model --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["emamba-image", "emamba-per-token", "standard-sequence"])
def test_blocks_of_sequences_change_nothing(shape, monkeypatch):
    artifact = random_artifact(shape)
    model, tokens = IntegerModel(artifact), artifact.codec.encode(random_inputs(artifact.config, 8), artifact.input)
    whole = model.run(tokens)
    monkeypatch.setattr(integer, "BLOCK", 3)
    for batch in (8, 3, 1, 0):
        for name, value in model.run(tokens[:batch]).items():
            assert value.dtype == np.int64 and value.flags.c_contiguous
            assert np.array_equal(value, whole[name][:batch])


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("shift", [1, 3, 16])
@pytest.mark.parametrize("i", [I8, U7])
def test_smooth_stays_in_its_format_and_goes_on(i, shift, rounding):
    op, rng = Smooth(o=i, channels=3, i=i, shift=shift, rounding=rounding), np.random.default_rng(shift)
    x = rng.integers(i.min, i.max + 1, (2, 400, 3))
    x[:, 100:200], x[:, 200:300] = i.min, i.max
    y = op(x)
    assert np.array_equal(y[:, 0], x[:, 0]) and y.min() >= i.min and y.max() <= i.max
    state = [int(v) << shift for v in x[0, 0]]
    for t in range(1, 400):
        state = [s + int(v) - rounded(Fraction(s, 1 << shift), rounding) for s, v in zip(state, x[0, t], strict=True)]
        assert y[0, t].tolist() == [rounded(Fraction(s, 1 << shift), rounding) for s in state]
    first, kept = op.resume(None, x[:, :150])
    assert np.array_equal(np.concatenate([first, op.resume(kept, x[:, 150:])[0]], 1), y)
