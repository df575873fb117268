"""Mamba-2 of mamba_ssm, transformers and mamba.py: the same function, and one sentence for all that is refused."""

import json
import re
from dataclasses import asdict
from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign import LanguageModel, Settings, randomize
from safetensors.numpy import load_file

import emamba
from emamba.api import read_model_files
from emamba.base.errors import EmambaError
from emamba.graph import build_graph
from emamba.importers.mamba2 import KEYS
from emamba.importers.translate import translate
from emamba.run.integer import IntegerModel
from emamba.run.reference import Reference
from sim.executor import RtlExecutor

CHECKPOINTS = Path(__file__).parent / "checkpoints"
LENGTH = 9
MIXER = "backbone.layers.0.mixer"


def refuses(sentence: str):
    return pytest.raises(EmambaError, match=f"^{re.escape(sentence).replace('…', '.*')}$")


def made(**cfg) -> Settings:
    return Settings(d_model=6, ssm_cfg={"layer": "Mamba2", "d_state": 5, "headdim": 4} | cfg)


MODELS = {
    "plain": made(), "one-channel-heads": made(headdim=1, d_state=1, d_conv=1), "one-head": made(headdim=12, bias=True),
    "wide-D": made(D_has_hdim=True, conv_bias=False), "before": made(norm_before_gate=True, dt_limit=(0.25, 1.5)),
    "mlp": Settings(d_model=6, d_intermediate=128, ssm_cfg={"layer": "Mamba2", "d_state": 2, "headdim": 3}),
    "no-norm": made(rmsnorm=False, ngroups=3), "groups": made(ngroups=3), "groups-before": made(
        ngroups=2, headdim=3, norm_before_gate=True), "limited": made(dt_limit=(0.0, 0.5), d_conv=2),
}


def outputs(model, ids: np.ndarray) -> np.ndarray:
    return Reference(build_graph(model.config), model.weights).answer(ids[..., None])


@pytest.mark.parametrize("name", MODELS)
def test_float_outputs_are_those_of_the_equations(name):
    module = randomize(LanguageModel(MODELS[name]))
    model = translate(dict(module.state_dict()), asdict(MODELS[name]), LENGTH, "here")
    ids = np.random.default_rng(1).integers(0, 24, (6, LENGTH))
    with torch.no_grad():
        expected = module(torch.from_numpy(ids)).logits.numpy()
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(outputs(model, ids), expected, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["no-norm", "groups"])
def test_the_rtl_equals_the_integer_model(name):
    module, ids = randomize(LanguageModel(MODELS[name])), np.random.default_rng(1).integers(0, 24, (12, LENGTH))
    artifact = emamba.compile(module, ids)
    assert 0 < artifact.record["import"]["verified"]["largest_difference"] < 1e-4
    assert all(entry["holds"] for entry in artifact.record["certificate"].values())
    tokens = artifact.codec.encode(ids[:3, :, None], artifact.input)
    expected, found = IntegerModel(artifact).run(tokens), RtlExecutor(artifact, 64, trace=True, fast=False).run(tokens)
    assert set(found) == set(expected) - {"input"}
    for key, values in found.items():
        np.testing.assert_array_equal(values, expected[key], err_msg=key)


def test_sizes_and_notes():
    model = translate(dict(randomize(LanguageModel(MODELS["before"])).state_dict()), asdict(MODELS["before"]), LENGTH, "here")
    config = model.config
    assert (config.form, config.head_dim, config.heads, config.groups, config.gated_norm) == ("mamba2", 4, 3, 1, "before")
    assert config.delta_limits == (0.25, 1.5) and not config.wide_D and config.bias is None
    assert model.notes[0] == ("mamba_ssm: 21 tensors, all taken over; 2 blocks, d_model 6, d_inner 12, d_state 5, 3 heads of 4, "
                              "groups 1, d_conv 4, vocabulary 24")
    assert model.notes[2] == "in_proj became z, x, B, C and dt; conv1d became conv_x, conv_B and conv_C"


def test_settings_of_a_public_checkpoint():
    """Those of mamba2-130m, where ssm_cfg names the layer alone; its sizes are the tensors'."""
    settings = asdict(made()) | {"ssm_cfg": {"layer": "Mamba2"}, "attn_layer_idx": [], "attn_cfg": {}, "d_intermediate": 0}
    model = translate(dict(LanguageModel(made()).state_dict()), settings, LENGTH, "here")
    assert (model.config.head_dim, model.config.d_state) == (4, 5)


