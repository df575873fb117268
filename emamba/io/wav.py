"""Reads WAV files by their chunks: integers of 8 to 32 bits and floating point, plain or extensible, whole or streamed."""

import struct
from pathlib import Path

import numpy as np

from ..base.errors import InputError
from .disguises import SOUNDS, check_disguise
from .files import read_bytes

Array = np.ndarray

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
SUBFORMAT = bytes.fromhex("000000001000800000aa00389b71")
"""What follows the format's number in the extensible format, for the formats of the plain one."""
OTHERS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "ADPCM", 0x31: "GSM", 0x50: "MPEG", 0x55: "MP3", 0xFF: "AAC", 0x161: "WMA"}
CHUNKS = (b"LIST", b"JUNK", b"PAD ", b"bext", b"cue ", b"smpl", b"id3 ", b"ID3 ", b"iXML", b"fact", b"PEAK", b"inst")
"""May follow sound of no length."""
STREAMED = 0x7FFF0000
"""So many bytes or more are no length: who writes into a pipe does not know it. Neither does 0."""
RATES = (1000, 200_000)
"""Samples a second, from and to."""


def read_wav(file: Path) -> tuple[Array, int]:
    """Samples −1..1 float64, channels averaged, and samples a second."""
    content = read_bytes(file)
    check_disguise(file, content, SOUNDS)
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise InputError(f"{file} cannot be read as WAV (it does not begin with RIFF and WAVE): save it as 16-bit PCM")
    chunks = _chunks(file, content)
    if b"fmt " not in chunks:
        raise InputError(f"{file} cannot be read as WAV (it has no format before its sound): save it as 16-bit PCM")
    kind, channels, rate, width = _format(file, chunks[b"fmt "])
    if b"data" not in chunks:
        raise InputError(f"{file} cannot be read as WAV (it ends before its sound): copy it again")
    sound = chunks[b"data"]
    sound = sound[:len(sound) // (width * channels) * width * channels]
    if not sound:
        raise InputError(f"{file} holds no sound: remove it")
    samples = _floats(file, sound, width) if kind == FLOAT else _integers(sound, width)
    return samples.reshape(-1, channels).mean(1), rate


def _chunks(file: Path, content: bytes) -> dict[bytes, bytes]:
    """The chunks up to the sound, by name."""
    found: dict[bytes, bytes] = {}
    place = 12
    while place + 8 <= len(content) and b"data" not in found:
        name, size = content[place:place + 4], int.from_bytes(content[place + 4:place + 8], "little")
        place += 8
        left = len(content) - place
        if name == b"data" and (size >= STREAMED > left or (size == 0 and content[place:place + 4] not in CHUNKS)):
            size = left
        if size > left:
            part = name.decode("latin-1")
            raise InputError(f"{file} ends after {left} of the {size} bytes of its part {part!a}: copy it again")
        found.setdefault(name, content[place:place + size])
        place += size
        if size % 2 and content[place:place + 4] not in (b"data", b"fmt ", *CHUNKS):  # some programs leave the filling out
            place += 1
    return found


def _format(file: Path, chunk: bytes) -> tuple[int, int, int, int]:
    """Kind, channels, samples a second, and bytes of a sample."""
    if len(chunk) < 16:
        raise InputError(f"{file} cannot be read as WAV (its format has {len(chunk)} bytes): save it as 16-bit PCM")
    kind, channels, rate, _, step, bits = struct.unpack("<HHIIHH", chunk[:16])
    if kind == EXTENSIBLE and chunk[26:40] == SUBFORMAT:
        kind = int.from_bytes(chunk[24:26], "little")
    if kind not in (PCM, FLOAT):
        raise InputError(f"{file} holds {OTHERS.get(kind, f'sound of the format 0x{kind:04X}')}, which is not read: save it as "
                         "16-bit PCM")
    width = step // channels if channels else 0
    widths = (1, 2, 3, 4) if kind == PCM else (4, 8)
    if not channels or width * channels != step or -(-bits // 8) != width or width not in widths:
        raise InputError(f"{file} has samples of {bits} bits, {step} bytes for {channels} channels: save it as 16-bit PCM")
    if not RATES[0] <= rate <= RATES[1]:
        raise InputError(f"{file} has {rate} samples a second; {RATES[0]} to {RATES[1]} can be used: convert it")
    return kind, channels, rate, width


def _integers(sound: bytes, width: int) -> Array:
    """Full scale is ±1; 8 bits are unsigned."""
    if width == 3:
        wide = np.zeros((len(sound) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(sound, np.uint8).reshape(-1, 3)
        return wide.view("<i4")[:, 0] / 2.0 ** 31
    samples = np.frombuffer(sound, {1: "u1", 2: "<i2", 4: "<i4"}[width]).astype(np.float64)
    return (samples - (128 if width == 1 else 0)) / 2.0 ** (8 * width - 1)


def _floats(file: Path, sound: bytes, width: int) -> Array:
    samples = np.frombuffer(sound, f"<f{width}").astype(np.float64)
    wrong = np.flatnonzero(~(abs(samples) <= np.finfo(np.float32).max))
    if len(wrong):
        raise InputError(f"{file} holds the sample {samples[wrong[0]]} at {wrong[0]}, no finite float32: mend it or remove the "
                         "file")
    return samples
