"""The engine: random models equal the integer model at every key, in exactly the cycles of the formula; a program that reads too
early is refused."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from programs import lint

from boards.describe import describe
from boards.driver.accelerator import Accelerator
from boards.driver.description import Description
from emamba import artifact as artifacts
from emamba.artifact import SHIPPED, load
from emamba.base.errors import EmambaError
from emamba.config import ModelConfig
from emamba.ops import Activation
from emamba.run.integer import IntegerModel
from flow.build import main
from flow.compare import compare
from rtl.engine.compiler import compile_program, verify
from rtl.engine.encode import Encoded
from rtl.engine.listing import listing
from rtl.engine.machine import Machine, Stream
from rtl.engine.micro import IDLE, Acc
from rtl.engine.schedule import EngineSchedule
from rtl.engine.timing import check
from rtl.kit import packing
from rtl.plan import devices
from rtl.plan.engine_cost import estimate
from rtl.plan.engine_plan import for_device
from rtl.plan.loads import envelope
from rtl.system.system import Options, System
from sim.executor import RtlExecutor
from sim.models import SHAPES, random_artifact, random_inputs
from sim.native_system import NativeTransport
from sim.small import artifact_of, frames_of, other

CASES = {
    "attention": ("vit-causal", {"length": 3, "d_model": 4, "mlp": 3, "attention_heads": 1, "vocabulary": 5, "outputs": 5},
                  Machine(4, 1, chip=True), {}),
    "carried, tiles, a filter": ("emamba-three-blocks", {"carried": True, "blocks": 1, "length": 5, "task": "regression",
                                                         "pool": "mean", "smooth": 2}, Machine(3, 1, tile=2), {}),
    "per token, no residual, narrow multipliers": ("standard-image", {"pool": "none", "norm": "layer", "conv": "grid",
                                                                      "d_conv": 2}, Machine(1, 1, 16), {"rounding": "truncate"}),
    "groups of heads, ids, h0": ("mamba2-norm-before", {"blocks": 1, "norm": "range", "inner": 8, "head_dim": 2, "groups": 2,
                                                        "norm_groups": 2}, Machine(4, 2, chip=True), {"rounding": "half_even"}),
    "both directions, pairs, a stem": ("emamba-odd", {"direction": "both", "d_model": 3, "d_state": 2, "dt_rank": 1, "length": 4,
                                                      "stem": [{"channels": 2, "kernel": 3, "stride": 2}]},
                                       Machine(6, 3, chip=True), {}),
    "small": ("emamba-odd", {"d_model": 5, "length": 4}, Machine(4, 1, 16, tile=2, small=True), {"a_bits": 6}),
    "streamed, 4 bits by channel": ("standard-tokens", {"length": 4, "d_model": 5},
                                    Machine(4, 2, tile=2, stream=Stream(2, 32, 8, 4)),
                                    {"weight_scale": "dyadic", "weight_bits": 4, "a_bits": 8}),
}
HOSTILE = {"latency": 40, "pauses": 30, "refresh": 300, "recovery": 60, "rate": 3000, "open": 2}
"""A memory that is seldom ready."""


def case(name):
    shape, changes, machine, settings = CASES[name]
    artifact = random_artifact(ModelConfig(**SHAPES[shape] | changes), 3, **settings)
    return artifact, EngineSchedule(artifact, machine)


@pytest.mark.parametrize("name", CASES)
def test_equals_the_integer_model(name, tmp_path):
    """At every key; in the cycles of the formula; under stalls; and after a reset in the middle."""
    artifact, schedule = case(name)
    rtl, x = RtlExecutor(artifact, schedule, tmp_path, trace=True, fast=False), random_inputs(artifact.config, 4)
    tokens = artifact.codec.encode(x, artifact.input)
    expected = IntegerModel(artifact).run(tokens)
    found = rtl.run(tokens)
    assert {key for key in expected if key != artifact.graph.input.name} == set(found)
    for key, value in found.items():
        np.testing.assert_array_equal(value, expected[key], key)
    result = rtl.last
    assert (result.output_cycles - result.first_input).tolist() == schedule.timetable(len(x))
    assert schedule.timetable(2)[-1] - schedule.latency == schedule.cycles_per_frame
    assert result.peaks["results"] == 1
    output = artifact.graph.output.name
    np.testing.assert_array_equal(rtl.answer(tokens, stall_seed=5, stall_percent=40), expected[output])
    if schedule.image:
        np.testing.assert_array_equal(rtl.answer(tokens, memory=HOSTILE), expected[output])

    words = packing.pack(schedule.input, tokens, artifact.graph.window(len(x)))
    resumed = rtl.simulate(words, reset_at=result.output_cycles[len(result.output_cycles) // 2] + 9, stall_percent=20)
    answer = packing.unpack(schedule.output, resumed.output).reshape(expected[output].shape)
    np.testing.assert_array_equal(answer, expected[output])


def test_a_planted_fault_is_found(tmp_path):
    """A sum that is not begun anew."""
    artifact, schedule = case("carried, tiles, a filter")
    conv = next(i for i in schedule.program.instructions if i.name.endswith("conv"))
    conv.chain[0] = replace(conv.chain[0], ops=(replace(conv.chain[0].ops[0], first=Acc.ADD),))
    schedule.encoded = Encoded(schedule.program)
    rtl = RtlExecutor(artifact, schedule, tmp_path, trace=True, fast=False)
    x, model = random_inputs(artifact.config, 2), IntegerModel(artifact)
    executors = [lambda x, keep, run=run: run(artifact.codec.encode(x, artifact.input)) for run in (model.run, rtl.run)]
    result = compare(artifact, ("int", "rtl"), tuple(executors), x)
    first = next(key for key, found in result.keys.items() if found.mismatches)
    assert first == "block0.conv"


def test_hazards_are_refused():
    """Every gap is the shortest: one cycle less, and a row is read before it is written; or a lane's register is."""
    program = compile_program(random_artifact("emamba-three-blocks"), Machine(8, 1))
    late = [i for i in program.instructions if i.gap]
    assert len(late) > 10
    for instruction in late:
        instruction.gap -= 1
        with pytest.raises(EmambaError, match=f"'{instruction.name}' reads a row 1 cycles before it is written"):
            check(program.instructions, program.machine, program.rows, program.states)
        instruction.gap += 1
    verify(program)
    for ending, sentence in (("norm", "HELD is read in cycle"), ("y", "the decay that is read in cycle"),
                             ("gate", "a row drains in cycle")):
        instruction = next(i for i in program.instructions if i.name.endswith(ending))
        chain, instruction.chain = instruction.chain, [
            replace(body, ops=tuple(op for op in body.ops if op != IDLE)) for body in instruction.chain if body.ops != (IDLE,)]
        with pytest.raises(EmambaError, match=f"instruction '{instruction.name}': {sentence}"):
            verify(program)
        instruction.chain = chain


