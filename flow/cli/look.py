"""`emamba evaluate | compare | trace | profile | report`: what an artifact computes."""

import argparse
import time
from pathlib import Path

import numpy as np

from emamba.artifact import load
from emamba.base.errors import SettingError
from emamba.base.progress import meter, say
from emamba.base.words import counted
from emamba.datasets.metrics import BETTER, data_figures, value_words, words
from emamba.io.files import write_file
from emamba.run.executors import predict

from ..executors import BACKENDS, make_executor
from ..verdict import baseline_of, figure_part
from .arguments import Commands, command
from .designs import add_cycles, add_design, add_sequences, design_of
from .inputs import sequences, source_of
from .output import write_json


def add(commands: Commands) -> None:
    sub = command(commands, "evaluate", _evaluate, "emamba evaluate models/mars --backend int")
    add_sequences(sub)
    add_design(sub)
    sub.add_argument("--targets", type=Path, metavar="FILE", help="with --inputs: what the model should give, in a .npy file")
    sub.add_argument("--backend", choices=BACKENDS, default="int")
    sub = command(commands, "compare", _compare, "emamba compare models/mars --backends int,rtl")
    add_sequences(sub)
    add_design(sub)
    sub.add_argument("--backends", default="int,rtl", help="two of float, int, rtl (default: int,rtl)")
    sub = command(commands, "trace", _trace,
                  "emamba trace models/mars --keys block0.y,block0.dt --limit 10 --out build/trace.npz")
    add_sequences(sub)
    add_design(sub)
    sub.add_argument("--backend", choices=BACKENDS, default="int")
    sub.add_argument("--keys", metavar="NAMES", help="nodes, separated by commas (default: all)")
    sub.add_argument("--out", type=Path, required=True, help=".npz file")
    sub = command(commands, "profile", _profile, "emamba profile models/mars --plot build/profile.svg")
    add_sequences(sub)
    sub.add_argument("--plot", type=Path, help="also draw functions, segments, errors and histograms into this SVG file")
    sub = command(commands, "report", _report, "emamba report models/mars --out build/report.html")
    add_sequences(sub)
    add_cycles(sub)
    sub.add_argument("--out", type=Path, required=True, help="HTML file; report.json of the same figures goes beside it, under "
                     "the same name")
    sub.add_argument("--device", default="zcu102", metavar="D", help="of the verdict (default: zcu102)")
    sub.add_argument("--rtl", action="store_true", help="run the hardware's simulation too, which takes minutes to build")
    sub.add_argument("--sensitivity", type=Path, metavar="FILE", help="what `emamba sensitivity --json FILE` wrote")
    sub.add_argument("--stalls", type=Path, metavar="FILE", help="what `emamba simulate --json FILE` wrote")
    sub.set_defaults(beside={"out": ".json"})


