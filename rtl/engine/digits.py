"""Integers wider than a streamed weight: rows of digits, which the lanes sum."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .machine import ELEMENT
from .micro import Acc, B, Body, MicroOp, To, idle
from .timing import SUM


def digits(values: np.ndarray, least: int = 1) -> list[np.ndarray]:
    """At `least` so many arrays of signed integers of ELEMENT bits, the upper ones first, which give `values` with each upper one
    times 2^ELEMENT."""
    half, parts, rest = 1 << ELEMENT - 1, [], np.asarray(values, np.int64)
    while not parts or rest.any():
        if not parts or rest.min() < -half or rest.max() >= half:
            low = (rest + half & 2 * half - 1) - half
            parts.append(low)
            rest = rest - low >> ELEMENT
        else:
            parts.append(rest)
            break
    return [*[np.zeros_like(rest)] * (least - len(parts)), *parts[::-1]]


def summed(parts: int, **fields) -> list[MicroOp]:
    """Rows of digits, one after the other, as a sum in the lanes."""
    return [MicroOp(weight=True, b=B.CONSTANT, constant=1, first=Acc.RAISE if k else Acc.START, **fields) for k in range(parts)]


def biased(chain: Sequence[Body], parts: int) -> list[Body]:
    """A chain of one inner product, on top of what `parts` rows of digits give."""
    body, = chain
    first, = body.ops
    return [*(Body((op,)) for op in summed(parts)), replace(body, ops=(replace(first, first=Acc.ADD),))]


def scaled(chain: Sequence[Body], parts: int) -> list[Body]:
    """A chain that ends with an inner product, times what `parts` rows of digits give."""
    *before, body = chain
    last, = body.ops
    digit = MicroOp(weight=True, b=B.HELD)
    products = [replace(digit, first=Acc.RAISE if k else Acc.START, to=To.DRAIN if k == parts - 1 else To.NONE)
                for k in range(parts)]
    return [*before, replace(body, ops=(replace(last, to=To.HELD),)), *idle(SUM - 1), *(Body((op,)) for op in products)]
