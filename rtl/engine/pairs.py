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
            and all(getattr(first, name) == getattr(second, name) for name in ("tokens", "rest", "when", "before")))
    return plain and same and _offset(first, machine) + second.lanes <= machine.lanes


def _joined(first: Instruction, second: Instruction, machine: Machine) -> Instruction:
    place = _offset(first, machine)
    weights, biases = (first.weights, second.weights), (first.bias, second.bias)

    def both(operators):
        ours, theirs = (of(operators) for of in weights)
        return np.concatenate([ours[:, :place], theirs[:, :machine.lanes - place]], 1)

    def bias(operators):
        found = np.zeros(place + second.lanes, np.int64)
        for start, of in zip((0, place), biases, strict=True):
            if of is not None:
                values = of(operators)
                found[start:start + len(values)] = values
        return found

    first.weights, first.bias = both, bias if any(biases) else None
    first.second, first.place, first.work = second, place, first.work + second.work
    first.bound, first.held = max(first.bound, second.bound), max(first.held, second.held)
    return first
