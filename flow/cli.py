"""The command line: `emamba train | import | quantize | …`. Exit status 0 only where everything asked for was done: 1 after one
sentence on standard error, or where `compare` found a difference; 2 for words that are no command; others: `emamba.base.door`."""

import argparse
import importlib.metadata
import json
import os
import re
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from emamba import datasets
from emamba.artifact import SHIPPED, Artifact, load, save
from emamba.base.door import guarded
from emamba.base.errors import EmambaError
from emamba.base.options import at_least, check, cycles, real
from emamba.config import FinetuneConfig, ModelConfig, QuantizeConfig, Recipe, TrainConfig, load_toml, validate
from emamba.datasets.metrics import BETTER, data_figures, error_name, words
from emamba.datasets.tokens import executor_tokens
from emamba.graph import build_graph
from emamba.io.files import check_replaceable, read_text, write_file
from emamba.run.executors import predict
from emamba.run.integer import IntegerModel, record_golden

from .executors import BACKENDS, make_executor

PARTS = ("test", "validate", "train")
OUTPUTS = ("out", "json", "vcd", "plot")
OPTIONAL = ("inputs", "calibration", "config", "sensitivity", "stalls", "data", "search")
"""Options that name a file or folder which is written, and which is read; other paths are arguments."""
LARGEST_JSON = 1 << 28
"""Bytes of what another command wrote."""
LARGE = 10**9
"""More than anybody means."""
SCHEMAS = ("recipe", "quantize", "finetune", "search")
"""Kinds of TOML files."""


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; every failure is one sentence on standard error."""
    return guarded("emamba", lambda: _run(_parser().parse_args(arguments)))


def _run(options: argparse.Namespace) -> int:
    _check_files(check(options))
    return options.run(options)


def _check_files(options: argparse.Namespace) -> None:
    """Refuses a file that would be written over one that is read, or over another output."""
    paths = {key: value for key, value in vars(options).items() if isinstance(value, Path)}
    if options.run in (_quantize, _import, _finetune, _pick) and not options.out.name.isprintable():  # an artifact's name
        raise EmambaError(f"--out {paths['out']}: name it with characters that can be printed")
    if options.run in (_quantize, _finetune, _pick):
        check_replaceable(options.out, "manifest.json")
    named = {key: f"--{key.replace('_', '-')}" if key in OUTPUTS or key in OPTIONAL else key.upper() for key in paths}
    inputs = {key: path for key, path in paths.items() if key not in OUTPUTS and os.path.isfile(path)}
    read = {os.path.realpath(path): f"{named[key]} {path}" for key, path in inputs.items()}
    written = [(f"{named[key]} {path}", path) for key, path in paths.items() if key in OUTPUTS]
    written += [(f"what --{key} {paths[key]} writes beside it", paths[key].with_suffix(suffix)) for key, suffix in
                ((("vcd", ".gtkw"),) if "vcd" in paths else (("out", ".json"),) if options.run is _report else ())]
    for name, path in written:
        if other := read.get(place := os.path.realpath(path)):
            raise EmambaError(f"{other} is the file that {name} would replace: name another one")
        read[place] = name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("emamba", description="From a trained Mamba to integer-only, bit-exact hardware.",
                                     epilog="Hardware: python -m rtl.build --help")
    parser.add_argument("--version", action="version", version=f"emamba {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run, text: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, epilog=f"example: {example}")
        sub.set_defaults(run=run)
        sub.add_argument("--data", type=Path, help="folder of the data sets (default: $EMAMBA_DATA, else ./data)")
        return sub

    def quantized(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--config", type=Path, help="TOML file of quantization settings")
        sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting; may be repeated")

    def judged(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--limit", **at_least(1), default=1000, help="validation sequences that judge widths (default: 1000)")

    def searched(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("space", type=Path, help="TOML file of the search space")
        sub.add_argument("--storage", metavar="URL", help="database of the study, for searches on several machines "
                         "(default: a journal in the folder of the search)")

    sub = command("train", _train, "train a float model from a recipe", "emamba train models/recipes/mars.toml --out runs/mars")
    sub.add_argument("recipe", type=Path, help="TOML file with [data], [model] and [train]")
    sub.add_argument("--out", type=Path, required=True, help="folder of the checkpoint; an interrupted training in it goes on")
    sub.add_argument("--threads", **at_least(1, 1024), help="processor threads (default: all)")

    sub = command("prepare", _prepare, "turn a CSV time series, or folders of WAV files, into a data set of your own",
                  "emamba prepare pump.csv --inputs pressure,flow --target flow --length 32 --out data/pump")
    sub.add_argument("source", type=Path, help="CSV file whose first line names its columns, or a folder with a folder of .wav "
                     "files for each class")
    sub.add_argument("--out", type=Path, required=True, help="folder of the arrays and of recipe.toml; below the data directory, "
                     "recipes call it by its name")
    sub.add_argument("--inputs", metavar="COLUMNS", help="CSV: columns that the model reads, separated by commas")
    sub.add_argument("--target", metavar="COLUMN", help="CSV: column that it predicts")
    sub.add_argument("--classes", action="store_true", help="CSV: --target names classes")
    sub.add_argument("--length", **at_least(1, LARGE), default=32, help="CSV: rows of a window (default: 32)")
    sub.add_argument("--ahead", **at_least(0, LARGE), default=1, help="CSV: rows from a window's last to its target (default: 1)")
    sub.add_argument("--step", **at_least(1, LARGE), default=1, help="CSV: rows from a window to the next (default: 1)")
    sub.add_argument("--seconds", **real(least=0.025, most=3600), default=1.0, help="WAV: seconds of each file (default: 1)")
    sub.add_argument("--bands", **at_least(1, 128), default=16, help="WAV: bands of the spectrum (default: 16)")

    sub = command("import", _import, "take over a trained Mamba-1 checkpoint of mamba_ssm or transformers",
                  "emamba import downloads/mamba-130m --calibration ids.npy --out models/mamba")
    sub.add_argument("checkpoint", type=Path, help="folder with model.safetensors (or pytorch_model.bin) and config.json, or "
                     "the file")
    sub.add_argument("--out", type=Path, required=True, help="folder of the artifact, or without --calibration of the checkpoint")
    sub.add_argument("--calibration", type=Path, metavar="FILE", help="token ids [sequences, tokens] in a .npy file")
    sub.add_argument("--length", **at_least(1, 1 << 20), help="tokens per sequence (default: those of --calibration)")
    sub.add_argument("--norm", choices=("keep", "range"), default="keep", help="keep the norms, or exchange them for RangeNorm "
                     "and train on the sequences of --calibration (default: keep)")
    sub.add_argument("--run", type=Path, dest="run_folder", help="folder of that training; an interrupted one in it goes on")
    sub.add_argument("--epochs", **at_least(1, LARGE), default=5, help="of that training (default: 5)")
    sub.add_argument("--peak-lr", **real(above=0, most=1000),
                     default=1e-3, help="learning rate of that training (default: 0.001)")
    quantized(sub)

    sub = command("quantize", _quantize, "turn a checkpoint into an integer artifact",
                  "emamba quantize runs/mars --out models/mars --set residual_bits=8")
    sub.add_argument("checkpoint", type=Path, help="folder that `emamba train` wrote, or an artifact to quantize again")
    sub.add_argument("--out", type=Path, required=True, help="folder of the artifact")
    quantized(sub)
    sub.add_argument("--calibration", type=Path, metavar="FILE", help="inputs of the model in a .npy file, to calibrate on "
                     "instead of the data set; then no figures are measured")
    sub.add_argument("--auto-width", action="store_true", help="choose the bits of every tensor: the cheapest within --tolerance")
    sub.add_argument("--tolerance", **real(least=0, most=1e9),
                     default=0.05, help="how far the integer model's figure may lie above the float "
                     "model's, in the figure's unit, on the validation part (default: 0.05)")
    sub.add_argument("--device", default="zcu102", help="device whose shares are the cost (default: zcu102)")
    sub.add_argument("--cycles-per-token", **cycles(), default=20, help="of the design that is costed (default: 20)")
    judged(sub)
    sub = command("sensitivity", _sensitivity, "what each tensor's width alone does to the figure",
                  "emamba sensitivity models/mars --widths 6,8,12,16")
    sub.add_argument("checkpoint", type=Path, help="folder of a checkpoint or of an artifact")
    sub.add_argument("--widths", default="6,8,12,16", help="bits that each tensor gets alone (default: 6,8,12,16)")
    sub.add_argument("--json", type=Path, help="also write the result to this file")
    quantized(sub)
    judged(sub)

    sub = command("finetune", _finetune, "train an artifact on: quantization-aware, the forward pass is the integer model",
                  "emamba finetune models/mars_int8 --run runs/mars_qat --out models/mars_qat --epochs 10")
    sub.add_argument("artifact", type=Path, help="folder of the artifact to start from")
    sub.add_argument("--run", type=Path, required=True, dest="run_folder",
                     help="folder of the training; an interrupted one in it goes on")
    sub.add_argument("--out", type=Path, required=True, help="folder of the new artifact")
    sub.add_argument("--config", type=Path, help="TOML file of epochs, batch, peak_lr, seed, segments")
    sub.add_argument("--epochs", **at_least(1, LARGE), help="passes over the training part (default: 10)")
    sub.add_argument("--segments", action="store_true", help="train slopes and offsets of the piecewise-linear units too")

    sub = command("search", _search, "search for shapes of a model that cost less or err less",
                  "emamba search models/searches/mars.toml --out runs/search_mars --workers 2")
    searched(sub)
    sub.add_argument("--out", type=Path, required=True, help="folder of the trials; a search in it goes on")
    sub.add_argument("--trials", **at_least(1, LARGE), help="finished trials at which it ends (default: those of the file)")
    sub.add_argument("--workers", **at_least(1, 256), default=1, help="processes, each with one thread (default: 1)")
    sub.add_argument("--show", action="store_true", help="show what was found so far, and search no further")
    sub = command("pick", _pick, "turn a trial of a search into an artifact",
                  "emamba pick models/searches/mars.toml 17 --search runs/search_mars --epochs 120 --out models/mars_small")
    searched(sub)
    sub.add_argument("trial", **at_least(0, LARGE), help="number of the trial")
    sub.add_argument("--search", type=Path, required=True, help="folder of the search")
    sub.add_argument("--out", type=Path, required=True, help="folder of the artifact")
    sub.add_argument("--epochs", **at_least(1, LARGE), help="train on all frames so long first (default: take the trial's proxy)")
    sub.add_argument("--threads", **at_least(1, 1024), help="processor threads of the training (default: all)")
    quantized(sub)

    def measured(sub: argparse.ArgumentParser, rtl: bool = True) -> None:
        sub.add_argument("artifact", type=Path, nargs="?", default=SHIPPED,
                         help="folder of the artifact (default: the shipped MARS model)")
        sub.add_argument("--split", choices=PARTS, default="test", help="part of the data set (default: test)")
        sub.add_argument("--limit", **at_least(1), help="first N sequences only")
        sub.add_argument("--json", type=Path, help="also write the result to this file")
        if rtl:
            sub.add_argument("--cycles-per-token", **cycles(), default=20, help="of the rtl backend (default: 20)")

    def given(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--inputs", type=Path, metavar="FILE", help="inputs of the model in a .npy file instead of the data set")

    sub = command("evaluate", _evaluate, "the task's figures on real data", "emamba evaluate models/mars --backend int")
    measured(sub)
    sub.add_argument("--backend", choices=BACKENDS, default="int")
    sub = command("compare", _compare, "compare two executors at every trace key",
                  "emamba compare models/mars --backends int,rtl")
    measured(sub)
    sub.add_argument("--backends", default="int,rtl", help="two of float, int, rtl (default: int,rtl)")
    given(sub)
    sub = command("trace", _trace, "write the values of any nodes: [sequences, tokens, channels], an array each",
                  "emamba trace models/mars --keys block0.y,block0.dt --limit 10 --out build/trace.npz")
    measured(sub)
    given(sub)
    sub.add_argument("--backend", choices=BACKENDS, default="int")
    sub.add_argument("--keys", metavar="NAMES", help="nodes, separated by commas (default: all)")
    sub.add_argument("--out", type=Path, required=True, help=".npz file")
    sub = command("simulate", _simulate, "run the hardware cycle by cycle: waits of every stream, and a waveform",
                  "emamba simulate models/mars --limit 2 --vcd build/mars.vcd")
    measured(sub)
    given(sub)
    sub.set_defaults(limit=2)
    sub.add_argument("--cycles", **at_least(1, LARGE),
                     default=2000, help="cycles after which it ends at the latest (default: 2000)")
    sub.add_argument("--stall-percent", **at_least(0, 99),
                     default=0, metavar="P", help="both ports pause at random in this share of the "
                     "cycles (default: 0)")
    sub.add_argument("--vcd", type=Path, metavar="FILE", help="also write the waveform, and beside it, ending with .gtkw, the "
                     "view for gtkwave")
    sub = command("profile", _profile, "inputs of SiLU, exp and softplus against their domains and knots",
                  "emamba profile models/mars --plot build/profile.svg")
    measured(sub, rtl=False)
    given(sub)
    sub.add_argument("--plot", type=Path, help="also draw functions, segments, errors and histograms into this SVG file")
    sub = command("report", _report, "one page of figures: accuracy, pipeline, resources, formats, functions, state",
                  "emamba report models/mars --out build/report.html")
    measured(sub)
    given(sub)
    sub.add_argument("--out", type=Path, required=True, help="HTML file; report.json of the same figures goes beside it, under "
                     "the same name")
    sub.add_argument("--rtl", action="store_true", help="run the hardware's simulation too, which takes minutes to build")
    sub.add_argument("--sensitivity", type=Path, metavar="FILE", help="what `emamba sensitivity --json FILE` wrote")
    sub.add_argument("--stalls", type=Path, metavar="FILE", help="what `emamba simulate --json FILE` wrote")
    sub = commands.add_parser("schema", help="the JSON schema of a TOML file: its keys, their limits and meaning",
                              epilog="example: emamba schema recipe > recipe.schema.json")
    sub.add_argument("kind", choices=SCHEMAS)
    sub.set_defaults(run=_schema)
    sub = commands.add_parser("completion", help="completion of commands and options for bash (and zsh, by bashcompinit)",
                              epilog='example: eval "$(emamba completion)"')
    sub.set_defaults(run=lambda options: _completion(commands.choices))
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("emamba")
    except importlib.metadata.PackageNotFoundError:
        return "of a checkout that is not installed"


def _schema(options: argparse.Namespace) -> int:
    from .search.space import Space

    kinds = {"recipe": Recipe, "quantize": QuantizeConfig, "finetune": FinetuneConfig, "search": Space}
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower()
    print(json.dumps(kinds[options.kind].model_json_schema(), indent=1, ensure_ascii=not encoding.startswith("utf")))
    return 0


def _completion(commands: dict[str, argparse.ArgumentParser]) -> int:
    print("_emamba() {\n  local words\n  case $COMP_CWORD:${COMP_WORDS[1]} in")
    print(f"    1:*) words='{' '.join(commands)}' ;;")
    for name, parser in commands.items():
        flags = [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
        print(f"    *:{name}) words='{' '.join(flags)}' ;;")
    print('  esac\n  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))\n}')
    print("complete -o default -F _emamba emamba")
    return 0


def _train(options: argparse.Namespace) -> int:
    try:
        from emamba.training.loop import train
    except ImportError as error:
        raise EmambaError(f"training needs the extra [train] ({error}): pip install 'emamba[train]'") from None
    recipe = load_toml(Recipe, options.recipe)
    record = train(recipe, options.out, options.data, threads=options.threads)
    for part in ("validate", "test"):
        print(f"{part}: {words(record['figures'][part], record['figures']['unit'])}")
    return 0


def _prepare(options: argparse.Namespace) -> int:
    from emamba.datasets import prepare
    from emamba.io.tables import one_name, split_names

    check_replaceable(options.out, prepare.MARKER, prepare.RECORD)
    prepare.check_name(options.out)
    if not options.source.exists():
        raise EmambaError(f"{options.source} does not exist: name a CSV file, or a folder of sounds")
    if options.source.is_dir():
        if options.inputs or options.target:
            raise EmambaError(f"{options.source} is a folder, of sounds: --inputs and --target are for a CSV file")
        found = prepare.sounds(options.source, options.seconds, options.bands)
    else:
        if not options.inputs or not options.target:
            raise EmambaError(f"{options.source} is read as CSV: name its columns with --inputs and --target")
        found = prepare.series(options.source, split_names(options.inputs), one_name(options.target), options.length,
                               ahead=options.ahead, step=options.step, classes=options.classes)
    prepare.write(found, options.out)
    counts = " / ".join(str(len(x)) for x in found.x.values())
    length, features = found.x["train"].shape[1:]
    print(f"{counts} sequences of {length} tokens of {features} features to train / validate / test on, "
          + (f"{found.classes} classes: {', '.join(found.source['classes'])}" if found.classes else "1 value each"))
    print("\n".join([*found.remarks, f"{options.out}/recipe.toml: a recipe to start from"]))
    return 0


def _quantize(options: argparse.Namespace) -> int:
    settings = _settings(options, _known_settings(options.checkpoint))
    if options.calibration:
        return _quantize_on(options, settings)
    if options.auto_width:
        settings = _chosen_widths(options, settings)
    return _make_artifact(options, options.checkpoint, settings)


def _quantize_on(options: argparse.Namespace, settings: QuantizeConfig) -> int:
    """Quantizes a checkpoint on the inputs of --calibration."""
    from emamba.api import calibrated
    from emamba.io.tensor_files import read_array
    from emamba.quantization.quantize import read_model

    if options.auto_width:
        raise EmambaError("--auto-width judges widths on a data set: leave out --calibration, or --auto-width")
    recipe, weights, codec, record = read_model(options.checkpoint)
    known = {key: record[key] for key in ("import",) if key in record} | {"training": _trained(record)}
    data = read_array(options.calibration)
    return _save(calibrated(options.out.name, recipe.model, weights, codec, data, settings, known), options.out)


def _import(options: argparse.Namespace) -> int:
    from emamba.api import calibrated, check_ids, plain_codec, read_model_files, write_imported
    from emamba.io.tensor_files import read_array

    length, ids = options.length, None
    if options.calibration:
        ids = read_array(options.calibration)
        check_ids(ids)
        if length not in (None, ids.shape[1]):
            raise EmambaError(f"--length {length}, but the sequences of {options.calibration} have {ids.shape[1]} tokens: "
                              "leave out --length")
        length = ids.shape[1]
    elif options.norm == "range":
        raise EmambaError("--norm range needs --calibration with token ids to train on: no weights make RangeNorm equal to "
                          "RMSNorm")
    elif length is None:
        raise EmambaError("a checkpoint does not say how long its sequences are: give --length, or --calibration with token ids")
    if options.norm == "range" and options.run_folder is None:
        raise EmambaError("--norm range needs --run with a folder for its training")
    check_replaceable(options.out, "checkpoint.json" if ids is None else "manifest.json")
    settings = _settings(options)
    model = read_model_files(options.checkpoint, length)
    if options.norm == "range":
        from emamba.training.range_norms import exchange_norms

        train = validate(TrainConfig, {"epochs": options.epochs, "peak_lr": options.peak_lr}, "command line")
        model = exchange_norms(model, ids, train, options.run_folder)
    print("\n".join(model.notes))
    if ids is None:
        write_imported(model, options.out)
        print(f"{options.out}: a checkpoint of {sum(value.size for value in model.weights.values())} weights")
        return 0
    record = {"import": {"notes": list(model.notes)}}
    codec = plain_codec(model.config)
    return _save(calibrated(options.out.name, model.config, model.weights, codec, ids, settings, record), options.out)


def _chosen_widths(options: argparse.Namespace, settings: QuantizeConfig) -> QuantizeConfig:
    from rtl.plan.devices import find

    from .sensitivity import area, choose_widths, narrowed

    device, (bench, error) = find(options.device), _bench(options, settings)
    choice = choose_widths(bench, settings, options.tolerance, lambda artifact: area(artifact, device, options.cycles_per_token),
                           _progress(len(bench.names), "tensors"))
    print(f"{error} of {len(bench.tokens)} validation sequences: float {choice.float_error:.4g}, integer {choice.error:.4g}; "
          f"{device.name} at {options.cycles_per_token} cycles per token: shares of {choice.cost:.4f} in sum, "
          f"{choice.widest_cost:.4f} at the widest")
    print(", ".join(f"{name} {bits}" for name, bits in choice.bits.items()))
    return narrowed(settings, choice.bits)


def _sensitivity(options: argparse.Namespace) -> int:
    from .sensitivity import SETTINGS, sensitivity

    if not all(re.fullmatch(" *[0-9]{1,2} *", word) and 2 <= int(word) <= 24 for word in options.widths.split(",")):
        raise EmambaError(f"--widths {options.widths}: name numbers of bits from 2 to 24, separated by commas")
    widths = tuple(dict.fromkeys(int(word) for word in options.widths.split(",")))
    settings = _settings(options, _known_settings(options.checkpoint))
    bench, error = _bench(options, settings)
    base, rows = sensitivity(bench, settings, widths, _progress(len(bench.names) + len(SETTINGS), "tensors"))
    print(f"{error} of {len(bench.tokens)} validation sequences: {base:.4g}; its change when one tensor alone has other bits:")
    print(f"{'tensor':18} {'bits':>4}" + "".join(f"{width:>10}" for width in widths))
    for row in rows:
        cells = ("·" if width == row.bits else "–" if change is None else f"{change:+.4f}"
                 for width, change in row.changes.items())
        print(f"{row.name:18} {row.bits:4}" + "".join(f"{cell:>10}" for cell in cells))
    _write_json(options.json, {"error": error, "base": base, "sequences": len(bench.tokens), "rows": [
        {"name": row.name, "bits": row.bits, "changes": row.changes} for row in rows]})
    return 0


def _known_settings(folder: Path) -> QuantizeConfig | None:
    """How an artifact was quantized; None of a checkpoint."""
    if not (folder / "manifest.json").is_file():
        return None
    return validate(QuantizeConfig, load(folder).record.get("quantize", {}), f"{folder}/manifest.json: record.quantize")


def _bench(options: argparse.Namespace, settings: QuantizeConfig):
    """What judges widths: the float model, calibration data, and the validation part; and what the error is."""
    from emamba.quantization.quantize import read_model

    from .sensitivity import Bench

    recipe, weights, codec, _ = read_model(options.checkpoint)
    data = _load_data(recipe, options)
    if not len(data.x_validate):
        raise EmambaError(f"data set {data.name} has no validation part here, by which widths are judged: {data.train_remedy}")
    model = recipe.model
    tokens = executor_tokens(data.x_validate[:options.limit], model)
    return Bench(model, weights, codec, _calibration(data, model, settings), tokens, data.y_validate[:options.limit],
                 data.unit_scale), error_name(model.task, data.unit)


def _calibration(data: datasets.Dataset, model: ModelConfig, settings: QuantizeConfig) -> np.ndarray:
    from emamba.quantization.quantize import calibration_tokens

    if not len(data.x_train):
        raise EmambaError(f"data set {data.name} has no training part to calibrate on: {data.train_remedy}")
    return calibration_tokens(data.x_train, model, settings)


def _make_artifact(options: argparse.Namespace, checkpoint: Path, settings: QuantizeConfig) -> int:
    """Quantizes a checkpoint into options.out."""
    from emamba.quantization.quantize import quantize, read_model

    recipe, weights, codec, record = read_model(checkpoint)
    data = _load_data(recipe, options)
    tokens = _calibration(data, recipe.model, settings)
    source = {"name": data.name, "split": data.split, "note": data.note, "unit": data.unit, "unit_scale": data.unit_scale}
    artifact = quantize(options.out.name, recipe.model, weights, codec, tokens, settings, source, {"training": _trained(record)})
    return _measure_and_save(artifact, data, options.out)


def _trained(record: dict) -> dict:
    """What an artifact keeps of a checkpoint's record."""
    return {key: record[key] for key in ("recipe", "parameters", "epoch", "seed", "torch") if key in record}


