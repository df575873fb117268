"""Windows on grids, and the convolutions made of them: against torch's, in integers and C, in hardware, and what is refused."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from blocks import check, check_model
from torch.nn import functional as F

from emamba.artifact import load, save
from emamba.base.errors import EmambaError
from emamba.config import ModelConfig
from emamba.graph import Builder, Graph, build_graph
from emamba.run.compiled import IntegerLoop
from emamba.run.integer import IntegerModel
from emamba.run.reference import Reference
from emamba.training.network import Network
from emamba.training.qat import IntegerNetwork
from rtl.blocks.depthwise import Depthwise
from rtl.blocks.window import Window
from rtl.kit.registry import Stage
from rtl.plan.schedule import Schedule
from sim import cases
from sim.models import random_artifact, random_inputs

SMALL = {"d_model": 4, "d_state": 2, "dt_rank": 1, "blocks": 2, "task": "regression", "outputs": 2}
IMAGE = {"input": "image", "image": (5, 7, 2), "patch": (1, 1), **SMALL}
SEQUENCE = {"input": "sequence", "features": 3, "length": 11, **SMALL}
MODELS = {
    "same": SEQUENCE | {"conv": "same", "d_conv": 5},
    "sequence": SEQUENCE | {"stem": [{"channels": 5, "kernel": 4, "stride": 2}], "merge": [1]},
    "grid": IMAGE | {"conv": "grid", "d_conv": 3, "norm": "layer", "direction": "alternating"},
    "image": IMAGE | {"conv": "grid", "d_conv": 2, "stem": [
        {"channels": 3, "kernel": 3, "stride": 2, "function": "silu"}, {"channels": 2, "kernel": 2}], "merge": [1]},
    "one token": SEQUENCE | {"length": 1, "conv": "same", "d_conv": 3, "stem": [{"channels": 2, "kernel": 3}]},
    "thousand": SEQUENCE | {"length": 1000, "conv": "same", "d_conv": 3, "blocks": 1, "stem": [
        {"channels": 4, "kernel": 9, "stride": 8}]},
    "mamba2": IMAGE | {"form": "mamba2", "head_dim": 4, "conv": "grid", "d_conv": 3, "direction": "both"},
}
PUBLISHED = {"form": "mars_published", "image": (4, 4, 2), "stem": [{"channels": 3, "kernel": 3}, {"channels": 4, "kernel": 3}],
             "d_model": 40, "blocks": 1, "norm": "none", "pool": "last", "outputs": 7}


def random_window(seed: int):
    """Grid, kernel, stride, borders and channels, odd ones among them."""
    rng = np.random.default_rng(seed)
    while True:
        grid, kernel, stride = (tuple(rng.integers(1, most, 2).tolist()) for most in (7, 4, 4))
        pads = tuple(int(rng.integers(0, size)) for size in (*kernel, *kernel))
        if all(size + pads[k] + pads[k + 2] >= kernel[k] for k, size in enumerate(grid)):
            return grid, kernel, stride, pads, int(rng.integers(1, 6))


def convolved(x: np.ndarray, weight: np.ndarray, grid, kernel, stride, pads, groups: int = 1) -> np.ndarray:
    """torch's convolution of x [batch, tokens, channels] with weight [out, taps, channels of a group] → [batch, places, out]."""
    picture = torch.from_numpy(x).reshape(len(x), *grid, -1).permute(0, 3, 1, 2)
    filters = torch.from_numpy(weight).reshape(len(weight), *kernel, -1).permute(0, 3, 1, 2)
    top, left, bottom, right = pads
    y = F.conv2d(F.pad(picture, (left, right, top, bottom)), filters, stride=stride, groups=groups)
    return y.flatten(2).swapaxes(1, 2).numpy()


@pytest.mark.quick
@pytest.mark.parametrize("seed", range(10))
def test_integers_and_floats_are_torchs_convolution(seed):
    grid, kernel, stride, pads, channels = random_window(seed)
    op = cases.window_block(channels, 1, 1, 1, grid, kernel, stride=stride, pads=pads).op
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (3, grid[0] * grid[1], channels))
    windows = op(x)
    weight = rng.integers(-128, 128, (4, windows.shape[2]))
    dense = convolved(x, weight.reshape(4, -1, channels), grid, kernel, stride, pads)
    assert np.array_equal(windows @ weight.T, dense)
    depthwise = cases.depthwise(rng, channels, op.grid.taps)
    exact = replace(depthwise, bias=np.zeros(channels, np.int64), shift=0, o=replace(depthwise.o, bits=30))
    by_channel = convolved(x, exact.weight[..., None], grid, kernel, stride, pads, groups=channels)
    assert np.array_equal(exact(windows), by_channel)
    node = Graph(tuple(built(channels, grid, kernel, stride, pads).nodes.values()), ("window",))["window"]
    real = op.real(np, node, {}, x.astype(float))
    assert np.array_equal(real, windows) and node.tokens == windows.shape[1] == len(op.grid.tokens)
    assert np.array_equal(op.real(torch, node, {}, torch.from_numpy(x)).numpy(), windows)


