"""Token embedding: a row of weights that the token's id chooses."""

from dataclasses import replace

import numpy as np

from emamba.base.formats import IntFormat
from emamba.ops import Lookup as Operator

from ..digits import digits, summed
from ..machine import ELEMENT
from ..micro import A, B, Body, Buffer, MicroOp, Operand, To, Walk, idle
from ..registry import Executor, executes
from ..timing import INDEXED

ASKED = 3
"""Cycles from a request for an id's rows to the first beat of a memory without latency."""


@executes(Operator)
class Lookup(Executor):
    """First the id, limited to the table, times its rows; then a table's row for each row of results."""

    def compile(self, c, node, op):
        groups, last, streamed = c.machine.groups(node.width), len(op.table) - 1, c.machine.stream
        stride = 1 if streamed else groups  # a stream's request has the id alone
        tokens, _ = c.rate(node)
        place = Operand(Buffer(f"{node.name}.place", 1, tokens), 0)
        scaled = MicroOp(x=0, a=A.CONSTANT, constant=stride, b=B.ROW, to=To.DRAIN)
        c.emit(node, None, [Body((scaled,))], name=f"{node.name}.place", groups=1, lanes=1, operands=[c.load(node.inputs[0])],
               dest=place, format=IntFormat((last * stride).bit_length() or 1, False), high=last * stride,
               bound=op.i.magnitude * stride, traces=("", ""))
        choose = MicroOp(x=0, to=To.INDEX)
        rows = summed(len(digits(op.table)) if streamed else 1, indexed=True)
        rows[-1] = replace(rows[-1], to=To.DRAIN)
        comes = ASKED + len(rows) * streamed.beats(c.machine.lanes * ELEMENT) if streamed else 0

        def weights(operators):
            table = operators[node.name].table
            found = np.stack(digits(table) if streamed else [table], -1)  # [ids, channels, parts]
            padded = np.zeros((last + 1, groups * c.machine.lanes, found.shape[-1]), found.dtype)
            padded[:, :node.width] = found
            return padded.reshape(last + 1, groups, c.machine.lanes, -1).swapaxes(2, 3).reshape(-1, c.machine.lanes)

        c.emit(node, op, [Body((choose,)), *idle(INDEXED - 1 + comes), *(Body((row,)) for row in rows)],
               operands=[Operand(place.buffer, 0, False, Walk.CHANNEL)],
               weights=weights, bound=op.o.magnitude)
