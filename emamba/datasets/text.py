"""What data sets of text have in common."""

import numpy as np

from ..base.errors import SettingError


def words(text: bytes) -> int:
    """Words as the figures for WikiText count them: a line's end is one too."""
    return len(text.split()) + text.count(b"\n")


def windows(ids: np.ndarray, length: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Token ids cut into windows [n, length], which follow each other, and the ids that follow each of them [n, length]."""
    n = (len(ids) - 1) // length
    if n < 1:
        raise SettingError(f"{what} has {len(ids)} tokens, too few for a window of {length} and one more: take a smaller L")
    return ids[:n * length].reshape(n, length), ids[1:n * length + 1].reshape(n, length)
