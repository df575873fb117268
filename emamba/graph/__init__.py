"""Models as graphs: what a node says, how a function builds one, and the models that come with the package."""

from . import models
from .builder import MODELS, NORMS, Builder, build_graph, model
from .ir import Graph, Node, graph_from_json
from .own import import_models

__all__ = ["MODELS", "NORMS", "Builder", "Graph", "Node", "build_graph", "graph_from_json", "import_models", "model", "models"]
