"""Profiles of the piecewise-linear units: what is counted, what the command prints and writes; fits to the calibration values."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emamba import piecewise
from emamba.artifact import load, save
from emamba.base.errors import EmambaError
from emamba.config import ModelConfig
from emamba.run.executors import make_executor
from flow import cli
from flow.report.profiling import plot, profile
from sim.models import SHAPES, random_artifact, random_inputs

ROOT = Path(__file__).parents[1]
DATA = str(ROOT / "data")
SMALL = ModelConfig(input="image", image=(8, 8, 5), patch=(4, 4), d_model=3, expand=1, d_state=2, dt_rank=1, blocks=1,
                    task="regression", outputs=57)
TWO_BLOCKS = ModelConfig(**SHAPES["standard-sequence"] | {"blocks": 2})


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A tiny artifact that reads MARS frames."""
    folder = tmp_path_factory.mktemp("small") / "model"
    save(replace(random_artifact(SMALL), data={"name": "mars", "split": "official"}), folder)
    return folder


def test_every_unit_and_what_it_sees():
    """In form `standard`: SiLU after the convolution and on the gate, softplus on δ, exp in the scan."""
    artifact = random_artifact(TWO_BLOCKS)
    tokens = random_inputs(artifact.config, 600)
    traced = make_executor(artifact, "int")(tokens, None)
    units = {unit.node: unit for unit in profile(artifact, tokens)}
    assert {name.removeprefix("block0."): unit.function for name, unit in units.items() if name.startswith("block0")} == {
        "u": "silu", "silu": "silu", "dt": "softplus", "y": "exp"}
    assert len(units) == 8
    for name, source in (("block0.u", "conv"), ("block0.dt", "dt_raw"), ("block1.silu", "z")):
        unit, x = units[name], traced[f"{name.split('.')[0]}.{source}"]
        report, real = unit.report(), x * unit.i.step
        assert report["inputs"] == x.size and report["seen"] == [real.min(), real.max()]
        assert report["outside_domain"] == (np.abs(real) > 7).sum() / x.size
        assert report["below_knots"] == (x < unit.knots[0]).sum() / x.size
        assert report["beyond_knots"] == (x >= unit.knots[-1]).sum() / x.size
        y = piecewise.FUNCTIONS[unit.function](real) / unit.o.step
        off = unit.compute(x) - np.clip(y, unit.o.min, unit.o.max)
        assert report["rms_lsb"] == pytest.approx(np.sqrt((off**2).mean()), rel=1e-12)
        assert np.abs(off).max() <= report["max_lsb"] < 1
    scan, dt = artifact.operators["block0.y"], traced["block0.dt"]
    p = (dt[..., None] * scan.A)[np.broadcast_to((dt > 0)[..., None], (*dt.shape, scan.d_state))]
    report = units["block0.y"].report()
    assert report["inputs"] == p.size and report["outside_domain"] == (p * scan.p.step < -4).sum() / p.size


def test_tables_have_no_knots():
    artifact = random_artifact("emamba-odd", rule="exact")
    report = next(unit.report() for unit in profile(artifact, random_inputs(artifact.config, 3)) if unit.function == "silu")
    assert [report[key] for key in ("segments", "knots", "below_knots", "beyond_knots", "max_table")] == [None] * 4 + [0]
    assert 0 < report["rms_lsb"] < report["max_lsb"] <= 0.5


def test_command(small, tmp_path, capsys):
    words = ["profile", str(small), "--data", DATA, "--limit", "5"]
    assert cli.main([*words, "--json", str(tmp_path / "p.json"), "--plot", str(tmp_path / "p.svg")]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == "" and len({len(line) for line in lines}) == 1
    assert [line.split()[:3] for line in lines] == [["unit", "function", "input"], ["block0.y", "exp", "INT15·2^-9"],
                                                    ["block0.silu", "silu", str(load(small).operators["block0.z"].o)]]
    result = json.loads((tmp_path / "p.json").read_text())
    assert result["samples"] == 5 and result["data"] == "mars, official split, rebuilt feature maps"
    assert [unit["node"] for unit in result["units"]] == ["block0.y", "block0.silu"]
    assert result["units"][1]["inputs"] == 5 * 4 * 3 and result["units"][1]["knots"] is not None
    drawn = (tmp_path / "p.svg").read_text()
    assert drawn.startswith("<?xml")
    assert all(word in drawn for word in ("block0.y", "block0.silu", "17 segments", "share of inputs"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.json", "p.svg"]


@pytest.mark.parametrize("rule", ["minimax", "exact"])
def test_plots_repeat(tmp_path, rule):
    artifact = random_artifact("emamba-odd", rule=rule)
    for name in ("a.svg", "b.svg"):
        plot(profile(artifact, random_inputs(artifact.config, 2)), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("words, sentence", [
    (["--limit", "0"], "--limit must be at least 1, not 0"),
    (["--limit", "1", "--plot", "/proc/none/p.svg"],
     "cannot write /proc/none/p.svg: No such file or directory; name a folder you may write to"),
])
def test_refusals(small, capsys, words, sentence):
    assert cli.main(["profile", str(small), "--data", DATA, *words]) == 1
    assert capsys.readouterr() == ("", f"emamba: {sentence}\n")


def test_torch_is_not_imported():
    code = "import sys, flow.report.profiling; print({'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "set()\n"


# -- fits to the calibration values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "standard-thousand"])
def test_quantization_by_least_squares(shape):
    """Every unit is at most as many segments as asked, and the artifact works; random models may never use a unit."""
    artifact = random_artifact(shape, rule="least_squares", silu_segments=5, exp_segments=4, softplus_segments=6,
                               knot_step={"silu": 4, "exp": "auto"})
    units = profile(artifact, random_inputs(artifact.config, 4))
    most = {"silu": 5, "exp": 4, "softplus": 6, "sigmoid": 17}
    assert all(len(unit.knots) - 1 <= most[unit.function] for unit in units)
    assert all(unit.compute.knot_step >= 4 for unit in units if unit.function == "silu")


def test_least_squares_fits_what_calibration_saw():
    """Under the calibration values themselves its error is below that of minimax in every unit."""
    few = {"silu_segments": 3, "exp_segments": 3, "softplus_segments": 3}
    parts = {rule: profile(random_artifact(TWO_BLOCKS, rule=rule, **few), random_inputs(TWO_BLOCKS, 16))
             for rule in ("least_squares", "minimax")}
    ours, other = ([unit.report()["rms_lsb"] for unit in units] for units in parts.values())
    assert sum(a < b for a, b in zip(ours, other, strict=True)) >= 7


def test_refused_settings():
    with pytest.raises(EmambaError) as refusal:
        random_artifact("emamba-odd", knot_step=3)
    assert str(refusal.value) == "node 'block0.y': knot_step of exp must be \"auto\" or a power of two in 1..16384, not 3"
