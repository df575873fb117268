"""Answers for windows of a stream of features. NumPy is all it needs."""

from collections import deque
from collections.abc import Callable

import numpy as np


class Windows:
    """Answers for windows of the last `frames` frames.

    Parameters
    ----------
    predict: windows [n, frames, features] → values [n, 1, classes], as `Accelerator.predict`
    frames: of a window
    every: frames from one answer to the next
    """

    def __init__(self, predict: Callable[[np.ndarray], np.ndarray], frames: int, every: int = 1):
        self.predict, self.every = predict, every
        self.window: deque[np.ndarray] = deque(maxlen=frames)
        self.votes: np.ndarray | None = None
        self._wait = frames

    def follow(self, features: np.ndarray) -> np.ndarray | None:
        """The next frame's features. Gives the classes' values, or None where none is due."""
        self.window.append(features)
        self._wait -= 1
        if self._wait:
            return None
        self._wait = self.every
        values = self.predict(np.array(self.window)[None])[0, 0]
        if self.votes is None:
            self.votes = np.zeros(len(values), np.int64)
        self.votes[values.argmax()] += 1
        return values

    def vote(self) -> int | None:
        """The class that most answers gave since the stream began, None before the first one."""
        return None if self.votes is None else int(self.votes.argmax())
