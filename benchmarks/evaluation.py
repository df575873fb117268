"""Writes docs/evaluation.json and docs/evaluation.md: the data sets, and what each step from float to hardware costs.

`make evaluation`, or `python -m benchmarks.evaluation SECTION …`, which keeps the other sections' figures. Every integer figure
is the integer model's over the whole test part; the hardware equals it bit for bit.
"""

import sys
from pathlib import Path

import numpy as np

from emamba import datasets, piecewise
from emamba.artifact import Artifact, load
from emamba.base.door import guarded
from emamba.base.errors import DesignLimit, InputError
from emamba.config import QuantizeConfig
from emamba.datasets.metrics import BETTER, NAMES, data_figures
from emamba.datasets.tokens import executor_tokens
from emamba.ops import Activation, Scan
from emamba.ops.certificate import certify
from emamba.quantization.quantize import calibration_tokens, quantize
from emamba.run.executors import make_executor, predict
from emamba.run.integer import IntegerModel
from emamba.run.reference import Reference
from rtl.plan.planner import CYCLES_PER_TOKEN
from rtl.plan.schedule import Schedule

from . import activities, baselines, forms, outside, seeds, streams, texts
from .sections import write

MODELS = Path("models")
BASE = "mars"
"""The artifact whose float weights the steps start from: MARS, official split."""

INDEPENDENT = {"cifar10": 10_000, "fashion_mnist": 10_000, "japanese_vowels": 370}
"""Test sequences of the data sets of classes where these are not windows of few recordings."""

WIDE = {"activation_bits": 16, "residual_bits": 16, "output_bits": 24, "weight_bits": 12, "a_bits": 9, "decay_bits": 12,
        "state_bits": 40, "weight_scale": "dyadic", "rule": "exact", "exp_segments": 64, "bits": {"*.dt": 10}}
STEPS = [
    ("wide integers; δ and A by exp's unit, whose input has at most 18 bits", {}),
    ("SiLU in 17 segments, exp in 11", {"rule": "minimax", "exp_segments": 11}),
    ("INT8 weights, A and Ā", {"weight_bits": 8, "a_bits": 8, "decay_bits": 8, "weight_scale": "power_of_two"}),
    ("INT8 activations, 12 bits on the residual path",
     {"activation_bits": 8, "residual_bits": 12, "output_bits": 16, "bits": {}}),
    ("INT24 state, INT17 between tokens: the default", {"state_bits": 24}),
    ("INT8 on the residual path too: the paper's", {"residual_bits": 8}),
]
"""What changes from one row to the next."""
STATES = (24, 20, 16, 14, 12, 10, 8)
SEGMENTS = [("exact", 17, 11), ("minimax", 17, 11), ("minimax", 8, 8), ("minimax", 4, 4), ("minimax", 2, 2), ("chord", 17, 11),
            ("authors", 17, 11)]
SPACE = "models/searches/mars.toml"
LONG = 100_000
"""Tokens of the long sequence."""
A_BITS = (8, 10, 12)
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)


class Bench:
    """An artifact's float weights, its data, and figures of what they quantize to."""

    def __init__(self, name: str):
        self.artifact = load(MODELS / name)
        self.data = datasets.load(self.artifact.data["name"], self.artifact.data["split"])
        if not len(self.data.x_train):
            raise InputError(f"data set {self.data.name} has no training part to calibrate on: {self.data.train_remedy}")
        self.test = executor_tokens(self.data.x_test, self.artifact.config)

    def quantized(self, **changes) -> Artifact:
        settings = QuantizeConfig.model_validate(changes)
        a = self.artifact
        return quantize(a.name, a.config, a.weights, a.codec, calibration_tokens(self.data.x_train, a.config, settings), settings)

    def figures(self, artifact: Artifact | None = None, backend: str = "int") -> dict[str, float]:
        artifact = artifact or self.artifact
        values = predict(artifact, backend, make_executor(artifact, backend), self.test)
        return data_figures(artifact.config.task, values, self.data.y_test, self.data)


