"""What a program means, without time: the instructions one after the other, on arrays of integers. Hardware that needs no
interlock (`timing`) gives the same values."""

from collections import deque

import numpy as np

from emamba.base import arithmetic as arith
from emamba.ops import Attention, LayerNorm

from .compiler import Program
from .micro import PIECE, A, Acc, B, Instruction, MicroOp, Operand, Stat, To, Walk, When, Zero

Array = np.ndarray
UNWRITTEN = np.int64(77)
"""What memories hold before they are written: nothing may depend on it."""


class Interpreter:
    """Runs a program on a batch of sequences that begin anew. Values are [batch, lanes]."""

    def __init__(self, program: Program):
        self.program, self.lanes = program, program.machine.lanes
        self.found: dict[str, list[Array]] = {}
        self.lane = {"acc": 0, "held": 0, "kept": 0, "index": 0}

    def run(self, tokens: Array) -> dict[str, Array]:
        """tokens [batch, L, width] of integers → [batch, L', width] of every node that has instructions."""
        program, batch = self.program, len(tokens)
        self.values = np.full((program.rows, batch, self.lanes), UNWRITTEN)
        self.states = np.full((max(1, program.states), batch, self.lanes), UNWRITTEN)
        self.stats = {kind: {} for kind in Stat}
        self.found = {name: [] for i in program.instructions for result in i.results for name in result.traces if name}
        for tile in range(program.tiles):
            last = tile == program.tiles - 1
            for number, i in enumerate(program.instructions):
                if i.takes_input:
                    self._take(i, tokens[:, tile * program.tile:][:, :i.count(last)])
                elif i.runs(last):
                    for token in range(i.count(last)):
                        self._token(i, number, token, tile)
        found = {name: np.stack(values, 1).reshape(batch, program.artifact.graph[name].tokens, -1)
                 for name, values in self.found.items()}
        return found | {name: found[name][..., columns] for name, columns in program.columns.items()}

    def _take(self, i: Instruction, tokens: Array) -> None:
        for token in range(tokens.shape[1]):
            self._store(i.dest, token, tokens[:, token])

    def _store(self, dest: Operand, token: int, values: Array, group: int = 0) -> None:
        for start in range(0, values.shape[1], self.lanes):
            part = values[:, start:start + self.lanes]
            self.values[dest.base + dest.later(token) + group + start // self.lanes, :, :part.shape[1]] = part

    def _token(self, i: Instruction, number: int, token: int, tile: int) -> None:
        program, rows = self.program, []
        weight, place = program.weight_base[number], i.state or 0
        scalars = self._scalars(i, token)
        lane, scale = self.lane, i.chosen if program.machine.stream else 1
        decays: deque[Array] = deque()
        for group in range(i.groups):
            begin = place
            for body in i.chain:
                place = begin if body.rewind else place
                for k in range(body.steps):
                    for op in body.ops:
                        if op.skip and k == body.steps - 1:
                            continue
                        row, channel = self._read(i, op, token, group, k)
                        w = program.weights[weight + (lane["index"] * scale if op.indexed else 0)] if op.weight else None
                        weight += op.weight
                        to = op.to if k == body.steps - 1 or not op.at_last else To.NONE
                        self._step(i, op, k, to, lane, decays, row, channel, w, scalars, place, self._zero(i, op, token, k, tile))
                        if to is To.DRAIN:
                            rows.append(lane["acc"])
                        place += op.state == "last"
        if rows:
            self._drain(i, number, token, rows, scalars)

    def _read(self, i: Instruction, op: MicroOp, token: int, group: int, k: int) -> tuple[Array, Array]:
        if op.x is None:
            return 0, 0
        operand = i.operands[op.x]
        moved = {Walk.STAY: 0, Walk.CHANNEL: k // self.lanes, Walk.TOKEN: k * operand.walked}[operand.walk]
        row = self.values[operand.base + operand.later(token) + group * operand.grouped + moved]
        return row, row[:, k % self.lanes, None]

    @staticmethod
    def _zero(i: Instruction, op: MicroOp, token: int, k: int, tile: int) -> bool:
        new = tile == 0 or i.when is When.LAST
        return {Zero.NEVER: False, Zero.BEFORE: tile == 0 and token + k < i.before, Zero.STATE: tile == 0 and token == 0,
                Zero.TILE: tile == 0, Zero.NEW: new, Zero.OLD: not new}[op.zero]

    def _step(self, i, op, k, to, lane, decays, row, channel, w, scalars, place, zero) -> None:
        """A micro-operation."""
        if op.to is To.ROW:
            lane["kept"] = row << op.constant
        if op.to is To.INDEX:
            lane["index"] = int(channel[0, 0])  # a batch of one
        if not op.works:
            if (op.first if k == 0 else op.acc) is Acc.START:
                lane["acc"] = UNWRITTEN << 16  # a lane multiplies in every cycle
            return
        state = self.states[place] if op.state else None
        first = self._first(i, op, lane, decays, channel, w, scalars)
        second = 0 if zero else self._second(i, op, lane, row, channel, scalars, state)
        before, acc = lane["acc"], op.first if k == 0 else op.acc
        if acc is Acc.TERM:
            before = arith.round_shift(before, i.scan.term_shift, i.scan.rounding)
        before = {Acc.START: 0, Acc.ADD: before, Acc.RAISE: before << PIECE, Acc.TERM: before}[acc]
        lane["acc"] = before + first * second
        if to is To.HELD:
            lane["held"] = lane["acc"]
        elif to is To.KEPT:
            lane["kept"] = lane["acc"]
        elif to is To.DECAY:
            decays.append(self._decay(i.scan, first * second))
        elif to is To.STATE:
            self.states[place] = arith.saturate(lane["acc"], i.scan.h_wide)
            if decays:
                decays.popleft()

    def _split(self, i: Instruction) -> int:
        """Bits of a rounded state's lower part."""
        return max(0, i.scan.h.bits - (self.program.machine.factor_bits or i.scan.h.bits))

    def _first(self, i, op, lane, decays, channel, w, scalars):
        if op.a in (A.DECAY, A.DECAY_UP):
            return decays[0] << (self._split(i) if op.a is A.DECAY_UP else 0)
        if op.a >= A.SCALED_LOW:
            value = scalars[1] * (i.norm.channels if op.a <= A.SCALED_HIGH else 1)
            return value >> PIECE if op.a.name.endswith("_HIGH") else value & (1 << PIECE) - 1
        return {A.WEIGHT: w, A.CHANNEL: channel, A.CONSTANT: op.constant, A.ENTRY: scalars[1], A.MINUS: -scalars[1],
                A.KEPT: lane["kept"]}[op.a]

    def _second(self, i, op, lane, row, channel, scalars, state):
        if B.STATE <= op.b <= B.STATE_HIGH:
            value, bits = arith.requantize(state, i.scan.a_bar.frac, i.scan.h, i.scan.rounding), self._split(i)
        else:
            value, bits = {B.ROW: row, B.CHANNEL: channel, B.CONSTANT: op.constant, B.KEPT: lane["kept"], B.GREATEST: scalars[3],
                            B.SQUARES: scalars[4]}.get(op.b), PIECE
            value = scalars[0] if B.TOTAL <= op.b <= B.TOTAL_HIGH else lane["held"] if B.HELD <= op.b <= B.HELD_HIGH else value
            value = state if B.WIDE <= op.b <= B.WIDE_HIGH else value
        if op.b.name.endswith("_LOW"):
            return value & (1 << bits) - 1
        return value >> bits if op.b.name.endswith("_HIGH") else value

    @staticmethod
    def _decay(scan, product: Array) -> Array:
        exact = scan.decay(scan.read(product))
        return np.where(product == 0, 1 << scan.a_bar.frac, exact) if scan.hold else exact

    def _scalars(self, i: Instruction, token: int):
        """Sum of the token, entry of the table, zeros; its greatest value and its sum of squares."""
        op = i.norm
        total, high, low = self.stats[Stat.RANGE].get(token, (0, 0, 0))
        squares = self.stats[Stat.SQUARES].get(token, 0)
        if op is None:
            return total, 0, 0, high, squares
        table = op.reciprocals[0]
        if not isinstance(op, LayerNorm):
            spread = total if isinstance(op, Attention) else high - low
            zeros = arith.leading_zeros(spread, op.spread_bits)
            index = (spread << zeros) >> (op.spread_bits - len(table).bit_length())
            return total, table[index & (len(table) - 1)], zeros, high, squares
        spread = self.stats[Stat.SQUARES][token] + op.epsilon
        spread = op.channels * spread - total * total if op.centered else spread
        zeros, half = arith.leading_zeros(spread, op.spread_bits), len(table) >> 1
        below = ((spread << zeros) >> (op.spread_bits - half.bit_length())) & (half - 1)
        return total, table[half * (zeros & 1) + below], zeros >> 1, high, squares

    def _drain(self, i: Instruction, number: int, token: int, rows: list[Array], scalars) -> None:
        """Post-processors: from a token's rows of sums to its results."""
        program, posts = self.program, self.program.machine.posts
        width = (len(rows) - 1) * self.lanes + i.lanes
        sums = np.concatenate([np.broadcast_to(row, self.values.shape[1:]) for row in rows], 1)
        place = -(-i.lanes // posts) * posts
        bias = 0 if i.bias is None else program.biases[program.bias_base[number]:].reshape(-1)
        for k, result in enumerate(i.results):
            start, count = (place, result.lanes) if k else (0, width)
            part = sums[:, start:start + count] + (0 if i.bias is None else bias[start:start + count])
            plain = arith.round_shift(part << scalars[2], result.shift, result.rounding)
            plain = np.clip(plain, result.format.min if result.low is None else result.low,
                            result.format.max if result.high is None else result.high)
            final = plain if result.table is None else result.table[plain & (len(result.table) - 1)]
            if result.stat is Stat.RANGE:
                self.stats[Stat.RANGE][token] = tuple(of(final, 1)[:, None] for of in (np.sum, np.max, np.min))
            if result.stat is Stat.SQUARES:
                self.stats[Stat.SQUARES][token] = part.sum(1)[:, None]
            if result.dest is not None:
                self._store(result.dest, token, final)
            for name, values in zip(result.traces, (plain, final), strict=True):
                if name:
                    self.found[name].append(values if result.table is not None or name == result.traces[0] else final)
