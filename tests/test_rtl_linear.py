import numpy as np
import pytest
from blocks import check, random_tokens
from operators import linear

from emamba.formats import IntFormat, Rounding
from rtl.linear import Linear


@pytest.mark.parametrize("inputs, outputs, in_lanes, out_lanes", [
    (20, 6, 20, 2), (5, 7, 1, 7), (17, 5, 4, 2), (1, 1, 1, 1), (3, 4, 1, 1), (9, 3, 9, 3),
])
@pytest.mark.parametrize("dyadic", [False, True])
def test_linear(inputs, outputs, in_lanes, out_lanes, dyadic):
    rng = np.random.default_rng(inputs)
    block = Linear(linear(rng, inputs, outputs, dyadic=dyadic), in_lanes, out_lanes)
    check(block, random_tokens(rng, block.inputs["i"], 2, 3))


@pytest.mark.parametrize("rounding", Rounding)
def test_linear_roundings_and_relu(rounding):
    rng = np.random.default_rng(1)
    block = Linear(linear(rng, 4, 3, relu=True, i=IntFormat(12, True, 8), o=IntFormat(7, False, 5), rounding=rounding), 2, 3)
    check(block, random_tokens(rng, block.inputs["i"], 1, 8))
