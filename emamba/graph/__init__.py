"""The model as a graph of named nodes: the order in which every executor computes, and the keys of every trace."""

from dataclasses import dataclass

from ..config import ModelConfig


@dataclass(frozen=True)
class Node:
    """`kind` is an operator's name, `width` its channels per token, `inputs` the nodes it reads."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    width: int


def build_graph(config: ModelConfig) -> tuple[Node, ...]:
    """Nodes in an order in which every input comes before its readers. Paper: block of Fig. 2 as the authors built it.

    The head reads the pooled token: pooling and the head's Linear commute, so the head works once per sequence (our choice).
    """
    d, e = config.d_model, config.d_inner
    nodes = [Node("input", "Input", (), config.input_width)]

    def add(name: str, kind: str, inputs: tuple[str, ...], width: int) -> str:
        nodes.append(Node(name, kind, inputs, width))
        return name

    stream = add("embed", "Lookup" if config.input == "tokens" else "Linear", ("input",), d)
    for k in range(config.blocks):
        def block(name: str, kind: str, inputs: tuple[str, ...], width: int, k: int = k) -> str:
            return add(f"block{k}.{name}", kind, inputs, width)

        normed = stream if config.norm == "none" else block("norm", _norm_kind(config), (stream,), d)
        x = block("x", "Linear", (normed,), e)
        z = block("z", "Linear", (normed,), e)
        u = block("conv", "Conv1d", (x,), e)
        if config.conv_silu:
            u = block("u", "Activation", (u,), e)
        dt_low = block("dt_low", "Linear", (u,), config.dt_rank)
        if config.softplus:
            raw = block("dt_raw", "Linear", (dt_low,), e)
            dt = block("dt", "Activation", (raw,), e)
        else:
            dt = block("dt", "Linear", (dt_low,), e)
        b = block("B", "Linear", (u,), config.d_state)
        c = block("C", "Linear", (u,), config.d_state)
        y = block("y", "Scan", (u, dt, b, c), e)
        silu = block("silu", "Activation", (z,), e)
        gate = block("gate", "Multiply", (y, silu), e)
        out = block("out", "Linear", (gate,), d)
        stream = block("residual", "Add", (stream, out), d) if config.residual else out
    if config.norm != "none":
        stream = add("norm", _norm_kind(config), (stream,), d)
    if config.pool != "none":
        stream = add("pool", "Pool", (stream,), d)
    add("head", "Linear", (stream,), config.outputs)
    return tuple(nodes)


def _norm_kind(config: ModelConfig) -> str:
    return {"range": "RangeNorm", "layer": "LayerNorm", "rms": "RMSNorm"}[config.norm]
