"""The compiled loops against their definitions, and their derivatives against numeric ones and autograd's."""

import pytest
import torch

from emamba.config import ModelConfig
from emamba.training import kernels, network
from emamba.training.kernels import CompiledConv, CompiledScan, conv, scan, simple_conv, simple_scan

SHAPES = [(3, 5, 7, 3), (2, 4, 33, 2), (1, 1, 1, 1), (2, 3, 16, 4)]
"""Batch, tokens, channels, states or taps: channels below, at and above what one vector holds."""


def scan_inputs(b, l, e, n, dtype):
    torch.manual_seed(b + l + e + n)
    shapes = [(b, l, e), (b, l, e), (b, l, n), (b, l, n), (e, n), (e,)]
    u, dt, B, C, A, D = (torch.randn(shape, dtype=dtype) for shape in shapes)
    return [value.requires_grad_() for value in (u, dt.relu(), B, C, -A.exp(), D)]


def conv_inputs(b, l, e, k, dtype):
    torch.manual_seed(b + l + e + k)
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in ((b, l, e), (e, k), (e,))]


CASES = {"scan": (CompiledScan, scan, simple_scan, scan_inputs), "conv": (CompiledConv, conv, simple_conv, conv_inputs)}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_derivative(case, shape, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    compiled, _, _, inputs = case
    assert torch.autograd.gradcheck(compiled.apply, inputs(*shape, torch.float64), fast_mode=True)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("shape", [*SHAPES, (5, 30, 40, 8), (2, 3, 20, 6), (4, 2, 3, 5)], ids=str)
def test_equals_simple_loop(case, dtype, tolerance, shape):
    _, fast, simple, inputs = case
    a, b = inputs(*shape, dtype), inputs(*shape, dtype)
    fast_y, simple_y = fast(*a), simple(*b)
    assert type(fast_y.grad_fn) is not type(simple_y.grad_fn)
    close(fast_y, simple_y, tolerance)
    torch.manual_seed(0)
    g = torch.randn_like(simple_y)
    fast_y.backward(g)
    simple_y.backward(g)
    for value, expected in zip(a, b, strict=True):
        close(value.grad, expected.grad, tolerance)


def close(value, expected, tolerance):
    assert (value - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1)


def test_strided_inputs():
    inputs = scan_inputs(2, 6, 5, 3, torch.float64)
    strided = [value.detach().mT.contiguous().mT if value.ndim > 1 else value.detach() for value in inputs]
    close(scan(*strided), simple_scan(*inputs), 1e-12)


def test_range_of_exp():
    u, dt, B, C, D = (torch.ones(1, 3, 1), torch.ones(1, 3, 1), torch.ones(1, 3, 1), torch.ones(1, 3, 1), torch.zeros(1))
    for exponent in (0.0, -1e-8, -0.5, -30.0, -87.5, -1e4, -3e38, 2.0):
        A = torch.full((1, 1), exponent)
        close(scan(u, dt, B, C, A, D), simple_scan(u, dt, B, C, A, D), 1e-6)
    assert scan(u, dt * float("nan"), B, C, A, D).isnan().all()


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_without_a_compiler(compiler, monkeypatch):
    monkeypatch.setenv("CXX", compiler)
    kernels.library.cache_clear()
    try:
        inputs = scan_inputs(2, 4, 5, 3, torch.float32)
        assert kernels.library() is None
        assert torch.equal(scan(*inputs), simple_scan(*inputs))
    finally:
        kernels.library.cache_clear()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("seed", [0, 1 << 31, 0xFFFFFFFF])
def test_noise(sign, dtype, tolerance, seed):
    torch.manual_seed(3)
    x = (sign * torch.randn(4, 50, 60).abs()).to(dtype).requires_grad_()
    y = x.detach().clone().requires_grad_()
    noisy, expected = kernels.noise(x, 5, seed), kernels.simple_noise(y, 5, seed)
    assert type(noisy.grad_fn) is not type(expected.grad_fn)
    close(noisy, expected, tolerance)
    g = torch.randn_like(y)
    noisy.backward(g)
    expected.backward(g)
    close(x.grad, y.grad, tolerance)


def test_noise_is_uniform():
    x = torch.zeros(200_000, dtype=torch.float64)
    x[7] = 2.0
    parts = [(kernels.noise(x, 4, seed) - x) / (2.0 * 2.0**-3) for seed in (11, 12)]
    for part in parts:
        assert torch.histc(part, 10, -0.5, 0.5).sub(20_000).abs().max() < 700 and part.abs().max() <= 0.5
        assert torch.corrcoef(torch.stack([part[1:], part[:-1]]))[0, 1].abs() < 0.01
    assert torch.corrcoef(torch.stack(parts))[0, 1].abs() < 0.01


def test_rounding_noise_is_for_training_only():
    model = network.Network(ModelConfig(input="sequence", features=2, length=3, d_model=4, dt_rank=1, blocks=1,
                                        task="regression", outputs=1))
    x = torch.randn(2, 3, 2)
    plain = model.train()(x)
    model.noise_bits = 6
    torch.manual_seed(1)
    first, second = model(x), model(x)
    torch.manual_seed(1)
    assert torch.equal(model(x), first) and not torch.equal(first, second) and torch.equal(model.eval()(x), plain)
