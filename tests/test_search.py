"""Searches over tiny spaces of generated data: what they find, keep, go on from, and refuse."""

import json
import os
import re
import sys
from functools import partial

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from emamba import datasets
from emamba.artifact import load
from emamba.base.errors import DesignLimit, EmambaError
from emamba.config import load_toml
from emamba.training import loop as training
from flow import cli
from flow.search import search, trials, workers
from flow.search.space import HardwareConfig, Space
from rtl.engine.machine import Machine
from rtl.engine.schedule import EngineSchedule
from rtl.plan import engine_cost
from rtl.plan.devices import find
from sim.models import random_artifact
from tests.test_training import make_data

TINY = """
[data]
name = "made"
[model]
input = "sequence"
features = 3
length = 5
d_model = 4
dt_rank = 2
d_state = 2
blocks = 1
task = "regression"
outputs = 2
[train]
epochs = 1
batch = 32
[quantize]
frames = 50
[search]
trials = 4
share = 0.5
[hardware]
device = "zcu102"
cycles_per_token = 40
[space.model]
d_model = [3, 4, 6]
dt_rank = { low = 1, high = 3 }
d_conv = [2, 3, 4]
"""


@pytest.fixture
def made(monkeypatch):
    data = make_data(unit="m")
    monkeypatch.setattr(datasets, "load", lambda *_: data)
    return data


@pytest.fixture
def begin(tmp_path, made):
    """A search from the text of a file, in the folder `run`."""

    def make(text=TINY, **parts) -> search.Search:
        path = tmp_path / "tiny.toml"
        path.write_text(text)
        return search.Search(load_toml(Space, path), "tiny", tmp_path / "run", **parts)

    return make


def states(study) -> list[str]:
    return [trial.state.name for trial in study.get_trials()]


def words(capsys, *arguments) -> tuple[int, str]:
    """Exit status of a command, and what it printed, on standard error where it failed."""
    status = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert (err == "") == (status == 0)
    return status, err if status else out


def test_what_a_search_leaves(begin, made, tmp_path, capsys):
    wanted = begin()
    status, printed = words(capsys, "search", tmp_path / "tiny.toml", "--out", wanted.out)
    assert status == 0 and printed.endswith(f"4 trials; {wanted.out}/search.json has them all\n")
    told = json.loads((wanted.out / "search.json").read_text())
    assert told["error"] == "RMSE, m" and told["objectives"] == ["error", "cycles", "load"] and len(told["trials"]) == 4
    first = told["trials"][0]
    assert first["point"] == {"model.d_model": 4, "model.dt_rank": 2, "model.d_conv": 4}  # the recipe itself
    assert first["error"] == first["int"]["rmse"] and first["multiplies"] > first["parameters"] > 100
    assert len(first["curve"]) == 1 and first["curve"][0] == pytest.approx(first["float"]["rmse"], rel=1e-5)
    chosen = [told["trials"][number] for number in told["best"]]
    for one in chosen:
        assert not any(all(other[key] <= one[key] for key in told["objectives"])
                       and any(other[key] < one[key] for key in told["objectives"]) for other in told["trials"])
    assert "* the recipe in the file" in printed and (wanted.out / "pareto.svg").read_text().startswith("<?xml")
    record = json.loads((wanted.out / "trials" / "0" / "checkpoint.json").read_text())
    assert record["data"]["frames"] == {"train": 75, "validate": 40, "test": 40}
    assert record["figures"]["validate"] == record["figures"]["test"]  # the test part was not looked at


def test_approximations_share_a_training(begin, monkeypatch):
    """Points that differ in the quantization alone are trained once, in the first one's folder, and measured each; for an
    engine."""
    text = TINY[:TINY.index("[space.model]")].replace("cycles_per_token = 40", 'organization = "engine"')
    trained, original = [], trials.train
    monkeypatch.setattr(trials, "train", lambda *arguments, **options: (trained.append(arguments[1]),
                                                                        original(*arguments, **options)))
    study = search.run(begin(f"{text}[space.quantize]\nsilu_segments = [2, 17]\n"), trials=2)
    first, second = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert [path.name for path in trained] == ["0"] and first.user_attrs["error"] != second.user_attrs["error"]
    assert first.user_attrs["curve"] == second.user_attrs["curve"]
    assert {path.name for path in begin().folder(second).iterdir()} == set(trials.CHECKPOINT)


def test_same_seed_same_trials(begin, tmp_path):
    one = search.run(begin(), trials=1)
    (tmp_path / "run").rename(tmp_path / "other")
    two = search.run(begin(), trials=1)
    assert [trial.params for trial in one.trials] == [trial.params for trial in two.trials]
    assert [trial.values for trial in one.trials] == [trial.values for trial in two.trials]


