"""Where bits matter: what each tensor's width alone does to the integer model, and widths that are chosen by it.

Errors are measured on validation sequences: RMSE, perplexity, or the error rate. The paper is silent: all of this is our choice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from emamba.artifact import Artifact, Codec
from emamba.base.errors import DesignLimit, InputError, SettingError
from emamba.config import ModelConfig, QuantizeConfig, validate
from emamba.datasets.metrics import error_name, error_of, figures
from emamba.datasets.tokens import executor_tokens
from emamba.graph import Graph
from emamba.quantization.quantize import Traces, quantize, read_model
from emamba.run.executors import make_executor, predict
from emamba.run.integer import IntegerModel
from rtl.kit.datapath import Products
from rtl.plan.cost import estimate
from rtl.plan.devices import Device
from rtl.plan.schedule import Realization, Schedule

from .artifacts import calibration, data_of

Array = np.ndarray
Progress = Callable[[int], None] | None

LADDER = (12, 10, 8, 6)
"""Widths that `choose_widths` chooses from."""
SETTINGS = ("weight_bits", "a_bits", "decay_bits")
"""What has a width for all blocks together, and stands below the tensors in the table."""


@dataclass(frozen=True)
class Bench:
    """A float model, and the sequences it is judged by when it is quantized.

    calibration, tokens [n, L, input width] in the user's unit (or ids); targets as the data set has them.
    """

    config: ModelConfig
    graph: Graph
    weights: dict[str, Array]
    codec: Codec
    calibration: Array
    tokens: Array
    targets: Array
    unit_scale: float = 1.0

    @cached_property
    def traces(self) -> Traces:
        return Traces.record(self.graph, self.weights, self.codec, self.calibration)

    @property
    def names(self) -> list[str]:
        """Tensors whose width can be chosen."""
        return [node.name for node in self.traces.reference.graph if not node.operator.follows(node)]

    def quantize(self, settings: QuantizeConfig) -> Artifact:
        """Takes each tensor's own scale, for speed."""
        settings = settings.model_copy(update={"scales": "tensor"})
        return quantize("bench", self.config, self.weights, self.codec, self.traces, settings)

    def attempt(self, settings: QuantizeConfig, **widths: int) -> Artifact | None:
        """With widths of tensors or settings by name; None where no integer model has such."""
        try:
            return self.quantize(narrowed(settings, widths))
        except (SettingError, DesignLimit):
            return None

    def error(self, artifact: Artifact) -> float:
        model = IntegerModel(artifact)
        return self._error(predict(artifact, "int", lambda x, keep: model.run(artifact.codec.encode(x, artifact.input), keep),
                                   self.tokens))

    def float_error(self, artifact: Artifact) -> float:
        return self._error(predict(artifact, "float", make_executor(artifact, "float"), self.tokens))

    def _error(self, values: Array) -> float:
        return error_of(self.config.task, figures(self.config.task, values, self.targets, self.unit_scale))


def open_bench(checkpoint: Path, settings: QuantizeConfig, folder: Path | None, limit: int) -> tuple[Bench, str]:
    """The bench of a checkpoint or artifact, on the first `limit` validation sequences, and what its error is."""
    read = read_model(checkpoint)
    data, model = data_of(read.recipe, checkpoint, folder), read.recipe.model
    if not len(data.x_validate):
        raise InputError(f"data set {data.name} has no validation part here, by which widths are judged: {data.train_remedy}")
    tokens = executor_tokens(data.x_validate[:limit], model)
    return Bench(model, read.graph, read.weights, read.codec, calibration(data, model, settings), tokens, data.y_validate[:limit],
                 data.unit_scale), error_name(model.task, data.unit)


# -- the table ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A tensor, or a setting. `changes`: width -> change of the error when it alone has that width; None where it cannot."""

    name: str
    bits: int
    changes: dict[int, float | None]

    @property
    def effect(self) -> float:
        """Of the fewest bits."""
        return next((change for _, change in sorted(self.changes.items()) if change is not None), 0.0)


def sensitivity(bench: Bench, settings: QuantizeConfig, widths: tuple[int, ...],
                progress: Progress = None) -> tuple[float, list[Row]]:
    """The error with `settings`, and a row for each tensor, the most sensitive first, and for each of SETTINGS."""
    settings = settings.for_model(bench.config)
    artifact = bench.quantize(settings)
    base, rows = bench.error(artifact), []
    for name in (*bench.names, *SETTINGS):
        bits = getattr(settings, name) if name in SETTINGS else width_of(artifact, name)
        changes = {}
        for width in widths:
            now = artifact if width == bits else bench.attempt(settings, **{name: width})
            changes[width] = None if now is None else bench.error(now) - base
        rows.append(Row(name, bits, changes))
        if progress:
            progress(len(rows))
    return base, sorted(rows[:-len(SETTINGS)], key=lambda row: -row.effect) + rows[-len(SETTINGS):]


