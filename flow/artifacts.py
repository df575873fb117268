"""From a checkpoint and a data set to a measured artifact."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from emamba import datasets
from emamba.api import IMPORTED, calibrated
from emamba.artifact import Artifact, load
from emamba.base.errors import InputError
from emamba.config import ModelConfig, QuantizeConfig, Recipe, validate
from emamba.datasets.metrics import data_figures, figures
from emamba.datasets.tokens import executor_tokens
from emamba.io.tensor_files import read_array
from emamba.quantization.fold import fold
from emamba.quantization.quantize import Checkpoint, calibration_tokens, quantize, read_model
from emamba.run.executors import make_executor, predict
from emamba.run.integer import record_golden

from .verdict import agreement_part

JUDGED, JUDGED_WORK = 64, 10**10
"""Sequences that tell how far an import is from float, and multiplications of them, at most."""


def quantized(name: str, checkpoint: Path, settings: QuantizeConfig, folder: Path | None,
              folded: bool = False) -> tuple[Artifact, datasets.Dataset]:
    """A checkpoint or artifact quantized on its data set, which it returns too.

    folder: holds the data sets
    folded: whether two Linears in a row become one (`emamba.quantization.fold`)
    """
    model = _read(checkpoint, folded)
    data, config = data_of(model.recipe, checkpoint, folder), model.recipe.model
    tokens = calibration(data, config, settings)
    source = {"name": data.name, "split": data.split, "note": data.note, "unit": data.unit, "unit_scale": data.unit_scale}
    if data.front_end:
        source["front_end"] = data.front_end.fields
    record = {"training": _trained(model.record)} | ({"classes": list(data.classes)} if data.classes else {})
    return quantize(name, config, model.weights, model.codec, tokens, settings, source, record, model.graph), data


def quantized_on(name: str, checkpoint: Path, settings: QuantizeConfig, inputs: Path, folded: bool = False) -> Artifact:
    """A checkpoint or artifact quantized on the inputs in a .npy file."""
    model = _read(checkpoint, folded)
    known = {key: model.record[key] for key in ("import",) if key in model.record} | {"training": _trained(model.record)}
    return calibrated(name, model.recipe.model, model.weights, model.codec, read_array(inputs), settings, known, model.graph)


def _read(checkpoint: Path, folded: bool) -> Checkpoint:
    model = read_model(checkpoint)
    if not folded:
        return model
    graph, weights = fold(model.graph, model.weights)
    return replace(model, graph=graph, weights=weights)


def agreement(artifact: Artifact, data: np.ndarray) -> dict:
    """How far an artifact is from float on the first sequences of what it was calibrated on; of text, both perplexities."""
    weights, task = sum(value.size for value in artifact.weights.values()), artifact.config.task
    tokens = executor_tokens(data[:max(1, min(JUDGED, JUDGED_WORK // (weights * artifact.config.tokens)))], artifact.config)
    answers = {backend: predict(artifact, backend, make_executor(artifact, backend), tokens) for backend in ("float", "int")}
    found = agreement_part(task, answers["float"], answers["int"])
    if task == "next_token" and artifact.config.input == "tokens" and answers["int"].ndim == 3 and data.shape[1] > 1:
        ids = data[:len(tokens), 1:].astype(np.int64)
        found |= {backend: figures(task, value[:, :-1], ids)["perplexity"] for backend, value in answers.items()}
    return found


def measure(artifact: Artifact, data: datasets.Dataset) -> dict[str, dict]:
    """Records figures on the test part, and the golden sequences; returns the figures by backend."""
    tokens = executor_tokens(data.x_test, artifact.config)
    record = {"note": f"{data.name}, {data.split} split, {data.note}; {len(tokens)} test sequences"}
    measured = {}
    for backend in ("float", "int"):
        values = predict(artifact, backend, make_executor(artifact, backend), tokens)
        record[backend] = measured[backend] = data_figures(artifact.config.task, values, data.y_test, data)
        if data.test_seen is not None:
            seen = data_figures(artifact.config.task, values[data.test_seen], data.y_test[data.test_seen], data)
            record.setdefault("subjects_of_training", {})[backend] = seen
    artifact.record["figures"] = record
    record_golden(artifact, tokens)
    return measured


def known_settings(folder: Path) -> QuantizeConfig | None:
    """How an artifact was quantized; None of a checkpoint."""
    if not (folder / "manifest.json").is_file():
        return None
    return validate(QuantizeConfig, load(folder).record.get("quantize", {}), f"{folder}/manifest.json: record.quantize")


def data_of(recipe: Recipe, checkpoint: Path, folder: Path | None) -> datasets.Dataset:
    """The data set of a checkpoint, in `folder` where that is given."""
    if recipe.data.name == IMPORTED:
        raise InputError(f"{checkpoint} was imported and names no data set: quantize it with --calibration FILE")
    return datasets.load(recipe.data.name, recipe.data.split, folder, folder is not None)


def calibration(data: datasets.Dataset, model: ModelConfig, settings: QuantizeConfig) -> np.ndarray:
    """Tokens of the training part that `settings` ask for."""
    if not len(data.x_train):
        raise InputError(f"data set {data.name} has no training part to calibrate on: {data.train_remedy}")
    return calibration_tokens(data.x_train, model, settings, data.recordings.get("train"))


def _trained(record: dict) -> dict:
    """What an artifact keeps of a checkpoint's record."""
    kept = ("recipe", "parameters", "epoch", "history", "seed", "torch", "baseline")
    return {key: record[key] for key in kept if record.get(key) is not None}
