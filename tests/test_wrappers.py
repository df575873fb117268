"""Models below the names of other programs: taken from there, or refused with a sentence that names the wrapper."""

import argparse
import re
import shutil
import zipfile
from dataclasses import asdict, dataclass

import numpy as np
import pytest
import torch
from foreign import Backbone, Config, LanguageModel, Settings, randomize
from safetensors.torch import save_file
from torch import nn

from emamba import api
from emamba.api import read_model_files
from emamba.artifact import SHIPPED, load
from emamba.base.errors import EmambaError
from emamba.config import ModelConfig
from emamba.importers.settings import GENERATION
from emamba.importers.translate import translate
from emamba.quantization.quantize import read_checkpoint
from emamba.training.network import Network

LENGTH = 9
UNTIED = Settings(tie_embeddings=False)
STATE = dict(randomize(LanguageModel(UNTIED)).state_dict())
PLAIN = translate(STATE, asdict(UNTIED), LENGTH, "here")
OWN = ModelConfig(form="standard", input="sequence", features=3, length=6, d_model=5, d_state=3, dt_rank=2, blocks=1, norm="rms",
                  pool="last", task="classification", outputs=4)
MIXER = "backbone.layers.0.mixer"


def refuses(sentence: str):
    return pytest.raises(EmambaError, match=f"^{re.escape(sentence).replace('…', '.*')}$")


def below(prefix: str, state: dict = STATE) -> dict:
    return {prefix + name: value for name, value in state.items()}


def renamed(old: str, new: str) -> dict:
    return {re.sub(old, new, name): value for name, value in STATE.items()}


def same(model) -> bool:
    return all(np.array_equal(value, model.weights[name]) for name, value in PLAIN.weights.items())


# -- names --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix, told", [
    ("module.", ""), ("_orig_mod.", ""), ("module._orig_mod.", ""), ("_fsdp_wrapped_module.", ""), ("_forward_module.", ""),
    ("model.", "model."), ("net.module.", "net."), ("trainer.student.", "trainer.student."), ("backbone.", "backbone."),
    ("base_model.model.", "base_model.model."),
])
def test_names_below_any_prefix(prefix, told):
    model = translate(below(prefix), asdict(UNTIED), LENGTH, "here")
    assert same(model) and model.config == PLAIN.config
    assert [note for note in model.notes if note not in PLAIN.notes] == [f"its tensors stand below '{told}'"] * bool(told)
    wrong = below(prefix) | {f"{prefix}{MIXER}.D": torch.ones(3)}
    where = f"here, below '{told}'" if told else "here"
    with refuses(f"{where}: tensor '{told}{MIXER}.D' has the shape [3], the model needs [34]"):
        translate(wrong, asdict(UNTIED), LENGTH, "here")


@pytest.mark.parametrize("old, new", [
    (r"layers\.(\d)\.", r"layers.\1._checkpoint_wrapped_module."), (r"\.mixer", r"._orig_mod.mixer._fsdp_wrapped_module"),
    ("^backbone", "backbone.module"), ("^backbone", "encoder"), ("^backbone.", ""),
])
def test_names_with_wrappers_inside_and_other_attributes(old, new):
    assert same(translate(renamed(old, new), asdict(UNTIED), LENGTH, "here"))


@dataclass
class MambaPy:
    """As mamba.py keeps them."""

    d_model: int = 17
    n_layers: int = 2
    d_state: int = 5
    expand_factor: int = 2
    dt_rank: int | str = "auto"
    rms_norm_eps: float = 1e-5
    inner_layernorms: bool = False
    mup: bool = False
    pscan: bool = True


def test_the_layout_of_mamba_py():
    state = {re.sub(r"^backbone\.(?=layers)", "mamba.", name).replace("backbone.", ""): value for name, value in STATE.items()}
    for settings in (None, asdict(MambaPy())):
        model = translate(below("module.", state), settings, LENGTH, "here")
        assert same(model) and model.config == PLAIN.config and model.notes[0].startswith("mamba.py: 23 tensors")
    for key in ("inner_layernorms", "mup"):
        with refuses(f"here: {key} is True; only False can be imported"):
            translate(state, asdict(MambaPy(**{key: True})), LENGTH, "here")
    bare = {name.removeprefix("mamba."): value for name, value in state.items() if name.startswith("mamba.")}
    with refuses("here has neither a tensor 'embedding.weight' (mamba_ssm) nor 'embeddings.weight' (transformers): its layers "
                 "'layers.0…' alone are no model; save the whole, or build a module of your own of this project's blocks, as "
                 "docs/import.md shows"):
        translate(bare, None, LENGTH, "here")


