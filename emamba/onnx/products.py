"""Operators of ONNX with weights, and what a convolution needs."""

from dataclasses import replace

import numpy as np

from ..base.errors import InputError
from ..ops.window import Grid
from .attention import scores
from .file import Operation
from .reader import listed, reads
from .shapes import stream
from .values import (
    MOST_FILTERED,
    Array,
    Stream,
    Term,
    Value,
    channels,
    filter_matrix,
    is_term,
    is_zero,
    moved,
    node,
    scaled,
    windowed,
)

MOST_TAPS, MOST_WINDOW = 64, 1 << 12
"""Of a Conv1d, and tokens under a kernel."""


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
    if is_term(a, "heads first") and is_term(b, "heads turned") and a.args[1] == b.args[1]:
        return scores(a, b)
    if is_term(a, "shares") and is_term(b, "heads first") and a.args[2] == b.args[1]:
        return Term("attended", (*a.args[:2], b.args[0], *a.args[2:]), (*a.shape[:3], b.shape[3]))
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
    """One tap is a Linear, a causal depthwise one a Conv1d, any other a Window and a Linear or Depthwise."""
    told, before = operation.attributes, 0
    if is_term(x, "padding"):
        x, before = x.args
    x = stream(x)
    rank = len(x.axes) - 2
    known = isinstance(weight, np.ndarray) and weight.ndim == rank + 2 and (bias is None or isinstance(bias, np.ndarray))
    if x.axes not in (("B", "C", "L"), ("B", "C", "H", "W")) or not known or told.get("auto_pad", "NOTSET") not in (
            "NOTSET", "VALID"):
        raise InputError("it is no convolution of [batch, channels, tokens] or [batch, channels, rows, columns] with constant "
                         "weights and given pads")
    strides, spread = (listed(operation, name, None, [1] * rank) for name in ("strides", "dilations"))
    pads, width, groups = listed(operation, "pads", None, [0] * 2 * rank), x.draft.width, told.get("group", 1)
    bias = None if bias is None else bias.reshape(-1)
    pads[0] += before
    if weight.size == weight.shape[0] * weight.shape[1] and groups == 1 and set(strides) == {1} and not any(pads):
        return linear(x, weight.reshape(weight.shape[:2]), bias)
    if groups not in (1, width) or weight.shape[1] != width // groups or (groups > 1 and len(weight) != width):
        raise InputError(f"its weight of {list(weight.shape)} in {groups} groups for {width} channels is neither dense nor one "
                         "filter for each channel")
    weight = _spread(weight, spread)
    reach = weight.shape[2] - 1
    if rank == 1 and groups == width and strides == [1] and pads[0] == reach < MOST_TAPS:
        y = _causal(x, weight, bias)
        return Term("longer", (y,), (*y.shape[:2], y.shape[2] + pads[1])) if pads[1] else y
    return _windowed(x, weight, bias, strides, pads, groups)


def _spread(weight: Array, by: list[int]) -> Array:
    """A dilated kernel with zeros between its taps."""
    sizes = [(size - 1) * step + 1 for size, step in zip(weight.shape[2:], by, strict=True)]
    if min(by) < 1 or np.prod(sizes) > MOST_WINDOW:
        raise InputError(f"its kernel reaches over {' × '.join(map(str, sizes))} tokens; at most {MOST_WINDOW} are possible")
    wide = np.zeros((*weight.shape[:2], *sizes))
    wide[(slice(None), slice(None), *(slice(None, None, step) for step in by))] = weight
    return wide


def _windowed(x: Stream, weight: Array, bias: Array | None, strides: list[int], pads: list[int], groups: int) -> Stream:
    flat, kernel = len(strides) == 1, weight.shape[2:]
    rows, columns = (1, x.draft.tokens) if flat else x.grid
    kernel, (down, across) = ((1, *kernel), (1, *strides)) if flat else (kernel, strides)
    top, left, bottom, right = (0, pads[0], 0, pads[1]) if flat else pads
    grid = {"rows": rows, "columns": columns, "kernel_rows": kernel[0], "kernel_columns": kernel[1], "stride_rows": down,
            "stride_columns": across, "pad_top": top, "pad_left": left, "pad_bottom": bottom, "pad_right": right}
    window = windowed(x, grid)
    under = x.of(window, grid=Grid(**grid).places)
    more = {} if bias is None else {"bias": bias}
    if groups > 1:
        flat_weight = weight.reshape(len(weight), -1)
        return node("Depthwise", under, width=len(weight), parameters={"weight": flat_weight} | more, taps=flat_weight.shape[1])
    return node("Linear", under, width=len(weight), parameters={
        "weight": np.moveaxis(weight, 1, -1).reshape(len(weight), -1)} | more)


def _causal(x: Stream, weight: Array, bias: Array | None) -> Stream:
    more = {} if bias is None else {"bias": bias.reshape(-1)}
    return node("Conv1d", x, parameters={"weight": weight[:, 0]} | more, taps=weight.shape[2])


@reads("AveragePool")
def average(operation: Operation, x: Value) -> Value:
    """A Depthwise of equal weights."""
    x, kernel = stream(x), listed(operation, "kernel_shape", None)
    pads, strides = listed(operation, "pads", None, [0] * 2 * len(kernel)), listed(operation, "strides", None, [1] * len(kernel))
    if (any(pads) and not operation.attributes.get("count_include_pad")) or operation.attributes.get("ceil_mode"):
        raise InputError("it divides by other numbers at the border")
    if x.axes not in (("B", "C", "L"), ("B", "C", "H", "W")) or len(kernel) != len(x.axes) - 2:
        raise InputError("it is no pool of [batch, channels, tokens] or [batch, channels, rows, columns]")
    width = x.draft.width
    return _windowed(x, np.full((width, 1, *kernel), 1 / np.prod(kernel)), None, strides, pads, width)


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
