"""Figures of merit, from predictions and targets; the same for float, integer, RTL and board."""

import numpy as np

BETTER = {"regression": ("rmse", -1), "classification": ("accuracy", 1), "next_token": ("perplexity", -1)}
"""Task -> its leading figure, and +1 where larger is better, -1 where smaller is."""


def figures(task: str, prediction: np.ndarray, target: np.ndarray, scale: float = 1.0) -> dict[str, float]:
    """Figures of `prediction`: values [n, outputs] for regression, logits [n, outputs] or [n, L, outputs] else.

    MAE is the mean absolute error over all outputs; RMSE is the mean over the outputs of each one's root mean square
    error; both × `scale`. Accuracy is a fraction. Perplexity is exp(mean negative log-likelihood) of the next token.
    """
    if task == "regression":
        error = (prediction.astype(np.float64) - target) * scale
        rmse = np.sqrt((error**2).mean(axis=tuple(range(error.ndim - 1))))
        return {"mae": float(np.abs(error).mean()), "rmse": float(rmse.mean())}
    if task == "classification":
        return {"accuracy": float((prediction.argmax(-1) == target).mean())}
    return {"perplexity": float(np.exp(-log_likelihood(prediction, target).mean()))}


def log_likelihood(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Logarithm of the softmax of `logits` [..., k] at `target` [...] -> [...]."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    chosen = np.take_along_axis(shifted, target[..., None], -1)[..., 0]
    return chosen - np.log(np.exp(shifted).sum(-1))
