"""Models of mamba_ssm and transformers: the same function, both layouts, the RTL, and one sentence for all that is refused."""

import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign import Backbone, Config, LanguageModel, Settings, randomize
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import nn

import emamba
from emamba.api import read_model_files
from emamba.artifact import Codec, load
from emamba.base.errors import EmambaError
from emamba.config import ModelConfig, QuantizeConfig, TrainConfig
from emamba.graph import build_graph
from emamba.importers.mamba1 import KEYS
from emamba.importers.settings import SAME_RESULT
from emamba.importers.translate import translate
from emamba.quantization.quantize import read_checkpoint
from emamba.run.integer import IntegerModel, answers
from emamba.run.reference import Reference
from emamba.training.network import Network
from emamba.training.range_norms import exchange_norms, fitted
from flow import cli
from sim.executor import RtlExecutor

CHECKPOINTS = Path(__file__).parent / "checkpoints"
"""Saved by transformers itself, with its outputs: python -m benchmarks.transformers_layout tests/checkpoints."""
SAVED = sorted(path.name for path in CHECKPOINTS.iterdir())
LENGTH = 9
ENDINGS = ".safetensors, .npz, .bin, .pt, .pth, .ckpt"
pytestmark = pytest.mark.slow


def refuses(sentence: str):
    return pytest.raises(EmambaError, match=f"^{re.escape(sentence).replace('…', '.*')}$")


def make_ids(vocabulary: int, count: int = 20, length: int = LENGTH, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, vocabulary, (count, length))


def tensors_of(settings: Settings | Config) -> dict[str, torch.Tensor]:
    return dict(randomize(LanguageModel(settings)).state_dict())


def settings_of(settings: Settings | Config) -> dict:
    return settings.to_dict() if isinstance(settings, Config) else asdict(settings)


def write(folder: Path, settings: Settings | Config, tied: bool = False) -> Path:
    """A checkpoint folder as both packages save it: a tied head is not written twice."""
    tensors = {name: value.clone() for name, value in tensors_of(settings).items() if not (tied and name == "lm_head.weight")}
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(settings_of(settings)))
    return folder


def outputs(model, ids: np.ndarray) -> np.ndarray:
    return Reference(build_graph(model.config), model.weights).answer(ids[..., None])


# -- the same function --------------------------------------------------------------------------------------------------------

ODD = {"d_state": 3, "dt_rank": 7, "d_conv": 2, "expand": 3, "bias": True, "conv_bias": False}
MODELS = {
    "mamba_ssm": Settings(),
    "mamba_ssm-untied": Settings(tie_embeddings=False, pad_vocab_size_multiple=1),
    "mamba_ssm-layer-norm": Settings(d_model=5, n_layer=1, rms_norm=False, ssm_cfg={}),
    "mamba_ssm-mlp": Settings(d_model=7, d_intermediate=100),
    "mamba_ssm-odd": Settings(d_model=6, n_layer=3, ssm_cfg={"layer": "Mamba1", **ODD}),
    "transformers": Config(),
    "transformers-untied": Config(tie_word_embeddings=False, layer_norm_epsilon=0.02),
    "transformers-odd": Config(hidden_size=33, num_hidden_layers=1, state_size=1, conv_kernel=1, expand=1, use_bias=True,
                               use_conv_bias=False, layer_norm_epsilon=1e-6),
    "transformers-inner": Config(hidden_size=17, expand=1.5),
}


@pytest.mark.parametrize("name", SAVED)
def test_float_outputs_are_those_of_transformers(name):
    known = load_file(CHECKPOINTS / name / "outputs.safetensors")
    model = read_model_files(CHECKPOINTS / name, known["ids"].shape[1])
    assert np.abs(outputs(model, known["ids"]) - known["logits"]).max() < 1e-4 < np.abs(known["logits"]).max()


@pytest.mark.parametrize("name", MODELS)
def test_float_outputs_are_those_of_the_equations(name, tmp_path):
    settings, module = MODELS[name], randomize(LanguageModel(MODELS[name]))
    model = read_model_files(write(tmp_path / "m", settings, tied=settings.shape().tied), LENGTH)
    ids = make_ids(model.config.vocabulary)
    with torch.no_grad():
        expected = module(torch.from_numpy(ids)).logits.numpy()
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(outputs(model, ids), expected, atol=2e-5)


def test_sizes_and_notes(tmp_path):
    def told(settings):
        model = translate(tensors_of(settings), settings_of(settings), LENGTH, "here")
        return model.config, model.notes

    config, notes = told(MODELS["mamba_ssm"])
    assert (config.form, config.norm, config.task, config.pool) == ("standard", "rms", "next_token", "none")
    assert (config.dt_rank, config.d_inner, config.vocabulary, config.outputs, config.length) == (2, 34, 24, 24, LENGTH)
    assert config.norm_epsilon == 1e-5 and config.bias is None
    assert notes == (
        "mamba_ssm: 23 tensors, all taken over; 2 blocks, d_model 17, d_inner 34, d_state 5, dt_rank 2, d_conv 4, vocabulary 24",
        "norms: RMSNorm with an epsilon of 1e-05, kept",
        "in_proj became x and z; x_proj became dt_low, B and C",
        "the head is the embedding, tied",
        "the vocabulary of 23 was padded to 24 before the training; all are kept",
        "fused_add_norm, residual_in_fp32: another way to the same result, not needed here",
    )
    config, notes = told(MODELS["mamba_ssm-layer-norm"])
    assert config.norm == "layer" and notes[1] == "norms: LayerNorm with an epsilon of 1e-05, kept"
    config, notes = told(MODELS["transformers-odd"])
    assert (config.norm_epsilon, config.dt_rank, config.expand, config.bias) == (1e-6, 3, 1, True)
    assert notes[4:6] == ("conv1d has no bias: 0 takes its place, which is the same", "in_proj and out_proj have biases, kept")
    assert told(MODELS["transformers-untied"])[1][3] == "the head is lm_head, not tied"
    tensors = {name: value.double() for name, value in tensors_of(Settings()).items()}
    assert translate(tensors, None, 2, "here").notes[-1] == "float64 tensors were rounded to float32"


