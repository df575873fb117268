"""Attention: its integers against a plain definition, models with it in every executor, the folding of its block, refusals."""

from dataclasses import replace
from fractions import Fraction
from math import exp, floor, sqrt

import numpy as np
import onnxruntime
import pytest
import torch
from blocks import check

from emamba.artifact import Codec, load, save
from emamba.base.errors import DesignLimit, EmambaError
from emamba.base.formats import IntFormat, Rounding
from emamba.config import ModelConfig, QuantizeConfig
from emamba.graph import MODELS, Builder, build_graph, model
from emamba.onnx.export import export_float
from emamba.ops.attention import inverse_root
from emamba.quantization.quantize import quantize
from emamba.run.compiled import IntegerLoop
from emamba.run.integer import IntegerModel
from emamba.run.reference import Reference
from emamba.training.network import Network
from emamba.training.qat import IntegerNetwork
from rtl.blocks.attention import Attention
from rtl.kit.registry import Stage
from rtl.plan.schedule import Schedule
from rtl.system.system import Options
from sim.bench import random_tokens
from sim.cases import attention


def to_format(value: Fraction, o: IntFormat, rounding: Rounding) -> int:
    """A value in output steps, rounded and saturated."""
    whole = {Rounding.TRUNCATE: floor(value), Rounding.HALF_UP: floor(value + Fraction(1, 2)), Rounding.HALF_EVEN: round(value)}
    return min(max(whole[rounding], o.min), o.max)


def plain(op, q, k, v):
    """The integers of one sequence, number by number, without the table of e and without NumPy."""
    size, table, y = op.head_dim, [int(x) for x in op.reciprocals[0]], []
    index_bits = len(table).bit_length() - 1
    for t in range(op.tokens):
        row = []
        for c in range(op.channels):
            own = range(c // size * size, c // size * size + size)
            keys = range(t + 1 if op.causal else op.tokens)
            scores = [sum(int(q[t][n]) * int(k[j][n]) for n in own) for j in keys]
            below = [Fraction((score - max(scores)) * op.multiplier) / Fraction(2) ** op.shift for score in scores]
            e = op.exp(np.array([to_format(p, op.exp.i, op.rounding) for p in below])).tolist()
            spread, total = sum(e), sum(weight * int(v[j][c]) for weight, j in zip(e, keys, strict=True))
            zeros = op.spread_bits - spread.bit_length()
            entry = table[(spread << zeros >> op.spread_bits - 1 - index_bits) & ((1 << index_bits) - 1)]
            row.append(to_format(Fraction((total << zeros) * entry) / Fraction(2) ** op.y_shift, op.o, op.rounding))
        y.append(row)
    return y


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("channels, heads, tokens", [(6, 2, 5), (1, 1, 1), (4, 1, 7), (3, 3, 2), (10, 2, 16)])
def test_integers_are_the_plain_definition(channels, heads, tokens, causal, rounding):
    op, rng = attention(channels, heads, tokens, causal=causal, rounding=rounding), np.random.default_rng(channels)
    q, k, v = rng.integers(-128, 128, (3, 4, tokens, channels))
    for x in (q, k, v):
        x[0], x[1] = -128, 127
    q[2] = 0
    k[3] //= 16  # scores that lie close together
    found = op(q, k, v)
    assert found.tolist() == [plain(op, *x) for x in zip(q, k, v, strict=True)]
    assert np.array_equal(op(*(x.astype(np.int32) for x in (q, k, v))), found)
    if tokens == 1:  # the only token has all the weight
        exact = np.clip(v * op.v.step / op.o.step, op.o.min, op.o.max)
        assert abs(found - exact).max() <= 1 + (rounding is Rounding.TRUNCATE)


def test_integers_are_near_the_real_softmax():
    op, rng = attention(8, 2, 64), np.random.default_rng(0)
    q, k, v = rng.integers(-60, 61, (3, 8, 64, 8))
    y = op(q, k, v) * op.o.step
    for head in (slice(0, 4), slice(4, 8)):
        scores = (q[..., head] * op.q.step) @ (k[..., head] * op.k.step).swapaxes(1, 2) / 2
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        exact = weights / weights.sum(-1, keepdims=True) @ (v[..., head] * op.v.step)
        assert abs(y[..., head] - exact).max() < 0.04 * op.v.max * op.v.step


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8, 12, 16, 31, 64, 100, 1 << 14])
def test_inverse_root(width):
    multiplier, extra = inverse_root(width)
    assert abs(multiplier * 2.0**-extra * sqrt(width) - 1) <= (0 if multiplier == 1 else 2.0**-11)
    assert multiplier < 1 << 12


