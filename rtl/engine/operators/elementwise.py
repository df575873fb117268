"""Products and sums of two streams, a row at a time."""

from dataclasses import replace

from emamba.base.errors import DesignLimit
from emamba.ops import Add as AddOperator
from emamba.ops import Multiply as MultiplyOperator

from ..micro import A, Acc, B, Body, MicroOp, To
from ..registry import Executor, executes

MOST_SHIFT = 14
"""Of a term of a sum, which is a product with a power of two."""


@executes(MultiplyOperator)
class Multiply(Executor):
    def compile(self, c, node, op):
        kept = int(c.machine.chip and op.b.bits < op.a.bits)  # a chip's first factors are narrow
        ops = MicroOp(x=kept, to=To.ROW), MicroOp(x=1 - kept, a=A.KEPT, b=B.ROW, to=To.DRAIN)
        c.emit(node, op, [Body(ops)], operands=[c.load(name) for name in node.inputs], shift=op.shift, bound=op.bound,
               kept=(op.b if kept else op.a).magnitude, work=node.width)


@executes(AddOperator)
class Add(Executor):
    """Each term times a power of two, exactly."""

    def compile(self, c, node, op):
        shifts = [op.frac - term.frac for term in (op.a, op.b)]
        if max(shifts) > MOST_SHIFT:
            raise DesignLimit(f"the engine adds terms whose steps differ by at most 2^{MOST_SHIFT}, not by 2^{max(shifts)}: "
                              "build it with --organization pipeline")
        first, second = (MicroOp(x=k, a=A.CONSTANT, constant=1 << shift, b=B.ROW) for k, shift in enumerate(shifts))
        c.emit(node, op, [Body((first, replace(second, first=Acc.ADD, to=To.DRAIN)))],
               operands=[c.load(name) for name in node.inputs], shift=op.shift, bound=op.bound)
