"""The commands: what they print and write, their exit status, and one sentence for every bad input."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from emamba import datasets
from emamba.artifact import load, save
from emamba.base.errors import EmambaError
from emamba.config import ModelConfig
from emamba.datasets import Dataset
from emamba.graph import build_graph
from emamba.run.executors import predict
from flow import cli, executors
from flow.cli import look
from sim.models import random_artifact

ROOT = Path(__file__).parents[1]
MARS, DATA = str(ROOT / "models" / "mars"), str(ROOT / "data")
NOTE = "mars, official split, rebuilt feature maps"
SMALL = ModelConfig(input="image", image=(8, 8, 5), patch=(4, 4), d_model=3, expand=1, d_state=2, dt_rank=1, blocks=1,
                    task="regression", outputs=57)
TINY = {"input": "sequence", "features": 2, "length": 3, "d_model": 3, "dt_rank": 2, "blocks": 1, "task": "regression",
        "outputs": 2}
"""The model of the checkpoint that `quantize` reads."""


@pytest.fixture
def run(capsys):
    """Runs a command: (exit status, standard output); standard error holds one sentence on failure, nothing otherwise."""

    def call(*arguments, sentence: str | None = None):
        status = cli.main([str(word) for word in arguments])
        out, err = capsys.readouterr()
        if sentence is None:
            assert err == ""
        else:
            assert (status, out) == (1, "")
            assert re.fullmatch(re.escape(f"emamba: {sentence}\n").replace("…", ".*"), err), err
        return status, out

    return call


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A tiny artifact that reads MARS frames."""
    folder = tmp_path_factory.mktemp("small") / "model"
    save(replace(random_artifact(SMALL), data={"name": "mars", "split": "official"}), folder)
    return folder


@pytest.mark.parametrize("backend, low, high", [("int", 4, 10), ("float", 4, 10)])
def test_evaluate(run, tmp_path, backend, low, high):
    path = tmp_path / "new" / "result.json"
    status, out = run("evaluate", MARS, "--data", DATA, "--backend", backend, "--limit", 20, "--json", path)
    result = json.loads(path.read_text())
    assert status == 0
    assert set(result) == {"metric", "value", "unit", "figures", "samples", "backend", "seconds", "data", "baseline"}
    told = {key: result[key] for key in ("metric", "unit", "samples", "backend", "data")}
    assert told == {"metric": "rmse", "unit": "cm", "samples": 20, "backend": backend, "data": NOTE}
    assert low < result["value"] < high and result["value"] == result["figures"]["rmse"] > result["figures"]["mae"]
    assert 0 <= result["seconds"] < 60
    mae, rmse = result["figures"]["mae"], result["value"]
    assert out == f"{backend}: MAE {mae:.4g} cm, RMSE {rmse:.4g} cm on 20 sequences ({NOTE})\n"
    assert [p.name for p in path.parent.iterdir()] == ["result.json"]


def test_evaluate_is_the_executor_and_the_metric(run, tmp_path):
    run("evaluate", MARS, "--data", DATA, "--limit", 3, "--json", tmp_path / "r.json")
    artifact, data = load(MARS), datasets.load("mars", "official", DATA)
    tokens = datasets.tokens.executor_tokens(data.x_test[:3], artifact.config)
    values = predict(artifact, "int", executors.make_executor(artifact, "int"), tokens)
    rmse = np.sqrt(((100 * (values - data.y_test[:3].astype(np.float64))) ** 2).mean(0)).mean()
    assert json.loads((tmp_path / "r.json").read_text())["value"] == pytest.approx(rmse, rel=1e-12)


def test_the_shipped_artifact_is_the_default(run):
    assert run("evaluate", "--data", DATA, "--limit", 3) == run("evaluate", MARS, "--data", DATA, "--limit", 3)


def test_compare_of_equals(run, tmp_path):
    path = tmp_path / "c.json"
    status, out = run("compare", MARS, "--data", DATA, "--backends", "int,int", "--limit", 5, "--json", path)
    result = json.loads(path.read_text())
    assert status == 0 and set(result) == {"frames", "backends", "mismatches", "keys"}
    assert (result["frames"], result["backends"], result["mismatches"]) == (5, ["int", "int"], 0)
    assert list(result["keys"]) == list(load(MARS).operators)
    assert result["keys"]["block0.x"] == {"values": 5 * 16 * 40, "mismatches": 0, "largest": 0.0, "rms": 0.0, "first": None}
    assert out.startswith(f"int against int, 5 sequences ({NOTE})\nkey ") and out.endswith("\n0 mismatches\n")


