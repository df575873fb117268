"""What a design and its artifact are, as the driver needs it: `accelerator.json`, which `rtl.description` writes."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emamba.errors import EmambaError

FORMAT = "emamba-accelerator"
VERSION = 1


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
    possible."""

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

    @classmethod
    def read(cls, source: "Description | dict | str | Path") -> "Description":
        """Of a description, its JSON, the file of that, or the file's folder."""
        if isinstance(source, Description):
            return source
        if not isinstance(source, dict):
            path = Path(source)
            path = path / "accelerator.json" if path.is_dir() else path
            try:
                source = json.loads(path.read_text(encoding="utf-8"))
            except OSError as error:
                raise EmambaError(f"cannot read {path}: {error.strerror}; name the folder that rtl.build wrote") from None
            except ValueError:
                raise EmambaError(f"{path} is damaged: copy it again") from None
        if not isinstance(source, dict) or source.get("format") != FORMAT:
            raise EmambaError("this is no description of an accelerator: name the accelerator.json that rtl.build wrote")
        if source.get("version") != VERSION:
            raise EmambaError(f"the description has version {source.get('version')}, this driver reads version {VERSION}: "
                              "take both from the same build")
        values = {key: value for key, value in source.items() if key not in ("format", "version")}
        try:
            for key in ("input", "output"):
                values[key] = Format(**values[key])
            values["golden"] = tuple(np.array(values["golden"][key], np.int64) for key in ("frames", "answers"))
            if values["image"] is not None:
                values["image"] = np.frombuffer(bytes.fromhex(values["image"]), "<u4")
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise EmambaError(f"the description is damaged ({error}): build it again") from None

    def encode(self, batch: np.ndarray) -> np.ndarray:
        """Values in the user's unit [n, L, input width] → integers."""
        values = np.asarray(batch, np.float64)
        if not np.isfinite(values).all():
            raise EmambaError("the batch holds a value that is not finite: remove or replace such values")
        if self.codec["mean"] is not None:
            values = (values - np.array(self.codec["mean"])) / np.array(self.codec["std"])
        low, high = self.input.range
        return np.clip(np.floor(values * 2.0**self.input.frac + 0.5), low, high).astype(np.int64)

    def decode(self, output: np.ndarray) -> np.ndarray:
        """Integers [n, L', outputs] → values in the user's unit, or logits."""
        return np.array(self.codec["offset"]) + np.array(self.codec["scale"]) * (output * 2.0**-self.output.frac)
