"""Architecture search: points of a space are trained as small proxies and measured by the integer model and the cost model.

The folder `out` receives
    journal.log       the study, unless a storage is named
    trials/<number>   checkpoint of each trial's proxy, as `emamba train` writes it
    search.json       what is known of every trial
    pareto.svg        the trials, and those that none is better than in every objective

Optuna's multi-objective TPE proposes the points. A trial first learns its costs, from weights that are not trained; one that
breaks a limit, or that no device holds, ends there. All of this is our choice. docs/search.md says how to use it.
"""

import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import warnings
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from rtl.devices import find
from rtl.plan import Request, at
from rtl.schedule import MAX_CYCLES, Schedule

from . import datasets
from .artifact import Artifact, Codec
from .config import QuantizeConfig, Recipe
from .datasets import Dataset
from .datasets.metrics import error_of, figures
from .datasets.tokens import executor_tokens
from .errors import EmambaError
from .executors import make_executor, predict
from .network import Mamba
from .quantize import quantize, read_checkpoint
from .space import Point, Range, Space
from .training import Scaling, train

Array = np.ndarray

SAMPLE = 64
"""Sequences by which the weights that are not trained are calibrated, for the costs."""
FAILURES = 5
"""Trials that fail one after another before the search gives up."""
NEIGHBOURS = 2000
"""Points beside a known one that are looked at for a new one."""
ANSWER_SECONDS = 10
PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521}

optuna.logging.set_verbosity(optuna.logging.CRITICAL)


class Refused(Exception):
    """A point that is not trained, or not to its end, with the sentence why."""


@dataclass(frozen=True)
class Search:
    """A space, the folder of its trials, and where the study is kept: a URL of Optuna, None for a journal in the folder."""

    space: Space
    name: str
    out: Path
    storage: str | None = None
    data_dir: Path | None = None

    @property
    def journal(self) -> Path:
        return self.out / "journal.log"

    @property
    def place(self) -> str:
        """The storage for a sentence, without a password."""
        if self.storage is None:
            return str(self.journal)
        return make_url(self.storage).render_as_string(hide_password=True)

    def folder(self, trial: Trial | FrozenTrial) -> Path:
        """Where the proxy of a trial is, which goes on with that of an interrupted one."""
        return self.out / "trials" / str(trial.user_attrs.get("resumes", trial.number))


def run(search: Search, trials: int | None = None, workers: int = 1) -> optuna.Study:
    """Searches until `trials` are finished, those of earlier runs included, in so many processes of one thread each."""
    trials = search.space.search.trials if trials is None else trials
    if trials < 1 or workers < 1:
        raise EmambaError(f"--trials and --workers must be at least 1, not {trials} and {workers}")
    find(search.space.hardware.device)
    data = proxy_data(search.space, search.data_dir)
    study = open_study(search, create=True)
    with answering(search):
        study.set_user_attr("unit", data.unit)
        _release(study)
        with _progress(search, trials):
            if workers == 1:
                work(search, trials)
            else:
                _processes(search, trials, workers)
        if not best(study):
            told = [trial.user_attrs["refused"] for trial in finished(study) if "refused" in trial.user_attrs]
            raise EmambaError(f"none of the {len(finished(study))} points that were tried is feasible; the last was refused "
                              f"since {told[-1]}; widen [space], raise [limits], or name a larger [hardware] device")
    return study


def proxy_data(space: Space, directory: Path | None) -> Dataset:
    """The share of the training part that trials see. The validation part stands in for the test part, which no trial sees."""
    data, settings = datasets.load(space.data.name, space.data.split, directory), space.search
    if not len(data.x_train):
        raise EmambaError(f"data set {data.name} ({data.note}) has no training part here: {data.train_remedy}")
    if not len(data.x_validate):
        raise EmambaError(f"data set {data.name} has no validation part, by which a search judges its points")
    count = max(1, round(settings.share * len(data.x_train)))
    keep = np.random.default_rng(settings.seed).permutation(len(data.x_train))[:count]
    if space.model.task == "next_token":
        keep = np.arange(count)  # a text stays a text
    x, y = data.x_validate[:settings.validate_frames], data.y_validate[:settings.validate_frames]
    return replace(data, note=f"{data.note}, search: {count} training sequences, validation part as test part",
                   x_train=data.x_train[keep], y_train=data.y_train[keep], x_validate=x, y_validate=y, x_test=x, y_test=y,
                   test_subject=None)


# -- the study ----------------------------------------------------------------------------------------------------------------


