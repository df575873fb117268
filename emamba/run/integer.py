"""The integer executor, the golden model that the hardware equals bit for bit."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..artifact import Artifact
from ..base.errors import InputError
from ..ops import Scan

Array = np.ndarray

GOLDEN = 4
"""Sequences that an artifact carries, as integers, for the self-tests of boards."""
BLOCK, THREADS = 256, min(4, os.cpu_count() or 1)
"""Sequences computed at a time by one thread, and threads: NumPy works outside Python's lock."""


class IntegerModel:
    """Runs an artifact's operators, node by node.

    The sequences of a call follow each other in time where the artifact's state is carried (`Graph.carried`): each goes on
    with the state that the one before left. Every call begins with the state of the start.
    """

    def __init__(self, artifact: Artifact):
        self.artifact, self.graph = artifact, artifact.graph

    def run(self, tokens: Array, keep: Iterable[str] | None = None, window: int | None = None) -> dict[str, Array]:
        """Runs the model.

        Parameters
            tokens: integers [batch, L, input width]
            keep: nodes to return; all of them for None
            window: sequences that follow each other in time, in place of all or none of them

        Returns
            int64 arrays [batch, L', width] by node
        """
        check_tokens(self.artifact, tokens)
        keep = {node.name for node in self.graph} if keep is None else set(keep)
        window = window or self.graph.window(len(tokens))
        if window > 1:
            return self._run(tokens, keep, window)
        blocks = [tokens[k:k + BLOCK] for k in range(0, len(tokens), BLOCK)] or [tokens]
        with ThreadPoolExecutor(THREADS) as pool:
            parts = list(pool.map(lambda block: self._run(block, keep), blocks))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def answer(self, tokens: Array) -> Array:
        """The output's integers alone."""
        return self.run(tokens, self.graph.outputs)[self.graph.output.name]

    def _run(self, tokens: Array, keep: set[str], window: int = 1) -> dict[str, Array]:
        last = self.graph.last_reader()
        values: dict[str, Array] = {}
        end = max((k for k, node in enumerate(self.graph) if node.name in keep), default=-1) + 1
        for k, node in enumerate(self.graph.nodes[:end]):
            inputs = [values[name] for name in node.inputs]
            op = self.artifact.operators[node.name]
            value = op.carry(op, window, *inputs) if inputs else tokens.astype(np.int64)
            values[node.name] = _batch_innermost(value)
            for name in node.inputs:
                if name not in keep and last[name] == k:
                    values.pop(name, None)
        return {name: value.astype(np.int64, order="C") for name, value in values.items() if name in keep}

    def resume(self, tokens: Array, state: dict[str, Array] | None = None) -> tuple[Array, dict[str, Array]]:
        """tokens [batch, L, input width], that go on where those before them ended → the output's values and the state after
        them.

        The state holds, by node, what `Operator.resume` keeps; none is all zeros. A pool sees these tokens alone.
        """
        check_tokens(self.artifact, tokens)
        values: dict[str, Array] = {}
        after: dict[str, Array] = {}
        for node in self.graph:
            inputs = [values[name] for name in node.inputs]
            if not inputs:
                values[node.name] = tokens.astype(np.int64)
                continue
            values[node.name], kept = self.artifact.operators[node.name].resume((state or {}).get(node.name), *inputs)
            if kept is not None:
                after[node.name] = kept
        return values[self.graph.output.name].astype(np.int64), after

    def states(self, name: str, values: dict[str, Array]) -> Array:
        """The state h_wide of scan `name` after every token, [batch, L, d_inner, d_state], from its input nodes' values."""
        op, inputs = self.artifact.operators[name], [values[key] for key in self.graph[name].inputs]
        assert isinstance(op, Scan)

        def trace(u: Array, dt: Array, B: Array, C: Array) -> Array:
            h, states = op.start(len(u)), []
            for t in range(u.shape[1]):
                _, h, h_wide = op.step(h, u[:, t], dt[:, t], B[:, t], C[:, t])
                states.append(h_wide)
            return np.stack(states, 1, dtype=np.int64)

        return op.carry(trace, self.graph.window(len(inputs[0])), *inputs)


def answers(artifact: Artifact, tokens: Array) -> str:
    """SHA-256 of the output's integers for `tokens`, as little-endian int64: what a record keeps of its golden sequences."""
    return hashlib.sha256(IntegerModel(artifact).answer(tokens).astype("<i8").tobytes()).hexdigest()


def record_golden(artifact: Artifact, tokens: Array) -> None:
    """Puts the first of `tokens` [n, L, input width], in the user's unit, into the artifact's record, with their answers."""
    golden = artifact.codec.encode(tokens[:GOLDEN], artifact.input)
    artifact.record.update(golden=golden.tolist(), answers=answers(artifact, golden))


def check_tokens(artifact: Artifact, tokens: Array) -> None:
    """Refuses integers that are no sequences of the artifact's input."""
    source = artifact.operators[artifact.graph.input.name]
    if tokens.ndim != 3 or tokens.shape[2] != source.width or not tokens.shape[1]:
        raise InputError(f"the input has the shape {list(tokens.shape)}; "
                          f"the model reads [sequences, tokens, {source.width}]")
    if tokens.size and (tokens.min() < source.o.min or tokens.max() > source.o.max):
        raise InputError(f"the input holds integers outside {source.o.min}..{source.o.max} of its format {source.o}")


def _batch_innermost(x: Array) -> Array:
    """x [batch, L, width], in memory [L, width, batch]: every pass runs along the batch, and a Linear is one product a token."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
