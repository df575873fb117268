"""Benches of whole small models: the accelerator of either organization against the integer model and the timetable."""

import pytest

from emamba.run.integer import IntegerModel
from rtl.engine.machine import Machine
from rtl.engine.schedule import EngineSchedule
from rtl.kit.datapath import Products
from rtl.plan.accelerator import accelerator
from rtl.plan.schedule import Realization, Schedule

from .bench import bench
from .models import random_artifact, random_inputs

pytestmark = pytest.mark.slow

ONLY = {"icarus": r"full_speed|random_stalls/.*rates=1|reset_in_traffic/.*rates=1"}
"""One test of each kind: Icarus takes ten times as long as Verilator, and runs all tests of every block."""
CASCADES = Realization(Products.CASCADES, own=frozenset({("block0.B", Products.CONSTANTS)}))
CASES = [("emamba-layer-norm", Schedule, 19), ("standard-rms-norm", Schedule, 9, CASCADES),
         ("emamba-per-token", Schedule, 9, Realization(registers=True)), ("emamba-per-token", EngineSchedule, Machine(5))]


@pytest.mark.parametrize("shape, kind, design", [(shape, kind, design) for shape, kind, *design in CASES])
def test_model(shape, kind, design, simulators, build_dir):
    artifact = random_artifact(shape)
    schedule = kind(artifact, *design)
    tokens = artifact.codec.encode(random_inputs(artifact.config, 3), artifact.input)
    model = IntegerModel(artifact)
    bench(
        accelerator(schedule), tokens,
        model=lambda tokens: model.answer(tokens),
        schedule=lambda arrivals: (None, [schedule.start + cycle for cycle in schedule.timetable(len(tokens))]),
    ).run(f"model-{shape}-{schedule.period}", simulators, build_dir, ONLY)
