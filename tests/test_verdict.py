"""The verdict: figures against what is trivial, what hardware does and takes, and what it says of it."""

import numpy as np
import pytest

from emamba.base.words import counted, time_words
from emamba.config import Recipe, validate
from emamba.datasets.baseline import Baseline
from emamba.datasets.metrics import value_words
from emamba.training.advice import advice
from flow import verdict
from rtl.plan.devices import DEVICES
from rtl.plan.planner import FILL
from rtl.plan.schedule import Schedule
from sim.models import random_artifact

BASELINE = Baseline("rmse", "linear fit", {"mean": {"validate": 3.0, "test": 3.0}, "linear fit": {"validate": 1.0, "test": 1.2}})


@pytest.fixture(scope="module")
def artifact():
    return random_artifact("emamba-image")


def test_figures_against_what_is_trivial():
    found = verdict.figure_part("regression", "cm", {"float": {"rmse": 1.0}, "int": {"rmse": 1.1}}, BASELINE)
    assert found == {"metric": "rmse", "unit": "cm", "part": "test", "float": 1.0, "int": 1.1, "beats_baseline": True,
                     "baseline": {"name": "linear fit", "value": 1.2}}
    assert verdict.lines({"figure": found})[1] == \
        "  RMSE 1.1 cm as integers, RMSE 1 cm as float (+10.0%); beats the linear fit, 1.2 (test part)"
    worse = verdict.figure_part("regression", "", {"float": {"rmse": 1.1}}, BASELINE, "validate")
    assert not worse["beats_baseline"] and "does NOT beat the linear fit, 1 (validate" in verdict.lines({"figure": worse})[1]
    other = verdict.figure_part("classification", "", {"int": {"accuracy": 0.5}}, BASELINE)
    assert "baseline" not in other


def test_hardware(artifact):
    at = verdict.estimator(artifact)
    found = verdict.verdict(artifact, cycles_per_token=4, at=at)
    schedule = Schedule(artifact, 4, verdict.realization(DEVICES["zcu102"]))
    assert found["rate"]["cycles_per_frame"] == schedule.cycles_per_frame
    assert found["rate"]["frames_per_second"] == 125e6 / schedule.cycles_per_frame
    assert list(found["fits"]) == list(DEVICES)
    for name, cycles in found["fits"].items():
        limits = DEVICES[name].limits.items()
        weighed = [(schedule.period, all(resources[key] <= FILL * limit for key, limit in limits))
                   for schedule, resources in (at(DEVICES[name], T) for T in verdict.FOLDINGS)]
        assert cycles == min((period for period, fitting in weighed if fitting), default=None)
    text = "\n".join(verdict.lines(found))
    assert "LUT" in text and "frames a second" in text and "proven: the state cannot overflow, for" in text
    assert "as a pipeline it fits zcu102 from T = " in text


@pytest.mark.parametrize("microseconds, words", [(0.864, "0.864 µs"), (999.4, "999 µs"), (999.6, "1 ms"), (2440.0, "2.44 ms"),
                                                 (3.2e6, "3.2 s"), (1.234e9, "1,234 s")])
def test_times(microseconds, words):
    assert time_words(microseconds) == words


def test_figures_of_people():
    assert value_words("accuracy", 1.0) == "100.00%" and value_words("perplexity", 76543.2) == "76,543"
    assert value_words("rmse", 5.0231, "cm") == "5.023 cm"
    assert counted(1, "token") == "1 token" and counted(1404, "token") == "1,404 tokens"
    assert DEVICES["zcu102"].shares({"lut": 0, "ff": 0, "dsp": 0, "bram36": 0.9 / 2})["bram36"] == {
        "estimate": 0, "limit": 912, "share": 0.0}


def test_agreement():
    real = np.random.default_rng(0).normal(size=(4, 3))
    found = verdict.agreement_part("classification", real, real)
    assert found == {"sequences": 4, "same_answer": 1.0, "relative_error": 0.0}
    text = verdict.lines({"agreement": found | {"float": 3.0, "int": 3.5}})[1]
    assert text.endswith("same answer as the float model in 100.0%, an error of 0.00% of the outputs' spread; perplexity 3.5, "
                         "float 3")


@pytest.mark.parametrize("train, validation, best, words", [
    (0.5, 0.9, 5, ["it overfits, rmse 0.5 on the training part", "set train.dropout, jitter, raise train.weight_decay (0.01)"]),
    (0.9, 0.9, 5, []),
    (0.9, 0.9, 10, ["it was still learning", "model.pool = 'last' suits forecasts"]),
    (1.4, 1.5, 5, ["it was still learning, or is too small: raise train.epochs (10)"]),
])
def test_advice(train, validation, best, words, beyond=0.0):
    model = {"form": "emamba", "input": "sequence", "features": 1, "length": 4, "d_model": 4, "dt_rank": 1, "d_state": 2,
             "blocks": 1, "task": "regression", "outputs": 1}
    recipe = validate(Recipe, {"data": {"name": "x"}, "model": model, "train": {"epochs": 10}}, "recipe")
    said = "; ".join(advice(recipe, {"figures": {"train": {"rmse": train}, "validate": {"rmse": validation}}, "epoch": best,
                                     "history": [{}] * 10, "baseline": BASELINE.report(),
                                     "beyond": {"validate": beyond, "test": 0.0}}))
    assert all(word in said for word in words) and bool(said) == bool(words)
    assert ("overfits" in said) == ("overfits" in str(words))


@pytest.mark.parametrize("train, validation", [(0.5, 0.9), (1.4, 1.5)])
def test_values_beyond_what_trained_explain_before_all_else(train, validation):
    words = ["76% of the validation values of a feature lie beyond the range of the training part"]
    test_advice(train, validation, 10, words, 0.76)
