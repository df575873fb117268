"""The integer operators: what each node of an artifact computes, with its parameters and formats.

Every operator maps token arrays [batch, L, width] of int32 or int64 to one such array by the functions of `arithmetic`, in the
type that its bounds allow (`arithmetic.word`). It keeps their layout in memory; the batch innermost is the fastest. The hardware
blocks in `rtl` take the same objects as their only parameter.
"""

from dataclasses import dataclass, field
from functools import cached_property
from math import isqrt

import numpy as np

from ..base import arithmetic as arith
from ..base.errors import DesignLimit, InputError
from ..base.formats import IntFormat, Rounding
from ..piecewise import Segments, codes

Array = np.ndarray


def _same(name: str, got: object, want: object) -> None:
    if got != want:
        raise DesignLimit(f"{name} is {got}, but the node needs {want}")


def _check_shift(name: str, shift: int) -> None:
    if not -40 <= shift <= 62:
        raise DesignLimit(f"{name} = {shift} is out of range; a requantization shift must lie in −40..62")


@dataclass(frozen=True, kw_only=True)
class Operator:
    """Base of all nodes. `o` is the format of the output, `width` its channels per token."""

    o: IntFormat
    rounding: Rounding = Rounding.HALF_UP

    inputs = 1  # number of token streams consumed

    @property
    def width(self) -> int:
        raise NotImplementedError

    def check_inputs(self, producers: "list[Operator]") -> None:
        """Refuses producers whose width or format is not what this operator was made for."""


def _check_bound(name: str, bound: int, shift: int = 0) -> None:
    """Of |x| ≤ bound and of what a `shift` to the left makes of it."""
    bound <<= max(-shift, 0)
    if bound >= ACCUMULATOR_LIMIT:
        raise DesignLimit(f"{name} can reach {bound.bit_length()} bits; at most 62 are possible: use narrower formats")


ACCUMULATOR_LIMIT = 1 << 61
"""Above every accumulator, so that 64-bit integers compute it."""


def _check_input(kind: str, producer: Operator, width: int, i: IntFormat) -> None:
    _same(f"the width of the {kind} input", producer.width, width)
    _same(f"the format of the {kind} input", str(producer.o), str(i))


@dataclass(frozen=True, kw_only=True)
class Input(Operator):
    """The accelerator's input stream: `channels` integers a token."""

    channels: int
    inputs = 0

    @property
    def width(self) -> int:
        return self.channels


@dataclass(frozen=True, kw_only=True)
class Weighted(Operator):
    """What a Linear and a Conv1d share: y = requantize(Σ weight·x + bias).

    weight [out, ...] in format `w`, bias [out] at the accumulator's scale. `multiplier` [out] makes the scale dyadic:
    y = round(acc · multiplier · 2^−shift); all ones is the paper's power-of-two scale.
    """

    weight: Array
    bias: Array
    multiplier: Array
    i: IntFormat
    w: IntFormat
    shift: int

    def __post_init__(self):
        out, _ = self.weight.shape if self.weight.ndim == 2 else _bad_shape("weight", self.weight)
        _same("the shape of bias", self.bias.shape, (out,))
        _same("the shape of multiplier", self.multiplier.shape, (out,))
        arith.check_range("weight", self.weight, self.w)
        arith.check_range("multiplier", self.multiplier, MULTIPLIER)
        arith.check_range("bias", self.bias, BIAS)
        _check_shift("shift", self.shift)
        _check_bound("the accumulator", self.bound * int(self.multiplier.max(initial=1)), self.shift)

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

    def _requantize(self, product: Array) -> Array:
        """Σ weight·x → y."""
        acc = product.astype(self.word, copy=False) + self.bias.astype(self.word)
        multiplier = self.multiplier.astype(self.word) if self.dyadic else None
        return arith.requantize(acc, self.shift, self.o, self.rounding, multiplier)


