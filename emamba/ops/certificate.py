"""The no-overflow certificate of the scan: a bound on the recurrent state for any input of any length (our choice).

The same δ drives the decay and the input, so with r(H) the largest stored |h| that follows from |h_wide| ≤ H,
    |h_wide'| ≤ |Ā(δ)|·r(H) + b(δ)      for every code of δ,
where b(δ) is the largest input term over all codes of u and B. An H that is not exceeded on the right for any δ is an
inductive bound. It is found in closed form and then verified, both in exact integers.
"""

from dataclasses import dataclass

import numpy as np

from ..base import arithmetic as arith
from ..base.formats import Rounding
from ..piecewise import MAX_BITS


@dataclass(frozen=True)
class Certificate:
    """`bound`: largest |h_wide| possible; `stored`: largest |h|; `holds`: neither can exceed its format."""

    bound: int
    stored: int
    limit: int
    holds: bool


def stored_bound(wide: int, op) -> int:
    """Largest |h| that requantizing |h_wide| ≤ wide can give."""
    edges = np.array([-wide, wide])
    return int(np.abs(arith.round_shift(edges, op.a_bar.frac, op.rounding)).max())


def input_terms(op, codes: np.ndarray) -> np.ndarray:
    """Largest |b| for every code of δ."""
    extremes = np.array([op.B.min, op.B.max])
    if op.delta_b:
        b_bar = arith.requantize(codes[:, None] * extremes, op.b_bar_shift, op.b_bar, op.rounding)
        return np.abs(b_bar).max(1) * op.u.magnitude << op.a_bar.frac
    products = np.multiply.outer([op.u.min, op.u.max], extremes).ravel()
    return np.abs(arith.round_shift(codes[:, None] * products, op.term_shift, op.rounding)).max(1)


def _slowest(op) -> np.ndarray:
    """Rates whose decays bound the others: the one nearest 0 where exp's segments never fall."""
    rates, i = np.unique(op.A), op.decay.i
    if op.dt.min < 0 or i.bits > MAX_BITS:
        return rates
    rising = op.decay(np.arange(i.min, 1))
    return rates[-1:] if rising[0] >= 0 and (np.diff(rising) >= 0).all() else rates


def certify(op) -> Certificate:
    """Bounds the state of the Scan `op` over all its A and every code of δ."""
    codes = np.arange(op.dt.min, op.dt.max + 1, dtype=np.int64)
    decay = np.abs(op.exp_of(codes[:, None] * _slowest(op))).max(1)
    terms = input_terms(op, codes)
    one = 1 << op.a_bar.frac
    moving = codes != 0 if op.hold else np.full(len(codes), True)
    if (decay[moving] >= one).any():
        return Certificate(bound=-1, stored=-1, limit=op.h_wide.max, holds=False)
    slack = one if op.rounding is Rounding.TRUNCATE else one // 2
    bound = int((-(-(one * terms + decay * slack)[moving] // (one - decay[moving]))).max())
    decay = np.where(moving, decay, one)
    bound = -(-bound // one) * one  # a multiple of one, which δ = 0 holds exactly
    start = 0 if op.h0 is None else int(np.abs(op.h0).max())
    while stored_bound(bound, op) < start:
        bound += one
    while int((decay * stored_bound(bound, op) + terms).max()) > bound:
        bound += one
    stored = stored_bound(bound, op)
    return Certificate(bound, stored, op.h_wide.max, bound <= op.h_wide.max and stored <= op.h.max)