def _evaluate(options: argparse.Namespace) -> int:
    artifact = load(options.artifact)
    tokens, targets, data = sequences(options, artifact)
    if not len(targets):
        raise SettingError("figures need targets: give them by --targets FILE beside --inputs")
    executor = make_executor(artifact, options.backend, cycles_per_token=design_of(options))
    start = time.monotonic()
    values = predict(artifact, options.backend, executor, tokens, meter(len(tokens), "sequences"))
    seconds = time.monotonic() - start
    measured = data_figures(artifact.config.task, values, targets, data)
    metric, _ = BETTER[artifact.config.task]
    baseline = None if options.inputs or options.split == "train" else baseline_of(data, artifact.record)
    figure = figure_part(artifact.config.task, data.unit, {"int": measured}, baseline, options.split)
    write_json(options.json, {
        "metric": metric, "value": measured[metric], "unit": data.unit, "figures": measured, "samples": len(tokens),
        "backend": options.backend, "seconds": round(seconds, 3), "data": source_of(data), "baseline": figure.get("baseline")})
    beside = f"; {figure['baseline']['name']}: {value_words(metric, figure['baseline']['value'])}" if "baseline" in figure else ""
    print(f"{options.backend}: {words(measured, data.unit)} on {counted(len(tokens), 'sequence')} ({source_of(data)}){beside}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    from ..compare import compare, table

    backends = tuple(options.backends.split(","))
    if len(backends) != 2 or not set(backends) <= set(BACKENDS):
        raise SettingError(f"--backends {options.backends}: name two of {', '.join(BACKENDS)}, separated by a comma")
    artifact = load(options.artifact)
    tokens, _, data = sequences(options, artifact)
    executors = tuple(make_executor(artifact, backend, cycles_per_token=design_of(options), trace=True)
                      for backend in backends)
    result = compare(artifact, backends, executors, tokens, meter(len(tokens), "sequences"))
    print(f"{' against '.join(backends)}, {counted(result.frames, 'sequence')} ({source_of(data)})")
    print(table(result, artifact, backends))
    write_json(options.json, {"frames": result.frames, "backends": list(backends), "mismatches": result.mismatches,
                              "keys": {name: key.report() for name, key in result.keys.items()}})
    return 1 if result.mismatches else 0


def _trace(options: argparse.Namespace) -> int:
    artifact = load(options.artifact)
    names = [node.name for node in artifact.graph]
    keys = options.keys.split(",") if options.keys else names
    for key in keys:
        if key not in names:
            raise SettingError(f"--keys {key}: {artifact.name} has no such node; it has: {', '.join(names)}")
    if options.out.suffix != ".npz":
        raise SettingError(f"--out {options.out}: name a file that ends with .npz")
    if options.backend == "rtl" and options.keys and (inputs := [key for key in keys if key in artifact.graph.inputs]):
        raise SettingError(f"--keys {inputs[0]}: the design shows what its blocks give; take the backend int for its input")
    tokens, _, data = sequences(options, artifact)
    executor = make_executor(artifact, options.backend, cycles_per_token=design_of(options), trace=True)
    values = executor(tokens, keys)
    forms = {key: str(artifact.operators[key].o) for key in values}
    write_file(options.out, lambda temporary: _save_arrays(temporary, values))
    write_json(options.json, {"backend": options.backend, "sequences": len(tokens), "nodes": {
        key: {"shape": list(value.shape), "format": forms[key]} for key, value in values.items()}})
    for key, value in values.items():
        print(f"{key:20} {list(value.shape)!s:20} {'real' if options.backend == 'float' else forms[key]}")
    print(f"{options.out}: {counted(len(tokens), 'sequence')} of {data.name}, {options.backend}")
    return 0


def _save_arrays(path: Path, values: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:  # a name would get another suffix
        np.savez_compressed(file, **values)


def _profile(options: argparse.Namespace) -> int:
    from ..report import profiling

    artifact = load(options.artifact)
    tokens, _, data = sequences(options, artifact)
    units = profiling.profile(artifact, tokens, meter(len(tokens), "sequences"))
    if options.plot:
        profiling.plot(units, options.plot)
    write_json(options.json, {"samples": len(tokens), "data": source_of(data), "units": [unit.report() for unit in units]})
    print("\n".join(profiling.table(units)))
    return 0


def _report(options: argparse.Namespace) -> int:
    from rtl.plan.devices import find

    from ..report.collect import collect, lines
    from ..report.page import page
    from ..report.written import read_sensitivity, read_stalls

    if options.out.suffix != ".html":
        raise SettingError(f"--out {options.out}: name a file that ends with .html")
    device = find(options.device).name
    artifact = load(options.artifact)
    sensitivity = options.sensitivity and read_sensitivity(options.sensitivity, artifact)
    stalls = options.stalls and read_stalls(options.stalls, artifact)
    tokens, targets, data = sequences(options, artifact)
    report = collect(artifact, tokens, targets, data, cycles_per_token=options.cycles_per_token, device=device,
                     sensitivity=sensitivity, stalls=stalls, step=say,
                     backends=("float", "int", "rtl") if options.rtl else ("float", "int"),
                     command=getattr(options, "line", ""))
    text = page(report)
    write_json(options.out.with_suffix(".json"), report)
    write_json(options.json, report)
    write_file(options.out, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    print("\n".join(lines(report)))
    print(f"\n{options.out}, {options.out.with_suffix('.json')}")
    return 0