def _load_data(recipe: Recipe, options: argparse.Namespace) -> datasets.Dataset:
    """The data set of a checkpoint."""
    from emamba.api import IMPORTED

    if recipe.data.name == IMPORTED:
        raise EmambaError(f"{options.checkpoint} was imported and names no data set: quantize it with --calibration FILE")
    return datasets.load(recipe.data.name, recipe.data.split, options.data, options.data is not None)


def _finetune(options: argparse.Namespace) -> int:
    try:
        from emamba.training.qat import Part, finetune, varied
    except ImportError as error:
        raise EmambaError(f"training needs the extra [train] ({error}): pip install 'emamba[train]'") from None
    artifact = load(options.artifact)
    if not {"name", "split"} <= set(artifact.data):
        raise EmambaError(f"{options.artifact} does not name a data set, so there is nothing to train it on")
    settings = load_toml(FinetuneConfig, options.config) if options.config else FinetuneConfig()
    given = {key: getattr(options, key) for key in ("epochs", "segments") if getattr(options, key)}
    settings = validate(FinetuneConfig, settings.model_dump() | given, "command line")
    data = datasets.load(artifact.data["name"], artifact.data["split"], options.data, options.data is not None)
    if not len(data.x_train):
        raise EmambaError(f"data set {data.name} has no training part: {data.train_remedy}")
    train, validate_on = (Part(executor_tokens(x, artifact.config), y) for x, y in ((data.x_train, data.y_train),
                                                                           (data.x_validate, data.y_validate)))
    recipe = artifact.record.get("training", {}).get("recipe", {}).get("train", {})
    trained = validate(TrainConfig, recipe, f"{options.artifact}/manifest.json: record.training.recipe.train")
    artifact = finetune(artifact, train, validate_on, settings, options.run_folder, data.unit_scale,
                        varied(artifact, data.x_train, trained))
    return _measure_and_save(replace(artifact, name=options.out.name), data, options.out)


