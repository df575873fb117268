"""Sums and products of two streams, channel by channel."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..base import arithmetic as arith
from ..base.errors import DesignLimit
from ..base.formats import IntFormat
from .base import Array, Operator, check_bound, check_input, check_shift, inside, register
from .scales import FINEST, SLACK


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair(Operator):
    """What Multiply and Add share: one channel of format `a` with one of format `b`."""

    channels: int
    a: IntFormat
    b: IntFormat

    inputs = 2
    source = Path(__file__).with_suffix(".c")

    def __post_init__(self):
        check_shift("shift", self.shift)
        check_bound("its exact result", self.bound, self.shift)

    @property
    def width(self) -> int:
        return self.channels

    @property
    def shift(self) -> int:
        raise NotImplementedError

    @property
    def bound(self) -> int:
        """Largest |exact result|."""
        raise NotImplementedError

    def check_inputs(self, producers):
        check_input("first", producers[0], self.channels, self.a)
        check_input("second", producers[1], self.channels, self.b)

    @property
    def sum_bound(self):
        return max(inside(self.bound, self.shift), self.o.magnitude)


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class Multiply(Pair):
    """The gate: requantize(a·b), channel by channel."""

    commutes = ("weight",)

    @classmethod
    def real(cls, xp, node, parameters, a, b):
        return a * b

    @classmethod
    def quantize(cls, node, q):
        a, b = (q.formats[name] for name in node.inputs)
        q.coarsen(node.name, a.frac + b.frac + SLACK)
        return cls(channels=node.width, a=a, b=b, **q.common(node))

    @property
    def shift(self) -> int:
        return self.a.frac + self.b.frac - self.o.frac

    @property
    def bound(self) -> int:
        return self.a.magnitude * self.b.magnitude

    def __call__(self, a: Array, b: Array) -> Array:
        word = arith.word(self.bound, self.shift, self.o)
        return arith.requantize(np.multiply(a, b, dtype=word), self.shift, self.o, self.rounding)

    def c(self, loop):
        return "multiply", {"o": loop.format(self, self.shift)}


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class Add(Pair):
    """The residual sum: both terms shifted left to the finer scale, added exactly, requantized."""

    streams = False

    @classmethod
    def real(cls, xp, node, parameters, a, b):
        return a + b

    @classmethod
    def quantize(cls, node, q):
        a, b = (q.formats[name] for name in node.inputs)
        q.coarsen(node.name, max(a.frac, b.frac) + SLACK)
        if max(a.bits, b.bits) + abs(a.frac - b.frac) > FINEST:
            fine, coarse = sorted(node.inputs, key=lambda name: -q.formats[name].frac)
            raise DesignLimit(f"a step of '{coarse}' is 2^{abs(a.frac - b.frac)} times that of '{fine}', too much for one sum: "
                              f"lower the bits of '{fine}' by the setting bits, or rescale the weights")
        return cls(channels=node.width, a=a, b=b, **q.common(node))

    @property
    def frac(self) -> int:
        return max(self.a.frac, self.b.frac)

    @property
    def shift(self) -> int:
        return self.frac - self.o.frac

    @property
    def bound(self) -> int:
        return (self.a.magnitude << self.frac - self.a.frac) + (self.b.magnitude << self.frac - self.b.frac)

    def __call__(self, a: Array, b: Array) -> Array:
        left, right = self.frac - self.a.frac, self.frac - self.b.frac
        word = arith.word(self.bound, self.shift, self.o)
        total = (a.astype(word, copy=False) << left) + (b.astype(word, copy=False) << right)
        return arith.requantize(total, self.shift, self.o, self.rounding)

    def c(self, loop):
        return "add", {"left": (self.frac - self.a.frac, self.frac - self.b.frac), "o": loop.format(self, self.shift)}
