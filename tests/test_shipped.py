"""The shipped artifacts: all in full in the integer model and a sample of each in hardware, MARS in full in hardware too."""

import json
from pathlib import Path

import numpy as np
import pytest

from emamba import datasets
from emamba.artifact import load, of_length
from emamba.datasets.tokens import executor_tokens
from emamba.run.integer import IntegerModel, answers
from flow.cli import main
from flow.compare import compare
from rtl.kit import packing
from rtl.plan.planner import Request, plan
from sim.executor import RtlExecutor

pytestmark = pytest.mark.slow

MODELS = Path("models")
NAMES = sorted(path.parent.name for path in MODELS.glob("*/manifest.json"))
BASELINES = sorted(f"baselines/{path.parent.name}" for path in MODELS.glob("baselines/*/manifest.json"))
"""What `mars` is compared with; no sample of them runs in hardware."""
NO_LICENCE = {"cifar10"}
"""Data sets that cannot ship: of their artifacts, only the golden sequences are known here."""
ALIKE = {"cifar10", "mars", "mars_best", "mars_grid", "mars_int8", "mars_layer", "mars_mamba2", "mars_random",
         "mars_random_int8", "mars_rms", "mars_small", "japanese_vowels", "radhar", "radhar_stream", "shakespeare"}
"""Of the form of another one, such as `mars`, `mars_stream`, `fashion_mnist` or `japanese_vowels_mamba2`, or with a norm that
`test_models` has: their sample is not built again. `mars` itself runs in full."""
MULTIPLIERS = 100
"""Of the sample's designs, which are built fast."""
SEQUENCES = 2
"""Of a sample in hardware: the second begins where the first has left its state."""
LONG, FIRST = 100, 6
"""Tokens from which sequences run for long, and so many of theirs."""
MARS = "models/mars"
BUILD = Path("build/native")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NO_LICENCE])
def test_integer_figures_are_those_recorded(name, tmp_path):
    result, artifact = tmp_path / "evaluate.json", load(MODELS / name)
    assert main(["evaluate", str(MODELS / name), "--data", "data", "--json", str(result)]) == 0
    report = json.loads(result.read_text())
    assert report["figures"] == artifact.record["figures"]["int"]
    assert artifact.record["figures"]["note"].endswith(f"; {report['samples']} test sequences")


@pytest.mark.parametrize("name", NAMES + BASELINES)
def test_the_integer_model_gives_the_recorded_answers(name):
    artifact = load(MODELS / name)
    assert answers(artifact, np.array(artifact.record["golden"])) == artifact.record["answers"]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ALIKE])
def test_rtl_equals_the_integer_model(name):
    artifact = load(MODELS / name)
    golden = np.array(artifact.record["golden"])[:SEQUENCES]
    if artifact.graph.length > LONG and not artifact.graph.pooled:  # of a model that answers each token, the first ones alone
        artifact, golden = of_length(artifact, FIRST), golden[:1, :FIRST]
    cycles = plan(artifact, Request(multipliers=MULTIPLIERS)).schedule.period
    rtl = RtlExecutor(artifact, cycles, BUILD, trace=True, fast=False)
    expected, found = IntegerModel(artifact).run(golden), rtl.run(golden)
    assert set(found) == set(expected) - {"input"}
    for key, values in found.items():
        np.testing.assert_array_equal(values, expected[key], err_msg=key)


@pytest.fixture(scope="module")
def rtl():
    """The design that `emamba compare` builds."""
    return RtlExecutor(load(MARS), 20, trace=True)


def test_rtl_equals_the_integer_model_on_every_test_frame(rtl):
    found = compare(rtl.artifact, ("int", "rtl"), (IntegerModel(rtl.artifact).run, rtl.run), frames(rtl.artifact, None))
    assert (found.frames, found.mismatches) == (7984, 0)
    assert set(found.keys) == set(rtl.schedule.blocks)
    assert all(key.values and not key.mismatches for key in found.keys.values())


def frames(artifact, count):
    x = datasets.load("mars", "official").x_test[:count]
    return artifact.codec.encode(executor_tokens(x, artifact.config), artifact.input)


def test_cycles(rtl):
    rtl.run(frames(rtl.artifact, 5), ["head"])
    cycles = (rtl.last.output_cycles - rtl.last.first_input).tolist()
    assert cycles == rtl.schedule.timetable(5)
    leaves = cycles[rtl.schedule.output.beats - 1::rtl.schedule.output.beats]
    assert np.diff(leaves).tolist() == [320] * 4 and rtl.schedule.cycles_per_frame == 320
    assert leaves[0] == rtl.schedule.latency == 558


def test_frames_do_not_see_each_other(rtl):
    two = frames(rtl.artifact, 2)
    alone = [rtl.answer(two[k:k + 1])[0] for k in range(2)]
    np.testing.assert_array_equal(rtl.answer(two), alone)
    np.testing.assert_array_equal(rtl.run(two, ["head"], stall_seed=1, stall_percent=30)["head"], alone)


@pytest.mark.parametrize("cycle", [7, 200, 350, 600])
def test_a_frame_after_a_reset_is_as_if_alone(rtl, cycle):
    two = frames(rtl.artifact, 2)
    alone = rtl.answer(two[1:])
    beats = rtl.artifact.config.tokens * rtl.schedule.input.beats
    result = rtl.simulation.run(packing.pack(rtl.schedule.input, two), reset_at=cycle, resume_beat=beats)
    np.testing.assert_array_equal(packing.unpack(rtl.schedule.output, result.output), alone[0])
