"""Artifacts on disk: the round trip, and every kind of damage as one sentence."""

import copy
import errno
import hashlib
import json
import os
import re
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from emamba.artifact import Artifact, load, save
from emamba.artifact import store as module
from emamba.base.errors import EmambaError
from emamba.graph.ir import ROLES
from emamba.ops import OPERATORS
from emamba.piecewise import Segments
from emamba.run.executors import make_executor
from emamba.run.integer import IntegerModel
from sim.models import SHAPES, random_artifact, random_inputs

SETTINGS = {"emamba-odd": {"weight_scale": "dyadic"}, "standard-image": {"rule": "exact"},
            "standard-tokens": {"input_term": "delta_b"}}


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A saved artifact of two blocks with every kind of parameter but a Lookup."""
    folder = tmp_path_factory.mktemp("artifact") / "model"
    save(random_artifact("emamba-image"), folder)
    return folder


@pytest.fixture
def folder(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


def sign(manifest: dict) -> dict:
    manifest.pop("digest", None)
    return manifest | {"digest": module._digest(manifest)}


def change(folder: Path, edit) -> None:
    """Edits the manifest and signs it again."""
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(sign(manifest)))


def row(manifest: dict, name: str) -> dict:
    """What a manifest says of a node."""
    return next(row for row in manifest["graph"]["nodes"] if row["name"] == name)


def put(*path):
    """An edit that sets the value at `path`, whose last part is the value. A path may begin with "row" and a node's name, or with
    "nodes" and the name, for its operator's parameters."""
    *keys, last, value = path

    def edit(manifest):
        at, keys_left = manifest, list(keys)
        if path[0] in ("row", "nodes"):
            at = {path[1]: row(manifest, path[1])} if path[0] == "row" else row(manifest, path[1])
            keys_left = keys_left[1:] if path[0] == "row" else ["operator", *keys_left[2:]]
            if path[0] == "nodes" and len(path) == 3:
                at["operator"] = value
                return
        manifest = at
        for key in keys_left:
            manifest = manifest[key]
        manifest[last] = value

    return edit


def change_arrays(folder: Path, edit, name: str = "weights.safetensors") -> None:
    arrays = load_file(folder / name)
    edit(arrays)
    save_file(arrays, folder / name)
    content = (folder / name).read_bytes()
    change(folder, put("files", name, hashlib.sha256(content).hexdigest()))


def refuses(sentence: str):
    return pytest.raises(EmambaError, match=f"^{re.escape(sentence)}$")


