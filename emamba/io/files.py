"""Reading files that are files, and writing them so that an interruption never leaves half of one."""

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..base.errors import InputError, OutputError

NO_FILES = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
"""What a path may lead to that is no file: some have no end, others have no beginning."""


def check_regular(path: Path | str, called: str = "") -> None:
    """Refuses what is no file that ends, before it is opened; call it before a library that opens `path` by itself. A sentence
    names the path after what it is `called`."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {called}{path}: {getattr(error, 'strerror', None) or error}") from None
    if kind == stat.S_IFDIR:
        raise InputError(f"cannot read {called}{path}: Is a directory")
    if kind != stat.S_IFREG:
        raise InputError(f"cannot read {called}{path}: it is {NO_FILES.get(kind, 'no file')}; name a file, or save it as one "
                         "first")


def read_bytes(path: Path | str, limit: int | None = None, called: str = "") -> bytes:
    """The content of a file, which may be refused for its kind, or for more than `limit` bytes."""
    check_regular(path, called)
    try:
        with open(path, "rb") as file:
            content = file.read(-1 if limit is None else limit + 1)
            size = max(os.fstat(file.fileno()).st_size, len(content))
    except OSError as error:
        raise InputError(f"cannot read {called}{path}: {error.strerror}") from None
    if limit is not None and size > limit:
        raise InputError(f"{path} has {size} bytes; at most {limit} are read")
    return content


def read_text(path: Path | str, limit: int | None = None, called: str = "") -> str:
    """The same of a text in UTF-8; UnicodeDecodeError, a ValueError, where it is none."""
    return read_bytes(path, limit, called).decode("utf-8")


DRAFT = re.compile(r"\.emamba-[a-z0-9_]{8}")
"""Names of the hidden folders in which output is made."""
LOCK = "lock"
"""The file in such a folder that its process holds a lock on: a folder whose lock is free was left by a killed one."""


def rows_text(value: object) -> str:
    """JSON for people and for git: a row of figures a line, not a figure a line."""
    def lines(value: object) -> str:
        if isinstance(value, dict) and any(map(rows, value.values())):
            return "{\n" + ",\n".join(f"{json.dumps(key)}: {lines(part)}" for key, part in value.items()) + "\n}"
        if isinstance(value, list) and rows(value):
            return "[\n" + ",\n".join(map(line, value)) + "\n]"
        return line(value)

    def rows(value: object) -> bool:
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return any(isinstance(part, dict) or rows(part) for part in parts)

    def line(value: object) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    return lines(value) + "\n"


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with the path of a new file, then moves that to `path`; a link there is followed, and a device or pipe is
    written to."""
    path = Path(path)
    with _refusing(path):
        if path.is_symlink():
            path = path.resolve()
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a directory")
        special = path.exists() and not path.is_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft(Path(tempfile.gettempdir()) if special else path.parent) as folder:
            new = folder / "new"
            new.touch()
            mode = new.stat().st_mode & 0o666
            write(new)
            if special:
                path.write_bytes(new.read_bytes())
            else:
                new.chmod(mode | new.stat().st_mode & 0o111)  # by the umask, whatever a library made it
                os.replace(new, path)


def check_replaceable(path: Path, marker: str, record: str | None = None) -> None:
    """Refuses a folder that `write_folder` could not replace, before work begins."""
    try:
        place, here = path.resolve(), Path.cwd()
        if not place.exists():
            return
        if not (path.is_dir() and (not any(path.iterdir()) or (path / marker).is_file())):
            raise OutputError(f"{path} is no earlier output, since it has no {marker}: name another folder with --out")
        what = ("the current folder" if place == here else "above the current folder" if place in here.parents else
                "a mount point" if place.is_mount() else "")
        if what:
            raise OutputError(f"{path} is {what}, which cannot be replaced as a whole: name a folder in it with --out")
        for name, digest in _recorded(place, record).items():
            if (place / name).is_file() and _digest(place / name, record) != digest:
                raise OutputError(f"{path}/{name} was changed after it was written: move it away, or name another folder with "
                                  "--out")
    except (OSError, RuntimeError) as error:  # the latter is of links in a circle
        raise OutputError(f"cannot read {path}: {getattr(error, 'strerror', error)}; name another folder with --out") from None


@contextmanager
def write_folder(path: Path, marker: str, record: str | None = None) -> Iterator[Path]:
    """A new folder that takes the place of `path`, an earlier output with the file `marker`, when the block ends without an
    error. It is exchanged at once, so that there is always one of the two.

    What is in `path` and was not written here is kept: what `record`, a JSON file in it, does not list, or without such a list
    what the new folder does not have. `record` gets the list of the new folder, by which later changes are known too.
    """
    check_replaceable(path, marker, record)
    with _refusing(path):
        place = path.resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        with draft(place.parent) as folder:
            new = folder / "new"
            new.mkdir()
            mode = (folder / LOCK).stat().st_mode & 0o666
            yield new
            for file in _files(new):
                if file.is_file() and not file.is_symlink():
                    file.chmod(mode | file.stat().st_mode & 0o111)
            if record:
                change_record(new, record, {})
            if place.exists():
                _keep(place, new, set(_recorded(place, record)) or set(map(str, _relative(new))))
                _exchange(new, place)
            else:
                os.rename(new, place)


