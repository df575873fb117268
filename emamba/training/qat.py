"""Quantization-aware training: the forward pass is the integer model itself, the backward pass that of the float network at the
same values (straight-through). It starts from an artifact of post-training quantization and keeps its formats.

Every step builds the operators anew from the float weights, runs them on integers, and puts each node's integers in the place of
the float network's value. So what is trained is, bit for bit, what the hardware computes; A changes too, hence the state's scale
is lowered where the no-overflow certificate asks for it. With `segments`, slopes and offsets of the piecewise-linear units are
trained as well (paper: "learnable parameters used in the approximations"); their knots stay.

The folder `out` receives training.pt after each epoch, from which an interrupted run goes on. All of it is our choice.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ..artifact import Artifact
from ..base.errors import DesignLimit, Diverged, InputError, OutputError
from ..config import FinetuneConfig, TrainConfig
from ..datasets.metrics import BETTER, figures
from ..datasets.tokens import to_tokens
from ..graph import Node
from ..io.files import alone, check_regular, write_file
from ..ops import BIAS, Operator, Scan, Weighted
from ..ops.certificate import certify
from ..piecewise import Segments
from ..run.executors import make_executor, predict
from ..run.integer import IntegerModel
from .augmentation import augment
from .kernels import conv, scan
from .loop import GRADIENT_NORM, loss_of
from .network import Mamba

Array = np.ndarray
LARGEST = 1e9
"""Weights beyond it have diverged; their products are still finite."""


@dataclass(frozen=True)
class Part:
    """tokens [n, L, input width] in the user's unit; targets in the task's."""

    tokens: Array
    targets: Array


Vary = Callable[[Tensor, torch.Generator], Array]
"""Indices of training sequences → their integers, varied."""


def varied(artifact: Artifact, x: Array, settings: TrainConfig) -> Vary | None:
    """The training inputs `x` of a data set, images or sequences of numbers, varied as in the training of the float model;
    None where that varied none."""
    if not (settings.varies_images or settings.jitter):
        return None
    config, codec = artifact.config, artifact.codec
    mean, std = (np.zeros(1), np.ones(1)) if codec.mean is None else (part[:x.shape[-1]] for part in (codec.mean, codec.std))
    inputs, empty = (((part - mean) / std).astype(np.float32) for part in (x, np.zeros(x.shape[-1])))
    inputs = torch.from_numpy(inputs if settings.varies_images else to_tokens(inputs, config))
    standardized = replace(codec, mean=None, std=None)

    def vary(index: Tensor, generator: torch.Generator) -> Array:
        batch = augment(inputs[index], config, settings, torch.from_numpy(empty), generator)
        return standardized.encode(batch.double().numpy(), artifact.input)

    return vary


class IntegerNetwork(nn.Module):
    """An artifact as a torch module. `forward` takes integers of the input's format [b, L, input width] and returns the integer
    head's values [b, outputs], or [b, L, outputs] without pooling, with the float network's gradients."""

    def __init__(self, artifact: Artifact, segments: bool = False):
        super().__init__()
        self.artifact = artifact
        self.network = Mamba(artifact.config)
        self.network.load_state_dict({name: torch.from_numpy(np.array(value, np.float32))
                                      for name, value in artifact.weights.items()})
        self.graph = IntegerModel(artifact).graph
        units = {name: unit for name, op in artifact.operators.items() if (unit := _segments_of(op)) is not None}
        self.lines = nn.ParameterDict({name.replace(".", "_"): _lines(unit) for name, unit in units.items()} if segments else {})

    def forward(self, tokens: Array) -> Tensor:
        current = self.current()
        exact = IntegerModel(current).run(tokens)
        values: dict[str, Tensor] = {}
        for node in self.graph:
            op = current.operators[node.name]
            found = torch.from_numpy(exact[node.name] * op.o.step).float()
            if node.kind == "Input":
                values[node.name] = torch.from_numpy(tokens[..., 0]) if self.artifact.config.input == "tokens" else found
                continue
            value = self._value(node, op, *(values[name] for name in node.inputs))
            values[node.name] = _straight_through(value.clamp(op.o.min * op.o.step, op.o.max * op.o.step), found)
        head = values["head"]
        return head if self.artifact.config.pool == "none" else head[:, 0]

    @torch.no_grad()
    def current(self) -> Artifact:
        """The artifact of the weights as they are now."""
        operators = {node.name: self._operator(node, self.artifact.operators[node.name]) for node in self.graph}
        weights = {name: value.numpy().copy() for name, value in self.network.state_dict().items()}
        return replace(self.artifact, operators=operators, weights=weights, digest="")

    def _operator(self, node: Node, op: Operator) -> Operator:
        match node.kind:
            case "Linear" | "Conv1d":
                weight, bias = (value.double().numpy() for value in self._weights(node))
                step = _weight_step(op)
                return replace(op, weight=_rounded(weight / step[:, None], -op.w.max, op.w.max),
                               bias=_rounded(bias / (step * op.i.step), BIAS.min, BIAS.max))
            case "Lookup":
                return replace(op, table=_rounded(self.network.embed.weight.double().numpy() / op.o.step, op.o.min, op.o.max))
            case "Activation" if op.segments is not None:
                return replace(op, segments=self._segments(node, op.segments))
            case "Scan":
                A, D = (value.double().numpy() for value in self._scan(node))
                op = replace(op, A=_rounded(A / op.a.step, op.a.min, -1), D=_rounded(D / op.d.step, op.d.min, op.d.max),
                             decay=self._segments(node, op.decay))
                return _certified(op) if certify(self.artifact.operators[node.name]).holds else op
            case _:
                return op

    def _segments(self, node: Node, unit: Segments) -> Segments:
        key = node.name.replace(".", "_")
        if key not in self.lines:
            return unit
        lines = self.lines[key].detach().double().numpy()
        slopes = lines[0] * (unit.i.step / unit.o.step * 2.0**unit.shift)
        offsets = lines[1] * (2.0**unit.shift / unit.o.step)
        largest = np.abs(unit.slopes).max()
        trained = slice(1, -1)  # the outer pieces stay
        both = [unit.slopes.copy(), unit.offsets.copy()]
        both[0][trained] = np.clip(np.floor(slopes + 0.5), -largest, largest)[trained]
        both[1][trained] = np.floor(offsets + 0.5)[trained]
        return replace(unit, slopes=both[0], offsets=both[1])

    def _value(self, node: Node, op: Operator, x: Tensor, *more: Tensor) -> Tensor:
        """The float network's value of a node, from inputs and weights that carry the integers."""
        match node.kind:
            case "Linear" | "Conv1d":
                weight, bias = self._weights(node)
                weight = _straight_through(weight, torch.from_numpy(op.weight * _weight_step(op)[:, None]).float())
                bias = _straight_through(bias, torch.from_numpy(op.bias * _weight_step(op) * op.i.step).float())
                if node.kind == "Conv1d":
                    return conv(x, weight, bias)
                y = F.linear(x, weight, bias)
                return F.relu(y) if op.relu else y
            case "Lookup":
                return F.embedding(x, self.network.embed.weight)
            case "Activation":
                if node.name.replace(".", "_") in self.lines:
                    return self._piecewise(node, op.segments, x)
                return F.softplus(x) if node.name.endswith(".dt") else F.silu(x)
            case "Scan":
                return self._selective_scan(node, op, x, *more)
            case "Multiply":
                return x * more[0]
            case "Add":
                return x + more[0]
            case "Pool":
                return x.mean(1, keepdim=True) if op.mean else x[:, -1:]
            case "RangeNorm" | "LayerNorm" | "RMSNorm":
                return self.network.norm.normalize(x)  # of one kind and ε in the whole model
        raise DesignLimit(f"there is no float definition of a {node.kind}")

    def _selective_scan(self, node: Node, op: Scan, u: Tensor, dt: Tensor, B: Tensor, C: Tensor) -> Tensor:
        A, D = self._scan(node)
        A = _straight_through(A, torch.from_numpy(op.A * op.a.step).float())
        D = _straight_through(D, torch.from_numpy(op.D * op.d.step).float())
        if node.name.replace(".", "_") not in self.lines:
            return scan(u, dt, B, C, A, D)
        decay = self._piecewise(node, op.decay, dt.unsqueeze(-1) * A)  # [b, l, e, n]
        if op.hold:
            decay = torch.where(dt.unsqueeze(-1) == 0, 1.0, decay)
        drive = (dt * u).unsqueeze(-1) * B.unsqueeze(2)
        h, states = torch.zeros_like(drive[:, 0]), []
        for t in range(u.shape[1]):
            h = decay[:, t] * h + drive[:, t]
            states.append(h)
        return (torch.stack(states, 1) @ C.unsqueeze(-1)).squeeze(-1) + D * u

    def _piecewise(self, node: Node, unit: Segments, x: Tensor) -> Tensor:
        slopes, offsets = self.lines[node.name.replace(".", "_")]
        piece = torch.bucketize(x.detach() / unit.i.step, torch.tensor(unit.knots, dtype=x.dtype), right=True)
        return (slopes[piece] * x + offsets[piece]).clamp(unit.o.min * unit.o.step, unit.o.max * unit.o.step)

    def _weights(self, node: Node) -> tuple[Tensor, Tensor]:
        """Weight [out, in] and bias [out] of a Linear or Conv1d, with the norm before it folded in."""
        path, _, leaf = node.name.replace("block", "network.blocks.").rpartition(".")
        module = self.get_submodule(f"{path or 'network'}.{leaf.replace('dt_raw', 'dt')}")
        weight = module.weight
        bias = weight.new_zeros(len(weight)) if module.bias is None else module.bias
        if leaf in ("x", "z", "head") and self.artifact.config.norm != "none":
            norm = self.get_submodule(f"{path or 'network'}.norm")
            if norm.bias is not None:
                bias = bias + weight @ norm.bias
            weight = weight * norm.weight
        return weight, bias

    def _scan(self, node: Node) -> tuple[Tensor, Tensor]:
        """A [d_inner, d_state] and D [d_inner]."""
        block = self.get_submodule(node.name.removesuffix(".y").replace("block", "network.blocks."))
        return -torch.exp(block.A_log), block.D