@dataclass(frozen=True, kw_only=True)
class Linear(Weighted):
    """y = requantize(W·x + b), weight [out, in], optionally clipped below at 0 (ReLU)."""

    relu: bool = False

    def check_inputs(self, producers):
        _check_input("linear", producers[0], self.weight.shape[1], self.i)

    def __call__(self, x: Array) -> Array:
        y = self._requantize(arith.matmul(x, self.weight, self.bound))
        return np.maximum(y, 0) if self.relu else y


MULTIPLIER = IntFormat(16, False)
BIAS = IntFormat(32)


def _bad_shape(name: str, x: Array):
    raise DesignLimit(f"{name} has {x.ndim} dimensions, but the node needs 2")


@dataclass(frozen=True, kw_only=True)
class Lookup(Operator):
    """Token embedding: row x of `table` [vocabulary, d_model]; ids beyond the table give its last row."""

    table: Array
    i: IntFormat

    def __post_init__(self):
        if self.table.ndim != 2:
            _bad_shape("table", self.table)
        arith.check_range("table", self.table, self.o)

    @property
    def width(self) -> int:
        return self.table.shape[1]

    def check_inputs(self, producers):
        _check_input("lookup", producers[0], 1, self.i)

    def __call__(self, x: Array) -> Array:
        return self.table.astype(arith.word(self.o.magnitude))[np.minimum(x[..., 0], len(self.table) - 1)]


@dataclass(frozen=True, kw_only=True)
class Norm(Operator):
    """What the norms share: n_i of each channel times a reciprocal from a table of 2^index_bits entries, that of the token's
    spread, which is shifted until its leading one is at the top. γ and β live in the Linear that follows (our choice: exact in
    float, and one multiplier fewer per channel). `shift` is the table's exponent less the output's fraction bits.

    Each has `reciprocals`, the table's entries and exponent; `spread_bits` of the unsigned spread; and for the hardware
    `n_bound`, the largest |n|, `shifted_bound`, the largest after its shift, and `largest_shift` of an n that is not 0.
    """

    channels: int
    i: IntFormat
    index_bits: int = 8
    entry_bits: int = 12

    def __post_init__(self):
        if self.channels < 1:
            raise DesignLimit(f"channels of a norm must be at least 1, not {self.channels}")
        if not 1 <= self.index_bits <= 12 or not 4 <= self.entry_bits <= 16:
            raise DesignLimit(f"a norm's table of {self.index_bits} index bits and {self.entry_bits} entry bits is out of range; "
                              "1..12 and 4..16 are possible")

    @property
    def width(self) -> int:
        return self.channels

    @property
    def shift(self) -> int:
        return self.reciprocals[1] - self.o.frac

    def _check_product(self) -> None:
        _check_bound("a norm's product", self.shifted_bound << self.entry_bits)
        _check_shift("shift", self.shift)
        _check_bound("a norm's product", self.shifted_bound << self.entry_bits, self.shift)

    def check_inputs(self, producers):
        _check_input("norm", producers[0], self.channels, self.i)


@dataclass(frozen=True, kw_only=True)
class RangeNorm(Norm):
    """(x − mean)/(max − min) per token; its spread is R = max − min. Source: paper."""

    def __post_init__(self):
        super().__post_init__()
        self._check_product()

    @property
    def spread_bits(self) -> int:
        return self.i.bits

    @property
    def n_bound(self) -> int:
        return self.channels << self.i.bits  # |D·x − Σx| ≤ D·R

    @property
    def shifted_bound(self) -> int:
        return self.n_bound

    @property
    def largest_shift(self) -> int:
        return self.i.bits - 1

    @cached_property
    def reciprocals(self) -> tuple[Array, int]:
        return arith.reciprocal_table(self.channels, self.i.bits, self.index_bits, self.entry_bits)

    def __call__(self, x: Array) -> Array:
        return arith.range_norm(x, self.i.bits, self.reciprocals[0], self.shift, self.o, self.rounding)


