"""Light values, of which a circuit is made while it is counted (`rtl.kit.tally`), in place of Amaranth's.

Amaranth checks every value and notes where it was made. A count needs neither, and takes a fifth of the time without.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import amaranth.hdl as amaranth
from amaranth.hdl import Shape
from amaranth.lib import data

from . import inventory as inv

COMPARISONS, REDUCTIONS = ("==", "!=", "<", "<=", ">", ">="), ("b", "r|", "r&", "r^")


class Circuit:
    """What is counted: its driven wires, its memories, the values that are read outside of it, and its results, with the steps
    that they are said to take. With `trim` only what is needed counts."""

    def __init__(self, trim: bool):
        self.trim, self.weight = trim, 1
        self.made, self.wires, self.memories, self.reads = inv.Inventory(control=1), [], [], []
        self.results: list[tuple[Node, int]] = []


_circuit: Circuit | None = None


@contextmanager
def counting(trim: bool = True) -> Iterator[Circuit]:
    """Within it, circuits are made of light values."""
    global _circuit
    before, _circuit = _circuit, Circuit(trim)
    try:
        yield _circuit
    finally:
        _circuit = before


def counted() -> Circuit | None:
    """The circuit that is being counted, if one is."""
    return _circuit


_shape = cache(Shape)


class Node:
    """A light value. `need`: bits on which an output depends; `weight`: how many it stands for."""

    __slots__ = ("need", "signed", "weight", "width")

    def __init__(self, width: int, signed: bool = False):
        self.width, self.signed, self.need, self.weight = width, signed, 0, 1

    def __len__(self) -> int:
        return self.width

    def __bool__(self) -> bool:
        raise TypeError("the value of a circuit has no truth while it is counted")

    def __getitem__(self, key):
        if isinstance(key, slice):
            start, stop, _ = key.indices(self.width)
            return Part(self, start, stop)
        key = range(self.width)[key]
        return Part(self, key, key + 1)

    def __iter__(self):
        return (Part(self, k, k + 1) for k in range(self.width))

    def shape(self) -> Shape:
        return _shape(self.width, self.signed)

    def eq(self, value) -> tuple:
        return Assign((self, node(value)))

    def shift_left(self, amount: int) -> "Node":
        if amount < 0:
            return self.shift_right(-amount)
        shifted = Concat((Number(0, amount), self))
        return shifted.as_signed() if self.signed else shifted

    def shift_right(self, amount: int) -> "Node":
        if amount < 0:
            return self.shift_left(-amount)
        return self[min(amount, self.width - 1):].as_signed() if self.signed else self[amount:]

    def as_value(self) -> "Node":
        return self

    def _one(self, operator: str) -> "Node":
        signed = operator == "-" or operator == "s" or (operator == "~" and self.signed)
        width = 1 if operator in REDUCTIONS else self.width + (operator == "-")
        return Operator(operator, (self,), width, signed)

    def _two(self, other, operator: str) -> "Node":
        other = node(other)
        if operator in COMPARISONS:
            return Operator(operator, (self, other), 1, False)
        if operator == "*":
            return Operator(operator, (self, other), self.width + other.width, self.signed or other.signed)
        if operator in ("<<", ">>"):
            return Operator(operator, (self, other), self.width + ((1 << other.width) - 1) * (operator == "<<"), self.signed)
        width, signed = unify((self, other))
        carries = operator in ("+", "-")
        return Operator(operator, (self, other), width + carries, signed or operator == "-")


for _name, _operator in (("eq", "=="), ("ne", "!="), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="), ("lshift", "<<"),
                         ("rshift", ">>")):
    setattr(Node, f"__{_name}__", lambda self, other, operator=_operator: self._two(other, operator))
for _name, _operator in (("add", "+"), ("sub", "-"), ("mul", "*"), ("and", "&"), ("or", "|"), ("xor", "^")):
    setattr(Node, f"__{_name}__", lambda self, other, operator=_operator: self._two(other, operator))
    setattr(Node, f"__r{_name}__", lambda self, other, operator=_operator: node(other)._two(self, operator))
for _name, _operator in (("__neg__", "-"), ("__invert__", "~"), ("as_signed", "s"), ("as_unsigned", "u"), ("any", "r|"),
                         ("all", "r&"), ("xor", "r^"), ("bool", "b")):
    setattr(Node, _name, lambda self, operator=_operator: self._one(operator))


class Assign(tuple):
    """A wire, or parts of wires, and the value that drives it."""

    __slots__ = ()


class Number(Node):
    __slots__ = ("value",)

    def __init__(self, value: int, width: int | None = None, signed: bool | None = None):
        value = int(value)
        if width is None:
            width = max(1, value.bit_length()) if value >= 0 else (~value).bit_length() + 1
        super().__init__(width, value < 0 if signed is None else signed)
        self.value = value


class Wire(Node):
    """A signal. `drivers`: its lowest bit that each drives, how many, with what, and the lowest bit of that; `rows`: the integers
    of the memory of one row that gives it, where a wire stands for all lanes; `words`: those of a deeper memory. A wire is what
    its drivers are, or the value `source`, `steps` of the pipeline later (`rtl.kit.ages`)."""

    __slots__ = ("clocked", "conditions", "drivers", "readers", "reset_less", "rows", "source", "steps", "words")

    def __init__(self, width: int, signed: bool, reset_less: bool):
        super().__init__(width, signed)
        self.reset_less, self.clocked, self.rows, self.words = reset_less, False, None, 0
        self.source, self.steps = None, 0
        self.drivers, self.conditions, self.readers = [], [], set()


class Part(Node):
    __slots__ = ("start", "value")

    def __init__(self, value: Node, start: int, stop: int):
        super().__init__(max(0, stop - start))
        self.value, self.start = value, start


class Concat(Node):
    __slots__ = ("parts",)

    def __init__(self, parts: tuple[Node, ...]):
        super().__init__(sum([part.width for part in parts]))
        self.parts = parts


class Operator(Node):
    __slots__ = ("operands", "operator")

    def __init__(self, operator: str, operands: tuple[Node, ...], width: int, signed: bool):
        super().__init__(width, signed)
        self.operator, self.operands = operator, operands


class Choice(Node):
    """One of two or more `cases`."""

    __slots__ = ("cases", "test")

    def __init__(self, test: Node, cases: tuple[Node, ...]):
        super().__init__(*unify(cases))
        self.test, self.cases = test, cases


class Struct:
    """A wire with fields."""

    def __init__(self, wire: Node, layout: data.Layout):
        self._wire, self._layout = wire, layout

    def __getattr__(self, name: str):
        try:
            field = self._layout[name]
        except KeyError:
            raise AttributeError(name) from None
        found = self.__dict__[name] = _field(self._wire, field.offset, field.shape)
        return found

    def __getitem__(self, name: str):
        return getattr(self, name)

    def as_value(self) -> Node:
        return self._wire

    def shape(self) -> data.Layout:
        return self._layout

    def eq(self, value) -> tuple:
        return self._wire.eq(value)


def _field(wire: Node, offset: int, shape):
    if isinstance(shape, data.ArrayLayout):
        step = Shape.cast(shape.elem_shape).width
        return [_field(wire, offset + k * step, shape.elem_shape) for k in range(shape.length)]
    width, signed = sizes(shape)
    part = Part(wire, offset, offset + width)
    return Struct(part, shape) if isinstance(shape, data.Layout) else part.as_signed() if signed else part


def node(value) -> Node:
    """A value or an integer as a node."""
    if isinstance(value, Node):
        return value
    if isinstance(value, Struct):
        return value.as_value()
    if isinstance(value, amaranth.Value | data.View):
        raise TypeError("a value of Amaranth's own meets a circuit that is counted: take Signal, Mux and so on from rtl.kit.hdl")
    return Number(value)


def nodes(items) -> Iterator[Node]:
    """The nodes among items, and lists and tuples of them."""
    for item in items:
        if isinstance(item, Node):
            yield item
        elif isinstance(item, list | tuple):
            yield from nodes(item)


def unify(nodes: tuple[Node, ...]) -> tuple[int, bool]:
    """The narrowest width that holds all of them, and whether it has a sign."""
    signed = any([value.signed for value in nodes])
    return max([value.width + (signed and not value.signed) for value in nodes]), signed


def sizes(shape) -> tuple[int, bool]:
    if type(shape) is int:
        return shape, False
    if type(shape) is range and not shape.start:
        return (len(shape) - 1).bit_length(), False
    shape = shape if type(shape) is Shape else Shape.cast(shape)
    return shape.width, shape.signed


def signal(shape, reset_less: bool = False) -> "Wire | Struct":
    """A new signal."""
    wire = Wire(*sizes(shape), reset_less)
    return Struct(wire, shape) if isinstance(shape, data.Layout) else wire


def later(value: Node, source: Node, steps: int = 1) -> None:
    """Notes that a signal is `source`, `steps` of the pipeline later."""
    if type(wire := node(value)) is Wire:
        wire.source, wire.steps = node(source), steps


def flat(items) -> Iterator:
    """The values among items and lists of them."""
    for item in items:
        if isinstance(item, Node | Struct | int):
            yield item
        else:
            yield from flat(item)
