"""The executors of an artifact behind one call: the same tokens in, the same trace keys out."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from .artifact import Artifact
from .errors import EmambaError
from .integer import IntegerModel
from .reference import Reference

Array = np.ndarray
Executor = Callable[[Array, Iterable[str] | None], dict[str, Array]]

BACKENDS = ("float", "int", "rtl")
BATCH = 512
"""Sequences at a time: bounds the memory."""


def make_executor(artifact: Artifact, backend: str, *, cycles_per_token: int = 20, build: Path = Path("build/native"),
                  trace: bool = False) -> Executor:
    """A function of (tokens [batch, L, input width] in the user's unit, keys to keep or None) → node values.

    Values of `float` are real; those of `int` and `rtl` are integers of each node's format. `rtl` is the Verilated
    design at `cycles_per_token`; with `trace` it shows every node, else the head only.
    """
    if backend == "float":
        reference = Reference(artifact.config, artifact.weights)
        return lambda tokens, keep=None: reference.run(artifact.codec.standardize(tokens), keep)
    if backend == "int":
        model = IntegerModel(artifact)
        return lambda tokens, keep=None: model.run(artifact.codec.encode(tokens, artifact.input), keep)
    if backend == "rtl":
        from sim.executor import RtlExecutor

        rtl = RtlExecutor(artifact, cycles_per_token, build, trace=trace)
        return lambda tokens, keep=None: rtl.run(artifact.codec.encode(tokens, artifact.input), keep)
    raise EmambaError(f"there is no backend '{backend}'; choose one of {', '.join(BACKENDS)}")


def predict(artifact: Artifact, backend: str, executor: Executor, tokens: Array,
            progress: Callable[[int], None] | None = None) -> Array:
    """Head outputs in the user's unit (or logits): [batch, outputs] of a pooled model, else [batch, L, outputs]."""
    parts = []
    for start in range(0, len(tokens), BATCH):
        head = executor(tokens[start:start + BATCH], ["head"])["head"]
        parts.append(artifact.codec.values(head) if backend == "float" else artifact.codec.decode(head, artifact.output))
        if progress:
            progress(min(start + BATCH, len(tokens)))
    values = np.concatenate(parts)
    return values if artifact.config.pool == "none" else values[:, 0]