@dataclass
class ModelArgs:
    """As mamba-minimal keeps them: its vocabulary is padded already."""

    d_model: int = 17
    n_layer: int = 2
    vocab_size: int = 24
    d_state: int = 5
    expand: int = 2
    dt_rank: int = 2
    d_conv: int = 4
    pad_vocab_size_multiple: int = 8
    conv_bias: bool = True
    bias: bool = False
    d_inner: int = 34


def test_the_layout_of_mamba_minimal():
    """Names without a prefix, the tied head written twice, and no config."""
    tied = dict(randomize(LanguageModel(Settings())).state_dict())
    expected = translate(tied, asdict(Settings()), LENGTH, "here")
    state = {name.removeprefix("backbone."): value for name, value in tied.items()}
    for settings in (None, asdict(ModelArgs())):
        model = translate(state, settings, LENGTH, "here")
        assert model.config == expected.config
        assert all(np.array_equal(value, model.weights[name]) for name, value in expected.weights.items())


@pytest.mark.parametrize("state, sentence", [
    (below("online_model.") | below("ema_model."),
     "here holds 2 models, below 'ema_model.backbone.' and 'online_model.backbone.': give one of them, or save its state_dict() "
     "alone"),
    (STATE | below("module."), "here has both 'backbone.embedding.weight' and 'module.backbone.embedding.weight', one tensor "
                               "twice: "
     "save the state_dict() of one model"),
    (below("model.") | {"loss.weight": torch.ones(3)},
     "here has a Mamba below 'model.', but beside it a tensor 'loss.weight', and what that adds to the computation cannot be "
     "imported: give the model below 'model.', or its state_dict(), alone"),
    (below("base_model.model.") | {f"base_model.model.{MIXER}.in_proj.lora_A.weight": torch.ones(1, 1)},
     f"here has an adapter's tensor 'base_model.model.{MIXER}.in_proj.lora_A.weight': merge it into its model "
     "(merge_and_unload() of PEFT) and save that"),
    (renamed("in_proj.weight", "in_proj.weight_orig"),
     f"here has a tensor '{MIXER}.in_proj.weight_orig' of a pruning under way: end it with torch.nn.utils.prune.remove and save "
     "again"),
    (renamed("in_proj.weight", "in_proj.parametrizations.weight.original"),
     f"here has a tensor '{MIXER}.in_proj.parametrizations.weight.original' of a parametrization: end it with "
     "torch.nn.utils.parametrize.remove_parametrizations and save again"),
    (STATE | {f"{MIXER}.in_proj.weight.absmax": torch.ones(3)},
     f"here has a tensor '{MIXER}.in_proj.weight.absmax' of quantized weights: save the weights before they were quantized"),
    (below("model.", Network(OWN).state_dict()),
     "here holds a model of this project ('model.blocks.0.A_log'), whose sizes its tensors alone do not tell: give its module to "
     "emamba.compile, or its folder with checkpoint.json to emamba quantize"),
])
def test_names_that_are_refused(state, sentence):
    with refuses(sentence):
        translate(state, asdict(UNTIED), LENGTH, "here")


# -- files --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content, note", [
    ({"model": below("module."), "iter": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{}]}},
     "taken from the table 'model' of x.ckpt"),
    ({"state_dict": below("model."), "epoch": 3, "hyper_parameters": {"lr": 0.1}}, "taken from the table 'state_dict' of x.ckpt"),
    ({"ema": {"module": STATE}, "args": argparse.Namespace(lr=1)}, "taken from the table 'ema.module' of x.ckpt"),
    ({**below("module."), "n_averaged": torch.tensor(7), "epoch": 3}, "'n_averaged' is no tensor of weights, not read"),
])
def test_tables_inside_a_file(tmp_path, content, note):
    torch.save(content, tmp_path / "x.ckpt")
    model = read_model_files(tmp_path / "x.ckpt", LENGTH)
    assert same(model) and note in model.notes


def test_counters_in_a_safetensors_file(tmp_path):
    save_file({**below("module."), "n_averaged": torch.tensor(7)}, tmp_path / "model.safetensors")
    model = read_model_files(tmp_path, LENGTH)
    assert same(model) and model.notes[-1] == "'n_averaged' is a counter, not read"


def scripted(path):
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "version"):
            archive.writestr(f"x/{name}", b"3\n")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 3\n"


