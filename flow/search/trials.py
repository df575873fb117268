"""What a trial of a search does: costs of its point, training of a proxy, error of the integer model.

A trial first learns its costs, from weights that are not trained; one that breaks a limit, or that no device holds, ends there.
All of this is our choice. docs/model-search.md says how to use it.
"""

import shutil
from bisect import bisect_left
from dataclasses import replace
from functools import partial
from math import isfinite
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.trial import FrozenTrial, Trial, TrialState

from emamba import datasets
from emamba.artifact import Artifact, Codec
from emamba.base.errors import DesignLimit, Diverged, InputError, OutputError, SettingError
from emamba.config import QuantizeConfig, Recipe
from emamba.datasets import Dataset
from emamba.datasets.metrics import error_of, figures
from emamba.datasets.recordings import whole_recordings
from emamba.datasets.tokens import executor_tokens
from emamba.io.files import write_file
from emamba.quantization.quantize import quantize, read_checkpoint
from emamba.run.executors import make_executor, predict
from emamba.training.loop import Scaling, train
from emamba.training.network import Network
from rtl.plan.devices import find
from rtl.plan.engine_plan import with_lanes
from rtl.plan.planner import Request, at
from rtl.plan.schedule import MAX_CYCLES, Schedule

from .space import HardwareConfig, Point, Space
from .study import Refused, Search

CHECKPOINT = ("checkpoint.safetensors", "checkpoint.json")
"""Files of a training; with the last one it is whole."""
SAMPLE = 64
"""Sequences by which the weights that are not trained are calibrated, for the costs."""


class Bench:
    """Measures the points of a search, in one thread."""

    def __init__(self, search: Search):
        find(search.space.hardware.device)
        self.search, self.data = search, proxy_data(search.space, search.data_dir)
        torch.set_num_threads(1)

    @property
    def unit(self) -> str:
        return self.data.unit

    def measure(self, study: optuna.Study, trial: Trial, point: Point) -> dict[str, float]:
        """The objectives of a point: costs, proxy training, error of the integer model."""
        space = self.search.space
        recipe, settings, costs = self._costs(trial, point)

        def watch(history: list[dict]) -> None:
            curve = [error_of(recipe.model.task, entry) for entry in history]
            if not isfinite(curve[-1]):
                raise Diverged(f"the training diverged in epoch {len(curve)}: its error is {curve[-1]}")
            trial.set_user_attr("curve", curve)
            if len(curve) in space.rungs and len(curve) < recipe.train.epochs:
                others = [other for other in study.get_trials(deepcopy=False)
                          if other.number != trial.number and other.state != TrialState.FAIL]
                beaten_by = rivals(space, curve, costs, others)
                if len(beaten_by) >= space.search.rivals:
                    raise Refused(f"after {len(curve)} epochs trials {', '.join(map(str, beaten_by[:3]))} were better at no "
                                  "higher cost")

        folder = self.search.folder(trial)
        if not ((folder / CHECKPOINT[-1]).exists() or self._shares(study, trial, point, folder)):
            train(recipe, folder, progress=False, threads=1, data=self.data, watch=watch)
        error = self._error(trial, folder, recipe, settings)
        return costs | {"error": error}

    def _shares(self, study: optuna.Study, trial: Trial, point: Point, folder: Path) -> bool:
        """Takes over the checkpoint of a trial whose point has the same model and training, if one is there."""
        def trained(values: Point) -> Point:
            return {name: value for name, value in values.items() if not name.startswith("quantize.")}

        for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            source = self.search.folder(other)
            if trained(other.params) == trained(point) and (source / CHECKPOINT[-1]).exists():
                folder.mkdir(parents=True, exist_ok=True)
                for name in CHECKPOINT:
                    write_file(folder / name, partial(shutil.copyfile, source / name))
                trial.set_user_attr("curve", other.user_attrs["curve"])
                return True
        return False

    def _costs(self, trial: Trial, point: Point) -> tuple[Recipe, QuantizeConfig, dict[str, float]]:
        space = self.search.space
        try:
            recipe, settings = space.at(point)
            costs = point_costs(space, recipe, settings, self.data)
            for name, value in costs.items():
                trial.set_user_attr(name, value)
            for name, limit in space.limits.items():
                if costs[name] > limit:
                    raise DesignLimit(f"{name} = {costs[name]:.6g} exceeds the limit of {limit:.6g}")
        except (InputError, SettingError, DesignLimit, Diverged) as error:
            raise Refused(str(error)) from None
        return recipe, settings, costs

    def _error(self, trial: Trial, folder: Path, recipe: Recipe, settings: QuantizeConfig) -> float:
        data = self.data
        trained = read_checkpoint(folder)
        if trained.recipe != recipe:
            raise OutputError(f"{folder} holds the checkpoint of another recipe: move it away")
        tokens = executor_tokens(data.x_train[:settings.calibration_frames(recipe.model.tokens)], recipe.model)
        artifact = quantize(str(trial.number), recipe.model, trained.weights, trained.codec, tokens, settings)
        for backend in ("float", "int"):
            values = predict(artifact, backend, make_executor(artifact, backend), executor_tokens(data.x_validate, recipe.model))
            measured = figures(recipe.model.task, values, data.y_validate, data.unit_scale)
            error = error_of(recipe.model.task, measured)
            if not isfinite(error):
                raise Diverged(f"the error of the {backend} model is {error}")
            trial.set_user_attr(backend, measured)
        trial.set_user_attr("error", error)
        return error