def test_compare_with_float(run, tmp_path):
    path = tmp_path / "c.json"
    status, out = run("compare", MARS, "--data", DATA, "--backends", "float,int", "--limit", 5, "--json", path)
    result = json.loads(path.read_text())
    assert status == 0 and result["mismatches"] == 0 and len(result["keys"]) == 31
    assert all(0 < key["rms"] < key["largest"] and key["first"] is None for key in result["keys"].values())
    assert result["keys"]["input"]["largest"] <= 2**-7
    assert " rms " in out and "mismatches" not in out


def test_compare_finds_one_wrong_value(run, tmp_path, monkeypatch):
    """The 600th sequence is in the second batch: its number counts from the first one."""
    original, made = executors.make_executor, []

    def make(artifact, backend, **options):
        executor, calls = original(artifact, backend, **options), []
        made.append(backend)
        if len(made) % 2:
            return executor

        def wrong(tokens, keep=None):
            values = executor(tokens, keep)
            calls.append(len(tokens))
            if len(calls) == 2:
                values["block0.C"][600 - 512, 2, 1] += 3
                values["block0.C"][600 - 512, 3, 0] -= 1
            return values

        return wrong

    monkeypatch.setattr(look, "make_executor", make)
    path = tmp_path / "c.json"
    small = tmp_path / "small"
    save(replace(random_artifact(SMALL), data={"name": "mars", "split": "official"}), small)
    status, out = run("compare", small, "--data", DATA, "--backends", "int,int", "--limit", 650, "--json", path)
    result = json.loads(path.read_text())
    assert status == 1 and result["mismatches"] == 2
    wrong = {name: key for name, key in result["keys"].items() if key["mismatches"]}
    assert set(wrong) == {"block0.C"}
    key = wrong["block0.C"]
    assert (key["mismatches"], key["largest"], key["first"]["at"]) == (2, 3.0, [600, 2, 1])
    assert key["rms"] == pytest.approx(np.sqrt(10 / (650 * 4 * 2)))
    good, bad = key["first"]["values"]
    assert bad == good + 3 and key["first"]["format"] == str(load(small).operators["block0.C"].o)
    line = next(line for line in out.splitlines() if line.startswith("block0.C "))
    assert line.endswith(f"2          3  sequence 600, token 2, channel 1: [{good}, {bad}] in {key['first']['format']}")
    assert out.endswith("\n2 mismatches\nfirst in the order of the data: block0.C, token 2, channel 1 of sequence 600: "
                        f"int {good}, int {bad}, in {key['first']['format']}; what it reads is equal: block0.conv\n")


def test_trace(run, small, tmp_path):
    artifact, x = load(small), np.random.default_rng(0).normal(size=(3, 8, 8, 5))
    np.save(tmp_path / "x.npy", x)
    asked = ["trace", small, "--inputs", tmp_path / "x.npy", "--out", tmp_path / "t.npz"]
    for backend in ("int", "float"):
        status, out = run(*asked, "--backend", backend, "--keys", "block0.C,head", "--json", tmp_path / "t.json")
        with np.load(tmp_path / "t.npz") as found:
            expected = executors.make_executor(artifact, backend)(datasets.tokens.executor_tokens(x, artifact.config), None)
            assert sorted(found) == ["block0.C", "head"] and all(np.array_equal(found[key], expected[key]) for key in found)
        nodes = json.loads((tmp_path / "t.json").read_text())["nodes"]
        assert nodes["block0.C"] == {"shape": [3, 4, 2], "format": str(artifact.operators["block0.C"].o)}
        assert status == 0 and out.endswith(f"t.npz: 3 sequences of x.npy, {backend}\n")
    run(*asked)
    with np.load(tmp_path / "t.npz") as found:
        assert set(found) == set(artifact.operators)
    run(*asked, "--keys", "block9.C", sentence="--keys block9.C: random has no such node; it has: input, …")
    run(*asked[:-1], "t.npy", sentence="--out t.npy: name a file that ends with .npz")
    run(*asked, "--keys", "input", "--backend", "rtl", sentence="--keys input: the design shows what its blocks give; …")


