"""The no-overflow certificate as an inductive invariant, checked without the formula that found it.

|h| ≤ `stored` holds in the first token, where the state is 0. The check tries every code of δ, every product of u and B, each of
the model's own A and both ends of h, and finds that |h_wide| ≤ `bound` and |h| ≤ `stored` hold after the token too. h enters the
sum only as Ā·h, so that its ends bound all between. Neither bound exceeds its format: the hardware may leave out the clipping.
"""

import numpy as np

from emamba.base import arithmetic as arith
from emamba.ops import Scan
from emamba.ops.certificate import certify


def check(op: Scan) -> dict:
    """Largest |h_wide| and |h| after a token over all cases, and how many cases that are."""
    certificate = certify(op)
    codes = np.arange(op.dt.min, op.dt.max + 1, dtype=np.int64)
    u, B = (np.arange(f.min, f.max + 1, dtype=np.int64) for f in (op.u, op.B))
    decays, products = np.unique(op.A), np.unique(np.multiply.outer(u, B))
    widest = deepest = 0
    for code in codes:
        if op.delta_b:
            b_bar = arith.requantize(code * B, op.b_bar_shift, op.b_bar, op.rounding)
            terms = np.unique(np.multiply.outer(b_bar, u)) << op.a_bar.frac
        else:
            terms = np.unique(arith.round_shift(code * products, op.term_shift, op.rounding))
        a_bar = np.where((code == 0) & op.hold, 1 << op.a_bar.frac, op.decay(code * decays))
        for h in (-certificate.stored, certificate.stored):
            wide = np.add.outer(np.unique(a_bar) * h, terms[[0, -1]] if (np.diff(terms) > 0).all() else terms)
            widest = max(widest, int(np.abs(wide).max()))
            deepest = max(deepest, int(np.abs(arith.round_shift(wide, op.a_bar.frac, op.rounding)).max()))
    return {
        "cases": 2 * len(codes) * len(decays) * len(u) * len(B),
        "widest": widest,
        "bound": certificate.bound,
        "deepest": deepest,
        "stored": certificate.stored,
        "limit": op.h_wide.max,
        "limit_stored": op.h.max,
        "holds": widest <= certificate.bound <= op.h_wide.max and deepest <= certificate.stored <= op.h.max,
    }
