"""A model is a function that builds a graph: what such a function is given, and where it is registered."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..base.errors import InputError, SettingError
from ..config import ModelConfig
from ..ops import OPERATORS
from ..ops.window import Grid
from .ir import Graph, Node, unfolded
from .own import import_named

NORMS = {"range": "RangeNorm", "layer": "LayerNorm", "rms": "RMSNorm"}

Model = Callable[["Builder"], str]
MODELS: dict[str, Model] = {}
"""By form, the function that adds a model's blocks to a builder that has input and embedding, and returns the last node."""


def model(*forms: str) -> Callable[[Model], Model]:
    """Registers a model under the names that a configuration's `form` can have."""
    def add(build: Model) -> Model:
        for form in forms:
            MODELS[form] = build
        return build
    return add


def build_graph(config: ModelConfig) -> Graph:
    """The graph of a configuration: input, embedding, the blocks of its form, norm, pool and head.

    The head reads the pooled token: pooling and the head's Linear commute, so the head works once per sequence (our choice).
    """
    if config.form not in MODELS:
        import_named()
    if config.form not in MODELS:
        raise SettingError(f"form = '{config.form}' is unknown; the forms are {', '.join(MODELS)}; name the file that registers "
                          "another by --model")
    g = Builder(config)
    g.x = MODELS[config.form](g)
    return g.finish()


def order_after(source: Node) -> str:
    """Order of the beats of a Linear that reads `source`: it emits where its input comes as a whole token or from a Linear that
    accumulates, so that neighbours overlap."""
    return "emit" if not source.operator.streams or (source.operator.folds and source.order == "accumulate") else "accumulate"


