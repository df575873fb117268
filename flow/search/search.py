"""Architecture search: points of a space are trained as small proxies and measured by the integer model and the cost model.

Optuna's multi-objective TPE proposes the points. Any number of processes, of any number of machines, work on one study: whatever
ends one of them, at any time, its trial is tried again. docs/model-search.md says how to use it.
"""

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from emamba.base.door import ending_on_signals
from emamba.base.errors import DesignLimit, Diverged, EmambaError, InputError, SettingError
from emamba.config import QuantizeConfig, Recipe, validate

from .leases import Watch, me, renewed
from .space import Point, Range, Space
from .storage import StorageError, plain
from .study import COUNTED, Refused, Search, again, best, end, failed, finished, open_study, prepare, release, taken
from .workers import together

__all__ = ["Search", "best", "checkpoint", "failed", "finished", "missing", "open_study", "run"]

FAILURES = 5
"""Trials that fail one after another before the search gives up."""
NEIGHBOURS = 2000
"""Points beside a known one that are looked at for a new one."""
COUNTABLE = 1 << 20
"""Points of a space in which one that is left is looked for among all."""
MOST_TRIALS = 1 << 20
MOST_THREADS = 1024
WORKERS = 8
"""Processes for each processor, at most."""
PAUSE = 1.0
"""Seconds between two looks at the trials of others."""
MOMENT = 5.0
"""Seconds in which a process that took a trial has chosen its point, or is gone."""


def run(search: Search, trials: int | None = None, workers: int = 1, bench: Callable | None = None) -> optuna.Study:
    """Searches until `trials` are finished, earlier runs' included, in `workers` processes of one thread each.

    `bench` makes what measures points from the search: by default `trials.Bench`.
    """
    trials = search.space.search.trials if trials is None else trials
    _check_counts(trials, workers)
    bench = bench or _bench
    unit = bench(search).unit
    study = open_study(search, create=True)
    if study.user_attrs.get("unit") != unit:
        study.set_user_attr("unit", unit)
    prepare(search, study)
    with ending_on_signals(), _progress(search, trials):
        if workers == 1:
            work(search, trials, bench)
        else:
            together(partial(work, search, trials, bench), workers, lambda: len(finished(study)))
    if not best(study):
        raise DesignLimit(_fruitless(study))
    return study


def _check_counts(trials: int, workers: int) -> None:
    most = WORKERS * max(2, os.cpu_count() or 1)
    if trials < 1 or workers < 1:
        raise SettingError(f"--trials and --workers must be at least 1, not {trials} and {workers}")
    if trials > MOST_TRIALS:
        raise SettingError(f"--trials must be at most {MOST_TRIALS}, not {trials}")
    if workers > most:
        raise SettingError(f"--workers must be at most {most} here, {WORKERS} for each processor, not {workers}")


def _bench(search: Search):
    from .trials import Bench  # and torch, which no one else needs

    return Bench(search)


def _fruitless(study: optuna.Study) -> str:
    """Why the last trials gave no model."""
    refused = [trial.user_attrs["refused"] for trial in finished(study) if "refused" in trial.user_attrs]
    broken = [trial.user_attrs["failed"] for trial in failed(study)]
    machines = any(trial.user_attrs.get("machine") for trial in failed(study))
    told = ([f"the last was refused since {refused[-1]}"] if refused else []) + (
        [f"the last {'one that failed did so' if refused else 'failed'} since {broken[-1]}"] if broken else [])
    remedy = "the same command tries again what failed" if machines else \
        "widen [space], raise [limits], or name a larger [hardware] device" if refused else \
        "correct [train] or [space], and search into another folder"
    return (f"none of the {len(refused) + len(broken)} points that were tried {'is feasible' if refused else 'became a model'}; "
            f"{'; '.join(told)}; {remedy}")


def missing(search: Search, study: optuna.Study, trials: int | None) -> str | None:
    """Why fewer trials are finished than were asked for, where it is not that they are all points of the space."""
    trials = search.space.search.trials if trials is None else trials
    done, broken = len(finished(study)), failed(study)
    if done >= min(trials, search.space.size):
        return None
    return (f"{done} of {trials} trials are finished, and the space has no more points: {len(broken)} failed"
            + (f", the last one since {broken[-1].user_attrs['failed']}" if broken else ""))


