"""The same integers for sequences of another length."""

from dataclasses import replace

from ..base.errors import DesignLimit
from ..graph import build_graph
from .store import Artifact


def of_length(artifact: Artifact, tokens: int, carried: bool = False) -> Artifact:
    """The artifact for sequences of so many tokens, each of which goes on with the state of the one before where it is `carried`;
    its golden sequences are truncated. Only models that answer every token have another length."""
    config, record = artifact.config, dict(artifact.record)
    if config.pool != "none" or config.input == "image":
        raise DesignLimit(f"{artifact.name} answers whole sequences of {artifact.graph.length} tokens, so it has no other "
                          "length: take a model with pool = none, such as models/shakespeare")
    config = config.model_copy(update={"length": tokens, "carried": carried})
    if "golden" in record:
        record["golden"] = [sequence[:tokens] for sequence in record["golden"]]
        record.pop("answers", None)
    return replace(artifact, config=config, graph=build_graph(config), record=record)
