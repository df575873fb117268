"""Other programs, none of which outlives the one that started it: each runs in a process group of its own, which is ended with
the call, however that ends. Where this process is killed, the group's watcher sees its pipe close and does it instead."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

GRACE = 2.0
"""Seconds from the request to end to the end: compilers use them to delete their temporary files."""
STEP = 0.2
"""Seconds that a wait takes at most: a signal that comes just before a wait would be seen only after it."""
WATCH = f'trap "" TERM; read _; kill -TERM 0; sleep {GRACE:g}; kill -KILL 0'


def run(command: Sequence[str | os.PathLike], *, input: str | None = None, timeout: float | None = None,
        waiting: Callable[[], object] | None = None, **options) -> subprocess.CompletedProcess:
    """`subprocess.run` of a text program, whose output is captured unless `options` say where it goes; `waiting` is called now
    and then while it runs."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8", "errors": "replace"} | options
    end = None if timeout is None else time.monotonic() + timeout
    with tempfile.TemporaryFile() as stdin:
        stdin.write((input or "").encode())
        stdin.seek(0)
        with group(command, stdin=stdin, **options) as process:
            while True:
                try:
                    out, err = process.communicate(timeout=STEP)
                    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
                except subprocess.TimeoutExpired:
                    if waiting:
                        waiting()
                    if end is not None and time.monotonic() > end:
                        raise


@contextmanager
def group(command: Sequence[str | os.PathLike], **options) -> Iterator[subprocess.Popen]:
    """A started program; it and its children are ended when the block ends. Its watcher leads the group, so that no moment is
    without one."""
    with ExitStack() as ending:
        theirs, ours = os.pipe()
        for end in (theirs, ours):
            ending.callback(os.close, end)
        watcher = subprocess.Popen(["/bin/sh", "-c", WATCH], stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   process_group=0)
        ending.callback(watcher.wait)
        ending.callback(os.killpg, watcher.pid, signal.SIGKILL)
        process = subprocess.Popen([os.fspath(word) for word in command], process_group=watcher.pid, **options)
        ending.callback(_end, process, watcher.pid)
        yield process


def _end(process: subprocess.Popen, group: int) -> None:
    """Asks a group to end, and waits for its program a while; kills it where it does not."""
    if process.poll() is None:
        os.killpg(group, signal.SIGTERM)
        end = time.monotonic() + GRACE
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        os.killpg(group, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        with suppress(OSError):  # what it was still to read is of no use
            if stream:
                stream.close()
