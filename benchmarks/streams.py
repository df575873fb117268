"""Section of the evaluation on radar pose over time: what a state that is carried from frame to frame is worth."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from emamba import datasets
from emamba.artifact import Artifact, load
from emamba.datasets import Dataset, data_directory, mars
from emamba.datasets.metrics import data_figures
from emamba.datasets.tokens import executor_tokens
from emamba.run.executors import make_executor, predict
from rtl.plan.cost import estimate
from rtl.plan.planner import CYCLES_PER_TOKEN
from rtl.plan.schedule import Schedule

MODELS = Path("models")
AGES = ((0, 10), (10, 50), (50, None))
"""Frames since the recording began."""


def streams() -> list[dict]:
    """Figures on the official test part, and the hardware at the default folding."""
    alone, stream = load(MODELS / "mars"), load(MODELS / "mars_stream")
    data = datasets.load("mars", "official")
    starts = np.flatnonzero(np.diff(data.recordings["test"], prepend=-1) != 0)
    rows = []
    for state, artifact, cuts in (
            ("cleared before each frame", alone, None),
            ("the same, and a filter y ← y + (x − y)/2 after it", alone, None),
            ("cleared before each frame", _cleared(stream), None),
            ("cleared as a recording begins", stream, starts),
            ("never cleared", stream, np.array([0]))):
        row = {"model": artifact.name, "state": state, "parameters": sum(value.size for value in artifact.weights.values()),
               **_hardware(artifact)}
        for backend in ("float", "int"):
            values = _predicted(artifact, backend, executor_tokens(data.x_test, artifact.config), cuts)
            if "filter" in state:
                for t in range(1, len(values)):
                    values[t] = values[t - 1] + (values[t] - values[t - 1]) / 2
            row[backend] = _figures(values, data, np.ones(len(values), bool))
            row[f"{backend}_seen"] = _figures(values, data, data.test_seen)
        age = np.arange(len(values)) - np.repeat(starts, np.diff(np.append(starts, len(values))))
        row["ages"] = [_figures(values, data, (age >= low) & (age < (high or len(values))))["rmse"] for low, high in AGES]
        rows.append(row)
    return rows


def neighbours() -> list[dict]:
    """What copying a label that was trained on gives, on the random split."""
    data = datasets.load("mars", "random")
    labels, recording = mars.labelled(data_directory())
    train, _, test = mars.random_order(len(labels))
    trained = np.zeros(len(labels) + 2, bool)
    trained[train + 1] = True
    same = np.concatenate([[False], recording[1:] == recording[:-1], [False]])
    before, after = trained[test] & same[test], trained[test + 2] & same[test + 1]
    near = before | after
    copied = labels[test[near] + np.where(before[near], -1, 1)]
    error = (copied - labels[test[near]]) * data.unit_scale
    return [{"frames": len(test), "near": int(near.sum()), "mae": float(np.abs(error).mean()),
             "rmse": float(np.sqrt((error**2).mean(0)).mean())}]


def table_neighbours(rows: list[dict]) -> list[str]:
    row, = rows
    return ["## The random split is nearly in-sample", "",
            f"{row['near'] / row['frames']:.1%} of its {row['frames']:,} test frames have a training frame 0.1 s before or after "
            "them. Copying the label",
            f"of that frame gives an RMSE of {row['rmse']:.2f} cm and an MAE of {row['mae']:.2f} cm there. So figures of the "
            "random split say little about",
            "new recordings. The official split tests on the last fifth of each recording, and says more."]


def _cleared(artifact: Artifact) -> Artifact:
    return replace(artifact, graph=replace(artifact.graph, carried=False))


def _predicted(artifact: Artifact, backend: str, tokens: np.ndarray, cuts: np.ndarray | None) -> np.ndarray:
    """With the state of the start at each of `cuts`; None: before each sequence."""
    executor = make_executor(artifact, backend)
    parts = [tokens] if cuts is None else np.split(tokens, cuts[1:])
    return np.concatenate([predict(artifact, backend, executor, part) for part in parts])


def _figures(values: np.ndarray, data: Dataset, chosen: np.ndarray) -> dict[str, float]:
    return data_figures("regression", values[chosen], data.y_test[chosen], data)


def _hardware(artifact: Artifact) -> dict:
    schedule = Schedule(artifact, CYCLES_PER_TOKEN)
    return {"cycles": schedule.cycles_per_frame, "multipliers": schedule.multipliers,
            "lut": round(estimate(schedule, "xcup")["lut"])}


def table_streams(rows: list[dict]) -> list[str]:
    bands = [f"{low + 1} to {high}" if high else f"from {low + 1}" for low, high in AGES]
    lines = ["## Radar pose over time", "",
             "MARS, official split, rebuilt feature maps, all 7,984 test frames as one stream of 39 recordings in turn.",
             "`mars_stream` is `mars`, trained on with its state carried over 16, 64 and 256 frames of a recording, then over",
             "four windows of 64 frames from different recordings, so that it also learns to follow a change. MAE / RMSE in cm;",
             "subjects 2 to 4 are those with training labels here. The columns of frames are the integer model's RMSE by the",
             f"frames since a recording began. Hardware at {CYCLES_PER_TOKEN} cycles a token; LUT for UltraScale+ by the cost",
             "model.", "",
             "| model | state | float | integer | integer, subjects 2–4 | "
             + " | ".join(f"frames {band}" for band in bands) + " | cycles a frame | multipliers | LUT |",
             "| --- |" + " --- |" * (7 + len(bands))]
    for row in rows:
        figures = (f"{row[key]['mae']:.2f} / {row[key]['rmse']:.2f}" for key in ("float", "int", "int_seen"))
        lines.append(f"| {row['model']} | {row['state']} | " + " | ".join(figures) + " | "
                     + " | ".join(f"{value:.2f}" for value in row["ages"])
                     + f" | {row['cycles']} | {row['multipliers']} | {row['lut']:,} |")
    return lines
