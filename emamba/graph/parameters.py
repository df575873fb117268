"""The parameters of a graph's nodes, from the tensors of a checkpoint."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..base.errors import InputError
from .ir import Graph, Node


def parameters(xp, graph: Graph, node: Node, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """What a node computes with: its tensors as its operator prepares them, with the norm before it folded in.

    xp: NumPy's or torch's functions, as for `Operator.real`
    tensors: by name, arrays of NumPy or torch
    """
    found = node.operator.prepared(xp, {name: tensors[tensor] for name, tensor in node.parameters.items()})
    if node.norm:
        norm = {name: tensors[tensor] for name, tensor in graph[node.norm].parameters.items()}
        if "bias" in norm:
            found["bias"] = found["bias"] + found["weight"] @ norm["bias"]
        if "weight" in norm:
            found["weight"] = found["weight"] * norm["weight"]
    return found


def check_tensors(graph: Graph, tensors: Mapping[str, np.ndarray], where: str) -> None:
    """Refuses a checkpoint whose tensors differ from the graph's."""
    for name, shape in graph.tensors.items():
        if name not in tensors:
            raise InputError(f"{where} has no tensor '{name}' of shape {list(shape)}: it is not a checkpoint of this model")
        if tensors[name].shape != shape:
            raise InputError(f"{where}: tensor '{name}' has the shape {list(tensors[name].shape)}, "
                              f"the model needs {list(shape)}")
        if not np.isfinite(tensors[name]).all():
            raise InputError(f"{where}: tensor '{name}' holds values that are not finite: train again")
    for name in sorted(set(tensors) - set(graph.tensors)):
        raise InputError(f"{where} has a tensor '{name}' that this model does not know")
