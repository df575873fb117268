"""Byte pairs: text as token ids 0 … 255 for single bytes, then one id for each pair that was merged (Gage 1994, Sennrich 2016).

Pairs do not cross pieces: a piece is a word with the white space before it. All is deterministic.
"""

import re
from collections import Counter

import numpy as np

from ..base.errors import SettingError

BYTES = 256
PIECE = re.compile(rb"[ \n]*[^ \n]+|[ \n]+")
END = -1
"""Stands after each piece."""

Array = np.ndarray


def learn(text: bytes, vocabulary: int) -> Array:
    """The pairs to merge, in order: [vocabulary − 256, 2] ids. Each is the most frequent one; of equals, the lowest ids."""
    pieces = Counter(PIECE.findall(text))
    ids = _joined(pieces)
    weight = np.repeat(np.fromiter(pieces.values(), np.float64, len(pieces)), [len(piece) + 1 for piece in pieces])
    pairs = np.zeros((vocabulary - BYTES, 2), np.int64)
    for k in range(len(pairs)):
        size = BYTES + k
        inside = (ids[:-1] != END) & (ids[1:] != END)
        count = np.bincount((ids[:-1] * size + ids[1:])[inside], weight[:-1][inside], minlength=1)
        best = int(count.argmax())
        if count[best] < 2:
            raise SettingError(f"a text of {len(text)} bytes has no pairs for a vocabulary of {vocabulary}: take a smaller one")
        pairs[k] = divmod(best, size)
        keep = _merge(ids, pairs[k], size)
        ids, weight = ids[keep], weight[keep]
    return pairs


def encode(text: bytes, pairs: Array) -> Array:
    """Token ids of `text` [tokens] int64."""
    words = PIECE.findall(text)
    pieces = {piece: k for k, piece in enumerate(dict.fromkeys(words))}
    ids = _joined(pieces)
    for k, pair in enumerate(pairs):
        ids = ids[_merge(ids, pair, BYTES + k)]
    split = np.split(ids[ids != END], np.flatnonzero(ids == END)[:-1] - np.arange(len(pieces) - 1)) if pieces else []
    return np.concatenate([split[pieces[word]] for word in words]) if words else np.zeros(0, np.int64)


def lengths(pairs: Array) -> Array:
    """Bytes of each token id [vocabulary]."""
    result = [1] * BYTES
    for a, b in pairs:
        result.append(result[a] + result[b])
    return np.array(result)


def _joined(pieces) -> Array:
    """Bytes of all pieces as ids, END after each."""
    return np.concatenate([np.append(np.frombuffer(piece, np.uint8).astype(np.int64), END) for piece in pieces]
                          or [np.zeros(0, np.int64)])


def _merge(ids: Array, pair: Array, new: int) -> Array:
    """Writes `new` where `pair` begins; returns which ids stay. Of overlapping pairs of one id the first is taken."""
    at = np.flatnonzero((ids[:-1] == pair[0]) & (ids[1:] == pair[1]))
    if pair[0] == pair[1] and len(at):
        start = np.append(True, np.diff(at) != 1)  # of a run of the same id
        at = at[(at - at[start][np.cumsum(start) - 1]) % 2 == 0]
    keep = np.ones(len(ids), bool)
    ids[at] = new
    keep[at + 1] = False
    return keep