@pytest.mark.parametrize("kept", ["most", "one"])
def test_fine_and_coarse_scores_are_exact(kept):
    """Shifts that are cut: p is 0 for scores of nothing, the lowest code for steps of a large score."""
    artifact, _ = made(causal=False)
    op, rng = artifact.operators["mixed"], np.random.default_rng(1)
    q, k = rng.integers(-128, 128, (2, 2, op.tokens, op.channels))
    cut = replace(op, shift=62 if kept == "most" else -op.exp.i.bits)
    p = cut.arguments(q[..., :op.head_dim], k[..., :op.head_dim])
    assert set(np.unique(p).tolist()) == ({0} if kept == "most" else {0, op.exp.i.min})


# -- models -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def registered():
    model("attends")(attends)
    yield
    del MODELS["attends"]


def attends(g: Builder) -> str:
    c, normed = g.config, g.norm("between", g.x)
    q, k, v = (g.linear(name, normed, c.d_inner) for name in "qkv")
    mixed = g.attention("mixed", q, k, v, c.options["heads"], causal=c.options["causal"])
    return g.residual("residual", g.x, g.linear("down", mixed, c.d_model, role="branch"))


def made(length: int = 6, heads: int = 2, *, causal: bool, **settings):
    """An artifact with random weights, and inputs."""
    config = ModelConfig(form="attends", input="sequence", features=3, length=length, d_model=5, inner=6, blocks=1,
                         task="regression", outputs=2, options={"heads": heads, "causal": causal})
    graph, rng = build_graph(config), np.random.default_rng(0)
    weights = {name: rng.normal(0, 0.6, shape).astype(np.float32) for name, shape in graph.tensors.items()}
    x = rng.normal(size=(12, length, 3))
    return quantize("attends", config, weights, Codec(np.zeros(3), np.ones(3), np.ones(2), np.zeros(2)), x,
                    QuantizeConfig(**settings)), x


