"""What circuits are written with: Amaranth, or light values in its place while a circuit is counted (`rtl.kit.light`)."""

from types import SimpleNamespace

import amaranth.hdl as amaranth
from amaranth.hdl import Shape, signed, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .light import Choice, Concat, Node, Number, counted, flat, node, signal
from .light_module import LightMemory, LightModule

__all__ = ["Cat", "Component", "Const", "In", "Memory", "Module", "Mux", "Out", "Shape", "Signal", "Value", "counted", "signed",
           "unsigned"]


class Signal:
    """Makes a signal."""

    def __new__(cls, shape=None, *, src_loc_at: int = 0, **options):
        if counted():
            return signal(1 if shape is None else shape, options.get("reset_less", False))
        return amaranth.Signal(shape, src_loc_at=src_loc_at + 1, **options)

    @staticmethod
    def like(value, *, src_loc_at: int = 0, **options):
        if counted():
            return signal(value.shape(), options.get("reset_less", getattr(value, "reset_less", False)))
        return amaranth.Signal.like(value, src_loc_at=src_loc_at + 1, **options)


class Value:
    """Any value."""

    @staticmethod
    def cast(value):
        return node(value) if counted() else amaranth.Value.cast(value)


def Const(value: int, width: int | None = None):
    return Number(value, width) if counted() else amaranth.Const(value, width)


def Mux(test, high, low):
    """`high` where `test` is not 0, else `low`."""
    return Choice(node(test), (node(low), node(high))) if counted() else amaranth.Mux(test, high, low)


def Cat(*parts):
    """The parts as one word, the lowest first."""
    return Concat(tuple(map(node, flat(parts)))) if counted() else amaranth.Cat(*parts)


class Module:
    """Makes a module."""

    def __new__(cls):
        circuit = counted()
        return LightModule(circuit.weight) if circuit else amaranth.Module()


def Memory(*, shape, depth: int, init, attrs: dict | None = None):
    """Makes a memory."""
    if counted():
        return LightMemory(shape, depth)
    return memory.Memory(shape=shape, depth=depth, init=init, attrs=attrs or {}, src_loc_at=1)


class Component(wiring.Component):
    """A component, whose `ports` are its signals while it is counted."""

    def __init__(self, members: dict[str, wiring.Member], *, src_loc_at: int = 0):
        if not counted():
            super().__init__(members, src_loc_at=src_loc_at + 1)
            return
        self._MustUse__used = True  # else Amaranth warns that nothing elaborates it
        self.ports: list[Node] = []
        self.__dict__.update(_interface(members, self.ports))


def _interface(members, ports: list[Node]) -> dict:
    found = {}
    for name, member in members.items():
        flat = [_port(member, ports) for _ in range(member.dimensions[0] if member.dimensions else 1)]
        found[name] = flat if member.dimensions else flat[0]
    return found


def _port(member: wiring.Member, ports: list[Node]):
    if not member.is_port:
        return SimpleNamespace(**_interface(member.signature.members, ports))
    made = signal(member.shape)
    ports.append(node(made))
    return made
