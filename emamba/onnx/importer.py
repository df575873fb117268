"""A model of ONNX as a graph of this project, exactly or not at all."""

from collections import Counter
from pathlib import Path

import numpy as np

from ..artifact import Codec
from ..base.errors import InputError, located
from ..config import ModelConfig, validate
from ..graph import Graph
from ..graph.builder import NORMS
from ..importers.family import Imported
from . import arithmetic, attention, expansion, products, shapes  # noqa: F401
from .export import TASK
from .file import Source, read_file
from .finish import finish
from .reader import read

TASKS = ("classification", "regression", "next_token")


def read_onnx(path: Path, length: int | None = None, task: str | None = None) -> Imported:
    """The model in a file.

    length: tokens of a sequence, where the file leaves them open
    task: what the outputs are for; by default what `emamba export` wrote, else next_token for ids and regression for numbers
    """
    source = read_file(path)
    with located(str(path)):
        output = read(source, length)
        if output.axes not in (("B", "L", "C"), ("B", "1", "C"), ("B", "C")):
            raise InputError(f"its output has the axes {', '.join(output.axes)}; [batch, tokens, outputs] and [batch, outputs] "
                             "are read")
        graph, tensors, codec = finish(output)
        for key, value in codec.items():
            if value is not None and not np.isfinite(value).all():
                raise InputError(f"the {key} of its inputs or outputs is not finite")
        config = _config(graph, source, task)
        notes = (_count(source, graph), *_kept(codec))
        width, ids = graph.output.width, config.input == "tokens"
        mean, std = (None, None) if ids else (np.zeros(config.input_width), np.ones(config.input_width))
        told = Codec(mean if codec["mean"] is None else codec["mean"], std if codec["std"] is None else codec["std"],
                     np.ones(width) if codec["scale"] is None else codec["scale"],
                     np.zeros(width) if codec["offset"] is None else codec["offset"])
        return Imported(config, tensors, notes, graph, told)


def _config(graph: Graph, source: Source, task: str | None) -> ModelConfig:
    """Sizes for people and for the data: the graph is what counts."""
    first, kinds = graph.input, [node.kind for node in graph]
    task = task or source.properties.get(TASK, "")
    if task not in TASKS:
        task = "next_token" if first.ids and not graph.pooled else "regression"
    pools = [node.mean for node in graph if node.kind == "Pool"]
    scans = [node for node in graph if node.kind in ("Scan", "HeadScan")]
    taps = [node.taps for node in graph if node.kind == "Conv1d"]
    norm = next((name for name, kind in NORMS.items() if kind in kinds), "none")
    if first.ids:
        given: dict = {"input": "tokens", "vocabulary": first.ids, "length": graph.length}
    elif len(source.shape) == 4:
        given = {"input": "image", "image": (*source.shape[2:], first.width), "patch": (1, 1)}
    else:
        given = {"input": "sequence", "features": first.width, "length": graph.length}
    sizes = {"inner": scans[0].width, "d_state": graph[scans[0].inputs[2]].width} if scans else {}
    return validate(ModelConfig, {
        "form": "onnx", "d_model": graph.nodes[1].width if len(graph) > 1 else first.width,
        "blocks": max(1, len(scans)), "norm": norm, "d_conv": taps[0] if taps else 1, "task": task,
        "pool": ("mean" if pools[0] else "last") if pools else "none", "outputs": graph.output.width,
    } | given | sizes, "its sizes")


def _count(source: Source, graph: Graph) -> str:
    counts = Counter(node.kind for node in graph)
    return (f"ONNX: {len(source.operations)} operators became {len(graph)} nodes: "
            + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))


def _kept(codec: dict) -> list[str]:
    ends = {"input": ("mean", "std"), "output": ("scale", "offset")}
    return [f"a scale and an offset of each {place} became the codec's" for place, keys in ends.items()
            if any(codec[key] is not None for key in keys)]
