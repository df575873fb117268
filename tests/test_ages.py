"""Every circuit joins values of one beat only, and its results come when its block says."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from emamba.artifact import load
from rtl.blocks.elementwise import Multiply
from rtl.kit import ages
from rtl.kit.datapath import Pipeline
from rtl.plan.schedule import Schedule
from sim.cases import BLOCKS

pytestmark = pytest.mark.quick

PLANTED = ["linear-20-6-20-2", "conv1d-5-3-2-2", "scan-5-4-2-2", "head_scan-12-4-2-3-3-2", "range_norm-17-4-12",
           "attention-12-4-6"]


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks(name):
    ages.check(BLOCKS[name]())


@pytest.mark.parametrize("cycles", [20, 1280])
@pytest.mark.parametrize("name", ["mars", "japanese_vowels_mamba2"])
def test_shipped(name, cycles):
    for spec in Schedule(load(Path("models") / name), cycles).blocks.values():
        ages.check(spec)


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("more", [-1, 1])
def test_a_step_more_or_less_is_found(name, more, monkeypatch):
    """Of the registers before the largest product."""
    real, spec = Pipeline.register, BLOCKS[name]()
    planted = []

    def register(self, value, name, stages=1, shape=None):
        if name in ("product", "dub", "qk", "x", "tap", "n") and not planted:
            planted.append(name)
            stages += more
        return real(self, value, name, stages, shape)

    monkeypatch.setattr(Pipeline, "register", register)
    with pytest.raises(ages.Misaligned, match="steps older than"):
        ages.check(spec)
    assert planted


def test_a_wrong_latency_is_found():
    @dataclass(frozen=True)
    class Late(Multiply):
        latency = 4

    block = BLOCKS["multiply-6-2"]()
    with pytest.raises(ages.Misaligned, match=r"is 3 steps older than the beat, not 4"):
        ages.check(Late(block.op, block.lanes))
