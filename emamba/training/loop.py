"""Training of the float model: AdamW, one cycle of the learning rate, the epoch that is best on the validation part.

The folder `out` receives
    training.pt              after each epoch: all that is needed to go on after an interruption
    history.json             after each epoch: loss and validation figures so far
    checkpoint.safetensors   at the end: the weights, float32
    checkpoint.json          at the end: recipe, input and output scaling, figures

The paper is silent on how it trained: all of this is our choice.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .. import datasets
from ..base import progress as said
from ..base.errors import Diverged, InputError, OutputError, SettingError
from ..config import ModelConfig, Recipe
from ..datasets import Dataset
from ..datasets.baseline import Baseline
from ..datasets.baseline import measure as trivial_models
from ..datasets.metrics import BETTER, data_figures, log_likelihood, value_words
from ..datasets.outside import largest, outside
from ..datasets.recordings import window_starts
from ..datasets.tokens import to_tokens
from ..graph import build_graph
from ..graph.parameters import check_tensors
from ..io.files import alone, check_regular, write_file
from ..quantization.quantize import CHECKPOINT_VERSION
from .advice import advice
from .augmentation import augment, mix, recut
from .network import Network
from .windows import Order

GRADIENT_NORM = 1.0
"""Gradients are scaled down to this norm."""
SLICE = 4096
"""Samples that are standardized at a time."""
SEEN = 1024
"""Training sequences, evenly spaced, on which it is seen whether a model overfits."""
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
    """What an interrupted training goes on from. The order of the sequences follows from seed, stage and epoch."""

    stage: int = 0
    epoch: int = 0
    """Of the stage."""
    seconds: float = 0.0
    history: list[dict] = field(default_factory=list)
    best: int = -1
    """Place in the history of the stage's best epoch; −1 before its first."""
    best_weights: dict[str, Tensor] = field(default_factory=dict)


