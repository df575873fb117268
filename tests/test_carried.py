"""A state that is carried from sequence to sequence: every executor goes on as one long sequence would."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from boards.describe import describe
from boards.driver.accelerator import Accelerator
from emamba.artifact import load, save
from emamba.base.errors import DesignLimit, EmambaError, InputError, SettingError
from emamba.config import ModelConfig, QuantizeConfig, Recipe, validate
from emamba.datasets.recordings import whole_recordings, window_starts
from emamba.graph import build_graph, graph_from_json
from emamba.onnx.export import export_integer
from emamba.quantization.quantize import calibration_tokens
from emamba.run.compiled import IntegerLoop
from emamba.run.executors import make_executor
from emamba.run.integer import IntegerModel
from emamba.run.reference import NUMPY, Reference
from emamba.training.qat import IntegerNetwork, Part, finetune
from emamba.training.settings import FinetuneConfig
from emamba.training.windows import Order
from flow.compare import compare
from flow.simulate import simulate
from rtl.plan.schedule import Schedule
from rtl.system.system import Options, System
from sim.executor import RtlExecutor
from sim.models import SHAPES, random_artifact, random_inputs
from sim.native_system import NativeTransport
from sim.small import artifact_of, frames_of

SEQUENCES = 9
CASES = ("emamba-image", "emamba-odd", "emamba-one-token", "standard-tokens", "mamba2-norm-before",
         "mamba2-groups", "pointwise-gated-pool")


def carried(shape: str, **settings):
    return random_artifact(ModelConfig(**SHAPES[shape], carried=True), **settings)


@pytest.mark.parametrize("shape", CASES)
def test_integers_go_on(shape):
    """The integer model, its packets, the C loop, and the float model as one long sequence; the first sequence is that of a
    model whose state is not carried."""
    artifact = carried(shape)
    model, x = IntegerModel(artifact), random_inputs(artifact.config, SEQUENCES)
    tokens = artifact.codec.encode(x, artifact.input)
    values = model.run(tokens)
    answer, state, parts = values[artifact.graph.output.name], None, []
    for sequence in tokens:
        part, state = model.resume(sequence[None], state)
        parts.append(part)
    assert np.array_equal(np.concatenate(parts), answer)
    assert np.array_equal(IntegerLoop(artifact).run(tokens, 2), answer)
    alone = IntegerModel(replace(artifact, graph=replace(artifact.graph, carried=False)))
    assert np.array_equal(alone.answer(tokens)[0], answer[0]) and not np.array_equal(alone.answer(tokens), answer)
    assert np.array_equal(np.concatenate([alone.run(tokens, window=3)[artifact.graph.output.name][k:k + 3] for k in (0, 3, 6)]),
                          np.concatenate([model.answer(tokens[k:k + 3]) for k in (0, 3, 6)]))
    scan = next(node.name for node in artifact.graph if node.kind in ("Scan", "HeadScan"))
    assert model.states(scan, values).shape[:2] == tokens.shape[:2]
    reference = Reference(artifact.graph, artifact.weights)
    real = reference.run(artifact.codec.standardize(x))
    node = artifact.graph[scan]
    joined = (real[name].reshape(1, -1, real[name].shape[-1]) for name in node.inputs)
    whole = node.operator.real(NUMPY, node, reference.parameters[scan], *joined)
    np.testing.assert_allclose(real[scan].reshape(whole.shape), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("shape", "cycles"), [("mamba2-norm-before", 2), ("pointwise-gated-pool", 9)])
def test_hardware_goes_on(shape, cycles, tmp_path):
    artifact = random_artifact(ModelConfig(**SHAPES[shape], carried=True))
    x = random_inputs(artifact.config, SEQUENCES)
    rtl = RtlExecutor(artifact, cycles, tmp_path, trace=True, fast=False)
    result = compare(artifact, ("int", "rtl"), (make_executor(artifact, "int"),
                                                lambda x, keep: rtl.run(artifact.codec.encode(x, artifact.input), keep)), x)
    assert result.mismatches == 0 and len(result.keys) == len(artifact.graph) - 1


def test_simulation_goes_on():
    artifact = random_artifact(ModelConfig(**SHAPES["emamba-odd"], carried=True))
    x = random_inputs(artifact.config, 3)
    _, found = simulate(artifact, x, 30, 1000, stall_percent=30)
    assert found["beats"]["different"] == 0 and found["beats"]["left"] == found["beats"]["expected"]


def test_driver_goes_on(tmp_path):
    """From call to call, around a self-test, and not after a reset; a design without a state is refused."""
    artifact = artifact_of(features=2, d_model=2, d_state=1, norm="none", outputs=2, carried=True)
    schedule, frames = Schedule(artifact, 6), frames_of(artifact, 8)
    with pytest.raises(SettingError, match="is carried from sequence to sequence, so it must be kept: build with --state kept"):
        Options().check(schedule)  # as a system does; one that is refused would be an unused part to Amaranth
    system = System(schedule, Options(counters=False, stateful=True))
    answer = IntegerModel(artifact).answer(frames)
    with NativeTransport(system, tmp_path, cycles=100_000, fast=False) as transport:
        driver = Accelerator(describe(system, frames_of(artifact, 3, 1)), transport)
        assert driver.self_test() == 3 and np.array_equal(driver.run(frames[:3]), answer[:3])
        assert driver.self_test() == 3 and np.array_equal(driver.run(frames[3:]), answer[3:])
        driver.reset()
        assert np.array_equal(driver.run(frames), answer)
        driver.keep_state(False)
        with pytest.raises(EmambaError, match=r"call keep_state\(True\) before the self-test"):
            driver.self_test()
        assert not np.array_equal(driver.run(frames), answer)


def test_finetuning_goes_on(tmp_path):
    """The forward pass is the integer model over windows; each window begins with the state of the start."""
    artifact = carried("emamba-image")
    x = random_inputs(artifact.config, 12)
    tokens = artifact.codec.encode(x, artifact.input)
    answer = IntegerNetwork(artifact)(tokens, 4).detach().numpy()
    whole = np.concatenate([IntegerModel(artifact).answer(tokens[k:k + 4]) for k in (0, 4, 8)])[:, 0]
    assert np.array_equal(answer, (whole * artifact.output.step).astype(np.float32))
    targets = np.random.default_rng(0).normal(0, 1, (12, 7))
    part = Part(x, targets, np.repeat([0, 1], 6))
    settings = FinetuneConfig(epochs=2, window=3, batch=6)
    result = finetune(artifact, part, part, settings, tmp_path, progress=False)
    assert len(result.record["finetuning"]["history"]) == 3 and result.graph.carried
    for changed, settings, sentence in ((artifact, FinetuneConfig(window=7), "no recording has 7 sequences"), (
            random_artifact("emamba-image"), FinetuneConfig(window=2), "this one's is not")):
        with pytest.raises(SettingError, match=sentence):
            finetune(changed, part, part, settings, tmp_path / "other", progress=False)


def test_artifact(tmp_path):
    artifact = carried("emamba-image")
    save(artifact, tmp_path / "a")
    assert load(tmp_path / "a").graph.carried and graph_from_json(artifact.graph.to_json()).carried
    with pytest.raises(InputError, match="perhaps carried = true"):
        graph_from_json(artifact.graph.to_json() | {"carried": False})


def test_widths():
    """A has 10 bits where a state is carried, 8 else, and those that are given."""
    def bits(artifact):
        return artifact.operators["block0.y"].a.bits

    assert bits(carried("emamba-image")) == 10 and bits(random_artifact("emamba-image")) == 8
    assert bits(carried("emamba-image", a_bits=7)) == 7


def test_what_needs_whole_sequences_is_refused():
    with pytest.raises(DesignLimit, match=r"node 'block\d.\w+': a Reverse needs whole sequences, so no state is carried"):
        build_graph(ModelConfig(**SHAPES["emamba-image"], direction="backward", carried=True))


def test_windows():
    recordings = np.repeat([3, 1, 2], [5, 2, 4])
    assert window_starts(recordings, 2).tolist() == [0, 2, 5, 7, 9]
    assert window_starts(recordings, 2, 1).tolist() == [1, 3, 5, 8]  # the second recording is too short to shift
    assert window_starts(recordings, 4).tolist() == [0, 7] and window_starts(recordings, 6).tolist() == []


def test_order_of_windows():
    """Every epoch has batches of whole windows, of as many as are joined, also where a shift would leave too few of them."""
    recordings = np.repeat([0, 1], [9, 8])
    order = Order(17, recordings, 4, 4, 1, 0)
    for epoch in range(8):
        batch, = order.batches(epoch, torch.Generator().manual_seed(epoch))
        windows = batch.view(4, 4)
        assert (windows.diff() == 1).all() and all(len(set(recordings[window])) == 1 for window in windows)
    assert order.steps(0, 8) == 8
    alone = Order(5, None, 1, 1, 2, 0)
    found = [index.tolist() for index in alone.batches(0, torch.Generator())]
    assert [len(index) for index in found] == [2, 2, 1] and sorted(np.concatenate(found)) == list(range(5))
    assert alone.steps(3, 2) == 6


def test_a_search_draws_whole_recordings():
    recordings = np.repeat([4, 0, 2, 9], [5, 7, 3, 6])
    for count in (1, 6, 12, 21):
        kept = whole_recordings(recordings, count, np.random.default_rng(count))
        drawn = np.unique(recordings[kept])
        assert np.array_equal(kept, np.flatnonzero(np.isin(recordings, drawn))) and len(kept) >= count
        smallest = min((recordings == number).sum() for number in drawn)
        assert len(kept) - count < 7 and (len(drawn) == 1 or smallest <= len(kept))


def test_onnx_is_refused():
    """A file of ONNX has no state that goes on, so its answers would be others after the first sequence."""
    with pytest.raises(DesignLimit, match="the state is carried from sequence to sequence, which ONNX files here do not"):
        export_integer(carried("emamba-image"))


def test_calibration_follows_recordings():
    config, settings = ModelConfig(**SHAPES["emamba-odd"], carried=True), QuantizeConfig(frames=12)
    x = np.broadcast_to(np.arange(40.0)[:, None, None], (40, 7, 3))
    recordings = np.repeat([0, 1, 2], [13, 14, 13])
    found = calibration_tokens(x, config, settings, recordings)[:, 0, 0].astype(int)
    assert len(found) == 12 and (np.diff(found) == 1).all() and len(set(recordings[found])) == 1
    assert (np.diff(calibration_tokens(x, config, settings)[:, 0, 0]) == 1).all()
    assert len(calibration_tokens(x[:5], config, settings)) == 5


def test_stages_need_a_carried_state():
    recipe = {"data": {"name": "mars"}, "model": SHAPES["emamba-image"],
              "train": {"stages": [{"window": 4, "epochs": 1, "batch": 1, "peak_lr": 0.001}]}}
    with pytest.raises(EmambaError, match=r"need model\.carried = true"):
        validate(Recipe, recipe, "recipe")
    with pytest.raises(EmambaError, match=r"train\.epochs must be 1 or more"):
        validate(Recipe, recipe | {"train": {"epochs": 0}}, "recipe")
