"""Small trainings on generated data through the public functions."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from emamba import datasets
from emamba.base.errors import EmambaError, SettingError
from emamba.config import Recipe
from emamba.datasets import Dataset
from emamba.datasets.metrics import figures
from emamba.datasets.tokens import patchify, to_tokens
from emamba.training import loop as training
from emamba.training.network import Network

MODEL = {"input": "sequence", "features": 3, "length": 5, "d_model": 4, "dt_rank": 2, "d_state": 2, "blocks": 1,
         "task": "regression", "outputs": 2}
CLASSES = MODEL | {"task": "classification"}
NEXT = MODEL | {"input": "tokens", "features": None, "vocabulary": 6, "task": "next_token", "pool": "none", "outputs": 6}


def make_recipe(model=MODEL, **train) -> Recipe:
    return Recipe(data={"name": "made"}, model=model, train={"epochs": 3, "batch": 32, **train})


def make_data(task="regression", frames=(150, 40, 40), **changes) -> Dataset:
    random = np.random.default_rng(3)
    arrays = {}
    for part, n in zip(("train", "validate", "test"), frames, strict=True):
        if task == "next_token":
            tokens = (random.integers(6, size=(n, 1)) + np.arange(6)) % 6
            x, y = tokens[:, :-1], tokens[:, 1:]
        else:
            x = random.normal(4, 3, size=(n, 5, 3)).astype(np.float32)
            mean = x.mean(1)
            y = mean[:, :2] + 10 if task == "regression" else (mean[:, 0] > 4).astype(np.int64)
        arrays |= {f"x_{part}": x, f"y_{part}": y}
    return Dataset(**({"name": "made", "split": "only", "note": "generated", "train_remedy": "generate more"} | arrays | changes))


@pytest.fixture
def use(monkeypatch):
    """Makes the given data set the one that is loaded."""
    return lambda data: monkeypatch.setattr(datasets, "load", lambda name, split, directory: data)


def weights(folder):
    return load_file(folder / "checkpoint.safetensors")


def test_regression(use, tmp_path):
    data = make_data(unit="cm", unit_scale=100.0)
    use(data)
    record = training.train(make_recipe(epochs=12, peak_lr=3e-2), tmp_path, progress=False, threads=1)
    assert record == json.loads((tmp_path / "checkpoint.json").read_text())
    history = json.loads((tmp_path / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == list(range(1, 13))
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert record["figures"]["validate"]["rmse"] == min(entry["rmse"] for entry in history)
    assert history[record["epoch"] - 1]["rmse"] == record["figures"]["validate"]["rmse"]
    assert record["figures"]["unit"] == "cm" and record["recipe"]["train"]["epochs"] == 12
    assert record["data"] == {"note": "generated", "frames": {"train": 150, "validate": 40, "test": 40}}

    model = Network(make_recipe().model)
    model.load_state_dict(weights(tmp_path))
    x = (data.x_test - record["input"]["mean"]) / record["input"]["std"]
    output = model(torch.from_numpy(x.astype(np.float32))).detach().numpy()
    value = record["output"]["offset"] + np.array(record["output"]["scale"]) * output
    error = 100 * (value - data.y_test)
    assert record["figures"]["test"]["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-4)
    assert record["figures"]["test"]["rmse"] == pytest.approx(np.sqrt((error**2).mean(0)).mean(), rel=1e-4)


@pytest.mark.parametrize("model, figure, limit", [(CLASSES, "accuracy", 0.8), (NEXT, "perplexity", 5.0)])
def test_other_tasks(use, tmp_path, model, figure, limit):
    use(make_data(model["task"]))
    record = training.train(make_recipe(model, epochs=12, peak_lr=3e-2, seed=1), tmp_path, progress=False)
    value = record["figures"]["test"][figure]
    assert value > limit if figure == "accuracy" else 1 <= value < limit
    assert (record["input"] is None) == (model is NEXT)
    assert record["output"]["scale"] == [1.0] * model["outputs"]


def stage(window: int, epochs: int) -> dict:
    return {"window": window, "epochs": epochs, "batch": 2, "peak_lr": 0.01}


RECORDINGS = {part: np.repeat(np.arange(4), n // 4 + 2)[:n] for part, n in (("train", 150), ("validate", 40), ("test", 40))}


@pytest.mark.parametrize(("settings", "stops"), [({}, (2,)), ({"average": 0.9}, (2,)), (
    {"epochs": 2, "stages": [stage(4, 2), stage(9, 2) | {"join": 2}]}, (1, 2, 3, 5))])
def test_same_seed_same_weights_and_resuming_changes_nothing(use, tmp_path, monkeypatch, settings, stops):
    use(make_data(recordings=RECORDINGS))
    recipe = make_recipe(MODEL | {"carried": "stages" in settings}, **settings)
    training.train(recipe, tmp_path / "whole", progress=False)

    one_pass = training._Training._pass
    for stop in stops:
        def interrupted(self, stop=stop):
            if len(self.state.history) == stop:
                raise KeyboardInterrupt
            return one_pass(self)

        monkeypatch.setattr(training._Training, "_pass", interrupted)
        with pytest.raises(KeyboardInterrupt):
            training.train(recipe, tmp_path / "parts", progress=False)
        assert not (tmp_path / "parts/checkpoint.json").exists()
    monkeypatch.setattr(training._Training, "_pass", one_pass)
    training.train(recipe, tmp_path / "parts", progress=False)

    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys() and all(torch.equal(whole[key], parts[key]) for key in whole)
    assert not list(tmp_path.rglob("*.tmp"))


def test_stages_learn_over_time(use, tmp_path):
    """Targets add the mean of the sequence before, whose deviation is 1/√2: no model that knows one sequence comes below that."""
    def part(n, seed):
        x = np.random.default_rng(seed).normal(0, 1, (n, 2, 3)).astype(np.float32)
        mean = x.mean(1)[:, :2]
        return x, (mean + np.concatenate([mean[:1], mean[:-1]])).astype(np.float32)

    arrays = {f"{axis}_{name}": value for name, n, seed in (("train", 240, 0), ("validate", 60, 1), ("test", 60, 2))
              for axis, value in zip("xy", part(n, seed), strict=True)}
    one = {name: np.zeros(len(arrays[f"x_{name}"]), np.int64) for name in ("train", "validate", "test")}
    use(make_data(recordings=one, **arrays))
    recipe = make_recipe(MODEL | {"length": 2, "carried": True}, epochs=0, stages=[stage(8, 20) | {"peak_lr": 0.03}])
    record = training.train(recipe, tmp_path, progress=False)
    assert record["figures"]["test"]["rmse"] < 0.55 < np.sqrt(0.5)


def test_stages_need_recordings(use, tmp_path):
    recipe = make_recipe(MODEL | {"carried": True}, stages=[stage(40, 1)])
    use(make_data())
    with pytest.raises(SettingError, match="does not tell which sequences of its train part follow each other"):
        training.train(recipe, tmp_path / "a", progress=False)
    use(make_data(recordings=RECORDINGS))
    with pytest.raises(SettingError, match="have 0 windows of 40 sequences to train on, fewer than 1"):
        training.train(recipe, tmp_path / "b", progress=False)


def test_ties_in_accuracy_are_broken_by_the_loss(use, tmp_path):
    use(make_data("classification"))
    record = training.train(make_recipe(CLASSES, epochs=12, peak_lr=3e-2, seed=1), tmp_path, progress=False)
    best = max(record["history"], key=lambda entry: (entry["accuracy"], -entry["cross_entropy"]))
    assert record["epoch"] == best["epoch"]
    assert len({entry["accuracy"] for entry in record["history"]}) < len(record["history"])


def test_test_frames_of_seen_subjects(use, tmp_path):
    subject = np.repeat([1, 2], 20)
    use(make_data(test_subject=subject, train_subjects=(2, 3)))
    record = training.train(make_recipe(epochs=1), tmp_path, progress=False)
    assert record["figures"]["test_seen_subjects"].keys() == {"mae", "rmse"}
    assert make_data(test_subject=subject, train_subjects=(1, 2)).test_seen is None


def test_diverging(use, tmp_path, monkeypatch):
    use(make_data())
    losses = iter([1.0] * 5 + [float("nan")])
    loss = training.loss_of
    monkeypatch.setattr(training, "loss_of", lambda *arguments: loss(*arguments) * next(losses))
    message = (
        f"the training diverged in epoch 2: its loss is nan; the state after epoch 1 is kept in {tmp_path / 'training.pt'}; "
        "lower train.peak_lr (0.006) and train into another folder"
    )
    with pytest.raises(EmambaError, match=re.escape(message)):
        training.train(make_recipe(), tmp_path, progress=False)
    assert torch.load(tmp_path / "training.pt", weights_only=True)["state"]["epoch"] == 1
    assert not (tmp_path / "checkpoint.json").exists()


def test_wrong_recipe_in_folder(use, tmp_path):
    use(make_data())
    training.train(make_recipe(epochs=1), tmp_path, progress=False)
    with pytest.raises(EmambaError, match=r"training\.pt belongs to another recipe: train into another folder, or delete it"):
        training.train(make_recipe(epochs=2), tmp_path, progress=False)


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_damaged_state(use, tmp_path, content):
    use(make_data())
    training.train(make_recipe(epochs=1), tmp_path, progress=False)
    path = tmp_path / "training.pt"
    path.write_bytes(path.read_bytes()[:-2000] if content is None else content)
    with pytest.raises(EmambaError, match=r"training\.pt cannot be read \(\w+\): delete it to train from the start"):
        training.train(make_recipe(epochs=1), tmp_path, progress=False)


@pytest.mark.parametrize(
    "data, model, message",
    [
        ({"frames": (0, 0, 40)}, MODEL, "data set made (generated) has no training frames here: generate more"),
        ({"frames": (40, 0, 40)}, MODEL, "data set made has no validation or no test frames; a training needs both"),
        ({}, MODEL | {"outputs": 3}, "model.outputs is 3, data set made needs 2"),
        ({"task": "classification"}, CLASSES | {"outputs": 1}, "model.outputs is 1, data set made needs 2"),
        ({}, MODEL | {"length": 9}, "the data has inputs of 5×3, the model's sequence input is 9×3: make the two agree"),
    ],
)
def test_wrong_data(use, tmp_path, data, model, message):
    use(make_data(**data))
    with pytest.raises(EmambaError) as error:
        training.train(make_recipe(model), tmp_path, progress=False)
    assert str(error.value) == message


def test_folder_cannot_be_made(use, tmp_path):
    use(make_data())
    (tmp_path / "file").touch()
    with pytest.raises(EmambaError, match=r"cannot make the folder .*file: File exists"):
        training.train(make_recipe(), tmp_path / "file", progress=False)


IMAGES = CLASSES | {"input": "image", "features": None, "length": None, "image": (4, 6, 2), "patch": (2, 3)}


@pytest.mark.parametrize("task, model, options", [
    ("classification", IMAGES, {"shift": 1, "flip": True, "cutout": 2}),
    ("classification", IMAGES, {"thin": 0.3}),
    ("classification", CLASSES, {"label_smoothing": 0.3}),
    ("next_token", NEXT, {"label_smoothing": 0.3}),
    ("regression", MODEL, {"dropout": 0.5}),
    ("regression", MODEL, {"jitter": 0.2}),
    ("regression", MODEL, {"shift": 1, "cutout": 2}),
    ("classification", CLASSES, {"scale": 0.2, "mask": 0.3, "mix": 0.4}),
    ("regression", MODEL, {"mix": 0.4}),
])
def test_options_change_training_and_repeat(use, tmp_path, task, model, options):
    data = make_data(task)
    if model is IMAGES:
        random = np.random.default_rng(4)
        data = make_data(task, **{f"x_{part}": random.normal(size=(n, 4, 6, 2)).astype(np.float32)
                                  for part, n in (("train", 150), ("validate", 40), ("test", 40))})
    use(data)
    recipes = {"plain": make_recipe(model), "with": make_recipe(model, **options), "again": make_recipe(model, **options)}
    for name, recipe in recipes.items():
        record = training.train(recipe, tmp_path / name, progress=False, threads=1)
        assert all(record["recipe"]["train"][key] == value for key, value in recipe.train if key in options)
    plain, first, second = (weights(tmp_path / name) for name in recipes)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], plain[key]) for key in first)


def test_dropout_is_for_training_only():
    model = Network(make_recipe().model)
    tokens = torch.randn(2, 5, 3)
    before = model.eval()(tokens)
    model.dropout = 0.9
    assert torch.equal(model(tokens), before) and not torch.equal(model.train()(tokens), before)


def test_recut(use, tmp_path):
    text = np.arange(1001) % 6
    x, y = text[:-1].reshape(200, 5), text[1:].reshape(200, 5)
    use(make_data("next_token", x_train=x, y_train=y))
    record = training.train(make_recipe(NEXT, epochs=4, peak_lr=3e-2, recut=True), tmp_path / "a", progress=False)
    assert record["figures"]["test"]["perplexity"] < 5
    use(make_data("next_token"))
    message = "train.recut needs windows that follow each other in a text; those of data set made do not"
    with pytest.raises(EmambaError, match=f"^{re.escape(message)}$"):
        training.train(make_recipe(NEXT, recut=True), tmp_path / "b", progress=False)


def test_figures_of_text(use, tmp_path):
    use(make_data("next_token", token_bytes=np.arange(1, 7), bytes_per_word=5.0))
    measured = training.train(make_recipe(NEXT, epochs=1), tmp_path, progress=False)["figures"]["test"]
    assert measured.keys() == {"perplexity", "bits_per_byte", "word_perplexity"}
    assert measured["word_perplexity"] == pytest.approx(2 ** (5 * measured["bits_per_byte"]))
    assert np.log2(measured["perplexity"]) / 4 < measured["bits_per_byte"] < np.log2(measured["perplexity"]) / 3


def test_long_sequences_are_predicted_in_small_batches(monkeypatch):
    recipe = make_recipe()
    model, x = Network(recipe.model), np.random.default_rng(1).normal(size=(9, 5, 3)).astype(np.float32)
    scaling = training.Scaling(np.zeros(3), np.ones(3), np.ones(2), np.zeros(2))
    whole = training.predict(model, x, scaling)
    for limit in (1, 12):
        monkeypatch.setattr(training, "TOKENS", limit)
        assert np.allclose(training.predict(model, x, scaling), whole, atol=1e-6)


def test_standardizing_in_slices(monkeypatch):
    x = np.random.default_rng(1).normal(size=(9, 5, 3)).astype(np.float32)
    scaling = training.Scaling(np.arange(3.0), np.arange(1.0, 4.0), np.ones(2), np.zeros(2))
    monkeypatch.setattr(training, "SLICE", 4)
    assert np.array_equal(scaling.inputs(x), ((x - np.arange(3.0)) / np.arange(1.0, 4.0)).astype(np.float32))


def test_constant_channels_and_targets(use, tmp_path):
    data = make_data()
    data.x_train[..., 1] = 7
    data.y_train[:] = 1
    use(data)
    record = training.train(make_recipe(epochs=1), tmp_path, progress=False)
    assert record["input"]["std"][1] == 1 and record["output"]["scale"] == [1, 1]


def test_patchify():
    images = np.arange(2 * 4 * 6 * 2).reshape(2, 4, 6, 2)
    tokens = patchify(images, (2, 3))
    assert tokens.shape == (2, 4, 12)
    for index in range(4):
        row, column = 2 * (index // 2), 3 * (index % 2)
        assert np.array_equal(tokens[1, index], images[1, row : row + 2, column : column + 3].ravel())


def test_patchify_with_overlap():
    images = np.arange(2 * 4 * 6 * 2).reshape(2, 4, 6, 2)
    tokens = patchify(images, (2, 3), 1)
    bordered = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    assert tokens.shape == (2, 4, 40)
    for index in range(4):
        row, column = 2 * (index // 2), 3 * (index % 2)
        assert np.array_equal(tokens[1, index], bordered[1, row : row + 4, column : column + 5].ravel())
    assert torch.equal(patchify(torch.from_numpy(images), (2, 3), 1), torch.from_numpy(tokens))


def test_to_tokens_of_images():
    config = make_recipe(MODEL | {"input": "image", "features": None, "length": None, "image": (4, 6, 2), "patch": (2, 3)}).model
    assert to_tokens(np.zeros((3, 4, 6, 2)), config).shape == (3, config.tokens, config.input_width)
    wide = config.model_copy(update={"overlap": 2})
    assert wide.input_width == 6 * 7 * 2 and to_tokens(np.zeros((3, 4, 6, 2)), wide).shape == (3, 4, 84)
    with pytest.raises(EmambaError, match="the data has inputs of 4×4×2, the model's image input is 4×6×2: make the two agree"):
        to_tokens(np.zeros((3, 4, 4, 2)), config)


def test_figures():
    prediction, target = np.array([[1.0, 2.0], [3.0, 2.0]]), np.array([[0.0, 2.0], [0.0, 2.0]])
    assert figures("regression", prediction, target, 100) == {
        "mae": 100.0, "rmse": pytest.approx(100 * (np.sqrt(5) + 0) / 2)
    }
    assert figures("classification", np.array([[0.1, 0.9], [3, 1]]), np.array([1, 1])) == {"accuracy": 0.5}
    uniform = figures("next_token", np.zeros((2, 3, 8)), np.zeros((2, 3), np.int64))
    assert uniform == {"perplexity": pytest.approx(8)}
