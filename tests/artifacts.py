"""Small artifacts with random weights."""

import numpy as np
import torch

from emamba.artifact import Artifact, Codec
from emamba.config import ModelConfig, QuantizeConfig
from emamba.network import Mamba
from emamba.quantize import quantize

SEQUENCE = {"input": "sequence", "features": 3, "length": 4, "d_model": 4, "dt_rank": 2, "d_state": 2, "blocks": 1,
            "task": "regression", "outputs": 3}


def make(settings: dict | None = None, record: dict | None = None, **changes) -> Artifact:
    """An artifact of the model SEQUENCE with `changes`, quantized with `settings`."""
    config = ModelConfig(**{**SEQUENCE, **changes})
    torch.manual_seed(0)
    weights = {key: value.numpy() for key, value in Mamba(config).state_dict().items()}
    rng = np.random.default_rng(0)
    width, one = config.input_width, np.ones(config.outputs)
    if config.input == "tokens":
        codec = Codec(None, None, one, 0 * one)
        tokens = rng.integers(config.vocabulary, size=(8, config.tokens, 1))
    else:
        codec = Codec(np.zeros(width), np.ones(width), one, 0 * one)
        tokens = rng.normal(size=(8, config.tokens, width))
    return quantize("small", config, weights, codec, tokens, QuantizeConfig(**(settings or {})), record=record)
