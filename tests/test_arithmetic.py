from fractions import Fraction
from math import isqrt

import numpy as np
import pytest
from apytypes import APyFixedArray, OverflowMode, QuantizationMode

from emamba.base.arithmetic import (
    layer_norm,
    leading_zeros,
    range_norm,
    reciprocal_table,
    requantize,
    round_shift,
    rsqrt_table,
    saturate,
)
from emamba.base.formats import IntFormat, Rounding

pytestmark = pytest.mark.quick

MODES = {
    Rounding.HALF_UP: QuantizationMode.RND,
    Rounding.HALF_EVEN: QuantizationMode.RND_CONV,
    Rounding.TRUNCATE: QuantizationMode.TRN,
}
WIDTHS = (1, 3, 20, 40, 57)


def fixed(x: np.ndarray, bits: int, frac: int) -> APyFixedArray:
    return APyFixedArray([int(v) for v in x], bits=bits, frac_bits=frac)


def integers(x: APyFixedArray) -> np.ndarray:
    return x.to_numpy().astype(np.int64)


def every(bits: int) -> np.ndarray:
    return np.arange(-(1 << (bits - 1)), 1 << (bits - 1), dtype=np.int64)


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("shift", range(1, 11))
def test_round_shift_equals_apytypes_on_every_code(shift, rounding):
    for bits in (2, 5, 8, 12):
        x = every(bits)
        cast = fixed(x, bits, shift).cast(bits=24, frac_bits=0, quantization=MODES[rounding])
        assert np.array_equal(round_shift(x, shift, rounding), integers(cast))


@pytest.mark.parametrize("rounding", Rounding)
def test_round_shift_equals_apytypes_on_wide_accumulators(rounding):
    rng = np.random.default_rng(0)
    for shift in (1, 7, 16, 23, 31):
        x = rng.integers(-(1 << 40), 1 << 40, 2000)
        ties = (x >> shift << shift) + (1 << (shift - 1))
        for values in (x, ties, ties - 1, ties + 1):
            cast = fixed(values, 48, shift).cast(bits=50, frac_bits=0, quantization=MODES[rounding])
            assert np.array_equal(round_shift(values, shift, rounding), integers(cast))


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("shift", [0, -1, -5])
def test_round_shift_left_is_exact(shift, rounding):
    assert np.array_equal(round_shift(every(8), shift, rounding), every(8) * 2**-shift)


