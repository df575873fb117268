"""Integer arithmetic on NumPy, the single definition that calibration, the integer model and the hardware share.

Every function takes integers and returns integers, in the type of its arguments: int64, or int32 where `word` proves it wide
enough. Nothing here knows a scale except as a shift. docs/numerics.md is the prose of this file.
"""

from itertools import count
from math import isqrt
from typing import TypeVar

import numpy as np

from .errors import InputError
from .formats import IntFormat, Rounding

Array = np.ndarray
Whole = TypeVar("Whole", int, Array)

EXACT_FLOAT32, EXACT_FLOAT = 1 << 24, 1 << 53  # integers up to here are exact in float32 and float64, in every partial sum


def word(bound: int, shift: int = 0, o: IntFormat | None = None) -> np.dtype:
    """The type for |x| ≤ bound and its requantization by `shift` to `o`: int32 where that holds every step of it, else int64."""
    largest = max(bound << max(-shift, 0), bound + (1 << max(shift, 0)), o.magnitude if o else 0)
    return np.dtype(np.int32 if largest < 1 << 31 else np.int64)


def round_shift(x: Whole, shift: int, rounding: Rounding = Rounding.HALF_UP) -> Whole:
    """x · 2^−shift rounded to an integer; a negative shift multiplies exactly."""
    if shift <= 0:
        return x << -shift
    if rounding is Rounding.TRUNCATE:
        return x >> shift
    half = 1 << (shift - 1)
    x = x + (half - 1 + ((x >> shift) & 1) if rounding is Rounding.HALF_EVEN else half)
    x >>= shift  # in place: one pass over memory less
    return x


def saturate(x: Array, o: IntFormat) -> Array:
    return np.clip(x, o.min, o.max)


def requantize(x: Array, shift: int, o: IntFormat, rounding: Rounding = Rounding.HALF_UP,
               multiplier: Array | int | None = None) -> Array:
    """Accumulator → format `o`: multiply (dyadic scales only), shift with rounding, saturate."""
    return saturate(round_shift(x if multiplier is None else x * multiplier, shift, rounding), o)


def matmul(x: Array, weight: Array, bound: int) -> Array:
    """x [batch, ..., in] · weightᵀ [out, in], exact. `bound` is the largest |partial sum|.

    Runs in float32 or float64 BLAS where the bound proves every partial sum exact, else in int64.
    """
    exact: type = np.float32 if bound < EXACT_FLOAT32 else np.float64 if bound < EXACT_FLOAT else np.int64
    product: Array = weight.astype(exact) @ np.moveaxis(x.astype(exact), 0, -1)
    return np.moveaxis(product, -1, 0).astype(word(bound), copy=False)


def causal_conv(x: Array, weight: Array) -> Array:
    """Depthwise: x [batch, L, C], weight [C, taps], the last tap on the current token; tokens before the first are zero."""
    length, taps = x.shape[1], weight.shape[1]
    y = np.zeros_like(x)
    for past in reversed(range(min(taps, length))):
        y[:, past:] += x[:, :length - past] * weight[:, taps - 1 - past]
    return y


def piecewise_linear(x: Array, knots: Array, slopes: Array, offsets: Array, shift: int, o: IntFormat,
                     rounding: Rounding = Rounding.HALF_UP) -> Array:
    """Segment i holds where knots[i−1] ≤ x < knots[i]; y = requantize(slopes[i]·x + offsets[i])."""
    segment = np.searchsorted(knots, x, side="right")
    return requantize(slopes[segment] * x + offsets[segment], shift, o, rounding)


