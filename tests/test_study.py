"""What is kept of a search: what it goes on from, what it takes from others, and where it refuses. The trials cost nothing."""

import fcntl
import json
import os
import re
import resource
import socket
import subprocess
import sys
import threading
import time

import pytest
from optuna.trial import TrialState

from emamba.base.errors import Diverged, EmambaError, OutputError
from flow.search import leases, search, storage, study
from flow.search.study import Refused
from tests.searching import Bench, every_point, front, make, values_of

TWO = {"d_conv": [3, 4]}
PROCESS = ["elsewhere", 1, 1, "another system"]


@pytest.fixture
def wanted(tmp_path):
    return make(tmp_path / "run")


@pytest.fixture
def hasty(monkeypatch):
    """Leases that end soon."""
    for module, name, seconds in ((leases, "LEASE", 0.3), (leases, "NAMELESS", 0.1), (leases, "BEAT", 0.02),
                                  (search, "PAUSE", 0.05), (search, "MOMENT", 0.2)):
        monkeypatch.setattr(module, name, seconds)


def begun(wanted, **attributes):
    """A study with one trial under way."""
    opened = search.open_study(wanted, create=True)
    trial = opened.ask()
    search._point(wanted.space, trial)
    for name, value in attributes.items():
        trial.set_user_attr(name, value)
    return opened, trial


def states(found) -> list[str]:
    return [trial.state.name for trial in found.get_trials()]


def points(found) -> list[dict]:
    return [trial.params for trial in search.finished(found)]


def failing(*errors):
    """A bench whose first trials raise."""
    left = list(errors)

    class Failing(Bench):
        def measure(self, study, trial, point):
            if left and (error := left.pop(0)):
                raise error
            return super().measure(study, trial, point)

    return Failing


def no_room(*_):
    try:
        raise OSError(28, "No space left on device")
    except OSError:
        raise OutputError("cannot write x: No space left on device") from None


# -- going on -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [None, "sqlite:///{}/search.db"])
def test_it_goes_on(tmp_path, url):
    wanted = make(tmp_path / "run", storage=url and url.format(tmp_path))
    first = points(search.run(wanted, trials=2, bench=Bench))
    second = search.run(wanted, bench=Bench)
    assert len(points(second)) == 4 and points(second)[:2] == first
    assert points(search.run(wanted, trials=3, bench=Bench)) == points(second)
    assert wanted.journal.exists() == (url is None)


def test_the_whole_space_and_its_front(wanted):
    found = search.run(wanted, trials=99, bench=Bench)
    keys = [wanted.space.key(point) for point in points(found)]
    assert sorted(keys) == sorted(map(wanted.space.key, every_point())) and search.missing(wanted, found, 99) is None
    assert {tuple(trial.values) for trial in search.best(found)} == front(every_point())
    assert all(trial.values == list(values_of(trial.params).values()) for trial in search.finished(found))


def test_an_interrupted_search_finds_the_same(tmp_path):
    whole = points(search.run(make(tmp_path / "a"), trials=12, bench=Bench))
    bench = failing(None, None, KeyboardInterrupt, None, None, None, None, KeyboardInterrupt, SystemExit(143))
    wanted = make(tmp_path / "b")
    for ended in (KeyboardInterrupt, KeyboardInterrupt, SystemExit):
        with pytest.raises(ended):
            search.run(wanted, trials=12, bench=bench)
    assert points(search.run(wanted, trials=12, bench=bench)) == whole


@pytest.mark.parametrize("error, kept", [(Diverged("the training diverged"), True), (MemoryError(), False),
                                         (RuntimeError("DefaultCPUAllocator: can't allocate memory"), False),
                                         (OSError(28, "No space left on device"), False)])
def test_what_failed_does_not_count_and_is_tried_again_if_it_may_be_the_machine(tmp_path, error, kept):
    wanted = make(tmp_path / "run", TWO)
    found = search.run(wanted, trials=2, bench=failing(error))
    told = search.missing(wanted, found, 2)
    assert told.startswith("1 of 2 trials are finished, and the space has no more points: 1 failed, the last one since ")
    assert told.endswith(storage.plain(str(error)) or "MemoryError")
    found = search.run(wanted, trials=2, bench=Bench)
    assert len(points(found)) == (1 if kept else 2) and (search.missing(wanted, found, 2) is None) == (not kept)


