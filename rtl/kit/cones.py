"""The logic between the registers, sums and memories of a circuit: bits, by the number of their inputs."""

from collections import Counter

import numpy as np

from . import inventory as inv
from .light import REDUCTIONS, Choice, Concat, Node, Number, Operator, Part, Wire
from .terms import BITWISE, base, children, places, source

LEAST_CHAIN = 3
"""Bits of a sum from which Yosys takes a carry chain; a shorter one is logic."""


class Cones:
    """`uses`: how often each value is read; `inside`: values that are counted with what reads them."""

    def __init__(self, nodes: list[Node], wires: list[Wire]):
        self.nodes, self.wires = nodes, wires
        self.uses = Counter(child for value in nodes for child in children(value))
        self.uses.update(driver[2] for wire in wires for driver in wire.drivers)
        self.inside: set[Node] = set()
        self.found: Counter = Counter()  # bits by inputs
        self.resets = 0
        self._known: dict[Node, frozenset] = {}

    def alone(self, value: Node, times: int = 1) -> bool:
        """Whether a value has one reader, which reads it so many times: lanes that are alike give one value."""
        return self.uses[value] <= times

    def add(self, inputs: int, bits: int) -> None:
        """Counts bits of logic."""
        if inputs > 1 and bits:
            self.found[inputs] += bits

    def of(self, value: Node) -> frozenset:
        """What a bit of a value is a function of: what is no logic, or has other readers too."""
        found = self._known.get(value)
        if found is None:
            found = self._known[value] = self._inputs(value)
        return found

    def _inputs(self, value: Node) -> frozenset:
        kind, through = type(value), self._through
        if kind is Number:
            return frozenset()
        if kind is Part:
            found = through(value.value)
            one = value.width == 1 < value.value.width and len(found) == 1
            return frozenset([(value.value, value.start)]) if one else found
        if kind is Concat:
            parts = [self.of(part) for part in value.parts]
            return max(parts, key=len) if all(len(part) < 2 for part in parts) else frozenset([value])
        if kind is Choice:
            return frozenset().union(self._test(value), *map(through, value.cases))
        if kind is Operator and value.operator in BITWISE:
            return frozenset().union(*map(through, value.operands))
        if kind is Operator and value.operator in REDUCTIONS and value.operands[0].width < LEAST_CHAIN:
            operand, = value.operands
            return through(operand) | {(operand, 0)} if operand.width > 1 else through(operand)
        if kind is Wire and not value.clocked and len(value.drivers) == 1:
            return through(value.drivers[0][2])
        return frozenset([value])

    def _test(self, value: Choice) -> frozenset:
        """What chooses: for several bits a value of its own, unless it is of one or two others."""
        found = self.of(value.test)
        return found if len(found) < LEAST_CHAIN else self._through(value.test) if value.width == 1 else frozenset([value.test])

    def _through(self, value: Node) -> frozenset:
        found = self.of(value)
        return found if len(found) < 2 or self.alone(value) else frozenset([value])

    def count_choices(self) -> None:
        """Of wires that several values drive. A register keeps itself by its clock enable, and takes a constant by its reset."""
        enables = {}
        for wire in self.wires:
            enables |= {conditions: wire.weight for conditions in wire.conditions if len(conditions) > 1}
            if len(wire.drivers) < 2:
                if wire.clocked and type(base(wire.drivers[0][2])) in (Choice, Number):
                    self._settled(wire, [wire.drivers[0][2]], wire.need.bit_count() * wire.weight)
                continue
            tests = {test for conditions in wire.conditions for test in conditions}
            bits_of_tests, depth = sum(test.width for test in tests), max(map(len, wire.conditions), default=1)
            if wire.clocked and len(wire.conditions) > 1 < depth:  # its clock enable
                self.add(bits_of_tests, wire.weight * min(2, len(wire.drivers) - 1))
            for start, width, values in places(wire):
                bits = (wire.need >> start & (1 << width) - 1).bit_count() * wire.weight
                if wire.clocked:
                    values = self._settled(wire, values, bits)
                if len(values) < 2:
                    continue
                if all(type(value) is Number for value in values):
                    columns = inv.columns(np.array([[value.value] for value in values]), wire.width)[1]
                    self.add(bits_of_tests, columns * wire.weight)
                    continue
                self.inside.update(filter(self.alone, values))
                ways = len({source(value, start, width) for value in values if type(value) is not Number})
                inputs = sum(max(0, len(self._through(value)) - 1) for value in values)
                # two tests for each of three or more
                self.add(inputs + (3 * ways - 2 * (depth < 2) if ways > 2 else ways + 1), bits)
        for conditions, weight in enables.items():
            self.add(len(conditions), weight)

    def _settled(self, wire: Wire, values: list[Node], bits: int) -> list[Node]:
        """The values of a register that its data input chooses from."""
        left, resets = [], 0
        for value in values:
            inner = base(value)
            if type(inner) is Choice and self.alone(inner) and any(type(case) is Number for case in inner.cases):
                self.inside.add(inner)
                resets += bits
                left += [case for case in inner.cases if type(case) is not Number]
            elif type(inner) is Number:
                resets += bits
            elif inner is not wire:
                left.append(value)
        self.resets += resets
        self.add(3, wire.weight * (resets > 0))
        return left

    def count(self) -> None:
        """Of the other values: a bit of each that is read by what is no logic, or by several."""
        for value in self.nodes:
            if type(value) is Operator and value.operator in ("<<", ">>"):
                self.add(3, value.need.bit_count() * value.operands[1].width * value.weight)
            elif type(value) is Operator and value.operator in REDUCTIONS and value.operands[0].width >= LEAST_CHAIN:
                operand, = value.operands
                self.add(operand.width * max(1, len(self._through(operand))), value.weight)
        values = [*self.nodes, *(wire for wire in self.wires if not wire.clocked and len(wire.drivers) == 1)]
        for value in values:
            self.inside.update(filter(self.alone, self._within(value)))
        for value in values:
            if value not in self.inside and type(value) is not Concat:
                self.add(len(self.of(value)), value.need.bit_count() * value.weight)

    def _within(self, value: Node):
        """What belongs to the logic of a value, if nothing else reads it."""
        kind = type(value)
        if kind is Wire:
            return [driver[2] for driver in value.drivers]
        if kind is Choice and value.width > 1 and len(self.of(value.test)) >= LEAST_CHAIN:
            return value.cases
        return children(value) if kind in (Part, Choice) or (kind is Operator and value.operator in BITWISE) else ()