@pytest.mark.parametrize(("lanes", "posts", "least"), [(8, 2, 0.898), (20, 4, 0.858), (40, 8, 0.683)])
def test_utilization_of_mars(lanes, posts, least):
    schedule = EngineSchedule(load(SHIPPED), Machine(lanes, posts))
    report = schedule.report()
    assert report["utilization"] >= least and sum(stage["cycles_per_frame"] for stage in report["stages"]) == (
        schedule.cycles_per_frame)
    assert sum(stage["multiplies_per_frame"] for stage in report["stages"]) == report["multiplies_per_frame"]


def test_cost_model():
    """MARS with 8 lanes as Yosys counts it for an ECP5; the most lanes of a device, and none."""
    found = estimate(EngineSchedule(load(SHIPPED), Machine(8, factor_bits=18)), "ecp5")
    assert abs(found["lut"] / 4431 - 1) < 0.1 and abs(found["ff"] / 2335 - 1) < 0.1
    assert found["dsp"] == 8 and abs(found["ebr"] - 27) <= 2
    small, device = random_artifact("standard-one-channel"), devices.find("ulx3s-12f")
    planned = for_device(small, device)
    assert planned.schedule.machine.lanes == 8 and planned.load <= 0.8  # 16 of 28 multipliers: its decays are segments
    with pytest.raises(EmambaError, match=r"an engine of \d lanes takes an estimated [\d,]+ of 300 LUT of tiny: take a larger"):
        for_device(small, replace(device, name="tiny", limits=device.limits | {"lut": 300}))


