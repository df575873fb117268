"""The driver against a Verilated AXI system at full speed: frames, loads, bottlenecks, clipped states.

`python -m benchmarks system` does the same with 1,000 MARS frames, 100 loads and five bottlenecks.
"""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from interruptions import Failing, broken_off

from boards.describe import describe
from boards.driver.accelerator import Accelerator, checksum
from boards.driver.description import Description
from emamba.base import arithmetic as arith
from emamba.base.errors import EmambaError
from emamba.ops import Scan
from emamba.ops.certificate import certify
from emamba.run.integer import IntegerModel
from flow import cli
from rtl.kit.emit import to_verilog
from rtl.plan.schedule import Schedule
from rtl.system.registers import address, mask
from rtl.system.system import System
from sim.expectation import Reference
from sim.native_system import NativeTransport
from sim.small import artifact_of, frames_of, narrowed, other, slowed
from sim.traffic import Design, check, check_many, sequence


@pytest.fixture(scope="module")
def build_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("system")


@pytest.fixture(scope="module")
def desk(build_dir):
    """Two artifacts of one structure, the model of each, and a design for both, behind a transport that can fail."""
    first, design = artifact_of(), Design.make(64, parity=True)
    system = design.system
    descriptions = [describe(system, frames_of(first, 2), artifact) for artifact in (first, other(first))]
    with NativeTransport(system, build_dir, cycles=100_000, fast=False) as transport:
        failing = Failing(transport)
        yield SimpleNamespace(first=first, descriptions=descriptions, models=design.models, design=design,
                              transport=transport, failing=failing, frames=frames_of(first, 3, 5),
                              driver=Accelerator(descriptions[0], failing))


def test_drive(desk, build_dir, tmp_path, capsys, monkeypatch):
    """`emamba drive --sim` on what a target wrote; what it cannot is refused."""
    monkeypatch.setattr("flow.drive.BUILD", {"build_dir": build_dir, "fast": False})
    (tmp_path / "top.v").write_text("// header\n" + to_verilog(desk.design.system), encoding="utf-8")
    (tmp_path / "accelerator.json").write_text(json.dumps(desk.descriptions[0]), encoding="utf-8")
    values = np.random.default_rng(0).normal(size=(3, *frames_of(desk.first, 1).shape[1:]))
    np.save(tmp_path / "x.npy", values)
    asked = ["drive", str(tmp_path), "--sim", "--inputs", str(tmp_path / "x.npy"), "--out", str(tmp_path / "y.npy")]
    assert cli.main(asked) == 0
    out = capsys.readouterr().out
    assert "on a simulation: 2 golden frames are right" in out and "cycles a frame" in out and "the bottleneck is" in out
    own = Description.read(desk.descriptions[0])
    assert (np.load(tmp_path / "y.npy") == own.decode(desk.models[0].answer(own.encode(values)))).all()
    (tmp_path / "top.v").unlink()
    for words, sentence in ((asked, "has no Verilog beside its accelerator.json"), (asked[:2], "there is no UIO device"),
                            (asked[:5], "--inputs and --out go together"), (["drive", "no"], "holds no accelerator.json")):
        assert cli.main(words) == 1
        assert sentence in capsys.readouterr().err


def test_two_artifacts_alternate(desk):
    """Every answer is that of the artifact loaded last, in a design whose folding differs from block to block."""
    first, transport, descriptions, models = desk.first, desk.transport, desk.descriptions, desk.models
    transport.stall(25, 25, 25, 1)
    accelerator = Accelerator(descriptions[0], transport)
    for turn in range(10):
        which = (turn + 1) % 2
        transport.write32(address("INTERRUPT"), 0xFFFFFFFF)
        accelerator.load(descriptions[which])
        assert transport.read32(address("INTERRUPT")) == mask("INTERRUPT", "LOADED")
        assert accelerator.self_test() == 2
        assert transport.read32(address("INTERRUPT")) == mask("INTERRUPT", "LOADED") | mask("INTERRUPT", "RESULT")
        frames = frames_of(first, 2, turn)
        answers = [model.answer(frames) for model in models]
        assert (accelerator.run(frames) == answers[which]).all() and (answers[0] != answers[1]).any()
    assert transport.read32(address("CAPABILITIES")) & mask("CAPABILITIES", "PARITY")
    assert accelerator.counters()["parity"] == 0
    transport.write32(address("LOAD_COMMAND"), mask("LOAD_COMMAND", "BEGIN"))  # a load that ends in the middle
    for word in descriptions[0]["image"][:80:8]:
        transport.write32(address("LOAD_DATA"), int(word, 16))
    assert (accelerator.run(frames) == answers[which]).all()
    accelerator.load(descriptions[which])  # begins anew
    assert (accelerator.run(frames) == answers[which]).all()
    for _ in range(2):
        transport.write32(address("LOAD_COMMAND"), mask("LOAD_COMMAND", "BEGIN"))
    with pytest.raises(EmambaError, match="a load of weights was interrupted"):
        accelerator.check()
    assert transport.read32(address("INTERRUPT")) & mask("INTERRUPT", "ERROR")
    assert Accelerator(descriptions[1 - which], transport).self_test() == 2  # a driver loads what it needs
    transport.stall(0, 0, 0, 1)


