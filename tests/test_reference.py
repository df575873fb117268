"""The float executor against the torch network at every trace key, and the sentences about wrong checkpoints."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from emamba import datasets
from emamba.artifact import load
from emamba.base.errors import EmambaError
from emamba.config import ModelConfig
from emamba.datasets.tokens import executor_tokens
from emamba.graph import build_graph
from emamba.graph.parameters import check_tensors
from emamba.run.reference import Reference
from emamba.training.network import Network

ROOT = Path(__file__).parents[1]
BASE = {"d_model": 5, "d_state": 3, "dt_rank": 2, "d_conv": 3, "blocks": 2, "task": "regression", "outputs": 4}
INPUTS = {
    "image": {"input": "image", "image": (4, 6, 2), "patch": (2, 3)},
    "sequence": {"input": "sequence", "features": 3, "length": 6},
    "tokens": {"input": "tokens", "vocabulary": 7, "length": 6},
}
FORMS, NORMS = ("emamba", "standard"), ("range", "layer", "rms", "none")
POOLS, RESIDUALS = ("mean", "last", "none"), (True, False)


def make(kind: str, **changes) -> tuple[ModelConfig, Network, dict[str, np.ndarray]]:
    """A float64 network whose every parameter is random, and its weights."""
    config = ModelConfig(**BASE | INPUTS[kind] | changes)
    torch.manual_seed(3)
    model = Network(config).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return config, model, {name: value.detach().numpy() for name, value in model.state_dict().items()}


def make_tokens(config: ModelConfig, batch: int = 3) -> np.ndarray:
    """[batch, L, input width], as the executors read them."""
    rng = np.random.default_rng(4)
    if config.input == "tokens":
        return rng.integers(0, config.vocabulary, (batch, config.tokens, 1))
    return rng.normal(0, 1, (batch, config.tokens, config.input_width))


def torch_trace(model: Network, tokens: np.ndarray) -> dict[str, np.ndarray]:
    trace: dict[str, torch.Tensor] = {}
    ids = model.config.input == "tokens"
    with torch.no_grad():
        model(torch.from_numpy(tokens[..., 0] if ids else tokens), trace)
    values = {name: value.numpy() for name, value in trace.items()}
    return values | {"input": tokens}


@pytest.mark.parametrize("form, kind", list(itertools.product(FORMS, INPUTS)))
@pytest.mark.parametrize("norm, pool, residual", list(itertools.product(NORMS, POOLS, RESIDUALS)))
def test_equals_the_network_at_every_trace_key(form, kind, norm, pool, residual):
    config, model, weights = make(kind, form=form, norm=norm, pool=pool, residual=residual)
    tokens = make_tokens(config)
    expected, values = torch_trace(model, tokens), Reference(build_graph(config), weights).run(tokens)
    assert list(values) == list(expected)
    for name, value in values.items():
        assert value.shape == expected[name].shape, name
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_epsilon_and_biases(form, bias, norm):
    config, model, weights = make("sequence", form=form, bias=bias, norm=norm, norm_epsilon=0.5)
    tokens = make_tokens(config)
    expected, values = torch_trace(model, tokens), Reference(build_graph(config), weights).run(tokens)
    assert build_graph(config).tensors == {name: value.shape for name, value in weights.items()}
    assert {f"blocks.1.{name}.bias" in weights for name in ("x", "z", "out")} == {bias}
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-5, atol=1e-9, err_msg=name)
    x = values["embed"] - (values["embed"].mean(-1, keepdims=True) if norm == "layer" else 0)
    np.testing.assert_allclose(values["block0.norm"], x / np.sqrt((x**2).mean(-1, keepdims=True) + 0.5), rtol=1e-9)


def test_shipped_weights_on_real_frames():
    artifact = load(ROOT / "models" / "mars")
    frames = datasets.load("mars", "official", ROOT / "data").x_test[::500]
    tokens = artifact.codec.standardize(executor_tokens(frames, artifact.config))
    model = Network(artifact.config)
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in artifact.weights.items()})
    expected, values = torch_trace(model.double(), tokens), Reference(artifact.graph, artifact.weights).run(tokens)
    for name in expected:
        np.testing.assert_allclose(values[name], expected[name], rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("kind", INPUTS)
def test_keep_selects_and_changes_nothing(kind):
    config, _, weights = make(kind)
    reference, tokens = Reference(build_graph(config), weights), make_tokens(config)
    everything = reference.run(tokens)
    assert list(everything) == [node.name for node in reference.graph]
    for keep in (["head"], ["input", "block0.dt", "block1.residual"], []):
        kept = reference.run(tokens, keep)
        assert set(kept) == set(keep)
        assert all(np.array_equal(kept[name], everything[name]) for name in keep)


def test_states_are_those_that_y_reads():
    config, _, weights = make("sequence")
    reference = Reference(build_graph(config), weights)
    values = reference.run(make_tokens(config))
    states = reference.states("block1.y", values)
    assert states.shape == (3, 6, config.d_inner, config.d_state)
    y = (states * values["block1.C"][:, :, None]).sum(-1) + weights["blocks.1.D"] * values["block1.conv"]
    np.testing.assert_allclose(y, values["block1.y"], rtol=1e-12)
    u, dt, B = (values[f"block1.{name}"] for name in ("conv", "dt", "B"))
    np.testing.assert_allclose(states[:, 0], (dt[:, 0] * u[:, 0])[..., None] * B[:, 0, None], rtol=1e-12)


@pytest.mark.parametrize("form, kind, norm", list(itertools.product(FORMS, INPUTS, NORMS)))
def test_expected_shapes_are_the_networks(form, kind, norm):
    config, _, weights = make(kind, form=form, norm=norm)
    assert build_graph(config).tensors == {name: value.shape for name, value in weights.items()}


@pytest.mark.parametrize("change, sentence", [
    (lambda w: w.pop("blocks.1.conv.bias"),
     "here has no tensor 'blocks.1.conv.bias' of shape [10]: it is not a checkpoint of this model"),
    (lambda w: w.update({"head.weight": np.zeros((4, 6))}),
     "here: tensor 'head.weight' has the shape [4, 6], the model needs [4, 5]"),
    (lambda w: w.update({"blocks.0.D": np.zeros(())}), "here: tensor 'blocks.0.D' has the shape [], the model needs [10]"),
    (lambda w: w.update({"norm.bias": np.array([0, 1, np.nan, 0, 0])}),
     "here: tensor 'norm.bias' holds values that are not finite: train again"),
    (lambda w: w.update({"embed.bias": np.full(5, np.inf)}),
     "here: tensor 'embed.bias' holds values that are not finite: train again"),
    (lambda w: w.update({"head.scale": np.ones(4), "zero": np.ones(4)}),
     "here has a tensor 'head.scale' that this model does not know"),
])
def test_wrong_checkpoints_are_refused(change, sentence):
    config, _, weights = make("sequence")
    check_tensors(build_graph(config), weights, "here")
    change(weights)
    with pytest.raises(EmambaError, match=f"^{re.escape(sentence)}$"):
        check_tensors(build_graph(config), weights, "here")
    with pytest.raises(EmambaError, match=f"^{re.escape(sentence.replace('here', 'the checkpoint', 1))}$"):
        Reference(build_graph(config), weights)
