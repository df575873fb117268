"""Two Linears in a row as one: fewer roundings, and where the width between them is large, fewer multiplications."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..graph import Graph, Node
from ..graph.builder import order_after

Array = np.ndarray


def fold(graph: Graph, weights: Mapping[str, Array]) -> tuple[Graph, dict[str, Array]]:
    """Folds each Linear that only another Linear reads into its reader: W₂·(W₁·x + b₁) + b₂, in float64. Our choice.

    Parameters
    ----------
    graph : a model
    weights : its tensors by name

    Returns
    -------
    The graph without the first Linears, and its tensors; the second's keep their names. A tensor that another node reads too
    keeps its Linear as it is.
    """
    nodes, tensors = {node.name: node for node in graph}, dict(weights)
    uses: dict[str, int] = {}
    for node in graph:
        for tensor in node.parameters.values():
            uses[tensor] = uses.get(tensor, 0) + 1
    for second in graph:
        first = nodes.get(second.inputs[0]) if second.inputs else None
        if first is None or not _foldable(graph, first, second) or any(
                uses[tensor] > 1 for node in (first, second) for tensor in node.parameters.values()):
            continue
        (W1, b1), (W2, b2) = ((_tensor(tensors, node, "weight"), _tensor(tensors, node, "bias")) for node in (first, second))
        for tensor in (*first.parameters.values(), *second.parameters.values()):
            del tensors[tensor]
        parameters = {"weight": second.parameters["weight"]}
        tensors[parameters["weight"]] = (W2 @ W1).astype(np.float32)
        if "bias" in first.parameters or "bias" in second.parameters:
            parameters["bias"] = second.parameters.get("bias", parameters["weight"].removesuffix("weight") + "bias")
            tensors[parameters["bias"]] = (W2 @ b1 + b2).astype(np.float32)
        del nodes[first.name]
        nodes[second.name] = replace(second, inputs=first.inputs, norm=first.norm, parameters=parameters,
                                     order=order_after(nodes[first.inputs[0]]))
    return replace(graph, nodes=tuple(nodes.values())), tensors


def _foldable(graph: Graph, first: Node, second: Node) -> bool:
    readers = [node for node in graph if first.name in node.inputs]
    return (first.kind == second.kind == "Linear" and len(readers) == 1 and first.name not in graph.outputs
            and not first.attributes.get("function"))


def _tensor(tensors: Mapping[str, Array], node: Node, name: str) -> Array:
    if name in node.parameters:
        return np.asarray(tensors[node.parameters[name]], np.float64)
    return np.zeros(node.width)
