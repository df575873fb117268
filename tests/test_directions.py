"""Models that read sequences backwards: NumPy as torch, the C loop as the integer model, a norm folded behind a reversal."""

import numpy as np
import pytest
import torch

from emamba.artifact import Codec, load, save
from emamba.base.errors import DesignLimit
from emamba.config import ModelConfig, QuantizeConfig
from emamba.graph import MODELS, Builder, build_graph, model
from emamba.quantization.quantize import quantize
from emamba.run.compiled import IntegerLoop
from emamba.run.integer import IntegerModel
from emamba.run.reference import Reference
from emamba.training.network import Network
from emamba.training.qat import IntegerNetwork


@pytest.fixture(scope="module", autouse=True)
def registered():
    model("mirrored")(mirrored)
    yield
    del MODELS["mirrored"]


def mirrored(g: Builder) -> str:
    """A convolution, and one of the sequence backwards, added to the stream."""
    normed = g.norm("between", g.x, kind="layer")
    there = g.conv("there", g.linear("up", normed, g.config.d_inner), g.config.d_conv)
    back = g.reverse("again", g.conv("back", g.linear("also", g.reverse("turned", normed), g.config.d_inner), g.config.d_conv))
    both = g.linear("down", g.multiply("both", there, back), g.config.d_model, role="branch")
    return g.residual("residual", g.x, both)


def made(length: int, seed: int = 0, **changes):
    """An artifact with random weights, and inputs."""
    config = ModelConfig(form="mirrored", input="sequence", features=3, length=length, d_model=5, inner=7, d_conv=3, blocks=1,
                         task="regression", outputs=2, **{"norm": "range", "pool": "last"} | changes)
    graph, rng = build_graph(config), np.random.default_rng(seed)
    weights = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in graph.tensors.items()}
    x = rng.normal(size=(12, length, 3))
    codec = Codec(np.zeros(3), np.ones(3), np.ones(2), np.zeros(2))
    return quantize("mirrored", config, weights, codec, x, QuantizeConfig()), x


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 13, 1000])
def test_numpy_torch_and_c(length, tmp_path):
    artifact, x = made(length)
    network = Network(artifact.graph).double()
    network.load_state_dict({name: torch.from_numpy(value.astype(np.float64)) for name, value in artifact.weights.items()})
    trace: dict = {}
    network(torch.from_numpy(x), trace)
    values = Reference(artifact.graph, artifact.weights).run(x)
    for name, value in values.items():
        np.testing.assert_allclose(value, trace[name].numpy(), atol=1e-6, err_msg=name)
    assert np.array_equal(values["turned"], values["between"][:, ::-1]) and artifact.graph["also"].norm == "between"
    integers = artifact.codec.encode(x, artifact.input)
    exact = IntegerModel(artifact).run(integers)
    assert np.array_equal(exact["again"], exact["back"][:, ::-1])
    assert artifact.operators["again"].o == artifact.operators["back"].o
    assert np.array_equal(IntegerLoop(artifact).run(integers), exact["head"])
    save(artifact, tmp_path / "a")
    assert load(tmp_path / "a").operators == artifact.operators


def test_training_computes_the_integers():
    artifact, x = made(6)
    integers = artifact.codec.encode(x, artifact.input)
    network = IntegerNetwork(artifact)
    y = network(integers)
    assert np.array_equal(y.detach().numpy(), IntegerModel(artifact).answer(integers)[:, 0] * artifact.output.step)
    y.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for name, parameter in network.named_parameters()
               if name.endswith("weight"))


def test_parts_of_a_sequence_are_refused():
    artifact, x = made(6)
    with pytest.raises(DesignLimit, match=r"^a Reverse needs whole sequences, so none goes on from a state: give each whole$"):
        IntegerModel(artifact).resume(artifact.codec.encode(x, artifact.input)[:, :3])
