"""The selective scan: the states of a row of channels one after the other, then the row's outputs."""

from dataclasses import replace

import numpy as np

from emamba.base.errors import DesignLimit
from emamba.base.formats import bits_for
from emamba.ops import HeadScan as HeadOperator
from emamba.ops import Scan as Operator
from emamba.ops.certificate import certify

from ..decays import Decay
from ..digits import digits, summed
from ..micro import IDLE, PIECE, A, Acc, B, Body, Buffer, MicroOp, Operand, To, Walk, Zero, idle, inner
from ..registry import Executor, executes
from ..timing import SUM

U, DELTA, DRIVE, READ = range(4)
WALKS = Walk.STAY, Walk.STAY, Walk.CHANNEL, Walk.CHANNEL
"""The operands: u and δ by rows, B and C by channels."""


@executes(Operator)
class Scan(Executor):
    """Of a row of channels: δ·u is held, D·u kept. For every state δ·A, whose decay comes while the state before is worked on,
    (δ·u)·B and Ā·h; then D·u, aligned, and C·h over all states."""

    def compile(self, c, node, op):
        self._refuse(op)
        decay, states = Decay.of(op), op.d_state
        du = op.dt.magnitude * op.u.magnitude
        up = max(0, -op.term_shift)  # a small engine's δ·u is aligned with the state at once
        aligned = c.machine.small and op.term_shift <= 0 and not c.narrow(bits_for(du << up))
        up, begin = (up, Acc.ADD) if aligned else (0, Acc.TERM)
        latency = decay.latency(c.machine)[1]
        head = [MicroOp(x=DELTA, constant=up, to=To.ROW), MicroOp(x=U, a=A.KEPT, b=B.ROW, to=To.HELD),
                MicroOp(x=DELTA, weight=True, a=A.WEIGHT, b=B.ROW, to=To.DECAY),
                MicroOp(x=U, weight=True, a=A.WEIGHT, b=B.ROW, to=To.KEPT)]
        if c.machine.small:  # whose decays take longer
            head[1:3] = head[2], head[1]
        ahead = MicroOp(x=DELTA, weight=True, a=A.WEIGHT, b=B.ROW, to=To.DECAY, skip=True)
        term = MicroOp(x=DRIVE, a=A.CHANNEL, b=B.HELD)
        zero = Zero.STATE if op.h0 is None else Zero.NEVER
        recur = {"zero": zero, "b": B.STATE, "first": begin, "acc": begin}
        if c.narrow(op.h.bits):
            low = MicroOp(state="read", a=A.DECAY, **recur | {"b": B.STATE_LOW})
            high = MicroOp(state="last", a=A.DECAY_UP, b=B.STATE_HIGH, zero=zero, first=Acc.ADD, acc=Acc.ADD, to=To.STATE)
            step = [ahead, term, low, high]
        else:
            step = [ahead, term, MicroOp(state="last", a=A.DECAY, **recur, to=To.STATE)]
        step += [IDLE] * (latency - 2 - len(step))  # the decay of the next state must come in time
        wait = idle(latency - len(head) - c.machine.small)  # and the first one
        settled = idle(SUM + 1 - states)  # the last state is written before it is read
        chain = [Body(tuple(head)), *wait, Body(tuple(step), states), *settled, *self._output(c, op)]
        operands = [c.load(name, walk) for name, walk in zip(node.inputs, WALKS, strict=True)]
        self._spread(c, node, op, operands)

        def weights(operators):  # of a row of channels: A of the first state, D, A of the others
            own = operators[node.name]
            rates = self._rates(own)
            return c.rows(np.concatenate([rates[:, :1], own.direct[:, None], rates[:, 1:]], 1))

        state = c.state(c.machine.groups(node.width) * states)
        if op.h0 is not None:
            self._begin(c, node, op, state)
        y_bound, certificate = op.y_bound, certify(op)
        if c.machine.small and certificate.holds:
            y_bound -= op.d_state * op.C.magnitude * (op.h_wide.magnitude - certificate.bound)
        c.emit(node, op, chain, operands=operands, weights=weights,
               state=state, shift=op.y_shift, scan=op, held=du << up,
               kept=max(op.dt.magnitude << up, op.d.magnitude * op.u.magnitude), work=node.width * (4 * states + 2),
               bound=max(y_bound, (op.h.magnitude << op.a_bar.bits) + op.term_bound, (du << up) * op.B.magnitude))

    def _refuse(self, op) -> None:
        if op.delta_b:
            raise DesignLimit("the engine has the input term (δ·u)·B, not the paper's: quantize with input_term = 'delta_u', or "
                              "build it with --organization pipeline")
        if op.dt.signed or (op.hold and (op.A == 0).any()):
            raise DesignLimit("the engine needs a δ without a sign and an A below 0: quantize the checkpoint again")

    @staticmethod
    def _begin(c, node, op, state: int) -> None:
        """In a sequence that begins anew the state is h0, which comes as rows of digits; else it stays."""
        given = op.h0 << op.a_bar.frac
        count = len(digits(given))
        parts = [B.WIDE_HIGH, B.WIDE_LOW] if c.narrow(op.h_wide.bits) else [B.WIDE]
        rows = [replace(row, zero=Zero.OLD) for row in summed(max(count, len(parts)))]
        kept = [MicroOp(a=A.CONSTANT, constant=1, b=part, first=Acc.ADD, zero=Zero.NEW, state="read") for part in parts]
        ops = [*rows[:-1], *kept[:-1], rows[-1], replace(kept[-1], state="last", to=To.STATE)]

        def weights(operators):
            own = operators[node.name]
            values = np.stack(digits(own.h0 << own.a_bar.frac, len(rows)), 2)  # [channels, states, digits]
            return c.rows(values.reshape(len(values), -1))

        step = Body(tuple(replace(micro, acc=micro.first) for micro in ops), op.d_state)
        c.emit(node, op, [step], name=f"{node.name}.start", tokens=1, rest=1, weights=weights,
               state=state, scan=op, dest=None, traces=("", ""), bound=op.h_wide.magnitude + op.a_bar.magnitude)

    def _spread(self, c, node, op, operands) -> None:
        """Gives `operands` a δ for every channel, and a B and a C for every row of them."""

    def _rates(self, op) -> np.ndarray:
        """A of every channel and state."""
        return op.A

    def _output(self, c, op) -> list[Body]:
        """D·u · 2^d_shift, which steps to the left bring to its place, and C·h."""
        parts = [B.WIDE_HIGH, B.WIDE_LOW] if c.narrow(op.h_wide.bits) else [B.WIDE]
        raises, rest = divmod(op.d_shift, PIECE)
        direct = MicroOp(a=A.CONSTANT, b=B.KEPT, constant=1 << rest)
        reads = [MicroOp(x=READ, state="last", a=A.CHANNEL, b=part, first=Acc.RAISE, acc=Acc.ADD) for part in parts]
        reads[-1] = replace(reads[-1], to=To.DRAIN, at_last=True)
        if raises < len(parts) - 1:  # after the upper part
            reads = [replace(reads[0], first=Acc.START), replace(direct, first=Acc.RAISE), replace(reads[1], first=Acc.ADD)]
        else:
            higher = MicroOp(a=A.CONSTANT, b=B.CONSTANT, first=Acc.RAISE, acc=Acc.RAISE)
            reads = [direct, *[higher] * (raises - len(parts) + 1), replace(reads[0], first=Acc.ADD), *reads[1:]]
        return [Body((micro,), op.d_state, rewind=True) if micro.x == READ else Body((micro,)) for micro in reads]