def test_a_full_disk_is_no_fault_of_the_points(wanted):
    class Full(Bench):
        measure = staticmethod(no_room)

    with pytest.raises(EmambaError, match="5 trials failed one after another, the last one since cannot write x: No space left "
                                          "on device; finished trials are kept, and the same command goes on"):
        search.run(wanted, bench=Full)
    found = search.run(wanted, trials=5, bench=Bench)
    assert [trial.user_attrs["resumes"] for trial in search.finished(found)] == [0, 1, 2, 3, 4]


def test_no_point_became_a_model(tmp_path):
    wanted = make(tmp_path / "run", TWO)
    with pytest.raises(EmambaError, match=r"none of the 2 points that were tried is feasible; the last was refused since too "
                                          r"large; the last one that failed did so since it diverged; widen \[space\], raise"):
        search.run(wanted, bench=failing(Refused("too large"), Diverged("it diverged")))


def test_other_faults_are_not_taken_for_trials(wanted):
    with pytest.raises(ZeroDivisionError):
        search.run(wanted, bench=failing(ZeroDivisionError()))
    assert states(search.open_study(wanted)) == ["FAIL", "WAITING"]


# -- trials of others ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", [lambda dead: [socket.gethostname(), dead],
                                     lambda dead: ["renamed", dead, 5, leases.me()[3]],
                                     lambda dead: ["renamed", os.getpid(), 5, leases.me()[3]]],
                         ids=["of an older search", "of a machine that was renamed", "its number is another process now"])
def test_a_trial_whose_process_is_gone_is_tried_again(wanted, process):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    _, trial = begun(wanted, process=process(dead.pid))
    found = search.run(wanted, trials=1, bench=Bench)
    assert states(found) == ["FAIL", "COMPLETE"] and found.trials[1].user_attrs["resumes"] == 0
    assert found.trials[1].params == trial.params


@pytest.mark.parametrize("attributes", [{"process": PROCESS}, {"process": ["another.host", 1]}, {}])
def test_a_trial_of_a_machine_that_does_not_come_back(wanted, hasty, attributes):
    begun(wanted, **attributes)
    found = search.run(wanted, trials=2, bench=Bench)
    assert sorted(states(found)) == ["COMPLETE", "COMPLETE", "FAIL"]
    assert [trial.user_attrs.get("resumes") for trial in search.finished(found)] == [None, 0]


def test_a_slow_process_keeps_its_trial(wanted, hasty):
    opened, trial = begun(wanted, process=PROCESS, beat=0)
    watch = leases.Watch()

    def abandoned(seconds):
        late = time.monotonic() + seconds
        found = []
        while not found and time.monotonic() < late:
            found = watch.abandoned(opened.get_trials(states=(TrialState.RUNNING,)))
            time.sleep(0.01)
        return [trial.number for trial in found]

    with leases.renewed(trial):
        assert abandoned(3 * leases.LEASE) == []
    assert abandoned(60) == [0]


def test_a_trial_that_was_taken_over_is_left(wanted):
    class TakenOver(Bench):
        def measure(self, found, trial, point):
            if trial.number == 0:
                study.again(search.open_study(wanted), found.trials[0])
            return super().measure(found, trial, point)

    found = search.run(wanted, trials=2, bench=TakenOver)
    assert states(found) == ["FAIL", "COMPLETE", "COMPLETE"] and found.trials[1].user_attrs["resumes"] == 0


def test_a_point_that_ends_every_process_is_left(wanted, hasty, monkeypatch):
    monkeypatch.setattr(study, "LOSSES", 3)
    _, trial = begun(wanted, process=PROCESS, lost=2)
    found = search.run(wanted, trials=2, bench=Bench)
    assert found.trials[0].user_attrs["failed"] == ("3 processes ended before it did; with less --workers there is more memory "
                                                    "for each")
    assert len(points(found)) == 2 and trial.params not in points(found)


