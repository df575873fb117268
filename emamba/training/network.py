"""The float model in torch: the graph, interpreted.

Symbols, as in the Mamba paper (arXiv 2312.00752) and in ours:
    b: batch          l: token, of L            d: channel of d_model     e: channel of d_inner
    n: state, of N    r: channel of dt_rank     k: tap of d_conv          δ (dt): step size
    Ā = exp(δ·A)      B̄·u = δ·u·B               h_t = Ā·h_{t-1} + B̄·u     y = C·h + D·u

`trace` collects the values of all nodes under the keys that the integer model, the RTL and the board use too.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..base.errors import InputError
from ..config import ModelConfig
from ..graph import Graph, Node, build_graph
from ..graph.parameters import parameters
from . import kernels

NOISY = ("residual", "branch")
"""Roles of the nodes that are trained with rounding noise."""


class Torch:
    """torch, with the functions of a model: what `Operator.real` and `Operator.initial` are given here."""

    linear = staticmethod(F.linear)
    conv = staticmethod(kernels.conv)
    scan = staticmethod(kernels.scan)

    def __getattr__(self, name: str):
        return getattr(torch, name)

    @staticmethod
    def lookup(table: Tensor, ids: Tensor) -> Tensor:
        return F.embedding(ids, table)

    @staticmethod
    def function(name: str, x: Tensor) -> Tensor:
        return getattr(F, name)(x)

    @staticmethod
    def repeat(x: Tensor, times: int, axis: int) -> Tensor:
        return x.repeat_interleave(times, axis)

    @staticmethod
    def uniform(low: float, high: float, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(shape).uniform_(low, high)

    @staticmethod
    def normal(shape: tuple[int, ...]) -> Tensor:
        return torch.empty(shape).normal_()


TORCH = Torch()


class Network(nn.Module):
    """A model of a configuration, or of a graph; its parameters have the names of the graph's tensors.

    Input: tokens [b, L, input_width] (image patches, sequence) or token ids [b, L]. Output [b, outputs], or [b, L, outputs]
    without pooling. `noise_bits`, `dropout`: see `TrainConfig`; they act in training mode.
    """

    def __init__(self, config: ModelConfig | Graph):
        super().__init__()
        self.config = config if isinstance(config, ModelConfig) else None
        self.graph = build_graph(config) if isinstance(config, ModelConfig) else config
        self.xp = TORCH
        self.noise_bits: int | None = None
        self.dropout = 0.0
        for node in self.graph:
            shapes = self.graph.shapes(node)
            for name, tensor in node.parameters.items():
                self._register(tensor, nn.Parameter(node.operator.initial(TORCH, node, name, shapes).float()))

    @property
    def decayed(self) -> set[str]:
        """Names of the parameters on which weight decay acts: matrices of Linear and Embedding only, not norms, biases,
        convolutions, A and D (Mamba)."""
        return {node.parameters[name] for node in self.graph for name in node.operator.decayed if name in node.parameters}

    def _register(self, tensor: str, value: nn.Parameter) -> None:
        *path, leaf = tensor.split(".")
        module: nn.Module = self
        for part in path:
            if part not in module._modules:
                if hasattr(module, part):
                    raise InputError(f"the tensor '{tensor}' has a name that torch needs: call it differently")
                module.add_module(part, nn.Module())
            module = module._modules[part]
        if leaf not in module._parameters:  # a tensor may have several readers
            module.register_parameter(leaf, value)

    def forward(self, tokens: Tensor, trace: dict | None = None, window: int = 1) -> Tensor:
        """`window`: sequences of the batch that follow each other in time, with the state carried from each to the next."""
        tensors, values = dict(self.named_parameters()), {}
        for node in self.graph:
            inputs = [values[name] for name in node.inputs]
            values[node.name] = self._value(node, tensors, *inputs, window=window) if inputs else tokens
            if trace is not None:
                trace[node.name] = values[node.name].detach()
        found = values[self.graph.output.name]
        return found[:, 0] if self.graph.pooled else found

    def _value(self, node: Node, tensors: Mapping[str, Tensor], *inputs: Tensor, window: int = 1) -> Tensor:
        compute = partial(node.operator.real, self.xp, node, parameters(self.xp, self.graph, node, tensors))
        value = node.operator.carry(compute, window, *inputs)
        if node.role == "branch":
            value = F.dropout(value, self.dropout, self.training)
        if self.training and self.noise_bits and node.role in NOISY:
            value = kernels.noise(value, self.noise_bits, int(torch.randint(1 << 32, ())))
        return value
