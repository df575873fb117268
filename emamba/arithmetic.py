"""Integer arithmetic on NumPy int64, the single definition that calibration, the integer model and the hardware share.

Every function takes integers and returns integers; nothing here knows a scale except as a shift. docs/numerics.md is the
prose of this file.
"""

import numpy as np

from .errors import EmambaError
from .formats import IntFormat, Rounding

Array = np.ndarray

EXACT_FLOAT = 1 << 53  # integers up to here are exact in float64, in every partial sum


def round_shift(x: Array, shift: int, rounding: Rounding = Rounding.HALF_UP) -> Array:
    """x · 2^−shift rounded to an integer; a negative shift multiplies exactly."""
    if shift <= 0:
        return x << -shift
    if rounding is Rounding.TRUNCATE:
        return x >> shift
    half = 1 << (shift - 1)
    if rounding is Rounding.HALF_UP:
        return (x + half) >> shift
    odd = (x >> shift) & 1
    return (x + half - 1 + odd) >> shift


def saturate(x: Array, o: IntFormat) -> Array:
    return np.clip(x, o.min, o.max)


def requantize(x: Array, shift: int, o: IntFormat, rounding: Rounding = Rounding.HALF_UP, multiplier: Array | int = 1) -> Array:
    """Accumulator → format `o`: multiply (dyadic scales only), shift with rounding, saturate."""
    return saturate(round_shift(x * multiplier, shift, rounding), o)


def matmul(x: Array, weight: Array, bound: int) -> Array:
    """x [..., in] · weightᵀ [out, in], exact. `bound` is the largest |partial sum|.

    Runs in float64 BLAS where the bound proves every partial sum exact, else in int64.
    """
    if bound < EXACT_FLOAT:
        return (x.astype(np.float64) @ weight.T.astype(np.float64)).astype(np.int64)
    return x @ weight.T


def causal_windows(x: Array, taps: int) -> Array:
    """x [batch, L, C] → [batch, L, C, taps]; the last tap is the current token, tokens before the first are zero."""
    padded = np.pad(x, ((0, 0), (taps - 1, 0), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, taps, axis=1)


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


def leading_zeros(x: Array, bits: int) -> Array:
    """Zeros above the leading one of a `bits`-bit unsigned integer; 0 where x = 0."""
    length = np.frexp(x.astype(np.float64))[1]
    return np.where(x > 0, bits - length, 0).astype(np.int64)


def range_norm(x: Array, bits: int, table: Array, shift: int, o: IntFormat, rounding: Rounding = Rounding.HALF_UP) -> Array:
    """(x − mean) / (max − min) over the last axis, without a divider. Source: paper's RangeNorm; the table is our choice.

    n = D·x − Σx is D·(x − mean) exactly. R = max − min and n are shifted left by the zeros above R's leading one, so that a
    small table holds 1/(D·R). R = 0 gives 0.
    """
    width = x.shape[-1]
    total = x.sum(-1, keepdims=True)
    span = x.max(-1, keepdims=True) - x.min(-1, keepdims=True)
    zeros = leading_zeros(span, bits)
    index_bits = len(table).bit_length() - 1
    index = ((span << zeros) >> (bits - 1 - index_bits)) & (len(table) - 1)
    n = (width * x - total) << zeros
    return requantize(n * table[index], shift, o, rounding)


def check_range(name: str, x: Array, o: IntFormat) -> None:
    """Refuses integers that their format cannot hold."""
    low, high = (int(x.min()), int(x.max())) if x.size else (0, 0)
    if low < o.min or high > o.max:
        raise EmambaError(f"{name} holds {low if low < o.min else high}, outside {o.min}..{o.max} of its format {o}")
