"""Random operators of any shape, and the blocks that every test bench runs."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from itertools import product

import numpy as np

from emamba.base.formats import IntFormat, Rounding
from emamba.ops import (
    Activation,
    Add,
    Attention,
    Conv1d,
    Depthwise,
    HeadScan,
    LayerNorm,
    Linear,
    Lookup,
    Multiply,
    Pool,
    RangeNorm,
    Reverse,
    RMSNorm,
    Scan,
    Smooth,
    Window,
)
from emamba.ops.attention import inverse_root
from emamba.piecewise import Segments, codes, exact, fit
from rtl.blocks import activation as rtl_activation
from rtl.blocks import attention as rtl_attention
from rtl.blocks import conv1d as rtl_conv1d
from rtl.blocks import depthwise as rtl_depthwise
from rtl.blocks import elementwise as rtl_elementwise
from rtl.blocks import head_scan as rtl_head_scan
from rtl.blocks import layer_norm as rtl_layer_norm
from rtl.blocks import linear as rtl_linear
from rtl.blocks import lookup as rtl_lookup
from rtl.blocks import pool as rtl_pool
from rtl.blocks import range_norm as rtl_range_norm
from rtl.blocks import reverse as rtl_reverse
from rtl.blocks import scan as rtl_scan
from rtl.blocks import smooth as rtl_smooth
from rtl.blocks import window as rtl_window
from rtl.kit.block import Spec
from rtl.kit.datapath import Products

from .bench import random_tokens

I8 = IntFormat(8, True, 5)
I12 = IntFormat(12, True, 9)
W8 = IntFormat(8, True, 7)


def _weights(rng, rows, columns, dyadic):
    multiplier = rng.integers(1, 1 << 12, rows) if dyadic else np.ones(rows, np.int64)
    return {"weight": rng.integers(-127, 128, (rows, columns)), "bias": rng.integers(-9999, 9999, rows),
            "multiplier": multiplier, "w": W8, "shift": 5 + (columns.bit_length() // 2) + (11 if dyadic else 0)}


def linear(rng, inputs, outputs, *, relu=False, dyadic=False, i=I8, o=I8, rounding=Rounding.HALF_UP) -> Linear:
    return Linear(o=o, rounding=rounding, i=i, relu=relu, **_weights(rng, outputs, inputs, dyadic))


def conv1d(rng, channels, taps, *, dyadic=False, i=I8, o=I8, rounding=Rounding.HALF_UP) -> Conv1d:
    return Conv1d(o=o, rounding=rounding, i=i, **_weights(rng, channels, taps, dyadic))


def depthwise(rng, channels, taps, *, dyadic=False, rounding=Rounding.HALF_UP) -> Depthwise:
    return Depthwise(o=I8, rounding=rounding, i=I8, **_weights(rng, channels, taps, dyadic))


def range_norm(channels, i=I12, *, index_bits=8, groups=1) -> RangeNorm:
    return RangeNorm(channels=channels, groups=groups, i=i, o=IntFormat(8, True, 7), index_bits=index_bits)


def layer_norm(channels, i=I12, *, rms=False, epsilon=1, groups=1, rounding=Rounding.HALF_UP) -> LayerNorm:
    kind = RMSNorm if rms else LayerNorm
    return kind(channels=channels, groups=groups, i=i, o=IntFormat(8, True, 5), epsilon=epsilon, rounding=rounding)


def activation(name, channels, *, i=I8, o=I8, table=False, segments=17) -> Activation:
    if table:
        return Activation(channels=channels, i=i, o=o, entries=exact(name, i, o))
    return Activation(channels=channels, i=i, o=o, segments=fit(name, i, o, segments))


def scan(rng, channels, states, *, delta_b=False, certified=False, start=False, rounded=False, o=I12,
         rounding=Rounding.HALF_UP) -> Scan:
    """With `certified`, the state is wide enough never to saturate; with `rounded`, exp reads fewer bits than δ·A has."""
    dt, a, u, b = IntFormat(8, True, 8), IntFormat(8, True, 3), IntFormat(8, True, 5), IntFormat(8, True, 5)
    b_bar = IntFormat(8, True, 8) if delta_b else None
    h = IntFormat(30 if certified else 17, True, b_bar.frac + u.frac if delta_b else 11)
    decay = fit("exp", IntFormat(9, True, 6) if rounded else IntFormat(16, True, dt.frac + a.frac), IntFormat(8, True, 7), 11)
    return Scan(
        o=o, rounding=rounding, A=-rng.integers(0, 128, (channels, states)), D=rng.integers(-127, 128, channels), u=u, dt=dt, B=b,
        C=IntFormat(8, True, 5), a=a, d=IntFormat(8, True, 6), decay=decay, h=h, h_wide=IntFormat(h.bits + 7, True, h.frac + 7),
        delta_b=delta_b, b_bar=b_bar, hold=not delta_b, h0=rng.integers(h.min, h.max + 1, (channels, states)) if start else None,
    )


def head_scan(rng, channels, heads, groups, states, **options) -> HeadScan:
    parts = vars(scan(rng, heads, 1, **options))
    return HeadScan(**{entry.name: parts[entry.name] for entry in fields(Scan)}, channels=channels, groups=groups, states=states)


def multiply(channels) -> Multiply:
    return Multiply(channels=channels, a=I12, b=I8, o=IntFormat(12, True, 10))


def add(channels) -> Add:
    return Add(channels=channels, a=I12, b=IntFormat(8, True, 3), o=IntFormat(12, True, 7))


def attention(channels, heads, tokens, *, causal=False, wide=False, rounding=Rounding.HALF_UP) -> Attention:
    """With `wide`, factors have more bits than a narrow multiplier takes."""
    multiplier, extra = inverse_root(channels // heads)
    return Attention(channels=channels, heads=heads, causal=causal, tokens=tokens, q=I8, k=IntFormat(8, True, 4),
                     v=IntFormat(8, True, 6), multiplier=multiplier, shift=1 + extra, o=IntFormat(8, True, 7), rounding=rounding,
                     exp=fit("exp", IntFormat(12, True, 8), IntFormat(8 + 4 * wide, False, 8), 11, rounding=rounding),
                     entry_bits=12 + 4 * wide)


def pool(channels, tokens, *, mean=True) -> Pool:
    multiplier, shift = (1, 0) if not mean else (round(2**14 / tokens), 14)
    return Pool(channels=channels, i=I8, o=I8, mean=mean, tokens=tokens, multiplier=multiplier, shift=shift)


def lookup(rng, vocabulary, width) -> Lookup:
    return Lookup(table=rng.integers(-128, 128, (vocabulary, width)), i=IntFormat(7, False, 0), o=I8)


TOKENS = 4
"""Tokens of every sequence that a bench feeds."""


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def linear_block(inputs, outputs, in_lanes, out_lanes, *, products=Products.MULTIPLIERS, **options) -> Spec:
    return rtl_linear.Linear(linear(rng(), inputs, outputs, **options), in_lanes, out_lanes, products)


def conv1d_block(channels, taps, lanes, tap_lanes, *, products=Products.MULTIPLIERS, **options) -> Spec:
    return rtl_conv1d.Conv1d(conv1d(rng(), channels, taps, **options), lanes, tap_lanes, products)


def depthwise_block(channels, taps, lanes, terms, *, products=Products.MULTIPLIERS, **options) -> Spec:
    return rtl_depthwise.Depthwise(depthwise(rng(), channels, taps, **options), lanes * terms, lanes, products)


def range_norm_block(channels, lanes, bits, *, narrow=False, registers=False, **options) -> Spec:
    return rtl_range_norm.RangeNorm(range_norm(channels, IntFormat(bits, True, bits - 3), **options), lanes, narrow, registers)


def layer_norm_block(channels, lanes, bits, *, narrow=False, registers=False, **options) -> Spec:
    return rtl_layer_norm.LayerNorm(layer_norm(channels, IntFormat(bits, True, bits - 3), **options), lanes, narrow, registers)


def activation_block(name, *, o=I8, entries=False, table=False) -> Spec:
    return rtl_activation.Activation(activation(name, 5, o=o, table=entries), 2, table=table)


def scan_block(channels, states, lanes, state_lanes, *, table=False, narrow=False, **options) -> Spec:
    return rtl_scan.Scan(scan(rng(), channels, states, **options), lanes, state_lanes, table=table, narrow=narrow)


def head_scan_block(channels, heads, groups, states, lanes, state_lanes, *, table=False, **options) -> Spec:
    op = head_scan(rng(), channels, heads, groups, states, **options)
    return rtl_head_scan.HeadScan(op, lanes, state_lanes, table=table)


def attention_block(channels, heads, lanes, pace=1, *, tokens=TOKENS, narrow=False, **options) -> Spec:
    return rtl_attention.Attention(attention(channels, heads, tokens, **options), lanes, pace, narrow)


def multiply_block(channels, lanes) -> Spec:
    return rtl_elementwise.Multiply(multiply(channels), lanes)


def add_block(channels, lanes) -> Spec:
    return rtl_elementwise.Add(add(channels), lanes)


def pool_block(channels, lanes, mean) -> Spec:
    return rtl_pool.Pool(pool(channels, TOKENS, mean=mean), lanes, TOKENS)


def reverse_block(channels, lanes, tokens, frame=1) -> Spec:
    return rtl_reverse.Reverse(Reverse(o=I8, channels=channels, i=I8), lanes, tokens, frame)


def window_block(channels, lanes, copies, frame, grid, kernel, *, stride=(1, 1), pads=(0, 0, 0, 0)) -> Spec:
    parts = zip(("rows", "columns", "kernel_rows", "kernel_columns", "stride_rows", "stride_columns", "pad_top", "pad_left",
                 "pad_bottom", "pad_right"), (*grid, *kernel, *stride, *pads), strict=True)
    return rtl_window.Window(Window(o=I8, channels=channels, i=I8, **dict(parts)), lanes, copies, frame)


def smooth_block(channels, lanes, shift, **options) -> Spec:
    return rtl_smooth.Smooth(Smooth(channels=channels, i=I8, o=I8, shift=shift, **options), lanes)


def lookup_block(vocabulary, width, lanes) -> Spec:
    return rtl_lookup.Lookup(lookup(rng(), vocabulary, width), lanes)


RELU = {"relu": True, "i": I12, "o": IntFormat(7, False, 5)}
CASES = [
    *((linear_block, shape, {}) for shape in (
        (20, 6, 20, 2), (5, 7, 1, 7), (17, 5, 4, 2), (1, 1, 1, 1), (3, 4, 1, 1), (65, 2, 65, 2))),
    *((linear_block, shape, {"dyadic": True}) for shape in ((20, 6, 20, 2), (17, 5, 4, 2))),
    *((linear_block, shape, {"products": Products.PAIRS}) for shape in ((20, 6, 20, 2), (5, 7, 1, 7), (9, 3, 3, 3))),
    (linear_block, (9, 4, 3, 2), {"products": Products.PAIRS, "i": I12}),
    *((linear_block, shape, {"products": Products.CASCADES}) for shape in (
        (20, 6, 20, 2), (5, 7, 1, 7), (40, 4, 10, 4), (9, 4, 3, 2))),
    (linear_block, (17, 5, 17, 2), {"products": Products.CASCADES, "dyadic": True}),
    (linear_block, (9, 4, 9, 1), {"products": Products.CASCADES, "i": I12}),
    *((conv1d_block, shape, {"products": Products.CASCADES}) for shape in ((8, 4, 2, 4), (5, 3, 2, 2))),
    *((linear_block, shape, {"products": Products.CONSTANTS}) for shape in ((7, 5, 7, 5), (1, 1, 1, 1), (7, 4, 7, 2))),
    (linear_block, (5, 3, 5, 3), {"products": Products.CONSTANTS, "dyadic": True}),
    (linear_block, (5, 7, 2, 7), {"products": Products.LOGIC}),
    (linear_block, (36, 3, 18, 2), {"products": Products.MERGED}),
    (conv1d_block, (5, 4, 2, 3), {"products": Products.MERGED}),
    (conv1d_block, (5, 3, 2, 3), {"products": Products.LOGIC}),
    *((linear_block, (4, 3, 2, 3), {"rounding": rounding} | RELU) for rounding in Rounding),
    *((conv1d_block, shape, {}) for shape in (
        (8, 4, 2, 4), (5, 3, 2, 3), (3, 1, 1, 1), (4, 2, 4, 2), (1, 7, 1, 7), (8, 4, 2, 2), (5, 3, 2, 2), (1, 7, 1, 1),
        (17, 4, 1, 1), (65, 2, 1, 2))),
    *((conv1d_block, (5, 3, 2, tap_lanes), {"dyadic": True}) for tap_lanes in (3, 2)),
    *((conv1d_block, shape, {"products": Products.CONSTANTS}) for shape in ((5, 3, 5, 3), (1, 1, 1, 1))),
    *((range_norm_block, shape, {}) for shape in (
        (20, 1, 12), (11, 11, 12), (17, 4, 12), (1, 1, 12), (5, 2, 12), (17, 4, 8), (1, 1, 8))),
    *((layer_norm_block, shape, {"rms": rms}) for rms in (False, True) for shape in (
        (20, 1, 12), (11, 11, 12), (17, 4, 12), (1, 1, 12), (5, 2, 12), (17, 4, 8), (2, 2, 8))),
    (layer_norm_block, (17, 4, 12), {"narrow": True}),
    *((layer_norm_block, (6, 3, 12), {"rms": rms, "groups": 3}) for rms in (False, True)),
    (layer_norm_block, (1, 1, 12), {"rms": True, "groups": 4}),
    (range_norm_block, (5, 1, 12), {"groups": 2}),
    *((layer_norm_block, (6, 3, 12), {"rms": rms, "epsilon": 0, "rounding": rounding})
      for rms, rounding in ((False, Rounding.HALF_EVEN), (True, Rounding.TRUNCATE))),
    *((activation_block, (name,), {"o": o} | options) for options in ({}, {"entries": True}, {"table": True}) for name, o in (
        ("silu", I8), ("softplus", IntFormat(8, True, 4)), ("exp", IntFormat(8, True, 7)), ("sigmoid", IntFormat(8, False, 8)))),
    *((scan_block, shape, {}) for shape in (
        (4, 3, 1, 3), (5, 4, 2, 2), (3, 5, 3, 2), (2, 3, 2, 3), (1, 1, 1, 1), (2, 8, 1, 8), (3, 3, 1, 1))),
    *((scan_block, shape, {"table": True}) for shape in ((5, 4, 2, 2), (2, 3, 2, 3), (4, 3, 1, 3), (3, 3, 1, 1), (9, 2, 1, 1))),
    *((scan_block, shape, {"delta_b": True}) for shape in ((5, 4, 2, 2), (2, 3, 2, 3))),
    (scan_block, (5, 4, 2, 2), {"delta_b": True, "table": True}),
    (scan_block, (4, 3, 1, 3), {"narrow": True}),
    *((scan_block, shape, {"rounded": True}) for shape in ((5, 4, 2, 2), (2, 3, 2, 3), (3, 3, 1, 1))),
    *((scan_block, (4, 3, 1, 3), {"rounded": True, "rounding": kind}) for kind in (Rounding.HALF_EVEN, Rounding.TRUNCATE)),
    (scan_block, (2, 3, 2, 3), {"rounded": True, "table": True}),
    (range_norm_block, (17, 4, 12), {"narrow": True}),
    (range_norm_block, (13, 5, 12), {"registers": True}),
    (range_norm_block, (3, 3, 12), {"registers": True}),
    (layer_norm_block, (6, 4, 12), {"registers": True}),
    *((scan_block, shape, {"start": True}) for shape in ((5, 4, 2, 2), (2, 3, 2, 3), (9, 2, 1, 1))),
    *((scan_block, shape, {"certified": True}) for shape in ((5, 4, 2, 2), (2, 3, 2, 3))),
    *((scan_block, (4, 3, 1, 3), {"rounding": rounding}) for rounding in (Rounding.HALF_EVEN, Rounding.TRUNCATE)),
    *((head_scan_block, shape, {}) for shape in (
        (12, 4, 2, 3, 3, 2), (12, 4, 2, 3, 1, 3), (8, 4, 2, 3, 4, 3), (8, 4, 2, 3, 8, 3), (15, 5, 1, 2, 6, 1),
        (7, 1, 1, 3, 2, 3), (3, 3, 3, 2, 2, 2))),
    *((head_scan_block, shape, {"table": True}) for shape in ((12, 4, 2, 3, 3, 2), (15, 5, 1, 2, 6, 1), (8, 4, 2, 3, 8, 3))),
    (head_scan_block, (12, 4, 2, 3, 3, 2), {"delta_b": True}),
    (head_scan_block, (12, 4, 2, 3, 3, 2), {"rounded": True}),
    *((attention_block, shape, {}) for shape in ((4, 2, 2), (4, 2, 1), (1, 1, 1), (12, 4, 6), (9, 3, 9, 33), (6, 1, 2))),
    *((attention_block, shape, {"causal": True}) for shape in ((6, 2, 3), (6, 2, 6, 17), (6, 1, 2))),
    (attention_block, (6, 2, 6), {"narrow": True, "wide": True, "rounding": Rounding.TRUNCATE}),
    (attention_block, (4, 1, 2), {"rounding": Rounding.HALF_EVEN}),
    (attention_block, (4, 2, 2), {"tokens": 1}),
    *((make, shape, {}) for make in (multiply_block, add_block) for shape in ((6, 2), (5, 3), (1, 1))),
    *((pool_block, (*shape, mean), {}) for mean in (False, True) for shape in ((6, 2), (5, 3), (1, 1))),
    *((depthwise_block, shape, {}) for shape in (
        (6, 4, 2, 1), (3, 9, 3, 3), (5, 3, 5, 2), (1, 1, 1, 1), (4, 5, 1, 1), (1, 4, 1, 4))),
    *((depthwise_block, shape, {"dyadic": True}) for shape in ((6, 4, 3, 1), (3, 4, 3, 4))),
    *((depthwise_block, (3, 4, 3, 4), {"products": products}) for products in (Products.CONSTANTS, Products.MERGED)),
    (depthwise_block, (4, 3, 2, 1), {"products": Products.LOGIC}),
    (depthwise_block, (3, 9, 3, 3), {"products": Products.CASCADES}),
    *((window_block, shape, {"pads": pads}) for shape, pads in (
        ((3, 1, 1, 300, (3, 4), (3, 3)), (1, 1, 1, 1)), ((2, 2, 3, 40, (3, 3), (3, 3)), (1, 1, 1, 1)),
        ((1, 1, 9, 1, (3, 3), (3, 3)), (1, 1, 1, 1)), ((4, 2, 1, 99, (1, 7), (1, 5)), (0, 2, 0, 2)),
        ((3, 3, 1, 1, (1, 1), (3, 3)), (1, 1, 1, 1)), ((1, 1, 1, 1, (1, 1), (1, 1)), (0, 0, 0, 0)))),
    *((window_block, shape, {"stride": stride}) for shape, stride in (
        ((3, 3, 2, 32, (4, 4), (2, 2)), (2, 2)), ((2, 1, 1, 80, (5, 3), (2, 2)), (3, 1)),
        ((2, 2, 4, 1, (1, 9), (1, 4)), (1, 2)))),
    *((reverse_block, shape, {}) for shape in (
        (6, 2, 4), (5, 3, 4, 20), (1, 1, 4), (7, 7, 4, 12), (4, 4, 1), (5, 2, 1, 4), (3, 1, 2), (1, 1, 1))),
    *((smooth_block, shape, {}) for shape in ((6, 2, 3), (5, 3, 1), (1, 1, 7), (4, 4, 2))),
    *((smooth_block, (5, 2, 2), {"rounding": rounding}) for rounding in (Rounding.HALF_EVEN, Rounding.TRUNCATE)),
    *((lookup_block, shape, {}) for shape in ((11, 5, 2), (128, 3, 3), (2, 1, 1))),
]
"""Every block in several shapes: odd widths, one channel, lanes that do not divide, each folding, each rounding."""


def _name(make, shape, options) -> str:
    kind = make.__name__.removesuffix("_block")
    shown = {key: value for key, value in options.items() if key not in ("i", "o") and value is not False}
    values = [key if value is True else value for key, value in shown.items()]
    words = ["x".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in (*shape, *values)]
    return "-".join([kind, *words])


BLOCKS: dict[str, Callable[[], Spec]] = {_name(*case): partial(case[0], *case[1], **case[2]) for case in CASES}


def _circuit(make, shape, options) -> tuple:
    """What tells circuits apart but for their sizes, formats and rounding."""
    same = ("i", "o", "rounding", "epsilon", "relu", "pads", "stride", "tokens")
    return make, *((key, value) for key, value in options.items() if key not in same)


FIRST = list({_circuit(*case): name for case, name in reversed(list(zip(CASES, BLOCKS, strict=True)))}.values())[::-1]
"""The first shape of each circuit."""


def tokens_of(block: Spec, batch: int = 3, length: int = TOKENS) -> list[np.ndarray]:
    """What a bench feeds: random sequences of `length` tokens, then sequences that reach every part of a function."""
    inputs = list(block.inputs.values())
    length = block.tokens if block.op.whole else length
    tokens = [random_tokens(port, batch, length, seed=k) for k, port in enumerate(inputs)]
    special = list(_special(block.op))
    if not special:
        return tokens
    special += special[:1] * (-len(special) % length)
    return [np.concatenate([given, np.array(values).reshape(-1, length, port.width)])
            for given, values, port in zip(tokens, zip(*special, strict=True), inputs, strict=True)]


def _special(op) -> Iterator[tuple[np.ndarray, ...]]:
    """Tokens of every input: of norms R = 0, powers of two and the largest R, of functions both ends of every segment."""
    match op:
        case RangeNorm() | LayerNorm():
            places = np.arange(op.width)
            for value in (op.i.min, 0, op.i.max):
                yield (np.full(op.width, value),)
            yield (np.where(places % 2, op.i.max, op.i.min),)
            for k in range(op.i.bits):  # spreads next to powers of two
                for value in (min(1 << k, op.i.max), max(-1 << k, op.i.min)):
                    yield (np.where(places % op.channels == 0, value, 0),)
        case Attention():
            places = np.arange(op.channels)
            for q, k, v in product((op.q.min, 0, op.q.max), (op.k.min, op.k.max), (op.v.min, op.v.max)):
                yield np.full(op.channels, q), np.full(op.channels, k), np.where(places % 3, v, ~v)
            for step, t in product((3, 7, 12, 20, 33, 42), range(min(op.tokens, 4))):  # arguments of every size
                of_head = places % op.head_dim == 0
                yield np.where(of_head, 5**t, 0), np.where(of_head, op.k.max - step * t, 0), (places + t) * 37 % 128
        case Activation(segments=Segments()):
            ends = _ends(op.segments)
            for k in range(0, len(ends), op.channels):
                yield (np.resize(ends[k:k + op.channels], op.channels),)
        case Scan():
            every, states = codes(op.dt), op.groups * op.d_state
            pieces = np.searchsorted(op.decay.knots, op.read(every[:, None, None] * op.A), side="right")
            left = set(np.unique(pieces).tolist())
            while left:
                dt = np.zeros(op.heads, np.int64)
                for channel in range(op.heads):
                    if found := [k for k in range(len(every)) if left & set(pieces[k, channel].tolist())]:
                        dt[channel] = every[found[0]]
                        left -= set(pieces[found[0], channel].tolist())
                yield np.full(op.width, op.u.max), dt, np.full(states, op.B.max), np.full(states, op.C.max)


def _ends(segments: Segments) -> np.ndarray:
    """First and last code of every segment that acts."""
    knots = segments.knots
    ends = np.unique(np.concatenate([[segments.i.min, segments.i.max], knots - 1, knots]))
    return ends[(ends >= segments.i.min) & (ends <= segments.i.max)]
