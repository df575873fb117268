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
from ..artifact import Artifact, Codec, check_operators, load
from ..base.errors import DesignLimit, Diverged, InputError, SettingError, brief, located
from ..base.formats import IntFormat
from ..config import ModelConfig, QuantizeConfig, Recipe, validate
from ..datasets.tokens import executor_tokens
from ..graph import Node
from ..io.disguises import check_pointer
from ..io.files import read_bytes
from ..ops import (
    Activation,
    Add,
    Conv1d,
    Input,
    LayerNorm,
    Linear,
    Lookup,
    Multiply,
    Norm,
    Operator,
    Pool,
    RangeNorm,
    RMSNorm,
    Scan,
)
from ..ops.certificate import certify
from ..run.integer import IntegerModel
from ..run.reference import Reference
from .scales import FINEST, SCALES, SLACK, best_frac, codes_of

Array = np.ndarray

RESIDUAL_PATH = ("input", "embed", "y", "gate", "out", "residual")
CHECKPOINT_VERSION = 1
CALIBRATION_SEED = 0
GAIN = 1e-3
"""Share of the outputs' squared error by which a scale must lower it, for scales = 'output' (our choice)."""
SLOWEST = 40
"""Fraction bits of δ·A, at most: finer ones change no exp that is rounded to decay_bits."""
STATE_SLACK = 1.25
"""Room above the largest state seen in calibration, for state_scale = 'calibrated' (our choice)."""


def read_checkpoint(folder: Path | str) -> tuple[Recipe, dict[str, Array], Codec, dict]:
    """Recipe, float weights, codec and record of a checkpoint folder."""
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
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}/checkpoint.json is damaged ({error!r}): train it again") from None
    return recipe, weights, codec, record


def _content(path: Path) -> bytes:
    path.stat()  # an OSError where it is not there
    content = read_bytes(path)
    check_pointer(path, content)
    return content


def read_model(folder: Path | str) -> tuple[Recipe, dict[str, Array], Codec, dict]:
    """The same of a checkpoint, or of an artifact, which holds its float weights."""
    if not (Path(folder) / "manifest.json").is_file():
        return read_checkpoint(folder)
    artifact = load(folder)
    if not {"name", "split"} <= set(artifact.data):
        raise InputError(f"{folder} does not name a data set, so there is nothing to calibrate it on")
    data = {key: artifact.data[key] for key in ("name", "split")}
    recipe = validate(Recipe, {"data": data, "model": artifact.config.model_dump()}, str(folder))
    return recipe, artifact.weights, artifact.codec, artifact.record.get("training", {})


@dataclass(frozen=True)
class Traces:
    """The float model and the values of its nodes on calibration data. Quantizations that share one are fast: `known` keeps what
    they have in common."""

    reference: Reference
    values: dict[str, Array]
    known: dict = field(default_factory=dict)

    @classmethod
    def record(cls, config: ModelConfig, weights: dict[str, Array], codec: Codec, tokens: Array) -> "Traces":
        """tokens [n, L, input width]: calibration data in the user's unit (or ids)."""
        if not len(tokens):
            raise InputError("there is no calibration data; give at least one sequence")
        if not np.isfinite(tokens).all():
            raise Diverged("the calibration data holds values that are not finite: remove or replace them")
        reference = Reference(config, weights)
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


def calibration_tokens(x: Array, config: ModelConfig, settings: QuantizeConfig) -> Array:
    """What `quantize` needs of the training inputs `x` of a data set: sequences at random, always the same."""
    order = np.random.default_rng(CALIBRATION_SEED).permutation(len(x))[:settings.calibration_frames(config.tokens)]
    return executor_tokens(x[order], config)


