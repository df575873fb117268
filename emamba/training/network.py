"""The float model: one Mamba for every ModelConfig.

Symbols, as in the Mamba paper (arXiv 2312.00752) and in ours:
    b: batch          l: token, of L            d: channel of d_model     e: channel of d_inner
    n: state, of N    r: channel of dt_rank     k: tap of d_conv          δ (dt): step size
    Ā = exp(δ·A)      B̄·u = δ·u·B               h_t = Ā·h_{t-1} + B̄·u     y = C·h + D·u

`trace` collects intermediate tensors under the keys that the integer model, the RTL and the board use too.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import NORM_EPSILON, ModelConfig
from .kernels import conv, noise, scan

RANGE_NORM_WEIGHT = 3.125
"""Start of RangeNorm's weight, 25/8 as in Range Batch Normalization; our choice, the paper is silent."""

DT_RANGE = (1e-3, 1e-1)
"""Range of δ at the start, uniform in its logarithm (Mamba)."""


def range_normalize(x: Tensor) -> Tensor:
    """(x - mean) / (max - min) over the last axis, 0 where all values are equal. Paper: range normalization."""
    extent = x.amax(-1, keepdim=True) - x.amin(-1, keepdim=True)
    flat = extent == 0
    normalized = (x - x.mean(-1, keepdim=True)) / torch.where(flat, 1.0, extent)
    return torch.where(flat, 0.0, normalized)


def layer_normalize(x: Tensor, epsilon: float) -> Tensor:
    """(x - mean) / standard deviation over the last axis."""
    return F.layer_norm(x, x.shape[-1:], eps=epsilon)


