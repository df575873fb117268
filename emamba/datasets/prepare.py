"""From files of your own to a folder of arrays (`emamba.datasets.folder`), with a recipe and a trivial baseline beside them.

Parts are three fifths, one and one. A time series is cut in time or by groups, and no row is in windows of two parts; sounds are
dealt class by class, or by groups. All is our choice.
"""

import json
import os
from pathlib import Path

import numpy as np

from ..base.errors import InputError, OutputError, SettingError
from ..base.words import counted
from ..io.columns import KINDS as TABLES
from ..io.files import write_folder
from . import MODULES, Dataset
from .baseline import Baseline, measure
from .grouping import PARTS
from .metrics import value_words
from .outside import outside
from .outside import told as told_outside
from .prepared import Prepared, balance
from .recipe import recipe_text
from .sounds import KINDS as SOUNDS

MARKER = "x_train.npy"
RECORD = "source.json"
ARRAYS = (".npy", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
READS = (f"table ({', '.join(TABLES)}) and no sound ({', '.join(SOUNDS)}), which prepare reads; arrays, such as images, "
         "are a data set as they are: docs/tutorial.md, Images")


def find(sources: list[Path]) -> tuple[str, list[Path]]:
    """Whether `sources` are "tables" or "sounds", and which: files, those in folders and below, or the one folder of sounds."""
    found: list[Path] = []
    for source in sources:
        if not source.exists():
            raise InputError(f"{source} does not exist: name a CSV file, or a folder of sounds")
        if not source.is_dir():
            found.append(source)
            continue
        below = sorted(file for file in source.rglob("*") if file.is_file() and not file.name.startswith("."))
        tables = [file for file in below if file.suffix.lower() in TABLES]
        sounds = any(file.suffix.lower() in SOUNDS for file in below)
        if not sounds and not tables:
            raise InputError(f"{source} holds no {READS}")
        if sounds:
            if len(sources) > 1:
                raise SettingError(f"{source} is a folder of sounds: name it alone, with all sounds in it")
            return "sounds", [source]
        found += tables
    if array := next((file for file in found if file.suffix.lower() in ARRAYS), None):
        raise InputError(f"{array} is no {READS}")
    if sound := next((file for file in found if file.suffix.lower() in SOUNDS), None):
        raise SettingError(f"{sound} is a sound: name the folder that holds a folder for each class")
    if len(set(found)) < len(found):
        raise SettingError(f"{next(file for file in found if found.count(file) > 1)} is named twice: name it once")
    return "tables", found


def check_name(folder: Path) -> str:
    """The name of a folder as recipes write it; refuses one that they cannot."""
    name = os.path.basename(os.path.abspath(folder))
    if name in MODULES:
        raise OutputError(f"--out {folder}: recipes call the data set of this project '{name}' by that name: take another folder")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise OutputError(f"--out {folder}: that folder's name is no UTF-8, so no recipe can call it: take another") from None
    return json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007F")


def dataset(found: Prepared, name: str = "prepared") -> Dataset:
    """As `emamba.datasets.load` gives it once it is written."""
    arrays = {f"{axis}_{part}": getattr(found, axis)[part] for axis in "xy" for part in PARTS}
    return Dataset(name, "own", found.source["note"], **arrays)


def write(found: Prepared, folder: Path) -> list[str]:
    """Writes the arrays, source.json and recipe.toml; returns lines on what is in them."""
    name = check_name(folder)
    data = dataset(found)
    baseline = measure(data, found.last or None)
    source = found.source | ({"baseline": baseline.report()} if baseline else {})
    with write_folder(folder, MARKER, RECORD) as temporary:
        for part in PARTS:
            np.save(temporary / f"x_{part}.npy", found.x[part])
            np.save(temporary / f"y_{part}.npy", found.y[part])
        (temporary / RECORD).write_text(json.dumps(source, indent=1, ensure_ascii=False) + "\n", encoding="utf-8",
                                        errors="backslashreplace")
        (temporary / "recipe.toml").write_text(recipe_text(data, name, source), encoding="utf-8")
    counts = " / ".join(str(len(x)) for x in found.x.values())
    length, features = found.x["train"].shape[1:]
    lines = [f"{counts} sequences of {counted(length, 'token')} of {counted(features, 'feature')} to train / validate / test on, "
             + (f"{found.classes} classes: {', '.join(source['classes'])}" if found.classes else "1 value each")]
    advice = [STILL] if baseline and baseline.still else []
    names = [*source.get("inputs", ()), *([source["target"]] if not found.classes else [])] if "inputs" in source else []
    return [*lines, *found.remarks, *balance(found), *([told(baseline)] if baseline else []), *advice,
            *told_outside(outside(data), names)]


STILL = "the last value is hard to beat: with --change the model predicts the difference from it"


def told(baseline: Baseline) -> str:
    """A line on the trivial models."""
    each = ", ".join(f"{name} {value_words(baseline.metric, value['test'])}" for name, value in baseline.figures.items())
    return f"trivial models, {baseline.metric} on the test part: {each}; the one to beat is the {baseline.best}"