def finetune(artifact: Artifact, train: Part, validate: Part, settings: FinetuneConfig, out: Path, unit_scale: float = 1.0,
             vary: Vary | None = None, progress: bool = True) -> Artifact:
    """Trains an artifact on; returns that of the epoch whose integer model is best on `validate`, the start included.

    `vary`, if any, gives the inputs instead of `train`. `out` keeps training.pt. The record's `finetuning` holds the settings
    and the figures of every epoch.
    """
    torch.manual_seed(settings.seed)
    model = IntegerNetwork(artifact, settings.segments)
    steps = -(-len(train.tokens) // settings.batch)
    groups = [{"params": list(model.network.parameters())}, {"params": list(model.lines.parameters())}]
    optimizer = torch.optim.Adam([group for group in groups if group["params"]], lr=settings.peak_lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * steps)
    key, sign = BETTER[artifact.config.task]

    def measure(candidate: Artifact) -> dict[str, float]:
        values = predict(candidate, "int", make_executor(candidate, "int"), validate.tokens)
        return figures(artifact.config.task, values, validate.targets, unit_scale)

    with alone(out, "a training"):
        state = _resume(model, optimizer, schedule, artifact, settings, out)
        if not state["history"]:
            state |= {"history": [{"epoch": 0, **measure(artifact)}], "best": 0, "weights": model.state_dict()}
        hidden = not (progress and sys.stderr.isatty())
        integers = artifact.codec.encode(train.tokens, artifact.input)
        vary = vary or (lambda index, generator: integers[index.numpy()])
        targets = torch.from_numpy(_targets(artifact, train.targets))
        with tqdm(total=settings.epochs * steps, initial=(len(state["history"]) - 1) * steps, unit="step", disable=hidden) as bar:
            for epoch in range(len(state["history"]), settings.epochs + 1):
                total = _epoch(model, optimizer, schedule, vary, targets, settings, epoch, bar.update)
                now = {"epoch": epoch, "loss": total, **measure(model.current())}
                state["history"].append(now)
                if sign * now[key] > sign * state["history"][state["best"]][key]:
                    state |= {"best": epoch, "weights": {name: value.clone() for name, value in model.state_dict().items()}}
                saved = state | {"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                                 "schedule": schedule.state_dict(), "of": artifact.digest, "settings": settings.model_dump_json()}
                write_file(out / "training.pt", lambda path, saved=saved: torch.save(saved, path))
    model.load_state_dict(state["weights"])
    result = model.current()
    certificates = {name: vars(certify(op)) for name, op in result.operators.items() if isinstance(op, Scan)}
    record = artifact.record | {"certificate": certificates, "finetuning": {
        "settings": settings.model_dump(mode="json"), "of": artifact.digest, "epoch": state["best"], "history": state["history"]}}
    return replace(result, record=record)


def _epoch(model: IntegerNetwork, optimizer, schedule, vary: Vary, targets: Tensor, settings: FinetuneConfig, epoch: int,
           step: Callable[[], object]) -> float:
    """One pass over the training part; returns the mean loss."""
    model.train()
    generator, total = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch), 0.0
    for index in torch.randperm(len(targets), generator=generator).split(settings.batch):
        loss = loss_of(model.artifact.config.task, model(vary(index, generator)), targets[index])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
        optimizer.step()
        if not all((parameter.abs() < LARGEST).all() for parameter in model.parameters()):
            raise Diverged(f"the training diverged in epoch {epoch}: a weight is beyond {LARGEST:g}; the state after epoch "
                           f"{epoch - 1} is kept; lower peak_lr ({settings.peak_lr}) and train into another folder")
        schedule.step()
        total += loss.item() * len(index)
        step()
    return total / len(targets)


def _resume(model: IntegerNetwork, optimizer, schedule, artifact: Artifact, settings: FinetuneConfig, out: Path) -> dict:
    path = out / "training.pt"
    if not path.exists():
        return {"history": []}
    check_regular(path)
    try:
        saved = torch.load(path, weights_only=True)
        same = (saved["of"], saved["settings"]) == (artifact.digest, settings.model_dump_json())
    except Exception as error:  # torch.load raises nearly every kind of exception on a damaged file
        raise InputError(f"{path} cannot be read ({type(error).__name__}): delete it to start again") from None
    if not same:
        raise OutputError(f"{path} belongs to another artifact or other settings: use another folder, or delete it")
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    schedule.load_state_dict(saved["schedule"])
    return {key: saved[key] for key in ("history", "best", "weights")}


def _targets(artifact: Artifact, y: Array) -> Array:
    return y if y.dtype.kind == "i" else ((y - artifact.codec.offset) / artifact.codec.scale).astype(np.float32)


class _StraightThrough(torch.autograd.Function):
    """`exact`, with the gradient of `value`."""

    @staticmethod
    def forward(ctx, value, exact):
        return exact

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


_straight_through = _StraightThrough.apply


def _weight_step(op: Weighted) -> Array:
    """Value of one step of the weights of each output: y's step is that of weight · input · multiplier · 2^−shift."""
    return op.multiplier * 2.0 ** (op.i.frac - op.o.frac - op.shift)


def _rounded(x: Array, low: int, high: int) -> Array:
    return np.clip(np.floor(x + 0.5), low, high).astype(np.int64)


def _certified(op: Scan) -> Scan:
    """`op` with the finest scale of the state, not finer than now, at which the certificate holds."""
    while not certify(op).holds:
        frac, wide = op.h.frac - 1, op.h_wide.frac - 1
        coarser = min(op.d.frac, op.C.frac + wide - op.u.frac)  # D·u is aligned by a left shift
        D = op.D >> (op.d.frac - coarser)
        op = replace(op, h=replace(op.h, frac=frac), h_wide=replace(op.h_wide, frac=wide), d=replace(op.d, frac=coarser), D=D,
                     b_bar=op.b_bar and replace(op.b_bar, frac=op.b_bar.frac - 1))
    return op


def _segments_of(op: Operator) -> Segments | None:
    return op.decay if isinstance(op, Scan) else getattr(op, "segments", None)


def _lines(unit: Segments) -> nn.Parameter:
    """Slopes and offsets as real numbers, [2, pieces]."""
    slopes = unit.slopes * (unit.o.step / unit.i.step * 2.0**-unit.shift)
    offsets = unit.offsets * (unit.o.step * 2.0**-unit.shift)
    return nn.Parameter(torch.from_numpy(np.stack([slopes, offsets])).float())
