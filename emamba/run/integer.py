"""The integer executor, the golden model that the hardware equals bit for bit."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..artifact import Artifact
from ..base.errors import InputError
from ..graph import build_graph
from ..ops import Conv1d, Scan

Array = np.ndarray

GOLDEN = 4
"""Sequences that an artifact carries, as integers, for the self-tests of boards."""
BLOCK, THREADS = 256, min(4, os.cpu_count() or 1)
"""Sequences computed at a time by one thread, and threads: NumPy works outside Python's lock."""


class IntegerModel:
    """Runs an artifact's operators, node by node."""

    def __init__(self, artifact: Artifact):
        self.artifact, self.graph = artifact, build_graph(artifact.config)

    def run(self, tokens: Array, keep: Iterable[str] | None = None) -> dict[str, Array]:
        """tokens [batch, L, input width] of integers → int64 arrays [batch, L', width] of the nodes in `keep` (all for None)."""
        check_tokens(self.artifact, tokens)
        keep = {node.name for node in self.graph} if keep is None else set(keep)
        blocks = [tokens[k:k + BLOCK] for k in range(0, len(tokens), BLOCK)] or [tokens]
        with ThreadPoolExecutor(THREADS) as pool:
            parts = list(pool.map(lambda block: self._run(block, keep), blocks))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run(self, tokens: Array, keep: set[str]) -> dict[str, Array]:
        last_reader = {name: k for k, node in enumerate(self.graph) for name in node.inputs}
        values = {"input": _batch_innermost(tokens.astype(np.int64))}
        end = max((k for k, node in enumerate(self.graph) if node.name in keep), default=-1) + 1
        for k, node in enumerate(self.graph[:end]):
            if node.inputs:
                value = self.artifact.operators[node.name](*(values[name] for name in node.inputs))
                values[node.name] = _batch_innermost(value)
            for name in node.inputs:
                if name not in keep and last_reader[name] == k:
                    values.pop(name, None)
        return {name: value.astype(np.int64, order="C") for name, value in values.items() if name in keep}

    def resume(self, tokens: Array, state: dict[str, Array] | None = None) -> tuple[Array, dict[str, Array]]:
        """tokens [batch, L, input width], that go on where those before them ended → the head's values and the state after them.

        The state holds, by node, the last taps − 1 tokens of a convolution [batch, taps − 1, channels] and h of a scan [batch,
        d_inner, d_state]; none is all zeros. A pool sees these tokens alone.
        """
        check_tokens(self.artifact, tokens)
        values, after = {"input": tokens.astype(np.int64)}, {}
        for node in self.graph[1:]:
            op, inputs = self.artifact.operators[node.name], [values[name] for name in node.inputs]
            before = (state or {}).get(node.name)
            match op:
                case Conv1d():
                    kept = op.weight.shape[1] - 1
                    before = np.zeros((len(tokens), kept, op.width), np.int64) if before is None else before
                    known = np.concatenate([before, inputs[0]], 1)
                    values[node.name], after[node.name] = op(known)[:, kept:], known[:, known.shape[1] - kept:]
                case Scan():
                    h, outputs = np.zeros((len(tokens), *op.A.shape), np.int64) if before is None else before, []
                    for t in range(tokens.shape[1]):
                        y, h, _ = op.step(h, *(value[:, t] for value in inputs))
                        outputs.append(y)
                    values[node.name], after[node.name] = np.stack(outputs, 1), h
                case _:
                    values[node.name] = op(*inputs)
        return values["head"].astype(np.int64), after

    def states(self, name: str, values: dict[str, Array]) -> Array:
        """The state h_wide of scan `name` after every token, [batch, L, d_inner, d_state], from its input nodes' values."""
        node = next(node for node in self.graph if node.name == name)
        u, dt, B, C = (values[key] for key in node.inputs)
        op: Scan = self.artifact.operators[name]
        h, trace = np.zeros((len(u), *op.A.shape), np.int64), []
        for t in range(u.shape[1]):
            _, h, h_wide = op.step(h, u[:, t], dt[:, t], B[:, t], C[:, t])
            trace.append(h_wide)
        return np.stack(trace, 1, dtype=np.int64)


def answers(artifact: Artifact, tokens: Array) -> str:
    """SHA-256 of the head's integers for `tokens`, as little-endian int64: what a record keeps of its golden sequences."""
    return hashlib.sha256(IntegerModel(artifact).run(tokens, ["head"])["head"].astype("<i8").tobytes()).hexdigest()


def record_golden(artifact: Artifact, tokens: Array) -> None:
    """Puts the first of `tokens` [n, L, input width], in the user's unit, into the artifact's record, with their answers."""
    golden = artifact.codec.encode(tokens[:GOLDEN], artifact.input)
    artifact.record.update(golden=golden.tolist(), answers=answers(artifact, golden))


def check_tokens(artifact: Artifact, tokens: Array) -> None:
    """Refuses integers that are no sequences of the artifact's input."""
    source = artifact.operators["input"]
    if tokens.ndim != 3 or tokens.shape[2] != source.channels or not tokens.shape[1]:
        raise InputError(f"the input has the shape {list(tokens.shape)}; "
                         f"the model reads [sequences, tokens, {source.channels}]")
    if tokens.size and (tokens.min() < source.o.min or tokens.max() > source.o.max):
        raise InputError(f"the input holds integers outside {source.o.min}..{source.o.max} of its format {source.o}")


def _batch_innermost(x: Array) -> Array:
    """x [batch, L, width], in memory [L, width, batch]: every pass runs along the batch, and a Linear is one product a token."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
