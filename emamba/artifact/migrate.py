"""Manifests of older versions."""

from typing import Any

from ..base.errors import InputError
from ..config import ModelConfig
from ..graph import build_graph


def migrated(nodes: Any, config: ModelConfig) -> dict:
    """The `graph` of version 2 from the `nodes` of version 1, which had their formats alone: the graph followed from `config`."""
    if not isinstance(nodes, dict):
        raise InputError("nodes: must be a table")
    graph = build_graph(config)
    for name in sorted(set(nodes) ^ {node.name for node in graph}):
        raise InputError(f"node '{name}' is {'unknown to' if name in nodes else 'missing from'} this model's graph")
    rows = graph.to_json()
    for row in rows["nodes"]:
        row["operator"] = nodes[row["name"]]
    return rows
