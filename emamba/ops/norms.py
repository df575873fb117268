"""Norms without a divider."""

from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..base import arithmetic as arith
from ..base.errors import DesignLimit, InputError
from ..base.formats import IntFormat
from .base import Array, Operator, check_bound, check_input, check_same, check_shift, inside, register


@dataclass(frozen=True, kw_only=True, eq=False)
class Norm(Operator):
    """What the norms share: n_i of each channel times a reciprocal from a table of 2^index_bits entries, chosen by the token's
    spread, which is shifted until its leading one is at the top. Weight and bias are folded into the Linear that follows (our
    choice: exact in float, and one multiplier fewer per channel). `shift` is the table's exponent less the output's fraction
    bits. A token has `groups` of `channels` each, normed apart.

    Each has `reciprocals`, the table's entries and exponent; `spread_bits` of the unsigned spread; and for the hardware
    `n_bound`, the largest |n|, `shifted_bound`, the largest after its shift, and `largest_shift` of an n that is not 0.
    """

    channels: int
    i: IntFormat
    index_bits: int = 8
    entry_bits: int = 12
    groups: int = 1

    attributes: ClassVar = {"groups": range(1, 1 << 12)}
    normalizes = True
    streams = False
    start = 1.0
    optional = ("weight", "bias")
    source = Path(__file__).with_suffix(".c")

    def __post_init__(self):
        if self.channels < 1 or self.groups < 1:
            raise DesignLimit(f"channels and groups of a norm must be at least 1, not {self.channels} and {self.groups}")
        if not 1 <= self.index_bits <= 12 or not 4 <= self.entry_bits <= 16:
            raise DesignLimit(f"a norm's table of {self.index_bits} index bits and {self.entry_bits} entry bits is out of range; "
                              "1..12 and 4..16 are possible")

    @property
    def width(self) -> int:
        return self.channels * self.groups

    @property
    def shift(self) -> int:
        return self.reciprocals[1] - self.o.frac

    @property
    def reciprocals(self) -> tuple[Array, int]:
        """The table, and its fraction bits."""
        raise NotImplementedError

    @property
    def shifted_bound(self) -> int:
        """Largest n after the shift of the spread."""
        raise NotImplementedError

    @classmethod
    def shapes(cls, node, widths):
        if node.width % (node.groups or 1):
            raise InputError(f"{node.width} channels do not divide into {node.groups} groups")
        return {"weight": (node.width,), "bias": (node.width,)}

    @classmethod
    def initial(cls, xp, node, name, shapes):
        return xp.full(shapes[name], cls.start if name == "weight" else 0.0)

    @classmethod
    def real(cls, xp, node, parameters, x):
        if not node.groups:
            return cls.normed(xp, node, x)
        return cls.normed(xp, node, x.reshape(*x.shape[:-1], node.groups, -1)).reshape(x.shape)

    @classmethod
    def normed(cls, xp, node, x):
        """`real` of a group."""
        raise NotImplementedError

    def __call__(self, x: Array) -> Array:
        if self.groups == 1:
            return self.norm(x)
        return self.norm(x.reshape(*x.shape[:-1], self.groups, self.channels)).reshape(x.shape)

    def norm(self, x: Array) -> Array:
        """Integers of a group."""
        raise NotImplementedError

    def check_node(self, node):
        check_same("the number of groups", self.groups, node.groups or 1)

    @classmethod
    def quantize(cls, node, q, **more):
        bits, groups = q.formats[node.name].bits, node.groups or 1
        return cls(channels=node.width // groups, groups=groups, i=q.formats[node.inputs[0]], index_bits=min(12, max(8, bits)),
                   entry_bits=min(16, bits + 4), **more, **q.common(node))

    def _check_product(self) -> None:
        check_bound("a norm's product", self.shifted_bound << self.entry_bits)
        check_shift("shift", self.shift)
        check_bound("a norm's product", self.shifted_bound << self.entry_bits, self.shift)

    def check_inputs(self, producers):
        check_input("norm", producers[0], self.width, self.i)


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class RangeNorm(Norm):
    """(x − mean)/(max − min) per token, 0 where all values are equal; its spread is R = max − min. Source: paper."""

    refined = False
    start = 3.125
    """Of the weight, 25/8 as in Range Batch Normalization (our choice; the paper is silent)."""

    def __post_init__(self):
        super().__post_init__()
        self._check_product()

    @classmethod
    def normed(cls, xp, node, x):
        extent = xp.amax(x, -1, keepdims=True) - xp.amin(x, -1, keepdims=True)
        flat = extent == 0
        return xp.where(flat, 0.0, (x - x.mean(-1, keepdims=True)) / xp.where(flat, 1.0, extent))

    @classmethod
    def format(cls, node, bits):
        return IntFormat(bits, True, bits - 1)  # |(x − mean)/(max − min)| < 1

    @property
    def spread_bits(self) -> int:
        return self.i.bits

    @property
    def n_bound(self) -> int:
        return self.channels << self.i.bits  # |D·x − Σx| ≤ D·R

    @property
    def shifted_bound(self) -> int:
        return self.n_bound

    @property
    def largest_shift(self) -> int:
        return self.i.bits - 1

    @cached_property
    def reciprocals(self) -> tuple[Array, int]:
        return arith.reciprocal_table(self.channels, self.i.bits, self.index_bits, self.entry_bits)

    def norm(self, x: Array) -> Array:
        return arith.range_norm(x, self.i.bits, self.reciprocals[0], self.shift, self.o, self.rounding)

    @property
    def sum_bound(self):
        return max(inside(self.n_bound * int(self.reciprocals[0].max()), self.shift), self.o.magnitude)

    def c(self, loop):
        entries, _ = self.reciprocals
        return "range_norm", {"group": self.groups, "bits": self.i.bits, "index_bits": len(entries).bit_length() - 1,
                              "table": loop.pointer(entries, "SUM"), "o": loop.format(self, self.shift)}


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class LayerNorm(Norm):
    """(x − mean)/sqrt(variance + ε) per token; its spread is V = D·Q − (Σx)² with Q = Σx² + `epsilon`, where `epsilon` is D·ε in
    squared steps of the input. The comparison to RangeNorm (our choice of the integers)."""

    epsilon: int

    attributes: ClassVar = Norm.attributes | {"epsilon": float}
    needed = ("epsilon",)
    centered = True

    def __post_init__(self):
        super().__post_init__()
        if self.epsilon < 0:
            raise DesignLimit(f"epsilon of a norm must be at least 0, not {self.epsilon}")
        check_bound("a norm's sum of squares", self.bound)
        self._check_product()

    @classmethod
    def normed(cls, xp, node, x):
        centred = x - x.mean(-1, keepdims=True) if cls.centered else x
        return centred / xp.sqrt((centred * centred).mean(-1, keepdims=True) + node.epsilon)

    @classmethod
    def quantize(cls, node, q, **more):
        source = node.inputs[0]
        epsilon = int(np.floor(node.epsilon * (node.width // (node.groups or 1)) * 4.0 ** q.formats[source].frac + 0.5))
        try:
            return super().quantize(node, q, epsilon=epsilon)
        except DesignLimit as error:
            raise DesignLimit(f"{error}, such as fewer bits of '{source}' by the setting bits") from None

    @property
    def squares_bound(self) -> int:
        """Largest Q."""
        return self.epsilon + self.channels * self.i.magnitude**2

    @property
    def bound(self) -> int:
        """Largest V."""
        return self.squares_bound * (self.channels if self.centered else 1)

    @property
    def spread_bits(self) -> int:
        return self.bound.bit_length() + self.bound.bit_length() % 2

    @property
    def n_bound(self) -> int:
        return (self.channels - 1) * (self.i.max - self.i.min) if self.centered else self.i.magnitude

    @property
    def shifted_bound(self) -> int:
        most = max(1, self.channels - 1) if self.centered else 1  # n² ≤ most·V, and V after its shift is below 2^spread_bits
        return isqrt(most << self.spread_bits)

    @property
    def largest_shift(self) -> int:
        """By the least V of a token that is not constant, or not zero."""
        least = self.channels * self.epsilon + max(1, self.channels - 1) if self.centered else self.epsilon + 1
        return (self.spread_bits - least.bit_length()) // 2

    @cached_property
    def reciprocals(self) -> tuple[Array, int]:
        gain = 1 if self.centered else self.channels
        return arith.rsqrt_table(gain, self.spread_bits, self.index_bits, self.entry_bits)

    @cached_property
    def word(self) -> np.dtype:
        """Type of V, which is shifted to its top bit, and of the products."""
        return arith.word(max(1 << self.spread_bits, self.shifted_bound << self.entry_bits), self.shift, self.o)

    def norm(self, x: Array) -> Array:
        return arith.layer_norm(x, self.spread_bits, self.reciprocals[0].astype(self.word), self.shift, self.o, self.rounding,
                                epsilon=self.epsilon, centered=self.centered)

    @property
    def sum_bound(self):
        bound = max(self.shifted_bound << self.entry_bits, self.n_bound, self.channels * self.i.magnitude)
        return max(inside(bound, self.shift), self.o.magnitude)

    def c(self, loop):
        entries, _ = self.reciprocals
        return "layer_norm" if self.centered else "rms_norm", {
            "group": self.groups, "bits": self.spread_bits, "index_bits": len(entries).bit_length() - 2, "epsilon": self.epsilon,
            "table": loop.pointer(entries, "SUM"), "o": loop.format(self, self.shift)}


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class RMSNorm(LayerNorm):
    """x/sqrt(mean of x² + ε) per token; its spread is Q, and its table holds sqrt(D) too."""

    centered = False

    @classmethod
    def shapes(cls, node, widths):
        return {"weight": super().shapes(node, widths)["weight"]}
