"""Whole models of many shapes and all forms on the Verilated design: every trace key, timing, stalls, resets."""

from types import SimpleNamespace

import numpy as np
import pytest

from emamba.run.integer import IntegerModel
from rtl.kit import packing
from rtl.plan.accelerator import Accelerator
from rtl.plan.schedule import Schedule
from sim.models import SHAPES, random_artifact, random_inputs
from sim.native import NativeSimulation

pytestmark = pytest.mark.slow

CYCLES = dict(zip(SHAPES, (25, 83, 30, 21, 24, 27, 4, 1, 1, 9, 15, 5, 47, 17, 15, 16, 24), strict=True))
SETTINGS = {
    "emamba-odd": {"weight_scale": "dyadic", "rounding": "half_even"},
    "emamba-three-blocks": {"residual_bits": 8, "input_term": "delta_b", "rule": "chord"},
    "standard-image": {"rule": "exact", "rounding": "truncate"},
    "standard-tokens": {"activation_bits": 6, "weight_bits": 5, "state_scale": "calibrated", "state_bits": 16},
}


RESTING = set(list(SHAPES)[::2])
"""Whose blocks stand still where nothing is in them, as on a chip."""
BENCHED = {"emamba-layer-norm", "standard-rms-norm"}
"""Which `sim.test_models` runs on both simulators."""
ALIKE = {"standard-sequence", "emamba-image"}
"""Of the nodes of `standard-thousand` and `emamba-odd`; `standard-image` has the input of an image."""


@pytest.fixture(scope="session", params=[shape for shape in SHAPES if shape not in BENCHED | ALIKE])
def design(request, tmp_path_factory):
    artifact = random_artifact(request.param, **SETTINGS.get(request.param, {}))
    schedule = Schedule(artifact, CYCLES[request.param])
    simulation = NativeSimulation(Accelerator(schedule, trace=True), tmp_path_factory.mktemp("native"), fast=False,
                                  platform=SimpleNamespace(rests=request.param in RESTING))
    return artifact, schedule, simulation


def inputs(artifact, batch):
    return artifact.codec.encode(random_inputs(artifact.config, batch, seed=5), artifact.input)


def test_every_trace_key_equals_the_integer_model(design):
    artifact, schedule, simulation = design
    tokens = inputs(artifact, 5)
    result = simulation.run(packing.pack(schedule.input, tokens))
    expected = IntegerModel(artifact).run(tokens)
    assert set(simulation.trace) == set(schedule.blocks)
    for name, port in simulation.trace.items():
        values = packing.unpack(port, result.traces[name]).reshape(expected[name].shape)
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def test_timing_is_the_schedule(design):
    artifact, schedule, simulation = design
    result = simulation.run(packing.pack(schedule.input, inputs(artifact, 4)))
    cycles = result.output_cycles - result.first_input
    assert cycles.tolist() == schedule.timetable(4)
    frame = len(cycles) // 4
    assert cycles[frame - 1] == schedule.latency
    assert (np.diff(cycles[frame - 1::frame]) == schedule.cycles_per_frame).all()


def test_fifo_depths_are_what_the_timetable_needs(design):
    artifact, schedule, simulation = design
    until_full = schedule.latency // schedule.cycles_per_frame + 3
    result = simulation.run(packing.pack(schedule.input, inputs(artifact, until_full)))
    for queue in schedule.queues():
        assert result.peaks[queue.name] == queue.peak <= queue.depth <= queue.peak + 1, queue.name


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cycles_per_token", [1, 2, 5, 13, 64])
def test_no_deadlock_by_a_shallow_fifo(shape, cycles_per_token):
    """Where a branch needs a whole token before it gives the first beat, the FIFO beside it holds a whole token: then the
    branch is never starved by a fork that waits for that FIFO."""
    schedule = Schedule(random_artifact(shape), cycles_per_token)
    edges = {(edge.source, edge.sink): edge for output in schedule.outputs.values() for edge in output.edges}
    beside = {"residual": ("embed", "residual", "placed"), "gate": ("silu",), "y": ("conv", "u")}
    bypasses = [edge for (source, sink), edge in edges.items()
                if source.rsplit(".", 1)[-1] in beside.get(sink.rsplit(".", 1)[-1], ())]
    assert bypasses
    for edge in bypasses:
        assert edge.queue.depth >= edge.queue.port.beats, edge.queue.name


@pytest.mark.parametrize("percent", [25, 75])
def test_stalls_change_nothing(design, percent):
    artifact, schedule, simulation = design
    tokens = inputs(artifact, 3)
    result = simulation.run(packing.pack(schedule.input, tokens), stall_seed=percent, stall_percent=percent)
    expected = IntegerModel(artifact).answer(tokens)
    np.testing.assert_array_equal(packing.unpack(schedule.output, result.output).reshape(expected.shape), expected)


def test_no_state_leaks(design):
    """Each sequence gives what it gives alone, in a row and after a reset in the middle of a sequence."""
    artifact, schedule, simulation = design
    tokens = inputs(artifact, 2)
    alone = [simulation.run(packing.pack(schedule.input, tokens[k:k + 1])).output for k in range(2)]
    together = simulation.run(packing.pack(schedule.input, tokens)).output
    np.testing.assert_array_equal(together, np.concatenate(alone))
    middle = schedule.latency // 2 + 1
    after = simulation.run(packing.pack(schedule.input, tokens), reset_at=middle, resume_beat=artifact.config.tokens
                           * schedule.input.beats)
    np.testing.assert_array_equal(after.output, alone[1])
