"""Random operators of any shape, for tests."""

import numpy as np

from emamba.formats import IntFormat, Rounding
from emamba.operators import Activation, Add, Conv1d, Linear, Lookup, Multiply, Pool, RangeNorm, Scan
from emamba.piecewise import exact, fit

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


def range_norm(channels, i=I12, *, index_bits=8) -> RangeNorm:
    return RangeNorm(channels=channels, i=i, o=IntFormat(8, True, 7), index_bits=index_bits)


def activation(name, channels, *, i=I8, o=I8, table=False, segments=17) -> Activation:
    if table:
        return Activation(channels=channels, i=i, o=o, entries=exact(name, i, o))
    return Activation(channels=channels, i=i, o=o, segments=fit(name, i, o, segments))


def scan(rng, channels, states, *, delta_b=False, o=I12, rounding=Rounding.HALF_UP) -> Scan:
    dt, a, u, b = IntFormat(8, True, 8), IntFormat(8, True, 3), IntFormat(8, True, 5), IntFormat(8, True, 5)
    b_bar = IntFormat(8, True, 8) if delta_b else None
    h = IntFormat(17, True, b_bar.frac + u.frac if delta_b else 11)
    decay = fit("exp", IntFormat(16, True, dt.frac + a.frac), IntFormat(8, True, 7), 11)
    return Scan(
        o=o, rounding=rounding, A=-rng.integers(0, 128, (channels, states)), D=rng.integers(-127, 128, channels), u=u, dt=dt, B=b,
        C=IntFormat(8, True, 5), a=a, d=IntFormat(8, True, 6), decay=decay, h=h, h_wide=IntFormat(24, True, h.frac + 7),
        delta_b=delta_b, b_bar=b_bar,
    )


def multiply(channels) -> Multiply:
    return Multiply(channels=channels, a=I12, b=I8, o=IntFormat(12, True, 10))


def add(channels) -> Add:
    return Add(channels=channels, a=I12, b=IntFormat(8, True, 3), o=IntFormat(12, True, 7))


def pool(channels, tokens, *, mean=True) -> Pool:
    multiplier, shift = (1, 0) if not mean else (round(2**14 / tokens), 14)
    return Pool(channels=channels, i=I8, o=I8, mean=mean, tokens=tokens, multiplier=multiplier, shift=shift)


def lookup(rng, vocabulary, width) -> Lookup:
    return Lookup(table=rng.integers(-128, 128, (vocabulary, width)), i=IntFormat(7, False, 0), o=I8)
