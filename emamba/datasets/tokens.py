"""From data set inputs to the tokens a model reads."""

import numpy as np

from ..base.errors import InputError
from ..config import ModelConfig


def patchify(images: np.ndarray, patch: tuple[int, int], overlap: int = 0) -> np.ndarray:
    """Cuts images into patches, one token each: row-major patches, row-major pixels inside a patch, channels last.

    A patch reaches `overlap` pixels into its neighbours; beyond the image its border is repeated.
    images [n, height, width, c] of NumPy or torch, patch (ph, pw) -> [n, L, (ph + 2·overlap)·(pw + 2·overlap)·c].
    """
    n, height, width, _ = images.shape
    rows, columns = (
        (np.arange(0, size, step)[:, None] + np.arange(-overlap, step + overlap)).clip(0, size - 1)
        for size, step in zip((height, width), patch, strict=True)
    )
    patches = images[:, rows[:, None, :, None], columns[None, :, None, :]]  # [n, rows of patches, columns, ph, pw, c]
    return patches.reshape(n, len(rows) * len(columns), -1)


def to_tokens(x: np.ndarray, config: ModelConfig) -> np.ndarray:
    """Inputs of a data set as the model's tokens: images patchified, the others as they are, all checked for shape."""
    expected = {
        "image": config.image,
        "sequence": (config.length, config.features),
        "tokens": (config.length,),
    }[config.input]
    if x.shape[1:] != tuple(expected):
        found, wanted = ("×".join(map(str, shape)) for shape in (x.shape[1:], expected))
        raise InputError(f"the data has inputs of {found}, the model's {config.input} input is {wanted}: make the two agree")
    return patchify(x, config.patch, config.overlap) if config.input == "image" else x


def executor_tokens(x: np.ndarray, config: ModelConfig) -> np.ndarray:
    """Inputs of a data set as an executor reads them: [n, L, input width], values float64, token ids as they are."""
    tokens = to_tokens(x, config)
    return tokens[..., None] if config.input == "tokens" else tokens.astype(np.float64)
