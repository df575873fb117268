"""CIFAR-10: small pictures in ten classes (Krizhevsky 2009; www.cs.toronto.edu/~kriz/cifar.html).

x [n, 32, 32, 3]: red, green, blue, 0 to 1. y [n]: classes 0 to 9. 45,000 / 5,000 / 10,000 pictures: the validation part is
taken from the official training pictures. Two sources, the first one found is taken:
    data_batch_1.bin … test_batch.bin   the official files, "binary version" (the Python version would need pickle)
    cifar10_jpeg.npz                    all pictures as JPEG: lossy, which `note` says; per part `train` and `test` the arrays
                                        _jpeg uint8 (all files one after another), _length of each, _label
"""

import io
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..base.errors import InputError, ToolMissing, extra
from . import Dataset, choose_split, find_folder, hold_out
from .archives import read, read_npz

VALIDATION = 5000
CLASSES = 10
SHAPE = (32, 32, 3)
BATCHES = {"train": tuple(f"data_batch_{k}.bin" for k in range(1, 6)), "test": ("test_batch.bin",)}
COPY = "cifar10_jpeg.npz"
REMEDY = (
    "get the binary version (cifar-10-binary.tar.gz) from https://www.cs.toronto.edu/~kriz/cifar.html, unpack it and name the "
    "folder with EMAMBA_DATA"
)

Part = tuple[np.ndarray, np.ndarray]


def load(split: str | None, directory: Path) -> Dataset:
    split = choose_split("cifar10", split, ("official",))
    folders = (directory / "cifar-10-batches-bin", directory / "cifar10", directory)
    binary, copy = find_folder(folders, BATCHES["train"] + BATCHES["test"]), find_folder(folders, (COPY,))
    if binary is not None:
        train, test = (_read_binary(binary, names) for names in BATCHES.values())
        note = "official files"
    elif copy is not None:
        path = copy / COPY
        train, test = _read_copy(path, path.stat().st_mtime_ns)
        note = "CIFAR-10 (JPEG copy)"
    else:
        raise InputError(f"no CIFAR-10 data in {', '.join(map(str, folders[:-1]))} or {directory}: {REMEDY}")
    if len(train[1]) <= VALIDATION or not len(test[1]):
        raise InputError(f"{binary or copy} has {len(train[1])} training and {len(test[1])} test pictures, too few for a "
                         f"validation part of {VALIDATION}: {REMEDY}")
    first, second = hold_out(len(train[1]), VALIDATION)
    (x, y), (x_test, y_test) = train, test
    return Dataset(
        name="cifar10", split=split, note=note, x_train=_scaled(x[first]), y_train=y[first], x_validate=_scaled(x[second]),
        y_validate=y[second], x_test=_scaled(x_test), y_test=y_test,
    )


def _scaled(x: np.ndarray) -> np.ndarray:
    return x / np.float32(255)


def _read_binary(folder: Path, names: tuple[str, ...]) -> Part:
    """Records of a class and 3 × 32 × 32 bytes, channel by channel."""
    parts = []
    size = 1 + int(np.prod(SHAPE))
    for name in names:
        path = folder / name
        content = np.frombuffer(read(path, REMEDY), np.uint8)
        if not content.size or content.size % size:
            raise InputError(f"{path} has {content.size} bytes, no multiple of {size}: unpack it again")
        parts.append(content.reshape(-1, size))
        _check_labels(path, parts[-1][:, 0], "classes")
    records = np.concatenate(parts)
    pictures = records[:, 1:].reshape(-1, SHAPE[2], *SHAPE[:2]).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pictures), records[:, 0].astype(np.int64)


@lru_cache(maxsize=1)
def _read_copy(path: Path, changed: int) -> tuple[Part, Part]:
    """Both parts of the JPEG copy; kept in memory, since decoding takes seconds. `changed` tells another file."""
    arrays = read_npz(path, "copy it again")
    return _decoded(path, arrays, "train"), _decoded(path, arrays, "test")


def _decoded(path: Path, arrays: dict[str, np.ndarray], part: str) -> Part:
    for key in (f"{part}_jpeg", f"{part}_length", f"{part}_label"):
        if key not in arrays:
            raise InputError(f"{path} has no array '{key}': copy it again")
        if arrays[key].dtype.kind not in "iu" or arrays[key].ndim != 1:
            raise InputError(f"{path}: {key} is no list of integers: copy it again")
    jpeg, label = arrays[f"{part}_jpeg"].astype(np.uint8), arrays[f"{part}_label"].astype(np.int64)
    ends = np.cumsum(arrays[f"{part}_length"], dtype=np.int64)
    if len(label) != len(ends) or (ends[-1] if len(ends) else 0) != len(jpeg) or (np.diff(ends) < 0).any():
        raise InputError(f"{path}: {part}_jpeg, {part}_length and {part}_label do not fit together: copy it again")
    _check_labels(path, label, f"{part}_label")
    content = jpeg.tobytes()
    pictures = np.empty((len(ends), *SHAPE), np.uint8)
    for k, end in enumerate(ends.tolist()):
        pictures[k] = _decode(content[ends[k - 1] if k else 0:end], f"{path}: {part} picture {k}")
    return pictures, label


def _decode(content: bytes, where: str) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError as error:
        raise ToolMissing(f"the JPEG copy of CIFAR-10 needs the extra [data] ({error}): {extra('data')}") from None
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            picture = np.asarray(image)
    except Exception as error:  # a damaged picture raises nearly every kind of exception
        raise InputError(f"{where} cannot be decoded ({error}): copy the file again") from None
    if picture.shape != SHAPE:
        raise InputError(f"{where} has the shape {picture.shape} where {SHAPE} is expected: copy the file again")
    return picture


def _check_labels(path: Path, labels: np.ndarray, what: str) -> None:
    if labels.size and not 0 <= labels.min() <= labels.max() < CLASSES:
        raise InputError(f"{path}: {what} run from {labels.min()} to {labels.max()}, CIFAR-10 has 0 to {CLASSES - 1}")
