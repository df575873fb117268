"""What a design and its artifact are, as the driver needs it: `accelerator.json`, which `boards.describe` writes."""

import json
import re
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path

import numpy as np

from emamba.base.errors import InputError, brief
from emamba.sensors.sound import LogMel

FORMAT = "emamba-accelerator"
VERSION = 1
PACKET_LIMIT = 1 << 26
"""Bytes of a packet: what the length register of an AXI DMA can hold."""
FILE_LIMIT, WORD_LIMIT, NAME_LIMIT, DEPTH_LIMIT = 1 << 30, 1 << 26, 1000, 32
STATE_LIMIT = 1 << 20
"""Words of a state where the description does not say how many."""


@dataclass(frozen=True)
class Format:
    """Integers of a stream: value = integer · 2^−frac, in packets `size` bytes each."""

    bits: int
    signed: bool
    frac: int
    size: int

    @property
    def range(self) -> tuple[int, int]:
        return (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if self.signed else (0, (1 << self.bits) - 1)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.size}")


@dataclass(frozen=True)
class Description:
    """`tokens` [L, input width] go in and [L', outputs] come out. `codec` is between a user's values and the integers; `golden`
    has frames and answers; `structure` is all that loading cannot change, `image` the words of a load, None where none is
    possible; `state_words` the words of the state, None where it is not known; `carried` whether each packet goes on with the
    state of the one before; `front_end` what makes the inputs from the samples of a sound; `stream` the bytes and the SHA-256 of
    the image of streamed weights; `classes` the names of the outputs, where they are classes with names; `cut` how an image
    becomes tokens: its `image` [height, width, channels], `patch` [height, width] and `overlap`, as
    `emamba.datasets.tokens.patchify` takes them."""

    name: str
    digest: str
    tokens: int
    input_width: int
    output_tokens: int
    output_width: int
    input: Format
    output: Format
    codec: dict
    golden: tuple[np.ndarray, np.ndarray]
    stages: list[str]
    queues: list[str]
    cycles_per_frame: int
    structure: dict
    structure_digest: str
    image: np.ndarray | None
    state_words: int | None = None
    carried: bool = False
    front_end: LogMel | None = None
    stream: dict | None = None
    classes: list[str] | None = None
    cut: dict | None = None

    @classmethod
    def read(cls, source: "Description | dict | str | Path") -> "Description":
        """Of a description, its JSON, the file of that, or the file's folder."""
        if isinstance(source, Description):
            return source
        if not isinstance(source, dict):
            source = _parsed(source)
        if not isinstance(source, dict) or source.get("format") != FORMAT:
            raise InputError("this is no description of an accelerator: name the accelerator.json that rtl.build wrote")
        version = source.get("version")
        if type(version) is not int or version != VERSION:
            known = version if _whole(version, 0, 1 << 32) else "unknown"
            raise InputError(f"the description has version {known}, this driver reads version {VERSION}: take both from the "
                             "same build")
        return cls(**_checked(source))

    def encode(self, batch: np.ndarray) -> np.ndarray:
        """Values in the user's unit [n, L, input width] → integers."""
        values = array(batch)
        if values.dtype.kind not in "iufb":
            raise InputError(f"the batch holds what are no real numbers (its type is {values.dtype}): convert it first")
        self.check_shape(values)
        values = values.astype(np.float64)
        if not np.isfinite(values).all():
            raise InputError("the batch holds a value that is not finite: remove or replace such values")
        low, high = self.input.range
        with np.errstate(over="ignore"):  # what lies beyond all numbers is clipped too
            if self.codec["mean"] is not None:
                values = (values - np.array(self.codec["mean"])) / np.array(self.codec["std"])
            return np.clip(np.floor(values * 2.0**self.input.frac + 0.5), low, high).astype(np.int64)

    def decode(self, output: np.ndarray) -> np.ndarray:
        """Integers [n, L', outputs] → values in the user's unit, or logits."""
        return np.array(self.codec["offset"]) + np.array(self.codec["scale"]) * (output * 2.0**-self.output.frac)

    def named(self, answers: np.ndarray) -> list[str]:
        """The class of each of the answers [n, L', outputs], by its last token: its name, or its number where there are none."""
        best = answers[:, -1].argmax(-1)
        return [self.classes[k] if self.classes and k < len(self.classes) else str(k) for k in best]

    def check_shape(self, batch: np.ndarray) -> None:
        if batch.ndim != 3 or batch.shape[1:] != (self.tokens, self.input_width):
            raise InputError(f"the batch has the shape {list(batch.shape)}; the design reads "
                             f"[sequences, {self.tokens} tokens, {self.input_width} values]")


