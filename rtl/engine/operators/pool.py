"""Mean or last token of a sequence."""

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
        if not op.mean:
            last = c.load(source)
            last.token += c.tile - 1
            copy = MicroOp(x=0, a=A.CONSTANT, constant=1, b=B.ROW, to=To.DRAIN)
            c.emit(node, op, [Body((copy,))], operands=[last], bound=op.i.magnitude)
            return
        if c.narrow(bits_for(op.multiplier)) or c.narrow(bits_for(op.bound)):
            raise DesignLimit(f"a sum of {op.tokens} tokens does not fit the engine's multipliers of {c.machine.factor_bits} "
                              "bits: build it with --organization pipeline")
        factor = {"a": A.CONSTANT}
        term = inner(x=0, **factor, constant=op.multiplier, b=B.ROW)
        tokens = c.load(source, Walk.TOKEN)
        final = {"shift": op.shift, "bound": op.bound * op.multiplier}
        if c.tiles == 1:
            c.emit(node, op, [Body((term,), c.tile)], operands=[tokens], **final)
            return
        total = Operand(Buffer(f"{node.name}.sum", c.machine.groups(node.width), 1, kept=True), 0, True)
        before = MicroOp(x=1, **factor, constant=1, b=B.ROW, zero=Zero.TILE)
        more = inner(x=0, **factor, constant=1, b=B.ROW, first=Acc.ADD)
        c.emit(node, None, [Body((before,)), Body((more,), c.tile)], name=f"{node.name}.sum", operands=[tokens, total],
               dest=total, format=IntFormat(bits_for(op.bound)), bound=op.bound, when=When.ALWAYS, traces=("", ""))
        last = MicroOp(x=0, **factor, constant=op.multiplier, b=B.ROW, to=To.DRAIN)
        c.emit(node, op, [Body((last,))], operands=[total], **final)
