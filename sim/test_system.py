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


@pytest.mark.parametrize("bus_bits, features, tests", [
    (32, 3, ["frames", "throughput", "malformed", "reset_in_traffic", "registers"]), (128, 7, ["frames", "malformed"])])
def test_pooled(simulators, build_dir, bus_bits, features, tests):
    """A mean pool, all built in; on a narrow and on a wide bus."""
    name = f"pooled-{bus_bits}"
    system, golden = build(name, build_dir, 6, Options(bus_bits=bus_bits), features=features)
    system_bench.run(name, simulators, build_dir, system, golden, tests)


def test_live(simulators, build_dir):
    """Weights that can be loaded, state that can be kept; a result for every token."""
    system, golden = build("live", build_dir, 6, Options(loadable=True, stateful=True), pool="none")
    system_bench.run("live", simulators, build_dir, system, golden, ["frames", "state", "weights"],
                     others=[other(system.artifact)], loads=4)