def shipped() -> list[dict]:
    """Every artifact in models/, as its manifest has it."""
    rows = []
    for path in sorted(MODELS.glob("*/manifest.json")):
        artifact = load(path.parent)
        rows.append({"artifact": artifact.name, "metric": BETTER[artifact.config.task][0], "unit": artifact.data.get("unit", ""),
                     "parameters": _parameters(artifact), **artifact.record["figures"]})
        if count := INDEPENDENT.get(artifact.data["name"]):
            rows[-1]["interval"] = interval(artifact.record["figures"]["int"]["accuracy"], count)
    return rows


def interval(share: float, count: int) -> list[float]:
    """Of 95 %, of a share of `count` independent answers (Wilson, 1927)."""
    z = 1.96
    middle, half = share + z * z / 2 / count, z * np.sqrt(share * (1 - share) / count + z * z / 4 / count**2)
    return [float(end / (1 + z * z / count)) for end in (middle - half, middle + half)]


def _parameters(artifact: Artifact) -> int:
    return sum(value.size for value in artifact.weights.values())


def units() -> list[dict]:
    """Largest error of the shipped piecewise-linear units, and of the paper's chord rule on the same formats, over every code."""
    artifact, rows = load(MODELS / BASE), []
    for node, op in artifact.operators.items():
        unit = op.decay if isinstance(op, Scan) else op.segments if isinstance(op, Activation) else None
        if unit is None:
            continue
        name, domain = ("exp", (-np.inf, 0.0)) if isinstance(op, Scan) else ("silu", None)
        wanted = artifact.record["quantize"][f"{name}_segments"]
        rules = {rule: piecewise.fit(name, unit.i, unit.o, wanted, rule) for rule in ("chord", "authors", "authors_5bit")}
        rows.append({"unit": node, "function": name, "i": str(unit.i), "o": str(unit.o), "errors": {
            rule: piecewise.errors(found, name, domain)["max_table"] for rule, found in ({"shipped": unit} | rules).items()}})
    return rows


def steps() -> list[dict]:
    bench = Bench(BASE)
    rows, settings = [{"step": "float", **bench.figures(backend="float")}], dict(WIDE)
    for title, changes in STEPS:
        settings |= changes
        rows.append({"step": title, **bench.figures(bench.quantized(**settings))})
    return rows


def states() -> list[dict]:
    """Widths of the recurrent state; the certificate's scale, and the calibrated one, which may saturate."""
    bench = Bench(BASE)
    rows = []
    for bits in STATES:
        row = {"bits": bits, "stored": bits - 7}
        for scale in ("certificate", "calibrated"):
            try:
                row[scale] = bench.figures(bench.quantized(state_bits=bits, state_scale=scale))
            except DesignLimit as error:
                row[scale] = {"refused": str(error)}
        rows.append(row)
    return rows


def segments() -> list[dict]:
    bench = Bench(BASE)
    return [{"rule": rule, "silu": silu, "exp": exp,
             **bench.figures(bench.quantized(rule=rule, silu_segments=silu, exp_segments=exp))} for rule, silu, exp in SEGMENTS]


def norms() -> list[dict]:
    """The same recipe with each norm; cycles and area are in the benchmarks."""
    names = [("range", BASE), ("layer", "mars_layer"), ("rms", "mars_rms")]
    rows = []
    for norm, name in names:
        bench = Bench(name)
        rows.append({"norm": norm, "float": bench.figures(backend="float"), "default": bench.figures(bench.quantized()),
                     "int8": bench.figures(bench.quantized(residual_bits=8))})
    return rows


def training() -> list[dict]:
    """Post-training quantization against quantization-aware training from there, pure INT8 activations."""
    rows = []
    for base, name in (("mars", "mars_int8"), ("mars_random", "mars_random_int8")):
        bench, trained = Bench(base), load(MODELS / name)
        rows.append({"split": trained.data["split"], "float": bench.figures(backend="float"),
                     "ptq": bench.figures(bench.quantized(**trained.record["quantize"])), "qat": bench.figures(trained),
                     "epochs": trained.record["finetuning"]["settings"]["epochs"]})
    return rows


