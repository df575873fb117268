"""`emamba.load` and `emamba.compile` as one object: its methods do what the commands do."""

import numpy as np
import pytest

import emamba
from emamba.artifact import load, save
from emamba.base.errors import EmambaError
from emamba.datasets.metrics import figures
from emamba.run.executors import make_executor, predict
from flow.compiled import Compiled
from sim.models import random_artifact

SHAPE = "standard-sequence"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "m"
    save(random_artifact(SHAPE), folder)
    return emamba.load(folder)


@pytest.fixture(scope="module")
def x(model):
    return np.random.default_rng(0).normal(size=(6, model.config.length, model.config.features))


def test_figures_and_answers(model, x):
    expected = predict(model, "int", make_executor(model, "int"), x)
    assert (model.predict(x) == expected).all()
    targets = np.zeros(len(x), np.int64)
    task = model.config.task
    given = targets if task != "regression" else np.zeros_like(expected)
    assert model.evaluate(x, given) == figures(task, expected, given)
    assert model.verdict(x, given)["figure"]["int"] == next(iter([model.evaluate(x, given)["rmse" if task == "regression" else
                                                                                                  "accuracy"]]))


def test_comparison_report_and_files(model, x, tmp_path, monkeypatch):
    monkeypatch.setattr("flow.build.to_verilog", lambda *_, **__: "module top();\nendmodule\n")
    assert model.compare(x, ("int", "int")).mismatches == 0
    assert model.simulate(x, cycles=50)["sequences"] == 2
    assert model.report(tmp_path / "new" / "r.html", x).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    report = model.build("verilog", tmp_path / "v", cycles_per_token=8)
    assert (tmp_path / "v/top.v").is_file() and report["cycles_per_token"] <= 8
    assert model.save(tmp_path / "again") == load(tmp_path / "again").digest
    assert model.export(tmp_path / "newer" / "m.onnx").stat().st_size > 1000


def test_in_a_notebook(model):
    assert "frames a second" in repr(model) and repr(model).startswith("random: ")
    assert model._repr_html_().startswith("<b>random</b>: ") and "<li>as a pipeline it fits zcu102" in model._repr_html_()


def test_golden_sequences_are_the_default(model):
    with pytest.raises(EmambaError, match="holds no sequences to run: give x"):
        model.compare()
    made = Compiled(**vars(model) | {"record": model.record | {"golden": [[[1] * model.config.features] * model.config.length]}})
    assert made.compare(backends=("int", "int")).frames == 1