def change_record(folder: Path, record: str, changes: dict) -> None:
    """Changes keys of the record, and gives it the SHA-256 of every file in its folder that its list has, or of all."""
    content = json.loads((folder / record).read_text(encoding="utf-8")) | changes
    listed = content.pop("files", None) or _relative(folder)

    def write(text: dict) -> None:
        write_file(folder / record, lambda path: path.write_text(json.dumps(text, indent=1, ensure_ascii=False) + "\n",
                                                                 encoding="utf-8"))

    write(content)
    write(content | {"files": {str(name): _digest(folder / name, record) for name in listed}})


def foreign(folder: Path, record: str) -> list[str]:
    """What is directly in an output and not of its list."""
    own = {Path(name).parts[0] for name in _recorded(folder, record)}
    return sorted(entry.name for entry in folder.iterdir() if entry.name not in own)


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Refuses to be in `folder` with another process that does the same."""
    with _refusing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        raise OutputError(f"another process has {what} in {folder}: wait for it, or name another folder") from None
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        os.close(number)


@contextmanager
def draft(parent: Path) -> Iterator[Path]:
    """A hidden folder in `parent` that is this process' own while the block lasts. Folders of killed processes are removed."""
    _clean(parent)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=".emamba-", dir=parent))
        with suppress(FileNotFoundError):  # another process has just cleaned up
            number = os.open(folder / LOCK, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
            with suppress(OSError):  # a file system without locks, where nobody cleans up
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (folder / LOCK).exists():
                break
            os.close(number)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(number)


def _clean(parent: Path) -> None:
    """Removes drafts of ours whose process is gone."""
    try:
        entries = list(os.scandir(parent))
    except OSError:  # a folder that may be written to and not read
        return
    for entry in entries:
        if DRAFT.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_uid != os.getuid():
                    continue
                number = os.open(Path(entry.path) / LOCK, os.O_RDWR | os.O_NOFOLLOW)
                try:
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(entry.path, ignore_errors=True)
                finally:
                    os.close(number)


def _files(folder: Path) -> list[Path]:
    """All below a folder but the folders with something in them; links are not followed."""
    def fail(error: OSError):
        raise error

    found = []
    for place, folders, names in os.walk(folder, onerror=fail):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        found += [Path(place) / name for name in names + links] or ([Path(place)] if not folders else [])
        if Path(place) != folder and os.path.ismount(place):
            raise OutputError(f"{place} is a mount point in what is to be replaced: name another folder with --out")
    return sorted(found)


def _relative(folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in _files(folder)]


def _digest(file: Path, record: str | None) -> str:
    """SHA-256 of a file; of the record without its list."""
    content = file.read_bytes()
    if file.name == record:
        table = {key: value for key, value in json.loads(content).items() if key != "files"}
        content = json.dumps(table, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def _recorded(folder: Path, record: str | None) -> dict[str, str]:
    """The list of an earlier output, nothing where it has none."""
    try:
        files = json.loads(read_bytes(folder / record))["files"] if record else {}
        return files if all(isinstance(part, str) for pair in files.items() for part in pair) else {}
    except (InputError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _keep(old: Path, new: Path, own: set[str]) -> None:
    """Gives `new` what is in `old` and not its `own`: the same files under a second name, so that an interruption loses none."""
    for name in _relative(old):
        if name in own or name == ".":
            continue
        source, target = old / name, new / name
        if os.path.lexists(target):
            if target.is_dir() and source.is_dir():
                continue
            raise OutputError(f"{source} was not written here and would be replaced: move it away, or name another folder with "
                              "--out")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir() and not source.is_symlink():
            target.mkdir()
            continue
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:  # a file system without second names
            shutil.copy2(source, target, follow_symlinks=False)


def _exchange(new: Path, old: Path) -> None:
    """Exchanges two folders, at once where the system can (Linux, most file systems)."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here, both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if rename is None or rename(here, os.fsencode(new), here, os.fsencode(old), both):
        aside = old.with_name(f".{old.name}.old")  # it stays, where an interruption comes between
        os.rename(old, aside)
        try:
            os.rename(new, old)
        except OSError:
            os.rename(aside, old)
            raise
        os.rename(aside, new)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; name a folder you may write to") from None
    except Exception as error:  # torch and safetensors have their own kinds for a full disk
        if "No space left" in str(error) or "inline_container" in str(error):
            raise OutputError(f"cannot write {path}: No space left on device; name a folder you may write to") from None
        raise
