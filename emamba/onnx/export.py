"""A model as ONNX: the float model, or the integer model with its scales as QuantizeLinear and DequantizeLinear."""

from collections.abc import Callable, Mapping

import numpy as np
from onnx import ModelProto

from ..artifact import Artifact, Codec
from ..graph import Graph, Node
from ..ops import Lookup, Operator, Scan, Weighted
from . import kinds  # noqa: F401
from .writer import Stored, Writer, stream

Array = np.ndarray

INPUT, OUTPUT = "inputs", "outputs"
TASK = "emamba.task"
"""Key of the model's properties that says what the outputs are for."""


def export_float(graph: Graph, weights: Mapping[str, Array], codec: Codec, task: str) -> ModelProto:
    """The float model, from and to the user's unit.

    graph, weights: the model and its tensors
    codec, task: of its artifact or checkpoint
    """
    w = Writer(graph)

    def write(node: Node, inputs: list[str]) -> str:
        stored = {name: Stored(tensor, weights[tensor]) for name, tensor in node.parameters.items()}
        return w.named(w.write(node, stored, inputs), node.name) if node.inputs else inputs[0]

    return _written(w, codec, task, write)


def export_integer(artifact: Artifact) -> ModelProto:
    """The integer model's weights and formats around float operators: what a runtime that knows QDQ computes."""
    w = Writer(artifact.graph)

    def write(node: Node, inputs: list[str]) -> str:
        operator = artifact.operators[node.name]
        if not node.inputs and node.ids:
            return inputs[0]
        value = w.write(node, _stored(node.name, operator), inputs) if node.inputs else inputs[0]
        return w.named(w.rounded(value, operator.o), node.name)

    return _written(w, artifact.codec, artifact.config.task, write)


def _stored(name: str, op: Operator) -> dict[str, Stored]:
    """By the names of a node's parameters, its integers and their steps."""
    if isinstance(op, Lookup):
        parts = {"weight": (op.table, op.o.step)}
    elif isinstance(op, Weighted):
        parts = {"weight": (op.weight, op.steps), "bias": (op.bias, op.steps * op.i.step)}
    elif isinstance(op, Scan):
        parts = {"A": (op.A, op.a.step), "D": (op.D, op.d.step)} | ({} if op.h0 is None else {"h0": (op.h0, op.h.step)})
    else:
        parts = {}
    return {key: Stored(f"{name}.{key}", codes, np.atleast_1d(step)) for key, (codes, step) in parts.items()
            if key != "bias" or codes.any()}


def _written(w: Writer, codec: Codec, task: str, write: Callable[[Node, list[str]], str]) -> ModelProto:
    """Both kinds: the input in the user's unit, every node, the output in the user's unit, one row a sequence where pooled."""
    graph = w.graph
    source, result = graph.input, graph.output
    values = w.values
    for node in graph:
        if node.inputs:
            values[node.name] = write(node, [values[name] for name in node.inputs])
        else:
            w.place = f"{node.name}/codec"
            values[node.name] = write(node, [_standardized(w, codec)])
    w.place = "codec"
    y = values[result.name]
    if (codec.scale != 1).any():
        y = w.op("Mul", y, codec.scale.astype(np.float32))
    if codec.offset.any():
        y = w.op("Add", y, codec.offset.astype(np.float32))
    if graph.pooled:
        y = w.op("Squeeze", y, np.array([1]))
    w.named(w.op("Identity", y) if y == values[result.name] else y, OUTPUT)
    shape = ("batch", source.tokens) if source.ids else ("batch", source.tokens, source.width)
    given = ("batch", result.width) if graph.pooled else ("batch", result.tokens, result.width)
    return w.model("emamba", [stream(INPUT, *shape, ids=bool(source.ids))], [stream(OUTPUT, *given)], {TASK: task})


def _standardized(w: Writer, codec: Codec) -> str:
    x = INPUT
    if codec.mean is not None and codec.mean.any():
        x = w.op("Sub", x, codec.mean.astype(np.float32))
    if codec.std is not None and (codec.std != 1).any():
        x = w.op("Div", x, codec.std.astype(np.float32))
    return x
