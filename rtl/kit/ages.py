"""How many steps of its block's pipeline a value comes after the beat that it belongs to: its age.

Only values of one age may meet, and a result is as old as its block says. Both follow from the circuit, made of light values
(`rtl.kit.light`): what meets in an operator has one age, a register of `Pipeline` is a step older than its source, a state is as
old as what it is written from, and a constant belongs to any beat. Ages are solved as differences, by union-find, so that loops
through a state need no order.
"""

from .block import Spec
from .light import Choice, Concat, Node, Number, Operator, Part, Wire, counting


class Misaligned(Exception):
    """Values of two beats meet, or a result is not as old as it is said to be."""


def check(spec: Spec) -> None:
    """Refuses a block whose circuit joins values of different beats.

    Raises
    ------
    Misaligned
        Values of different ages meet, or results are not as old as the circuit's `finish` says.
    """
    with counting() as circuit:
        block = spec.build()
        block.elaborate(None)
    ages = _Ages({port for port in block.ports if not port.drivers})
    for memory, _ in circuit.memories:
        for port in memory.write_ports:
            ages.follow(Concat((port.addr, port.data, port.en)))
    for result, stages in circuit.results:
        ages.follow(result)
        ages.meet(result, NOW, stages)


NOW = Number(0)
"""Stands for the beat that the block takes."""


class _Ages:
    """Differences of ages, in a circuit with these input ports."""

    def __init__(self, ports: set[Node]):
        self.ports, self.seen = ports, set()
        self.above: dict[Node, tuple[Node, int]] = {}  # a value that it is as old as, and how much older it is

    def meet(self, value: Node, other: Node, older: int = 0) -> None:
        """`value` is `older` than the other one by so many steps."""
        (a, to_a), (b, to_b) = self._root(value), self._root(other)
        if a is not b:
            self.above[a] = b, to_b + older - to_a
        elif to_a != to_b + older:
            raise Misaligned(f"{_told(value)} is {to_a - to_b} steps older than {_told(other)}, not {older}")

    def _root(self, value: Node) -> tuple[Node, int]:
        path, older = [], 0
        while value in self.above:
            path.append(value)
            value = self.above[value][0]
        for below in reversed(path):
            older += self.above[below][1]
            self.above[below] = value, older
        return value, older

    def follow(self, value: Node) -> None:
        """All that a value is made of."""
        todo = [value]
        while todo:
            value = todo.pop()
            if value in self.seen:
                continue
            self.seen.add(value)
            for source, steps in self._sources(value):
                if not self._timeless(source):
                    self.meet(value, source, steps)
                    todo.append(source)

    def _sources(self, value: Node) -> list[tuple[Node, int]]:
        kind = type(value)
        if kind is Part:
            return [(value.value, 0)]
        if kind is Operator:
            return [(operand, 0) for operand in value.operands]
        if kind is Concat:
            return [(part, 0) for part in value.parts]
        if kind is Choice:
            return [(each, 0) for each in (value.test, *value.cases)]
        if value in self.ports:
            self.meet(value, NOW)
        if kind is Number or value in self.ports:
            return []
        if value.source is not None:
            return [(value.source, value.steps)]
        tests = [] if value.clocked else [test for tests in value.conditions for test in tests]
        return [(each, 0) for each in [driver[2] for driver in value.drivers] + tests]

    def _timeless(self, value: Node) -> bool:
        """Whether a value belongs to any beat."""
        if type(value) is Wire and value not in self.ports:
            return type(value.source) is Number or (value.source is None and not value.drivers)
        return type(value) is Number


def _told(value: Node) -> str:
    if value is NOW:
        return "the beat"
    kind = f"operator {value.operator}" if type(value) is Operator else type(value).__name__.lower()
    return f"the {kind} of {value.width} bits"
