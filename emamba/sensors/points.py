"""From the points of a radar frame to the features that a model reads, in integers alone; `points.c` gives the same, bit for
bit.

A point is x (depth), y (sideways), z (up) in 64ths of a metre and v (radial velocity) in 64ths of a metre a second, all in 16
bits. The features of a frame [36]:
    0..26    of all its points, of those that recede and of those that approach (|v| at least NEAR): 16·√number, then mean and
             16·√(mean deviation) of x, y, z, v; roots since rare large values would rule
    27..35   histogram of v over all points, as 16·√number

It needs NumPy alone: a board runs this file.
"""

from math import isqrt

import numpy as np

from ..base.errors import InputError

UNIT = 64
"""Steps of a metre, and of a metre a second."""
LOW, HIGH = -(1 << 15), (1 << 15) - 1
MOST = 64
"""Points of a frame that count; the frame's later ones do not."""
BOX = np.array([320, 160, 160, 160])
"""Largest |x|, |y|, |z|, |v|: values beyond, which are errors of the sensor, are clipped."""
NEAR = 20
"""Half a step of the sensor's velocity: points below it stand still."""
EDGES = np.array([-138, -98, -59, -20, 20, 59, 98, 138])
"""Of the histogram: a velocity belongs to the bin whose number is that of the edges at or below it."""
RECIPROCAL = np.array([0] + [(1 << 16) // n for n in range(1, MOST + 1)])
ROOT = np.array([isqrt(n << 8) for n in range(2 * BOX.max() + 1)])
GROUPS, AXES = 3, 4
FEATURES = GROUPS * (1 + 2 * AXES) + len(EDGES) + 1


def fixed(values: np.ndarray) -> np.ndarray:
    """Metres, or metres a second, rounded half up to integers of 16 bits, clipped. Refuses what is no number."""
    values = np.asarray(values, np.float64)
    if np.isnan(values).any():
        raise InputError("a radar point has a value that is no number: leave the point out")
    with np.errstate(over="ignore"):
        return np.clip(np.floor(values * UNIT + 0.5), LOW, HIGH).astype(np.int16)


def features(points: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Features of frames.

    Parameters
    ----------
    points: x, y, z, v of all frames' points one after another [n, 4], integers of 16 bits as `fixed` gives them
    count: points of each frame [frames], 0 or more; they add up to n

    Returns
    -------
    int32 [frames, FEATURES]

    Raises
    ------
    InputError: shapes or types that do not fit
    """
    points, count = np.asarray(points), np.asarray(count)
    if points.ndim != 2 or points.shape[1] != AXES or points.dtype != np.int16:
        raise InputError(f"radar points have the shape {list(points.shape)} and the type {points.dtype}: give [n, {AXES}] of "
                         "int16, as `fixed` makes them")
    if count.ndim != 1 or count.dtype.kind not in "iu" or (count < 0).any() or count.sum(dtype=np.int64) != len(points):
        raise InputError(f"the numbers of points a frame do not add up to the {len(points)} points that are there")
    count = count.astype(np.int64)
    kept = np.arange(len(points)) - np.repeat(np.cumsum(count) - count, count) < MOST
    frame, points, count = np.repeat(np.arange(len(count)), count)[kept], points[kept].astype(np.int64), count.clip(max=MOST)
    points, end = points.clip(-BOX, BOX), np.cumsum(count)

    def total(values: np.ndarray) -> np.ndarray:
        """Sums over each frame."""
        sums = np.zeros((len(values) + 1, *values.shape[1:]), np.int64)
        np.cumsum(values, 0, out=sums[1:])
        return sums[end] - sums[end - count]

    v, found = points[:, 3], []
    for group in (np.ones(len(v), bool), v >= NEAR, v <= -NEAR):
        number = total(group.astype(np.int64))
        reciprocal, inside = RECIPROCAL[number][:, None], group[:, None]
        mean = total(points * inside) * reciprocal + (1 << 15) >> 16
        deviation = total(np.abs(points - mean[frame]) * inside) * reciprocal + (1 << 15) >> 16
        found += [ROOT[number][:, None], np.stack([mean, ROOT[deviation]], -1).reshape(len(count), 2 * AXES)]
    bins = len(EDGES) + 1
    place = frame * bins + np.searchsorted(EDGES, v, side="right")
    found.append(ROOT[np.bincount(place, minlength=len(count) * bins).reshape(len(count), bins)])
    return np.concatenate(found, 1).astype(np.int32)
