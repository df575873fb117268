"""The artifact: a folder that holds one integer model, and all that is known about it.

    manifest.json        format version, the model's graph with each node's formats and scalar parameters, its configuration,
                         codec, calibration, certificate, figures; `digest` is the SHA-256 of the rest
    weights.safetensors  the integer arrays, `<node>.<parameter>`
    float.safetensors    the trained float weights, for the float executor

Artifacts are untrusted input: everything is checked before it is used, and a fault is one sentence.
"""

import hashlib
import json
import reprlib
import typing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ..base.errors import DesignLimit, InputError, SettingError, brief, located
from ..base.formats import IntFormat, Rounding
from ..config import ModelConfig, validate
from ..graph import Graph, graph_from_json
from ..io.disguises import check_pointer
from ..io.files import read_bytes, write_folder
from ..ops import Operator
from ..piecewise import Segments
from ..sensors.sound import LogMel
from .migrate import migrated
from .record import Story

FORMAT = "emamba-artifact"
VERSION = 2
SIZE_LIMIT = 1 << 30
MANIFEST_LIMIT = 1 << 24  # bytes: Python's objects take twenty times as many
INTEGER_LIMIT = 1 << 27  # integers: each becomes one of 64 bits
SHIPPED = Path(__file__).parents[1] / "mars"
"""The artifact that every installation has."""
COMMON = ("format", "version", "name", "model", "data", "codec", "files", "record", "digest")
KEYS = {1: (*COMMON, "nodes"), VERSION: (*COMMON, "graph")}
"""Keys of a manifest, by its version."""

Array = np.ndarray


@dataclass(frozen=True)
class Codec:
    """Between a user's values and integers: token = round((x − mean)/std · 2^frac), value = offset + scale · output.

    mean, std [input width] or None for token ids; scale, offset [outputs].
    """

    mean: Array | None
    std: Array | None
    scale: Array
    offset: Array

    def standardize(self, tokens: Array) -> Array:
        """tokens [batch, L, input width] in the user's unit → what the float model reads."""
        if self.mean is not None and (np.ndim(tokens) != 3 or np.shape(tokens)[-1:] != self.mean.shape):
            raise InputError(f"the input has the shape {list(np.shape(tokens))}; the model reads [sequences, tokens, "
                              f"{len(self.mean)}]")
        if not np.isfinite(tokens).all():
            index = [int(k) for k in np.argwhere(~np.isfinite(tokens))[0]]
            raise InputError(f"the input holds a value that is not finite at [sequence, token, value] = {index}: "
                              "remove or replace such values")
        return tokens if self.mean is None else (tokens - self.mean) / self.std

    def encode(self, tokens: Array, i: IntFormat) -> Array:
        """tokens in the user's unit → integers of format `i`."""
        values = np.floor(self.standardize(tokens) * 2.0**i.frac + 0.5)
        return np.clip(values, i.min, i.max).astype(np.int64)

    def decode(self, output: Array, o: IntFormat) -> Array:
        """Integers of the head → values in the user's unit, or logits."""
        return self.values(output * o.step)

    def values(self, output: Array) -> Array:
        plain = (self.scale == 1).all() and not self.offset.any()  # of logits, which may be many
        return output if plain else self.offset + self.scale * output


@dataclass(frozen=True)
class Artifact:
    """A loaded artifact. `operators` has an operator for each node of `graph`, in order; `config` is what the graph was built
    from; `record` is free-form knowledge: calibration, certificate, figures and how they were measured."""

    name: str
    config: ModelConfig
    graph: Graph
    data: dict
    codec: Codec
    operators: dict[str, Operator]
    weights: dict[str, Array]
    record: dict = field(default_factory=dict)
    digest: str = ""

    @property
    def input(self) -> IntFormat:
        return self.operators[self.graph.input.name].o

    @property
    def front_end(self) -> LogMel | None:
        """What makes the inputs from the samples of a sound, where the data set has it."""
        fields = self.data.get("front_end")
        return None if fields is None else LogMel.of(fields)

    @property
    def output(self) -> IntFormat:
        return self.operators[self.graph.output.name].o


def save(artifact: Artifact, folder: Path | str) -> str:
    """Writes `artifact` to `folder`, whole or not at all; returns its digest."""
    validate(Story, {key: getattr(artifact, key) for key in ("name", "data", "record")}, "the artifact")
    graph, arrays = artifact.graph.to_json(), {}
    for row in graph["nodes"]:
        operator, row["operator"] = artifact.operators[row["name"]], {}
        for entry in fields(operator):
            value = getattr(operator, entry.name)
            if isinstance(value, np.ndarray):
                arrays[f"{row['name']}.{entry.name}"] = _narrow(value)
            elif value is not None:
                row["operator"][entry.name] = to_json(value)
    weights = save_tensors(arrays)
    reference = save_tensors({key: np.ascontiguousarray(value, np.float32) for key, value in artifact.weights.items()})
    codec = {key: None if value is None else value.tolist() for key, value in vars(artifact.codec).items()}
    manifest: dict[str, Any] = {
        "format": FORMAT, "version": VERSION, "name": artifact.name,
        "model": artifact.config.model_dump(mode="json", exclude_none=True),
        "data": artifact.data, "codec": codec, "graph": graph,
        "files": {"weights.safetensors": _sha256(weights), "float.safetensors": _sha256(reference)},
        "record": artifact.record,
    }
    manifest["digest"] = _digest(manifest)
    with write_folder(Path(folder), "manifest.json") as temporary:
        (temporary / "weights.safetensors").write_bytes(weights)
        (temporary / "float.safetensors").write_bytes(reference)
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return manifest["digest"]


