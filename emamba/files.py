"""Writing files so that an interruption never leaves half of one."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import EmambaError


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
