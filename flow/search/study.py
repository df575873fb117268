"""A search and its study: what the trials say of themselves, which count, which are queued again, and which are the best.

The folder `out` receives
    journal.log       the study, unless a storage is named
    trials/<number>   checkpoint of each trial's proxy, as `emamba train` writes it
    search.json       which study the folder is of; at the end also all that is known of every trial
    pareto.svg        the trials, and those that none is better than in every objective
"""

import json
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from pydantic import BaseModel, ConfigDict, Field

from emamba.base.errors import InputError, OutputError, SettingError
from emamba.config import validate
from emamba.io.files import read_text, write_file

from .leases import Watch, is_gone, me
from .space import Point, Space
from .storage import Place, StorageError, connect, plain

SETTLE = 0.5
"""Seconds after which machines that make the same study at once see the same."""
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
LOSSES = 10
"""Processes that may end before a trial does, in one run, until it counts as failed."""

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
    def place(self) -> Place:
        return Place(self.journal, self.storage)

    def folder(self, trial: Trial | FrozenTrial) -> Path:
        """Checkpoint folder of a trial's proxy; a resumed trial reuses the interrupted one's."""
        return self.out / "trials" / str(_root(trial))


Whole = Annotated[int, Field(strict=True, ge=0, lt=1 << 63)]
Figure = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Words = Annotated[str, Field(strict=True, max_length=5000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Process = Annotated[int, Field(strict=True, ge=1, lt=1 << 31)]


class Attributes(BaseModel):
    """What a trial says of itself."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    process: tuple[Words, Process] | tuple[Words, Process, Whole, Words] | None = Field(None, description="see `leases.me`")
    beat: Whole = Field(0, description="renewals of its lease")
    resumes: Whole | None = Field(None, description="number of the first trial of the same point, whose folder it goes on in")
    lost: Whole = Field(0, description="processes that ended before it, in this run")
    dropped: bool = Field(False, strict=True, description="its point was known, or enough trials were under way")
    curve: tuple[Figure, ...] = Field((), description="error of the proxy after each epoch")
    parameters: Whole | None = None
    multiplies: Whole | None = None
    cycles: Whole | None = None
    cycles_per_token: Whole | None = None
    load: Figure | None = None
    float_figures: dict[Words, Figure] | None = Field(None, alias="float")
    int_figures: dict[Words, Figure] | None = Field(None, alias="int")
    error: Figure | None = None
    refused: Words | None = Field(None, description="why the point was not trained, or not to its end")
    failed: Words | None = Field(None, description="why the trial failed")
    machine: bool = Field(False, strict=True, description="the failure may not be the point's: the next run tries it again")


FIGURES = ("parameters", "multiplies", "cycles", "cycles_per_token", "load", "error")


def examine(search: Search, trial: FrozenTrial) -> None:
    """Refuses a trial that no search wrote: a storage is open to others, and nothing in it is taken unchecked."""
    where, space, attributes = f"trial {trial.number} in {search.place}", search.space, trial.user_attrs
    try:
        validate(Attributes, attributes, where)
        if attributes.get("resumes", 0) > trial.number:
            raise InputError(f"{where}: resumes: a later trial")
        point = trial.params or trial.system_attrs.get("fixed_params", {})
        whole = trial.state in COUNTED
        if not space.holds(point) or (whole and len(point) < len(space.parameters)):
            raise InputError(f"{where}: its point is none of the space")
        if trial.state == TrialState.COMPLETE and (
                None in map(attributes.get, FIGURES) or trial.values != [attributes[name] for name in space.search.objectives]):
            raise InputError(f"{where}: its figures are not its values")
    except (InputError, SettingError) as error:
        raise StorageError(f"{error}; no search wrote that: search into another folder, or under another [search] name") from None


# -- opening ------------------------------------------------------------------------------------------------------------------


def open_study(search: Search, create: bool = False) -> optuna.Study:
    """The study of a search; a new one starts with the recipe, if that is a point of the space."""
    if plain(search.name) != search.name:
        raise SettingError(f"a search cannot be named {search.name!r} after its file: name it with [search] name")
    space = json.dumps(search.space.model_dump(mode="json", exclude={"search": {"trials"}}), sort_keys=True)
    _check_folder(search, create)
    storage = connect(search.place, partial(examine, search))
    study = _create(search, storage) if create else _load(search, storage)
    known = study.user_attrs.get("space")
    if known is None and create:
        study.set_user_attr("study", uuid.uuid4().hex)
        if search.storage is not None:
            time.sleep(SETTLE)
        if search.space.start is not None:
            study.enqueue_trial(search.space.start, skip_if_exists=True)
        study.set_user_attr("space", space)  # last, so that an interruption leaves out nothing
    elif known != space:
        raise SettingError(f"the search '{search.name}' in {search.place} has another space than the file now: undo the change, "
                           "or give the search another name ([search] name) and another --out")
    _check_study(search, study)
    return study


def _create(search: Search, storage: BaseStorage) -> optuna.Study:
    others = {study.study_name for study in storage.get_all_studies()} - {search.name}
    if search.storage is None and others:
        raise OutputError(f"{search.journal} is of the search '{min(others)}', not of '{search.name}': name another folder with "
                          "--out, or the search as before ([search] name)")
    return optuna.create_study(storage=storage, study_name=search.name, load_if_exists=True,
                               directions=["minimize"] * len(search.space.search.objectives))


def _load(search: Search, storage: BaseStorage) -> optuna.Study:
    try:
        return optuna.load_study(study_name=search.name, storage=storage)
    except KeyError:
        raise InputError(f"{search.place} holds no search '{search.name}': run it first") from None


def _check_folder(search: Search, create: bool) -> None:
    """Refuses a folder of another search, and one with files that no search wrote, where this one would write over them."""
    marker = search.out / "search.json"
    if search.storage is None and not create and not search.journal.is_file():
        raise InputError(f"{search.out} holds no search: it has no {search.journal.name}; run the search first")
    if marker.exists():
        name = _marked(marker).get("name")
        if name != search.name:
            raise OutputError(f"{search.out} is the folder of the search '{name}', not of '{search.name}': name another with "
                              "--out")
    elif not search.journal.is_file():
        for name in ("trials", "picked", "pareto.svg"):
            if (search.out / name).exists():
                raise OutputError(f"{search.out} holds no search, but '{name}', which a search would write over: name another "
                                  "folder with --out")


def _check_study(search: Search, study: optuna.Study) -> None:
    """Refuses a study that no search wrote, and a database's that is not the one of this folder; marks a new folder."""
    if study.directions != [optuna.study.StudyDirection.MINIMIZE] * len(search.space.search.objectives):
        raise StorageError(f"the search '{search.name}' in {search.place} does not minimize its objectives; no search wrote "
                           "that: give the search another name ([search] name) and another --out")
    if search.storage is None:
        return  # the folder has the study
    marker, key = search.out / "search.json", study.user_attrs.get("study")
    known = _marked(marker).get("study", key) if marker.exists() else None
    if known is None:
        text = json.dumps({"name": search.name, "study": key, "trials": []}, indent=1, ensure_ascii=False)
        write_file(marker, lambda path: path.write_text(f"{text}\n", encoding="utf-8"))
    elif known != key:
        raise OutputError(f"{search.out} is the folder of another search than '{search.name}' in {search.place}: name another "
                          "folder with --out")


def _marked(marker: Path) -> dict:
    """What search.json says of its search."""
    try:
        found = json.loads(read_text(marker, 1 << 30))
        if not (isinstance(found, dict) and isinstance(found.get("name"), str) and isinstance(found.get("trials"), list)):
            raise ValueError("no search")
    except (ValueError, RecursionError):
        raise OutputError(f"{marker} is not what a search writes: name another folder with --out") from None
    return found


# -- the trials ---------------------------------------------------------------------------------------------------------------


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that count: complete, or refused with a sentence."""
    return study.get_trials(deepcopy=False, states=COUNTED)


def failed(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that failed. They do not count, and neither do interrupted ones and repetitions, which have no sentence."""
    return [trial for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)) if "failed" in trial.user_attrs]


