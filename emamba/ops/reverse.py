"""A sequence's tokens, the last one first."""

from dataclasses import dataclass
from pathlib import Path

from ..base.formats import IntFormat
from .base import Array, Operator, check_input, check_same, register


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class Reverse(Operator):
    """The tokens of a whole sequence in reverse order, in the input's format."""

    channels: int
    i: IntFormat

    streams = refined = False
    commutes = "weight", "bias"
    whole = True
    source = Path(__file__).with_suffix(".c")

    def __post_init__(self):
        check_same("the output's format", str(self.o), str(self.i))

    @property
    def width(self) -> int:
        return self.channels

    @classmethod
    def follows(cls, node):
        return True

    @classmethod
    def real(cls, xp, node, parameters, x):
        return xp.flip(x, (1,))

    @classmethod
    def quantize(cls, node, q):
        i = q.formats[node.name] = q.formats[node.inputs[0]]
        return cls(channels=node.width, i=i, **q.common(node))

    def check_inputs(self, producers):
        check_input("reverse", producers[0], self.channels, self.i)

    def __call__(self, x: Array) -> Array:
        return x[:, ::-1]

    def c(self, loop):
        return "reverse", {}
