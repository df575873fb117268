"""Data of one's own: folders of arrays, CSV time series, WAV files; and a sentence for every fault in them."""

import csv
import json
import wave

import numpy as np
import pytest

from emamba import cli, datasets, prepare
from emamba.config import Recipe, load_toml
from emamba.errors import EmambaError

RNG = np.random.default_rng(3)


@pytest.fixture
def arrays(tmp_path):
    """Writes arrays into data/mine; returns what loading it gives, or the sentence of its refusal."""

    def load(**given):
        folder = tmp_path / "data" / "mine"
        folder.mkdir(parents=True, exist_ok=True)
        plain = {"x_train": RNG.normal(size=(10, 4, 2)), "y_train": RNG.normal(size=(10, 3)),
                 "x_test": RNG.normal(size=(6, 4, 2)), "y_test": RNG.normal(size=(6, 3))}
        for name, value in (plain | given).items():
            if value is not None:
                np.save(folder / f"{name}.npy", value)
        try:
            return datasets.load("mine", None, tmp_path / "data")
        except EmambaError as error:
            assert "\n" not in str(error)
            return str(error).replace(str(tmp_path), "")

    return load


def test_folder(arrays, tmp_path):
    data = arrays()
    assert (data.name, data.split, data.note, data.unit, data.unit_scale) == ("mine", "own", "own arrays", "", 1.0)
    assert data.x_train.shape == (8, 4, 2) and data.x_validate.shape == (2, 4, 2) and data.x_test.shape == (6, 4, 2)
    assert data.x_train.dtype == data.y_train.dtype == np.float32 and data.y_train.shape == (8, 3)
    (tmp_path / "data/mine/source.json").write_text('{"unit": "cm", "unit_scale": 100, "note": "a radar", "more": 1}')
    data = arrays(x_validate=np.ones((3, 4, 2)), y_validate=np.ones((3, 3)))
    assert len(data.x_train) == 10 and len(data.x_validate) == 3
    assert (data.unit, data.unit_scale, data.note) == ("cm", 100.0, "a radar")


def test_folder_of_classes_tokens_and_images(arrays):
    data = arrays(x_train=RNG.integers(0, 9, (10, 5, 4, 3), np.uint8), y_train=np.arange(10, dtype=np.uint8) % 2,
                  x_test=np.zeros((2, 5, 4, 3), np.uint8), y_test=np.array([0, 1], np.uint8))
    assert data.x_train.dtype == np.float32 and data.y_train.dtype == np.int64
    ids = RNG.integers(0, 7, (10, 6))
    data = arrays(x_train=ids, y_train=ids, x_test=ids, y_test=ids)
    assert data.x_train.dtype == data.y_train.dtype == np.int64 and data.y_test.shape == (10, 6)
    assert arrays(y_train=RNG.normal(size=10), y_test=RNG.normal(size=6), x_train=None, x_test=None) \
        .startswith("/data/mine: x_test.npy has 10 sequences and y_test.npy 6")


