"""How much of what validates and tests lies beyond the range of what trains, as after a trend. The measure is our choice."""

import numpy as np

from . import Dataset

LARGE = 0.1
"""Share of a feature's values from which it is said."""
NAMES = {"validate": "validation", "test": "test"}
REMEDY = ("take the trend off or give changes in place of values (prepare --change does so for the target alone), or split by "
          "--group")


def outside(data: Dataset) -> dict[str, np.ndarray]:
    """Of the validation and test part: the share of the values of each input feature, and of each regressed output, that lie
    beyond those of the training part [features + outputs]; none of token ids, or without a training part."""
    if not len(data.x_train):
        return {}
    return {part: np.array([share for axis in "xy" for share in _shares(getattr(data, f"{axis}_train"),
                                                                        getattr(data, f"{axis}_{part}"))])
            for part in NAMES if len(getattr(data, f"x_{part}"))}


def _shares(known: np.ndarray, new: np.ndarray) -> list[float]:
    if known.dtype.kind != "f":
        return []
    return [float(((new[..., k] < known[..., k].min()) | (new[..., k] > known[..., k].max())).mean())
            for k in range(known.shape[-1])]


def largest(shares: dict[str, np.ndarray]) -> dict[str, float]:
    """Of each part, the share of the feature that has the largest."""
    return {part: float(each.max(initial=0.0)) for part, each in shares.items()}


def told(shares: dict[str, np.ndarray], names: list[str]) -> list[str]:
    """A line where a large share of a feature lies beyond; `names` are those of features and outputs, if they have any."""
    worst = int(np.max(list(shares.values()), 0, initial=0.0).argmax()) if shares else 0
    if max(largest(shares).values(), default=0.0) < LARGE:
        return []
    each = " and ".join(f"{values[worst]:.0%} of the {NAMES[part]}" for part, values in shares.items())
    return [f"{each} values of {repr(names[worst]) if names else 'a feature'} lie beyond the range of the training part, where a "
            f"model only guesses: {REMEDY}"]
