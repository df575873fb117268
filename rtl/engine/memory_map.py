"""Where values lie: every buffer gets rows that no other one has while it lives."""

from collections.abc import Sequence

from .micro import Buffer, Instruction


def lifetimes(instructions: Sequence[Instruction]) -> dict[Buffer, tuple[int, int]]:
    """First and last instruction that writes or reads each buffer; what is kept lives from the first to the last of all."""
    found: dict[Buffer, tuple[int, int]] = {}
    for k, instruction in enumerate(instructions):
        touched = [operand.buffer for operand in instruction.operands]
        touched += [result.dest.buffer for result in instruction.results if result.dest]
        for buffer in touched:
            first, _ = found.get(buffer, (k, k))
            found[buffer] = (0, len(instructions)) if buffer.kept else (first, k)
    return found


def allocate(instructions: Sequence[Instruction]) -> int:
    """Places every buffer at the lowest rows that are free while it lives; how many rows there are."""
    lives = lifetimes(instructions)
    placed: list[Buffer] = []
    for buffer in sorted(lives, key=lambda buffer: (not buffer.kept, lives[buffer][0], -buffer.size)):
        first, last = lives[buffer]
        busy = sorted((other.base, other.base + other.size) for other in placed
                      if lives[other][0] <= last and first <= lives[other][1])
        base = 0
        for start, end in busy:
            if base + buffer.size <= start:
                break
            base = max(base, end)
        buffer.base = base
        placed.append(buffer)
    return max((buffer.base + buffer.size for buffer in placed), default=1)
