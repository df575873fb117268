"""Every block against its integer model and its schedule, in the Amaranth simulator."""

import numpy as np
import operators as make
import pytest
from blocks import check, random_tokens

from emamba.formats import IntFormat, Rounding
from rtl.activation import Activation
from rtl.conv1d import Conv1d
from rtl.elementwise import Add, Multiply
from rtl.linear import Linear
from rtl.lookup import Lookup
from rtl.pool import Pool
from rtl.range_norm import RangeNorm
from rtl.scan import Scan
from rtl.streams import beats


def rng(seed=0):
    return np.random.default_rng(seed)


def run(block, batch=2, length=3):
    r = rng(7)
    check(block, *[random_tokens(r, port, batch, length) for port in block.inputs.values()])


@pytest.mark.parametrize("inputs, outputs, in_lanes, out_lanes", [
    (20, 6, 20, 2), (5, 7, 1, 7), (17, 5, 4, 2), (1, 1, 1, 1), (3, 4, 1, 1), (9, 3, 9, 3), (65, 2, 65, 2),
])
@pytest.mark.parametrize("dyadic", [False, True])
def test_linear(inputs, outputs, in_lanes, out_lanes, dyadic):
    block = Linear(make.linear(rng(), inputs, outputs, dyadic=dyadic), in_lanes, out_lanes)
    assert block.cycles == beats(inputs, in_lanes) * beats(outputs, out_lanes)
    run(block)


@pytest.mark.parametrize("rounding", Rounding)
def test_linear_rounding_and_relu(rounding):
    op = make.linear(rng(1), 4, 3, relu=True, i=IntFormat(12, True, 8), o=IntFormat(7, False, 5), rounding=rounding)
    run(Linear(op, 2, 3), 1, 8)


@pytest.mark.parametrize("channels, taps, lanes", [(8, 4, 2), (5, 3, 2), (3, 1, 1), (4, 2, 4), (1, 7, 1)])
@pytest.mark.parametrize("dyadic", [False, True])
def test_conv1d(channels, taps, lanes, dyadic):
    run(Conv1d(make.conv1d(rng(), channels, taps, dyadic=dyadic), lanes), 3, 6)


@pytest.mark.parametrize("channels, lanes", [(20, 1), (20, 20), (17, 4), (1, 1), (5, 2), (3, 8)])
@pytest.mark.parametrize("i", [IntFormat(8, True, 5), IntFormat(12, True, 9)])
def test_range_norm(channels, lanes, i):
    run(RangeNorm(make.range_norm(channels, i), min(lanes, channels)), 3, 4)


def test_range_norm_of_equal_channels_is_zero():
    block = RangeNorm(make.range_norm(5), 2)
    check(block, np.full((1, 3, 5), -2048))


@pytest.mark.parametrize("name, o", [("silu", make.I8), ("softplus", IntFormat(8, True, 4)), ("exp", IntFormat(8, True, 7))])
@pytest.mark.parametrize("table", [False, True])
def test_activation_on_every_code(name, o, table):
    op = make.activation(name, 4, o=o, table=table)
    check(Activation(op, 4), np.arange(-128, 128).reshape(1, 64, 4))


@pytest.mark.parametrize("channels, states, lanes, state_lanes", [
    (4, 3, 1, 3), (5, 4, 2, 2), (3, 5, 3, 2), (2, 3, 2, 3), (1, 1, 1, 1), (4, 8, 2, 8), (3, 3, 1, 1),
])
@pytest.mark.parametrize("delta_b", [False, True])
def test_scan(channels, states, lanes, state_lanes, delta_b):
    run(Scan(make.scan(rng(), channels, states, delta_b=delta_b), lanes, state_lanes), 2, 6)


@pytest.mark.parametrize("channels, lanes", [(6, 2), (5, 3), (1, 1)])
def test_multiply_and_add(channels, lanes):
    run(Multiply(make.multiply(channels), lanes))
    run(Add(make.add(channels), lanes))


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("channels, lanes, tokens", [(6, 2, 4), (5, 5, 3), (3, 1, 1)])
def test_pool(channels, lanes, tokens, mean):
    run(Pool(make.pool(channels, tokens, mean=mean), lanes, tokens), 3, tokens)


@pytest.mark.parametrize("vocabulary, width, lanes", [(11, 5, 2), (128, 3, 3), (2, 1, 1)])
def test_lookup(vocabulary, width, lanes):
    run(Lookup(make.lookup(rng(), vocabulary, width), lanes), 2, 7)