def _measure_and_save(artifact: Artifact, data: datasets.Dataset, folder: Path) -> int:
    """Writes an artifact with its figures on the test part and the golden sequences."""
    tokens = executor_tokens(data.x_test, artifact.config)
    measured = {"note": f"{data.name}, {data.split} split, {data.note}; {len(tokens)} test sequences"}
    for backend in ("float", "int"):
        values = predict(artifact, backend, make_executor(artifact, backend), tokens)
        measured[backend] = data_figures(artifact.config.task, values, data.y_test, data)
        print(f"{backend}: {words(measured[backend], data.unit)}")
        if data.test_seen is not None:
            seen = data_figures(artifact.config.task, values[data.test_seen], data.y_test[data.test_seen], data)
            measured.setdefault("subjects_of_training", {})[backend] = seen
    artifact.record["figures"] = measured
    record_golden(artifact, tokens)
    return _save(artifact, folder)


def _save(artifact: Artifact, folder: Path) -> int:
    for name, certificate in artifact.record["certificate"].items():
        holds = "cannot overflow" if certificate["holds"] else "may saturate"
        print(f"{name}: the state {holds} (bound {certificate['bound']} of {certificate['limit']})")
    print(f"{folder}: digest {save(artifact, folder)[:16]}")
    return 0


