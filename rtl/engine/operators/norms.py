"""Norms: n·entry a channel, where the statistics of a token choose the entry of a table."""

from emamba.base.formats import bits_for
from emamba.ops import LayerNorm as LayerOperator
from emamba.ops import RangeNorm as RangeOperator
from emamba.ops import RMSNorm as RMSOperator

from ...kit.rom import rom_latency
from ..micro import PIECE, A, Acc, B, Body, MicroOp, Stat, To, idle
from ..registry import Executor, executes
from ..timing import SUM


def entry_latency(op) -> int:
    """Cycles from a token's number to its entry: statistics, spread, its leading one, table."""
    return 3 + bool(getattr(op, "centered", False)) + rom_latency(len(op.reciprocals[0]))


class Norm(Executor):
    """The lanes hold n for its product with the entry; where n is to be shifted left, the product is shifted right by less."""

    stats: tuple[Stat, ...]

    def deviation(self, c, op) -> list[MicroOp]:
        """n = D·x − Σx into HELD; nothing where n is the value itself."""
        total = bits_for(op.channels * op.i.magnitude)
        parts = [(B.TOTAL, -1)] if not c.narrow(total) else [(B.TOTAL_HIGH, -(1 << PIECE)), (B.TOTAL_LOW, -1)]
        minus = [MicroOp(a=A.CONSTANT, constant=constant, b=part, first=Acc.ADD) for part, constant in parts[:-1]]
        part, constant = parts[-1]
        return [MicroOp(x=0, a=A.CONSTANT, constant=op.channels, b=B.ROW), *minus,
                MicroOp(a=A.CONSTANT, constant=constant, b=part, first=Acc.ADD, to=To.HELD)]

    def compile(self, c, node, op):
        for stat in self.stats:
            c.gather(node.inputs[0], stat, op.groups)
        deviation = self.deviation(c, op)
        entry = entry_latency(op)
        if deviation and c.machine.small:
            scaled = self._at_once(c, op)
            chain = [*idle(min(entry - 1, c.machine.beats - len(scaled))), Body(tuple(scaled))]
        else:
            chain = self._held(c, op, deviation)
        before = sum(body.cycles for body in chain[:-1]) + 1  # from the first issue to the use of the entry
        lead = max(0, entry - before)
        fields = c.by_groups(node, op.groups, [c.load(node.inputs[0]), c.store(node)], node.width)
        *operands, dest = fields.pop("operands")
        c.emit(node, op, chain, operands=operands, dest=dest, **fields, shift=op.shift, norm=op, lead=lead,
               samples=min(lead + before - entry, lead + 1), held=op.n_bound * any(
                   micro.to is To.HELD for body in chain for micro in body.ops),
               bound=op.n_bound << op.entry_bits)

    @staticmethod
    def _at_once(c, op) -> list[MicroOp]:
        """D·x·entry − Σx·entry in parts, so that a small engine's lanes hold no n."""
        return [MicroOp(x=0, a=A.SCALED_HIGH, b=B.ROW), MicroOp(a=A.MINUS, b=B.TOTAL_HIGH, first=Acc.ADD),
                MicroOp(x=0, a=A.SCALED_LOW, b=B.ROW, first=Acc.RAISE),
                MicroOp(a=A.MINUS, b=B.TOTAL_LOW, first=Acc.ADD, to=To.DRAIN)]

    @staticmethod
    def _held(c, op, deviation: list[MicroOp]) -> list[Body]:
        """n, where it is not the value itself, is held for its product with the entry."""
        n = {"x": 0, "b": B.ROW} if not deviation else {"b": B.HELD}
        if deviation and c.narrow(bits_for(op.n_bound)):
            scaled = [MicroOp(a=A.ENTRY, b=B.HELD_HIGH), MicroOp(a=A.ENTRY, b=B.HELD_LOW, first=Acc.RAISE, to=To.DRAIN)]
        elif c.machine.chip and op.entry_bits > PIECE:  # whose first factors are narrow
            scaled = [MicroOp(a=A.ENTRY_HIGH, **n), MicroOp(a=A.ENTRY_LOW, **n | {"first": Acc.RAISE}, to=To.DRAIN)]
        else:
            scaled = [MicroOp(a=A.ENTRY, **n, to=To.DRAIN)]
        return [Body(tuple(deviation)), *idle(SUM - 1), Body(tuple(scaled))] if deviation else [Body(tuple(scaled))]


@executes(RangeOperator)
class RangeNorm(Norm):
    stats = (Stat.RANGE,)


@executes(LayerOperator)
class LayerNorm(Norm):
    stats = (Stat.SQUARES, Stat.RANGE)


@executes(RMSOperator)
class RMSNorm(Norm):
    stats = (Stat.SQUARES,)

    def deviation(self, c, op):
        return []