def table(rows: list[Row], widths: tuple[int, ...]) -> str:
    """A line for each tensor: the change of the error by width; · its own width, – one that it cannot have."""
    lines = [f"{'tensor':18} {'bits':>4}" + "".join(f"{width:>10}" for width in widths)]
    for row in rows:
        cells = ("·" if width == row.bits else "–" if change is None else f"{change:+.4f}"
                 for width, change in row.changes.items())
        lines.append(f"{row.name:18} {row.bits:4}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)


def width_of(artifact: Artifact, name: str) -> int:
    """Bits of a tensor as settings count them: δ without its sign bit has one less."""
    o = artifact.operators[name].o
    return o.bits + (artifact.graph[name].role == "delta" and not o.signed)


def narrowed(settings: QuantizeConfig, widths: dict[str, int]) -> QuantizeConfig:
    """Settings in which single tensors, or some of SETTINGS, have these widths. Of `bits`, what stands first counts."""
    tensors = {name: width for name, width in widths.items() if name not in SETTINGS}
    bits = tensors | {name: width for name, width in settings.bits.items() if name not in tensors}
    changed = {name: width for name, width in widths.items() if name in SETTINGS} | {"bits": bits}
    return validate(QuantizeConfig, settings.model_dump() | changed, "quantization settings")


# -- chosen widths ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """Widths of the tensors; the errors of the float and the integer model; costs with all tensors at their widest, and now."""

    bits: dict[str, int]
    float_error: float
    error: float
    widest_cost: float
    cost: float


def choose_widths(bench: Bench, settings: QuantizeConfig, tolerance: float, cost: Callable[[Artifact], float],
                  progress: Progress = None) -> Choice:
    """The cheapest widths whose error exceeds the float model's by at most `tolerance`, by a greedy search.

    All tensors but the head start at the widest of LADDER. What each narrower width costs in error and saves, alone, orders the
    steps; the step with the least loss for what it saves is tried first, and kept while the error of the whole stays within the
    tolerance. A step that does not is dropped, and with it all narrower ones of that tensor.
    """
    bench.quantize(settings)  # refuses what no widths can mend
    bits: dict[str, int] = {}
    for name in bench.names:
        possible = (width for width in LADDER if bench.attempt(settings, **bits | {name: width}))
        if bench.traces.reference.graph[name].role != "head" and (width := next(possible, None)):
            bits[name] = width
    widest = bench.quantize(narrowed(settings, bits))
    exact, error = bench.float_error(widest), bench.error(widest)
    if error > exact + tolerance:
        raise DesignLimit(f"with up to {LADDER[0]} bits for every tensor the error is {error:.4g}, {error - exact:.3g} above "
                          f"that of the float model: allow more than --tolerance {tolerance:g}, or raise weight_bits")
    losses, savings = {}, {}
    for done, name in enumerate(bits):
        losses[name, bits[name]] = savings[name, bits[name]] = 0.0
        for width in LADDER[LADDER.index(bits[name]) + 1:]:
            if alone := bench.attempt(settings, **bits | {name: width}):
                losses[name, width], savings[name, width] = bench.error(alone) - error, cost(widest) - cost(alone)
        if progress:
            progress(done + 1)

    def price(step: tuple[str, int]) -> tuple:
        name, width = step
        saved = savings[step] - savings[name, bits[name]]
        lost = max(losses[step] - losses[name, bits[name]], 0.0)
        return lost / saved if saved > 0 else np.inf, -saved, name, width

    steps = set(losses)
    while steps := {(name, width) for name, width in steps if width < bits[name]}:
        name, width = min(steps, key=price)
        now = bench.attempt(settings, **bits | {name: width})
        if price((name, width))[0] < np.inf and now and (after := bench.error(now)) <= exact + tolerance:
            bits[name], error = width, after
        else:
            steps = {step for step in steps if step[0] != name or step[1] > width}
    return Choice(bits, exact, error, cost(widest), cost(bench.quantize(narrowed(settings, bits))))


def area(artifact: Artifact, device: Device, cycles_per_token: int) -> float:
    """What an artifact takes of a device: its shares of every resource added up, by the cost model."""
    wide = device.family == "xcup"
    realization = Realization(Products.CASCADES if wide else Products.MULTIPLIERS, narrow=not wide)
    found = estimate(Schedule(artifact, cycles_per_token, realization), device.family)
    return sum(found[name] / limit for name, limit in device.limits.items())
