"""Where the inputs of SiLU, exp and softplus really lie: against the domain and the knots of each unit, and what its errors then
amount to. Behind `emamba profile`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emamba import piecewise
from emamba.artifact import Artifact
from emamba.base.formats import IntFormat
from emamba.io.files import write_file
from emamba.ops import Activation
from emamba.piecewise import Segments
from emamba.piecewise.chord import DOMAINS
from emamba.piecewise.functions import arguments, values
from emamba.run.executors import BATCH, make_executor

from .charts import Plot, sheet

Array = np.ndarray

SIZE = (350, 230)
"""Of a unit's plot, in px."""
PLOTTED = 1500
"""Codes of a curve, at most."""


@dataclass(frozen=True)
class Unit:
    """A scalar function in an artifact. `compute` maps input codes to output codes: segments, or an operator with a table.
    `density` says how often each input code occurred."""

    node: str
    function: str
    compute: Segments | Activation
    density: Array

    @property
    def i(self) -> IntFormat:
        return self.compute.i

    @property
    def o(self) -> IntFormat:
        return self.compute.o

    @property
    def knots(self) -> Array:
        """Empty for a table."""
        return self.compute.knots if isinstance(self.compute, Segments) else np.zeros(0, np.int64)

    def report(self) -> dict:
        """Shares of the inputs and errors. Bounds and `seen` are arguments; shares are None where no input was seen, and without
        knots; errors are in output LSBs, the largest over every code that can occur."""
        i, total = self.i, int(self.density.sum())
        x = piecewise.codes(i) * i.step
        low, high = DOMAINS[self.function]
        errors = piecewise.errors(self.compute, self.function, arguments(self.function), self.density if total else None)

        def share(where: Array) -> float | None:
            return float(self.density[where].sum()) / total if total else None

        seen = x[self.density > 0]
        bounds = [float(knot * i.step) for knot in self.knots[[0, -1]]] if len(self.knots) else None
        return {
            "node": self.node, "function": self.function, "input": str(i), "output": str(self.o), "inputs": total,
            "seen": [float(seen[0]), float(seen[-1])] if total else None,
            "segments": len(self.knots) - 1 if len(self.knots) else None, "knots": bounds,
            "below_knots": share(x < bounds[0]) if bounds else None, "beyond_knots": share(x >= bounds[1]) if bounds else None,
            "domain": [low, high], "outside_domain": share((x < low) | (x > high)),
            "rms_lsb": errors["rms_lsb"] if total else None, "max_lsb": errors["max_lsb"], "max_table": errors["max_table"],
            "max_at": errors["code"] * i.step,
        }


def curve(unit: Unit, points: int = PLOTTED) -> dict[str, Array]:
    """What a plot shows: arguments x with the unit's y and the function's `true`, error in LSB, knots as (x, y), and the share of
    the inputs between `edges`, the outermost of which also count what lies beyond."""
    i, o = unit.i, unit.o
    seen = np.flatnonzero(unit.density) + i.min
    low, high = _shown(unit)
    codes = np.unique(np.linspace(low, high, points).astype(np.int64))
    x, y = codes * i.step, unit.compute(codes) * o.step
    true = np.clip(values(unit.function, x), o.min * o.step, o.max * o.step)
    knots = unit.knots[(unit.knots >= low) & (unit.knots <= high)]
    edges = np.linspace(low, high + 1, min(high + 1 - low, 100) + 1)
    counts, _ = np.histogram(np.clip(seen, low, high), edges, weights=unit.density[seen - i.min])
    return {"x": x, "y": y, "true": true, "error": (y - true) / o.step, "knot_x": knots * i.step,
            "knot_y": unit.compute(knots) * o.step, "edges": edges * i.step, "shares": counts / max(1, unit.density.sum())}