@dataclass(frozen=True, kw_only=True)
class LayerNorm(Norm):
    """(x − mean)/sqrt(variance + ε) per token; its spread is V = D·Q − (Σx)² with Q = Σx² + `epsilon`, where `epsilon` is D·ε in
    squared steps of the input. The comparison to RangeNorm (our choice of the integers)."""

    epsilon: int

    centered = True

    def __post_init__(self):
        super().__post_init__()
        if self.epsilon < 0:
            raise DesignLimit(f"epsilon of a norm must be at least 0, not {self.epsilon}")
        _check_bound("a norm's sum of squares", self.bound)
        self._check_product()

    @property
    def squares_bound(self) -> int:
        """Largest Q."""
        return self.epsilon + self.channels * self.i.magnitude**2

    @property
    def bound(self) -> int:
        """Largest V."""
        return self.squares_bound * (self.channels if self.centered else 1)

    @property
    def spread_bits(self) -> int:
        return self.bound.bit_length() + self.bound.bit_length() % 2

    @property
    def n_bound(self) -> int:
        return (self.channels - 1) * (self.i.max - self.i.min) if self.centered else self.i.magnitude

    @property
    def shifted_bound(self) -> int:
        most = max(1, self.channels - 1) if self.centered else 1  # n² ≤ most·V, and V after its shift is below 2^spread_bits
        return isqrt(most << self.spread_bits)

    @property
    def largest_shift(self) -> int:
        """By the least V of a token that is not constant, or not zero."""
        least = self.channels * self.epsilon + max(1, self.channels - 1) if self.centered else self.epsilon + 1
        return (self.spread_bits - least.bit_length()) // 2

    @cached_property
    def reciprocals(self) -> tuple[Array, int]:
        gain = 1 if self.centered else self.channels
        return arith.rsqrt_table(gain, self.spread_bits, self.index_bits, self.entry_bits)

    @cached_property
    def word(self) -> np.dtype:
        """Type of V, which is shifted to its top bit, and of the products."""
        return arith.word(max(1 << self.spread_bits, self.shifted_bound << self.entry_bits), self.shift, self.o)

    def __call__(self, x: Array) -> Array:
        return arith.layer_norm(x, self.spread_bits, self.reciprocals[0].astype(self.word), self.shift, self.o, self.rounding,
                                epsilon=self.epsilon, centered=self.centered)


@dataclass(frozen=True, kw_only=True)
class RMSNorm(LayerNorm):
    """x/sqrt(mean of x² + ε) per token; its spread is Q, and its table holds sqrt(D) too."""

    centered = False


@dataclass(frozen=True, kw_only=True)
class Conv1d(Weighted):
    """Causal depthwise convolution; weight [channels, taps], the last tap on the current token."""

    def check_inputs(self, producers):
        _check_input("convolution", producers[0], self.width, self.i)

    def __call__(self, x: Array) -> Array:
        return self._requantize(arith.causal_conv(x.astype(self.word, copy=False), self.weight.astype(self.word)))


@dataclass(frozen=True, kw_only=True)
class Activation(Operator):
    """A scalar function of every channel: segments, or the table of every input code."""

    channels: int
    i: IntFormat
    segments: Segments | None = None
    entries: Array | None = field(default=None)

    def __post_init__(self):
        _check_function("activation", self)

    @property
    def width(self) -> int:
        return self.channels

    def check_inputs(self, producers):
        _check_input("activation", producers[0], self.channels, self.i)

    @cached_property
    def table(self) -> Array | None:
        """The output for every input code; None where there are too many."""
        if self.segments is not None and 1 << self.i.bits > TABLE_SIZE:
            return None
        entries = self.entries if self.segments is None else self.segments(codes(self.i))
        return entries.astype(arith.word(self.o.magnitude))

    def __call__(self, x: Array) -> Array:
        return self.segments(x) if self.table is None else self.table[x - self.i.min]


TABLE_SIZE = 1 << 20
"""Entries of the largest table that is made of segments: 4 MB, in some tens of milliseconds."""


def _check_function(name: str, node) -> None:
    if (node.segments is None) == (node.entries is None):
        raise DesignLimit(f"the {name} must have either segments or entries")
    if node.entries is not None:
        _same(f"the number of entries of the {name}", node.entries.shape, (1 << node.i.bits,))
        arith.check_range("entries", node.entries, node.o)
    else:
        _same(f"the segments' input format of the {name}", str(node.segments.i), str(node.i))
        _same(f"the segments' output format of the {name}", str(node.segments.o), str(node.o))


