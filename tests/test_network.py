"""The float model against a naive numpy Mamba, one token and one channel at a time."""

import numpy as np
import pytest
import torch

from emamba.config import ModelConfig
from emamba.ops import RangeNorm
from emamba.run.reference import Reference
from emamba.training.network import TORCH, Network

SEQUENCE = {"input": "sequence", "features": 3, "length": 6, "d_model": 4, "dt_rank": 2, "d_state": 3, "blocks": 2,
            "task": "regression", "outputs": 5}
CASES = {
    "emamba": {},
    "standard": {"form": "standard", "norm": "rms"},
    "layer": {"norm": "layer", "pool": "last"},
    "biases": {"form": "standard", "norm": "rms", "norm_epsilon": 0.05, "bias": True},
    "no-biases": {"norm": "layer", "norm_epsilon": 0.2, "bias": False},
    "bare": {"norm": "none", "residual": False, "d_conv": 1, "expand": 1},
    "image": {"input": "image", "features": None, "length": None, "image": (4, 6, 2), "patch": (2, 3)},
    "tokens": {"form": "standard", "input": "tokens", "features": None, "vocabulary": 7, "task": "next_token",
               "pool": "none", "outputs": 7},
}


def make(**changes) -> Network:
    torch.manual_seed(1)
    model = Network(ModelConfig(**{**SEQUENCE, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def make_input(config: ModelConfig, batch: int = 2) -> torch.Tensor:
    torch.manual_seed(2)
    if config.input == "tokens":
        return torch.randint(config.vocabulary, (batch, config.tokens))
    return torch.randn(batch, config.tokens, config.input_width)


def silu(x):
    return x / (1 + np.exp(-x))


def naive(model: Network, tokens: np.ndarray) -> np.ndarray:
    config = model.config
    weights = {key: value.detach().double().numpy() for key, value in model.state_dict().items()}

    def linear(name, x):
        return weights[f"{name}.weight"] @ x + weights.get(f"{name}.bias", 0.0)

    def norm(name, x):
        if config.norm == "none":
            return x
        if config.norm == "range":
            x = (x - x.mean()) / (x.max() - x.min())
        elif config.norm == "layer":
            x = (x - x.mean()) / np.sqrt(x.var() + config.norm_epsilon)
        else:
            x = x / np.sqrt((x**2).mean() + config.norm_epsilon)
        return x * weights[f"{name}.weight"] + weights.get(f"{name}.bias", 0.0)

    def block(name, rows):
        taps = config.d_conv
        inputs = [np.zeros(config.d_inner)] * (taps - 1)
        state = np.zeros((config.d_inner, config.d_state))
        result = []
        for r in rows:
            h = norm(f"{name}.norm", r)
            inputs.append(linear(f"{name}.x", h))
            u = sum(weights[f"{name}.conv.weight"][:, k] * inputs[len(inputs) - taps + k] for k in range(taps))
            u = u + weights[f"{name}.conv.bias"]
            u = silu(u) if config.form == "standard" else u
            dt = linear(f"{name}.dt", linear(f"{name}.dt_low", u))
            dt = np.log1p(np.exp(dt)) if config.form == "standard" else np.maximum(dt, 0)
            B, C = linear(f"{name}.B", u), linear(f"{name}.C", u)
            for e in range(config.d_inner):
                for n in range(config.d_state):
                    A = -np.exp(weights[f"{name}.A_log"][e, n])
                    state[e, n] = np.exp(dt[e] * A) * state[e, n] + dt[e] * B[n] * u[e]
            y = state @ C + weights[f"{name}.D"] * u
            out = linear(f"{name}.out", y * silu(linear(f"{name}.z", h)))
            result.append(r + out if config.residual else out)
        return result

    outputs = []
    for sequence in tokens:
        embed = weights["embed.weight"]
        rows = [embed[token] for token in sequence] if config.input == "tokens" else [linear("embed", t) for t in sequence]
        for index in range(config.blocks):
            rows = block(f"blocks.{index}", rows)
        heads = np.array([linear("head", norm("norm", r)) for r in rows])
        outputs.append({"mean": heads.mean(0), "last": heads[-1], "none": heads}[config.pool])
    return np.array(outputs)


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_equals_naive(changes):
    model = make(**changes)
    tokens = make_input(model.config)
    expected = naive(model, tokens.numpy())
    assert np.allclose(model(tokens).detach().numpy(), expected, rtol=1e-3, atol=1e-4)
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    found = Reference(model.graph, weights).answer(tokens.numpy()[..., None] if tokens.ndim == 2 else tokens.double().numpy())
    assert np.allclose(found[:, 0] if model.graph.pooled else found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_gradients_reach_everything(changes):
    model = make(**changes)
    model(make_input(model.config)).square().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_state_dict():
    shapes = {key: tuple(value.shape) for key, value in make().state_dict().items()}
    linear = {"x": (8, 4), "z": (8, 4), "dt": (8, 2), "out": (4, 8)}
    expected = {"embed.weight": (4, 3), "embed.bias": (4,), "norm.weight": (4,), "norm.bias": (4,),
                "head.weight": (5, 4), "head.bias": (5,)}
    for i in range(2):
        block = {"norm.weight": (4,), "norm.bias": (4,), "conv.weight": (8, 4), "conv.bias": (8,), "dt_low.weight": (2, 8),
                 "B.weight": (3, 8), "C.weight": (3, 8), "A_log": (8, 3), "D": (8,)}
        for name, shape in linear.items():
            block |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
        expected |= {f"blocks.{i}.{key}": shape for key, shape in block.items()}
    assert shapes == expected


def test_state_dict_of_standard_form():
    keys = set(make(**CASES["standard"]).state_dict())
    assert not keys & {f"blocks.0.{name}.bias" for name in ("norm", "x", "z", "out")}
    assert {"blocks.0.dt.bias", "blocks.0.norm.weight", "norm.weight", "head.bias"} <= keys
    assert not any("norm" in key for key in make(norm="none").state_dict())
    assert make(**CASES["tokens"]).state_dict()["embed.weight"].shape == (7, 4)


def test_mars_has_the_counted_parameters():
    config = ModelConfig(input="image", image=(8, 8, 5), patch=(2, 2), d_model=20, dt_rank=32, blocks=2, task="regression",
                         outputs=57)
    assert sum(parameter.numel() for parameter in Network(config).parameters()) == 14_337


@pytest.mark.parametrize("form", ["emamba", "standard"])
def test_start(form):
    weights = Network(ModelConfig(**SEQUENCE, form=form)).state_dict()
    assert torch.allclose(-torch.exp(weights["blocks.0.A_log"]), -torch.arange(1.0, 4.0).expand(8, 3))
    activation = torch.nn.functional.softplus if form == "standard" else torch.relu
    dt = activation(weights["blocks.0.dt.bias"])
    assert (dt > 0.9e-3).all() and (dt < 1.1e-1).all()
    assert (weights["norm.weight"] == 3.125).all() and (weights["norm.bias"] == 0).all() and (weights["blocks.0.D"] == 1).all()


def range_normalize(x: torch.Tensor) -> torch.Tensor:
    return RangeNorm.normed(TORCH, None, x)


def test_range_norm_of_equal_values_is_zero():
    x = torch.tensor([[[2.5, 2.5, 2.5, 2.5], [1.0, 0.0, 0.0, 3.0]]], requires_grad=True)
    y = range_normalize(x)
    assert torch.equal(y[0, 0], torch.zeros(4))
    y.square().sum().backward()
    assert torch.isfinite(x.grad).all()


def test_range_norm_extent_is_one():
    x = range_normalize(torch.randn(5, 9))
    assert torch.allclose(x.amax(-1) - x.amin(-1), torch.ones(5))
    assert torch.allclose(x.mean(-1), torch.zeros(5), atol=1e-6)


@pytest.mark.parametrize("form", ["emamba", "standard"])
def test_causal(form):
    model = make(form=form, pool="none")
    tokens = make_input(model.config)
    changed = tokens.clone()
    changed[:, 4:] += 1
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


@pytest.mark.parametrize("form", ["emamba", "standard"])
def test_trace(form):
    model = make(form=form)
    tokens = make_input(model.config)
    trace = {}
    output = model(tokens, trace)
    names = ["norm", "x", "z", "conv", "dt_low", "dt", "B", "C", "y", "silu", "gate", "out", "residual"]
    names += ["u", "dt_raw"] if form == "standard" else []
    assert set(trace) == {"input", "embed", "norm", "pool", "head"} | {f"block{i}.{name}" for i in range(2) for name in names}
    assert torch.equal(trace["head"][:, 0], output)
    assert torch.equal(trace["block0.norm"], range_normalize(trace["embed"]))
    assert torch.equal(trace["block0.residual"] + trace["block1.out"], trace["block1.residual"])
    assert torch.equal(trace["norm"], range_normalize(trace["block1.residual"]))
    if form == "standard":
        assert torch.equal(trace["block0.u"], torch.nn.functional.silu(trace["block0.conv"]))
