"""What a model answers, for its report: figures with their error bars, which classes it confuses, predicted against true."""

import math

import numpy as np

from emamba.artifact import Artifact
from emamba.base.words import counted
from emamba.datasets import Dataset
from emamba.datasets.metrics import BETTER, log_likelihood

Array = np.ndarray

NORMAL = 1.96
"""Standard deviations of 95 %."""
CLASSES, POINTS, EPOCHS = 40, 600, 400
"""Classes of a matrix, points of a plot of predicted against true, epochs of a curve, at most."""


def interval(task: str, values: Array, targets: Array, data: Dataset) -> list[float] | None:
    """95 % of the leading figure, were other sequences drawn; they count as independent. None of a single one."""
    n = len(targets)
    if n < 2:
        return None
    if task == "classification":
        right = (values.argmax(-1) == targets).reshape(n, -1).mean(-1)
        share, spread = right.mean(), NORMAL**2 / n
        middle, half = share + spread / 2, NORMAL * math.sqrt(share * (1 - share) / n + spread / 4 / n)
        return [max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))]
    if task == "regression":
        squares = ((values.astype(np.float64) - targets) * data.unit_scale)**2
        squares = squares.reshape(n, -1, squares.shape[-1]).mean(1)
        roots = np.sqrt(squares.mean(0))
        each = (squares / (2 * np.where(roots > 0, roots, 1))).mean(-1)  # how much a sequence moves the mean of the roots
        middle, half = roots.mean(), NORMAL * each.std(ddof=1) / math.sqrt(n)
        return [max(0.0, float(middle - half)), float(middle + half)]
    loss = -log_likelihood(values, targets).reshape(n, -1).mean(-1)
    half = NORMAL * loss.std(ddof=1) / math.sqrt(n)
    return [float(np.exp(loss.mean() - half)), float(np.exp(loss.mean() + half))]


def answers_part(artifact: Artifact, values: Array, targets: Array, data: Dataset) -> dict:
    """Of the integer model: the confusion matrix, or predicted against true."""
    task = artifact.config.task
    if not len(targets) or task == "next_token":
        return {"how": "no targets of classes or values"}
    how = f"integer model on {counted(len(targets), 'sequence')}"
    if task == "classification":
        count = artifact.graph.output.width
        pairs = targets.astype(np.int64).ravel() * count + values.argmax(-1).ravel()
        matrix = np.bincount(pairs, minlength=count * count).reshape(count, count)
        named = artifact.record.get("classes") or data.classes
        names = [str(name) for name in named] if len(named) == count else [str(k) for k in range(count)]
        kept = matrix.sum(1).argsort(kind="stable")[::-1][:CLASSES]
        kept = np.sort(kept)
        return {"how": how + (f"; the {CLASSES} most frequent of {count} classes" if count > CLASSES else ""),
                "classes": [names[k] for k in kept], "confusion": matrix[np.ix_(kept, kept)].tolist(),
                "recall": [float(matrix[k, k] / matrix[k].sum()) if matrix[k].sum() else None for k in kept]}
    true, guess = (np.asarray(x, np.float64).ravel() * data.unit_scale for x in (targets, values))
    shown = np.unique(np.linspace(0, len(true) - 1, min(POINTS, len(true))).astype(int))
    return {"how": f"{how}; {len(shown):,} of {len(true):,} values, evenly spaced", "unit": data.unit,
            "points": np.round(np.stack([true[shown], guess[shown]], 1), 6).tolist()}


def training_part(artifact: Artifact) -> dict:
    """Of the training: loss and leading figure of the validation part by epoch, where the artifact's record has them."""
    record, metric = artifact.record.get("training", {}), BETTER[artifact.config.task][0]
    history = record.get("history") if isinstance(record.get("history"), list) else []
    rows = [{"epoch": k, "loss": _number(row.get("loss")), "figure": _number(row.get(metric))}
            for k, row in enumerate(history, 1) if isinstance(row, dict)]
    rows = rows[::-(-len(rows) // EPOCHS) or 1]
    return {"how": "float model; the figure is of the validation part, the dashed line the epoch that was kept" if rows else
                   "the artifact keeps no history of its training", "metric": metric, "best": _number(record.get("epoch")),
            "epochs": rows}


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None
