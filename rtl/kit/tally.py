"""What a circuit is made of, counted from the circuit itself, made of light values (`rtl.kit.light`).

Lanes that are alike are made once (`Pipeline.each`), and constant memories are only noted. Bits on which no output depends are
left out, as synthesis does.
"""

from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np

from . import inventory as inv
from .hdl import Component
from .light import COMPARISONS, REDUCTIONS, Choice, Circuit, Concat, Node, Number, Operator, Part, Wire, counting

FEW_WORDS = 8
"""Words from which hardly a bit of a constant memory is the same in all: of n words 1 in 2^(n-1)."""

BITWISE, LONE = ("u", "s", "~", "&", "|", "^"), ("u", "s")


def tally(make: Callable[[], Component], *, trim: bool = True) -> inv.Inventory:
    """The inventory of the component that `make` returns; without `trim` also of bits that nothing depends on."""
    with counting(trim) as circuit:
        component = make()
        component.elaborate(None)
    return _Tally(circuit).count(component.ports)


def _base(value: Node) -> Node:
    """What a value is a part of."""
    while (kind := type(value)) is Part or (kind is Operator and value.operator in LONE):
        value = value.value if kind is Part else value.operands[0]
    return value


def _bits(value: Node) -> int:
    """Bits of the signed operand that a value is."""
    return value.width + (not value.signed)


def _zeros(value: Node) -> int:
    """Low bits of a value that are known to be 0."""
    value = _base(value) if type(value) is not Part else value
    if type(value) is Number:
        return (value.value & -value.value).bit_length() - 1 if value.value else value.width
    found = 0
    for part in value.parts if type(value) is Concat else ():
        zeros = _zeros(part)
        found += zeros
        if zeros < part.width:
            break
    return found


def _is_sum(value: Node) -> bool:
    return type(value) is Operator and value.operator in ("+", "-") and len(value.operands) == 2


def _term(value: Node) -> Node:
    """What a sum adds, without its sign and its shift."""
    while True:
        kind = type(value)
        if kind is Operator and (value.operator in LONE or (len(value.operands) == 1 and value.operator == "-")):
            value = value.operands[0]
        elif kind is Concat and len(value.parts) == 2 and type(value.parts[0]) is Number:
            value = value.parts[1]
        else:
            return value


def _words(value: Node) -> int:
    """Words of the memory that a value is of, 0 if of none."""
    return getattr(_base(value), "words", 0)


def _rows(value: Node) -> np.ndarray | None:
    """The integers that a value of a memory of one row stands for."""
    return getattr(_base(_term(value)), "rows", None)


