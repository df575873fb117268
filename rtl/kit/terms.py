"""What the values of a circuit are made of (`rtl.kit.light`)."""

from collections import Counter, defaultdict

import numpy as np

from .light import Choice, Concat, Node, Number, Operator, Part, Wire

BITWISE, LONE = ("u", "s", "~", "&", "|", "^"), ("u", "s")


def base(value: Node) -> Node:
    """What a value is a part of."""
    while (kind := type(value)) is Part or (kind is Operator and value.operator in LONE):
        value = value.value if kind is Part else value.operands[0]
    return value


def bits(value: Node) -> int:
    """Bits of the signed operand that a value is."""
    return value.width + (not value.signed)


def zeros(value: Node) -> int:
    """Low bits of a value that are known to be 0."""
    value = base(value) if type(value) is not Part else value
    if type(value) is Number:
        return (value.value & -value.value).bit_length() - 1 if value.value else value.width
    found = 0
    for part in value.parts if type(value) is Concat else ():
        low = zeros(part)
        found += low
        if low < part.width:
            break
    return found


def is_sum(value: Node) -> bool:
    """Whether a value is a sum or a difference of two."""
    return type(value) is Operator and value.operator in ("+", "-") and len(value.operands) == 2


def term(value: Node) -> Node:
    """What a sum adds, without its sign and its shift."""
    while True:
        kind = type(value)
        if kind is Operator and (value.operator in LONE or (len(value.operands) == 1 and value.operator == "-")):
            value = value.operands[0]
        elif kind is Concat and len(value.parts) == 2 and type(value.parts[0]) is Number:
            value = value.parts[1]
        else:
            return value


def places(wire: Wire) -> list[tuple[int, int, list[Node]]]:
    """Of the parts of a wire that are driven apart, the lowest bit, the bits and the values; where a value is a wire whose parts
    are driven apart, these."""
    places = defaultdict(list)
    for start, width, value, low in wire.drivers:
        if type(value) is Wire and len(value.drivers) > 1 and not value.clocked and not value.conditions and not low:
            cuts = [driver[:2] for driver in value.drivers]
        else:
            cuts = [(0, width)]
        places[start, width].append((value, cuts))
    found = []
    for (start, _), values in places.items():
        cuts = max((cuts for _, cuts in values), key=len)
        found += [(start + low, bits, [value for value, _ in values]) for low, bits in cuts]
    return found


def source(value: Node, start: int, width: int) -> tuple:
    """What bits of a value are."""
    if type(value) is Wire and not value.clocked and not value.conditions:
        for driver in value.drivers:
            if driver[:2] == (start, width):
                inner = driver[2]
                return (inner.value, inner.start) if type(inner) is Part else (inner, driver[3])
    return value, start


def words(value: Node) -> int:
    """Words of the memory that a value is of, 0 if of none."""
    return getattr(base(value), "words", 0)


def rows(value: Node) -> np.ndarray | None:
    """The integers that a value of a memory of one row stands for."""
    return getattr(base(term(value)), "rows", None)


def terms(value: Node) -> Counter:
    """How often each term is in a sum, and in the sums that it adds."""
    found = Counter()
    for part in map(term, value.operands):
        found[part] += 1
        if is_sum(part):
            found += terms(part)
    return found


def leaves(value: Node, inner: set[Node]) -> list[Node]:
    """What a sum adds, with the terms of the sums that belong to it."""
    return [leaf for operand in value.operands for part in [term(operand)]
            for leaf in (leaves(part, inner) if part in inner else [operand])]


def children(value: Node) -> tuple[Node, ...]:
    """What a value is made of."""
    kind = type(value)
    if kind is Part:
        return (value.value,)
    if kind is Choice:
        return (value.test, *value.cases)
    return value.parts if kind is Concat else value.operands if kind is Operator else ()


def masks(value: Node) -> bool:
    """Whether a value is a product with one bit, a multiplexer that else gives 0."""
    return type(value) is Choice and type(value.cases[0]) is Number and not value.cases[0].value
