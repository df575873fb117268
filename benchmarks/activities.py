"""Section of the evaluation on activities from radar points: windows, an answer a frame, and votes over whole recordings."""

import math
from pathlib import Path

import numpy as np

from emamba import datasets
from emamba.artifact import load
from emamba.datasets import data_directory, radhar
from emamba.run.executors import make_executor, predict

MODEL = Path("models/radhar")
RESAMPLES = 10_000
FRAMES = (60, 100, 200, 300, 500)
"""Frames of a recording after which it is voted on."""


def activities() -> list[dict]:
    """The float and the integer model on the official test recordings."""
    artifact = load(MODEL)
    data = datasets.load("radhar")
    frames, recording, activity, test = radhar.read_recordings(radhar.find(data_directory()))
    every = radhar.cut(frames, recording, test, 1)
    rows = []
    for backend in ("float", "int"):
        executor = make_executor(artifact, backend)
        for name, (x, r) in {"windows": (data.x_test, data.test_recording), "every frame": every}.items():
            found = predict(artifact, backend, executor, x.astype(np.float64)).argmax(-1)
            right = found == activity[r]
            low, high = interval(right, r)
            rows.append({"backend": backend, "answers": name, "count": len(right), "accuracy": float(right.mean()), "low": low,
                         "high": high, "recordings": len(np.unique(r)), "confusion": confusion(activity[r], found),
                         "votes": votes(found, r, activity, 10 if name == "windows" else 1)})
    return rows


def interval(right: np.ndarray, recording: np.ndarray) -> tuple[float, float]:
    """Of the accuracy, 95 %: recordings are drawn anew, as wholes, since windows of one recording are alike."""
    recordings, place = np.unique(recording, return_inverse=True)
    total, good = np.bincount(place), np.bincount(place, weights=right)
    drawn = np.random.RandomState(0).randint(len(recordings), size=(RESAMPLES, len(recordings)))
    low, high = np.percentile(good[drawn].sum(1) / total[drawn].sum(1), (2.5, 97.5))
    return float(low), float(high)


def exact_low(right: int, count: int) -> float:
    """Lower end of the exact two-sided 95 % interval (Clopper and Pearson) of a share `right` of `count`."""
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        tail = sum(math.comb(count, k) * p**k * (1 - p) ** (count - k) for k in range(right, count + 1))
        low, high = (p, high) if tail < 0.025 else (low, p)
    return low


def votes(found: np.ndarray, recording: np.ndarray, activity: np.ndarray, stride: int) -> dict[str, int]:
    """Recordings whose most frequent answer of the first frames is right, by how many frames there were."""
    result = dict.fromkeys(map(str, FRAMES), 0) | {"all": 0}
    for r in np.unique(recording):
        answers = found[recording == r]
        for frames in result:
            seen = answers if frames == "all" else answers[:(int(frames) - radhar.WINDOW) // stride + 1]
            result[frames] += int(np.bincount(seen).argmax() == activity[r])
    return result


def confusion(wanted: np.ndarray, found: np.ndarray) -> list[list[int]]:
    size = len(radhar.ACTIVITIES)
    return np.bincount(wanted * size + found, minlength=size * size).reshape(size, size).tolist()


def table_activities(rows: list[dict]) -> list[str]:
    last = next(row for row in rows if row["backend"] == "int" and row["answers"] == "windows")
    right, count = last["votes"]["all"], last["recordings"]
    lines = ["## Activities from radar points", "",
             "RadHAR, official Test folder (55 of its 58 recordings are here), `models/radhar`: windows of 60 frames, one every",
             "10 frames, and one at every frame, as a stream gives them. The interval is of 95 %, from recordings drawn anew as",
             f"wholes. Votes: recordings out of {count} whose most frequent answer is right after so many frames, 27 a second;",
             f"{right} of {count} leave {exact_low(right, count):.1%} as lower end of the true share (exact, 95 %).", "",
             "| model | an answer | answers | accuracy | interval |" + "".join(f" {key} frames |" for key in last["votes"]),
             "| --- | --- | --- | --- | --- |" + " --- |" * len(last["votes"])]
    for row in rows:
        lines.append(f"| {'integer' if row['backend'] == 'int' else 'float'} | {row['answers']} | {row['count']:,} "
                     f"| {row['accuracy']:.2%} | {row['low']:.1%} to {row['high']:.1%} |"
                     + "".join(f" {value} |" for value in row["votes"].values()))
    lines += ["", "What the integer model answers for windows of each activity:", "",
              "| | " + " | ".join(radhar.ACTIVITIES) + " |", "| --- |" + " --- |" * len(radhar.ACTIVITIES)]
    lines += [f"| {name} | " + " | ".join(map(str, row)) + " |"
              for name, row in zip(radhar.ACTIVITIES, last["confusion"], strict=True)]
    return [*lines, "", "Published on the official split, 60 frames a window: 91.75 % with 0.83 M parameters (arXiv 2511.08910);",
            "by the data set's authors 90 % with a Bi-LSTM and 92 % with a CNN before it, on voxels."]
