"""Reads a file of ONNX, which anybody may have written, into nodes and constants."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from ..base.errors import InputError, brief, located
from ..io.disguises import PACKED, check_disguise
from ..io.files import read_bytes

Array = np.ndarray

OPSETS = range(9, 28)
LARGEST = (1 << 31) - 1
MOST_NODES = 1 << 16
MOST_VALUES = 1 << 28
"""Of one constant."""
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
INTEGERS = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)


@dataclass(frozen=True)
class Operation:
    """A node of ONNX."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    body: GraphProto | None = None

    @property
    def where(self) -> str:
        return f"node '{self.name[:60]}' ({self.kind[:60]})"


@dataclass(frozen=True)
class Source:
    """An ONNX graph: its only input, with its sizes (0 where they are open), and its only output."""

    operations: list[Operation]
    constants: dict[str, Array]
    input: str
    shape: tuple[int, ...]
    whole: bool
    output: str
    properties: dict[str, str]


def read_file(path: Path) -> Source:
    """The content of a file; InputError for what is not read."""
    content = read_bytes(path, LARGEST)
    check_disguise(path, content, PACKED)
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise InputError(f"{path} is no ONNX model, or a part of one: copy it again, or export it again") from None
    with located(str(path)):
        return _source(model)


def _source(model: ModelProto) -> Source:
    graph = model.graph
    if not graph.node:
        raise InputError("its graph has no node: it is no ONNX model, or an empty one")
    if len(graph.node) > MOST_NODES:
        raise InputError(f"its graph has {len(graph.node)} nodes; at most {MOST_NODES} are read")
    versions = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    if len(versions) != 1 or versions[0] not in OPSETS:
        raise InputError(f"its opset is {', '.join(map(str, versions)) or 'not given'}; {OPSETS.start} to {OPSETS.stop - 1} are "
                         "read: export it with one of these")
    if graph.sparse_initializer:
        raise InputError(f"its tensor '{brief(graph.sparse_initializer[0].values.name)}' is sparse: save it as a dense one")
    constants = {tensor.name: array(tensor) for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    for what, values in (("inputs", inputs), ("outputs", graph.output)):
        if len(values) != 1:
            names = ", ".join(brief(value.name) for value in values[:4])
            raise InputError(f"it has {len(values)} {what} ({names}); exactly one is possible: leave the others out")
    shape, whole = _sizes(inputs[0])
    operations = [_operation(node, k, constants) for k, node in enumerate(graph.node)]
    properties = {entry.key: entry.value for entry in model.metadata_props}
    return Source([operation for operation in operations if operation], constants, inputs[0].name, shape, whole,
                  graph.output[0].name, properties)


def array(tensor: TensorProto) -> Array:
    """A constant as float64 or int64."""
    with located(f"its tensor '{brief(tensor.name)}'"):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise InputError("is in another file, which is not read: save the model as one, by onnx.save(onnx.load(path), path)")
        if tensor.data_type not in FLOATS + INTEGERS:
            known = tensor.data_type in TensorProto.DataType.values()
            raise InputError(f"has the type {TensorProto.DataType.Name(tensor.data_type) if known else tensor.data_type}; only "
                             "floating-point numbers, int64, int32 and bool are read: export the model before it was quantized")
        if any(size < 0 for size in tensor.dims) or prod(tensor.dims) > MOST_VALUES:
            raise InputError(f"has the shape {list(tensor.dims)}; at most {MOST_VALUES} values are read")
        try:
            found = numpy_helper.to_array(tensor)
        except Exception as error:  # a damaged tensor raises nearly every kind of exception
            raise InputError(f"is damaged ({type(error).__name__}): export the model again") from None
        found = found.astype(np.float64 if tensor.data_type in FLOATS else np.int64)
        if np.isnan(found).any():
            raise InputError("holds values that are no numbers: train again")
        return found


def _sizes(value: ValueInfoProto) -> tuple[tuple[int, ...], bool]:
    """The sizes of an input, and whether it holds whole numbers."""
    kind = value.type.tensor_type
    with located(f"its input '{brief(value.name)}'"):
        if kind.elem_type not in FLOATS + INTEGERS[:2]:
            raise InputError("is no tensor of floating-point numbers or token ids")
        return tuple(size.dim_value for size in kind.shape.dim), kind.elem_type in INTEGERS


def _operation(node: NodeProto, k: int, constants: dict[str, Array]) -> Operation | None:
    """A node, None of a constant, which is taken to the others."""
    name = node.name or next(iter(node.output), str(k))
    kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    attributes, body = {}, None
    for entry in node.attribute:
        if entry.type == AttributeProto.GRAPH:
            body = entry.g
        elif entry.type in (AttributeProto.TENSOR, AttributeProto.INT, AttributeProto.INTS, AttributeProto.FLOAT,
                          AttributeProto.FLOATS, AttributeProto.STRING):
            value = array(entry.t) if entry.type == AttributeProto.TENSOR else helper.get_attribute_value(entry)
            attributes[entry.name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    operation = Operation(name, kind, tuple(node.input), tuple(node.output), attributes, body)
    if kind != "Constant":
        return operation
    if len(attributes) != 1 or len(node.output) != 1 or isinstance(value := next(iter(attributes.values())), str):
        raise InputError(f"{operation.where}: its value is none of a tensor, numbers or a number")
    constants[node.output[0]] = np.asarray(value)
    return None