def _search(options: argparse.Namespace) -> int:
    wanted = _open_search(options, options.out)
    from .search.pareto import table, write
    from .search.search import best, finished, missing, open_study, run

    study = open_study(wanted) if options.show else run(wanted, options.trials, options.workers)
    if best(study):
        print(table(study, wanted.space))
    write(study, wanted.space, options.out)
    done = len(finished(study))
    print(f"{done} trials{', all points of the space' * (done >= wanted.space.size)}; {options.out}/search.json has them all")
    shortfall = None if options.show else missing(wanted, study, options.trials)
    if shortfall:
        raise EmambaError(shortfall)
    return 0


def _pick(options: argparse.Namespace) -> int:
    wanted = _open_search(options, options.search)
    from .search.search import checkpoint

    folder, settings = checkpoint(wanted, options.trial, options.epochs, options.threads)
    return _make_artifact(options, folder, _settings(options, settings))


def _open_search(options: argparse.Namespace, folder: Path):
    """The search of a file and a folder; refuses where its extras are missing."""
    from .search.space import Space

    space = load_toml(Space, options.space)
    try:
        from .search.search import Search
    except ImportError as error:
        raise EmambaError(f"a search needs the extras [search,train] ({error}): pip install 'emamba[search,train]'") from None
    return Search(space, space.search.name or options.space.stem, folder, options.storage, options.data)


