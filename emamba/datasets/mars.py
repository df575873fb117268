"""MARS: human pose from millimetre-wave radar points (An and Ogras, ACM TECS 2021; github.com/SizheAn/MARS, MIT).

x [n, 8, 8, 5]: up to 64 points of x, y, z in metres, Doppler in m/s, intensity. y [n, 57]: x of 19 joints, then y, then z,
in metres. Three sources, the first one found is taken:
    featuremap_*.npy, labels_*.npy        the official files
    mars_points.npz                       all points of the official frames; feature maps are rebuilt from them
    mars_test.npz, mars_random_test.npz   the same keys, test frames of the one split or the other; they ship with the project

Train labels of subject 1 are missing in mars_points.npz: those frames are left out. The rebuilt maps hold the intensity as it was
measured; in the split `official-standardized` each subject's has mean 0 and deviation 1 in each part, as the official maps
probably have it.
"""

import hashlib
import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..base.errors import InputError
from . import Dataset, choose_split
from .archives import read, read_npz

TEST_FILES = {"official": "mars_test.npz", "random": "mars_random_test.npz", "official-standardized": "mars_test.npz"}
"""Split -> file of its test frames alone."""
PARTS = ("train", "validate", "test")
RANDOM_SHARES = (0.64, 0.16)
"""Training and validation part of the random split (paper); the rest is the test part."""

POINTS = 64
JOINT_VALUES = 57
METRES = 1 / 1024
DOPPLER = 0.356003645

OFFICIAL_SHA256 = {
    "featuremap_train.npy": "f00c9266059e6367c688d4bff0a7f5add633994c50fe0addbc501ed6f3ea0462",
    "featuremap_validate.npy": "13b701b45fce07b2105b3ec5fa348f70f50a64909257e8a92772915266d30807",
    "featuremap_test.npy": "331551d42039e97a0afc260029d605dec29f4a0d11ede65e4c1328c49cb5c145",
    "labels_train.npy": "14cc4f3e56dd2135f677fae68ba33d5973615136917cdc6b66d0a960da5324c7",
}
"""Of the files whose hash is known; the other two are checked for shape only."""

RECORDINGS = {
    "train": (
        598, 712, 731, 781, 582, 795, 720, 641, 758, 794, 602, 717, 746, 795, 795, 791, 795, 587, 596, 584, 530, 529,
        529, 537, 533, 537, 535, 536, 537, 535, 500, 479, 518, 522, 536, 536, 534, 533, 450),
    "validate": (
        200, 238, 244, 261, 194, 265, 240, 214, 253, 265, 201, 239, 249, 265, 265, 264, 265, 196, 199, 195, 177, 177,
        177, 179, 178, 179, 179, 179, 179, 179, 167, 160, 173, 174, 179, 179, 178, 178, 150),
    "test": (
        198, 236, 243, 259, 194, 264, 240, 212, 252, 264, 199, 239, 248, 265, 265, 262, 265, 194, 197, 193, 176, 175,
        175, 179, 176, 178, 177, 177, 179, 177, 165, 158, 171, 174, 177, 178, 178, 176, 149),
}
"""Frames of each recording, a movement of a person, in the official files, which do not tell."""

OFFICIAL_FILES = tuple(f"{kind}_{part}.npy" for kind in ("featuremap", "labels") for part in PARTS)
REMEDY = (
    "get featuremap_{train,validate,test}.npy and labels_{train,validate,test}.npy from https://github.com/SizheAn/MARS, "
    "or mars_points.npz, and name their folder with EMAMBA_DATA"
)


@dataclass(frozen=True)
class Frames:
    """One part: x [n, 8, 8, 5], y [n, 57] (NaN: no label), subject [n] and recording [n], or None."""

    x: np.ndarray
    y: np.ndarray
    subject: np.ndarray | None = None
    recording: np.ndarray | None = None

    def __getitem__(self, index: np.ndarray) -> "Frames":
        return Frames(*(None if part is None else part[index] for part in (self.x, self.y, self.subject, self.recording)))


