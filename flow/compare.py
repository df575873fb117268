"""Compares executors key by key: the first difference, how many, and the largest."""

from dataclasses import dataclass, field

import numpy as np

from emamba.artifact import Artifact
from emamba.run.executors import BATCH, Executor

Array = np.ndarray


@dataclass
class KeyDifference:
    """Differences of one trace key. `first` is [sequence, token, channel] of the first one with both values; `rms` and
    `largest` are in the node's unit for a float executor, in integers between integer executors."""

    values: int = 0
    mismatches: int = 0
    largest: float = 0.0
    squares: float = 0.0
    first: dict | None = None

    @property
    def rms(self) -> float:
        return float(np.sqrt(self.squares / self.values)) if self.values else 0.0

    def report(self) -> dict:
        return {"values": self.values, "mismatches": self.mismatches, "largest": self.largest, "rms": self.rms,
                "first": self.first}


@dataclass
class Comparison:
    """Result of `compare`: a `KeyDifference` per trace key that both executors show."""

    frames: int
    exact: bool
    keys: dict[str, KeyDifference] = field(default_factory=dict)

    @property
    def mismatches(self) -> int:
        return sum(key.mismatches for key in self.keys.values())


def compare(artifact: Artifact, backends: tuple[str, str], executors: tuple[Executor, Executor], tokens: Array,
            progress=None) -> Comparison:
    """Runs both executors on tokens [n, L, input width]. With a float executor integers are scaled to values first, and a
    difference is not a mismatch."""
    exact = "float" not in backends
    result = Comparison(len(tokens), exact)
    size = max(1, len(tokens)) if artifact.graph.carried else BATCH
    for start in range(0, len(tokens), size):
        batch = tokens[start:start + size]
        left, right = (executor(batch, None) for executor in executors)
        for name in left:
            if name in right:
                scale = artifact.operators[name].o.step
                a, b = (value * scale if not exact and backend != "float" else value
                        for backend, value in zip(backends, (left[name], right[name]), strict=True))
                _count(result.keys.setdefault(name, KeyDifference()), a, b, start, exact, str(artifact.operators[name].o))
        if progress:
            progress(min(start + size, len(tokens)))
    return result


def _count(key: KeyDifference, a: Array, b: Array, start: int, exact: bool, form: str) -> None:
    difference = np.abs(a - b)
    key.values += a.size
    key.squares += float((difference.astype(np.float64) ** 2).sum())
    key.largest = max(key.largest, float(difference.max(initial=0)))
    if exact and difference.any():
        at = tuple(int(k) for k in np.argwhere(difference)[0])
        key.first = key.first or {"at": [start + at[0], *at[1:]], "values": [int(a[at]), int(b[at])], "format": form}
        key.mismatches += int((difference != 0).sum())


def table(result: Comparison, artifact: Artifact, backends: tuple[str, str]) -> str:
    """A line for each trace key, and for the first mismatch in the order of the data."""
    if not result.exact:
        return "\n".join([f"{'key':20} {'values':>12} {'rms':>12} {'largest':>12}", *(
            f"{name:20} {key.values:12} {key.rms:12.4g} {key.largest:12.4g}" for name, key in result.keys.items())])
    lines = [f"{'key':20} {'values':>12} {'mismatches':>12} {'largest':>10}  first"]
    for name, key in result.keys.items():
        first = "" if key.first is None else (f"sequence {key.first['at'][0]}, token {key.first['at'][1]}, channel "
                                              f"{key.first['at'][2]}: {key.first['values']} in {key.first['format']}")
        lines.append(f"{name:20} {key.values:12} {key.mismatches:12} {key.largest:10.0f}  {first}")
    lines.append(f"{result.mismatches} mismatches")
    if result.mismatches:
        name, key = next((name, key) for name, key in result.keys.items() if key.first)
        read = artifact.graph[name].inputs or ("the data",)
        (sequence, token, channel), (left, right) = key.first["at"], key.first["values"]
        lines.append(f"first in the order of the data: {name}, token {token}, channel {channel} of sequence {sequence}: "
                     f"{backends[0]} {left}, {backends[1]} {right}, in {key.first['format']}; what it reads is equal: "
                     f"{', '.join(read)}")
    return "\n".join(lines)