@contextmanager
def _progress(search: Search, trials: int) -> Iterator[None]:
    """A line on a terminal that is rewritten as the search goes on; nothing in a pipe."""
    if not sys.stderr.isatty():
        yield
        return
    study, over = open_study(search), threading.Event()

    def show() -> None:
        while not over.wait(1):
            with suppress(StorageError):  # the workers report it
                print(f"\r{_line(study, search.space, trials)}\x1b[K", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(1)
        print(file=sys.stderr)


def _line(study: optuna.Study, space: Space, trials: int) -> str:
    every = study.get_trials(deepcopy=False)
    errors = [trial.user_attrs["error"] for trial in every if "error" in trial.user_attrs]
    words = [f"{len(finished(study))} of {trials} trials"] + ([f"least error {min(errors):.4g}"] if errors else [])
    for trial in every:
        if trial.state == TrialState.RUNNING:
            curve = trial.user_attrs.get("curve", [])
            words.append(f"{trial.number}: epoch {len(curve)} of {space.train.epochs}" + (f", {min(curve):.4g}" if curve else ""))
    return "; ".join(words)[:200]


# -- a worker -----------------------------------------------------------------------------------------------------------------


def work(search: Search, trials: int, bench: Callable, worker: int = 0) -> None:
    """Trial after trial, until `trials` are finished or every point was tried; waits for other processes' trials."""
    bench, study, watch = bench(search), open_study(search), Watch()
    failures = tries = 0
    while True:
        release(study, watch)
        every = study.get_trials(deepcopy=False)
        done, under_way, queued = (sum(trial.state in states for trial in every)
                                   for states in (COUNTED, (TrialState.RUNNING,), (TrialState.WAITING,)))
        left = queued or len(taken(search.space, every)) < search.space.size
        if done >= trials or (not left and not under_way):
            return
        if done + under_way >= trials or not left:
            time.sleep(PAUSE)
            continue
        decided = done + sum("failed" in trial.user_attrs for trial in every)
        random = np.random.default_rng([search.space.search.seed, worker, decided, tries])
        trial, point = _take(search, study, trials, random)
        tries = tries + 1 if trial is None else 0
        sentence = _attempt(search, study, trial, point, bench) if trial else None
        failures = failures + 1 if sentence else failures if trial is None else 0
        if failures == FAILURES:
            raise DesignLimit(f"{FAILURES} trials failed one after another, the last one since {sentence}; finished trials are "
                              "kept, and the same command goes on")


def _take(search: Search, study: optuna.Study, trials: int, random: np.random.Generator) -> tuple[Trial | None, Point]:
    """A trial and its point, from the queue or from the sampler; None where another has the point, or enough are under way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of `multivariate`
        study.sampler = TPESampler(seed=int(random.integers(1 << 31)), multivariate=True)
    trial = study.ask()
    try:
        trial.set_user_attr("beat", 0)
        trial.set_user_attr("process", me())
        point = _point(search.space, trial)
        others, resumed = _settled(search.space, study, trial), "resumes" in trial.user_attrs
        before = [other for other in others if other.state != TrialState.RUNNING or other.number < trial.number]
        if sum(other.state in (*COUNTED, TrialState.RUNNING) for other in before) >= trials:
            _put_back(study, trial)
        elif search.space.key(point) in taken(search.space, before, resumed):
            end(study, trial, state=TrialState.FAIL, dropped=True)
            if not resumed:
                _propose(study, search.space, point, taken(search.space, others), random)
        else:
            return trial, point
    except UpdateFinishedTrialError:
        pass  # it was taken over, since this process did not go on for so long
    return None, {}


def _put_back(study: optuna.Study, trial: Trial) -> None:
    """Ends a trial more than there should be; a queued point goes back to the queue."""
    own = study.get_trials(deepcopy=False)[trial.number]
    if own.system_attrs.get("fixed_params"):
        again(study, own)
    else:
        end(study, own, state=TrialState.FAIL, dropped=True)


def _settled(space: Space, study: optuna.Study, trial: Trial) -> list[FrozenTrial]:
    """The other trials, as soon as the earlier ones under way have chosen their points."""
    late = time.monotonic() + MOMENT
    while True:
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        choosing = any(other.state == TrialState.RUNNING and other.number < trial.number
                       and len(other.params) < len(space.parameters) for other in others)
        if not choosing or time.monotonic() > late:
            return others
        time.sleep(0.05)


def _attempt(search: Search, study: optuna.Study, trial: Trial, point: Point, bench) -> str | None:
    """One trial to its end; returns the sentence of a failure."""
    try:
        with renewed(trial):
            values = bench.measure(study, trial, point)
        end(study, trial, [values[name] for name in search.space.search.objectives])
    except UpdateFinishedTrialError:
        return None  # it was taken over
    except Refused as refusal:
        end(study, trial, state=TrialState.PRUNED, refused=plain(str(refusal)))
    except StorageError:
        raise
    except (EmambaError, RuntimeError, MemoryError, OSError) as error:
        sentence = plain(str(error)) or type(error).__name__
        end(study, trial, state=TrialState.FAIL, failed=sentence, machine=_is_machines(error))
        return sentence
    except BaseException:
        again(study, study.get_trials(deepcopy=False)[trial.number])
        raise
    return None


def _is_machines(error: BaseException) -> bool:
    """Whether a failure may be one of this machine, and not of the point."""
    return not isinstance(error, SettingError | DesignLimit | Diverged)


def _point(space: Space, trial: Trial) -> Point:
    point = {}
    for name, values in space.parameters.items():
        if not isinstance(values, Range):
            point[name] = trial.suggest_categorical(name, list(values))
        elif values.whole:
            point[name] = trial.suggest_int(name, values.low, values.last, step=values.step or 1, log=values.log)
        else:
            point[name] = trial.suggest_float(name, values.low, values.last, step=values.step, log=values.log)
    return point


def _propose(study: optuna.Study, space: Space, point: Point, known: set[str], random: np.random.Generator) -> None:
    """Queues a point that is not known, beside one that is."""
    near = (other for _, other in zip(range(NEIGHBOURS), space.neighbours(point, random), strict=False))
    new = next((other for other in near if space.key(other) not in known), None)
    if new is None and space.size <= COUNTABLE:
        new = next((other for other in space.points() if space.key(other) not in known), None)
    if new is not None:
        study.enqueue_trial(new)


# -- a point becomes an artifact ----------------------------------------------------------------------------------------------


def checkpoint(search: Search, number: int, epochs: int | None = None, threads: int | None = None) -> tuple[Path, QuantizeConfig]:
    """The checkpoint of a trial, its proxy's or one trained on all frames for `epochs`, and how it is quantized."""
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise SettingError(f"--threads must lie in 1..{MOST_THREADS}, not {threads}")
    study = open_study(search)
    found = [trial for trial in finished(study) + failed(study) if trial.number == number]
    if not found or "parameters" not in found[0].user_attrs:
        known = found[0].user_attrs if found else {}
        told = f": {known.get('refused', known.get('failed', ''))}".rstrip(": ")
        raise InputError(f"the search '{search.name}' in {search.place} has no trial {number} that became a model{told}; "
                         "`emamba search … --show` lists the best")
    recipe, settings = search.space.at(found[0].params)
    if epochs is None:
        folder = search.folder(found[0])
        if not (folder / "checkpoint.json").is_file():
            raise InputError(f"{folder} holds no finished proxy of trial {number}: copy it from the machine that trained it, or "
                             "train in full with --epochs")
        return folder, settings
    folder = search.out / "picked" / f"{number}_{epochs}"
    recipe = validate(Recipe, recipe.model_dump() | {"train": recipe.train.model_dump() | {"epochs": epochs}}, "--epochs")
    if not (folder / "checkpoint.json").is_file():
        from emamba.training.loop import train

        train(recipe, folder, search.data_dir, threads=threads)
    return folder, settings
