"""Random whole models of any shape, without training and without torch."""

import numpy as np

from emamba.artifact import Artifact, Codec
from emamba.config import ModelConfig, QuantizeConfig
from emamba.graph import build_graph
from emamba.quantization.quantize import quantize

SHAPES: dict[str, dict] = {
    "emamba-image": {"input": "image", "image": (4, 4, 3), "patch": (2, 2), "d_model": 6, "dt_rank": 5, "blocks": 1,
                     "task": "regression", "outputs": 7},
    "emamba-odd": {"input": "sequence", "features": 3, "length": 7, "d_model": 17, "d_state": 5, "dt_rank": 3, "blocks": 1,
                   "d_conv": 3, "task": "classification", "outputs": 4},
    "emamba-one-token": {"input": "sequence", "features": 9, "length": 1, "d_model": 5, "d_state": 3, "dt_rank": 2, "blocks": 1,
                         "task": "regression", "outputs": 3},
    "emamba-three-blocks": {"input": "sequence", "features": 2, "length": 5, "d_model": 4, "d_state": 2, "dt_rank": 1,
                            "expand": 3, "blocks": 3, "pool": "last", "task": "classification", "outputs": 2},
    "emamba-per-token": {"input": "tokens", "vocabulary": 11, "length": 6, "d_model": 7, "d_state": 4, "dt_rank": 3,
                         "blocks": 1, "norm": "none", "pool": "none", "task": "next_token", "outputs": 11},
    "standard-sequence": {"form": "standard", "input": "sequence", "features": 5, "length": 9, "d_model": 8, "d_state": 4,
                          "dt_rank": 1, "blocks": 1, "task": "classification", "outputs": 5},
    "standard-image": {"form": "standard", "input": "image", "image": (4, 6, 1), "patch": (2, 3), "d_model": 5, "d_state": 3,
                       "dt_rank": 2, "blocks": 1, "d_conv": 1, "residual": False, "task": "regression", "outputs": 1},
    "standard-tokens": {"form": "standard", "input": "tokens", "vocabulary": 5, "length": 8, "d_model": 6, "d_state": 1,
                        "dt_rank": 4, "blocks": 1, "pool": "none", "task": "next_token", "outputs": 5},
    "standard-one-channel": {"form": "standard", "input": "sequence", "features": 1, "length": 4, "d_model": 1, "expand": 1,
                             "d_state": 1, "dt_rank": 1, "blocks": 1, "norm": "none", "task": "regression", "outputs": 1},
    "standard-thousand": {"form": "standard", "input": "sequence", "features": 2, "length": 1000, "d_model": 3, "d_state": 2,
                          "dt_rank": 2, "blocks": 1, "task": "regression", "outputs": 2},
    "emamba-layer-norm": {"input": "sequence", "features": 2, "length": 3, "d_model": 5, "d_state": 2, "dt_rank": 1, "blocks": 1,
                          "norm": "layer", "task": "regression", "outputs": 2},
    "standard-rms-norm": {"form": "standard", "input": "sequence", "features": 2, "length": 3, "d_model": 4, "d_state": 2,
                          "dt_rank": 1, "blocks": 1, "norm": "rms", "pool": "last", "task": "classification", "outputs": 3},
    "mamba2-groups": {"form": "mamba2", "input": "sequence", "features": 3, "length": 7, "d_model": 9, "head_dim": 3, "groups": 2,
                      "norm": "rms", "norm_groups": 2, "d_state": 3, "blocks": 1, "task": "regression", "outputs": 2},
    "pointwise-gated-pool": {"input": "sequence", "features": 2, "length": 6, "d_model": 5, "d_state": 2, "dt_rank": 2,
                             "conv": "pointwise", "blocks": 1, "mlp": 7, "mlp_gated": True, "pool": "gated", "smooth": 2,
                             "task": "regression", "outputs": 3},
    "mamba2-norm-before": {"form": "mamba2", "input": "tokens", "vocabulary": 7, "length": 5, "d_model": 5, "inner": 7,
                           "head_dim": 7, "wide_D": True, "gated_norm": "before", "norm": "rms", "d_state": 2, "d_conv": 2,
                           "bias": True, "delta_limits": (0.02, 0.5), "initial_state": True, "tied": True, "blocks": 1,
                           "pool": "none", "task": "next_token", "outputs": 7},
    "hybrid-attention": {"input": "sequence", "features": 3, "length": 7, "d_model": 6, "d_state": 3, "dt_rank": 2, "blocks": 2,
                         "attention": 2, "attention_heads": 2, "task": "classification", "outputs": 3},
    "vit-causal": {"form": "vit", "input": "tokens", "vocabulary": 9, "length": 6, "d_model": 8, "d_conv": 2, "mlp": 5,
                   "blocks": 1, "attention_heads": 2, "attention_causal": True, "norm": "layer", "pool": "none",
                   "task": "next_token", "outputs": 9},
}
"""Shapes of all forms: odd sizes, one token, a thousand tokens, three blocks, one channel, every norm, no residual, attention."""


def random_artifact(shape: str | ModelConfig, seed: int = 0, **settings) -> Artifact:
    """An artifact with random weights, calibrated on random data."""
    config = ModelConfig(**SHAPES[shape]) if isinstance(shape, str) else shape
    rng = np.random.default_rng(seed)
    weights = {}
    for name, dimensions in build_graph(config).tensors.items():
        leaf = name.rsplit(".", 1)[-1]
        scale = 1 / np.sqrt(dimensions[-1]) if len(dimensions) > 1 else 0.1
        weights[name] = rng.normal(0, scale, dimensions)
        if leaf == "A_log":
            weights[name] = np.log(rng.uniform(0.05, 8, dimensions))
        elif leaf == "h0":
            weights[name] = rng.normal(0, 0.3, dimensions)
        elif leaf == "D" or "norm.weight" in name:
            weights[name] = rng.uniform(0.5, 3, dimensions)
    tokens = config.input == "tokens"
    width = config.input_width
    codec = Codec(None if tokens else np.zeros(width), None if tokens else np.ones(width), np.ones(config.outputs),
                  np.zeros(config.outputs))
    return quantize("random", config, {key: value.astype(np.float32) for key, value in weights.items()}, codec,
                    random_inputs(config, 16, seed), QuantizeConfig(**settings))


def random_inputs(config: ModelConfig, batch: int, seed: int = 0) -> np.ndarray:
    """Inputs in the user's unit, [batch, L, input width]."""
    rng = np.random.default_rng(seed + 1)
    if config.input == "tokens":
        return rng.integers(0, config.vocabulary, (batch, config.tokens, 1))
    return rng.normal(0, 1, (batch, config.tokens, config.input_width))
