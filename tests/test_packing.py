"""Packing and unpacking of beats."""

import numpy as np
import pytest

from emamba.base.errors import EmambaError
from emamba.base.formats import IntFormat
from rtl.kit.block import Beat, Port
from rtl.kit.packing import flags, from_ints, mask, pack, payload_bits, sequences, to_ints, unpack

pytestmark = pytest.mark.quick

PORTS = [
    Port(IntFormat(bits, signed), width, lanes)
    for bits, signed in ((1, False), (1, True), (3, True), (8, True), (8, False), (31, True), (33, False), (48, True))
    for width, lanes in ((1, 1), (5, 3), (20, 20), (7, 10))
]


def tokens_of(port, batch=3, length=4):
    values = np.random.default_rng(1).integers(port.format.min, port.format.max + 1, (batch, length, port.width))
    values[0, 0, 0], values[-1, -1, -1] = port.format.min, port.format.max
    return values


@pytest.mark.parametrize("port", PORTS, ids=str)
def test_round_trip(port):
    tokens = tokens_of(port)
    words = pack(port, tokens)
    assert words.dtype == np.uint32 and len(words) == 3 * 4 * port.beats
    assert np.array_equal(unpack(port, words), tokens.reshape(-1, port.width))
    assert np.array_equal(np.stack(sequences(port, words)), tokens)
    assert np.array_equal(from_ints(to_ints(words), words.shape[1]), words)
    first, last = flags(port, words)
    token, beats = 4 * port.beats, port.beats
    assert np.array_equal(np.flatnonzero(first), [token * b + k for b in range(3) for k in range(beats)])
    assert np.array_equal(np.flatnonzero(last), np.flatnonzero(first) + 3 * port.beats)


@pytest.mark.parametrize("port", PORTS, ids=str)
def test_layout_is_the_beats(port):
    """The bits are those of the hardware's own layout."""
    layout = Beat(port.format, port.lanes)
    assert layout.size == payload_bits(port)
    tokens = tokens_of(port, 1, 1)
    for k, beat in enumerate(to_ints(pack(port, tokens))):
        value = layout.from_bits(beat)
        wanted = [int(tokens[0, 0, c]) if c < port.width else 0 for c in range(k * port.lanes, (k + 1) * port.lanes)]
        assert [value.data[lane] for lane in range(port.lanes)] == wanted
        assert value.first == value.last == 1


def test_mask():
    assert to_ints(mask(Port(IntFormat(4), 5, 3))) == [0x3FFF, 0x30FF]


def test_sequences_of_different_lengths():
    port = Port(IntFormat(8), 3, 2)
    lengths = [1, 4, 2]
    parts = [tokens_of(port, 1, length) for length in lengths]
    words = np.concatenate([pack(port, part) for part in parts])
    assert [len(s) for s in sequences(port, words)] == lengths
    assert all(np.array_equal(got, part[0]) for got, part in zip(sequences(port, words), parts, strict=True))
    assert sequences(port, words[:0]) == []


def test_refusals():
    port = Port(IntFormat(8), 3, 2)
    with pytest.raises(EmambaError, match=r"a port of 3 channels packs arrays \[batch, L, 3\], not \[2, 3\]"):
        pack(port, np.zeros((2, 3)))
    with pytest.raises(EmambaError, match=r"values 0\.\.128 do not fit"):
        pack(port, np.full((1, 1, 3), [0, 1, 128]))
    words = pack(port, np.zeros((1, 2, 3)))
    with pytest.raises(EmambaError, match="3 beats are no whole number of tokens of 2 beats"):
        unpack(port, words[:3])
    with pytest.raises(EmambaError, match="no whole number of sequences"):
        sequences(port, words[:2])
    with pytest.raises(EmambaError, match=r"arrays \[beats, 1\]"):
        unpack(port, np.zeros((2, 2), np.uint32))
