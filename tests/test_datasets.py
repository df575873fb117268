"""The loaders of Fashion-MNIST, CIFAR-10, WikiText-2 and JapaneseVowels on small files, and on every kind of bad file."""

import gzip
import hashlib
import io
import lzma
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emamba import datasets
from emamba.base.errors import EmambaError
from emamba.datasets import archives, bytepair, cifar10, fashion_mnist, japanese_vowels, shakespeare, wikitext2
from emamba.datasets.metrics import data_figures, figures, log_likelihood, text_figures

RANDOM = np.random.default_rng(7)


def refusal(*arguments) -> str:
    with pytest.raises(EmambaError) as error:
        datasets.load(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def check_parts(data, frames, shape):
    for part, n in zip(("train", "validate", "test"), frames, strict=True):
        x, y = getattr(data, f"x_{part}"), getattr(data, f"y_{part}")
        assert x.shape == (n, *shape) and x.dtype == np.float32
        assert y.shape == (n,) and y.dtype == np.int64


def test_find_folder(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    b.mkdir()
    (b / "two").touch()
    assert datasets.find_folder((a, b), ("one", "two")) == b
    assert datasets.find_folder((a, b), ("one",)) is None


def test_hold_out():
    first, second = datasets.hold_out(10, 3)
    assert (len(first), len(second)) == (7, 3) and sorted([*first, *second]) == list(range(10))
    assert np.array_equal(second, datasets.hold_out(10, 3)[1])


# Fashion-MNIST

IMAGES = {"train": 30, "t10k": 8}


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """The four files, small, with their hashes made known; returns their arrays and a function that writes one."""
    monkeypatch.setattr(fashion_mnist, "VALIDATION", 10)
    monkeypatch.setattr(fashion_mnist, "SYSTEM", tmp_path / "system")
    arrays = {}

    def write(name, array, folder="fashion-mnist"):
        content = idx(array)
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(content))
        monkeypatch.setitem(fashion_mnist.FILES, name, hashlib.sha256(content).hexdigest())
        return path

    for part, n in IMAGES.items():
        for name, array in ((f"{part}-images-idx3-ubyte.gz", RANDOM.integers(256, size=(n, 28, 28), dtype=np.uint8)),
                            (f"{part}-labels-idx1-ubyte.gz", RANDOM.integers(10, size=n, dtype=np.uint8))):
            arrays[name] = array
            write(name, array)
    return arrays, write


def test_fashion_mnist(fashion, tmp_path):
    arrays, _ = fashion
    data = datasets.load("fashion_mnist", None, tmp_path)
    assert (data.split, data.note) == ("official", "official files")
    check_parts(data, (20, 10, 8), (28, 28, 1))
    images, labels = arrays["train-images-idx3-ubyte.gz"], arrays["train-labels-idx1-ubyte.gz"]
    train, validate = datasets.hold_out(30, 10)
    assert np.array_equal(data.x_train, images[train, ..., None] / np.float32(255))
    assert np.array_equal(data.y_validate, labels[validate])
    assert np.array_equal(data.y_test, arrays["t10k-labels-idx1-ubyte.gz"])
    assert data.x_test.min() >= 0 and data.x_test.max() <= 1


@pytest.mark.parametrize("folder", ["fashion_mnist", "", "system"])
def test_fashion_mnist_elsewhere(fashion, tmp_path, folder):
    for path in (tmp_path / "fashion-mnist").iterdir():
        (tmp_path / folder).mkdir(exist_ok=True)
        path.rename(tmp_path / folder / path.name)
    assert len(datasets.load("fashion_mnist", None, tmp_path).x_test) == 8


def test_fashion_mnist_test_images_only(fashion, tmp_path):
    (tmp_path / "system").mkdir()
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        (tmp_path / "fashion-mnist" / name).rename(tmp_path / "system" / name)
    assert refusal("fashion_mnist", None, tmp_path).startswith(f"{tmp_path / 'system/t10k-images-idx3-ubyte.gz'} is missing")
    for path in (tmp_path / "system").iterdir():
        path.unlink()
    data = datasets.load("fashion_mnist", None, tmp_path)
    check_parts(data, (0, 0, 8), (28, 28, 1))
    assert data.train_remedy == fashion_mnist.REMEDY


def test_no_fashion_mnist(fashion, tmp_path):
    empty = tmp_path / "empty"
    assert refusal("fashion_mnist", None, empty) == (
        f"no Fashion-MNIST data in {empty / 'fashion-mnist'}, {empty} or {tmp_path / 'system'}: {fashion_mnist.REMEDY}")
    assert refusal("fashion_mnist", "odd", tmp_path) == "data set fashion_mnist has no split 'odd'; it has: official"


def test_missing_fashion_file(fashion, tmp_path):
    path = tmp_path / "fashion-mnist/t10k-labels-idx1-ubyte.gz"
    path.unlink()
    assert refusal("fashion_mnist", None, tmp_path) == (
        f"{path} is missing beside the other Fashion-MNIST files: {fashion_mnist.REMEDY}")


DAMAGES = [lambda d: d[:-20], lambda d: b"", lambda d: b"nonsense", lambda d: d[:20] + b"\xff" * 9 + d[29:]]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_fashion_file(fashion, tmp_path, damage):
    path = tmp_path / "fashion-mnist/train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    text = refusal("fashion_mnist", None, tmp_path)
    assert text.startswith((f"{path} cannot be read (", f"{path} is not the official Fashion-MNIST file"))


def test_other_mnist(fashion, tmp_path):
    path = tmp_path / "fashion-mnist/t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros((8, 28, 28), np.uint8))))
    assert refusal("fashion_mnist", None, tmp_path) == (
        f"{path} is not the official Fashion-MNIST file (its content's sha256 is not {fashion_mnist.FILES[path.name]}): "
        f"{fashion_mnist.REMEDY}")


@pytest.mark.parametrize("name", ["a.gz", "a.xz", "a.txt", "a.npz"])
def test_nothing_unpacks_without_end(tmp_path, monkeypatch, name):
    monkeypatch.setattr(archives, "LIMIT", 1 << 20)
    path, zeros = tmp_path / name, bytes(2 << 20)
    if name == "a.npz":
        np.savez_compressed(path, x=np.frombuffer(zeros, np.uint8))
    else:
        path.write_bytes({"a.gz": gzip.compress, "a.xz": lzma.compress, "a.txt": bytes}[name](zeros))
    with pytest.raises(EmambaError) as error:
        (archives.read_npz if name == "a.npz" else archives.unpack)(path, "copy it again")
    assert str(error.value) == f"{path} holds more than {1 << 20} bytes, which no file of its data set does: copy it again"


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 3\n"


@pytest.mark.parametrize("data, name", [
    ("fashion_mnist", "fashion-mnist/t10k-images-idx3-ubyte.gz"), ("cifar10", "cifar10/data_batch_1.bin"),
    ("cifar10", "cifar10/cifar10_jpeg.npz"), ("mars", "mars/mars_test.npz"), ("mars", "mars/featuremap_train.npy"),
    ("wikitext2", "wikitext2/test.txt.xz"), ("japanese_vowels", "japanese_vowels/JapaneseVowels_TRAIN.ts"),
    ("radhar", "radhar/radhar_test.npz"),
])
def test_what_stands_for_a_file(tmp_path, monkeypatch, data, name):
    monkeypatch.setattr(fashion_mnist, "SYSTEM", tmp_path / "system")
    path = tmp_path / name
    path.parent.mkdir()
    (path.parent / "valid.txt").write_bytes(b"a b")
    path.write_bytes(POINTER)
    assert refusal(data, None, tmp_path) == f"{path} is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`"
    path.write_bytes(b"<!DOCTYPE html>")
    assert refusal(data, None, tmp_path) == f"{path} is a web page, not the file itself: download the file that the page shows"
    path.unlink()
    os.mkfifo(path)
    assert refusal(data, None, tmp_path).startswith(f"cannot read {path}: it is a pipe")


@pytest.mark.parametrize("name, split", [(["mars"], None), ({}, None), (3, None), ("mars", ["official"]), ("wikitext2", 3)])
def test_names_that_are_no_texts(tmp_path, name, split):
    assert refusal(name, split, tmp_path).startswith("the name and the split of a data set are texts, not ")


def test_names_that_lead_elsewhere(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("..", ".", "", "/", "../data", "x" * 4000, "a\0b"):
        assert refusal(name, None, tmp_path / "data").startswith("unknown data set '")


# CIFAR-10

@pytest.fixture
def pictures(monkeypatch):
    """30 training and 8 test pictures, smooth so that JPEG keeps them, and their classes."""
    monkeypatch.setattr(cifar10, "VALIDATION", 10)
    cifar10._read_copy.cache_clear()
    ramp = np.arange(32)
    parts = {}
    for part, n in (("train", 30), ("test", 8)):
        start, slope = RANDOM.integers(100, size=(n, 1, 1, 3)), RANDOM.integers(3, size=(n, 1, 1, 1))
        x = start + 3 * ramp[:, None, None] + slope * ramp[:, None]
        parts[part] = x.astype(np.uint8), (np.arange(n) % 10).astype(np.uint8)
    return parts


def write_binary(folder: Path, pictures):
    folder.mkdir(exist_ok=True)
    for part, names in cifar10.BATCHES.items():
        x, y = pictures[part]
        records = np.concatenate([y[:, None], x.transpose(0, 3, 1, 2).reshape(len(x), -1)], 1)
        for name, some in zip(names, np.array_split(records, len(names)), strict=True):
            (folder / name).write_bytes(some.tobytes())
    return folder


def jpeg_arrays(pictures) -> dict[str, np.ndarray]:
    arrays = {}
    for part, (x, y) in pictures.items():
        files = []
        for picture in x:
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "JPEG", quality=95, subsampling=0)
            files.append(file.getvalue())
        arrays |= {f"{part}_jpeg": np.frombuffer(b"".join(files), np.uint8), f"{part}_label": y,
                   f"{part}_length": np.array([len(file) for file in files], np.uint16)}
    return arrays


def write_copy(directory: Path, arrays) -> Path:
    path = directory / "cifar10" / cifar10.COPY
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("folder", ["cifar-10-batches-bin", "cifar10", "."])
def test_cifar_binary(pictures, tmp_path, folder):
    write_binary(tmp_path / folder, pictures)
    write_copy(tmp_path, jpeg_arrays(pictures))
    data = datasets.load("cifar10", "official", tmp_path)
    assert data.note == "official files"
    check_parts(data, (20, 10, 8), (32, 32, 3))
    (x, y), (x_test, y_test) = pictures["train"], pictures["test"]
    train, validate = datasets.hold_out(30, 10)
    assert np.array_equal(data.x_train, x[train] / np.float32(255)) and np.array_equal(data.y_validate, y[validate])
    assert np.array_equal(data.x_test, x_test / np.float32(255)) and np.array_equal(data.y_test, y_test)


def test_cifar_copy(pictures, tmp_path):
    path = write_copy(tmp_path, jpeg_arrays(pictures))
    data = datasets.load("cifar10", None, tmp_path)
    assert data.note == "CIFAR-10 (JPEG copy)"
    check_parts(data, (20, 10, 8), (32, 32, 3))
    assert np.abs(data.x_test * 255 - pictures["test"][0]).max() < 12
    assert np.array_equal(data.y_test, pictures["test"][1])
    decoded = cifar10._read_copy.cache_info().hits
    datasets.load("cifar10", None, tmp_path)
    assert cifar10._read_copy.cache_info().hits == decoded + 1
    path.write_bytes(b"nonsense")
    assert refusal("cifar10", None, tmp_path).startswith(f"{path} is damaged or not an .npz file (")


def test_no_cifar(tmp_path):
    assert refusal("cifar10", None, tmp_path) == (
        f"no CIFAR-10 data in {tmp_path / 'cifar-10-batches-bin'}, {tmp_path / 'cifar10'} or {tmp_path}: {cifar10.REMEDY}")


def test_bad_cifar_binary(pictures, tmp_path):
    folder = write_binary(tmp_path / "cifar10", pictures)
    path = folder / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal("cifar10", None, tmp_path) == f"{path} has {8 * 3073 - 1} bytes, no multiple of 3073: unpack it again"
    path.write_bytes(b"")
    assert refusal("cifar10", None, tmp_path) == f"{path} has 0 bytes, no multiple of 3073: unpack it again"
    path.write_bytes(b"\x0a" + bytes(3072))
    assert refusal("cifar10", None, tmp_path) == f"{path}: classes run from 10 to 10, CIFAR-10 has 0 to 9"
    path.unlink()
    assert refusal("cifar10", None, tmp_path) == f"{path} cannot be read (No such file or directory): {cifar10.REMEDY}"


def test_too_few_pictures(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "VALIDATION", 30)
    folder = write_binary(tmp_path / "cifar10", pictures)
    assert refusal("cifar10", None, tmp_path) == (
        f"{folder} has 30 training and 8 test pictures, too few for a validation part of 30: {cifar10.REMEDY}")


@pytest.mark.parametrize("key, change, message", [
    ("train_length", lambda a: a[:-1], "train_jpeg, train_length and train_label do not fit together: copy it again"),
    ("train_jpeg", lambda a: a[:-1], "train_jpeg, train_length and train_label do not fit together: copy it again"),
    ("test_label", lambda a: a + 1, "test_label run from 1 to 8, CIFAR-10 has 0 to 9"),
    ("test_label", lambda a: a * 2, "test_label run from 0 to 14, CIFAR-10 has 0 to 9"),
    ("test_label", lambda a: a.astype(float), "test_label is no list of integers: copy it again"),
    ("train_jpeg", lambda a: a[None], "train_jpeg is no list of integers: copy it again"),
    ("train_length", lambda a: -a.astype(int), "train_jpeg, train_length and train_label do not fit together: copy it again"),
])
def test_bad_cifar_copy(pictures, tmp_path, key, change, message):
    arrays = jpeg_arrays(pictures)
    arrays[key] = change(arrays[key])
    path = write_copy(tmp_path, arrays)
    if message.startswith("test_label run from 1"):
        assert datasets.load("cifar10", None, tmp_path).y_test.tolist() == list(range(1, 9))
    else:
        assert refusal("cifar10", None, tmp_path) == f"{path}: {message}"


def test_missing_cifar_array(pictures, tmp_path):
    arrays = jpeg_arrays(pictures)
    del arrays["test_jpeg"]
    path = write_copy(tmp_path, arrays)
    assert refusal("cifar10", None, tmp_path) == f"{path} has no array 'test_jpeg': copy it again"


def test_damaged_picture(pictures, tmp_path):
    arrays = jpeg_arrays(pictures)
    arrays["train_jpeg"] = arrays["train_jpeg"].copy()
    start = int(arrays["train_length"][0])
    arrays["train_jpeg"][start:start + 40] = 0
    path = write_copy(tmp_path, arrays)
    text = refusal("cifar10", None, tmp_path)
    assert text.startswith(f"{path}: train picture 1 cannot be decoded (") and text.endswith("): copy the file again")


def test_picture_of_another_size(pictures, tmp_path):
    x, y = pictures["test"]
    path = write_copy(tmp_path, jpeg_arrays(pictures | {"test": (x[:, :16], y)}))
    assert refusal("cifar10", None, tmp_path) == (
        f"{path}: test picture 0 has the shape (16, 32, 3) where (32, 32, 3) is expected: copy the file again")


def test_without_pillow(pictures, tmp_path, monkeypatch):
    write_copy(tmp_path, jpeg_arrays(pictures))
    monkeypatch.setitem(sys.modules, "PIL", None)
    text = refusal("cifar10", None, tmp_path)
    assert text.startswith("the JPEG copy of CIFAR-10 needs the extra [data] (")
    assert text.endswith("): pip install '.[data]' in the checkout")


# WikiText-2

NUMBERS = [(k * k * 7919 % 100003, k**3 % 9973) for k in range(300)]
TEXT = b"".join(b" Ship %d sailed to port %d , the ships <unk> home . \n \n" % numbers for numbers in NUMBERS)
CUT = TEXT.rfind(b"\n", 0, round(0.9 * len(TEXT))) + 1


@pytest.fixture
def wikitext(tmp_path):
    folder = tmp_path / "wikitext2"
    folder.mkdir()
    for part, text in (("valid", TEXT), ("test", TEXT[:1600])):
        (folder / f"{part}.txt.xz").write_bytes(lzma.compress(b"\xef\xbb\xbf" + text))
    return folder


@pytest.mark.parametrize("split, vocabulary, length", [("bytes-64", 256, 64), ("bytes", 256, 256), ("bpe512-16", 512, 16)])
def test_wikitext(wikitext, tmp_path, split, vocabulary, length):
    data = datasets.load("wikitext2", split, tmp_path)
    assert data.split == split and "trained on the validation text" in data.note
    assert len(data.token_bytes) == vocabulary
    for part in ("train", "validate", "test"):
        x, y = getattr(data, f"x_{part}"), getattr(data, f"y_{part}")
        assert x.shape == y.shape and x.shape[1] == length and len(x) and x.dtype == np.int64
        assert np.array_equal(x.ravel()[1:], y.ravel()[:-1]) and x.min() >= 0 and x.max() < vocabulary
    if vocabulary == 256:
        assert bytes(data.x_train.ravel().tolist()) == TEXT[:CUT][:data.x_train.size]
        assert bytes(data.x_validate.ravel().tolist()) == TEXT[CUT:][:data.x_validate.size]
    else:
        left = 1600 - data.token_bytes[data.x_test].sum()
        assert 0 <= left <= length * data.token_bytes.max() and data.x_test.size < 800
    assert data.bytes_per_word == 1600 / wikitext2.words(TEXT[:1600])


def test_default_split(wikitext, tmp_path, monkeypatch):
    monkeypatch.setattr(wikitext2, "LENGTH", 8)
    data = datasets.load("wikitext2", None, tmp_path)
    assert data.split == "bpe512" and data.x_test.shape[1] == 8


def test_official_wikitext(wikitext, tmp_path):
    assert refusal("wikitext2", "official-bytes-64", tmp_path) == (
        f"{wikitext} lacks WikiText-2's training text (train.txt.xz, train.txt, wiki.train.tokens): {wikitext2.REMEDY}")
    (wikitext / "wiki.train.tokens").write_bytes(b" \n = Other text = \n \n" * 20)
    data = datasets.load("wikitext2", "official-bytes-64", tmp_path)
    assert data.note == "trained on the official training text"
    assert bytes(data.x_train[0, :20].tolist()) == b" \n = Other text = \n " and bytes(data.x_validate[0].tolist()) == TEXT[:64]
    plain = datasets.load("wikitext2", "bytes-64", tmp_path)
    assert bytes(plain.x_train[0].tolist()) == TEXT[:64] and np.array_equal(plain.x_test, data.x_test)


def test_raw_wikitext_and_parquet(tmp_path):
    folder = tmp_path / "wikitext-2-raw"
    folder.mkdir()
    (folder / "test-00000-of-00001.parquet").write_bytes(b"PAR1")
    assert refusal("wikitext2", None, tmp_path) == (
        f"{folder} has WikiText-2 as Parquet (test-00000-of-00001.parquet), which is not read: write the column text of each "
        "part into a file, as docs/data.md shows")
    (folder / "wiki.test.raw").write_bytes(TEXT[:1600])
    (folder / "valid.txt").write_bytes(TEXT)
    assert refusal("wikitext2", None, tmp_path) == (
        f"{folder} lacks WikiText-2's validation text (wiki.valid.raw): put wiki.valid.raw beside the others")
    (folder / "wiki.valid.raw").write_bytes(TEXT)
    data = datasets.load("wikitext2", "bytes-64", tmp_path)
    assert data.note == "trained on the validation text, without the training text, raw text"
    assert bytes(data.x_test[0].tolist()) == TEXT[:64]


@pytest.mark.parametrize("split", ["words", "bytes-", "bytes-0", "bpe512-064", "bpe300", "official", "bytes-1000000", "xbytes"])
def test_wrong_wikitext_split(wikitext, tmp_path, split):
    assert refusal("wikitext2", split, tmp_path) == (
        f"data set wikitext2 has no split '{split}'; write [official-]bytes|bpe512|bpe1024[-L] with L, the tokens of a window, "
        "up to 999999, such as bpe512-256")


def test_no_wikitext(tmp_path):
    assert refusal("wikitext2", None, tmp_path) == (
        f"no WikiText-2 data in {tmp_path / 'wikitext2'}, {tmp_path / 'wikitext-2'} or {tmp_path}: {wikitext2.REMEDY}")


def test_bad_wikitext(wikitext, tmp_path):
    path = wikitext / "valid.txt.xz"
    content = path.read_bytes()
    for damaged in (content[:-40], b"nonsense", b"", lzma.compress(b"\xff\xfe")):
        path.write_bytes(damaged)
        text = refusal("wikitext2", "bytes", tmp_path)
        assert text.startswith(f"{path} cannot be read (") and text.endswith("): copy it again")
    path.write_bytes(lzma.compress(b"\xef\xbb\xbf \n"))
    assert refusal("wikitext2", "bytes", tmp_path) == f"{path} is empty: copy it again"
    path.unlink()
    assert refusal("wikitext2", "bytes", tmp_path) == (
        f"{wikitext} lacks WikiText-2's validation text (valid.txt.xz, valid.txt, wiki.valid.tokens): {wikitext2.REMEDY}")


def test_short_text(wikitext, tmp_path):
    assert refusal("wikitext2", "bytes-9000", tmp_path) == (
        f"the validation part of WikiText-2 has {len(TEXT) - CUT} tokens, too few for a window of 9000 and "
        "one more: take a smaller L")
    (wikitext / "valid.txt.xz").write_bytes(lzma.compress(b" a \n b \n"))
    assert refusal("wikitext2", "bpe512", tmp_path) == (
        "a text of 4 bytes has no pairs for a vocabulary of 512: take a smaller one")


def naive_encode(text: bytes, pairs) -> list[int]:
    result = []
    for piece in re.findall(rb"[ \n]*[^ \n]+|[ \n]+", text):
        ids = list(piece)
        for k, (a, b) in enumerate(pairs):
            merged = []
            while ids:
                if ids[:2] == [a, b]:
                    merged.append(256 + k)
                    ids = ids[2:]
                else:
                    merged.append(ids.pop(0))
            ids = merged
        result += ids
    return result


@pytest.mark.parametrize("text", [TEXT, b"aaaa aaaaa aaa aaaaaaa", b"  \n\n x", b""])
def test_byte_pairs(text):
    pairs = bytepair.learn(TEXT + b" aaaa aaaaa aaaaaa" * 9, 300)
    ids = bytepair.encode(text, pairs)
    assert ids.tolist() == naive_encode(text, pairs.tolist())
    strings = [bytes([k]) for k in range(256)]
    for a, b in pairs:
        strings.append(strings[a] + strings[b])
    assert b"".join(strings[k] for k in ids) == text
    assert bytepair.lengths(pairs).tolist() == [len(string) for string in strings]


def test_most_frequent_pair_first():
    pairs = bytepair.learn(b"ab ab ab cd cd xy", 258)
    assert pairs.tolist() == [[ord("a"), ord("b")], [ord(" "), ord("c")]]


def test_text_figures():
    token_bytes = np.array([1, 3])
    target = np.array([[0, 1], [1, 1]])
    measured = text_figures(np.log(4), target, token_bytes, 5.0)
    assert measured == {"bits_per_byte": pytest.approx(4 * 2 / 10), "word_perplexity": pytest.approx(2 ** (0.8 * 5))}
    zeros = np.zeros((0, 2), np.int64)
    data = datasets.Dataset("made", "only", "", *[zeros] * 6, token_bytes=token_bytes, bytes_per_word=5.0)
    assert data_figures("next_token", np.zeros((2, 2, 2)), target, data) == {
        "perplexity": pytest.approx(2), "bits_per_byte": pytest.approx(0.4), "word_perplexity": pytest.approx(4)}
    plain = datasets.Dataset("made", "only", "", *[zeros] * 6, unit_scale=10.0)
    assert data_figures("regression", np.ones((2, 1)), np.zeros((2, 1)), plain) == {"mae": 10.0, "rmse": 10.0}


def test_log_likelihood():
    logits, target = RANDOM.normal(size=(3, 4, 5)) * 50, RANDOM.integers(5, size=(3, 4))
    probability = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum(-1, keepdims=True)
    expected = np.log(np.take_along_axis(probability, target[..., None], -1)[..., 0])
    assert np.allclose(log_likelihood(logits, target), expected)
    assert figures("next_token", logits, target)["perplexity"] == pytest.approx(np.exp(-expected.mean()))


# JapaneseVowels

UTTERANCES = {"TRAIN": 45, "TEST": 12}


def utterance(tokens: int, speaker: int) -> str:
    values = RANDOM.normal(size=(12, tokens)).round(3)
    return ":".join([*(",".join(map(str, channel)) for channel in values), str(speaker)])


@pytest.fixture
def vowels(tmp_path, monkeypatch):
    """Both files, small, and no package aeon; returns the folder."""
    monkeypatch.setattr(japanese_vowels, "find_spec", lambda name: None)
    folder = tmp_path / "japanese_vowels"
    folder.mkdir()
    for part, n in UTTERANCES.items():
        lines = ["#made", "@problemName JapaneseVowels", "@dimensions 12", "@data"]
        lines += [utterance(7 + k % 23, 1 + k % 9) for k in range(n)]
        (folder / f"JapaneseVowels_{part}.ts").write_text("\n".join(lines) + "\n")
    return folder


def test_japanese_vowels(vowels, tmp_path):
    data = datasets.load("japanese_vowels", None, tmp_path)
    check_parts(data, (36, 9, 12), (29, 12))
    assert np.bincount(data.y_train).tolist() == [4] * 9 and np.bincount(data.y_validate).tolist() == [1] * 9
    line = (vowels / "JapaneseVowels_TEST.ts").read_text().splitlines()[4]
    first = np.array([channel.split(",") for channel in line.split(":")[:12]], np.float32).T
    assert first.shape == (7, 12) and data.y_test[0] == 0
    assert np.array_equal(data.x_test[0, -7:], first) and np.array_equal(data.x_test[0, 1:8], first)
    assert np.array_equal(data.x_test[0, 0], first[-1])


def test_japanese_vowels_of_the_package(vowels, tmp_path, monkeypatch):
    package = tmp_path / "site/aeon/datasets/data/JapaneseVowels"
    package.parent.mkdir(parents=True)
    vowels.rename(package)
    (tmp_path / "site/aeon/__init__.py").write_text("raise ImportError('nobody imports this')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(japanese_vowels, "find_spec", find_spec)
    assert len(datasets.load("japanese_vowels", None, tmp_path).x_test) == 12


def test_no_japanese_vowels(vowels, tmp_path):
    empty = tmp_path / "empty"
    assert refusal("japanese_vowels", None, empty) == (
        f"no JapaneseVowels data in {empty / 'japanese_vowels'}, {empty / 'JapaneseVowels'}, {empty} or the Python package aeon: "
        f"{japanese_vowels.REMEDY}")
    path = vowels / "JapaneseVowels_TEST.ts"
    path.unlink()
    assert refusal("japanese_vowels", None, tmp_path) == (
        f"{path} cannot be read ([Errno 2] No such file or directory: '{path}'): {japanese_vowels.REMEDY}")


@pytest.mark.parametrize("change, message", [
    (lambda text: text.replace("@data", "@date"), " has no utterances after a line @data"),
    (lambda text: text[:text.index("@data") + 6], " has no utterances after a line @data"),
    (lambda text: text + utterance(30, 1), ", line 17 has 30×12 values where 1 to 29 of 12 channels are expected"),
    (lambda text: text + "1,2:3,4:1", ", line 17 has 2×2 values where 1 to 29 of 12 channels are expected"),
    (lambda text: text + "5", ", line 17 has 0 values where 1 to 29 of 12 channels are expected"),
    (lambda text: text + utterance(9, 10), ", line 17 has a value that is not finite, or a speaker that is not 1 to 9"),
    (lambda text: text + utterance(9, 0), ", line 17 has a value that is not finite, or a speaker that is not 1 to 9"),
    (lambda text: text + re.sub("[^,]*", "nan", utterance(9, 1), count=1),
     ", line 17 has a value that is not finite, or a speaker that is not 1 to 9"),
])
def test_bad_japanese_vowels(vowels, tmp_path, change, message):
    path = vowels / "JapaneseVowels_TEST.ts"
    path.write_text(change(path.read_text()))
    assert refusal("japanese_vowels", None, tmp_path) == f"{path}{message}: {japanese_vowels.REMEDY}"


@pytest.mark.parametrize("line", ["1,2:3:4", "a,b:c,d:1", "1,2:3,4:one", utterance(9, 1) + "x"])
def test_utterance_without_numbers(vowels, tmp_path, line):
    path = vowels / "JapaneseVowels_TEST.ts"
    path.write_text(path.read_text() + line)
    text = refusal("japanese_vowels", None, tmp_path)
    assert text.startswith(f"{path}, line 17 is no utterance of numbers (") and text.endswith(f"): {japanese_vowels.REMEDY}")
    path.write_bytes(b"\xff\xfe")
    assert refusal("japanese_vowels", None, tmp_path).startswith(f"{path} cannot be read (")


def test_a_folder_that_is_asked_for_is_not_passed_over(fashion, tmp_path):
    """For one of the system: the figures would be of other data."""
    (tmp_path / "fashion-mnist").rename(tmp_path / "system")
    assert len(datasets.load("fashion_mnist", None, tmp_path).x_test) == 8
    with pytest.raises(EmambaError, match=r"^no Fashion-MNIST data in "):
        datasets.load("fashion_mnist", None, tmp_path, True)


def test_shakespeare(tmp_path):
    """Characters and back; windows that follow each other; the first 85 % train, the next 5 % validate, the last 10 % test."""
    text = (shakespeare.CHARACTERS * 20).encode()
    (tmp_path / "shakespeare").mkdir()
    (tmp_path / "shakespeare/input.txt").write_bytes(text)
    data = datasets.load("shakespeare", "characters-8", tmp_path)
    assert shakespeare.decode(shakespeare.encode(text)).encode() == text
    assert [len(getattr(data, f"x_{part}")) for part in ("train", "validate", "test")] == [138, 8, 16]
    assert np.array_equal(data.x_train[1:, 0], data.y_train[:-1, -1])
    assert shakespeare.decode(data.x_test[0]).encode() == text[1170:1178]
    assert (data.token_bytes == 1).all() and len(data.token_bytes) == 65
    whole = datasets.load("shakespeare", "whole-characters-8", tmp_path)
    assert len(whole.x_train) == 146 and np.array_equal(whole.x_test, data.x_test)
    assert np.array_equal(whole.x_validate, data.x_validate) and shakespeare.decode(whole.x_train[-1]).encode() == text[1160:1168]
    assert refusal("shakespeare", "words", tmp_path).startswith("data set shakespeare has no split 'words'; write [whole-]charac")
    assert refusal("shakespeare", "characters-100", tmp_path).startswith("the validation part of Shakespeare has 65 tokens")
    (tmp_path / "shakespeare/input.txt").write_bytes(text + b"\x80")
    assert "has the byte 0x80 at 1300" in refusal("shakespeare", None, tmp_path)
    assert refusal("shakespeare", None, tmp_path / "nothing").startswith("no Shakespeare in ")