def test_the_layout_of_mamba_py():
    """Its mixer has the names of mamba_ssm; embedding and norm_f stand beside the body, and the head is not tied."""
    plain = made()
    expected = translate(dict(randomize(LanguageModel(plain)).state_dict()), asdict(plain), LENGTH, "here")
    state = {re.sub(r"^backbone\.(?=layers)", "mamba.", name).replace("backbone.", ""): value
             for name, value in randomize(LanguageModel(plain)).state_dict().items()}
    settings = {"d_model": 6, "n_layers": 2, "d_head": 4, "d_state": 5, "expand_factor": 2, "d_conv": 4, "n_groups": 1,
                "dt_limit": (0.0, inf), "rms_norm_eps": 1e-5, "activation": "swish", "mup": False, "d_inner": 12, "n_heads": 3}
    model = translate(state, settings, LENGTH, "here")
    assert model.config == expected.config and model.notes[0].startswith("mamba.py: 21 tensors")
    assert all(np.array_equal(value, model.weights[name]) for name, value in expected.weights.items())


# -- refused ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes, sentence", [
    ({"headdim": 5}, "here: 3 heads of 5 channels in 1 groups are not the 12 channels inside a block: make the settings agree "
                     "with the tensors"),
    ({"d_state": 6}, "here: its settings say a d_state of 6, but its tensor 'backbone.layers.0.mixer.conv1d.weight' of the shape "
                     "[22, 1, 4] makes it 5: put the config.json of these tensors beside them"),
    ({"layer": "Mamba1"}, "here: layer is 'Mamba1'; only 'Mamba2' can be imported"),
    ({"d_ssm": 8}, "here: d_ssm is 8; only None can be imported"),
    ({"dt_limit": [1.0]}, "here: dt_limit must be two numbers, the lower one first, not [1.0]"),
    ({"rmsnorm": False}, f"here has a tensor '{MIXER}.norm.weight' that a Mamba-2 model with these settings does not have: what "
                         "it adds to the computation cannot be imported"),
    ({"D_has_hdim": True}, f"here: tensor '{MIXER}.D' has the shape [3], the model needs [12]"),
    ({"heads": 3}, "here: the setting heads = 3 is unknown here, and may change what the model computes: remove it from the "
                   "settings if it does not"),
])
def test_models_that_are_refused(changes, sentence):
    settings = asdict(made())
    tensors = dict(randomize(LanguageModel(made())).state_dict())
    settings["ssm_cfg"] |= changes
    with refuses(sentence):
        translate(tensors, settings, LENGTH, "here")


def test_groups_attention_layers_and_a_missing_config_are_refused():
    tensors = dict(randomize(LanguageModel(made())).state_dict())
    grouped = {"d_model": 6, "n_layers": 2, "d_head": 4, "d_state": 5, "n_groups": 3}
    with refuses("here: with 3 groups of B and C, mamba.py norms the channels before out_proj together or by groups, as the "
                 "kernel is that it finds; only one group can be imported"):
        translate({re.sub(r"^backbone\.(?=layers)", "mamba.", name).replace("backbone.", ""): value
                   for name, value in LanguageModel(made(ngroups=3)).state_dict().items()}, grouped, LENGTH, "here")
    with refuses("here: attn_layer_idx is [1]; only [] can be imported"):
        translate(tensors, asdict(made()) | {"attn_layer_idx": [1]}, LENGTH, "here")
    with refuses("here has a Mamba-2 but no config.json, which says its groups and where its gated norm stands: put it beside "
                 "the tensors"):
        translate(tensors, None, LENGTH, "here")


def test_infinity_as_transformers_writes_it():
    folder = CHECKPOINTS / "mamba2"
    assert {"__float__": "Infinity"} in json.loads((folder / "config.json").read_text())["time_step_limit"]
    known = load_file(folder / "outputs.safetensors")
    model = read_model_files(folder, known["ids"].shape[1])
    assert model.config.delta_limits is None
    assert np.abs(outputs(model, known["ids"]) - known["logits"]).max() < 1e-4


def test_the_page_names_every_setting():
    page = (Path(__file__).parents[1] / "docs" / "import.md").read_text(encoding="utf-8")
    plain = {"hidden_size", "d_model", "num_hidden_layers", "n_layer", "vocab_size"}
    for keys in KEYS.values():
        for key in {*keys.sizes, *keys.allowed} - plain:
            assert f"`{key}`" in page, key