@pytest.mark.parametrize("given, sentence", [
    ({"y_train": np.ones((9, 3))}, "/data/mine: x_train.npy has 10 sequences and y_train.npy 9; both need the same number, at "
                                   "least 1"),
    ({"x_train": np.ones((10, 4))}, "/data/mine/x_train.npy is an array of float64 of the shape [10, 4]; give sequences "
                                    "[n, L, features], images [n, height, width, channels], or token ids [n, L] of integers"),
    ({"x_test": np.full((6, 4, 2), np.nan)}, "/data/mine/x_test.npy holds nan at [0, 0, 0]: remove or fill in what is no finite "
                                             "float32"),
    ({"x_test": np.full((6, 4, 2), 1e300)}, "/data/mine/x_test.npy holds 1e+300 at [0, 0, 0]: remove or fill in what is no "
                                            "finite float32"),
    ({"y_train": np.arange(10) - 1, "y_test": np.arange(6)}, "/data/mine/y_train.npy holds the class -1: number classes from 0"),
    ({"y_train": np.zeros((10, 3), int)}, "/data/mine/y_train.npy is an array of int64 of the shape [10, 3]; give classes [n] of "
                                          "integers, values [n, outputs] of floating point, or next tokens like x"),
    ({"x_test": np.ones((6, 5, 2))}, "/data/mine: x or y of the parts train and test differ in shape or kind: make them alike"),
    ({"x_train": np.ones((4, 4, 2)), "y_train": np.ones((4, 3))},
     "/data/mine/x_train.npy has 4 sequences; 5 at least are needed to hold out some for validation, or give x_validate.npy"),
    ({"x_train": np.array(["a"] * 10)}, "/data/mine/x_train.npy is an array of <U1 of the shape [10]: save numbers, one row a "
                                        "sequence"),
])
def test_folder_refuses(arrays, given, sentence):
    assert arrays(**given) == sentence


def test_folder_without_a_file_or_with_a_bad_source(arrays, tmp_path):
    arrays()
    for text, sentence in (("{", "is no JSON"), ('{"unit": 3}', "unit must be a text, not 3")):
        (tmp_path / "data/mine/source.json").write_text(text)
        assert sentence in arrays()
    (tmp_path / "data/mine/y_test.npy").unlink()
    assert arrays(y_test=None) == ("/data/mine has no y_test.npy: a data set of your own needs x_train.npy, y_train.npy, "
                                   "x_test.npy, y_test.npy")
    with pytest.raises(EmambaError, match=r"unknown data set '\.\./data/mine'"):
        datasets.load("../data/mine", None, tmp_path / "data")