def open_study(search: Search, create: bool = False) -> optuna.Study:
    """The study of a search; a new one starts with the recipe, if that is a point of the space."""
    space = json.dumps(search.space.model_dump(mode="json", exclude={"search": {"trials"}}), sort_keys=True)
    with answering(search):
        storage = _storage(search, create)
        try:
            study = optuna.create_study(storage=storage, study_name=search.name, load_if_exists=True,
                                        directions=["minimize"] * len(search.space.search.objectives)) if create else \
                optuna.load_study(study_name=search.name, storage=storage)
        except KeyError:
            raise EmambaError(f"{search.place} holds no search '{search.name}': run it first") from None
        known = study.user_attrs.get("space")
        if known is None:
            study.set_user_attr("space", space)
            if search.space.start is not None:
                study.enqueue_trial(search.space.start, skip_if_exists=True)
        elif known != space:
            raise EmambaError(f"the search '{search.name}' in {search.place} has another space than the file now: undo the "
                              "change, or give the search another name ([search] name) and another --out")
    return study


def _storage(search: Search, create: bool) -> optuna.storages.BaseStorage:
    if search.storage is None:
        if not create and not search.journal.is_file():
            raise EmambaError(f"{search.out} holds no search: it has no {search.journal.name}; run the search first")
        try:
            search.out.mkdir(parents=True, exist_ok=True)
            return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(search.journal)))
        except OSError as error:
            raise EmambaError(f"cannot write {search.journal}: {error.strerror}; name another folder with --out") from None
        except (ValueError, KeyError) as error:
            raise EmambaError(f"{search.journal} is damaged ({error}): delete its last line if that is cut off, or search into "
                              "another folder") from None
    try:
        url = make_url(search.storage)
    except ArgumentError:
        raise EmambaError("--storage is no URL of a database, such as postgresql://user:password@host/name or "
                          "sqlite:///search.db") from None
    port = url.port or PORTS.get(url.get_backend_name())
    if url.host and port:  # drivers wait much longer
        socket.create_connection((url.host, port), ANSWER_SECONDS).close()
    try:
        return optuna.storages.RDBStorage(search.storage)
    except ImportError as error:
        raise EmambaError(f"the storage {search.place} needs a driver that is not installed ({error.__cause__ or error}): "
                          "install it with pip, or search without --storage") from None


@contextmanager
def answering(search: Search) -> Iterator[None]:
    """Makes one sentence of what a storage has to say when it does not answer."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError, OSError) as error:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) and error.__cause__ else error
        words = str(getattr(cause, "orig", None) or cause).strip().split("\n")[0]
        raise EmambaError(f"the storage {search.place} does not answer ({words}): start it or correct --storage; finished trials "
                          "are kept, and the same command goes on") from None


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that count: complete, refused or failed. Interrupted ones and repetitions fail too, but without a sentence."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    return [trial for trial in study.get_trials(deepcopy=False, states=states)
            if trial.state != TrialState.FAIL or "failed" in trial.user_attrs]


def best(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that none is better than in every objective, the cheapest first."""
    return sorted(study.best_trials, key=lambda trial: (*trial.values[1:], trial.values[0], trial.number))


