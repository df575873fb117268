"""What values of an ONNX graph are while it is read: constants (arrays), streams of tokens, and terms that are no node yet."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np

from ..base.errors import DesignLimit, InputError
from ..ops import OPERATORS
from ..ops.window import Grid

Array = np.ndarray

BATCH = 1_000_003
"""Stands for a number of sequences that is not known: a prime that no model has as a size."""


NUMBERS = count()
MOST_FILTERED = 2048
LARGEST_TERM = 64
"""Operators and values of a term, which no norm reaches."""


@dataclass(eq=False)
class Draft:
    """A node that may come to be: `names` are those of the ONNX values that hold it; `plain` is the same node before what a
    codec can say, with that scale and offset; `pooled` says that it has one token a sequence."""

    kind: str
    inputs: list["Stream"]
    width: int
    tokens: int
    attributes: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Array] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    plain: tuple["Draft", Array, Array] | None = None
    parts: dict[tuple[int, int], "Draft"] = field(default_factory=dict)
    pooled: bool = False
    number: int = field(default_factory=NUMBERS.__next__)

    def copy(self, **changes) -> "Draft":
        """Another node, so that who reads this one is not concerned."""
        new = {"inputs": list(self.inputs), "attributes": dict(self.attributes), "parameters": dict(self.parameters), "names": [],
               "plain": None, "parts": {}, "number": next(NUMBERS)}
        return replace(self, **new | changes)


@dataclass(frozen=True, eq=False)
class Stream:
    """scale · (values of a draft) + offset, both for each channel or None. Each axis is B (sequences), L (tokens), C (channels),
    BL (both first in one), H and W (rows and columns of the `grid` that the tokens are) or 1."""

    draft: Draft
    axes: tuple[str, ...] = ("B", "L", "C")
    scale: Array | None = None
    offset: Array | None = None
    batch: int = BATCH
    grid: tuple[int, int] = (1, 1)

    @property
    def shape(self) -> tuple[int, ...]:
        tokens = self.draft.tokens
        sizes = {"B": self.batch, "L": tokens, "C": self.draft.width, "BL": self.batch * tokens, "1": 1,
                 "H": self.grid[0], "W": self.grid[1]}
        return tuple(sizes[axis] for axis in self.axes)

    @property
    def affine(self) -> tuple:
        """Scale and offset as something that compares."""
        return tuple(None if part is None else part.tobytes() for part in (self.scale, self.offset))

    @property
    def key(self) -> tuple:
        return id(self.draft), self.axes, self.affine

    def of(self, draft: Draft, **changes) -> "Stream":
        """A draft in this layout, as it is."""
        return replace(self, **{"draft": draft, "scale": None, "offset": None} | changes)


@dataclass(frozen=True, eq=False)
class Term:
    """An operator of ONNX on values that is part of something larger; `made` holds the node that it is alone, once asked for."""

    what: str
    args: tuple
    shape: tuple[int, ...]
    names: list[str] = field(default_factory=list)
    made: list[Stream] = field(default_factory=list)

    def __post_init__(self):
        if self.size > LARGEST_TERM:
            raise InputError("what it belongs to is no operator that is known")

    @cached_property
    def size(self) -> int:
        return 1 + sum(arg.size if isinstance(arg, Term) else 1 for arg in self.args)

    @property
    def key(self) -> tuple:
        return self.what, *(key_of(arg) for arg in self.args)


Value = Array | Stream | Term


def filter_matrix(tokens: int, shift: int) -> Array:
    """[tokens, tokens] of y ← y + (x − y)/2^shift, whose first y is x."""
    if tokens > MOST_FILTERED:
        raise DesignLimit(f"a filter over {tokens} tokens is a matrix of as many rows and columns; at most {MOST_FILTERED} are "
                          "possible in ONNX")
    age, share = np.subtract.outer(np.arange(tokens), np.arange(tokens)), 2.0**-shift
    found = np.where(age >= 0, share * (1 - share) ** np.maximum(age, 0), 0.0)
    found[:, 0] = (1 - share) ** np.arange(tokens)
    return found.astype(np.float32)


def decimal(value: float) -> float:
    """A number as it was written before it became a float32."""
    return float(f"{value:.7g}")


def tokenwise(axes: Iterable[str]) -> set[str]:
    """The axes that tokens lie along."""
    return {"L", "BL", "H", "W"} & set(axes)


def key_of(value: Value | int) -> Any:
    """What is equal for equal values."""
    if isinstance(value, np.ndarray):
        return value.shape if value.size != 1 else (), value.tobytes()
    return value.key if isinstance(value, Stream | Term) else value


def channels(x: Stream, constant: Array) -> Array:
    """A constant that differs from channel to channel at most → [C]."""
    shape = (1,) * (len(x.axes) - constant.ndim) + constant.shape
    if len(shape) > len(x.axes):
        if any(size != 1 for size in shape[:len(shape) - len(x.axes)]):
            raise InputError(f"a constant of the shape {list(constant.shape)} has more axes than what it meets")
        shape = shape[len(shape) - len(x.axes):]
    for axis, size in zip(x.axes, shape, strict=True):
        if size != 1 and axis != "C":
            raise InputError(f"a constant of the shape {list(constant.shape)} differs from token to token, and no operator adds "
                             "or multiplies such")
    flat = constant.reshape(-1).astype(np.float64)
    if flat.size not in (1, x.draft.width):
        raise InputError(f"a constant of the shape {list(constant.shape)} does not fit {x.draft.width} channels")
    return np.broadcast_to(flat, x.draft.width).copy()


def scaled(x: Stream, factor: Array) -> Stream:
    """factor · x, by the weights where these are its last operator."""
    draft = x.draft
    plain = "function" not in draft.attributes and x.scale is None is x.offset
    if plain and draft.kind in ("Linear", "Conv1d", "Depthwise", "Lookup"):
        across = factor[None] if draft.kind == "Lookup" else factor[:, None]
        parts = {name: value * (factor if value.ndim == 1 else across) for name, value in draft.parameters.items()}
        base, scale, offset = draft.plain or (draft, np.ones(draft.width), np.zeros(draft.width))
        return x.of(draft.copy(parameters=parts, plain=(base, scale * factor, offset * factor)))
    return replace(x, scale=factor * (1 if x.scale is None else x.scale), offset=None if x.offset is None else factor * x.offset)


def moved(x: Stream, by: Array) -> Stream:
    """x + by, by the bias where that is its last operator."""
    draft = x.draft
    if draft.kind in ("Linear", "Conv1d", "Depthwise") and "function" not in draft.attributes and x.scale is None is x.offset:
        plain = None
        if "bias" in draft.parameters or draft.plain:
            base, scale, offset = draft.plain or (draft, np.ones(draft.width), np.zeros(draft.width))
            plain = base, scale, offset + by
        bias = draft.parameters.get("bias", 0.0) + by
        return x.of(draft.copy(parameters=draft.parameters | {"bias": bias}, plain=plain))
    limited = {"low", "high"} & set(draft.attributes)
    if draft.kind == "Activation" and x.scale is None is x.offset and not limited and (by == by[0]).all() and by[0] > 0:
        return x.of(draft.copy(attributes=draft.attributes | {"offset": decimal(by[0] + draft.attributes.get("offset", 0.0))}))
    return replace(x, offset=by if x.offset is None else x.offset + by)


def part(x: Stream, low: int, high: int) -> Stream:
    """Channels low..high − 1, computed alone."""
    draft = x.draft
    if (low, high) == (0, draft.width):
        return x
    own = slice(low, high)
    cut = {"scale": None if x.scale is None else x.scale[own], "offset": None if x.offset is None else x.offset[own]}
    if known := draft.parts.get((low, high)):
        return replace(x, draft=known, **cut)
    if draft.kind in ("Linear", "Lookup"):
        inputs = draft.inputs
    elif draft.kind == "Depthwise":
        window = part(draft.inputs[0].draft.inputs[0], low, high)
        inputs = [replace(draft.inputs[0], draft=windowed(window, draft.inputs[0].draft.attributes))]
    elif draft.kind in ("Conv1d", "Activation", "Multiply", "Add", "Pool", "Reverse"):
        inputs = [part(source, low, high) for source in draft.inputs]
    else:
        raise InputError(f"it takes channels {low}..{high - 1} of a {draft.kind}, whose {draft.width} channels are one")
    parts = {name: value[:, own] if draft.kind == "Lookup" else value[own] for name, value in draft.parameters.items()}
    draft.parts[low, high] = made = draft.copy(inputs=inputs, width=high - low, parameters=parts)
    return replace(x, draft=made, **cut)


def windowed(x: Stream, grid: dict[str, int]) -> Draft:
    """The tokens of x under a kernel, which a `Grid` says."""
    told = Grid(**grid)
    tokens = told.places[0] * told.places[1]
    return Draft("Window", [x], x.draft.width * told.taps, tokens, dict(grid), pooled=x.draft.pooled)


def node(kind: str, *inputs: Stream, width: int = 0, parameters: dict[str, Array] | None = None, **attributes) -> Stream:
    """A new node in the layout of its first input."""
    first = inputs[0]
    tokens = 1 if OPERATORS[kind].pools else first.draft.tokens
    pooled = OPERATORS[kind].pools or first.draft.pooled
    return first.of(Draft(kind, list(inputs), width or first.draft.width, tokens, attributes, parameters or {}, pooled=pooled))


def same(a: Value, b: Value) -> bool:
    return key_of(a) == key_of(b)


def is_zero(value: Value | None) -> bool:
    """Whether a state is zero at the start; what is repeated is looked at once."""
    if value is None:
        return True
    return isinstance(value, np.ndarray) and not value[tuple(slice(0, None if step else 1) for step in value.strides)].any()


def is_number(value: Value, wanted: float) -> bool:
    return isinstance(value, np.ndarray) and value.size == 1 and float(value.reshape(-1)[0]) == wanted


def is_term(value: Value, what: str) -> bool:
    return isinstance(value, Term) and value.what == what