@pytest.mark.quick
@pytest.mark.parametrize("name", ["grid", "image", "sequence"])
def test_a_network_convolves_without_the_copies_of_a_window(name):
    """Without a trace a Window and its reader are one convolution: the same values and gradients."""
    torch.manual_seed(3)
    network = Network(ModelConfig(**MODELS[name])).double()
    x = torch.randn(3, network.config.tokens, network.config.input_width, dtype=torch.float64)
    results = []
    for trace in (None, {}):
        output = network(x, trace)
        results.append([output, *torch.autograd.grad(output.square().sum(), list(network.parameters()))])
    assert network.convolutions
    for merged, apart in zip(*results, strict=True):
        torch.testing.assert_close(merged, apart, rtol=1e-9, atol=1e-12)


def built(channels, grid, kernel, stride, pads) -> Builder:
    config = ModelConfig(input="sequence", features=channels, length=grid[0] * grid[1], **SMALL)
    g = Builder(config)
    del g.nodes["embed"]
    g.window("window", "input", kernel, stride=stride, pads=pads, grid=grid)
    return g


@pytest.mark.quick
@pytest.mark.parametrize("seed", range(10))
def test_hardware_of_random_windows(seed):
    """Every beat in its cycle, with and without stalls, at full speed and slower, one tap or several at a time."""
    grid, kernel, stride, pads, channels = random_window(seed)
    rng = np.random.default_rng(seed)
    lanes = [n for n in range(1, channels + 1) if channels % n == 0]
    copies = [n for n in range(1, kernel[1] + 1) if kernel[1] % n == 0]
    copies += [kernel[1] * n for n in range(2, kernel[0] + 1) if kernel[0] % n == 0]
    lane, copy = int(rng.choice(lanes)), int(rng.choice(copies))
    shape = (channels, lane, copy if lane == channels else 1, 1, grid, kernel)
    block = cases.window_block(*shape, stride=stride, pads=pads)
    block = block.paced(block.cycles * block.tokens + int(rng.integers(2)) * int(rng.integers(4 * block.tokens)))
    check(block, *cases.tokens_of(block, batch=4), stalls=(0, 50))


@pytest.mark.quick
@pytest.mark.parametrize("seed", range(10))
def test_hardware_of_random_products(seed):
    """The same of depthwise products, with channel groups of one tap, or several taps."""
    rng = np.random.default_rng(seed)
    channels, taps = int(rng.integers(1, 9)), int(rng.integers(1, 12))
    lanes = int(rng.choice([n for n in range(1, channels + 1) if channels % n == 0]))
    terms = int(rng.integers(1, taps + 1)) if lanes == channels else 1
    rounding = list(cases.Rounding)[seed % 3]
    block = cases.depthwise_block(channels, taps, lanes, terms, dyadic=bool(seed % 2), rounding=rounding)
    check(block, *cases.tokens_of(block), stalls=(0, 50))


