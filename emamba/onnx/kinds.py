"""How every kind of node is written."""

import numpy as np

from ..ops.window import Grid
from .values import filter_matrix
from .writer import writes

LEAST, MOST = -(1 << 63), (1 << 63) - 1
"""Ends of an axis, of a Slice."""


@writes("Linear")
def linear(w, node, parameter, x):
    source = w.graph[node.inputs[0]]
    if source.kind == "Window":
        y = _convolved(w, source, parameter, 1)
    else:
        y = w.op("MatMul", x, parameter("weight", np.transpose, 1))
        if bias := parameter("bias"):
            y = w.op("Add", y, bias)
    return w.op("Relu", y) if node.function == "relu" else y


@writes("Depthwise")
def depthwise(w, node, parameter, x):
    source = w.graph[node.inputs[0]]
    if source.kind == "Window":
        return _convolved(w, source, parameter, node.width)
    taps = w.op("Reshape", x, np.array([0, 0, node.taps, node.width]))
    y = w.op("ReduceSum", w.op("Mul", taps, parameter("weight", np.transpose, 1)), np.array([2]), keepdims=0)
    return w.op("Add", y, bias) if (bias := parameter("bias")) else y


@writes("Window")
def window(w, node, parameter, x):
    """For readers that are no convolution with it: tokens chosen by their numbers, the last of which is all zeros."""
    grid = Grid.of(node)
    taken = w.op("Gather", w.op("Pad", x, np.array([0, 0, 0, 0, 1, 0])), grid.tokens, axis=1)
    return w.op("Reshape", taken, np.array([0, len(grid.tokens), node.width]))


def _convolved(w, window, parameter, groups: int) -> str:
    """A Window and the product that reads it, as a Conv."""
    grid, flat = Grid.of(window), window.rows == 1 == window.kernel_rows
    kernel = (grid.kernel_columns,) if flat else (grid.kernel_rows, grid.kernel_columns)

    def form(weight):
        if groups > 1:
            return weight.reshape(groups, 1, *kernel)
        return np.moveaxis(weight.reshape(len(weight), *kernel, -1), -1, 1)

    x = w.op("Transpose", w.values[window.inputs[0]], perm=(0, 2, 1))
    x = x if flat else w.op("Reshape", x, np.array([0, 0, grid.rows, grid.columns]))
    pads = (grid.pad_top, grid.pad_left, grid.pad_bottom, grid.pad_right)
    strides = (grid.stride_rows, grid.stride_columns)
    y = w.op("Conv", x, parameter("weight", form), *filter(None, [parameter("bias")]), group=groups, kernel_shape=kernel,
             pads=pads[1::2] if flat else pads, strides=strides[1:] if flat else strides)
    y = y if flat else w.op("Reshape", y, np.array([0, 0, -1]))
    return w.op("Transpose", y, perm=(0, 2, 1))


@writes("Conv1d")
def conv1d(w, node, parameter, x):
    weight = parameter("weight", lambda values: values[:, None])
    last = w.op("Transpose", x, perm=(0, 2, 1))
    y = w.op("CausalConvWithState", last, weight, *filter(None, [parameter("bias")]), also=1)
    return w.op("Transpose", y, perm=(0, 2, 1))


@writes("Lookup")
def lookup(w, node, parameter, ids):
    return w.op("Gather", parameter("weight"), ids, axis=0)


FUNCTIONS = {"silu": lambda w, x: w.op("Mul", x, w.op("Sigmoid", x)), "softplus": lambda w, x: w.op("Softplus", x),
             "sigmoid": lambda w, x: w.op("Sigmoid", x)}


@writes("Activation")
def activation(w, node, parameter, x):
    y = FUNCTIONS[node.function](w, x)
    if node.offset is not None:
        y = w.op("Add", y, np.float32(node.offset))
    limits = ["" if limit is None else np.float32(limit) for limit in (node.low, node.high)]
    return w.op("Clip", y, *limits) if any(limit != "" for limit in limits) else y


@writes("LayerNorm")
@writes("RMSNorm")
def root_norm(w, node, parameter, x):
    def normed(x, *factors):
        given = (factor for factor in factors if factor is not None)
        return w.op(f"{node.kind}alization", x, *given, axis=-1, epsilon=node.epsilon)

    if node.groups:
        return _by_group(w, node, parameter, x, normed)
    return normed(x, parameter("weight") or np.ones(node.width, np.float32), parameter("bias"))