def array(batch) -> np.ndarray:
    try:
        return np.asarray(batch)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the batch is no array of numbers ({brief(error)}): make it one of [sequences, tokens, "
                         "values]") from None


def _parsed(source) -> dict:
    """The JSON in a file, or in a folder's file."""
    try:
        path = Path(source)
        path = path / "accelerator.json" if path.is_dir() else path
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is no file: name the folder that rtl.build wrote")
        if path.stat().st_size > FILE_LIMIT:
            raise InputError(f"{path} has more than {FILE_LIMIT >> 20} MiB, so it is no description: name the folder that "
                             "rtl.build wrote")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; name the folder that rtl.build wrote") from None
    except TypeError:
        raise InputError(f"a description is a folder, a file or its JSON, not {type(source).__name__}: name the folder that "
                         "rtl.build wrote") from None
    except (ValueError, RecursionError):
        raise InputError(f"{source} is damaged: copy it again") from None


def _checked(source: dict) -> dict:
    """The fields, each of its type and in its range."""
    def need(right: bool, key: str, what: str) -> None:
        if not right:
            raise InputError(f"the description is damaged: {key} is not {what}; build it again")

    known = {field.name for field in fields(Description)}
    values = {key: value for key, value in source.items() if key not in ("format", "version")}
    for key in sorted(known - {"state_words", "carried", "front_end", "stream", "classes", "cut"} - values.keys()):
        raise InputError(f"the description is damaged: {key} is missing; build it again")
    for key in sorted(values.keys() - known, key=str):
        raise InputError(f"the description is damaged: {brief(key)!a} is unknown; build it again")

    for key in ("tokens", "input_width", "output_tokens", "output_width", "cycles_per_frame"):
        need(_whole(values[key], 1, (1 << 48) - 1), key, "a number of at least 1")
    need(_text(values["name"]), "name", f"a text of at most {NAME_LIMIT} characters")
    need(_hash(values["digest"]), "digest", "a SHA-256")
    need(_hash(values["structure_digest"]) or (values["structure_digest"] == "" and values["image"] is None), "structure_digest",
         "a SHA-256")
    need(isinstance(values["structure"], dict) and _shallow(values["structure"], DEPTH_LIMIT), "structure",
         f"a table of at most {DEPTH_LIMIT} levels")
    for key in ("stages", "queues"):
        names = values[key]
        need(isinstance(names, list) and len(names) <= 1024 and all(map(_text, names)) and len(set(names)) == len(names), key,
             "a list of at most 1024 different names")
    words = values.get("state_words")
    need(words is None or _whole(words, 0, WORD_LIMIT), "state_words", f"a number in 0..{WORD_LIMIT}")
    need(type(values.get("carried", False)) is bool, "carried", "true or false")
    stream = values.get("stream")
    need(stream is None or (isinstance(stream, dict) and sorted(stream) == ["bytes", "sha256"] and _hash(stream["sha256"])
                            and _whole(stream["bytes"], 1, 1 << 40)), "stream", "a table of bytes and sha256")
    classes = values.get("classes")
    need(classes is None or (isinstance(classes, list) and len(classes) <= values["output_width"] and all(map(_text, classes))),
         "classes", "a list of names, at most as many as outputs")
    cut = values.get("cut")
    need(cut is None or (isinstance(cut, dict) and sorted(cut) == ["image", "overlap", "patch"]
                         and _whole(cut["overlap"], 0, 1 << 10) and _sizes(cut["image"], 3) and _sizes(cut["patch"], 2)), "cut",
         "a table of image, patch and overlap")
    if values.get("front_end") is not None:
        values["front_end"] = LogMel.of(values["front_end"])
    for key, shape in (("input", ("tokens", "input_width")), ("output", ("output_tokens", "output_width"))):
        values[key] = _format(values[key], key, need)
        need(values[key].size * prod(values[name] for name in shape) <= PACKET_LIMIT, f"the size of an {key} packet",
             f"at most {PACKET_LIMIT} bytes")
    _codec(values, need)
    values["golden"] = _golden(values, need)
    if values["image"] is not None:
        image = values["image"]
        need(isinstance(image, str) and len(image) % 8 == 0 and len(image) <= 8 * WORD_LIMIT
             and bool(re.fullmatch("[0-9a-fA-F]*", image)), "image", "words in hexadecimal")
        values["image"] = np.frombuffer(bytes.fromhex(image), "<u4")
    return values