@executes(HeadOperator)
class HeadScan(Scan):
    """δ of a head goes to all its channels first, as a product with ones; so do B and C of a group to its rows of channels."""

    def _rates(self, op):
        return np.repeat(np.repeat(op.A, op.head_dim, 0), op.d_state, 1)

    def _spread(self, c, node, op, operands):
        operands[DELTA] = self._copied(c, node, DELTA, "delta", op.dt, np.arange(op.width) // op.head_dim, op.heads)
        if op.groups == 1:
            return
        lanes, size = c.machine.lanes, op.width // op.groups
        if size % lanes or op.d_state > lanes:
            raise DesignLimit(f"the engine has one B and one C for a row of channels, and each in one row, but {size} channels "
                              f"have a B of {op.d_state}: take --lanes that divide {size} and are {op.d_state} or more, or build "
                              "it with --organization pipeline")
        group = np.arange(op.width) // size
        state = np.minimum(np.arange(op.width) % lanes, op.d_state - 1)
        for k, name, o in ((DRIVE, "B", op.B), (READ, "C", op.C)):
            operands[k] = self._copied(c, node, k, name, o, group * op.d_state + state, op.groups * op.d_state)
            operands[k].walk = Walk.CHANNEL

    @staticmethod
    def _copied(c, node, k: int, name: str, o, which: np.ndarray, width: int) -> Operand:
        """Rows of channels `which` of an input's `width`."""
        ones = np.zeros((len(which), width), np.int64)
        ones[np.arange(len(which)), which] = 1
        tokens, _ = c.rate(node)
        copied = Operand(Buffer(f"{node.name}.{name}", c.machine.groups(len(which)), tokens), 0, True)
        c.emit(node, None, [Body((inner(x=0, weight=True, b=B.CHANNEL),), width)], name=f"{node.name}.{name}",
               operands=[c.load(node.inputs[k], Walk.CHANNEL)], weights=lambda operators: c.rows(ones), dest=copied, format=o,
               bound=o.magnitude, traces=("", ""))
        return copied
