"""Tiny Shakespeare: 1,115,394 characters of plays (github.com/karpathy/char-rnn; the text is in the public domain).

x [n, L]: characters, numbered by `CHARACTERS`; y [n, L]: the one that follows each. Windows follow each other in the text and do
not overlap. A split is named [whole-]characters[-L], L the length of a window, 256 if not given.

The first 85 % of the text train, the next 5 % validate, the last 10 % test. With `whole` the first 90 % train, as of the small
language models of this text that report their loss on the last 10 %; what validates is part of them, so no setting should be
chosen by it.
"""

import re
from pathlib import Path

import numpy as np

from ..base.errors import InputError, SettingError
from . import Dataset, find_folder, text
from .archives import unpack

CHARACTERS = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""Character of each token id."""
SPLIT = re.compile(r"(whole-)?characters(?:-([1-9][0-9]{0,5}))?")
LENGTH = 256
SHARES = (85, 90)
"""Per cent of the text after which the training part and the validation part end."""
NAMES = ("tinyshakespeare.txt.xz", "tinyshakespeare.txt", "input.txt")
REMEDY = "get data/tinyshakespeare/input.txt from https://github.com/karpathy/char-rnn, and name its folder with EMAMBA_DATA"


def load(split: str | None, directory: Path) -> Dataset:
    found = SPLIT.fullmatch(split or "characters")
    if not found:
        raise SettingError(f"data set shakespeare has no split '{split}'; write [whole-]characters[-L] with L, the tokens of a "
                           "window, up to 999999, such as characters-256")
    plain = plain_texts(directory, bool(found[1]))
    arrays = [text.windows(encode(part), int(found[2] or LENGTH), f"the {name} part of Shakespeare")
              for name, part in zip(("training", "validation", "test"), plain, strict=True)]
    (x_train, y_train), (x_validate, y_validate), (x_test, y_test) = arrays
    return Dataset(
        name="shakespeare", split=split or "characters",
        note="first 90 % train, last 10 % test" if found[1] else "first 85 % train, next 5 % validate, last 10 % test",
        x_train=x_train, y_train=y_train, x_validate=x_validate, y_validate=y_validate, x_test=x_test, y_test=y_test,
        token_bytes=np.ones(len(CHARACTERS), np.int64), bytes_per_word=len(plain[2]) / text.words(plain[2]),
    )


def plain_texts(directory: Path, whole: bool = False) -> tuple[bytes, bytes, bytes]:
    """Training, validation and test text; with `whole` the first has the second too."""
    folder = find_folder((directory / "shakespeare", directory), NAMES)
    if folder is None:
        raise InputError(f"no Shakespeare in {directory / 'shakespeare'} or {directory}: {REMEDY}")
    path = next(folder / name for name in NAMES if (folder / name).exists())
    content = unpack(path, "copy it again")
    encode(content, path)
    first, second = (len(content) * share // 100 for share in SHARES)
    return content[:second if whole else first], content[first:second], content[second:]


def encode(content: bytes, source: Path | str = "the text") -> np.ndarray:
    """Token ids of a text; one with another character is refused."""
    table = np.full(256, -1)
    table[np.frombuffer(CHARACTERS.encode(), np.uint8)] = np.arange(len(CHARACTERS))
    ids = table[np.frombuffer(content, np.uint8)]
    if (ids < 0).any():
        place = int(np.argmin(ids))
        raise InputError(f"{source} has the byte {content[place]:#04x} at {place}, which is none of the {len(CHARACTERS)} "
                         "characters of tiny Shakespeare: leave it out")
    return ids


def decode(ids: np.ndarray) -> str:
    """The text of token ids."""
    return "".join(CHARACTERS[k] for k in ids)