@dataclass(frozen=True, kw_only=True)
class Scan(Operator):
    """The selective scan of d_inner channels with d_state states each.

    p = δ·A; Ā = exp(p) by `decay`, and exactly 1 where δ = 0 if `hold` (our choice: the float state then keeps its value, while
    the paper's INT8 Ā cannot exceed 127/128); h_wide = saturate(Ā·h + b); y = requantize(C·h_wide + D·u);
    h = saturate(h_wide >> Ā's fraction bits). The input term b is (δ·u)·B rounded to h_wide's scale (`delta_b` false, our
    choice: one multiplier and one rounding fewer), or the paper's (requantize(δ·B)·u) << Ā's fraction bits (`delta_b` true;
    then `b_bar` is its format).

    A [d_inner, d_state] in format `a` (A ≤ 0), D [d_inner] in format `d`. `h` is the stored state (paper: INT17), `h_wide` the
    recurrent state that y reads (paper: INT24), with h_wide.frac = h.frac + a_bar.frac.
    """

    A: Array
    D: Array
    u: IntFormat
    dt: IntFormat
    B: IntFormat
    C: IntFormat
    a: IntFormat
    d: IntFormat
    decay: Segments
    h: IntFormat
    h_wide: IntFormat
    delta_b: bool = False
    b_bar: IntFormat | None = None
    hold: bool = True

    inputs = 4  # u, dt, B, C

    def __post_init__(self):
        if self.A.ndim != 2:
            _bad_shape("A", self.A)
        _same("the shape of D", self.D.shape, (self.A.shape[0],))
        arith.check_range("A", self.A, self.a)
        if (self.A > 0).any():
            raise DesignLimit("A holds a positive value, so the state would grow without bound; A must be ≤ 0")
        arith.check_range("D", self.D, self.d)
        _same("the decay's input format", str(self.decay.i), str(self.p))
        _same("the fraction bits of h_wide", self.h_wide.frac, self.h.frac + self.a_bar.frac)
        if self.delta_b:
            _same("the fraction bits of h", self.h.frac, self.b_bar.frac + self.u.frac)
        for name in ("b_bar_shift" if self.delta_b else "term_shift", "y_shift"):
            _check_shift(name, getattr(self, name))
        if not 0 <= self.d_shift <= 40:
            raise DesignLimit(f"D's {self.d.frac} fraction bits are out of range: D·u must align to y's accumulator by a left "
                              f"shift of 0..40, not {self.d_shift}; lower D's fraction bits")
        if self.delta_b:
            _check_bound("δ·B", self.dt.magnitude * self.B.magnitude, self.b_bar_shift)
        _check_bound("y's accumulator", self.y_bound, self.y_shift)
        _check_bound("the recurrent state", (self.h.magnitude << self.a_bar.bits) + self.term_bound)

    @property
    def width(self) -> int:
        return self.A.shape[0]

    @property
    def d_state(self) -> int:
        return self.A.shape[1]

    @property
    def p(self) -> IntFormat:
        """δ·A, exact."""
        return IntFormat(self.dt.bits + self.a.bits, True, self.dt.frac + self.a.frac)

    @property
    def a_bar(self) -> IntFormat:
        return self.decay.o

    @property
    def term_shift(self) -> int:
        """From (δ·u)·B's scale to h_wide's."""
        return self.dt.frac + self.u.frac + self.B.frac - self.h_wide.frac

    @property
    def b_bar_shift(self) -> int:
        """From δ·B's scale to b_bar's."""
        return self.dt.frac + self.B.frac - self.b_bar.frac

    @property
    def d_shift(self) -> int:
        """From D·u's scale (left) to y's accumulator."""
        return self.C.frac + self.h_wide.frac - self.d.frac - self.u.frac

    @property
    def y_shift(self) -> int:
        return self.C.frac + self.h_wide.frac - self.o.frac

    @property
    def term_bound(self) -> int:
        """Largest |b|."""
        if self.delta_b:
            return (self.b_bar.magnitude * self.u.magnitude) << self.a_bar.frac
        return int(arith.round_shift(self.dt.magnitude * self.u.magnitude * self.B.magnitude, self.term_shift, self.rounding)) + 1

    @cached_property
    def y_bound(self) -> int:
        """Largest |accumulator of y|."""
        direct = (int(np.abs(self.D).max()) * self.u.magnitude) << self.d_shift
        return self.d_state * self.C.magnitude * self.h_wide.magnitude + direct

    def check_inputs(self, producers):
        for name, producer, width in zip(["u", "dt", "B", "C"], producers, [self.width, self.width, self.d_state, self.d_state],
                                         strict=True):
            _check_input(name, producer, width, getattr(self, name))

    @cached_property
    def word(self) -> np.dtype:
        """Type of the state and its input term."""
        if self.delta_b:
            term = arith.word(self.dt.magnitude * self.B.magnitude, self.b_bar_shift, self.b_bar)
        else:
            term = arith.word(self.dt.magnitude * self.u.magnitude * self.B.magnitude, self.term_shift)
        state = arith.word((self.h.magnitude << self.a_bar.bits) + self.term_bound, self.a_bar.frac, self.h_wide)
        return np.promote_types(term, state)

    def decays(self, dt: Array) -> Array:
        """Ā [..., d_inner, d_state] for δ [..., d_inner]."""
        a_bar = self.decay(dt[..., None] * self.A)
        return np.where(dt[..., None] == 0, 1 << self.a_bar.frac, a_bar) if self.hold else a_bar

    @cached_property
    def decay_table(self) -> Array | None:
        """Ā of every channel and code of δ, [d_state, d_inner · codes]; None where there are too many."""
        if self.A.size << self.dt.bits > TABLE_SIZE:
            return None
        return self.decays(codes(self.dt)[:, None]).T.astype(self.word).reshape(self.d_state, -1)

    def _look_up_decays(self, dt: Array) -> Array:
        """Ā [d_state, d_inner, batch] for δ [d_inner, batch]."""
        if self.decay_table is None:
            return self.decays(dt.T).T
        index = dt - self.dt.min + (np.arange(self.width) << self.dt.bits)[:, None]
        return self.decay_table.take(index, 1, mode="wrap")  # the fastest mode; nothing wraps

    def step(self, h: Array, u: Array, dt: Array, B: Array, C: Array) -> tuple[Array, Array, Array]:
        """One token: h, state [batch, d_inner, d_state]; u, dt [batch, d_inner]; B, C [batch, d_state] → y, h, h_wide."""
        h, u, dt, B = (x.T.astype(self.word, copy=False) for x in (h, u, dt, B))  # [d_state, d_inner, batch]: the fastest
        y_word = arith.word(self.y_bound, self.y_shift, self.o)
        if self.delta_b:
            b_bar = arith.requantize(dt * B[:, None], self.b_bar_shift, self.b_bar, self.rounding)
            term = (b_bar * u) << self.a_bar.frac
        else:
            term = arith.round_shift((dt * u) * B[:, None], self.term_shift, self.rounding)
        h_wide = self._look_up_decays(dt) * h
        h_wide += term
        h_wide = arith.saturate(h_wide, self.h_wide)
        product = np.multiply(h_wide, C.T[:, None], dtype=arith.word(self.C.magnitude * self.h_wide.magnitude))
        acc = product.sum(0, dtype=y_word) + (np.multiply(self.D[:, None], u, dtype=y_word) << self.d_shift)
        y = arith.requantize(acc, self.y_shift, self.o, self.rounding)
        return y.T, arith.requantize(h_wide, self.a_bar.frac, self.h, self.rounding).T, h_wide.T

    def __call__(self, u: Array, dt: Array, B: Array, C: Array, state: Array | None = None) -> Array:
        batch, length, _ = u.shape
        h = np.zeros((batch, *self.A.shape), self.word, order="F") if state is None else state
        y = np.empty_like(u, dtype=arith.word(self.o.magnitude))
        for t in range(length):
            y[:, t], h, _ = self.step(h, u[:, t], dt[:, t], B[:, t], C[:, t])
        return y


