"""The float executor: the trained model on NumPy float64, node by node, with exact functions. No torch."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import numpy as np

from ..base.arithmetic import causal_conv
from ..graph import Graph
from ..graph.parameters import check_tensors, parameters
from ..ops import Scan
from ..ops.depthwise import depthwise
from ..piecewise import FUNCTIONS

Array = np.ndarray


class Numpy:
    """NumPy, with the functions of a model: what `Operator.real` is given here."""

    depthwise = staticmethod(depthwise)

    def __getattr__(self, name: str):
        return getattr(np, name)

    @staticmethod
    def linear(x: Array, weight: Array, bias: Array) -> Array:
        return x @ weight.T + bias

    @staticmethod
    def lookup(table: Array, ids: Array) -> Array:
        return table[ids[..., 0]]

    @staticmethod
    def conv(x: Array, weight: Array, bias: Array) -> Array:
        return causal_conv(x, weight) + bias

    @staticmethod
    def function(name: str, x: Array) -> Array:
        return np.maximum(x, 0) if name == "relu" else FUNCTIONS[name](x)

    @staticmethod
    def exp(x: Array) -> Array:
        with np.errstate(over="ignore"):  # of A, a state that keeps nothing
            return np.exp(x)

    @staticmethod
    def scan(u: Array, dt: Array, B: Array, C: Array, A: Array, D: Array) -> Array:
        y = np.empty_like(u)
        for t, h in enumerate(states(u, dt, B, A)):
            y[:, t] = (h * C[:, t, None]).sum(-1) + D * u[:, t]
        return y


NUMPY = Numpy()


def states(u: Array, dt: Array, B: Array, A: Array, h0: Array | None = None) -> Iterator[Array]:
    """The state [batch, d_inner, d_state] of a scan after every token."""
    h = np.zeros((len(u), *A.shape)) if h0 is None else np.broadcast_to(h0, (len(u), *A.shape))
    for t in range(u.shape[1]):
        h = np.exp(dt[:, t, :, None] * A) * h + (dt[:, t] * u[:, t])[..., None] * B[:, t, None]
        yield h


class Reference:
    """Float executor of a graph with the tensors of a checkpoint. `parameters` holds, by node, what it computes with: each
    norm's weight and bias are folded into the Linear that reads it."""

    def __init__(self, graph: Graph, tensors: Mapping[str, Array]):
        check_tensors(graph, tensors, "the checkpoint")
        self.graph = graph
        exact = {name: np.asarray(value, np.float64) for name, value in tensors.items()}
        self.parameters = {node.name: parameters(NUMPY, graph, node, exact) for node in graph}

    def run(self, tokens: Array, keep: Iterable[str] | None = None, window: int | None = None) -> dict[str, Array]:
        """Runs the model.

        Parameters
            tokens: [batch, L, input width], standardized values, or ids
            keep: nodes to return; all of them for None
            window: sequences that follow each other in time, in place of all of the batch or none (`Graph.carried`)

        Returns
            arrays [batch, L', width] by node
        """
        window = window or self.graph.window(len(tokens))
        keep = {node.name for node in self.graph} if keep is None else set(keep)
        values: dict[str, Array] = {}
        last = self.graph.last_reader()
        for k, node in enumerate(self.graph):
            inputs = [values[name] for name in node.inputs]
            compute = partial(node.operator.real, NUMPY, node, self.parameters[node.name])
            values[node.name] = node.operator.carry(compute, window, *inputs) if inputs else tokens
            for name in node.inputs:
                if name not in keep and last[name] == k:
                    values.pop(name, None)
        return {name: values[name] for name in values if name in keep}

    def answer(self, tokens: Array) -> Array:
        """The output's values alone."""
        return self.run(tokens, self.graph.outputs)[self.graph.output.name]

    def states(self, name: str, values: dict[str, Array]) -> Array:
        """The states of scan `name` after every token, [batch, L, d_inner, d_state], from the values of its input nodes."""
        node = self.graph[name]
        operator = node.operator
        assert issubclass(operator, Scan)

        def trace(*inputs: Array) -> Array:
            parts = operator.parts(NUMPY, node, self.parameters[name], *inputs)
            return np.concatenate([np.stack(list(states(u, dt, B, A, h0)), 1) for u, dt, B, _, A, _, h0 in parts], 2)

        inputs = [values[key] for key in node.inputs]
        return operator.carry(trace, self.graph.window(len(inputs[0])), *inputs)
