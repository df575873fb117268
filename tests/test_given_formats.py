"""Formats that are given, integers that were made elsewhere, and Linears that become one."""

import re

import numpy as np
import pytest

from emamba.artifact import Codec
from emamba.base.errors import SettingError
from emamba.base.formats import IntFormat
from emamba.config import ModelConfig, QuantizeConfig
from emamba.graph import build_graph
from emamba.ops import Scan, Weighted
from emamba.quantization.fold import fold
from emamba.quantization.quantize import quantize
from emamba.run.integer import IntegerModel
from emamba.run.reference import Reference
from rtl.plan.schedule import Schedule
from sim.models import SHAPES, random_artifact, random_inputs

SHAPE = SHAPES["emamba-odd"]


@pytest.mark.parametrize("text", ["INT8·2^-5", "UINT7·2^9", "INT24·2^-16"])
def test_a_format_is_read_as_it_is_printed(text):
    assert str(IntFormat.parse(text)) == text == str(IntFormat.parse(text.replace("·", "*")))


@pytest.mark.parametrize("text", ["", "INT8", "INT8*2^", "int8*2^-5", "INT99*2^-5", "INT8*2^-99", "INT8*3^2"])
def test_what_is_no_format(text):
    with pytest.raises(Exception, match="format"):
        QuantizeConfig(formats={"head": text})


@pytest.mark.parametrize("shape", ["emamba-odd", "standard-rms-norm", "mamba2-groups"])
def test_the_formats_that_were_chosen_can_be_given(shape):
    """Every tensor gets the format that it got from calibration: the artifact is the same, whatever it is calibrated on."""
    plain = random_artifact(shape)
    formats = {}
    for name, op in plain.operators.items():
        if type(op).__name__ != "Pool":
            formats[name] = str(op.o)
        for field, tensor in (("w", "weight"), ("a", "A"), ("d", "D"), ("h_wide", "state")):
            if isinstance(op, Scan | Weighted) and hasattr(op, field):
                formats[f"{name}.{tensor}"] = str(getattr(op, field))
    given = random_artifact(shape, formats=formats)
    assert given.operators == plain.operators
    finer = random_artifact(shape, formats={"block0.z": "INT10*2^-3", "block0.out.weight": "INT9*2^-4"})
    assert str(finer.operators["block0.z"].o) == "INT10·2^-3" and str(finer.operators["block0.out"].w) == "INT9·2^-4"


@pytest.mark.parametrize("settings, sentence", [
    ({"formats": {"block9.z": "INT8*2^-5"}}, "formats: no tensor is named 'block9.z'"),
    ({"formats": {"norm.weight": "INT8*2^-5"}}, "formats: no tensor is named 'norm.weight'"),
    ({"weight_steps": {"block0.y.weight": 1.0}}, "weight_steps: no tensor is named 'block0.y.weight'"),
    ({"formats": {"block0.y.state": "INT20*2^-5"}}, "its state is given as INT20·2^-5, but state_bits says INT24"),
    ({"formats": {"block0.z.weight": "UINT7*2^-5"}}, "a format of its weights is a signed one"),
    ({"formats": {"block0.gate": "INT8*2^-60"}}, "'block0.gate' is given as INT8·2^-60; at most"),
    ({"weight_steps": {"block0.z.weight": [1.0, 2.0]}}, "'block0.z.weight' needs one finite step above 0, or one for each of 34"),
    ({"weight_steps": {"block0.z.weight": 0.3}}, "is no whole number of steps"),
    ({"weight_steps": {"block0.z.weight": 1e-9}, "weight_bits": 4}, "weight_steps: its integers reach"),
])
def test_what_cannot_be_given(settings, sentence):
    with pytest.raises(SettingError, match=re.escape(sentence)):
        random_artifact("emamba-odd", **settings)


@pytest.mark.parametrize("power", [False, True])
def test_integers_of_elsewhere_are_kept(power):
    """Weights that another tool rounded, each channel with a scale of its own, or all with a power of two."""
    config, rng = ModelConfig(**SHAPE | {"norm": "none"}), np.random.default_rng(0)
    graph = build_graph(config)
    weights = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in graph.tensors.items()}
    for name in graph.tensors:
        if name.endswith("A_log"):
            weights[name] = np.log(rng.uniform(0.1, 4, weights[name].shape)).astype(np.float32)
    integers, steps = {}, {}
    for node in graph:
        if node.kind in ("Linear", "Conv1d"):
            tensor = node.parameters["weight"]
            integers[node.name] = rng.integers(-90, 91, weights[tensor].shape)  # no channel reaches 127
            scale = np.full(node.width, 2.0**-8) if power else rng.uniform(0.001, 0.004, node.width)
            weights[tensor] = (integers[node.name] * scale[:, None]).astype(np.float32)
            steps[f"{node.name}.weight"] = scale[0] if power else scale.tolist()
    codec = Codec(np.zeros(3), np.ones(3), np.ones(config.outputs), np.zeros(config.outputs))
    settings = QuantizeConfig(weight_steps=steps)
    artifact = quantize("elsewhere", config, weights, codec, random_inputs(config, 16), settings)
    for name, expected in integers.items():
        op = artifact.operators[name]
        assert np.array_equal(op.weight, expected) and op.dyadic is not power, name
        np.testing.assert_allclose(op.steps, steps[f"{name}.weight"], rtol=1e-3)
    tokens = codec.encode(random_inputs(config, 8, 3), artifact.input)
    exact = Reference(graph, weights).answer(tokens * artifact.input.step)
    answer = IntegerModel(artifact).answer(tokens) * artifact.output.step
    assert np.abs(answer - exact).max() < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize("shape", ["emamba-image", "standard-sequence"])
def test_fold(shape):
    config = ModelConfig(**SHAPES[shape])
    plain = random_artifact(shape)
    graph, weights = fold(plain.graph, plain.weights)
    gone = {node.name for node in plain.graph} - {node.name for node in graph}
    assert gone == {f"block{k}.dt_low" for k in range(config.blocks)}
    tokens = random_inputs(config, 4)
    np.testing.assert_allclose(Reference(graph, weights).answer(tokens), Reference(plain.graph, plain.weights).answer(tokens),
                               rtol=1e-5, atol=1e-6)
    artifact = quantize("folded", config, weights, plain.codec, random_inputs(config, 16), QuantizeConfig(), graph=graph)
    rank, width = config.dt_rank, config.d_inner
    before, after = (Schedule(each, 5).multiplies_per_frame for each in (plain, artifact))
    assert before - after == config.tokens * config.blocks * (2 * rank * width - width * width)
    again, _ = fold(graph, weights)
    assert again == graph