def _settings(options: argparse.Namespace, base: QuantizeConfig | None = None) -> QuantizeConfig:
    base = load_toml(QuantizeConfig, options.config) if options.config else base
    settings = base.model_dump() if base else {}
    for item in options.set:
        key, equals, value = item.partition("=")
        try:
            settings[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key] = value
        if not equals:
            raise EmambaError(f"--set {item}: write KEY=VALUE")
    return validate(QuantizeConfig, settings, "quantization settings")


def _part(options: argparse.Namespace, artifact: Artifact) -> tuple[np.ndarray, np.ndarray, datasets.Dataset]:
    """Tokens and targets of the asked part of the artifact's data set."""
    if getattr(options, "inputs", None):
        return _given(options.inputs, artifact, options.limit)
    if not {"name", "split"} <= set(artifact.data):
        remedy = ": give --inputs" if hasattr(options, "inputs") else ""
        raise EmambaError(f"{options.artifact} does not name a data set, so there is nothing to run it on{remedy}")
    data = datasets.load(artifact.data["name"], artifact.data["split"], options.data, options.data is not None)
    x, y = getattr(data, f"x_{options.split}")[:options.limit], getattr(data, f"y_{options.split}")[:options.limit]
    if not len(x):
        raise EmambaError(f"data set {data.name} has no {options.split} part here: {data.train_remedy}")
    return executor_tokens(x, artifact.config), y, data


