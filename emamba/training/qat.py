"""Quantization-aware training: the forward pass is the integer model itself, the backward pass is the float network's at the
same values (straight-through). It starts from an artifact of post-training quantization and keeps its formats.

Every step builds the operators anew from the float weights, runs them on integers, and puts each node's integers in the place of
the float network's value. So what is trained is, bit for bit, what the hardware computes; A changes too, hence the state's scale
is lowered where the no-overflow certificate asks for it. With `segments`, slopes and offsets of the piecewise-linear units are
trained as well (paper: "learnable parameters used in the approximations"); their knots stay.

The folder `out` receives training.pt after each epoch, from which an interrupted run goes on. All of it is our choice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..artifact import Artifact
from ..base.errors import Diverged, InputError, OutputError, SettingError
from ..base.progress import meter
from ..config import TrainConfig
from ..datasets.metrics import BETTER, figures, value_words
from ..datasets.tokens import to_tokens
from ..graph import Node
from ..graph.parameters import parameters
from ..io.files import alone, check_regular, write_file
from ..ops import Operator, Scan
from ..ops.certificate import certify
from ..piecewise import Segments
from ..run.executors import make_executor, predict
from ..run.integer import IntegerModel
from .augmentation import augment
from .loop import GRADIENT_NORM, loss_of
from .network import TORCH, Network, Torch
from .settings import FinetuneConfig
from .windows import Order

Array = np.ndarray
WINDOW = 64
"""Sequences that follow each other, of an artifact whose state is carried."""
LARGEST = 1e9
"""Weights beyond it have diverged; their products are still finite."""


@dataclass(frozen=True)
class Part:
    """tokens [n, L, input width] in the user's unit; targets in the task's; the recording of each sequence [n], where known."""

    tokens: Array
    targets: Array
    recordings: Array | None = None


Vary = Callable[[Tensor, torch.Generator], Array]
"""Indices of training sequences → their integers, varied."""


def varied(artifact: Artifact, x: Array, settings: TrainConfig) -> Vary | None:
    """The training inputs `x` of a data set, images or sequences of numbers, varied as in the training of the float model;
    None where that varied none."""
    if not (settings.varies or settings.jitter):
        return None
    config, codec = artifact.config, artifact.codec
    mean, std = (np.zeros(1), np.ones(1)) if codec.mean is None else (part[:x.shape[-1]] for part in (codec.mean, codec.std))
    inputs, empty = (((part - mean) / std).astype(np.float32) for part in (x, np.zeros(x.shape[-1])))
    inputs = torch.from_numpy(inputs if settings.varies else to_tokens(inputs, config))
    standardized = replace(codec, mean=None, std=None)

    def vary(index: Tensor, generator: torch.Generator) -> Array:
        batch = augment(inputs[index], config, settings, torch.from_numpy(empty), generator)
        return standardized.encode(batch.double().numpy(), artifact.input)

    return vary


class IntegerNetwork(nn.Module):
    """An artifact as a torch module. `forward` takes integers of the input's format [b, L, input width] and returns the integer
    output's values [b, outputs], or [b, L, outputs] without pooling, with the float network's gradients."""

    def __init__(self, artifact: Artifact, segments: bool = False):
        super().__init__()
        self.artifact, self.graph = artifact, artifact.graph
        self.network = Network(artifact.graph)
        self.network.load_state_dict({name: torch.from_numpy(np.array(value, np.float32))
                                      for name, value in artifact.weights.items()})
        units = {name: getattr(op, op.unit) for name, op in artifact.operators.items() if op.unit}
        self.lines = nn.ParameterDict({_key(name): _lines(unit) for name, unit in units.items() if unit} if segments else {})

    def forward(self, tokens: Array, window: int = 1) -> Tensor:
        """`window`: sequences of the batch that follow each other in time, with the state carried from each to the next."""
        current = self.current()
        exact = IntegerModel(current).run(tokens, window=window)
        tensors, values = dict(self.network.named_parameters()), {}
        for node in self.graph:
            op = current.operators[node.name]
            found = torch.from_numpy(exact[node.name] * op.o.step).float()
            if not node.inputs:
                values[node.name] = torch.from_numpy(tokens[..., 0]) if node.ids else found
                continue
            value = self._value(node, op, tensors, *(values[name] for name in node.inputs), window=window)
            values[node.name] = _straight_through(value.clamp(op.o.min * op.o.step, op.o.max * op.o.step), found)
        found = values[self.graph.output.name]
        return found[:, 0] if self.graph.pooled else found

    @torch.no_grad()
    def current(self) -> Artifact:
        """The artifact of the weights as they are now."""
        tensors = dict(self.network.named_parameters())
        operators = {node.name: self._operator(node, self.artifact.operators[node.name], tensors) for node in self.graph}
        weights = {name: value.numpy().copy() for name, value in self.network.state_dict().items()}
        return replace(self.artifact, operators=operators, weights=weights, digest="")

    def _operator(self, node: Node, op: Operator, tensors: Mapping[str, Tensor]) -> Operator:
        found = parameters(TORCH, self.graph, node, tensors)
        unit = {op.unit: self._segments(node, getattr(op, op.unit))} if _key(node.name) in self.lines else {}
        return op.retrained({name: value.double().numpy() for name, value in found.items()}, **unit)

    def _segments(self, node: Node, unit: Segments) -> Segments:
        lines = self.lines[_key(node.name)].detach().double().numpy()
        slopes = lines[0] * (unit.i.step / unit.o.step * 2.0**unit.shift)
        offsets = lines[1] * (2.0**unit.shift / unit.o.step)
        largest = np.abs(unit.slopes).max()
        trained = slice(1, -1)  # the outer pieces stay
        both = [unit.slopes.copy(), unit.offsets.copy()]
        both[0][trained] = np.clip(np.floor(slopes + 0.5), -largest, largest)[trained]
        both[1][trained] = np.floor(offsets + 0.5)[trained]
        return replace(unit, slopes=both[0], offsets=both[1])

    def _value(self, node: Node, op: Operator, tensors: Mapping[str, Tensor], *inputs: Tensor, window: int = 1) -> Tensor:
        """The float network's value of a node, from inputs and weights that carry the integers."""
        found = parameters(TORCH, self.graph, node, tensors)
        for name, value in op.values().items():
            found[name] = _straight_through(found[name], torch.from_numpy(value).float())
        xp = TrainedUnit(op, self.lines[_key(node.name)]) if _key(node.name) in self.lines else TORCH
        return node.operator.carry(partial(node.operator.real, xp, node, found), window, *inputs)


