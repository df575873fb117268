"""A stream of radar frames: points in, an answer for the last frames out. NumPy is all it needs."""

import numpy as np

from emamba.sensors.points import features, fixed

from .windows import Windows


class RadarStream(Windows):
    """`Windows` of the features of points."""

    def push(self, points: np.ndarray) -> np.ndarray | None:
        """The next frame's points [n, 4]: x, y, z in metres, v in m/s. Gives the classes' values, or None where none is due."""
        points = fixed(points).reshape(-1, 4)
        return self.follow(features(points, np.array([len(points)]))[0])