def lengths() -> list[dict]:
    """Perplexity of one model over windows of other lengths: float, integer, and their ratio."""
    artifact = load(MODELS / "wikitext2")
    kind = artifact.data["split"].rpartition("-")[0]
    rows = []
    for length in LENGTHS:
        data = datasets.load("wikitext2", f"{kind}-{length}")
        row = {"tokens": length}
        for backend in ("float", "int"):
            values = predict(artifact, backend, make_executor(artifact, backend), data.x_test[..., None])
            row[backend] = data_figures("next_token", values, data.y_test, data)
        rows.append(row)
    return rows


def long() -> list[dict]:
    """One sequence of frames without end: the integer state against the exact recurrence on the same integers, by decade; with
    wider A too, whose coarse steps are what makes slow decays inexact."""
    bench = Bench(BASE)
    tokens = bench.test[:-(-LONG // bench.artifact.config.tokens)].reshape(1, -1, bench.test.shape[2])[:, :LONG]
    return [row for bits in A_BITS for row in _long(bench.quantized(a_bits=bits), tokens)]


def _long(artifact: Artifact, tokens: np.ndarray) -> list[dict]:
    model, reference = IntegerModel(artifact), Reference(artifact.graph, artifact.weights)
    scans = {node.name: node.inputs for node in model.graph if node.kind == "Scan"}
    kept = {name for inputs in scans.values() for name in inputs}
    integers = model.run(artifact.codec.encode(tokens, artifact.input), kept)
    values = {name: integers[name] * artifact.operators[name].o.step for name in kept}
    rows = []
    for name in scans:
        op = artifact.operators[name]
        wide, exact = model.states(name, integers)[0], reference.states(name, values)[0]
        error, windows, start = wide * op.h_wide.step - exact, {}, 0
        for end in (100, 1000, 10_000, LONG):
            windows[str(end)] = float(np.sqrt((error[start:end] ** 2).mean() / (exact[start:end] ** 2).mean()))
            start = end
        rows.append({"scan": name, "a_bits": op.a.bits, "tokens": len(wide), "windows": windows,
                     "largest": int(np.abs(wide).max()), "bound": certify(op).bound, "limit": op.h_wide.max})
    return rows


def searched() -> list[dict]:
    """The paper's shape and those that a search led to, all trained in full by the same settings."""
    rows = []
    for name in ("mars_random", "mars_small", "mars_best"):
        artifact = load(MODELS / name)
        schedule, config = Schedule(artifact, CYCLES_PER_TOKEN), artifact.config
        rows.append({"artifact": name, "parameters": _parameters(artifact),
                     "multiplies": schedule.multiplies_per_frame, "multipliers": schedule.multipliers,
                     "cycles": schedule.cycles_per_frame,
                     "shape": {key: getattr(config, key) for key in ("patch", "d_model", "expand", "d_state", "dt_rank", "d_conv",
                                                                     "blocks")},
                     **{backend: artifact.record["figures"][backend] for backend in ("float", "int")}})
    return rows


def table_shipped(rows: list[dict]) -> list[str]:
    lines = ["## The shipped artifacts", "",
             "The interval of an accuracy is of 95 %, from the number of test sequences; where these are windows of few",
             "recordings, it is [below](#activities-from-radar-points).", "",
             "| artifact | data | parameters | float | integer |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        low, high = row.get("interval", (0, 0))
        between = f" ({low:.1%} to {high:.1%})" if high else ""
        lines.append(f"| {row['artifact']} | {row['note']} | {row['parameters']:,} | {_words(row['float'], row['unit'])} "
                     f"| {_words(row['int'], row['unit'])}{between} |")
        if seen := row.get("subjects_of_training"):
            lines.append(f"| | of it, the subjects of the training | | {_words(seen['float'], row['unit'])} "
                         f"| {_words(seen['int'], row['unit'])} |")
    return [*lines, "", "The paper, MARS on its own random split: float RMSE 7.85 cm, MAE 5.66 cm; INT8 RMSE 8.83 cm."]


def table_units(rows: list[dict]) -> list[str]:
    return ["## Piecewise-linear units: largest error over every input code, in output steps", "",
            "Against the correctly rounded table; exp for arguments ≤ 0, the only ones that occur.", "",
            "| unit | function | formats | shipped (minimax) | chord rule | authors' table | authors', 5-bit slopes |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            *(f"| {row['unit']} | {row['function']} | {row['i']} → {row['o']} | {' | '.join(map(str, row['errors'].values()))} |"
              for row in rows)]


def table_steps(rows: list[dict]) -> list[str]:
    first = rows[0]
    return ["## From float to the default, one step after the other", "",
            "MARS, official split, post-training quantization. Each row keeps what the rows above it changed.", "",
            "| step | RMSE, cm | MAE, cm | RMSE − float |", "| --- | --- | --- | --- |",
            *(f"| {row['step']} | {row['rmse']:.3f} | {row['mae']:.3f} | {row['rmse'] - first['rmse']:+.3f} |" for row in rows)]


def table_states(rows: list[dict]) -> list[str]:
    def cell(found: dict) -> str:
        return f"{found['rmse']:.3f}" if "rmse" in found else "refused"

    return ["## Width of the recurrent state", "",
            "RMSE in cm with everything else as by default. The certificate's scale never saturates; the calibrated one may.", "",
            "| h_wide, bits | h, bits | certificate | calibrated |", "| --- | --- | --- | --- |",
            *(f"| {row['bits']} | {row['stored']} | {cell(row['certificate'])} | {cell(row['calibrated'])} |" for row in rows)]


def table_segments(rows: list[dict]) -> list[str]:
    return ["## Segments of SiLU and exp", "", "| rule | SiLU | exp | RMSE, cm |", "| --- | --- | --- | --- |",
            *(f"| {row['rule']} | {row['silu'] if row['rule'] != 'exact' else 'table'} | {row['exp']} | {row['rmse']:.3f} |"
              for row in rows)]


def table_norms(rows: list[dict]) -> list[str]:
    return ["## RangeNorm, LayerNorm, RMSNorm", "", "One recipe, three norms, each trained and quantized alike; RMSE in cm.",
            "Cycles and area: [benchmarks](benchmarks.md).", "",
            "| norm | float | default | pure INT8 |", "| --- | --- | --- | --- |",
            *(f"| {row['norm']} | {row['float']['rmse']:.3f} | {row['default']['rmse']:.3f} | {row['int8']['rmse']:.3f} |"
              for row in rows)]


def table_training(rows: list[dict]) -> list[str]:
    def cell(row: dict, kind: str) -> str:
        return f"{row[kind]['rmse']:.3f} ({row[kind]['rmse'] - row['float']['rmse']:+.3f})"

    return ["## After training, or in training", "",
            "Pure INT8 activations: post-training quantization (PTQ), and from there quantization-aware training (QAT), whose",
            "forward pass is the integer model. RMSE in cm; the float figures are those before.", "",
            "| split | float | PTQ | QAT | epochs of QAT |", "| --- | --- | --- | --- | --- |",
            *(f"| {row['split']} | {row['float']['rmse']:.3f} | {cell(row, 'ptq')} | {cell(row, 'qat')} | {row['epochs']} |"
              for row in rows)]


def table_lengths(rows: list[dict]) -> list[str]:
    return ["## Perplexity over the length", "",
            "WikiText-2, the test text in windows of L tokens. Trained on windows of 256 tokens of the validation text.", "",
            "| L | float perplexity | integer perplexity | ratio | bits per byte | word perplexity |",
            "| --- | --- | --- | --- | --- | --- |",
            *(f"| {row['tokens']:,} | {row['float']['perplexity']:.3f} | {row['int']['perplexity']:.3f} "
              f"| {row['int']['perplexity'] / row['float']['perplexity']:.4f} | {row['int']['bits_per_byte']:.4f} "
              f"| {row['int']['word_perplexity']:,.0f} |" for row in rows)]


def table_searched(rows: list[dict]) -> list[str]:
    paper = rows[0]["multiplies"]
    return ["## Shapes that a search led to", "",
            f"MARS, random split, trained alike; hardware at {CYCLES_PER_TOKEN} cycles a token. The trials of `{SPACE}` are",
            "proxies ([search.json](search.json), [pareto.svg](pareto.svg)): on their front lie patches of four sorted",
            "points, three blocks, expand 1 and dt_rank 2. d_model and d_state were then fitted to 60 % and to 100 % of the",
            "multiplies of the paper's shape.", "",
            "| artifact | shape | parameters | multiplies a frame | multipliers | cycles | float RMSE, cm | integer RMSE, cm |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *(f"| {row['artifact']} | {', '.join(f'{key} {_shape(value)}' for key, value in row['shape'].items())} "
              f"| {row['parameters']:,} | {row['multiplies']:,} ({row['multiplies'] / paper:.0%}) | {row['multipliers']} "
              f"| {row['cycles']} | {row['float']['rmse']:.3f} | {row['int']['rmse']:.3f} |" for row in rows)]


def _shape(value: int | list[int]) -> str:
    return "×".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def table_long(rows: list[dict]) -> list[str]:
    ends = list(rows[0]["windows"])
    starts = ["1", *(f"{int(end) + 1:,}" for end in ends[:-1])]
    return [f"## A sequence of {rows[0]['tokens']:,} tokens", "",
            "MARS frames one after another, the state never cleared: error of the integer state h_t against the exact",
            "recurrence on the same inputs, as a share of its RMS over those tokens; and the largest |h_wide| that came, beside",
            "the bound of the certificate and the limit of INT24: nothing saturates. The error levels off; what is left of it",
            "comes from the steps of A, since a slow decay is a small A.", "",
            "| scan | bits of A |" + "".join(f" {start} to {int(end):,} |" for start, end in zip(starts, ends, strict=True))
            + " largest | bound | limit |", "| --- | --- |" + " --- |" * (len(ends) + 3),
            *(f"| {row['scan']} | {row['a_bits']} |" + "".join(f" {row['windows'][end]:.1%} |" for end in ends)
              + f" {row['largest']:,} | {row['bound']:,} | {row['limit']:,} |" for row in rows)]


SECTIONS = {"shipped": (shipped, table_shipped), "steps": (steps, table_steps), "states": (states, table_states),
            "segments": (segments, table_segments), "units": (units, table_units), "norms": (norms, table_norms),
            "training": (training, table_training), "searched": (searched, table_searched), "lengths": (lengths, table_lengths),
            "texts": (texts.texts, texts.table_texts), "characters": (texts.characters, texts.table_characters),
            "long": (long, table_long), "forms": (forms.forms, forms.table_forms),
            "baselines": (baselines.baselines, baselines.table_baselines),
            "seeds": (seeds.seeds, seeds.table_seeds),
            "activities": (activities.activities, activities.table_activities),
            "streams": (streams.streams, streams.table_streams), "neighbours": (streams.neighbours, streams.table_neighbours),
            "folded": (forms.folded, forms.table_folded), "systolic": (outside.systolic, outside.table_systolic),
            "adders": (outside.adders, outside.table_adders)}


def _words(found: dict[str, float], unit: str) -> str:
    return ", ".join(f"{NAMES.get(key, key.replace('_', ' '))} {_number(key, value)}{' ' + unit if key in NAMES and unit else ''}"
                     for key, value in found.items())


def _number(key: str, value: float) -> str:
    return f"{value:.2%}" if key == "accuracy" else f"{value:.3f}" if value < 1000 else f"{value:,.0f}"


def main(names: list[str]) -> None:
    write("evaluation", [
        "# Evaluation", "", "Written by `make evaluation`; the same figures are in `evaluation.json`. MARS feature maps are "
        "rebuilt from its points;", "CIFAR-10 is a JPEG copy."], SECTIONS, names, load(MODELS / BASE))


if __name__ == "__main__":
    sys.exit(guarded("evaluation", lambda: main(sys.argv[1:])))
