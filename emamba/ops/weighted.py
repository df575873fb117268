"""Products with weights: Linear and Conv1d."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..base import arithmetic as arith
from ..base.errors import DesignLimit, InputError, SettingError
from ..base.formats import IntFormat
from .base import (
    BIAS,
    MULTIPLIER,
    Array,
    Operator,
    check_bound,
    check_input,
    check_matrix,
    check_same,
    check_shift,
    inside,
    register,
    rounded,
)
from .scales import FINEST, SCALES, SLACK, in_format, whole_steps

DELTA = (1e-3, 1e-1)
"""Range of δ at the start of a training, uniform in its logarithm (Mamba; for ReLU our choice)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighted(Operator):
    """y = requantize(Σ weight·x + bias).

    weight [out, ...] in format `w`, bias [out] at the accumulator's scale. `multiplier` [out] makes the scale dyadic:
    y = round(acc · multiplier · 2^−shift); all ones is the paper's power-of-two scale.
    """

    weight: Array
    bias: Array
    multiplier: Array
    i: IntFormat
    w: IntFormat
    shift: int

    optional = ("bias",)
    loadable = True
    source = Path(__file__).with_suffix(".c")

    def __post_init__(self):
        check_matrix("weight", self.weight)
        out, _ = self.weight.shape
        check_same("the shape of bias", self.bias.shape, (out,))
        check_same("the shape of multiplier", self.multiplier.shape, (out,))
        arith.check_range("weight", self.weight, self.w)
        arith.check_range("multiplier", self.multiplier, MULTIPLIER)
        arith.check_range("bias", self.bias, BIAS)
        check_shift("shift", self.shift)
        check_bound("the accumulator", self.bound * int(self.multiplier.max(initial=1)), self.shift)

    @property
    def width(self) -> int:
        return self.weight.shape[0]

    @property
    def dyadic(self) -> bool:
        return bool((self.multiplier != 1).any())

    @property
    def multiplies(self) -> int:
        """Multiplications per token."""
        return self.weight.size + (self.width if self.dyadic else 0)

    @cached_property
    def bound(self) -> int:
        """Largest |accumulator| of any input in format `i`."""
        rows = np.abs(self.weight).sum(1).tolist()
        return max(row * self.i.magnitude + abs(b) for row, b in zip(rows, self.bias.tolist(), strict=True))

    @cached_property
    def word(self) -> np.dtype:
        return arith.word(self.bound * int(self.multiplier.max(initial=1)), self.shift, self.o)

    @property
    def steps(self) -> Array:
        """Value of one step of the weights of each output: a step of y is one of weight · input · multiplier · 2^−shift."""
        return self.multiplier * 2.0 ** (self.i.frac - self.o.frac - self.shift)

    def _requantize(self, product: Array) -> Array:
        """Σ weight·x → y."""
        acc = product.astype(self.word, copy=False) + self.bias.astype(self.word)
        multiplier = self.multiplier.astype(self.word) if self.dyadic else None
        return arith.requantize(acc, self.shift, self.o, self.rounding, multiplier)

    @classmethod
    def initial(cls, xp, node, name, shapes):
        bound = shapes["weight"][1] ** -0.5
        return xp.uniform(-bound, bound, shapes[name])

    @classmethod
    def prepared(cls, xp, parameters):
        weight = parameters["weight"]
        return {"weight": weight, "bias": parameters["bias"] if "bias" in parameters else xp.zeros_like(weight[:, 0])}

    @classmethod
    def quantize(cls, node, q, **more):
        p, bits = q.parameters(node), q.settings.weight_bits
        silent = not (p["weight"].any() and q.values[node.inputs[0]].any())
        i, o = q.formats[node.inputs[0]], q.formats[node.name]
        reach = o.magnitude * o.step + np.abs(p["weight"]).sum(1) * i.magnitude * i.step
        bias = np.clip(p["bias"], -2 * reach, 2 * reach)  # beyond it the output saturates for any input, as of a dead ReLU

        given, steps = q.given(f"{node.name}.weight"), q.given_steps(node)
        if given is not None and (steps is not None or not given.signed or q.settings.weight_scale == "dyadic"):
            raise SettingError("formats: a format of its weights is a signed one with weight_scale = 'power_of_two', and without "
                               "weight_steps")

        def scaled(o: IntFormat) -> dict:
            if steps is not None:
                return whole_steps(p["weight"], bias, bits, i, o, steps)
            if given is not None:
                return in_format(p["weight"], bias, given, i, o)
            return SCALES[q.settings.weight_scale](p["weight"], bias, bits, i, o, silent)

        parts = scaled(o)
        if parts["shift"] < -SLACK:
            parts = scaled(q.coarsen(node.name, o.frac + parts["shift"] + SLACK))
        _check_resolution(node, q, p["weight"], parts["shift"], silent)
        return cls(**parts, i=i, **q.common(node), **more)

    def retrained(self, parameters, **unit):
        steps = self.steps
        return replace(self, weight=rounded(parameters["weight"] / steps[:, None], -self.w.max, self.w.max),
                       bias=rounded(parameters["bias"] / (steps * self.i.step), BIAS.min, BIAS.max))

    def values(self):
        return {"weight": self.weight * self.steps[:, None], "bias": self.bias * self.steps * self.i.step}

    def largest(self):
        peak = self.w.min if (self.weight == self.w.min).any() else self.w.max
        reach = self.weight.shape[1] * abs(peak) * self.i.magnitude
        bias = min(max(reach, int(np.abs(self.bias).max())), BIAS.max)
        return replace(self, weight=np.full_like(self.weight, peak), bias=np.full_like(self.bias, bias),
                       multiplier=np.full_like(self.multiplier, MULTIPLIER.max if self.dyadic else 1))

    @property
    def sum_bound(self):
        return max(inside(self.bound * int(self.multiplier.max()), self.shift), self.o.magnitude)


