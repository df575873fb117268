"""Where a study is kept: a journal in the folder of its search, or a database. Every call ends, with an answer or a sentence.

The journal is Optuna's, line by line, with a lock that the kernel gives back when its holder dies, and without the beginning of
a line that a full disk or a crash left. What a storage holds may be anybody's: each trial is checked as it is read.
"""

import abc
import errno
import fcntl
import json
import os
import queue
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from urllib.parse import quote_plus, unquote

import optuna
from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from emamba.base.errors import EmambaError, brief
from emamba.io.files import check_regular

ANSWER_SECONDS = 10
"""In which a server has to take a connection, whose drivers wait much longer."""
PATIENCE = 30
"""Seconds in which a storage has to answer a call."""
LOCK_SECONDS = 20
"""For which another process may hold the lock of a journal."""
PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521}
OPEN = {"application_name", "cache", "charset", "connect_timeout", "dbname", "host", "mode", "port", "service", "sslmode",
        "timeout", "uri", "user"}
"""Keys after the ? of a URL whose values are not secret."""
LINE = b'{"op_code":'
"""How each line of a journal begins."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StorageError(EmambaError):
    """The storage, and not the trial, is at fault."""


@dataclass(frozen=True)
class Place:
    """Of a study: a database's URL, or else a journal."""

    journal: Path
    url: str | None = None

    def __str__(self) -> str:
        """For a sentence: without passwords."""
        if self.url is None:
            return str(self.journal)
        url = parse(self.url)
        query = {key: value if key in OPEN else "***" for key, value in url.query.items()}
        host = url.host and url.host.rpartition("@")[2]  # what stands before is of a password with @
        return plain(unquote(url.set(query=query, host=host).render_as_string(hide_password=True)))

    def words(self, error: BaseException) -> str:
        """What a driver says, without passwords, which some quote."""
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        cause = getattr(cause, "orig", None) or cause
        text = (str(cause).strip() or type(cause).__name__).split("\n")[0]
        if self.url is not None:
            for secret in _secrets(parse(self.url)):
                text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
        return plain(text)

    def silent(self, words: str) -> StorageError:
        return StorageError(f"the storage {self} does not answer ({words}): start it or correct --storage; finished trials are "
                            "kept, and the same command goes on")

    def damaged(self, error: Exception) -> StorageError:
        return StorageError(f"{self} holds what no search wrote ({type(error).__name__}: {self.words(error)}): search into "
                            "another folder, or under another [search] name")


