"""JapaneseVowels: nine speakers told apart by a spoken vowel (Kudo, Toyama and Shimbo 1999; UCI and UEA archives).

x [n, 29, 12]: 12 cepstral coefficients a token. y [n]: speakers 0 to 8. 216 / 54 / 370 utterances: the validation part is
every fifth official training utterance of each speaker. The files are JapaneseVowels_{TRAIN,TEST}.ts, from the user's folder
or from the Python package aeon, whose wheel has them.

An utterance has 7 to 29 tokens, the model's sequences one length: the utterance is repeated until it has 29 tokens and ends
with its own end. So every token is a real one, where padding would take part in the mean over tokens and in the scaling.

This is the example of an own data set: a function `load`, a line in `MODULES`, a recipe.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..base.errors import InputError
from . import Dataset, choose_split, elsewhere, find_folder
from .archives import read

FILES = ("JapaneseVowels_TRAIN.ts", "JapaneseVowels_TEST.ts")
LENGTH, CHANNELS, SPEAKERS = 29, 12, 9
VALIDATION = 5
"""One training utterance of a speaker in this many validates."""

REMEDY = "get JapaneseVowels_TRAIN.ts and _TEST.ts from https://timeseriesclassification.com, or `pip install --no-deps aeon`"


def load(split: str | None, directory: Path) -> Dataset:
    split = choose_split("japanese_vowels", split, ("official",))
    folders = (directory / "japanese_vowels", directory / "JapaneseVowels", directory)
    folder = find_folder((*folders, *elsewhere(*_installed())), FILES)
    if folder is None:
        raise InputError(f"no JapaneseVowels data in {', '.join(map(str, folders))} or the Python package aeon: {REMEDY}")
    (x, y), (x_test, y_test) = (_read(folder / name) for name in FILES)
    number = np.zeros(len(y), np.int64)  # of an utterance among its speaker's
    for speaker in range(SPEAKERS):
        number[y == speaker] = np.arange((y == speaker).sum())
    validate = number % VALIDATION == VALIDATION - 1
    return Dataset(
        name="japanese_vowels", split=split, note="official files", x_train=x[~validate], y_train=y[~validate],
        x_validate=x[validate], y_validate=y[validate], x_test=x_test, y_test=y_test,
    )


def _installed() -> list[Path]:
    """Folder of the package aeon's data; nothing of it is imported."""
    spec = find_spec("aeon")
    return [Path(place) / "datasets/data/JapaneseVowels" for place in spec.submodule_search_locations or ()] if spec else []


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A .ts file: after `@data` one utterance a line, channels between colons, values between commas, the speaker last."""
    try:
        content = read(path, REMEDY) if path.exists() else path.read_bytes()
        lines = content.decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}): {REMEDY}") from None
    start = next((k for k, line in enumerate(lines) if line.strip().lower() == "@data"), len(lines))
    rows = [(k + 1, lines[k]) for k in range(start + 1, len(lines)) if lines[k].strip()]
    if not rows:
        raise InputError(f"{path} has no utterances after a line @data: {REMEDY}")
    parts = [_utterance(line, f"{path}, line {number}") for number, line in rows]
    return np.stack([x for x, _ in parts]), np.array([y for _, y in parts])


def _utterance(line: str, where: str) -> tuple[np.ndarray, int]:
    *channels, speaker = line.split(":")
    try:
        values = np.array([channel.split(",") for channel in channels], np.float32).T  # [tokens, channels]
        y = int(speaker) - 1
    except ValueError as error:
        raise InputError(f"{where} is no utterance of numbers ({error}): {REMEDY}") from None
    if values.ndim != 2 or values.shape[1] != CHANNELS or not 1 <= len(values) <= LENGTH:
        found = "×".join(map(str, values.shape))
        raise InputError(f"{where} has {found} values where 1 to {LENGTH} of {CHANNELS} channels are expected: {REMEDY}")
    if not np.isfinite(values).all() or not 0 <= y < SPEAKERS:
        raise InputError(f"{where} has a value that is not finite, or a speaker that is not 1 to {SPEAKERS}: {REMEDY}")
    return np.tile(values, (-(-LENGTH // len(values)), 1))[-LENGTH:], y