def load(split: str | None, directory: Path) -> Dataset:
    split = choose_split("mars", split, tuple(TEST_FILES))
    parts, note = _read(directory, TEST_FILES[split])
    parts = [part[~np.isnan(part.y[:, 0])] for part in parts]
    if split == "official-standardized":
        parts = [_standardized(part) for part in parts]
        note += ", intensity standardized"
    if split == "random" and len(parts[0].x):
        parts = _random_split(parts)
    train, validate, test = parts
    return Dataset(
        name="mars", split=split, note=note,
        x_train=train.x, y_train=train.y, x_validate=validate.x, y_validate=validate.y, x_test=test.x, y_test=test.y,
        recordings={} if split == "random" else {name: part.recording for name, part in zip(PARTS, parts, strict=True)
                                                 if part.recording is not None},
        test_subject=test.subject,
        train_subjects=() if train.subject is None else tuple(np.unique(train.subject).tolist()),
        unit="cm", unit_scale=100.0, train_remedy=REMEDY,
    )


def feature_maps(x: np.ndarray, y: np.ndarray, z: np.ndarray, doppler: np.ndarray, intensity: np.ndarray,
                 count: np.ndarray) -> np.ndarray:
    """Points of all frames one after another, `count` of them a frame -> maps [n, 8, 8, 5] float32.

    A frame's points ascend by (x, y, z), and zeros fill it up to 64. The official order of equal points is not published,
    so the maps are close to the official ones and not byte-equal.
    """
    frame = np.repeat(np.arange(len(count)), count)
    order = np.lexsort((z, y, x, frame))
    position = np.arange(len(frame)) - np.repeat(np.cumsum(count, dtype=np.int64) - count, count)
    values = np.stack([x * METRES, y * METRES, z * METRES, doppler * DOPPLER, intensity], -1)
    maps = np.zeros((len(count), POINTS, 5), np.float32)
    maps[frame, position] = values[order]
    return maps.reshape(-1, 8, 8, 5)


def _read(directory: Path, test_file: str) -> tuple[list[Frames], str]:
    for folder in (directory / "mars", directory):
        if any((folder / name).exists() for name in OFFICIAL_FILES):
            return [_read_official(folder, part) for part in PARTS], "official feature maps"
        for name in ("mars_points.npz", test_file):
            if (folder / name).exists():
                return _read_points(folder / name), "rebuilt feature maps"
    raise InputError(f"no MARS data in {directory / 'mars'} or {directory}: {REMEDY}")


def _read_official(folder: Path, part: str) -> Frames:
    x = _load_array(folder / f"featuremap_{part}.npy", (8, 8, 5))
    y = _load_array(folder / f"labels_{part}.npy", (JOINT_VALUES,))
    if len(x) != len(y):
        raise InputError(f"{folder}: featuremap_{part}.npy has {len(x)} frames, labels_{part}.npy {len(y)}: download both again")
    lengths = RECORDINGS[part]
    return Frames(x, y, None, np.repeat(np.arange(len(lengths)), lengths) if sum(lengths) == len(x) else None)


def _load_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    if not path.exists():
        raise InputError(f"{path} is missing beside the other official MARS files: get it from https://github.com/SizheAn/MARS")
    content = read(path, "get it from https://github.com/SizheAn/MARS")
    known = OFFICIAL_SHA256.get(path.name)
    if known and hashlib.sha256(content).hexdigest() != known:
        raise InputError(f"{path} is not the official MARS file (its sha256 is not {known}): download it again")
    try:
        array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # a damaged file raises nearly every kind of exception
        raise InputError(f"{path} cannot be read ({error}): download it again") from None
    if array.shape[1:] != shape:
        raise InputError(f"{path} has the shape {array.shape} where [frames, {', '.join(map(str, shape))}] is expected")
    if not _finite(array):
        raise InputError(f"{path} has values that are not finite: download it again")
    return array.astype(np.float32)


def _read_points(path: Path) -> list[Frames]:
    arrays = read_npz(path, "copy it again")
    parts = [_points_part(path, arrays, part) for part in PARTS]
    return [part if part else _empty() for part in parts]


