"""A search space: a recipe, what may vary in it, and what each of its points is measured by. Read from TOML.

    [data] [model] [train] [quantize]   the point where the search starts, as in a recipe; `train` is the proxy's training
    [space.model] [space.train] [space.quantize]   what varies: a list of values, or a range { low, high, step, log }
    [search] [hardware] [limits]        see the classes below
"""

import json
from collections.abc import Iterator
from functools import cached_property
from itertools import product
from math import prod
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from emamba.base.errors import SettingError
from emamba.config import Config, ModelConfig, QuantizeConfig, Recipe, TrainConfig, validate
from rtl.engine.machine import MOST_LANES
from rtl.plan.planner import CYCLES_PER_TOKEN, FILL

Objective = Literal["error", "multiplies", "cycles", "load"]
MOST = 1e15
"""Of a number in a file: a step beside it is still one."""
Point = dict[str, Any]
"""Parameter of the study, such as "model.d_model" -> its value there: the value itself, of lists and tables their JSON."""

TABLES = {"model": ModelConfig, "train": TrainConfig, "quantize": QuantizeConfig}


class SearchConfig(Config):
    """How the search goes. All of it is our choice."""

    name: str | None = Field(None, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$",
                             description="of the study in its storage; by default that of the file")
    trials: int = Field(50, ge=1, le=1 << 20, description="finished trials at which the search ends, those of earlier runs "
                        "included")
    seed: int = Field(0, ge=0, lt=1 << 63)
    objectives: tuple[Objective, ...] = Field(("error", "cycles", "load"), min_length=1, description="all are minimized")
    share: float = Field(1.0, gt=0, le=1, description="share of the training sequences that a trial trains on")
    validate_frames: int | None = Field(None, ge=1, description="validation sequences at most; test data are never looked at")
    rungs: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, description="epochs after which hopeless trials stop; by default a quarter and half of them")
    rivals: int = Field(2, ge=1, description="hopeless is what so many earlier trials of no higher cost beat at the same epoch")
    margin: float = Field(0.02, ge=0, allow_inf_nan=False, description="by at least this share of the error")

    @field_validator("objectives")
    @classmethod
    def _check(cls, objectives: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(objectives)) < len(objectives):
            raise ValueError("one is named twice")
        if objectives[0] != "error":
            raise ValueError("the first must be 'error'")
        return objectives


class HardwareConfig(Config):
    """What `cycles` and `load` of a point are. Of a pipeline: `cycles` a frame in the fastest design that `device` holds, filled
    up to `fill`; `load`, the share of the device's scarcest resource at `cycles_per_token`; both by the cost model of
    `rtl.plan.cost`. Of an engine: `cycles` a frame and `load` with `lanes`, the latter by `rtl.plan.engine_cost`."""

    device: str = "zcu102"
    fill: float = Field(FILL, gt=0, le=1)
    organization: Literal["pipeline", "engine"] = "pipeline"
    cycles_per_token: int = Field(CYCLES_PER_TOKEN, ge=1)
    lanes: int = Field(8, ge=1, le=MOST_LANES)


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -MOST <= value <= MOST:
        raise ValueError(f"{value} is no number from {-MOST:g} to {MOST:g}")
    return value


Number = Annotated[int | float, BeforeValidator(_number)]


