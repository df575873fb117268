"""Benches of whole small models: the accelerator against the integer model and the timetable."""

import pytest

from emamba.run.integer import IntegerModel
from rtl.plan.accelerator import Accelerator
from rtl.plan.schedule import Schedule

from .bench import bench
from .models import random_artifact, random_inputs

pytestmark = pytest.mark.slow

ONLY = {"icarus": r"full_speed|random_stalls/.*rates=1|reset_in_traffic/.*rates=2"}
"""One test of each kind: Icarus takes ten times as long as Verilator, and runs all tests of every block."""
CASES = [("emamba-image", 19), ("standard-sequence", 18), ("emamba-per-token", 9), ("standard-one-channel", 2)]


@pytest.mark.parametrize("shape, cycles_per_token", CASES)
def test_model(shape, cycles_per_token, simulators, build_dir):
    artifact = random_artifact(shape)
    schedule = Schedule(artifact, cycles_per_token)
    tokens = artifact.codec.encode(random_inputs(artifact.config, 3), artifact.input)
    model = IntegerModel(artifact)
    bench(
        Accelerator(schedule), tokens,
        model=lambda tokens: model.answer(tokens),
        schedule=lambda arrivals: (None, schedule.timetable(len(tokens))),
    ).run(f"model-{shape}-{cycles_per_token}", simulators, build_dir, ONLY)