def _release(study: optuna.Study) -> None:
    """Trials of processes of this machine that are gone are tried again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        owner = trial.user_attrs.get("process")
        if owner and owner[0] == socket.gethostname() and (owner[1] == os.getpid() or not _alive(owner[1])):
            _again(study, trial)


def _again(study: optuna.Study, trial: Trial | FrozenTrial) -> None:
    """Ends an interrupted trial and queues its point, to go on in the same folder."""
    study.enqueue_trial(trial.params, user_attrs={"resumes": trial.user_attrs.get("resumes", trial.number)})
    study.tell(trial.number, state=TrialState.FAIL)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def _progress(search: Search, trials: int) -> Iterator[None]:
    """A line on a terminal that is rewritten as the search goes on; nothing in a pipe."""
    if not sys.stderr.isatty():
        yield
        return
    study, over = open_study(search), threading.Event()

    def show() -> None:
        while not over.wait(1):
            with suppress(Exception):  # the workers report what is wrong with the storage
                print(f"\r{_line(study, search.space, trials)}\x1b[K", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
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


# -- workers ------------------------------------------------------------------------------------------------------------------


def work(search: Search, trials: int, worker: int = 0) -> None:
    """Trial after trial, until `trials` are finished or under way, or every point was tried."""
    torch.set_num_threads(1)
    study, data, failed = open_study(search), proxy_data(search.space, search.data_dir), 0
    with answering(search):
        while True:
            every = study.get_trials(deepcopy=False)
            running = sum(trial.state == TrialState.RUNNING for trial in every)
            if len(finished(study)) + running >= trials or len(_known(every)) >= search.space.size:
                return
            random = np.random.default_rng([search.space.search.seed, worker, len(every)])
            study.sampler = TPESampler(seed=int(random.integers(1 << 31)))
            trial = study.ask()
            trial.set_user_attr("process", [socket.gethostname(), os.getpid()])
            point = _point(search.space, trial)
            known = _known(study.get_trials(deepcopy=False)[:trial.number])
            if _key(point) in known and "resumes" not in trial.user_attrs:
                study.tell(trial, state=TrialState.FAIL)
                if not _propose(study, search.space, point, known, random):
                    return
                continue
            sentence = _attempt(search, study, trial, point, data)
            failed = failed + 1 if sentence else 0
            if failed == FAILURES:
                raise EmambaError(f"{FAILURES} trials failed one after another, the last one since {sentence}; finished trials "
                                  "are kept, and the same command goes on")


def _attempt(search: Search, study: optuna.Study, trial: Trial, point: Point, data: Dataset) -> str | None:
    """One trial to its end; returns the sentence of a failure."""
    try:
        values = measure(search, study, trial, point, data)
    except Refused as refusal:
        trial.set_user_attr("refused", str(refusal))
        study.tell(trial, state=TrialState.PRUNED)
    except (EmambaError, RuntimeError, MemoryError, OSError) as error:
        sentence = str(error).split("\n")[0] or type(error).__name__
        trial.set_user_attr("failed", sentence)
        study.tell(trial, state=TrialState.FAIL)
        return sentence
    except KeyboardInterrupt:
        _again(study, trial)
        raise
    else:
        study.tell(trial, [values[name] for name in search.space.search.objectives])
    return None


def _point(space: Space, trial: Trial) -> Point:
    point = {}
    for name, values in space.parameters.items():
        if not isinstance(values, Range):
            point[name] = trial.suggest_categorical(name, list(values))
        elif values.whole:
            point[name] = trial.suggest_int(name, values.low, values.high, step=values.step or 1, log=values.log)
        else:
            point[name] = trial.suggest_float(name, values.low, values.high, step=values.step, log=values.log)
    return point


def _key(point: Point) -> str:
    return json.dumps(point, sort_keys=True)


def _known(trials: list[FrozenTrial]) -> set[str]:
    return {_key(trial.params) for trial in trials if trial.params}


def _propose(study: optuna.Study, space: Space, point: Point, known: set[str], random: np.random.Generator) -> bool:
    """Queues a point beside a known one that is not known; False where there is none."""
    for _, other in zip(range(NEIGHBOURS), space.neighbours(point, random), strict=False):
        if _key(other) not in known:
            study.enqueue_trial(other)
            return True
    return False


def _processes(search: Search, trials: int, workers: int) -> None:
    """`work` in so many processes; the first sentence of one ends all."""
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    before = {name: os.environ.get(name) for name in threads}
    context = multiprocessing.get_context("spawn")
    sentences = context.SimpleQueue()
    processes = [context.Process(target=_child, args=(search, trials, k, sentences)) for k in range(workers)]
    os.environ.update(threads)
    try:
        for process in processes:
            process.start()
        for process in processes:
            while process.is_alive() and sentences.empty():
                process.join(0.2)
        if not sentences.empty():
            raise EmambaError(sentences.get())
        for k, process in enumerate(processes):
            if process.exitcode:
                raise EmambaError(f"worker {k} ended with the exit status {process.exitcode}: with less --workers there is more "
                                  "memory for each; finished trials are kept, and the same command goes on")
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        for process in processes:
            if process.is_alive():
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGINT)
                process.join(ANSWER_SECONDS)
                process.terminate()
            process.join()


def _child(search: Search, trials: int, worker: int, sentences) -> None:
    try:
        work(search, trials, worker)
    except EmambaError as error:
        sentences.put(str(error))
    except KeyboardInterrupt:
        pass


# -- a trial ------------------------------------------------------------------------------------------------------------------


def measure(search: Search, study: optuna.Study, trial: Trial, point: Point, data: Dataset) -> dict[str, float]:
    """The objectives of a point: costs, proxy training, error of the integer model."""
    space = search.space
    try:
        recipe, settings = space.at(point)
        costs = point_costs(space, recipe, settings, data)
        for name, value in costs.items():
            trial.set_user_attr(name, value)
        for name, limit in space.limits.items():
            if costs[name] > limit:
                raise EmambaError(f"{name} = {costs[name]:.6g} exceeds the limit of {limit:.6g}")
    except EmambaError as error:
        raise Refused(str(error)) from None

    def watch(history: list[dict]) -> None:
        curve = [error_of(recipe.model.task, entry) for entry in history]
        trial.set_user_attr("curve", curve)
        if len(curve) in space.rungs and len(curve) < recipe.train.epochs:
            others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
            beaten_by = rivals(space, curve, costs, others)
            if len(beaten_by) >= space.search.rivals:
                raise Refused(f"after {len(curve)} epochs trials {', '.join(map(str, beaten_by[:3]))} were better at no higher "
                              "cost")

    folder = search.folder(trial)
    if not (folder / "checkpoint.json").exists():
        train(recipe, folder, progress=False, threads=1, data=data, watch=watch)
    recipe, weights, codec, _ = read_checkpoint(folder)
    tokens = executor_tokens(data.x_train[:settings.calibration_frames(recipe.model.tokens)], recipe.model)
    artifact = quantize(str(trial.number), recipe.model, weights, codec, tokens, settings)
    for backend in ("float", "int"):
        values = predict(artifact, backend, make_executor(artifact, backend), executor_tokens(data.x_validate, recipe.model))
        measured = figures(recipe.model.task, values, data.y_validate, data.unit_scale)
        trial.set_user_attr(backend, measured)
    error = error_of(recipe.model.task, measured)
    trial.set_user_attr("error", error)
    return costs | {"error": error}


def rivals(space: Space, curve: list[float], costs: dict[str, float], others: list[FrozenTrial]) -> list[int]:
    """Numbers of the trials that cost no more and were clearly better after as many epochs."""
    found = []
    for other in others:
        theirs = other.user_attrs.get("curve", [])
        cheaper = all(other.user_attrs.get(name, np.inf) <= costs[name] for name in space.costs)
        if cheaper and len(theirs) >= len(curve) and min(theirs[:len(curve)]) * (1 + space.search.margin) < min(curve):
            found.append(other.number)
    return found


def point_costs(space: Space, recipe: Recipe, settings: QuantizeConfig, data: Dataset) -> dict[str, float]:
    """parameters; multiplies and cycles a frame; cycles a token; load. Of weights that are not trained: costs follow from shapes
    and formats nearly alone."""
    torch.manual_seed(recipe.train.seed)
    model, scaling = Mamba(recipe.model), Scaling.measure(recipe, data)
    width = recipe.model.input_width
    mean, std = (None if value is None else np.resize(value, width) for value in (scaling.mean, scaling.std))
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    artifact = quantize("costs", recipe.model, weights, Codec(mean, std, scaling.scale, scaling.offset),
                        executor_tokens(data.x_train[:SAMPLE], recipe.model), settings)
    hardware = space.hardware
    request = Request(device=find(hardware.device), fill=hardware.fill)
    schedule = fastest(artifact, request)
    return {
        "parameters": sum(value.size for value in weights.values()),
        "multiplies": Schedule(artifact, hardware.cycles_per_token).multiplies_per_frame,
        "cycles": schedule.cycles_per_frame, "cycles_per_token": schedule.period,
        "load": at(artifact, hardware.cycles_per_token, request).load,
    }


def fastest(artifact: Artifact, request: Request) -> Schedule:
    """The smallest T from 2 that fits the device. T = 1 is left out: there the weights are the circuit, and these are not
    trained."""
    found, slowest = {}, Schedule(artifact, MAX_CYCLES).period

    def fits(cycles: int) -> bool:
        found[cycles] = at(artifact, cycles, request)
        return found[cycles].load <= request.fill

    low, high = 2, 2
    while not fits(high):
        if high >= slowest:
            raise EmambaError(f"{request.device.name} is too small: at {slowest} cycles per token the design takes an estimated "
                              f"{found[high].load:.0%} of its scarcest resource, more than {request.fill:.0%}")
        low, high = high + 1, min(2 * high, slowest)
    cycles = low + bisect_left(range(low, high), True, key=fits)
    return found[cycles].schedule


# -- a point becomes an artifact ----------------------------------------------------------------------------------------------


def checkpoint(search: Search, number: int, epochs: int | None = None, threads: int | None = None) -> tuple[Path, QuantizeConfig]:
    """The checkpoint of a trial, its proxy's or after a training of so many epochs on all frames, and how it is quantized."""
    study = open_study(search)
    with answering(search):
        found = [trial for trial in finished(study) if trial.number == number]
    if not found or "parameters" not in found[0].user_attrs:
        told = f": {found[0].user_attrs.get('refused', '')}".rstrip(": ") if found else ""
        raise EmambaError(f"the search '{search.name}' in {search.place} has no trial {number} that became a model{told}; "
                          "`emamba search … --show` lists the best")
    recipe, settings = search.space.at(found[0].params)
    if epochs is None:
        folder = search.folder(found[0])
        if not (folder / "checkpoint.json").is_file():
            raise EmambaError(f"{folder} holds no finished proxy of trial {number}: copy it from the machine that trained it, or "
                              "train in full with --epochs")
        return folder, settings
    folder = search.out / "picked" / f"{number}_{epochs}"
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": epochs})})
    if not (folder / "checkpoint.json").is_file():
        train(recipe, folder, search.data_dir, threads=threads)
    return folder, settings
