"""Linear and Conv1d: inner products with rows of weights, a row of outputs at a time."""

from dataclasses import replace

import numpy as np

from emamba.base.errors import DesignLimit
from emamba.base.formats import bits_for
from emamba.ops import Conv1d as ConvOperator
from emamba.ops import Depthwise as DepthwiseOperator
from emamba.ops import Linear as LinearOperator

from ..digits import biased, digits, scaled
from ..machine import ELEMENT
from ..micro import B, Body, Walk, Zero, inner
from ..registry import Executor, executes


def emit_weighted(c, node, op, micro, operand, places: np.ndarray, *, low: int | None = None, before: int = 0) -> None:
    """One inner product a result, whose terms have these `places` among its steps; where the weights are dyadic, times a
    multiplier of each channel."""
    steps = int(places[-1]) + 1
    streamed, given = c.machine.stream, op.bias.any()
    if op.dyadic and c.narrow(bits_for(op.bound)):
        raise DesignLimit(f"a sum of {bits_for(op.bound)} bits does not fit the engine's multipliers of "
                          f"{c.machine.factor_bits}, but its weights are dyadic: quantize with weight_scale = 'power_of_two', "
                          "or take wider multipliers")
    chain = [Body((replace(micro, packed=bool(streamed) and op.w.bits <= ELEMENT // 2),), steps)]
    summands = len(digits(op.bias)) if given and (streamed or op.dyadic) else 0
    factors = len(digits(op.multiplier)) if op.dyadic else 0
    if summands:
        chain = biased(chain, summands)
    if factors:
        chain = scaled(chain, factors)

    def weights(operators):
        own = operators[node.name]
        placed = np.zeros((steps, node.width), np.int64)
        placed[places] = own.weight.T
        parts = [*(digits(own.bias, summands) if summands else ()), *placed,
                 *(digits(own.multiplier, factors) if factors else ())]
        return c.rows(np.stack(parts, 1))

    bias = (lambda operators: operators[node.name].bias) if given and not summands else None
    c.emit(node, op, chain, operands=[operand], shift=op.shift, low=low, weights=weights, bias=bias,
           bound=op.bound * int(op.multiplier.max()), held=op.bound if factors else 0, before=before, work=op.multiplies)


@executes(LinearOperator)
class Linear(Executor):
    """The input's channels one after the other, each to all lanes."""

    def compile(self, c, node, op):
        source = c.load(node.inputs[0], Walk.CHANNEL, parts=True)
        channels, parts = op.weight.shape[1], source.buffer.parts
        part, channel = np.divmod(np.arange(channels), channels // parts)
        emit_weighted(c, node, op, inner(x=0, weight=True, b=B.CHANNEL), source,
                      part * (source.buffer.rows // parts * c.machine.lanes) + channel, low=0 if op.relu else None)


@executes(ConvOperator)
class Conv1d(Executor):
    """A row of channels, tap by tap; those before a sequence are zero."""

    def history(self, node, op):
        return op.weight.shape[1] - 1

    def compile(self, c, node, op):
        taps = op.weight.shape[1]
        micro = inner(x=0, weight=True, b=B.ROW, zero=Zero.BEFORE)
        emit_weighted(c, node, op, micro, c.load(node.inputs[0], Walk.TOKEN, taps - 1), np.arange(taps), before=taps - 1)


@executes(DepthwiseOperator)
class Depthwise(Executor):
    """A row of channels, tap by tap, each of which begins a row."""

    def compile(self, c, node, op):
        source, taps = c.load(node.inputs[0], Walk.TOKEN, parts=True), op.weight.shape[1]
        if source.buffer.parts != taps and (source.buffer.parts > 1 or node.width % c.machine.lanes):
            raise DesignLimit(f"the engine reads taps that begin a row, but those of '{node.inputs[0]}' do not: take --lanes "
                              f"that divide {node.width}, or build it with --organization pipeline")
        source.step, source.grouped = c.machine.groups(node.width), True
        emit_weighted(c, node, op, inner(x=0, weight=True, b=B.ROW), source, np.arange(taps))
