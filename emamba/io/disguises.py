"""Files that are something else than their name says: known by their first bytes, and told with a remedy."""

from pathlib import Path

from ..base.errors import InputError

HEAD = 512
"""First bytes that tell."""

POINTER = b"version https://git-lfs.github.com/spec/"
PAGES = (b"<!doctype html", b"<html")
SIGNS = {
    b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip",
    b"\x93NUMPY": "npy", b"\x89HDF\r\n\x1a\n": "hdf5", b"PAR1": "parquet", b"SQLite format 3\x00": "sqlite", b"GGUF": "gguf",
    b"%PDF": "pdf", b"\xd0\xcf\x11\xe0": "xls", b"fLaC": "flac", b"OggS": "ogg", b"ID3": "mp3", b"FORM": "aiff",
    b".snd": "au", b"RIFX": "rifx", b"RF64": "rf64", b"BW64": "rf64", b"caff": "caf", b"RIFF": "riff",
}
"""First bytes → kind."""

PACKED = {kind: f"packed by {kind}: unpack it first" for kind in ("gzip", "xz", "bzip2", "zstd", "zip")}
TABLES = PACKED | {
    "zip": "an archive, such as an Excel workbook is: save the table as CSV, or unpack it first",
    "xls": "an Excel workbook: save the table as CSV", "parquet": "a Parquet file: save the table as CSV",
    "hdf5": "an HDF5 file: save the table as CSV", "sqlite": "a database: save the table as CSV", "pdf": "a PDF: save the "
    "table as CSV", "npy": "an array of NumPy: make the windows yourself and write the arrays of a data set",
}
SOUNDS = PACKED | {
    "rifx": "a WAV file of the other byte order (RIFX): save it as plain WAV",
    "rf64": "a WAV file of more than 4 GB (RF64): cut it, and save it as plain WAV",
    **{kind: f"{kind.upper()} and no WAV file: convert it to 16-bit PCM" for kind in ("flac", "ogg", "mp3", "aiff", "au", "caf")},
}
TENSORS = PACKED | {
    "zip": "an archive, as torch.save writes it: call it .bin or .pt", "hdf5": "an HDF5 file: load it with its own program, and "
    "save it as safetensors", "gguf": "a GGUF file: give the checkpoint that it was made of",
    "npy": "an array of NumPy: give the model's checkpoint",
}
ARRAYS = PACKED | {"zip": "an archive of arrays (.npz): load it and write the one that is meant with numpy.save"}


def check_disguise(path: Path | str, content: bytes, kinds: dict[str, str]) -> None:
    """Refuses nothing at all, a pointer of Git LFS, a web page, and one of `kinds`: a kind → what that is, and a remedy."""
    if not content:
        raise InputError(f"{path} is empty: copy it again")
    check_pointer(path, content)
    kind = next((kind for sign, kind in SIGNS.items() if content.startswith(sign)), None)
    if kind in kinds:
        raise InputError(f"{path} is {kinds[kind]}")


def check_pointer(path: Path | str, content: bytes) -> None:
    """Refuses a pointer of Git LFS, and a web page."""
    head = content[:HEAD]
    if head.startswith(POINTER):
        raise InputError(f"{path} is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(PAGES):
        raise InputError(f"{path} is a web page, not the file itself: download the file that the page shows")
