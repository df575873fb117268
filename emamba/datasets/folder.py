"""A folder of arrays as a data set: your own, named as its folder below the data directory.

    x_train.npy, y_train.npy, x_test.npy, y_test.npy      needed
    x_validate.npy, y_validate.npy                        else every part of x_train that `hold_out` takes: a fifth
    source.json                                           optional: unit, unit_scale, note and front_end, as of `Dataset`

x: sequences [n, L, features] or images [n, height, width, channels] of any real numbers, or token ids [n, L] of integers.
y: classes [n], or of each token (also the next token's id) [n, L], of integers; or values [n, outputs] (or [n]), or of each token
[n, L, outputs], of floating point.
"""

import json
from pathlib import Path

import numpy as np

from ..base.errors import InputError
from ..io.disguises import check_pointer
from ..io.files import read_bytes
from ..io.tensor_files import read_array
from ..sensors.sound import LogMel
from . import Dataset, choose_split, hold_out

PARTS = ("train", "validate", "test")
NEEDED = ("x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy")
SOURCE = "source.json"
LARGEST = 1 << 24
"""Of classes and token ids; far more than a model has."""
HELD_OUT = 5
"""One training sequence in this many validates, where no others are given."""


def load(name: str, split: str | None, folder: Path) -> Dataset:
    split = choose_split(name, split, ("own",))
    missing = [file for file in NEEDED if not (folder / file).exists()]
    if missing:
        raise InputError(f"{folder} has no {missing[0]}: a data set of your own needs {', '.join(NEEDED)}")
    parts = {}
    for part in PARTS:
        if (folder / f"x_{part}.npy").exists():
            parts[part] = _part(folder, part)
    if "validate" not in parts:
        x, y = parts["train"]
        if len(x) < HELD_OUT:
            raise InputError(f"{folder}/x_train.npy has {len(x)} sequences; {HELD_OUT} at least are needed to hold out some "
                             "for validation, or give x_validate.npy")
        kept, held = hold_out(len(x), len(x) // HELD_OUT)
        parts |= {"train": (x[kept], y[kept]), "validate": (x[held], y[held])}
    shapes = {part: (x.shape[1:], y.shape[1:], y.dtype.kind) for part, (x, y) in parts.items()}
    for part, shape in shapes.items():
        if shape != shapes["train"]:
            raise InputError(f"{folder}: x or y of the parts train and {part} differ in shape or kind: make them alike")
    about = _about(folder / SOURCE)
    arrays = {f"{axis}_{part}": value for part, pair in parts.items() for axis, value in zip("xy", pair, strict=True)}
    return Dataset(name=name, split=split, note=about["note"], unit=about["unit"], unit_scale=about["unit_scale"],
                   front_end=about["front_end"], baseline=about["baseline"],
                   classes=about["classes"],
                   train_remedy=f"put sequences into {folder}/x_train.npy", **arrays)


def _part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = (_numbers(folder / f"{axis}_{part}.npy") for axis in "xy")
    if len(x) != len(y) or not len(x):
        raise InputError(f"{folder}: x_{part}.npy has {len(x)} sequences and y_{part}.npy {len(y)}; both need the same number, "
                         "at least 1")
    if not (x.ndim in (3, 4) or (x.ndim == 2 and x.dtype.kind in "iu")):
        raise InputError(f"{folder}/x_{part}.npy is an array of {x.dtype} of the shape {list(x.shape)}; give sequences "
                         "[n, L, features], images [n, height, width, channels], or token ids [n, L] of integers")
    classes = y.dtype.kind in "iu"
    if y.ndim not in ((1, 2) if classes else (1, 2, 3)) or (y.ndim == 3 - classes and y.shape[:2] != x.shape[:2]):
        raise InputError(f"{folder}/y_{part}.npy is an array of {y.dtype} of the shape {list(y.shape)}; give classes [n], "
                         "or [n, L] of each token, of integers, or values [n, outputs], or [n, L, outputs], of floating point")
    if x.ndim == 2 and (x.min() < 0 or x.max() > LARGEST):
        raise InputError(f"{folder}/x_{part}.npy holds the token id {x.min() if x.min() < 0 else x.max()}: number tokens from 0")
    if classes and y.max() > LARGEST:
        raise InputError(f"{folder}/y_{part}.npy holds the class {y.max()}: number classes from 0, without gaps")
    if classes and y.min() < 0:
        raise InputError(f"{folder}/y_{part}.npy holds the class {y.min()}: number classes from 0")
    x = x.astype(np.int64 if x.ndim == 2 else np.float32)
    return x, y.astype(np.int64) if classes else y.astype(np.float32).reshape(y.shape if y.ndim > 1 else (-1, 1))


def _numbers(file: Path) -> np.ndarray:
    values = read_array(file)
    if values.dtype.kind not in "iuf" or not values.ndim or 0 in values.shape[1:]:
        raise InputError(f"{file} is an array of {values.dtype} of the shape {list(values.shape)}: save numbers, one row a "
                         "sequence")
    fits = np.isfinite(values) & (abs(values) <= np.finfo(np.float32).max)
    if not fits.all():
        where = [int(k) for k in np.argwhere(~fits)[0]]
        raise InputError(f"{file} holds {values[tuple(where)]} at {where}: remove or fill in what is no finite float32")
    return values


def _about(file: Path) -> dict:
    """What a source.json says, or what stands for it."""
    found: dict = {"unit": "", "unit_scale": 1.0, "note": "own arrays", "baseline": None, "classes": ()}
    if not file.exists():
        return found | {"front_end": None}
    content = read_bytes(file)
    check_pointer(file, content)
    try:
        given = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is no JSON ({error}): mend it, or leave it out") from None
    if not isinstance(given, dict):
        raise InputError(f"{file} holds no table: mend it, or leave it out")
    found["baseline"] = given["baseline"] if isinstance(given.get("baseline"), dict) else None
    names = given.get("classes")
    if isinstance(names, list) and all(isinstance(name, str) and name.isprintable() and len(name) <= 255 for name in names):
        found["classes"] = tuple(names)
    for key in ("unit", "unit_scale", "note"):
        if key in given:
            if type(given[key]) not in ((int, float) if key == "unit_scale" else (str,)):
                raise InputError(f"{file}: {key} must be a {'number' if key == 'unit_scale' else 'text'}, "
                                 f"not {given[key]!r}")
            found[key] = given[key]
    if not 0 < found["unit_scale"] <= float(np.finfo(np.float32).max):
        raise InputError(f"{file}: unit_scale must be a number above 0, the figure of one unit of y, not "
                         f"{str(given['unit_scale'])[:40]}")
    if not (found["unit"] + found["note"]).isprintable():
        raise InputError(f"{file}: unit and note must be text of one line without control characters")
    try:
        front_end = LogMel.of(given["front_end"]) if given.get("front_end") is not None else None
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    return found | {"unit_scale": float(found["unit_scale"]), "front_end": front_end}
