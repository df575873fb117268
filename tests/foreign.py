"""Mamba-1 and Mamba-2 written down once more, straight from their equations, in the names of mamba_ssm or transformers: what
tests import."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from math import ceil
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class Settings:
    """As mamba_ssm keeps them."""

    d_model: int = 17
    n_layer: int = 2
    vocab_size: int = 23
    ssm_cfg: dict = field(default_factory=lambda: {"d_state": 5})
    rms_norm: bool = True
    residual_in_fp32: bool = True
    fused_add_norm: bool = True
    pad_vocab_size_multiple: int = 8
    tie_embeddings: bool = True
    d_intermediate: int = 0

    def shape(self) -> SimpleNamespace:
        inner = {"d_state": 16, "d_conv": 4, "expand": 2, "dt_rank": "auto", "bias": False, "conv_bias": True} | self.ssm_cfg
        several = self.pad_vocab_size_multiple
        return SimpleNamespace(
            rows=ceil(self.vocab_size / several) * several, d=self.d_model, layers=self.n_layer, n=inner["d_state"],
            taps=inner["d_conv"], expand=inner["expand"], rank=inner["dt_rank"], bias=inner["bias"],
            conv_bias=inner["conv_bias"], rms=self.rms_norm, epsilon=1e-5, tied=self.tie_embeddings,
            second=inner.get("layer") == "Mamba2", mlp=ceil(self.d_intermediate / 128) * 128)


@dataclass
class Config:
    """As transformers keeps them: model_type is no field, but in to_dict()."""

    hidden_size: int = 17
    num_hidden_layers: int = 2
    vocab_size: int = 23
    state_size: int = 5
    conv_kernel: int = 4
    expand: float = 2
    time_step_rank: int | str = "auto"
    layer_norm_epsilon: float = 1e-5
    use_bias: bool = False
    use_conv_bias: bool = True
    hidden_act: str = "silu"
    residual_in_fp32: bool = True
    use_mambapy: bool = False
    tie_word_embeddings: bool = True

    def shape(self) -> SimpleNamespace:
        return SimpleNamespace(
            rows=self.vocab_size, d=self.hidden_size, layers=self.num_hidden_layers, n=self.state_size, taps=self.conv_kernel,
            expand=self.expand, rank=self.time_step_rank, bias=self.use_bias, conv_bias=self.use_conv_bias, rms=True,
            epsilon=self.layer_norm_epsilon, tied=self.tie_word_embeddings, second=False, mlp=0)

    def to_dict(self) -> dict:
        return {"model_type": "mamba"} | asdict(self)


class Norm(nn.Module):
    def __init__(self, width: int, rms: bool, epsilon: float):
        super().__init__()
        self.rms, self.epsilon = rms, epsilon
        self.weight = nn.Parameter(torch.zeros(width))
        if not rms:
            self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        if self.rms:
            return self.weight * x / ((x * x).mean(-1, keepdim=True) + self.epsilon).sqrt()
        centred = x - x.mean(-1, keepdim=True)
        return self.weight * centred / ((centred * centred).mean(-1, keepdim=True) + self.epsilon).sqrt() + self.bias


class Mixer(nn.Module):
    def __init__(self, d: int, e: int, n: int, r: int, taps: int, bias: bool, conv_bias: bool):
        super().__init__()
        self.n, self.r = n, r
        self.in_proj = nn.Linear(d, 2 * e, bias=bias)
        self.conv1d = nn.Conv1d(e, e, taps, groups=e, padding=taps - 1, bias=conv_bias)
        self.x_proj = nn.Linear(e, r + 2 * n, bias=False)
        self.dt_proj = nn.Linear(r, e)
        self.A_log = nn.Parameter(torch.zeros(e, n))
        self.D = nn.Parameter(torch.zeros(e))
        self.out_proj = nn.Linear(e, d, bias=bias)

    def forward(self, h: Tensor) -> Tensor:
        length = h.shape[1]
        x, z = self.in_proj(h).chunk(2, -1)
        u = F.silu(self.conv1d(x.transpose(1, 2))[..., :length].transpose(1, 2))
        low, b, c = self.x_proj(u).split([self.r, self.n, self.n], -1)
        step = F.softplus(self.dt_proj(low))
        state, y = torch.zeros(len(h), *self.A_log.shape), []
        for t in range(length):
            state = torch.exp(-step[:, t, :, None] * self.A_log.exp()) * state + (step[:, t] * u[:, t])[..., None] * b[:, t, None]
            y.append((state * c[:, t, None]).sum(-1) + self.D * u[:, t])
        return self.out_proj(torch.stack(y, 1) * F.silu(z))


class Mixer2(nn.Module):
    """Of Mamba-2, one token and one head after another. `cfg`: mamba_ssm's ssm_cfg."""

    def __init__(self, d: int, e: int, cfg: dict):
        super().__init__()
        self.cfg = cfg = {"d_state": 16, "d_conv": 4, "ngroups": 1, "D_has_hdim": False, "rmsnorm": True,
                          "norm_before_gate": False, "dt_limit": (0.0, float("inf")), "bias": False, "conv_bias": True} | cfg
        self.e, self.h, self.group = e, e // cfg["headdim"], cfg["ngroups"] * cfg["d_state"]
        self.in_proj = nn.Linear(d, 2 * e + 2 * self.group + self.h, bias=cfg["bias"])
        width = e + 2 * self.group
        self.conv1d = nn.Conv1d(width, width, cfg["d_conv"], groups=width, padding=cfg["d_conv"] - 1, bias=cfg["conv_bias"])
        self.dt_bias, self.A_log = nn.Parameter(torch.zeros(self.h)), nn.Parameter(torch.zeros(self.h))
        self.D = nn.Parameter(torch.zeros(e if cfg["D_has_hdim"] else self.h))
        if cfg["rmsnorm"]:
            self.norm = Norm(e, True, 1e-5)
        self.out_proj = nn.Linear(e, d, bias=cfg["bias"])

    def forward(self, x: Tensor) -> Tensor:
        cfg, length, size = self.cfg, x.shape[1], self.cfg["headdim"]
        z, mixed, dt = self.in_proj(x).split([self.e, self.e + 2 * self.group, self.h], -1)
        mixed = F.silu(self.conv1d(mixed.transpose(1, 2))[..., :length].transpose(1, 2))
        u, b, c = mixed.split([self.e, self.group, self.group], -1)
        dt = F.softplus(dt + self.dt_bias).clamp(*cfg["dt_limit"])
        heads = []
        for h in range(self.h):
            own, at = slice(h * size, (h + 1) * size), h * cfg["ngroups"] // self.h * cfg["d_state"]
            state, y, group = 0.0, [], slice(at, at + cfg["d_state"])
            for t in range(length):
                step = dt[:, t, h, None, None]
                state = torch.exp(-step * self.A_log[h].exp()) * state + step * u[:, t, own, None] * b[:, t, None, group]
                y.append((state * c[:, t, None, group]).sum(-1))
            heads.append(torch.stack(y, 1) + (self.D[own] if cfg["D_has_hdim"] else self.D[h]) * u[..., own])
        y, gate = torch.cat(heads, -1), F.silu(z)
        if not cfg["rmsnorm"]:
            return self.out_proj(y * gate)
        return self.out_proj(self.by_group(y) * gate if cfg["norm_before_gate"] else self.by_group(y * gate))

    def by_group(self, y: Tensor) -> Tensor:
        found = [part * torch.rsqrt((part * part).mean(-1, keepdim=True) + 1e-5) for part in y.chunk(self.cfg["ngroups"], -1)]
        return torch.cat(found, -1) * self.norm.weight


