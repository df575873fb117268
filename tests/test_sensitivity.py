"""Sensitivity to widths, chosen widths, and scales by the outputs, on a small model with generated data."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from emamba import datasets
from emamba.artifact import load, save
from emamba.base.errors import EmambaError
from emamba.config import ModelConfig, QuantizeConfig
from emamba.datasets import Dataset
from emamba.quantization.quantize import Traces, quantize
from emamba.run.integer import IntegerModel
from flow import cli
from flow.sensitivity import SETTINGS, Bench, area, choose_widths, narrowed, sensitivity
from rtl.plan.devices import find
from sim.models import random_artifact

CONFIG = ModelConfig(input="sequence", features=3, length=6, d_model=6, expand=1, d_state=2, dt_rank=2, blocks=1,
                     task="regression", outputs=2)
INT8 = QuantizeConfig(residual_bits=8)


@pytest.fixture(scope="module")
def model():
    return random_artifact(CONFIG)


@pytest.fixture(scope="module")
def bench(model):
    """Inputs with a long tail; targets are the float model's outputs and a little noise."""
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(300, 6, 3)) * np.exp(rng.normal(size=(300, 1, 1)))
    exact = Traces.record(model.graph, model.weights, model.codec, tokens).values["head"][:, 0]
    targets = model.codec.values(exact) + rng.normal(size=(300, 2)) * 0.01
    return Bench(CONFIG, model.graph, model.weights, model.codec, tokens[:200], tokens[200:], targets[200:])


def test_rows(bench):
    base, rows = sensitivity(bench, INT8, (4, 8, 12, 16), progress := [].append)
    assert base == bench.error(bench.quantize(INT8)) and progress
    tensors, rest = rows[:-3], rows[-3:]
    assert sorted(row.name for row in tensors) == sorted(bench.names) and [row.name for row in rest] == list(SETTINGS)
    effects = [row.changes[4] for row in tensors]
    assert effects == sorted(effects, reverse=True) and effects[0] > 0
    by_name = {row.name: row for row in rows}
    assert by_name["input"].bits == by_name["block0.dt"].bits == 8 and by_name["head"].bits == 16
    assert by_name["input"].changes[8] == by_name["head"].changes[16] == 0
    assert by_name["weight_bits"].changes[16] is None  # no such integer model
    alone = bench.quantize(narrowed(INT8, {"input": 4}))
    assert alone.input.bits == 4 and bench.error(alone) - base == by_name["input"].changes[4]


def test_traces_change_no_integer(bench, model):
    for settings in (INT8, QuantizeConfig(), QuantizeConfig(bits={"block*.z": 5}, scales="output")):
        shared, own = (quantize("m", CONFIG, model.weights, model.codec, data, settings)
                       for data in (bench.traces, bench.calibration))
        assert shared.record == own.record
        tokens = own.codec.encode(bench.tokens, own.input)
        np.testing.assert_array_equal(IntegerModel(shared).run(tokens)["head"], IntegerModel(own).run(tokens)["head"])


def test_narrowed_comes_before_patterns():
    settings = narrowed(QuantizeConfig(bits={"block*.z": 5, "pool": 7}), {"block0.z": 9, "pool": 6, "weight_bits": 7})
    assert list(settings.bits.items()) == [("block0.z", 9), ("pool", 6), ("block*.z", 5)] and settings.weight_bits == 7


def test_names_of_other_inputs(model):
    tokens = CONFIG.model_copy(update={"input": "tokens", "vocabulary": 5, "features": None, "pool": "last"})
    artifact = random_artifact(tokens)
    ids = np.zeros((2, 6, 1), np.int64)
    names = Bench(tokens, artifact.graph, artifact.weights, artifact.codec, ids, ids, np.zeros((2, 2))).names
    assert "input" not in names and "pool" not in names and "embed" in names


def test_chosen_widths(bench):
    def cost(artifact):
        return sum(operator.o.bits * operator.width for operator in artifact.operators.values())

    choices = [choose_widths(bench, INT8, tolerance, cost) for tolerance in (0.03, 0.06)]
    for choice, tolerance in zip(choices, (0.03, 0.06), strict=True):
        artifact = bench.quantize(narrowed(INT8, choice.bits))
        assert bench.error(artifact) == choice.error <= choice.float_error + tolerance
        assert cost(artifact) == choice.cost < choice.widest_cost
        assert "head" not in choice.bits and set(choice.bits.values()) <= {6, 8, 10, 12}
    assert choices[1].cost < choices[0].cost
    assert choose_widths(bench, INT8, 0.03, cost) == choices[0]


def test_area(bench):
    artifacts = [bench.quantize(INT8.model_copy(update={"activation_bits": bits})) for bits in (12, 6)]
    wide, narrow = (area(artifact, find("zcu102"), 20) for artifact in artifacts)
    assert 0 < narrow < wide < 1


def test_a_tolerance_that_no_width_meets(bench):
    coarse = INT8.model_copy(update={"weight_bits": 3})
    with pytest.raises(EmambaError, match=r"with up to 12 bits for every tensor the error is \S+, \S+ above that of the float "
                                          r"model: allow more than --tolerance 0\.001, or raise weight_bits"):
        choose_widths(bench, coarse, 0.001, lambda artifact: 1.0)


