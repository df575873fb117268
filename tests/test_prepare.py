"""The front door for data: groups, labels, times, gaps, kinds of files, and the trivial models that stand beside every figure."""

import sys
import tomllib
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from test_own_data import write_csv, write_wav

from emamba import datasets
from emamba.base.errors import EmambaError
from emamba.config import Recipe, load_toml
from emamba.datasets import Dataset, baseline, grouping, outside, prepare
from emamba.datasets.baseline import Baseline, measure
from emamba.datasets.recipe import recipe_text
from emamba.datasets.series import Windows, series
from emamba.datasets.sounds import read_sound
from emamba.io import tables
from flow import cli

PARTS = grouping.PARTS


def refusal(work, *arguments, **options) -> str:
    with pytest.raises(EmambaError) as error:
        work(*arguments, **options)
    return str(error.value)


@pytest.fixture
def people(tmp_path):
    """A file a person; the value says whose row it is, the class what they do."""
    (tmp_path / "people").mkdir()
    for person in range(6):
        rows = [(t, 100 * person + t, "walk" if t < 20 else "rest") for t in range(40)]
        write_csv(tmp_path / "people" / f"p{person}_x.csv", rows)
    return sorted((tmp_path / "people").iterdir())


@pytest.mark.parametrize("group", ["file", "name=^(p.)", None])
def test_groups_stay_in_one_part(people, group):
    found = series(people, ["a"], "b", Windows(length=5, classes=True, ahead=0, group=group))
    owners = {part: set((found.x[part][:, :, 0] // 100).astype(int).ravel().tolist()) for part in PARTS}
    assert sorted(len(owner) for owner in owners.values()) == [1, 1, 4] and len(set.union(*owners.values())) == 6
    assert all((np.diff(found.x[part][:, :, 0]) == 1).all() for part in PARTS)  # no window crosses a recording
    assert {len(names) for names in found.source["groups"].values()} == {1, 4}


def test_groups_by_a_column_and_in_time(tmp_path, people):
    file = write_csv(tmp_path / "s.csv", [(k // 20, k, k % 2) for k in range(100)])
    found = series(file, ["a"], "a", Windows(length=3, group="t"))
    owners = [set((found.x[part] // 20).astype(int).ravel().tolist()) for part in PARTS]
    assert sum(map(len, owners)) == 5 and all((np.diff(found.x[part][:, :, 0]) == 1).all() for part in PARTS)
    cut = series(people, ["a"], "a", Windows(length=3, group="none"))
    assert {len(set((cut.x[part] // 100).astype(int).ravel().tolist())) for part in PARTS} == {6}
    assert "has 2 groups (0, 1); 3 at least are needed" in refusal(
        series, write_csv(tmp_path / "s.csv", [(k // 10, k, 0) for k in range(20)]), ["a"], "a", Windows(length=3, group="t"))


def test_a_deal_gives_every_part_its_share_of_every_class():
    counts = np.random.default_rng(0).integers(5, 15, (30, 3)) * np.eye(3, dtype=int)[np.arange(30) % 3]
    parts = grouping.deal([str(k) for k in range(30)], counts, "x")
    for kind in range(3):
        held = [sum(counts[k, kind] for k in range(30) if parts[str(k)] == part) for part in PARTS]
        assert np.allclose(np.array(held) / sum(held), grouping.SHARES, atol=0.12)


def test_labels_of_windows(tmp_path):
    file = write_csv(tmp_path / "s.csv", [(k, k, "fall" if k % 20 == 2 else "sit" if k % 20 < 12 else "walk")
                                          for k in range(200)])
    for label, second, expected in (("last", 10, ["sit", "walk"]), ("any", 5, ["fall", "sit"])):
        found = series(file, ["a"], "b", Windows(length=5, classes=True, label=label, ahead=0))
        assert [found.source["classes"][k] for k in found.y["train"][[0, second]]] == expected
    walking = write_csv(tmp_path / "w.csv", [(k, k, "sit" if k % 10 < 6 else "walk") for k in range(200)])
    found = series(walking, ["a"], "b", Windows(length=5, classes=True, label="majority"))
    assert found.y["train"][:8].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert Windows(length=5).distance == 1 and Windows(length=5, classes=True, label="any").distance == 0


def test_a_class_that_no_window_carries_is_named_truly(tmp_path):
    file = write_csv(tmp_path / "s.csv", [(k, k, "rare" if k == 1 else "usual") for k in range(100)])
    assert refusal(series, file, ["a"], "b", Windows(length=5, classes=True)) == (
        "the class 'rare' has 1 of 100 rows, but no window that trains ends 1 rows before one of them: give more rows of it, cut "
        "by --group, take a smaller --step or --length, or another --label")


def test_times_and_rates(tmp_path):
    """A gap begins a new recording; straight lines lie between rows; dates are seconds."""
    clock = [k * 0.5 for k in range(60)] + [100 + k * 0.5 for k in range(60)]
    file = write_csv(tmp_path / "s.csv", [(t, 2 * t, 0) for t in clock])
    found = series(file, ["a"], "a", Windows(length=4, time="t", rate=4, group="none"))
    for part in PARTS:
        assert np.allclose(np.diff(found.x[part][:, :, 0]), 0.5)  # 4 a second, of a line that rises by 2
    dates = write_csv(tmp_path / "d.csv", [(f"2024-01-02T10:00:{k:02}", k, 0) for k in range(60)])
    assert len(series(dates, ["a"], "a", Windows(length=4, time="t", rate=2)).x["train"]) > 60
    back = write_csv(tmp_path / "b.csv", [(k % 30, k, 0) for k in range(60)])
    assert "b.csv, line 32: the column 't' is not later than in the row before" in refusal(
        series, back, ["a"], "a", Windows(length=4, time="t"))
    stamps = [(1657533977810 + 5 * (k - (k % 3 == 1)), k, 0) for k in range(200)]  # milliseconds, some of which are shown twice
    fine = series(write_csv(tmp_path / "m.csv", stamps), ["a"], "a", Windows(length=4, time="t", rate=100))
    assert sum(map(len, fine.x.values())) == 88
    assert refusal(Windows, length=4, rate=2) == "--rate needs --time, the column that says when each row was measured"


@pytest.mark.parametrize("form, read_as", [
    ("%Y%m%d", "dates YYYYMMDD"), ("%Y%m%d%H%M", "dates YYYYMMDDhhmm"), ("%Y/%m/%d %H:%M", "dates"), ("%Y-%m-%d", "dates"),
    ("%s", "seconds"), ("%s000", "milliseconds")])
def test_forms_of_times(tmp_path, form, read_as):
    """Whole years of weeks are one recording, in whatever form; four weeks without a row are no gap, and six are one."""
    days = [datetime(1979, 12, 29, tzinfo=UTC) + timedelta(weeks=k + 3 * (k >= 50) + 5 * (k >= 70)) for k in range(100)]
    stamps = [day.strftime(form.replace("%s", str(int(day.timestamp())))) for day in days]
    found = series(write_csv(tmp_path / "s.csv", [(t, k, 0) for k, t in enumerate(stamps)]), ["a"], "a",
                   Windows(length=4, time="t"))
    assert found.remarks == [f"the column 't' is read as {read_as}: 1 gap, of more than 5 usual steps",
                             "recordings: 2, and no window is in two"]


@pytest.mark.parametrize("second, sentence", [
    ("01.02.2010 00:00", "holds '01.02.2010 00:00', a date or a time in another form: write it as 2010-01-01 00:00"),
    ("2010/13/01", "holds '2010/13/01', a date or a time in another form: write it as 2010-01-01 00:00"),
    ("", f"is empty: {tables.FILL}")])
def test_times_that_are_refused(tmp_path, second, sentence):
    file = write_csv(tmp_path / "s.csv", [("2010/1/1 0:00", 0, 0), (second, 1, 0)])
    assert refusal(series, file, ["a"], "a", Windows(length=4, time="t")).endswith(f"line 3: the column 't' {sentence}")
    counted = write_csv(tmp_path / "s.csv", [(20100101, 0, 0), (20100132, 1, 0), ("x", 1, 0)])
    assert "line 4: the column 't' holds 'x', no number" in refusal(series, counted, ["a"], "a", Windows(length=4, time="t"))
    assert tables.seconds(tables.read_table(write_csv(tmp_path / "s.csv", [(20100101, 0, 0), (20100132, 1, 0)]), ["t"]), "t")[
        1] == "seconds"


def test_changes_of_a_value_that_hardly_moves(tmp_path, capsys):
    """`prepare` says where the last value is hard to beat."""
    walk = np.random.default_rng(0).normal(size=300).cumsum()
    file = write_csv(tmp_path / "s.csv", [(k, value, 0) for k, value in enumerate(walk)])
    plain, change = (series(file, ["a"], "a", Windows(length=4, ahead=3, change=change)) for change in (False, True))
    assert np.allclose(change.y["test"], plain.y["test"] - plain.last["test"], atol=1e-6) and change.source["change"]
    words = ["prepare", str(file), "--inputs", "a", "--target", "a", "--length", "4"]
    assert cli.main([*words, "--out", str(tmp_path / "x")]) == 0 and prepare.STILL in capsys.readouterr().out
    assert cli.main([*words, "--change", "--out", str(tmp_path / "y")]) == 0 and prepare.STILL not in capsys.readouterr().out
    assert "name it in --inputs too" in refusal(series, file, ["t"], "a", Windows(length=4, change=True))
    assert refusal(Windows, length=4, change=True, classes=True) == "--change is for values: leave it out, or --classes"


def test_what_lies_beyond_the_training_part(tmp_path, capsys):
    """A line that rises leaves the range of the training part, a wave does not; token ids have none."""
    file = write_csv(tmp_path / "s.csv", [(k, np.sin(k), k if k < 70 else 50) for k in range(100)])
    words = ["prepare", str(file), "--inputs", "a,b", "--length", "1", "--out", str(tmp_path / "x")]
    assert cli.main([*words, "--target", "b"]) == 0
    assert ("\n53% of the validation and 0% of the test values of 'b' lie beyond the range of the training part, where a model "
            f"only guesses: {outside.REMEDY}\n") in capsys.readouterr().out
    words[3] = "a"
    assert cli.main([*words, "--target", "a"]) == 0 and "lie beyond" not in capsys.readouterr().out
    text = made(np.zeros((9, 4), np.int64), np.ones((9, 4), np.int64))
    assert outside.largest(outside.outside(text)) == {"validate": 0.0, "test": 0.0}


@pytest.mark.parametrize("missing, third", [("previous", 10), ("linear", 20)])
def test_missing_values(tmp_path, missing, third):
    file = write_csv(tmp_path / "s.csv", [(k, "" if k == 2 else 10 * k, 0) for k in range(40)])
    found = series(file, ["a"], "a", Windows(length=4, missing=missing))
    assert found.x["train"][0, 2, 0] == third
    assert any(remark.startswith("1 row with a missing value filled ") for remark in found.remarks)
    dropped = series(file, ["a"], "a", Windows(length=4, missing="drop"))
    assert dropped.x["train"][0].ravel().tolist() == [30, 40, 50, 60]  # no window crosses what is missing
    assert "is empty" in refusal(series, file, ["a"], "a", Windows(length=4))


def test_other_kinds_of_tables(tmp_path, monkeypatch):
    np.savez(tmp_path / "s.npz", t=np.arange(40), xy=np.arange(80.0).reshape(40, 2), wrong=np.arange(3))
    found = series(tmp_path / "s.npz", ["xy[0]", "xy[1]"], "t", Windows(length=4))
    assert found.x["train"][1].tolist() == [[2, 3], [4, 5], [6, 7], [8, 9]]
    assert refusal(series, tmp_path / "s.npz", ["a"], "t", Windows(length=4)).endswith(
        "s.npz has no column 'a'; it has: t, xy[0], xy[1], wrong")
    assert "have 3, 40 rows" in refusal(series, tmp_path / "s.npz", ["wrong"], "t", Windows(length=4))
    (tmp_path / "s.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "Parquet is read by pyarrow, which is not here: pip install pyarrow" in refusal(
        series, tmp_path / "s.parquet", ["a"], "b", Windows(length=4))
    column = SimpleNamespace(to_numpy=lambda: np.arange(40.0))
    parquet = SimpleNamespace(read_schema=lambda file: SimpleNamespace(names=["a", "b"]),
                              read_table=lambda file, columns: dict.fromkeys(columns, column))
    monkeypatch.setitem(sys.modules, "pyarrow", SimpleNamespace(ArrowException=KeyError, parquet=parquet))
    assert series(tmp_path / "s.parquet", ["a"], "b", Windows(length=4)).x["train"].shape[1:] == (4, 1)


def test_flac(tmp_path, monkeypatch):
    (tmp_path / "s.flac").write_bytes(b"fLaC")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert "FLAC is read by soundfile, which is not here: pip install soundfile" in refusal(read_sound, tmp_path / "s.flac")
    monkeypatch.setitem(sys.modules, "soundfile", SimpleNamespace(read=lambda *_, **options: (np.ones((9, 2)), 8000)))
    samples, rate = read_sound(tmp_path / "s.flac")
    assert samples.tolist() == [1.0] * 9 and rate == 8000


def test_sounds_by_names(tmp_path, capsys):
    """Class and speaker from the names of files in one folder."""
    for digit in range(2):
        for speaker in "abcd":
            for take in range(2):
                write_wav(tmp_path / "digits" / f"{digit}_{speaker}_{take}.wav", np.full(400, 1000 * digit))
    words = ["prepare", str(tmp_path / "digits"), "--label", "name=^(.)", "--group", "name=_(.)_", "--seconds", "0.05",
             "--out", str(tmp_path / "data/digits")]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "8 / 4 / 4 sequences" in out and "class: train / validate / test\n  0: 4 / 2 / 2\n  1: 4 / 2 / 2\n" in out
    recipe = load_toml(Recipe, tmp_path / "data/digits/recipe.toml")
    assert (recipe.model.outputs, recipe.model.pool, recipe.train.noise_bits) == (2, "mean", 8) and recipe.train.mask == 0.1
    assert f"--data {tmp_path / 'data'} " in out


def test_what_is_given(tmp_path, people):
    assert prepare.find([tmp_path / "people"]) == ("tables", people)
    write_wav(tmp_path / "w" / "0.wav", np.zeros(10))
    assert prepare.find([tmp_path / "w"]) == ("sounds", [tmp_path / "w"])
    assert "is named twice" in refusal(prepare.find, [people[0], people[0]])
    assert "name the folder that holds a folder for each class" in refusal(prepare.find, [tmp_path / "w" / "0.wav"])
    (tmp_path / "pictures").mkdir()
    for name in ("0.png", "x.npy"):
        (tmp_path / "pictures" / name).touch()
        assert refusal(prepare.find, [tmp_path / "pictures" / name]) == f"{tmp_path}/pictures/{name} is no {prepare.READS}"
    assert refusal(prepare.find, [tmp_path / "pictures"]) == f"{tmp_path}/pictures holds no {prepare.READS}"
    assert "is a folder of sounds: name it alone" in refusal(prepare.find, [tmp_path / "w", people[0]])


def made(x, y, **rest) -> Dataset:
    thirds = [slice(k * len(x) // 3, (k + 1) * len(x) // 3) for k in range(3)]
    arrays = {f"{axis}_{part}": value[cut] for axis, value in (("x", x), ("y", y))
              for part, cut in zip(PARTS, thirds, strict=True)}
    return Dataset("d", "own", "", **arrays, **rest)


def test_trivial_models():
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 4, 2)).astype(np.float32)
    data = made(x, x[:, -1, :1] * 2 + 1, unit_scale=100)
    found = measure(data, {part: np.zeros((100, 1)) for part in PARTS})
    assert found.metric == "rmse" and found.best == "linear fit" and found.value() < 1 < found.figures["mean"]["test"]
    assert found.figures["last value"]["test"] > 200 and Baseline.read(found.report()) == found
    classes = (x[:, :, 0].mean(1) > 0.4).astype(np.int64)
    found = measure(made(x, classes))
    assert found.metric == "accuracy" and found.figures["most frequent class"]["test"] == 1 - classes[200:].mean()
    assert found.value() > found.figures["most frequent class"]["test"]
    each = measure(made(x, (x[:, :, 1] > 0).astype(np.int64)))
    assert each.best == "linear fit" and each.value("validate") > 0.9
    text = measure(made(random.integers(0, 5, (300, 4)), random.integers(0, 5, (300, 4))))
    assert text.metric == "perplexity" and 4.9 < text.value() < 5.1
    assert measure(made(x[:0], classes[:0])) is None
    for wrong in (None, {}, {"figures": {}, "best": "x"}, {"figures": {"x": "y"}, "best": "x"}):
        assert Baseline.read(wrong) is None


def test_recipes_follow_target_and_windows():
    """The end of a window answers where the target is of it; windows that overlap are few; a value keeps its level."""
    x = np.zeros((6000, 16, 2), np.float32)
    classes, values = np.arange(6000) % 2, np.zeros((6000, 1), np.float32)

    def recipe(y, source) -> Recipe:
        return Recipe.model_validate(tomllib.loads(recipe_text(made(x, y), '"d"', source)))

    last, whole, sound = (recipe(classes, source) for source in
                          ({"step": 1}, {"step": 16, "label": "majority"}, {"front_end": {}}))
    assert (last.model.pool, last.train.shift, last.train.dropout, last.train.mix) == ("last", 0, 0.2, 0.2)
    assert (whole.model.pool, whole.train.shift, whole.train.dropout, whole.train.mix) == ("mean", 1, 0.1, 0.0)
    assert whole.train.epochs == 2 * last.train.epochs and sound.model.pool == "mean" and sound.train.mask == 0.1
    value = recipe(values, {"step": 16})
    assert (value.model.pool, value.model.norm, value.train.dropout) == ("last", "none", 0.0) and whole.model.norm == "range"


def test_the_baseline_is_stored_with_the_data_set(tmp_path, capsys):
    file = write_csv(tmp_path / "s.csv", [(t, t, np.sin(t)) for t in range(100)])
    words = ["--inputs", "a,b", "--target", "b", "--length", "4", "--out", str(tmp_path / "d")]
    assert cli.main(["prepare", str(file), *words]) == 0
    out = capsys.readouterr().out
    stored = baseline.Baseline.read(datasets.load("d", None, tmp_path).baseline)
    assert prepare.told(stored) in out and set(stored.figures) == {"mean", "last value", "linear fit", "linear fit of summaries"}
