"""Searches in several processes that are killed, stopped and interrupted from outside: nobody is left, and nothing is lost."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from optuna.trial import TrialState

from emamba.base.errors import EmambaError
from flow.search import search, workers
from tests.ends import die, fail, refuse
from tests.postgres import server
from tests.searching import FEW, Bench, every_point, front, make, values_of


@contextmanager
def started(folder: Path, trials: int, count: int, url: str | None = None, varies: str = "all") -> Iterator[subprocess.Popen]:
    """A search in a session of its own."""
    words = [sys.executable, "-m", "tests.searching", folder, str(trials), str(count), varies, *([url] if url else [])]
    with subprocess.Popen(words, env=os.environ | {"SECONDS": "0.5"}, start_new_session=True, stderr=subprocess.PIPE,
                          text=True) as parent:
        try:
            yield parent
        finally:
            parent.kill()


def crew(session: int, worker: bool = True) -> list[int]:
    """Processes of a session that live; its workers, or all."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, own = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(own) == session and state != "Z" and (not worker or b"spawn_main" in (folder / "cmdline").read_bytes()):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def until(condition, parent: subprocess.Popen | None = None):
    """Waits for what `condition` returns."""
    while not (found := condition()):
        assert parent is None or parent.poll() is None, parent.stderr.read()
        time.sleep(0.2)
    return found


def opened(wanted: search.Search):
    """The study, as soon as there is one."""
    try:
        return search.open_study(wanted)
    except EmambaError:
        return None


def busy(study, parent: subprocess.Popen) -> list[int]:
    """Workers that are in the middle of a trial."""
    owners = {trial.user_attrs["process"][1] for trial in study.get_trials(deepcopy=False) if trial.state.name == "RUNNING"
              and "curve" in trial.user_attrs}
    return sorted(owners & set(crew(parent.pid)))


def check(wanted: search.Search, study, trials: int) -> None:
    """As many trials as asked, each of another point, with the values of its point, and their front."""
    done = search.finished(study)
    assert len(done) == len({wanted.space.key(trial.params) for trial in done}) == trials
    assert all(trial.values == list(values_of(trial.params).values()) for trial in done)
    assert {tuple(trial.values) for trial in search.best(study)} == front([trial.params for trial in done])
    assert not study.get_trials(states=(TrialState.RUNNING,))


def test_it_ends_with_its_workers_and_goes_on(tmp_path):
    wanted = make(tmp_path / "run")
    left = "; nothing half-written is left\n"
    for number, status, words in ((signal.SIGTERM, 143, f"search: terminated{left}"), (signal.SIGKILL, -9, ""),
                                  (signal.SIGINT, 130, f"search: interrupted{left}")):
        with started(wanted.out, 9, 2) as parent:
            study = until(partial(opened, wanted), parent)
            chosen = until(partial(busy, study, parent), parent)
            if number == signal.SIGKILL:
                os.kill(chosen[0], signal.SIGSTOP)  # one that cannot do anything itself
            parent.send_signal(number)
            assert (parent.wait(), parent.stderr.read()) == (status, words)
        until(lambda session=parent.pid: not crew(session, False))
    check(wanted, search.run(wanted, trials=9, bench=Bench), 9)


def test_a_worker_that_fails():
    with pytest.raises(EmambaError, match=r"^it refuses$"):
        workers.together(refuse, 2, lambda: 0)
    with pytest.raises(RuntimeError, match=r"a worker failed with ZeroDivisionError: \nTraceback"):
        workers.together(fail, 1, lambda: 0)


def test_workers_that_are_all_killed(monkeypatch):
    monkeypatch.setattr(workers, "DEATHS", 2)
    with pytest.raises(EmambaError, match=r"2 workers were killed one after another \(exit status -9\): with less --workers"):
        workers.together(die, 1, lambda: 0)


def test_kills_of_eight_workers_in_postgresql(tmp_path):
    """Of the whole space, so that the front is that of a search that nobody disturbed."""
    chance, points = random.Random(0), every_point(FEW)
    with server() as url:
        wanted = make(tmp_path / "run", FEW, storage=url)
        with started(wanted.out, len(points), 8, url, "few") as parent:
            study = until(partial(opened, wanted), parent)
            for _ in range(3):
                seen = set(crew(parent.pid))
                os.kill(chance.choice(until(partial(busy, study, parent), parent)), signal.SIGKILL)
                new = max(until(lambda seen=seen: set(crew(parent.pid)) - seen, parent))  # it may not even have begun to work
                time.sleep(chance.uniform(0, 0.2))
                os.kill(new, signal.SIGKILL)
            assert (parent.wait(), parent.stderr.read()) == (0, "")
        until(lambda: not crew(parent.pid, False))
        check(wanted, study, len(points))
        assert {tuple(trial.values) for trial in search.best(study)} == front(points)
        assert any("resumes" in trial.user_attrs for trial in search.finished(study))