def same(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.shape == b.shape and np.array_equal(a, b)
    if isinstance(a, Segments):
        return all(same(getattr(a, entry.name), getattr(b, entry.name)) for entry in fields(a))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("shape", SHAPES)
def test_round_trip(shape, tmp_path):
    made = random_artifact(shape, **SETTINGS.get(shape, {}))
    made.record["note"] = {"Ā": 1.5, "list": [1, None, "x"]}
    digest = save(made, tmp_path / "a")
    read = load(tmp_path / "a")
    for field in ("name", "config", "data", "record"):
        assert getattr(read, field) == getattr(made, field)
    assert read.digest == digest
    assert list(read.operators) == list(made.operators)
    for name, operator in made.operators.items():
        other = read.operators[name]
        assert type(other) is type(operator)
        for entry in fields(operator):
            assert same(getattr(operator, entry.name), getattr(other, entry.name)), f"{name}.{entry.name}"
    assert all(same(value, getattr(read.codec, key)) for key, value in vars(made.codec).items())
    assert {key: same(value, read.weights[key]) for key, value in made.weights.items()} == dict.fromkeys(read.weights, True)
    tokens = random_inputs(made.config, 2, seed=3)
    for backend in ("float", "int"):
        before, after = (make_executor(a, backend)(tokens, None) for a in (made, read))
        assert list(before) == list(after) and all(same(before[name], after[name]) for name in before)
    assert save(read, tmp_path / "b") == digest
    for file in ("manifest.json", "weights.safetensors", "float.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_digest_names_the_content(original, tmp_path):
    made = load(original)
    digests = {made.digest}
    for k, (field, value) in enumerate((("name", "other"), ("record", {"x": 1}), ("data", {"name": "d"}))):
        digests.add(save(Artifact(**vars(made) | {field: value}), tmp_path / str(k)))
    weights = {name: value.copy() for name, value in made.weights.items()}
    weights["head.bias"][0] += 1
    digests.add(save(Artifact(**vars(made) | {"weights": weights}), tmp_path / "w"))
    assert len(digests) == 5


def test_saving_replaces_the_whole_folder_or_nothing(original, folder, monkeypatch):
    (folder / "old").write_text("x")
    made = load(original)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with refuses(f"cannot write {folder}: No space left on device; name a folder you may write to"):
        save(made, folder)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert (folder / "old").exists() and load(folder).digest == made.digest
    monkeypatch.undo()
    save(made, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["float.safetensors", "manifest.json", "old", "weights.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_saving_where_a_file_is_in_the_way(original, tmp_path):
    (tmp_path / "file").write_text("x")
    target = tmp_path / "file" / "model"
    with pytest.raises(EmambaError, match=f"^{re.escape(f'cannot write {target}: ')}.*; name a folder you may write to$"):
        save(load(original), target)
    assert (tmp_path / "file").read_text() == "x"


# -- damage without a new signature -------------------------------------------------------------------------------------------


def test_no_artifact(folder, tmp_path):
    for path in (tmp_path, tmp_path / "none", folder / "manifest.json"):
        with refuses(f"{path} is not an artifact: it has no manifest.json"):
            load(path)


@pytest.mark.parametrize("file", ["weights.safetensors", "float.safetensors"])
def test_truncated_altered_and_missing_weights(folder, file):
    content = (folder / file).read_bytes()
    sentence = f"{folder}/{file} is truncated or was altered: its SHA-256 is not the manifest's; copy the artifact again"
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    for damaged in (content[:-1], content[:100], b"", content + b"\0", flipped):
        (folder / file).write_bytes(damaged)
        with refuses(sentence):
            load(folder)
    (folder / file).unlink()
    with refuses(f"cannot read {folder}/{file}: No such file or directory"):
        load(folder)
    (folder / file).write_bytes(content)
    load(folder)


@pytest.mark.parametrize("edit", [put("name", "x"), put("nodes", "block0.x", "shift", 3), put("record", {}),
                                  put("codec", "offset", 0, 0.5), put("digest", "0" * 64), put("digest", None)])
def test_altered_manifest(folder, edit):
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with refuses(f"{folder}/manifest.json was altered: its digest does not match; quantize the checkpoint again"):
        load(folder)


@pytest.mark.parametrize("text", [b"", b"{", b"{}]", b'{"a": \xff}', b"[" * 100_000, b"9" * 5000, b"\x00"],
                         ids=["empty", "cut", "more", "bytes", "deep", "digits", "nul"])
def test_manifest_that_is_not_json(folder, text):
    (folder / "manifest.json").write_bytes(text)
    with pytest.raises(EmambaError, match=f"^{re.escape(f'{folder}/manifest.json is damaged (')}.*\\): copy the artifact again$"):
        load(folder)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"', "{}", '{"format": "zip"}'])
def test_json_that_is_no_manifest(folder, text):
    (folder / "manifest.json").write_text(text)
    with refuses(f"{folder}/manifest.json is not the manifest of an artifact"):
        load(folder)


def test_oversized_files(folder, monkeypatch):
    limits = {"weights.safetensors": module.SIZE_LIMIT, "manifest.json": module.MANIFEST_LIMIT}
    for name, limit in limits.items():
        size = (folder / name).stat().st_size
        with (folder / name).open("r+b") as file:
            file.truncate(limit + 1)  # sparse: takes no space
        with refuses(f"{folder}/{name} has {limit + 1} bytes; this file of an artifact has at most {limit}"):
            load(folder)
        os.truncate(folder / name, size)


def test_too_many_integers_are_refused_before_they_are_widened(folder, monkeypatch):
    monkeypatch.setattr(module, "INTEGER_LIMIT", 100)
    monkeypatch.delattr(module, "_load_operators")
    with pytest.raises(EmambaError, match=r"weights.safetensors holds \d+ integers; an artifact has at most 100$"):
        load(folder)


# -- damage with a valid signature --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 3, "1", None, [1], True])
def test_wrong_version(folder, version):
    change(folder, put("version", version))
    with refuses(f"{folder} has artifact version {version!r}; this program reads versions 1 and 2: quantize the checkpoint "
                 "again"):
        load(folder)


@pytest.mark.parametrize("key", ["name", "model", "data", "codec", "graph", "files", "record"])
def test_missing_keys(folder, key):
    change(folder, lambda m: m.pop(key))
    with refuses(f"{folder}/manifest.json: the key '{key}' is missing"):
        load(folder)


def test_unknown_key(folder):
    change(folder, put("extra", 1))
    with refuses(f"{folder}/manifest.json: the key 'extra' is unknown"):
        load(folder)


def node(name, text):
    return f"node '{name}': {text}"


TABLE = "graph: must be a table with the lists nodes and outputs"
FORMAT_KEYS = "must be a table with the keys bits, frac, signed"
MANIFESTS = [
    *((put("graph", value), TABLE) for value in ([], {}, {"nodes": {}, "outputs": []}, {"nodes": [3], "outputs": []})),
    (put("graph", "outputs", [3]), "graph: outputs must be names of nodes"),
    (put("graph", "outputs", []), "the outputs (none) are not different nodes of the graph"),
    (put("graph", "outputs", ["head", "head"]), "the outputs head, head are not different nodes of the graph"),
    (put("graph", "outputs", ["block0.y"]), node("head", "nothing reads it, and it is not an output: remove it")),
    (put("graph", "outputs", ["head", "block0.y"]), "the model has 2 outputs (head, block0.y); exactly one is possible here"),
    (lambda m: m["graph"]["nodes"].append(row(m, "head")), "node 'head' is there twice"),
    (lambda m: m["graph"]["nodes"].remove(row(m, "block0.conv")),
     node("block0.dt_low", "it reads 'block0.conv', which is no node before it")),
    (lambda m: m["graph"]["nodes"].reverse(), node("head", "it reads 'pool', which is no node before it")),
    (lambda m: row(m, "block0.x").pop("width"), node("block0.x", "the key 'width' is missing")),
    (put("row", "block0.x", "width", "12"), node("block0.x", "'width' must be of type int")),
    (put("row", "block0.x", "width", True), node("block0.x", "'width' must be of type int")),
    (put("row", "block0.x", "colour", 1), node("block0.x", "unknown key 'colour'")),
    (put("row", "block0.x", "inputs", [1]), node("block0.x", "inputs must be names of nodes")),
    (put("row", "block0.x", "parameters", "weight", 1), node("block0.x", "parameters must be names of tensors")),
    (put("row", "block0.x", "parameters", "weight", "../x"), node("block0.x", "its weight is the tensor '../x', which is not a "
                                                                             "name")),
    (put("row", "block0.x", "parameters", "gain", "g"), node("block0.x", "a Linear has no parameter 'gain'")),
    (put("row", "block0.x", "parameters", {}), node("block0.x", "its parameter 'weight' names no tensor")),
    (put("row", "block0.x", "parameters", "weight", "blocks.0.dt.weight"), node(
        "block0.dt", "it needs the tensor 'blocks.0.dt.weight' in the shape [12, 5], another node in [12, 6]")),
    (put("row", "block0.x", "name", "block0/x"),
     "a node is called 'block0/x'; names are words of letters, digits and underscores with points between them"),
    (put("row", "block0.x", "name", "block0_z"), node("block0.z", "another node has this name, or one that differs in points and "
                                                                  "underscores alone")),
    (put("row", "block0.x", "kind", "Magic"), node(
        "block0.x", f"there is no operator 'Magic'; the operators are {', '.join(OPERATORS)}: import the file that registers "
        "it")),
    (put("row", "block0.x", "kind", "Add"), node("block0.x", "it has 1 inputs, but a Add has 2")),
    (put("row", "block0.x", "width", 0), node("block0.x", "0 channels of 4 tokens are out of range; 1..1048576 of 1..1048576 are "
                                                          "possible")),
    (put("row", "block0.x", "tokens", 3), node("block0.x", "it gives 3 tokens a sequence, but a Linear of 4 gives 4")),
    (put("row", "pool", "tokens", 4), node("pool", "it gives 4 tokens a sequence, but a Pool of 4 gives 1")),
    (put("row", "block0.x", "role", "boss"), node("block0.x", f"its role is 'boss'; choose one of {', '.join(ROLES)}")),
    (put("row", "block0.x", "order", "x"), node("block0.x", "its order is 'x'; choose one of accumulate, emit")),
    (put("row", "block0.x", "norm", ""), node(
        "block0.x", "it reads the norm 'block0.norm' and does not fold its weight and bias")),
    (put("row", "block0.x", "norm", "norm"), node(
        "block0.x", "it cannot fold 'norm': a Linear folds the norm that it reads, perhaps "
                                                             "after a pool")),
    (put("row", "block0.conv", "attributes", {}), node("block0.conv", "a Conv1d needs the attribute 'taps'")),
    (put("row", "block0.conv", "attributes", {"taps": 65}), node(
        "block0.conv", "its taps is 65; it must be an integer in 1..64")),
    (put("row", "block0.conv", "attributes", {"taps": True}), node(
        "block0.conv", "its taps is True; it must be an integer in 1..64")),
    (put("row", "block0.conv", "attributes", {"taps": 3}), node("block0.conv", "it has 4 taps, the model needs 3")),
    (put("row", "block0.silu", "attributes", {"function": "tan"}), node(
        "block0.silu", "its function is tan; it must be one of silu, softplus, sigmoid")),
    (put("row", "block0.dt", "attributes", {}), node("block0.dt", "its relu is True, but the node's function is None")),
    (put("row", "pool", "attributes", {"mean": 1}), node("pool", "its mean is 1; it must be a bool")),
    (put("row", "pool", "attributes", {"mean": True, "x": 1}), node("pool", "a Pool has no attribute 'x'")),
    (put("model", "image", [4, 8, 3]), "graph: its tokens at the input are 4, but the configuration says 8"),
    (put("model", "pool", "none"), "graph: its pool are True, but the configuration says False"),
    (put("nodes", "block0.x", [1]), node("block0.x", "its operator must be a table of parameters")),
    (put("nodes", "block0.x", "colour", 1), node("block0.x", "unknown parameter 'colour'")),
    (put("nodes", "block0.x", "shift", "7"), node("block0.x", "shift must be of type int, not '7'")),
    (put("nodes", "block0.x", "shift", 7.0), node("block0.x", "shift must be of type int, not 7.0")),
    (put("nodes", "block0.x", "shift", True), node("block0.x", "shift must be of type int, not True")),
    (put("nodes", "block0.x", "shift", 63),
     node("block0.x", "shift = 63 is out of range; a requantization shift must lie in −40..62")),
    (put("nodes", "block0.x", "relu", 1), node("block0.x", "relu must be of type bool, not 1")),
    (put("nodes", "block0.x", "rounding", "up"),
     node("block0.x", "rounding must be one of half_up, half_even, truncate, not 'up'")),
    (put("nodes", "block0.x", "rounding", []), node("block0.x", "rounding must be one of half_up, half_even, truncate, not []")),
    (put("nodes", "block0.x", "o", 8), node("block0.x", f"o {FORMAT_KEYS}")),
    (put("nodes", "block0.x", "o", {"bits": 8}), node("block0.x", f"o {FORMAT_KEYS}")),
    (put("nodes", "block0.x", "o", "bits", 8.0), node("block0.x", "o.bits must be of type int, not 8.0")),
    (put("nodes", "block0.x", "o", "signed", 1), node("block0.x", "o.signed must be of type bool, not 1")),
    (put("nodes", "block0.x", "o", "bits", 0), node("block0.x", "an integer format must have 1 to 62 bits, not 0")),
    (put("nodes", "block0.x", "o", "bits", 63), node("block0.x", "an integer format must have 1 to 62 bits, not 63")),
    (put("nodes", "block0.x", "o", "frac", 65),
     node("block0.x", "frac = 65 of an integer format is out of range; it must lie in −64..64")),
    (put("nodes", "block0.x", "o", "frac", -65),
     node("block0.x", "frac = -65 of an integer format is out of range; it must lie in −64..64")),
    (put("nodes", "block0.x", "o", "bits", 7),
     node("block0.conv", "the format of the convolution input is INT7·2^-{x}, but the node needs INT8·2^-{x}")),
    (put("nodes", "pool", "channels", 7), node("pool", "it has 7 channels, the model needs 6")),
    (put("nodes", "block0.silu", "segments", "knots", "1"),
     node("block0.silu", "segments.knots must be a list of integers below 2^48")),
    (put("nodes", "block0.silu", "segments", "knots", [1, 2.5]),
     node("block0.silu", "segments.knots must be a list of integers below 2^48")),
    (put("nodes", "block0.silu", "segments", "offsets", 0, 1 << 48),
     node("block0.silu", "segments.offsets must be a list of integers below 2^48")),
    (put("nodes", "block0.silu", "segments", None), node(
        "block0.silu", "segments must be a table with the keys i, knots, o, offsets, rounding, shift, slopes")),
    (lambda m: row(m, "block0.silu")["operator"].pop("segments"), node(
        "block0.silu", "the activation must have either segments or entries")),
    (lambda m: row(m, "block0.x")["operator"].pop("shift"), node(
        "block0.x", "its parameters do not make a Linear (Linear.__init__() missing 1 required keyword-only argument: 'shift')")),
    (put("nodes", "pool", "tokens", 0), node("pool", "tokens = 0 is out of range; a mean is possible over 1..1048576 tokens")),
    (put("model", []), "model: the whole: Input should be a valid dictionary or instance of ModelConfig"),
    (put("model", "colour", 1), "model: colour: unknown key"),
    (put("model", "patch", [3, 2]), "model: the whole: an image of 4×4 does not divide into patches of 3×2"),
    (lambda m: row(m, "block0.norm").update(kind="LayerNorm", attributes={"epsilon": 0.5}), node(
        "block0.norm",
        "its parameters do not make a LayerNorm (LayerNorm.__init__() missing 1 required keyword-only argument: 'epsilon')")),
    (put("nodes", "block0.norm", "epsilon", 1), node("block0.norm", "unknown parameter 'epsilon'")),
    (put("codec", []), "codec: must be a table with the keys mean, std, scale, offset"),
    (put("codec", "gain", [1]), "codec: must be a table with the keys mean, std, scale, offset"),
    (put("codec", "mean", [0.0] * 11), "codec.mean: must be a list of 12 finite numbers"),
    (put("codec", "mean", None), "codec.mean: must be a list of 12 finite numbers"),
    (put("codec", "mean", 3, "0"), "codec.mean: must be a list of 12 finite numbers"),
    (put("codec", "mean", 3, True), "codec.mean: must be a list of 12 finite numbers"),
    (put("codec", "mean", 3, float("nan")), "codec.mean: must be a list of 12 finite numbers"),
    (put("codec", "scale", 0, float("inf")), "codec.scale: must be a list of 7 finite numbers"),
    (put("codec", "offset", None), "codec.offset: must be a list of 7 finite numbers"),
    (put("codec", "std", 0, 0), "codec.std: must be a list of 12 finite numbers above 0"),
    (put("codec", "std", 0, -1.0), "codec.std: must be a list of 12 finite numbers above 0"),
]


@pytest.mark.parametrize("edit, sentence", MANIFESTS, ids=range(len(MANIFESTS)))
def test_signed_manifests_that_are_wrong(folder, edit, sentence):
    x = load(folder).operators["block0.x"].o.frac
    change(folder, edit)
    with refuses(f"{folder}/manifest.json: {sentence.replace('{x}', str(x))}"):
        load(folder)


def pop(key):
    return lambda arrays: arrays.pop(key)


def put_array(key, value):
    return lambda arrays: arrays.update({key: value})


ARRAYS = [
    (put_array("block0.x.colour", np.zeros(2, np.int8)), "weights.safetensors has an array 'block0.x.colour' that no node reads"),
    (put_array("pool.weight", np.zeros(2, np.int8)), "weights.safetensors has an array 'pool.weight' that no node reads"),
    (pop("block0.x.weight"), node("block0.x", "its parameters do not make a Linear (Linear.__init__() missing 1 required "
                                              "keyword-only argument: 'weight')")),
    (put_array("block0.x.weight", np.zeros(12, np.int8)), node("block0.x", "weight has 1 dimensions, but the node needs 2")),
    (put_array("block0.x.weight", np.zeros((12, 7), np.int8)),
     node("block0.x", "the width of the linear input is 6, but the node needs 7")),
    (put_array("block0.x.bias", np.zeros(11, np.int8)), node("block0.x", "the shape of bias is (11,), but the node needs (12,)")),
    (put_array("block0.x.weight", np.full((12, 6), 128, np.int16)),
     node("block0.x", "weight holds 128, outside -128..127 of its format {w}")),
    (put_array("block0.y.A", np.ones((12, 8), np.int8)),
     node("block0.y", "A holds a positive value, so the state would grow without bound; A must be ≤ 0")),
    (put_array("block0.y.A", -np.ones((12, 9), np.int8)),
     node("block0.y", "the width of the B input is 8, but the node needs 9")),
    (put_array("block0.silu.entries", np.zeros(256, np.int8)),
     node("block0.silu", "the activation must have either segments or entries")),
]


@pytest.mark.parametrize("edit, sentence", ARRAYS, ids=range(len(ARRAYS)))
def test_signed_arrays_that_are_wrong(folder, edit, sentence):
    w = str(load(folder).operators["block0.x"].w)
    change_arrays(folder, edit)
    with refuses(f"{folder}/manifest.json: {sentence.replace('{w}', w)}"):
        load(folder)


@pytest.mark.parametrize("header", [
    b"x" * 42, json.dumps({"a": {"dtype": "a" * 5000, "shape": [], "data_offsets": [0, 0]}}).encode()])
def test_signed_file_that_is_not_safetensors(folder, header):
    """The library's message quotes the file, which may be long."""
    content = len(header).to_bytes(8, "little") + header
    (folder / "weights.safetensors").write_bytes(content)
    change(folder, put("files", "weights.safetensors", hashlib.sha256(content).hexdigest()))
    start = re.escape(f"{folder}/weights.safetensors is not a safetensors file (")
    with pytest.raises(EmambaError, match=rf"^{start}.{{,201}}\)$"):
        load(folder)


@pytest.mark.parametrize("files", [[], None, {}, {"weights.safetensors": 3}])
def test_hashes_of_another_type(folder, files):
    change(folder, put("files", files))
    with pytest.raises(EmambaError, match=r"weights\.safetensors is truncated or was altered"):
        load(folder)


def test_float_weights_of_another_model_are_refused_by_the_float_executor(folder):
    change_arrays(folder, lambda arrays: arrays.pop("head.bias"), "float.safetensors")
    artifact = load(folder)
    with refuses("the checkpoint has no tensor 'head.bias' of shape [7]: it is not a checkpoint of this model"):
        make_executor(artifact, "float")


# -- any damage ---------------------------------------------------------------------------------------------------------------


def leaves(value, path=()):
    """Paths of every value below `value`, tables and lists included."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from leaves(part, (*path, key))


OTHERS = [None, True, False, 0, 1, -1, -7, 3, 1 << 31, -(1 << 63), (1 << 63) - 1, 1 << 64, 0.5, -1e308, "", "x", "half_up", [],
          [1], [[]], {}, {"bits": 8, "signed": True, "frac": 0}, {"bits": 62, "signed": True, "frac": -64}]
UNBOUNDED = ("blocks",)
"""Sizes that a manifest may name without a limit: a huge one fills the memory before anything else is checked."""


def mutations(original: Path):
    rng = np.random.default_rng(0)
    manifest = json.loads((original / "manifest.json").read_text())
    paths = [path for path in leaves(manifest) if path[0] not in ("digest", "record") and path[-1] not in UNBOUNDED]
    nodes = [path for path in paths if path[0] in ("graph", "model", "codec") and len(path) < 7]
    for k in range(300):
        mutated = copy.deepcopy(manifest)
        for _ in range(int(rng.integers(1, 3))):
            path = nodes[rng.integers(len(nodes))] if k % 4 else paths[rng.integers(len(paths))]
            value = OTHERS[rng.integers(len(OTHERS))]
            place = mutated
            try:
                for key in path[:-1]:
                    place = place[key]
                place[path[-1]] = value
            except (TypeError, KeyError, IndexError):
                continue  # an earlier mutation took the place away
        yield mutated


def test_no_mutation_is_anything_but_refused_or_loaded(original, tmp_path):
    folder = Path(shutil.copytree(original, tmp_path / "m"))
    loaded = refused = 0
    for mutated in mutations(original):
        (folder / "manifest.json").write_text(json.dumps(sign(mutated)))
        try:
            load(folder)
            loaded += 1
        except EmambaError as error:
            refused += 1
            assert str(folder) in str(error) and "\n" not in str(error)
    assert loaded + refused == 300 and loaded > 5 and refused > 200


def test_the_operators_of_the_original_work(original):
    artifact = load(original)
    kinds = {type(operator).__name__ for operator in artifact.operators.values()}
    assert kinds == {"Input", "Linear", "RangeNorm", "Conv1d", "Scan", "Activation", "Multiply", "Add", "Pool"} <= set(OPERATORS)
    assert IntegerModel(artifact).answer(np.zeros((1, 4, 12), np.int64)).shape == (1, 1, 7)


GAPS = {
    "data is no table": put("data", 3),
    "record is no table": put("record", 3),
    "name is no text": put("name", [3]),
    "half a character": put("name", "\ud800"),
    "a name of two lines": put("name", "a\nb"),
    "a data set's name that is no text": put("data", "name", ["mars"]),
    "a data set's name that is a table": put("data", "name", {}),
    "a data set's name that is a number": put("data", "name", 3),
    "a data set's name that is too long": put("data", "name", "x" * 4000),
    "a unit of nothing": put("data", "unit_scale", 0),
    "another key of the data set": put("data", "path", "/etc"),
    "a golden value beyond its format": put("record", "golden", [[[10**30] * 12] * 4]),
    "golden sequences of another shape": put("record", "golden", [[[0] * 11] * 4]),
    "too many golden sequences": put("record", "golden", [[[0] * 12] * 4] * 65),
    "a record that is too large": put("record", "x", [0] * (1 << 18)),
    "a record that is too deep": put("record", "x", json.loads("[" * 40 + "]" * 40)),
    "a training that is no table": put("record", "training", 3),
    "a recipe that is no table": put("record", "training", {"recipe": {"train": 3}}),
    "a certificate that is no table": put("record", "certificate", [1]),
    "half a character in the record": put("record", "x", ["\udfff"]),
    "no slopes": put("nodes", "block0.silu", "segments", "slopes", []),
    "no knots": put("nodes", "block0.silu", "segments", "knots", []),
    "more offsets": lambda m: row(m, "block0.y")["operator"]["decay"]["offsets"].append(0),
    "knots that do not ascend": lambda m: row(m, "block0.silu")["operator"]["segments"]["knots"].reverse(),
    "segments with a huge shift": put("nodes", "block0.silu", "segments", "shift", 1 << 40),
    "segments with a negative shift": put("nodes", "block0.silu", "segments", "shift", -1),
    "a pool over other tokens": put("nodes", "pool", "tokens", 3),
    "a pool of another kind": put("nodes", "pool", "mean", False),
    "accumulators beyond 64 bits": lambda m: [row(m, "embed")["operator"]["i"].update(bits=62),
                                              row(m, "input")["operator"]["o"].update(bits=62)],
}
ARRAY_GAPS = {
    "a convolution of other taps": put_array("block0.conv.weight", np.ones((12, 5), np.int8)),
    "a convolution without taps": put_array("block0.conv.weight", np.ones((12, 0), np.int8)),
    "weights that are no integers": put_array("block0.x.weight", np.full((12, 6), 0.5)),
}


@pytest.mark.parametrize("what", [*GAPS, *ARRAY_GAPS])
def test_what_no_digest_would_catch(folder, what):
    if what in GAPS:
        change(folder, GAPS[what])
    else:
        change_arrays(folder, ARRAY_GAPS[what])
    with pytest.raises(EmambaError):
        load(folder)
