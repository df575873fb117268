"""Benches of the AXI system: the driver, unchanged, against the design on every simulator."""

import pytest

from rtl.plan.loads import envelope
from rtl.plan.schedule import Schedule
from rtl.system.system import Options, System

from . import system_bench
from .small import artifact_of, frames_of, other

pytestmark = pytest.mark.slow

SMALL = {"d_model": 2, "norm": "none"}
"""What is inside matters little here, and costs an event-driven simulator most of its time."""


def build(name, build_dir, cycles_per_token, options, **changes):
    folder = system_bench.bench_folder(name, build_dir)
    artifact = system_bench.stored(artifact_of(**SMALL | changes), folder / "artifact")
    golden = frames_of(artifact, 2)
    return System(Schedule(envelope(artifact) if options.loadable else artifact, cycles_per_token), options, artifact), golden


def test_pooled(simulators, build_dir):
    """A mean pool, all built in, on a narrow bus."""
    system, golden = build("pooled", build_dir, 6, Options(bus_bits=32), features=3)
    system_bench.run("pooled", simulators, build_dir, system, golden,
                     ["frames", "throughput", "malformed", "reset_in_traffic", "registers"])


def test_live(simulators, build_dir):
    """Weights that can be loaded, state that can be kept, on a wide bus; a result for every token."""
    system, golden = build("live", build_dir, 6, Options(bus_bits=128, loadable=True, stateful=True), pool="none", features=7)
    system_bench.run("live", simulators, build_dir, system, golden, ["frames", "malformed", "state", "weights"],
                     others=[other(system.artifact)], loads=4)
