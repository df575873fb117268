"""What options name, read: settings of the quantizer, and sequences of a data set or of a file."""

import argparse
import tomllib
from pathlib import Path

import numpy as np

from emamba import datasets
from emamba.artifact import Artifact
from emamba.base.errors import InputError, SettingError
from emamba.config import QuantizeConfig, load_toml, validate
from emamba.datasets.tokens import executor_tokens


def settings(options: argparse.Namespace, base: QuantizeConfig | None = None) -> QuantizeConfig:
    """Settings from --config, else from `base`, with what --set changes."""
    base = load_toml(QuantizeConfig, options.config) if options.config else base
    found = base.model_dump() if base else {}
    for item in options.set:
        key, equals, value = item.partition("=")
        try:
            found[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[key] = value
        if not equals:
            raise SettingError(f"--set {item}: write KEY=VALUE")
    return validate(QuantizeConfig, found, "quantization settings")


def sequences(options: argparse.Namespace, artifact: Artifact) -> tuple[np.ndarray, np.ndarray, datasets.Dataset]:
    """Tokens and targets of the part of the artifact's data set that is asked for, or of --inputs."""
    if getattr(options, "inputs", None):
        return _given(options.inputs, getattr(options, "targets", None), artifact, options.limit)
    if getattr(options, "targets", None):
        raise SettingError("--targets go with --inputs: the data set has its own")
    if not {"name", "split"} <= set(artifact.data):
        needed = [f"--{name}" for name in ("inputs", "targets") if hasattr(options, name)]
        remedy = f": give {' and '.join(needed)}" if needed else ""
        raise InputError(f"{options.artifact} does not name a data set, so there is nothing to run it on{remedy}")
    data = datasets.load(artifact.data["name"], artifact.data["split"], options.data, options.data is not None)
    x, y = getattr(data, f"x_{options.split}")[:options.limit], getattr(data, f"y_{options.split}")[:options.limit]
    if not len(x):
        raise InputError(f"data set {data.name} has no {options.split} part here: {data.train_remedy}")
    return executor_tokens(x, artifact.config), y, data


def _given(file: Path, wanted: Path | None, artifact: Artifact,
           limit: int | None) -> tuple[np.ndarray, np.ndarray, datasets.Dataset]:
    """Tokens of the inputs in a file, as a data set with the targets of another one or without any."""
    from emamba.api import check_data
    from emamba.io.tensor_files import read_array

    x = read_array(file)
    check_data(x, artifact.config)
    x, none, y, note = x[:limit], x[:0], x[:0], "no targets"
    if wanted:
        y, note = read_array(wanted)[:limit], f"targets of {wanted.name}"
        if len(y) != len(x):
            raise InputError(f"{wanted} has {len(y)} targets and {file} {len(x)} sequences: give as many")
        if (y.dtype.kind in "iu") == (artifact.config.task == "regression"):
            raise InputError(f"{wanted} is an array of {y.dtype}: the task {artifact.config.task} needs "
                             + ("values" if artifact.config.task == "regression" else "integers"))
        if artifact.config.task == "regression" and y.ndim == 1:
            y = y[:, None]
    return executor_tokens(x, artifact.config), y, datasets.Dataset(file.name, "given", note, *[none] * 4, x, y)


def source_of(data: datasets.Dataset) -> str:
    """Where sequences come from, for people."""
    return f"{data.name}, {data.split} split, {data.note}"
