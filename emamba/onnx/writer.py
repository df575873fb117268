"""What a node's ONNX is written with: operators, constants, quantized tensors, each by a name that tells where it is from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..base.errors import DesignLimit, InputError
from ..base.formats import IntFormat
from ..graph import Graph, Node

Array = np.ndarray
Write = Callable[..., str]

OPSET = 27
"""The first with LinearAttention and CausalConvWithState."""
LARGEST = (1 << 31) - (1 << 20)
"""Bytes of constants; a file of protobuf has less than 2 GiB."""
TYPES = (np.int8, np.int16)
"""What QuantizeLinear gives: signed, since runtimes fuse operators of equal types."""
WIDE = ("Sigmoid",)
"""Operators whose 8 bits stand in 16: onnxruntime 1.32 would fuse them with a zero point of another type, and fail."""
WRITERS: dict[str, Write] = {}
"""By kind of node, the function of (writer, node, parameter, *names of its inputs) that writes it and names its value."""


def writes(kind: str) -> Callable[[Write], Write]:
    """Registers how a kind of node is written; a module outside the package can do it too."""
    def add(write: Write) -> Write:
        WRITERS[kind] = write
        return write
    return add


@dataclass(frozen=True)
class Stored:
    """A parameter: its tensor's name and values; or integers and the value of a step, one for all or one for each row."""

    name: str
    values: Array
    step: Array | None = None


class Writer:
    """Collects the nodes and constants of one ONNX graph. `values` has, by node of ours, the name of its value."""

    def __init__(self, graph: Graph):
        if graph.carried:
            raise DesignLimit("the state is carried from sequence to sequence, which ONNX files here do not: export the model "
                              "that it was trained from, or set carried = false for sequences that stand alone")
        self.graph = graph
        self.values: dict[str, str] = {}
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.place = ""
        self.count = 0

    def op(self, kind: str, *inputs: str | Array, also: int = 0, **attributes: Any) -> str:
        """Adds a node of ONNX and returns the name of its first output; `also` counts outputs that nothing reads."""
        names = [name if isinstance(name, str) else self.constant(f"{self.place}/{kind}", name) for name in inputs]
        self.count += 1
        output = f"{self.place}/{kind}_{self.count}"
        outputs = [output, *(f"{output}.{k}" for k in range(also))]
        self.nodes.append(helper.make_node(kind, names, outputs, name=output, **attributes))
        return output

    def named(self, value: str, name: str) -> str:
        """Gives the value of the last node another name."""
        if not self.nodes or self.nodes[-1].output[0] != value:
            value = self.op("Identity", value)
        self.nodes[-1].output[0] = self.nodes[-1].name = name
        return name

    def constant(self, name: str, values: Array) -> str:
        """A constant; the same values under the same name are one."""
        base, k = name, 0
        while (known := self.constants.get(name)) is not None:
            if known.dtype == values.dtype and np.array_equal(known, values):
                return name
            k += 1
            name = f"{base}.{k}"
        self.constants[name] = values
        return name

    def parameter(self, stored: Stored, form: Callable[[Array], Array] = np.asarray, axis: int = 0) -> str:
        """A parameter in another `form`, whose `axis` was its first; integers with the DequantizeLinear that scales them."""
        if stored.step is None:
            values, known = form(stored.values).astype(np.float32), self.constants.get(stored.name)
            if known is not None and known.ndim == 2 and np.array_equal(known.T, values):  # a tied weight is there once
                return self.op("Transpose", stored.name, perm=[1, 0])
            return self.constant(stored.name, values)
        step = np.asarray(stored.step, np.float32)
        step = step.reshape(-1)[0] if (step == step.flat[0]).all() else step
        largest = np.abs(stored.values).max(initial=0)
        kind = next(kind for kind in (np.int8, np.int16, np.int32) if largest <= np.iinfo(kind).max)
        codes = self.constant(stored.name, form(stored.values).astype(kind))
        return self.op("DequantizeLinear", codes, np.asarray(step), **({"axis": axis} if step.ndim else {}))

    def rounded(self, value: str, o: IntFormat) -> str:
        """A value at the steps of a format, by QuantizeLinear and DequantizeLinear; one beyond 16 bits as it is."""
        types = TYPES[1:] if self.nodes and self.nodes[-1].op_type in WIDE else TYPES
        kind = next((kind for kind in types if np.iinfo(kind).min <= o.min and o.max <= np.iinfo(kind).max), None)
        if kind is None:
            return value
        if (o.min, o.max) != (np.iinfo(kind).min, np.iinfo(kind).max):
            value = self.op("Clip", value, np.float32(o.min * o.step), np.float32(o.max * o.step))
        step = np.asarray(o.step, np.float32)
        codes = self.op("QuantizeLinear", value, step, output_dtype=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
        return self.op("DequantizeLinear", codes, step)

    def write(self, node: Node, stored: dict[str, Stored], inputs: list[str]) -> str:
        """A node of our graph."""
        if node.kind not in WRITERS:
            raise InputError(f"node '{node.name}': no form of a {node.kind} in ONNX is known: register one by "
                             "emamba.onnx.writer.writes")
        self.place = node.name

        def parameter(name: str, *form) -> str | None:
            return self.parameter(stored[name], *form) if name in stored else None

        return WRITERS[node.kind](self, node, parameter, *inputs)

    def model(self, graph_name: str, inputs: list, outputs: list, notes: dict[str, str]) -> ModelProto:
        """The finished model."""
        self._prune({value.name for value in outputs})
        if (size := sum(value.nbytes for value in self.constants.values())) > LARGEST:
            raise DesignLimit(f"its constants take {size} bytes; a file of ONNX has at most {LARGEST}: give a smaller model")
        constants = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, graph_name, inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="emamba")
        helper.set_model_props(model, notes)
        return model


    def _prune(self, needed: set[str]) -> None:
        """Leaves out what no output is computed from."""
        kept = []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                needed |= set(node.input)
                kept.append(node)
        self.nodes = kept[::-1]
        self.constants = {name: value for name, value in self.constants.items() if name in needed}


def stream(name: str, *shape: int | str, ids: bool = False):
    """An input or output of the graph."""
    return helper.make_tensor_value_info(name, TensorProto.INT64 if ids else TensorProto.FLOAT, shape)
