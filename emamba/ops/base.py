"""What an operator is. One class, registered once, holds all meanings of a kind of node: its fields and their limits, what it
computes on reals and on integers, how it is quantized and retrained, and its C.

A node of the graph (`emamba.graph.Node`) names the kind; an operator is a quantized node. The hardware registers its circuit for
the same class (`rtl.blocks`).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..base.errors import DesignLimit, SettingError
from ..base.formats import IntFormat, Rounding

Array = np.ndarray
Parameters = Mapping[str, Any]
"""Arrays or tensors by a parameter's name."""

OPERATORS: dict[str, type["Operator"]] = {}
"""Every kind of node."""


def register(cls: type["Operator"]) -> type["Operator"]:
    """Adds an operator's class to OPERATORS under its name; a module outside the package can do it too."""
    if OPERATORS.setdefault(cls.__name__, cls).__module__ != cls.__module__:
        first = OPERATORS[cls.__name__].__module__
        raise SettingError(f"there are two operators {cls.__name__}, in {first} and {cls.__module__}: rename one")
    return cls


def one_of(kind: type["Operator"]) -> str:
    """An operator's name with its article."""
    return f"{'an' if kind.__name__[0] in 'AEIO' else 'a'} {kind.__name__}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Operator:
    """Base of all operators. `o` is the format of the output.

    Operators compare and hash by content. An operator is called with the token arrays [batch, L, width] of its inputs, int32 or
    int64. It gives one such array by the functions of `emamba.base.arithmetic`, in the type that its bounds allow. It keeps
    their layout in memory; the batch innermost is the fastest.
    """

    o: IntFormat
    rounding: Rounding = Rounding.HALF_UP

    inputs: ClassVar[int] = 1
    """Token streams read."""
    attributes: ClassVar[dict[str, Any]] = {}
    """What a node of this kind may say beside inputs and width: by name a tuple of words, a range of integers, bool or float."""
    needed: ClassVar[tuple[str, ...]] = ()
    """Attributes that a node must have."""
    optional: ClassVar[tuple[str, ...]] = ()
    """Parameters that a node may lack."""
    decayed: ClassVar[tuple[str, ...]] = ()
    """Parameters that weight decay acts on."""
    normalizes: ClassVar[bool] = False
    """Whether the parameters are folded into the node's readers."""
    commutes: ClassVar[tuple[str, ...]] = ()
    """Parameters of a norm, before the first input, that can be applied after the node instead of before it."""
    pools: ClassVar[bool] = False
    """Whether the output is one of a sequence."""
    recurrent: ClassVar[bool] = False
    """Whether an output reads what was kept of earlier tokens, so that a state can be carried into the next sequence."""
    whole: ClassVar[bool] = False
    """Whether it needs whole sequences, because an output reads tokens after its own."""
    folds: ClassVar[bool] = False
    """Whether a norm's parameters can be folded into `weight` [out, in] and `bias` [out]."""
    streams: ClassVar[bool] = True
    """Whether the outputs of a token leave one after another, as its inputs come."""
    refined: ClassVar[bool] = True
    """Whether scales = 'output' tries other scales of the output."""
    unit: ClassVar[str | None] = None
    """The field that holds a piecewise-linear unit."""
    argument: ClassVar[int] = 0
    """The input that the unit's function reads."""
    loadable: ClassVar[bool] = False
    """Whether the parameters can be loaded into hardware that is built."""
    source: ClassVar[Path | None] = None
    """A file of C with the functions that `c` names; None where there is no C."""

    # -- a node of this kind --------------------------------------------------------------------------------------------------

    @classmethod
    def shapes(cls, node, widths: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter that a node may have; `widths`: its inputs'."""
        return {}

    @classmethod
    def output_tokens(cls, node, tokens: int) -> int:
        """Output tokens of a sequence of `tokens` input tokens."""
        return tokens

    @classmethod
    def initial(cls, xp, node, name: str, shapes: dict[str, tuple[int, ...]]):
        """Start of a parameter before a training, in the shape shapes[name]; `xp` is as in `real` and draws by
        uniform(low, high, shape) and normal(shape)."""
        raise NotImplementedError

    @classmethod
    def prepared(cls, xp, parameters: Parameters) -> dict[str, Any]:
        """What `real` reads, from the tensors of a checkpoint."""
        return dict(parameters)

    @classmethod
    def real(cls, xp, node, parameters: Parameters, *inputs):
        """The node on reals: `xp` is `emamba.run.reference.NUMPY`, or torch in a training, with the same functions."""
        raise NotImplementedError

    @classmethod
    def format(cls, node, bits: int) -> IntFormat | None:
        """Format of the output where its scale does not depend on values; else None."""
        return None

    @classmethod
    def follows(cls, node) -> bool:
        """Whether the format of the output follows from the graph, so that no setting chooses it."""
        return False

    @classmethod
    def quantize(cls, node, q) -> "Operator":
        """The operator of a node; `q` is an `emamba.quantization.quantize.Quantization`."""
        raise NotImplementedError

    def check_node(self, node) -> None:
        """Refuses an operator that is not what its node says, where no neighbour would."""

    # -- integers -------------------------------------------------------------------------------------------------------------

    @property
    def width(self) -> int:
        """Channels per token."""
        raise NotImplementedError

    def check_inputs(self, producers: "Sequence[Operator]") -> None:
        """Refuses producers whose width or format is not what this operator was made for."""

    def __call__(self, *inputs) -> Array:
        raise NotImplementedError

    def resume(self, before: Array | None, *inputs) -> tuple[Array, Array | None]:
        """Output and state after tokens that go on where the state `before` was left; None is the state of the start."""
        if self.whole:
            raise DesignLimit(f"{one_of(type(self))} needs whole sequences, so none goes on from a state: give each whole")
        return self(*inputs), None

    @classmethod
    def carry(cls, compute: Callable[..., Any], window: int, *inputs):
        """`compute` of inputs [n, L, width], NumPy or torch, of which every `window` follow each other in time."""
        if window == 1 or not cls.recurrent:
            return compute(*inputs)
        n = len(inputs[0])
        value = compute(*(x.reshape(n // window, window * x.shape[1], x.shape[2]) for x in inputs))
        return value.reshape(n, value.shape[0] * value.shape[1] // n, *value.shape[2:])

    # -- training -------------------------------------------------------------------------------------------------------------

    def retrained(self, parameters: dict[str, Array], **unit) -> "Operator":
        """The operator of other float parameters in the same formats, perhaps with another `unit`."""
        return replace(self, **unit) if unit else self

    def values(self) -> dict[str, Array]:
        """The integer parameters as real numbers, as `real` reads them."""
        return {}

    # -- C --------------------------------------------------------------------------------------------------------------------

    @property
    def sum_bound(self) -> int:
        """Largest |number| inside the C function, in its type of sums."""
        return self.o.magnitude

    def c(self, loop) -> tuple[str, dict]:
        """The C function of the operator, and the fields of its node that differ from zero (`emamba.run.compiled`)."""
        raise NotImplementedError

    # -- units ----------------------------------------------------------------------------------------------------------------

    def unit_function(self, node) -> str:
        """Name of the unit's function."""
        raise NotImplementedError

    def density(self, *inputs) -> Array:
        """How often each code of the unit's input occurs, for integers of the input `argument`, or of all that it is made of."""
        raise NotImplementedError

    # -- hardware -------------------------------------------------------------------------------------------------------------

    def largest(self) -> "Operator":
        """The operator with the largest parameters that its formats allow, by which hardware with loadable weights is sized."""
        return self

    # -- equality -------------------------------------------------------------------------------------------------------------

    @cached_property
    def _content(self) -> tuple:
        return content(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Operator) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)


def content(value: Any) -> Any:
    """A value that compares and hashes by what it holds."""
    if isinstance(value, np.ndarray):
        return value.shape, hashlib.sha256(np.ascontiguousarray(value, np.int64).tobytes()).digest()
    if is_dataclass(value):
        return type(value).__name__, *(content(getattr(value, entry.name)) for entry in fields(value))
    return value


MULTIPLIER = IntFormat(16, False)
BIAS = IntFormat(32)

# -- limits -------------------------------------------------------------------------------------------------------------------

ACCUMULATOR_LIMIT = 1 << 61
"""Above every accumulator, so that 64-bit integers compute it."""


def check_same(name: str, got: object, want: object) -> None:
    if got != want:
        raise DesignLimit(f"{name} is {got}, but the node needs {want}")


def check_shift(name: str, shift: int) -> None:
    if not -40 <= shift <= 62:
        raise DesignLimit(f"{name} = {shift} is out of range; a requantization shift must lie in −40..62")


def check_bound(name: str, bound: int, shift: int = 0) -> None:
    """Of |x| ≤ bound, also after a `shift` to the left."""
    bound <<= max(-shift, 0)
    if bound >= ACCUMULATOR_LIMIT:
        raise DesignLimit(f"{name} can reach {bound.bit_length()} bits; at most 62 are possible: use narrower formats")


def check_input(kind: str, producer: Operator, width: int, i: IntFormat) -> None:
    check_same(f"the width of the {kind} input", producer.width, width)
    check_same(f"the format of the {kind} input", str(producer.o), str(i))


def check_matrix(name: str, x: Array) -> None:
    if x.ndim != 2:
        raise DesignLimit(f"{name} has {x.ndim} dimensions, but the node needs 2")


def inside(bound: int, shift: int) -> int:
    """Largest |number| while one of at most `bound` is rounded by `shift`."""
    return bound << -shift if shift <= 0 else bound + (1 << (shift - 1))


def rounded(x: Array, low: int, high: int) -> Array:
    return np.clip(np.floor(x + 0.5), low, high).astype(np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class SameFormat(Operator):
    """An operator whose output has the format of its only input, of `channels` a token."""

    channels: int
    i: IntFormat

    refined: ClassVar[bool] = False

    def __post_init__(self):
        check_same("the output's format", str(self.o), str(self.i))

    @property
    def width(self) -> int:
        return self.channels

    @classmethod
    def follows(cls, node):
        return True

    @classmethod
    def kept(cls, node, q) -> dict:
        """The fields that every such operator has; its output takes the input's format."""
        q.formats[node.name] = i = q.formats[node.inputs[0]]
        return {"i": i} | q.common(node)


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class Input(Operator):
    """An input stream: `channels` integers a token. The attribute `ids` is the number of token ids."""

    channels: int
    inputs: ClassVar[int] = 0
    attributes: ClassVar = {"ids": range(2, 1 << 20)}

    @property
    def width(self) -> int:
        return self.channels

    @classmethod
    def follows(cls, node):
        return node.ids is not None

    @classmethod
    def format(cls, node, bits):
        return IntFormat((node.ids - 1).bit_length(), False, 0) if cls.follows(node) else None

    @classmethod
    def quantize(cls, node, q):
        return cls(channels=node.width, **q.common(node))
