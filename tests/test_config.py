"""TOML configurations: every fault is one sentence that points at the key."""

import json
import re
from pathlib import Path

import pytest

from emamba.base.errors import EmambaError
from emamba.base.formats import Rounding
from emamba.config import ModelConfig, QuantizeConfig, Recipe, load_toml, validate
from flow import cli
from flow.cli.meanings import MEANINGS
from flow.cli.words import SCHEMAS

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[1]
IMAGE = {"input": "image", "image": [8, 8, 5], "patch": [2, 2]}
SEQUENCE = {"input": "sequence", "features": 3, "length": 6}
TOKENS = {"input": "tokens", "vocabulary": 7, "length": 6}
REST = {"d_model": 4, "dt_rank": 2, "blocks": 1, "task": "regression", "outputs": 3}


def toml(value) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)


def recipe(path, model, data="name = 'mars'", train="epochs = 2"):
    lines = [f"{key} = {toml(value)}" for key, value in model.items()]
    path.write_text("\n".join(["[data]", data, "[model]", *lines, "[train]", train]), encoding="utf-8")
    return path


def refuses(sentence):
    return pytest.raises(EmambaError, match=f"^{re.escape(sentence)}$")


@pytest.mark.parametrize("shape", [IMAGE, SEQUENCE, TOKENS], ids=lambda s: s["input"])
def test_good_recipes(tmp_path, shape):
    read = load_toml(Recipe, recipe(tmp_path / "r.toml", shape | REST))
    assert read.model == ModelConfig(**shape | REST)
    assert (read.train.epochs, read.train.batch, read.data.split) == (2, 128, None)
    sizes = {"image": (16, 20), "sequence": (6, 3), "tokens": (6, 1)}
    assert (read.model.tokens, read.model.input_width) == sizes[shape["input"]]
    assert read.model.d_inner == 8 and read.model.form == "emamba"