def test_scales_by_the_outputs_come_closer(bench, model):
    """A few calibration sequences are far larger than the rest: least squares do not weigh them as the model does."""
    target, distance = bench.traces.values["head"], {}
    for scales in ("tensor", "output"):
        artifact = quantize("m", CONFIG, model.weights, model.codec, bench.traces, INT8.model_copy(update={"scales": scales}))
        head = IntegerModel(artifact).run(artifact.codec.encode(bench.calibration, artifact.input))["head"]
        distance[scales] = ((head * artifact.output.step - target) ** 2).mean()
        finer = {name: entry["finer"] for name, entry in artifact.record["calibration"].items() if "finer" in entry}
        assert bool(finer) == (scales == "output") and set(finer.values()) <= {-1, 1}
    assert distance["output"] < 0.95 * distance["tensor"]


# -- commands -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def artifact(bench, model, tmp_path, monkeypatch):
    """The folder of an artifact of the bench's model, and the data set that it names."""
    def data(**changes) -> Dataset:
        x, y = bench.tokens.astype(np.float32), bench.targets.astype(np.float32)
        parts = {"x_train": bench.calibration.astype(np.float32), "y_train": np.zeros((200, 2), np.float32), "x_validate": x,
                 "y_validate": y, "x_test": x[:10], "y_test": y[:10]}
        told = {"name": "made", "split": "only", "note": "generated", "unit": "m", "train_remedy": "generate more"}
        return Dataset(**told | parts | changes)

    monkeypatch.setattr(datasets, "load", lambda *_: data())
    made = quantize("m", CONFIG, model.weights, model.codec, bench.traces, INT8, {"name": "made", "split": "only"})
    save(replace(made, weights=model.weights), tmp_path / "artifact")
    return tmp_path / "artifact", lambda **changes: monkeypatch.setattr(datasets, "load", lambda *_: data(**changes))


def words(capsys, *arguments) -> tuple[int, str]:
    """Exit status of a command, and what it printed, on standard error where it failed."""
    status = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert (err == "") == (status == 0)
    return status, err if status else out


def test_the_table(artifact, tmp_path, capsys):
    status, printed = words(capsys, "sensitivity", artifact[0], "--widths", "6,8", "--limit", 50, "--json", tmp_path / "s.json")
    lines, told = printed.splitlines(), json.loads((tmp_path / "s.json").read_text())
    assert status == 0 and told["error"] == "RMSE, m" and told["sequences"] == 50
    assert lines[0] == f"RMSE, m of 50 validation sequences: {told['base']:.4g}; its change when one tensor alone has other bits:"
    assert lines[1].split() == ["tensor", "bits", "6", "8"] and len(lines) == 2 + len(told["rows"])
    first = told["rows"][0]
    assert lines[2].split() == [first["name"], "8", f"{first['changes']['6']:+.4f}", "·"]


def test_quantize_with_chosen_widths(artifact, tmp_path, capsys):
    status, printed = words(capsys, "quantize", artifact[0], "--out", tmp_path / "auto", "--auto-width", "--tolerance", 0.05)
    made = load(tmp_path / "auto")
    bits = made.record["quantize"]["bits"]
    assert status == 0 and re.match(
        r"RMSE, m of 100 validation sequences: float \S+, integer \S+; zcu102 at 20 cycles per token: shares of \S+ in sum, "
        r"\S+ at the widest\ninput \d+, embed \d+, ", printed)
    assert made.record["quantize"]["residual_bits"] == 8  # as the artifact was quantized
    assert all(made.operators[name].o.bits + (name == "block0.dt") == width for name, width in bits.items())


@pytest.mark.parametrize("arguments, sentence", [
    (["sensitivity", "--widths", "6,one"], "--widths 6,one: name numbers of bits from 2 to 24, separated by commas"),
    (["sensitivity", "--limit", "0"], "--limit must be at least 1, not 0"),
    (["quantize", "--out", "x", "--auto-width", "--tolerance", "-1"], "--tolerance must be at least 0, not -1"),
    (["quantize", "--out", "x", "--auto-width", "--device", "moon"], "there is no device 'moon'; choose one of zcu102, …"),
])
def test_refusals(artifact, capsys, arguments, sentence):
    status, printed = words(capsys, arguments[0], artifact[0], *arguments[1:])
    assert status == 1 and re.fullmatch(re.escape(f"emamba: {sentence}\n").replace("…", ".*"), printed)


def test_refusals_of_data(artifact, tmp_path, capsys):
    folder, use = artifact
    none = np.zeros((0, 6, 3), np.float32)
    use(x_validate=none)
    assert words(capsys, "sensitivity", folder) == (
        1, "emamba: data set made has no validation part here, by which widths are judged: generate more\n")
    use(x_train=none)
    assert words(capsys, "sensitivity", folder) == (
        1, "emamba: data set made has no training part to calibrate on: generate more\n")
    assert words(capsys, "sensitivity", tmp_path / "none") == (
        1, f"emamba: {tmp_path}/none is not a finished checkpoint (No such file or directory): train it first\n")
