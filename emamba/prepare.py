"""From files of your own to a folder of arrays (`emamba.datasets.folder`): a CSV time series, or folders of WAV files.

Parts are three fifths, one and one. A time series is cut in time, and no row is in windows of two parts; sounds are drawn class
by class. Features of sounds are computed by software before the model reads them: they are in no hardware. All is our choice.
"""

import csv
import json
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import EmambaError
from .files import write_folder

Array = np.ndarray

MARKER = "x_train.npy"
PARTS = ("train", "validate", "test")
FRAME, HOP = 0.025, 0.010
"""Seconds of a spectrum, and from one to the next."""
FLOOR = 1e-6
"""Added to a band's energy before the logarithm: a sound of ±1 is full scale."""


@dataclass(frozen=True)
class Prepared:
    """x [n, L, features] float32 and y, values [n, 1] float32 or classes [n] int64, of each part; and what made them."""

    x: dict[str, Array]
    y: dict[str, Array]
    source: dict

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
            raise EmambaError(f"{name} must be at least {least}, not {value}")
    columns = _columns(file, [*inputs, target])
    x = np.stack([_values(file, name, columns[name]) for name in inputs], 1)  # [rows, features]
    names = sorted(set(columns[target])) if classes else []
    y = np.array([names.index(word) for word in columns[target]]) if classes else _values(file, target, columns[target])[:, None]
    edges = [0, len(x) * 3 // 5, len(x) * 4 // 5, len(x)]
    found = Prepared({}, {}, {"note": f"windows of {length} rows of {file.name}", "file": file.name, "inputs": inputs,
                              "target": target, "length": length, "ahead": ahead, "step": step})
    for part, low, high in zip(PARTS, edges, edges[1:], strict=False):
        starts = np.arange(low, high - length - ahead + 1, step)
        if not len(starts):
            raise EmambaError(f"{file} has {len(x)} rows, of which {high - low} are for {part}: too few for windows of {length} "
                              f"rows and a target {ahead} later; give more rows or a smaller --length")
        found.x[part] = x[starts[:, None] + np.arange(length)].astype(np.float32)
        found.y[part] = y[starts + length - 1 + ahead].astype(np.int64 if classes else np.float32)
    return _named(found, names)


def sounds(folder: Path, seconds: float, bands: int) -> Prepared:
    """The logarithm of the energy in `bands` bands, every 10 ms, of the first `seconds` of every WAV file; silence fills up
    shorter ones. The class is the name of the folder that a file is in."""
    if not seconds >= FRAME:
        raise EmambaError(f"--seconds must be at least {FRAME:g}, not {seconds:g}")
    if not 1 <= bands <= 128:
        raise EmambaError(f"--bands must lie in 1..128, not {bands}")
    names = sorted(place.name for place in folder.iterdir() if place.is_dir() and any(place.glob("*.wav")))
    if len(names) < 2:
        raise EmambaError(f"{folder} has {len(names)} folders with .wav files: put the sounds of each class into a folder of its "
                          "own, two classes at least")
    found = Prepared({part: [] for part in PARTS}, {part: [] for part in PARTS},
                     {"note": f"{bands} bands of {seconds:g} s of the sounds in {folder.name}", "seconds": seconds,
                      "bands": bands, "frame_seconds": FRAME, "hop_seconds": HOP, "floor": FLOOR})
    rates = {}
    for k, name in enumerate(names):
        files = sorted((folder / name).glob("*.wav"))
        if len(files) < 3:
            raise EmambaError(f"{folder / name} has {len(files)} .wav files; a class needs at least 3, one for each part")
        order = np.random.RandomState(0).permutation(len(files))  # RandomState: numpy promises its stream never changes
        cuts = max(1, len(files) // 5)
        shares = {"test": order[:cuts], "validate": order[cuts:2 * cuts], "train": order[2 * cuts:]}
        for part, numbers in shares.items():
            for number in numbers:
                samples, rate = read_wav(files[number])
                if rates and rate not in rates:
                    other, = rates.items()
                    raise EmambaError(f"{files[number]} has {rate} samples a second, {other[1]} has {other[0]}: convert them "
                                      "to one rate")
                rates[rate] = files[number]
                found.x[part].append(log_bands(samples[:round(seconds * rate)], rate, seconds, bands))
                found.y[part].append(k)
    stacked = Prepared({part: np.stack(x) for part, x in found.x.items()},
                       {part: np.array(y, np.int64) for part, y in found.y.items()},
                       found.source | {"samples_per_second": next(iter(rates))})
    return _named(stacked, names)


def read_wav(file: Path) -> tuple[Array, int]:
    """Samples −1..1 float64, channels averaged, and samples a second, of a WAV file of 8, 16 or 32-bit integers."""
    try:
        with wave.open(str(file), "rb") as sound:
            width, channels, rate = sound.getsampwidth(), sound.getnchannels(), sound.getframerate()
            content = sound.readframes(sound.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise EmambaError(f"{file} cannot be read as WAV ({error}): save it as 16-bit PCM") from None
    kinds = {1: "u1", 2: "<i2", 4: "<i4"}
    if width not in kinds or not rate:
        raise EmambaError(f"{file} has samples of {8 * width} bits: save it as 16-bit PCM")
    content = content[:len(content) // (width * channels) * width * channels]
    samples = np.frombuffer(content, kinds[width]).astype(np.float64) - (128 if width == 1 else 0)
    return samples.reshape(-1, channels).mean(1) / 2.0 ** (8 * width - 1), rate


def log_bands(samples: Array, rate: int, seconds: float, bands: int) -> Array:
    """[frames, bands] float32: ln(energy + FLOOR) of triangular bands, evenly spaced on the mel scale, mel = ln(1 + f/700 Hz)
    up to a constant factor; frames of FRAME seconds under a Hann window, one every HOP."""
    frame, hop = round(FRAME * rate), max(1, round(HOP * rate))
    total = max(round(seconds * rate), frame)
    padded = np.zeros(total)
    padded[:len(samples)] = samples
    starts = np.arange(0, total - frame + 1, hop)
    spectrum = abs(np.fft.rfft(padded[starts[:, None] + np.arange(frame)] * np.hanning(frame))) ** 2 / frame
    hertz = np.arange(spectrum.shape[1]) * rate / frame
    corners = 700 * np.expm1(np.linspace(0, np.log1p(rate / 2 / 700), bands + 2))
    low, middle, high = (corners[k:k + bands, None] for k in range(3))
    weights = np.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle)).clip(0)
    return np.log(spectrum @ weights.T + FLOOR).astype(np.float32)


def write(found: Prepared, folder: Path) -> None:
    """Writes the arrays, source.json, and recipe.toml to start from."""
    _, length, features = found.x["train"].shape
    with write_folder(folder, MARKER) as temporary:
        for part in PARTS:
            np.save(temporary / f"x_{part}.npy", found.x[part])
            np.save(temporary / f"y_{part}.npy", found.y[part])
        (temporary / "source.json").write_text(json.dumps(found.source, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (temporary / "recipe.toml").write_text(RECIPE.format(
            name=json.dumps(folder.name), features=features, length=length,
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
            raise EmambaError(f"the class '{names[missing[0]]}' is not in the first three fifths, which train: give rows in "
                              "which it comes earlier")
        found.source["classes"] = names
    return found


def _columns(file: Path, names: list[str]) -> dict[str, list[str]]:
    """The columns `names` of a CSV file whose first line names all of them."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.reader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EmambaError(f"{file} cannot be read as CSV ({error}): save it as comma-separated UTF-8") from None
    header = rows[0] if rows else []
    for name in names:
        if name not in header:
            raise EmambaError(f"{file} has no column '{name}'; its first line names: {', '.join(header) or 'none'}")
    body = [(number, row) for number, row in enumerate(rows[1:], 2) if row]
    for number, row in body:
        if len(row) != len(header):
            raise EmambaError(f"{file}, line {number} has {len(row)} values where the first line names {len(header)}")
    return {name: [row[header.index(name)] for _, row in body] for name in names}


def _values(file: Path, name: str, words: list[str]) -> Array:
    values = np.empty(len(words))
    for k, word in enumerate(words):
        try:
            values[k] = float(word)
        except ValueError:
            values[k] = np.nan
        if not abs(values[k]) <= np.finfo(np.float32).max:
            raise EmambaError(f"{file}: value {k + 1} of the column '{name}' is '{word}' and no finite number: fill it in or "
                              "remove the row")
    return values
