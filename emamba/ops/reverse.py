"""A sequence's tokens, the last one first."""

from dataclasses import dataclass
from pathlib import Path

from .base import Array, SameFormat, check_input, register


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class Reverse(SameFormat):
    """The tokens of a whole sequence in reverse order, in the input's format."""

    streams = False
    commutes = "weight", "bias"
    whole = True
    source = Path(__file__).with_suffix(".c")

    @classmethod
    def real(cls, xp, node, parameters, x):
        return xp.flip(x, (1,))

    @classmethod
    def quantize(cls, node, q):
        return cls(channels=node.width, **cls.kept(node, q))

    def check_inputs(self, producers):
        check_input("reverse", producers[0], self.channels, self.i)

    def __call__(self, x: Array) -> Array:
        return x[:, ::-1]

    def c(self, loop):
        return "reverse", {}
