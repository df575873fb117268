"""Exchanges the norms of a trained model of token ids for RangeNorm, which the hardware computes with the fewest multipliers.

No weights make RangeNorm equal to RMSNorm or LayerNorm. So each new weight and bias is the one of least squared error on the
user's sequences, and the whole model is then trained on them for a few epochs (our choice).
"""

import hashlib
from pathlib import Path

import numpy as np

from ..base.errors import InputError, ToolMissing, extra
from ..config import NORM_EPSILON, DataConfig, ModelConfig, Recipe, TrainConfig
from ..datasets import Dataset
from ..datasets.metrics import figures
from ..graph import build_graph
from ..importers.family import Imported
from ..quantization.quantize import read_checkpoint
from ..run.reference import NUMPY, Reference

Array = np.ndarray

PART = 10
"""One sequence in this many is for validation, and one for the test."""
BATCH = 32
"""Sequences of the float model at a time: bounds the memory."""


def exchange_norms(model: Imported, ids: Array, settings: TrainConfig, folder: Path) -> Imported:
    """`model` with RangeNorm, trained in `folder`; an interrupted training in it goes on. ids [n, L], at least 3 sequences."""
    try:
        from .loop import train
    except ImportError as error:
        raise ToolMissing(f"training needs the extra [train] ({error}): {extra('train')}") from None
    if len(ids) < 3 or ids.shape[1] < 2:
        raise InputError(f"{len(ids)} sequences of {ids.shape[1]} tokens are too few to train on: give at least 3 sequences "
                         "of 2 tokens")
    start = fitted(model, ids[:len(ids) - 2 * _held(ids)])
    data = _data(ids)
    digest = hashlib.sha256(ids.astype("<i8").tobytes())
    for name, value in sorted(model.weights.items()):
        digest.update(name.encode() + value.tobytes())
    length = ids.shape[1] - 1
    recipe = Recipe(data=DataConfig(name="imported", split=digest.hexdigest()[:16]),
                    model=start.config.model_copy(update={"length": length}), train=settings)
    record = train(recipe, folder, data=data, start=start.weights)
    weights = read_checkpoint(folder).weights
    before, between = (_perplexity(version, data) for version in (model, start))
    trained = record["figures"]["test"]["perplexity"]
    notes = [note for note in model.notes if not note.startswith(("norms: ", "the head is "))]
    notes.append(f"norms: exchanged for RangeNorm, then {settings.epochs} epochs on {len(data.x_train)} sequences: perplexity of "
                 f"{len(data.x_test)} others {before:.4g} as imported, {between:.4g} exchanged, {trained:.4g} trained; embedding "
                 "and head were trained apart")
    return Imported(start.config, weights, tuple(notes))


def fitted(model: Imported, ids: Array) -> Imported:
    """`model` with RangeNorm; weight and bias of each channel bring it closest to the old norm's output on `ids` [n, L]."""
    config = ModelConfig(**model.config.model_dump() | {"norm": "range", "norm_epsilon": NORM_EPSILON})
    graph, reference, weights = build_graph(config), Reference(build_graph(model.config), model.weights), dict(model.weights)
    norms = [node for node in reference.graph if node.operator.normalizes]
    values = reference.run(ids[:BATCH, :, None], {name for node in norms for name in (node.name, *node.inputs)})
    for node in norms:
        old = values[node.name] * weights[node.parameters["weight"]]
        if "bias" in node.parameters:
            old = old + weights[node.parameters["bias"]]
        exchanged = graph[node.name]
        new = exchanged.operator.real(NUMPY, exchanged, {}, values[node.inputs[0]])
        axes = (0, 1)
        spread = new.var(axes)
        slope = np.divide(((new - new.mean(axes)) * (old - old.mean(axes))).mean(axes), spread, out=np.zeros_like(spread),
                          where=spread > 0)
        weights[exchanged.parameters["weight"]] = slope.astype(np.float32)
        weights[exchanged.parameters["bias"]] = (old.mean(axes) - slope * new.mean(axes)).astype(np.float32)
    return Imported(config, weights, model.notes)


def _held(ids: Array) -> int:
    return max(1, len(ids) // PART)


def _data(ids: Array) -> Dataset:
    """Sequences as inputs and next tokens: the last ones for the test, those before for validation."""
    held = _held(ids)
    parts = np.split(ids.astype(np.int64), [len(ids) - 2 * held, len(ids) - held])
    arrays = {f"{kind}_{name}": part[:, :-1] if kind == "x" else part[:, 1:]
              for name, part in zip(("train", "validate", "test"), parts, strict=True) for kind in "xy"}
    return Dataset("imported", "given", f"{len(ids)} given sequences of {ids.shape[1]} tokens", **arrays)


def _perplexity(model: Imported, data: Dataset) -> float:
    reference, x = Reference(build_graph(model.config), model.weights), data.x_test[..., None]
    heads = [reference.answer(x[k:k + BATCH]) for k in range(0, len(x), BATCH)]
    return figures("next_token", np.concatenate(heads), data.y_test)["perplexity"]
