"""What a search found: a table for the terminal, search.json, and pareto.svg."""

from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from emamba.base.errors import ToolMissing
from emamba.datasets.metrics import error_name
from emamba.io.files import rows_text, write_file

from .space import Space
from .storage import plain
from .study import best, failed, finished

COSTS = ("parameters", "multiplies", "cycles", "cycles_per_token", "load")
TOLD = ("resumes", "curve", *COSTS, "float", "int", "error", "refused", "failed")
AXES = {"multiplies": "multiplies a frame", "cycles": "cycles a frame at the device's budget", "load": "load of the device"}


def _error(study: optuna.Study, space: Space) -> str:
    return error_name(space.model.task, plain(str(study.user_attrs.get("unit", ""))))


def table(study: optuna.Study, space: Space) -> str:
    """The best trials, the cheapest first, and the recipe that the search started from."""
    names = [name.split(".")[1] for name in space.parameters]
    chosen = best(study)
    start = [trial for trial in finished(study) if "error" in trial.user_attrs and trial.params == space.start]
    rows = [("trial", _error(study, space), *COSTS, *names)]
    for trial in chosen + [trial for trial in start if trial not in chosen]:
        known = trial.user_attrs
        rows.append((str(trial.number) + "*" * (trial in start), f"{known['error']:.4g}", f"{known['parameters']:,}",
                     f"{known['multiplies']:,}", f"{known['cycles']:,}", str(known["cycles_per_token"]), f"{known['load']:.3f}",
                     *(f"{trial.params[name]:.4g}" if isinstance(trial.params[name], float) else str(trial.params[name])
                       for name in space.parameters)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(lines + (["* the recipe in the file"] if start else []))


def summary(study: optuna.Study, space: Space) -> dict:
    """All trials, for search.json."""
    trials = sorted(finished(study) + failed(study), key=lambda trial: trial.number)
    return {
        "name": study.study_name, "study": study.user_attrs.get("study"), "error": _error(study, space),
        "objectives": list(space.search.objectives),
        "best": [trial.number for trial in best(study)],
        "trials": [{"number": trial.number, "state": trial.state.name.lower(), "point": trial.params}
                   | {key: trial.user_attrs[key] for key in TOLD if key in trial.user_attrs} for trial in trials],
    }


def write(study: optuna.Study, space: Space, out: Path) -> None:
    """search.json and, with matplotlib, pareto.svg."""
    content = rows_text(summary(study, space))
    write_file(out / "search.json", lambda path: path.write_text(content, encoding="utf-8"))
    if best(study):
        write_file(out / "pareto.svg", lambda path: plot(study, space, path))


def plot(study: optuna.Study, space: Space, path: Path) -> None:
    """The error over each cost: all trials that were measured, the best with their numbers, the recipe as a star."""
    try:
        import matplotlib
    except ImportError as error:
        raise ToolMissing(f"the plot needs the extra [report] ({error}): pip install 'emamba[report]'") from None
    from matplotlib.figure import Figure

    trials = [trial for trial in finished(study) if "error" in trial.user_attrs]
    chosen, costs = best(study), space.costs or ("multiplies",)
    with matplotlib.rc_context({"svg.hashsalt": "emamba", "font.size": 9}):
        figure = Figure(figsize=(5 * len(costs), 4), layout="constrained")
        for axes, cost in zip(figure.subplots(1, len(costs), squeeze=False)[0], costs, strict=True):
            axes.plot(*_places(trials, cost), "o", color="0.75", markersize=4)
            axes.plot(*_places(chosen, cost), "o", color="tab:blue", markersize=5)
            axes.plot(*_places([trial for trial in trials if trial.params == space.start], cost), "*", color="tab:red",
                      markersize=11)
            for trial in chosen:
                axes.annotate(str(trial.number), (trial.user_attrs[cost], trial.user_attrs["error"]), xytext=(3, 3),
                              textcoords="offset points")
            axes.set(xlabel=AXES[cost], ylabel=_error(study, space), xscale="log")
            axes.grid(alpha=0.3)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _places(trials: list[FrozenTrial], cost: str) -> tuple[list[float], list[float]]:
    return [trial.user_attrs[cost] for trial in trials], [trial.user_attrs["error"] for trial in trials]