def _given(file: Path, artifact: Artifact, limit: int | None) -> tuple[np.ndarray, np.ndarray, datasets.Dataset]:
    """Tokens of the inputs in a file, as a data set without targets."""
    from emamba.api import check_data
    from emamba.io.tensor_files import read_array

    x = read_array(file)
    check_data(x, artifact.config)
    x, none = x[:limit], x[:0]
    return executor_tokens(x, artifact.config), none, datasets.Dataset(file.name, "given", "no targets", *[none] * 4, x, none)


def _evaluate(options: argparse.Namespace) -> int:
    artifact = load(options.artifact)
    tokens, targets, data = _part(options, artifact)
    executor = make_executor(artifact, options.backend, cycles_per_token=options.cycles_per_token)
    start = time.monotonic()
    values = predict(artifact, options.backend, executor, tokens, _progress(len(tokens)))
    seconds = time.monotonic() - start
    measured = data_figures(artifact.config.task, values, targets, data)
    metric, _ = BETTER[artifact.config.task]
    result = {"metric": metric, "value": measured[metric], "unit": data.unit, "figures": measured, "samples": len(tokens),
              "backend": options.backend, "seconds": round(seconds, 3), "data": f"{data.name}, {data.split} split, {data.note}"}
    _write_json(options.json, result)
    print(f"{options.backend}: {words(measured, data.unit)} on {len(tokens)} sequences ({result['data']})")
    return 0


