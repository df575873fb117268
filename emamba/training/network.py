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
from ..ops.depthwise import depthwise
from ..ops.window import Grid
from . import kernels

NOISY = ("residual", "branch")
"""Roles of the nodes that are trained with rounding noise."""


class Torch:
    """torch, with the functions of a model: what `Operator.real` and `Operator.initial` are given here."""

    linear = staticmethod(F.linear)
    conv = staticmethod(kernels.conv)
    depthwise = staticmethod(depthwise)
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


class Convolving(Torch):
    """A Linear or Depthwise of a Window as one convolution of what the Window reads, without its copies of each token."""

    def __init__(self, grid: Grid):
        self.grid = grid

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return self._convolve(x, weight.unflatten(1, (self.grid.taps, -1)).transpose(1, 2), bias)

    def depthwise(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return self._convolve(x, weight.unsqueeze(1), bias)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """x [b, rows · columns, channels]; weight [out, channels of a group, taps] -> [b, places, out]."""
        grid = self.grid
        image = x.unflatten(1, (grid.rows, grid.columns)).permute(0, 3, 1, 2)
        image = F.pad(image, (grid.pad_left, grid.pad_right, grid.pad_top, grid.pad_bottom))
        kernel = weight.unflatten(2, (grid.kernel_rows, grid.kernel_columns))
        y = F.conv2d(image, kernel, bias, (grid.stride_rows, grid.stride_columns), groups=x.shape[2] // weight.shape[1])
        return y.flatten(2).transpose(1, 2)


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
        self.convolutions = {node.name: Convolving(Grid.of(node)) for node in self.graph if node.kind == "Window" and all(
            reader.kind in ("Linear", "Depthwise") for reader in self.graph if node.name in reader.inputs)}
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
        merged = self.convolutions if trace is None else {}
        for node in self.graph:
            inputs = [values[name] for name in node.inputs]
            xp = merged.get(node.inputs[0], self.xp) if inputs else None
            if xp is None:
                values[node.name] = tokens
            elif node.name in merged:
                values[node.name] = inputs[0]
            else:
                values[node.name] = self._value(xp, node, tensors, *inputs, window=window)
            if trace is not None:
                trace[node.name] = values[node.name].detach()
        found = values[self.graph.output.name]
        return found[:, 0] if self.graph.pooled else found

    def _value(self, xp: Torch, node: Node, tensors: Mapping[str, Tensor], *inputs: Tensor, window: int = 1) -> Tensor:
        compute = partial(node.operator.real, xp, node, parameters(xp, self.graph, node, tensors))
        value = node.operator.carry(compute, window, *inputs)
        if node.role == "branch":
            value = F.dropout(value, self.dropout, self.training)
        if self.training and self.noise_bits and node.role in NOISY:
            value = kernels.noise(value, self.noise_bits, int(torch.randint(1 << 32, ())))
        return value