def _leaves(value: Node) -> list[Node]:
    return [leaf for operand in value.operands for inner in [_term(operand)]
            for leaf in (_leaves(inner) if _is_sum(inner) else [operand])]


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
            zeros = [_zeros(operand) for operand in right] + [_zeros(left)] * (value.operator == "+")
            wires = max(zeros, default=0) if right else 0  # bits below pass without a carry
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
        self._count_registers([wire for wire in wires if wire.clocked])
        self._count_choices(wires)
        self._count_memories(wires)
        self._count_nodes()
        return self.made

    def _count_registers(self, registers: list[Wire]) -> None:
        bits, delays, chain, behind = 0, Counter(), {}, set()
        for wire in registers:
            value = wire.drivers[0][2]
            kinds = self._constants(value, wire.weight)
            if kinds:
                self.made += kinds
            else:
                bits += wire.weight * wire.need.bit_count()
            before = _base(value)
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

    def _count_choices(self, wires: list[Wire]) -> None:
        """Of wires that several values drive."""
        muxes = selects = 0
        for wire in wires:
            if len(wire.drivers) == 1:
                continue
            places = defaultdict(list)
            for start, width, value, _ in wire.drivers:
                places[start, width].append(value)
            for (start, width), values in places.items():
                bits = (wire.need >> start & (1 << width) - 1).bit_count()
                if len(values) > 1 and all(type(value) is Number for value in values):
                    different = inv.columns(np.array([[value.value] for value in values]), wire.width)[1]
                    selects += wire.weight * len(values) * different // 4
                elif len(values) == 2:
                    muxes += wire.weight * bits
                elif len(values) > 2:
                    selects += wire.weight * bits * len(values)
        self.made += inv.Inventory(muxes=muxes, selects=selects)

    def _count_memories(self, wires: list[Wire]) -> None:
        if not self.circuit.memories:
            return
        read = {_base(driver[2]) for wire in wires if wire.clocked for driver in wire.drivers}
        for memory, weight in self.circuit.memories:
            clocked = any(port.domain != "comb" for port in memory.read_ports)
            held = clocked or any(port.data in read for port in memory.read_ports)
            self.made += (inv.ram(memory.depth, memory.width, held)
                          + inv.Inventory(registers=-memory.width * (held and not clocked))) * weight

    def _constants(self, value: Node, weight: int) -> inv.Inventory | None:
        """Of products with the words of a memory of one row, where a node stands for all of them, and of their registers."""
        if not (self.trim and type(value) is Operator and value.operator == "*"):
            return None
        for constant, other in (value.operands, value.operands[::-1]):
            rows = _rows(constant)
            if rows is not None and len(rows) == weight:
                return inv.constants(rows, _bits(other))
        return None

    def _count_nodes(self) -> None:
        inner, operands, cases, reduced = set(), set(), set(), set()
        for value in self.nodes:
            if _is_sum(value):
                for operand in map(_term, value.operands):
                    (inner if _is_sum(operand) else operands).add(operand)
            elif type(value) is Choice:
                cases.update(map(_term, value.cases))
        found = Counter()
        for value in self.nodes:
            kind, weight = type(value), value.weight
            if kind is Choice:
                constant = any([type(case) is Number for case in value.cases])
                bits = value.need.bit_count() * weight
                if value in operands:
                    found["operand_muxes"] += bits * (not constant or not _masks(value))
                elif not (constant and value in cases):
                    found["muxes"] += bits
            elif kind is not Operator:
                continue
            elif _is_sum(value):
                if value not in inner:
                    self._count_sum(value, found)
            elif value.operator == "*":
                constant = next((operand for operand in value.operands if type(operand) is Number), None)
                if constant is not None:
                    width = max(operand.width for operand in value.operands)
                    found["partials"] += max(0, constant.value.bit_count() - 1) * width * weight
                elif self._constants(value, weight) is None:
                    words = [words for words in map(_words, value.operands) if words]
                    share = 1 - 2.0 ** (1 - min(words)) if words and min(words) < FEW_WORDS else 1.0
                    self.made += inv.product(*map(_bits, value.operands), share) * weight
            elif value.operator in ("<<", ">>"):
                found["muxes"] += value.need.bit_count() * value.operands[1].width * weight
            elif value.operator in COMPARISONS:
                left, right = value.operands
                if type(left) is Number or type(right) is Number:
                    found["comparisons"] += (left if type(right) is Number else right).width * weight
                else:
                    found["adders"] += max(left.width, right.width) * weight
            elif value.operator in REDUCTIONS and value.operands[0] not in reduced:
                reduced.add(value.operands[0])
                found["comparisons"] += value.operands[0].width * weight
        self.made += inv.Inventory(**found)

    def _count_sum(self, value: Node, found: Counter) -> None:
        leaves, weight = _leaves(value), value.weight
        constants = [leaf for leaf in leaves if type(_term(leaf)) is Number or _rows(leaf) is not None]
        terms = [leaf for leaf in leaves if not any(leaf is constant for constant in constants)]
        copies = [leaf for leaf in terms if type(_term(leaf)) is Choice and _masks(_term(leaf))]
        if len(copies) > 1:
            found["partials"] += sum(_term(leaf).width for leaf in copies) * weight
            if len(copies) == len(terms):
                return
        bits = value.need.bit_length()
        if len(terms) < 2:
            found["increments"] += (bits - max(map(_zeros, constants), default=0)) * weight
            return
        found["adders"] += (bits - (max(map(_zeros, terms)) if len(terms) == 2 else 0)) * weight
        found["compressors"] += sum(sorted(term.width for term in terms)[:-2]) * weight


def _masks(value: Choice) -> bool:
    """Whether a multiplexer is a product with one bit: without it, it gives 0."""
    return type(value.cases[0]) is Number and not value.cases[0].value
