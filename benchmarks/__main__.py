"""Measures, and writes docs/benchmarks.json and docs/benchmarks.md. `make bench` runs it."""

import json
import time
from pathlib import Path

import numpy as np

from emamba import datasets, piecewise
from emamba.artifact import Artifact, load
from emamba.datasets.tokens import to_tokens
from emamba.executors import make_executor, predict
from emamba.files import write_file
from rtl.schedule import Schedule
from sim.executor import RtlExecutor

DOCS = Path("docs")
MODEL = Path("models/mars")
SWEEP = (1, 2, 4, 8, 16, 20, 32, 58, 64, 128, 256, 800)
MEASURED = (20,)
FRAMES = 1000
PEERS = """\
| design | cycles a frame | multipliers | utilization | source |
| --- | --- | --- | --- | --- |
| the authors' 2024 RTL | about 1,450 | about 600 | about 0.3 | inferred from their Verilog |
| code_eMamba (dt_rank 3, MLP head) | 1,931 | 816 | 0.12 | simulated and synthesized |
| sway (Bluespec) | 18,592 | 78 DSP | – | its repository |
"""


def main() -> None:
    artifact = load(MODEL)
    data = datasets.load("mars", "official")
    tokens = to_tokens(data.x_test[:FRAMES], artifact.config).astype(np.float64)
    result = {
        "model": {"name": artifact.name, "digest": artifact.digest, "tokens": artifact.config.tokens},
        "sweep": [_scheduled(artifact, cycles) for cycles in SWEEP],
        "measured": [_measured(artifact, tokens, cycles) for cycles in MEASURED],
        "frames_per_second_over_float": _speed(artifact, tokens),
        "artifacts": {path.parent.name: load(path.parent).record["figures"]
                      for path in sorted(Path("models").glob("*/manifest.json"))},
        "segments": {name: _segments(artifact, name) for name in ("block0.silu", "block1.silu", "block0.y", "block1.y")},
    }
    write_file(DOCS / "benchmarks.json", lambda path: path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8"))
    write_file(DOCS / "benchmarks.md", lambda path: path.write_text(_page(result), encoding="utf-8"))


def _scheduled(artifact: Artifact, cycles_per_token: int) -> dict:
    report = Schedule(artifact, cycles_per_token).report()
    keys = ("cycles_per_token", "cycles_per_frame", "latency_cycles", "multipliers", "multiplies_per_frame", "utilization")
    return {"requested": cycles_per_token} | {key: report[key] for key in keys}


def _measured(artifact: Artifact, tokens: np.ndarray, cycles_per_token: int) -> dict:
    """Cycles of the Verilated design; equality with schedule and integer model is part of the measurement."""
    rtl = RtlExecutor(artifact, cycles_per_token, Path("build/native"))
    integers = artifact.codec.encode(tokens, artifact.input)
    head = rtl.run(integers, ["head"])["head"]
    expected = make_executor(artifact, "int")(tokens, ["head"])["head"]
    leaves = rtl.last.output_cycles[rtl.schedule.output.beats - 1::rtl.schedule.output.beats]
    return {
        "requested": cycles_per_token, "frames": len(tokens), "mismatches": int((head != expected).sum()),
        "cycles_per_frame": (int(leaves[-1]) - int(leaves[0])) / (len(leaves) - 1),
        "latency_cycles": int(leaves[0]) - rtl.last.first_input,
    }


def _speed(artifact: Artifact, tokens: np.ndarray) -> dict[str, float]:
    """Frames per second of each software executor over the float one's, best of three in turn."""
    executors = {name: make_executor(artifact, name) for name in ("float", "int")}
    best = dict.fromkeys(executors, float("inf"))
    for _ in range(3):
        for name, executor in executors.items():
            start = time.perf_counter()
            predict(artifact, name, executor, tokens)
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: round(best["float"] / seconds, 3) for name, seconds in best.items()}


def _segments(artifact: Artifact, node: str) -> dict:
    """Errors of a shipped unit and of the paper's chord rule on the same formats, over every input code."""
    op = artifact.operators[node]
    name, unit = ("exp", op.decay) if node.endswith(".y") else ("silu", op.segments)
    wanted = artifact.record["quantize"][f"{name}_segments"]
    rules = {rule: piecewise.fit(name, unit.i, unit.o, wanted, rule) for rule in ("chord", "authors", "authors_5bit")}
    domain = (-np.inf, 0.0) if name == "exp" else None
    return {"function": name, "i": str(unit.i), "o": str(unit.o), "max_lsb": {
        rule: piecewise.errors(segments, name, domain)["max_table"] for rule, segments in ({"shipped": unit} | rules).items()}}


def _page(result: dict) -> str:
    lines = ["# Benchmarks", "", "Written by `make bench`; the same figures are in `benchmarks.json`.", "",
             "## Cycles against multipliers: MARS, the paper's shape", "",
             "Scheduled, which the simulation equals where measured.", "",
             "| T asked | T | cycles a frame | latency | multipliers | utilization |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [f"| {row['requested']} | {row['cycles_per_token']} | {row['cycles_per_frame']:,} | {row['latency_cycles']:,} "
              f"| {row['multipliers']:,} | {row['utilization']:.3f} |" for row in result["sweep"]]
    lines += ["", "Measured on the Verilated design:", "", "| T | frames | cycles a frame | latency | mismatches |",
              "| --- | --- | --- | --- | --- |"]
    lines += [f"| {row['requested']} | {row['frames']:,} | {row['cycles_per_frame']:g} | {row['latency_cycles']} "
              f"| {row['mismatches']} |" for row in result["measured"]]
    lines += ["", "Others, for the same task:", "", PEERS, "## Accuracy of the shipped artifacts", "",
              "| artifact | data | float RMSE / MAE, cm | integer RMSE / MAE, cm | integer − float |",
              "| --- | --- | --- | --- | --- |"]
    for name, measured in result["artifacts"].items():
        rows = [(name, measured["note"], measured)]
        if "subjects_of_training" in measured:
            rows.append(("", "of it, the subjects of the training", measured["subjects_of_training"]))
        for title, note, part in rows:
            f, i = part["float"], part["int"]
            lines.append(f"| {title} | {note} | {f['rmse']:.3f} / {f['mae']:.3f} | {i['rmse']:.3f} / {i['mae']:.3f} "
                         f"| {i['rmse'] - f['rmse']:+.3f} |")
    lines += ["", "The paper: 7.85 / 5.66 float, 8.83 INT8 RMSE, on its own random split.", "",
              "## Piecewise-linear units: largest error over every input code, in output steps", "",
              "Against the correctly rounded table; exp for arguments ≤ 0, the only ones that occur.", "",
              "| unit | function | formats | shipped (minimax) | chord rule | authors' table | authors', 5-bit slopes |",
              "| --- | --- | --- | --- | --- | --- | --- |"]
    for node, unit in result["segments"].items():
        e = unit["max_lsb"]
        figures = " | ".join(str(e[rule]) for rule in ("shipped", "chord", "authors", "authors_5bit"))
        lines.append(f"| {node} | {unit['function']} | {unit['i']} → {unit['o']} | {figures} |")
    speed = result["frames_per_second_over_float"]["int"]
    lines += ["", "## Software", "",
              f"Frames per second of the integer model over the NumPy float executor, same run: {speed:.2f}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
