"""Operators of ONNX with weights, and what a convolution needs."""

from dataclasses import replace

import numpy as np

from ..base.errors import InputError
from .file import Operation
from .reader import listed, reads
from .shapes import stream
from .values import MOST_FILTERED, Array, Stream, Term, Value, channels, filter_matrix, is_term, is_zero, moved, node, scaled

MOST_TAPS = 64


@reads("Identity", "Dropout", "Cast", "CastLike")
def identity(operation: Operation, x: Value, *rest: Value | None) -> Value:
    return x


def linear(x: Value, weight: Array, bias: Array | None = None) -> Stream:
    """W·x + b; of values side by side the sum of their products."""
    if is_term(x, "concatenation"):
        ends = np.cumsum([value.draft.width for value in x.args])[:-1]
        if ends.size and weight.shape[1] == x.shape[x.args[0].axes.index("C")]:
            total, *others = (linear(value, columns) for value, columns in
                              zip(x.args, np.split(weight, ends, 1), strict=True))
            for other in others:
                total = node("Add", total, other)
            return total if bias is None else moved(total, bias)
    x = stream(x)
    if weight.ndim != 2 or weight.shape[1] != x.draft.width:
        raise InputError(f"its weight of {list(weight.shape)} does not fit {x.draft.width} channels")
    return node("Linear", x, width=len(weight), parameters={"weight": weight} | ({} if bias is None else {"bias": bias}))


@reads("MatMul")
def matmul(operation: Operation, a: Value, b: Value) -> Value:
    if isinstance(b, np.ndarray) and b.ndim == 2 and _last_axis(a, -1):
        return linear(a, b.T)
    if isinstance(a, np.ndarray) and a.ndim == 2 and _last_axis(b, -2):
        return linear(b, a)
    if isinstance(a, np.ndarray) and a.ndim == 2 and isinstance(b, Stream) and b.axes == ("B", "L", "C"):
        return _filtered(a, b)
    raise InputError("it is no product of channels with a constant matrix")


def _filtered(matrix: Array, x: Stream) -> Stream:
    """A filter over the tokens."""
    tokens = x.draft.tokens
    for shift in range(1, 17) if matrix.shape == (tokens, tokens) and tokens <= MOST_FILTERED else ():
        if np.abs(matrix - filter_matrix(tokens, shift)).max() < 1e-9:
            made = node("Smooth", x.of(x.draft), shift=shift)
            return replace(x, draft=made.draft)
    raise InputError("it mixes tokens by constants, and not as a filter y ← y + (x − y)/2^k")


def _last_axis(x: Value, place: int) -> bool:
    axes = x.axes if isinstance(x, Stream) else x.args[0].axes if is_term(x, "concatenation") else ()
    return len(axes) >= -place and axes[place] == "C"


@reads("Gemm")
def gemm(operation: Operation, x: Value, weight: Value, bias: Value | None = None) -> Value:
    told = operation.attributes
    if told.get("transA") or not isinstance(weight, np.ndarray) or not _last_axis(x, -1):
        raise InputError("it is no product of channels with a constant matrix")
    matrix = (weight if told.get("transB") else weight.T) * told.get("alpha", 1.0)
    y = linear(x, matrix)
    return y if bias is None else moved(y, channels(y, bias) * told.get("beta", 1.0))


@reads("Conv")
def conv(operation: Operation, x: Value, weight: Value, bias: Value | None = None) -> Value:
    told, before = operation.attributes, 0
    if is_term(x, "padding"):
        x, before = x.args
    x = stream(x)
    given = isinstance(weight, np.ndarray) and weight.ndim == 3 and told.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    if x.axes != ("B", "C", "L") or not given:
        raise InputError("it is no convolution over tokens [batch, channels, tokens] with constant weights and given pads")
    group = told.get("group", 1)
    stride, spread = (listed(operation, name, None, [1]) for name in ("strides", "dilations"))
    first, last = listed(operation, "pads", None, [0, 0])
    width, taps = x.draft.width, weight.shape[2]
    reach, first = (taps - 1) * spread[0], first + before
    if stride != [1]:
        raise InputError(f"its stride is {stride[0]}; only 1 is read")
    if taps == 1 and group == 1 and not first and not last:
        return linear(x, weight[:, :, 0], None if bias is None else bias.reshape(-1))
    if group != width or weight.shape[:2] != (width, 1) or first != reach or reach >= MOST_TAPS:
        raise InputError(f"it has {group} groups for {width} channels, {taps} taps and {first} zeros before the first token; "
                         "causal depthwise ones (as many groups as channels, taps − 1 zeros) and those of one tap are read")
    y = _causal(x, weight, bias, spread[0])
    return Term("longer", (y,), (*y.shape[:2], y.shape[2] + last)) if last else y


def _causal(x: Stream, weight: Array, bias: Array | None, spread: int = 1) -> Stream:
    taps = np.zeros((len(weight), (weight.shape[2] - 1) * spread + 1))
    taps[:, ::spread] = weight[:, 0]
    more = {} if bias is None else {"bias": bias.reshape(-1)}
    return node("Conv1d", x, parameters={"weight": taps} | more, taps=taps.shape[1])


@reads("CausalConvWithState")
def causal_conv(operation: Operation, x: Value, weight: Array, bias: Value = None, past: Value = None) -> Value:
    x = stream(x)
    if x.axes != ("B", "C", "L") or weight.shape[:2] != (x.draft.width, 1) or weight.shape[2] > MOST_TAPS:
        raise InputError(f"its weight of {list(weight.shape)} does not fit {x.draft.width} channels, or has more than "
                         f"{MOST_TAPS} taps")
    if not is_zero(past):
        raise InputError("it begins with a state that is not zero")
    y = _causal(x, weight, bias)
    name = operation.attributes.get("activation", "none")
    if name not in ("none", "silu", "swish"):
        raise InputError(f"its activation is {name}; none and silu are read")
    return y if name == "none" else node("Activation", y, function="silu")


@reads("BatchNormalization")
def batch_norm(operation: Operation, x: Value, scale: Array, bias: Array, mean: Array, variance: Array) -> Value:
    x = stream(x)
    if len(x.axes) < 2 or x.axes[1] != "C" or operation.attributes.get("training_mode"):
        raise InputError("it does not normalize channels by constants")
    factor = scale / np.sqrt(variance + operation.attributes.get("epsilon", 1e-5))
    return moved(scaled(x, factor), bias - mean * factor)
