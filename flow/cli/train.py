"""`emamba train | finetune`: trained models."""

import argparse
from dataclasses import replace
from pathlib import Path

from emamba import datasets
from emamba.artifact import load
from emamba.base.errors import InputError, ToolMissing, extra
from emamba.base.options import at_least
from emamba.config import Recipe, TrainConfig, load_toml, validate
from emamba.datasets.baseline import Baseline
from emamba.datasets.metrics import words
from emamba.datasets.tokens import executor_tokens
from emamba.quantization.quantize import read_model
from emamba.training.settings import FinetuneConfig

from ..verdict import figure_part, lines
from .arguments import LARGE, Commands, check_artifact_folder, command
from .output import measure_and_save


def add(commands: Commands) -> None:
    sub = command(commands, "train", _train, "emamba train models/recipes/mars.toml --out runs/mars")
    sub.add_argument("recipe", type=Path, help="TOML file with [data], [model] and [train]")
    sub.add_argument("--out", type=Path, required=True, help="folder of the checkpoint; an interrupted training in it goes on")
    sub.add_argument("--start", type=Path, metavar="FOLDER", help="artifact or checkpoint whose weights it starts from, instead "
                     "of random ones")
    sub.add_argument("--test", action="store_true", help="print the figures of the test part too")
    sub.add_argument("--threads", **at_least(1, 1024), help="processor threads (default: all)")

    sub = command(commands, "finetune", _finetune,
                  "emamba finetune models/mars_int8 --run runs/mars_qat --out models/mars_qat --epochs 10")
    sub.add_argument("artifact", type=Path, help="folder of the artifact to start from")
    sub.add_argument("--run", type=Path, required=True, dest="run_folder",
                     help="folder of the training; an interrupted one in it goes on")
    sub.add_argument("--out", type=Path, required=True, help="folder of the new artifact")
    sub.add_argument("--config", type=Path, help="TOML file of epochs, batch, peak_lr, seed, segments")
    sub.add_argument("--epochs", **at_least(1, LARGE), help="passes over the training part (default: 10)")
    sub.add_argument("--segments", action="store_true", help="train slopes and offsets of the piecewise-linear units too")


def _train(options: argparse.Namespace) -> int:
    try:
        from emamba.training.loop import train
    except ImportError as error:
        raise _lacks_training(error) from None
    recipe = load_toml(Recipe, options.recipe)
    start = None if options.start is None else read_model(options.start).weights
    record = train(recipe, options.out, options.data, threads=options.threads, start=start)
    print(f"kept: the weights of epoch {record['epoch']} of {len(record['history'])}, the best on the validation part")
    for part in ("validate", "test")[:1 + options.test]:
        print(f"{part}: {words(record['figures'][part], record['figures']['unit'])}")
    part = "test" if options.test else "validate"
    figure = figure_part(recipe.model.task, record["figures"]["unit"], {"float": record["figures"][part]},
                         Baseline.read(record["baseline"]), part)
    print("\n".join([*lines({"figure": figure}), *(f"  {sentence}" for sentence in record["advice"])]))
    if hasattr(options, "line"):  # else a part of `go`
        print(f"next: emamba quantize {options.out} --out models/{options.out.name}"
              + f" --data {options.data}" * bool(options.data))
    return 0


def _finetune(options: argparse.Namespace) -> int:
    check_artifact_folder(options.out)
    try:
        from emamba.training.qat import Part, finetune, varied
    except ImportError as error:
        raise _lacks_training(error) from None
    artifact = load(options.artifact)
    if not {"name", "split"} <= set(artifact.data):
        raise InputError(f"{options.artifact} does not name a data set, so there is nothing to train it on")
    settings = load_toml(FinetuneConfig, options.config) if options.config else FinetuneConfig()
    given = {key: getattr(options, key) for key in ("epochs", "segments") if getattr(options, key)}
    settings = validate(FinetuneConfig, settings.model_dump() | given, "command line")
    data = datasets.load(artifact.data["name"], artifact.data["split"], options.data, options.data is not None)
    if not len(data.x_train):
        raise InputError(f"data set {data.name} has no training part: {data.train_remedy}")
    train, validate_on = (Part(executor_tokens(getattr(data, f"x_{part}"), artifact.config), getattr(data, f"y_{part}"),
                               data.recordings.get(part)) for part in ("train", "validate"))
    recipe = artifact.record.get("training", {}).get("recipe", {}).get("train", {})
    trained = validate(TrainConfig, recipe, f"{options.artifact}/manifest.json: record.training.recipe.train")
    artifact = finetune(artifact, train, validate_on, settings, options.run_folder, data.unit_scale,
                        varied(artifact, data.x_train, trained))
    return measure_and_save(replace(artifact, name=options.out.name), data, options.out)


def _lacks_training(error: ImportError) -> ToolMissing:
    return ToolMissing(f"training needs the extra [train] ({error}): {extra('train')}")