class Builder:
    """Collects nodes. Each method adds one and returns its name; tensors are called after the node, or after `tensors`.

    config: the configuration; `config.options` has what only this form knows
    x: the embedding at the start
    """

    def __init__(self, config: ModelConfig):
        self.config = config
        self.nodes: dict[str, Node] = {}
        ids: dict[str, Any] = {"ids": config.vocabulary} if config.input == "tokens" else {}
        source = self.add("Input", "input", (), config.input_width, parameters=(), tokens=config.tokens, role="stem", **ids)
        if ids:
            self.x = self.add("Lookup", "embed", (source,), config.d_model, role="stem", rows=config.vocabulary)
        else:
            self.x = self.linear("embed", self._stem(source), config.d_model, role="stem")

    def _stem(self, x: str) -> str:
        """The convolutions before the embedding."""
        for k, layer in enumerate(self.config.stem):
            relu: dict[str, Any] = {"function": "relu"} if layer.function == "relu" else {}
            kernel, stride = (((1, n) if self.grid(x)[0] == 1 else (n, n)) for n in (layer.kernel, layer.stride))
            x = self.convolve(f"stem{k}", x, layer.channels, kernel, stride=stride, role="stem", tensors=f"stem.{k}", **relu)
            if not relu:
                x = self.activation(f"stem{k}.{layer.function}", x, layer.function, role="stem")
        return x

    @classmethod
    def bare(cls) -> "Builder":
        """One without a configuration, input and embedding."""
        g = cls.__new__(cls)
        g.nodes = {}
        return g

    def add(self, kind: str, name: str, inputs: Iterable[str], width: int, *, parameters: Iterable[str] | None = None,
            tensors: str | None = None, tokens: int = 1, role: str = "inner", order: str = "accumulate",
            norm: str = "", shared: Mapping[str, str] | None = None, **attributes) -> str:
        """Adds a node of any registered kind.

        parameters: those that the node has; all that its operator may have by default
        tensors: the prefix of their tensors' names; the node's name by default
        shared: by parameter, tensors of other nodes instead
        tokens: of an input; else the operator knows
        """
        inputs = tuple(inputs)
        if name in self.nodes:
            raise InputError(f"there are two nodes '{name}'; give each node a name of its own")
        for source in inputs:
            if source not in self.nodes:
                raise InputError(f"node '{name}': it reads '{source}', which is no node before it")
        if kind not in OPERATORS:
            raise InputError(f"node '{name}': there is no operator '{kind}'; the operators are {', '.join(OPERATORS)}")
        reads = self.nodes[inputs[0]].tokens if inputs else tokens
        node = Node(name, kind, inputs, width, reads, reads, role, order, norm, {}, attributes)
        if parameters is None:
            parameters = OPERATORS[kind].shapes(node, [self.nodes[source].width for source in inputs])
        given = OPERATORS[kind].output_tokens(node, reads) if inputs else reads
        self.nodes[name] = replace(node, tokens=given,
                                   parameters={parameter: f"{tensors or name}.{parameter}" for parameter in parameters}
                                   | dict(shared or {}))
        return name

    def width(self, name: str) -> int:
        return self.nodes[name].width

    def linear(self, name: str, x: str, width: int, *, bias: bool = True, role: str = "inner", tensors: str | None = None,
               **attributes) -> str:
        """A Linear, which folds the norm that it reads."""
        return self.add("Linear", name, (x,), width, parameters=("weight", "bias") if bias else ("weight",), tensors=tensors,
                        role=role, order=order_after(self.nodes[x]), norm=unfolded(self.nodes, x), **attributes)

    def norm(self, name: str, x: str, *, kind: str | None = None, tensors: str | None = None, bias: bool = True,
             groups: int = 1) -> str:
        """A norm, `range`, `layer` or `rms`, by default the configuration's; `none` adds no node. `bias` is none of `rms`.
        `groups` of channels are normed apart."""
        kind = kind or self.config.norm
        if kind == "none":
            return x
        attributes: dict[str, Any] = {} if kind == "range" else {"epsilon": float(self.config.norm_epsilon)}
        if groups > 1:
            attributes["groups"] = groups
        return self.add(NORMS[kind], name, (x,), self.width(x), tensors=tensors, parameters=None if bias else ("weight",),
                        **attributes)

    def activation(self, name: str, x: str, function: str, *, role: str = "inner", **attributes) -> str:
        return self.add("Activation", name, (x,), self.width(x), role=role, function=function, **attributes)

    def conv(self, name: str, x: str, taps: int, *, bias: bool = True, tensors: str | None = None) -> str:
        """A causal depthwise convolution."""
        return self.add("Conv1d", name, (x,), self.width(x), parameters=("weight", "bias") if bias else ("weight",),
                        tensors=tensors, taps=taps)

    def grid(self, name: str) -> tuple[int, int]:
        """Rows and columns of the grid that a node's tokens are; one row, where they are none."""
        node = self.nodes[name]
        while node.kind != "Window" and node.inputs and self.nodes[node.inputs[0]].tokens == node.tokens:
            node = self.nodes[node.inputs[0]]
        if node.kind == "Window":
            return Grid.of(node).places
        return (1, node.tokens) if node.inputs else self.config.grid

    def window(self, name: str, x: str, kernel: tuple[int, int], *, stride: tuple[int, int] = (1, 1),
               pads: tuple[int, int, int, int] | None = None, grid: tuple[int, int] | None = None) -> str:
        """The tokens under a kernel that moves over a grid.

        kernel, stride: rows and columns
        pads: zeros beyond the top, left, bottom and right; by default those with which a stride of 1 keeps the size
        grid: rows and columns of x; by default the builder knows
        """
        (rows, columns), (high, wide) = grid or self.grid(x), kernel
        top, left, bottom, right = pads or ((high - 1) // 2, (wide - 1) // 2, high // 2, wide // 2)
        return self.add("Window", name, (x,), self.width(x) * high * wide, rows=rows, columns=columns, kernel_rows=high,
                        kernel_columns=wide, stride_rows=stride[0], stride_columns=stride[1], pad_top=top, pad_left=left,
                        pad_bottom=bottom, pad_right=right)

    def convolve(self, name: str, x: str, width: int, kernel: tuple[int, int], *, stride: tuple[int, int] = (1, 1),
                 pads: tuple[int, int, int, int] | None = None, **linear) -> str:
        """A dense convolution: a Linear, with what `linear` says, of a window."""
        window = self.window(f"{name}_window", x, kernel, stride=stride, pads=pads)
        return self.linear(name, window, width, **linear)

    def depthwise(self, name: str, x: str, kernel: tuple[int, int], *, bias: bool = True, tensors: str | None = None,
                  **window) -> str:
        """A depthwise convolution of a window, with what `window` says."""
        source = self.window(f"{name}_window", x, kernel, **window)
        return self.add("Depthwise", name, (source,), self.width(x), parameters=("weight", "bias") if bias else ("weight",),
                        tensors=tensors, taps=kernel[0] * kernel[1])

    def scan(self, name: str, u: str, delta: str, B: str, C: str, *, tensors: str | None = None) -> str:
        """A selective scan."""
        return self.add("Scan", name, (u, delta, B, C), self.width(u), role="residual", tensors=tensors,
                        parameters=self._of_scans())

    def head_scan(self, name: str, u: str, delta: str, B: str, C: str, *, groups: int = 1, tensors: str | None = None) -> str:
        """The scan of Mamba-2, by the heads that δ has."""
        return self.add("HeadScan", name, (u, delta, B, C), self.width(u), role="residual", tensors=tensors,
                        parameters=self._of_scans(), groups=groups, wide_D=self.config.wide_D)

    def _of_scans(self) -> tuple[str, ...]:
        return ("A_log", "D", "h0") if self.config.initial_state else ("A_log", "D")

    def multiply(self, name: str, a: str, b: str, *, role: str = "residual") -> str:
        return self.add("Multiply", name, (a, b), self.width(a), role=role)

    def reverse(self, name: str, x: str) -> str:
        """The tokens of x, the last one first."""
        return self.add("Reverse", name, (x,), self.width(x))

    def attention(self, name: str, q: str, k: str, v: str, heads: int, *, causal: bool = False) -> str:
        """Softmax attention of v's width, by heads."""
        return self.add("Attention", name, (q, k, v), self.width(v), heads=heads, causal=causal)

    def residual(self, name: str, x: str, branch: str) -> str:
        """x plus a branch."""
        return self.add("Add", name, (x, branch), self.width(x), role="residual")

    def finish(self) -> Graph:
        """Adds norm, pool and head."""
        config = self.config
        gated = config.pool == "gated"
        x = self.norm("norm", self.x, bias=not gated)
        if gated:
            share = self.activation("pool_share", self.linear("pool_gate", x, self.width(x)), "sigmoid")
            x = self.multiply("pool_product", x, share)
        if config.pool != "none":
            x = self.add("Pool", "pool", (x,), self.width(x), mean=config.pool != "last")
        head = self.linear("head", x, config.outputs, role="head", shared={"weight": "embed.weight"} if config.tied else {})
        if config.smooth is not None:
            head = self.add("Smooth", "smooth", (head,), config.outputs, role="head", shift=config.smooth)
        return Graph(tuple(self.nodes.values()), (head,), self.config.carried)
