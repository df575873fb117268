"""Token embedding: a row of weights that the token's id chooses."""

from emamba.base.formats import IntFormat
from emamba.ops import Lookup as Operator

from ..micro import A, B, Body, Buffer, MicroOp, Operand, To, Walk, idle
from ..registry import Executor, executes
from ..timing import INDEXED


@executes(Operator)
class Lookup(Executor):
    """First the id, limited to the table, times its rows; then a table's row for each row of results."""

    def compile(self, c, node, op):
        groups, last = c.machine.groups(node.width), len(op.table) - 1
        tokens, _ = c.rate(node)
        place = Operand(Buffer(f"{node.name}.place", 1, tokens), 0)
        scaled = MicroOp(x=0, a=A.CONSTANT, constant=groups, b=B.ROW, to=To.DRAIN)
        c.emit(node, None, [Body((scaled,))], name=f"{node.name}.place", groups=1, lanes=1, operands=[c.load(node.inputs[0])],
               dest=place, format=IntFormat((last * groups).bit_length() or 1, False), high=last * groups,
               bound=op.i.magnitude * groups, traces=("", ""))
        choose = MicroOp(x=0, to=To.INDEX)
        row = MicroOp(weight=True, indexed=True, a=A.WEIGHT, b=B.CONSTANT, constant=1, to=To.DRAIN)

        def weights(operators):
            rows = c.rows(operators[node.name].table.T).reshape(groups, last + 1, c.machine.lanes)
            return rows.swapaxes(0, 1).reshape(-1, c.machine.lanes)  # by id, then by row of results

        c.emit(node, op, [Body((choose,)), *idle(INDEXED - 1), Body((row,))],
               operands=[Operand(place.buffer, 0, False, Walk.CHANNEL)],
               weights=weights, bound=op.o.magnitude)
