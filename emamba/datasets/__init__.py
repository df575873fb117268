"""Data sets by name. One file a data set: a function `load(split, directory) -> Dataset`, listed in `MODULES`. Any other name
is that of a folder of arrays (`folder`) below the data directory, or where that has none, in the current one."""

import os
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import numpy as np

from ..base.errors import SettingError
from ..sensors.sound import LogMel

MODULES = {name: name for name in ("mars", "fashion_mnist", "cifar10", "wikitext2", "japanese_vowels",
                                   "shakespeare", "radhar")}
"""Data set name -> module of this package."""
LONGEST = 255
"""Bytes that the name of a folder may have."""


@dataclass(frozen=True)
class Dataset:
    """Inputs x and targets y of three parts, which share no frame; a part that is not there has 0 frames.

    x: images [n, height, width, channels] or sequences [n, L, features] float32, or token ids [n, L] int64.
    y: regressed values [n, outputs] float32, classes [n] int64, or next tokens [n, L] int64.
    """

    name: str
    split: str
    note: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_validate: np.ndarray
    y_validate: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    recordings: Mapping[str, np.ndarray] = field(default_factory=dict)
    """By part, where a data set tells: the recording of each sequence [n]; those of one recording follow each other in time."""
    test_subject: np.ndarray | None = None
    """Person in each test frame, where a data set tells."""
    train_subjects: tuple[int, ...] = ()
    """Persons in the training part."""
    unit: str = ""
    """Unit in which figures are given."""
    unit_scale: float = 1.0
    """Figure in `unit` = label × unit_scale."""
    train_remedy: str = ""
    """What to get, and where, when the training part is empty."""
    token_bytes: np.ndarray | None = None
    """Bytes of text per token id [vocabulary], where the tokens are text."""
    front_end: LogMel | None = None
    """What made the inputs from the samples of a sound."""
    classes: tuple[str, ...] = ()
    """Names of the classes, where a data set tells."""
    baseline: Mapping | None = None
    """Of trivial models, where a data set has one stored (`baseline.Baseline`)."""
    bytes_per_word: float = 0.0
    """Of the test text, a line's end counted as a word as in WikiText; 0 without text."""

    @property
    def test_seen(self) -> np.ndarray | None:
        """Which test frames show a person of the training part; None where all do, or nobody knows."""
        if self.test_subject is None or not self.train_subjects:
            return None
        seen = np.isin(self.test_subject, self.train_subjects)
        return None if seen.all() else seen


_only = ContextVar("only", default=False)


def load(name: str, split: str | None = None, directory: Path | str | None = None, only: bool = False) -> Dataset:
    """Data set `name`; `split` None is the data set's first one, `directory` None as in `data_directory`. `only`: not of a
    folder of the system."""
    directory = data_directory(directory)
    if not isinstance(name, str) or not isinstance(split, str | None):
        raise SettingError(f"the name and the split of a data set are texts, not {str(name)[:80]!r} and {str(split)[:80]!r}")
    if name in MODULES:
        before = _only.set(only)
        try:
            return import_module(f".{MODULES[name]}", __name__).load(split, directory)
        finally:
            _only.reset(before)
    own = Path(name).name == name and name not in ("", "..") and len(os.fsencode(name)) <= LONGEST
    if own and os.path.isdir(directory / name):
        return import_module(".folder", __name__).load(name, split, directory / name)
    if own and not only and os.path.isfile(Path(name) / "x_train.npy"):
        return import_module(".folder", __name__).load(name, split, Path(name))
    raise SettingError(f"unknown data set '{name[:80]}'; known: {', '.join(sorted(MODULES))}, and folders of arrays in "
                       f"{directory}")


def data_directory(directory: Path | str | None = None) -> Path:
    """`directory`, else the environment variable EMAMBA_DATA, else `data` below the current directory."""
    return Path(directory or os.environ.get("EMAMBA_DATA") or "data")


def elsewhere(*folders: Path) -> tuple[Path, ...]:
    """Folders outside the data directory; none where `load` is asked for no others."""
    return () if _only.get() else folders


def choose_split(name: str, split: str | None, splits: tuple[str, ...]) -> str:
    """`split` if it is one of `splits`, the first of them for None."""
    if split is None:
        return splits[0]
    if split not in splits:
        raise SettingError(f"data set {name} has no split '{split}'; it has: {', '.join(splits)}")
    return split


def find_folder(folders: tuple[Path, ...], names: tuple[str, ...]) -> Path | None:
    """The first of `folders` that has one of the files `names`."""
    return next((folder for folder in folders if any(os.path.exists(folder / name) for name in names)), None)


def hold_out(n: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of 0..n−1 in two parts, the second of `count`, by a permutation that is always the same."""
    order = np.random.RandomState(0).permutation(n)  # RandomState: numpy promises its stream never changes
    return order[:-count], order[-count:]