def _format(value, key: str, need) -> Format:
    names = [field.name for field in fields(Format)]
    need(isinstance(value, dict) and sorted(value) == sorted(names), key, f"a format with {', '.join(names)}")
    need(_whole(value["bits"], 1, 62), f"{key}.bits", "a number in 1..62")
    need(isinstance(value["signed"], bool), f"{key}.signed", "true or false")
    need(_whole(value["frac"], -500, 500), f"{key}.frac", "a number in -500..500")
    need(value["size"] in (1, 2, 4, 8) and type(value["size"]) is int and 8 * value["size"] >= value["bits"], f"{key}.size",
         "a number of bytes that holds its bits")
    return Format(**value)


def _codec(values: dict, need) -> None:
    codec, keys = values["codec"], ("mean", "std", "scale", "offset")
    need(isinstance(codec, dict) and sorted(codec) == sorted(keys), "codec", f"a table of {', '.join(keys)}")
    need((codec["mean"] is None) == (codec["std"] is None), "codec", "one with both mean and std, or neither")
    for key in keys:
        width = values["input_width" if key in ("mean", "std") else "output_width"]
        if codec[key] is not None or key in ("scale", "offset"):
            need(isinstance(codec[key], list) and len(codec[key]) == width and all(map(_finite, codec[key])), f"codec.{key}",
                 f"{width} finite numbers")
    need(codec["std"] is None or all(value > 0 for value in codec["std"]), "codec.std", "above 0")
    values["codec"] = {key: None if codec[key] is None else [float(value) for value in codec[key]] for key in keys}


def _golden(values: dict, need) -> tuple[np.ndarray, np.ndarray]:
    golden, found = values["golden"], []
    need(isinstance(golden, dict) and sorted(golden) == ["answers", "frames"], "golden", "a table of frames and answers")
    for key, format, shape in (("frames", values["input"], (values["tokens"], values["input_width"])),
                               ("answers", values["output"], (values["output_tokens"], values["output_width"]))):
        rows, (low, high) = golden[key], format.range
        need(isinstance(rows, list) and all(
            isinstance(frame, list) and len(frame) == shape[0] and all(
                isinstance(token, list) and len(token) == shape[1] and all(_whole(value, low, high) for value in token)
                for token in frame) for frame in rows), f"golden.{key}",
            f"integers [frames, {shape[0]}, {shape[1]}] of its format")
        found.append(np.array(rows, np.int64).reshape(len(rows), *shape))
    need(0 < len(found[0]) == len(found[1]), "golden", "at least one frame, and an answer for each")
    frames, answers = found
    return frames, answers


def _whole(value, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _sizes(value, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(_whole(size, 1, 1 << 14) for size in value)


def _finite(value) -> bool:
    return type(value) in (int, float) and abs(value) < 1e100  # false for what is not a number


def _text(value) -> bool:
    return isinstance(value, str) and 0 < len(value) <= NAME_LIMIT and not any(0xD800 <= ord(sign) < 0xE000 for sign in value)


def _hash(value) -> bool:
    return isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value))


def _shallow(value, depth: int) -> bool:
    if not isinstance(value, (dict, list)):
        return True
    return depth > 0 and all(_shallow(part, depth - 1) for part in (value.values() if isinstance(value, dict) else value))
