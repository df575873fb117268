"""`emamba go`: all stages of one command, its refusals before work begins, and what it does not do twice."""

import json

import numpy as np
import pytest
from test_own_data import write_csv

from emamba.base.errors import DesignLimit
from flow import cli
from flow.cli import go
from rtl.plan import planner

SMALL = """\
[data]
name = "own"
[model]
input = "sequence"
features = 1
length = 4
d_model = 4
d_state = 2
blocks = 1
pool = "last"
task = "regression"
outputs = 1
[train]
epochs = 9
"""


@pytest.fixture
def words(tmp_path):
    file = write_csv(tmp_path / "pump.csv", [(t, np.sin(t), 0) for t in range(60)])
    (tmp_path / "r.toml").write_text(SMALL)
    return ["go", str(file), "--inputs", "a", "--target", "a", "--length", "4", "--out", str(tmp_path / "g"), "--threads", "1",
            "--recipe", str(tmp_path / "r.toml"), "--board", "verilog", "--epochs", "1", "--skip", "compare", "--skip", "report",
            "--log", str(tmp_path / "log")]


def test_stages_are_done_once(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("flow.build.to_verilog", lambda *_, **__: "module top();\nendmodule\n")
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("[")] == [
        "[1/6] prepare", "[2/6] train", "[3/6] quantize", "[4/6] report: left out", "[5/6] compare: left out", "[6/6] build"]
    assert {"data", "run", "model", "verilog", "go.json"} <= {path.name for path in (tmp_path / "g").iterdir()}
    assert out.splitlines()[-6].startswith("verdict:")
    assert " [2/6] train: " in (tmp_path / "log").read_text() and json.loads((tmp_path / "g/go.json").read_text())["build"]
    assert "next: emamba" not in out and json.loads((tmp_path / "g/model/manifest.json").read_text())["name"] == "pump"
    assert cli.main(words) == 0
    assert capsys.readouterr().out.count("done before") == 4
    words[words.index("verilog")] = "ulx3s"
    assert cli.main([*words, "--skip", "build"]) == 0 and capsys.readouterr().out.count("  ulx3s-85f, by estimate: ") == 2


def test_what_does_not_fit_is_refused_before_the_training(words, tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise DesignLimit("at 9 cycles it takes too much")

    monkeypatch.setattr(planner, "plan", refuse)
    assert cli.main([*words, "--board", "kv260"]) == 1
    assert capsys.readouterr().err == "emamba: the model of the recipe does not fit kv260: at 9 cycles it takes too much\n"
    assert not (tmp_path / "g/run").exists()


def test_other_refusals(words, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").touch()
    words[words.index("--out") + 1] = str(tmp_path / "mine")
    assert cli.main(words) == 1 and "is no earlier output, since it has no go.json" in capsys.readouterr().err
    recipe = tmp_path / "r.toml"
    assert go._with_epochs(recipe, None, tmp_path) == recipe
    assert "epochs = 3" in go._with_epochs(recipe, 3, tmp_path).read_text()
