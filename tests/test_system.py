# amaranth: UnusedElaboratable=no
"""The driver against a Verilated AXI system at full speed: frames, loads, bottlenecks, clipped states.

`python -m benchmarks system` does the same with 1,000 MARS frames, 100 loads and five bottlenecks.
"""

from dataclasses import replace

import numpy as np
import pytest

from boards.describe import describe
from boards.driver.accelerator import Accelerator
from emamba import arithmetic as arith
from emamba.certificate import certify
from emamba.errors import EmambaError
from emamba.integer import IntegerModel
from emamba.operators import Scan
from rtl.loads import envelope
from rtl.registers import address, mask
from rtl.schedule import Schedule
from rtl.system import Options, System
from sim.native_system import NativeTransport
from sim.small import artifact_of, frames_of, narrowed, other, slowed


@pytest.fixture(scope="module")
def build_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("system")


def test_two_artifacts_alternate(build_dir):
    """Every answer is that of the artifact loaded last, in a design whose folding differs from block to block."""
    first = artifact_of()
    second = other(first)
    system = System(Schedule(envelope(first), 6), Options(loadable=True, stateful=True, parity=True), first)
    with NativeTransport(system, build_dir, cycles=100_000, fast=False) as transport:
        transport.stall(25, 25, 25, 1)
        golden = frames_of(first, 2)
        descriptions = [describe(system, golden, artifact) for artifact in (first, second)]
        accelerator = Accelerator(descriptions[0], transport)
        models = [IntegerModel(first), IntegerModel(second)]
        for turn in range(10):
            which = (turn + 1) % 2
            transport.write32(address("INTERRUPT"), 0xFFFFFFFF)
            accelerator.load(descriptions[which])
            assert transport.read32(address("INTERRUPT")) == mask("INTERRUPT", "LOADED")
            assert accelerator.self_test() == 2
            assert transport.read32(address("INTERRUPT")) == mask("INTERRUPT", "LOADED") | mask("INTERRUPT", "RESULT")
            frames = frames_of(first, 2, turn)
            answers = [model.run(frames, ["head"])["head"] for model in models]
            assert (accelerator.run(frames) == answers[which]).all() and (answers[0] != answers[1]).any()
        assert transport.read32(address("CAPABILITIES")) & mask("CAPABILITIES", "PARITY")
        assert accelerator.counters()["parity"] == 0
        transport.write32(address("LOAD_COMMAND"), mask("LOAD_COMMAND", "BEGIN"))  # a load that ends in the middle
        for word in descriptions[0]["image"][:80:8]:
            transport.write32(address("LOAD_DATA"), int(word, 16))
        assert (accelerator.run(frames) == answers[which]).all()
        with pytest.raises(EmambaError, match="a load of weights was interrupted"):
            accelerator.load(descriptions[which])
        assert transport.read32(address("INTERRUPT")) & mask("INTERRUPT", "ERROR")
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


def clipped_rows(block, artifact, original, frames) -> int:
    """Cycles in which a state is clipped: those in which a scan with the original, wider state would hold another one."""
    op, wide = artifact.operators[block], original.operators[block]
    scan = Schedule(artifact, 4).blocks[block]
    values = IntegerModel(artifact).run(frames, list(inputs_of(artifact, block)))
    u, dt, B, C = (values[name] for name in inputs_of(artifact, block))
    h, rows = np.zeros((len(frames), *op.A.shape), np.int64), 0
    for token in range(u.shape[1]):
        step = u[:, token], dt[:, token], B[:, token], C[:, token]
        free, (_, h, h_wide) = wide.step(h, *step), op.step(h, *step)
        clipped = (h != free[1]) | (h_wide != free[2])
        rows += sum(int(scan._by_step(flags).any((1, 2)).sum()) for flags in clipped)
    return rows


def inputs_of(artifact, block):
    return next(node.inputs for node in Schedule(artifact, 4).graph if node.name == block)


def test_frames_counters_and_bottlenecks(build_dir):
    """A slow block, a source and a sink that rest; clipped outputs and states are counted; what is frozen stands still; the rate
    is the accelerator's."""
    with slowed("block0.conv", 40):
        original = artifact_of()
        op = replace(original.operators["embed"], shift=original.operators["embed"].shift - 3)
        original = replace(original, operators=original.operators | {"embed": op})
        artifact = narrowed(original, 7)
        system = System(Schedule(artifact, 4))
    scan = next(name for name, op in artifact.operators.items() if isinstance(op, Scan))
    assert certify(original.operators[scan]).holds and not certify(artifact.operators[scan]).holds
    with NativeTransport(system, build_dir, cycles=1_000_000, fast=False) as transport:
        accelerator = Accelerator(describe(system, frames_of(artifact, 1)), transport)
        frames = frames_of(artifact, 60)
        answers = IntegerModel(artifact).run(frames, ["head"])["head"]
        exact = arith.round_shift(frames @ op.weight.T + op.bias, op.shift, op.rounding)
        lanes = system.schedule.blocks["embed"].output.lanes
        beyond = (exact < op.o.min) | (exact > op.o.max)
        clipped = sum(beyond[..., k:k + lanes].any(-1).sum() for k in range(0, op.width, lanes))
        saturated = clipped_rows(scan, artifact, original, frames)
        assert clipped and saturated
        for wanted, stalls in (("block0.conv", (0, 0)), ("input", (99, 0)), ("output", (0, 99))):
            accelerator.clear_counters()
            assert not any(accelerator.counters()["queues"].values())
            transport.stall(*stalls, 0, 5)
            assert (accelerator.run(frames) == answers).all()
            assert accelerator.bottleneck() == wanted
            counters = accelerator.counters()
            assert counters["stages"]["embed"]["clipped"] == clipped and any(counters["queues"].values())
            assert {name for name, counts in counters["stages"].items() if counts["saturated"]} == {scan}
            assert counters["stages"][scan]["saturated"] == saturated
            transport.stall(0, 0, 0, 5)

        transport.cycles_of.clear()
        accelerator.run(frames)
        per_frame = (transport.cycles_of[-1] - transport.cycles_of[8]) / (len(transport.cycles_of) - 9)
        cycles = system.schedule.cycles_per_frame
        assert cycles <= per_frame <= 1.02 * cycles, f"{per_frame} cycles a frame, {cycles} in the accelerator"

        transport.write32(address("CONTROL"), mask("CONTROL", "ENABLE") | mask("CONTROL", "FREEZE"))
        accelerator.clear_counters()
        accelerator.run(frames[:4])
        counters = accelerator.counters()
        assert counters["out"] == 4 and not any(counters["queues"].values())
        assert not any(count for stage in counters["stages"].values() for count in stage.values())

        transport.stall(30, 30, 30, 7, burst=16)
        assert (accelerator.run(frames) == answers).all()
