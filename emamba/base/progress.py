"""How far work is, on standard error: a line that is rewritten on a terminal, and a line every ten seconds elsewhere.

The log of `shown` receives every line with its time. A command that says nothing for ten seconds says that it still works.
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from .errors import OutputError

EVERY = 10.0
"""Seconds between lines off a terminal, and of silence before the command says that it still works."""
REDRAWN = 0.1
"""Seconds between changes of a line on a terminal."""


@dataclass
class _Voice:
    quiet: bool = False
    log: TextIO | None = None
    stage: str = ""
    began: float = 0.0
    last: float = 0.0
    """When something was said."""
    open: bool = False
    """Whether the last line on the terminal can be rewritten."""


_voice = _Voice()
_lock = threading.RLock()


def say(stage: str) -> None:
    """Begins a stage: a line on a terminal and in the log."""
    _voice.stage, _voice.began = stage, time.monotonic()
    _write(f"{stage} …", terminal_only=True)


def meter(total: int, what: str) -> Callable[..., None]:
    """A function of (done, words) that shows how far work is, and from its second call on the time left: the first has the
    start-up in it."""
    start = shown = time.monotonic()
    first: tuple[float, int] | None = None

    def show(done: int, words: str = "") -> None:
        nonlocal shown, first
        now, terminal, known = time.monotonic(), _on_terminal(), first
        first = first or (now, done)
        if done < total and now - shown < (REDRAWN if terminal else EVERY):
            return
        if done >= total and not terminal and shown == start:
            return  # short work
        shown = now
        text = f"{done} of {total} {what}"
        if known and done < total:
            text += f", {_seconds((now - known[0]) / max(1, done - known[1]) * (total - done))} left"
        _write(text + f"; {words}" * bool(words), rewritten=terminal, ends=done >= total)

    return show


@contextmanager
def shown(stage: str, quiet: bool = False, log: Path | None = None) -> Iterator[None]:
    """Shows progress of a command while the block lasts, or with `quiet` not; a file named by `log` receives the lines too."""
    global _voice
    try:
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("a", encoding="utf-8", buffering=1) if log else None
    except OSError as error:
        raise OutputError(f"cannot write --log {log}: {error.strerror}") from None
    before, _voice = _voice, _Voice(quiet, file, stage, time.monotonic(), time.monotonic())
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(ended,), daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        if _voice.open:
            _write("", terminal_only=True)
        if file:
            file.close()
        _voice = before


def add_voice(parser: argparse.ArgumentParser) -> None:
    """Options of `shown`."""
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.add_argument("--log", type=Path, metavar="FILE", help="also append progress, with times, to this file")


def note(text: str) -> None:
    """A line for the log alone, such as a result that is printed."""
    if _voice.log:
        _voice.log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


def _beat(ended: threading.Event) -> None:
    while not ended.wait(min(1.0, EVERY / 4)):
        now = time.monotonic()
        if now - _voice.last >= EVERY:
            _write(f"{_voice.stage} … {_seconds(now - _voice.began)}")


def _seconds(value: float) -> str:
    value = round(value)
    if value < 60:
        return f"{value} s"
    return f"{value // 60} min {value % 60:02} s" if value < 3600 else f"{value // 3600} h {value % 3600 // 60:02} min"


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _write(text: str, rewritten: bool = False, ends: bool = True, terminal_only: bool = False) -> None:
    with _lock:
        _voice.last = time.monotonic()
        if text:
            note(text)
        if _voice.quiet or sys.stderr is None or (terminal_only and not _on_terminal()):
            return
        start = ("\r\033[K" if rewritten else "\n") if _voice.open else ""
        _voice.open = rewritten and not ends
        try:
            print(start + text, end="" if _voice.open or not text else "\n", file=sys.stderr, flush=True)
        except (OSError, ValueError):  # nobody reads it
            _voice.quiet = True
