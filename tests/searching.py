"""Searches whose trials cost nothing, for tests of what surrounds a trial; as a program, one that is interrupted from outside.

python -m tests.searching FOLDER TRIALS WORKERS all|few [URL]
"""

import os
import signal
import sys
import time
from pathlib import Path

from emamba.base.door import guarded
from emamba.config import validate
from flow.search import search
from flow.search.space import Space

MODEL = {"input": "sequence", "features": 3, "length": 5, "d_model": 4, "dt_rank": 2, "d_state": 2, "blocks": 1,
         "task": "regression", "outputs": 2}
VARIES = {"d_model": [3, 4, 6, 8], "dt_rank": {"low": 1, "high": 3}, "d_conv": [2, 3, 4]}
FEW = {"d_model": [3, 4, 6, 8], "d_conv": [2, 3, 4]}


def make(folder: Path, varies: dict | None = None, **parts) -> search.Search:
    """A search of 36 points, or of those of `varies`."""
    space = validate(Space, {"data": {"name": "made"}, "model": MODEL, "train": {"epochs": 2}, "search": {"trials": 4},
                             "space": {"model": varies or VARIES}}, "test")
    return search.Search(space, "tiny", folder, **parts)


def values_of(point: dict) -> dict[str, float]:
    """Objectives that contradict each other, so that the front has several points."""
    width, rank, taps = (point.get(f"model.{name}", 2) for name in VARIES)
    return {"error": 20 / width + (rank - 2) ** 2 + 1 / taps, "cycles": width * taps, "load": width * rank / 100}


def front(points: list[dict]) -> set[tuple]:
    """Values of the points that none is better than, one against all."""
    known = {tuple(values_of(point).values()) for point in points}
    return {own for own in known if not any(other != own and all(a <= b for a, b in zip(other, own, strict=True))
                                            for other in known)}


def every_point(varies: dict | None = None) -> list[dict]:
    return list(make(Path(), varies).space.points())


class Bench:
    """Measures nothing; takes as many seconds as SECONDS in the environment says, in two epochs."""

    unit = "m"

    def __init__(self, wanted: search.Search):
        self.search = wanted

    def measure(self, study, trial, point) -> dict[str, float]:
        found = values_of(point)
        known = {"parameters": 7, "multiplies": 7, "cycles_per_token": 1} | {name: found[name] for name in ("cycles", "load")}
        for name, value in known.items():
            trial.set_user_attr(name, value)
        for epoch in range(2):
            time.sleep(float(os.environ.get("SECONDS", 0)) / 2)
            trial.set_user_attr("curve", [9.0] * (epoch + 1))
        trial.set_user_attr("error", found["error"])
        return found


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in a shell's background, it is ignored
    folder, trials, workers, varies, *url = sys.argv[1:]
    wanted = make(Path(folder), {"all": VARIES, "few": FEW}[varies], storage=url[0] if url else None)
    search.run(wanted, int(trials), int(workers), Bench)


if __name__ == "__main__":
    sys.exit(guarded("search", main))
