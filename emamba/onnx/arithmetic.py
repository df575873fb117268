"""Operators of ONNX without weights: norms, scalar functions, sums and products."""

from dataclasses import replace

import numpy as np

from ..base.errors import InputError
from .attention import factored, masked
from .file import Operation
from .reader import listed, number, reads
from .shapes import stream, with_axes
from .values import Array, Stream, Term, Value, channels, decimal, is_number, is_term, moved, node, same, scaled

BY_HEADS = ("heads first", "heads turned", "scores")
LEAST_SCORE = -1e4
"""Below it a mask's values leave nothing of a share."""

# -- norms, scalar functions --------------------------------------------------------------------------------------------------


@reads("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def norm(operation: Operation, x: Value, scale: Array | None = None, bias: Array | None = None) -> Value:
    kind = "LayerNorm" if operation.kind == "LayerNormalization" else "RMSNorm"
    axis, epsilon = operation.attributes.get("axis", -1), operation.attributes.get("epsilon", 1e-5)
    if is_term(x, "split") and axis in (-1, 3):
        if bias is not None or (scale is not None and not (np.asarray(scale) == 1).all()):
            raise InputError("it scales or moves what it normalizes by group: do that to the channels, after joining the groups")
        return Term("normed by group", (kind, *x.args, epsilon), x.shape)
    x = stream(x)
    if x.axes[-1] != "C" or axis not in (-1, len(x.axes) - 1):
        raise InputError("it does not normalize the channels of each token")
    return _normed(kind, x, epsilon, scale, bias)


def _normed(kind: str, x: Stream, epsilon: float, scale: Array | None = None, bias: Array | None = None) -> Stream:
    y = node(kind, x, epsilon=decimal(epsilon))
    y = y if scale is None else scaled(y, channels(y, scale))
    return y if bias is None else moved(y, channels(y, bias))


@reads("Relu")
def relu(operation: Operation, x: Value) -> Value:
    x = stream(x)
    if x.draft.kind == "Linear" and "function" not in x.draft.attributes and x.scale is None is x.offset:
        return x.of(x.draft.copy(attributes=x.draft.attributes | {"function": "relu"}))
    raise InputError(f"it follows the kind {x.draft.kind}; only a Linear takes a Relu in")


@reads("Clip")
def clip(operation: Operation, x: Value, low: Value | None = None, high: Value | None = None) -> Value:
    x = stream(x)
    low, high = (number(value, operation.attributes.get(name)) for name, value in (("min", low), ("max", high)))
    if low == 0 and high is None and x.draft.kind == "Linear":
        return relu(operation, x)
    if x.draft.kind != "Activation" or x.scale is not None or x.offset is not None or min(low or 0, high or 0) < 0:
        raise InputError(f"it limits the kind {x.draft.kind}; limits of at least 0 of a Softplus or SiLU are read")
    limits = {name: decimal(value) for name, value in (("low", low), ("high", high)) if value is not None and value < np.inf}
    return x.of(x.draft.copy(attributes=x.draft.attributes | limits))


@reads("Softplus", "Swish")
def function(operation: Operation, x: Value) -> Value:
    if operation.attributes.get("alpha", 1.0) != 1:
        raise InputError("its alpha is not 1")
    return node("Activation", stream(x), function="softplus" if operation.kind == "Softplus" else "silu")


@reads("Sigmoid", "Exp", "Sqrt", "Reciprocal", "Log", "Neg", "Pow")
def scalar(operation: Operation, x: Value, power: Value | None = None) -> Value:
    kind = operation.kind
    if kind == "Pow":
        kind = {2.0: "square", 0.5: "Sqrt", -0.5: "reciprocal root"}.get(number(power))
        if kind is None or isinstance(x, np.ndarray):
            raise InputError(f"its power is {number(power):g}; 2, 0.5 and −0.5 are read in norms")
    if kind == "Neg":
        return scaled(stream(x), -np.ones(stream(x).draft.width))
    if kind == "Reciprocal":
        if not is_term(x, "Sqrt"):
            raise InputError("it divides by something else than a root")
        return Term("reciprocal root", x.args, x.shape)
    if kind == "Log":
        if is_term(x, "sum") and is_term(x.args[0], "Exp") and is_number(x.args[1], 1):
            return node("Activation", stream(x.args[0].args[0]), function="softplus")
        raise InputError("it is no part of a Softplus, log(1 + exp(x))")
    return Term(kind, (x,), x.shape)


@reads("ReduceMean", "ReduceMax", "ReduceMin", "GlobalAveragePool")
def reduce(operation: Operation, x: Value, axes: Value | None = None) -> Value:
    first = x
    while isinstance(first, Term):
        first = first.args[0]
    first = stream(first)
    default = list(range(2, len(first.axes))) if operation.kind == "GlobalAveragePool" else None
    found, keep = listed(operation, "axes", axes, default), operation.attributes.get("keepdims", 1)
    gone = {axis % len(first.axes) for axis in found or range(len(first.axes))}
    labels = {first.axes[axis] for axis in gone} - {"1"}
    if labels in ({"L"}, {"H", "W"}) and operation.kind in ("ReduceMean", "GlobalAveragePool"):
        x = stream(x)
        made = replace(x, draft=node("Pool", replace(x, scale=None, offset=None), mean=True).draft)
        return with_axes(made, tuple("1" if k in gone else axis for k, axis in enumerate(x.axes) if keep or k not in gone))
    if labels != {"C"} or not keep:
        raise InputError(f"it reduces the axes {', '.join(sorted(labels)) or '(none)'}; the mean of all tokens is read, and what "
                         "norms do with channels, with keepdims = 1")
    return Term(operation.kind, (x,), tuple(1 if k in gone else size for k, size in enumerate(x.shape)))


# -- pairs --------------------------------------------------------------------------------------------------------------------


@reads("Mul")
def multiply(operation: Operation, a: Value, b: Value) -> Value:
    if isinstance(a, np.ndarray) or (is_term(a, "Sigmoid") and not isinstance(b, np.ndarray)) or is_term(a, "reciprocal root"):
        a, b = b, a
    if is_term(b, "Sigmoid") and same(a, b.args[0]):
        return node("Activation", stream(a), function="silu")
    if is_term(b, "reciprocal root"):
        return _divided_by_root(a, b.args[0])
    if isinstance(b, np.ndarray):
        if isinstance(a, Stream) and a.axes[-2:] == ("C", "1") and b.ndim == 2 and b.shape[1] > 1 and len(b) == a.draft.width:
            return Term("product by states", (a, b), (*a.shape[:-1], b.shape[1]))
        if isinstance(a, Term) and a.what in BY_HEADS and b.size == 1:
            return factored(a, number(b))
        x = stream(a)
        return scaled(x, channels(x, b))
    if same(a, b):
        return Term("square", (a,), a.shape)
    for head, step in ((a, b), (b, a)):
        if isinstance(step, Stream) and step.axes == ("B", "L", "C", "1"):
            if is_term(head, "split") and head.args[1] == step.draft.width:
                return Term("product by heads", (head.args[0], step), head.shape)
            if isinstance(head, Stream) and head.axes == ("B", "L", "1", "C"):
                what = "product by heads" if step.draft.width == 1 else "product across"
                return Term(what, (replace(head, axes=("B", "L", "C")), step), (*step.shape[:3], head.shape[3]))
    return product(stream(a), stream(b))


def product(a: Stream, b: Stream) -> Stream:
    """Channel by channel; a scale without offset is one of the product."""
    check_axes(a, b)
    if b.scale is not None and a.scale is None and normed(b) and not normed(a):
        a, b = b, a
    factors = [x.scale for x in (a, b) if x.scale is not None and x.offset is None]
    a, b = (replace(x, scale=None) if x.offset is None else x for x in (a, b))
    y = node("Multiply", a, b)
    for factor in factors:
        y = scaled(y, factor)
    return y


def normed(x: Stream) -> bool:
    return x.draft.kind in ("LayerNorm", "RMSNorm", "RangeNorm")


def check_axes(a: Stream, b: Stream) -> None:
    if a.axes != b.axes or a.shape != b.shape:
        raise InputError(f"its inputs of {list(a.shape)} and {list(b.shape)} differ in axes or sizes")


@reads("Add")
def add(operation: Operation, a: Value, b: Value) -> Value:
    if isinstance(a, np.ndarray):
        a, b = b, a
    if isinstance(b, np.ndarray):
        if is_term(a, "scores"):
            if not np.isin(b[b > LEAST_SCORE], 0).all():
                raise InputError("it adds something else than a mask to the products of queries and keys")
            return masked(a, b > LEAST_SCORE)
        if isinstance(a, Term):
            return Term("sum", (a, b), a.shape)
        return moved(a, channels(a, b))
    a, b = stream(a), stream(b)
    check_axes(a, b)
    for y, direct in ((a, b), (b, a)):
        if (found := _direct(y, direct)) is not None:
            return found
    offsets = [x.offset for x in (a, b) if x.scale is None and x.offset is not None]
    y = node("Add", *(replace(x, offset=None) if x.scale is None else x for x in (a, b)))
    for offset in offsets:
        y = moved(y, offset)
    return y


def _direct(y: Stream, direct: Stream) -> Stream | None:
    """A scan with D, where `direct` is D·u."""
    draft = y.draft
    if draft.kind not in ("Scan", "HeadScan") or draft.parameters["D"].any() or y.scale is not None or y.offset is not None:
        return None
    u, source, D = draft.inputs[0], direct.draft, np.ones(draft.width) if direct.scale is None else direct.scale
    if source is not u.draft and source.plain and not source.plain[2].any():
        source, D = source.plain[0], D * source.plain[1]
    if source is not u.draft or direct.offset is not None or u.offset is not None:
        return None
    D, attributes = D if u.scale is None else D / u.scale, draft.attributes
    if draft.kind == "HeadScan":
        by_heads = D.reshape(draft.inputs[1].draft.width, -1)
        wide = bool((by_heads != by_heads[:, :1]).any())
        D, attributes = D if wide else by_heads[:, 0], attributes | {"wide_D": wide}
    return y.of(draft.copy(parameters=draft.parameters | {"D": D}, attributes=attributes))


@reads("Sub")
def subtract(operation: Operation, a: Value, b: Value) -> Value:
    if isinstance(a, Term) or isinstance(b, Term):
        return Term("difference", (a, b), np.broadcast_shapes(a.shape, b.shape))
    if isinstance(b, np.ndarray):
        return moved(a, -channels(a, b))
    return add(operation, a, scaled(b, -np.ones(b.draft.width)))


@reads("Div")
def divide(operation: Operation, a: Value, b: Value) -> Value:
    if isinstance(b, np.ndarray):
        if isinstance(a, Term) and a.what in BY_HEADS and b.size == 1:
            return factored(a, 1 / number(b))
        x = stream(a)
        return scaled(x, 1 / channels(x, b))
    if is_term(b, "Sqrt"):
        return Term("reciprocal root", b.args, b.shape) if is_number(a, 1) else _divided_by_root(a, b.args[0])
    extent = b.args[2] if is_term(b, "choice") and is_number(b.args[1], 1) and _flat(b.args[0], b.args[2]) else b
    if is_term(extent, "difference") and is_term(a, "difference"):
        x, mean = a.args
        high, low = extent.args
        if all(is_term(term, what) and same(term.args[0], x) for term, what in
               ((mean, "ReduceMean"), (high, "ReduceMax"), (low, "ReduceMin"))):
            return node("RangeNorm", stream(x))
    raise InputError("it divides by a computed value, which is read in norms alone")


def _flat(condition: Value, extent: Value) -> bool:
    return is_term(condition, "comparison") and same(condition.args[0], extent) and is_number(condition.args[1], 0)


@reads("Equal")
def equal(operation: Operation, a: Value, b: Value) -> Value:
    if isinstance(a, np.ndarray):
        a, b = b, a
    return Term("comparison", (a, b), a.shape)


@reads("Where")
def where(operation: Operation, condition: Value, a: Value, b: Value) -> Value:
    if isinstance(b, Stream) and b.draft.kind == "RangeNorm" and is_number(a, 0) and is_term(condition, "comparison"):
        extent, x = condition.args[0], b.draft.inputs[0]
        if is_term(extent, "difference") and is_term(extent.args[0], "ReduceMax") and same(extent.args[0].args[0], x):
            return b
    for x, other, keeps in ((a, b, True), (b, a, False)):
        constant = isinstance(condition, np.ndarray) and isinstance(other, np.ndarray)
        if is_term(x, "scores") and constant and other.max() < LEAST_SCORE:
            return masked(x, condition.astype(bool) == keeps)
    return Term("choice", (condition, a, b), np.broadcast_shapes(*(value.shape for value in (condition, a, b))))


def _divided_by_root(x: Value, radicand: Value) -> Stream:
    """x/sqrt(mean of squares + ε) of the channels, x perhaps less its mean."""
    if is_term(radicand, "sum") and isinstance(radicand.args[1], np.ndarray) and radicand.args[1].size == 1:
        mean, epsilon = radicand.args[0], number(radicand.args[1])
        if is_term(mean, "ReduceMean") and is_term(mean.args[0], "square") and same(mean.args[0].args[0], x):
            if isinstance(x, Stream):
                return _normed("RMSNorm", x, epsilon)
            if is_term(x, "difference") and is_term(x.args[1], "ReduceMean") and same(x.args[1].args[0], x.args[0]):
                return _normed("LayerNorm", stream(x.args[0]), epsilon)
    raise InputError("it is no norm: x, perhaps less its mean, divided by the root of the mean of its squares + ε")