def train(
    recipe: Recipe,
    out: Path | str,
    data_dir: Path | str | None = None,
    progress: bool = True,
    threads: int | None = None,
    data: Dataset | None = None,
    watch: Callable[[list[dict]], None] | None = None,
    start: dict[str, np.ndarray] | None = None,
    network: Callable[[ModelConfig], Network] = Network,
) -> dict:
    """Trains `recipe` into the folder `out` and returns what it wrote to checkpoint.json.

    An interrupted training in `out` goes on. `progress` shows how far it is. `threads` None leaves it to torch. `data` replaces
    the recipe's data set. `watch` gets the history after each epoch; what it raises ends the training. `start` are weights to
    start from instead of random ones. `network` makes what is trained, for comparisons with what is no graph of this project.
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
    model = network(recipe.model)
    if start is not None:
        check_tensors(model.graph, start, "the model to start from")
        model.load_state_dict({name: torch.from_numpy(np.array(value, np.float32)) for name, value in start.items()})
    model.noise_bits, model.dropout = recipe.train.noise_bits, recipe.train.dropout
    with alone(out, "a training"):
        state = _Training(recipe, model, data, scaling, out).run(progress, watch)
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
    for stage in recipe.train.stages:
        for part in ("train", "validate"):
            if data.recordings.get(part) is None:
                raise SettingError(f"data set {data.name} does not tell which sequences of its {part} part follow each other, so "
                                   "train.stages is not possible")
        if (found := len(window_starts(data.recordings["train"], stage.window))) < stage.join:
            raise SettingError(f"train.stages: the recordings of data set {data.name} have {found} windows of {stage.window} "
                               f"sequences to train on, fewer than {stage.join}: take smaller windows, or join fewer")
    if recipe.train.recut and (data.x_train.shape != data.y_train.shape
                               or not np.array_equal(data.x_train[1:, 0], data.y_train[:-1, -1])):
        raise SettingError(f"train.recut needs windows that follow each other in a text; those of data set {data.name} do not")


class _Training:
    """A training's parts, which move, and what it reads."""

    def __init__(self, recipe: Recipe, model: Network, data: Dataset, scaling: Scaling, out: Path):
        self.recipe, self.model, self.data, self.scaling, self.out = recipe, model, data, scaling, out
        settings = recipe.train
        images = scaling.inputs(data.x_train)
        tokens = to_tokens(images[:1] if settings.varies else images, recipe.model)
        self.inputs = torch.from_numpy(images if settings.varies else tokens)
        self.empty = torch.from_numpy(scaling.inputs(np.zeros(self.inputs.shape[-1:]))) if settings.varies else None
        self.targets = torch.from_numpy(scaling.targets(data.y_train))
        self.state = State()
        self.figure, self.sign = BETTER[recipe.model.task]

    def run(self, progress: bool, watch: Callable[[list[dict]], None] | None) -> State:
        stages, saved = self.recipe.train.all_stages, _read_state(self.recipe, self.out)
        self.state = State(**saved["state"]) if saved else State()
        show = said.meter(sum(stage.epochs for stage in stages), "epochs")
        for number in range(self.state.stage, len(stages)):
            self._begin(number, saved)
            while self.state.epoch < self.stage.epochs:
                self._epoch()
                if progress:
                    reached = value_words(self.figure, self.state.history[-1][self.figure])
                    show(len(self.state.history), f"{self.figure} {reached}")
                if watch:
                    watch(self.state.history)
            saved = None
        return self.state

    def _begin(self, number: int, saved: dict | None) -> None:
        """Makes optimizer, learning rates and running mean of a stage, as they were `saved` in its middle, if they were."""
        settings, self.stage = self.recipe.train, self.recipe.train.all_stages[number]
        if saved is None and number:
            self.model.load_state_dict(self.state.best_weights)
            self.state = replace(self.state, stage=number, epoch=0, best=-1)
        self.order = Order(len(self.inputs), self.data.recordings.get("train"), self.stage.window, self.stage.join,
                           self.stage.batch, settings.seed)
        steps = self.order.steps(len(self.state.history) - self.state.epoch, self.stage.epochs)
        self.optimizer = torch.optim.AdamW(_parameter_groups(self.model, settings.weight_decay), lr=self.stage.peak_lr)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, self.stage.peak_lr, total_steps=steps)
        self.average = (AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(settings.average)) if settings.average
                        else None)
        self.kept = self.average.module if self.average else self.model
        self.moving = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        self.moving |= {"average": self.average} if self.average else {}
        for name, part in self.moving.items() if saved else ():
            part.load_state_dict(saved[name])

    def _epoch(self) -> None:
        """An epoch, its validation, and what is written of both."""
        state, start = self.state, time.monotonic()
        loss = self._pass()
        state.epoch += 1
        state.history.append({"epoch": len(state.history) + 1, "loss": loss, **self._validation()})
        state.seconds += time.monotonic() - start
        if state.best < 0 or self._rank(state.history[-1]) > self._rank(state.history[state.best]):
            state.best = len(state.history) - 1
            state.best_weights = {key: value.clone() for key, value in self.kept.state_dict().items()}
        saved = {"recipe": self.recipe.model_dump_json(), "state": vars(state)}
        saved |= {name: part.state_dict() for name, part in self.moving.items()}
        write_file(self.out / "training.pt", lambda path: torch.save(saved, path))
        _write_json(self.out / "history.json", state.history)

    def _validation(self) -> dict[str, float]:
        """Figures on the validation part, with the state carried through it where the stage carries it; of classes also the loss,
        since epochs often tie in accuracy."""
        data, task = self.data, self.recipe.model.task
        window = 1 if self.stage.window == 1 else len(data.x_validate)
        values = predict(self.kept, data.x_validate, self.scaling, window)
        found = data_figures(task, values, data.y_validate, data)
        if task == "classification":
            found["cross_entropy"] = float(-log_likelihood(values, data.y_validate).mean())
        return found

    def _rank(self, entry: dict) -> tuple[float, float]:
        return self.sign * entry[self.figure], -entry.get("cross_entropy", 0.0)

    def _pass(self) -> float:
        """One pass over the training part; returns the mean loss."""
        self.model.train()
        settings, stage, done = self.recipe.train, self.stage, len(self.state.history)
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + done)
        total = count = 0.0
        inputs, targets = self.inputs, self.targets
        if settings.recut:
            inputs, targets = recut(inputs, targets, generator)
        for index in self.order.batches(done, generator, len(inputs)):
            loss = self._loss(inputs[index], targets[index], generator)
            value = loss.item()
            if not np.isfinite(value):
                kept = f"the state after epoch {done} is kept in {self.out / 'training.pt'}" if done else "nothing was written"
                key = "train.peak_lr" if stage.window == 1 else "the stage's peak_lr"
                raise Diverged(f"the training diverged in epoch {done + 1}: its loss is {value}; {kept}; lower {key} "
                               f"({stage.peak_lr}) and train into another folder")
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
            self.optimizer.step()
            self.schedule.step()
            if self.average:
                self.average.update_parameters(self.model)
            total, count = total + value * len(index), count + len(index)
        return total / count

    def _loss(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        settings, task = self.recipe.train, self.recipe.model.task
        batch = augment(inputs, self.recipe.model, settings, self.empty, generator)
        mixed = settings.mix and self.stage.window == 1
        if mixed:
            batch, others, share = mix(batch, settings.mix, generator)
        output = self.model(batch, window=self.stage.window * self.stage.join)
        loss = loss_of(task, output, targets, settings.label_smoothing)
        if mixed:
            loss = loss.lerp(loss_of(task, output, targets[others], settings.label_smoothing), share)
        return loss


def _parameter_groups(model: Network, weight_decay: float) -> list[dict]:
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    decayed = model.decayed
    for name, parameter in model.named_parameters():
        groups[name in decayed].append(parameter)
    return [{"params": groups[True], "weight_decay": weight_decay}, {"params": groups[False], "weight_decay": 0.0}]


def loss_of(task: str, output: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    if task == "regression":
        return F.smooth_l1_loss(output, target)
    return F.cross_entropy(output.flatten(0, -2), target.flatten(), label_smoothing=smoothing)


@torch.no_grad()
def predict(model: Network, x: np.ndarray, scaling: Scaling, window: int = 1) -> np.ndarray:
    """Predicted values (regression) or logits of data set inputs `x`, every `window` of which follow each other in time."""
    model.eval()
    tokens = torch.from_numpy(to_tokens(scaling.inputs(x), model.config))
    batch = max(window, min(512, max(1, TOKENS // model.config.tokens)) // window * window)
    return scaling.values(torch.cat([model(part, window=window) for part in tokens.split(batch)]).numpy())


def evaluate(model: Network, x: np.ndarray, y: np.ndarray, scaling: Scaling, data: Dataset) -> dict[str, float]:
    """Figures of `model` on inputs `x` and targets `y` of `data`, with the state carried through them where the model's is."""
    return data_figures(model.config.task, predict(model, x, scaling, len(x) if model.config.carried else 1), y, data)


def _read_state(recipe: Recipe, out: Path) -> dict | None:
    """What an interrupted training saved, if anything."""
    path = out / "training.pt"
    if not path.exists():
        return None
    check_regular(path)
    try:
        saved = torch.load(path, weights_only=True)
        same = saved["recipe"] == recipe.model_dump_json()
    except Exception as error:  # torch.load raises nearly every kind of exception on a damaged file
        raise InputError(f"{path} cannot be read ({type(error).__name__}): delete it to train from the start") from None
    if not same:
        raise OutputError(f"{path} belongs to another recipe: train into another folder, or delete it to train from the start")
    return saved


def _write_checkpoint(recipe: Recipe, model: Network, data: Dataset, scaling: Scaling, state: State, out: Path) -> dict:
    def measure(x, y):
        return evaluate(model, x, y, scaling, data)

    results = {
        "unit": data.unit,
        "validate": measure(data.x_validate, data.y_validate),
        "test": measure(data.x_test, data.y_test),
    }
    seen = slice(SEEN) if model.config.carried else slice(None, None, -(-len(data.x_train) // SEEN))
    results["train"] = measure(data.x_train[seen], data.y_train[seen])
    trivial = Baseline.read(data.baseline) or trivial_models(data)
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
        "epoch": state.best + 1,
        "history": state.history,
        "figures": results,
        "baseline": trivial and trivial.report(),
        "beyond": largest(outside(data)),
        "seconds": round(state.seconds, 1),
        "torch": torch.__version__,
        "seed": recipe.train.seed,
    }
    record["advice"] = advice(recipe, record)
    weights = {key: value.detach().contiguous() for key, value in model.state_dict().items()}
    write_file(out / "checkpoint.safetensors", lambda path: save_file(weights, path))
    _write_json(out / "checkpoint.json", record)
    return record


def _write_json(path: Path, value: object):
    write_file(path, lambda temporary: temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8"))
