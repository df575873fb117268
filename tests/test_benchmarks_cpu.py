"""The plain C loop of the benchmarks is the integer model: every head's integers, of twelve shapes, of wide types, of MARS."""

import shutil

import numpy as np
import pytest

from benchmarks import cpu, integer
from benchmarks.integer import IntegerLoop
from emamba import datasets
from emamba.artifact import load
from emamba.datasets.tokens import to_tokens
from emamba.errors import EmambaError
from emamba.integer import IntegerModel
from sim.models import SHAPES, random_artifact, random_inputs

SETTINGS = {
    "emamba-odd": {"weight_scale": "dyadic", "rounding": "half_even"},
    "emamba-three-blocks": {"residual_bits": 8, "input_term": "delta_b", "rule": "chord"},
    "standard-image": {"rule": "exact", "rounding": "truncate"},
    "standard-tokens": {"activation_bits": 6, "weight_bits": 5, "state_scale": "calibrated", "state_bits": 16},
}
WIDE = [
    ("emamba-three-blocks", {"state_bits": 40, "hold": False, "rounding": "half_even"}, "STATE"),
    ("emamba-odd", {"input_term": "delta_b", "state_bits": 40, "weight_scale": "dyadic", "rounding": "truncate"}, "STATE"),
    ("standard-image", {"activation_bits": 14, "residual_bits": 16, "output_bits": 24, "weight_bits": 12, "bits": {"*.dt": 8}},
     "SUM"),
]
"""What needs 64 bits, and where."""


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    return tmp_path_factory.mktemp("cpu")


def check(artifact, build, tokens):
    integers = artifact.codec.encode(tokens, artifact.input)
    expected = IntegerModel(artifact).run(integers, ["head"])["head"]
    loop = IntegerLoop(artifact, build)
    np.testing.assert_array_equal(loop.run(integers), expected)
    np.testing.assert_array_equal(loop.run(integers[:1]), expected[:1])
    assert len(np.unique(expected)) > 1
    return loop


@pytest.mark.parametrize("shape", SHAPES)
def test_shape(shape, build):
    artifact = random_artifact(shape, **SETTINGS.get(shape, {}))
    check(artifact, build, random_inputs(artifact.config, 12, seed=5))


@pytest.mark.parametrize("shape, settings, kind", WIDE)
def test_wide(shape, settings, kind, build):
    artifact = random_artifact(shape, **settings)
    loop = check(artifact, build, random_inputs(artifact.config, 12, seed=5))
    assert loop.types[kind] == "int64"


def test_mars(build):
    artifact = load("models/mars")
    frames = to_tokens(datasets.load("mars", "official").x_test[:20], artifact.config)
    loop = check(artifact, build, frames.astype(np.float64))
    assert set(loop.types.values()) == {"int32"}


def test_limits_of_every_format(build):
    """Inputs at both ends of their format, where everything saturates that can."""
    artifact = random_artifact("emamba-image")
    ends = np.random.default_rng(1).choice([artifact.input.min, artifact.input.max], (50, 4, artifact.config.input_width))
    np.testing.assert_array_equal(IntegerLoop(artifact, build).run(ends), IntegerModel(artifact).run(ends)["head"])


def test_refusals(build, monkeypatch):
    artifact = random_artifact("emamba-image")
    with pytest.raises(EmambaError, match=r"the C loop reads \[sequences, 4, 12\]"):
        IntegerLoop(artifact, build).run(np.zeros((1, 5, 12), np.int64))
    monkeypatch.setattr(integer, "LARGEST_TABLE", 100)
    with pytest.raises(EmambaError, match="use fewer bits for dt"):
        IntegerLoop(artifact, build)
    monkeypatch.setattr(shutil, "which", lambda command: None)
    with pytest.raises(EmambaError, match="needs the C compiler cc"):
        IntegerLoop(artifact, build)


def test_table():
    candidate = cpu.Candidate("plain C", 1, 1, len, ["frame", "frame"], 1, {"mismatches": 0})
    candidate.repeat()
    row = candidate.row()
    assert row["us_per_frame"] > 0 and row["frames_per_second"] > 0
    result = {"machine": {"cpu": "a CPU", "cores": 4}, "frames": 1000,
              "rows": [row | {"us_per_frame": 1234.56, "frames_per_second": 810}]}
    assert "a CPU, 4 cores; 1,000 MARS frames" in cpu.table(result)[2]
    assert cpu.table(result)[-1] == "| plain C | 1 | 1 | 1,234.6 | 810 | 0 |"
