"""How often each input code occurs: histograms, by which `least_squares` weighs errors and `flow.report.profiling` reports them.

A density is an array of weights ≥ 0 in any unit, one for each code of the input's format, at index code − i.min.
"""

import numpy as np

from ..base.arithmetic import requantize
from ..base.errors import InputError
from ..base.formats import IntFormat, Rounding
from .segments import codes

Array = np.ndarray


def histogram(x: Array, i: IntFormat) -> Array:
    """How often each code of `i` is in the integers x, of any shape."""
    return np.bincount((x - i.min).ravel(), minlength=1 << i.bits)


def products(dt: Array, A: Array, i: IntFormat, p: IntFormat, *, hold: bool, shift: int = 0,
             rounding: Rounding = Rounding.HALF_UP) -> Array:
    """How often each code of `p`, exp's argument, is δ·A requantized by `shift`: dt [..., d_inner] of format `i`,
    A [d_inner, d_state], all integers. With `hold`, δ = 0 never reaches exp."""
    counts = np.zeros(1 << p.bits, np.int64)
    delta = codes(i)
    for channel, rates in enumerate(A):
        seen = histogram(dt[..., channel], i)
        if hold:
            seen[-i.min] = 0
        used = np.flatnonzero(seen)
        np.add.at(counts, requantize(delta[used, None] * rates, shift, p, rounding) - p.min, seen[used, None])
    return counts


def shares(density: Array | None, i: IntFormat, keep: Array | slice = slice(None)) -> Array:
    """The density of the codes `keep`, made so that its sum is 1; None is the same for all."""
    weights = np.ones(1 << i.bits) if density is None else np.asarray(density, np.float64)
    if weights.shape != (1 << i.bits,):
        raise InputError(f"the density has the shape {list(weights.shape)}; {i} needs one weight for each of its "
                         f"{1 << i.bits} codes")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise InputError("the density holds a weight that is negative or not finite; count how often each code occurs")
    weights = weights[keep]
    total = weights.sum()
    if not total > 0:
        raise InputError("the density is zero at every code of the domain; give values that lie in it")
    return weights / total
