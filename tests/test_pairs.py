"""Two products from one multiplier."""

import numpy as np
import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from emamba.base.formats import IntFormat
from rtl.kit import packing, pairs
from rtl.kit.block import Port
from rtl.kit.datapath import Pipeline
from sim.native import NativeSimulation

INT8 = IntFormat(8)
WEIGHTS = np.arange(-127, 128)


class Pair(wiring.Component):
    """Beats of low, high, x become beats of low·x, high·x."""

    def __init__(self):
        self.inputs, self.output = {"i": Port(INT8, 3, 3)}, Port(IntFormat(16), 2, 2)
        super().__init__({"i": In(self.inputs["i"].signature), "o": Out(self.output.signature)})

    def elaborate(self, platform):
        m = Module()
        pipeline = Pipeline(m, self.o)
        low, high, x = self.i.payload.data
        stored = Signal(signed(8))
        m.d.comb += [stored.eq(high - (low < 0)), self.i.ready.eq(pipeline.advance)]
        lanes = pairs.products(pipeline, low, stored, x, pairs.field_bits(WEIGHTS, INT8))
        pipeline.finish(lanes, self.i.payload.first, self.i.payload.last, self.i.valid, 1)
        return m


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return NativeSimulation(Pair(), tmp_path_factory.mktemp("native"))


@pytest.mark.parametrize("part", range(17))
def test_every_product_of_int8(pair, part):
    """All 255 · 255 · 256 combinations, in 17 parts."""
    low, high, x = (grid.ravel() for grid in np.meshgrid(WEIGHTS[part * 15:part * 15 + 15], WEIGHTS, np.arange(-128, 128)))
    tokens = np.stack([low, high, x], -1)[None]
    result = pair.run(packing.pack(pair.i, tokens))
    assert len(result.output) == 15 * 255 * 256
    np.testing.assert_array_equal(packing.unpack(pair.o, result.output), np.stack([low * x, high * x], -1))


def test_what_fits_one_multiplier():
    assert pairs.possible(WEIGHTS, INT8) and pairs.field_bits(WEIGHTS, INT8) == 15
    assert pairs.possible(WEIGHTS, IntFormat(12)) and pairs.field_bits(WEIGHTS, IntFormat(12)) == 19
    assert not pairs.possible(WEIGHTS, IntFormat(13))
    assert not pairs.possible(np.array([1]), IntFormat(18, False))
    assert pairs.possible(np.array([1]), IntFormat(18))