def test_without_settings_the_tensors_of_mamba_ssm_tell_every_size():
    for name in ("mamba_ssm", "mamba_ssm-untied", "mamba_ssm-layer-norm", "mamba_ssm-odd"):
        tensors = tensors_of(MODELS[name])
        with_settings = translate(tensors, settings_of(MODELS[name]), LENGTH, "here")
        without = translate(tensors, None, LENGTH, "here")
        assert without.config == with_settings.config
        assert all(np.array_equal(value, without.weights[key]) for key, value in with_settings.weights.items())


# -- files --------------------------------------------------------------------------------------------------------------------


def test_files_of_every_kind_hold_the_same(tmp_path):
    tensors = {name: value.clone() for name, value in tensors_of(Config()).items() if name != "lm_head.weight"}
    folder = write(tmp_path / "whole", Config(), tied=True)
    expected = read_model_files(folder, LENGTH)
    assert read_model_files(folder / "model.safetensors", LENGTH).config == expected.config
    names = sorted(tensors)
    for kind, ending, save in (("torch", "pytorch_model.bin", torch.save), ("parts", "model.safetensors", save_file),
                               ("torch-parts", "pytorch_model.bin", torch.save)):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "config.json").write_text(json.dumps(Config().to_dict()))
        if kind == "torch":
            save(tensors, tmp_path / kind / ending)
        else:
            stem, _, suffix = ending.partition(".")
            places = {name: f"{stem}-{k % 2}.{suffix}" for k, name in enumerate(names)}
            for file in set(places.values()):
                save({name: tensors[name] for name in names if places[name] == file}, tmp_path / kind / file)
            (tmp_path / kind / f"{ending}.index.json").write_text(json.dumps({"weight_map": places}))
        found = read_model_files(tmp_path / kind, LENGTH)
        assert found.config == expected.config
        assert all(np.array_equal(value, found.weights[name]) for name, value in expected.weights.items())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("ending", ["model.safetensors", "pytorch_model.bin"])
def test_other_precisions_become_float32(tmp_path, kind, ending):
    """Half precision exactly; float64 rounded once, which is said."""
    tensors = {name: value.to(kind) / 3 for name, value in tensors_of(Settings(tie_embeddings=False)).items()}
    (save_file if "safe" in ending else torch.save)(tensors, tmp_path / ending)
    model = read_model_files(tmp_path, LENGTH)
    weights = model.weights
    assert ("float64 tensors were rounded to float32" in model.notes) == (kind == torch.float64)
    first = tensors["backbone.layers.1.mixer.in_proj.weight"].float().numpy()
    assert np.array_equal(np.concatenate([weights["blocks.1.x.weight"], weights["blocks.1.z.weight"]]), first)
    assert all(value.dtype == np.float32 for value in weights.values())


class Harmful:
    def __reduce__(self):
        return print, ("code of a checkpoint ran",)


@pytest.mark.parametrize("break_it, sentence", [
    (lambda f: (f / "model.safetensors").unlink(),
     "{f} has none of model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json: name the "
     "folder or the file of a trained checkpoint"),
    (lambda f: (f / "model.safetensors").write_bytes(b"x" * 100),
     "{f}/model.safetensors is not a safetensors file (…): copy it again"),
    (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-8]),
     "{f}/model.safetensors is not a safetensors file (…): copy it again"),
    (lambda f: (f / "config.json").write_text("{"), "{f}/config.json is damaged (…): copy the checkpoint again"),
    (lambda f: (f / "config.json").write_text("[]"), "{f}/config.json is damaged (it holds no table): copy the checkpoint again"),
    (lambda f: (f / "config.json").unlink(),
     "{f} has the names of transformers but no config.json with a model_type, which says how its norms and activations are "
     "computed: put it beside the tensors"),
    (lambda f: save_file({"a": torch.ones(2, dtype=torch.int8)}, f / "model.safetensors"),
     "{f}/model.safetensors: tensor 'a' is of the type I8; only float64, float32, float16 and bfloat16 can be imported: save the "
     "weights before they were quantized"),
    (lambda f: (f / "model.safetensors").rename(f / "model.safetensors.index.json"),
     "{f}/model.safetensors.index.json is damaged (…): copy the checkpoint again"),
    (lambda f: [(f / "model.safetensors").unlink(),
                (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../a.safetensors"}}')],
     "{f}/model.safetensors.index.json: weight_map does not name files beside it: copy the checkpoint again"),
    (lambda f: [(f / "model.safetensors").rename(f / "a.safetensors"),
                (f / "model.safetensors.index.json").write_text('{"weight_map": {"b": "a.safetensors"}}')],
     "{f}/model.safetensors.index.json names a tensor 'b' that is in none of its files: copy the checkpoint again"),
    (lambda f: [(f / "model.safetensors").unlink(),
                (f / "model.safetensors.index.json").write_text('{"weight_map": {"b": "b.safetensors"}}')],
     "cannot read {f}/b.safetensors: No such file or directory"),
    (lambda f: [(f / "model.safetensors").unlink(), torch.save({"a": Harmful()}, f / "pytorch_model.bin")],
     "{f}/pytorch_model.bin does not hold plain tensors only (UnpicklingError): save the model's state_dict() as safetensors"),
    (lambda f: [(f / "model.safetensors").unlink(), torch.save([torch.ones(1)], f / "pytorch_model.bin")],
     "{f}/pytorch_model.bin holds no table of tensors: save the model's state_dict()"),
    (lambda f: [(f / "model.safetensors").unlink(), torch.save({"state_dict": {}, "epoch": 3}, f / "pytorch_model.bin")],
     "{f}/pytorch_model.bin: 'state_dict' is no tensor: save the model's state_dict() alone"),
    (lambda f: [(f / "model.safetensors").unlink(), torch.save({"a": torch.ones(1, dtype=torch.int64)}, f / "pytorch_model.bin")],
     "{f}/pytorch_model.bin: tensor 'a' is of the type int64; only float64, float32, float16 and bfloat16 can be imported: save "
     "the weights before they were quantized"),
])
def test_files_that_are_refused(tmp_path, capsys, break_it, sentence):
    folder = write(tmp_path / "m", Config(), tied=True)
    break_it(folder)
    with refuses(sentence.replace("{f}", str(folder))):
        read_model_files(folder, LENGTH)
    assert capsys.readouterr().out == ""


