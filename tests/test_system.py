# amaranth: UnusedElaboratable=no
"""The driver against a Verilated AXI system at full speed: many frames, many loads, planted bottlenecks."""

from dataclasses import replace

import numpy as np
import pytest

from boards.describe import describe
from boards.driver.accelerator import Accelerator
from emamba import arithmetic as arith
from emamba import datasets
from emamba.artifact import load
from emamba.config import ModelConfig
from emamba.datasets.tokens import to_tokens
from emamba.errors import EmambaError
from emamba.integer import IntegerModel
from emamba.operators import Scan, Weighted
from rtl import schedule as scheduling
from rtl.loads import envelope
from rtl.schedule import Schedule
from rtl.system import Options, System
from sim.models import random_artifact, random_inputs
from sim.native_system import NativeTransport

TINY = {"input": "sequence", "features": 3, "length": 5, "d_model": 4, "d_state": 2, "dt_rank": 1, "blocks": 1,
        "task": "regression", "outputs": 3}


@pytest.fixture(scope="module")
def build_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("system")


def artifact_of(seed=0, **changes):
    return replace(random_artifact(ModelConfig(**TINY | changes), seed), digest=f"{seed:02x}" * 32)


def other(artifact):
    """An artifact of the same structure with other weights."""
    rng = np.random.default_rng(1)

    def shuffled(op):
        if isinstance(op, Weighted):
            return replace(op, weight=rng.permuted(op.weight, axis=1), bias=rng.permutation(op.bias))
        return replace(op, A=rng.permuted(op.A), D=rng.permutation(op.D)) if isinstance(op, Scan) else op

    return replace(artifact, digest="fe" * 32, operators={name: shuffled(op) for name, op in artifact.operators.items()})


def frames_of(artifact, count, seed=0):
    return artifact.codec.encode(random_inputs(artifact.config, count, seed), artifact.input)


def test_two_artifacts_alternate_a_hundred_times(build_dir):
    """Every answer is that of the artifact loaded last, in a design whose folding differs from block to block."""
    first = artifact_of()
    second = other(first)
    system = System(Schedule(envelope(first), 6), Options(loadable=True, stateful=True), first)
    with NativeTransport(system, build_dir, cycles=100_000, fast=False) as transport:
        transport.stall(25, 25, 25, 1)
        golden = frames_of(first, 2)
        descriptions = [describe(system, golden, artifact) for artifact in (first, second)]
        accelerator = Accelerator(descriptions[0], transport)
        models = [IntegerModel(first), IntegerModel(second)]
        for turn in range(100):
            which = (turn + 1) % 2
            accelerator.load(descriptions[which])
            assert accelerator.self_test() == 2
            frames = frames_of(first, 2, turn)
            answers = [model.run(frames, ["head"])["head"] for model in models]
            assert (accelerator.run(frames) == answers[which]).all() and (answers[0] != answers[1]).any()
        transport.write32(0x0C0, 1)  # a load that ends in the middle
        for word in descriptions[0]["image"][:80:8]:
            transport.write32(0x0C4, int(word, 16))
        assert (accelerator.run(frames) == answers[which]).all()
        with pytest.raises(EmambaError, match="a load of weights was interrupted"):
            accelerator.load(descriptions[which])
        assert Accelerator(descriptions[1 - which], transport).self_test() == 2  # a driver loads what it needs


def test_what_cannot_be_loaded():
    first = artifact_of()
    system = System(Schedule(envelope(first), 6), Options(loadable=True), first)
    op = first.operators["embed"]
    shifted = replace(first, operators=first.operators | {"embed": replace(op, shift=op.shift + 1)})
    with pytest.raises(EmambaError, match=rf"nodes.embed.shift is {op.shift + 1} there and {op.shift} in the design"):
        describe(system, frames_of(first, 1), shifted)
    wide = replace(first, operators=first.operators | {"embed": replace(op, bias=np.full_like(op.bias, 1 << 30))})
    with pytest.raises(EmambaError, match=r"embed of 'random' can reach \d+; the design's accumulator is made for \d+"):
        describe(system, frames_of(first, 1), wide)


@pytest.mark.parametrize("slow", ["embed", "block0.conv", "block0.y"])
def test_bottlenecks(build_dir, monkeypatch, slow):
    """A block with a tenth of its multipliers; a source, and a sink, that rest most of the time. The first Linear clips."""
    fold = scheduling.fold
    monkeypatch.setattr(scheduling, "fold", lambda artifact, node, cycles, realization: fold(
        artifact, node, 40 if node.name == slow else cycles, realization))
    artifact = artifact_of()
    op = replace(artifact.operators["embed"], shift=artifact.operators["embed"].shift - 3)
    artifact = replace(artifact, operators=artifact.operators | {"embed": op})
    system = System(Schedule(artifact, 4))
    with NativeTransport(system, build_dir, cycles=1_000_000, fast=False) as transport:
        accelerator = Accelerator(describe(system, frames_of(artifact, 1)), transport)
        frames = frames_of(artifact, 60)
        exact = arith.round_shift(frames @ op.weight.T + op.bias, op.shift, op.rounding)
        lanes = system.schedule.blocks["embed"].output.lanes
        beyond = (exact < op.o.min) | (exact > op.o.max)
        clipped = sum(beyond[..., k:k + lanes].any(-1).sum() for k in range(0, op.width, lanes))
        assert clipped
        for wanted, stalls in ((slow, (0, 0)), ("input", (99, 0)), ("output", (0, 99))):
            accelerator.clear_counters()
            assert not any(accelerator.counters()["queues"].values())
            transport.stall(*stalls, 0, 5)
            answers = accelerator.run(frames)
            assert accelerator.bottleneck() == wanted
            counters = accelerator.counters()
            assert counters["stages"]["embed"]["clipped"] == clipped and any(counters["queues"].values())
            assert (answers == IntegerModel(artifact).run(frames, ["head"])["head"]).all()
            transport.stall(0, 0, 0, 5)


def test_mars(build_dir):
    """The shipped model at 20 cycles a token: 1,000 test frames under stalls of all channels; the rate without."""
    artifact = load("models/mars")
    system = System(Schedule(artifact, 20))
    images = datasets.load("mars", "official").x_test[:1000]
    tokens = artifact.codec.encode(to_tokens(images, artifact.config).astype(np.float64), artifact.input)
    with NativeTransport(system, build_dir, cycles=1_000_000, fast=False) as transport:
        accelerator = Accelerator(describe(system, tokens[:4]), transport)
        assert accelerator.self_test() == 4
        transport.stall(30, 30, 30, 7, burst=16)
        answers = IntegerModel(artifact).run(tokens, ["head"])["head"]
        assert (accelerator.run(tokens) != answers).sum() == 0
        transport.stall(0, 0, 0, 7)
        transport.cycles_of.clear()
        assert (accelerator.run(tokens[:40]) == answers[:40]).all()
        per_frame = (transport.cycles_of[-1] - transport.cycles_of[8]) / (len(transport.cycles_of) - 9)
        wanted = system.schedule.cycles_per_frame
        assert wanted <= per_frame <= 1.02 * wanted, f"{per_frame} cycles a frame, {wanted} in the accelerator"
        counters = accelerator.counters()
        assert counters["in"] == counters["out"] == 1044 and counters["bad"] == 0
