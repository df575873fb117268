"""Processes that work on one thing, and of which none outlives the one that started them.

A worker that is killed is started again. Where the starting process ends by a signal, its workers are ended first; where it is
killed, the kernel ends them, or where that cannot be asked for, a thread of theirs.
"""

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from emamba.base.door import Terminated, ending_on_signals
from emamba.base.errors import EmambaError, ToolFailed

END_SECONDS = 10
"""In which a worker that was told to end has to end."""
STEP = 0.5
"""Seconds that a wait takes at most: a signal that comes just before a wait would be seen only after it."""
DEATHS = 40
"""Workers that are killed one after another, without progress, before the rest is ended too."""
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
PR_SET_PDEATHSIG = 1


def together(job: Callable[[int], None], count: int, progress: Callable[[], object]) -> None:
    """Runs `job` with each number below `count` in a process of one thread; the first exception of one ends all. One that is
    killed is started again, as long as `progress` changes."""
    blob, known, deaths = pickle.dumps(job), progress(), 0
    with _environment(ONE_THREAD):
        team: dict[int, tuple[BaseProcess, Connection]] = {}
        try:
            for k in range(count):
                team[k] = _start(blob, k)
            while team:
                wait([process.sentinel for process, _ in team.values()], STEP)
                for k, (process, connection) in list(team.items()):
                    if process.is_alive():
                        continue
                    _raise_what(connection)
                    del team[k]
                    if process.exitcode:
                        now = progress()
                        known, deaths = now, deaths + 1 if now == known else 1
                        if deaths >= DEATHS:
                            raise ToolFailed(f"{DEATHS} workers were killed one after another (exit status {process.exitcode}): "
                                             "with less --workers there is more memory for each; finished trials are kept, and "
                                             "the same command goes on")
                        team[k] = _start(blob, k)
        finally:
            _end([process for process, _ in team.values()])


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _start(blob: bytes, k: int) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(blob, k, os.getpid(), sender), daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the worker inherits it: Ctrl-C is for its parent
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        sender.close()
    return process, receiver


def _raise_what(connection: Connection) -> None:
    """Raises what ended a worker, if it could still say so."""
    with suppress(EOFError, OSError, pickle.UnpicklingError):
        if connection.poll():
            raise connection.recv()


def _end(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    late = time.monotonic() + END_SECONDS
    for process in processes:
        process.join(max(0, late - time.monotonic()))
        process.kill()
        process.join()


def _work(blob: bytes, k: int, parent: int, sender: Connection) -> None:
    _follow(parent)
    try:
        with ending_on_signals():
            pickle.loads(blob)(k)
    except Terminated as end:
        sys.exit(end.status)
    except EmambaError as error:
        sender.send(error)
    except Exception as error:
        sender.send(RuntimeError(f"a worker failed with {type(error).__name__}: {error}\n{traceback.format_exc()}"))


def _follow(parent: int) -> None:
    """Ends this process with its parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_end_after, daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _end_after() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