def test_other_files_are_refused(tmp_path):
    (tmp_path / "some.txt").touch()
    for name, what in (("some.txt", "is no file of tensors"), ("none.txt", "does not exist")):
        with refuses(f"{tmp_path}/{name} {what}: name a folder, or a file whose name ends with {ENDINGS}"):
            read_model_files(tmp_path / name, LENGTH)
    with refuses(f"cannot read {tmp_path}/none.safetensors: No such file or directory"):
        read_model_files(tmp_path / "none.safetensors", LENGTH)
    with refuses(f"cannot read {tmp_path}/none.pt: No such file or directory"):
        read_model_files(tmp_path / "none.pt", LENGTH)


# -- tensors and settings that are refused ------------------------------------------------------------------------------------

MIXER = "backbone.layers.1.mixer"
NOT_HAD = "that a Mamba-1 model with these settings does not have: what it adds to the computation cannot be imported"


def drop(name):
    return lambda tensors, settings: tensors.pop(name)


def put(name, value):
    return lambda tensors, settings: tensors.update({name: value})


def say(**changes):
    return lambda tensors, settings: settings.update(changes)


@pytest.mark.parametrize("change, sentence", [
    (drop(f"{MIXER}.D"), f"here has no tensor '{MIXER}.D' of shape [34], which the model needs"),
    (drop(f"{MIXER}.dt_proj.bias"), f"here has no tensor '{MIXER}.dt_proj.bias' of shape [34], which the model needs"),
    (drop("backbone.layers.0.mixer.A_log"),
     "here has no tensor 'backbone.layers.0.mixer.A_log', which a Mamba-1 model needs"),
    (drop("backbone.embeddings.weight"),
     "here has neither a tensor 'backbone.embedding.weight' (mamba_ssm) nor 'backbone.embeddings.weight' (transformers): it is "
     "no Mamba in a layout that is known"),
    (put(f"{MIXER}.D", torch.ones(33)), f"here: tensor '{MIXER}.D' has the shape [33], the model needs [34]"),
    (put(f"{MIXER}.conv1d.weight", torch.ones(34, 4)),
     f"here: tensor '{MIXER}.conv1d.weight' has the shape [34, 4], the model needs [34, 1, 4]"),
    (put("backbone.layers.0.mixer.A_log", torch.ones(34)),
     "here: tensor 'backbone.layers.0.mixer.A_log' has the shape [34], the model needs 2 dimensions above 0"),
    (put(f"{MIXER}.D", torch.full((34,), torch.nan)), f"here: tensor '{MIXER}.D' holds values that are not finite: train again"),
    (put(f"{MIXER}.D", torch.ones(34, dtype=torch.int32)),
     f"here: tensor '{MIXER}.D' is of the type int32; only float64, float32, float16 and bfloat16 can be imported: save the "
     "weights before they were quantized"),
    (put(f"{MIXER}.A_b_log", torch.ones(34, 5)), f"here has a tensor '{MIXER}.A_b_log' {NOT_HAD}"),
    (put("lm_head.bias", torch.ones(23)), f"here has a tensor 'lm_head.bias' {NOT_HAD}"),
    (put(f"{MIXER}.in_proj.bias", torch.ones(68)), f"here has a tensor '{MIXER}.in_proj.bias' {NOT_HAD}"),
    (put("backbone.norm_f.bias", torch.ones(17)), f"here has a tensor 'backbone.norm_f.bias' {NOT_HAD}"),
    (put(f"{MIXER}.dt_bias", torch.ones(3)), "here: model_type is 'mamba'; only 'mamba2' can be imported"),
    (put("lm_head.weight", torch.ones(23, 17)),
     "here: its settings tie the head to the embedding, but 'lm_head.weight' is not 'backbone.embeddings.weight': set "
     "tie_word_embeddings to what was trained"),
    (say(model_type="mamba2"), "here: model_type is 'mamba2'; only 'mamba' can be imported"),
    (say(model_type="falcon_mamba"), "here: model_type is 'falcon_mamba'; only 'mamba' can be imported"),
    (say(hidden_act="gelu"), "here: hidden_act is 'gelu'; only 'silu' or 'swish' can be imported"),
    (say(rms_norm=False), "here: rms_norm is False; only True can be imported"),
    (say(time_step_limit=[0.001, 0.1]), "here: time_step_limit is [0.001, 0.1]; only [0.0, inf] or None can be imported"),
    (say(attention_layers=[1]),
     "here: the setting attention_layers = [1] is unknown here, and may change what the model computes: remove it from the "
     "settings if it does not"),
    (say(expand=1.5), "here: tensor 'backbone.layers.0.mixer.in_proj.weight' has the shape [68, 17], the model needs [50, 17]"),
    (say(intermediate_size=51),
     "here: 51 channels inside a block are not expand = 2 times the 17 of d_model: make the two agree"),
    (say(d_model=18), "here: hidden_size is 17, but d_model is 18: make the two agree"),
    (say(num_hidden_layers=0), "here: num_hidden_layers must be a positive integer, not 0"),
    (say(num_hidden_layers=300), "here: blocks: Input should be less than or equal to 256"),
    (say(num_hidden_layers=3),
     "here has no tensor 'backbone.layers.2.norm.weight' of shape [17], which the model needs"),
    (say(num_hidden_layers=1), f"here has a tensor '{MIXER}.A_log' {NOT_HAD}"),
    (say(state_size="auto"), "here: state_size must be a positive integer, not 'auto'"),
    (say(time_step_rank=3),
     "here: tensor 'backbone.layers.0.mixer.x_proj.weight' has the shape [12, 34], the model needs [13, 34]"),
    (say(vocab_size=25), "here: tensor 'backbone.embeddings.weight' has the shape [23, 17], the model needs [25, 17]"),
    (say(layer_norm_epsilon=0), "here: layer_norm_epsilon must be a positive number, not 0"),
    (say(layer_norm_epsilon=True), "here: layer_norm_epsilon must be a positive number, not True"),
    (say(use_bias=1), "here: use_bias must be true or false, not 1"),
    (say(use_bias=True), "here has no tensor 'backbone.layers.0.mixer.in_proj.bias' of shape [68], which the model needs"),
    (say(use_conv_bias=False), f"here has a tensor 'backbone.layers.0.mixer.conv1d.bias' {NOT_HAD}"),
    (say(tie_word_embeddings=False), "here has no tensor 'lm_head.weight' of shape [23, 17], which the model needs"),
])
def test_models_of_transformers_that_are_refused(change, sentence):
    tensors, settings = tensors_of(Config()), Config().to_dict()
    tensors.pop("lm_head.weight")
    translate(tensors, settings, LENGTH, "here")
    change(tensors, settings)
    with refuses(sentence):
        translate(tensors, settings, LENGTH, "here")


