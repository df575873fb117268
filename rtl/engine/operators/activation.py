"""Scalar functions, as tables after the post-processors."""

import numpy as np

from emamba.base.errors import DesignLimit
from emamba.ops import Activation as Operator

from ..micro import A, B, Body, MicroOp, Stat, To
from ..registry import Executor, executes

TABLE_BITS = 13
"""Input bits up to which a function is a table of every code."""


@executes(Operator)
class Activation(Executor):
    def compile(self, c, node, op):
        emit_table(c, node, op)


def emit_table(c, node, op) -> None:
    """A function `op` of every value, from codes of `op.i` to codes of `op.o`: on the way of its input to memory, where nothing
    else reads that; else on a copy."""
    if op.i.bits > TABLE_BITS:
        raise DesignLimit(f"the engine has functions of at most {TABLE_BITS} bits, not of {op.i.bits}: lower the bits of "
                          f"'{node.inputs[0]}', or build it with --organization pipeline")
    codes = np.arange(1 << op.i.bits)  # two's complement
    table = op(np.where(codes > op.i.max, codes - (1 << op.i.bits), codes)).astype(np.int64)
    source, maker = node.inputs[0], c.producer(node.inputs[0])
    if maker and c.only_reader(source) and maker.table is None and maker.stat is Stat.NONE and not c.histories.get(source):
        del c.buffers[source]
        maker.table, maker.table_format, maker.traces = table, op.o, (source, node.name)
        maker.dest = c.store(node)
        if node.name in c.graph.outputs:
            maker.out = True
            maker.dest = maker.dest if c.readers(node.name) else None
        return
    copy = MicroOp(x=0, a=A.CONSTANT, constant=1, b=B.ROW, to=To.DRAIN)
    c.emit(node, None, [Body((copy,))], operands=[c.load(source)], format=op.i, bound=op.i.magnitude, table=table,
           table_format=op.o, traces=("", node.name))
