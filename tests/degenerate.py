"""Small models with tensors that are degenerate, and how far each node of their integer model is from the float model's node at
the same inputs."""

import numpy as np

from emamba.artifact import Artifact, Codec
from emamba.config import ModelConfig, QuantizeConfig
from emamba.graph import build_graph
from emamba.ops import Norm, Scan, Weighted
from emamba.quantization.quantize import quantize
from emamba.run.integer import IntegerModel
from emamba.run.reference import NUMPY, Reference

Array = np.ndarray

SMALL = {"input": "sequence", "features": 3, "length": 5, "d_model": 7, "d_state": 3, "dt_rank": 2, "blocks": 1, "d_conv": 3,
         "task": "regression", "outputs": 14}


def weights_of(config: ModelConfig, seed: int = 0) -> dict[str, Array]:
    """Random weights, δ of about 0.1."""
    rng = np.random.default_rng(seed)
    weights = {name: rng.normal(0, 1 / np.sqrt(shape[-1]), shape) for name, shape in build_graph(config).tensors.items()}
    for name, value in weights.items():
        if name.endswith("A_log"):
            weights[name] = np.log(rng.uniform(0.5, 8, value.shape))
        elif name.endswith((".D", "norm.weight")):
            weights[name] = rng.uniform(0.5, 2, value.shape)
        elif name.endswith(".dt.bias"):
            weights[name] = rng.normal(-2 if config.form == "standard" else 0.1, 0.3, value.shape)
    return weights


TINY = {"input": "sequence", "features": 2, "length": 3, "d_model": 3, "d_state": 2, "dt_rank": 1, "blocks": 1, "d_conv": 2,
        "task": "regression", "outputs": 2}
ZEROS = {"B": ("B.weight",), "C": ("C.weight",), "D": ("D",), "out": ("out.weight",), "conv": ("conv.weight", "conv.bias"),
         "z": ("z.weight",), "x_proj": ("B.weight", "C.weight", "dt_low.weight"), "dt": ("dt.weight",),
         "x": ("x.weight",)}
SLOW = {"slow": (1e-5, 1e-3), "slower": (1e-6, 1e-5), "still": (1e-42, 1e-41)}
KINDS = (*ZEROS, *SLOW)


def kind_of(kind: str, form: str, **changes) -> tuple[ModelConfig, dict[str, Array]]:
    """Weights with branches of zeros, or with δ near such values."""
    config = ModelConfig(**TINY | {"form": form} | changes)
    weights = weights_of(config)
    if kind in ZEROS:
        return config, weights | {f"blocks.0.{name}": 0.0 * weights[f"blocks.0.{name}"] for name in ZEROS[kind]}
    low, high = SLOW[kind]
    delta = np.geomspace(low, high, config.d_inner)
    standard = config.form == "standard"
    bias = np.log(delta) if standard and low < 1e-20 else np.log(np.expm1(delta)) if standard else delta
    small = 0.1 if standard else low
    return config, weights | {"blocks.0.dt.bias": bias, "blocks.0.dt.weight": small * weights["blocks.0.dt.weight"]}


def quantized(config: ModelConfig, weights: dict[str, Array], tokens: Array | None = None, **settings) -> Artifact:
    tokens = tokens_of(config) if tokens is None else tokens
    width = config.input_width
    codec = Codec(np.zeros(width), np.ones(width), np.ones(config.outputs), np.zeros(config.outputs))
    return quantize("degenerate", config, weights, codec, tokens, QuantizeConfig(**settings))


def tokens_of(config: ModelConfig, count: int = 6) -> Array:
    return np.random.default_rng(9).normal(0, 1, (count, config.tokens, config.input_width))


def worst(artifact: Artifact, tokens: Array) -> dict[str, float]:
    """By node, the largest |integer − float| in steps of the output, beyond what the rounding of its weights explains."""
    reference = Reference(artifact.graph, artifact.weights)
    integers = IntegerModel(artifact).run(artifact.codec.encode(tokens, artifact.input))
    values = {name: integers[name] * op.o.step for name, op in artifact.operators.items()}
    result = {}
    for node in reference.graph.nodes[1:]:
        op, inputs = artifact.operators[node.name], [values[name] for name in node.inputs]
        with np.errstate(under="ignore"):
            want, slack = _expected(reference, node, op, [integers[name] for name in node.inputs], inputs)
        off = np.abs(values[node.name] - np.clip(want, op.o.min * op.o.step, op.o.max * op.o.step))
        result[node.name] = float(((off - slack) / op.o.step).max())
    return result


def _expected(reference: Reference, node, op, codes: list[Array], inputs: list[Array]) -> tuple[Array, Array | float]:
    """What the float node gives, and the error that rounded weights, tables and states may make of it."""
    p = reference.parameters[node.name]
    want = node.operator.real(NUMPY, node, p, *inputs)
    match op:
        case Weighted():
            step = op.multiplier * 2.0 ** (op.i.frac - op.o.frac - op.shift)
            error = np.abs(op.weight * step[:, None] - p["weight"])
            own = np.abs(p["weight"]).max(1, keepdims=True) if op.dyadic else np.abs(p["weight"]).max()
            error[np.broadcast_to(error > own / 8, error.shape)] = 0.0  # weights that are lost explain no error of the output
            x = np.abs(inputs[0])
            moved = x @ error.T if node.kind == "Linear" else sum(
                np.pad(x, ((0, 0), (k, 0), (0, 0)))[:, :x.shape[1]] * error[:, -1 - k] for k in range(error.shape[1]))
            return want, moved + np.maximum(0, step * op.i.step - op.o.step) / 2
        case Norm():
            return want, np.abs(want) * 2.0**-8
        case Scan():
            return _scan(op, p["D"], codes, inputs)
    return want, 0.0


def _scan(op: Scan, D: Array, codes: list[Array], inputs: list[Array]) -> tuple[Array, Array]:
    """The float recurrence with the integer Ā."""
    u, dt, B, C = inputs
    decay = op.decays(codes[1]) * op.a_bar.step
    h, y, slack = 0.0, np.empty_like(u), np.empty_like(u)
    for t in range(u.shape[1]):
        h = decay[:, t] * h + (dt[:, t] * u[:, t])[..., None] * B[:, t, None]
        y[:, t] = (h * C[:, t, None]).sum(-1) + D * u[:, t]
        rounded = op.h.step + (op.b_bar.step * np.abs(u).max() if op.delta_b else 0.0)
        slack[:, t] = np.abs(C[:, t]).sum(-1)[:, None] * rounded * (t + 1) + np.abs(u[:, t]) * np.abs(op.D * op.d.step - D)
    return y, slack
