"""Whose a running trial is. Its process is named in it, and a thread of that process renews it while it lives.

A trial is taken over at once where its process was of this system and is gone, and else when nobody renewed it for `LEASE`
seconds of the one who watches: clocks of two machines are not compared, and no name of a machine is trusted.
"""

import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial

from .storage import StorageError

BEAT = 10
"""Seconds from one renewal to the next."""
LEASE = 60
"""Seconds without a renewal after which a trial is taken over."""
NAMELESS = 10
"""The same for a trial whose process did not even get to name itself."""


def me() -> list:
    """This process: name of the machine, number, start, and the running system, which two containers or a reboot do not share."""
    return [socket.gethostname(), os.getpid(), _start(os.getpid()) or 0, _system()]


def is_gone(process: list | None) -> bool:
    """Whether a process that `me` named has surely ended. Older searches named machine and number alone."""
    if process is None:
        return False
    if len(process) == 2:
        return process[0] == socket.gethostname() and not _alive(process[1])
    return process[3] == _system() and (not _alive(process[1]) or (_start(process[1]) or process[2]) != process[2])


def _system() -> str:
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _start(process: int) -> int | None:
    """When a process began, by the kernel's clock; None where that is not known."""
    told = _stat(process)
    return int(told[19]) if told else None


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    told = _stat(process)
    return told is None or told[0] != "Z"


def _stat(process: int) -> list[str] | None:
    """What the kernel says of a process from its state on; None where it says nothing."""
    try:
        return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


@contextmanager
def renewed(trial: Trial) -> Iterator[None]:
    """Renews a trial from a thread until the block ends."""
    over = Event()

    def renew() -> None:
        beats = 0
        while not over.wait(BEAT):
            beats += 1
            try:
                trial.set_user_attr("beat", beats)
            except UpdateFinishedTrialError:
                return  # it was taken over, which its worker finds out after the epoch
            except StorageError:
                pass  # its worker says so, if it lasts

    Thread(target=renew, daemon=True).start()
    try:
        yield
    finally:
        over.set()


class Watch:
    """Remembers when the running trials were last seen to be renewed."""

    def __init__(self):
        self._seen: dict[int, tuple[object, float]] = {}

    def abandoned(self, running: Iterable[FrozenTrial]) -> list[FrozenTrial]:
        """Those whose process is gone or does not renew them."""
        now, seen, found = time.monotonic(), {}, []
        for trial in running:
            known, beat = trial.user_attrs, (trial.user_attrs.get("process"), trial.user_attrs.get("beat"))
            before = self._seen.get(trial.number)
            seen[trial.number] = before if before and before[0] == beat else (beat, now)
            limit = LEASE if "process" in known else NAMELESS
            if is_gone(known.get("process")) or now - seen[trial.number][1] > limit:
                found.append(trial)
        self._seen = seen
        return found
