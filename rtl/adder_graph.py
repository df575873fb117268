"""Products of a vector and a constant integer matrix as one graph of shared adders: no multiplier, no weight memory."""

import importlib.util
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from heapq import heapify, heappop, heappush
from itertools import combinations
from typing import NamedTuple

import numpy as np
from amaranth.hdl import Const, Shape, Signal, Value

from emamba.errors import EmambaError
from emamba.formats import IntFormat

from .datapath import Pipeline


class Term(NamedTuple):
    """±(value of `node` · 2^shift)."""

    node: int
    shift: int = 0
    negate: bool = False


class Adder(NamedTuple):
    """(left · 2^left_shift) ± (right · 2^right_shift); one of the shifts is 0."""

    left: int
    left_shift: int
    right: int
    right_shift: int
    subtract: bool


@dataclass(frozen=True)
class Graph:
    """y = W·x. Nodes 0..inputs − 1 are the inputs; adder k, of earlier nodes, is node inputs + k. An output None is 0."""

    inputs: int
    nodes: tuple[Adder, ...]
    outputs: tuple[Term | None, ...]

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        """y of integers x: [..., inputs] → [..., outputs]."""
        values = self._values(x)
        zero = np.zeros_like(values[0])
        return np.stack([zero if term is None else _shifted(values[term.node], term.shift) * (-1 if term.negate else 1)
                         for term in self.outputs], axis=-1)

    def _values(self, x: np.ndarray) -> list[np.ndarray]:
        values = list(np.moveaxis(np.asarray(x, np.int64), -1, 0))
        for a in self.nodes:
            left, right = values[a.left] << a.left_shift, values[a.right] << a.right_shift
            values.append(left - right if a.subtract else left + right)
        return values

    @property
    def adders(self) -> int:
        return len(self.nodes)

    @cached_property
    def levels(self) -> list[int]:
        """Adders on the longest way to each node."""
        levels = [0] * self.inputs
        for a in self.nodes:
            levels.append(1 + max(levels[a.left], levels[a.right]))
        return levels

    @property
    def depth(self) -> int:
        """Adders on the longest way to an output."""
        return max((self.levels[term.node] for term in self.outputs if term), default=0)

    def shapes(self, i: IntFormat) -> list[Shape]:
        """Per node the narrowest shape that holds its every value: its least and greatest value follow from its weights."""
        weights = np.array(self._values(np.eye(self.inputs, dtype=np.int64)))
        positive, negative = weights.clip(min=0).sum(1), weights.clip(max=0).sum(1)
        low, high = positive * i.min + negative * i.max, positive * i.max + negative * i.min
        return [Shape.cast(range(int(a), int(b) + 1)) for a, b in zip(low, high, strict=True)]

    def adder_bits(self, i: IntFormat) -> int:
        """Σ widths of the adders. The lowest bits of an adder are wires where only its left side has any."""
        return sum(shape.width - a.right_shift for a, shape in zip(self.nodes, self.shapes(i)[self.inputs:], strict=True))


def _shifted(value, shift: int):
    return value << shift if shift >= 0 else value >> -shift


class _Builder:
    """Nodes as they arise; equal adders are one node."""

    def __init__(self, inputs: int):
        self.inputs = inputs
        self.nodes: list[Adder] = []
        self.depth = [0] * inputs
        self.known: dict[Adder, int] = {}

    def add(self, a: Term | None, b: Term | None) -> Term | None:
        """a + b. The sign and the power of two that both have in common go to the result; a difference has its positive side
        on the left, a sum its unshifted one."""
        if a is None or b is None:
            return a or b
        if a.negate and not b.negate or a.negate == b.negate and (a.shift, a.node) > (b.shift, b.node):
            a, b = b, a
        low = min(a.shift, b.shift)
        adder = Adder(a.node, a.shift - low, b.node, b.shift - low, a.negate != b.negate)
        if adder not in self.known:
            self.known[adder] = len(self.depth)
            self.nodes.append(adder)
            self.depth.append(1 + max(self.depth[a.node], self.depth[b.node]))
        return Term(self.known[adder], low, a.negate)

    def tree(self, terms: list[Term]) -> Term | None:
        """Σ terms, the shallowest first."""
        heap = [(self.depth[term.node], term.shift, term) for term in terms]
        heapify(heap)
        while len(heap) > 1:
            term = self.add(heappop(heap)[-1], heappop(heap)[-1])
            heappush(heap, (self.depth[term.node], term.shift, term))
        return heap[0][-1] if heap else None
