"""FIFO depths are enough for the schedule, and none is larger than it needs.

The blocks' timing is exact and does not depend on data, so that pushes and pops of every FIFO are known cycle by cycle until the
pipeline is as full as it gets. Each FIFO is stepped through them on its own: with its depth no push waits, with one place less
one does.
"""

from collections.abc import Iterator
from unittest import mock

from emamba.artifact import Artifact
from rtl.plan.schedule import Queue, Schedule


def waits(pushes: list[int], pops: list[int], depth: int) -> bool:
    """Whether a push finds a FIFO of `depth` full, which it is when it was so at the end of the cycle before."""
    held, gone = 0, 0
    for push in pushes:
        while gone < len(pops) and pops[gone] < push:
            gone += 1
            held -= 1
        if held >= depth:
            return True
        held += 1
    return False


def traffic(artifact: Artifact, cycles_per_token: int) -> Iterator[tuple[Queue, list[int], list[int]]]:
    """Every FIFO of a design with the cycles of all pushes and pops that made its depth."""
    seen: dict[int, tuple[Queue, list[int], list[int]]] = {}
    require = Queue.require

    def record(queue: Queue, pushes: list[int], pops: list[int]) -> None:
        require(queue, pushes, pops)
        if id(queue) not in seen or len(pushes) > len(seen[id(queue)][1]):
            seen[id(queue)] = queue, list(pushes), list(pops)

    with mock.patch.object(Queue, "require", record):
        schedule = Schedule(artifact, cycles_per_token)
    yield from (seen[id(queue)] for queue in schedule.queues())


def check(artifact: Artifact, cycles_per_token: int) -> dict:
    """FIFOs, those too shallow, those deeper than needed, and pushes that were stepped through."""
    found = list(traffic(artifact, cycles_per_token))
    return {
        "fifos": len(found),
        "pushes": sum(len(pushes) for _, pushes, _ in found),
        "shallow": sum(waits(pushes, pops, queue.depth) for queue, pushes, pops in found),
        "loose": sum(queue.depth > 1 and not waits(pushes, pops, queue.depth - 1) for queue, pushes, pops in found),
    }
