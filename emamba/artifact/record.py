"""What an artifact says of itself beside its integers: its name, its data set, and its record. All of it is read from a file that
anybody may have written, so all that is used of it is checked here, once."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StringConstraints, field_validator, model_validator

from ..base.errors import InputError
from ..base.formats import IntFormat
from ..config import ModelConfig
from ..sensors.sound import LogMel

VALUES, DEPTH = 1 << 18, 32
"""Of a record without its golden sequences, at most."""
SURROGATE = re.compile("[\ud800-\udfff]")
GOLDEN = 64
"""Golden sequences, at most."""


def _printable(text: str) -> str:
    if not all(character.isprintable() for character in text):
        raise ValueError("it has a character that cannot be printed")
    return text


Name = Annotated[str, StringConstraints(max_length=255), AfterValidator(_printable)]
Text = Annotated[str, StringConstraints(max_length=2000), AfterValidator(_printable)]


class Source(BaseModel):
    """The data set: nothing, or its name, split, note, unit, and what made its inputs (`LogMel.fields`)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name = ""
    split: Name | None = None
    note: Text = ""
    unit: Name = ""
    unit_scale: float = Field(1.0, gt=0, lt=1e30)
    front_end: dict[str, Any] | None = None

    @field_validator("front_end")
    @classmethod
    def _front_end(cls, fields):
        if fields is not None:
            try:
                LogMel.of(fields)
            except InputError as error:
                raise ValueError(str(error)) from None
        return fields


class Training(BaseModel):
    model_config = ConfigDict(extra="allow")

    recipe: dict[str, dict[str, Any]] = {}


class Record(BaseModel):
    """Free-form, but for these keys."""

    model_config = ConfigDict(extra="allow")

    classes: Annotated[list[Name], Field(max_length=1 << 16)] | None = None
    golden: list[list[list[StrictInt]]] | None = Field(None, max_length=GOLDEN)
    answers: str | None = Field(None, max_length=64)
    training: Training = Training()
    quantize: dict[str, Any] = {}
    certificate: dict[str, dict[str, Any]] = {}
    figures: dict[str, Any] = {}
    calibration: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, record):
        """Refuses what is too much to walk through."""
        parts = record.items() if isinstance(record, dict) else ()
        count, level = 0, [{key: value for key, value in parts if key != "golden"}]
        for _ in range(DEPTH):
            count += len(level)
            if count > VALUES:
                raise ValueError(f"it has more than {VALUES} values")
            level = [part for value in level if isinstance(value, dict | list)
                     for part in ((*value, *value.values()) if isinstance(value, dict) else value)]
            if any(isinstance(part, str) and SURROGATE.search(part) for part in level):
                raise ValueError("it has half a character (a lone surrogate)")
        if level:
            raise ValueError(f"it is more than {DEPTH} tables or lists deep")
        return record

    def check_golden(self, config: ModelConfig, i: IntFormat) -> None:
        """Refuses golden sequences that are no inputs of the model."""
        shape = (config.tokens, config.input_width)
        top = i.max if config.vocabulary is None else config.vocabulary - 1
        for frame in self.golden or ():
            if len(frame) != shape[0] or any(len(token) != shape[1] for token in frame):
                raise InputError(f"record.golden: must be sequences of {shape[0]} tokens of {shape[1]} integers: quantize the "
                                 "checkpoint again")
            if not all(i.min <= value <= top for token in frame for value in token):
                raise InputError(f"record.golden: holds an integer outside {i.min}..{top}, the model's inputs: quantize the "
                                 "checkpoint again")


class Story(BaseModel):
    """The three together, as `Artifact` and its manifest have them."""

    name: Name
    data: Source
    record: Record