class Range(Config):
    low: Number
    high: Number
    step: Number | None = Field(None, gt=0)
    log: bool = False

    @model_validator(mode="after")
    def _check(self):
        if self.low > self.high:
            raise ValueError(f"low = {self.low} lies above high = {self.high}")
        if self.step is not None and self.size == 1 and self.low < self.high:
            raise ValueError(f"step = {self.step} leads from low = {self.low} beyond high = {self.high}")
        if self.log and (self.step is not None or self.low <= 0):
            raise ValueError("log = true needs low above 0 and no step")
        return self

    @property
    def whole(self) -> bool:
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 1))

    @property
    def size(self) -> float:
        """Number of values."""
        if not self.whole and self.step is None:
            return 1 if self.low == self.high else float("inf")
        return int((self.high - self.low) / (self.step or 1) + 1e-9) + 1

    @property
    def last(self) -> int | float:
        """The largest value."""
        return self.low + (self.size - 1) * self.step if self.step else self.high

    def values(self) -> list[int | float]:
        return [self.low + k * (self.step or 1) for k in range(self.size)]

    def holds(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return self.low <= value <= self.high and (not (self.step or self.whole) or self.key(value) is not None)

    def key(self, value: Any) -> Any:
        """The same for what roundings alone tell apart; None of a value between two steps."""
        if self.step is None and not self.whole:
            return value
        steps = (value - self.low) / (self.step or 1)
        return round(steps) if abs(steps - round(steps)) < 1e-6 else None


class Space(Recipe):
    """The whole file."""

    quantize: QuantizeConfig = QuantizeConfig()
    search: SearchConfig = SearchConfig()
    hardware: HardwareConfig = HardwareConfig()
    limits: dict[Literal["multiplies", "cycles", "load"], Annotated[float, Field(gt=0)]] = Field(
        {}, description="points above are not trained")
    space: dict[Literal["model", "train", "quantize"], dict[str, list | Range]] = Field(min_length=1)

    @field_validator("space", mode="before")
    @classmethod
    def _check_space(cls, space: Any) -> Any:
        if not isinstance(space, dict) or not all(isinstance(keys, dict) and keys for keys in space.values()):
            raise ValueError("name what varies in tables such as [space.model]")
        for table, keys in space.items():
            known = TABLES[table].model_fields if table in TABLES else keys
            for key, values in keys.items():
                if key not in known:
                    raise ValueError(f"{table} has no key '{key}'; the keys are {', '.join(known)}")
                if not isinstance(values, list | dict) or not values:
                    raise ValueError(f"{table}.{key}: give a list of values, or a range such as {{ low = 2, high = 8 }}")
                if isinstance(values, list):
                    _check_values(values, f"{table}.{key}")
        try:
            return {table: {key: validate(Range, values, f"{table}.{key}") if isinstance(values, dict) else values
                            for key, values in keys.items()} for table, keys in space.items()}
        except SettingError as error:
            raise ValueError(str(error)) from None

    @cached_property
    def parameters(self) -> dict[str, Range | dict[Any, Any]]:
        """Name -> its range, or its values by their labels."""
        return {f"{table}.{key}": values if isinstance(values, Range) else {label(value): value for value in values}
                for table, keys in self.space.items() for key, values in keys.items()}

    @property
    def size(self) -> float:
        """Number of points."""
        return prod(values.size if isinstance(values, Range) else len(values) for values in self.parameters.values())

    def points(self) -> Iterator[Point]:
        """All of them, where they are countable."""
        values = (values.values() if isinstance(values, Range) else values for values in self.parameters.values())
        return (dict(zip(self.parameters, point, strict=True)) for point in product(*values))

    def holds(self, point: Any) -> bool:
        """Whether `point` names parameters of this space alone, and values of theirs."""
        return isinstance(point, dict) and all(
            name in self.parameters and _holds(self.parameters[name], value) for name, value in point.items())

    def key(self, point: Point) -> str:
        """The same for points that are the same."""
        return json.dumps({name: values.key(value) if isinstance(values := self.parameters[name], Range) else value
                           for name, value in point.items()}, sort_keys=True)

    @property
    def costs(self) -> tuple[str, ...]:
        return tuple(name for name in self.search.objectives if name != "error")

    @property
    def rungs(self) -> set[int]:
        epochs = self.train.epochs
        return set(self.search.rungs) if self.search.rungs is not None else {-(-epochs // 4), -(-epochs // 2)}

    @property
    def start(self) -> Point | None:
        """The recipe itself, if it is a point of the space."""
        point = {}
        for name, values in self.parameters.items():
            table, key = name.split(".")
            value = self._base(table).get(key)
            inside = (isinstance(value, int | float) and values.low <= value <= values.high) if isinstance(values, Range) \
                else label(value) in values
            if not inside:
                return None
            point[name] = label(value)
        return point

    def at(self, point: Point) -> tuple[Recipe, QuantizeConfig]:
        """The recipe and the quantization of a point; refuses what no model can be."""
        tables = {table: self._base(table) for table in TABLES}
        for name, value in point.items():
            table, key = name.split(".")
            values = self.parameters[name]
            tables[table][key] = value if isinstance(values, Range) else values[value]
        quantize = validate(QuantizeConfig, tables.pop("quantize"), "the point: quantize")
        return validate(Recipe, {"data": self.data.model_dump()} | tables, "the point"), quantize

    def neighbours(self, point: Point, random) -> Iterator[Point]:
        """Points beside `point` without end, first where one parameter differs, later more. `random`: a NumPy generator."""
        names, tries = list(point), 0
        while True:
            changed = random.permutation(len(names))[:1 + tries // (8 * len(names))]
            yield point | {names[k]: self._draw(self.parameters[names[k]], random) for k in changed}
            tries += 1

    @staticmethod
    def _draw(values: Range | dict[Any, Any], random) -> Any:
        if not isinstance(values, Range):
            return list(values)[random.integers(len(values))]
        if values.whole or values.step:
            return values.low + int(random.integers(values.size)) * (values.step or 1)
        return float(random.uniform(values.low, values.high))

    def _base(self, table: str) -> dict[str, Any]:
        return getattr(self, table).model_dump(mode="json")


def _check_values(values: list, where: str) -> None:
    """Refuses values that no storage keeps, or that are one value to it."""
    for k, value in enumerate(values):
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError(f"{where}: {value} is no value of a setting") from None
        if any(_holds([other], label(value)) for other in map(label, values[:k])):
            raise ValueError(f"{where}: {value} is named twice")


def _holds(values: Any, value: Any) -> bool:
    if isinstance(values, Range):
        return values.holds(value)
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in values)


def label(value: Any) -> Any:
    """A value as a storage can keep it."""
    return value if isinstance(value, bool | int | float | str) or value is None else json.dumps(value)