@dataclass(frozen=True, kw_only=True)
class Pair(Operator):
    """What Multiply and Add share: one channel of format `a` with one of format `b`."""

    channels: int
    a: IntFormat
    b: IntFormat

    inputs = 2

    def __post_init__(self):
        _check_shift("shift", self.shift)
        _check_bound("its exact result", self.bound, self.shift)

    @property
    def width(self) -> int:
        return self.channels

    @property
    def bound(self) -> int:
        """Largest |exact result|."""
        raise NotImplementedError

    def check_inputs(self, producers):
        _check_input("first", producers[0], self.channels, self.a)
        _check_input("second", producers[1], self.channels, self.b)


@dataclass(frozen=True, kw_only=True)
class Multiply(Pair):
    """The gate: requantize(a·b), channel by channel."""

    @property
    def shift(self) -> int:
        return self.a.frac + self.b.frac - self.o.frac

    @property
    def bound(self) -> int:
        return self.a.magnitude * self.b.magnitude

    def __call__(self, a: Array, b: Array) -> Array:
        word = arith.word(self.bound, self.shift, self.o)
        return arith.requantize(np.multiply(a, b, dtype=word), self.shift, self.o, self.rounding)


@dataclass(frozen=True, kw_only=True)
class Add(Pair):
    """The residual sum: both terms shifted left to the finer scale, added exactly, requantized."""

    @property
    def frac(self) -> int:
        return max(self.a.frac, self.b.frac)

    @property
    def shift(self) -> int:
        return self.frac - self.o.frac

    @property
    def bound(self) -> int:
        return (self.a.magnitude << self.frac - self.a.frac) + (self.b.magnitude << self.frac - self.b.frac)

    def __call__(self, a: Array, b: Array) -> Array:
        left, right = self.frac - self.a.frac, self.frac - self.b.frac
        word = arith.word(self.bound, self.shift, self.o)
        total = (a.astype(word, copy=False) << left) + (b.astype(word, copy=False) << right)
        return arith.requantize(total, self.shift, self.o, self.rounding)


