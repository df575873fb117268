"""RadHAR: what a person does, from millimetre-wave radar points (Singh et al., mmNets 2019; github.com/nesl/RadHAR, BSD-3).

`points` makes 36 features of each frame. y [n]: boxing, jumping jacks, jumping, squats, walking. Splits:
    official   x [n, 60, 36]: windows of 60 frames, one every 10 frames of a recording; none reaches into another one
    stream     x [n, 1, 36]: all frames, the recordings one after another in a random order, always the same
The test part is the official Test folder; every sixth recording of each activity in the Train folder validates, as a whole. Two
sources, the first one found is taken:
    radhar_points.npz   the points of 186 of the 200 official recordings: x, y, z in metres, v in m/s, per frame `count` and
                        `rec`, per recording `act` and `split` (official test)
    radhar_test.npz     the same of the test recordings, x, y, z, v as `points.fixed` makes them; it ships with the project
"""

from pathlib import Path

import numpy as np

from ..base.errors import InputError
from ..sensors.points import MOST, features, fixed
from . import Dataset, choose_split
from .archives import read_npz

FILES = ("radhar_points.npz", "radhar_test.npz")
ACTIVITIES = ("boxing", "jack", "jump", "squats", "walk")
WINDOW, STRIDE = 60, 10
VALIDATION = 6
"""One training recording of an activity in this many validates."""
LIMIT = 1 << 20
"""Frames of a file; the 186 recordings have 0.1 million."""
AXES = ("x", "y", "z", "v")
REMEDY = "get the recordings from https://github.com/nesl/RadHAR as radhar_points.npz, and name its folder with EMAMBA_DATA"


def load(split: str | None, directory: Path) -> Dataset:
    split = choose_split("radhar", split, ("official", "stream"))
    frames, recording, activity, test = read_recordings(find(directory))
    number = np.zeros(len(activity), np.int64)  # of a recording among its activity's
    for k in range(len(ACTIVITIES)):
        mine = (activity == k) & ~test
        number[mine] = np.arange(mine.sum())
    validate = ~test & (number % VALIDATION == VALIDATION - 1)
    parts = (~test & ~validate, validate, test)
    if split == "official":
        windows = [cut(frames, recording, part) for part in parts]
    else:
        windows = [stream(frames, recording, part) for part in parts]
    (x, r), (x_validate, r_validate), (x_test, r_test) = windows
    return Dataset(
        name="radhar", split=split, note="186 of 200 recordings" if len(x) else "55 of 58 test recordings",
        x_train=x, y_train=activity[r], x_validate=x_validate, y_validate=activity[r_validate], x_test=x_test,
        y_test=activity[r_test], train_remedy=REMEDY,
        recordings={} if split == "official" else {"train": r, "validate": r_validate, "test": r_test},
    )


def find(directory: Path) -> Path:
    """The file to read below the data directory."""
    for name in FILES:
        for folder in (directory / "radhar", directory):
            if (folder / name).exists():
                return folder / name
    raise InputError(f"no RadHAR data in {directory / 'radhar'} or {directory}: {REMEDY}")


def cut(frames: np.ndarray, recording: np.ndarray, wanted: np.ndarray, stride: int = STRIDE,
        length: int = WINDOW) -> tuple[np.ndarray, np.ndarray]:
    """Windows of `length` frames of the `wanted` recordings, one every `stride` frames, and each window's recording."""
    starts = np.flatnonzero(np.diff(recording, prepend=-1))
    ends = np.append(starts[1:], len(recording))
    places = [np.arange(start, end - length + 1, stride) for start, end in zip(starts, ends, strict=True)
              if wanted[recording[start]]]
    first = np.concatenate([np.zeros(0, np.int64), *places])
    return frames[first[:, None] + np.arange(length)].astype(np.float32), recording[first]


def stream(frames: np.ndarray, recording: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All frames of the `wanted` recordings, which are shuffled, and each frame's recording."""
    x, r = cut(frames, recording, wanted, 1, 1)
    rank = np.zeros(len(wanted), np.int64)
    rank[wanted] = np.random.RandomState(0).permutation(wanted.sum())  # RandomState: numpy promises its stream never changes
    order = np.argsort(rank[r], kind="stable")
    return x[order], r[order]


def read_recordings(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features of all frames [frames, FEATURES], each frame's recording; each recording's activity, and whether it is a test."""
    arrays = read_npz(path, "copy it again")
    for key, kinds in {**dict.fromkeys(AXES, "if"), "count": "iu", "rec": "iu", "act": "iu", "split": "b"}.items():
        if key not in arrays:
            raise InputError(f"{path} has no array '{key}': copy it again")
        if arrays[key].dtype.kind not in kinds or arrays[key].ndim != 1:
            raise InputError(f"{path}: {key} has the shape {list(arrays[key].shape)} and the type {arrays[key].dtype}, which do "
                             "not belong there: copy it again")
    count, recording, activity = (arrays[key].astype(np.int64) for key in ("count", "rec", "act"))
    if len(count) > LIMIT:
        raise InputError(f"{path} has {len(count)} frames, at most {LIMIT} are read: copy it again")
    if len(count) and not 1 <= count.min() <= count.max() <= MOST:
        raise InputError(f"{path}: count runs from {count.min()} to {count.max()}, a frame has 1 to {MOST} points: copy it again")
    for key in AXES:
        if len(arrays[key]) != count.sum():
            raise InputError(f"{path}: {key} has {len(arrays[key])} points, count adds up to {count.sum()}: copy it again")
        if not np.isfinite(arrays[key]).all():
            raise InputError(f"{path}: {key} has values that are not finite: copy it again")
    if len(recording) != len(count) or len(activity) != len(arrays["split"]):
        raise InputError(f"{path}: count and rec, or act and split, differ in length: copy it again")
    if len(recording) and (recording[0] < 0 or recording[-1] >= len(activity) or (np.diff(recording) < 0).any()):
        raise InputError(f"{path}: rec does not ascend within 0..{len(activity) - 1}: copy it again")
    if len(activity) and not 0 <= activity.min() <= activity.max() < len(ACTIVITIES):
        raise InputError(f"{path}: act runs from {activity.min()} to {activity.max()}, there are {len(ACTIVITIES)} activities: "
                         "copy it again")
    values = [arrays[key] if arrays[key].dtype == np.int16 else fixed(arrays[key]) for key in AXES]
    return features(np.stack(values, -1), count), recording, activity, arrays["split"]
