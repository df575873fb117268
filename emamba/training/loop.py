"""Training of the float model: AdamW, one cycle of the learning rate, the epoch that is best on the validation part.

The folder `out` receives
    training.pt              after each epoch: all that is needed to go on after an interruption
    history.json             after each epoch: loss and validation figures so far
    checkpoint.safetensors   at the end: the weights, float32
    checkpoint.json          at the end: recipe, input and output scaling, figures

The paper is silent on how it trained: all of this is our choice.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from .. import datasets
from ..base.errors import Diverged, InputError, OutputError, SettingError
from ..config import Recipe
from ..datasets import Dataset
from ..datasets.metrics import BETTER, data_figures
from ..datasets.tokens import to_tokens
from ..graph import build_graph
from ..io.files import alone, check_regular, write_file
from ..quantization.quantize import CHECKPOINT_VERSION
from .augmentation import augment, mix, recut
from .network import Network

GRADIENT_NORM = 1.0
"""Gradients are scaled down to this norm."""
SLICE = 4096
"""Samples that are standardized at a time."""
TOKENS = 1 << 16
"""Tokens that are predicted at a time, of up to 512 sequences: bounds the memory."""


@dataclass(frozen=True)
class Scaling:
    """Model input = (x - mean) / std per channel; predicted value = offset + scale · model output, per output.

    None and None for token ids. Targets of a regression share one scale, so that a centimetre weighs the same everywhere.
    """

    mean: np.ndarray | None
    std: np.ndarray | None
    scale: np.ndarray
    offset: np.ndarray

    @classmethod
    def measure(cls, recipe: Recipe, data: Dataset) -> "Scaling":
        mean = std = None
        if recipe.model.input != "tokens":
            axes = tuple(range(data.x_train.ndim - 1))
            mean = data.x_train.mean(axes, dtype=np.float64)
            std = data.x_train.std(axes, dtype=np.float64)
            std = np.where(std > 0, std, 1.0)
        scale, offset = np.ones(recipe.model.outputs), np.zeros(recipe.model.outputs)
        if recipe.model.task == "regression":
            axes = tuple(range(data.y_train.ndim - 1))
            offset = data.y_train.mean(axes, dtype=np.float64)
            common = np.sqrt(((data.y_train - offset) ** 2).mean())
            scale = np.full_like(offset, common if common > 0 else 1.0)
        return cls(mean, std, scale, offset)

    def inputs(self, x: np.ndarray) -> np.ndarray:
        if self.mean is None:
            return x
        result = np.empty(x.shape, np.float32)
        for start in range(0, len(x), SLICE):  # the double precision in between would need four times the memory
            result[start:start + SLICE] = (x[start:start + SLICE] - self.mean) / self.std
        return result

    def targets(self, y: np.ndarray) -> np.ndarray:
        return y if y.dtype.kind == "i" else ((y - self.offset) / self.scale).astype(np.float32)

    def values(self, output: np.ndarray) -> np.ndarray:
        return self.offset + self.scale * output


@dataclass
class State:
    """What an interrupted training goes on from. The order of the frames follows from seed and epoch."""

    epoch: int
    seconds: float
    history: list[dict]
    best_epoch: int
    best_weights: dict[str, Tensor]


def train(
    recipe: Recipe,
    out: Path | str,
    data_dir: Path | str | None = None,
    progress: bool = True,
    threads: int | None = None,
    data: Dataset | None = None,
    watch: Callable[[list[dict]], None] | None = None,
    start: dict[str, np.ndarray] | None = None,
) -> dict:
    """Trains `recipe` into the folder `out` and returns what it wrote to checkpoint.json.

    An interrupted training in `out` goes on. `progress` shows a bar, on a terminal only. `threads` None leaves it to torch.
    `data` replaces the recipe's data set. `watch` gets the history after each epoch; what it raises ends the training. `start`
    are weights to start from instead of random ones.
    """
    build_graph(recipe.model)
    if threads:
        torch.set_num_threads(threads)
    if data is None:
        data = datasets.load(recipe.data.name, recipe.data.split, data_dir)
    _check(recipe, data)
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {out}: {error.strerror}") from None
    scaling = Scaling.measure(recipe, data)
    torch.manual_seed(recipe.train.seed)
    model = Network(recipe.model)
    if start is not None:
        model.load_state_dict({name: torch.from_numpy(np.array(value, np.float32)) for name, value in start.items()})
    model.noise_bits, model.dropout = recipe.train.noise_bits, recipe.train.dropout
    with alone(out, "a training"):
        state = _fit(recipe, model, data, scaling, out, progress, watch)
        model.load_state_dict(state.best_weights)
        return _write_checkpoint(recipe, model, data, scaling, state, out)


def _check(recipe: Recipe, data: Dataset):
    model = recipe.model
    if not len(data.x_train):
        raise InputError(f"data set {data.name} ({data.note}) has no training frames here: {data.train_remedy}")
    if not len(data.x_validate) or not len(data.x_test):
        raise InputError(f"data set {data.name} has no validation or no test frames; a training needs both")
    if (data.y_train.dtype.kind == "f") != (model.task == "regression"):
        kind, tasks = ("values", "regression") if data.y_train.dtype.kind == "f" else ("integers", "classification or next_token")
        raise SettingError(f"model.task is {model.task}, but the targets of data set {data.name} are {kind}: set task to {tasks}")
    parts = [(getattr(data, f"x_{part}"), getattr(data, f"y_{part}")) for part in ("train", "validate", "test")]
    largest = max(int(x.max()) for x, _ in parts) if model.input == "tokens" and data.x_train.dtype.kind == "i" else 0
    if model.input == "tokens" and largest >= model.vocabulary:
        raise SettingError(f"data set {data.name} holds the token id {largest}, outside 0..{model.vocabulary - 1} of "
                           f"model.vocabulary: set that to {largest + 1}")
    every = data.y_train.ndim == (3 if model.task == "regression" else 2)
    if every != (model.pool == "none"):
        raise SettingError(f"model.pool is {model.pool}, but the targets of data set {data.name} are of "
                           f"{'every token: set pool to none' if every else 'whole sequences: set pool to mean or last'}")
    values = data.y_train.shape[-1] if model.task == "regression" else max(int(y.max()) for _, y in parts) + 1
    if values > model.outputs or (model.task == "regression" and values != model.outputs):
        raise SettingError(f"model.outputs is {model.outputs}, data set {data.name} needs {values}")
    if recipe.train.recut and (data.x_train.shape != data.y_train.shape
                               or not np.array_equal(data.x_train[1:, 0], data.y_train[:-1, -1])):
        raise SettingError(f"train.recut needs windows that follow each other in a text; those of data set {data.name} do not")


def _fit(recipe: Recipe, model: Network, data: Dataset, scaling: Scaling, out: Path, progress: bool,
         watch: Callable[[list[dict]], None] | None) -> State:
    settings = recipe.train
    images = scaling.inputs(data.x_train)
    tokens = to_tokens(images[:1] if settings.varies else images, recipe.model)
    inputs = torch.from_numpy(images if settings.varies else tokens)
    empty = torch.from_numpy(scaling.inputs(np.zeros(inputs.shape[-1:]))) if settings.varies else None
    targets = torch.from_numpy(scaling.targets(data.y_train))
    steps = -(-len(inputs) // settings.batch)
    optimizer = torch.optim.AdamW(_parameter_groups(model, settings.weight_decay), lr=settings.peak_lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.peak_lr, total_steps=settings.epochs * steps)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.average)) if settings.average else None
    moving = {"model": model, "optimizer": optimizer, "schedule": schedule} | ({"average": average} if average else {})
    kept = average.module if average else model
    state = _resume(recipe, moving, out)
    figure, sign = BETTER[recipe.model.task]

    hidden = not (progress and sys.stderr.isatty())
    with tqdm(total=settings.epochs * steps, initial=state.epoch * steps, unit="step", disable=hidden) as bar:
        while state.epoch < settings.epochs:
            start = time.monotonic()
            loss = _epoch(recipe, model, average, optimizer, schedule, inputs, empty, targets, state.epoch, bar, out)
            validation = evaluate(kept, data.x_validate, data.y_validate, scaling, data)
            state.epoch += 1
            state.seconds += time.monotonic() - start
            best = not state.history or sign * validation[figure] > sign * state.history[state.best_epoch - 1][figure]
            state.history.append({"epoch": state.epoch, "loss": loss, **validation})
            if best:
                state.best_epoch = state.epoch
                state.best_weights = {key: value.clone() for key, value in kept.state_dict().items()}
            _save_state(recipe, moving, state, out)
            bar.set_postfix({figure: f"{validation[figure]:.4g}"})
            if watch:
                watch(state.history)
    return state


def _parameter_groups(model: Network, weight_decay: float) -> list[dict]:
    """Weight decay on the matrices of Linear and Embedding only: not on norms, biases, convolutions, A and D (Mamba)."""
    decayed = {node.parameters[name] for node in model.graph for name in node.operator.decayed if name in node.parameters}
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups[name in decayed].append(parameter)
    return [{"params": groups[True], "weight_decay": weight_decay}, {"params": groups[False], "weight_decay": 0.0}]


def _epoch(recipe: Recipe, model: Network, average: AveragedModel | None, optimizer, schedule, inputs: Tensor,
           empty: Tensor | None, targets: Tensor, epoch: int, bar: tqdm, out: Path) -> float:
    """One pass over the training part; returns the mean loss."""
    model.train()
    settings = recipe.train
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
    total = 0.0
    if settings.recut:
        inputs, targets = recut(inputs, targets, generator)
    for index in torch.randperm(len(inputs), generator=generator).split(settings.batch):
        batch, wanted = augment(inputs[index], recipe.model, settings, empty, generator), targets[index]
        if settings.mix:
            batch, others, share = mix(batch, settings.mix, generator)
        output = model(batch)
        loss = loss_of(recipe.model.task, output, wanted, settings.label_smoothing)
        if settings.mix:
            loss = loss.lerp(loss_of(recipe.model.task, output, wanted[others], settings.label_smoothing), share)
        value = loss.item()
        if not np.isfinite(value):
            kept = f"the state after epoch {epoch} is kept in {out / 'training.pt'}" if epoch else "nothing was written"
            raise Diverged(
                f"the training diverged in epoch {epoch + 1}: its loss is {value}; {kept}; "
                f"lower train.peak_lr ({settings.peak_lr}) and train into another folder"
            )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
        optimizer.step()
        schedule.step()
        if average:
            average.update_parameters(model)
        total += value * len(index)
        bar.update()
    return total / len(inputs)


def loss_of(task: str, output: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    if task == "regression":
        return F.smooth_l1_loss(output, target)
    return F.cross_entropy(output.flatten(0, -2), target.flatten(), label_smoothing=smoothing)


@torch.no_grad()
def predict(model: Network, x: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Predicted values (regression) or logits of data set inputs `x`."""
    model.eval()
    tokens = torch.from_numpy(to_tokens(scaling.inputs(x), model.config))
    batch = min(512, max(1, TOKENS // model.config.tokens))
    return scaling.values(torch.cat([model(part) for part in tokens.split(batch)]).numpy())


def evaluate(model: Network, x: np.ndarray, y: np.ndarray, scaling: Scaling, data: Dataset) -> dict[str, float]:
    """Figures of `model` on inputs `x` and targets `y` of `data`."""
    return data_figures(model.config.task, predict(model, x, scaling), y, data)


def _resume(recipe: Recipe, moving: dict, out: Path) -> State:
    path = out / "training.pt"
    if not path.exists():
        return State(epoch=0, seconds=0.0, history=[], best_epoch=0, best_weights={})
    check_regular(path)
    try:
        saved = torch.load(path, weights_only=True)
        same = saved["recipe"] == recipe.model_dump_json()
    except Exception as error:  # torch.load raises nearly every kind of exception on a damaged file
        raise InputError(f"{path} cannot be read ({type(error).__name__}): delete it to train from the start") from None
    if not same:
        raise OutputError(f"{path} belongs to another recipe: train into another folder, or delete it to train from the start")
    for name, part in moving.items():
        part.load_state_dict(saved[name])
    return State(**saved["state"])


def _save_state(recipe: Recipe, moving: dict, state: State, out: Path):
    saved = {"recipe": recipe.model_dump_json(), "state": vars(state)}
    saved |= {name: part.state_dict() for name, part in moving.items()}
    write_file(out / "training.pt", lambda path: torch.save(saved, path))
    _write_json(out / "history.json", state.history)


def _write_checkpoint(recipe: Recipe, model: Network, data: Dataset, scaling: Scaling, state: State, out: Path) -> dict:
    def measure(x, y):
        return evaluate(model, x, y, scaling, data)

    results = {
        "unit": data.unit,
        "validate": measure(data.x_validate, data.y_validate),
        "test": measure(data.x_test, data.y_test),
    }
    if data.test_seen is not None:
        results["test_seen_subjects"] = measure(data.x_test[data.test_seen], data.y_test[data.test_seen])
    record = {
        "format_version": CHECKPOINT_VERSION,
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "data": {
            "note": data.note,
            "frames": {"train": len(data.x_train), "validate": len(data.x_validate), "test": len(data.x_test)},
        },
        "input": None if scaling.mean is None else {"mean": scaling.mean.tolist(), "std": scaling.std.tolist()},
        "output": {"scale": scaling.scale.tolist(), "offset": scaling.offset.tolist()},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "epoch": state.best_epoch,
        "figures": results,
        "seconds": round(state.seconds, 1),
        "torch": torch.__version__,
        "seed": recipe.train.seed,
    }
    weights = {key: value.detach().contiguous() for key, value in model.state_dict().items()}
    write_file(out / "checkpoint.safetensors", lambda path: save_file(weights, path))
    _write_json(out / "checkpoint.json", record)
    return record


def _write_json(path: Path, value: object):
    write_file(path, lambda temporary: temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8"))
