"""Exact cycles of a program, and the proof that it needs no interlock: nothing is read while its write is under way.

A micro-operation that is issued in cycle i presents its addresses, has factors in i + 2, a product in i + 3 and a sum in
i + SUM, where it is captured. What drains then passes the post-processors, a beat a cycle; the first beat is written in
i + WRITTEN.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from emamba.base.errors import DesignLimit

from .machine import Machine
from .micro import A, B, Instruction, MicroOp, Stat, To, Walk

SUM, WRITTEN = 4, 8
INDEXED = 2
"""Cycles from the issue that chooses an index to the one that uses it."""
TURN = 5
"""Cycles between an instruction's last issue and the next one's first, beside that one's gap."""


def skipped(machine: Machine) -> int:
    """Cycles of an instruction that does not run in a tile; a stream leaves it out."""
    return 0 if machine.stream else 2


@dataclass(frozen=True)
class Step:
    """A micro-operation in cycle `at` of a group, in step `k` of a body."""

    at: int
    op: MicroOp
    k: int
    last: bool

    @property
    def issues(self) -> bool:
        return not (self.op.skip and self.last)

    @property
    def to(self) -> To:
        """What it captures."""
        return self.op.to if self.issues and (self.last or not self.op.at_last) else To.NONE


def steps(instruction: Instruction) -> Iterator[Step]:
    """Every micro-operation of a group."""
    at = 0
    for body in instruction.chain:
        for k in range(body.steps):
            for op in body.ops:
                yield Step(at, op, k, k == body.steps - 1)
                at += 1


LOOKED = 3, 5
"""Cycles from the issue of a product δ·A to those in which a small engine reads decays from the memory of its weights."""


def lane_faults(instruction: Instruction, machine: Machine, decay: tuple[int, int]) -> list[str]:
    """What a lane would read at the wrong time, over three groups that follow each other. `decay`: cycles from a product δ·A to
    the last micro-operation before which all lanes have the decay before, and to the first before which all have its own."""
    faults, ready, decays, drained = [], {"HELD": 0, "KEPT": 0, "INDEX": 0}, [], -machine.beats
    found = [step for step in steps(instruction) if step.issues]
    states = sum(step.to is To.DECAY for step in found)
    for group in range(3):
        for step in found:
            at, op = step.at + group * instruction.group_cycles, step.op
            wanted = ["HELD"] * (B.HELD <= op.b <= B.HELD_HIGH) + ["KEPT"] * (op.a is A.KEPT or op.b is B.KEPT)
            wanted += ["INDEX"] * op.indexed
            faults += [f"{name} is read in cycle {at} and comes in {ready[name]}" for name in wanted
                       if op.works and at < ready[name]]
            if op.works and op.a in (A.DECAY, A.DECAY_UP) and {
                    sum(come + latency <= at for come in decays) for latency in decay} != {group * states + step.k + 1}:
                faults.append(f"the decay that is read in cycle {at} is another state's")
            if step.to is To.INDEX:
                ready["INDEX"] = at + INDEXED
            elif step.to is To.ROW:
                ready["KEPT"] = at + 1
            elif step.to in (To.HELD, To.KEPT):
                ready[step.to.name] = at + SUM
            elif step.to is To.DECAY:
                decays.append(at)
            elif step.to is To.DRAIN:
                faults += [f"a row drains in cycle {at} while another one does"] * (at < drained + machine.beats)
                drained = at
    if machine.small:
        rows = {step.at + group * instruction.group_cycles for step in found if step.op.weight for group in range(3)}
        faults += [f"weights are read in cycle {at + later} while decays are" for at in decays for later in LOOKED
                   if at + later in rows]
    return faults


