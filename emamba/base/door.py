"""What stands around a program's work: signals end it cleanly, and every failure is one sentence on standard error.

Exit status: 1 after a refusal, 130 for Ctrl-C, 143 for SIGTERM, 141 where nobody reads the output any more, 70 for a fault of
the program itself, whose traceback lies in a file that the sentence names.
"""

import os
import platform
import re
import select
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from .errors import EmambaError, brief

FAULT, BROKEN_PIPE = 70, 141
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""Characters of paths and files that would break a sentence into lines, or change a terminal."""


class Terminated(KeyboardInterrupt):
    """The signal SIGTERM or SIGHUP: to end like Ctrl-C does."""

    def __init__(self, number: int):
        super().__init__()
        self.status = 128 + number


def guarded(program: str, work: Callable[[], int | None]) -> int:
    """The exit status of `work`, or of how it ended."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # no locale lacks a character
    try:
        with ending_on_signals():
            try:
                status = work() or 0
            except SystemExit:  # argparse's, after a help text
                _flush()
                raise
            _flush()
            return status
    except Exception as error:
        status, sentence = _failure(error)
    except Terminated as error:
        status, sentence = error.status, "terminated; nothing half-written is left"
    except KeyboardInterrupt:
        status, sentence = 130, "interrupted; nothing half-written is left"
    if sentence:
        with suppress(OSError):
            print(f"{program}: {CONTROL.sub(_escaped, sentence)}", file=sys.stderr, flush=True)
    _silence()
    return status


def _failure(error: Exception) -> tuple[int, str]:
    """Exit status and sentence, which is empty where nobody would read it."""
    if isinstance(error, EmambaError):
        return 1, str(error)
    if isinstance(error, BrokenPipeError) and _unread():
        return BROKEN_PIPE, ""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # the second is torch's
        return 1, f"not enough memory ({_line(error) or 'none is left'}): use less data, a smaller model, or another machine"
    if isinstance(error, OSError) and error.errno:
        return 1, f"cannot read or write {error.filename or 'the output'}: {error.strerror}"
    return FAULT, (f"{_line(error, name=True)}: this is a fault of eMamba and not of what you gave it; report it"
                   f"{_keep_traceback(error)}")


def _escaped(match: re.Match) -> str:
    return repr(match[0])[1:-1]


def _line(error: Exception, name: bool = False) -> str:
    return (f"{type(error).__name__}: " if name else "") + brief(" ".join(str(error).split()))


def _keep_traceback(error: Exception) -> str:
    """Writes what a report needs, and says where; without arguments, which may hold a password."""
    try:
        number, path = tempfile.mkstemp(prefix="emamba-fault-", suffix=".txt")
        with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"Python {platform.python_version()}, {platform.platform()}\n")
            file.writelines(traceback.format_exception(error))
    except OSError:
        return ""
    return f" with {path}, where its traceback lies"


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise Terminated, once, unless somebody handles them already."""
    def end(number, frame):
        for each in taken:
            signal.signal(each, signal.SIG_IGN)  # what now cleans up is not to be interrupted
        raise Terminated(number)

    main = threading.current_thread() is threading.main_thread()
    taken = [each for each in (signal.SIGTERM, signal.SIGHUP) if main and signal.getsignal(each) is signal.SIG_DFL]
    for each in taken:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each in taken:
            signal.signal(each, signal.SIG_DFL)


def _unread() -> bool:
    """Whether standard output or error is a pipe that nobody reads."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            poll.register(stream.fileno(), 0)
    return any(state & (select.POLLERR | select.POLLHUP) for _, state in poll.poll(0))


def _flush() -> None:
    """Now, where a failure can still be told."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _silence() -> None:
    """What cannot be written would be tried again at the interpreter's end, with a traceback."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
