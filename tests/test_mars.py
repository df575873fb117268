"""The MARS loader on small files of both kinds, and on every kind of bad file."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from emamba import datasets
from emamba.base.errors import EmambaError
from emamba.datasets import mars

FRAMES = {"train": 30, "validate": 12, "test": 8}
SHIPPED = Path(__file__).parents[1] / "data"


def make_points(parts=("train", "validate", "test")) -> dict[str, np.ndarray]:
    """Arrays as in mars_points.npz; subject 1 is the first third of a part and has no train labels."""
    random = np.random.default_rng(5)
    arrays = {}
    for part in parts:
        n = FRAMES[part]
        count = random.integers(1, 65, n).astype(np.uint8)
        points = int(count.sum())
        for axis in "xyz":
            arrays[f"{part}_{axis}"] = random.integers(-3000, 3000, points).astype(np.int16)
        arrays[f"{part}_doppler"] = random.integers(-7, 8, points).astype(np.int8)
        arrays[f"{part}_intensity"] = random.integers(2, 2000, points).astype(np.int16)
        arrays[f"{part}_count"] = count
        arrays[f"{part}_subject"] = (1 + 3 * np.arange(n) // n).astype(np.uint8)
        arrays[f"{part}_movement"] = np.ones(n, np.uint8)
        arrays[f"{part}_labels"] = random.normal(size=(n, 57)).astype(np.float32)
    if "train" in parts:
        arrays["train_labels"][arrays["train_subject"] == 1] = np.nan
    return arrays


@pytest.fixture
def points(tmp_path):
    """Writes mars_points.npz, or a file of another name, and returns the directory to load from."""

    def write(arrays=None, name="mars/mars_points.npz"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        np.savez_compressed(path, **(make_points() if arrays is None else arrays))
        return tmp_path

    return write


@pytest.fixture
def official(tmp_path, monkeypatch):
    """Writes the six official files, small, with their hashes made known; returns the directory."""
    random = np.random.default_rng(6)
    for part, n in FRAMES.items():
        for kind, shape in (("featuremap", (8, 8, 5)), ("labels", (57,))):
            path = tmp_path / f"{kind}_{part}.npy"
            np.save(path, random.normal(size=(n, *shape)))
            if path.name in mars.OFFICIAL_SHA256:
                monkeypatch.setitem(mars.OFFICIAL_SHA256, path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    return tmp_path


def refusal(*arguments) -> str:
    with pytest.raises(EmambaError) as error:
        datasets.load(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_feature_maps():
    x, y, z = np.array([5, 1024, 5, 5]), np.array([2, 0, 1, 1]), np.array([0, 0, 9, 8])
    maps = mars.feature_maps(x, y, z, np.array([1, 2, 3, -1]), np.array([10, 20, 30, 40]), np.array([1, 3], np.uint8))
    assert maps.shape == (2, 8, 8, 5) and maps.dtype == np.float32
    first, second = maps.reshape(2, 64, 5)
    assert np.allclose(first[0], [5 / 1024, 2 / 1024, 0, 0.356003645, 10])
    assert second[:3, 4].tolist() == [40, 30, 20]
    assert second[2, 0] == 1.0 and not first[1:].any() and not second[3:].any()


def test_official_split(points):
    data = datasets.load("mars", None, points())
    assert (data.split, data.note, data.unit, data.unit_scale) == ("official", "rebuilt feature maps", "cm", 100)
    assert (len(data.x_train), len(data.x_validate), len(data.x_test)) == (20, 12, 8)
    assert data.x_train.shape[1:] == (8, 8, 5) and data.y_train.shape[1:] == (57,)
    assert all(array.dtype == np.float32 for array in (data.x_train, data.y_train, data.x_test, data.y_test))
    assert data.train_subjects == (2, 3) and np.isfinite(data.y_train).all()
    assert data.test_seen.tolist() == [subject != 1 for subject in data.test_subject]


def test_random_split(points):
    directory = points()
    data, again = (datasets.load("mars", "random", directory) for _ in range(2))
    assert (len(data.x_train), len(data.x_validate), len(data.x_test)) == (26, 6, 8)
    assert np.array_equal(data.x_train, again.x_train)
    labels = np.concatenate([data.y_train, data.y_validate, data.y_test])
    arrays = make_points()
    expected = np.concatenate([arrays["train_labels"][10:], arrays["validate_labels"], arrays["test_labels"]])
    assert {tuple(row) for row in labels.tolist()} == {tuple(row) for row in expected.tolist()}


def test_official_files(official):
    data = datasets.load("mars", "official", official)
    assert data.note == "official feature maps" and data.test_seen is None
    assert (len(data.x_train), len(data.x_validate), len(data.x_test)) == tuple(FRAMES.values())
    assert data.x_train.dtype == np.float32
    assert np.array_equal(data.y_test, np.load(official / "labels_test.npy").astype(np.float32))
    assert len(datasets.load("mars", "random", official).x_train) == 32


def test_official_files_go_before_points(official, points):
    points(name="mars_points.npz")
    assert datasets.load("mars", None, official).note == "official feature maps"


def test_directory(points, monkeypatch, tmp_path):
    directory = points()
    monkeypatch.setenv("EMAMBA_DATA", str(directory))
    assert len(datasets.load("mars").x_test) == 8
    monkeypatch.delenv("EMAMBA_DATA")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mars").rename(tmp_path / "data")
    assert len(datasets.load("mars").x_test) == 8


def test_standardized_intensity(points):
    """Of each subject in each part; coordinates and what fills a frame up stay."""
    raw, data = (datasets.load("mars", split, points()) for split in ("official", "official-standardized"))
    assert data.note == "rebuilt feature maps, intensity standardized"
    for before, x, subject in ((raw.x_test, data.x_test, data.test_subject), (raw.x_train, data.x_train, None)):
        assert np.array_equal(before[..., :4], x[..., :4]) and not x[~before.any(-1)].any()
        for own in np.unique(subject) if subject is not None else ():
            values = x[subject == own][before[subject == own].any(-1)][:, 4]
            assert abs(values.mean()) < 1e-5 and abs(values.std() - 1) < 1e-5


def test_official_maps_are_standardized(official):
    assert refusal("mars", "official-standardized", official) == (
        "the official MARS feature maps hold the intensity standardized: take the split official")


@pytest.mark.parametrize("split", mars.TEST_FILES)
def test_test_frames_only(points, split):
    directory = points(make_points(("test",)), mars.TEST_FILES[split])
    data = datasets.load("mars", split, directory)
    assert (len(data.x_train), len(data.x_validate), len(data.x_test)) == (0, 0, 8)
    assert np.array_equal(data.y_test, make_points(("test",))["test_labels"])
    assert "https://github.com/SizheAn/MARS, or mars_points.npz" in data.train_remedy
    other = "official" if split == "random" else "random"
    assert refusal("mars", other, directory) == f"no MARS data in {directory / 'mars'} or {directory}: {mars.REMEDY}"


def test_shipped_files():
    data = datasets.load("mars", "official", SHIPPED)
    assert data.x_test.shape == (7984, 8, 8, 5) and data.y_test.shape == (7984, 57)
    assert np.bincount(data.test_subject).tolist() == [0, 2362, 2327, 1769, 1526]
    data = datasets.load("mars", "random", SHIPPED)
    assert data.x_test.shape == (6595, 8, 8, 5) and data.y_test.shape == (6595, 57)
    assert np.bincount(data.test_subject).tolist() == [0, 967, 2387, 1736, 1505]


def test_wrong_names(points):
    assert refusal("moon") == ("unknown data set 'moon'; known: cifar10, fashion_mnist, japanese_vowels, mars, radhar, "
                               "shakespeare, wikitext2, and folders of arrays in data")
    assert refusal("mars", "third", points()) == (
        "data set mars has no split 'third'; it has: official, random, official-standardized")


def test_no_data(tmp_path):
    assert refusal("mars", None, tmp_path) == f"no MARS data in {tmp_path / 'mars'} or {tmp_path}: {mars.REMEDY}"


def changed(key, change):
    arrays = make_points()
    arrays[key] = change(arrays[key])
    return arrays


def with_value(position, value):
    def change(array):
        array = array.astype(np.float32) if not isinstance(value, int) else array.copy()
        array[position] = value
        return array

    return change


@pytest.mark.parametrize(
    "key, change, message",
    [
        ("test_x", lambda a: a[:-1], r"test_x has \d+ points, test_count adds up to \d+: copy it again"),
        ("train_count", with_value(3, 0), r"train_count runs from 0 to \d+, a frame has 1 to 64 points"),
        ("train_count", with_value(3, 65), r"train_count runs from \d+ to 65, a frame has 1 to 64 points"),
        ("validate_z", with_value(4, np.nan), r"validate_z has values that are not finite: copy it again"),
        ("test_labels", with_value((2, 3), np.nan), r"test_labels of frame 2 has values that are not finite: copy it again"),
        ("test_labels", with_value((5, 0), np.inf), r"test_labels of frame 5 has values that are not finite: copy it again"),
        ("train_labels", with_value((20, 3), np.nan), r"train_labels of frame 20 has values that are not finite: copy it again"),
        ("test_labels", lambda a: a[:, :56], r"test_labels \(8, 56\), test_subject \(8,\) and test_movement \(8,\) do not fit 8 "
                                            "frames of 57 values"),
        ("train_labels", lambda a: a.astype(str), "train_labels is no list of numbers: copy it again"),
        ("test_count", lambda a: np.zeros((3, 0), np.uint8), "test_count is no list of numbers: copy it again"),
        ("test_subject", lambda a: a[1:], r"test_labels \(8, 57\), test_subject \(7,\) and test_movement \(8,\) do not fit 8 "
                                            "frames of 57 values"),
    ],
)
def test_wrong_points(points, key, change, message):
    with pytest.raises(EmambaError, match=rf"mars_points\.npz: {message}"):
        datasets.load("mars", None, points(changed(key, change)))


def test_missing_array(points):
    arrays = make_points()
    del arrays["test_doppler"]
    directory = points(arrays)
    path = directory / "mars/mars_points.npz"
    assert refusal("mars", None, directory) == f"{path} has no array 'test_doppler': copy it again"


@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2], lambda d: b"", lambda d: b"nonsense", lambda d: flip(d)])
def test_damaged_points(points, damage):
    directory = points()
    path = directory / "mars/mars_points.npz"
    path.write_bytes(damage(path.read_bytes()))
    text = refusal("mars", None, directory)
    assert text.startswith(f"{path} is damaged or not an .npz file (") and text.endswith("): copy it again")


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(255 - byte for byte in content[middle : middle + 64]) + content[middle + 64 :]


def test_wrong_hash(official):
    path = official / "featuremap_test.npy"
    np.save(path, np.zeros((8, 8, 8, 5)))
    text = refusal("mars", None, official)
    assert text.startswith(f"{path} is not the official MARS file (its sha256 is not ") and text.endswith("): download it again")


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros((8, 56)), "{path} has the shape (8, 56) where [frames, 57] is expected"),
        (np.full((8, 57), np.nan), "{path} has values that are not finite: download it again"),
        (np.zeros((7, 57)), "{folder}: featuremap_test.npy has 8 frames, labels_test.npy 7: download both again"),
    ],
)
def test_wrong_official_labels(official, array, message):
    path = official / "labels_test.npy"
    np.save(path, array)
    assert refusal("mars", None, official) == message.format(path=path, folder=official)


def test_missing_official_file(official):
    path = official / "labels_validate.npy"
    path.unlink()
    assert refusal("mars", None, official) == (
        f"{path} is missing beside the other official MARS files: get it from https://github.com/SizheAn/MARS"
    )


def test_truncated_official_file(official):
    path = official / "labels_validate.npy"
    path.write_bytes(path.read_bytes()[:1000])
    text = refusal("mars", None, official)
    assert text.startswith(f"{path} cannot be read (") and text.endswith("): download it again")


def test_recordings_of_the_official_files():
    """The shipped points tell the recordings of the test part; the official files' are in a table, which is the same."""
    data = datasets.load("mars", "official", "data")
    assert np.bincount(data.recordings["test"]).tolist() == list(mars.RECORDINGS["test"])
    assert (np.diff(data.recordings["test"]) >= 0).all() and not datasets.load("mars", "random", "data").recordings
    assert {part: sum(lengths) for part, lengths in mars.RECORDINGS.items()} == {"train": 24066, "validate": 8033, "test": 7984}
