"""One token per sequence."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..base import arithmetic as arith
from ..base.errors import DesignLimit, InputError
from ..base.formats import IntFormat
from .base import MULTIPLIER, Array, Operator, check_bound, check_input, check_shift, inside, register
from .scales import SLACK


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class Pool(Operator):
    """The last token, or the mean of `tokens` tokens as requantize(Σx · multiplier)."""

    channels: int
    i: IntFormat
    mean: bool
    tokens: int = 1
    multiplier: int = 1
    shift: int = 0

    attributes: ClassVar = {"mean": bool}
    needed = ("mean",)
    streams = False
    pools = True
    commutes = "weight", "bias"
    source = Path(__file__).with_suffix(".c")

    def __post_init__(self):
        check_shift("shift", self.shift)
        if not 1 <= self.multiplier <= MULTIPLIER.max:
            raise DesignLimit(f"multiplier = {self.multiplier} is out of range; it must lie in 1..{MULTIPLIER.max}")
        if not 1 <= self.tokens <= 1 << 20:
            raise DesignLimit(f"tokens = {self.tokens} is out of range; a mean is possible over 1..{1 << 20} tokens")
        check_bound("the scaled sum", self.bound * self.multiplier, self.shift)

    @property
    def width(self) -> int:
        return self.channels

    @property
    def bound(self) -> int:
        return self.i.magnitude * self.tokens

    @classmethod
    def output_tokens(cls, node, tokens):
        return 1

    @classmethod
    def follows(cls, node):
        return not node.mean

    @classmethod
    def real(cls, xp, node, parameters, x):
        return x.mean(1, keepdims=True) if node.mean else x[:, -1:]

    @classmethod
    def quantize(cls, node, q):
        i = q.formats[node.inputs[0]]
        if not node.mean:
            q.formats[node.name] = i
            return cls(channels=node.width, i=i, mean=False, **q.common(node))
        tokens, o = q.graph[node.inputs[0]].tokens, q.coarsen(node.name, i.frac + SLACK)
        power = tokens.bit_length() - 1
        multiplier, extra = (1, power) if tokens == 1 << power else (round(2.0 ** (14 + power) / tokens), 14 + power)
        return cls(channels=node.width, i=i, mean=True, tokens=tokens, multiplier=multiplier, shift=extra + i.frac - o.frac,
                   **q.common(node))

    def check_node(self, node):
        if self.mean != node.mean or (self.mean and self.tokens != node.reads):
            kind = "mean" if node.mean else "last"
            raise DesignLimit(f"it is not the model's pool, which is '{kind}' over {node.reads} tokens")

    def check_inputs(self, producers):
        check_input("pool", producers[0], self.channels, self.i)

    def __call__(self, x: Array) -> Array:
        if not self.mean:
            return x[:, -1:]
        if x.shape[1] != self.tokens:
            raise InputError(f"a sequence has {x.shape[1]} tokens, but this model takes the mean of {self.tokens}")
        return arith.requantize(x.sum(1, keepdims=True, dtype=np.int64), self.shift, self.o, self.rounding, self.multiplier)

    @property
    def sum_bound(self):
        return max(inside(self.bound * self.multiplier, self.shift), self.o.magnitude)

    def c(self, loop):
        return "pool_mean" if self.mean else "pool_last", {
            "multiplier": loop.pointer(np.array([self.multiplier]), "SUM"), "o": loop.format(self, self.shift),
            **(loop.keep((self.width + 1,), "SUM", (self.i.min, self.i.max), last=(1, 1), counted=True) if self.mean else {})}
