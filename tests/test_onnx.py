"""ONNX out: onnxruntime answers like the float executor, and as QDQ close to the integer model."""

import re

import numpy as np
import onnx
import onnxruntime
import pytest

from emamba.artifact import load, save
from emamba.base.errors import EmambaError
from emamba.config import ModelConfig
from emamba.graph import Builder
from emamba.onnx import writer
from emamba.onnx.export import export_float, export_integer
from emamba.ops import OPERATORS
from emamba.run.executors import make_executor, predict
from emamba.run.reference import Reference
from flow import cli
from sim.models import SHAPES, random_artifact, random_inputs

SHIPPED = ("mars", "mars_layer", "mars_rms", "japanese_vowels", "wikitext2")
SEQUENCE = {"input": "sequence", "features": 3, "length": 6, "d_model": 8, "inner": 12, "d_state": 4, "dt_rank": 2, "blocks": 2,
            "task": "regression", "outputs": 2}
HEADS = {"form": "mamba2", "head_dim": 3} | SEQUENCE
PICTURE = {"input": "image", "image": (6, 8, 2), "patch": (1, 1), "d_model": 5, "d_state": 2, "dt_rank": 1, "blocks": 2,
           "task": "classification", "outputs": 3}
OTHERS = {
    "mamba2": HEADS,
    "mamba2-groups": HEADS | {"groups": 2, "wide_D": True, "gated_norm": "before", "norm": "rms", "initial_state": True,
                              "norm_groups": 2},
    "mamba2-one-head": HEADS | {"head_dim": 12, "gated_norm": "none", "norm": "layer", "pool": "none"},
    "gated-pool": SEQUENCE | {"pool": "gated", "norm": "rms", "form": "standard", "initial_state": True},
    "filter": SEQUENCE | {"pool": "none", "smooth": 2},
    "both-directions": SEQUENCE | {"direction": "both", "form": "standard", "norm": "layer", "conv": "same"},
    "mlp": HEADS | {"mlp": 7, "mlp_gated": True, "conv": "pointwise"},
    "stem": PICTURE | {"stem": [{"channels": 4, "kernel": 3, "stride": 2, "function": "silu"}], "conv": "grid"},
    "merging": PICTURE | {"stem": [{"channels": 3, "kernel": 2, "stride": 1}], "merge": [1], "form": "standard"},
    "strided": SEQUENCE | {"stem": [{"channels": 4, "kernel": 4, "stride": 3}], "conv": "same", "pool": "last"},
    "mamba2-limits": HEADS | {"delta_offset": 0.1, "delta_limits": (0.2, 0.9), "head_dim": 1},
}


def artifact_of(name: str):
    if name in SHIPPED:
        return load(f"models/{name}")
    return random_artifact(ModelConfig(**OTHERS[name]) if name in OTHERS else name)


def refuses(sentence: str):
    return pytest.raises(EmambaError, match=f"^{re.escape(sentence).replace('…', '.*')}$")


def answered(model: onnx.ModelProto, x: np.ndarray, config: ModelConfig) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = x[..., 0].astype(np.int64) if config.input == "tokens" else x.astype(np.float32)
    return session.run(None, {session.get_inputs()[0].name: given})[0]


def exported(artifact) -> onnx.ModelProto:
    return export_float(artifact.graph, artifact.weights, artifact.codec, artifact.config.task)


# -- out ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SHAPES, *OTHERS, *SHIPPED])
def test_onnxruntime_answers_like_the_executors(name):
    """The float model to 1e-5 of its largest output; the QDQ model closer to the integer model than that lies to the float one,
    or within an eighth of the largest output."""
    artifact = artifact_of(name)
    x = random_inputs(artifact.config, 3, 5)
    exact, integer = (predict(artifact, kind, make_executor(artifact, kind), x) for kind in ("float", "int"))
    np.testing.assert_allclose(answered(exported(artifact), x, artifact.config), exact, atol=1e-5 * np.abs(exact).max())
    rounded = answered(export_integer(artifact), x, artifact.config)
    assert np.abs(rounded - integer).max() < max(np.abs(integer - exact).max(), np.abs(exact).max() / 8)


def test_values_are_named_by_the_trace_keys():
    artifact = random_artifact("standard-rms-norm")
    made = {name for node in exported(artifact).graph.node for name in node.output}
    assert {node.name for node in artifact.graph if node.inputs} <= made
    constants = {constant.name for constant in exported(artifact).graph.initializer}
    assert set(artifact.graph.tensors) <= constants


def test_a_tied_weight_is_written_once():
    names = [constant.name for constant in exported(random_artifact("mamba2-norm-before")).graph.initializer]
    assert [name for name in names if name.startswith("embed.weight")] == ["embed.weight"]


def test_every_operator_has_a_form():
    assert set(OPERATORS) == {*writer.WRITERS, "Input"}


def test_tokens_backwards():
    """A Reverse, which no form of the package has."""
    config = ModelConfig(**HEADS)
    g = Builder(config)
    g.x = g.reverse("back", g.x)
    graph = g.finish()
    weights = {name: np.random.default_rng(0).normal(size=shape) for name, shape in graph.tensors.items()}
    x = random_inputs(config, 2)
    got = answered(export_float(graph, weights, random_artifact(config).codec, "regression"), x, config)
    np.testing.assert_allclose(got, Reference(graph, weights).answer(x)[:, 0], rtol=1e-5)


def test_an_operator_without_a_form(monkeypatch):
    artifact = random_artifact("emamba-odd")
    monkeypatch.delitem(writer.WRITERS, "RangeNorm")
    with refuses("node 'block0.norm': no form of a RangeNorm in ONNX is known: register one by emamba.onnx.writer.writes"):
        exported(artifact)


# -- the commands -------------------------------------------------------------------------------------------------------------


def test_export(tmp_path, capsys):
    artifact = random_artifact("emamba-odd")
    save(artifact, tmp_path / "a")
    x = random_inputs(artifact.config, 2)
    for options, model in (((), exported(artifact)), (("--integer",), export_integer(artifact))):
        assert cli.main(["export", "onnx", str(tmp_path / "a"), "--out", str(tmp_path / "m.onnx"), *options]) == 0
        written = onnx.load(tmp_path / "m.onnx")
        np.testing.assert_array_equal(answered(written, x, artifact.config), answered(model, x, artifact.config))
        assert capsys.readouterr().out == (f"{tmp_path}/m.onnx: {len(model.graph.node)} nodes, "
                                           f"{(tmp_path / 'm.onnx').stat().st_size} bytes, opset 27\n")
    (tmp_path / "c").mkdir()
    assert cli.main(["export", "onnx", str(tmp_path / "c"), "--out", str(tmp_path / "m.onnx"), "--integer"]) == 1
    sentence = f"--integer needs an artifact, and {tmp_path}/c is none: quantize the checkpoint first"
    assert capsys.readouterr().err == f"emamba: {sentence}\n"
