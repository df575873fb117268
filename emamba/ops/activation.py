"""Scalar functions."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from .. import piecewise
from ..base import arithmetic as arith
from ..base.errors import InputError
from ..base.formats import IntFormat
from ..piecewise import Segments, codes
from .base import Array, Operator, check_input, check_same, register, rounded
from .scales import codes_of

TABLE_SIZE = 1 << 20
"""Entries of the largest table that is made of segments: 4 MB, in some tens of milliseconds."""


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class Activation(Operator):
    """A scalar function of every channel: segments, or the table of every input code.

    Attributes of a node: `function`; `offset`, which is added to it; `low` and `high`, which the sum is clipped to. A function
    with one of the last three is a table.
    """

    channels: int
    i: IntFormat
    segments: Segments | None = None
    entries: Array | None = field(default=None)

    attributes: ClassVar = {"function": ("silu", "softplus", "sigmoid"), "offset": float, "low": float, "high": float}
    needed = ("function",)
    unit = "segments"
    source = Path(__file__).with_suffix(".c")

    def __post_init__(self):
        if (self.segments is None) == (self.entries is None):
            raise InputError("the activation must have either segments or entries")
        if self.entries is not None:
            check_same("the number of entries of the activation", self.entries.shape, (1 << self.i.bits,))
            arith.check_range("entries", self.entries, self.o)
        if self.segments is not None:
            check_same("the segments' input format of the activation", str(self.segments.i), str(self.i))
            check_same("the segments' output format of the activation", str(self.segments.o), str(self.o))

    @property
    def width(self) -> int:
        return self.channels

    @classmethod
    def real(cls, xp, node, parameters, x):
        y = xp.function(node.function, x)
        if node.offset is not None:
            y = y + node.offset
        return y if node.low is None and node.high is None else xp.clip(y, node.low, node.high)

    @classmethod
    def quantize(cls, node, q):
        i, o = q.formats[node.inputs[0]], q.formats[node.name]
        if q.settings.rule == "exact":
            entries = piecewise.exact(node.function, i, o)
        else:
            segments = q.fit(node.function, i, o, piecewise.histogram(codes_of(q.values[node.inputs[0]], i), i))
            if node.offset is None and node.low is None and node.high is None:
                return cls(channels=node.width, i=i, segments=segments, **q.common(node))
            entries = segments(codes(i))
        return cls(channels=node.width, i=i, entries=_bounded(entries, node, o), **q.common(node))

    def check_node(self, node):
        if self.segments is not None and (node.offset, node.low, node.high) != (None, None, None):
            raise InputError("its offset and limits need a table, but it has segments")

    def check_inputs(self, producers):
        check_input("activation", producers[0], self.channels, self.i)

    @cached_property
    def table(self) -> Array:
        """The output for every input code."""
        entries = self.entries if self.segments is None else self.segments(codes(self.i))
        return np.asarray(entries, arith.word(self.o.magnitude))

    def __call__(self, x: Array) -> Array:
        if self.segments is not None and 1 << self.i.bits > TABLE_SIZE:
            return self.segments(x)
        return self.table[x - self.i.min]

    def unit_function(self, node) -> str:
        return node.function

    def density(self, x: Array) -> Array:
        """How often the inputs x reach each code."""
        return piecewise.histogram(x, self.i)

    def c(self, loop):
        loop.check_table("the function", 1 << self.i.bits)
        return "activation", {"least": self.i.min, "table": loop.pointer(self(codes(self.i)), "VALUE")}


def _bounded(entries: Array, node, o: IntFormat) -> Array:
    """The table with the node's offset and limits."""
    low, high = (None if limit is None else limit / o.step for limit in (node.low, node.high))
    shifted = entries + int(np.floor((node.offset or 0.0) / o.step + 0.5))
    return rounded(shifted if low is None and high is None else np.clip(shifted, low, high), o.min, o.max)
