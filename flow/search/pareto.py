"""What a search found: a table for the terminal, search.json, and pareto.svg."""

from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from emamba.datasets.metrics import error_name
from emamba.io.files import rows_text, write_file

from ..report.charts import Plot, sheet
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
    """search.json and, where there is a front, pareto.svg."""
    content = rows_text(summary(study, space))
    write_file(out / "search.json", lambda path: path.write_text(content, encoding="utf-8"))
    if best(study):
        drawn = sheet([front(study, space)])
        write_file(out / "pareto.svg", lambda path: path.write_text(drawn, encoding="utf-8"))


def front(study: optuna.Study, space: Space) -> list[Plot]:
    """The error over each cost: all trials that were measured, the Pareto front with its numbers, the recipe."""
    trials = [trial for trial in finished(study) if "error" in trial.user_attrs]
    start = [trial for trial in trials if trial.params == space.start]
    plots = []
    for cost in space.costs or ("multiplies",):
        places = _places(trials, cost)
        x, y = ([place[axis] for place in places] for axis in (0, 1))
        margin = (max(y) - min(y)) / 20
        plot = Plot(_error(study, space), AXES[cost], _error(study, space), (max(min(x), 1e-9) / 1.2, max(x) * 1.2),
                    (min(y) - margin, max(y) + margin), log_x=True, size=(450, 360))
        for found, kind, name in ((trials, "c", "trials"), (best(study), "a", "Pareto front"), (start, "b", "recipe")):
            plot.dots(_places(found, cost), kind, name)
        for trial in best(study):
            plot.words(trial.user_attrs[cost], trial.user_attrs["error"], str(trial.number))
        plots.append(plot)
    return plots


def _places(trials: list[FrozenTrial], cost: str) -> list[tuple[float, float]]:
    return [(trial.user_attrs[cost], trial.user_attrs["error"]) for trial in trials]
