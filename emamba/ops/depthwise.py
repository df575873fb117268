"""A product for each channel of a window."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..base.errors import InputError
from .base import Array, check_input, check_same, register
from .weighted import Weighted


def depthwise(x, weight, bias):
    """The product itself, of NumPy's or torch's numbers: x [..., taps · channels], weight [channels, taps], bias [channels]."""
    return (x.reshape(*x.shape[:-1], -1, len(weight)) * weight.T).sum(-2) + bias


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class Depthwise(Weighted):
    """Of each channel c of a token that is `taps` tokens x_j, one after the other, as a Window gives it: Σ_j weight[c, j]·x_j[c]
    + bias[c]; weight [channels, taps]."""

    attributes: ClassVar = {"taps": range(1, (1 << 20) + 1)}
    needed = ("taps",)
    relu = False
    source = Path(__file__).with_suffix(".c")

    @classmethod
    def shapes(cls, node, widths):
        check_same("the width of its input", widths[0], node.width * node.taps)
        return {"weight": (node.width, node.taps), "bias": (node.width,)}

    @classmethod
    def real(cls, xp, node, parameters, x):
        return xp.depthwise(x, parameters["weight"], parameters["bias"])

    def check_node(self, node):
        if self.weight.shape[1] != node.taps:
            raise InputError(f"it has {self.weight.shape[1]} taps, the model needs {node.taps}")

    def check_inputs(self, producers):
        check_input("depthwise", producers[0], self.weight.size, self.i)

    def __call__(self, x: Array) -> Array:
        x, width = x.astype(self.word, copy=False), self.width
        total = np.zeros_like(x[..., :width])
        for tap, weight in enumerate(self.weight.T.astype(self.word)):
            total += x[..., tap * width:(tap + 1) * width] * weight
        return self._requantize(total)

    def c(self, loop):
        return "depthwise", {"taps": self.weight.shape[1], "weight": loop.pointer(self.weight.T, "SUM"),
                             "bias": loop.pointer(self.bias, "SUM"), "multiplier": loop.pointer(self.multiplier, "SUM"),
                             "scratch": loop.reserve((self.width,), "SUM"), "o": loop.format(self, self.shift)}