def write_csv(path, rows, header=("t", "a", "b")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_series(tmp_path):
    file = write_csv(tmp_path / "s.csv", [(t, 10 * t, t % 3) for t in range(50)])
    found = prepare.series(file, ["a", "t"], "a", 4, ahead=2, step=3)
    assert found.x["train"].shape == (9, 4, 2) and found.y["train"].shape == (9, 1)
    assert found.x["train"][1].tolist() == [[30, 3], [40, 4], [50, 5], [60, 6]] and found.y["train"][1] == [80]
    last = {part: int(found.y[part].max()) // 10 for part in prepare.PARTS}
    first = {part: int(found.x[part].min()) for part in prepare.PARTS}
    assert last["train"] < 30 == first["validate"] and last["validate"] < 40 == first["test"] and last["test"] < 50
    classes = prepare.series(file, ["a"], "b", 4, ahead=0, classes=True)
    assert classes.source["classes"] == ["0", "1", "2"] and classes.y["train"][:3].tolist() == [0, 1, 2]


def test_prepare_command_makes_a_data_set_and_a_recipe(tmp_path, capsys):
    file = write_csv(tmp_path / "s.csv", [(t, 10 * t, "no" if t % 3 else "yes") for t in range(60)])
    assert cli.main(["prepare", str(file), "--inputs", "a,t", "--target", "b", "--classes", "--length", "4", "--out",
                     str(tmp_path / "data/mine")]) == 0
    assert capsys.readouterr().out.startswith("32 / 8 / 8 sequences of 4 tokens of 2 features to train / validate / test on, 2 "
                                              "classes: no, yes\n")
    data = datasets.load("mine", None, tmp_path / "data")
    recipe = load_toml(Recipe, tmp_path / "data/mine/recipe.toml")
    assert data.x_train.shape[1:] == (recipe.model.length, recipe.model.features)
    assert (recipe.model.task, recipe.model.outputs, data.note) == ("classification", 2, "windows of 4 rows of s.csv")
    assert json.loads((tmp_path / "data/mine/source.json").read_text())["classes"] == ["no", "yes"]


@pytest.mark.parametrize("arguments, sentence", [
    (["--inputs", "a", "--target", "c"], "has no column 'c'; its first line names: t, a, b"),
    (["--inputs", "b", "--target", "a"], "value 2 of the column 'b' is '' and no finite number: fill it in or remove the row"),
    (["--inputs", "a", "--target", "a", "--length", "20"], "has 30 rows, of which 18 are for train: too few for windows of 20 "
                                                           "rows and a target 1 later; give more rows or a smaller --length"),
    (["--inputs", "a", "--target", "a", "--step", "0"], "--step must be at least 1, not 0"),
    (["--inputs", "a"], "is read as CSV: name its columns with --inputs and --target"),
])
def test_prepare_refuses(tmp_path, capsys, arguments, sentence):
    file = write_csv(tmp_path / "s.csv", [(t, t, "" if t == 1 else t) for t in range(30)])
    assert cli.main(["prepare", str(file), *arguments, "--out", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.endswith(f"{sentence}\n") and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def write_wav(path, samples, rate=8000, width=2, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels), file.setsampwidth(width), file.setframerate(rate)
        file.writeframes(np.asarray(samples, {1: "u1", 2: "<i2", 4: "<i4"}[width]).tobytes())


def test_sounds(tmp_path, capsys):
    """A tone's energy is in the band around it; a quiet end is the logarithm of the floor."""
    t = np.arange(1600) / 8000
    for name, hertz in (("high", 2000), ("low", 300)):
        for k in range(5):
            write_wav(tmp_path / "words" / name / f"{k}.wav", 20000 * np.sin(2 * np.pi * hertz * t))
    assert cli.main(["prepare", str(tmp_path / "words"), "--seconds", "0.5", "--bands", "8", "--out", str(tmp_path / "w")]) == 0
    assert capsys.readouterr().out.startswith("6 / 2 / 2 sequences of 48 tokens of 8 features")
    data = datasets.load("w", None, tmp_path)
    assert sorted(data.y_train.tolist()) == [0, 0, 0, 1, 1, 1]
    loudest = data.x_train[:, :10].mean(1).argmax(1)
    assert len(set(loudest[data.y_train == 0])) == len(set(loudest[data.y_train == 1])) == 1
    assert loudest[data.y_train == 0][0] > loudest[data.y_train == 1][0]
    assert np.allclose(data.x_train[:, -1], np.log(prepare.FLOOR))


@pytest.mark.parametrize("width", [1, 2, 4])
def test_read_wav(tmp_path, width):
    """Full scale is ±1 at every width; channels are averaged."""
    half = 1 << (8 * width - 1)
    offset = half if width == 1 else 0
    write_wav(tmp_path / "s.wav", [offset - half, offset, offset + half // 2, offset + half // 2], width=width, channels=2)
    samples, rate = prepare.read_wav(tmp_path / "s.wav")
    assert samples.tolist() == [-0.5, 0.5] and rate == 8000


def test_sounds_refuse(tmp_path):
    def refusal(*arguments):
        with pytest.raises(EmambaError) as error:
            prepare.sounds(tmp_path, *arguments)
        return str(error.value).replace(str(tmp_path), "")

    assert "has 0 folders with .wav files" in refusal(1.0, 8)
    for name in "ab":
        for k in range(3):
            write_wav(tmp_path / name / f"{k}.wav", np.zeros(800), 8000 if name == "a" else 16000)
    assert refusal(0.01, 8) == "--seconds must be at least 0.025, not 0.01"
    assert refusal(1.0, 0) == "--bands must lie in 1..128, not 0"
    assert "samples a second" in refusal(1.0, 8)
    (tmp_path / "a/0.wav").write_bytes(b"RIFF")
    (tmp_path / "b/2.wav").unlink()
    assert "cannot be read as WAV" in refusal(1.0, 8)
    (tmp_path / "a/0.wav").unlink()
    assert refusal(1.0, 8) == "/a has 2 .wav files; a class needs at least 3, one for each part"