def test_two_searches_of_one_folder_at_once(wanted, hasty):
    """As many trials as asked in sum, no point twice."""
    threads = [threading.Thread(target=search.work, args=(wanted, 12, Bench, k)) for k in range(4)]
    search.open_study(wanted, create=True)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = points(search.open_study(wanted))
    assert len(found) == len(set(map(wanted.space.key, found))) == 12


# -- the journal --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", ['{"op_code":8,"worker_id":"x","trial', "{", "\0\0\0", '{"op_code":5'])
def test_a_journal_that_ends_in_the_middle_of_a_line(wanted, tail):
    first = points(search.run(wanted, trials=2, bench=Bench))
    with wanted.journal.open("a") as file:
        file.write(tail)
    assert points(search.run(wanted, trials=3, bench=Bench))[:2] == first


def test_a_full_disk(wanted, hasty):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    first = points(search.run(wanted, trials=1, bench=Bench))
    for more in range(10, 1000, 330):  # each cuts off another line
        resource.setrlimit(resource.RLIMIT_FSIZE, (wanted.journal.stat().st_size + more, before[1]))
        try:
            with pytest.raises(EmambaError, match=r"cannot write .*/journal\.log: File too large; make room, and the same "
                                                  "command goes on: finished trials are kept"):
                search.run(wanted, trials=9, bench=Bench)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert wanted.journal.read_bytes().endswith(b"}\n")
    found = search.run(wanted, trials=2, bench=Bench)
    assert points(found)[:1] == first and len(points(found)) == 2


def test_a_lock_that_was_left_and_one_that_is_held(wanted, monkeypatch):
    monkeypatch.chdir(wanted.out.parent)
    relative = make(wanted.out.relative_to(wanted.out.parent))
    search.run(relative, trials=1, bench=Bench)
    os.symlink("run/journal.log", "run/journal.log.lock")  # as Optuna's own lock is left by a kill
    search.run(relative, trials=2, bench=Bench)
    monkeypatch.setattr(storage, "LOCK_SECONDS", 0.1)
    with wanted.journal.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(EmambaError, match=r"another process has held the lock of run/journal\.log for 0\.1 seconds: end it"):
            search.run(relative, trials=3, bench=Bench)


@pytest.mark.parametrize("line", ["[]", "7", "{}", '{"op_code":4}', '{"op_code":99,"worker_id":"x"}', "x", "[" * 10000,
                                  '{"op_code":8,"worker_id":"x","trial_id":0}', '{"op_code":6,"worker_id":"x","trial_id":0,'
                                  '"state":77,"values":null}', '{"op_code":4,"worker_id":"x","study_id":0,"datetime_start":7}'])
def test_a_journal_with_lines_that_no_search_wrote(wanted, line):
    search.open_study(wanted, create=True)
    content = wanted.journal.read_text() + line + "\n"
    wanted.journal.write_text(content)
    for create in (True, False):
        with pytest.raises(EmambaError, match=r"journal\.log is damaged .*: keep only the lines before, or search into another"):
            search.open_study(wanted, create)
    assert wanted.journal.read_text() == content


def test_a_journal_that_is_none(wanted, tmp_path):
    wanted.out.mkdir()
    wanted.journal.write_text("a diary")
    with pytest.raises(EmambaError, match="does not end like a journal of a search: search into another folder"):
        search.run(wanted, bench=Bench)
    assert wanted.journal.read_text() == "a diary"
    wanted.journal.unlink()
    os.mkfifo(wanted.journal)
    with pytest.raises(EmambaError, match="it is a pipe"):
        search.run(wanted, bench=Bench)


# -- nothing in a storage is taken unchecked ----------------------------------------------------------------------------------