@pytest.mark.parametrize("change, sentence", [
    (say(ssm_cfg={"d_state": 5, "layer": "Mamba2"}), "here: layer is 'Mamba2'; only 'Mamba1' can be imported"),
    (say(ssm_cfg=[3]), "here: ssm_cfg must be a table of settings"),
    (say(ssm_cfg={"d_state": 5, "headdim": 64}),
     "here: the setting headdim = 64 is unknown here, and may change what the model computes: remove it from the settings if it "
     "does not"),
    (say(attn_layer_idx=[3]), "here: attn_layer_idx is [3]; only [] can be imported"),
    (say(d_intermediate=64), "here has no tensor 'backbone.layers.0.norm2.weight' of shape [17], which the model needs"),
    (say(d_intermediate=-1), "here: d_intermediate must be a positive integer, not -1"),
    (say(rms_norm=False), "here has no tensor 'backbone.layers.0.norm.bias' of shape [17], which the model needs"),
    (say(pad_vocab_size_multiple=16),
     "here: tensor 'backbone.embedding.weight' has the shape [24, 17], the model needs [32, 17]"),
    (put("lm_head.weight", torch.ones(24, 17)),
     "here: its settings tie the head to the embedding, but 'lm_head.weight' is not 'backbone.embedding.weight': set "
     "tie_embeddings to what was trained"),
])
def test_models_of_mamba_ssm_that_are_refused(change, sentence):
    tensors, settings = tensors_of(Settings()), asdict(Settings())
    translate(tensors, settings, LENGTH, "here")
    change(tensors, settings)
    with refuses(sentence):
        translate(tensors, settings, LENGTH, "here")


def test_mlps_that_are_refused():
    settings = Settings(d_model=7, d_intermediate=100)
    with refuses("here: fused_add_norm is False beside MLPs, where versions of mamba_ssm differ in what they norm; only True can "
                 "be imported"):
        translate(tensors_of(settings), asdict(settings) | {"fused_add_norm": False}, LENGTH, "here")
    with refuses("here has a tensor 'backbone.layers.0.mlp.fc1.weight' that a Mamba-1 model with these settings does not have: "
                 "what it adds to the computation cannot be imported"):
        translate(tensors_of(settings), asdict(settings) | {"d_intermediate": 0}, LENGTH, "here")


def test_a_model_without_a_head_is_refused():
    tensors = dict(randomize(Backbone(Config())).state_dict())
    with refuses("here has no head, only the model below it: save it with its 'lm_head.weight', or give emamba.compile a head"):
        translate(tensors, Config().to_dict(), LENGTH, "here")


# -- compile ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["transformers", "mamba_ssm-layer-norm", "mamba_ssm-odd"])
def test_compile_of_a_language_model(name):
    settings, module = MODELS[name], randomize(LanguageModel(MODELS[name])).train()
    ids = make_ids(settings.shape().rows)
    artifact = emamba.compile(module, ids, name="mine", settings={"residual_bits": 10})
    assert module.training and artifact.name == "mine" and artifact.operators["block0.out"].o.bits == 10
    assert all(entry["holds"] for entry in artifact.record["certificate"].values())
    checked = artifact.record["import"]["verified"]
    assert checked["sequences"] == 2 and 0 < checked["largest_difference"] < 1e-4
    golden = np.array(artifact.record["golden"])
    assert golden.shape == (4, LENGTH, 1) and answers(artifact, golden) == artifact.record["answers"]
    model = translate(module.state_dict(), settings_of(settings), LENGTH, "here")
    assert artifact.config == model.config
    assert all(np.array_equal(value, artifact.weights[key]) for key, value in model.weights.items())


