"""Post-training quantization: a checkpoint and calibration data become an artifact.

Scales are powers of two chosen by least squares, per tensor (paper); per-channel dyadic weight scales are an option. The
state's scale comes from the no-overflow certificate. docs/numerics.md lists every choice with its source.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from .. import piecewise
from ..artifact import Artifact, Codec, check_operators, graph_of, load
from ..base.errors import DesignLimit, Diverged, InputError, SettingError, brief, located
from ..base.formats import IntFormat
from ..config import ModelConfig, QuantizeConfig, Recipe, validate
from ..datasets.recordings import window_starts
from ..datasets.tokens import executor_tokens
from ..graph import Graph, Node, build_graph
from ..io.disguises import check_pointer
from ..io.files import read_bytes
from ..ops import Operator, Scan
from ..ops.certificate import certify
from ..ops.scales import SLACK, best_frac, codes_of
from ..run.integer import IntegerModel
from ..run.reference import Reference

Array = np.ndarray

CHECKPOINT_VERSION = 1
CALIBRATION_SEED = 0
CALIBRATION_WINDOW = 125
"""Sequences that follow each other, of a model whose state is carried; longer than such a state remembers (our choice)."""
GAIN = 1e-3
"""Share of the outputs' squared error by which a scale must lower it, for scales = 'output' (our choice)."""


@dataclass(frozen=True)
class Checkpoint:
    """A float model: how it was made, the graph that its recipe builds or that came with it, tensors, codec, record."""

    recipe: Recipe
    graph: Graph
    weights: dict[str, Array]
    codec: Codec
    record: dict


def read_checkpoint(folder: Path | str) -> Checkpoint:
    """What a checkpoint folder holds."""
    folder = Path(folder)
    try:
        record = json.loads(_content(folder / "checkpoint.json"))
        weights = load_tensors(_content(folder / "checkpoint.safetensors"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{folder} is not a finished checkpoint ({error.strerror}): train it first") from None
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}") from None
    except (ValueError, SafetensorError) as error:
        raise InputError(f"the checkpoint in {folder} is damaged ({brief(error)}): train it again") from None
    try:
        recipe = validate(Recipe, record["recipe"], f"{folder}/checkpoint.json: recipe")
        width, channels = recipe.model.input_width, record["input"]
        mean, std = (None, None) if channels is None else (
            np.resize(np.array(channels[key], np.float64), width) for key in ("mean", "std"))
        output = record["output"]
        codec = Codec(mean, std, np.array(output["scale"], np.float64), np.array(output["offset"], np.float64))
        given = record.get("graph")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}/checkpoint.json is damaged ({error!r}): train it again") from None
    with located(f"{folder}/checkpoint.json"):
        graph = build_graph(recipe.model) if given is None else graph_of(given, recipe.model)
    return Checkpoint(recipe, graph, weights, codec, record)


def _content(path: Path) -> bytes:
    path.stat()  # an OSError where it is not there
    content = read_bytes(path)
    check_pointer(path, content)
    return content


def read_model(folder: Path | str) -> Checkpoint:
    """The same of a checkpoint, or of an artifact, which holds its float weights."""
    if not (Path(folder) / "manifest.json").is_file():
        return read_checkpoint(folder)
    artifact = load(folder)
    if not {"name", "split"} <= set(artifact.data):
        raise InputError(f"{folder} does not name a data set, so there is nothing to calibrate it on")
    data = {key: artifact.data[key] for key in ("name", "split")}
    recipe = validate(Recipe, {"data": data, "model": artifact.config.model_dump()}, str(folder))
    return Checkpoint(recipe, artifact.graph, artifact.weights, artifact.codec, artifact.record.get("training", {}))


@dataclass(frozen=True)
class Traces:
    """The float model and the values of its nodes on calibration data. Quantizations that share one are fast: `known` keeps what
    they have in common."""

    reference: Reference
    values: dict[str, Array]
    known: dict = field(default_factory=dict)

    @classmethod
    def record(cls, graph: Graph, weights: dict[str, Array], codec: Codec, tokens: Array) -> "Traces":
        """tokens [n, L, input width]: calibration data in the user's unit (or ids)."""
        if not len(tokens):
            raise InputError("there is no calibration data; give at least one sequence")
        if not np.isfinite(tokens).all():
            raise Diverged("the calibration data holds values that are not finite: remove or replace them")
        reference = Reference(graph, weights)
        with np.errstate(all="ignore"):
            values = reference.run(codec.standardize(tokens))
        for name, value in values.items():
            if not np.isfinite(value).all():
                channel = int(np.argwhere(~np.isfinite(value))[0, -1])
                raise Diverged(f"node '{name}': channel {channel} is not finite on the calibration data: rescale the data or "
                                  "the weights")
        return cls(reference, values)

    def once(self, key: tuple, compute: Callable):
        if key not in self.known:
            self.known[key] = compute()
        return self.known[key]