def reciprocal_table(width: int, bits: int, index_bits: int, entry_bits: int) -> tuple[Array, int]:
    """Entries and exponent E of 1/(width·R) for a `bits`-bit range R whose leading one was shifted to bit bits−1.

    Entry i ≈ 2^E / (width·m), where m carries i in the index_bits below its leading one. Where index_bits drops bits of R,
    m is the midpoint of the ranges that share the entry. Every entry fits entry_bits.
    """
    index_bits = min(index_bits, bits - 1)
    dropped = bits - 1 - index_bits
    exponent = entry_bits - 1 + bits - 1 + (width.bit_length() - 1)
    doubled = ((1 << index_bits) + np.arange(1 << index_bits)) * (2 << dropped)  # 2·m, which holds the midpoint's half
    doubled = doubled + (1 << dropped) - 1
    denominator = width * doubled
    return ((4 << exponent) // denominator + 1) >> 1, exponent


def rsqrt_table(gain: int, bits: int, index_bits: int, entry_bits: int) -> tuple[Array, int]:
    """Entries and exponent E of sqrt(gain/V) for a `bits`-bit V, `bits` even, whose leading one was shifted to bit bits−1.

    Entry [p, i] ≈ 2^E · sqrt(gain/m), where p is the shift modulo 2, and m·2^p carries i in the index_bits − 1 below its leading
    one; where these drop bits of V, it is the midpoint of the V that share the entry. E is the largest at which every entry fits
    entry_bits. The list has p above i.
    """
    fraction = min(index_bits, bits) - 1
    dropped = bits - 1 - fraction
    doubled = [(2 << dropped) * ((1 << fraction) + i) + (1 << dropped) - 1 for i in range(1 << fraction)]  # 2·m·2^p

    def entry(exponent: int, odd: int, twice: int) -> int:
        return (isqrt((gain << 2 * exponent + 3 + odd) // twice) + 1) >> 1

    exponent = next(e for e in count(entry_bits + bits, -1) if entry(e, 1, doubled[0]) < 1 << entry_bits)
    return np.array([entry(exponent, odd, twice) for odd in (0, 1) for twice in doubled]), exponent


def leading_zeros(x: Array, bits: int) -> Array:
    """Zeros above the leading one of a `bits`-bit unsigned integer; 0 where x = 0."""
    length = np.frexp((x & ~(x >> 1)).astype(np.float64))[1]  # no bit next to the leading one, so that no float rounds up to 2^k
    return np.where(x > 0, bits - length, 0).astype(x.dtype)


def range_norm(x: Array, bits: int, table: Array, shift: int, o: IntFormat, rounding: Rounding = Rounding.HALF_UP) -> Array:
    """(x − mean) / (max − min) over the last axis, without a divider. Source: paper's RangeNorm; the table is our choice.

    n = D·x − Σx is D·(x − mean) exactly. R = max − min and n are shifted left by the zeros above R's leading one, so that a
    small table holds 1/(D·R). R = 0 gives 0.
    """
    width = x.shape[-1]
    table = table.astype(word((width << bits) * int(table.max()), shift, o))  # |n| ≤ D·R, before and after the shift
    x = x.astype(table.dtype, copy=False)
    total = x.sum(-1, keepdims=True, dtype=x.dtype)
    span = x.max(-1, keepdims=True) - x.min(-1, keepdims=True)
    zeros = leading_zeros(span, bits)
    index_bits = len(table).bit_length() - 1
    index = ((span << zeros) >> (bits - 1 - index_bits)) & (len(table) - 1)
    n = (width * x - total) << zeros
    return requantize(n * table[index], shift, o, rounding)


def layer_norm(x: Array, bits: int, table: Array, shift: int, o: IntFormat, rounding: Rounding = Rounding.HALF_UP, *,
               epsilon: int = 0, centered: bool = True) -> Array:
    """LayerNorm, (x − mean) / sqrt(variance + ε) over the last axis, or where it is not `centered` RMSNorm,
    x / sqrt(mean of x² + ε), without a divider or a root. The integers are our choice.

    With Q = Σx² + epsilon, V = D·Q − (Σx)² is D²·(variance + ε) and n = D·x − Σx is D·(x − mean), exactly; where it is not
    `centered`, V = Q and n = x. V is shifted left by its leading zeros, n by half of them, so that a small table holds
    sqrt(gain/V). n = 0 gives 0, also where V = 0.
    """
    width, x = x.shape[-1], x.astype(table.dtype, copy=False)
    n, v = x, (x * x).sum(-1, keepdims=True, dtype=x.dtype) + epsilon
    if centered:
        total = x.sum(-1, keepdims=True, dtype=x.dtype)
        n, v = width * x - total, width * v - total * total
    zeros = leading_zeros(v, bits)
    half = len(table) >> 1
    below = ((v << zeros) >> (bits - half.bit_length())) & (half - 1)
    return requantize((n << (zeros >> 1)) * table[half * (zeros & 1) + below], shift, o, rounding)


def check_range(name: str, x: Array, o: IntFormat) -> None:
    """Refuses integers that their format cannot hold."""
    low, high = (int(x.min()), int(x.max())) if x.size else (0, 0)
    if low < o.min or high > o.max:
        raise InputError(f"{name} holds {low if low < o.min else high}, outside {o.min}..{o.max} of its format {o}")
