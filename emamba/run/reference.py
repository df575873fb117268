"""The float executor: the trained model on NumPy float64, node by node, with exact functions. No torch."""

from collections.abc import Iterable, Iterator

import numpy as np

from ..base.arithmetic import causal_conv
from ..base.errors import DesignLimit, InputError
from ..config import ModelConfig
from ..graph import Node, build_graph
from ..piecewise import FUNCTIONS

Array = np.ndarray


def normalize(kind: str, x: Array, epsilon: float) -> Array:
    """The norm before its weight and bias, over the last axis. RangeNorm has no ε."""
    if kind == "RMSNorm":
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)
    centred = x - x.mean(-1, keepdims=True)
    if kind == "LayerNorm":
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    if kind != "RangeNorm":
        raise DesignLimit(f"there is no float definition of a {kind}")
    extent = x.max(-1, keepdims=True) - x.min(-1, keepdims=True)
    return np.divide(centred, extent, out=np.zeros_like(centred), where=extent > 0)


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a checkpoint."""
    d, e, n, r = config.d_model, config.d_inner, config.d_state, config.dt_rank
    tokens = config.input == "tokens"
    shapes = {"embed.weight": (config.vocabulary, d) if tokens else (d, config.input_width)}
    if not tokens:
        shapes["embed.bias"] = (d,)

    def norm(prefix: str):
        if config.norm != "none":
            shapes[f"{prefix}.weight"] = (d,)
        if config.norm in ("range", "layer"):
            shapes[f"{prefix}.bias"] = (d,)

    for k in range(config.blocks):
        b = f"blocks.{k}"
        norm(f"{b}.norm")
        shapes |= {f"{b}.x.weight": (e, d), f"{b}.z.weight": (e, d), f"{b}.out.weight": (d, e)}
        if config.projection_bias:
            shapes |= {f"{b}.x.bias": (e,), f"{b}.z.bias": (e,), f"{b}.out.bias": (d,)}
        shapes |= {
            f"{b}.conv.weight": (e, config.d_conv), f"{b}.conv.bias": (e,), f"{b}.dt_low.weight": (r, e),
            f"{b}.dt.weight": (e, r), f"{b}.dt.bias": (e,), f"{b}.B.weight": (n, e), f"{b}.C.weight": (n, e),
            f"{b}.A_log": (e, n), f"{b}.D": (e,),
        }
    norm("norm")
    return shapes | {"head.weight": (config.outputs, d), "head.bias": (config.outputs,)}


def check_weights(config: ModelConfig, weights: dict[str, Array], where: str) -> None:
    """Refuses a checkpoint whose tensors are not those of `config`."""
    shapes = expected_shapes(config)
    for name, shape in shapes.items():
        if name not in weights:
            raise InputError(f"{where} has no tensor '{name}' of shape {list(shape)}: it is not a checkpoint of this model")
        if weights[name].shape != shape:
            raise InputError(f"{where}: tensor '{name}' has the shape {list(weights[name].shape)}, "
                             f"the model needs {list(shape)}")
        if not np.isfinite(weights[name]).all():
            raise InputError(f"{where}: tensor '{name}' holds values that are not finite: train again")
    for name in sorted(set(weights) - set(shapes)):
        raise InputError(f"{where} has a tensor '{name}' that this model does not know")


class Reference:
    """Float executor of a checkpoint. `parameters` holds, per node, the arrays with each norm's weight and bias folded into
    the Linear that reads it."""

    def __init__(self, config: ModelConfig, weights: dict[str, Array]):
        check_weights(config, weights, "the checkpoint")
        self.config, self.graph = config, build_graph(config)
        self.weights = {name: np.asarray(value, np.float64) for name, value in weights.items()}
        self.parameters = {node.name: self._parameters(node) for node in self.graph}

    def _parameters(self, node: Node) -> dict[str, Array]:
        prefix = node.name.replace("block", "blocks.", 1) if node.name.startswith("block") else node.name
        get = self.weights.get
        if node.kind == "Linear":
            name = prefix.replace("dt_raw", "dt")
            weight = get(f"{name}.weight")
            bias = get(f"{name}.bias", np.zeros(len(weight)))
            norm = {"x": "norm", "z": "norm", "head": "norm"}.get(name.rsplit(".", 1)[-1])
            if norm and self.config.norm != "none":
                source = "norm" if name == "head" else f"{prefix.rsplit('.', 1)[0]}.norm"
                if f"{source}.bias" in self.weights:
                    bias = bias + weight @ get(f"{source}.bias")
                weight = weight * get(f"{source}.weight")
            return {"weight": weight, "bias": bias}
        if node.kind == "Conv1d":
            return {"weight": get(f"{prefix}.weight"), "bias": get(f"{prefix}.bias")}
        if node.kind == "Lookup":
            return {"table": get("embed.weight")}
        if node.kind == "Scan":
            block = prefix.rsplit(".", 1)[0]
            with np.errstate(over="ignore"):  # a state that keeps nothing
                return {"A": -np.exp(get(f"{block}.A_log")), "D": get(f"{block}.D")}
        return {}

    def run(self, tokens: Array, keep: Iterable[str] | None = None) -> dict[str, Array]:
        """tokens [batch, L, input width] (standardized values, or ids) → arrays [batch, L', width] of the nodes in `keep`,
        all of them for None."""
        keep = None if keep is None else set(keep)
        values: dict[str, Array] = {}
        last_reader = {name: k for k, node in enumerate(self.graph) for name in node.inputs}
        for k, node in enumerate(self.graph):
            inputs = [values[name] for name in node.inputs]
            values[node.name] = tokens if node.kind == "Input" else self._compute(node, *inputs)
            for name in node.inputs:
                if keep is not None and name not in keep and last_reader[name] == k:
                    values.pop(name, None)
        return values if keep is None else {name: values[name] for name in values if name in keep}

    def _compute(self, node: Node, *inputs: Array) -> Array:
        p, x = self.parameters[node.name], inputs[0]
        match node.kind:
            case "Linear":
                y = x @ p["weight"].T + p["bias"]
                return np.maximum(y, 0) if node.name.endswith(".dt") else y
            case "Lookup":
                return p["table"][x[..., 0]]
            case "Conv1d":
                return causal_conv(x, p["weight"]) + p["bias"]
            case "Activation":
                return FUNCTIONS["softplus" if node.name.endswith(".dt") else "silu"](x)
            case "Scan":
                return self._scan(node, *inputs)
            case "Multiply":
                return x * inputs[1]
            case "Add":
                return x + inputs[1]
            case "Pool":
                return x.mean(1, keepdims=True) if self.config.pool == "mean" else x[:, -1:]
            case _:
                return normalize(node.kind, x, self.config.norm_epsilon)

    def _scan(self, node: Node, u: Array, dt: Array, B: Array, C: Array) -> Array:
        y = np.empty_like(u)
        for t, h in enumerate(self._steps(node.name, u, dt, B)):
            y[:, t] = (h * C[:, t, None]).sum(-1) + self.parameters[node.name]["D"] * u[:, t]
        return y

    def states(self, name: str, values: dict[str, Array]) -> Array:
        """The states of scan `name` after every token, [batch, L, d_inner, d_state], from the values of its input nodes."""
        node = next(node for node in self.graph if node.name == name)
        u, dt, B, _ = (values[key] for key in node.inputs)
        return np.stack(list(self._steps(name, u, dt, B)), 1)

    def _steps(self, name: str, u: Array, dt: Array, B: Array) -> Iterator[Array]:
        A = self.parameters[name]["A"]
        h = np.zeros((len(u), *A.shape))
        for t in range(u.shape[1]):
            h = np.exp(dt[:, t, :, None] * A) * h + (dt[:, t] * u[:, t])[..., None] * B[:, t, None]
            yield h
