"""Figures of the shipped artifacts, and errors of their piecewise-linear units."""

from pathlib import Path

import numpy as np

from emamba import piecewise
from emamba.artifact import Artifact, load


def measure(artifact: Artifact) -> dict:
    return {
        "artifacts": {path.parent.name: load(path.parent).record["figures"]
                      for path in sorted(Path("models").glob("*/manifest.json"))},
        "segments": {name: _segments(artifact, name) for name in ("block0.silu", "block1.silu", "block0.y", "block1.y")},
    }


def _segments(artifact: Artifact, node: str) -> dict:
    """Errors of a shipped unit and of the paper's chord rule on the same formats, over every input code."""
    op = artifact.operators[node]
    name, unit = ("exp", op.decay) if node.endswith(".y") else ("silu", op.segments)
    wanted = artifact.record["quantize"][f"{name}_segments"]
    rules = {rule: piecewise.fit(name, unit.i, unit.o, wanted, rule) for rule in ("chord", "authors", "authors_5bit")}
    domain = (-np.inf, 0.0) if name == "exp" else None
    return {"function": name, "i": str(unit.i), "o": str(unit.o), "max_lsb": {
        rule: piecewise.errors(segments, name, domain)["max_table"] for rule, segments in ({"shipped": unit} | rules).items()}}


def table(result: dict) -> list[str]:
    lines = ["## Accuracy of the shipped artifacts", "",
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
        figures = " | ".join(str(unit["max_lsb"][rule]) for rule in ("shipped", "chord", "authors", "authors_5bit"))
        lines.append(f"| {node} | {unit['function']} | {unit['i']} → {unit['o']} | {figures} |")
    return lines
