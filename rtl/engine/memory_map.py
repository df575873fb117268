"""Where values lie: every buffer gets rows that no other one has while they live."""

from collections.abc import Sequence
from typing import NamedTuple

from .micro import Buffer, Instruction, Operand, Walk


class Life(NamedTuple):
    """Rows `start` to `end` of a buffer, from instruction `first` to instruction `last`."""

    start: int
    end: int
    first: int
    last: int


def lifetimes(instructions: Sequence[Instruction]) -> dict[Buffer, list[Life]]:
    """From the first to the last instruction that writes or reads each buffer; what stays from tile to tile, always."""
    touched: dict[Buffer, list[int]] = {}
    for k, i in enumerate(instructions):
        for operand in (*i.operands, *(result.dest for result in i.results if result.dest)):
            touched.setdefault(operand.buffer, []).append(k)
    return {buffer: [life for life in (Life(0, buffer.lasting, 0, len(instructions)),
                                       Life(buffer.lasting, buffer.size, found[0], found[-1])) if life.start < life.end]
            for buffer, found in touched.items()}


def replaced(instructions: Sequence[Instruction]) -> set[tuple[Buffer, Buffer]]:
    """A buffer that is read by an instruction, and one whose rows it writes after it has read the same ones."""
    def plain(operand: Operand, i: Instruction) -> bool:
        return (operand.buffer.tokens == i.tokens and not operand.buffer.kept and operand.token == operand.row == 0
                and operand.rows is operand.period is None and not operand.backwards)

    found = set()
    for i in instructions:
        for dest in (result.dest for result in i.results if result.dest):
            for buffer in {operand.buffer for operand in i.operands if operand.buffer.rows == dest.buffer.rows}:
                readers = [operand for operand in i.operands if operand.buffer is buffer]
                if all(plain(each, i) for each in (*readers, dest)) and all(
                        each.walk is not Walk.TOKEN if i.groups == 1 else each.walk is Walk.STAY and each.grouped
                        for each in readers):
                    found.add((buffer, dest.buffer))
    return found


def allocate(instructions: Sequence[Instruction]) -> int:
    """Places every buffer at the lowest rows that are free while it lives; how many rows there are."""
    lives, replaces = lifetimes(instructions), replaced(instructions)
    placed: list[Buffer] = []

    def clash(one: Buffer, base: int, other: Buffer) -> bool:
        return any(base + a.start < other.base + b.end and other.base + b.start < base + a.end
                   and a.first <= b.last and b.first <= a.last
                   and not (base == other.base and a.first == b.last and (other, one) in replaces)
                   for a in lives[one] for b in lives[other])

    for buffer in sorted(lives, key=lambda buffer: (not buffer.kept, lives[buffer][0].first, -buffer.size)):
        bases = {0, *(other.base for other in placed), *(other.base + life.end for other in placed for life in lives[other])}
        buffer.base = next(base for base in sorted(bases) if not any(clash(buffer, base, other) for other in placed))
        placed.append(buffer)
    return max((buffer.base + buffer.size for buffer in placed), default=1)


def depths(instructions: Sequence[Instruction], posts: int, beats: int) -> list[int]:
    """Of every beat of a row, the rows from which on none has values in it."""
    found = [0] * beats
    for i in instructions:
        for result in (result for result in i.results if result.dest):
            buffer = result.dest.buffer
            for beat in range(beats if buffer.rows > 1 else -(-result.lanes // posts)):
                found[beat] = max(found[beat], buffer.base + buffer.size)
    return found
