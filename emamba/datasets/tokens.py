"""From data set inputs to the tokens a model reads."""

import numpy as np

from ..config import ModelConfig
from ..errors import EmambaError


def patchify(images: np.ndarray, patch: tuple[int, int]) -> np.ndarray:
    """Cuts images into patches, one token each: row-major patches, row-major pixels inside a patch, channels last.

    images [n, height, width, c] of NumPy or torch, patch (ph, pw) -> [n, L, ph·pw·c].
    """
    n, height, width, channels = images.shape
    ph, pw = patch
    grid = images.reshape(n, height // ph, ph, width // pw, pw, channels)
    return grid.swapaxes(2, 3).reshape(n, (height // ph) * (width // pw), ph * pw * channels)


def to_tokens(x: np.ndarray, config: ModelConfig) -> np.ndarray:
    """Inputs of a data set as the model's tokens: images patchified, the others as they are, all checked for shape."""
    expected = {
        "image": config.image,
        "sequence": (config.length, config.features),
        "tokens": (config.length,),
    }[config.input]
    if x.shape[1:] != tuple(expected):
        found, wanted = ("×".join(map(str, shape)) for shape in (x.shape[1:], expected))
        raise EmambaError(f"the data has inputs of {found}, the model's {config.input} input is {wanted}: make the two agree")
    return patchify(x, config.patch) if config.input == "image" else x


def executor_tokens(x: np.ndarray, config: ModelConfig) -> np.ndarray:
    """Inputs of a data set as an executor reads them: [n, L, input width], values float64, token ids as they are."""
    tokens = to_tokens(x, config)
    return tokens[..., None] if config.input == "tokens" else tokens.astype(np.float64)