def test_an_interrupted_trial_goes_on_in_its_folder(begin, monkeypatch):
    original = trials.train

    def interrupted(recipe, folder, **options):
        folder.mkdir(parents=True)
        (folder / "mark").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(trials, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search.run(begin())
    monkeypatch.setattr(trials, "train", original)
    study = search.run(begin(), trials=1)
    assert states(study) == ["FAIL", "COMPLETE"]
    assert study.trials[1].params == study.trials[0].params and study.trials[1].user_attrs["resumes"] == 0
    assert {path.name for path in (begin().out / "trials" / "0").iterdir()} >= {"mark", "checkpoint.json"}
    assert not (begin().out / "trials" / "1").exists()


def test_a_diverging_trial(begin, monkeypatch):
    loss, calls = training.loss_of, []

    def nan_at_first(*arguments):
        calls.append(0)
        return loss(*arguments) * (float("nan") if len(calls) == 1 else 1)

    monkeypatch.setattr(training, "loss_of", nan_at_first)
    study = search.run(begin(), trials=1)
    assert states(study) == ["FAIL", "COMPLETE"]  # a failure is no trial that was asked for
    assert study.trials[0].user_attrs["failed"].startswith("the training diverged in epoch 1: its loss is nan")


def test_no_training_succeeds(begin, monkeypatch, tmp_path, capsys):
    loss = training.loss_of
    monkeypatch.setattr(training, "loss_of", lambda *arguments: loss(*arguments) * float("nan"))
    begin(TINY[:TINY.index("[space.model]")] + "[space.model]\nd_conv = [3, 4]\n")
    sentence = ("emamba: none of the 2 points that were tried became a model; the last failed since the training diverged in "
                "epoch 1: its loss is nan; nothing was written; lower train.peak_lr (0.006) and train into another folder; "
                "correct [train] or [space], and search into another folder\n")
    for _ in range(2):
        assert words(capsys, "search", tmp_path / "tiny.toml", "--out", tmp_path / "run", "--trials", 2) == (1, sentence)


def test_points_that_cannot_be(begin):
    text = TINY.replace("d_conv = [2, 3, 4]", 'd_conv = [4]\nfeatures = [3, 0]').replace(
        "[space.model]", "[limits]\nmultiplies = 1700\n[space.model]")
    study = search.run(begin(text), trials=4)
    refused = [trial.user_attrs["refused"] for trial in study.trials if trial.state == TrialState.PRUNED]
    patterns = (r"multiplies = \d+ exceeds the limit of 1700",
                "the point: model.features: Input should be greater than or equal to 1")
    assert all(any(re.fullmatch(pattern, sentence) for sentence in refused) for pattern in patterns)
    assert search.best(study) and all(trial.user_attrs["multiplies"] <= 1700 for trial in search.best(study))


def test_no_point_can_be(begin, tmp_path, capsys):
    begin(TINY.replace("[space.model]", "[limits]\nmultiplies = 1\n[space.model]"))
    status, printed = words(capsys, "search", tmp_path / "tiny.toml", "--out", tmp_path / "run", "--trials", 2)
    sentence = (r"emamba: none of the 2 points that were tried is feasible; the last was refused since multiplies = \d+ exceeds "
                r"the limit of 1; widen \[space\], raise \[limits\], or name a larger \[hardware\] device\n")
    assert status == 1 and re.fullmatch(sentence, printed)
    status, printed = words(capsys, "search", tmp_path / "tiny.toml", "--out", tmp_path / "run", "--show")
    assert status == 0 and printed == f"2 trials; {tmp_path}/run/search.json has them all\n"


def test_a_device_that_is_too_small(begin):
    text = TINY.replace("zcu102", "icebreaker").replace("[hardware]", "[hardware]\nfill = 0.1").replace("[3, 4, 6]", "[1]")
    with pytest.raises(EmambaError, match=r"icebreaker is too small: at \d+ cycles per token the design takes an estimated \d+% "
                                          "of its scarcest resource, more than 10%"):
        search.run(begin(text), trials=1)


def test_costs_of_an_engine():
    """Its own cycles; the load is the cost model's; a device that is too small is refused."""
    artifact = random_artifact("emamba-odd")
    engine = EngineSchedule(artifact, Machine(4))
    taken = engine_cost.estimate(engine, "xcup")
    known = trials.hardware_costs(artifact, HardwareConfig(organization="engine", lanes=4))
    assert known["cycles"] == engine.cycles_per_frame and known["cycles_per_token"] == engine.period
    assert known["load"] == max(taken[name] / limit for name, limit in find("zcu102").limits.items())
    with pytest.raises(DesignLimit, match=r"icebreaker is too small: an engine of 8 lanes takes an estimated \d+% of"):
        trials.hardware_costs(artifact, HardwareConfig(device="icebreaker", organization="engine"))


def test_hopeless(begin):
    space = begin(TINY.replace("epochs = 1", "epochs = 8")).space
    assert space.rungs == {2, 4}

    def trial(number, curve, cycles=10, load=0.1):
        found = optuna.trial.create_trial(values=[1, 1, 1], user_attrs={"curve": curve, "cycles": cycles, "load": load})
        found.number = number
        return found

    others = [trial(0, [9, 7.0]), trial(1, [9, 8.1]), trial(2, [5, 9.0]), trial(3, [1, 1], load=0.3), trial(4, [1]), trial(5, [])]
    assert trials.rivals(space, [9.5, 8.2], {"cycles": 10, "load": 0.2}, others) == [0, 2]


def test_hopeless_trials_stop(begin, monkeypatch):
    monkeypatch.setattr(trials, "rivals", lambda space, curve, costs, others: [0, 1] if others else [])
    study = search.run(begin(TINY.replace("epochs = 1", "epochs = 4")), trials=2)
    assert study.trials[1].state == TrialState.PRUNED and len(study.trials[1].user_attrs["curve"]) == 1
    assert study.trials[1].user_attrs["refused"] == "after 1 epochs trials 0, 1 were better at no higher cost"


@pytest.mark.parametrize("options", [[], ["--epochs", 2]])
def test_pick(begin, tmp_path, capsys, options):
    wanted = begin()
    study = search.run(wanted, trials=1)
    number = search.best(study)[0].number
    status, printed = words(capsys, "pick", tmp_path / "tiny.toml", number, "--search", wanted.out, "--out", tmp_path / "picked",
                            "--set", "residual_bits=10", "--threads", 1, *options)
    artifact = load(tmp_path / "picked")
    assert status == 0 and printed.startswith("float: MAE ")
    assert artifact.config == wanted.space.at(study.trials[number].params)[0].model
    settings = artifact.record["quantize"]
    assert (settings["frames"], settings["residual_bits"]) == (50, 10)
    assert artifact.record["training"]["recipe"]["train"]["epochs"] == (2 if options else 1)


def test_the_whole_front(begin, tmp_path, capsys):
    """Into a folder for each trial; one that is there stays."""
    wanted = begin()
    front = search.best(search.run(wanted, trials=3))
    arguments = ("pick", tmp_path / "tiny.toml", "--front", "--search", wanted.out, "--out", tmp_path / "front", "--threads", 1)
    assert words(capsys, *arguments)[0] == 0
    assert {int(path.name): load(path).config for path in (tmp_path / "front").iterdir()} == {
        trial.number: wanted.space.at(trial.params)[0].model for trial in front}
    assert words(capsys, *arguments) == (0, "")
    for both in ([], ["0", "--front"]):
        assert words(capsys, "pick", tmp_path / "tiny.toml", *both, *arguments[3:]) == (
            1, "emamba: give the number of a trial, or --front\n")


def test_pick_refuses(begin, tmp_path, capsys):
    wanted = begin()
    search.run(wanted, trials=1)
    arguments = ("--search", wanted.out, "--out", tmp_path / "picked")
    assert words(capsys, "pick", tmp_path / "tiny.toml", 7, *arguments) == (
        1, f"emamba: the search 'tiny' in {wanted.journal} has no trial 7 that became a model; `emamba search … --show` lists "
        "the best\n")
    (wanted.out / "trials" / "0" / "checkpoint.json").unlink()
    assert words(capsys, "pick", tmp_path / "tiny.toml", 0, *arguments) == (
        1, f"emamba: {wanted.out}/trials/0 holds no finished proxy of trial 0: copy it from the machine that trained it, or "
        "train in full with --epochs\n")
    for option, value, sentence in (
            ("--epochs", 0, "--epochs must be at least 1, not 0"),
            ("--epochs", -1, "--epochs must be at least 1, not -1"),
            ("--epochs", 10**9, "--epochs: train.epochs: Input should be less than or equal to 1048576"),
            ("--threads", 0, "--threads must be at least 1, not 0"),
            ("--threads", 10**9, "--threads must be at most 1024, not 1e+09")):
        assert words(capsys, "pick", tmp_path / "tiny.toml", 0, *arguments, option, value) == (1, f"emamba: {sentence}\n")


@pytest.mark.parametrize("old, new, sentence", [
    ("d_conv = [2, 3, 4]", "d_conf = [2]", "space: model has no key 'd_conf'; the keys are form, input, …"),
    ("d_conv = [2, 3, 4]", "d_conv = []", "space: model.d_conv: give a list of values, or a range such as { low = 2, high = 8 }"),
    ("low = 1", "low = 9", "space: model.dt_rank: the whole: low = 9 lies above high = 3"),
    ("low = 1", "lo = 1", "space: model.dt_rank: low: Field required"),
    ("low = 1", "low = nan", "space: model.dt_rank: low: nan is no number from -1e+15 to 1e+15"),
    ("low = 1", "low = true", "space: model.dt_rank: low: True is no number from -1e+15 to 1e+15"),
    ("high = 3", "high = inf", "space: model.dt_rank: high: inf is no number from -1e+15 to 1e+15"),
    ("high = 3", "high = 3, step = 5", "space: model.dt_rank: the whole: step = 5 leads from low = 1 beyond high = 3"),
    ("[2, 3, 4]", "[2, 3, 2]", "space: model.d_conv: 2 is named twice"),
    ("[2, 3, 4]", "[nan]", "space: model.d_conv: nan is no value of a setting"),
    ("trials = 4", "trials = 1e9", "search.trials: Input should be less than or equal to 1048576"),
    ("trials = 4", "margin = inf", "search.margin: Input should be a finite number"),
    ("trials = 4", "rungs = [0]", "search.rungs.0: Input should be greater than or equal to 1"),
    ("[space.model]", "[limits]\ncycles = nan\n[space.model]", "limits.cycles: Input should be greater than 0"),
    ("[space.model]", "[space.modle]", "space.modle.[key]: Input should be 'model', 'train' or 'quantize'"),
    ("trials = 4", 'objectives = ["cycles"]', "search.objectives: the first must be 'error'"),
    ("trials = 4", 'objectives = ["error", "error"]', "search.objectives: one is named twice"),
    ("share = 0.5", "share = 0", "search.share: Input should be greater than 0"),
])
def test_bad_files(begin, tmp_path, old, new, sentence):
    with pytest.raises(EmambaError, match="^" + re.escape(f"{tmp_path}/tiny.toml: {sentence}").replace("…", ".*") + "$"):
        begin(TINY.replace(old, new))


def test_other_refusals(begin, made, monkeypatch, tmp_path, capsys):
    with pytest.raises(EmambaError, match="--trials and --workers must be at least 1, not 0 and 1"):
        search.run(begin(), trials=0)
    with pytest.raises(EmambaError, match="there is no device 'moon'; choose one of zcu102"):
        search.run(begin(TINY.replace("zcu102", "moon")))
    begin()
    assert words(capsys, "search", tmp_path / "tiny.toml", "--out", tmp_path / "run", "--show") == (
        1, f"emamba: {tmp_path}/run holds no search: it has no journal.log; run the search first\n")
    (tmp_path / "file").touch()
    assert words(capsys, "search", tmp_path / "tiny.toml", "--out", tmp_path / "file") == (
        1, f"emamba: cannot write {tmp_path}/file/journal.log: File exists; name another folder with --out\n")
    monkeypatch.setattr(datasets, "load", lambda *_: make_data(x_train=np.zeros((0, 5, 3), np.float32)))
    assert words(capsys, "search", tmp_path / "tiny.toml", "--out", tmp_path / "run") == (
        1, "emamba: data set made (generated) has no training part here: generate more\n")
    assert not (tmp_path / "run").exists()
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "flow.search.search")
    status, printed = words(capsys, "search", tmp_path / "tiny.toml", "--out", tmp_path / "run")
    assert status == 1 and printed.startswith("emamba: a search needs the extras [search,train] (")


def test_a_worker_reads_the_data_itself(begin, tmp_path, monkeypatch):
    wanted = begin(data_dir=tmp_path)
    monkeypatch.undo()
    (tmp_path / "made").mkdir()
    for name, array in vars(make_data()).items():
        if name[:2] in ("x_", "y_"):
            np.save(tmp_path / "made" / f"{name}.npy", array)
    study = search.open_study(wanted, create=True)
    workers.together(partial(search.work, wanted, 1, search._bench), 1, lambda: 0)
    (done,) = search.finished(study)
    assert done.state == TrialState.COMPLETE and done.user_attrs["process"][1] != os.getpid()
