"""Mamba-2's mixer in the names of mamba_ssm, transformers and mamba.py.

With e = d_inner, n = d_state, g = groups, h = heads, below `layers.K.mixer`:

    in_proj.weight [2e + 2gn + h, d]      → z, x, B, C, dt, one below the other
    conv1d.weight [e + 2gn, 1, k], .bias  → conv_x, conv_B, conv_C
    dt_bias [h]                           → dt.bias
    A_log [h], D [h] or [e]               → the same
    norm.weight [e]                       → gated_norm
    out_proj.weight [d, e]                → out
"""

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

from ..base.errors import InputError
from .family import Array, Family, Shape, Sizes
from .settings import Keys

KEYS = {
    "transformers": Keys({
        "hidden_size": "d_model", "num_hidden_layers": "blocks", "vocab_size": "vocabulary", "state_size": "d_state",
        "conv_kernel": "d_conv", "expand": "expand", "intermediate_size": "d_inner", "num_heads": "heads",
        "head_dim": "head_dim", "n_groups": "groups", "time_step_limit": "limits", "layer_norm_epsilon": "epsilon",
        "use_bias": "bias", "use_conv_bias": "conv_bias", "tie_word_embeddings": "tied",
    }, {"model_type": ("mamba2",), "hidden_act": ("silu", "swish"), "rms_norm": (True,), "quantization_config": (None,)},
        {"groups": 8, "tied": False}),
    "mamba_ssm": Keys({
        "d_model": "d_model", "n_layer": "blocks", "vocab_size": "vocabulary", "pad_vocab_size_multiple": "padding",
        "d_intermediate": "mlp", "tie_embeddings": "tied", "d_state": "d_state", "d_conv": "d_conv", "expand": "expand",
        "headdim": "head_dim", "ngroups": "groups", "dt_limit": "limits", "D_has_hdim": "wide_D", "rmsnorm": "gated",
        "norm_before_gate": "before", "bias": "bias", "conv_bias": "conv_bias",
    }, {"layer": ("Mamba2",), "rms_norm": (True,), "attn_layer_idx": ([],), "attn_cfg": ({},), "d_ssm": (None,)}, {"groups": 1}),
    "mamba.py": Keys({
        "d_model": "d_model", "n_layers": "blocks", "vocab_size": "vocabulary", "pad_vocab_size_multiple": "padding",
        "d_state": "d_state", "d_conv": "d_conv", "expand_factor": "expand", "d_inner": "d_inner", "d_head": "head_dim",
        "n_heads": "heads", "n_groups": "groups", "dt_limit": "limits", "bias": "bias", "conv_bias": "conv_bias",
    }, {"rms_norm_eps": (1e-5,), "activation": ("silu", "swish"), "learnable_init_states": (False,), "mup": (False,)},
        {"groups": 1}),
}


def _told(shape: Callable[[str, int], Any], said: Sizes) -> Sizes:
    """The tensors do not tell the groups of B and C apart."""
    d_inner, heads, (rows, _, taps) = shape("out_proj.weight", 2)[1], shape("A_log", 1)[0], shape("conv1d.weight", 3)
    return {"d_inner": d_inner, "heads": heads, "d_state": (rows - d_inner) // (2 * said["groups"]), "d_conv": taps,
            "head_dim": d_inner // heads, "limits": [0.0, inf], "before": False, "gated": shape("norm.weight", 0) is not None,
            "wide_D": shape("D", 1)[0] != heads}


def _check(sizes: Sizes, layout: str, where: str) -> None:
    if sizes["heads"] * sizes["head_dim"] != sizes["d_inner"] or sizes["heads"] % sizes["groups"]:
        raise InputError(f"{where}: {sizes['heads']} heads of {sizes['head_dim']} channels in {sizes['groups']} groups are not "
                         f"the {sizes['d_inner']} channels inside a block: make the settings agree with the tensors")
    if sizes["groups"] > 1 and sizes["gated"] and layout == "mamba.py":
        raise InputError(f"{where}: with {sizes['groups']} groups of B and C, {layout} norms the channels before out_proj "
                         "together or by groups, as the kernel is that it finds; only one group can be imported")


def _shapes(sizes: Sizes) -> dict[str, Shape]:
    d, e, h, both = sizes["d_model"], sizes["d_inner"], sizes["heads"], 2 * sizes["groups"] * sizes["d_state"]
    shapes: dict[str, Shape] = {
        "in_proj.weight": (2 * e + both + h, d), "conv1d.weight": (e + both, 1, sizes["d_conv"]), "dt_bias": (h,), "A_log": (h,),
        "D": (e if sizes["wide_D"] else h,), "out_proj.weight": (d, e)}
    if sizes["gated"]:
        shapes["norm.weight"] = (e,)
    if sizes["conv_bias"]:
        shapes["conv1d.bias"] = (e + both,)
    if sizes["bias"]:
        shapes |= {"in_proj.bias": (2 * e + both + h,), "out_proj.bias": (d,)}
    return shapes


def _config(sizes: Sizes) -> dict:
    low, high = sizes["limits"] or (0.0, inf)
    return {"form": "mamba2", "head_dim": sizes["head_dim"], "groups": sizes["groups"], "wide_D": sizes["wide_D"],
            "norm_groups": sizes["groups"] if sizes["gated"] else 1,
            "gated_norm": ("before" if sizes["before"] else "after") if sizes["gated"] else "none",
            "delta_limits": None if (low, high) == (0.0, inf) else (low, min(high, 1e30)), "bias": sizes["bias"] or None}


def _weights(theirs: dict[str, Array], sizes: Sizes) -> dict[str, Array]:
    e, group, h = sizes["d_inner"], sizes["groups"] * sizes["d_state"], sizes["heads"]
    kernel, weights = theirs["conv1d.weight"][:, 0], {}
    offsets = theirs.get("conv1d.bias", np.zeros(len(kernel), np.float32))
    for kind in ("weight", "bias") if sizes["bias"] else ("weight",):
        parts = np.split(theirs[f"in_proj.{kind}"], np.cumsum((e, e, group, group)))
        weights |= {f"{name}.{kind}": part for name, part in zip(("z", "x", "B", "C", "dt"), parts, strict=True)}
        weights[f"out.{kind}"] = theirs[f"out_proj.{kind}"]
    weights["dt.bias"] = weights.get("dt.bias", np.zeros(h, np.float32)) + theirs["dt_bias"]
    for name, rows in (("x", slice(e)), ("B", slice(e, e + group)), ("C", slice(e + group, None))):
        weights |= {f"conv_{name}.weight": kernel[rows], f"conv_{name}.bias": offsets[rows]}
    if sizes["gated"]:
        weights["gated_norm.weight"] = theirs["norm.weight"]
    return weights | {"A_log": theirs["A_log"], "D": theirs["D"]}


def _notes(sizes: Sizes) -> tuple[str, tuple[str, ...]]:
    own = f"{sizes['heads']} heads of {sizes['head_dim']}, groups {sizes['groups']}"
    return own, ("in_proj became z, x, B, C and dt; conv1d became conv_x, conv_B and conv_C",)


MAMBA2 = Family("Mamba-2", KEYS, "conv1d.weight", _told, _check, _shapes, _config, _weights, _notes)