def test_what_cannot_be_loaded(desk):
    first, system = desk.first, desk.design.system
    op = first.operators["embed"]
    shifted = replace(first, operators=first.operators | {"embed": replace(op, shift=op.shift + 1)})
    with pytest.raises(EmambaError, match=rf"nodes.embed.shift is {op.shift + 1} there and {op.shift} in the design"):
        describe(system, frames_of(first, 1), shifted)
    wide = replace(first, operators=first.operators | {"embed": replace(op, bias=np.full_like(op.bias, 1 << 30))})
    with pytest.raises(EmambaError, match=r"embed of 'random' can reach \d+; the design's accumulator is made for \d+"):
        describe(system, frames_of(first, 1), wide)


TRAFFIC = 1200
"""Random operations on each of two designs."""


def test_traffic(desk, build_dir):
    """What the register page foretells happens, and nothing else: `python -m verify traffic` does it 100,000 times."""
    assert check_many(desk.design, desk.transport, TRAFFIC) is None
    design = Design.make(32, pool="none")  # a result is several words
    with NativeTransport(design.system, build_dir, cycles=100_000, fast=False) as transport:
        assert check_many(design, transport, TRAFFIC, seed=1000) is None


def test_traffic_finds_and_shortens(desk, monkeypatch):
    """Where the page said that CLEAR_STATE does nothing, a few operations would show that it is wrong."""
    monkeypatch.setattr(Reference, "clear_state", lambda self: None)
    failure = check(desk.design, desk.transport, sequence(1, 200))
    assert len(failure.operations) <= 6 and "clear state" in str(failure)


@pytest.mark.parametrize("between", ["nothing", "load", "RESET", "CLEAR_STATE"])
def test_what_clears_a_kept_state(desk, between):
    """A packet that was sent and has not begun begins after a load that takes over, or a reset: with zeros, KEEP or not."""
    description, model, frames = Description.read(desk.descriptions[0]), desk.models[0], desk.frames[:2, None]
    first, state = model.resume(frames[0])
    with desk.transport.fresh() as transport:
        transport.write32(address("CONTROL"), mask("CONTROL", "ENABLE") | mask("CONTROL", "KEEP"))
        packets = [frame.astype(description.input.dtype).tobytes() for frame in frames]
        transport.send(packets[0])
        assert transport.receive(0, 1) == first.astype(description.output.dtype).tobytes()
        transport.write32(address("CONTROL"), mask("CONTROL", "KEEP"))
        transport.send(packets[1])
        transport.wait(100)
        assert transport.read32(address("FRAMES_IN")) == 1
        if between == "load":
            transport.write32(address("LOAD_COMMAND"), mask("LOAD_COMMAND", "BEGIN"))
            for word in description.image:
                transport.write32(address("LOAD_DATA"), int(word))
            transport.write32(address("LOAD_CHECKSUM"), checksum(description))
            transport.write32(address("LOAD_COMMAND"), mask("LOAD_COMMAND", "COMMIT"))
        elif between != "nothing":
            transport.write32(address("COMMAND"), mask("COMMAND", between))
        cleared = transport.read32(address("STATUS")) & mask("STATUS", "CLEARED")
        assert bool(cleared) == (between != "nothing")
        transport.write32(address("CONTROL"), mask("CONTROL", "ENABLE") | mask("CONTROL", "KEEP"))
        answer, _ = model.resume(frames[1], None if cleared else state)
        assert transport.receive(0, 1) == answer.astype(description.output.dtype).tobytes() and not transport.marks[-1]
    assert (model.resume(frames[1])[0] != model.resume(frames[1], state)[0]).any()


