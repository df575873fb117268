"""Operators of ONNX that move axes, and those that take or join channels and tokens."""

from dataclasses import replace

import numpy as np

from ..base.errors import InputError
from .file import Operation
from .reader import cut, listed, number, reads, target
from .values import Array, Stream, Term, Value, decimal, is_zero, node, part, scaled, tokenwise

UNROLLED = ("it takes single tokens: a recurrence that was unrolled over the tokens is not read; write it as LinearAttention "
            "(opset 27)")


def stream(value: Value) -> Stream:
    """A value that must be one of our streams."""
    if isinstance(value, Stream):
        return value
    if isinstance(value, Term):
        if not value.made:
            value.made.append(_alone(value))
            value.made[0].draft.names += value.names
        return value.made[0]
    raise InputError("it computes with a constant where the model's values are expected")


def _alone(term: Term) -> Stream:
    """The node that a term is by itself."""
    if term.what == "square":
        return node("Multiply", stream(term.args[0]), stream(term.args[0]))
    if term.what == "Sigmoid":
        return node("Activation", stream(term.args[0]), function="sigmoid")
    if term.what == "pick":
        return _picked(*term.args)
    raise InputError(f"it reads the result of {term.what}, which is no operator of this project alone")


def with_axes(x: Stream, axes: tuple[str, ...]) -> Stream:
    """The same values with other axes; the only token of a sequence without its axis is a pooled one."""
    if tokenwise(x.axes) and not tokenwise(axes) and not x.draft.pooled:
        pooled = node("Pool", replace(x, scale=None, offset=None), mean=False)
        x = replace(x, draft=pooled.draft)
    return replace(x, axes=axes)


TURNS = {
    ("split", (1, 0, 2, 3)): "split by token", ("split by token", (1, 0, 2, 3)): "split",
    ("split", (0, 2, 1, 3)): "heads first", ("heads first", (0, 2, 1, 3)): "split", ("split", (0, 2, 3, 1)): "heads turned",
    ("heads first", (0, 1, 3, 2)): "heads turned", ("attended", (0, 2, 1, 3)): "attended by token",
}
"""What a value that is split into heads becomes by a Transpose."""


@reads("Transpose")
def transpose(operation: Operation, x: Value) -> Value:
    order = operation.attributes.get("perm") or list(range(len(x.shape)))[::-1]
    if isinstance(x, Term) and (turned := TURNS.get((x.what, tuple(order)))):
        return Term(turned, x.args, tuple(x.shape[k] for k in order))
    x = stream(x)
    return replace(x, axes=tuple(x.axes[k] for k in order))


@reads("Squeeze")
def squeeze(operation: Operation, x: Value, axes: Array | None = None) -> Value:
    x = stream(x)
    wanted = listed(operation, "axes", axes)
    gone = {k % len(x.axes) for k in wanted} if wanted is not None else {k for k, size in enumerate(x.shape) if size == 1}
    if any(x.shape[k] != 1 or x.axes[k] in ("B", "C") for k in gone):
        raise InputError("it removes the axis of sequences, channels or several tokens")
    return with_axes(x, tuple(axis for k, axis in enumerate(x.axes) if k not in gone))


@reads("Unsqueeze")
def unsqueeze(operation: Operation, x: Value, axes: Array | None = None) -> Value:
    x, found = stream(x), listed(operation, "axes", axes)
    made = list(x.axes)
    for k in sorted(axis % (len(made) + len(found)) for axis in found):
        made.insert(k, "1")
    return replace(x, axes=tuple(made))