def load(folder: Path | str) -> Artifact:
    """Reads and checks the artifact in `folder`."""
    folder = Path(folder)
    if not (folder / "manifest.json").is_file():
        if (folder / "checkpoint.json").is_file():
            raise InputError(f"{folder} is a checkpoint, no artifact: emamba quantize {folder} --out models/{folder.name} makes "
                             "one")
        raise InputError(f"{folder} is not an artifact: it has no manifest.json")
    try:
        manifest = json.loads(_read(folder / "manifest.json", MANIFEST_LIMIT))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{folder}/manifest.json is damaged ({error}): copy the artifact again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{folder}/manifest.json is not the manifest of an artifact")
    version = manifest.get("version")
    if type(version) is not int or version not in KEYS:
        raise InputError(f"{folder} has artifact version {reprlib.repr(version)}; this program reads versions "
                          f"{' and '.join(map(str, KEYS))}: quantize the checkpoint again")
    if set(manifest) != set(KEYS[version]):
        odd = sorted(set(manifest) ^ set(KEYS[version]))[0]
        raise InputError(f"{folder}/manifest.json: the key '{odd}' is {'unknown' if odd in manifest else 'missing'}")
    if manifest["digest"] != _digest({key: value for key, value in manifest.items() if key != "digest"}):
        raise InputError(f"{folder}/manifest.json was altered: its digest does not match; quantize the checkpoint again")
    story = validate(Story, {key: manifest[key] for key in ("name", "data", "record")}, f"{folder}/manifest.json")
    arrays = _load_tensors(folder, "weights.safetensors", manifest["files"])
    for name, array in arrays.items():
        if array.dtype.kind != "i" or not array.size:
            raise InputError(f"{folder}/weights.safetensors: the array '{name}' must hold integers")
    if (count := sum(array.size for array in arrays.values())) > INTEGER_LIMIT:
        raise InputError(f"{folder}/weights.safetensors holds {count} integers; an artifact has at most {INTEGER_LIMIT}")
    reference = _load_tensors(folder, "float.safetensors", manifest["files"])
    try:
        config = validate(ModelConfig, manifest["model"], "model")
        codec = _load_codec(manifest["codec"], config)
        rows = manifest["graph"] if version == VERSION else migrated(manifest["nodes"], config)
        graph, given = _load_graph(rows, config)
        operators = _load_operators(graph, given, arrays)
        story.record.check_golden(config, operators[graph.input.name].o)
    except (InputError, SettingError, DesignLimit) as error:
        raise InputError(f"{folder}/manifest.json: {error}") from None
    return Artifact(manifest["name"], config, graph, manifest["data"], codec, operators, reference, manifest["record"],
                    manifest["digest"])


def check_operators(graph: Graph, operators: dict[str, Operator]) -> None:
    """Refuses operators that are not what the graph says, or whose formats do not meet."""
    for node in graph:
        operator = operators[node.name]
        with located(f"node '{node.name}'"):
            if operator.width != node.width:
                raise DesignLimit(f"it has {operator.width} channels, the model needs {node.width}")
            operator.check_inputs([operators[name] for name in node.inputs])
            operator.check_node(node)