@pytest.mark.parametrize(("shape", "settings", "sentence"), [
    ("hybrid-attention", {}, "node 'block1.attention': the engine works heads of whole rows, but here one has 3 channels: "
     "take --lanes that divide 3"),
    ("mamba2-groups", {}, "node 'block0.y': the engine has one B and one C for a row of channels"),
    ("emamba-odd", {"input_term": "delta_b"}, "node 'block0.y': the engine has the input term"),
])
def test_refusals(shape, settings, sentence):
    with pytest.raises(EmambaError, match=sentence):
        compile_program(random_artifact(shape, **settings), Machine())


def test_an_operator_of_ones_own(monkeypatch):
    """The page's example: refused, and with its executor a table like any other."""
    class Clip(Activation):
        pass

    artifact = random_artifact("emamba-odd")
    silu = artifact.operators["block0.silu"]
    own = replace(artifact, operators=artifact.operators | {"block0.silu": Clip(**vars(silu))})
    with pytest.raises(EmambaError, match=r"node 'block0.silu': the engine has no instructions for a Clip"):
        compile_program(own, Machine())
    monkeypatch.setitem(sys.modules, "clip", SimpleNamespace(Clip=Clip))
    page = Path("docs/engine.md").read_text(encoding="utf-8")
    example, = (text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "clip" in text)
    exec(example, {})
    assert listing(compile_program(own, Machine())) == listing(compile_program(artifact, Machine()))


def test_machines_are_refused():
    for lanes, posts, sentence in ((0, 0, "an engine has 1 to 512 lanes"), (8, 3, "must divide the 8 lanes")):
        with pytest.raises(EmambaError, match=sentence):
            Machine(lanes, posts)
    with pytest.raises(EmambaError, match="a small engine's weights lie in the memories of its decays"):
        Machine(4, stream=Stream(), small=True)
    assert [Machine(n).posts for n in (1, 3, 8, 20, 40)] == [1, 1, 2, 4, 8]
    with pytest.raises(EmambaError, match=r"WIDE_HIGH has 16 bits, but the engine's multipliers take 15"):
        Encoded(compile_program(random_artifact("emamba-per-token"), Machine(8, 2, 15)))
    with pytest.raises(EmambaError, match="rows of 1 values, but the engine has 9"):
        compile_program(random_artifact("emamba-one-token"), Machine(1, rows=9))


def test_driver(tmp_path):
    """The AXI system and the driver in front of an engine; other weights are loaded; the state is kept, saved and restored."""
    artifact = artifact_of()
    schedule = EngineSchedule(envelope(artifact), Machine(4, 2, tile=3), kept=True)
    system = System(schedule, Options(counters=False, loadable=True, stateful=True), artifact)
    golden, frames = frames_of(artifact, 2), frames_of(artifact, 3, 5)
    with NativeTransport(system, tmp_path, cycles=100_000, fast=False) as transport:
        driver = Accelerator(describe(system, golden), transport)
        for own in (artifact, other(artifact), artifact):
            driver.load(describe(system, golden, own))
            assert driver.self_test() == 2
            np.testing.assert_array_equal(driver.run(frames), IntegerModel(own).answer(frames))
        driver.reset()
        assert driver.self_test() == 2
        goes_on(driver, artifact, frames)
        driver.keep_state(False)
        assert driver.self_test() == 2
    assert Description.read(describe(system, golden)).stream is None
    with pytest.raises(EmambaError, match="--parity yes needs --organization pipeline"):
        Options(parity=True).check(schedule)
    with pytest.raises(EmambaError, match="leaves no state to the next packet"):
        Options(stateful=True).check(EngineSchedule(artifact, Machine(4, 2)))


