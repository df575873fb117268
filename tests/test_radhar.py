"""The RadHAR loader on small files, on the file that ships, and on every kind of bad file."""

import re
from pathlib import Path

import numpy as np
import pytest

from boards.driver.radar import RadarStream
from emamba import datasets
from emamba.artifact import load
from emamba.base.errors import EmambaError
from emamba.datasets import radhar
from emamba.run.executors import make_executor, predict
from emamba.run.integer import IntegerModel
from emamba.sensors.points import FEATURES, features, fixed

SHIPPED = Path(__file__).parents[1] / "data"
TRAIN, TEST = 13, 2
"""Recordings of each activity."""


def make_arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    act = np.tile(np.repeat(np.arange(5), [1] * 5), TRAIN + TEST)
    length = random.integers(59, 90, len(act))
    length[0] = 59
    count = random.integers(1, 20, length.sum())
    arrays = {key: random.normal(0, 2, count.sum()).astype(np.float32) for key in "xyzv"}
    return arrays | {"count": count.astype(np.uint16), "rec": np.repeat(np.arange(len(act)), length).astype(np.uint16),
                     "act": act.astype(np.uint8), "split": np.arange(len(act)) < 5 * TEST, "i": np.ones(count.sum())}


@pytest.fixture
def folder(tmp_path):
    """Writes radhar_points.npz, or a file of another name, and returns the directory to load from."""

    def write(arrays=None, name="radhar/radhar_points.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.savez_compressed(tmp_path / name, **(arrays or make_arrays()))
        return tmp_path

    return write


def refusal(*arguments) -> str:
    with pytest.raises(EmambaError) as error:
        datasets.load(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_parts(folder):
    """Whole recordings validate; windows begin every ten frames and stay in theirs; a recording of 59 frames has none."""
    arrays, data = make_arrays(), datasets.load("radhar", None, folder())
    frames = features(np.stack([fixed(arrays[key]) for key in "xyzv"], -1), arrays["count"].astype(int))
    expected = {"train": ([], [], []), "validate": ([], [], []), "test": ([], [], [])}
    seen = dict.fromkeys(range(5), 0)
    for recording, activity in enumerate(arrays["act"].tolist()):
        part = "test"
        if not arrays["split"][recording]:
            part = "validate" if seen[activity] in (5, 11) else "train"
            seen[activity] += 1
        mine = frames[arrays["rec"] == recording]
        for start in range(0, len(mine) - 59, 10):
            for values, value in zip(expected[part], (mine[start:start + 60], activity, recording), strict=True):
                values.append(value)
    for part, (x, y, _) in expected.items():
        np.testing.assert_array_equal(getattr(data, f"x_{part}"), x)
        assert getattr(data, f"y_{part}").tolist() == y and getattr(data, f"x_{part}").dtype == np.float32
    assert 0 not in expected["test"][2] and data.recordings == {}
    assert (data.split, data.note) == ("official", "186 of 200 recordings")


def test_points_that_are_fixed_already(folder):
    arrays = make_arrays()
    float_data = datasets.load("radhar", None, folder())
    (folder() / "radhar/radhar_points.npz").unlink()
    test = arrays["split"][arrays["rec"]]
    kept = np.repeat(test, arrays["count"])
    part = {key: fixed(arrays[key])[kept] for key in "xyzv"} | {key: arrays[key][test] for key in ("count", "rec")}
    part |= {key: arrays[key][arrays["split"]] for key in ("act", "split")}
    data = datasets.load("radhar", "official", folder(part, "radhar_test.npz"))
    np.testing.assert_array_equal(data.x_test, float_data.x_test)
    assert data.x_train.shape == data.x_validate.shape == (0, 60, FEATURES) and data.note == "55 of 58 test recordings"
    assert data.train_remedy == radhar.REMEDY


def test_the_file_that_ships():
    data = datasets.load("radhar", None, SHIPPED)
    assert data.x_test.shape == (2691, 60, FEATURES) and np.bincount(data.y_test).tolist() == [636, 440, 489, 441, 685]
    stream = datasets.load("radhar", "stream", SHIPPED)
    assert stream.x_test.shape == (29775, 1, FEATURES) and np.count_nonzero(np.diff(stream.y_test)) > 40


def test_stream(folder):
    """Every frame once, the recordings whole and shuffled."""
    arrays, data = make_arrays(), datasets.load("radhar", "stream", folder())
    frames = features(np.stack([fixed(arrays[key]) for key in "xyzv"], -1), arrays["count"].astype(int))
    number = np.concatenate([np.repeat(np.arange(TEST), 5), np.repeat(np.arange(TRAIN), 5)])
    held = ~arrays["split"] & np.isin(number, (5, 11))
    for part, mine in (("test", arrays["split"]), ("validate", held), ("train", ~arrays["split"] & ~held)):
        chosen = np.flatnonzero(mine)[np.argsort(np.random.RandomState(0).permutation(mine.sum()))].tolist()
        assert chosen != sorted(chosen)
        np.testing.assert_array_equal(getattr(data, f"x_{part}")[:, 0],
                                      np.concatenate([frames[arrays["rec"] == recording] for recording in chosen]))
        y = getattr(data, f"y_{part}")
        assert y.tolist() == [activity for k in chosen for activity in [arrays["act"][k]] * (arrays["rec"] == k).sum()]
        assert data.recordings[part].tolist() == [k for k in chosen for _ in range((arrays["rec"] == k).sum())]


def test_the_example_of_the_page(capsys):
    """A stream of the first recording that ships, from points to a vote."""
    example, = re.findall(r"^```python\n(.*?)^```$", (SHIPPED.parent / "docs/radar.md").read_text(encoding="utf-8"), re.M | re.S)
    exec(compile(example, "radar.md", "exec"), {})
    assert capsys.readouterr().out == "[48  0  0  0  0] boxing\n"


def test_a_stream_that_keeps_its_state():
    """Points of one frame at a time, the state between them in the caller's hand, as on a board: the answers are those of all."""
    artifact, file, state = load("models/radhar_stream"), np.load(SHIPPED / "radhar/radhar_test.npz"), None
    model = IntegerModel(artifact)

    def predict_next(windows):
        nonlocal state
        answer, state = model.resume(artifact.codec.encode(windows, artifact.input), state)
        return artifact.codec.decode(answer, artifact.output)

    stream, ends = RadarStream(predict_next, 1), np.cumsum(file["count"])[:60]
    points = np.stack([file[key] / 64 for key in "xyzv"], -1)
    found = [stream.push(points[end - count:end]) for end, count in zip(ends, file["count"], strict=False)]
    frames = radhar.read_recordings(SHIPPED / "radhar/radhar_test.npz")[0][:60, None].astype(np.float64)
    np.testing.assert_array_equal(found, predict(artifact, "int", make_executor(artifact, "int"), frames))


def test_no_files(tmp_path):
    assert refusal("radhar", None, tmp_path) == f"no RadHAR data in {tmp_path / 'radhar'} or {tmp_path}: {radhar.REMEDY}"
    assert refusal("radhar", "random", tmp_path) == "data set radhar has no split 'random'; it has: official, stream"


def without(key):
    return lambda arrays: {name: value for name, value in arrays.items() if name != key}


def changed(key, change):
    return lambda arrays: arrays | {key: change(arrays[key])}


def put(value, place=0):
    def change(array):
        array = array.astype(np.int64) if isinstance(value, int) else array.copy()
        array[place] = value
        return array

    return change


ALIEN = ", which do not belong there: copy it again"


@pytest.mark.parametrize("change, message", [
    (without("v"), " has no array 'v': copy it again"),
    (without("split"), " has no array 'split': copy it again"),
    (changed("x", lambda x: x.astype("U5")), ": x has the shape [{points}] and the type <U5" + ALIEN),
    (changed("x", lambda x: x[:, None]), ": x has the shape [{points}, 1] and the type float32" + ALIEN),
    (changed("split", lambda x: x.astype(int)), ": split has the shape [75] and the type int64" + ALIEN),
    (changed("count", put(0)), ": count runs from 0 to 19, a frame has 1 to 64 points: copy it again"),
    (changed("count", put(-1)), ": count runs from -1 to 19, a frame has 1 to 64 points: copy it again"),
    (changed("count", put(1 << 62)), f": count runs from 1 to {1 << 62}, a frame has 1 to 64 points: copy it again"),
    (changed("z", lambda z: z[1:]), ": z has {fewer} points, count adds up to {points}: copy it again"),
    (changed("y", put(np.nan)), ": y has values that are not finite: copy it again"),
    (changed("x", put(np.inf, -1)), ": x has values that are not finite: copy it again"),
    (changed("rec", lambda x: x[1:]), ": count and rec, or act and split, differ in length: copy it again"),
    (changed("act", lambda x: x[1:]), ": count and rec, or act and split, differ in length: copy it again"),
    (changed("rec", put(75, -1)), ": rec does not ascend within 0..74: copy it again"),
    (changed("rec", put(2)), ": rec does not ascend within 0..74: copy it again"),
    (changed("rec", put(-1)), ": rec does not ascend within 0..74: copy it again"),
    (changed("act", put(5)), ": act runs from 0 to 5, there are 5 activities: copy it again"),
])
def test_bad_files(folder, change, message):
    arrays = make_arrays()
    directory, points = folder(change(arrays)), int(arrays["count"].sum())
    expected = message.format(points=points, fewer=points - 1)
    assert refusal("radhar", None, directory) == f"{directory / 'radhar/radhar_points.npz'}{expected}"


def test_too_many_frames(folder, monkeypatch):
    monkeypatch.setattr(radhar, "LIMIT", 100)
    frames, directory = len(make_arrays()["count"]), folder()
    path = directory / "radhar/radhar_points.npz"
    assert refusal("radhar", None, directory) == f"{path} has {frames} frames, at most 100 are read: copy it again"