class Walker:
    """Follows a program over the rows of values and of the state."""

    def __init__(self, instructions: Sequence[Instruction], machine: Machine, rows: int, states: int):
        self.instructions, self.machine = instructions, machine
        self.rows, self.tile = rows, max((instruction.tokens for instruction in instructions), default=1)
        self.written = np.full(rows + 2 * self.tile, -1, np.int64)  # of every row, and after them the statistics of every token
        self.now, self.draining = -1, 0

    def run(self, last: bool) -> Iterator[tuple[Instruction, int]]:
        """Every instruction of a tile, which is the `last` of a sequence or not, and by how many cycles it begins too early; its
        gap may be changed then."""
        for instruction in self.instructions:
            if not instruction.runs(last):
                self.now += skipped(self.machine)
                continue
            looked, made = self._values(instruction, last)
            self._replaces(instruction, looked, made)
            start = self.now + 1 + TURN + instruction.gap
            early = int((self.written[looked[:, 1]] + 1 - start - looked[:, 0]).max(initial=0))
            drains = [step.at for step in steps(instruction) if step.to is To.DRAIN]
            if drains:
                early = max(early, self.draining - start - instruction.lead - drains[0])
            if instruction.takes_input:
                early = max(early, self.draining + WRITTEN + 1 - start)
            yield instruction, max(0, early)
            start = self.now + 1 + TURN + instruction.gap
            np.maximum.at(self.written, made[:, 1], made[:, 0] + start)
            self._states(instruction, last)
            self.now = start + instruction.cycles(last) - 1
            if drains:
                self.draining = self.now + 1 - instruction.group_cycles + drains[-1] + self.machine.beats

    def _values(self, instruction: Instruction, last: bool) -> tuple[np.ndarray, np.ndarray]:
        """(cycle, row) of every read, and of every row's last write."""
        looked, made, dest = [], [], instruction.dest
        for step in steps(instruction):
            if step.op.x is not None and step.issues:
                operand = instruction.operands[step.op.x]
                moved = {Walk.STAY: 0, Walk.CHANNEL: step.k // self.machine.lanes,
                         Walk.TOKEN: step.k * operand.walked}[operand.walk]
                looked.append((step.at, operand.base + moved, operand.grouped, operand.later))
            if step.to is To.DRAIN:
                made += [(step.at + WRITTEN + self.machine.beats - 1, result.dest.base, 1, result.dest.later)
                         for result in instruction.results if result.dest]
        if instruction.norm is not None or instruction.gathered is not None:
            looked += [(instruction.samples - instruction.lead, self.rows + kind * self.tile, 0, _one) for kind in range(2)]
        if instruction.stat is not Stat.NONE:
            end = max(step.at for step in steps(instruction) if step.to is To.DRAIN) + (
                instruction.groups - 1) * instruction.group_cycles
            end += WRITTEN + self.machine.beats + self.machine.gathering
            made.append((end, self.rows + (instruction.stat - 1) * self.tile, 0, _one))
        if instruction.takes_input:
            made = [(instruction.token_cycles, dest.base + row, 0, dest.later) for row in range(dest.buffer.rows)]
        return self._spread(instruction, last, looked), self._spread(instruction, last, made)

    def _replaces(self, instruction: Instruction, looked: np.ndarray, made: np.ndarray) -> None:
        """Refuses results that take the place of values before these are read for the last time."""
        begun = np.full(len(self.written), np.iinfo(np.int64).max)
        np.minimum.at(begun, made[:, 1], made[:, 0] - self.machine.beats + 1)
        for cycle, row in looked[looked[:, 0] >= begun[looked[:, 1]]][:1]:
            raise DesignLimit(f"'{instruction.name}' reads row {row} in cycle {cycle}, but writes it in {begun[row]}")

    def _states(self, instruction: Instruction, last: bool) -> None:
        """Refuses a state that is read before it is written."""
        if instruction.state is None:
            return
        looked, made, place, at = [], [], 0, 0
        for body in instruction.chain:
            place = 0 if body.rewind else place
            for _ in range(body.steps):
                for op in body.ops:
                    if op.state:
                        looked.append((at, place))
                    if op.to is To.STATE:
                        made.append((at + SUM, place))
                    place += op.state == "last"
                    at += 1
        per_group = max((p for _, p in looked), default=0) + 1
        looked, made = (self._spread(instruction, last, [(cycle, instruction.state + p, per_group, _none) for cycle, p in rows])
                        for rows in (looked, made))
        order = {}
        for cycle, row in made:
            order.setdefault(int(row), []).append(int(cycle))
        for cycle, row in looked:
            before = [w for w in order.get(int(row), []) if w - SUM < cycle]
            if before and cycle <= max(before):
                raise DesignLimit(f"'{instruction.name}' reads a state in cycle {cycle} that is written in {max(before)}")

    @staticmethod
    def _spread(instruction: Instruction, last: bool, rows: Sequence[tuple]) -> np.ndarray:
        """A group's (cycle, row, rows a group, rows to a token) over all groups and tokens, cycles from the first issue."""
        if not rows:
            return np.empty((0, 2), np.int64)
        at, base, per_group = np.array([row[:3] for row in rows], np.int64).T
        numbers = np.arange(instruction.count(last))
        tokens, groups = numbers[:, None, None], np.arange(instruction.groups)[None, :, None]
        cycles = instruction.lead + tokens * instruction.token_cycles + groups * instruction.group_cycles + at
        moved = {later: later(numbers) for *_, later in rows}
        later = np.stack([moved[later] for *_, later in rows], 1)[:, None, :]
        found = np.broadcast_to(base + groups * per_group + later, cycles.shape)
        return np.stack([cycles.ravel(), found.ravel()], 1)


def _one(token):
    return token


def _none(token):
    return 0 * token


def settle(instructions: Sequence[Instruction], machine: Machine, rows: int, states: int) -> None:
    """Gives every instruction the shortest gap with which nothing is read too early, whichever tile comes before."""
    walker = Walker(instructions, machine, rows, states)
    for last in (False, True, True, False):
        for instruction, early in walker.run(last):
            instruction.gap += early


def check(instructions: Sequence[Instruction], machine: Machine, rows: int, states: int) -> None:
    """Refuses a program that reads a row while its write is under way."""
    walker = Walker(instructions, machine, rows, states)
    for last in (False, True, True, False):
        for instruction, early in walker.run(last):
            if early:
                raise DesignLimit(f"instruction '{instruction.name}' reads a row {early} cycles before it is written: its gap of "
                                  f"{instruction.gap} cycles is too short")
