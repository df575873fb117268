"""An exponential filter over the tokens, for regression over time."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..base import arithmetic as arith
from ..base.errors import DesignLimit
from .base import Array, SameFormat, check_bound, check_input, check_same, register


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class Smooth(SameFormat):
    """y ← y + (x − y)/2^shift, channel by channel; the first token is taken as it is. Our choice.

    The state s is y with `shift` more fraction bits: s = x·2^shift at the first token, then s ← s + x − round_shift(s, shift);
    y = round_shift(s, shift) in the input's format. |s| ≤ max|x|·2^shift, so nothing saturates. State: [batch, channels].
    """

    shift: int

    attributes: ClassVar = {"shift": range(1, 17)}
    needed = ("shift",)
    recurrent = True
    source = Path(__file__).with_suffix(".c")

    def __post_init__(self):
        super().__post_init__()
        if self.shift not in self.attributes["shift"]:
            raise DesignLimit(f"shift = {self.shift} is out of range; a filter's must lie in 1..16")
        check_bound("the filter's state", self.sum_bound)

    @classmethod
    def real(cls, xp, node, parameters, x):
        y = [x[:, 0]]
        for t in range(1, x.shape[1]):
            y.append(y[-1] + (x[:, t] - y[-1]) * 2.0**-node.shift)
        return xp.stack(y, 1)

    @classmethod
    def quantize(cls, node, q):
        return cls(channels=node.width, shift=node.shift, **cls.kept(node, q))

    def check_node(self, node):
        check_same("the shift", self.shift, node.shift)

    def check_inputs(self, producers):
        check_input("filter", producers[0], self.channels, self.i)

    def __call__(self, x: Array) -> Array:
        return self.resume(None, x)[0]

    def resume(self, before, x):
        state, y = before, np.empty(x.shape, np.int64)
        for t in range(x.shape[1]):
            now = x[:, t].astype(np.int64)
            state = now << self.shift if state is None else state + now - arith.round_shift(state, self.shift, self.rounding)
            y[:, t] = arith.round_shift(state, self.shift, self.rounding)
        return y, state

    @property
    def sum_bound(self):
        return (self.i.magnitude + 1) << self.shift

    def c(self, loop):
        limits = self.i.min << self.shift, self.i.max << self.shift
        return "smooth", {**loop.keep((self.width + 1,), "SUM", limits, last=(0, 1)), "left": (self.shift, 0),
                          "o": loop.format(self, self.shift)}