@pytest.mark.parametrize("attributes", [
    {"resumes": "../.."}, {"resumes": -1}, {"resumes": 1}, {"resumes": True}, {"resumes": 0.0}, {"resumes": None, "curve": 7},
    {"curve": ["nan"]}, {"curve": [float("nan")]}, {"cycles": "many"}, {"load": float("inf")}, {"error": [1]}, {"beat": -1},
    {"process": [0, 0]}, {"process": ["x", -1]}, {"process": ["x", 1 << 40]}, {"process": "x"}, {"lost": "x"},
    {"refused": "\x1b[2J"}, {"failed": 7}, {"int": {"rmse": "x"}}, {"float": []}, {"machine": "yes"}, {"dropped": 1},
], ids=str)
def test_attributes_that_no_search_wrote(wanted, attributes):
    begun(wanted, **attributes)
    with pytest.raises(EmambaError, match=r"^trial 0 in .*journal\.log: (process|beat|resumes|lost|dropped|curve|cycles|load|"
                                          r"error|float|int|refused|failed|machine).*; no search wrote that: search into"):
        search.run(wanted, bench=Bench)


@pytest.mark.parametrize("point", [{"model.d_model": 5}, {"model.d_model": "4"}, {"model.d_model": True}, {"model.dt_rank": 1.5},
                                   {"model.dt_rank": 9}, {"model.dt_rank": None}, {"model.d_conv": [2]}, {"x.y": 1}, {"x": 1},
                                   [7], 7])
def test_points_that_no_search_queued(wanted, point):
    search.open_study(wanted, create=True)
    with wanted.journal.open("a") as file:
        file.write(json.dumps({"op_code": 4, "worker_id": "x", "study_id": 0, "datetime_start": None, "state": 4, "value": None,
                               "distributions": {}, "params": {}, "user_attrs": {}, "intermediate_values": {},
                               "system_attrs": {"fixed_params": point}}) + "\n")
    with pytest.raises(EmambaError, match=r"^trial 1 in .*: its point is none of the space; no search wrote that"):
        search.run(wanted, bench=Bench)


def test_values_that_are_not_those_of_the_trial(wanted):
    opened, trial = begun(wanted, process=PROCESS)
    opened._storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [1, 2, 3])
    with pytest.raises(EmambaError, match="its figures are not its values; no search wrote that"):
        search.run(wanted, bench=Bench)


# -- folders ------------------------------------------------------------------------------------------------------------------


def test_a_folder_of_another_search(wanted, tmp_path):
    search.run(wanted, trials=1, bench=Bench)
    with pytest.raises(EmambaError, match=r"the search 'tiny' in .*journal\.log has another space than the file now: undo the"):
        search.run(make(wanted.out, TWO), bench=Bench)
    other = search.Search(wanted.space, "other", wanted.out)
    with pytest.raises(EmambaError, match=r"journal\.log is of the search 'tiny', not of 'other': name another folder with"):
        search.run(other, bench=Bench)
    with pytest.raises(EmambaError, match="holds no search 'other': run it first"):
        search.open_study(other)


def test_a_folder_of_another_study(tmp_path):
    one, two = (make(tmp_path / "run", storage=f"sqlite:///{tmp_path}/{k}.db") for k in range(2))
    search.run(one, trials=1, bench=Bench)
    with pytest.raises(EmambaError, match=r"run is the folder of another search than 'tiny' in sqlite:///.*/1\.db: name another"):
        search.run(two, bench=Bench)
    (tmp_path / "run" / "search.json").write_text("{}")
    with pytest.raises(EmambaError, match=r"search\.json is not what a search writes: name another folder with --out"):
        search.run(one, bench=Bench)


@pytest.mark.parametrize("name", ["trials", "pareto.svg"])
def test_files_that_no_search_wrote_are_kept(wanted, name):
    wanted.out.mkdir()
    (wanted.out / name).touch()
    with pytest.raises(EmambaError, match=f"run holds no search, but '{name}', which a search would write over: name another"):
        search.run(wanted, bench=Bench)
    assert os.listdir(wanted.out) == [name]


def test_a_name_that_no_storage_keeps(wanted):
    with pytest.raises(EmambaError, match=r"a search cannot be named 'a\\udcff\\n' after its file: name it with \[search\] name"):
        search.run(search.Search(wanted.space, "a\udcff\n", wanted.out), bench=Bench)