def calibration_tokens(x: Array, config: ModelConfig, settings: QuantizeConfig, recordings: Array | None = None) -> Array:
    """What `quantize` needs of the training inputs of a data set: sequences at random, always the same. Where the state is
    carried, windows of sequences that follow each other, one window after another.

    Parameters
        x: the inputs [n, ...]
        recordings: the recording of each of them [n]; by default they are one
    """
    count = settings.calibration_frames(config.tokens)
    rng = np.random.default_rng(CALIBRATION_SEED)
    if not config.carried:
        return executor_tokens(x[rng.permutation(len(x))[:count]], config)
    known = np.zeros(len(x), np.int64) if recordings is None else recordings
    longest = int(np.unique(known, return_counts=True)[1].max()) if len(x) else 1
    window = min(CALIBRATION_WINDOW, count, longest)
    starts = rng.permutation(window_starts(known, window))[:max(1, count // window)]
    return executor_tokens(x[(starts[:, None] + np.arange(window)).reshape(-1)], config)


def quantize(name: str, config: ModelConfig, weights: dict[str, Array], codec: Codec, tokens: Array | Traces,
             settings: QuantizeConfig, data: dict | None = None, record: dict | None = None,
             graph: Graph | None = None) -> Artifact:
    """Quantizes a model.

    tokens: calibration data [n, L, input width] in the user's unit (or ids), or the traces on them
    graph: the model's, by default the one that its configuration builds
    """
    frames = settings.calibration_frames(config.tokens)
    settings = settings.for_model(config)
    if not isinstance(tokens, Traces):
        tokens = Traces.record(graph or build_graph(config), weights, codec, tokens[:frames])
    traces, graph = tokens, tokens.reference.graph

    def build(finer: dict[str, int]) -> Artifact:
        state = Quantization(traces, settings, finer)
        operators = state.operators()
        check_operators(graph, operators)
        full = {"quantize": settings.model_dump(mode="json"), "calibration": state.calibration,
                "certificate": {name: asdict(certify(op)) for name, op in operators.items() if isinstance(op, Scan)}}
        return Artifact(name, config, graph, data or {}, codec, operators, dict(weights), (record or {}) | full)

    return build(_finer(traces, build) if settings.scales == "output" else {})


def _finer(traces: Traces, build: Callable[[dict[str, int]], Artifact]) -> dict[str, int]:
    """Per-tensor offsets of fraction bits from the scale of least error, which bring the model's outputs closer to the float
    model's on the calibration data.

    Each tensor alone gets half and twice its step. Those that bring the outputs closer are then kept one after another, the
    best first, as long as they still do: once a scale loses to its like it may gain beside others (our choice).
    """
    graph = traces.reference.graph
    target = traces.values[graph.output.name]

    def error(finer: dict[str, int]) -> float:
        try:
            artifact = build(finer)
        except (SettingError, DesignLimit):  # no integer model has such scales
            return np.inf
        answer = IntegerModel(artifact).answer(codes_of(traces.values[graph.input.name], artifact.input))
        return float(((answer * artifact.output.step - target) ** 2).mean())

    base = error({})
    names = [node.name for node in graph if node.operator.refined]
    alone = sorted((error({name: by}), name, by) for name in names for by in (-1, 1))
    found, least = {}, base
    for single, name, by in alone:
        if single >= base * (1 - GAIN):
            break
        if name not in found and (now := error(found | {name: by})) < least * (1 - GAIN):
            found, least = found | {name: by}, now
    return found


def _calibrated(node: Node, bits: int, x: Array, finer: int) -> tuple[IntFormat, dict]:
    """Format of a node's output x, with `finer` fraction bits above the choice of least error, and what is recorded of it."""
    if node.role == "delta":
        # never negative: the sign bit is not stored; so small that it moves no state, δ is 0
        o = IntFormat(bits - 1, False, best_frac(x, bits - 1, False, tiny=True) + finer)
    else:
        o = node.operator.format(node, bits) or IntFormat(bits, True, best_frac(x, bits) + finer)
    return o, _told(x, o) | ({"finer": finer} if finer else {})


def _told(x: Array, o: IntFormat) -> dict:
    """What is recorded of the values of a node in a format."""
    clipped = float(((x > (o.max + 0.5) * o.step) | (x < (o.min - 0.5) * o.step)).mean())
    return {"min": float(x.min()), "max": float(x.max()), "rms": float(np.sqrt((x**2).mean())), "clipped": clipped}


class Quantization:
    """What `Operator.quantize` reads and writes: float values and parameters, settings, the formats chosen so far."""

    def __init__(self, traces: Traces, settings: QuantizeConfig, finer: dict[str, int]):
        self.finer, self.traces, self.settings = finer, traces, settings
        self.reference, self.values, self.graph = traces.reference, traces.values, traces.reference.graph
        self.calibration: dict[str, dict] = {}
        self.formats: dict[str, IntFormat] = {}
        self._given = {name: IntFormat.parse(text) for name, text in settings.formats.items()}
        self._asked: set[str] = set()

    def operators(self) -> dict[str, Operator]:
        """By node, its operator."""
        made: dict[str, Operator] = {}
        for pattern in self.settings.bits:
            if not any(fnmatchcase(node.name, pattern) for node in self.graph):
                raise SettingError(f"bits: no tensor is named '{pattern}'; the names are "
                                  f"{', '.join(node.name for node in self.graph)}")
        for node in self.graph:
            with located(f"node '{node.name}'"):
                self.formats[node.name] = self._format(node)
        for node in self.graph:
            for name in node.inputs:  # what a branch adds below the sum's resolution needs no adder
                if node.role == "residual" and self.graph[name].role == "branch":
                    self.coarsen(name, self.formats[node.name].frac + SLACK)
        for node in self.graph:
            with located(f"node '{node.name}'"):
                made[node.name] = op = node.operator.quantize(node, self)
                if (given := self.given(node.name)) not in (None, op.o):
                    raise SettingError(f"formats: its output is {op.o}, which follows from its inputs, so it cannot be {given}")
        for table in ("formats", "weight_steps"):
            for name in getattr(self.settings, table):
                if name not in self._asked:
                    raise SettingError(f"{table}: no tensor is named '{name}', or its format follows from others; the names are "
                                       f"{', '.join(sorted(self._asked))}")
        return made

    def given(self, name: str) -> IntFormat | None:
        """The format that the settings give to a tensor."""
        self._asked.add(name)
        return self._given.get(name)

    def given_steps(self, node: Node) -> Array | None:
        """The value of one step of a node's weights that the settings give, [outputs]."""
        name = f"{node.name}.weight"
        self._asked.add(name)
        if name not in self.settings.weight_steps:
            return None
        steps = np.asarray(self.settings.weight_steps[name], np.float64)
        if steps.shape not in ((), (node.width,)) or not (np.isfinite(steps) & (steps > 0)).all():
            raise SettingError(f"weight_steps: '{name}' needs one finite step above 0, or one for each of {node.width} channels")
        return np.broadcast_to(steps, node.width)

    def parameters(self, node: Node) -> dict[str, Array]:
        """The float parameters of a node, its norm folded in."""
        return self.reference.parameters[node.name]

    def common(self, node: Node) -> dict:
        """The fields that every operator has."""
        return {"o": self.formats[node.name], "rounding": self.settings.rounding}

    def coarsen(self, name: str, frac: int) -> IntFormat:
        """The format of a node's output, with at most `frac` fraction bits."""
        if name in self._given and self._given[name].frac > frac:
            raise SettingError(f"formats: '{name}' is given as {self._given[name]}; at most {frac} fraction bits carry something")
        self.formats[name] = o = replace(self.formats[name], frac=min(self.formats[name].frac, frac))
        return o

    def fit(self, function: str, i: IntFormat, o: IntFormat, density: Array) -> piecewise.Segments:
        """The piecewise-linear unit of a function by the settings, for inputs of that density."""
        rule = self.settings.rule
        if rule == "exact" or (rule == "authors" and function not in piecewise.AUTHORS):
            rule = "minimax"
        step = self.settings.knot_step

        def fitted(**widths) -> piecewise.Segments:
            return piecewise.fit(function, i, o, getattr(self.settings, f"{function}_segments"), rule,
                                 knot_step=step.get(function, 1) if isinstance(step, dict) else step,
                                 rounding=self.settings.rounding, density=density if density.any() else None, **widths)

        try:
            return fitted()
        except piecewise.TooSteep:  # from few bits to many
            return fitted(slope_bits=piecewise.MAX_BITS)

    def largest_state(self, node: Node) -> float:
        """Largest |state| of a scan on the calibration data, which is recorded."""
        def largest() -> float:
            return float(np.abs(self.reference.states(node.name, {key: self.values[key][:256] for key in node.inputs})).max())

        found = self.traces.once((node.name, "state"), largest)
        self.calibration[f"{node.name}.state"] = {"max": found}
        return found

    def _bits(self, node: Node) -> int:
        for pattern, bits in self.settings.bits.items():
            if fnmatchcase(node.name, pattern):
                return bits
        if node.role in ("stem", "residual", "branch"):
            return self.settings.residual_bits
        if node.role == "delta":  # exp's unit reads δ·A, whose bits are those of both
            return min(self.settings.activation_bits, piecewise.MAX_BITS - self.settings.a_bits + 1)
        return self.settings.output_bits if node.role == "head" else self.settings.activation_bits

    def _format(self, node: Node) -> IntFormat:
        """Format of a node's output: the calibrated one, or the one its range dictates."""
        bits, x = self._bits(node), self.values[node.name]
        if not node.inputs and node.operator.follows(node):
            return node.operator.format(node, bits)
        if (given := self.given(node.name)) is not None:
            self.calibration[node.name] = _told(x, given)
            return given
        finer = self.finer.get(node.name, 0)
        o, self.calibration[node.name] = self.traces.once((node.name, bits, finer), lambda: _calibrated(node, bits, x, finer))
        return o
