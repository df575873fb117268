"""Data of one's own: folders of arrays, CSV time series, WAV files; and a sentence for every fault in them."""

import csv
import json
import os
import re
import struct
import wave

import numpy as np
import pytest

from emamba import datasets
from emamba.base.errors import EmambaError
from emamba.config import QuantizeConfig, Recipe, load_toml, validate
from emamba.datasets import prepare
from emamba.datasets.series import Windows, series
from emamba.datasets.sounds import sounds
from emamba.datasets.tokens import to_tokens
from emamba.io import tables, wav
from emamba.quantization.quantize import calibration_tokens, quantize, read_checkpoint
from emamba.run.executors import make_executor, predict
from emamba.sensors.sound import LogMel
from emamba.training import loop as training
from flow import cli

RNG = np.random.default_rng(3)
TARGETS = ("give classes [n], or [n, L] of each token, of integers, or values [n, outputs], or [n, L, outputs], of floating "
           "point")


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
    ({"y_train": np.zeros((10, 3), int)}, f"/data/mine/y_train.npy is an array of int64 of the shape [10, 3]; {TARGETS}"),
    ({"y_train": np.zeros((10, 3, 1))}, f"/data/mine/y_train.npy is an array of float64 of the shape [10, 3, 1]; {TARGETS}"),
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
    scale = "unit_scale must be a number above 0, the figure of one unit of y, not "
    for text, sentence in (
        ("{", "is no JSON"), ('{"unit": 3}', "unit must be a text, not 3"), ("[1]", "holds no table"),
        ('{"unit_scale": 0}', f"{scale}0"), ('{"unit_scale": -1.5}', f"{scale}-1.5"), ('{"unit_scale": NaN}', f"{scale}nan"),
        ('{"unit_scale": 1%s}' % ("0" * 400), scale), ('{"note": "a\\ud800"}', "unit and note must be text of one line"),
        ('{"unit": "c\\nm"}', "unit and note must be text of one line"),
        ("version https://git-lfs.github.com/spec/v1", "is a pointer of Git LFS"),
    ):
        (tmp_path / "data/mine/source.json").write_text(text)
        assert sentence in arrays()
    (tmp_path / "data/mine/y_test.npy").unlink()
    assert arrays(y_test=None) == ("/data/mine has no y_test.npy: a data set of your own needs x_train.npy, y_train.npy, "
                                   "x_test.npy, y_test.npy")
    with pytest.raises(EmambaError, match=r"unknown data set '\.\./data/mine'"):
        datasets.load("../data/mine", None, tmp_path / "data")


def test_arrays_in_any_order_of_bytes_and_rows(arrays):
    x, y = RNG.normal(size=(10, 4, 2)), RNG.integers(0, 3, 10)
    expected = arrays(x_train=x, y_train=y, y_test=y[:6])
    found = arrays(x_train=np.asfortranarray(x).astype(">f8"), y_train=y.astype(">i4"), y_test=y[:6].astype(np.uint8))
    for key in ("x_train", "y_train", "x_validate", "y_validate"):
        one, other = getattr(expected, key), getattr(found, key)
        assert np.array_equal(one, other) and other.dtype == one.dtype and other.dtype.isnative and other.flags.c_contiguous


def header(shape: str) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize("content, sentence", [
    (header("(10, 4, 2)") + bytes(632), "has 632 of the 640 bytes of its array of the shape [10, 4, 2]: copy it again"),
    (header("(99999999999, 99999999)"), "has 0 of the 79999999199200000008 bytes of its array of the shape [99999999999, "
                                        "99999999]: copy it again"),
    (header("(-1, 4)"), "is no array of numbers in NumPy's format .npy: write it with numpy.save"),
    (b"1,2,3\n", "is no array of numbers in NumPy's format .npy: write it with numpy.save"),
    (b"PK\x03\x04", "is an archive of arrays (.npz): load it and write the one that is meant with numpy.save"),
    (b"", "is empty: copy it again"),
    (b"version https://git-lfs.github.com/spec/v1", "is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`"),
    (None, "it is a pipe; name a file, or save it as one first"),
])
def test_arrays_that_are_refused(arrays, tmp_path, content, sentence):
    arrays()
    path = tmp_path / "data/mine/x_train.npy"
    path.unlink()
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    assert arrays(x_train=None).endswith(sentence)