@pytest.mark.parametrize("path", sorted((ROOT / "models" / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_read(path):
    assert path.stem.startswith(load_toml(Recipe, path).data.name)


WITHOUT = object()
BAD = [
    (SEQUENCE, {"d_modell": 4}, "model.d_modell: unknown key"),
    (SEQUENCE, {"d_model": WITHOUT}, "model.d_model: Field required"),
    (SEQUENCE, {"task": WITHOUT}, "model.task: Field required"),
    (SEQUENCE, {"d_model": "four"}, "model.d_model: Input should be a valid integer, unable to parse string as an integer"),
    (SEQUENCE, {"d_model": 4.5}, "model.d_model: Input should be a valid integer, got a number with a fractional part"),
    (SEQUENCE, {"d_model": [4]}, "model.d_model: Input should be a valid integer"),
    (SEQUENCE, {"residual": "perhaps"}, "model.residual: Input should be a valid boolean, unable to interpret input"),
    (SEQUENCE, {"norm": "batch"}, "model.norm: Input should be 'range', 'layer', 'rms' or 'none'"),
    (SEQUENCE, {"form": "mamba-2"}, "model.form: String should match pattern '^[A-Za-z]\\w{0,39}$'"),
    (SEQUENCE, {"pool": "max"}, "model.pool: Input should be 'mean', 'gated', 'last' or 'none'"),
    (SEQUENCE, {"input": "audio"}, "model.input: Input should be 'image', 'sequence' or 'tokens'"),
    (SEQUENCE, {"task": "clustering"}, "model.task: Input should be 'classification', 'regression' or 'next_token'"),
    *[(SEQUENCE, {key: 0}, f"model.{key}: Input should be greater than or equal to 1")
      for key in ("features", "length", "d_model", "expand", "d_state", "dt_rank", "d_conv", "blocks", "outputs")],
    (SEQUENCE, {"attention": 3, "blocks": 2}, "model: attention = 3 reaches none of 2 blocks"),
    (SEQUENCE, {"attention": 1, "d_model": 4, "attention_heads": 3},
     "model: d_model = 4 does not divide into 3 heads of attention"),
    (SEQUENCE, {"attention_causal": True}, "model: attention_heads and attention_causal need the key 'attention'"),
    (SEQUENCE, {"form": "vit", "attention": 1},
     "model: form = 'vit' has attention in every block: leave out the key 'attention'"),
    (SEQUENCE, {"form": "vit", "head_dim": 2}, "model: the key 'head_dim' does not belong to form = 'vit'"),
    (TOKENS, {"vocabulary": 1}, "model.vocabulary: Input should be greater than or equal to 2"),
    (IMAGE, {"image": [8, 8]}, "model.image.2: Field required"),
    (IMAGE, {"patch": [2, 2, 2]}, "model.patch: Tuple should have at most 2 items after validation, not 3"),
    (IMAGE, {"image": WITHOUT}, "model: input = 'image' needs the key 'image'"),
    (IMAGE, {"patch": WITHOUT}, "model: input = 'image' needs the key 'patch'"),
    (SEQUENCE, {"features": WITHOUT}, "model: input = 'sequence' needs the key 'features'"),
    (SEQUENCE, {"length": WITHOUT}, "model: input = 'sequence' needs the key 'length'"),
    (TOKENS, {"vocabulary": WITHOUT}, "model: input = 'tokens' needs the key 'vocabulary'"),
    (TOKENS, {"length": WITHOUT}, "model: input = 'tokens' needs the key 'length'"),
    (IMAGE, {"features": 3}, "model: the key 'features' does not belong to input = 'image'"),
    (IMAGE, {"length": 16}, "model: the key 'length' does not belong to input = 'image'"),
    (IMAGE, {"vocabulary": 3}, "model: the key 'vocabulary' does not belong to input = 'image'"),
    (SEQUENCE, {"overlap": 1}, "model: the key 'overlap' does not belong to input = 'sequence'"),
    (SEQUENCE, {"norm_epsilon": 1e-6}, "model: the key 'norm_epsilon' does not belong to norm = 'range'"),
    (SEQUENCE, {"norm_epsilon": 0, "norm": "rms"}, "model.norm_epsilon: Input should be greater than 0"),
    (SEQUENCE, {"norm_epsilon": 2, "norm": "rms"}, "model.norm_epsilon: Input should be less than or equal to 1"),
    (SEQUENCE, {"bias": 3}, "model.bias: Input should be a valid boolean, unable to interpret input"),
    (IMAGE, {"overlap": -1}, "model.overlap: Input should be greater than or equal to 0"),
    (SEQUENCE, {"patch": [2, 2]}, "model: the key 'patch' does not belong to input = 'sequence'"),
    (SEQUENCE, {"vocabulary": 3}, "model: the key 'vocabulary' does not belong to input = 'sequence'"),
    (TOKENS, {"features": 3}, "model: the key 'features' does not belong to input = 'tokens'"),
    (IMAGE, {"image": [8, 0, 5]}, "model: image and patch sizes must lie in 1..16384"),
    (IMAGE, {"patch": [-2, 2]}, "model: image and patch sizes must lie in 1..16384"),
    (IMAGE, {"patch": [3, 2]}, "model: an image of 8×8 does not divide into patches of 3×2"),
    (IMAGE, {"patch": [2, 16]}, "model: an image of 8×8 does not divide into patches of 2×16"),
    (TOKENS, {"task": "next_token"}, "model: task = 'next_token' predicts at every token and needs pool = 'none'"),
]


@pytest.mark.parametrize("shape, change, sentence", BAD, ids=[case[2].split(" ")[0] + str(k) for k, case in enumerate(BAD)])
def test_bad_models(tmp_path, shape, change, sentence):
    model = {key: value for key, value in (shape | REST | change).items() if value is not WITHOUT}
    path = recipe(tmp_path / "r.toml", model)
    with refuses(f"{path}: {sentence}"):
        load_toml(Recipe, path)
    key = sentence.removeprefix("model.") if sentence.startswith("model.") else sentence.replace("model", "the whole", 1)
    with refuses(f"model: {key}"):
        validate(ModelConfig, model, "model")


@pytest.mark.parametrize("data, train, sentence", [
    ("split = 'x'", "", "data.name: Field required"),
    ("name = 3", "", "data.name: Input should be a valid string"),
    ("name = 'mars'\nfolder = 'x'", "", "data.folder: unknown key"),
    ("name = 'mars'", "epochs = 0", "the whole: train.epochs must be 1 or more where there are no train.stages"),
    ("name = 'mars'", "batch = 0", "train.batch: Input should be greater than or equal to 1"),
    ("name = 'mars'", "peak_lr = 0.0", "train.peak_lr: Input should be greater than 0"),
    ("name = 'mars'", "peak_lr = 'fast'", "train.peak_lr: Input should be a valid number, unable to parse string as a number"),
    ("name = 'mars'", "weight_decay = -1", "train.weight_decay: Input should be greater than or equal to 0"),
    ("name = 'mars'", "seed = 1.5", "train.seed: Input should be a valid integer, got a number with a fractional part"),
    ("name = 'mars'", "noise_bits = 1", "train.noise_bits: Input should be greater than or equal to 2"),
    ("name = 'mars'", "noise_bits = 17", "train.noise_bits: Input should be less than or equal to 16"),
    ("name = 'mars'", "optimizer = 'sgd'", "train.optimizer: unknown key"),
    ("name = 'mars'", "dropout = 1.0", "train.dropout: Input should be less than 1"),
    ("name = 'mars'", "label_smoothing = -0.1", "train.label_smoothing: Input should be greater than or equal to 0"),
    ("name = 'mars'", "shift = -1", "train.shift: Input should be greater than or equal to 0"),
    ("name = 'mars'", "cutout = 1.5", "train.cutout: Input should be a valid integer, got a number with a fractional part"),
    ("name = 'mars'", "flip = 2", "train.flip: Input should be a valid boolean, unable to interpret input"),
    ("name = 'mars'", "flip = true", "the whole: train.flip and thin are for images, not for input = 'sequence'"),
    ("name = 'mars'", "mix = 0.6", "train.mix: Input should be less than or equal to 0.5"),
    ("name = 'mars'", "thin = 1.0", "train.thin: Input should be less than 1"),
    ("name = 'mars'", "thin = 0.1", "the whole: train.flip and thin are for images, not for input = 'sequence'"),
    ("name = 'mars'", "jitter = -0.1", "train.jitter: Input should be greater than or equal to 0"),
    ("name = 'mars'", "recut = true", "the whole: train.recut is for task = 'next_token', not for 'regression'"),
    ("name = 'mars'", "label_smoothing = 0.1",
     "the whole: train.label_smoothing is for classes and tokens, not for task = 'regression'"),
])
def test_bad_data_and_training(tmp_path, data, train, sentence):
    path = recipe(tmp_path / "r.toml", SEQUENCE | REST, data, train)
    with refuses(f"{path}: {sentence}"):
        load_toml(Recipe, path)


@pytest.mark.parametrize("train", ["jitter = 0.1", "shift = 1", "cutout = 1", "mix = 0.1"])
def test_noise_of_tokens(tmp_path, train):
    path = recipe(tmp_path / "r.toml", TOKENS | REST | {"pool": "none", "task": "next_token", "outputs": 7}, train=train)
    with refuses(f"{path}: the whole: train.shift, cutout, jitter and mix are for images and sequences of numbers, not for "
                 "input = 'tokens'"):
        load_toml(Recipe, path)


@pytest.mark.parametrize("train", ["scale = 0.1", "mask = 0.1"])
def test_what_only_sequences_have(tmp_path, train):
    path = recipe(tmp_path / "r.toml", IMAGE | REST, train=train)
    with refuses(f"{path}: the whole: train.scale and mask are for sequences of numbers, not for input = 'image'"):
        load_toml(Recipe, path)


def test_shifted_sequences(tmp_path):
    path = recipe(tmp_path / "r.toml", SEQUENCE | REST, train=f"shift = {SEQUENCE['length']}")
    with refuses(f"{path}: the whole: train.shift and cutout must be below the sequence's {SEQUENCE['length']} tokens"):
        load_toml(Recipe, path)
    path = recipe(tmp_path / "r.toml", SEQUENCE | REST | {"pool": "none"}, train="cutout = 1")
    with refuses(f"{path}: the whole: train.shift and cutout move what targets of every token belong to: leave them out for "
                 "pool = 'none'"):
        load_toml(Recipe, path)


@pytest.mark.parametrize("train", ["shift = 8", "cutout = 8", "flip = true\nshift = 20"])
def test_more_than_an_image(tmp_path, train):
    path = recipe(tmp_path / "r.toml", IMAGE | REST, train=train)
    with refuses(f"{path}: the whole: train.shift and cutout must be below the image's smaller side of 8 pixels"):
        load_toml(Recipe, path)
    assert load_toml(Recipe, recipe(path, IMAGE | REST, train="shift = 7\ncutout = 7")).train.varies


def test_unknown_and_missing_tables(tmp_path):
    path = recipe(tmp_path / "r.toml", SEQUENCE | REST)
    text = path.read_text()
    path.write_text(text + "\n[quantize]\nrounding = 'truncate'\n")
    with refuses(f"{path}: quantize: unknown key"):
        load_toml(Recipe, path)
    path.write_text(text.replace("[model]", "[train.model]"))
    with refuses(f"{path}: model: Field required"):
        load_toml(Recipe, path)
    path.write_text("model = 3\n[data]\nname = 'mars'\n")
    with refuses(f"{path}: model: Input should be a valid dictionary or instance of ModelConfig"):
        load_toml(Recipe, path)
    with refuses("here: the whole: Input should be a valid dictionary or instance of ModelConfig"):
        validate(ModelConfig, [1], "here")


def test_files_that_are_missing_or_not_toml(tmp_path):
    path = tmp_path / "r.toml"
    with refuses(f"cannot read the configuration {path}: No such file or directory"):
        load_toml(Recipe, path)
    with refuses(f"cannot read the configuration {tmp_path}: Is a directory"):
        load_toml(Recipe, tmp_path)
    path.write_text("[model\n")
    with pytest.raises(EmambaError, match=f"^{re.escape(f'{path} is not valid TOML: ')}.*line 1"):
        load_toml(Recipe, path)
    path.write_bytes(b"name = '\xff'\n")
    with pytest.raises(EmambaError, match=f"^{re.escape(f'{path} is not valid TOML: ')}.*can't decode byte 0xff"):
        load_toml(Recipe, path)


LIMITS = {"activation_bits": (2, 16), "residual_bits": (2, 16), "output_bits": (2, 24), "weight_bits": (2, 12), "a_bits": (4, 12),
          "decay_bits": (4, 16), "state_bits": (8, 40), "silu_segments": (1, 64), "exp_segments": (1, 64),
          "softplus_segments": (1, 64), "sigmoid_segments": (1, 64)}


@pytest.mark.parametrize("key", LIMITS)
def test_quantization_limits(key):
    low, high = LIMITS[key]
    for value in (low, high):
        assert getattr(validate(QuantizeConfig, {key: value}, "q"), key) == value
    with refuses(f"q: {key}: Input should be greater than or equal to {low}"):
        validate(QuantizeConfig, {key: low - 1}, "q")
    with refuses(f"q: {key}: Input should be less than or equal to {high}"):
        validate(QuantizeConfig, {key: high + 1}, "q")


@pytest.mark.parametrize("settings, sentence", [
    ({"frames": 0}, "frames: Input should be greater than or equal to 1"),
    ({"rounding": "up"}, "rounding: Input should be 'half_up', 'half_even' or 'truncate'"),
    ({"rule": "taylor"}, "rule: Input should be 'minimax', 'chord', 'authors', 'least_squares' or 'exact'"),
    ({"input_term": "u"}, "input_term: Input should be 'delta_u' or 'delta_b'"),
    ({"state_scale": "guess"}, "state_scale: Input should be 'certificate' or 'calibrated'"),
    ({"weight_scale": "float"}, "weight_scale: Input should be 'power_of_two' or 'dyadic'"),
    ({"bits": {"block*.z": "wide"}}, "bits.block*.z: Input should be a valid integer, unable to parse string as an integer"),
    ({"bits": 8}, "bits: Input should be a valid dictionary"),
    ({"weightbits": 8}, "weightbits: unknown key"),
])
def test_bad_quantization_settings(tmp_path, settings, sentence):
    with refuses(f"q: {sentence}"):
        validate(QuantizeConfig, settings, "q")


def test_quantization_settings_of_a_file(tmp_path):
    path = tmp_path / "q.toml"
    path.write_text("residual_bits = 8\nrounding = 'half_even'\n[bits]\n'block*.z' = 6\n")
    settings = load_toml(QuantizeConfig, path)
    assert (settings.residual_bits, settings.rounding, settings.bits) == (8, Rounding.HALF_EVEN, {"block*.z": 6})
    assert settings.weight_bits == 8


def test_configurations_do_not_change():
    config = ModelConfig(**SEQUENCE | REST)
    with pytest.raises(ValueError, match="frozen"):
        config.d_model = 5


def test_every_key_of_a_schema_says_what_it_means(capsys):
    named = {}
    for kind in SCHEMAS:
        assert cli.main(["schema", kind]) == 0
        schema = json.loads(capsys.readouterr().out)
        for name, part in {**schema.get("$defs", {}), schema["title"]: schema}.items():
            named.setdefault(name, set()).update(part.get("properties", {}))
            assert all(key.get("description") for key in part.get("properties", {}).values()), name
    assert all(set(keys) <= named[name] for name, keys in MEANINGS.items())