def quantize(name: str, config: ModelConfig, weights: dict[str, Array], codec: Codec, tokens: Array | Traces,
             settings: QuantizeConfig, data: dict | None = None, record: dict | None = None) -> Artifact:
    """Quantizes a model. tokens [n, L, input width]: calibration data in the user's unit (or ids), or the traces on them."""
    frames = settings.calibration_frames(config.tokens)
    traces = tokens if isinstance(tokens, Traces) else Traces.record(config, weights, codec, tokens[:frames])

    def build(finer: dict[str, int]) -> Artifact:
        quantizer = _Quantizer(traces, settings, finer)
        operators = quantizer.operators()
        check_operators(config, operators)
        scans = [node.name for node in traces.reference.graph if node.kind == "Scan"]
        full = {"quantize": settings.model_dump(mode="json"), "calibration": quantizer.calibration,
                "certificate": {name: asdict(certify(operators[name])) for name in scans}}
        return Artifact(name, config, data or {}, codec, operators, dict(weights), (record or {}) | full)

    return build(_finer(traces, build) if settings.scales == "output" else {})


def _finer(traces: Traces, build: Callable[[dict[str, int]], Artifact]) -> dict[str, int]:
    """Tensors whose scale is another than that of least error, and by how many fraction bits, so that the model's outputs come
    closer to those of the float model on the calibration data.

    Each tensor alone gets half and twice its step. Those that bring the outputs closer are then kept one after another, the
    best first, as long as they still do: once a scale loses to its like it may gain beside others (our choice).
    """
    target = traces.values["head"]

    def error(finer: dict[str, int]) -> float:
        try:
            artifact = build(finer)
        except (SettingError, DesignLimit):  # no integer model has such scales
            return np.inf
        head = IntegerModel(artifact).run(codes_of(traces.values["input"], artifact.input), ["head"])["head"]
        return float(((head * artifact.output.step - target) ** 2).mean())

    base = error({})
    names = [node.name for node in traces.reference.graph if node.kind not in ("RangeNorm", "Lookup")]
    alone = sorted((error({name: by}), name, by) for name in names for by in (-1, 1))
    found, least = {}, base
    for single, name, by in alone:
        if single >= base * (1 - GAIN):
            break
        if name not in found and (now := error(found | {name: by})) < least * (1 - GAIN):
            found, least = found | {name: by}, now
    return found


def _calibrated(node: Node, bits: int, x: Array, finer: int) -> tuple[IntFormat, dict]:
    """Format of a node's output x, with so many fraction bits more than those of least error, and what is recorded of it."""
    if node.kind == "RangeNorm":
        o = IntFormat(bits, True, bits - 1)  # |(x − mean)/(max − min)| < 1
    elif node.name.endswith(".dt"):
        # never negative: the sign bit is not stored; so small that it moves no state, δ is 0
        o = IntFormat(bits - 1, False, best_frac(x, bits - 1, False, tiny=True) + finer)
    else:
        o = IntFormat(bits, True, best_frac(x, bits) + finer)
    clipped = float(((x > (o.max + 0.5) * o.step) | (x < (o.min - 0.5) * o.step)).mean())
    told = {"min": float(x.min()), "max": float(x.max()), "rms": float(np.sqrt((x**2).mean())), "clipped": clipped}
    return o, told | ({"finer": finer} if finer else {})