@pytest.mark.parametrize("make, sentence", [
    (lambda path: torch.save({"model": STATE, "ema": below("module.")}, path),
     "{} holds 2 models, in its tables 'model' and 'ema': save the one that is meant alone"),
    (lambda path: torch.save(nn.Linear(2, 2), path),
     "{} does not hold plain tensors only (torch.nn.modules.linear.Linear): save the model's state_dict() as safetensors"),
    (scripted, "{} is a TorchScript archive, which is code: save the state_dict() of its module as safetensors"),
    (lambda path: save_file({"a": torch.ones(2)}, path), "{} is a safetensors file: give it a name that ends with .safetensors"),
    (lambda path: path.write_bytes(POINTER), "{} is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`"),
    (lambda path: path.write_bytes(b"\n<!DOCTYPE html><html>"),
     "{} is a web page, not the file itself: download the file that the page shows"),
    (lambda path: path.write_bytes(b""), "{} is empty: copy it again"),
    (lambda path: path.write_bytes(b"\x1f\x8b\x08\x00"), "{} is packed by gzip: unpack it first"),
    (lambda path: torch.save(STATE, path) or path.write_bytes(path.read_bytes()[:99]),
     "{} is damaged, or torch.save did not write it (…): copy it again"),
    (lambda path: path.mkdir(), "{} has none of …: name the folder or the file of a trained checkpoint"),
])
def test_torch_files_that_are_refused(tmp_path, make, sentence):
    make(tmp_path / "x.pt")
    with refuses(sentence.format(tmp_path / "x.pt")):
        read_model_files(tmp_path / "x.pt", LENGTH)


def test_folders_that_are_something_else(tmp_path):
    files = "model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json"
    for names, sentence in (
        (("checkpoint-5", "checkpoint-9"), f": name the folder or the file of a trained checkpoint, such as "
                                           f"{tmp_path}/checkpoint-9"),
        (("zero_to_fp32.py",), ": it is a checkpoint of DeepSpeed, in parts: run zero_to_fp32.py in it and give what that "
                               "writes"),
        (("adapter_config.json",), ": it is an adapter of PEFT: merge it into its model (merge_and_unload()) and save that"),
        (("checkpoint.json",), ": it is a checkpoint of this project: give it to emamba quantize"),
    ):
        for name in names:
            (tmp_path / name).touch()
        with refuses(f"{tmp_path} has none of {files}{sentence}"):
            read_model_files(tmp_path, LENGTH)
    for name, sentence in (("model.safetensors", "a pointer of Git LFS"), ("config.json", "a pointer of Git LFS")):
        save_file(STATE, tmp_path / "model.safetensors")
        (tmp_path / name).write_bytes(POINTER)
        with refuses(f"{tmp_path}/{name} is {sentence}…"):
            read_model_files(tmp_path, LENGTH)


def test_pointers_in_the_place_of_our_own_files(tmp_path):
    for name in ("manifest.json", "weights.safetensors", "float.safetensors"):
        folder = shutil.copytree(SHIPPED, tmp_path / name)
        (folder / name).write_bytes(POINTER)
        with refuses(f"{folder}/{name} is a pointer of Git LFS…"):
            load(folder)
    api.write_imported(PLAIN, tmp_path / "run")
    assert read_checkpoint(tmp_path / "run").recipe.model == PLAIN.config
    (tmp_path / "run/checkpoint.safetensors").write_bytes(POINTER)
    with refuses(f"{tmp_path}/run/checkpoint.safetensors is a pointer of Git LFS…"):
        read_checkpoint(tmp_path / "run")


# -- modules ------------------------------------------------------------------------------------------------------------------


class Training(nn.Module):
    """As a LightningModule: the model is an attribute, and there is no forward."""

    def __init__(self, model: nn.Module, **others: nn.Module):
        super().__init__()
        self.model = model
        for name, module in others.items():
            self.add_module(name, module)


class Called(Training):
    gain = 1.0

    def forward(self, x):
        return self.gain * self.model(x)


def compiled(module: nn.Module) -> nn.Module:
    """As torch.compile wraps a module; torch's own class takes seconds to import."""
    kind = type("OptimizedModule", (nn.Module,), {"__module__": "torch._dynamo.eval_frame"})
    wrapper = kind()
    wrapper._orig_mod = module
    return wrapper


@pytest.fixture
def taken(monkeypatch):
    """What `emamba.api.compile` takes of a module: its weights, before they are quantized, and the record of the import."""
    monkeypatch.setattr(api, "calibrated", lambda name, config, weights, *others: (weights, others[-1]["import"]))
    return api.compile


@pytest.fixture(scope="module")
def own():
    torch.manual_seed(1)
    return Network(OWN), np.random.default_rng(0).normal(size=(6, 6, 3))


@pytest.mark.parametrize("wrap", [
    nn.DataParallel, compiled, torch.optim.swa_utils.AveragedModel, Training, Called,
    lambda module: nn.DataParallel(compiled(Called(nn.DataParallel(module)))),
])
def test_modules_inside_wrappers(own, taken, wrap):
    module, x = own
    weights, record = taken(wrap(module), x)
    assert record["verified"]["largest_difference"] < 1e-5
    assert weights.keys() == module.state_dict().keys()
    assert all(np.array_equal(value, weights[name]) for name, value in module.state_dict().items())