@reads("Reshape", "Flatten")
def reshape(operation: Operation, x: Value, shape: Array | None = None) -> Value:
    if operation.kind == "Flatten":
        axis = operation.attributes.get("axis", 1) % len(x.shape)
        shape = np.array([int(np.prod(x.shape[:axis], dtype=object)), -1])
    sizes = target(x.shape, listed(operation, "shape", shape))
    if np.prod(sizes, dtype=object) != np.prod(x.shape, dtype=object):
        raise InputError(f"its result of {sizes} has another size than its input of {list(x.shape)}")
    if isinstance(x, Term):
        apart = x.what in ("pick", "packed") and len(sizes) == 4 and sizes[:2] == [*x.shape[:2]]
        return Term("split", (x, sizes[2]), tuple(sizes)) if apart else _joined_heads(x, sizes)
    axes: list[str] = []
    left = [(axis, size) for axis, size in zip(x.axes, x.shape, strict=True) if axis != "1"]
    k = 0
    while k < len(sizes):
        size, rest = sizes[k], left[1:]
        if left and size == left[0][1]:
            axes.append(left.pop(0)[0])
        elif size == 1:
            axes.append("1")
        elif rest and (left[0][0], rest[0][0]) == ("B", "L") and size == left[0][1] * rest[0][1]:
            axes.append("BL")
            left = rest[1:]
        elif rest and (left[0][0], rest[0][0]) == ("H", "W") and size == left[0][1] * rest[0][1]:
            axes.append("L")
            left = rest[1:]
        elif left and left[0][0] == "L" and k + 1 < len(sizes) and size * sizes[k + 1] == left[0][1]:
            x = replace(x, grid=(size, sizes[k + 1]))
            axes += ["H", "W"]
            left, k = rest, k + 1
        elif left and left[0][0] == "BL" and size == x.batch and sizes[k + 1:][:1] == [x.draft.tokens]:
            axes += ["B", "L"]
            left, k = rest, k + 1
        elif left == [("C", x.draft.width)] and sizes[k + 1:] == [x.draft.width // size] and axes == ["B", "L"]:
            return Term("split", (x, size), tuple(sizes))
        elif left and left[0][1] == 1 and left[0][0] in ("L", "H", "W"):
            left.pop(0)
            continue
        else:
            raise InputError(f"it makes {sizes} of {list(x.shape)}, the axes {', '.join(x.axes)}: tokens, channels and sequences "
                             "are joined only where one of them is 1")
        k += 1
    if any(axis not in ("L", "H", "W") or size != 1 for axis, size in left):
        raise InputError(f"it makes {sizes} of {list(x.shape)}, the axes {', '.join(x.axes)}, and loses some")
    return with_axes(x, tuple(axes))


def attended(q: Stream, k: Stream, v: Stream, heads: int, factor: float, causal: bool) -> Stream:
    """softmax(factor · q·kᵀ)·v, which the node has with a factor of 1/√d."""
    factor *= (q.draft.width // heads) ** 0.5
    if abs(factor - 1) > 1e-6:
        q = scaled(q, np.full(q.draft.width, factor))
    return node("Attention", q, k, v, heads=heads, causal=causal)


def _joined_heads(x: Term, sizes: list[int]) -> Value:
    if len(x.shape) != 4 or sizes != [*x.shape[:2], x.shape[2] * x.shape[3]]:
        raise InputError(f"it makes {sizes} of the {list(x.shape)} of a {x.what}, which is no operator of this project alone")
    if x.what == "split":
        return x.args[0]
    if x.what == "normed by group":
        kind, y, groups, epsilon = x.args
        return node(kind, y, epsilon=decimal(epsilon), groups=groups)
    if x.what == "attended by token":
        q, k, v, heads, factor, causal = x.args
        return attended(q, k, v, heads, factor, causal)
    if x.what == "expand":
        return Term("pick", (x.args[0], np.tile(np.arange(x.shape[3]), x.shape[2])), tuple(sizes))
    return Term("packed", (x,), tuple(sizes))


@reads("Expand")
def expand(operation: Operation, x: Value, shape: Array) -> Value:
    x = stream(x)
    sizes = np.broadcast_shapes(x.shape, tuple(listed(operation, "shape", shape)))
    if sizes == x.shape:
        return x
    if x.axes != ("B", "L", "1", "C") or (*x.shape[:2], x.shape[3]) != (*sizes[:2], *sizes[3:]):
        raise InputError("it repeats values along an axis, which is read of B and C of a scan alone")
    return Term("expand", (replace(x, axes=("B", "L", "C")), sizes[2]), sizes)


@reads("Tile")
def tile(operation: Operation, x: Value, repeats: Array) -> Value:
    x, times = stream(x), listed(operation, "repeats", repeats)
    if set(times) == {1}:
        return x
    if x.axes != ("B", "L", "C") or times[:2] != [1, 1] or not 1 < times[2] <= 1 << 16:
        raise InputError("it repeats values along an axis, which is read of B and C of a scan alone")
    return Term("pick", (x, np.tile(np.arange(x.draft.width), times[2])), (*x.shape[:2], x.draft.width * times[2]))


def _picked(x: Stream, index: Array) -> Stream:
    """Channels in another order."""
    low, high = int(index[0]), int(index[0]) + len(index)
    if np.array_equal(index, np.arange(low, high)):
        return part(x, low, high)
    if x.draft.kind != "Linear":
        raise InputError(f"it reorders the channels of a {x.draft.kind}")
    parts = {name: value[index] for name, value in x.draft.parameters.items()}
    scale, offset = (None if value is None else value[index] for value in (x.scale, x.offset))
    return replace(x, draft=x.draft.copy(width=len(index), parameters=parts), scale=scale, offset=offset)


@reads("Gather")
def gather(operation: Operation, x: Value, index: Value) -> Value:
    axis = operation.attributes.get("axis", 0)
    if isinstance(x, np.ndarray):
        return _embedded(x, stream(index), axis)
    x = stream(x)
    if not isinstance(index, np.ndarray):
        raise InputError("it chooses by computed values")
    name = x.axes[axis]
    if name == "L" and index.size == 1:
        if int(index.reshape(-1)[0]) % x.draft.tokens != x.draft.tokens - 1:
            raise InputError(UNROLLED)
        kept = "1" if index.ndim else None
        axes = tuple(kept if label == "L" else label for label in x.axes if label != "L" or kept)
        return _last(x, axes)
    if name != "C" or index.ndim != 1 or not len(index):
        raise InputError(UNROLLED if name == "L" else f"it chooses along the axis {name}")
    if index.max() >= x.draft.width or index.min() < -x.draft.width:
        raise InputError(f"it chooses channel {int(np.abs(index).max())} of {x.draft.width}")
    return Term("pick", (x, index % x.draft.width), tuple(len(index) if k == axis % len(x.axes) else size
                                                           for k, size in enumerate(x.shape)))


def _embedded(table: Array, ids: Stream, axis: int) -> Stream:
    source = ids.draft
    if source.kind != "Input" or ids.axes != ("B", "L") or table.ndim != 2 or axis:
        raise InputError("it looks up computed values, or in a table that is none of rows")
    if source.attributes.setdefault("ids", len(table)) != len(table):
        raise InputError(f"it has {len(table)} rows, but another table for the same ids {source.attributes['ids']}")
    made = node("Lookup", ids, width=table.shape[1], parameters={"weight": table}, rows=len(table))
    return replace(made, axes=("B", "L", "C"))


def _last(x: Stream, axes: tuple[str, ...]) -> Stream:
    made = node("Pool", replace(x, scale=None, offset=None), mean=False)
    return replace(x, draft=made.draft, axes=axes)


@reads("Slice")
def taken(operation: Operation, x: Value, *rest: Value | None) -> Value:
    if isinstance(x, Term) and x.what == "longer":
        (axis, chosen), = cut(operation, *rest)
        made = stream(x.args[0])
        if made.axes[axis] == "L" and chosen.indices(x.shape[axis]) == (0, made.draft.tokens, 1):
            return made
        raise InputError("it takes other tokens of a convolution than the first, which alone are causal")
    x = stream(x)
    for axis, chosen in cut(operation, *rest):
        name, size = x.axes[axis], x.shape[axis]
        first, end, step = chosen.indices(size)
        if (first, end, step) == (0, size, 1):
            continue
        if name == "C" and step == 1 and first < end:
            x = part(x, first, end)
        elif name == "L" and (first, step) == (size - 1, 1):
            x = _last(x, tuple("1" if label == "L" else label for label in x.axes))
        elif name == "L" and (first, end, step) == (size - 1, -1, -1):
            x = replace(x, draft=node("Reverse", replace(x, scale=None, offset=None)).draft)
        else:
            raise InputError(UNROLLED if name == "L" else f"it takes {first}..{end - 1} of the axis {name} in steps of {step}")
    return x


@reads("Split")
def split(operation: Operation, x: Value, sizes: Value | None = None) -> tuple:
    x, axis = stream(x), operation.attributes.get("axis", 0)
    if x.axes[axis] != "C":
        raise InputError(UNROLLED if x.axes[axis] == "L" else f"it splits the axis {x.axes[axis]}")
    count = len(operation.outputs)
    even = -(-x.draft.width // count)
    found = listed(operation, "split", sizes) or [min(even, x.draft.width - k * even) for k in range(count)]
    ends = np.cumsum(found)
    if ends[-1] != x.draft.width or min(found) < 1:
        raise InputError(f"it splits {x.draft.width} channels into {found}")
    return tuple(part(x, int(end) - size, int(end)) for size, end in zip(found, ends, strict=True))


@reads("Concat")
def concat(operation: Operation, *parts: Value) -> Value:
    axis = operation.attributes["axis"]
    streams = [stream(value) for value in parts if not isinstance(value, np.ndarray)]
    axes = streams[0].axes
    if any(value.axes != axes for value in streams):
        raise InputError("it joins values of different axes")
    if axes[axis] == "L" and len(parts) == 2 and isinstance(parts[0], np.ndarray) and is_zero(parts[0]):
        return padded(streams[0], parts[0].shape[axis])
    if axes[axis] != "C" or len(streams) < len(parts) or len({value.draft.tokens for value in streams}) > 1:
        raise InputError("it joins other things than channels of the same tokens, or zeros before the first token")
    shape = list(streams[0].shape)
    shape[axis] = sum(value.draft.width for value in streams)
    return Term("concatenation", tuple(streams), tuple(shape))


def padded(x: Stream, count: int) -> Term:
    """So many tokens of zeros before the first."""
    return Term("padding", (x, count), tuple(size + count if axis == "L" else size
                                             for axis, size in zip(x.axes, x.shape, strict=True)))


@reads("Pad")
def pad(operation: Operation, x: Value, pads: Value | None = None, *more: Value | None) -> Value:
    x, found = stream(x), listed(operation, "pads", pads)
    value, axes = (*more, None, None)[:2]
    chosen = listed(operation, "axes", axes) or list(range(len(x.axes)))
    before, after = ({chosen[k] % len(x.axes): size for k, size in enumerate(half) if size}
                     for half in (found[:len(chosen)], found[len(chosen):]))
    if operation.attributes.get("mode", "constant") != "constant" or number(value, 0.0) or after or \
            [x.axes[axis] for axis in before] not in ([], ["L"]):
        raise InputError("it adds something else than zeros before the first token")
    return padded(x, next(iter(before.values()))) if before else x
