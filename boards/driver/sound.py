"""A stream of sound: samples in, answers for the last frames out. NumPy is all it needs."""

from collections.abc import Callable

import numpy as np

from emamba.sensors.sound import LogMel

from .windows import Windows


class SoundStream(Windows):
    """`Windows` of the features of `front_end`, as `Description.front_end` gives it. Samples may come in pieces of any length."""

    def __init__(self, predict: Callable[[np.ndarray], np.ndarray], front_end: LogMel, frames: int, every: int = 1):
        super().__init__(predict, frames, every)
        self.front_end, self.samples = front_end, np.zeros(0, np.int16)
        self._skip = 0

    def push(self, samples: np.ndarray) -> list[np.ndarray]:
        """The next samples [n], int16. Gives the classes' values of each answer that is due."""
        heard = np.concatenate([self.samples, samples])
        found = self.front_end.features(heard[self._skip:])
        gone = self._skip + len(found) * self.front_end.hop
        self.samples, self._skip = heard[gone:], max(0, gone - len(heard))
        return [values for row in found if (values := self.follow(row)) is not None]
