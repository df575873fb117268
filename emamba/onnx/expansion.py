"""LinearAttention with the rule `gated` as it is expanded: a loop over tokens whose body is one step of the recurrence."""

from collections.abc import Mapping

import numpy as np
from onnx import GraphProto

from ..base.errors import InputError
from .attention import linear_attention
from .file import Operation, array
from .reader import number, reads
from .shapes import stream
from .values import Array, Stream, Term, Value, is_term

STEP = ("Add", ("Mul", 0, ("Exp", 4, 1)), ("MatMul", (2, 1), (3, 2)))
"""The next state of (state, query, key, value, decay); 1 or 2 after a value is an Unsqueeze at its last axis, or before that."""
PASSED = ("Identity", "Cast", "CastLike")


@reads("Scan")
def scan(operation: Operation, *given: Value) -> tuple:
    *inputs, constants = given
    factor = _factor(operation.body, constants) if len(inputs) == 5 and operation.attributes.get("num_scan_inputs") == 4 else None
    backwards = any(np.atleast_1d(operation.attributes.get(f"scan_{name}", 0)).any() for name in (
        "input_directions", "output_directions", "input_axes", "output_axes"))
    if factor is None or backwards:
        raise InputError("a loop is not read, but for that of LinearAttention with the rule 'gated': write a recurrence over the "
                         "tokens as LinearAttention (opset 27)")
    past, query, key, value, decay = inputs
    heads = query.shape[2]
    told = {"q_num_heads": heads, "kv_num_heads": heads, "update_rule": "gated", "scale": factor}
    y = linear_attention(Operation(operation.name, "LinearAttention", (), (), told),
                  *(_whole(x) for x in (query, key, value)), past, _whole(decay))
    shape = (y.draft.tokens, y.batch, heads, y.draft.width // heads)
    return None, Term("split by token", (y, heads), shape)


def _whole(x: Value) -> Value:
    """A value that was split into heads, tokens first."""
    if is_term(x, "split by token"):
        return x.args[0]
    x = stream(x)
    axes = tuple(axis for axis in x.axes if axis != "1")
    if axes != ("L", "B", "C"):
        raise InputError(f"it loops over values of the axes {', '.join(x.axes)}")
    return Stream(x.draft, ("B", "L", "C"), x.scale, x.offset, x.batch)


def _factor(body: GraphProto, constants: Mapping[str, Array]) -> float | None:
    """The factor of the outputs where the body is such a step, else None."""
    known: dict[str, object] = {value.name: k for k, value in enumerate(body.input)}
    known |= {tensor.name: array(tensor) for tensor in body.initializer}
    for node in body.node:
        parts = [known.get(name, constants.get(name)) for name in node.input]
        if any(part is None for part in parts) or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type in PASSED:
            found: object = parts[0]
        elif node.op_type in ("Unsqueeze", "Squeeze"):
            axis = number(parts[1]) if len(parts) == 2 else 0
            if axis not in (-1, -2) or isinstance(parts[0], np.ndarray):
                return None
            inner = (parts[0],) if isinstance(parts[0], int) else parts[0]
            found = (*inner, -int(axis)) if node.op_type == "Unsqueeze" else ("Squeeze", parts[0])
        elif any(isinstance(part, np.ndarray) for part in parts):
            if node.op_type != "Mul" or not isinstance(parts[0], np.ndarray) or parts[0].size != 1:
                return None
            found = ("factor", number(parts[0]), parts[1])
        else:
            found = (node.op_type, *parts)
        known[node.output[0]] = found
    state, output = (known.get(value.name) for value in body.output[:2]) if len(body.output) == 2 else (None, None)
    read = ("Squeeze", ("MatMul", (1, 2), STEP))
    if state == STEP and output == read:
        return 1.0
    return output[1] if state == STEP and output[0] == "factor" and output[2] == read else None
