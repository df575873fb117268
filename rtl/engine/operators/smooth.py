"""A filter of the outputs over time."""

from emamba.base.errors import DesignLimit
from emamba.base.formats import IntFormat, bits_for
from emamba.ops import Smooth as Operator

from ..micro import A, Acc, B, Body, Buffer, MicroOp, Operand, To, Zero
from ..registry import Executor, executes


@executes(Operator)
class Smooth(Executor):
    """s + x − y of what both were before, or x·2^k at the start; then y of s. Both stay in memory."""

    one_token = True

    def compile(self, c, node, op):
        tokens, _ = c.rate(node)
        if tokens > 1:
            raise DesignLimit("the engine filters one token of a tile, but another operator needs whole sequences: build it with "
                              "--organization pipeline")
        rows = c.machine.groups(node.width)
        state, last = (Operand(Buffer(f"{node.name}.{what}", rows, 1, kept=True), 0, True) for what in ("state", "last"))
        term = {"a": A.CONSTANT, "b": B.ROW, "first": Acc.ADD}
        ops = (MicroOp(x=0, **term | {"first": Acc.START}, constant=1),
               MicroOp(x=0, **term, constant=(1 << op.shift) - 1, zero=Zero.OLD),
               MicroOp(x=1, **term, constant=1, zero=Zero.NEW), MicroOp(x=2, **term, constant=-1, zero=Zero.NEW, to=To.DRAIN))
        wide = IntFormat(bits_for(op.sum_bound))
        c.emit(node, None, [Body(ops)], name=f"{node.name}.state", operands=[c.load(node.inputs[0]), state, last], dest=state,
               format=wide, bound=2 * op.sum_bound, traces=("", ""))
        copy = MicroOp(x=0, a=A.CONSTANT, constant=1, b=B.ROW, to=To.DRAIN)
        result = c.emit(node, op, [Body((copy,))], operands=[state], dest=last, shift=op.shift, bound=op.sum_bound,
                        out=node.name in c.graph.outputs)
        c.buffers[node.name] = result.dest.buffer