def test_another_process(tmp_path):
    command = [sys.executable, "-m", "flow.cli", "evaluate", MARS, "--data", DATA, "--limit", "4"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (process.returncode, process.stderr) == (0, "")
    assert re.fullmatch(rf"int: MAE \S+ cm, RMSE \S+ cm on 4 sequences \({re.escape(NOTE)}\)\n", process.stdout)
    process = subprocess.run([*command[:-1], "0"], capture_output=True, text=True, cwd=ROOT)
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr == "emamba: --limit must be at least 1, not 0\n"


def test_torch_is_for_training_only():
    """The modules are imported one after another, so the first that brings it is named; the command alone takes little."""
    modules = ("flow.cli", "emamba.artifact", "emamba.run.integer", "emamba.run.executors", "emamba.quantization.quantize",
               "flow.compare", "rtl.build", "sim.executor")
    code = ("import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\n"
            "    print(name, sorted({'torch', 'optuna', 'numpy', 'amaranth', 'pydantic'} & set(sys.modules)))")
    process = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, cwd=ROOT)
    found = dict(line.split(" ", 1) for line in process.stdout.splitlines())
    assert process.stderr == "" and list(found) == list(modules) and found["flow.cli"] == "[]"
    assert not any(word in text for text in found.values() for word in ("torch", "optuna"))


# -- refusals -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, words", [
    (["evaluate", MARS, "--backend", "gpu"], "argument --backend: invalid choice: 'gpu'"),
    (["evaluate", MARS, "--limit", "many"], "argument --limit: invalid int value: 'many'"),
    (["evaluate", MARS, "--split", "tests"], "argument --split: invalid choice: 'tests'"),
    (["finetune"], "the following arguments are required: artifact, --run, --out"),
    (["quantize", "runs/x"], "the following arguments are required: --out"),
    (["emulate"], "invalid choice: 'emulate'"),
    ([], "the following arguments are required: COMMAND"),
])
def test_wrong_usage(capsys, arguments, words):
    with pytest.raises(SystemExit) as exit:
        cli.main(arguments)
    out, err = capsys.readouterr()
    assert (exit.value.code, out) == (2, "") and err.startswith("usage: emamba") and words in err


def test_unknown_backend_of_the_library():
    with pytest.raises(EmambaError, match=r"^there is no backend 'gpu'; choose one of float, int, rtl$"):
        executors.make_executor(load(MARS), "gpu")


@pytest.mark.parametrize("backends", ["int", "int,gpu", "int,int,int", "", "int, rtl"])
def test_bad_backends(run, backends):
    run("compare", MARS, "--data", DATA, "--backends", backends,
        sentence=f"--backends {backends}: name two of float, int, rtl, separated by a comma")


@pytest.mark.parametrize("limit", [0, -3])
@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_bad_limit(run, command, limit):
    run(command, MARS, "--data", DATA, "--limit", limit, *["--backends", "int,int"][:2 * (command == "compare")],
        sentence=f"--limit must be at least 1, not {limit}")


def test_missing_artifact_and_data(run, tmp_path):
    run("evaluate", tmp_path / "none", sentence=f"{tmp_path}/none is not an artifact: it has no manifest.json")
    (tmp_path / "checkpoint.json").touch()
    run("evaluate", tmp_path, sentence=f"{tmp_path} is a checkpoint, no artifact: emamba quantize {tmp_path} --out "
        f"models/{tmp_path.name} makes one")
    run("evaluate", MARS, "--data", tmp_path, sentence=f"no MARS data in {tmp_path}/mars or {tmp_path}: get featuremap_…")
    run("evaluate", MARS, "--data", DATA, "--split", "train", sentence="data set mars has no train part here: get featuremap_…")


