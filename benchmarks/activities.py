"""Section of the evaluation on activities from radar points: windows, an answer a frame, and votes over whole recordings."""

import math
from pathlib import Path

import numpy as np

from emamba.artifact import load
from emamba.datasets import data_directory, radhar
from emamba.run.executors import make_executor, predict

WINDOWS, STREAM = Path("models/radhar"), Path("models/radhar_stream")
RESAMPLES = 10_000
FRAMES = (60, 100, 200, 300, 500)
"""Frames of a recording after which it is voted on."""


def activities() -> list[dict]:
    """Float and integer models on the official test recordings: of windows, and of a stream whose state is never cleared."""
    frames, recording, activity, test = radhar.read_recordings(radhar.find(data_directory()))
    stream = radhar.stream(frames, recording, test)
    cases = [("a window every 10 frames", WINDOWS, radhar.cut(frames, recording, test), radhar.WINDOW, radhar.STRIDE),
             ("a window every frame", WINDOWS, radhar.cut(frames, recording, test, 1), radhar.WINDOW, 1),
             ("a frame, the state carried", STREAM, stream, 1, 1)]
    rows = []
    for name, model, (x, r), first, stride in cases:
        artifact = load(model)
        for backend in ("float", "int"):
            found = predict(artifact, backend, make_executor(artifact, backend), x.astype(np.float64)).argmax(-1)
            right = found == activity[r]
            begins = np.flatnonzero(np.diff(r, prepend=-1))
            place = np.arange(len(r)) - np.repeat(begins, np.diff(np.append(begins, len(r))))
            late = place * stride + first >= radhar.WINDOW
            low, high = interval(right, r)
            rows.append({"backend": backend, "answers": name, "artifact": artifact.name, "count": len(right),
                         "accuracy": float(right.mean()), "low": low, "high": high, "late": float(right[late].mean()),
                         "recordings": len(np.unique(r)), "confusion": confusion(activity[r], found),
                         "votes": votes(found, r, activity, first, stride)})
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


def votes(found: np.ndarray, recording: np.ndarray, activity: np.ndarray, first: int, stride: int) -> dict[str, int]:
    """Recordings whose most frequent answer of the first frames is right, by how many frames there were.

    Parameters
    ----------
    found, recording: class and recording of each answer
    activity: class of each recording
    first, stride: frames before the first answer of a recording, and from one to the next
    """
    result = dict.fromkeys(map(str, FRAMES), 0) | {"all": 0}
    for r in np.unique(recording):
        answers = found[recording == r]
        for frames in result:
            seen = answers if frames == "all" else answers[:(int(frames) - first) // stride + 1]
            result[frames] += int(np.bincount(seen).argmax() == activity[r])
    return result


def confusion(wanted: np.ndarray, found: np.ndarray) -> list[list[int]]:
    size = len(radhar.ACTIVITIES)
    return np.bincount(wanted * size + found, minlength=size * size).reshape(size, size).tolist()


def table_activities(rows: list[dict]) -> list[str]:
    best, streamed = (next(row for row in rows if row["artifact"] == model.name and row["backend"] == "int")
                      for model in (WINDOWS, STREAM))
    right, count = best["votes"]["all"], best["recordings"]
    lines = ["## Activities from radar points", "",
             "RadHAR, official Test folder (55 of its 58 recordings are here). `radhar` answers for windows of 60 frames, from",
             "a cleared state. `radhar_stream` answers after each frame of one stream of all recordings, in a random order;",
             "its state is never cleared, so the first answers in a recording still come from the one before. The interval is of",
             "95 %, from recordings drawn anew as wholes. Late: from a recording's 60th frame on, where there are windows too.",
             f"Votes: recordings out of {count} whose most frequent answer is right after so many frames, 27 a second.",
             f"{right} of {count} leave {exact_low(right, count):.1%} as lower end of the true share (exact, 95 %).", "",
             "| model | an answer | answers | accuracy | interval | late |"
             + "".join(f" {key} frames |" for key in best["votes"]),
             "| --- | --- | --- | --- | --- | --- |" + " --- |" * len(best["votes"])]
    for row in rows:
        lines.append(f"| {row['artifact']}, {'integer' if row['backend'] == 'int' else 'float'} | {row['answers']} "
                     f"| {row['count']:,} | {row['accuracy']:.2%} | {row['low']:.1%} to {row['high']:.1%} | {row['late']:.2%} |"
                     + "".join(f" {value} |" for value in row["votes"].values()))
    for row, what in ((best, "windows"), (streamed, "frames of the stream")):
        lines += ["", f"What the integer model answers for {what} of each activity:", "",
                  "| | " + " | ".join(radhar.ACTIVITIES) + " |", "| --- |" + " --- |" * len(radhar.ACTIVITIES)]
        lines += [f"| {name} | " + " | ".join(f"{value:,}" for value in values) + " |"
                  for name, values in zip(radhar.ACTIVITIES, row["confusion"], strict=True)]
    return [*lines, "", "Published on the official split, 60 frames a window: 91.75 % with 0.83 M parameters (arXiv 2511.08910);",
            "by the data set's authors 90 % with a Bi-LSTM and 92 % with a CNN before it, on voxels."]
