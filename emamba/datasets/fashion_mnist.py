"""Fashion-MNIST: clothes in ten classes (Xiao et al., arXiv 1708.07747; github.com/zalandoresearch/fashion-mnist, MIT).

x [n, 28, 28, 1]: brightness, 0 to 1. y [n]: classes 0 to 9. 55,000 / 5,000 / 10,000 images: the validation part is taken from
the official training images. Read are the four official files, from the user's folder or Debian's package; the two of the test
images ship with the project and are enough to evaluate.
"""

import hashlib
from pathlib import Path

import numpy as np

from ..base.errors import InputError
from . import Dataset, choose_split, elsewhere, find_folder, hold_out
from .archives import unpack

VALIDATION = 5000
CLASSES = 10
SYSTEM = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""

FILES = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""SHA-256 of what the files hold, unpacked: MNIST's files have the same names."""

REMEDY = (
    "install Debian's package dataset-fashion-mnist, or get the four .gz files from "
    "https://github.com/zalandoresearch/fashion-mnist and name their folder with EMAMBA_DATA"
)


def load(split: str | None, directory: Path) -> Dataset:
    split = choose_split("fashion_mnist", split, ("official",))
    folders = (directory / "fashion-mnist", directory / "fashion_mnist", directory, *elsewhere(SYSTEM))
    training, test = tuple(FILES)[:2], tuple(FILES)[2:]
    folder = find_folder(folders, training) or find_folder(folders, test)
    if folder is None:
        raise InputError(f"no Fashion-MNIST data in {directory / 'fashion-mnist'}, {directory} or {SYSTEM}: {REMEDY}")
    x_test, y_test = _part(folder, "t10k")
    x, y = _part(folder, "train") if find_folder((folder,), training) else (x_test[:0], y_test[:0])
    train, validate = hold_out(len(x), VALIDATION)
    return Dataset(
        name="fashion_mnist", split=split, note="official files", train_remedy=REMEDY,
        x_train=x[train], y_train=y[train], x_validate=x[validate], y_validate=y[validate], x_test=x_test, y_test=y_test,
    )


def _part(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    images = _read(folder / f"{name}-images-idx3-ubyte.gz")
    labels = _read(folder / f"{name}-labels-idx1-ubyte.gz")
    return images[..., None] / np.float32(255), labels.astype(np.int64)


def _read(path: Path) -> np.ndarray:
    """The array of an IDX file of bytes: two zeros, type 8, number of axes, sizes as big-endian 32-bit integers, values."""
    if not path.exists():
        raise InputError(f"{path} is missing beside the other Fashion-MNIST files: {REMEDY}")
    content = unpack(path, "download it again")
    known = FILES[path.name]
    if hashlib.sha256(content).hexdigest() != known:
        raise InputError(f"{path} is not the official Fashion-MNIST file (its content's sha256 is not {known}): {REMEDY}")
    axes = content[3]
    sizes = np.frombuffer(content, ">u4", axes, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(sizes)