def _compare(options: argparse.Namespace) -> int:
    from .compare import compare

    backends = tuple(options.backends.split(","))
    if len(backends) != 2 or not set(backends) <= set(BACKENDS):
        raise EmambaError(f"--backends {options.backends}: name two of {', '.join(BACKENDS)}, separated by a comma")
    artifact = load(options.artifact)
    tokens, _, data = _part(options, artifact)
    executors = tuple(make_executor(artifact, backend, cycles_per_token=options.cycles_per_token, trace=True)
                      for backend in backends)
    result = compare(artifact, backends, executors, tokens, _progress(len(tokens)))
    print(f"{' against '.join(backends)}, {result.frames} sequences ({data.name}, {data.split} split, {data.note})")
    if result.exact:
        print(f"{'key':20} {'values':>12} {'mismatches':>12} {'largest':>10}  first")
        for name, key in result.keys.items():
            first = "" if key.first is None else (f"sequence {key.first['at'][0]}, token {key.first['at'][1]}, channel "
                                                  f"{key.first['at'][2]}: {key.first['values']} in {key.first['format']}")
            print(f"{name:20} {key.values:12} {key.mismatches:12} {key.largest:10.0f}  {first}")
        print(f"{result.mismatches} mismatches")
        if result.mismatches:
            name, key = next((name, key) for name, key in result.keys.items() if key.first)
            (sequence, token, channel), (left, right) = key.first["at"], key.first["values"]
            print(f"first in the order of the data: {name}, token {token}, channel {channel} of sequence {sequence}: "
                  f"{backends[0]} {left}, {backends[1]} {right}, in {key.first['format']}; what it reads is equal: "
                  f"{', '.join(_read_by(artifact, name))}")
    else:
        print(f"{'key':20} {'values':>12} {'rms':>12} {'largest':>12}")
        for name, key in result.keys.items():
            print(f"{name:20} {key.values:12} {key.rms:12.4g} {key.largest:12.4g}")
    _write_json(options.json, {
        "frames": result.frames, "backends": list(backends), "mismatches": result.mismatches,
        "keys": {name: {"values": key.values, "mismatches": key.mismatches, "largest": key.largest, "rms": key.rms,
                        "first": key.first} for name, key in result.keys.items()},
    })
    return 1 if result.mismatches else 0


def _read_by(artifact: Artifact, name: str) -> tuple[str, ...]:
    return next(node.inputs for node in build_graph(artifact.config) if node.name == name) or ("the data",)


def _trace(options: argparse.Namespace) -> int:
    artifact = load(options.artifact)
    names = [node.name for node in build_graph(artifact.config)]
    keys = options.keys.split(",") if options.keys else names
    for key in keys:
        if key not in names:
            raise EmambaError(f"--keys {key}: {artifact.name} has no such node; it has: {', '.join(names)}")
    if options.out.suffix != ".npz":
        raise EmambaError(f"--out {options.out}: name a file that ends with .npz")
    if options.backend == "rtl" and "input" in keys and options.keys:
        raise EmambaError("--keys input: the design shows what its blocks give; take the backend int for its input")
    tokens, _, data = _part(options, artifact)
    executor = make_executor(artifact, options.backend, cycles_per_token=options.cycles_per_token, trace=True)
    values = executor(tokens, keys)
    forms = {key: str(artifact.operators[key].o) for key in values}
    write_file(options.out, lambda temporary: _save_arrays(temporary, values))
    _write_json(options.json, {"backend": options.backend, "sequences": len(tokens), "nodes": {
        key: {"shape": list(value.shape), "format": forms[key]} for key, value in values.items()}})
    for key, value in values.items():
        print(f"{key:20} {list(value.shape)!s:20} {'real' if options.backend == 'float' else forms[key]}")
    print(f"{options.out}: {len(tokens)} sequences of {data.name}, {options.backend}")
    return 0