def _by_group(w, node, parameter, x, normed):
    """The norm of each group of channels, then weight and bias."""
    size = node.width // node.groups
    y = normed(w.op("Reshape", x, np.array([0, 0, node.groups, size])), np.ones(size, np.float32))
    return _scaled(w, parameter, w.op("Reshape", y, np.array([0, 0, node.width])))


@writes("RangeNorm")
def range_norm(w, node, parameter, x):
    if node.groups:
        return _by_group(w, node, parameter, x, lambda x, _: _ranged(w, x))
    return _scaled(w, parameter, _ranged(w, x))


def _ranged(w, x):
    last, nothing = np.array([-1]), np.zeros((), np.float32)
    extent = w.op("Sub", w.op("ReduceMax", x, last), w.op("ReduceMin", x, last))
    flat = w.op("Equal", extent, nothing)
    centred = w.op("Sub", x, w.op("ReduceMean", x, last))
    return w.op("Where", flat, nothing, w.op("Div", centred, w.op("Where", flat, np.ones((), np.float32), extent)))


def _scaled(w, parameter, y):
    if weight := parameter("weight"):
        y = w.op("Mul", y, weight)
    if bias := parameter("bias"):
        y = w.op("Add", y, bias)
    return y


@writes("Scan")
@writes("HeadScan")
def scan(w, node, parameter, u, dt, B, C):
    """Linear attention: keys are B, queries C, values δ·u, decays δ·A. A head has one δ: it is a channel of a Scan."""
    heads, states = (w.graph[name].width for name in node.inputs[1:3])
    by_heads = node.kind == "HeadScan"
    groups = node.groups or 1 if by_heads else 1
    size = node.width // heads
    split, joined = np.array([0, 0, heads, size]), np.array([0, 0, -1])
    A = parameter("A", lambda values: values[:, 0] if by_heads else values) or w.op("Neg", w.op("Exp", parameter("A_log")))
    if by_heads:
        decays = w.op("Mul", dt, A)
        each = w.op("Mul", w.op("Reshape", u, split), w.op("Unsqueeze", dt, np.array([-1])))
        values = w.op("Reshape", each, joined)
    else:
        decays = w.op("Reshape", w.op("Mul", w.op("Unsqueeze", dt, np.array([-1])), A), joined)
        values = w.op("Mul", dt, u)

    def of_heads(x: str) -> str:
        if groups == 1:
            return w.op("Tile", x, np.array([1, 1, heads]))
        index = np.arange(states).reshape(groups, -1).repeat(heads // groups, 0).reshape(-1)
        return w.op("Gather", x, index, axis=2)

    def by_heads_first(values):
        return values.reshape(heads, size, -1).swapaxes(1, 2)[None]

    start = parameter("h0", by_heads_first) or ""
    if start:
        start = w.op("Expand", start, w.op("Concat", w.op("Shape", u, start=0, end=1), np.ones(3, np.int64), axis=0))
    y = w.op("LinearAttention", of_heads(C), of_heads(B), values, start, decays, also=1, q_num_heads=heads, kv_num_heads=heads,
             scale=1.0, update_rule="gated")
    return w.op("Add", y, w.op("Mul", u, parameter("D", lambda values: values.repeat(node.width // len(values)))))


@writes("Reverse")
def reverse(w, node, parameter, x):
    return w.op("Slice", x, np.array([-1]), np.array([LEAST]), np.array([1]), np.array([-1]))


@writes("Smooth")
def smooth(w, node, parameter, x):
    return w.op("MatMul", filter_matrix(node.reads, node.shift), x)


@writes("Attention")
def attention(w, node, parameter, q, k, v):
    return w.op("Attention", q, k, v, is_causal=int(node.causal), q_num_heads=node.heads, kv_num_heads=node.heads)


@writes("Multiply")
def multiply(w, node, parameter, a, b):
    return w.op("Mul", a, b)


@writes("Add")
def add(w, node, parameter, a, b):
    return w.op("Add", a, b)


@writes("Pool")
def pool(w, node, parameter, x):
    if node.mean:
        return w.op("ReduceMean", x, np.array([1]), keepdims=1)
    return w.op("Slice", x, np.array([-1]), np.array([MOST]), np.array([1]))
