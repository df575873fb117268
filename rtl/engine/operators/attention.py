"""Softmax attention, a head of a query after the other: what the lanes compute with are the statistics of the norm unit."""

from dataclasses import replace

import numpy as np

from emamba.base.errors import DesignLimit
from emamba.base.formats import IntFormat, bits_for
from emamba.ops import Attention as Operator

from ..micro import IDLE, A, Acc, B, Body, Buffer, MicroOp, Operand, Stat, To, Walk, idle, inner
from ..registry import Executor, executes
from ..timing import SUM
from .norms import entry_latency

COPY = MicroOp(x=0, a=A.CONSTANT, constant=1, b=B.ROW, to=To.DRAIN)


@executes(Operator)
class Attention(Executor):
    """Scores are sums of squares of another kind: of every key a sum of products, gathered as its row drains. Each becomes a row,
    of which all lanes are alike; lanes that are keys are picked from these rows. Their greatest score, then the sum of their
    exponentials, are a token's statistics, by which the sum of e·v is scaled as a norm's n is."""

    def compile(self, c, node, op):
        lanes, self_rows = c.machine.lanes, op.head_dim // c.machine.lanes
        if op.head_dim % lanes:
            raise DesignLimit(f"the engine works heads of whole rows, but here one has {op.head_dim} channels: take --lanes that "
                              f"divide {op.head_dim}, or build it with --organization pipeline")
        if node.name in c.graph.outputs:
            raise DesignLimit("the engine gives no attention as an output: build it with --organization pipeline")
        scores = IntFormat(bits_for(op.score_bound))
        most = c.machine.groups(op.tokens)
        single, packed, found = (Operand(Buffer(f"{node.name}.{name}", rows, count), 0, True) for name, rows, count in (
            ("scores", 1, most * lanes), ("packed", most, 1), ("weights", most, 1)))
        place, inputs = c.store(node), [c.load(name) for name in node.inputs]
        for query in range(op.tokens):
            keys = query + 1 if op.causal else op.tokens
            for head in range(op.heads):
                q, k, v = (replace(each, row=head * self_rows) for each in inputs)
                q.token, q.rows = q.token + query, 0
                v.walk = Walk.TOKEN
                dest = replace(place, token=place.token + query, row=head * self_rows)
                self._scored(c, node, op, q, k, keys, self_rows, scores)
                self._packed(c, node, op, single, packed, keys, scores)
                self._weighted(c, node, op, packed, found, keys, most)
                self._summed(c, node, op, v, found, dest, keys, self_rows)

    @staticmethod
    def _emit(c, node, op, chain, tokens: int, groups: int, last: int, what: str, **fields) -> None:
        fields = {"traces": ("", ""), "tokens": tokens, "rest": tokens, "groups": groups, "lanes": last} | fields
        c.emit(node, op, chain, name=f"{node.name}{what}", **fields)

    def _scored(self, c, node, op, q, k, keys: int, rows: int, scores) -> None:
        """Σ q·k of every key, in the statistics."""
        ops = MicroOp(x=0, to=To.ROW), MicroOp(x=1, a=A.KEPT, b=B.ROW, to=To.DRAIN)
        self._emit(c, node, None, [Body(ops)], keys, rows, c.machine.lanes, ".products", operands=[q, k], dest=None,
                   format=scores, stat=Stat.SQUARES, bound=op.q.magnitude * op.k.magnitude, kept=op.q.magnitude, work=op.head_dim)

    def _packed(self, c, node, op, single, packed, keys: int, scores) -> None:
        """A row of each score; then lanes that are keys; then their greatest score."""
        lanes, groups = c.machine.lanes, c.machine.groups(keys)
        last = keys - (groups - 1) * lanes
        shown = MicroOp(a=A.CONSTANT, constant=1, b=B.SQUARES, to=To.DRAIN)
        fields = {"format": scores, "bound": op.score_bound}
        self._emit(c, node, None, [Body((IDLE, shown))], keys, 1, lanes, ".scores", operands=[], dest=single, gathered=op,
                   samples=1, **fields)
        pick = inner(x=0, weight=True, b=B.ROW)
        tokens = Operand(single.buffer, 0, False, Walk.TOKEN, rows=lanes, step=1)
        row = Operand(packed.buffer, 0, True, rows=1)
        self._emit(c, node, None, [Body((pick,), lanes)], groups, 1, lanes, ".picked", operands=[tokens], dest=row,
                   weights=lambda operators: np.eye(lanes, dtype=np.int64), **fields)
        self._emit(c, node, None, [Body((COPY,))], 1, groups, last, ".greatest", operands=[packed], dest=None, stat=Stat.RANGE,
                   **fields)

    def _weighted(self, c, node, op, packed, found, keys: int, most: int) -> None:
        """e of every key, and their sum."""
        groups = c.machine.groups(keys)
        ops = (MicroOp(x=0, a=A.CONSTANT, constant=op.multiplier, b=B.ROW),
               MicroOp(a=A.CONSTANT, constant=-op.multiplier, b=B.GREATEST, first=Acc.ADD, to=To.DRAIN))
        codes = np.arange(1 << op.exp.i.bits)
        codes = np.where(codes > op.exp.i.max, codes - (1 << op.exp.i.bits), codes)
        table = op.exponentials[np.minimum(codes, 0) - op.exp.i.min].astype(np.int64)
        self._emit(c, node, None, [Body(ops)], 1, groups, keys - (groups - 1) * c.machine.lanes, ".weights", operands=[packed],
                   dest=found, format=op.exp.i, rounding=op.rounding, shift=op.shift, table=table, table_format=op.exp.o,
                   stat=Stat.RANGE, gathered=op, samples=1, bound=2 * op.score_bound * op.multiplier, work=2 * keys)

    def _summed(self, c, node, op, v, found, dest, keys: int, rows: int) -> None:
        """Σ e·v, times the entry of their sum."""
        e = Operand(found.buffer, 0, False, Walk.CHANNEL)
        step = (MicroOp(x=0, to=To.ROW, a=A.CONSTANT, first=Acc.ADD, acc=Acc.ADD),  # adds 0 to the sum
                MicroOp(x=1, a=A.KEPT, b=B.CHANNEL, acc=Acc.ADD, to=To.HELD, at_last=True))
        if c.narrow(bits_for(op.n_bound)):
            scaled = [MicroOp(a=A.ENTRY, b=B.HELD_HIGH), MicroOp(a=A.ENTRY, b=B.HELD_LOW, first=Acc.RAISE, to=To.DRAIN)]
        else:
            scaled = [MicroOp(a=A.ENTRY, b=B.HELD, to=To.DRAIN)]
        chain = [Body(step, keys), *idle(SUM - 1), Body(tuple(scaled))]
        entry, before = entry_latency(op), 2 * keys + SUM
        lead = max(0, entry - before)
        self._emit(c, node, op, chain, 1, rows, c.machine.lanes, "", operands=[v, e], dest=dest, shift=op.y_shift, norm=op,
                   lead=lead, samples=min(lead + before - entry, lead + 1), held=op.n_bound, kept=op.v.magnitude,
                   bound=op.n_bound << op.entry_bits, work=op.head_dim * (keys + 1), traces=(node.name, ""))