@dataclass(frozen=True, kw_only=True)
class Pool(Operator):
    """One token per sequence: the last one, or the mean of `tokens` tokens as requantize(Σx · multiplier)."""

    channels: int
    i: IntFormat
    mean: bool
    tokens: int = 1
    multiplier: int = 1
    shift: int = 0

    def __post_init__(self):
        _check_shift("shift", self.shift)
        if not 1 <= self.multiplier <= MULTIPLIER.max:
            raise DesignLimit(f"multiplier = {self.multiplier} is out of range; it must lie in 1..{MULTIPLIER.max}")
        if not 1 <= self.tokens <= 1 << 20:
            raise DesignLimit(f"tokens = {self.tokens} is out of range; a mean is possible over 1..{1 << 20} tokens")
        _check_bound("the scaled sum", self.bound * self.multiplier, self.shift)

    @property
    def width(self) -> int:
        return self.channels

    @property
    def bound(self) -> int:
        return self.i.magnitude * self.tokens

    def check_inputs(self, producers):
        _check_input("pool", producers[0], self.channels, self.i)

    def __call__(self, x: Array) -> Array:
        if not self.mean:
            return x[:, -1:]
        if x.shape[1] != self.tokens:
            raise InputError(f"a sequence has {x.shape[1]} tokens, but this model takes the mean of {self.tokens}")
        return arith.requantize(x.sum(1, keepdims=True, dtype=np.int64), self.shift, self.o, self.rounding, self.multiplier)


OPERATORS = {cls.__name__: cls for cls in (
    Input, Linear, Lookup, RangeNorm, LayerNorm, RMSNorm, Conv1d, Activation, Scan, Multiply, Add, Pool)}
