"""The loops of the float model's training, in simple form and compiled with their derivatives, for speed.

    scan   h_t = exp(δ·A)·h_{t-1} + δ·u·B, y = C·h + D·u, from a cleared state
           u, dt [b, l, e]; B, C [b, l, n]; A [e, n]; D [e] -> y [b, l, e]
    conv   y_t = Σ_k weight[:, k] · x_{t - K + 1 + k} + bias, zeros before the first token
           x [b, l, e]; weight [e, k]; bias [e] -> y [b, l, e]
    noise  y = x + u·2^(1 − bits)·max |x|, u uniform in ±1/2: one step of a `bits`-bit format over x's range, which is what
           rounding will do to it (our choice). The step depends on x, so training learns to keep outliers, which cost every
           other value its resolution, small

The compiled form needs a C++ compiler: $CXX, else c++. Without one the simple loops run, which train several times slower.
"""

import ctypes
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..base import processes

SOURCE = Path(__file__).with_name("kernels.cpp")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-Wno-psabi")
TYPES = {torch.float32: "float", torch.float64: "double"}


def scan(u: Tensor, dt: Tensor, B: Tensor, C: Tensor, A: Tensor, D: Tensor) -> Tensor:
    if _compiled(u):
        return CompiledScan.apply(u, dt, B, C, A, D)
    return simple_scan(u, dt, B, C, A, D)


def conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return CompiledConv.apply(x, weight, bias) if _compiled(x) else simple_conv(x, weight, bias)


def simple_scan(u: Tensor, dt: Tensor, B: Tensor, C: Tensor, A: Tensor, D: Tensor) -> Tensor:
    """The definition of `scan`."""
    decay = torch.exp(dt.unsqueeze(-1) * A)  # Ā [b, l, e, n]
    drive = (dt * u).unsqueeze(-1) * B.unsqueeze(2)  # B̄·u [b, l, e, n]
    h = torch.zeros_like(drive[:, 0])  # [b, e, n]
    states = []
    for decay_t, drive_t in zip(decay.unbind(1), drive.unbind(1), strict=True):
        h = decay_t * h + drive_t  # [b, e, n]
        states.append(h)
    y = (torch.stack(states, 1) @ C.unsqueeze(-1)).squeeze(-1)  # [b, l, e]
    return y + D * u  # [b, l, e]


def simple_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The definition of `conv`."""
    length, taps = x.shape[1], weight.shape[1]
    padded = F.pad(x, (0, 0, taps - 1, 0))  # [b, l + k - 1, e]
    return sum(padded[:, k : k + length] * weight[:, k] for k in range(taps)) + bias  # [b, l, e]


def noise(x: Tensor, bits: int, seed: int) -> Tensor:
    return CompiledNoise.apply(x, bits, seed) if _compiled(x) else simple_noise(x, bits, seed)


def simple_noise(x: Tensor, bits: int, seed: int) -> Tensor:
    """The definition of `noise`; u is MurmurHash3's finalizer of the value's place and the seed."""
    h = torch.arange(x.numel(), device=x.device) ^ seed
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        h = ((h ^ (h >> shift)) * factor) & 0xFFFFFFFF
    u = (h - ((h >> 31) << 32)).view(x.shape).to(x.dtype) * 2.0**-32
    return x + u * (2.0 ** (1 - bits) * x.abs().amax())


@cache
def library() -> ctypes.CDLL | None:
    """kernels.cpp, compiled for this machine at the first use; None without a compiler. No file stays."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.so"
        try:
            processes.run([os.environ.get("CXX", "c++"), *FLAGS, "-o", path, SOURCE])
            return ctypes.CDLL(str(path))
        except OSError:
            return None


def _compiled(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in TYPES and library() is not None


class CompiledScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, dt, B, C, A, D):
        batched, weights = [value.contiguous() for value in (u, dt, B, C)], [A.T.contiguous(), D.contiguous()]
        ctx.save_for_backward(*batched, *weights)
        y = torch.empty_like(batched[0])
        _call("scan", batched, weights, [y], [])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        *batched, A, D = ctx.saved_tensors
        results = [torch.empty_like(value) for value in batched]
        dA, dD = _call("scan_back", batched, [A, D], [dy.contiguous(), *results], [A, D])
        return *results, dA.T, dD


class CompiledConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        x, weights = x.contiguous(), [weight.T.contiguous(), bias.contiguous()]
        ctx.save_for_backward(x, *weights)
        y = torch.empty_like(x)
        _call("conv", [x], weights, [y], [])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, *weights = ctx.saved_tensors
        dx = torch.empty_like(x)
        dweight, dbias = _call("conv_back", [x], weights, [dy.contiguous(), dx], weights)
        return dx, dweight.T, dbias


class CompiledNoise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, bits, seed):
        x = x.contiguous()
        y = torch.empty_like(x)
        function = _function("noise", x)
        function.restype = ctypes.c_long
        ctx.step, ctx.seed = 2.0 ** (1 - bits), ctypes.c_uint32(seed)
        ctx.at = function(ctypes.c_long(x.numel()), ctx.seed, ctypes.c_double(ctx.step), _pointer(x), _pointer(y))
        ctx.sign = x.view(-1)[ctx.at].sign()
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        dx = dy.clone(memory_format=torch.contiguous_format)
        function = _function("noise_back", dx)
        function.restype = ctypes.c_double
        dx.view(-1)[ctx.at] += ctx.sign * (ctx.step * function(ctypes.c_long(dx.numel()), ctx.seed, _pointer(dx)))
        return dx, None, None


def _function(name: str, x: Tensor):
    return getattr(library(), f"{name}_{TYPES[x.dtype]}")


def _pointer(x: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.data_ptr())


def _call(name: str, batched: list[Tensor], weights: list[Tensor], more: list[Tensor], summed: list[Tensor]) -> list[Tensor]:
    """Calls `name` once per thread of torch, on a slice of the batch: (sizes, *batched, *weights, *more, *sums).

    Returns what the slices added up, in the shapes of `summed`.
    """
    batch, length, channels = batched[0].shape
    function = _function(name, batched[0])
    workers = max(1, min(torch.get_num_threads(), batch))
    sums = [value.new_zeros(workers, *value.shape) for value in summed]

    def run(k: int) -> None:
        start, stop = batch * k // workers, batch * (k + 1) // workers
        tensors = [value[start:stop] for value in batched] + weights + [value[start:stop] for value in more]
        pointers = [_pointer(value) for value in tensors + [value[k] for value in sums]]
        function(*map(ctypes.c_long, (stop - start, length, channels, len(weights[0]))), *pointers)

    if workers == 1:
        run(0)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(run, range(workers)))
    return [value.sum(0) for value in sums]