def _save_arrays(path: Path, values: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:  # a name would get another suffix
        np.savez_compressed(file, **values)


def _simulate(options: argparse.Namespace) -> int:
    from rtl.kit import packing
    from rtl.plan.schedule import Schedule
    from sim.recorder import record
    from sim.waveform import write_gtkw, write_vcd

    if options.vcd and options.vcd.suffix != ".vcd":
        raise EmambaError(f"--vcd {options.vcd}: name a file that ends with .vcd")
    artifact = load(options.artifact)
    tokens, _, data = _part(options, artifact)
    integers = artifact.codec.encode(tokens, artifact.input)
    schedule = Schedule(artifact, options.cycles_per_token)
    recording = record(schedule, integers, options.cycles, options.stall_percent, _progress(options.cycles, "cycles"))
    if options.vcd:
        write_file(options.vcd, lambda path: write_vcd(recording, path))
        write_file(options.vcd.with_suffix(".gtkw"), lambda path: write_gtkw(recording, path))
    expected = packing.pack(schedule.output, IntegerModel(artifact).run(integers, ["head"])["head"])
    _, beats = recording.transfers("o")
    different = int((beats != expected[:len(beats)]).any(1).sum())
    found = {"artifact": {"name": artifact.name, "digest": artifact.digest}, "cycles_per_token": schedule.period,
             "stall_percent": options.stall_percent, "data": f"{data.name}, {data.split} split, {data.note}",
             "sequences": len(tokens), "beats": {"expected": len(expected), "left": len(beats), "different": different},
             **recording.stalls()}
    _write_json(options.json, found)
    print(f"{'stream':22}{'lanes':>6}{'transfer':>12}{'starved':>12}{'blocked':>12}   share of {recording.cycles} cycles")
    for stream in found["streams"]:
        shares = (f"{stream[kind] / recording.cycles:12.1%}" for kind in ("transfer", "starved", "blocked"))
        print(f"{stream['name']:22}{stream['lanes']:6}" + "".join(shares))
    print("starved: valid is low, it waits for its sender; blocked: ready alone is low, it waits for its receiver")
    print(f"{len(beats)} of {len(expected)} output beats of {len(tokens)} sequences came out ({found['data']}), {different} of "
          "them not the integer model's" + ("" if len(beats) == len(expected) else "; --cycles ended it"))
    if options.vcd:
        print(f"{options.vcd}, {options.vcd.with_suffix('.gtkw')}")
    return 1 if different else 0


def _profile(options: argparse.Namespace) -> int:
    from .report import profiling

    if options.plot:
        profiling.plotter()
    artifact = load(options.artifact)
    tokens, _, data = _part(options, artifact)
    units = profiling.profile(artifact, tokens, _progress(len(tokens)))
    if options.plot:
        profiling.plot(units, options.plot)
    _write_json(options.json, {"samples": len(tokens), "data": f"{data.name}, {data.split} split, {data.note}",
                               "units": [unit.report() for unit in units]})
    print("\n".join(profiling.table(units)))
    return 0


def _report(options: argparse.Namespace) -> int:
    from .report.collect import collect, lines
    from .report.page import page

    if options.out.suffix != ".html":
        raise EmambaError(f"--out {options.out}: name a file that ends with .html")
    artifact = load(options.artifact)
    sensitivity = _written(options.sensitivity, "sensitivity", lambda found: _is_sensitivity(found, artifact))
    stalls = _written(options.stalls, "simulate", lambda found: _is_stalls(found, artifact))
    tokens, targets, data = _part(options, artifact)
    report = collect(artifact, tokens, targets, data, cycles_per_token=options.cycles_per_token, sensitivity=sensitivity,
                     stalls=stalls, backends=("float", "int", "rtl") if options.rtl else ("float", "int"), step=_step)
    text = page(report)
    _write_json(options.out.with_suffix(".json"), report)
    _write_json(options.json, report)
    write_file(options.out, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    print("\n".join(lines(report)))
    print(f"\n{options.out}, {options.out.with_suffix('.json')}")
    return 0


def _written(file: Path | None, command: str, is_of: Callable[[dict], bool]) -> dict | None:
    """What `emamba COMMAND --json` wrote of the artifact."""
    if file is None:
        return None
    try:
        found = json.loads(read_text(file, LARGEST_JSON))
        if not is_of(found):
            raise ValueError("it is of another artifact")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EmambaError(f"{file} is not what emamba {command} --json writes ({error}): run it again") from None
    return found


def _is_sensitivity(found: dict, artifact: Artifact) -> bool:
    names = {row["name"] for row in found["rows"] if row["changes"].keys() and row["bits"]}
    return {*found} >= {"error", "base", "sequences"} and bool(names & set(artifact.operators))


def _is_stalls(found: dict, artifact: Artifact) -> bool:
    bins = len(found["edges"]) - 1
    whole = all({*stream} >= {"name", "transfer", "blocked"} and all(len(stream["bins"][kind]) == bins for kind in
                                                                   ("transfer", "blocked")) for stream in found["streams"])
    known = {*found} >= {"cycles", "sequences", "data", "stall_percent", "cycles_per_token"}
    return whole and known and found["artifact"]["digest"] == artifact.digest


def _step(name: str) -> None:
    if sys.stderr.isatty():
        print(f"{name} …", file=sys.stderr, flush=True)


def _progress(total: int, what: str = "sequences"):
    """A line on a terminal that is rewritten as work goes on; nothing in a pipe."""
    if not sys.stderr.isatty():
        return None

    def show(done: int) -> None:
        print(f"\r{done} of {total} {what}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return show


def _write_json(path: Path | None, value: dict) -> None:
    if path is not None:
        write_file(path, lambda temporary: temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
