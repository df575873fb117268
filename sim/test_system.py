# amaranth: UnusedElaboratable=no
"""Benches of the AXI system: the driver, unchanged, against the design on every simulator."""

from dataclasses import replace

import numpy as np

from emamba.config import ModelConfig
from emamba.operators import Scan, Weighted
from rtl.loads import envelope
from rtl.schedule import Schedule
from rtl.system import Options, System

from . import system_bench
from .models import random_artifact, random_inputs

TINY = {"input": "sequence", "features": 3, "length": 5, "d_model": 4, "d_state": 2, "dt_rank": 1, "blocks": 1,
        "task": "regression", "outputs": 3}


def build(name, simulator, build_dir, cycles_per_token, options=None, **changes):
    folder = system_bench.bench_folder(name, simulator, build_dir)
    artifact = system_bench.stored(random_artifact(ModelConfig(**TINY | changes)), folder / "artifact")
    golden = artifact.codec.encode(random_inputs(artifact.config, 2), artifact.input)
    options = options or Options()
    return System(Schedule(envelope(artifact) if options.loadable else artifact, cycles_per_token), options, artifact), golden


def other(artifact):
    """An artifact of the same structure with other weights."""
    rng = np.random.default_rng(1)

    def shuffled(op):
        if isinstance(op, Weighted):
            return replace(op, weight=rng.permuted(op.weight, axis=1), bias=rng.permutation(op.bias))
        if isinstance(op, Scan):
            return replace(op, A=rng.permuted(op.A), D=rng.permutation(op.D))
        return op

    return replace(artifact, operators={name: shuffled(op) for name, op in artifact.operators.items()})


def test_pooled(simulator, build_dir):
    """A mean pool, 32 bits, all built in."""
    system, golden = build("pooled", simulator, build_dir, 6, Options(bus_bits=32))
    system_bench.run("pooled", simulator, build_dir, system, golden,
                     ["frames", "throughput", "malformed", "reset_in_traffic", "registers"])


def test_live(simulator, build_dir):
    """Weights that can be loaded, state that can be kept; a result for every token."""
    system, golden = build("live", simulator, build_dir, 6, Options(loadable=True, stateful=True), pool="none")
    system_bench.run("live", simulator, build_dir, system, golden, ["frames", "state", "weights"],
                     others=[other(system.artifact)], loads=6)
