"""Quantization-aware training: its forward pass is the integer model, bit for bit; it improves, resumes and refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from degenerate import kind_of, quantized, tokens_of

from emamba.artifact import load, save
from emamba.base.errors import EmambaError
from emamba.config import ModelConfig, TrainConfig
from emamba.datasets.tokens import executor_tokens
from emamba.ops import Scan, Weighted
from emamba.ops.certificate import certify
from emamba.run.integer import IntegerModel
from emamba.training import qat
from emamba.training.qat import IntegerNetwork, Part, finetune, varied
from emamba.training.settings import FinetuneConfig
from sim.models import SHAPES, random_artifact, random_inputs

SETTINGS = FinetuneConfig(epochs=2, batch=16, peak_lr=3e-3)


def part_of(artifact, count, seed):
    """Inputs with targets that the float model's own outputs, shifted, make learnable."""
    tokens = random_inputs(artifact.config, count, seed=seed).astype(float)
    if artifact.config.task == "regression":
        targets = np.random.default_rng(0).normal(size=artifact.config.outputs)
        return Part(tokens, np.tile(targets, (count, 1)).astype(np.float32))
    shape = (count, artifact.config.tokens) if artifact.config.pool == "none" else (count,)
    return Part(tokens, np.full(shape, 1))


@pytest.mark.parametrize("kind", ["slow", "conv"])
def test_training_of_degenerate_branches_starts_at_the_artifact(kind):
    """Weights and biases of a channel's own scale too; gradients are finite."""
    config, weights = kind_of(kind, "standard")
    artifact = quantized(config, {name: value.astype(np.float32) for name, value in weights.items()}, weight_scale="dyadic")
    network = IntegerNetwork(artifact)
    for name, op in network.current().operators.items():
        if isinstance(op, Weighted):
            assert np.array_equal(op.weight, artifact.operators[name].weight), name
            assert np.array_equal(op.bias, artifact.operators[name].bias), name
    network(artifact.codec.encode(tokens_of(config), artifact.input)).square().sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in network.parameters() if value.grad is not None)


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_is_the_integer_model(shape):
    """At the start, where the operators are those of the artifact, and after a step, where they are not."""
    artifact = random_artifact(shape)
    part = part_of(artifact, 3, seed=1)
    integers = artifact.codec.encode(part.tokens, artifact.input)
    network = IntegerNetwork(artifact, segments=True)
    start = network.current().operators
    for name, op in artifact.operators.items():
        if hasattr(op, "weight"):
            assert np.array_equal(op.weight, start[name].weight), name
        if isinstance(op, Scan):
            assert np.array_equal(op.A, start[name].A) and np.array_equal(op.decay.slopes, start[name].decay.slopes)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.3)
    for _ in range(2):
        head = IntegerModel(network.current()).answer(integers)
        output = network(integers)
        assert np.array_equal(output.detach().numpy().reshape(head.shape), head * artifact.output.step)
        output.square().mean().backward()
        optimizer.step()
    after = network.current().operators
    assert any(hasattr(op, "weight") and (op.weight != after[name].weight).any() for name, op in artifact.operators.items())


def test_epsilon_of_the_norm_in_the_backward_pass():
    artifact = random_artifact(ModelConfig(**SHAPES["standard-rms-norm"] | {"norm_epsilon": 0.25}))
    network, x = IntegerNetwork(artifact), torch.tensor([[[1.0, 2.0, 0.0, -1.0]]])
    node = network.graph["block0.norm"]
    value = network._value(node, artifact.operators["block0.norm"], dict(network.network.named_parameters()), x)
    torch.testing.assert_close(value, x / (6 / 4 + 0.25) ** 0.5)


@pytest.mark.parametrize("segments", [False, True])
def test_gradients_are_the_float_networks(segments):
    """With 16 bits everywhere the integer model is nearly the float network, so the gradients are nearly the same."""
    artifact = random_artifact("standard-sequence", activation_bits=14, residual_bits=16, weight_bits=12, output_bits=24,
                               exp_segments=64, silu_segments=64, softplus_segments=64, bits={"*.dt": 8})
    tokens = random_inputs(artifact.config, 4, seed=2).astype(float)
    network = IntegerNetwork(artifact, segments)
    network(artifact.codec.encode(tokens, artifact.input)).square().sum().backward()
    exact = IntegerNetwork(artifact).network
    exact(torch.from_numpy(artifact.codec.standardize(tokens)).float()).square().sum().backward()
    for (name, ours), theirs in zip(network.network.named_parameters(), exact.parameters(), strict=True):
        cosine = torch.nn.functional.cosine_similarity(ours.grad.flatten(), theirs.grad.flatten(), dim=0)
        assert cosine > 0.98 or theirs.grad.norm() < 1e-6, (name, cosine)
    assert all(line.grad.abs().sum() > 0 for line in network.lines.values())