def test_a_language_model_inside_wrappers(taken):
    module, ids = randomize(LanguageModel(Config())), np.random.default_rng(1).integers(0, 23, (4, LENGTH))
    weights, record = taken(Training(nn.DataParallel(module)), ids)
    assert np.array_equal(weights["blocks.0.D"], module.backbone.layers[0].mixer.D.detach())
    assert record["notes"][3] == "its tensors stand below 'model.'"


def test_wrappers_that_are_refused(own, taken):
    module, x = own
    twice, ids = Called(module), np.zeros((4, LENGTH), int)
    twice.gain = 2.0
    plain = Network(OWN)
    del plain.config
    for given, data, sentence in (
        (twice, x, "the Called gives outputs that differ by up to … from those of the float model made of it, more than …: its "
                   "forward computes something else; give the model below 'model.' alone"),
        (Training(module, other=Network(OWN)), x,
         "the Training holds 2 models, below 'model.' and 'other.': give one of them, or save its state_dict() alone"),
        (Called(module, loss=nn.CrossEntropyLoss(weight=torch.ones(4))), x,
         "the Called has a Mamba below 'model.', but beside it a tensor 'loss.weight', and what that adds to the computation "
         "cannot be imported: give the model below 'model.', or its state_dict(), alone"),
        (Training(randomize(Backbone(Settings())), fc=nn.Linear(17, 3)), ids,
         "the Training has a Mamba below 'model.', but beside it a tensor 'fc.bias', …"),
        ("runs/mine", x, "the str has no state_dict(): give a module of torch, or the path of a checkpoint to emamba import"),
        (Training(plain), x,
         "the Training has the tensors of a model of this project, but no config of the type ModelConfig: give it one, as its "
         "attribute config"),
        (LanguageModel(Config()).to("meta"), ids, "the LanguageModel: tensor 'backbone.embeddings.weight' is on the device meta, "
                                                  "where "
         "it has no values: load the weights first"),
    ):
        with refuses(sentence):
            taken(given, data)


# -- settings -----------------------------------------------------------------------------------------------------------------


def test_keys_that_transformers_adds_change_nothing():
    """The generation defaults that 4.39 to 4.57 put into every configuration, what packages keep for themselves, tokens."""
    tensors = dict(randomize(LanguageModel(Config())).state_dict())
    expected = translate(tensors, Config().to_dict(), LENGTH, "here")
    added = dict.fromkeys(GENERATION, 1) | {
        "_attn_implementation_autoset": True, "_commit_hash": "0a", "model_max_length": 99, "unk_token_id": 3, "xla_device": None,
        "quantization_config": None, "attn_implementation": "eager", "gradient_checkpointing": False, "num_labels": 2}
    assert translate(tensors, Config().to_dict() | added, LENGTH, "here").notes == expected.notes
    added = {"auto_map": {"AutoModelForCausalLM": "modeling.Mine"}}
    assert translate(tensors, Config().to_dict() | added, LENGTH, "here").notes[-1] == (
        "auto_map names code of the checkpoint's own, which was not read: taken for the Mamba-1 of transformers")
    with refuses("here: quantization_config is {'bits': 4}; only None can be imported"):
        translate(tensors, Config().to_dict() | {"quantization_config": {"bits": 4}}, LENGTH, "here")


def test_settings_of_other_tensors_and_of_other_trainers():
    for key, size, name, has in (("hidden_size", 64, "embeddings.weight", 17), ("state_size", 16, "layers.0.mixer.A_log", 5)):
        ours, rows = {"hidden_size": ("d_model", 23), "state_size": ("d_state", 34)}[key]
        with refuses(f"here: its settings say a {ours} of {size}, but its tensor 'backbone.{name}' of the shape [{rows}, {has}] "
                     f"makes it {has}: put the config.json of these tensors beside them"):
            translate(dict(LanguageModel(Config()).state_dict()), Config().to_dict() | {key: size}, LENGTH, "here")
    odd = Settings(vocab_size=35, pad_vocab_size_multiple=1)
    settings = asdict(odd)
    del settings["pad_vocab_size_multiple"]
    settings["ssm_cfg"] = settings["ssm_cfg"] | {"layer": "Mamba"}
    state = dict(LanguageModel(odd).state_dict())
    assert translate(state, settings, LENGTH, "here").config.vocabulary == 35
    with refuses("here: tensor 'backbone.embedding.weight' has 35 rows, but a vocab_size of 33 has 40, since "
                 "pad_vocab_size_multiple is 8 if it is not given: set it to what was trained; 1 pads nothing"):
        translate(state, settings | {"vocab_size": 33}, LENGTH, "here")
