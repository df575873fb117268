"""Mamba-1's mixer in the names of mamba_ssm, transformers, mamba.py and mamba-minimal.

With e = d_inner, n = d_state, r = dt_rank, below `layers.K.mixer`:

    in_proj.weight [2e, d]        → x (the first e rows), z
    conv1d.weight [e, 1, k]       → conv
    x_proj.weight [r + 2n, e]     → dt_low (the first r rows), B, C
    dt_proj.weight [e, r], .bias  → dt
    A_log [e, n], D [e]           → the same
    out_proj.weight [d, e]        → out
"""

from collections.abc import Callable
from math import ceil, inf
from typing import Any

import numpy as np

from .family import Array, Family, Shape, Sizes
from .settings import Keys

KEYS = {
    "transformers": Keys({
        "hidden_size": "d_model", "d_model": "d_model", "num_hidden_layers": "blocks", "n_layer": "blocks",
        "vocab_size": "vocabulary", "state_size": "d_state", "conv_kernel": "d_conv", "expand": "expand",
        "intermediate_size": "d_inner", "d_inner": "d_inner", "time_step_rank": "dt_rank", "layer_norm_epsilon": "epsilon",
        "use_bias": "bias", "use_conv_bias": "conv_bias", "tie_word_embeddings": "tied",
    }, {
        "model_type": ("mamba",), "hidden_act": ("silu", "swish"), "rms_norm": (True,),
        "time_step_limit": ([0.0, inf], None), "quantization_config": (None,),
    }),
    "mamba_ssm": Keys({
        "d_model": "d_model", "n_layer": "blocks", "vocab_size": "vocabulary", "pad_vocab_size_multiple": "padding",
        "d_intermediate": "mlp", "tie_embeddings": "tied", "rms_norm": "rms", "d_state": "d_state", "d_conv": "d_conv",
        "expand": "expand", "dt_rank": "dt_rank", "bias": "bias", "conv_bias": "conv_bias", "d_inner": "d_inner",
    }, {"layer": ("Mamba1",), "attn_layer_idx": ([],), "attn_cfg": ({},)}),
    "mamba.py": Keys({
        "d_model": "d_model", "n_layers": "blocks", "vocab_size": "vocabulary", "pad_vocab_size_multiple": "padding",
        "d_state": "d_state", "d_conv": "d_conv", "expand_factor": "expand", "d_inner": "d_inner", "dt_rank": "dt_rank",
        "rms_norm_eps": "epsilon", "bias": "bias", "conv_bias": "conv_bias",
    }, {"inner_layernorms": (False,), "mup": (False,)}),
}
"""Those of mamba_ssm's table `ssm_cfg` stand beside the others."""


def _told(shape: Callable[[str, int], Any], said: Sizes) -> Sizes:
    (d_inner, d_state), taps = shape("A_log", 2), shape("conv1d.weight", 3)[2]
    rank = shape("dt_proj.weight", 2)[1] if said.get("dt_rank") != "auto" else ceil(said["d_model"] / 16)
    return {"d_inner": d_inner, "d_state": d_state, "d_conv": taps, "dt_rank": rank}


def _shapes(sizes: Sizes) -> dict[str, Shape]:
    d, e, n, r = (sizes[key] for key in ("d_model", "d_inner", "d_state", "dt_rank"))
    shapes: dict[str, Shape] = {
        "in_proj.weight": (2 * e, d), "conv1d.weight": (e, 1, sizes["d_conv"]), "x_proj.weight": (r + 2 * n, e),
        "dt_proj.weight": (e, r), "dt_proj.bias": (e,), "A_log": (e, n), "D": (e,), "out_proj.weight": (d, e)}
    if sizes["conv_bias"]:
        shapes["conv1d.bias"] = (e,)
    if sizes["bias"]:
        shapes |= {"in_proj.bias": (2 * e,), "out_proj.bias": (d,)}
    return shapes


def _config(sizes: Sizes) -> dict:
    return {"form": "standard", "dt_rank": sizes["dt_rank"], "bias": sizes["bias"] or None}


def _weights(theirs: dict[str, Array], sizes: Sizes) -> dict[str, Array]:
    e, n, r = (sizes[key] for key in ("d_inner", "d_state", "dt_rank"))
    low, weights = theirs["x_proj.weight"], {}
    for kind in ("weight", "bias") if sizes["bias"] else ("weight",):
        both = theirs[f"in_proj.{kind}"]
        weights |= {f"x.{kind}": both[:e], f"z.{kind}": both[e:], f"out.{kind}": theirs[f"out_proj.{kind}"]}
    return weights | {
        "conv.weight": theirs["conv1d.weight"][:, 0], "conv.bias": theirs.get("conv1d.bias", np.zeros(e, np.float32)),
        "dt_low.weight": low[:r], "B.weight": low[r:r + n], "C.weight": low[r + n:], "dt.weight": theirs["dt_proj.weight"],
        "dt.bias": theirs["dt_proj.bias"], "A_log": theirs["A_log"], "D": theirs["D"]}


def _notes(sizes: Sizes) -> tuple[str, tuple[str, ...]]:
    return f"dt_rank {sizes['dt_rank']}", ("in_proj became x and z; x_proj became dt_low, B and C",)


MAMBA1 = Family("Mamba-1", KEYS, "A_log", _told, lambda sizes, layout, where: None, _shapes, _config, _weights, _notes)