class TrainedUnit(Torch):
    """torch, where the function of a node is its piecewise-linear unit with slopes and offsets that are trained."""

    def __init__(self, op: Operator, lines: Tensor):
        self.op, self.lines = op, lines

    def function(self, name: str, x: Tensor) -> Tensor:
        return self._piecewise(x)

    def scan(self, u: Tensor, dt: Tensor, B: Tensor, C: Tensor, A: Tensor, D: Tensor) -> Tensor:
        decay = self._piecewise(dt.unsqueeze(-1) * A)  # [b, l, e, n]
        if self.op.hold:
            decay = torch.where(dt.unsqueeze(-1) == 0, 1.0, decay)
        drive = (dt * u).unsqueeze(-1) * B.unsqueeze(2)
        h, states = torch.zeros_like(drive[:, 0]), []
        for t in range(u.shape[1]):
            h = decay[:, t] * h + drive[:, t]
            states.append(h)
        return (torch.stack(states, 1) @ C.unsqueeze(-1)).squeeze(-1) + D * u

    def _piecewise(self, x: Tensor) -> Tensor:
        unit, (slopes, offsets) = getattr(self.op, self.op.unit), self.lines
        piece = torch.bucketize(x.detach() / unit.i.step, torch.tensor(unit.knots, dtype=x.dtype), right=True)
        return (slopes[piece] * x + offsets[piece]).clamp(unit.o.min * unit.o.step, unit.o.max * unit.o.step)