def test_targets_beside_inputs(run, small, tmp_path):
    """Figures of an artifact that names no data set."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(5, 8, 8, 5)))
    np.save(tmp_path / "y.npy", np.zeros((5, 57)))
    given = ["--inputs", tmp_path / "x.npy"]
    status, printed = run("evaluate", small, *given, "--targets", tmp_path / "y.npy", "--backend", "float")
    assert status == 0 and printed.startswith("float: MAE ") and "targets of y.npy" in printed
    run("evaluate", small, *given, sentence="figures need targets: give them by --targets FILE beside --inputs")
    np.save(tmp_path / "y.npy", np.zeros((3, 57)))
    run("evaluate", small, *given, "--targets", tmp_path / "y.npy",
        sentence="…y.npy has 3 targets and …x.npy 5 sequences: give as many")
    run("evaluate", small, "--targets", tmp_path / "y.npy", sentence="--targets go with --inputs: the data set has its own")


def test_artifact_without_a_data_set(run, tmp_path):
    save(random_artifact(SMALL), tmp_path / "a")
    run("evaluate", tmp_path / "a", sentence=f"{tmp_path}/a does not name a data set, so there is nothing to run it on: "
        "give --inputs and --targets")
    save(replace(random_artifact(SMALL), data={"name": "maps", "split": None}), tmp_path / "a")
    run("evaluate", tmp_path / "a", sentence="unknown data set 'maps'; known: …")


def test_data_of_another_shape(run, tmp_path):
    config = ModelConfig(**SMALL.model_dump() | {"image": (4, 4, 5)})
    save(replace(random_artifact(config), data={"name": "mars", "split": "official"}), tmp_path / "a")
    run("evaluate", tmp_path / "a", "--data", DATA,
        sentence="the data has inputs of 8×8×5, the model's image input is 4×4×5: make the two agree")


def test_result_file_that_cannot_be_written(run, small, tmp_path):
    run("evaluate", small, "--data", DATA, "--limit", 1, "--json", tmp_path,
        sentence=f"cannot write {tmp_path}: …; name a folder you may write to")
    run("evaluate", small, "--data", DATA, "--limit", 1, "--json", "/proc/none/r.json",
        sentence="cannot write /proc/none/r.json: No such file or directory; name a folder you may write to")
    assert list(tmp_path.iterdir()) == []


def test_result_file_below_a_file(run, small, tmp_path):
    (tmp_path / "file").write_text("x")
    run("evaluate", small, "--data", DATA, "--limit", 1, "--json", tmp_path / "file" / "r.json",
        sentence=f"cannot write {tmp_path}/file/r.json: …; name a folder you may write to")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(run, small, monkeypatch, bad):
    data = datasets.load("mars", "official", DATA)
    data.x_test[1, 0, 5, 2] = bad  # row 0, column 5 is in the second patch: its first row, second pixel
    monkeypatch.setattr(datasets, "load", lambda *_: data)
    run("evaluate", small, "--limit", 2, sentence="the input holds a value that is not finite at [sequence, token, value] = "
                                                  "[1, 1, 7]: remove or replace such values")


def test_no_simulator(run, small, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    sentence = "Verilator needs g++, which is not on PATH; install it, e.g. apt-get install g++ make perl"
    run("evaluate", small, "--data", DATA, "--backend", "rtl", "--limit", 1, sentence=sentence)
    run("compare", small, "--data", DATA, "--limit", 1, sentence=sentence)


@pytest.mark.parametrize("cycles", [0, -1, (1 << 20) + 1])
def test_bad_cycles_per_token(run, small, cycles):
    run("evaluate", small, "--data", DATA, "--backend", "rtl", "--limit", 1, "--cycles-per-token", cycles,
        sentence=f"cycles_per_token = {cycles} is out of range; it must lie in 1..1048576")


def test_interruption(monkeypatch, capsys):
    monkeypatch.setattr(look, "load", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cli.main(["evaluate", MARS]) == 130
    assert capsys.readouterr() == ("", "emamba: interrupted; nothing half-written is left\n")


# -- quantize -----------------------------------------------------------------------------------------------------------------


def make_checkpoint(folder: Path) -> Path:
    config = ModelConfig(**TINY)
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in build_graph(config).tensors.items()}
    folder.mkdir(parents=True)
    save_file(weights, folder / "checkpoint.safetensors")
    record = {"recipe": {"data": {"name": "made"}, "model": TINY}, "input": {"mean": [1.0, 2.0], "std": [2.0, 0.5]},
              "output": {"scale": [2.0, 2.0], "offset": [0.5, -0.5]}, "seed": 7, "secret": 1}
    (folder / "checkpoint.json").write_text(json.dumps(record))
    return folder


def make_data(**changes) -> Dataset:
    rng = np.random.default_rng(1)
    parts = {f"{kind}_{part}": rng.normal(size=(n, *shape)).astype(np.float32)
             for part, n in (("train", 30), ("validate", 5), ("test", 8)) for kind, shape in (("x", (3, 2)), ("y", (2,)))}
    return Dataset(**{"name": "made", "split": "only", "note": "generated", "unit": "m", "unit_scale": 10.0,
                      "train_remedy": "generate more"} | parts | changes)


def test_quantize_then_evaluate(run, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda *_: make_data())
    checkpoint, out = make_checkpoint(tmp_path / "run"), tmp_path / "tiny"
    (tmp_path / "q.toml").write_text("residual_bits = 8\nweight_bits = 6\n")
    words = ["--set", "weight_bits=7", "--set", "rounding=half_even", "--set", "bits={'block*.z' = 6}"]
    status, printed = run("quantize", checkpoint, "--out", out, "--config", tmp_path / "q.toml", *words)
    artifact = load(out)
    settings = artifact.record["quantize"]
    told = [settings[key] for key in ("residual_bits", "weight_bits", "rounding", "frames")]
    assert told == [8, 7, "half_even", None]
    assert artifact.operators["block0.z"].o.bits == 6 and artifact.operators["block0.x"].w.bits == 7
    assert artifact.name == "tiny"
    assert artifact.record["training"] == {"recipe": {"data": {"name": "made"}, "model": TINY}, "seed": 7}
    assert artifact.data == {"name": "made", "split": "only", "note": "generated", "unit": "m", "unit_scale": 10.0}
    figures = artifact.record["figures"]
    assert figures["note"] == "made, only split, generated; 8 test sequences"
    lines = printed.splitlines()
    assert status == 0 and lines[0].startswith("float: MAE ") and lines[1].startswith("int: MAE ")
    assert re.fullmatch(r"block0\.y: the state cannot overflow \(bound \d+ of 8388607\)", lines[2])
    assert lines[3] == f"{out}: digest {artifact.digest[:16]}" and lines[4] == "verdict:"
    assert lines[5].endswith(" as float (nearly the same); does NOT beat the mean, 9.931 (test part)")
    assert artifact.record["verdict"]["figure"]["int"] == figures["int"]["rmse"]
    for backend in ("float", "int"):
        run("evaluate", out, "--backend", backend, "--json", tmp_path / "r.json")
        assert json.loads((tmp_path / "r.json").read_text())["figures"] == figures[backend]
    run("quantize", checkpoint, "--out", tmp_path / "again" / "tiny", "--config", tmp_path / "q.toml", *words)
    assert load(tmp_path / "again" / "tiny").digest == artifact.digest


@pytest.mark.parametrize("words, sentence", [
    (["--set", "weight_bits"], "--set weight_bits: write KEY=VALUE"),
    (["--set", "weight_bits=99"], "quantization settings: weight_bits: Input should be less than or equal to 12"),
    (["--set", "weightbits=8"], "quantization settings: weightbits: unknown key"),
    (["--set", "rule=taylor"],
     "quantization settings: rule: Input should be 'minimax', 'chord', 'authors', 'least_squares' or 'exact'"),
    (["--set", "=3"], "quantization settings: the whole: unknown key"),
    (["--config", "none.toml"], "cannot read the configuration none.toml: No such file or directory"),
    (["--set", "bits={'block*.q' = 6}"],
     "bits: no tensor is named 'block*.q'; the names are input, embed, block0.norm, block0.x, block0.z, block0.conv, "
     "block0.dt_low, block0.dt, block0.B, block0.C, block0.y, block0.silu, block0.gate, block0.out, block0.residual, norm, "
     "pool, head"),
    (["--set", "rule=chord", "--set", "silu_segments=3"],
     "node 'block0.silu': the rule chord needs 17 segments for silu, more than 3; allow 17 or use the rule minimax"),
])
def test_bad_settings(run, tmp_path, monkeypatch, words, sentence):
    monkeypatch.setattr(datasets, "load", lambda *_: make_data())
    run("quantize", make_checkpoint(tmp_path / "run"), "--out", tmp_path / "a", *words, sentence=sentence)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_bad_checkpoints(run, tmp_path):
    out = tmp_path / "a"
    run("quantize", tmp_path / "none", "--out", out,
        sentence=f"{tmp_path}/none is not a finished checkpoint (No such file or directory): train it first")
    folder = make_checkpoint(tmp_path / "run")
    good = (folder / "checkpoint.json").read_text()
    (folder / "checkpoint.json").write_text("{")
    run("quantize", folder, "--out", out, sentence=f"the checkpoint in {folder} is damaged (…): train it again")
    for text, sentence in ((good.replace('"output"', '"outputs"'), "is damaged (KeyError('output')): train it again"),
                           (good.replace('"d_model": 3', '"d_model": 0'),
                            "recipe: model.d_model: Input should be greater than or equal to 1")):
        (folder / "checkpoint.json").write_text(text)
        joint = " " if sentence.startswith("is") else ": "
        run("quantize", folder, "--out", out, sentence=f"{folder}/checkpoint.json{joint}{sentence}")
    (folder / "checkpoint.json").write_text(good)
    (folder / "checkpoint.safetensors").write_bytes(b"x" * 40)
    run("quantize", folder, "--out", out, sentence=f"the checkpoint in {folder} is damaged (…): train it again")
    (folder / "checkpoint.safetensors").unlink()
    run("quantize", folder, "--out", out,
        sentence=f"{folder} is not a finished checkpoint (No such file or directory…): train it first")
    assert not out.exists()


def test_no_training_part(run, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda *_: make_data(x_train=np.zeros((0, 3, 2), np.float32)))
    run("quantize", make_checkpoint(tmp_path / "run"), "--out", tmp_path / "a",
        sentence="data set made has no training part to calibrate on: generate more")
