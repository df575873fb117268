"""Trivial models beside which every figure stands: the most frequent class or the mean, the last value, a linear fit.

The fit is by least squares, with a ridge of a thousandth. It reads all values of a sequence where these are few, else each
feature's mean, deviation and last value. Which one counts is decided on the validation part.
"""

from dataclasses import dataclass, field

import numpy as np

from ..base.errors import InputError
from . import Dataset
from .metrics import BETTER, figures

Array = np.ndarray

WIDEST = 1024
"""Values of a sequence that the fit reads one by one; bounds time and memory."""
MOST = 20_000
"""Sequences that are fitted, evenly spaced."""
NEAR = 1.1
"""Of the best trivial model's error, up to which that of the last value is hard to beat."""
RIDGE = 1e-3
"""Share of the mean square of a standardized value."""


@dataclass(frozen=True)
class Baseline:
    """The figure of each trivial model on validation and test part, and the model that is best on the validation part."""

    metric: str
    best: str
    figures: dict[str, dict[str, float]] = field(default_factory=dict)

    def value(self, part: str = "test") -> float:
        return self.figures[self.best][part]

    @property
    def still(self) -> bool:
        """Whether to copy the last value is nearly the best that trivial models can do."""
        found = self.figures.get("last value", {})
        return "validate" in found and found["validate"] <= NEAR * self.value("validate")

    @property
    def parts(self) -> set[str]:
        return set(self.figures[self.best])

    def report(self) -> dict:
        return {"metric": self.metric, "best": self.best, "figures": self.figures}

    @classmethod
    def read(cls, found: object) -> "Baseline | None":
        """What `report` gave; None for anything else."""
        if not isinstance(found, dict) or not isinstance(values := found.get("figures"), dict) or found.get("best") not in values:
            return None
        if not all(isinstance(each, dict) and each.keys() <= {"validate", "test"} and
                   all(isinstance(value, int | float) and np.isfinite(value) for value in each.values())
                   for each in values.values()):
            return None
        return cls(str(found.get("metric")), str(found["best"]), values)


def task_of(data: Dataset) -> str:
    """The task of a data set by its arrays; token ids with targets of every token are a text."""
    if data.y_train.dtype.kind == "f":
        return "regression"
    return "next_token" if data.x_train.ndim == 2 and data.y_train.ndim == 2 else "classification"


def measure(data: Dataset, last: dict[str, Array] | None = None) -> Baseline | None:
    """Trivial models of the training part, on the test part; None where a part is missing.

    `last` are the target's last values that a model reads, by part.
    """
    if not (len(data.x_train) and len(data.x_validate) and len(data.x_test)):
        return None
    task = task_of(data)
    metric, sign = BETTER[task]
    try:
        if task == "next_token":
            found = {"most frequent tokens": _frequencies(data)}
        else:
            made = _constant(data, task) | ({"last value": last} if last else {}) | _linear(data, task)
            found = {name: {part: figures(task, answers[part], getattr(data, f"y_{part}"), data.unit_scale)[metric]
                            for part in ("validate", "test")} for name, answers in made.items()}
    except InputError:  # a class that is not in the training part
        return None
    best = max(found, key=lambda name: sign * found[name]["validate"])
    return Baseline(metric, best, found)


def _classes(data: Dataset) -> int:
    return 1 + max(int(y.max()) for y in (data.y_train, data.y_validate, data.y_test))


def _constant(data: Dataset, task: str) -> dict[str, dict[str, Array]]:
    if task == "regression":
        name, value = "mean", data.y_train.mean(tuple(range(data.y_train.ndim - 1)), dtype=np.float64)
    else:
        name, value = "most frequent class", np.bincount(data.y_train.ravel(), minlength=_classes(data)).astype(np.float64)
    shape = () if task == "regression" else value.shape
    return {name: {part: np.broadcast_to(value, getattr(data, f"y_{part}").shape + shape) for part in ("validate", "test")}}


def _frequencies(data: Dataset) -> dict[str, float]:
    """Perplexities where each token has its share of the training part, one more of each kind counted."""
    counts = np.bincount(data.y_train.ravel(), minlength=_classes(data)) + 1.0
    likelihood = np.log(counts / counts.sum())
    return {part: float(np.exp(-likelihood[getattr(data, f"y_{part}")].mean())) for part in ("validate", "test")}


def _linear(data: Dataset, task: str) -> dict[str, dict[str, Array]]:
    """Fits of all values, where they are few, and of summaries."""
    if data.x_train.ndim == 2:
        return {}
    each = data.y_train.ndim == (3 if task == "regression" else 2)
    readings = {"linear fit": _flat if not each else _tokens}
    size = data.x_train[0].size if not each else data.x_train.shape[-1]
    if not each and data.x_train.ndim == 3:
        readings["linear fit of summaries"] = _summaries
    if size > WIDEST:
        readings.pop("linear fit")
    found = {}
    for name, read in readings.items():
        picked = np.linspace(0, len(data.x_train) - 1, min(MOST, len(data.x_train))).astype(np.int64)
        x, y = read(data.x_train[picked]), data.y_train[picked]
        targets = y.reshape(len(x), -1).astype(np.float64) if task == "regression" else np.eye(_classes(data))[y.ravel()]
        mean, std = x.mean(0), x.std(0)
        std[std <= 0] = 1.0
        x = (x - mean) / std
        weights = np.linalg.solve(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), x.T @ (targets - targets.mean(0)))
        found[name] = {}
        for part in ("validate", "test"):
            answers = (read(getattr(data, f"x_{part}")) - mean) / std @ weights + targets.mean(0)
            shape = getattr(data, f"y_{part}").shape
            found[name][part] = answers.reshape(shape if task == "regression" else (*shape, -1))
    return found


def _flat(x: Array) -> Array:
    return x.reshape(len(x), -1).astype(np.float64)


def _tokens(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1]).astype(np.float64)


def _summaries(x: Array) -> Array:
    x = x.astype(np.float64)
    return np.concatenate([x.mean(1), x.std(1), x[:, -1]], 1)
