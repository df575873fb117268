"""Sums in the adders of DSP48E2s."""

from dataclasses import replace

import numpy as np
import pytest
from blocks import check

from emamba.base.errors import SettingError
from emamba.base.formats import IntFormat, Rounding
from rtl.blocks.linear import Linear
from rtl.kit import cascade
from rtl.kit.datapath import Products
from rtl.plan import devices
from rtl.plan.planner import Request, plan
from sim import cases

INT8 = IntFormat(8)


@pytest.mark.parametrize("accumulates", [False, True])
@pytest.mark.parametrize("terms", [*range(1, 20), 64])
def test_links(terms, accumulates):
    """Every sum goes into one other, a step later; the last one has all of them, after as many steps as levels."""
    links = cascade.links(terms, accumulates)
    read = [place for link in links for place in (link.below, link.beside) if place is not None]
    assert len(links) == terms and sorted(read) == list(range(terms - 1))
    assert all(links[place].skew == link.skew - 1 for link in links for place in (link.below, link.beside) if place is not None)
    assert links[0].skew == 0 and links[0].beside is None and (not accumulates or links[-1].beside is None)
    assert cascade.steps(links) == 1 + accumulates + (terms - accumulates).bit_length()


def test_what_fits():
    assert cascade.possible(INT8, IntFormat(18), 48) and not cascade.possible(INT8, IntFormat(18, False), 48)
    assert not cascade.possible(INT8, INT8, 49)
    assert cascade.both_fit(INT8, INT8, 19) and not cascade.both_fit(INT8, INT8, 20)
    assert cascade.both_fit(IntFormat(3), INT8, 24) and not cascade.both_fit(IntFormat(2), INT8, 25)


@pytest.mark.parametrize("bias", [511, -511])
@pytest.mark.parametrize("in_lanes, lanes", [(4, 2), (2, 4)])
def test_sums_at_the_bound(in_lanes, lanes, bias):
    """The lower sum of a pair takes all values that its bits hold, beside any upper one."""
    weight = 127 * np.array([[1, 1, 1, 1], [1, 1, -1, -1], [-1, -1, -1, -1], [1, -1, 1, -1]])
    op = replace(cases.linear(cases.rng(), 4, 4), weight=weight, bias=np.full(4, bias), shift=0,
                 rounding=Rounding.TRUNCATE, o=IntFormat(18))
    block = Linear(op, in_lanes, lanes, Products.CASCADES)
    assert block.paired and block.links and op.bound == (1 << 16) - 1 and block.shape.width == 17
    tokens = np.array(np.meshgrid(*[[-128, 127]] * 4)).reshape(4, -1).T[None]
    check(block, tokens, stalls=(0, 30))


def test_a_device_without():
    with pytest.raises(SettingError, match=r"--products cascades are for the DSP48E2 of UltraScale\+, which ulx3s-85f lacks"):
        plan(None, Request(device=devices.find("ulx3s-85f"), realization={"products": Products.CASCADES}))
