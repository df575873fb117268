"""Linear and Conv1d: inner products with rows of weights, a row of outputs at a time."""

import numpy as np

from emamba.base.errors import DesignLimit
from emamba.ops import Conv1d as ConvOperator
from emamba.ops import Linear as LinearOperator

from ..digits import biased, digits
from ..micro import B, Body, Walk, Zero, inner
from ..registry import Executor, executes


def emit_weighted(c, node, op, micro, operand, steps: int, *, low: int | None = None, before: int = 0) -> None:
    """One inner product a result, of `steps` terms each."""
    if op.dyadic:
        raise DesignLimit("the engine has power-of-two scales alone, but its weights are dyadic: quantize with "
                          "weight_scale = 'power_of_two', or build it with --organization pipeline")
    chain, given, parts = [Body((micro,), steps)], op.bias.any(), 0
    if c.machine.stream and given:
        parts = len(digits(op.bias))
        chain = biased(chain, parts)

    def weights(operators):
        own = operators[node.name]
        return c.rows(np.concatenate([np.stack(digits(own.bias), 1), own.weight], 1) if parts else own.weight)

    bias = (lambda operators: operators[node.name].bias) if given and not parts else None
    c.emit(node, op, chain, operands=[operand], shift=op.shift, low=low, weights=weights, bias=bias, bound=op.bound,
           before=before, work=op.multiplies)


@executes(LinearOperator)
class Linear(Executor):
    """The input's channels one after the other, each to all lanes."""

    def compile(self, c, node, op):
        micro = inner(x=0, weight=True, b=B.CHANNEL)
        emit_weighted(c, node, op, micro, c.load(node.inputs[0], Walk.CHANNEL), op.weight.shape[1],
                      low=0 if op.relu else None)


@executes(ConvOperator)
class Conv1d(Executor):
    """A row of channels, tap by tap; those before a sequence are zero."""

    def history(self, node, op):
        return op.weight.shape[1] - 1

    def compile(self, c, node, op):
        taps = op.weight.shape[1]
        micro = inner(x=0, weight=True, b=B.ROW, zero=Zero.BEFORE)
        emit_weighted(c, node, op, micro, c.load(node.inputs[0], Walk.TOKEN, taps - 1), taps, before=taps - 1)