def test_a_state_counts_as_a_whole(desk):
    """Written in parts, or from its middle on, it leaves a cleared state cleared; in order it is restored."""
    with desk.transport.fresh() as transport:
        count = transport.read32(address("STATE_WORDS"))

        def written(start, stop):
            transport.write32(address("STATE_ADDRESS"), start)
            for word in range(start, stop):
                transport.write32(address("STATE_DATA"), word + 1)
            transport.write32(address("STATE_ADDRESS"), count // 2)
            cleared = transport.read32(address("STATUS")) & mask("STATUS", "CLEARED")
            return not cleared, transport.read32(address("STATE_DATA"))

        for start, stop in ((0, count - 1), (1, count), (count - 1, count), (0, 1)):
            assert written(start, stop) == (False, 0)
        assert written(0, count)[0]
        transport.write32(address("COMMAND"), mask("COMMAND", "CLEAR_STATE"))
        assert written(count // 2, count) == (False, 0)


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
        answers = IntegerModel(artifact).answer(frames)
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


def answering(desk, driver) -> int:
    return [description["digest"] for description in desk.descriptions].index(driver.description.digest)


def usual(desk, driver) -> None:
    """A driver that begins from nothing: answers of the model it names, a state of zeros, no errors."""
    model = desk.models[answering(desk, driver)]
    assert not driver.save_state().any()
    driver.check()
    assert (driver.run(desk.frames) == model.answer(desk.frames)).all()


def used(desk, driver) -> None:
    """As somebody leaves it."""
    driver.keep_state(True)
    driver.run(desk.frames[:1])
    assert driver.save_state().any()


ACTIONS = {
    "run": (lambda desk, driver: driver.run(desk.frames), 1),
    "predict": (lambda desk, driver: driver.predict(desk.frames * 0.5), 1),
    "self_test": (lambda desk, driver: (driver.keep_state(False), driver.self_test()), 1),
    "check": (lambda desk, driver: driver.check(), 1),
    "keep_state": (lambda desk, driver: driver.keep_state(False), 1),
    "clear_state": (lambda desk, driver: driver.clear_state(), 1),
    "save_state": (lambda desk, driver: driver.save_state(), 7),
    "restore_state": (lambda desk, driver: driver.restore_state(np.arange(driver.state_words)), 7),
    "counters": (lambda desk, driver: driver.counters(), 11),
    "clear_counters": (lambda desk, driver: driver.clear_counters(), 1),
    "reset": (lambda desk, driver: driver.reset(), 1),
    "load": (lambda desk, driver: driver.load(desk.descriptions[1 - answering(desk, driver)]), 97),
}
"""What is broken off, and how many calls of the transport of the same kind are between two that are tried."""


@pytest.mark.parametrize("name", ACTIONS)
def test_broken_off(desk, name):
    """At every call of the transport, before and after it: the next call is refused, and a reset leaves nothing behind; nor does
    a new driver."""
    action, step = ACTIONS[name]
    used(desk, desk.driver)
    for k, late in broken_off(desk.failing, lambda: action(desk, desk.driver), step):
        for refused in (desk.driver.counters, desk.driver.check):
            with pytest.raises(EmambaError, match=r"ended in its middle: call reset\(\) first"):
                refused()
        if (k + late) % 3:
            desk.driver.reset()
        else:
            desk.driver = Accelerator(desk.driver.description, desk.failing)
        usual(desk, desk.driver)
        used(desk, desk.driver)
    desk.driver.reset()
    usual(desk, desk.driver)


def test_start_broken_off(desk):
    """One that finds a used device with other weights."""
    desk.driver = Accelerator(desk.descriptions[0], desk.failing)
    used(desk, desk.driver)
    for _ in broken_off(desk.failing, lambda: Accelerator(desk.descriptions[1], desk.failing), 197):
        desk.driver = Accelerator(desk.descriptions[0], desk.failing)
        usual(desk, desk.driver)
        used(desk, desk.driver)