def test_rounding_of_ties():
    x = np.array([-6, -5, -3, -2, -1, 1, 2, 3, 5, 6])
    assert round_shift(x, 2, Rounding.HALF_UP).tolist() == [-1, -1, -1, 0, 0, 0, 1, 1, 1, 2]
    assert round_shift(x, 2, Rounding.HALF_EVEN).tolist() == [-2, -1, -1, 0, 0, 0, 0, 1, 1, 2]
    assert round_shift(x, 2, Rounding.TRUNCATE).tolist() == [-2, -2, -1, -1, -1, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("o_bits", [2, 5, 8])
def test_saturate_equals_apytypes_on_every_code(o_bits):
    x = every(11)
    cast = fixed(x, 11, 0).cast(bits=o_bits, frac_bits=0, overflow=OverflowMode.SAT)
    assert np.array_equal(saturate(x, IntFormat(o_bits)), integers(cast))
    assert np.array_equal(saturate(x, IntFormat(o_bits, False)), np.minimum(np.maximum(x, 0), 2**o_bits - 1))


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("o_bits", [2, 4, 8])
def test_requantize_equals_apytypes_on_every_code(o_bits, rounding):
    for bits in (6, 9, 13):
        for shift in range(bits):
            cast = fixed(every(bits), bits, shift).cast(
                bits=o_bits, frac_bits=0, quantization=MODES[rounding], overflow=OverflowMode.SAT)
            assert np.array_equal(requantize(every(bits), shift, IntFormat(o_bits), rounding), integers(cast))


@pytest.mark.parametrize("rounding", Rounding)
def test_requantize_with_a_dyadic_scale(rounding):
    x, multiplier, shift = every(9), 179, 12
    cast = fixed(x * multiplier, 20, shift).cast(bits=4, frac_bits=0, quantization=MODES[rounding], overflow=OverflowMode.SAT)
    assert np.array_equal(requantize(x, shift, IntFormat(4), rounding, multiplier), integers(cast))


def test_leading_zeros_on_every_range():
    assert leading_zeros(np.arange(4096), 12).tolist() == [0] + [12 - r.bit_length() for r in range(1, 4096)]


def test_leading_zeros_beyond_the_bits_of_a_float():
    powers = np.array([1 << k for k in range(62)])
    assert leading_zeros(powers, 62).tolist() == leading_zeros(2 * powers - 1, 62).tolist() == list(range(61, -1, -1))
    assert leading_zeros((2 * powers - 1).astype(np.int32)[:30], 31).tolist() == list(range(30, 0, -1))


@pytest.mark.parametrize("width", [*WIDTHS, 64])
@pytest.mark.parametrize("bits, index_bits", [(8, 7), (12, 11), (12, 9), (1, 4)])
@pytest.mark.parametrize("entry_bits", [12, 18])
def test_reciprocal_table(width, bits, index_bits, entry_bits):
    table, exponent = reciprocal_table(width, bits, index_bits, entry_bits)
    index_bits = min(index_bits, bits - 1)
    dropped = bits - 1 - index_bits
    assert len(table) == 1 << index_bits
    # The first entry of a power-of-two width reaches 2^(entry_bits − 1) itself: entries are unsigned.
    assert 1 << (entry_bits - 3) <= table.min() and table.max() <= 1 << (entry_bits - 1)
    assert (np.diff(table) <= 0).all()
    for i, entry in enumerate(table.tolist()):
        ranges = Fraction(2 * (((1 << index_bits) + i) << dropped) + (1 << dropped) - 1, 2)
        assert abs(entry - Fraction(1 << exponent) / (width * ranges)) <= Fraction(1, 2)


def norm_inputs(width: int, bits: int) -> np.ndarray:
    """Random tokens of every span, tokens of span 0 and 1, and tokens with one channel at an extreme."""
    rng = np.random.default_rng(width * bits)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    x = rng.integers(low, high + 1, (150, width))
    narrow = (x >> rng.integers(0, bits, (150, 1))) + rng.integers(low // 2, high // 2, (150, 1))
    flat = np.repeat(rng.integers(low, high, (6, 1)), width, 1)
    step = flat.copy()
    step[:, 0] += 1
    lone = np.full((2, width), low)
    lone[:, -1] = high
    return np.concatenate([x, np.clip(narrow, low, high), flat, step, lone, -1 - lone])


def norm_error(width: int, bits: int, index_bits: int, entry_bits: int, o: IntFormat) -> float:
    """Largest |y − (x − mean) / (max − min)| in output LSBs against exact fractions clipped to the format."""
    x = norm_inputs(width, bits)
    table, exponent = reciprocal_table(width, bits, index_bits, entry_bits)
    y = range_norm(x, bits, table, exponent - o.frac, o)
    worst = Fraction(0)
    for token, normed in zip(x.tolist(), y.tolist(), strict=True):
        total, span = sum(token), max(token) - min(token)
        for value, out in zip(token, normed, strict=True):
            true = Fraction((width * value - total) << o.frac, width * span) if span else Fraction(0)
            worst = max(worst, abs(out - min(max(true, o.min), o.max)))
    return float(worst)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("bits, index_bits, entry_bits, o_bits, worst", [
    (8, 7, 16, 8, 0.51),
    (8, 7, 18, 12, 0.52),
    (12, 11, 18, 12, 0.52),
    (12, 7, 16, 8, 0.9),
    (12, 8, 16, 8, 0.7),
])
def test_range_norm_against_exact_fractions(width, bits, index_bits, entry_bits, o_bits, worst):
    assert norm_error(width, bits, index_bits, entry_bits, IntFormat(o_bits, True, o_bits - 1)) < worst


def test_range_norm_with_a_short_index_costs_steps_of_a_wide_output():
    """12-bit outputs need every bit of the range in the index: two bits fewer cost more than one step."""
    assert 1 < norm_error(20, 12, 9, 18, IntFormat(12, True, 11)) < 2.5


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("width", WIDTHS)
def test_range_norm_of_a_flat_token_is_zero(width, bits, rounding):
    table, exponent = reciprocal_table(width, bits, 8, 16)
    x = np.repeat(np.arange(-(1 << (bits - 1)), 1 << (bits - 1))[:, None], width, 1)
    o = IntFormat(8, True, 7)
    assert not range_norm(x, bits, table, exponent - o.frac, o, rounding).any()


@pytest.mark.parametrize("bits, gain, index_bits, entry_bits, worst", [
    (32, 1, 8, 12, "0.00211"),
    (28, 20, 8, 12, "0.00223"),
    (62, 57, 8, 12, "0.00215"),
    (32, 1, 12, 16, "0.000131"),
    (28, 20, 12, 16, "0.000141"),
    (8, 3, 12, 16, "0.000018"),
    (2, 1, 8, 12, "0.00035"),
])
def test_reciprocal_square_root_of_every_value(bits, gain, index_bits, entry_bits, worst):
    """The relative error of every V: within one shift and one entry, it is largest at the least or at the largest V."""
    table, exponent = rsqrt_table(gain, bits, index_bits, entry_bits)
    half, worst = len(table) // 2, Fraction(worst)
    below = half.bit_length() - 1
    assert below == min(index_bits, bits) - 1 and 1 << (entry_bits - 2) < table.min() and table.max() < 1 << entry_bits
    low, high = ((1 + sign * worst) ** 2 * gain * 4**exponent for sign in (-1, 1))
    top, seen = 1 << (bits - 1), 0
    for k in range(bits):
        for i in range(half):
            first, end = ((half + i) << (bits - 1 - below), (half + i + 1) << (bits - 1 - below))
            least, most = -(-first >> k), (end - 1) >> k  # the V with `first` ≤ V << k < `end`
            if least <= most:
                assert top <= least << k and (most << k) < 2 * top
                factor = int(table[half * (k & 1) + i]) << (k >> 1)
                assert low <= factor**2 * least and factor**2 * most <= high
                seen += most - least + 1
    assert seen == 2 * top - 1


ROOT = 60
"""Fraction bits to which the exact quotients of the next tests are known."""


def layer_norm_error(width: int, bits: int, epsilon: int, index_bits: int, entry_bits: int, o: IntFormat,
                     centered: bool) -> float:
    """Largest |y − exact| in output LSBs against exact quotients clipped to the format."""
    x = norm_inputs(width, bits)
    largest = (epsilon + width << 2 * (bits - 1)) * (width if centered else 1)
    v_bits = largest.bit_length() + largest.bit_length() % 2
    table, exponent = rsqrt_table(1 if centered else width, v_bits, index_bits, entry_bits)
    y = layer_norm(x, v_bits, table, exponent - o.frac, o, epsilon=epsilon, centered=centered)
    worst = 0.0
    for token, normed in zip(x.tolist(), y.tolist(), strict=True):
        mean = Fraction(sum(token), width) if centered else Fraction(0)
        variance = (sum((value - mean) ** 2 for value in token) + epsilon) / width
        for value, out in zip(token, normed, strict=True):
            square = (value - mean) ** 2 / variance if value != mean else Fraction(0)
            root = Fraction(isqrt(int(square * 4 ** (o.frac + ROOT))), 1 << ROOT)
            true = root if value > mean else -root
            worst = max(worst, float(abs(out - min(max(true, o.min), o.max))))
    return worst


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("bits, epsilon, index_bits, entry_bits, o, worst", [
    (8, 0, 8, 12, IntFormat(8, True, 5), 0.61),
    (12, 3, 8, 12, IntFormat(8, True, 5), 0.59),
    (12, 3, 8, 12, IntFormat(8, True, 4), 0.55),
    (12, 100, 12, 16, IntFormat(12, True, 9), 0.60),
])
def test_layer_norm_against_exact_quotients(width, centered, bits, epsilon, index_bits, entry_bits, o, worst):
    assert layer_norm_error(width, bits, epsilon, index_bits, entry_bits, o, centered) < worst


@pytest.mark.parametrize("epsilon", [0, 5])
@pytest.mark.parametrize("width", WIDTHS)
def test_layer_norm_of_a_flat_token_is_zero(width, epsilon):
    x = np.repeat(every(12)[:, None], width, 1)
    o = IntFormat(8, True, 5)
    table, exponent = rsqrt_table(1, 36, 8, 12)
    assert not layer_norm(x, 36, table, exponent - o.frac, o, epsilon=epsilon).any()
    table, exponent = rsqrt_table(width, 30, 8, 12)
    y = layer_norm(x, 30, table, exponent - o.frac, o, centered=False)
    assert np.array_equal(y, np.repeat(32 * np.sign(every(12))[:, None], width, 1))
