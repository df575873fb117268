"""One process at a time: a lock on a device, which ends with the process that has it."""

import fcntl
import os
import stat
from pathlib import Path

from emamba.base.errors import DeviceError

RUN = Path("/run/emamba")
"""The folder of locks for names without a device file. Only root may write in its parent."""


class Claim:
    """Holds the file at `path`, or an open `file` of it, until `close`; `name` is what the user calls it. A process that was
    forked from the one that claimed may not go on with it."""

    def __init__(self, path: str | Path, file: int | None = None, name: str = ""):
        self.name, self.owner, self.file = name or str(path), os.getpid(), None
        self.file = opened(path, os.O_RDWR) if file is None else file
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            about = os.fstat(self.file)
            self.close()
            if not isinstance(error, BlockingIOError):
                raise DeviceError(f"cannot lock {self.name}: {error.strerror}; name the device itself") from None
            raise DeviceError(f"{self.name} is in use by {holder(about)}: close it there first") from None

    def check(self) -> None:
        if self.file is None:
            raise DeviceError(f"{self.name} was closed: make the transport anew")
        if os.getpid() != self.owner:
            raise DeviceError(f"{self.name} is in use by process {self.owner}, which started this one: close it there and open "
                              "it here")

    def close(self) -> None:
        if self.file is not None:
            file, self.file = self.file, None
            os.close(file)

    __del__ = close


def opened(path: str | Path, flags: int, remedy: str = "load the device-tree overlay, and run as a user who may") -> int:
    """The open device; never waits for it."""
    try:
        file = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError, TypeError) as error:
        raise DeviceError(f"cannot open {path}: {getattr(error, 'strerror', None) or error}; {remedy}") from None
    kind = os.fstat(file).st_mode
    if stat.S_ISFIFO(kind) or stat.S_ISDIR(kind):
        os.close(file)
        raise DeviceError(f"{path} is a {'pipe' if stat.S_ISFIFO(kind) else 'folder'} and no device: name the device")
    return file


def claim_name(name: str, called: str) -> Claim:
    """Holds a name that stands for something without a device file."""
    try:
        RUN.mkdir(mode=0o700, exist_ok=True)
        about = os.lstat(RUN)
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o022:
            raise DeviceError(f"{RUN} is not this user's own folder, so that it cannot hold locks: remove it")
        file = os.open(RUN / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise DeviceError(f"cannot lock {called} in {RUN}: {error.strerror}; run as root, as PYNQ needs") from None
    return Claim(RUN / f"{name}.lock", file, called)


def holder(about: os.stat_result) -> str:
    """Who holds the lock of a file, from /proc/locks."""
    place = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
    try:
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        lines = []
    for line in lines:
        if "FLOCK" in line and place in line:
            process = int(line[line.index(place) - 1])
            return "this process" if process == os.getpid() else f"process {process}" if process > 0 else "another process"
    return "another process"
