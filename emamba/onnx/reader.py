"""Reads an ONNX graph operation by operation: constants are computed, everything else becomes drafts of our nodes."""

from collections.abc import Callable, Iterable

import numpy as np

from ..base.errors import InputError, located
from .file import MOST_VALUES, Operation, Source
from .values import BATCH, Draft, Stream, Term, Value

Array = np.ndarray
Read = Callable[..., Value | tuple]

READERS: dict[str, Read] = {}
"""By operator of ONNX, the function of (operation, *values of its inputs, None for one that is not given) → its outputs."""
UNKNOWN = {kind: "a loop is not read: write a recurrence over the tokens as LinearAttention (opset 27)"
           for kind in ("Loop", "If", "LSTM", "GRU", "RNN")}
STATES = ("Concat", "Scan", "CausalConvWithState", "LinearAttention", "Cast", "CastLike")
"""Operators that begin with zeros for any number of sequences, which take no memory."""
COMPUTED = ("Exp", "Log", "Sqrt", "Reciprocal", "Add", "Sub", "Mul", "Div")
"""Operators on constants whose result may not be finite."""
CHANNELS_FIRST = ("Conv", "CausalConvWithState", "BatchNormalization", "GlobalAveragePool")
"""Operators whose input has its channels before its tokens."""


def reads(*kinds: str) -> Callable[[Read], Read]:
    """Registers how operators of ONNX are read; a module outside the package can do it too."""
    def add(read: Read) -> Read:
        for kind in kinds:
            READERS[kind] = read
        return read
    return add


def read(source: Source, length: int | None) -> Stream:
    """The output of a graph; `length` is the number of tokens where the file leaves it open."""
    values: dict[str, Value] = dict(source.constants)
    values[source.input] = _input(source, length)
    for operation in _needed(source):
        with located(operation.where):
            for name in operation.inputs:
                if name and name not in values:
                    raise InputError(f"nothing before it gives its input '{name[:60]}'")
            given = [values[name] if name else None for name in operation.inputs]
            if operation.body is not None:
                names = {name for node in operation.body.node for name in node.input}
                given.append({name: values[name] for name in names if isinstance(values.get(name), np.ndarray)})
            found = _one(operation, given)
            for name, value in zip(operation.outputs, found, strict=False):
                values[name] = value
                if not isinstance(value, np.ndarray | None):
                    (value.draft if isinstance(value, Stream) else value).names.append(name)
    if not isinstance(values.get(source.output), Stream):
        raise InputError(f"its output '{source.output[:60]}' is not computed from its input by operators that are read")
    return values[source.output]


def _needed(source: Source) -> list[Operation]:
    """The operations that the output is computed from."""
    needed, found = {source.output}, []
    for operation in reversed(source.operations):
        if needed & set(operation.outputs):
            inner = (name for node in operation.body.node for name in node.input) if operation.body else ()
            needed |= {*operation.inputs, *inner}
            found.append(operation)
    return found[::-1]


def _input(source: Source, length: int | None) -> Stream:
    """The input as a node: token ids [batch, tokens], numbers [batch, tokens, features], or pictures [batch, channels, rows,
    columns], whose tokens are pixels."""
    rank = len(source.shape)
    with located(f"its input '{source.input[:60]}'"):
        if rank not in ((2,) if source.whole else (3, 4)):
            raise InputError(f"has {rank} axes; token ids [batch, tokens], numbers [batch, tokens, features] and pictures "
                             "[batch, channels, rows, columns] are read")
        if min(source.shape) < 0:
            raise InputError(f"has the shape {list(source.shape)}")
        if rank == 4:
            if not all(source.shape[1:]):
                raise InputError("does not say how large its pictures are: export it with these sizes fixed")
            _, width, rows, columns = source.shape
            return Stream(Draft("Input", [], width, rows * columns, names=["input"]), ("B", "C", "H", "W"),
                          batch=source.shape[0] or BATCH, grid=(rows, columns))
        readers = {operation.kind for operation in source.operations if source.input in operation.inputs}
        axes = ("B", "L", "C")[:rank] if not readers & set(CHANNELS_FIRST) else ("B", "C", "L")
        sizes = dict(zip(axes, source.shape, strict=True))
        if length is not None and sizes["L"] not in (0, length):
            raise InputError(f"has sequences of {sizes['L']} tokens, not of {length}")
        if not (tokens := sizes["L"] or length):
            raise InputError("does not say how many tokens a sequence has: give --length, or --calibration")
        if not (width := sizes.get("C", 1)):
            raise InputError("does not say how many features a token has: export it with that size fixed")
        return Stream(Draft("Input", [], width, tokens, names=["input"]), axes, batch=sizes["B"] or BATCH)


def _one(operation: Operation, given: list[Value | None]) -> Iterable[Value]:
    kind = operation.kind
    if kind not in STATES:
        _room([max((value.size for value in given if isinstance(value, np.ndarray)), default=0)])
    try:
        if kind in FOLDED and given and all(value is None or isinstance(value, np.ndarray) for value in given):
            return (_fold(operation, given),)
        if kind not in READERS:
            raise InputError(UNKNOWN.get(kind, "no operator of this project computes it"))
        found = READERS[kind](operation, *given)
        return found if isinstance(found, tuple) else (found,)
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, ArithmeticError, RuntimeError, MemoryError) as error:
        raise InputError(f"its inputs or attributes are not those of a {kind} ({type(error).__name__})") from None


# -- constants ----------------------------------------------------------------------------------------------------------------


def listed(operation: Operation, name: str, given: Value | None, default: list[int] | None = None) -> list[int] | None:
    """Whole numbers that an attribute gives, or in newer opsets an input."""
    if given is None:
        found = operation.attributes.get(name, default)
        return None if found is None else [int(value) for value in np.atleast_1d(found)]
    if not isinstance(given, np.ndarray):
        raise InputError(f"its {name} are computed from the model's input")
    return [int(value) for value in given.reshape(-1)]


