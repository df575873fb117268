"""Mean or last token of a sequence."""

from dataclasses import replace

from emamba.base.errors import DesignLimit
from emamba.base.formats import IntFormat, bits_for
from emamba.ops import Pool as Operator

from ..micro import A, Acc, B, Body, Buffer, MicroOp, Operand, To, Walk, When, Zero, inner
from ..registry import Executor, executes


@executes(Operator)
class Pool(Executor):
    """A row's sum over the tokens of a tile; where a sequence has several, on top of the sum of the tiles before."""

    def compile(self, c, node, op):
        source = node.inputs[0]
        (tile, _), rest = c.rate(c.graph[source]), c.rest_of(c.graph[source])
        if not op.mean:
            last = c.load(source)
            last.token += rest - 1
            copy = MicroOp(x=0, a=A.CONSTANT, constant=1, b=B.ROW, to=To.DRAIN)
            c.emit(node, op, [Body((copy,))], operands=[last], bound=op.i.magnitude)
            return
        if c.narrow(bits_for(op.multiplier)) or c.narrow(bits_for(op.bound)):
            raise DesignLimit(f"a sum of {op.tokens} tokens does not fit the engine's multipliers of {c.machine.factor_bits} "
                              "bits: build it with --organization pipeline")
        term = MicroOp(a=A.CONSTANT, constant=op.multiplier, b=B.ROW)
        total = Operand(Buffer(f"{node.name}.sum", c.machine.groups(node.width), 1, kept=True), 0, True)
        before = [Body((replace(term, x=1, zero=Zero.TILE),))] * (c.tiles > 1)
        more = inner(x=0, a=A.CONSTANT, constant=op.multiplier, b=B.ROW, first=Acc.ADD if before else Acc.START)
        operands = [c.load(source, Walk.TOKEN), total][:2 if before else 1]
        if before:  # the sum of the tiles so far, without the multiplier
            one = [Body((replace(micro, constant=1),), steps) for (micro,), steps in ((before[0].ops, 1), ((more,), tile))]
            c.emit(node, None, one, name=f"{node.name}.sum", operands=operands, dest=total, format=IntFormat(bits_for(op.bound)),
                   bound=op.bound, when=When.EARLY, rest=1, traces=("", ""))
        c.emit(node, op, [*before, Body((more,), rest)], operands=operands, shift=op.shift, bound=op.bound * op.multiplier)
