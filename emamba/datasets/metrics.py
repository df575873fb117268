"""Figures of merit, from predictions and targets; the same for float, integer, RTL and board."""

import numpy as np

from ..base.errors import Diverged, InputError
from . import Dataset

BETTER = {"regression": ("rmse", -1), "classification": ("accuracy", 1), "next_token": ("perplexity", -1)}
"""Task -> its leading figure, and +1 where larger is better, -1 where smaller is."""
NAMES = {"mae": "MAE", "rmse": "RMSE"}
"""Figures in the unit of the data, as people write them."""


def figures(task: str, prediction: np.ndarray, target: np.ndarray, scale: float = 1.0) -> dict[str, float]:
    """Figures of `prediction`: values [n, outputs] for regression, logits [n, outputs] or [n, L, outputs] else.

    MAE is the mean absolute error over all outputs; RMSE is the mean over the outputs of each one's root mean square
    error; both × `scale`. Accuracy is a fraction. Perplexity is exp(mean negative log-likelihood) of the next token.
    What no figure can be true of is refused: no targets, others than there are predictions of, values that are not finite.
    """
    shape = prediction.shape if task == "regression" else prediction.shape[:-1]
    if shape != target.shape or not target.size:
        raise InputError(f"predictions of the shape {list(prediction.shape)} have no figure beside targets of the shape "
                         f"{list(target.shape)}: give the data set that belongs to the model")
    if task != "regression" and not 0 <= target.min() <= target.max() < prediction.shape[-1]:
        raise InputError(f"targets of {target.min()} to {target.max()} are not all among the model's {prediction.shape[-1]} "
                         "outputs: give the data set that belongs to the model")
    if not np.isfinite(prediction).all():
        row = [int(k) for k in np.argwhere(~np.isfinite(prediction))[0]]
        raise Diverged(f"the prediction at {row} is not finite, so there is no figure: the model overflows on these inputs")
    if not (np.isfinite(scale) and scale > 0):
        raise InputError(f"the data set's unit_scale is {scale}: it must be finite and above 0")
    if task == "regression":
        error = (prediction.astype(np.float64) - target) * scale
        rmse = np.sqrt((error**2).mean(axis=tuple(range(error.ndim - 1))))
        return {"mae": float(np.abs(error).mean()), "rmse": float(rmse.mean())}
    if task == "classification":
        return {"accuracy": float((prediction.argmax(-1) == target).mean())}
    return {"perplexity": float(np.exp(-log_likelihood(prediction, target).mean()))}


def error_of(task: str, measured: dict[str, float]) -> float:
    """The leading one of `measured` figures as something to minimize: an accuracy becomes the share of wrong answers."""
    name, sign = BETTER[task]
    return 1 - measured[name] if sign > 0 else measured[name]


def error_name(task: str, unit: str = "") -> str:
    """What `error_of` is, with its unit."""
    name, sign = BETTER[task]
    if sign > 0:
        return "error rate"
    return f"RMSE{', ' + unit if unit else ''}" if name == "rmse" else name


def data_figures(task: str, prediction: np.ndarray, target: np.ndarray, data: Dataset) -> dict[str, float]:
    """`figures` in the unit of `data`; for text also `text_figures`'."""
    result = figures(task, prediction, target, data.unit_scale)
    if data.token_bytes is None:
        return result
    return result | text_figures(np.log(result["perplexity"]), target, data.token_bytes, data.bytes_per_word)


def words(figures: dict[str, float], unit: str) -> str:
    """Figures for people, those with a unit in `unit`."""
    return ", ".join(f"{NAMES.get(key, key.replace('_', ' '))} {value_words(key, value, unit)}" for key, value in figures.items())


def value_words(key: str, value: float, unit: str = "") -> str:
    """A figure's value for people."""
    if key == "accuracy":
        return f"{value:.2%}"
    return (f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}") + (f" {unit}" if key in NAMES and unit else "")


def text_figures(loss: float, target: np.ndarray, token_bytes: np.ndarray, bytes_per_word: float) -> dict[str, float]:
    """Figures that do not depend on how text was cut into tokens.

    `loss`: mean negative log-likelihood of a token of `target`, in nats. Bits per byte: that of the whole, in bits, by the
    bytes of all tokens. Word perplexity follows from it: 2^(bits per byte · bytes per word of the test text).
    """
    bits = loss / np.log(2) * target.size / token_bytes[target].sum()
    return {"bits_per_byte": float(bits), "word_perplexity": float(2.0 ** (bits * bytes_per_word))}


def log_likelihood(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Logarithm of the softmax of `logits` [n, ..., k] at `target` [n, ...] -> [n, ...]."""
    result = np.empty(target.shape)
    for k, row in enumerate(logits):  # one by one: the double precision of all would not fit in memory
        shifted = np.subtract(row, row.max(-1, keepdims=True), dtype=np.float64)
        chosen = np.take_along_axis(shifted, target[k][..., None], -1)[..., 0]
        result[k] = chosen - np.log(np.exp(shifted, out=shifted).sum(-1))
    return result