def _check_resolution(node, q, weight: Array, shift: int, silent: bool) -> None:
    """Refuses weights or inputs of which one is so large that its tensor's step hides the outputs."""
    largest = float(np.abs(q.values[node.name]).max())
    coarse = q.formats[node.name].step * 2.0**-shift
    if not silent and 2.0**-FINEST < largest < coarse:
        source = node.inputs[0]
        channel, read = (int(k) for k in np.unravel_index(np.abs(weight).argmax(), weight.shape))
        raise DesignLimit(f"channel {channel}: its weight {read} of {weight[channel, read]:g} and inputs of up to "
                          f"{np.abs(q.values[source]).max():g} make steps of {coarse:g}, above all outputs of at most "
                          f"{largest:g}: raise weight_bits ({q.settings.weight_bits}) or the bits of '{source}', or "
                          "rescale the weights")


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class Linear(Weighted):
    """y = requantize(W·x + b), weight [out, in], optionally clipped below at 0 (ReLU).

    Attributes of a node: `function`, and `delta`: the function of this Linear that is a step size δ, which its bias starts from.
    """

    relu: bool = False

    folds = True
    decayed = ("weight",)
    attributes: ClassVar = {"function": ("relu",), "delta": ("relu", "softplus")}

    @classmethod
    def shapes(cls, node, widths):
        return {"weight": (node.width, widths[0]), "bias": (node.width,)}

    @classmethod
    def initial(cls, xp, node, name, shapes):
        if name != "bias" or not node.delta:
            return super().initial(xp, node, name, shapes)
        delta = xp.exp(xp.uniform(*np.log(DELTA), shapes[name]))
        return delta if node.delta == "relu" else delta + xp.log(-xp.expm1(-delta))

    @classmethod
    def real(cls, xp, node, parameters, x):
        y = xp.linear(x, parameters["weight"], parameters["bias"])
        return xp.function(node.function, y) if node.function else y

    @classmethod
    def quantize(cls, node, q, **more):
        return super().quantize(node, q, relu=node.function == "relu")

    def check_node(self, node):
        if self.relu != (node.function == "relu"):
            raise InputError(f"its relu is {self.relu}, but the node's function is {node.function}")

    def check_inputs(self, producers):
        check_input("linear", producers[0], self.weight.shape[1], self.i)

    def __call__(self, x: Array) -> Array:
        y = self._requantize(arith.matmul(x, self.weight, self.bound))
        return np.maximum(y, 0) if self.relu else y

    def c(self, loop):
        (out, read), lanes, depth = self.weight.shape, loop.lanes, loop.depth
        blocks = np.zeros((-(-out // lanes) * lanes, -(-read // depth) * depth), np.int64)
        blocks[:out, :read] = self.weight
        weight = blocks.reshape(-1, lanes, blocks.shape[1] // depth, depth).swapaxes(1, 2)
        bias, multiplier = (np.pad(x, (0, len(blocks) - out)) for x in (self.bias, self.multiplier))
        return "linear", {"input": read, "weight": loop.pointer(weight, "SUM"), "bias": loop.pointer(bias, "SUM"),
                          "multiplier": loop.pointer(multiplier, "SUM"), "o": loop.format(self, self.shift, relu=self.relu)}


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class Conv1d(Weighted):
    """Causal depthwise convolution; weight [channels, taps], the last tap on the current token. Its state: the last taps − 1
    tokens, [batch, taps − 1, channels]."""

    attributes: ClassVar = {"taps": range(1, 65)}
    needed = ("taps",)
    recurrent = True

    @classmethod
    def shapes(cls, node, widths):
        return {"weight": (node.width, node.taps), "bias": (node.width,)}

    @classmethod
    def real(cls, xp, node, parameters, x):
        return xp.conv(x, parameters["weight"], parameters["bias"])

    def check_node(self, node):
        if self.weight.shape[1] != node.taps:
            raise InputError(f"it has {self.weight.shape[1]} taps, the model needs {node.taps}")

    def check_inputs(self, producers):
        check_input("convolution", producers[0], self.width, self.i)

    def __call__(self, x: Array) -> Array:
        return self._requantize(arith.causal_conv(x.astype(self.word, copy=False), self.weight.astype(self.word)))

    def resume(self, before, x):
        kept = self.weight.shape[1] - 1
        known = np.concatenate([np.zeros((len(x), kept, self.width), np.int64) if before is None else before, x], 1)
        return self(known)[:, kept:], known[:, known.shape[1] - kept:]

    def c(self, loop):
        return "conv1d", {"taps": self.weight.shape[1], "weight": loop.pointer(self.weight.T, "SUM"),
                          "bias": loop.pointer(self.bias, "SUM"), "multiplier": loop.pointer(self.multiplier, "SUM"),
                          "scratch": loop.reserve((self.width,), "SUM"), "o": loop.format(self, self.shift),
                          **loop.keep((max(1, self.weight.shape[1] - 1), self.width), "VALUE", (self.i.min, self.i.max))}
