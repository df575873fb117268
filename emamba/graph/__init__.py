"""Models as graphs: what a node says, how a function builds one, and the models that come with the package."""

from . import models
from .builder import MODELS, NORMS, Builder, build_graph, import_models, model
from .ir import Graph, Node, graph_from_json

__all__ = ["MODELS", "NORMS", "Builder", "Graph", "Node", "build_graph", "graph_from_json", "import_models", "model", "models"]
