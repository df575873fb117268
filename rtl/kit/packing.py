"""Tokens to beats and back: the bits of `Beat` as rows of little-endian 32-bit words, one row a beat.

Lane 0 lies in the least significant bits, then the other lanes, then `first`, then `last`.
"""

import numpy as np

from emamba.base.errors import InputError

from .block import Port

WORD = 32


def payload_bits(port: Port) -> int:
    return port.lanes * port.format.bits + 2


def payload_words(port: Port) -> int:
    """32-bit words of a beat."""
    return -(-payload_bits(port) // WORD)


def pack(port: Port, tokens: np.ndarray, window: int = 1) -> np.ndarray:
    """Beats of sequences.

    Parameters
        tokens: [batch, L, width] of integers
        window: sequences that follow each other in time: only the first of them has `first`, which clears the state

    Returns
        words [batch·L·beats, words]; lanes beyond the width are 0
    """
    tokens = np.asarray(tokens, np.int64)
    if tokens.ndim != 3 or tokens.shape[2] != port.width:
        raise InputError(f"a port of {port.width} channels packs arrays [batch, L, {port.width}], not {list(tokens.shape)}")
    if tokens.size and (tokens.min() < port.format.min or tokens.max() > port.format.max):
        raise InputError(f"values {tokens.min()}..{tokens.max()} do not fit {port.format}")
    batch, length, width = tokens.shape
    padded = np.zeros((batch, length, port.beats * port.lanes), np.int64)
    padded[..., :width] = tokens
    lanes = padded.reshape(-1, port.lanes)
    first, last = np.zeros((2, batch, length, port.beats), np.int64)
    first[::window, :1], last[:, -1:] = 1, 1
    words = np.zeros((payload_words(port), len(lanes)), np.uint32)
    for lane in range(port.lanes):
        _insert(words, lanes[:, lane], lane * port.format.bits, port.format.bits)
    _insert(words, first.reshape(-1), payload_bits(port) - 2, 1)
    _insert(words, last.reshape(-1), payload_bits(port) - 1, 1)
    return np.ascontiguousarray(words.T)


def unpack(port: Port, words: np.ndarray) -> np.ndarray:
    """Tokens [tokens, width] of whole tokens' beats [beats, words]."""
    words = _checked(port, words)
    if len(words) % port.beats:
        raise InputError(f"{len(words)} beats are no whole number of tokens of {port.beats} beats")
    lanes = np.empty((len(words), port.lanes), np.int64)
    for lane in range(port.lanes):
        lanes[:, lane] = _extract(words, lane * port.format.bits, port.format.bits)
    if port.format.signed:
        sign = 1 << (port.format.bits - 1)
        lanes = (lanes ^ sign) - sign
    return lanes.reshape(-1, port.beats * port.lanes)[:, : port.width]


def flags(port: Port, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`first` and `last` of every beat, as booleans."""
    words, top = _checked(port, words), payload_bits(port)
    return _extract(words, top - 2, 1).astype(bool), _extract(words, top - 1, 1).astype(bool)


def sequences(port: Port, words: np.ndarray) -> list[np.ndarray]:
    """Arrays [L, width], one a sequence; the flags must bound every sequence."""
    tokens = unpack(port, words)
    first, last = (flag.reshape(-1, port.beats) for flag in flags(port, words))
    if not (first == first[:, :1]).all() or not (last == last[:, :1]).all():
        raise InputError("first and last must be the same on every beat of a token")
    starts, ends = np.flatnonzero(first[:, 0]), np.flatnonzero(last[:, 0]) + 1
    if not np.array_equal(np.append(starts, len(tokens)), np.append(0, ends)):
        raise InputError("the beats are no whole number of sequences: each must begin with first and end with last")
    return [tokens[start:end] for start, end in zip(starts, ends, strict=True)]


def mask(port: Port) -> np.ndarray:
    """The bits [beats, words] of a token's beats that carry something: lanes below the width, `first` and `last`."""
    words = np.zeros((payload_words(port), port.beats), np.uint32)
    used = (np.arange(port.beats * port.lanes) < port.width).reshape(port.beats, port.lanes)
    for lane in range(port.lanes):
        _insert(words, np.where(used[:, lane], -1, 0), lane * port.format.bits, port.format.bits)
    _insert(words, np.full(port.beats, 3), payload_bits(port) - 2, 2)
    return np.ascontiguousarray(words.T)


def to_ints(words: np.ndarray) -> list[int]:
    """One Python integer a beat."""
    return [int.from_bytes(row.tobytes(), "little") for row in np.ascontiguousarray(words, "<u4")]


def from_ints(values: list[int], words: int) -> np.ndarray:
    data = b"".join(value.to_bytes(words * 4, "little") for value in values)
    return np.frombuffer(data, "<u4").reshape(-1, words).astype(np.uint32)


def _checked(port: Port, words: np.ndarray) -> np.ndarray:
    words = np.asarray(words, np.uint32)
    if words.ndim != 2 or words.shape[1] != payload_words(port):
        raise InputError(f"beats of this port are arrays [beats, {payload_words(port)}], not {list(words.shape)}")
    return words


def _insert(words: np.ndarray, values: np.ndarray, offset: int, bits: int) -> None:
    """Ors `bits` of the values into words [words, beats] at bit `offset`."""
    values = values.astype(np.uint64) & np.uint64((1 << bits) - 1)
    for word in range(offset // WORD, (offset + bits - 1) // WORD + 1):
        shift = offset - word * WORD
        part = values << np.uint64(shift) if shift >= 0 else values >> np.uint64(-shift)
        words[word] |= part.astype(np.uint32)  # keeps the low 32 bits


def _extract(words: np.ndarray, offset: int, bits: int) -> np.ndarray:
    values = np.zeros(len(words), np.uint64)
    for word in range(offset // WORD, (offset + bits - 1) // WORD + 1):
        shift = offset - word * WORD
        part = words[:, word].astype(np.uint64)
        values |= part >> np.uint64(shift) if shift >= 0 else part << np.uint64(-shift)
    return (values & np.uint64((1 << bits) - 1)).astype(np.int64)
