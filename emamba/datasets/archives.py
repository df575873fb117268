"""Reads packed files, which are untrusted input: a small one may unpack to more than memory holds."""

import gzip
import io
import lzma
import zlib
from pathlib import Path

import numpy as np

from ..base.errors import InputError
from ..io.disguises import check_pointer
from ..io.files import check_regular, read_bytes

LIMIT = 1 << 30
"""Bytes that a file may have, packed and unpacked; the data sets' files have far less."""

MEMORY = 128 << 20
"""Bytes that unpacking itself may take: what xz packs at its highest level needs 65 MB."""


def read(path: Path, remedy: str) -> bytes:
    """The content of a file; refuses what is no file, or stands for one."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {remedy}") from None
    check_regular(path)
    _check(path, size, remedy)
    content = read_bytes(path)
    check_pointer(path, content)
    return content


def unpack(path: Path, remedy: str) -> bytes:
    """What a .gz or .xz file holds, or any other file."""
    content = read(path, remedy)
    try:
        if path.suffix == ".gz":
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(LIMIT + 1)
        elif path.suffix == ".xz":
            packed = lzma.LZMADecompressor(memlimit=MEMORY)
            content = packed.decompress(content, LIMIT + 1)
            if not packed.eof and len(content) <= LIMIT:
                raise EOFError("it ends before its end marker")
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{path} cannot be read ({error}): {remedy}") from None
    _check(path, len(content), remedy)
    return content


def read_npz(path: Path, remedy: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file."""
    content = read(path, remedy)
    try:
        with io.BytesIO(content) as file, np.load(file, allow_pickle=False) as archive:
            _check(path, sum(entry.file_size for entry in archive.zip.infolist()), remedy)
            return dict(archive)
    except InputError:
        raise
    except Exception as error:  # a damaged file raises nearly every kind of exception
        raise InputError(f"{path} is damaged or not an .npz file ({error}): {remedy}") from None


def _check(path: Path, size: int, remedy: str) -> None:
    if size > LIMIT:
        raise InputError(f"{path} holds more than {LIMIT} bytes, which no file of its data set does: {remedy}")
