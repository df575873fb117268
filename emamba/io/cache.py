"""What is made once and kept for its user. No stranger can put anything there, an entry is there whole or not at all, and two
processes that make it at once both get it."""

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..base import processes
from ..base.errors import OutputError
from .files import draft

VARIABLE = "EMAMBA_CACHE"
"""The environment variable that names another place."""
PLAIN = re.compile(r"[\w./+@,=-]+")
"""Paths in which neither a shell nor make sees more than a name."""
COMPILING = ("CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "LDLIBS", "MAKEFLAGS")
"""Environment variables that change what a compiler makes."""


def folder(kind: str) -> Path:
    """The user's own folder of a kind: below $EMAMBA_CACHE, else $XDG_CACHE_HOME/emamba, else ~/.cache/emamba."""
    if given := os.environ.get(VARIABLE):
        return private(private(Path(given).absolute()) / kind)
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        place = base / "emamba"
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        usable = base.is_absolute() and os.access(place, os.W_OK)
    except (OSError, RuntimeError):  # no home, or none to write to
        usable = False
    return private(private(place if usable else _temporary()) / kind)


def private(place: Path) -> Path:
    """Makes a folder that nobody else may write to; refuses one that others may."""
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = os.stat(place, follow_symlinks=False)
    except OSError as error:
        raise OutputError(f"cannot keep anything in {place}: {error.strerror}; name another folder in ${VARIABLE}") from None
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o022:
        raise OutputError(f"{place} is no folder that only you may write to, and programs in it are run: make it so "
                          f"(chmod go-w), or name another folder in ${VARIABLE}")
    return place


def kept(place: Path, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name` in a private folder, which `make` fills where it is not there."""
    entry = place / name
    if not entry.exists():
        with draft(place) as ours:
            (ours / "new").mkdir()
            make(ours / "new")
            try:
                os.rename(ours / "new", entry)
            except OSError:
                if not entry.exists():  # another process was faster
                    raise
    return entry


def plain(path: Path) -> Path:
    """`path`, or a link to it with a plain name."""
    if PLAIN.fullmatch(str(path)):
        return path
    place = _plain_temporary()
    link = place / _mark(path)
    if not (link.is_symlink() and link.readlink() == path):
        with draft(place) as ours, suppress(FileExistsError):
            (ours / "link").symlink_to(path)
            os.replace(ours / "link", link)
    return link


def plain_folder(path: Path) -> Path:
    """`path`, or where it is not plain a folder of this user's that stands for it."""
    return path if PLAIN.fullmatch(str(path)) else _plain_temporary() / f"{path.name}-{_mark(path)}"


@contextmanager
def workshop(place: Path) -> Iterator[Path]:
    """`place`, or where its path is not plain a temporary folder, whose files go there when the block ends."""
    if PLAIN.fullmatch(str(place)):
        yield place
        return
    with draft(_plain_temporary()) as ours:
        (ours / "new").mkdir()
        yield ours / "new"
        shutil.copytree(ours / "new", place, dirs_exist_ok=True)


def compiler(command: str) -> str:
    """What a key must have of a compiler: which one it is, and what of the environment it reads."""
    said = processes.run([command, "--version"]).stdout.partition("\n")[0]
    return "\0".join([said, *(f"{name}={os.environ.get(name, '')}" for name in COMPILING)])


def _plain_temporary() -> Path:
    place = private(_temporary())
    if not PLAIN.fullmatch(str(place)):
        raise OutputError(f"make, by which compilers are run, takes the path {place} apart: name one without spaces and signs in "
                          "$TMPDIR")
    return place


def _mark(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def _temporary() -> Path:
    return Path(tempfile.gettempdir()) / f"emamba-{os.getuid()}"