def _load_graph(data: Any, config: ModelConfig) -> tuple[Graph, dict[str, dict]]:
    """The graph, and by node the fields of its operator."""
    rows = data.get("nodes") if isinstance(data, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError("graph: must be a table with the lists nodes and outputs")
    graph = graph_of(data | {"nodes": [{key: value for key, value in row.items() if key != "operator"} for row in rows]}, config)
    return graph, {row["name"]: row.get("operator", {}) for row in rows}


def graph_of(data: Any, config: ModelConfig) -> Graph:
    """A graph from untrusted JSON, which must be of the sizes that the configuration says."""
    graph = graph_from_json(data)
    source, result = graph.input, graph.output
    for what, got, want in (("channels at the input", source.width, config.input_width),
                            ("tokens at the input", source.tokens, config.tokens), ("outputs", result.width, config.outputs),
                            ("token ids", source.ids, config.vocabulary),
                            ("pool", graph.pooled, config.pool != "none"), ("carried", graph.carried, config.carried)):
        if got != want:
            raise InputError(f"graph: its {what} are {got}, but the configuration says {want}")
    return graph


def _load_operators(graph: Graph, given: dict[str, Any], arrays: dict[str, Array]) -> dict[str, Operator]:
    operators, used = {}, set()
    for node in graph:
        cls, fixed = node.operator, given[node.name]
        hints = typing.get_type_hints(cls)
        parameters: dict[str, Any] = {}
        if not isinstance(fixed, dict):
            raise InputError(f"node '{node.name}': its operator must be a table of parameters")
        with located(f"node '{node.name}'"):
            try:
                for entry in fields(cls):
                    key = f"{node.name}.{entry.name}"
                    if key in arrays:
                        used.add(key)
                        parameters[entry.name] = arrays[key].astype(np.int64)
                    elif entry.name in fixed:
                        parameters[entry.name] = _from_json(hints[entry.name], fixed[entry.name], entry.name)
                for extra in sorted(set(fixed) - set(parameters)):
                    raise InputError(f"unknown parameter '{extra}'")
                operators[node.name] = cls(**parameters)
            except (TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
                raise InputError(f"its parameters do not make a {node.kind} ({error})") from None
    for extra in sorted(set(arrays) - used):
        raise InputError(f"weights.safetensors has an array '{extra}' that no node reads")
    check_operators(graph, operators)
    return operators


def to_json(value: Any) -> Any:
    if isinstance(value, IntFormat):
        return {"bits": value.bits, "signed": value.signed, "frac": value.frac}
    if isinstance(value, Segments):
        parts = {entry.name: getattr(value, entry.name) for entry in fields(value)}
        return {key: part.tolist() if isinstance(part, np.ndarray) else to_json(part) for key, part in parts.items()}
    return str(value) if isinstance(value, Rounding) else value


def _from_json(hint: Any, value: Any, name: str) -> Any:
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)] or [hint]
    kind = kinds[0]
    if kind in (IntFormat, Segments):
        names = {entry.name for entry in fields(kind)}
        if not isinstance(value, dict) or set(value) != names:
            raise InputError(f"{name} must be a table with the keys {', '.join(sorted(names))}")
        hints = typing.get_type_hints(kind)
        return kind(**{key: _from_json(hints[key], part, f"{name}.{key}") for key, part in value.items()})
    if kind is np.ndarray:
        if not isinstance(value, list) or not all(type(v) is int and abs(v) < 1 << 48 for v in value):
            raise InputError(f"{name} must be a list of integers below 2^48")
        return np.array(value, np.int64)
    if kind is Rounding:
        if value not in list(Rounding):
            raise InputError(f"{name} must be one of {', '.join(Rounding)}, not {reprlib.repr(value)}")
        return Rounding(value)
    if type(value) is not kind:
        raise InputError(f"{name} must be of type {kind.__name__}, not {reprlib.repr(value)}")
    return value


def _load_codec(codec: Any, config: ModelConfig) -> Codec:
    names = ("mean", "std", "scale", "offset")
    if not isinstance(codec, dict) or set(codec) != set(names):
        raise InputError(f"codec: must be a table with the keys {', '.join(names)}")
    parts: dict[str, Any] = {}
    for key, value in codec.items():
        width = config.input_width if key in ("mean", "std") else config.outputs
        if value is None and key in ("mean", "std") and config.input == "tokens":
            parts[key] = None
            continue
        numbers = isinstance(value, list) and len(value) == width and all(type(v) in (int, float) for v in value)
        if not numbers or not all(abs(v) <= 1e300 for v in value) or (key == "std" and min(value) <= 0):
            raise InputError(f"codec.{key}: must be a list of {width} finite numbers{' above 0' if key == 'std' else ''}")
        parts[key] = np.array(value, np.float64)
    return Codec(**parts)


def _load_tensors(folder: Path, name: str, hashes: Any) -> dict[str, Array]:
    content = _read(folder / name)
    if not isinstance(hashes, dict) or _sha256(content) != hashes.get(name):
        raise InputError(f"{folder}/{name} is truncated or was altered: its SHA-256 is not the manifest's; "
                          "copy the artifact again")
    try:
        return load_tensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{folder}/{name} is not a safetensors file ({brief(error)})") from None


def _read(path: Path, limit: int = SIZE_LIMIT) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise InputError(f"{path} has {path.stat().st_size} bytes; this file of an artifact has at most {limit}")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    content = read_bytes(path)
    check_pointer(path, content)
    return content


def _narrow(values: Array) -> Array:
    """The same integers in the narrowest type that holds them."""
    for kind in (np.int8, np.int16, np.int32):
        if values.size == 0 or (values.min() >= np.iinfo(kind).min and values.max() <= np.iinfo(kind).max):
            return np.ascontiguousarray(values, kind)
    return np.ascontiguousarray(values)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(manifest: dict) -> str:
    return _sha256(json.dumps(manifest, sort_keys=True, ensure_ascii=True).encode())