def point_of(trial: FrozenTrial) -> Point:
    return trial.params or trial.system_attrs.get("fixed_params", {})


def best(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that none is better than in every objective, the cheapest first."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    values = np.array([trial.values for trial in trials])
    front = [trial for trial, own in zip(trials, values, strict=True)
             if not ((values <= own).all(1) & (values < own).any(1)).any()]
    return sorted(front, key=lambda trial: (*trial.values[1:], trial.values[0], trial.number))


def end(study: optuna.Study, trial: Trial | FrozenTrial, values: list[float] | None = None, state: TrialState | None = None,
        **attributes: Any) -> bool:
    """Ends a trial with its values, or in a state; False where another process has ended it."""
    try:
        number = trial if isinstance(trial, Trial) else trial.number
        for name, value in attributes.items():
            study._storage.set_trial_user_attr(trial._trial_id, name, value)
        study.tell(number, values, state=state)
    except (UpdateFinishedTrialError, ValueError) as error:
        if isinstance(error, ValueError) and not str(error).startswith("Cannot tell"):
            raise
        return False
    return True


def again(study: optuna.Study, trial: FrozenTrial, lost: int = 0) -> None:
    """Ends an interrupted trial and queues its point, to go on in the same folder."""
    if end(study, trial, state=TrialState.FAIL):
        _queue(study, trial, lost)


def _queue(study: optuna.Study, trial: FrozenTrial, lost: int = 0) -> None:
    if point_of(trial):
        study.enqueue_trial(point_of(trial), user_attrs={"resumes": _root(trial), "lost": lost})


def _root(trial: Trial | FrozenTrial) -> int:
    return trial.user_attrs.get("resumes", trial.number)


def release(study: optuna.Study, watch: Watch) -> None:
    """Trials whose process is gone are tried again."""
    for trial in watch.abandoned(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))):
        lost = trial.user_attrs.get("lost", 0) + 1
        if lost < LOSSES:
            again(study, trial, lost)
        else:
            end(study, trial, state=TrialState.FAIL, machine=True, failed=f"{LOSSES} processes ended before it did; with less "
                "--workers there is more memory for each")


def prepare(search: Search, study: optuna.Study) -> None:
    """Queues what an earlier run left: trials of processes that are gone, and failures that may have been the machine's."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if is_gone(trial.user_attrs.get("process")) or trial.user_attrs.get("process") == me():
            end(study, trial, state=TrialState.FAIL)
    trials = study.get_trials(deepcopy=False)
    settled = taken(search.space, trials, resumed=True)
    for trial in trials:
        key = search.space.key(point_of(trial))
        if trial.state == TrialState.FAIL and not trial.user_attrs.get("dropped") and key not in settled:
            settled.add(key)
            _queue(study, trial)


def taken(space: Space, trials: Iterable[FrozenTrial], resumed: bool = False) -> set[str]:
    """Keys of the points that are not to be tried by another. One that is `resumed` may have failed by the machine before."""
    return {space.key(point_of(trial)) for trial in trials if trial.state != TrialState.FAIL
            or ("failed" in trial.user_attrs and not (resumed and trial.user_attrs.get("machine")))}