@pytest.mark.parametrize("length, heads, causal", [(1, 1, False), (2, 6, True), (7, 2, False), (7, 3, True), (256, 1, True)])
def test_numpy_torch_and_c(length, heads, causal, tmp_path):
    artifact, x = made(length, heads, causal=causal)
    network = Network(artifact.graph).double()
    network.load_state_dict({name: torch.from_numpy(value.astype(np.float64)) for name, value in artifact.weights.items()})
    trace: dict = {}
    network(torch.from_numpy(x), trace)
    values = Reference(artifact.graph, artifact.weights).run(x)
    for name, value in values.items():
        np.testing.assert_allclose(value, trace[name].numpy(), atol=1e-6, err_msg=name)
    weights = [exp(float(score)) for score in (values["q"][0, -1, :6 // heads] @ values["k"][0, :, :6 // heads].T)
               / sqrt(6 // heads)]
    expected = sum(w * float(y) for w, y in zip(weights, values["v"][0, :, 0], strict=True)) / sum(weights)
    assert abs(values["mixed"][0, -1, 0] - expected) < 1e-12
    integers = artifact.codec.encode(x, artifact.input)
    assert np.array_equal(IntegerLoop(artifact).run(integers), IntegerModel(artifact).run(integers)["head"])
    save(artifact, tmp_path / "a")
    assert load(tmp_path / "a").operators == artifact.operators


def test_torchs_own_attention():
    artifact, x = made(5, 2, causal=True)
    values = Reference(artifact.graph, artifact.weights).run(x)
    q, k, v = (torch.from_numpy(values[name]).unflatten(-1, (2, 3)).transpose(1, 2) for name in "qkv")
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    np.testing.assert_allclose(values["mixed"], expected.transpose(1, 2).flatten(2).numpy(), atol=1e-12)


def test_onnx():
    artifact, x = made(5, 2, causal=True)
    model = export_float(artifact.graph, artifact.weights, artifact.codec, "regression")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answer, = session.run(None, {"inputs": x.astype(np.float32)})
    np.testing.assert_allclose(answer, Reference(artifact.graph, artifact.weights).answer(x)[:, 0], atol=1e-5)


def test_segments_may_follow_the_calibration_values():
    artifact, x = made(5, causal=True, rule="least_squares")
    op = artifact.operators["mixed"]
    q, k = (IntegerModel(artifact).run(artifact.codec.encode(x, artifact.input))[name] for name in "qk")
    counted = op.density(q, k)
    assert counted.sum() == len(x) * op.heads * 5 * 6 // 2
    assert not counted[-op.exp.i.min + 1:].any() and counted[-op.exp.i.min] >= len(x) * op.heads * 5


def test_training_computes_the_integers():
    artifact, x = made(causal=True)
    integers = artifact.codec.encode(x, artifact.input)
    network = IntegerNetwork(artifact, segments=True)
    y = network(integers)
    assert np.array_equal(y.detach().numpy(), IntegerModel(artifact).answer(integers)[:, 0] * artifact.output.step)
    y.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for name, parameter in network.named_parameters()
               if name.endswith("weight"))


# -- the block ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels, heads, tokens, lanes, pace, causal", [
    (4, 2, 1, 2, 1, False), (4, 2, 1, 4, 5, True), (4, 4, 7, 2, 20, True), (3, 1, 9, 3, 1, False), (4, 1, 5, 1, 23, True)])
def test_block_over_other_lengths(channels, heads, tokens, lanes, pace, causal):
    block = Attention(attention(channels, heads, tokens, causal=causal), lanes, pace)
    check(block, *(random_tokens(port, 4, tokens, seed=k) for k, port in enumerate(block.inputs.values())), stalls=(0, 50))


@pytest.mark.parametrize("cycles, lanes", [(192, 1), (191, 2), (96, 2), (95, 4), (48, 4), (47, 8), (23, 12), (15, 24), (1, 24)])
def test_fold_takes_the_fewest_lanes(cycles, lanes):
    """Parts of a head, or whole heads that divide all; where none is fast enough, all of them."""
    block = Attention.fold(attention(24, 6, 8), Stage(cycles=cycles))
    assert (block.lanes, block.cycles) == (lanes, 8 * 24 // lanes)
    assert block.multipliers == 3 * lanes + max(1, lanes // 4)


def test_refusals():
    artifact, x = made(causal=False)
    with pytest.raises(DesignLimit, match=r"^an Attention needs whole sequences, so none goes on from a state: give each whole$"):
        IntegerModel(artifact).resume(artifact.codec.encode(x, artifact.input)[:, :3])
    with pytest.raises(DesignLimit, match=r"^node 'mixed': an Attention needs whole sequences, so no state is kept between "
                                          r"packets: build without it$"):
        Options(stateful=True).check(Schedule(artifact, 12))
    with pytest.raises(EmambaError, match=r"^a sequence has 3 tokens, but this model's attention is over 6$"):
        IntegerModel(artifact).answer(artifact.codec.encode(x, artifact.input)[:, :3])
    with pytest.raises(DesignLimit, match=r"^an attention is possible over 1..256 tokens, not 257: shorten the sequences$"):
        made(257, causal=False)
    with pytest.raises(DesignLimit, match=r"6 channels do not divide into 4 heads$"):
        made(heads=4, causal=False)
    assert artifact.operators["mixed"].exp.o == IntFormat(8, False, 8)