@pytest.mark.parametrize("trials, workers, sentence", [
    (0, 1, "--trials and --workers must be at least 1, not 0 and 1"), (1, -1, "--trials and --workers must be at least 1, not 1"),
    (10**9, 1, "--trials must be at most 1048576, not 1000000000"),
    (1, 10**9, r"--workers must be at most \d+ here, 8 for each processor, not 1000000000"),
])
def test_counts(wanted, trials, workers, sentence):
    with pytest.raises(EmambaError, match=sentence):
        search.run(wanted, trials, workers, Bench)


# -- databases ----------------------------------------------------------------------------------------------------------------


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize("url, sentence", [
    ("postgresql://me:secret@127.0.0.1:{port}/x",
     "the storage postgresql://me:***@127.0.0.1:{port}/x does not answer (… refused): start it or correct --storage; finished "
     "trials are kept, and the same command goes on"),
    ("postgresql://me@127.0.0.1:{port}/x?password=secret&sslmode=disable",
     "the storage postgresql://me@127.0.0.1:{port}/x?password=***&sslmode=disable does not answer (…"),
    ("postgresql://me:se@cret@/x?host=/nowhere", "the storage postgresql://me:***@/x?host=/nowhere does not answer (…"),
    ("postgresql:///x?host=/nowhere&secret=secret", "the storage postgresql:///x?host=/nowhere&secret=*** does not answer (…"),
    ("mssql+pyodbc:///?odbc_connect=PWD%3Dsecret", "the storage mssql+pyodbc:///?odbc_connect=*** needs a driver …"),
    ("sqlite:////nowhere/search.db",
     "the storage sqlite:////nowhere/search.db does not answer (unable to open database file): …"),
    ("mysql:///x",
     "the storage mysql:///x needs a driver that is not installed (No module named 'MySQLdb'): install it with pip, or search "
     "without --storage"),
    ("postgresql://h:99999999/x", "the storage postgresql://h:99999999/x does not answer (…"),
    ("nosuch://me:secret@h/x", "--storage nosuch://me:***@h/x is no database that is known here (…"),
    ("postgresql://me:secret@h:port/x", "--storage is no URL of a database, …"),
    ("host=h password=secret", "--storage is no URL of a database, …"),
    ("here", "--storage is no URL of a database, such as postgresql://user:password@host/name or sqlite:///search.db"),
])
def test_a_storage_that_does_not_answer(tmp_path, url, sentence):
    port = closed_port()
    pattern = re.escape(sentence.format(port=port)).replace("…", ".*")
    with pytest.raises(EmambaError, match=f"^{pattern}$") as raised:
        search.run(make(tmp_path / "run", storage=url.format(port=port)), bench=Bench)
    assert "secret" not in str(raised.value).replace("&secret=***", "")


def test_what_a_driver_quotes(tmp_path):
    place = storage.Place(tmp_path, "postgresql://me:pass%40word@h/x?password=other&sslkey=key")
    words = place.words(ValueError("cannot use pass@word, pass%40word, other or key of h\nmore"))
    assert words == "cannot use ***, ***, *** or *** of h"


def test_a_database_that_is_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"postgresql+psycopg://me:secret@127.0.0.1:{listener.getsockname()[1]}/x"
        with pytest.raises(EmambaError, match=r"me:\*\*\*@127.* does not answer \(not within 0\.3 seconds\): start it"):
            search.run(make(tmp_path / "run", storage=url), bench=Bench)


def test_a_database_that_becomes_silent(tmp_path, monkeypatch):
    wanted = make(tmp_path / "run", storage=f"sqlite:///{tmp_path}/search.db")
    opened = search.open_study(wanted, create=True)
    monkeypatch.setattr(storage, "PATIENCE", 0.1)
    opened._storage._storage.get_all_trials = lambda *_: time.sleep(60)
    for _ in range(2):
        with pytest.raises(EmambaError, match=r"does not answer \(not within 0\.1 seconds\)"):
            opened.get_trials()
