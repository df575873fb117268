"""The artifact: one integer model in a folder."""

from .length import of_length
from .store import FORMAT, SHIPPED, VERSION, Artifact, Codec, check_operators, graph_of, load, save, to_json

__all__ = ["FORMAT", "SHIPPED", "VERSION", "Artifact", "Codec", "check_operators", "graph_of", "load", "of_length", "save",
           "to_json"]
