"""Runs a block in the Amaranth simulator, or a whole model in a native one, against its integer model and its schedule."""

from pathlib import Path

import numpy as np

from emamba.artifact import Artifact
from emamba.run.integer import IntegerModel
from rtl.kit.block import Spec
from rtl.plan.schedule import Schedule
from sim import amaranth_bench
from sim.bench import bench
from sim.executor import RtlExecutor
from sim.models import random_inputs


def check(block: Spec, *tokens: np.ndarray, stalls: tuple[int, ...] = (0, 30, 70)) -> None:
    """The block equals its model under stalls, and its schedule at full speed, beat by beat."""
    amaranth_bench.run(bench(block, *tokens), type(block).__name__, [(percent, percent) for percent in stalls])


def check_model(artifact: Artifact, cycles: int, build: Path) -> Schedule:
    """The hardware of a model at `cycles` a token: values of every node, every beat in its cycle, high-water marks, stalls."""
    rtl = RtlExecutor(artifact, cycles, build, trace=True, fast=False)
    schedule = rtl.schedule
    until_full = schedule.latency // schedule.cycles_per_frame + 3
    integers = artifact.codec.encode(random_inputs(artifact.config, until_full), artifact.input)
    expected = IntegerModel(artifact).run(integers)
    assert all(np.array_equal(value, expected[name]) for name, value in rtl.run(integers).items())
    result = rtl.last
    assert (result.output_cycles - result.first_input).tolist() == schedule.timetable(until_full)
    assert result.peaks == {queue.name: queue.peak for queue in schedule.queues()}
    for seed, percent in ((1, 30), (2, 75)):
        assert np.array_equal(rtl.answer(integers, stall_seed=seed, stall_percent=percent), expected["head"])
    return schedule