@pytest.mark.parametrize("shape", ["emamba-image", "standard-tokens"])
@pytest.mark.parametrize("segments", [False, True])
def test_finetune(shape, segments, tmp_path):
    artifact = random_artifact(shape)
    settings = SETTINGS.model_copy(update={"segments": segments})
    result = finetune(artifact, part_of(artifact, 64, 3), part_of(artifact, 16, 4), settings, tmp_path, progress=False)
    history = result.record["finetuning"]["history"]
    figure = next(key for key in ("rmse", "accuracy", "perplexity") if key in history[0])
    sign = 1 if figure == "accuracy" else -1
    assert len(history) == 3 and sign * history[-1][figure] > sign * history[0][figure]
    assert all(certify(op).holds for op in result.operators.values() if isinstance(op, Scan))
    save(result, tmp_path / "artifact")
    integers = artifact.codec.encode(part_of(artifact, 5, 5).tokens, artifact.input)
    again = IntegerModel(load(tmp_path / "artifact")).answer(integers)
    assert np.array_equal(again, IntegerModel(result).answer(integers))


def test_resume_gives_the_same(tmp_path, monkeypatch):
    artifact = random_artifact("emamba-image")
    parts = part_of(artifact, 40, 3), part_of(artifact, 8, 4)
    whole = finetune(artifact, *parts, SETTINGS, tmp_path / "whole", progress=False)

    original = qat._epoch

    def first_epoch_only(*arguments):
        if arguments[6] == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(qat, "_epoch", first_epoch_only)
    with pytest.raises(KeyboardInterrupt):
        finetune(artifact, *parts, SETTINGS, tmp_path / "parts", progress=False)
    monkeypatch.setattr(qat, "_epoch", original)
    resumed = finetune(artifact, *parts, SETTINGS, tmp_path / "parts", progress=False)
    assert resumed.record["finetuning"] == whole.record["finetuning"]
    for name, value in whole.weights.items():
        assert np.array_equal(value, resumed.weights[name]), name


def test_varied_inputs():
    """As the float model's training varies them: without variation the encoded inputs, thinned ones end with encoded zeros."""
    artifact = random_artifact("emamba-image")
    config, codec, channels = artifact.config, artifact.codec, artifact.config.image[2]
    random = np.random.default_rng(5)
    codec = replace(codec, mean=np.resize(random.normal(size=channels), config.input_width),
                    std=np.resize(random.uniform(0.5, 2, channels), config.input_width))
    artifact = replace(artifact, codec=codec)
    x = random.normal(size=(6, *config.image)).astype(np.float32)
    index, encoded = torch.tensor([4, 1]), codec.encode(executor_tokens(x, config), artifact.input)
    assert varied(artifact, x, TrainConfig()) is None
    same = varied(artifact, x, TrainConfig(jitter=1e-12))(index, torch.Generator())
    assert (np.abs(same - encoded[[4, 1]]) <= 1).all() and (same != encoded[[4, 1]]).mean() < 0.01
    thinned = varied(artifact, x, TrainConfig(thin=0.99))(index, torch.Generator().manual_seed(0))
    zeros = codec.encode(executor_tokens(np.zeros((1, *config.image)), config), artifact.input)
    assert (thinned[:, -1] == zeros[:, -1]).all()
    shifted = varied(artifact, x, TrainConfig(flip=True, jitter=0.5))(index, torch.Generator().manual_seed(0))
    assert shifted.shape == same.shape and (shifted != same).any()


def test_finetune_on_varied_inputs(tmp_path):
    artifact = random_artifact("emamba-image")
    parts, seen = (part_of(artifact, 40, 3), part_of(artifact, 8, 4)), []

    def vary(index, generator):
        seen.extend(index.tolist())
        return artifact.codec.encode(parts[0].tokens, artifact.input)[index.numpy()]

    plain = finetune(artifact, *parts, SETTINGS, tmp_path / "plain", progress=False)
    same = finetune(artifact, *parts, SETTINGS, tmp_path / "varied", vary=vary, progress=False)
    assert sorted(seen) == sorted([*range(40)] * 2) and same.record["finetuning"] == plain.record["finetuning"]


def test_refusals(tmp_path):
    artifact = random_artifact("emamba-image")
    parts = part_of(artifact, 20, 3), part_of(artifact, 8, 4)
    with pytest.raises(EmambaError, match=r"diverged in epoch 1: a weight .* lower peak_lr \(1e\+34\)"):
        finetune(artifact, *parts, SETTINGS.model_copy(update={"peak_lr": 1e34}), tmp_path / "a", progress=False)
    finetune(artifact, *parts, SETTINGS, tmp_path / "b", progress=False)
    with pytest.raises(EmambaError, match="belongs to another artifact or other settings"):
        finetune(artifact, *parts, SETTINGS.model_copy(update={"epochs": 5}), tmp_path / "b", progress=False)
    (tmp_path / "b" / "training.pt").write_bytes(b"nothing")
    with pytest.raises(EmambaError, match="cannot be read"):
        finetune(artifact, *parts, SETTINGS, tmp_path / "b", progress=False)