def profile(artifact: Artifact, tokens: Array, progress: Callable[[int], None] | None = None) -> list[Unit]:
    """The units of an artifact with the inputs that they get from tokens [n, L, input width], by the integer model."""
    nodes = [node for node in artifact.graph if node.operator.unit]
    found = {node.name: artifact.operators[node.name] for node in nodes}
    sources = {node.name: node.inputs[node.operator.argument] for node in nodes}
    executor = make_executor(artifact, "int")
    densities = dict.fromkeys(found, 0)
    for start in range(0, len(tokens), BATCH):
        batch = tokens[start:start + BATCH]
        traced = executor(batch, sources.values())
        for name, op in found.items():
            densities[name] = densities[name] + op.density(traced[sources[name]])
        if progress:
            progress(start + len(batch))
    return [Unit(node.name, op.unit_function(node), getattr(op, op.unit) or op, densities[node.name])
            for node, op in zip(nodes, found.values(), strict=True)]


def table(units: list[Unit]) -> list[str]:
    """Lines of a table for people."""
    lines = [f"{'unit':14} {'function':8} {'input':12} {'segments':>8} {'inputs from':>12} {'to':>9} {'below knots':>12} "
             f"{'beyond':>8} {'out of domain':>22} {'RMS, LSB':>9} {'largest':>8}"]
    for unit in units:
        r = unit.report()
        low, high = r["seen"] or (None, None)
        domain = f"{_words(r['outside_domain'], '.2%')} of [{r['domain'][0]:g}, {r['domain'][1]:g}]"
        lines.append(f"{r['node']:14} {r['function']:8} {r['input']:12} {_words(r['segments'], 'd', 'table'):>8} "
                     f"{_words(low, '.4g'):>12} {_words(high, '.4g'):>9} {_words(r['below_knots'], '.2%'):>12} "
                     f"{_words(r['beyond_knots'], '.2%'):>8} {domain:>22} {_words(r['rms_lsb'], '.3f'):>9} {r['max_lsb']:8.2f}")
    return lines


def _words(value: float | None, form: str, nothing: str = "–") -> str:
    return nothing if value is None else format(value, form)


# -- plot ---------------------------------------------------------------------------------------------------------------------


def plot(units: list[Unit], path: Path) -> None:
    """Draws function, segments, error and inputs of every unit into the SVG file `path`, equal for equal units."""
    columns = [unit_plots(unit.report() | {"curve": curve(unit)}) for unit in units]
    content = sheet(list(zip(*columns, strict=True)))
    write_file(path, lambda target: target.write_text(content, encoding="utf-8"))


def unit_plots(unit: dict) -> list[Plot]:
    """The function with its segments, the error, and the inputs, of a unit's report with its `curve`."""
    c = unit["curve"]
    x, span = c["x"], (c["x"][0], c["x"][-1])
    function = Plot(f"{unit['node']}: {unit['function']}, {unit['input']} → {unit['output']}", "argument", "value", span,
                    (min(*c["y"], *c["true"]), max(*c["y"], *c["true"])), size=SIZE)
    function.line(list(zip(x, c["true"], strict=True)), "c wide", "exact")
    function.line(list(zip(x, c["y"], strict=True)), "a", f"{unit['segments']} segments" if unit["segments"] else "table")
    function.dots(list(zip(c["knot_x"], c["knot_y"], strict=True)), "a")
    error = Plot(f"{unit['node']}: error", "argument", "error, output LSB", span, (min(c["error"]), max(c["error"])), size=SIZE)
    error.line(list(zip(x, c["error"], strict=True)), "b")
    inputs = Plot(f"{unit['node']}: inputs", "argument; outermost bars: beyond", "share of inputs",
                  (c["edges"][0], c["edges"][-1]), (1e-6, 1), log_y=True, size=SIZE)
    inputs.steps(c["edges"], c["shares"], "a")
    return [function, error, inputs]


def _shown(unit: Unit) -> tuple[int, int]:
    """The codes of the knots and a quarter more on both sides; for a table all codes."""
    i = unit.i
    if not len(unit.knots):
        return i.min, i.max
    margin = int(unit.knots[-1] - unit.knots[0]) // 4 + 1
    return max(i.min, int(unit.knots[0]) - margin), min(i.max, int(unit.knots[-1]) + margin)
