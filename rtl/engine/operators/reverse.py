"""A sequence's tokens, the last one first: an address that falls."""

from emamba.ops import Reverse as Operator

from ..micro import A, B, Body, MicroOp, To
from ..registry import Executor, executes


@executes(Operator)
class Reverse(Executor):
    def compile(self, c, node, op):
        source = c.load(node.inputs[0])
        source.token, source.backwards = source.token + node.tokens - 1, True
        copy = MicroOp(x=0, a=A.CONSTANT, constant=1, b=B.ROW, to=To.DRAIN)
        c.emit(node, op, [Body((copy,))], operands=[source], bound=op.o.magnitude)
