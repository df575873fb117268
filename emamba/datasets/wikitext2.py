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

import numpy as np

from ..errors import EmambaError
from . import Dataset, bytepair, find_folder
from .archives import unpack

VOCABULARIES = {"bytes": 256, "bpe512": 512, "bpe1024": 1024}
SPLIT = re.compile(rf"(official-)?({'|'.join(VOCABULARIES)})(?:-([1-9][0-9]{{0,5}}))?")
DEFAULT = "bpe512"
LENGTH = 256
TRAINING_SHARE = 0.9
"""Of the validation text, where the training text is taken from it."""

FILES = {part: (f"{part}.txt.xz", f"{part}.txt", f"wiki.{part}.tokens") for part in ("train", "valid", "test")}
REMEDY = "get WikiText-2 by words (wiki.train.tokens, wiki.valid.tokens, wiki.test.tokens), name its folder with EMAMBA_DATA"


def load(split: str | None, directory: Path) -> Dataset:
    found = SPLIT.fullmatch(split or DEFAULT)
    if not found:
        raise EmambaError(f"data set wikitext2 has no split '{split}'; write [official-]{'|'.join(VOCABULARIES)}[-L] with "
                          "L, the tokens of a window, up to 999999, such as bpe512-256")
    official, kind, length = bool(found[1]), found[2], int(found[3] or LENGTH)
    folders = (directory / "wikitext2", directory / "wikitext-2", directory)
    folder = find_folder(folders, FILES["test"])
    if folder is None:
        raise EmambaError(f"no WikiText-2 data in {', '.join(map(str, folders[:-1]))} or {directory}: {REMEDY}")
    texts = _texts(folder, official)
    pairs = bytepair.learn(texts[0], VOCABULARIES[kind])
    arrays = [_windows(bytepair.encode(text, pairs), length, f"the {part} part of WikiText-2")
              for text, part in zip(texts, ("training", "validation", "test"), strict=True)]
    (x_train, y_train), (x_validate, y_validate), (x_test, y_test) = arrays
    return Dataset(
        name="wikitext2", split=split or DEFAULT,
        note="trained on the official training text" if official else "trained on the validation text, without the training text",
        x_train=x_train, y_train=y_train, x_validate=x_validate, y_validate=y_validate, x_test=x_test, y_test=y_test,
        token_bytes=bytepair.lengths(pairs), bytes_per_word=len(texts[2]) / words(texts[2]),
    )


def words(text: bytes) -> int:
    """Words as the figures for WikiText count them: a line's end is one too."""
    return len(text.split()) + text.count(b"\n")


def _texts(folder: Path, official: bool) -> tuple[bytes, bytes, bytes]:
    """Training, validation and test text."""
    valid, test = _read(folder, "valid"), _read(folder, "test")
    if official:
        return _read(folder, "train"), valid, test
    cut = valid.rfind(b"\n", 0, round(TRAINING_SHARE * len(valid))) + 1
    return valid[:cut], valid[cut:], test


def _read(folder: Path, part: str) -> bytes:
    path = next((folder / name for name in FILES[part] if (folder / name).exists()), None)
    if path is None:
        raise EmambaError(f"{folder} has no {part} text of WikiText-2 ({', '.join(FILES[part])}): {REMEDY}")
    text = unpack(path, "copy it again").removeprefix(b"\xef\xbb\xbf")
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise EmambaError(f"{path} cannot be read ({error}): copy it again") from None
    if not text.strip():
        raise EmambaError(f"{path} is empty: copy it again")
    return text


def _windows(ids: np.ndarray, length: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    n = (len(ids) - 1) // length
    if n < 1:
        raise EmambaError(f"{what} has {len(ids)} tokens, too few for a window of {length} and one more: take a smaller L")
    return ids[:n * length].reshape(n, length), ids[1:n * length + 1].reshape(n, length)
