"""A compiled model in Python: what the commands do, as methods of one object."""

import contextlib
import io
import json
import tempfile
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from emamba import api
from emamba.artifact import Artifact
from emamba.artifact import load as load_artifact
from emamba.artifact import save as save_artifact
from emamba.base.errors import InputError
from emamba.base.words import counted
from emamba.datasets import Dataset
from emamba.datasets.metrics import data_figures
from emamba.datasets.tokens import executor_tokens
from emamba.io.files import write_file
from emamba.run.executors import predict
from rtl.plan.planner import CYCLES_PER_TOKEN

from .artifacts import agreement
from .compare import Comparison, compare
from .executors import make_executor
from .verdict import BOARD, figure_part, lines, verdict

Array = np.ndarray


@dataclass(frozen=True, repr=False)
class Compiled(Artifact):
    """An artifact, and the data it was calibrated on. Inputs `x` are what the model reads; where none are given, it is those
    data, or the artifact's own golden sequences."""

    given: Array | None = None

    def predict(self, x: Any, backend: str = "int", cycles_per_token: int = CYCLES_PER_TOKEN) -> Array:
        """Answers in the user's unit, or logits, of "float", "int" or "rtl"."""
        executor = make_executor(self, backend, cycles_per_token=cycles_per_token)
        return predict(self, backend, executor, self._tokens(x))

    def evaluate(self, x: Any, y: Any, backend: str = "int") -> dict[str, float]:
        """Figures of the task against the targets `y`."""
        targets = api.to_data(y)
        if self.config.task == "regression" and targets.ndim == 1:
            targets = targets[:, None]
        return data_figures(self.config.task, self.predict(x, backend), targets, self._data(x, targets))

    def compare(self, x: Any = None, backends: tuple[str, str] = ("int", "rtl"),
                cycles_per_token: int = CYCLES_PER_TOKEN) -> Comparison:
        """Every value of every node of two executors; `mismatches` of the result is 0 where they are the same."""
        tokens = self._tokens(x)
        executors = tuple(make_executor(self, backend, cycles_per_token=cycles_per_token, trace=True) for backend in backends)
        return compare(self, backends, executors, tokens)

    def verdict(self, x: Any = None, y: Any = None, cycles_per_token: int = CYCLES_PER_TOKEN) -> dict:
        """Figures where there are targets, else how far it is from float; rate, resources, boards, proofs."""
        if y is not None:
            measured = {backend: self.evaluate(x, y, backend) for backend in ("float", "int")}
            figure = figure_part(self.config.task, self.data.get("unit", ""), measured, None, "given")
            return verdict(self, figure, cycles_per_token=cycles_per_token)
        data = self._tokens(x)
        if self.config.input != "tokens" and self.config.image:
            return verdict(self, cycles_per_token=cycles_per_token)
        ids = data[..., 0].astype(np.int64) if self.config.input == "tokens" else data
        return verdict(self, cycles_per_token=cycles_per_token, agreement=agreement(self, ids))

    def report(self, path: Path | str = "report.html", x: Any = None, y: Any = None,
               cycles_per_token: int = CYCLES_PER_TOKEN, device: str = BOARD) -> Path:
        """Writes the page of `emamba report`."""
        from .report.collect import collect
        from .report.page import page

        tokens = self._tokens(x)
        targets = tokens[:0] if y is None else api.to_data(y)
        text = page(collect(self, tokens, targets, self._data(tokens, targets), cycles_per_token=cycles_per_token,
                            device=device))
        write_file(Path(path), lambda target: target.write_text(text, encoding="utf-8"))
        return Path(path)

    def simulate(self, x: Any = None, cycles: int = 2000, cycles_per_token: int = CYCLES_PER_TOKEN) -> dict:
        """The design cycle by cycle, as `emamba simulate --json` tells it."""
        from .simulate import simulate

        return simulate(self, self._tokens(x)[:2], cycles_per_token, cycles)[1]

    def build(self, target: str, out: Path | str | None = None, **options: object) -> dict:
        """Writes a target's files; `options` are those of `emamba build`, such as cycles_per_token = 8. Returns its report."""
        from . import build

        folder = Path(out or Path("build") / target)
        with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()):
            save_artifact(self, Path(place) / "artifact")
            words = [target, "--artifact", str(Path(place) / "artifact"), "--out", str(folder)]
            for name, value in options.items():
                words += [f"--{name.replace('_', '-')}", str(value)]
            build.build(build.check(build.make_parser().parse_args(words)))
        return json.loads((folder / build.RECORD).read_text(encoding="utf-8"))

    def export(self, path: Path | str, integer: bool = False) -> Path:
        """Writes the float model as ONNX, or with `integer` its integers as QDQ."""
        from emamba.onnx.export import export_float, export_integer

        model = export_integer(self) if integer else export_float(self.graph, self.weights, self.codec, self.config.task)
        write_file(Path(path), lambda target: target.write_bytes(model.SerializeToString()))
        return Path(path)

    def save(self, folder: Path | str) -> str:
        """Writes the artifact; returns its digest."""
        return save_artifact(self, Path(folder))

    def __repr__(self) -> str:
        return "\n".join([f"{self.name}: {self._about()}", *lines(verdict(self))[1:]])

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{escape(line.strip())}</li>" for line in lines(verdict(self))[1:])
        return f"<b>{escape(self.name)}</b>: {escape(self._about())}<ul>{items}</ul>"

    def _about(self) -> str:
        weights = sum(value.size for value in self.weights.values())
        tokens = counted(self.graph.length, "token")
        return f"{self.config.task}, form {self.config.form}, {weights:,} weights, {tokens} a sequence"

    def _tokens(self, x: Any) -> Array:
        if x is not None:
            return executor_tokens(api.to_data(x), self.config)
        if self.given is not None:
            return executor_tokens(self.given, self.config)
        golden = self.record.get("golden")
        if not golden:
            raise InputError(f"{self.name} holds no sequences to run: give x")
        values = np.array(golden, np.float64) * self.input.step
        return values if self.codec.mean is None else values * self.codec.std + self.codec.mean

    def _data(self, x: Array, y: Array) -> Dataset:
        none = np.zeros((0, *np.shape(y)[1:]), y.dtype)
        return Dataset("given", "given", counted(len(x), "sequence"), none, none, none, none, x, y,
                       unit=self.data.get("unit", ""), unit_scale=self.data.get("unit_scale", 1.0))


def compile(module: Any, calibration_data: Any, **options: Any) -> Compiled:
    """As `emamba.api.compile`: a trained module of torch as a `Compiled`."""
    return Compiled(**vars(api.compile(module, calibration_data, **options)), given=api.to_data(calibration_data))


def load(folder: Path | str) -> Compiled:
    """An artifact in a folder as a `Compiled`."""
    return Compiled(**vars(load_artifact(folder)))