def test_layers_with_slow_dynamics_and_with_a_dead_state_are_compiled():
    """δ as of high-rate audio in the first layer, B of zeros in the second."""
    module = randomize(LanguageModel(Settings()))
    slow, dead = (layer.mixer for layer in module.backbone.layers)
    with torch.no_grad():
        slow.dt_proj.bias.copy_(torch.logspace(-5, -3, len(slow.dt_proj.bias)).expm1().log())
        slow.dt_proj.weight *= 0.1
        rank = dead.dt_proj.weight.shape[1]
        dead.x_proj.weight[rank:rank + 5] = 0.0
    artifact = emamba.compile(module, make_ids(24))
    assert artifact.operators["block0.dt"].o.frac >= 15 and not artifact.operators["block1.B"].weight.any()
    tokens = artifact.codec.encode(make_ids(24)[..., None], artifact.input)
    values, real = IntegerModel(artifact).run(tokens), Reference(artifact.graph, artifact.weights).run(make_ids(24)[..., None])
    for name, largest in (("block0.dt", 2), ("block1.B", 0)):
        op = artifact.operators[name]
        assert abs(values[name] - real[name] / op.o.step).mean() <= largest


@pytest.mark.parametrize("pool, task", [("last", "classification"), ("mean", "regression")])
@pytest.mark.parametrize("layout", [Config, Settings])
def test_compile_with_a_head_of_ones_own(layout, pool, task):
    module, head = randomize(Backbone(layout())), randomize(nn.Linear(17, 3), seed=5)
    ids = make_ids(23)
    artifact = emamba.compile(module, ids, head=head, pool=pool, task=task)
    assert (artifact.config.task, artifact.config.pool, artifact.config.outputs) == (task, pool, 3)
    with torch.no_grad():
        hidden = module(torch.from_numpy(ids))
        hidden = getattr(hidden, "last_hidden_state", hidden)
        expected = head(hidden.mean(1) if pool == "mean" else hidden[:, -1]).numpy()
    found = Reference(artifact.graph, artifact.weights).answer(ids[..., None])[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    again = emamba.compile(module, ids, head=(head.weight, head.bias), pool=pool, task=task)
    assert answers(again, np.array(again.record["golden"])) == artifact.record["answers"]


OWN = ModelConfig(form="standard", input="sequence", features=3, length=6, d_model=5, d_state=3, dt_rank=2, blocks=2, norm="rms",
                  pool="last", task="classification", outputs=4)


class Gestures(Network):
    """A module of one's own with the tensors of this project's network."""

    def __init__(self, config: ModelConfig, gain: float = 1.0):
        super().__init__(config)
        self.gain = gain

    def forward(self, x):
        return self.gain * super().forward(x)


@pytest.mark.parametrize("make", [Network, Gestures])
def test_compile_of_our_own_blocks(make):
    torch.manual_seed(3)
    module, x = make(OWN), np.random.default_rng(0).normal(2, 3, (30, 6, 3))
    codec = Codec(np.full(3, 2.0), np.full(3, 3.0), np.ones(4), np.zeros(4))
    artifact = emamba.compile(module, x, codec=codec, settings=QuantizeConfig(residual_bits=16))
    with torch.no_grad():
        expected = module(torch.from_numpy((x - 2) / 3).float()).numpy()
    found = artifact.codec.decode(IntegerModel(artifact).answer(artifact.codec.encode(x, artifact.input))[:, 0],
                                  artifact.output)
    assert np.abs(found - expected).max() < 0.2 * np.abs(expected).max()
    assert artifact.record["import"]["verified"]["largest_difference"] < 1e-5


def test_compile_of_images():
    config = ModelConfig(input="image", image=(4, 4, 1), patch=(2, 2), d_model=4, dt_rank=2, d_state=2, blocks=1,
                         task="regression", outputs=2)
    artifact = emamba.compile(Network(config), np.random.default_rng(0).normal(size=(8, 4, 4, 1)))
    assert artifact.operators["input"].channels == 4 and np.array(artifact.record["golden"]).shape == (4, 4, 4)


def test_what_compile_refuses():
    module, ids = randomize(LanguageModel(Config())), make_ids(23)
    own, x = Network(OWN), np.zeros((4, 6, 3))

    def call(sentence, *arguments, **options):
        with refuses(sentence):
            emamba.compile(*arguments, **options)

    call("the data is an array of float64 of the shape [20, 9]; the model reads token ids: integers "
         "[sequences, tokens]", module, ids * 1.0)
    call("the data is an array of int64 of the shape [9]; the model reads token ids: integers [sequences, tokens]",
         module, ids[0])
    call("the data holds the token id 23, outside 0..22 of the vocabulary", module, np.where(ids == 3, 23, ids))
    call("the data holds the token id -1, outside 0..22 of the vocabulary", module, np.where(ids == 3, -1, ids))
    call("there is no data; give at least one sequence", module, ids[:0])
    call("the LanguageModel: length: Input should be greater than or equal to 1", module, ids[:, :0])
    call("settings: residual_bit: unknown key", module, ids, settings={"residual_bit": 8})
    call("task and pool belong to a head of your own: give one, or leave them out", module, ids, task="regression")
    call("the LanguageModel has its own head 'lm_head.weight': give the model below it (its attribute backbone), or no head of "
         "your own", module, ids, head=nn.Linear(17, 2))
    call("the Backbone has no head, only the model below it: save it with its 'lm_head.weight', or give emamba.compile a head",
         module.backbone, ids)
    call("the head must be a Linear, or a tuple of its weight [outputs, d_model] and its bias or None", module.backbone, ids,
         head=nn.ReLU())
    call("the Backbone: tensor 'head.weight' has the shape [2, 16], the model needs [2, 17]", module.backbone, ids,
         head=nn.Linear(16, 2))
    call("the Network has its own head: leave head out", own, x, head=nn.Linear(5, 2))
    call("the data has inputs of 6×2, the model's sequence input is 6×3: make the two agree", own, x[..., :2])
    call("the data is an array of <U1; the model reads numbers", own, np.full((4, 6, 3), "a"))
    call("the object has no state_dict(): give a module of torch", object(), ids)
    module.config = 3
    call("the LanguageModel has a config of the type int, which is not known: give it as a table", module, ids)


def test_a_module_that_computes_something_else_is_refused():
    x = np.random.default_rng(0).normal(size=(4, 6, 3))
    with refuses("the Gestures gives outputs that differ by up to … from those of the float model made of it, more than …: its "
                 "forward computes something else"):
        emamba.compile(Gestures(OWN, gain=1.1), x)
    assert "verified" not in emamba.compile(Gestures(OWN, gain=1.1), x, verify=False).record["import"]
    module = Gestures(OWN)
    module.head = nn.Linear(5, 3)
    with refuses("the Gestures: tensor 'head.weight' has the shape [3, 5], the model needs [4, 5]"):
        emamba.compile(module, x)
    module = Gestures(OWN)
    module.more = nn.Linear(2, 2)
    with refuses("the Gestures has a tensor 'more.bias' that this model does not know"):
        emamba.compile(module, x)
    for forward, sentence in (
        (lambda x: torch.zeros(2, 7),
         "the Gestures gives outputs of the shape [2, 7], the float model made of it [2, 4]: its forward computes something "
         "else"),
        (lambda x: (x,),
         "the Gestures gives a tuple and no tensor: give verify = False to compile it without comparing its outputs"),
        (lambda x: x @ x,
         "the Gestures cannot be run to compare it (RuntimeError: …): give verify = False to compile it without that"),
    ):
        module = Gestures(OWN)
        module.forward = forward
        with refuses(sentence):
            emamba.compile(module, x)


def test_importing_is_light():
    """Neither torch nor transformers is needed to import the package, its compiler or a safetensors checkpoint."""
    code = ("import sys, emamba\nassert not {'numpy', 'torch'} & set(sys.modules)\nemamba.compile\n"
            "from emamba.api import read_model_files\n"
            f"read_model_files({str(CHECKPOINTS / SAVED[0])!r}, 4)\nassert not {{'torch', 'transformers'}} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
    with pytest.raises(AttributeError, match=r"^module 'emamba' has no attribute 'compiles'$"):
        emamba.compiles  # noqa: B018


# -- RTL ----------------------------------------------------------------------------------------------------------------------


def test_rtl_of_a_model_of_transformers_equals_the_integer_model(tmp_path):
    name, cycles = "untied", 64
    known = load_file(CHECKPOINTS / name / "outputs.safetensors")
    np.save(tmp_path / "ids.npy", known["ids"])
    words = ["import", CHECKPOINTS / name, "--calibration", tmp_path / "ids.npy", "--out", tmp_path / "a"]
    assert cli.main([str(word) for word in words]) == 0
    artifact = load(tmp_path / "a")
    tokens = artifact.codec.encode(known["ids"][:3, :, None], artifact.input)
    expected = IntegerModel(artifact).run(tokens)
    found = RtlExecutor(artifact, cycles, Path("build/native"), trace=True, fast=False).run(tokens)
    assert set(found) == set(expected) - {"input"}
    for key, values in found.items():
        np.testing.assert_array_equal(values, expected[key], err_msg=key)
    scale = np.abs(known["logits"]).max()
    assert np.abs(expected["head"] * artifact.output.step - known["logits"][:3]).max() < 0.25 * scale


# -- RangeNorm ----------------------------------------------------------------------------------------------------------------


def learnable(count: int, length: int = LENGTH, vocabulary: int = 24) -> np.ndarray:
    """Each token is the one before plus one."""
    return (np.random.default_rng(2).integers(0, vocabulary, (count, 1)) + np.arange(length)) % vocabulary


def test_norms_fitted_to_range_norm():
    """Of all weights and biases per channel those that come closest: any other is farther from the old norm's outputs."""
    model = translate(tensors_of(Settings()), asdict(Settings()), LENGTH, "here")
    ids = learnable(10)
    new = fitted(model, ids)
    assert new.config == ModelConfig(**model.config.model_dump() | {"norm": "range"})
    assert set(new.weights) - set(model.weights) == {"blocks.0.norm.bias", "blocks.1.norm.bias", "norm.bias"}
    values = Reference(build_graph(model.config), model.weights).run(ids[..., None])
    x = values["block0.residual"]
    old = values["block1.norm"] * model.weights["blocks.1.norm.weight"]
    ranged = (x - x.mean(-1, keepdims=True)) / (x.max(-1, keepdims=True) - x.min(-1, keepdims=True))

    def error(slope=0.0, offset=0.0):
        weight, bias = (new.weights[f"blocks.1.norm.{kind}"] for kind in ("weight", "bias"))
        return ((ranged * (weight + slope) + bias + offset - old) ** 2).sum()

    assert error() < min(error(0.01), error(-0.01), error(0, 0.01), error(0, -0.01))
    assert error() < 0.3 * (old**2).sum()


def test_exchanged_norms_are_trained(tmp_path, capsys):
    folder, ids = write(tmp_path / "m", Settings(d_model=8, n_layer=1)), learnable(60)
    np.save(tmp_path / "ids.npy", ids)
    words = ["import", folder, "--calibration", tmp_path / "ids.npy", "--norm", "range", "--run", tmp_path / "run", "--epochs", 6,
             "--peak-lr", 0.02, "--out", tmp_path / "a"]
    assert cli.main([str(word) for word in words]) == 0
    note = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("norms: "))
    found = re.fullmatch(r"norms: exchanged for RangeNorm, then 6 epochs on 48 sequences: perplexity of 6 others (\S+) as "
                         r"imported, (\S+) exchanged, (\S+) trained; embedding and head were trained apart", note)
    before, between, after = map(float, found.groups())
    assert after < 0.5 * min(before, between)
    artifact = load(tmp_path / "a")
    assert artifact.config.norm == "range" and artifact.config.length == LENGTH and artifact.record["import"]["notes"][-1] == note
    trained = read_checkpoint(tmp_path / "run")
    assert trained.recipe.model.length == LENGTH - 1
    assert trained.record["figures"]["test"]["perplexity"] == pytest.approx(after, rel=1e-3)
    assert all(np.array_equal(trained.weights[name], value) for name, value in artifact.weights.items())


def test_too_little_to_train_on(tmp_path):
    model = translate(tensors_of(Settings()), None, LENGTH, "here")
    for ids in (learnable(2), learnable(9)[:, :1]):
        with refuses(f"{len(ids)} sequences of {ids.shape[1]} tokens are too few to train on: give at least 3 sequences of 2 "
                     "tokens"):
            exchange_norms(model, ids, TrainConfig(epochs=1), tmp_path)
    assert list(tmp_path.iterdir()) == []


# -- the commands -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(capsys):
    """Runs a command: its standard output; standard error holds one sentence on failure, nothing otherwise."""

    def call(*arguments, sentence: str | None = None) -> str:
        status = cli.main([str(word) for word in arguments])
        out, err = capsys.readouterr()
        if sentence is None:
            assert (status, err) == (0, "")
        else:
            assert (status, out) == (1, "")
            assert re.fullmatch(re.escape(f"emamba: {sentence}\n").replace("…", ".*"), err), err
        return out

    return call


def test_import_to_a_checkpoint_and_to_an_artifact_are_the_same(run, tmp_path):
    folder, ids = write(tmp_path / "m", Config()), make_ids(23)
    np.save(tmp_path / "ids.npy", ids)
    out = run("import", folder, "--length", LENGTH, "--out", tmp_path / "run").splitlines()
    assert out[:-1] == list(read_model_files(folder, LENGTH).notes)
    assert out[-1] == f"{tmp_path}/run: a checkpoint of 6092 weights"
    run("quantize", tmp_path / "run", "--calibration", tmp_path / "ids.npy", "--out", tmp_path / "a", "--set", "weight_bits=7")
    told = run("import", folder, "--calibration", tmp_path / "ids.npy", "--out", tmp_path / "b", "--set", "weight_bits=7")
    a, b = load(tmp_path / "a"), load(tmp_path / "b")
    assert a.config == b.config == read_checkpoint(tmp_path / "run").recipe.model
    assert a.operators["block1.x"].w.bits == 7 and a.record["answers"] == b.record["answers"]
    assert a.record["import"] == b.record["import"] == {"notes": out[:-1]}
    assert f"{tmp_path}/b: digest {b.digest[:16]}\nverdict:\n" in told and "block1.y: the state cannot overflow" in told
    module = randomize(LanguageModel(Config()))
    assert emamba.compile(module, ids, settings={"weight_bits": 7}).record["answers"] == a.record["answers"]


def test_compare_and_profile_of_given_inputs(run, tmp_path):
    folder, ids = write(tmp_path / "m", Config()), make_ids(23)
    np.save(tmp_path / "ids.npy", ids)
    run("import", folder, "--calibration", tmp_path / "ids.npy", "--out", tmp_path / "a")
    out = run("compare", tmp_path / "a", "--backends", "float,int", "--inputs", tmp_path / "ids.npy", "--limit", 7, "--json",
              tmp_path / "c.json")
    assert out.startswith("float against int, 7 sequences (ids.npy, given split, no targets)\n")
    compared = json.loads((tmp_path / "c.json").read_text())
    assert compared["frames"] == 7 and compared["keys"]["block1.y"]["values"] == 7 * LENGTH * 34
    run("profile", tmp_path / "a", "--inputs", tmp_path / "ids.npy", "--json", tmp_path / "p.json")
    assert json.loads((tmp_path / "p.json").read_text())["samples"] == 20
    run("compare", tmp_path / "a",
        sentence=f"{tmp_path}/a does not name a data set, so there is nothing to run it on: give --inputs")
    run("evaluate", tmp_path / "a",
        sentence=f"{tmp_path}/a does not name a data set, so there is nothing to run it on: give --inputs and --targets")
    np.save(tmp_path / "short.npy", ids[:, 1:])
    run("compare", tmp_path / "a", "--inputs", tmp_path / "short.npy",
        sentence="the data has inputs of 8, the model's tokens input is 9: make the two agree")


def test_settings_of_public_checkpoints():
    """Those of the converted mamba-130m have the keys of both packages."""
    both = {
        "architectures": ["MambaForCausalLM"], "bos_token_id": 0, "conv_kernel": 4, "d_inner": 34, "d_model": 17,
        "eos_token_id": 0, "expand": 2, "fused_add_norm": True, "hidden_act": "silu", "hidden_size": 17, "initializer_range": 0.1,
        "intermediate_size": 34, "layer_norm_epsilon": 1e-05, "model_type": "mamba", "n_layer": 2, "num_hidden_layers": 2,
        "pad_token_id": 0, "pad_vocab_size_multiple": 8, "rescale_prenorm_residual": False, "residual_in_fp32": True,
        "rms_norm": True, "ssm_cfg": {}, "state_size": 5, "time_step_floor": 0.0001, "time_step_init_scheme": "random",
        "time_step_max": 0.1, "time_step_min": 0.001, "time_step_rank": 2, "time_step_scale": 1.0, "torch_dtype": "float32",
        "transformers_version": "4.39.0.dev0", "use_bias": False, "use_cache": True, "use_conv_bias": True, "vocab_size": 23,
    }
    first = {"d_model": 17, "n_layer": 2, "vocab_size": 23, "ssm_cfg": {"d_state": 5}, "rms_norm": True, "residual_in_fp32": True,
             "fused_add_norm": True, "pad_vocab_size_multiple": 8}
    for settings, public in ((Config(), both), (Settings(), first)):
        expected = translate(tensors_of(settings), settings_of(settings), LENGTH, "here").config
        assert translate(tensors_of(settings), public, LENGTH, "here").config == expected


def test_commands_that_are_refused(run, tmp_path):
    folder, out = write(tmp_path / "m", Config()), tmp_path / "out"
    np.save(tmp_path / "ids.npy", make_ids(23))
    np.save(tmp_path / "floats.npy", np.ones((3, 4)))
    np.save(tmp_path / "far.npy", np.full((3, 4), 99))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    ids = ("--calibration", tmp_path / "ids.npy")
    run("import", folder, "--out", out,
        sentence="a checkpoint does not say how long its sequences are: give --length, or --calibration with token ids")
    run("import", folder, "--out", out, "--length", 0,
        sentence="--length must be at least 1, not 0")
    run("import", folder, "--out", out, "--length", 4, *ids,
        sentence=f"--length 4, but the sequences of {tmp_path}/ids.npy have 9 tokens: leave out --length")
    run("import", folder, "--out", out, "--length", 4, "--norm", "range",
        sentence="--norm range needs --calibration with token ids to train on: no weights make RangeNorm equal to RMSNorm")
    run("import", folder, "--out", out, "--norm", "range", *ids,
        sentence="--norm range needs --run with a folder for its training")
    run("import", folder, "--out", out, "--norm", "range", *ids, "--run", tmp_path / "r", "--epochs", 0,
        sentence="--epochs must be at least 1, not 0")
    run("import", folder, "--out", out, *ids, "--set", "weight_bits=99",
        sentence="quantization settings: weight_bits: Input should be less than or equal to 12")
    run("import", folder, "--out", tmp_path, "--length", 4,
        sentence=f"{tmp_path} is no earlier output, since it has no checkpoint.json: name another folder with --out")
    run("import", tmp_path / "none", "--out", out, "--length", 4,
        sentence=f"{tmp_path}/none does not exist: name a folder, or a file whose name ends with {ENDINGS}")
    for name, sentence in (
        ("floats", "the data is an array of float64 of the shape [3, 4]; the model reads token ids: integers "
                   "[sequences, tokens]"),
        ("objects", f"{tmp_path}/objects.npy is no array of numbers: its dtype is object, whose values are objects of Python: "
                    "give it a dtype of numbers, as numpy.array(x, dtype=int) does, and write it again"),
        ("none", f"cannot read {tmp_path}/none.npy: No such file or directory"),
    ):
        run("import", folder, "--out", out, "--calibration", tmp_path / f"{name}.npy", sentence=sentence)
    run("import", folder / "config.json", "--out", out, *ids, sentence=f"{folder}/config.json is no file of tensors: name a "
        f"folder, or a file whose name ends with {ENDINGS}")
    assert not out.exists() and not (tmp_path / "r").exists()
    run("import", folder, "--out", out, "--length", LENGTH)
    for words in (("quantize", out, "--out", tmp_path / "a"), ("sensitivity", out)):
        run(*words, sentence=f"{out} was imported and names no data set: quantize it with --calibration FILE")
    run("quantize", out, "--out", tmp_path / "a", *ids, "--auto-width",
        sentence="--auto-width judges widths on a data set: leave out --calibration, or --auto-width")
    run("quantize", out, "--out", tmp_path / "a", "--calibration", tmp_path / "far.npy",
        sentence="the data holds the token id 99, outside 0..22 of the vocabulary")
    assert not (tmp_path / "a").exists()


def test_an_out_of_range_id_leaves_nothing(tmp_path, capsys):
    folder = write(tmp_path / "m", Config())
    np.save(tmp_path / "far.npy", np.full((3, 4), 99))
    assert cli.main(["import", str(folder), "--out", str(tmp_path / "a"), "--calibration", str(tmp_path / "far.npy")]) == 1
    assert capsys.readouterr().err == "emamba: the data holds the token id 99, outside 0..22 of the vocabulary\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["far.npy", "m"]


# -- the pages ----------------------------------------------------------------------------------------------------------------


def test_examples_of_the_page_run(tmp_path, monkeypatch):
    """Every Python example, one after another, in an empty folder."""
    text = (Path(__file__).parents[1] / "docs" / "import.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    assert examples
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for example in examples:
        exec(compile(example, "import.md", "exec"), names)
    assert (tmp_path / "models" / "gestures" / "manifest.json").is_file()


def test_every_place_that_the_page_on_blocks_names_is_there():
    root = Path(__file__).parents[1]
    page = (root / "docs" / "add-a-block.md").read_text("utf-8")
    names = re.findall(r"`((?:emamba|rtl|sim|tests|asic)/[\w/]+(?:\.py|/))`", page)
    assert len(names) > 4 and all((root / name).exists() for name in names), names


def test_the_page_names_every_setting():
    page = (Path(__file__).parents[1] / "docs" / "import.md").read_text(encoding="utf-8")
    plain = {"hidden_size", "d_model", "num_hidden_layers", "n_layer", "vocab_size"}
    for keys in KEYS.values():
        for key in {*keys.sizes, *keys.allowed} - plain | SAME_RESULT:
            assert f"`{key}`" in page, key