def number(value: Value | None, default: float | None = None) -> float | None:
    """A constant of one value."""
    if value is None:
        return default
    if not isinstance(value, np.ndarray) or value.size != 1:
        raise InputError("it needs a single constant number")
    return float(value.reshape(-1)[0])


def cut(operation: Operation, *given: Value | None) -> list[tuple[int, slice]]:
    """Axes of a Slice, and what is taken of each."""
    starts, ends, axes, steps = (listed(operation, name, value) for name, value in
                                 zip(("starts", "ends", "axes", "steps"), (*given, *[None] * (4 - len(given))), strict=True))
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    return [(axis, slice(start, None if step < 0 and end < -MOST_VALUES else end, step))
            for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)]


def target(shape: tuple[int, ...], wanted: list[int]) -> list[int]:
    """Sizes after a Reshape, whose 0 copies and whose −1 is what remains."""
    sizes = [shape[k] if size == 0 else size for k, size in enumerate(wanted)]
    if -1 in sizes:
        rest = int(np.prod([size for size in sizes if size != -1], dtype=object))
        sizes[sizes.index(-1)] = int(np.prod(shape, dtype=object)) // max(1, rest)
    return sizes


def _fold(operation: Operation, given: list[Array | None]) -> Array:
    with np.errstate(all="ignore"):
        found = np.asarray(FOLDED[operation.kind](operation, *given))
    if operation.kind in COMPUTED and found.dtype.kind == "f" and not np.isfinite(found).all():
        raise InputError("its constant result is not finite")
    return found


def _slice(operation: Operation, x: Array, *rest: Array | None) -> Array:
    index = [slice(None)] * x.ndim
    for axis, taken in cut(operation, *rest):
        index[axis] = taken
    return x[tuple(index)]


def _room(shape: Iterable[int]) -> None:
    if (size := np.prod(list(shape), dtype=object)) > MOST_VALUES:
        raise InputError(f"its constant result has {size} values; at most {MOST_VALUES} are possible")


def _cast(x: Array, kind: type) -> Array:
    if x.dtype != kind:
        _room([x.size])
    return np.asarray(x, kind)


def _joined(operation: Operation, *parts: Array) -> Array:
    _room([sum(part.size for part in parts)])
    return np.concatenate(parts, operation.attributes["axis"])


def _taken(operation: Operation, x: Array, index: Array) -> Array:
    axis = operation.attributes.get("axis", 0)
    _room([index.size, x.size // max(1, x.shape[axis])])
    return np.take(x, index, axis)


def _pairwise(compute: Callable) -> Callable:
    def apply(operation: Operation, a: Array, b: Array) -> Array:
        _room(np.broadcast_shapes(a.shape, b.shape))
        return compute(a, b)
    return apply


def _divided(a: Array, b: Array) -> Array:
    return a // b if a.dtype.kind == b.dtype.kind == "i" else a / b


def _filled(operation: Operation, shape: Array) -> Array:
    sizes = [int(size) for size in shape]  # none of which takes memory
    return np.broadcast_to(np.asarray(operation.attributes.get("value", 0.0)).reshape(-1)[0], sizes)


def _triangle(operation: Operation, x: Array, k: Array | None = None) -> Array:
    return (np.triu if operation.attributes.get("upper", 1) else np.tril)(x, int(number(k, 0)))


def _unsqueezed(operation: Operation, x: Array, axes: Array | None = None) -> Array:
    return np.expand_dims(x, tuple(listed(operation, "axes", axes)))


def _squeezed(operation: Operation, x: Array, axes: Array | None = None) -> Array:
    wanted = listed(operation, "axes", axes)
    return np.squeeze(x, None if wanted is None else tuple(wanted))


FOLDED: dict[str, Callable[..., Array]] = {
    "Identity": lambda _, x: x, "Cast": lambda o, x: _cast(x, np.int64 if o.attributes["to"] in (6, 7) else np.float64),
    "CastLike": lambda _, x, like: _cast(x, like.dtype),
    "Where": lambda _, a, b, c: np.where(a, b, c), "Equal": lambda _, a, b: (a == b).astype(np.int64),
    "Not": lambda _, x: 1 - x, "Trilu": _triangle,
    "Neg": lambda _, x: -x, "Exp": lambda _, x: np.exp(x), "Log": lambda _, x: np.log(x), "Sqrt": lambda _, x: np.sqrt(x),
    "Reciprocal": lambda _, x: 1 / x, "Abs": lambda _, x: np.abs(x),
    "Add": _pairwise(np.add), "Sub": _pairwise(np.subtract), "Mul": _pairwise(np.multiply), "Div": _pairwise(_divided),
    "Transpose": lambda o, x: x.transpose(o.attributes.get("perm")), "Slice": _slice, "ConstantOfShape": _filled,
    "Reshape": lambda o, x, shape: x.reshape(target(x.shape, listed(o, "shape", shape))),
    "Unsqueeze": _unsqueezed, "Squeeze": _squeezed,
    "Shape": lambda o, x: np.array(x.shape[o.attributes.get("start", 0):o.attributes.get("end")], np.int64),
    "Concat": _joined, "Gather": _taken,
    "Expand": lambda _, x, shape: np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape))),  # which takes no memory
}
"""Operators on constants alone."""


@reads("Shape")
def shape_of(operation: Operation, x: Stream | Term) -> Array:
    """Of a stream, with BATCH for a number of sequences that is open."""
    return np.array(x.shape[operation.attributes.get("start", 0):operation.attributes.get("end")], np.int64)
