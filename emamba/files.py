"""Reading files that are files, and writing them so that an interruption never leaves half of one."""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import EmambaError

NO_FILES = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
            stat.S_IFDIR: "a folder"}
"""What a path may lead to that is no file: some have no end, others have no beginning."""


def check_regular(path: Path | str) -> None:
    """Refuses what is no file that ends, before it is opened; call it before a library that opens `path` by itself."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except (OSError, ValueError) as error:
        raise EmambaError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if kind != stat.S_IFREG:
        raise EmambaError(f"cannot read {path}: it is {NO_FILES.get(kind, 'no file')}; name a file, or save it as one first")


def read_bytes(path: Path | str, limit: int | None = None) -> bytes:
    """The content of a file, which may be refused for its kind, or for more than `limit` bytes."""
    check_regular(path)
    try:
        with open(path, "rb") as file:
            content = file.read(-1 if limit is None else limit + 1)
            size = max(os.fstat(file.fileno()).st_size, len(content))
    except OSError as error:
        raise EmambaError(f"cannot read {path}: {error.strerror}") from None
    if limit is not None and size > limit:
        raise EmambaError(f"{path} has {size} bytes; at most {limit} are read")
    return content


def read_text(path: Path | str, limit: int | None = None) -> str:
    """The same of a text in UTF-8; UnicodeDecodeError, a ValueError, where it is none."""
    return read_bytes(path, limit).decode("utf-8")


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary path beside `path`, then moves the result there."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise EmambaError(f"cannot write {path}: {error.strerror or error}; name a folder you may write to") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_replaceable(path: Path, marker: str) -> None:
    """Refuses a folder that holds something, and not the file `marker` of an earlier output."""
    try:
        if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or (path / marker).is_file())):
            raise EmambaError(f"{path} is no earlier output, since it has no {marker}: name another folder with --out")
    except OSError as error:
        raise EmambaError(f"cannot read {path}: {error.strerror}; name another folder with --out") from None


@contextmanager
def write_folder(path: Path, marker: str) -> Iterator[Path]:
    """A temporary folder that replaces `path`, an earlier output with the file `marker`, when the block ends without an error."""
    check_replaceable(path, marker)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise EmambaError(f"cannot write {path}: {error.strerror or error}; name a folder you may write to") from None
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except OSError as error:
        raise EmambaError(f"cannot write {path}: {error.strerror or error}; name a folder you may write to") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