class _Quantizer:
    def __init__(self, traces: Traces, settings: QuantizeConfig, finer: dict[str, int]):
        self.finer = finer
        self.traces, self.reference, self.values, self.settings = traces, traces.reference, traces.values, settings
        self.config = self.reference.config
        self.calibration: dict[str, dict] = {}
        self.formats: dict[str, IntFormat] = {}

    def operators(self) -> dict[str, Operator]:
        made: dict[str, Operator] = {}
        for pattern in self.settings.bits:
            if not any(fnmatchcase(node.name, pattern) for node in self.reference.graph):
                raise SettingError(f"bits: no tensor is named '{pattern}'; the names are "
                                   f"{', '.join(node.name for node in self.reference.graph)}")
        for node in self.reference.graph:
            with located(f"node '{node.name}'"):
                self.formats[node.name] = self._format(node)
        for node in self.reference.graph:
            if node.kind == "Add":  # what a branch adds below the sum's resolution needs no adder
                self._coarsen(node.inputs[1], self.formats[node.name].frac + SLACK)
        for node in self.reference.graph:
            make: Callable[[Node], Operator] = getattr(self, f"_{node.kind.lower()}")
            with located(f"node '{node.name}'"):
                made[node.name] = make(node)
        return made

    def _coarsen(self, name: str, frac: int) -> IntFormat:
        """The format of a node's output, with at most so many fraction bits."""
        self.formats[name] = o = replace(self.formats[name], frac=min(self.formats[name].frac, frac))
        return o

    def _bits(self, node: Node) -> int:
        for pattern, bits in self.settings.bits.items():
            if fnmatchcase(node.name, pattern):
                return bits
        leaf = node.name.rsplit(".", 1)[-1]
        if leaf in RESIDUAL_PATH:
            return self.settings.residual_bits
        if leaf == "dt":  # exp's unit reads δ·A, whose bits are those of both
            return min(self.settings.activation_bits, piecewise.MAX_BITS - self.settings.a_bits + 1)
        return self.settings.output_bits if leaf == "head" else self.settings.activation_bits

    def _format(self, node: Node) -> IntFormat:
        """Format of a node's output: the calibrated one, or the one its range dictates."""
        bits, x = self._bits(node), self.values[node.name]
        if node.kind == "Input" and self.config.input == "tokens":
            return IntFormat((self.config.vocabulary - 1).bit_length(), False, 0)
        finer = self.finer.get(node.name, 0)
        o, self.calibration[node.name] = self.traces.once((node.name, bits, finer), lambda: _calibrated(node, bits, x, finer))
        return o

    def _weighted(self, node: Node) -> dict:
        """What a Linear and a Conv1d share."""
        p, source, bits = self.reference.parameters[node.name], node.inputs[0], self.settings.weight_bits
        silent = not (p["weight"].any() and self.values[source].any())
        i, o = self.formats[source], self.formats[node.name]
        reach = o.magnitude * o.step + np.abs(p["weight"]).sum(1) * i.magnitude * i.step
        bias = np.clip(p["bias"], -2 * reach, 2 * reach)  # beyond it the output saturates for any input, as of a dead ReLU

        def scaled(o: IntFormat) -> dict:
            return SCALES[self.settings.weight_scale](p["weight"], bias, bits, i, o, silent)

        parts = scaled(o)
        if parts["shift"] < -SLACK:
            parts = scaled(self._coarsen(node.name, o.frac + parts["shift"] + SLACK))
        self._check_resolution(node, parts, silent)
        return parts | {"i": i} | self._common(node)

    def _check_resolution(self, node: Node, parts: dict, silent: bool) -> None:
        """Refuses weights or inputs of which one is so large that its tensor's step hides the outputs."""
        largest = float(np.abs(self.values[node.name]).max())
        coarse = self.formats[node.name].step * 2.0 ** -parts["shift"]
        if not silent and 2.0**-FINEST < largest < coarse:
            weight, source = self.reference.parameters[node.name]["weight"], node.inputs[0]
            channel, read = (int(k) for k in np.unravel_index(np.abs(weight).argmax(), weight.shape))
            raise DesignLimit(f"channel {channel}: its weight {read} of {weight[channel, read]:g} and inputs of up to "
                              f"{np.abs(self.values[source]).max():g} make steps of {coarse:g}, above all outputs of at most "
                              f"{largest:g}: raise weight_bits ({self.settings.weight_bits}) or the bits of '{source}', or "
                              "rescale the weights")

    def _common(self, node: Node) -> dict:
        return {"o": self.formats[node.name], "rounding": self.settings.rounding}

    def _input(self, node: Node) -> Input:
        return Input(channels=node.width, **self._common(node))

    def _linear(self, node: Node) -> Linear:
        return Linear(**self._weighted(node), relu=node.name.endswith(".dt"))

    def _conv1d(self, node: Node) -> Conv1d:
        return Conv1d(**self._weighted(node))

    def _lookup(self, node: Node) -> Lookup:
        o = self.formats[node.name]
        table = np.clip(np.floor(self.reference.parameters[node.name]["table"] * 2.0**o.frac + 0.5), o.min, o.max)
        return Lookup(table=table.astype(np.int64), i=self.formats["input"], **self._common(node))

    def _norm(self, node: Node, kind: type[Norm], **parts) -> Norm:
        bits = self.formats[node.name].bits
        return kind(channels=node.width, i=self.formats[node.inputs[0]], index_bits=min(12, max(8, bits)),
                    entry_bits=min(16, bits + 4), **parts, **self._common(node))

    def _rangenorm(self, node: Node) -> Norm:
        return self._norm(node, RangeNorm)

    def _layernorm(self, node: Node, kind: type[LayerNorm] = LayerNorm) -> Norm:
        epsilon = int(np.floor(self.config.norm_epsilon * node.width * 4.0 ** self.formats[node.inputs[0]].frac + 0.5))
        try:
            return self._norm(node, kind, epsilon=epsilon)
        except DesignLimit as error:
            raise DesignLimit(f"{error}, such as fewer bits of '{node.inputs[0]}' by the setting bits") from None

    def _rmsnorm(self, node: Node) -> Norm:
        return self._layernorm(node, RMSNorm)

    def _activation(self, node: Node) -> Activation:
        name = "softplus" if node.name.endswith(".dt") else "silu"
        i, o = self.formats[node.inputs[0]], self.formats[node.name]
        if self.settings.rule == "exact":
            return Activation(channels=node.width, i=i, entries=piecewise.exact(name, i, o), **self._common(node))
        segments = self._fit(name, i, o, piecewise.histogram(codes_of(self.values[node.inputs[0]], i), i))
        return Activation(channels=node.width, i=i, segments=segments, **self._common(node))

    def _fit(self, name: str, i: IntFormat, o: IntFormat, density: Array) -> piecewise.Segments:
        rule = "minimax" if self.settings.rule == "exact" or (self.settings.rule == "authors" and name == "softplus") \
            else self.settings.rule
        step = self.settings.knot_step

        def fitted(**widths) -> piecewise.Segments:
            return piecewise.fit(name, i, o, getattr(self.settings, f"{name}_segments"), rule, rounding=self.settings.rounding,
                                 knot_step=step.get(name, 1) if isinstance(step, dict) else step,
                                 density=density if density.any() else None, **widths)

        try:
            return fitted()
        except piecewise.TooSteep:  # from few bits to many
            return fitted(slope_bits=piecewise.MAX_BITS)

    def _multiply(self, node: Node) -> Multiply:
        a, b = (self.formats[name] for name in node.inputs)
        self._coarsen(node.name, a.frac + b.frac + SLACK)
        return Multiply(channels=node.width, a=a, b=b, **self._common(node))

    def _add(self, node: Node) -> Add:
        a, b = (self.formats[name] for name in node.inputs)
        self._coarsen(node.name, max(a.frac, b.frac) + SLACK)
        if max(a.bits, b.bits) + abs(a.frac - b.frac) > FINEST:
            fine, coarse = sorted(node.inputs, key=lambda name: -self.formats[name].frac)
            raise DesignLimit(f"a step of '{coarse}' is 2^{abs(a.frac - b.frac)} times that of '{fine}', too much for one sum: "
                              f"lower the bits of '{fine}' by the setting bits, or rescale the weights")
        return Add(channels=node.width, a=a, b=b, **self._common(node))

    def _pool(self, node: Node) -> Pool:
        i = self.formats[node.inputs[0]]
        if self.config.pool == "last":
            self.formats[node.name] = o = i
            return Pool(channels=node.width, i=i, o=o, rounding=self.settings.rounding, mean=False)
        tokens, o = self.config.tokens, self._coarsen(node.name, i.frac + SLACK)
        power = tokens.bit_length() - 1
        multiplier, extra = (1, power) if tokens == 1 << power else (round(2.0 ** (14 + power) / tokens), 14 + power)
        return Pool(channels=node.width, i=i, mean=True, tokens=tokens, multiplier=multiplier, shift=extra + i.frac - o.frac,
                    **self._common(node))

    def _scan(self, node: Node) -> Scan:
        settings = self.settings
        p = self.reference.parameters[node.name]
        u, dt, B, C = (self.formats[name] for name in node.inputs)
        bits, fraction = settings.weight_bits, settings.decay_bits - 1
        a_frac = min(self._decay_frac(p["A"], settings.a_bits, self.values[node.inputs[1]]), SLOWEST - dt.frac)
        a = IntFormat(settings.a_bits, True, a_frac)
        A = self._integer_a(p["A"], a)
        product = IntFormat(dt.bits + a.bits, True, dt.frac + a.frac)
        seen = piecewise.products(codes_of(self.values[node.inputs[1]], dt), A, dt, product, hold=settings.hold)
        decay = self._fit("exp", product, IntFormat(settings.decay_bits, True, fraction), seen)
        d_frac, wide_bits = best_frac(p["D"], bits, tiny=True), settings.state_bits
        o, states, seen_y = self.formats[node.name], self._largest_state(node), float(np.abs(self.values[node.name]).max())
        self.calibration[node.name.removesuffix("y") + "h"] = {"max": states}

        def scan(h_frac: int) -> Scan:
            coarse = 2.0 ** -(C.frac + h_frac + fraction)
            if 0 < seen_y < coarse:
                raise DesignLimit(f"a step of C times the state, which reaches {states:g}, is {coarse:g}, above the outputs of "
                                  f"at most {seen_y:g}: raise state_bits ({wide_bits}), or rescale B and C")
            d = IntFormat(bits, True, max(-FINEST, min(d_frac, C.frac + h_frac + fraction - u.frac)))
            b_bar = IntFormat(settings.activation_bits, True, h_frac - u.frac) if settings.input_term == "delta_b" else None
            return Scan(o=o, rounding=settings.rounding, A=A, D=codes_of(p["D"], d), u=u, dt=dt, B=B, C=C, a=a, d=d, decay=decay,
                        h=IntFormat(wide_bits - fraction, True, h_frac),
                        h_wide=IntFormat(wide_bits, True, h_frac + fraction), delta_b=b_bar is not None, b_bar=b_bar,
                        hold=settings.hold)

        calibrated = wide_bits - 1 - int(np.ceil(np.log2(max(states, 1e-30) * STATE_SLACK))) - fraction
        if settings.input_term == "delta_b":
            largest = float(np.abs(self.values[node.inputs[1]].max() * self.values[node.inputs[2]]).max())
            calibrated = min(calibrated, u.frac + settings.activation_bits - 1 - int(np.ceil(np.log2(max(largest, 1e-30)))))
        aligned = d_frac + u.frac - C.frac + min(40, FINEST + 2 - bits - u.bits)  # D·u, shifted to y's sum, fits it
        driven = dt.frac + u.frac + B.frac + min(40, FINEST - dt.bits - u.bits - B.bits)  # so does the input term the state
        h_frac = min(calibrated, 40, min(aligned, driven, 40 + o.frac - C.frac) - fraction)
        if settings.state_scale == "certificate":
            while not certify(scan(h_frac)).holds:
                h_frac -= 1
                if h_frac < -FINEST:
                    raise DesignLimit("no scale of the state makes overflow impossible; use state_scale = 'calibrated'")
        return scan(h_frac)

    @staticmethod
    def _integer_a(A: Array, a: IntFormat) -> Array:
        """A rounded, at most −1: a state that never decays is no longer the model's."""
        return np.clip(np.floor(A * 2.0**a.frac + 0.5), a.min, -1).astype(np.int64)

    def _decay_frac(self, A: Array, bits: int, dt: Array) -> int:
        """Fraction bits of A with the least squared error of exp(δ·A) over the calibrated δ; clipping a fast decay is free."""
        widest = bits - 1 - int(np.ceil(np.log2(np.clip(np.abs(A).max(), 2.0**-FINEST, 2.0**FINEST))))
        dt = dt.reshape(-1, len(A))
        dt = dt[:: max(1, len(dt) // 256), :, None]
        exact = np.exp(dt * A)  # an A that is not finite is met by δ > 0 only, as its δ·A of 0 was no number

        def error(frac: int) -> float:
            a = IntFormat(bits, True, frac)
            return float(((np.exp(dt * self._integer_a(A, a) * a.step) - exact) ** 2).sum())

        return min((min(frac, FINEST) for frac in range(widest, widest + 8)), key=error)

    def _largest_state(self, node: Node) -> float:
        def largest() -> float:
            return float(np.abs(self.reference.states(node.name, {key: self.values[key][:256] for key in node.inputs})).max())

        return self.traces.once((node.name, "state"), largest)
