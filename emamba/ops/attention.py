"""Softmax attention, head by head."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil, isqrt, log, log2
from pathlib import Path
from typing import ClassVar

import numpy as np

from .. import piecewise
from ..base import arithmetic as arith
from ..base.errors import DesignLimit, InputError
from ..base.formats import IntFormat
from ..piecewise import Segments
from .base import MULTIPLIER, Array, Operator, check_bound, check_input, check_same, check_shift, inside, register
from .scales import DYADIC_BITS, SLACK, codes_of

MOST_TOKENS = 256
"""Of a sequence: the hardware holds two sequences, and works on every pair of tokens."""
PAIRS = 1 << 20
"""Pairs of tokens that NumPy works on at a time."""


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class Attention(Operator):
    """softmax(q·kᵀ/√d)·v for every head of d channels; where it is `causal`, over the tokens up to the query's own.

    s = Σ q·k; p = requantize((s − max s)·multiplier); e = exp(p); Z = Σ e; y = requantize(((Σ e·v) << zeros)·reciprocal), with
    the reciprocals of RangeNorm's table for Z and the zeros above its leading one. `shift` is that of p; a step of `multiplier`
    is 2^−extra of 1/√d. Our choice of the integers.
    """

    channels: int
    heads: int
    causal: bool
    tokens: int
    q: IntFormat
    k: IntFormat
    v: IntFormat
    multiplier: int
    shift: int
    exp: Segments
    index_bits: int = 8
    entry_bits: int = 12

    inputs = 3  # q, k, v
    attributes: ClassVar = {"heads": range(1, (1 << 14) + 1), "causal": bool}
    needed = ("heads", "causal")
    streams = False
    whole = True
    source = Path(__file__).with_suffix(".c")

    def __post_init__(self):
        _check_heads(self.channels, self.heads)
        _check_tokens(self.tokens)
        if not 1 <= self.multiplier <= MULTIPLIER.max:
            raise DesignLimit(f"multiplier = {self.multiplier} is out of range; it must lie in 1..{MULTIPLIER.max}")
        if not 1 <= self.index_bits <= 12 or not 4 <= self.entry_bits <= 16:
            raise DesignLimit(f"an attention's table of {self.index_bits} index bits and {self.entry_bits} entry bits is out of "
                              "range; 1..12 and 4..16 are possible")
        if self.exp.o.signed or not self.exp.i.signed:
            raise DesignLimit(f"exp is from {self.exp.i} to {self.exp.o}, but an attention needs it from signed to unsigned")
        check_shift("shift", self.shift)
        check_shift("y_shift", self.y_shift)
        check_bound("the scaled score", 2 * self.score_bound * self.multiplier, self.shift)
        check_bound("the scaled sum", self.shifted_bound << self.entry_bits, self.y_shift)

    @property
    def width(self) -> int:
        return self.channels

    @property
    def head_dim(self) -> int:
        return self.channels // self.heads

    @property
    def score_bound(self) -> int:
        """Largest |q·k|."""
        return self.head_dim * self.q.magnitude * self.k.magnitude

    @property
    def sum_of_weights(self) -> int:
        """Largest Z."""
        return self.tokens * self.exp.o.max

    @property
    def spread_bits(self) -> int:
        """Bits of Z."""
        return self.sum_of_weights.bit_length()

    @property
    def n_bound(self) -> int:
        """Largest |Σ e·v|."""
        return self.sum_of_weights * self.v.magnitude

    @property
    def shifted_bound(self) -> int:
        """The same after its shift: it is at most Z·|v|."""
        return self.v.magnitude << self.spread_bits

    @cached_property
    def largest_shift(self) -> int:
        """Of Z, which holds at least exp(0)."""
        return self.spread_bits - max(1, int(self.exponentials[-1]).bit_length())

    @cached_property
    def reciprocals(self) -> tuple[Array, int]:
        """Entries of the table and their exponent."""
        return arith.reciprocal_table(1, self.spread_bits, self.index_bits, self.entry_bits)

    @property
    def y_shift(self) -> int:
        return self.reciprocals[1] + self.v.frac - self.o.frac

    @cached_property
    def exponentials(self) -> Array:
        """e for every p from the lowest code to 0."""
        return self.exp(np.arange(self.exp.i.min, 1))

    def check_node(self, node):
        check_same("the number of heads", self.heads, node.heads)
        check_same("causal", self.causal, node.causal)
        check_same("the number of tokens", self.tokens, node.reads)

    def check_inputs(self, producers):
        for name, producer in zip("qkv", producers, strict=True):
            check_input(name, producer, self.channels, getattr(self, name))

    def __call__(self, q: Array, k: Array, v: Array) -> Array:
        batch, length, width = q.shape
        if length != self.tokens:
            raise InputError(f"a sequence has {length} tokens, but this model's attention is over {self.tokens}")
        y, size = np.empty((batch, length, width), arith.word(self.o.magnitude)), max(1, PAIRS // length**2)
        for start in range(0, batch, size):
            for head in range(0, width, self.head_dim):
                part = np.s_[start:start + size, :, head:head + self.head_dim]
                y[part] = self._of_head(q[part], k[part], v[part])
        return y

    def _of_head(self, q: Array, k: Array, v: Array) -> Array:
        weights = self.exponentials[self.arguments(q, k) - self.exp.i.min]
        if self.causal:
            weights = np.tril(weights)
        spread, sums = weights.sum(-1, keepdims=True), _product(weights, v, self.n_bound)
        zeros, table = arith.leading_zeros(spread, self.spread_bits), self.reciprocals[0]
        index = ((spread << zeros) >> (self.spread_bits - len(table).bit_length())) & (len(table) - 1)
        return arith.requantize((sums << zeros) * table[index], self.y_shift, self.o, self.rounding)

    def arguments(self, q: Array, k: Array) -> Array:
        """p [batch, queries, keys] of a head."""
        scores = _product(q, k.swapaxes(-1, -2), self.score_bound)
        seen = np.where(np.tri(self.tokens, dtype=bool), scores, -self.score_bound) if self.causal else scores
        below = np.minimum(scores - seen.max(-1, keepdims=True), 0)  # a later token counts nothing
        return arith.requantize(below, self.shift, self.exp.i, self.rounding, self.multiplier)

    # -- a node of this kind --------------------------------------------------------------------------------------------------

    @classmethod
    def shapes(cls, node, widths):
        for name, width in zip("qkv", widths, strict=True):
            check_same(f"the width of the {name} input", width, node.width)
        _check_heads(node.width, node.heads)
        return {}

    @classmethod
    def output_tokens(cls, node, tokens):
        _check_tokens(tokens)
        return tokens

    @classmethod
    def real(cls, xp, node, parameters, q, k, v):
        length, size, heads = q.shape[1], node.width // node.heads, []
        places = xp.arange(length)
        later = places[None, :] > places[:, None]
        for start in range(0, node.width, size):
            own = slice(start, start + size)
            scores = (q[..., own] @ k[..., own].swapaxes(-1, -2)) * size**-0.5
            if node.causal:
                scores = xp.where(later, -float("inf"), scores)
            weights = xp.exp(scores - xp.amax(scores, -1, keepdims=True))
            heads.append(weights / weights.sum(-1, keepdims=True) @ v[..., own])
        return xp.concatenate(heads, -1)

    @classmethod
    def quantize(cls, node, q):
        settings, formats = q.settings, [q.formats[name] for name in node.inputs]
        output = IntFormat(settings.decay_bits, False, settings.decay_bits)
        top = ceil(log2(log(2) * (output.bits + 1)))  # below −2^top, exp is less than half a step
        argument = IntFormat(output.bits + 4, True, output.bits + 3 - top)
        multiplier, extra = inverse_root(node.width // node.heads)
        exact = formats[0].frac + formats[1].frac + extra - argument.frac
        shift = min(max(exact, -argument.bits), 62)  # beyond these p is 0 or its lowest code, as it is with them
        q.coarsen(node.name, formats[2].frac + SLACK)

        def made(density: Array) -> "Attention":
            return cls(channels=node.width, heads=node.heads, causal=node.causal, tokens=node.reads, q=formats[0], k=formats[1],
                       v=formats[2], multiplier=multiplier, shift=shift, exp=q.fit("exp", argument, output, density),
                       **q.common(node))

        op = made(np.zeros(0))
        if settings.rule != "least_squares":
            return op
        return made(op.density(*(codes_of(q.values[name], i) for name, i in zip(node.inputs[:2], formats, strict=False))))

    def density(self, q: Array, k: Array) -> Array:
        """How often each code of p occurs."""
        found, size = np.zeros(1 << self.exp.i.bits, np.int64), max(1, PAIRS // self.tokens**2)
        for start in range(0, len(q), size):
            for head in range(0, self.channels, self.head_dim):
                part = np.s_[start:start + size, :, head:head + self.head_dim]
                p = self.arguments(q[part], k[part])
                found += piecewise.histogram(p[:, np.tri(self.tokens, dtype=bool)] if self.causal else p, self.exp.i)
        return found

    # -- C --------------------------------------------------------------------------------------------------------------------

    @property
    def sum_bound(self):
        scaled = inside(2 * self.score_bound * self.multiplier, self.shift)
        return max(scaled, inside(self.shifted_bound << self.entry_bits, self.y_shift), self.o.magnitude)

    def c(self, loop):
        table = self.reciprocals[0]
        return "attention_causal" if self.causal else "attention", {
            "head": self.head_dim, "least": self.exp.i.min, "bits": self.spread_bits, "index_bits": len(table).bit_length() - 1,
            "table": loop.pointer(self.exponentials, "SUM"), "weight": loop.pointer(table, "SUM"),
            "multiplier": loop.pointer(np.array([self.multiplier]), "SUM"),
            "scratch": loop.reserve((self.tokens + self.head_dim,), "SUM"),
            "term": loop.format(self, self.shift, self.exp.i), "o": loop.format(self, self.y_shift)}


def inverse_root(width: int) -> tuple[int, int]:
    """(m, t) with m · 2^−t for 1/√width: exact for a power of 4, else m has at most 12 bits."""
    half = (width.bit_length() - 1) // 2
    if width == 1 << 2 * half:
        return 1, half
    extra = DYADIC_BITS - 1 + width.bit_length() // 2
    return (isqrt((4 << 2 * extra) // width) + 1) >> 1, extra


def _check_heads(channels: int, heads: int) -> None:
    if heads < 1 or channels % heads:
        raise DesignLimit(f"{channels} channels do not divide into {heads} heads")


def _check_tokens(tokens: int) -> None:
    if not 1 <= tokens <= MOST_TOKENS:
        raise DesignLimit(f"an attention is possible over 1..{MOST_TOKENS} tokens, not {tokens}: shorten the sequences")


def _product(a: Array, b: Array, bound: int) -> Array:
    """a @ b, exact; no partial sum is beyond `bound`."""
    exact = np.float64 if bound < arith.EXACT_FLOAT else np.int64
    return (a.astype(exact) @ b.astype(exact)).astype(np.int64)