class GatedMLP(nn.Module):
    def __init__(self, d: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(d, 2 * hidden, bias=False), nn.Linear(hidden, d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y, gate = self.fc1(x).chunk(2, -1)
        return self.fc2(y * F.silu(gate))


class Layer(nn.Module):
    def __init__(self, mixer: nn.Module, norm: Callable[[], Norm], d: int, hidden: int):
        super().__init__()
        self.norm, self.mixer = norm(), mixer
        if hidden:
            self.norm2, self.mlp = norm(), GatedMLP(d, hidden)

    def forward(self, r: Tensor) -> Tensor:
        r = r + self.mixer(self.norm(r))
        return r + self.mlp(self.norm2(r)) if hasattr(self, "mlp") else r


class Backbone(nn.Module):
    """Ids [b, L] → an object with last_hidden_state [b, L, d] (transformers), or the tensor itself (mamba_ssm)."""

    def __init__(self, settings: Settings | Config):
        super().__init__()
        shape = settings.shape()
        self.wrapped, d, e = isinstance(settings, Config), shape.d, int(shape.expand * shape.d)
        if self.wrapped:
            self.config = settings
        rank = ceil(d / 16) if shape.rank == "auto" else shape.rank
        self.add_module("embeddings" if self.wrapped else "embedding", nn.Embedding(shape.rows, d))
        self.layers = nn.ModuleList(
            Layer(Mixer2(d, e, settings.ssm_cfg) if shape.second else
                  Mixer(d, e, shape.n, rank, shape.taps, shape.bias, shape.conv_bias),
                  partial(Norm, d, shape.rms, shape.epsilon), d, shape.mlp) for _ in range(shape.layers))
        self.norm_f = Norm(d, shape.rms, shape.epsilon)

    def forward(self, ids: Tensor):
        r = (self.embeddings if self.wrapped else self.embedding)(ids)
        for layer in self.layers:
            r = layer(r)
        r = self.norm_f(r)
        return SimpleNamespace(last_hidden_state=r) if self.wrapped else r


class LanguageModel(nn.Module):
    """Ids [b, L] → an object with logits [b, L, vocabulary]."""

    def __init__(self, settings: Settings | Config):
        super().__init__()
        self.backbone = Backbone(settings)
        self.config = settings
        embedding = self.backbone.embeddings if isinstance(settings, Config) else self.backbone.embedding
        self.lm_head = nn.Linear(embedding.weight.shape[1], len(embedding.weight), bias=False)
        if settings.shape().tied:
            self.lm_head.weight = embedding.weight

    def forward(self, ids: Tensor) -> SimpleNamespace:
        hidden = self.backbone(ids)
        return SimpleNamespace(logits=self.lm_head(getattr(hidden, "last_hidden_state", hidden)))


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter random, none at its usual start, outputs of the order of one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            matrix = value.ndim == 2 and not name.endswith("A_log")
            value.copy_(torch.randn(value.shape, generator=generator) * (value.shape[-1] ** -0.5 if matrix else 0.5))
            if name.endswith(("mixer.D", "norm.weight", "norm2.weight", "norm_f.weight")):
                value.add_(1.0)
    return module.eval()