def goes_on(driver, artifact, frames):
    """Two sequences of several packets each, of which one is saved while the other one runs: what the integer model resumes."""
    model, states = IntegerModel(artifact), {}
    driver.keep_state(True)
    for k, frame in enumerate([*frames, *frames]):
        name = "ab"[k % 2]
        expected, after = model.resume(frame[None], states[name][0] if name in states else None)
        driver.clear_state() if name not in states else driver.restore_state(states[name][1])
        np.testing.assert_array_equal(driver.run(frame[None]), expected)
        states[name] = after, driver.save_state()
    after, words = states["a"]
    driver.restore_state(words)
    expected = [model.resume(frames[:1], after)]
    expected.append(model.resume(frames[1:2], expected[0][1]))
    np.testing.assert_array_equal(driver.run(frames[:2]), np.concatenate([answer for answer, _ in expected]))


def test_streamed_driver(tmp_path):
    """The driver places the weights in a memory, a reset while they are read is harmless; a text is read token by token."""
    config = ModelConfig(**SHAPES["standard-tokens"] | {"length": 1, "d_model": 2, "dt_rank": 1, "expand": 1})
    artifact = replace(random_artifact(config), digest="ab" * 32)
    schedule = EngineSchedule(artifact, Machine(2, stream=Stream(1, 32, 16, 8)), kept=True)
    system = System(schedule, Options(counters=False, stateful=True))
    description, frames = describe(system, frames_of(artifact, 2)), frames_of(artifact, 3)
    image = system.supply.image.content.tobytes()
    with NativeTransport(system, tmp_path, cycles=100_000, fast=False) as transport:
        driver = Accelerator(description, transport)
        with pytest.raises(EmambaError, match="the design has no weights yet"):
            driver.run(frames)
        with pytest.raises(EmambaError, match="is not that of 'random'"):
            driver.stream(image[:-1])
        driver.stream(image)
        for cycles in (40, 130, 400):
            np.testing.assert_array_equal(driver.run(frames), IntegerModel(artifact).answer(frames))
            transport.send(driver.packets(frames)[0])
            transport.wait(cycles)
            driver.reset()
        assert driver.self_test() == 2
        goes_on(driver, artifact, frames)


def test_build(tmp_path, capsys):
    """Options, report and listing."""
    artifacts.save(random_artifact("emamba-one-token"), tmp_path / "artifact")
    engine = ["--artifact", str(tmp_path / "artifact"), "--organization", "engine"]
    assert main(["verilog", *engine, "--lanes", "3", "--out", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["organization"] == "engine" and report["lanes"] == 3 and report["memories"]["weights"] > 1000
    assert lint(tmp_path / "out" / "top.v") == ""
    listed = (tmp_path / "out" / "program.txt").read_text()
    assert "block0.conv: 1 tokens × 4 rows" in listed and report["program"] == listed.splitlines()
    artifacts.save(random_artifact("standard-one-channel"), tmp_path / "small")
    asked = ["--artifact", str(tmp_path / "small"), *engine[2:], "--weights", "streamed", "--out", str(tmp_path / "s")]
    assert main(["verilog", *asked]) == 0, capsys.readouterr().err
    report = json.loads((tmp_path / "s" / "report.json").read_text())
    assert (tmp_path / "s" / "weights_streamed.bin").stat().st_size == report["stream"]["bytes"]
    for multipliers, organization in ((2, "engine"), (24, None)):
        asked = ["--organization", "auto", "--multipliers", str(multipliers), "--out", str(tmp_path / "auto")]
        assert main(["verilog", "--artifact", str(tmp_path / "small"), *asked]) == 0, capsys.readouterr().err
        assert json.loads((tmp_path / "auto" / "report.json").read_text()).get("organization") == organization
    for options, sentence in ((["verilog", "--tile", "9"], "--tile is of an engine: add --organization engine"),
                              (["verilog", "--organization", "auto"], "add --multipliers N or --device D"),
                              (["verilog", *engine, "--multipliers", "9"], "--multipliers is of a pipeline"),
                              (["verilog", "--lanes", "9"], "--lanes is of an engine: add --organization engine"),
                              (["verilog", "--weights", "streamed"], "--weights streamed is of an engine"),
                              (["verilog", *engine, "--ports", "2"], "--ports is of streamed weights"),
                              (["asic", *engine, "--weights", "streamed"], "--weights streamed is for verilog, axi, zcu102,")):
        assert main([*options, "--out", str(tmp_path / "no")]) == 1 and sentence in capsys.readouterr().err
