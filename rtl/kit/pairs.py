"""Two products with a shared factor from one multiplier as wide as a DSP48E2's, 27 × 18 bits (our choice).

The factors `low` and `high` lie in one word, high·2^f + low. Times x it is (high·x)·2^f + low·x, where f is wide enough for
low·x; where low·x is negative, the upper part is one less than high·x.
"""

import numpy as np

from emamba.base.formats import IntFormat, bits_for

from .datapath import Pipeline, bounded
from .hdl import Cat, Signal, Value, signed

WIDE_BITS, NARROW_BITS = 27, 18


def field_bits(weight: np.ndarray, i: IntFormat) -> int:
    """f, the bits of a product of a weight and an `i`."""
    return bits_for(int(np.abs(weight).max(initial=0)) * i.magnitude)


def possible(weight: np.ndarray, i: IntFormat) -> bool:
    """Whether two weights and an `i` fit the multiplier; `encode` needs no bit more than the weights."""
    high = bounded(int(np.abs(weight).max(initial=0)))
    return field_bits(weight, i) + high.bits <= WIDE_BITS and i.bits + (not i.signed) <= NARROW_BITS


def encode(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """What is stored beside `low` for `high`, so that no adder makes the word."""
    return high - (low < 0)


def products(pipeline: Pipeline, low: Value, stored: Value, x: Value, field: int) -> tuple[Value, Value]:
    """low·x and high·x, one step later, from low and what `encode` stored for high."""
    lower = Signal(signed(field), name="lower")
    pipeline.m.d.comb += lower.eq(low)
    product = pipeline.register(Cat(lower, stored).as_signed() * x, "pair")
    return product[:field].as_signed(), product[field:].as_signed() + product[field - 1]
