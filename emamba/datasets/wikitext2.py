"""WikiText-2: English articles, words and punctuation apart, rare words as <unk> (Merity et al., arXiv 1609.07843; CC BY-SA 3.0).

x [n, L]: token ids; y [n, L]: the token that follows each. Windows follow each other in the text and do not overlap.

A split is named [official-]TOKENS[-L], TOKENS one of `bytes` (256 ids), `bpe512`, `bpe1024` (byte pairs learned on the training
text), L the length of a window, 256 if not given: `bpe512`, `bytes-1024`, `official-bpe512-64`.
    official-…   trains on the official training text, validates on the validation text
    others       train on the first nine tenths of the validation text and validate on its last tenth
All test on the official test text.
"""

import re
from pathlib import Path

from ..base.errors import InputError, SettingError
from . import Dataset, bytepair, find_folder
from .archives import unpack
from .text import windows, words

VOCABULARIES = {"bytes": 256, "bpe512": 512, "bpe1024": 1024}
SPLIT = re.compile(rf"(official-)?({'|'.join(VOCABULARIES)})(?:-([1-9][0-9]{{0,5}}))?")
DEFAULT = "bpe512"
LENGTH = 256
TRAINING_SHARE = 0.9
"""Of the validation text, where the training text is taken from it."""

PARTS = {"train": "training", "valid": "validation", "test": "test"}
"""Name of a part in file names → in sentences."""
WORDS, RAW = ("{0}.txt.xz", "{0}.txt", "wiki.{0}.tokens"), ("wiki.{0}.raw",)
"""Names of a part's file: by words, rare ones as <unk>; or raw, which is another text with figures of its own."""
FOLDERS = ("wikitext2", "wikitext-2", "wikitext-2-v1", "wikitext-2-raw", "wikitext-2-raw-v1")
REMEDY = ("get WikiText-2 by words (wiki.train.tokens, wiki.valid.tokens, wiki.test.tokens), as docs/data.md shows, and name its "
          "folder with EMAMBA_DATA")


def load(split: str | None, directory: Path) -> Dataset:
    found = SPLIT.fullmatch(split or DEFAULT)
    if not found:
        raise SettingError(f"data set wikitext2 has no split '{split}'; write [official-]{'|'.join(VOCABULARIES)}[-L] with "
                           "L, the tokens of a window, up to 999999, such as bpe512-256")
    official, kind, length = bool(found[1]), found[2], int(found[3] or LENGTH)
    texts, form = _find(directory, official)
    pairs = bytepair.learn(texts[0], VOCABULARIES[kind])
    arrays = [windows(bytepair.encode(text, pairs), length, f"the {part} part of WikiText-2")
              for text, part in zip(texts, ("training", "validation", "test"), strict=True)]
    (x_train, y_train), (x_validate, y_validate), (x_test, y_test) = arrays
    return Dataset(
        name="wikitext2", split=split or DEFAULT,
        note=("trained on the official training text" if official else
              "trained on the validation text, without the training text") + (", raw text" if form is RAW else ""),
        x_train=x_train, y_train=y_train, x_validate=x_validate, y_validate=y_validate, x_test=x_test, y_test=y_test,
        token_bytes=bytepair.lengths(pairs), bytes_per_word=len(texts[2]) / words(texts[2]),
    )


def plain_texts(directory: Path, official: bool = False) -> tuple[bytes, bytes, bytes]:
    """Training, validation and test text of the splits that are or are not `official`."""
    return _find(directory, official)[0]


def _find(directory: Path, official: bool) -> tuple[tuple[bytes, bytes, bytes], tuple[str, ...]]:
    """The texts, and how their files are named."""
    folders = (*(directory / name for name in FOLDERS), directory)
    form = next((form for form in (WORDS, RAW) if find_folder(folders, _names(form, "test"))), None)
    if form is None:
        _refuse_parquet(folders)
        raise InputError(f"no WikiText-2 data in {folders[0]}, {folders[1]} or {directory}: {REMEDY}")
    return _texts(find_folder(folders, _names(form, "test")), form, official), form


def _names(form: tuple[str, ...], part: str) -> tuple[str, ...]:
    return tuple(name.format(part) for name in form)


def _refuse_parquet(folders: tuple[Path, ...]) -> None:
    for folder in folders:
        if found := sorted(folder.glob("*.parquet")):
            raise InputError(f"{folder} has WikiText-2 as Parquet ({found[0].name}), which is not read: write the column text "
                             "of each part into a file, as docs/data.md shows")


def _texts(folder: Path, form: tuple[str, ...], official: bool) -> tuple[bytes, bytes, bytes]:
    """Training, validation and test text."""
    valid, test = _read(folder, form, "valid"), _read(folder, form, "test")
    if official:
        return _read(folder, form, "train"), valid, test
    cut = valid.rfind(b"\n", 0, round(TRAINING_SHARE * len(valid))) + 1
    return valid[:cut], valid[cut:], test


def _read(folder: Path, form: tuple[str, ...], part: str) -> bytes:
    names = _names(form, part)
    path = next((folder / name for name in names if (folder / name).exists()), None)
    if path is None:
        remedy = REMEDY if form is WORDS else f"put {names[0]} beside the others"
        raise InputError(f"{folder} lacks WikiText-2's {PARTS[part]} text ({', '.join(names)}): {remedy}")
    text = unpack(path, "copy it again").removeprefix(b"\xef\xbb\xbf")
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read ({error}): copy it again") from None
    if not text.strip():
        raise InputError(f"{path} is empty: copy it again")
    return text
