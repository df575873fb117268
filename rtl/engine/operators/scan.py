"""The selective scan: the states of a row of channels one after the other, then the row's outputs."""

from dataclasses import replace

import numpy as np

from emamba.base.errors import DesignLimit
from emamba.base.formats import bits_for
from emamba.ops import HeadScan as HeadOperator
from emamba.ops import Scan as Operator
from emamba.ops.certificate import certify

from ..decays import Decay
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
        recur = {"zero": Zero.STATE, "b": B.STATE, "first": begin, "acc": begin}
        if c.narrow(op.h.bits):
            low = MicroOp(state="read", a=A.DECAY, **recur | {"b": B.STATE_LOW})
            high = MicroOp(state="last", a=A.DECAY_UP, b=B.STATE_HIGH, zero=Zero.STATE, first=Acc.ADD, acc=Acc.ADD, to=To.STATE)
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

        y_bound, certificate = op.y_bound, certify(op)
        if c.machine.small and certificate.holds:
            y_bound -= op.d_state * op.C.magnitude * (op.h_wide.magnitude - certificate.bound)
        c.emit(node, op, chain, operands=operands, weights=weights,
               state=c.state(c.machine.groups(node.width) * states), shift=op.y_shift, scan=op, held=du << up,
               kept=max(op.dt.magnitude << up, op.d.magnitude * op.u.magnitude), work=node.width * (4 * states + 2),
               bound=max(y_bound, (op.h.magnitude << op.a_bar.bits) + op.term_bound, (du << up) * op.B.magnitude))

    def _refuse(self, op) -> None:
        if op.delta_b:
            raise DesignLimit("the engine has the input term (δ·u)·B, not the paper's: quantize with input_term = 'delta_u', or "
                              "build it with --organization pipeline")
        if op.h0 is not None:
            raise DesignLimit("the engine begins with states of zeros, but this scan has others: build it with --organization "
                              "pipeline")
        if op.dt.signed or (op.hold and (op.A == 0).any()):
            raise DesignLimit("the engine needs a δ without a sign and an A below 0: quantize the checkpoint again")

    def _spread(self, c, node, op, operands) -> None:
        """Gives `operands` a δ for every channel."""

    def _rates(self, op) -> np.ndarray:
        """A of every channel and state."""
        return op.A

    def _output(self, c, op) -> list[Body]:
        """D·u · 2^d_shift, which steps to the left bring to its place, and C·h."""
        parts = [B.WIDE_HIGH, B.WIDE_LOW] if c.narrow(op.h_wide.bits) else [B.WIDE]
        raises, rest = divmod(op.d_shift, PIECE)
        direct = MicroOp(a=A.KEPT, b=B.CONSTANT, constant=1 << rest)
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
    """δ of a head goes to all its channels first, as a product with ones."""

    def _refuse(self, op):
        super()._refuse(op)
        if op.groups > 1:
            raise DesignLimit(f"the engine has one B and one C for all channels, but this scan has {op.groups}: build it with "
                              "--organization pipeline")

    def _rates(self, op):
        return np.repeat(np.repeat(op.A, op.head_dim, 0), op.d_state, 1)

    def _spread(self, c, node, op, operands):
        ones = np.kron(np.eye(op.heads, dtype=np.int64), np.ones((op.head_dim, 1), np.int64))
        tokens, _ = c.rate(node)
        spread = Operand(Buffer(f"{node.name}.delta", c.machine.groups(node.width), tokens), 0, True)
        heads = c.load(node.inputs[DELTA], Walk.CHANNEL)
        c.emit(node, None, [Body((inner(x=0, weight=True, b=B.CHANNEL),), op.heads)], name=f"{node.name}.delta", operands=[heads],
               weights=lambda operators: c.rows(ones), dest=spread, format=op.dt, bound=op.dt.magnitude, traces=("", ""))
        operands[DELTA] = spread
