"""A short form of sections of `make verify`, and that each planted fault is caught."""

import random
import re
from pathlib import Path

import numpy as np
import pytest

from emamba.artifact import load
from emamba.base.formats import IntFormat, Rounding
from emamba.ops import Scan
from emamba.piecewise import codes, fit
from rtl.blocks.activation import rounded_offsets
from sim import cases
from sim.models import random_artifact
from verify import (
    arithmetic,
    certificate,
    coverage,
    depths,
    equality,
    faults,
    fuzz,
    judge,
    miter,
    mutants,
    planted,
    states,
    targets,
    upsets,
)
from verify.block_rules import rules
from verify.plant import plant
from verify.prove import prove
from verify.stream_rules import primitives

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
INT8 = IntFormat(8)


@pytest.fixture(scope="module")
def mars():
    return load(ROOT / "models" / "mars")


@pytest.mark.parametrize("name", [
    "Fifo depth 1, order", "Fifo depth 3 through, order", "Fork to 3, order", "Gearbox of 5 channels, 2 to 3 lanes, order",
    "Pacer of 3 beats each 5 cycles, order", "Fifo depth 2 through, progress", "Gearbox of 5 channels, 3 to 2 lanes, progress",
])
def test_streams(name):
    assert prove(primitives()[name]).result == "proven"


@pytest.mark.parametrize("name, fair", [("multiply-1-1", False), ("linear-1-1-1-1", False), ("pool-5-3-True", False),
                                        ("multiply-1-1", True)])
def test_blocks(name, fair):
    assert prove(rules(cases.BLOCKS[name](), fair)).result == "proven"


def test_definitions():
    for rounding in Rounding:
        assert prove(equality.Requantizer(12, 3, rounding, INT8)).result == "proven"
    small = IntFormat(6, True, 4)
    assert prove(equality.PiecewiseLinear(fit("silu", small, small, 5))).result == "proven"
    assert prove(equality.PackedProduct(3)).result == "proven"


@pytest.mark.parametrize("fault", [
    "lost beat: a full FIFO takes one", "doubled beat: a fork offers a beat again", "stale state: a fork's flags outlive a reset",
    "stale state: a scan goes on where the last sequence ended",
    "wrong FIFO depth: pointers wrap one late", "wrong FIFO depth: every FIFO of the schedule one less",
    "off-by-one segment: a knot one code later", "wrong rounding: half down", "missing saturation: none",
    "a bound of the state one step too low",
])
def test_planted(fault, mars):
    _, caught = planted.faults(mars)[fault]
    assert caught()


def chained(a: int, b: int, c: int) -> int:
    return (a & b  # however it is written
            & c | a)


def test_plant():
    """It finds an expression, or operands of a chain, and refuses what is not there once."""
    assert chained(6, 3, 1) == 6
    assert plant(chained, "c & a", "c")(6, 3, 1) == 7 and plant(chained, "a & b & c", "8")(6, 3, 1) == 14
    for missing in ("a", "a & d", "a ^ b"):
        with pytest.raises(AssertionError, match=r"occurs [02] times in chained"):
            plant(chained, missing, "0")


def test_certificate(mars):
    for name, op in mars.operators.items():
        if isinstance(op, Scan):
            found = certificate.check(op)
            assert found["holds"] and found["widest"] == found["bound"], name


@pytest.mark.parametrize("cycles_per_token", [1, 20])
def test_depths(mars, cycles_per_token):
    found = depths.check(mars, cycles_per_token)
    assert found["fifos"] >= 40 and not found["shallow"] and not found["loose"]


def test_proofs_of_mutants():
    made = mutants.mutated(targets.BLOCKS["add"](), 5)
    cell = re.search(r"module .top\.block\n.*?cell .reduce_or (\S+)", made.rtlil, re.S)[1]
    made.kinds.append(f"-mode cnot1 -module top.block -cell {cell} -port A -portbit 1 -ctrlbit 0")  # (b ^ a) | a = b | a
    for strap, kind in enumerate(made.kinds, 1):
        if "-module top.block " in kind:
            assert miter.same(made, strap, "top.block", 20, free=False) is (strap == len(made.kinds)), kind


EXPLAINED = {
    "inv top.block.state_1 offset_1 mux#43201f94 A[3]": (1, {"offset": lambda x: x ^ 1 << 3}),
    "inv top.block.state_2 rounded add#87b91bdc B[2]": (2, {"offset": lambda x: x ^ 1 << 2}),
}
"""Mutants in a scan's lanes: the lane, and what they change."""


def test_explained_mutants():
    """Ā of every δ·A that the lane gets is the same with the bit that the mutant changes."""
    op, rows = (scan := targets.BLOCKS["scan"]().block).op, scan.constants()["A"][0]

    def changed(lane, offset=lambda x: x, total=lambda x: x):
        seg = op.decay
        p = np.multiply.outer(codes(op.dt), rows[:, lane]).ravel()
        segment, (offsets, _) = np.searchsorted(seg.knots, p, side="right"), rounded_offsets(seg.offsets, seg.shift, seg.rounding)
        found = total(p * seg.slopes[segment] + offset(np.asarray(offsets)[segment]))
        return int((np.clip(found >> seg.shift, seg.o.min, seg.o.max) != seg(p)).sum())

    assert set(EXPLAINED) == set(judge.EQUAL["scan"])
    for lane, parts in EXPLAINED.values():
        assert changed(lane) == changed(lane, **parts) == 0
    assert changed(3, total=lambda x: x ^ 1 << 15)


def test_arithmetic():
    arithmetic.check(arithmetic.arithmetic)
    chosen = random.Random(0).sample(arithmetic.mutants(), 30)
    assert sum(arithmetic.killed(tree) for _, tree in chosen) >= 27  # some change nothing


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_fuzz(kind):
    found = fuzz.fuzz(kind, 150)
    assert found["faults"] == [] and found["refused"] > 50 and found["loaded"] > 5


def test_fuzz_tells_a_fault(monkeypatch):
    monkeypatch.setattr(fuzz, "validate", lambda *_: 1 / 0)
    fault, = fuzz.fuzz("configurations", 60)["faults"]
    assert fault.startswith("batch from case 0: ZeroDivisionError in ")


def test_every_state_of_a_controller():
    for component in (states.primitives()["FIFO"](), cases.BLOCKS["pool-5-3-True"]().build(),
                      cases.BLOCKS["add-5-3"]().build()):
        found = states.walk(component, 1500)
        assert found.proof.result == "proven" and found.points >= 28


def test_points_of_function():
    assert all((count > 0) is wanted for count, wanted in coverage.points().values())


def test_parity_counts_every_wrong_answer():
    found = upsets.run(8)
    assert found["wrong"] and not found["wrong unseen"] and not found["wrong later"]


def test_no_x_after_a_reset():
    found = faults.undefined(random_artifact(targets.TINY, targets.TINY_SEED), 2)
    assert found["beats"] and found["right"] and not found["undefined"]
