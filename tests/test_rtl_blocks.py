# amaranth: UnusedElaboratable=no
"""Every block against its integer model and its schedule, in the Amaranth simulator."""

import numpy as np
import pytest
from blocks import check

from rtl.activation import Activation
from rtl.linear import Linear
from rtl.range_norm import RangeNorm
from rtl.streams import beats
from sim import cases
from sim.bench import random_tokens


@pytest.mark.parametrize("name", cases.BLOCKS)
def test_block(name):
    block = cases.BLOCKS[name]()
    check(block, *[random_tokens(port, 3, cases.TOKENS, seed=k) for k, port in enumerate(block.inputs.values())])


def test_linear_cycles():
    assert Linear(cases.linear(cases.rng(), 17, 5), 4, 2).cycles == beats(17, 4) * beats(5, 2) == 15


def test_range_norm_of_equal_channels_is_zero():
    block = RangeNorm(cases.range_norm(5), 2)
    assert not block.model(np.full((1, 3, 5), -2048)).any()
    check(block, np.full((1, 3, 5), -2048))


@pytest.mark.parametrize("name", ["silu", "softplus", "exp"])
@pytest.mark.parametrize("table", [False, True])
def test_activation_on_every_code(name, table):
    check(Activation(cases.activation(name, 4, table=table), 4), np.arange(-128, 128).reshape(1, 64, 4), stalls=(0.0, 0.3))
