"""Two short rows of results become one: inner products of the same values share the lanes."""

import numpy as np

from .machine import Machine
from .micro import Instruction, Stat


def pair(instructions: list[Instruction], machine: Machine) -> list[Instruction]:
    """Instructions that follow each other, as one where both fit the lanes; `Instruction.second` is then the other's results."""
    found: list[Instruction] = []
    for instruction in instructions:
        if found and _fits(found[-1], instruction, machine):
            found[-1] = _joined(found[-1], instruction, machine)
        else:
            found.append(instruction)
    return found


def _offset(first: Instruction, machine: Machine) -> int:
    """Lane at which the other's results begin: at a whole beat."""
    return -(-first.lanes // machine.posts) * machine.posts


def _fits(first: Instruction, second: Instruction, machine: Machine) -> bool:
    plain = all(i.weights is not None and i.groups == 1 and i.dest is not None and i.table is None and i.stat is Stat.NONE
                and i.scan is None and i.second is None for i in (first, second))
    same = (first.chain == second.chain and first.operands == second.operands
            and (first.tokens, first.when, first.before) == (second.tokens, second.when, second.before))
    return plain and same and _offset(first, machine) + second.lanes <= machine.lanes


def _joined(first: Instruction, second: Instruction, machine: Machine) -> Instruction:
    place = _offset(first, machine)
    first.weights = np.concatenate([first.weights[:, :place], second.weights[:, :machine.lanes - place]], 1)
    if first.bias is not None or second.bias is not None:
        bias = np.zeros(place + second.lanes, np.int64)
        for start, i in ((0, first), (place, second)):
            if i.bias is not None:
                bias[start:start + i.lanes] = i.bias
        first.bias = bias
    first.second, first.bound, first.work = second, max(first.bound, second.bound), first.work + second.work
    return first
