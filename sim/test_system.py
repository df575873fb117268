# amaranth: UnusedElaboratable=no
"""Benches of the AXI system: the driver, unchanged, against the design on every simulator."""

from emamba.config import ModelConfig
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
    return System(Schedule(artifact, cycles_per_token), options or Options()), golden


def test_pooled(simulator, build_dir):
    """A mean pool, 64 bits."""
    system, golden = build("pooled", simulator, build_dir, 6)
    system_bench.run("pooled", simulator, build_dir, system, golden, ["frames"])