def plain(text: str) -> str:
    """The first line of `text`, for a terminal and for a storage."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", " ", text.strip().split("\n")[0])[:500]


def parse(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise StorageError("--storage is no URL of a database, such as postgresql://user:password@host/name or "
                           "sqlite:///search.db") from None


def _secrets(url: URL) -> list[str]:
    hidden = [url.password, (url.host or "").rpartition("@")[0]]
    for key, values in url.query.items():
        if key not in OPEN:
            hidden += [values] if isinstance(values, str) else values
    return [form for secret in map(str, filter(None, hidden)) for form in (secret, quote_plus(secret))]


def connect(place: Place, check: Callable[[FrozenTrial], None]) -> BaseStorage:
    """The storage at `place`, each trial of which `check` sees."""
    return Patient(place, partial(_journal, place.journal) if place.url is None else partial(_database, place), check)


def _journal(path: Path) -> BaseStorage:
    try:
        return optuna.storages.JournalStorage(Journal(path))
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, IndexError, RecursionError) as error:
        raise StorageError(f"{path} is damaged ({type(error).__name__}: {plain(brief(error))}): keep only the lines before, or "
                           "search into another folder") from None


def _database(place: Place) -> BaseStorage:
    url = parse(place.url)
    port = url.port or PORTS.get(url.get_backend_name())
    if url.host and port:
        try:
            socket.create_connection((url.host, port), ANSWER_SECONDS).close()
        except (OverflowError, UnicodeError) as error:
            raise place.silent(place.words(error)) from None
    options: dict = {"poolclass": NullPool}  # a call is rare: no connection is left open for a server to lose
    if url.get_backend_name() == "sqlite":
        options["connect_args"] = {"timeout": ANSWER_SECONDS}
    for attempt in range(5):
        try:
            return optuna.storages.get_storage(optuna.storages.RDBStorage(place.url, engine_kwargs=options))
        except ArgumentError as error:
            raise StorageError(f"--storage {place} is no database that is known here ({place.words(error)}): name one such as "
                               "postgresql://user:password@host/name or sqlite:///search.db") from None
        except ImportError as error:
            raise StorageError(f"the storage {place} needs a driver that is not installed ({error.__cause__ or error}): "
                               "install it with pip, or search without --storage") from None
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            if attempt == 4 or not {"exist", "exists", "unique"} & set(str(error).split()):
                raise
            time.sleep(0.5)  # others make the tables in this moment
        except RuntimeError as error:
            raise StorageError(f"the storage {place} does not suit this Optuna ({place.words(error)}): name another database, or "
                               "search without --storage") from None
        except (TypeError, ValueError, KeyError, AttributeError) as error:  # what drivers make of a URL
            raise place.silent(place.words(error)) from None


class Patient(BaseStorage):
    """A storage that is asked in a thread of its own, and not waited for longer than `PATIENCE` seconds."""

    def __init__(self, place: Place, make: Callable[[], BaseStorage], check: Callable[[FrozenTrial], None]):
        self._place, self._check = place, check
        self._checked: set[int] = set()
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        self._given_up = False
        Thread(target=self._serve, daemon=True).start()
        self._storage = self.ask(make)

    def _serve(self) -> None:
        while True:
            answer, call = self._calls.get()
            try:
                answer.set_result(call())
            except BaseException as error:
                answer.set_exception(error)
            del answer, call

    def ask(self, function: Callable, *arguments, **named):
        if self._given_up:
            raise self._place.silent(f"not within {PATIENCE} seconds")
        answer: Future = Future()
        self._calls.put((answer, partial(function, *arguments, **named)))
        try:
            return answer.result(PATIENCE)
        except (EmambaError, DuplicatedStudyError, UpdateFinishedTrialError):
            raise
        except TimeoutError as error:
            self._given_up = not answer.done()
            raise self._place.silent(self._place.words(error) if answer.done() else f"not within {PATIENCE} seconds") from None
        except (StorageInternalError, SQLAlchemyError, OSError) as error:
            raise self._place.silent(self._place.words(error)) from None
        except KeyError as error:
            if getattr(function, "__name__", "") == "get_study_id_from_name":
                raise
            raise self._place.damaged(error) from None
        except Exception as error:
            raise self._place.damaged(error) from None

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states=None) -> list[FrozenTrial]:
        trials = self.ask(self._storage.get_all_trials, study_id, deepcopy, states)
        for trial in trials:
            self._examine(trial)
        return trials

    def get_trial(self, trial_id: int) -> FrozenTrial:
        trial = self.ask(self._storage.get_trial, trial_id)
        self._examine(trial)
        return trial

    def _examine(self, trial: FrozenTrial) -> None:
        if trial._trial_id not in self._checked:
            self._check(trial)
            if trial.state.is_finished():
                self._checked.add(trial._trial_id)


def _asking(name: str) -> Callable:
    def call(self, *arguments, **named):
        return self.ask(getattr(self._storage, name), *arguments, **named)

    return call


for _name in BaseStorage.__abstractmethods__ - {"get_all_trials", "get_trial"}:
    setattr(Patient, _name, _asking(_name))
abc.update_abstractmethods(Patient)


class Journal(BaseJournalBackend):
    """Lines of JSON in a file that several processes append to."""

    def __init__(self, path: Path):
        self._path, self._read = path, (0, 0)
        """Lines that were read, and where the next one begins."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NONBLOCK, 0o666))
        except OSError as error:
            raise self._refusal(error) from None
        check_regular(path)

    def read_logs(self, log_number_from: int) -> Iterator[dict]:
        number, place = self._read if self._read[0] <= log_number_from else (0, 0)
        try:
            with self._path.open("rb") as file:
                file.seek(place)
                for line in file:
                    if not line.endswith(b"\n"):
                        return  # it is being written, or was cut off
                    number, place = number + 1, place + len(line)
                    if number > log_number_from:
                        yield self._log(line, number)
                    self._read = number, place
        except OSError as error:
            raise self._refusal(error) from None

    def _log(self, line: bytes, number: int) -> dict:
        try:
            found = json.loads(line)
            if not (isinstance(found, dict) and type(found.get("op_code")) is int and isinstance(found.get("worker_id"), str)):
                raise ValueError("it is no operation of Optuna")
        except (ValueError, RecursionError) as error:
            raise StorageError(f"{self._path} is damaged in line {number} ({brief(error)}): keep only the lines before, or "
                               "search into another folder") from None
        return found

    def append_logs(self, logs: list[dict]) -> None:
        text = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        try:
            file = os.open(self._path, os.O_RDWR | os.O_APPEND)
            try:
                self._lock(file)
                self._heal(file)
                end = os.fstat(file).st_size
                try:
                    rest = memoryview(text)
                    while rest:
                        rest = rest[os.write(file, rest):]
                    os.fsync(file)
                except BaseException:
                    os.ftruncate(file, end)
                    raise
            finally:
                os.close(file)  # gives the lock back
        except OSError as error:
            raise self._refusal(error) from None

    def _lock(self, file: int) -> None:
        late = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > late:
                    raise StorageError(f"another process has held the lock of {self._path} for {LOCK_SECONDS} seconds: end it, "
                                       "and the same command goes on") from None
                time.sleep(0.002)

    def _heal(self, file: int) -> None:
        """Takes away the beginning of a line, which was never answered to its writer."""
        size = os.fstat(file).st_size
        tail, start = b"", size
        while start and b"\n" not in tail:
            start = max(0, start - 65536)
            tail = os.pread(file, size - start, start)
        tail = tail[tail.rfind(b"\n") + 1:]
        if tail and not LINE.startswith(tail.strip(b"\0")[:len(LINE)]):
            raise StorageError(f"{self._path} does not end like a journal of a search: search into another folder")
        if tail:
            os.ftruncate(file, size - len(tail))

    def _refusal(self, error: OSError) -> StorageError:
        remedy = "make room, and the same command goes on: finished trials are kept" if error.errno in FULL else \
            "name another folder with --out"
        return StorageError(f"cannot write {self._path}: {error.strerror}; {remedy}")