def rms_normalize(x: Tensor, epsilon: float) -> Tensor:
    """x / root of the mean square over the last axis."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)


def rounding_noise(x: Tensor, bits: int | None) -> Tensor:
    return x if bits is None else noise(x, bits, int(torch.randint(1 << 32, ())))


class Norm(nn.Module):
    """weight · normalized(x) + bias per token over the channels; `rms` has no bias, `none` passes x through.

    x [b, l, d] -> [b, l, d]. The trace holds the normalized value before weight and bias: what the hardware has.
    """

    def __init__(self, kind: str, width: int, epsilon: float = NORM_EPSILON):
        super().__init__()
        self.normalize = {
            "range": range_normalize, "layer": partial(layer_normalize, epsilon=epsilon),
            "rms": partial(rms_normalize, epsilon=epsilon), "none": nn.Identity()
        }[kind]
        start = RANGE_NORM_WEIGHT if kind == "range" else 1.0
        self.weight = nn.Parameter(torch.full((width,), start)) if kind != "none" else None
        self.bias = nn.Parameter(torch.zeros(width)) if kind in ("range", "layer") else None

    def forward(self, x: Tensor, trace: dict | None = None, key: str = "norm") -> Tensor:
        x = self.normalize(x)
        _record(trace, key, x)
        if self.weight is not None:
            x = x * self.weight
        return x if self.bias is None else x + self.bias


class CausalConv(nn.Module):
    """Depthwise causal convolution: y_t = Σ_k weight[:, k] · x_{t - K + 1 + k} + bias, so the last tap is the current token.

    x [b, l, e] -> [b, l, e].
    """

    def __init__(self, width: int, taps: int):
        super().__init__()
        bound = 1 / math.sqrt(taps)
        self.weight = nn.Parameter(torch.empty(width, taps).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return conv(x, self.weight, self.bias)


class Block(nn.Module):
    """norm -> {x -> conv -> selective scan} ‖ {z -> SiLU} -> gate -> out, with the residual. r [b, l, d] -> [b, l, d].

    `emamba` form: paper, Eq. 4 (ReLU on δ) and the authors' hardware (SiLU on the gate only). `standard` form: Mamba-1.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.noise_bits: int | None = None
        self.dropout = 0.0
        d, e, n, r = config.d_model, config.d_inner, config.d_state, config.dt_rank
        self.norm = Norm(config.norm, d, config.norm_epsilon)
        self.x = nn.Linear(d, e, bias=config.projection_bias)
        self.z = nn.Linear(d, e, bias=config.projection_bias)
        self.conv = CausalConv(e, config.d_conv)
        self.dt_low = nn.Linear(e, r, bias=False)
        self.dt = nn.Linear(r, e)
        self.B = nn.Linear(e, n, bias=False)
        self.C = nn.Linear(e, n, bias=False)
        self.A_log = nn.Parameter(torch.arange(1, n + 1).float().log().repeat(e, 1))  # A = -1 … -N (Mamba, paper)
        self.D = nn.Parameter(torch.ones(e))
        self.out = nn.Linear(e, d, bias=config.projection_bias)
        self._start_dt()

    def _start_dt(self):
        """δ = activation(bias) within DT_RANGE. For softplus as in Mamba; the same values for ReLU are our choice."""
        low, high = (math.log(limit) for limit in DT_RANGE)
        dt = torch.empty(self.config.d_inner).uniform_(low, high).exp()
        inverse_softplus = dt + torch.log(-torch.expm1(-dt))
        with torch.no_grad():
            self.dt.bias.copy_(inverse_softplus if self.config.softplus else dt)

    def forward(self, r: Tensor, trace: dict | None = None, name: str = "block") -> Tensor:
        config, bits = self.config, self.noise_bits if self.training else None
        h = self.norm(r, trace, f"{name}.norm")  # [b, l, d]
        x = self.x(h)  # [b, l, e]
        z = self.z(h)  # [b, l, e]
        conv = self.conv(x)  # [b, l, e]
        u = F.silu(conv) if config.conv_silu else conv  # [b, l, e]
        dt_low = self.dt_low(u)  # [b, l, r]
        dt = self.dt(dt_low)  # [b, l, e]
        dt = F.softplus(dt) if config.softplus else F.relu(dt)  # [b, l, e]
        B = self.B(u)  # [b, l, n]
        C = self.C(u)  # [b, l, n]
        y = rounding_noise(self.scan(u, dt, B, C), bits)  # [b, l, e]
        silu = F.silu(z)  # [b, l, e]
        gate = rounding_noise(y * silu, bits)  # [b, l, e]
        out = F.dropout(self.out(gate), self.dropout, self.training)  # [b, l, d]
        out = rounding_noise(out, bits)  # [b, l, d]
        residual = rounding_noise(r + out, bits) if config.residual else out  # [b, l, d]

        values = {"x": x, "z": z, "conv": conv, "dt_low": dt_low, "dt": dt, "B": B, "C": C, "y": y,
                  "silu": silu, "gate": gate, "out": out, "residual": residual}
        if config.conv_silu:
            values["u"] = u
        for key, value in values.items():
            _record(trace, f"{name}.{key}", value)
        return residual

    def scan(self, u: Tensor, dt: Tensor, B: Tensor, C: Tensor) -> Tensor:
        """Selective scan from a cleared state. u, dt [b, l, e]; B, C [b, l, n] -> y [b, l, e]."""
        return scan(u, dt, B, C, -torch.exp(self.A_log), self.D)


class Mamba(nn.Module):
    """embed -> blocks -> norm -> pool -> head.

    Input: tokens [b, L, input_width] (image patches, sequence) or token ids [b, L]. Output [b, outputs], or
    [b, L, outputs] when pool is `none`. The pool is before the head: the mean of linear outputs is the linear output
    of the mean, at 1/L of the work (our choice; the paper does not say how the outputs are pooled).
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embed = (
            nn.Embedding(config.vocabulary, config.d_model)
            if config.input == "tokens"
            else nn.Linear(config.input_width, config.d_model)
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = Norm(config.norm, config.d_model, config.norm_epsilon)
        self.head = nn.Linear(config.d_model, config.outputs)

    def forward(self, tokens: Tensor, trace: dict | None = None) -> Tensor:
        _record(trace, "input", tokens)
        r = self.embed(tokens)  # [b, l, d]
        _record(trace, "embed", r)
        for index, block in enumerate(self.blocks):
            r = block(r, trace, f"block{index}")  # [b, l, d]
        pooled = self.pool(self.norm(r, trace, "norm"))  # [b, d], or [b, l, d] without pooling
        output = self.head(pooled)  # [b, outputs], or [b, l, outputs]
        _record(trace, "head", output)
        return output

    def pool(self, x: Tensor) -> Tensor:
        if self.config.pool == "none":
            return x
        return x.mean(1) if self.config.pool == "mean" else x[:, -1]


def _record(trace: dict | None, key: str, value: Tensor):
    if trace is not None:
        trace[key] = value.detach()