def _points_part(path: Path, arrays: dict[str, np.ndarray], part: str) -> Frames | None:
    """Frames of `part`, None where a test-only file has no such part; refused where its arrays do not fit together."""
    if part != "test" and not any(key.startswith(f"{part}_") for key in arrays):
        return None
    keys = ("x", "y", "z", "doppler", "intensity", "count", "subject", "movement", "labels")
    for key in keys:
        if f"{part}_{key}" not in arrays:
            raise InputError(f"{path} has no array '{part}_{key}': copy it again")
        if arrays[f"{part}_{key}"].dtype.kind not in "iuf" or arrays[f"{part}_{key}"].ndim != 1 + (key == "labels"):
            raise InputError(f"{path}: {part}_{key} is no list of numbers: copy it again")
    values = {key: arrays[f"{part}_{key}"] for key in keys}
    count, labels = values["count"].astype(np.int64), values["labels"].astype(np.float32)
    frames, points = len(count), int(count.sum())
    if frames and not 1 <= count.min() <= count.max() <= POINTS:
        raise InputError(f"{path}: {part}_count runs from {count.min()} to {count.max()}, a frame has 1 to {POINTS} points")
    for key in keys[:5]:
        if values[key].shape != (points,):
            found = values[key].size
            raise InputError(f"{path}: {part}_{key} has {found} points, {part}_count adds up to {points}: copy it again")
        if not _finite(values[key]):
            raise InputError(f"{path}: {part}_{key} has values that are not finite: copy it again")
    if labels.shape != (frames, JOINT_VALUES) or not values["subject"].shape == values["movement"].shape == (frames,):
        raise InputError(
            f"{path}: {part}_labels {labels.shape}, {part}_subject {values['subject'].shape} and {part}_movement "
            f"{values['movement'].shape} do not fit {frames} frames of {JOINT_VALUES} values: copy it again"
        )
    bad = ~np.isfinite(labels)
    unlabelled = np.isnan(labels).all(1) if part == "train" else np.zeros(frames, bool)
    if bad[~unlabelled].any():
        frame = int(np.flatnonzero(bad.any(1) & ~unlabelled)[0])
        raise InputError(f"{path}: {part}_labels of frame {frame} has values that are not finite: copy it again")
    x = feature_maps(*(values[key] for key in keys[:5]), count)
    subject, movement = values["subject"], values["movement"]
    new = (np.diff(subject, prepend=subject[:1]) != 0) | (np.diff(movement, prepend=movement[:1]) != 0)
    return Frames(x, labels, subject, np.cumsum(new))


def _finite(array: np.ndarray) -> bool:
    return array.dtype.kind in "iuf" and bool(np.isfinite(array).all())


def _empty() -> Frames:
    return Frames(np.zeros((0, 8, 8, 5), np.float32), np.zeros((0, JOINT_VALUES), np.float32), *np.zeros((2, 0), np.int64))


def _standardized(part: Frames) -> Frames:
    """The same with each subject's intensity of mean 0 and deviation 1 over its points."""
    if part.subject is None:
        raise InputError("the official MARS feature maps hold the intensity standardized: take the split official")
    x = part.x.copy()
    points = x.any(axis=-1)  # the others fill a frame up
    for subject in np.unique(part.subject):
        own = points & (part.subject == subject)[:, None, None]
        values = x[own, 4].astype(np.float64)
        x[own, 4] = (values - values.mean()) / max(values.std(), 1e-6)
    return replace(part, x=x)


def _random_split(parts: list[Frames]) -> list[Frames]:
    """64 / 16 / 20 % of all labelled frames, always the same (our choice of frames; the paper's are not published)."""
    everything = _joined(parts)
    return [everything[index] for index in random_order(len(everything.x))]


def random_order(n: int) -> list[np.ndarray]:
    """Training, validation and test part of `n` labelled frames."""
    order = np.random.RandomState(0).permutation(n)  # RandomState: numpy promises its stream never changes
    train, validate = round(RANDOM_SHARES[0] * n), round(RANDOM_SHARES[1] * n)
    return np.split(order, [train, train + validate])


def labelled(directory: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels [n, 57] of all labelled frames, as the random split draws from them, and the recording of each [n]; each official
    part of a recording counts as one."""
    parts = [part[~np.isnan(part.y[:, 0])] for part in _read(directory, TEST_FILES["official"])[0]]
    new = np.concatenate([np.diff(part.recording, prepend=-1) != 0 for part in parts])
    return _joined(parts).y, np.cumsum(new)


def _joined(parts: list[Frames]) -> Frames:
    subjects = [part.subject for part in parts]
    return Frames(np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts]),
                  None if subjects[0] is None else np.concatenate(subjects))
