"""The executors of an artifact in software: the same tokens in, the same trace keys out."""

from collections.abc import Callable, Iterable
from functools import cache

import numpy as np

from ..artifact import Artifact
from ..base.errors import DesignLimit, InputError, SettingError, ToolFailed, ToolMissing
from .compiled import IntegerLoop, say
from .integer import THREADS, IntegerModel
from .reference import Reference

Array = np.ndarray
Executor = Callable[[Array, Iterable[str] | None], dict[str, Array]]

BACKENDS = ("float", "int")
BATCH, BATCH_VALUES = 512, 1 << 24
"""Sequences at a time, and values of their widest node: bounds the memory."""
COMPILED_TOKENS = 4096
"""Of a call, at least, that make it worth to compile the integer model: half a second, once."""


def make_executor(artifact: Artifact, backend: str) -> Executor:
    """A function of (tokens [batch, L, input width] in the user's unit, keys to keep or None) → node values: real ones of
    `float`, integers of each node's format of `int`."""
    if backend == "float":
        reference = Reference(artifact.graph, artifact.weights)

        def run(tokens: Array, keep: Iterable[str] | None = None) -> dict[str, Array]:
            return reference.run(artifact.codec.standardize(tokens), keep)

        return run
    if backend == "int":
        return _integer(artifact)
    raise SettingError(f"there is no backend '{backend}'; choose one of {', '.join(BACKENDS)}")


def _integer(artifact: Artifact) -> Executor:
    """The integer model; its compiled loop where that can be, and only the head of many tokens is asked for."""
    model, output = IntegerModel(artifact), artifact.graph.output.name

    @cache
    def loop() -> IntegerLoop | None:
        try:
            return IntegerLoop(artifact)
        except (ToolMissing, DesignLimit):  # no compiler, or an artifact that is too large for the loop
            return None
        except ToolFailed as error:
            say(f"{error}; NumPy computes instead, several times slower")
            return None

    def run(tokens: Array, keep: Iterable[str] | None = None) -> dict[str, Array]:
        integers, keep = artifact.codec.encode(tokens, artifact.input), None if keep is None else set(keep)
        many = integers.ndim == 3 and integers.shape[1] == artifact.graph.length and integers[..., 0].size >= COMPILED_TOKENS
        if many and keep == {output} and (compiled := loop()):
            return {output: compiled.run(integers, THREADS)}
        return model.run(integers, keep)

    return run


def predict(artifact: Artifact, backend: str, executor: Executor, tokens: Array,
            progress: Callable[[int], None] | None = None) -> Array:
    """Head outputs in the user's unit (or logits): [batch, outputs] of a pooled model, else [batch, L, outputs]."""
    tokens, graph = np.asarray(tokens), artifact.graph
    if tokens.ndim != 3:
        raise InputError(f"the input has the shape {list(tokens.shape)}; the model reads [sequences, tokens, "
                         f"{graph.input.width}]")
    length, widest = max((1, *tokens.shape[1:2])), max(op.width for op in artifact.operators.values())
    batch = len(tokens) if graph.carried else max(1, min(BATCH, BATCH_VALUES // (length * widest)))
    given = 1 if graph.pooled else length * graph.output.tokens // graph.length
    values = np.empty((len(tokens), given, graph.output.width))
    for start in range(0, len(tokens), batch or 1):
        answer = executor(tokens[start:start + batch], graph.outputs)[graph.output.name]
        part = artifact.codec.values(answer) if backend == "float" else artifact.codec.decode(answer, artifact.output)
        values[start:start + batch] = part
        if progress:
            progress(min(start + batch, len(tokens)))
    return values[:, 0] if graph.pooled else values
