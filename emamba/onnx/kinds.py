"""How every kind of node is written."""

import numpy as np

from .writer import writes


@writes("Linear")
def linear(w, node, parameter, x):
    y = w.op("MatMul", x, parameter("weight", np.transpose, 1))
    if bias := parameter("bias"):
        y = w.op("Add", y, bias)
    return w.op("Relu", y) if node.function == "relu" else y


@writes("Conv1d")
def conv1d(w, node, parameter, x):
    weight = parameter("weight", lambda values: values[:, None])
    last = w.op("Transpose", x, perm=(0, 2, 1))
    y = w.op("CausalConvWithState", last, weight, *filter(None, [parameter("bias")]), also=1)
    return w.op("Transpose", y, perm=(0, 2, 1))


@writes("Lookup")
def lookup(w, node, parameter, ids):
    return w.op("Gather", parameter("weight"), ids, axis=0)


@writes("Activation")
def activation(w, node, parameter, x):
    return w.op("Softplus", x) if node.function == "softplus" else w.op("Mul", x, w.op("Sigmoid", x))


@writes("LayerNorm")
def layer_norm(w, node, parameter, x):
    weight = parameter("weight") or np.ones(node.width, np.float32)
    return w.op("LayerNormalization", x, weight, *filter(None, [parameter("bias")]), axis=-1, epsilon=node.epsilon)


@writes("RMSNorm")
def rms_norm(w, node, parameter, x):
    return w.op("RMSNormalization", x, parameter("weight") or np.ones(node.width, np.float32), axis=-1, epsilon=node.epsilon)


@writes("RangeNorm")
def range_norm(w, node, parameter, x):
    last, nothing = np.array([-1]), np.zeros((), np.float32)
    extent = w.op("Sub", w.op("ReduceMax", x, last), w.op("ReduceMin", x, last))
    flat = w.op("Equal", extent, nothing)
    centred = w.op("Sub", x, w.op("ReduceMean", x, last))
    y = w.op("Where", flat, nothing, w.op("Div", centred, w.op("Where", flat, np.ones((), np.float32), extent)))
    if weight := parameter("weight"):
        y = w.op("Mul", y, weight)
    if bias := parameter("bias"):
        y = w.op("Add", y, bias)
    return y


@writes("Scan")
def scan(w, node, parameter, u, dt, B, C):
    """One head a channel: keys are B, queries C, values δ·u, decays δ·A."""
    A = parameter("A") or w.op("Neg", w.op("Exp", parameter("A_log")))
    heads = node.width
    decays = w.op("Mul", w.op("Unsqueeze", dt, np.array([-1])), A)
    decays = w.op("Reshape", decays, np.array([0, 0, -1]))
    tiles = np.array([1, 1, heads])
    y = w.op("LinearAttention", w.op("Tile", C, tiles), w.op("Tile", B, tiles), w.op("Mul", dt, u), "", decays, also=1,
             q_num_heads=heads, kv_num_heads=heads, scale=1.0, update_rule="gated")
    return w.op("Add", y, w.op("Mul", u, parameter("D")))


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
    return w.op("Slice", x, np.array([-1]), np.array([np.iinfo(np.int64).max]), np.array([1]))