def _key(name: str) -> str:
    """A node's name as one of a parameter."""
    return name.replace(".", "_")


def finetune(artifact: Artifact, train: Part, validate: Part, settings: FinetuneConfig, out: Path, unit_scale: float = 1.0,
             vary: Vary | None = None, progress: bool = True) -> Artifact:
    """Trains an artifact on; returns the epoch whose integer model is best on `validate`, the start included.

    `vary`, if any, gives the inputs instead of `train`. `out` keeps training.pt. The record's `finetuning` holds the settings
    and the figures of every epoch.
    """
    torch.manual_seed(settings.seed)
    model = IntegerNetwork(artifact, settings.segments)
    order = _order(artifact, train, settings)
    groups = [{"params": list(model.network.parameters())}, {"params": list(model.lines.parameters())}]
    optimizer = torch.optim.Adam([group for group in groups if group["params"]], lr=settings.peak_lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, order.steps(1, settings.epochs))
    key, sign = BETTER[artifact.config.task]

    def measure(candidate: Artifact) -> dict[str, float]:
        values = predict(candidate, "int", make_executor(candidate, "int"), validate.tokens)
        return figures(artifact.config.task, values, validate.targets, unit_scale)

    with alone(out, "a training"):
        state = _resume(model, optimizer, schedule, artifact, settings, out)
        if not state["history"]:
            state |= {"history": [{"epoch": 0, **measure(artifact)}], "best": 0, "weights": model.state_dict()}
        integers = artifact.codec.encode(train.tokens, artifact.input)
        vary = vary or (lambda index, generator: integers[index.numpy()])
        targets = torch.from_numpy(_targets(artifact, train.targets))
        show = meter(settings.epochs, "epochs")
        for epoch in range(len(state["history"]), settings.epochs + 1):
            total = _epoch(model, optimizer, schedule, vary, targets, settings, epoch, order)
            now = {"epoch": epoch, "loss": total, **measure(model.current())}
            state["history"].append(now)
            if progress:
                show(epoch, f"{key} {value_words(key, now[key])}")
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
           order: Order) -> float:
    """One pass over the training part; returns the mean loss."""
    model.train()
    generator, total, count = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch), 0.0, 0
    for index in order.batches(epoch, generator):
        loss = loss_of(model.artifact.config.task, model(vary(index, generator), order.window), targets[index])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
        optimizer.step()
        if not all((parameter.abs() < LARGEST).all() for parameter in model.parameters()):
            raise Diverged(f"the training diverged in epoch {epoch}: a weight is beyond {LARGEST:g}; the state after epoch "
                              f"{epoch - 1} is kept; lower peak_lr ({settings.peak_lr}) and train into another folder")
        schedule.step()
        total, count = total + loss.item() * len(index), count + len(index)
    return total / count


def _order(artifact: Artifact, train: Part, settings: FinetuneConfig) -> Order:
    """Of an epoch's sequences; those of an artifact whose state is carried come in windows of a recording."""
    if settings.window and not artifact.graph.carried:
        raise SettingError("window is of an artifact whose state is carried from sequence to sequence; this one's is not")
    count, window = len(train.tokens), (settings.window or WINDOW) if artifact.graph.carried else 1
    recordings = np.zeros(count, np.int64) if train.recordings is None else train.recordings
    order = Order(count, recordings, window, 1, max(1, settings.batch // window), settings.seed)
    if not len(order.starts(1)):
        raise SettingError(f"no recording has {window} sequences to train on: take a smaller window")
    return order


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


def _lines(unit: Segments) -> nn.Parameter:
    """Slopes and offsets as real numbers, [2, pieces]."""
    slopes = unit.slopes * (unit.o.step / unit.i.step * 2.0**-unit.shift)
    offsets = unit.offsets * (unit.o.step * 2.0**-unit.shift)
    return nn.Parameter(torch.from_numpy(np.stack([slopes, offsets])).float())