def proxy_data(space: Space, directory: Path | None) -> Dataset:
    """The share of the training part that trials see. The validation part stands in for the test part, which no trial sees."""
    data, settings = datasets.load(space.data.name, space.data.split, directory), space.search
    if not len(data.x_train):
        raise InputError(f"data set {data.name} ({data.note}) has no training part here: {data.train_remedy}")
    if not len(data.x_validate):
        raise InputError(f"data set {data.name} has no validation part, by which a search judges its points")
    count = max(1, round(settings.share * len(data.x_train)))
    random, recordings = np.random.default_rng(settings.seed), data.recordings.get("train")
    if space.model.task == "next_token" or (space.model.carried and recordings is None):
        keep = np.arange(count)  # a text stays a text
    elif space.model.carried:
        keep = whole_recordings(recordings, count, random)
    else:
        keep = random.permutation(len(data.x_train))[:count]
    judged = data.recordings.get("validate")
    kept = {} if recordings is None else {"train": recordings[keep]}
    kept |= {} if judged is None else dict.fromkeys(("validate", "test"), judged[:settings.validate_frames])
    x, y = data.x_validate[:settings.validate_frames], data.y_validate[:settings.validate_frames]
    return replace(data, note=f"{data.note}, search: {len(keep)} training sequences, validation part as test part",
                   x_train=data.x_train[keep], y_train=data.y_train[keep], x_validate=x, y_validate=y, x_test=x, y_test=y,
                   recordings=kept, test_subject=None)


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
    model, scaling = Network(recipe.model), Scaling.measure(recipe, data)
    width = recipe.model.input_width
    mean, std = (None if value is None else np.resize(value, width) for value in (scaling.mean, scaling.std))
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    artifact = quantize("costs", recipe.model, weights, Codec(mean, std, scaling.scale, scaling.offset),
                        executor_tokens(data.x_train[:SAMPLE], recipe.model), settings)
    return {"parameters": sum(value.size for value in weights.values()), **hardware_costs(artifact, space.hardware)}


def hardware_costs(artifact: Artifact, hardware: HardwareConfig) -> dict[str, float]:
    """What `HardwareConfig` says, and multiplies a frame."""
    device = find(hardware.device)
    if hardware.organization == "engine":
        found = with_lanes(artifact, hardware.lanes, device)
        if found.load > hardware.fill:
            raise DesignLimit(f"{device.name} is too small: an engine of {hardware.lanes} lanes takes an estimated "
                              f"{found.load:.0%} of its scarcest resource, more than {hardware.fill:.0%}")
        engine = found.schedule
        return {"multiplies": engine.multiplies_per_frame, "cycles": engine.cycles_per_frame, "cycles_per_token": engine.period,
                "load": found.load}
    request = Request(device=device, fill=hardware.fill)
    schedule = fastest(artifact, request)
    return {"multiplies": Schedule(artifact, hardware.cycles_per_token).multiplies_per_frame,
            "cycles": schedule.cycles_per_frame, "cycles_per_token": schedule.period,
            "load": at(artifact, hardware.cycles_per_token, request).load}


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
            raise DesignLimit(f"{request.device.name} is too small: at {slowest} cycles per token the design takes an estimated "
                              f"{found[high].load:.0%} of its scarcest resource, more than {request.fill:.0%}")
        low, high = high + 1, min(2 * high, slowest)
    cycles = low + bisect_left(range(low, high), True, key=fits)
    return found[cycles].schedule
