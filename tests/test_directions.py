"""Models that read sequences backwards: NumPy as torch, the C loop as the integer model, a norm folded behind a reversal."""

import numpy as np
import pytest
import torch
from blocks import check, check_model

from emamba.artifact import Codec, load, save
from emamba.base.errors import DesignLimit
from emamba.base.formats import IntFormat
from emamba.config import ModelConfig, QuantizeConfig
from emamba.graph import MODELS, Builder, build_graph, model
from emamba.quantization.quantize import quantize
from emamba.run.compiled import IntegerLoop
from emamba.run.integer import IntegerModel
from emamba.run.reference import Reference
from emamba.training.network import Network
from emamba.training.qat import IntegerNetwork
from rtl.kit.block import Beat
from rtl.kit.streams import DEEP_FIFO, Fifo
from rtl.kit.tally import tally
from rtl.plan.schedule import Schedule
from rtl.system.system import Options
from sim import cases
from sim.models import random_artifact


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


# -- the forms that are here --------------------------------------------------------------------------------------------------

SHAPE = {"input": "sequence", "features": 3, "length": 7, "d_model": 5, "d_state": 3, "dt_rank": 2, "blocks": 2,
         "task": "regression", "outputs": 2, "pool": "none"}
FORMS = [{"form": "emamba"}, {"form": "standard", "norm": "rms"}, {"form": "mamba2", "head_dim": 5, "norm": "layer"}]


def random_weights(graph, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.5, shape) for name, shape in graph.tensors.items()}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form["form"])
def test_backwards_is_forwards_on_the_reversed_sequence(form):
    graphs = {direction: build_graph(ModelConfig(**SHAPE | form, direction=direction))
              for direction in ("forward", "backward", "alternating")}
    weights, x = random_weights(graphs["forward"]), np.random.default_rng(1).normal(size=(4, 7, 3))
    y = {name: Reference(graph, weights).answer(x) for name, graph in graphs.items()}
    mirrored = Reference(graphs["forward"], weights).answer(x[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(y["backward"], mirrored, atol=1e-12)
    assert not np.allclose(y["forward"], mirrored)
    first = Reference(graphs["forward"], weights).run(x)["block0.residual"]
    then = Reference(graphs["alternating"], weights).run(x)
    np.testing.assert_allclose(then["block1.turn"], first[:, ::-1], atol=1e-12)
    np.testing.assert_allclose(then["turn"], then["block1.residual"][:, ::-1], atol=1e-12)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form["form"])
def test_both_directions(form, shared):
    graph = build_graph(ModelConfig(**SHAPE | form, direction="both", shared_directions=shared))
    assert any(".back." in name for name in graph.tensors) != shared
    weights, x = random_weights(graph), np.random.default_rng(1).normal(size=(4, 7, 3))
    values = Reference(graph, weights).run(x)
    np.testing.assert_allclose(values["block0.both"], values["block0.out"] + values["block0.back.out"][:, ::-1], atol=1e-12)
    network = Network(graph).double()
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    np.testing.assert_allclose(network(torch.from_numpy(x)).detach().numpy(), values["head"], atol=1e-6)
    mirrored = Reference(graph, weights).answer(x[:, ::-1])[:, ::-1]
    assert np.allclose(mirrored, values["head"]) == shared


CASES = [("alternating", 20, {}), ("both", 9, {"blocks": 1, "pool": "last"})]


@pytest.mark.slow
@pytest.mark.parametrize("direction, cycles, changes", CASES, ids=[case[0] for case in CASES])
def test_hardware(direction, cycles, changes, tmp_path):
    check_model(random_artifact(ModelConfig(**SHAPE | changes, direction=direction)), cycles, tmp_path)


def test_reversals_cost_latency_alone():
    """At T = 20: the cycles of a sequence stay, the latency grows by a sequence for each reversal, which has a memory of one."""
    shape = SHAPE | {"length": 16, "d_model": 20}
    plain = Schedule(random_artifact(ModelConfig(**shape)), 20)
    schedule = Schedule(random_artifact(ModelConfig(**shape, direction="alternating")), 20)
    assert schedule.cycles_per_frame == plain.cycles_per_frame == 320
    turns = [schedule.blocks[name] for name in ("block1.turn", "turn")]
    assert schedule.latency == plain.latency + sum(15 * schedule.period + block.latency + 1 for block in turns)
    assert [block.words * block.lanes for block in turns] == [16 * 20] * 2


def test_state_between_packets_is_refused():
    schedule = Schedule(random_artifact(ModelConfig(**SHAPE, direction="backward")), 8)
    Options().check(schedule)
    with pytest.raises(DesignLimit, match=r"^node 'block0.turn': a Reverse needs whole sequences, so no state is kept between "
                                          r"packets: build without it$"):
        Options(stateful=True).check(schedule)


def test_shared_weights_need_two_directions():
    with pytest.raises(ValueError, match="shared_directions needs direction = 'both'"):
        ModelConfig(**SHAPE, shared_directions=True)


@pytest.mark.parametrize("depth", [DEEP_FIFO - 1, DEEP_FIFO])
def test_long_fifos_have_the_register_of_block_ram(depth):
    found = tally(lambda: Fifo(Beat(IntFormat(12), 3), depth)).rams
    assert found == {(depth, 38, depth >= DEEP_FIFO): 1}


@pytest.mark.quick
@pytest.mark.parametrize("seed", range(10))
def test_hardware_of_random_reversals(seed):
    """Every beat in its cycle, at full speed and slower; one token and a thousand among them."""
    rng = np.random.default_rng(seed)
    channels, tokens = int(rng.integers(1, 8)), int({0: 1, 1: 1000}.get(seed, rng.integers(2, 14)))
    lanes = channels if tokens == 1000 else int(rng.integers(1, channels + 1))
    block = cases.reverse_block(channels, lanes, tokens)
    block = block.paced(block.words + int(rng.integers(2)) * int(rng.integers(3 * tokens)))
    check(block, *cases.tokens_of(block, batch=2 if tokens == 1000 else 5), stalls=(0, 50)[:1 + (tokens < 1000)])
