"""What a circuit is made of, counted from the circuit itself, made of light values (`rtl.kit.light`).

Lanes that are alike are made once (`Pipeline.each`), and constant memories are only noted. Bits on which no output depends are
left out, as synthesis does.
"""

from collections import Counter
from collections.abc import Callable

from . import inventory as inv
from . import sums
from .cones import Cones
from .hdl import Component
from .light import Choice, Circuit, Concat, Node, Number, Operator, Part, Wire, counting
from .terms import BITWISE, base, rows, words, zeros

FEW_WORDS = 8
"""Words from which hardly a bit of a constant memory is the same in all: of n words 1 in 2^(n-1)."""


def tally(make: Callable[[], Component], *, trim: bool = True) -> inv.Inventory:
    """The inventory of the component that `make` returns; without `trim` also of bits that nothing depends on."""
    with counting(trim) as circuit:
        component = make()
        component.elaborate(None)
    return _Tally(circuit).count(component.ports)


def _bits(value: Node) -> int:
    """Bits of the signed operand that a value is."""
    return value.width + (not value.signed)


class _Tally:
    """The bits of every value that are needed, and the counts of these."""

    def __init__(self, circuit: Circuit):
        self.circuit, self.made, self.trim = circuit, circuit.made, circuit.trim
        self.nodes: list[Node] = []
        self.todo: list[Wire] = []
        self.weight = 1

    def _demand(self, value: Node, mask: int, reader: int) -> None:
        """Bits of a value are needed by `reader`."""
        kind = type(value)
        if not mask or kind is Number:
            return
        full = (1 << value.width) - 1
        if mask > full and value.signed:
            mask |= full ^ full >> 1
        mask = mask & full if self.trim else full
        if not mask:
            return
        need = value.need
        if kind is Wire:
            value.readers.add(reader)
            if mask & ~need:
                value.need = need | mask
                self.todo.append(value)
            return
        if not mask & ~need:
            return
        if not need:
            self.nodes.append(value)
            value.weight = self.weight
        value.need = mask = need | mask
        reader, demand = id(value), self._demand
        if kind is Part:
            demand(value.value, mask << value.start, reader)
        elif kind is Concat:
            for part in value.parts:
                demand(part, mask & (1 << part.width) - 1, reader)
                mask >>= part.width
        elif kind is Choice:
            demand(value.test, -1, reader)
            for case in value.cases:
                demand(case, mask, reader)
        elif value.operator in BITWISE:
            for operand in value.operands:
                demand(operand, mask, reader)
        elif value.operator in ("+", "-"):
            left, *right = value.operands
            low = [zeros(operand) for operand in right] + [zeros(left)] * (value.operator == "+")
            wires = max(low, default=0) if right else 0  # bits below pass without a carry
            carried = ((1 << mask.bit_length()) - 1) >> wires << wires if mask >> wires else 0
            for operand in value.operands:
                demand(operand, mask & (1 << wires) - 1 | carried, reader)
        else:
            for operand in value.operands:
                demand(operand, -1, reader)

    def count(self, ports: list[Node]) -> inv.Inventory:
        wanted = [*ports, *self.circuit.reads]
        for memory, _ in self.circuit.memories:
            for port in memory.write_ports:
                wanted += [port.addr, port.data, port.en]
            wanted += [port.addr for port in memory.read_ports]
        if not self.trim:
            wanted += [wire for wire in self.circuit.wires if wire.clocked]
        for value in wanted:
            self._demand(value, -1, 0)
        while self.todo:
            wire = self.todo.pop()
            mask, self.weight = wire.need, wire.weight
            for start, width, value, low in wire.drivers:
                self._demand(value, (mask >> start & (1 << width) - 1) << low, id(wire))
            for conditions in wire.conditions:
                for condition in conditions:
                    self._demand(condition, -1, id(wire))
        wires = [wire for wire in self.circuit.wires if wire.need]
        if self.trim:
            still = _still(wires)
            wires = [wire for wire in wires if wire not in still]
        self._count_registers([wire for wire in wires if wire.clocked])
        self._count_memories(wires)
        self._count_products()
        cones = Cones(self.nodes, wires)
        cones.count_choices()
        found, operands = sums.count(cones)
        cones.count()
        self.made += inv.Inventory(resets=cones.resets, logic=cones.found, operands=operands, **found)
        return self.made

    def _count_registers(self, registers: list[Wire]) -> None:
        bits, delays, chain, behind = 0, Counter(), {}, set()
        for wire in registers:
            value = wire.drivers[0][2]
            kinds = self._constants(value, wire.weight, (wire.need & -wire.need).bit_length() - 1)
            if kinds:
                self.made += kinds
            else:
                bits += wire.weight * wire.need.bit_count()
            before = base(value)
            if (len(wire.drivers) == 1 and wire.reset_less and type(before) is Wire and before.width == wire.width
                    and before.clocked and before.reset_less and before.readers <= {id(wire), id(value)}):
                chain[before] = wire
                behind.add(wire)
        for start in chain.keys() - behind:
            wire, length = start, 1
            while wire in chain:
                wire, length = chain[wire], length + 1
            if length >= inv.LONG_DELAY:
                delays[length, wire.need.bit_count()] += wire.weight
                bits -= length * wire.need.bit_count() * wire.weight
        self.made += inv.Inventory(registers=bits, delays=delays)

    def _count_memories(self, wires: list[Wire]) -> None:
        if not self.circuit.memories:
            return
        read = {base(driver[2]) for wire in wires if wire.clocked for driver in wire.drivers}
        for memory, weight in self.circuit.memories:
            clocked = any(port.domain != "comb" for port in memory.read_ports)
            held = clocked or any(port.data in read for port in memory.read_ports)
            self.made += (inv.ram(memory.depth, memory.width, held)
                          + inv.Inventory(registers=-memory.width * (held and not clocked))) * weight

    def _constants(self, value: Node, weight: int, unread: int = 0) -> inv.Inventory | None:
        """Of products with the words of a memory of one row, where a node stands for all of them, and of their registers."""
        if not (self.trim and type(value) is Operator and value.operator == "*"):
            return None
        for constant, other in (value.operands, value.operands[::-1]):
            found = rows(constant)
            if found is not None and len(found) == weight:
                return inv.constants(found, _bits(other), unread)
        return None

    def _count_products(self) -> None:
        for value in self.nodes:
            if type(value) is not Operator or value.operator != "*" or self._constants(value, value.weight) is not None:
                continue
            constant = next((operand for operand in value.operands if type(operand) is Number), None)
            deep = [found for found in map(words, value.operands) if found]
            share = 1 - 2.0 ** (1 - min(deep)) if deep and min(deep) < FEW_WORDS else 1.0
            if constant is not None:
                share = round((constant.value.bit_count() - 1) / constant.width, 2)
            if constant is None or constant.value.bit_count() > 1:
                self.made += inv.product(*map(_bits, value.operands), share) * value.weight


def _still(wires: list[Wire]) -> set[Wire]:
    """Registers that nothing ever changes."""
    found: set[Wire] = set()
    while more := {wire for wire in wires if wire.clocked and wire not in found and wire.conditions
                   and all((inner := base(driver[2])) is wire or inner in found for driver in wire.drivers)}:
        found |= more
    return found