@pytest.mark.parametrize("grid, kernel", [((9, 11), (3, 3)), ((1, 40), (1, 7)), ((8, 8), (2, 2)), ((6, 5), (5, 1))], ids=str)
def test_ring_is_as_deep_as_it_must_be(grid, kernel):
    """From a window's first token to its last one, where a token comes every period and the windows are as many."""
    top, left = (kernel[0] - 1) // 2, (kernel[1] - 1) // 2
    block = cases.window_block(2, 2, 1, 1, grid, kernel, pads=(top, left, kernel[0] // 2, kernel[1] // 2))
    block = block.paced(40 * block.tokens)
    assert block.depth == (kernel[0] - 1) * grid[1] + kernel[1]
    arrivals = [40 * k for k in range(3 * block.tokens)]
    assert block.schedule(arrivals)[0].tolist() == arrivals
    shallow = replace(block)
    shallow.__dict__["depth"] = block.depth - 1
    with pytest.raises(IndexError):  # a token waits for a window that waits for it
        shallow.schedule(arrivals)


@pytest.mark.parametrize("cycles", [1, 2, 5, 9, 100])
def test_folds_keep_the_budget(cycles):
    """Words and windows in time, with no more lanes than that takes."""
    window = cases.window_block(6, 1, 1, 1, (4, 6), (3, 3), stride=(1, 2), pads=(1, 1, 1, 1)).op
    block = Window.fold(window, Stage(cycles=cycles, tokens=24, reads=24))
    assert block.cycles <= cycles and block.in_lanes * block.copies == {1: 54, 2: 18, 5: 6, 9: 3, 100: 1}[cycles]
    op = cases.depthwise(cases.rng(), 6, 9)
    product = Depthwise.fold(op, Stage(cycles=cycles, tokens=24, reads=12))
    assert product.cycles <= 2 * cycles and product.multipliers == {1: 30, 2: 18, 5: 6, 9: 3, 100: 1}[cycles]


def network_values(artifact, x) -> dict[str, np.ndarray]:
    network, trace = Network(artifact.graph).double(), {}
    network.load_state_dict({name: torch.from_numpy(value.astype(np.float64)) for name, value in artifact.weights.items()})
    network(torch.from_numpy(x), trace)
    return {name: value.numpy() for name, value in trace.items()}


@pytest.mark.parametrize("name", MODELS)
def test_models(name, tmp_path):
    """NumPy as torch, C as the integer model, the artifact as saved."""
    artifact = random_artifact(ModelConfig(**MODELS[name]))
    x = random_inputs(artifact.config, 6)
    expected = network_values(artifact, x)
    for node, value in Reference(artifact.graph, artifact.weights).run(x).items():
        np.testing.assert_allclose(value, expected[node], atol=1e-6, err_msg=node)
    integers = artifact.codec.encode(x, artifact.input)
    assert np.array_equal(IntegerLoop(artifact).run(integers), IntegerModel(artifact).answer(integers))
    save(artifact, tmp_path / "a")
    assert load(tmp_path / "a").operators == artifact.operators


def test_blocks_convolve_on_the_grid_of_patches():
    artifact = random_artifact(ModelConfig(**MODELS["image"]))
    values = Reference(artifact.graph, artifact.weights).run(random_inputs(artifact.config, 2))
    weights = {name: value.astype(np.float64) for name, value in artifact.weights.items()}
    pixels = values["input"].shape[2]
    stem = convolved(values["input"], weights["stem.0.weight"].reshape(3, 9, pixels), (5, 7), (3, 3), (2, 2), (1, 1, 1, 1))
    np.testing.assert_allclose(values["stem0"], stem + weights["stem.0.bias"], atol=1e-9)
    assert artifact.graph["embed"].tokens == 12
    same = (1, 1), (0, 0, 1, 1)
    for block, grid in ((0, (3, 4)), (1, (2, 2))):
        weight = weights[f"blocks.{block}.conv.weight"]
        found = convolved(values[f"block{block}.x"], weight[..., None], grid, (2, 2), *same, groups=len(weight))
        np.testing.assert_allclose(values[f"block{block}.conv"], found + weights[f"blocks.{block}.conv.bias"], atol=1e-9)
    weight = weights["blocks.1.merge.weight"].reshape(4, 4, 4)
    merge = convolved(values["block0.residual"], weight, (3, 4), (2, 2), (2, 2), (0, 0, 1, 1))
    np.testing.assert_allclose(values["block1.merge"], merge + weights["blocks.1.merge.bias"], atol=1e-9)


def test_training_computes_the_integers():
    artifact = random_artifact(ModelConfig(**MODELS["image"]))
    integers = artifact.codec.encode(random_inputs(artifact.config, 4), artifact.input)
    network = IntegerNetwork(artifact)
    y = network(integers)
    assert np.array_equal(y.detach().numpy(), IntegerModel(artifact).answer(integers)[:, 0] * artifact.output.step)
    y.square().sum().backward()
    tensors = dict(network.network.named_parameters())
    assert all(tensors[name].grad.abs().sum() > 0 for name in ("blocks.0.conv.weight", "stem.0.weight", "blocks.1.merge.weight"))


CASES = [("sequence", 5), ("image", 12), ("grid", 3)]


@pytest.mark.slow
@pytest.mark.parametrize("name, cycles", CASES, ids=[case[0] for case in CASES])
def test_hardware_of_models(name, cycles, tmp_path):
    assert check_model(random_artifact(ModelConfig(**MODELS[name])), cycles, tmp_path).period <= cycles


def test_a_linear_of_all_places_takes_the_whole_sequence(monkeypatch):
    monkeypatch.setenv("EMAMBA_MODELS", "models/recipes/baselines/mars_published.py")
    schedule = Schedule(random_artifact(ModelConfig(**IMAGE | PUBLISHED)), 20)
    assert schedule.blocks["dense"].cycles == schedule.cycles_per_frame == 320
    assert schedule.utilization(schedule.multiplies_per_frame, schedule.multipliers) > 0.8


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("cycles", [1, 7, 40])
def test_schedules_keep_their_cycles(name, cycles):
    if name != "mamba2":
        schedule = Schedule(random_artifact(ModelConfig(**MODELS[name])), cycles)
        assert schedule.period <= cycles
        longest = schedule.timetable(3)
        frame = len(longest) // 3
        assert longest[2 * frame - 1] - longest[frame - 1] == schedule.cycles_per_frame


REFUSED = [
    ({"grid": (2, 6)}, "its grid of 2×6 has 12 tokens, but a sequence that it reads has 10"),
    ({"kernel": (3, 3), "pads": (0, 0, 0, 0)},
     "its kernel of 3×3 is larger than its grid of 2×5 with its border: choose a smaller kernel or a wider border"),
    ({"pads": (0, 3, 0, 0)}, "its border of 3 zeros on the left is not narrower than its kernel of 3"),
]


@pytest.mark.quick
@pytest.mark.parametrize("change, sentence", REFUSED)
def test_wrong_grids_are_refused(change, sentence):
    right = {"channels": 2, "grid": (2, 5), "kernel": (1, 3), "stride": (1, 1), "pads": (0, 0, 0, 0)}
    built(**right)
    with pytest.raises(EmambaError, match=f"^{re.escape(sentence)}$"):
        g = Builder(ModelConfig(input="sequence", features=2, length=10, **SMALL))
        parts = right | change
        g.window("window", "input", parts["kernel"], stride=parts["stride"], pads=parts["pads"], grid=parts["grid"])


@pytest.mark.quick
@pytest.mark.parametrize("base, change, sentence", [
    (SEQUENCE, {"conv": "grid"}, "conv = 'grid' does not belong to input = 'sequence'"),
    (SEQUENCE, {"merge": [2]}, "merge must name blocks of 1..1, each once, the first one first"),
    (SEQUENCE, {"merge": [0]}, "merge must name blocks of 1..1, each once, the first one first"),
    ({"input": "tokens", "vocabulary": 5, "length": 4, **SMALL}, {"stem": [{"channels": 2, "kernel": 3}]},
     "the key 'stem' does not belong to input = 'tokens'"),
    ({"input": "tokens", "vocabulary": 5, "length": 4, **SMALL}, {"merge": [1], "task": "next_token", "pool": "none"},
     "task = 'next_token' predicts at every token, so merge and strides in the stem are not possible"),
])
def test_wrong_configurations_are_refused(base, change, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        ModelConfig(**base | change)


def test_other_lengths_and_parts_are_refused():
    artifact = random_artifact(ModelConfig(**MODELS["same"]))
    x = artifact.codec.encode(random_inputs(artifact.config, 2), artifact.input)
    with pytest.raises(EmambaError, match=r"^a sequence has 5 tokens, but this model reads a grid of 1×11$"):
        IntegerModel(artifact).run(x[:, :5])
    with pytest.raises(EmambaError, match=r"^a Window needs whole sequences, so none goes on from a state: give each whole$"):
        IntegerModel(artifact).resume(x)


def test_shapes_that_do_not_meet_are_refused():
    artifact = random_artifact(ModelConfig(**MODELS["same"]))
    graph = artifact.graph
    for name, change, sentence in (
            ("block0.conv", {"width": 4}, "node 'block0.conv': the width of its input is 40, but the node needs 20"),
            ("block0.conv_window", {"width": 8}, "node 'block0.conv_window': its width is 8, but the node needs 40")):
        nodes = tuple(replace(node, **change) if node.name == name else node for node in graph)
        with pytest.raises(EmambaError, match=f"^{re.escape(sentence)}$"):
            Graph(nodes, graph.outputs)


def test_graphs_are_those_of_before():
    """What is new is off where nothing asks for it."""
    plain = build_graph(ModelConfig(**SEQUENCE))
    assert not {node.kind for node in plain} & {"Window", "Depthwise", "Reverse"}
