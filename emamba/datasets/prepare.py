"""From files of your own to a folder of arrays (`emamba.datasets.folder`): a CSV time series, or folders of WAV files.

Parts are three fifths, one and one. A time series is cut in time, and no row is in windows of two parts; sounds are drawn class
by class. Features of sounds (`emamba.sensors.sound`) come from the driver or from C: they are in no hardware. All is our choice.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..base.errors import InputError, OutputError, SettingError
from ..io.files import write_folder
from ..io.tables import read_table, values, words
from ..io.wav import read_wav
from ..sensors.sound import BANDS, FRAME, LogMel, fixed
from . import MODULES

Array = np.ndarray

MARKER = "x_train.npy"
RECORD = "source.json"
PARTS = ("train", "validate", "test")
LARGEST = 1 << 30
"""Values that a part may have."""
LONGEST = 3600
"""Seconds of a sound at most."""


@dataclass(frozen=True)
class Prepared:
    """x [n, L, features] float32 and y, values [n, 1] float32 or classes [n] int64, of each part; and what made them."""

    x: dict[str, Array]
    y: dict[str, Array]
    source: dict

    @property
    def remarks(self) -> list[str]:
        """Sentences on how the files were read, and what was left out."""
        return self.source["remarks"]

    @property
    def classes(self) -> int:
        """0 for values."""
        return len(self.source.get("classes", ()))


def series(file: Path, inputs: list[str], target: str, length: int, *, ahead: int = 1, step: int = 1,
           classes: bool = False) -> Prepared:
    """Windows of `length` rows of the columns `inputs`, one every `step` rows.

    Their target is what the column `target` holds `ahead` rows after a window's last row: a value, or with `classes` a name.
    """
    for name, value, least in (("--length", length, 1), ("--step", step, 1), ("--ahead", ahead, 0)):
        if value < least:
            raise SettingError(f"{name} must be at least {least}, not {value}")
    inputs, target = [name.strip() for name in inputs], target.strip()
    table = read_table(file, [*inputs, target])
    columns, notes = values(table, inputs if classes else [*inputs, target])
    x = np.stack([columns[name] for name in inputs], 1)  # [rows, features]
    names = sorted(set(words(table, target))) if classes else []
    numbers = {name: k for k, name in enumerate(names)}
    y = np.array([numbers[word] for word in words(table, target)]) if classes else columns[target][:, None]
    edges = [0, len(x) * 3 // 5, len(x) * 4 // 5, len(x)]
    found = Prepared({}, {}, {"note": _plain(f"windows of {length} rows of {file.name}"), "file": file.name, "inputs": inputs,
                              "target": target, "length": length, "ahead": ahead, "step": step,
                              "remarks": [*table.notes, *notes]})
    for part, low, high in zip(PARTS, edges, edges[1:], strict=False):
        starts = np.array(range(low, high - length - ahead + 1, step), np.int64)
        if len(starts) * length * len(inputs) > LARGEST:
            raise SettingError(f"{file}: {len(starts)} windows of {length} rows are more than {LARGEST} values for {part}: take "
                               "a larger --step")
        if not len(starts):
            raise SettingError(f"{file} has {len(x)} rows, of which {high - low} are for {part}: too few for windows of {length} "
                               f"rows and a target {ahead} later; give more rows or a smaller --length")
        found.x[part] = x[starts[:, None] + np.arange(length)].astype(np.float32)
        found.y[part] = y[starts + length - 1 + ahead].astype(np.int64 if classes else np.float32)
    return _named(found, names)


def sounds(folder: Path, seconds: float, bands: int) -> Prepared:
    """Features in `bands` bands, by `LogMel`, of the first `seconds` of every WAV file; silence fills up shorter ones. The class
    is the name of the folder that a file is in."""
    if not seconds >= FRAME:
        raise SettingError(f"--seconds must be at least {FRAME:g}, not {seconds:g}")
    if seconds > LONGEST:
        raise SettingError(f"--seconds must be at most {LONGEST}, not {seconds:g}")
    if not BANDS[0] <= bands <= BANDS[1]:
        raise SettingError(f"--bands must lie in {BANDS[0]}..{BANDS[1]}, not {bands}")
    files, remarks = _find_sounds(folder)
    names = sorted(files)
    if len(names) < 2:
        raise InputError(f"{folder} has {len(names)} folders with .wav files: put the sounds of each class into a folder of its "
                         f"own, two classes at least{''.join(f'; {remark}' for remark in remarks)}")
    found = Prepared({part: [] for part in PARTS}, {part: [] for part in PARTS},
                     {"note": _plain(f"{bands} bands of {seconds:g} s of the sounds in {folder.name}"), "seconds": seconds,
                      "remarks": remarks})
    rates = {}
    for k, name in enumerate(names):
        if len(files[name]) < 3:
            raise InputError(f"{folder / name} has {len(files[name])} .wav files; a class needs at least 3, one for each part")
        order = np.random.RandomState(0).permutation(len(files[name]))  # RandomState: numpy promises its stream never changes
        cuts = max(1, len(order) // 5)
        shares = {"test": order[:cuts], "validate": order[cuts:2 * cuts], "train": order[2 * cuts:]}
        for part, numbers in shares.items():
            for number in numbers:
                file = files[name][number]
                samples, rate = read_wav(file)
                if rates and rate not in rates:
                    other, = rates.items()
                    raise InputError(f"{file} has {rate} samples a second, {other[1]} has {other[0]}: convert them to one rate")
                rates[rate] = file
                front_end = LogMel.of_seconds(rate, bands, FRAME)
                heard = np.zeros(max(round(seconds * rate), front_end.frame), np.int16)
                taken = fixed(samples[:len(heard)])
                heard[:len(taken)] = taken
                found.x[part].append(front_end.features(heard).astype(np.float32))
                found.y[part].append(k)
    stacked = Prepared({part: np.stack(x) for part, x in found.x.items()},
                       {part: np.array(y, np.int64) for part, y in found.y.items()},
                       found.source | {"front_end": front_end.fields})
    return _named(stacked, names)


def _find_sounds(folder: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """The WAV files of each class, in the order of their names, and sentences on all that is left out."""
    files: dict[str, list[Path]] = {}
    left: dict[str, list[str]] = {}

    def leave(what: str, place: Path) -> None:
        left.setdefault(what, []).append(str(place.relative_to(folder)))

    for place in _listed(folder):
        if not place.is_dir():
            leave("files beside the folders of the classes", place)
            continue
        inside = _listed(place)
        own = [file for file in inside if _is_sound(file) and not file.is_dir()]
        if not own:
            leave("folders without .wav files", place)
            continue
        files[place.name] = own
        for other in sorted(set(inside) - set(own)):
            leave(f"{'folders' if other.is_dir() else 'files of other kinds'} in the folders of the classes", other)
    return files, [_plain(f"left out: {what}, {len(names)} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})")
                   for what, names in left.items()]


def _is_sound(file: Path) -> bool:
    """A name that ends with .wav in any case, but for the companions that macOS leaves on other disks."""
    return file.suffix.lower() == ".wav" and not file.name.startswith("._")


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}") from None


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


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def write(found: Prepared, folder: Path) -> None:
    """Writes the arrays, source.json, and recipe.toml to start from."""
    _, length, features = found.x["train"].shape
    name = check_name(folder)
    with write_folder(folder, MARKER, RECORD) as temporary:
        for part in PARTS:
            np.save(temporary / f"x_{part}.npy", found.x[part])
            np.save(temporary / f"y_{part}.npy", found.y[part])
        (temporary / RECORD).write_text(json.dumps(found.source, indent=1, ensure_ascii=False) + "\n", encoding="utf-8",
                                        errors="backslashreplace")
        (temporary / "recipe.toml").write_text(RECIPE.format(
            name=name, features=features, length=length,
            task="classification" if found.classes else "regression", outputs=found.classes or 1), encoding="utf-8")


RECIPE = """\
[data]
name = {name}

[model]
form = "emamba"
input = "sequence"
features = {features}
length = {length}
d_model = 16
dt_rank = 4
d_state = 8
blocks = 2
task = "{task}"
outputs = {outputs}

[train]
epochs = 60
batch = 64
"""


def _named(found: Prepared, names: list[str]) -> Prepared:
    if names:
        if missing := sorted(set(range(len(names))) - set(found.y["train"].tolist())):
            raise InputError(f"the class '{names[missing[0]]}' is not in the first three fifths, which train: give rows in "
                             "which it comes earlier")
        found.source["classes"] = names
    return found