def test_values_that_no_model_reads(arrays):
    for given, sentence in (
        ({"x_train": np.array([[[None]]] * 10)}, "x_train.npy is no array of numbers: its dtype is object, whose values are "
                                                 "objects"),
        ({"x_train": np.ones((10, 4, 2), bool)}, "x_train.npy is an array of bool of the shape [10, 4, 2]: save numbers"),
        ({"x_train": np.ones((10, 4, 2), complex)}, "x_train.npy is an array of complex128 of the shape [10, 4, 2]: save "
                                                    "numbers"),
        ({"x_train": np.zeros((10, 0, 2))}, "x_train.npy is an array of float64 of the shape [10, 0, 2]: save numbers"),
        ({"x_train": np.full((10, 4), -1)}, "x_train.npy holds the token id -1: number tokens from 0"),
        ({"y_train": np.full(10, 2**63, np.uint64)}, "y_train.npy holds the class 9223372036854775808: number classes from 0"),
    ):
        assert sentence in arrays(**given)


def test_a_token_beyond_the_vocabulary_is_refused(arrays, tmp_path):
    recipe = {"data": {"name": "mine"}, "model": {
        "input": "tokens", "vocabulary": 5, "length": 4, "d_model": 4, "dt_rank": 1, "d_state": 2, "blocks": 1,
        "task": "classification", "outputs": 2}}
    x, y = np.zeros((10, 4), int), np.arange(10) % 2
    x_test, y_test = x.copy(), y.copy()
    for change, sentence in (
        ((x_test, (3, 2), 5), "data set mine holds the token id 5, outside 0..4 of model.vocabulary: set that to 6"),
        ((y_test, 3, 2), "model.outputs is 2, data set mine needs 3"),
    ):
        array, place, value = change
        array[place] = value
        data = arrays(x_train=x, y_train=y, x_test=x_test, y_test=y_test)
        with pytest.raises(EmambaError, match=re.escape(sentence)):
            training._check(validate(Recipe, recipe, "recipe"), data)
        array[place] = 0


@pytest.mark.parametrize("task, outputs", [("classification", 2), ("regression", 1)])
def test_targets_of_every_token(arrays, tmp_path, task, outputs):
    """Whether the running sum of a sequence is above 0, or that sum."""
    def part(n):
        x = RNG.normal(size=(n, 4, 2))
        total = x.sum(-1).cumsum(1)
        return x, (total > 0).astype(int) if task == "classification" else total[..., None]

    (x, y), (x_test, y_test) = part(200), part(50)
    data = arrays(x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    assert data.y_test.shape == y_test.shape
    model = {"input": "sequence", "features": 2, "length": 4, "d_model": 8, "dt_rank": 1, "d_state": 2, "blocks": 1, "task": task,
             "outputs": outputs}
    with pytest.raises(EmambaError, match="are of every token: set pool to none"):
        training._check(validate(Recipe, {"data": {"name": "mine"}, "model": model}, "recipe"), data)
    recipe = validate(Recipe, {"data": {"name": "mine"}, "model": model | {"pool": "none"},
                               "train": {"epochs": 15, "batch": 16, "peak_lr": 1e-2}}, "recipe")
    with pytest.raises(EmambaError, match="are of whole sequences: set pool to mean or last"):
        training._check(recipe, arrays(x_train=x, y_train=y[:, 0], x_test=x_test, y_test=y_test[:, 0]))
    np.save(tmp_path / "data/mine/y_train.npy", y)
    np.save(tmp_path / "data/mine/y_test.npy", y_test)
    record = training.train(recipe, tmp_path / "run", tmp_path / "data", progress=False)
    figures = record["figures"]["test"]
    assert figures["accuracy"] > 0.85 if task == "classification" else figures["rmse"] < 0.6, figures
    run = read_checkpoint(tmp_path / "run")
    settings = QuantizeConfig()
    artifact = quantize("mine", recipe.model, run.weights, run.codec, calibration_tokens(data.x_train, recipe.model, settings),
                        settings)
    answer = predict(artifact, "int", make_executor(artifact, "int"), to_tokens(data.x_test, recipe.model))
    assert answer.shape == (50, 4, outputs)


def write_csv(path, rows, header=("t", "a", "b")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_series(tmp_path):
    file = write_csv(tmp_path / "s.csv", [(t, 10 * t, t % 3) for t in range(50)])
    found = series(file, ["a", "t"], "a", Windows(length=4, ahead=2, step=3))
    assert found.x["train"].shape == (9, 4, 2) and found.y["train"].shape == (9, 1)
    assert found.x["train"][1].tolist() == [[30, 3], [40, 4], [50, 5], [60, 6]] and found.y["train"][1] == [80]
    last = {part: int(found.y[part].max()) // 10 for part in prepare.PARTS}
    first = {part: int(found.x[part].min()) for part in prepare.PARTS}
    assert last["train"] < 30 == first["validate"] and last["validate"] < 40 == first["test"] and last["test"] < 50
    classes = series(file, ["a"], "b", Windows(length=4, ahead=0, classes=True))
    assert classes.source["classes"] == ["0", "1", "2"] and classes.y["train"][:3].tolist() == [0, 1, 2]


def test_prepare_command_makes_a_data_set_and_a_recipe(tmp_path, capsys):
    file = write_csv(tmp_path / "s.csv", [(t, 10 * t, "no" if t % 3 else "yes") for t in range(60)])
    assert cli.main(["prepare", str(file), "--inputs", "a,t", "--target", "b", "--classes", "--length", "4", "--out",
                     str(tmp_path / "data/mine")]) == 0
    assert capsys.readouterr().out.startswith("32 / 8 / 8 sequences of 4 tokens of 2 features to train / validate / test on, 2 "
                                              "classes: no, yes\n")
    data = datasets.load("mine", None, tmp_path / "data")
    assert data.classes == ("no", "yes")
    recipe = load_toml(Recipe, tmp_path / "data/mine/recipe.toml")
    assert data.x_train.shape[1:] == (recipe.model.length, recipe.model.features)
    assert (recipe.model.task, recipe.model.outputs, data.note) == ("classification", 2, "windows of 4 rows of s.csv")
    assert json.loads((tmp_path / "data/mine/source.json").read_text())["classes"] == ["no", "yes"]


@pytest.mark.parametrize("arguments, sentence", [
    (["--inputs", "a", "--target", "c"], "has no column 'c'; its first line names: t, a, b"),
    (["--inputs", "b", "--target", "a"], f"s.csv, line 3: the column 'b' is empty: {tables.FILL}"),
    (["--inputs", "a", "--target", "a", "--length", "20"], "has 30 rows, of which 18 are for train: too few for windows of 20 "
                                                           "rows and a target 1 later; give more rows or a smaller --length"),
    (["--inputs", "a", "--target", "a", "--step", "0"], "--step must be at least 1, not 0"),
    (["--inputs", "a"], "is read as CSV: name its columns with --inputs and --target"),
    (["--inputs", "a", "--target", "b", "--classes"], f"s.csv, line 3: the column 'b' is empty: {tables.FILL}"),
    (["--inputs", "a", "--target", "a", "--length", "1000000000"], "give more rows or a smaller --length"),
])
def test_prepare_refuses(tmp_path, capsys, arguments, sentence):
    file = write_csv(tmp_path / "s.csv", [(t, t, "" if t == 1 else t) for t in range(30)])
    assert cli.main(["prepare", str(file), *arguments, "--out", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.endswith(f"{sentence}\n") and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_is_nowhere(tmp_path, capsys):
    for words in ((), ("--inputs", "a", "--target", "b")):
        assert cli.main(["prepare", str(tmp_path / "none"), *words, "--out", str(tmp_path / "out")]) == 1
        assert capsys.readouterr().err == f"emamba: {tmp_path}/none does not exist: name a CSV file, or a folder of sounds\n"


def read(tmp_path, content: str | bytes, *names: str):
    """The columns `names` as lists, and all remarks; or the sentence of the refusal."""
    file = tmp_path / "s.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        table = tables.read_table(file, list(names))
        columns, remarks = tables.values(table, list(names))
        return [columns[name].tolist() for name in names], [*table.notes, *remarks]
    except EmambaError as error:
        assert not set("\n\r\0") & set(str(error))
        return str(error).replace(f"{tmp_path}/", "")


PLAIN = "t,a,b\n1,2,3\n4,5,6\n"


@pytest.mark.parametrize("content, remarks", [
    (PLAIN, []),
    (PLAIN.replace(",", ";"), ["columns are separated by a semicolon"]),
    (PLAIN.replace(",", "\t"), ["columns are separated by a tab"]),
    (PLAIN.replace(",", "|"), ["columns are separated by a bar"]),
    ("sep=,\n" + PLAIN, []),
    ("SEP=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n"), ["columns are separated by a semicolon"]),
    ("# a pump, 2024\n#\n\n" + PLAIN + "# the end\n", ["3 comment lines skipped"]),
    ("# " + PLAIN, []),
    ("t , a, b\n1, 2 ,3\n\n4,\t5,6\n \n", []),
    ("t;a;b\n1;2,0;3\n4;5;6,00\n", ["columns are separated by a semicolon", "numbers have decimal commas"]),
    ('t,"a","b"\n1,"2,0","3"\n4,"+5,",6e0\n', ["numbers have decimal commas"]),
    (PLAIN.replace("\n", "\r"), []),
    (PLAIN.encode("utf-8-sig"), []), (PLAIN.encode("utf-16"), []), (PLAIN.encode("utf-32"), []),
    ('a,"x\ny",b\n2,"1\n1",3\n5,4,6\n', []),
])
def test_csv_files_as_programs_write_them(tmp_path, content, remarks):
    assert read(tmp_path, content, "a", "b") == ([[2, 5], [3, 6]], remarks)


def test_names_of_columns(tmp_path):
    header = '"pressure, bar",#,flow\n1,2,3\n'
    assert read(tmp_path, header, *tables.split_names('"pressure, bar", #'))[0] == [[1], [2]]
    assert (tables.one_name('"flow, l"'), tables.one_name("flow, l"), tables.one_name("a")) == ("flow, l", "flow, l", "a")
    assert read(tmp_path, header, "pressure") == (
        "s.csv has no column 'pressure'; its first line names: pressure, bar, #, flow; quote a name that holds a comma: --inputs "
        "'\"a, b\",c'")
    several = "columns are separated by a comma, semicolon, tab or bar"
    for content, sentence in (
        ("time;pressure\n1;2\n", "s.csv has no column 'a'; its first line names: time, pressure"),
        ("a b\n1 2\n", f"s.csv has no column 'a'; its first line names: a b ({several})"),
        ("1,2.5\n3,4\n", "s.csv has no line that names its columns: its first line holds numbers, 1, 2.5; put the names before "
                         "it"),
        ("b,a,c,a\n", "s.csv names the column 'a' twice, as columns 2 and 4: rename one of them"),
        ("# a comment\n", "s.csv has no column 'a'; its first line names: none"),
        ("", "s.csv is empty: copy it again"),
        (b"\x1f\x8b\x08", "s.csv is packed by gzip: unpack it first"),
        (b"PK\x03\x04", "s.csv is an archive, such as an Excel workbook is: save the table as CSV, or unpack it first"),
        ("version https://git-lfs.github.com/spec/v1\n",
         "s.csv is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`"),
        ("a,b\n1,ü\n".encode("latin-1"), "s.csv, line 2 is no UTF-8 (invalid start byte at the byte 0xFC), as where it was saved "
                                         "as "
         "Latin-1: save it as UTF-8"),
        (b"a\n1\n\x002", "s.csv, line 3 holds a NUL character, as a text in UTF-16 does: save it as UTF-8"),
    ):
        assert read(tmp_path, content, "a") == sentence


@pytest.mark.parametrize("row, sentence", [
    ("1,5,2,5", "has 4 values where the first line names 2: if its numbers have decimal commas, separate the columns by "
                "semicolons"),
    ("1,2,", "has 3 values where the first line names 2: remove the separator at its end, or name one column more"),
    ("1", "has 1 values where the first line names 2: quote a value that holds the separator, or remove the line"),
    (f'1,"{"x" * 200000}"', "cannot be read as CSV (field larger than field limit (131072)): is a quote not closed?"),
    ('1,"2', "cannot be read as CSV (unexpected end of data): is a quote not closed?"),
])
def test_lines_that_are_refused(tmp_path, row, sentence):
    assert read(tmp_path, f"a,b\n# c\n1,2\n{row}\n", "a", "b") == f"s.csv, line 4 {sentence}"


@pytest.mark.parametrize("word, sentence", [
    ("", f"is empty: {tables.FILL}"),
    ("NaN", f"holds 'NaN', no finite number: {tables.FILL}"),
    ("-inf", f"holds '-inf', no finite number: {tables.FILL}"),
    ("n/a", f"holds 'n/a', no finite number: {tables.FILL}"),
    ("1e39", "holds '1e39', beyond 3.4e+38, the largest float32: give the column in a larger unit"),
    ("-1e999", "holds '-1e999', beyond 3.4e+38, the largest float32: give the column in a larger unit"),
    ("45.5 %", "holds the percentage '45.5 %': write it as a number"),
    ("2024-01-02 10:00", "holds '2024-01-02 10:00', a date or a time: write it as a number, or name its column by --time"),
    ("10:30", "holds '10:30', a date or a time: write it as a number, or name its column by --time"),
    ("1,234", "holds '1,234', which may be 1.234 or 1234: write decimal points, and no separators of thousands"),
    ("1,234,567", "holds '1,234,567', a number with separators of thousands: write it without"),
    ("1.234,5", "holds '1.234,5', a number with separators of thousands: write it without"),
    ("1_000", "holds '1_000', a number with separators of thousands: write it without"),
    ("1,5", "holds '1,5' with a comma, line 2 '0.5' with a point: write decimal points, and no separators of thousands"),
    ("0x1F", "holds '0x1F', no number: mend it or remove the row; a target of names needs --classes"),
])
def test_values_that_are_refused(tmp_path, word, sentence):
    assert read(tmp_path, f"t;a\n0;0.5\n\n1;{word}\n", "a") == f"s.csv, line 4: the column 'a' {sentence}"


def test_remarks_are_printed_and_kept(tmp_path, capsys):
    file = tmp_path / "s.csv"
    file.write_text("# made by hand\n" + "t;a\n" + "".join(f"{t};{t},5\n" for t in range(40)))
    words = ["--inputs", "a,t", "--target", "a", "--length", "4", "--out", str(tmp_path / "out")]
    assert cli.main(["prepare", str(file), *words]) == 0
    remarks = ["columns are separated by a semicolon", "1 comment line skipped", "numbers have decimal commas"]
    assert capsys.readouterr().out.splitlines()[1:-3] == remarks
    assert json.loads((tmp_path / "out/source.json").read_text())["remarks"] == remarks
    assert datasets.load("out", None, tmp_path).x_train[0, :, 0].tolist() == [0.5, 1.5, 2.5, 3.5]


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
    assert data.front_end == LogMel(rate=8000, bands=8, frame=200, hop=80)
    assert (data.x_train[:, -1] == data.front_end.features(np.zeros(200, np.int16))[0]).all()


def test_a_data_set_beside_the_data_directory(arrays, tmp_path, monkeypatch):
    """As `prepare --out NAME` writes it; what --data names comes first."""
    arrays()
    (tmp_path / "data/mine").rename(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EMAMBA_DATA", raising=False)
    assert datasets.load("mine").name == "mine"
    with pytest.raises(EmambaError, match="unknown data set 'mine'"):
        datasets.load("mine", None, "data", only=True)


@pytest.mark.parametrize("name", ["a b", 'q"\'$&()', "new\nline", "ü🎵\x7f", "x" * 200])
def test_odd_names_of_files_and_folders(tmp_path, capsys, name):
    file = write_csv(tmp_path / f"{name}.csv", [(t, t, t) for t in range(40)])
    out = tmp_path / "data" / name
    words = ["--inputs", "a", "--target", "b", "--length", "4", "--out", str(out)]
    assert cli.main(["prepare", str(file), *words]) == 0
    recipe = load_toml(Recipe, out / "recipe.toml")
    assert recipe.data.name == name and len(datasets.load(name, None, tmp_path / "data").x_train) == 20


def test_names_that_no_recipe_can_call(tmp_path, capsys):
    file = write_csv(tmp_path / "s.csv", [(t, t, t) for t in range(40)])
    for name, sentence in (("mars", "recipes call the data set of this project 'mars' by that name: take another folder"),
                           ("a\udcff", "that folder's name is no UTF-8, so no recipe can call it: take another")):
        assert cli.main(["prepare", str(file), "--inputs", "a", "--target", "b", "--out", str(tmp_path / name)]) == 1
        assert capsys.readouterr().err.endswith(f": {sentence}\n") and not (tmp_path / name).exists()


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if size is None else size) + content + bytes(len(content) % 2)


def form(kind: int = 1, bits: int = 16, channels: int = 1, rate: int = 8000, extensible: bool = False, step: int = 0) -> bytes:
    step = step or bits // 8 * channels
    plain = struct.pack("<HHIIHH", 0xFFFE if extensible else kind, channels, rate, rate * step, step, bits)
    return chunk(b"fmt ", plain + struct.pack("<HHIH", 22, bits, 0, kind) + wav.SUBFORMAT if extensible else plain)


def riff(*chunks: bytes) -> bytes:
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


VALUES = (-0.5, 0.25, 0.0, 0.5)
SIXTEEN = np.array([value * 32768 for value in VALUES], "<i2").tobytes()
TWENTY_FOUR = b"".join(int(value * 2**23).to_bytes(3, "little", signed=True) for value in VALUES)


def heard(tmp_path, content: bytes):
    (tmp_path / "s.wav").write_bytes(content)
    try:
        samples, rate = wav.read_wav(tmp_path / "s.wav")
        return samples.tolist(), rate
    except EmambaError as error:
        return str(error).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize("content", [
    riff(form(), chunk(b"data", SIXTEEN)),
    riff(form(extensible=True), chunk(b"fact", bytes(4)), chunk(b"data", SIXTEEN)),
    riff(form(bits=8), chunk(b"data", bytes([64, 160, 128, 192]))),
    riff(form(bits=24), chunk(b"data", TWENTY_FOUR)), riff(form(bits=24, extensible=True), chunk(b"data", TWENTY_FOUR)),
    riff(form(bits=32), chunk(b"data", np.array([value * 2**31 for value in VALUES], "<i4").tobytes())),
    riff(form(3, 32), chunk(b"data", np.array(VALUES, "<f4").tobytes())),
    riff(form(3, 64, extensible=True), chunk(b"data", np.array(VALUES, "<f8").tobytes())),
    riff(chunk(b"JUNK", b"odd"), form(), chunk(b"LIST", b"INFO!"), chunk(b"data", SIXTEEN), chunk(b"LIST", b"more")),
    riff(form(), chunk(b"LIST", b"odd")[:-1], chunk(b"data", SIXTEEN)),
    riff(form(), chunk(b"data", SIXTEEN, 0)), riff(form(), chunk(b"data", SIXTEEN, 0xFFFFFFFF)),
    riff(form(), chunk(b"data", SIXTEEN, 0x7FFFF000)), riff(form(), chunk(b"data", SIXTEEN + b"x")),
    riff(form(channels=2), chunk(b"data", np.repeat(np.frombuffer(SIXTEEN, "<i2"), 2).tobytes())),
])
def test_wav_files_as_programs_write_them(tmp_path, content):
    assert heard(tmp_path, content) == (list(VALUES), 8000)


@pytest.mark.parametrize("content, sentence", [
    (riff(form(6, 8), chunk(b"data", SIXTEEN)), "holds A-law, which is not read: save it as 16-bit PCM"),
    (riff(form(7, 8, extensible=True), chunk(b"data", SIXTEEN)), "holds mu-law, which is not read: save it as 16-bit PCM"),
    (riff(form(0x1234), chunk(b"data", SIXTEEN)), "holds sound of the format 0x1234, which is not read: save it as 16-bit PCM"),
    (riff(form(3, 16), chunk(b"data", SIXTEEN)), "has samples of 16 bits, 2 bytes for 1 channels: save it as 16-bit PCM"),
    (riff(form(step=7), chunk(b"data", SIXTEEN)), "has samples of 16 bits, 7 bytes for 1 channels: save it as 16-bit PCM"),
    (riff(form(channels=0), chunk(b"data", SIXTEEN)), "has samples of 16 bits, 0 bytes for 0 channels: save it as 16-bit PCM"),
    (riff(form(rate=0), chunk(b"data", SIXTEEN)), "has 0 samples a second; 1000 to 200000 can be used: convert it"),
    (riff(form(), chunk(b"data", SIXTEEN))[:-3], "ends after 5 of the 8 bytes of its part 'data': copy it again"),
    (riff(form(), chunk(b"LIST", SIXTEEN, 99)), "ends after 8 of the 99 bytes of its part 'LIST': copy it again"),
    (riff(form()), "cannot be read as WAV (it ends before its sound): copy it again"),
    (riff(form(), chunk(b"data", b""), chunk(b"LIST", b"more")), "holds no sound: remove it"),
    (riff(chunk(b"data", SIXTEEN), form()), "cannot be read as WAV (it has no format before its sound): save it as 16-bit PCM"),
    (riff(form(3, 32), chunk(b"data", np.array([0, np.nan], "<f4").tobytes())),
     "holds the sample nan at 1, no finite float32: mend it or remove the file"),
    (b"RF64" + riff()[4:], "is a WAV file of more than 4 GB (RF64): cut it, and save it as plain WAV"),
    (b"fLaC", "is FLAC and no WAV file: convert it to 16-bit PCM"),
    (b"hello", "cannot be read as WAV (it does not begin with RIFF and WAVE): save it as 16-bit PCM"),
    (b"", "is empty: copy it again"),
    (b"version https://git-lfs.github.com/spec/v1", "is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`"),
])
def test_wav_files_that_are_refused(tmp_path, content, sentence):
    assert heard(tmp_path, content) == f"s.wav {sentence}"


def test_what_is_left_out_is_said(tmp_path, capsys):
    for name in ("b/0.wav", "b/1.WAV", "b/2.Wav", "a/0.wav", "a/0.WAV", "a/x.wav", "a/old/3.wav"):
        write_wav(tmp_path / "words" / name, np.zeros(800))
    for name in ("a/readme.md", "a/._0.wav", "top.wav", "noise/n.mp3"):
        (tmp_path / "words" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "words" / name).touch()
    assert cli.main(["prepare", str(tmp_path / "words"), "--seconds", "0.2", "--out", str(tmp_path / "w")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("2 / 2 / 2 sequences") and out[1:6] == [
        "left out: files of other kinds in the folders of the classes, 2 (a/._0.wav, a/readme.md)",
        "left out: folders in the folders of the classes, 1 (a/old)",
        "left out: folders without .wav files, 1 (noise)",
        "left out: files beside the folders of the classes, 1 (top.wav)",
        "6 of 6 sounds are shorter than 0.2 s, and half of all than 0.1 s: silence fills them up (--seconds)",
    ]
    assert json.loads((tmp_path / "w/source.json").read_text())["remarks"] == out[1:6]
    os.mkfifo(tmp_path / "words/b/3.wav")
    assert cli.main(["prepare", str(tmp_path / "words"), "--out", str(tmp_path / "w")]) == 1
    assert capsys.readouterr().err.startswith(f"emamba: cannot read {tmp_path}/words/b/3.wav: it is a pipe")


@pytest.mark.parametrize("width", [1, 2, 4])
def test_read_wav(tmp_path, width):
    """Full scale is ±1 at every width; channels are averaged."""
    half = 1 << (8 * width - 1)
    offset = half if width == 1 else 0
    write_wav(tmp_path / "s.wav", [offset - half, offset, offset + half // 2, offset + half // 2], width=width, channels=2)
    samples, rate = wav.read_wav(tmp_path / "s.wav")
    assert samples.tolist() == [-0.5, 0.5] and rate == 8000


def test_sounds_refuse(tmp_path):
    def refusal(*arguments):
        with pytest.raises(EmambaError) as error:
            sounds(tmp_path, *arguments)
        return str(error.value).replace(str(tmp_path), "")

    assert "has 0 folders with .wav files" in refusal(1.0, 8)
    for name in "ab":
        for k in range(3):
            write_wav(tmp_path / name / f"{k}.wav", np.zeros(800), 8000 if name == "a" else 16000)
    assert refusal(0.01, 8) == "--seconds must be at least 0.025, not 0.01"
    assert refusal(float("inf"), 8) == "--seconds must be at most 3600, not inf"
    assert refusal(1.0, 0) == "--bands must lie in 1..128, not 0"
    assert "samples a second" in refusal(1.0, 8)
    (tmp_path / "a/0.wav").write_bytes(b"RIFF")
    assert "cannot be read as WAV" in refusal(1.0, 8)
    (tmp_path / "a/0.wav").unlink()
    assert refusal(1.0, 8) == "/a has 2 .wav files; a class needs at least 3, one for each part"
