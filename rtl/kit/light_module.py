"""Modules and memories whose statements drive light values (`rtl.kit.light`) and count at once."""

from types import SimpleNamespace

from . import inventory as inv
from .light import Assign, Concat, Node, Part, Wire, counted, later, node, signal, sizes


class LightModule:
    """A module whose statements count at once, and whose submodules are counted as they are added."""

    def __init__(self, weight: int):
        self.weight, self.conditions, self.tests = weight, (), [[]]
        self.d = SimpleNamespace(comb=_Domain(self, False), sync=_Domain(self, True))
        self.submodules = _Submodules(self)

    def If(self, test) -> "_Block":
        self.tests[-1] = [node(test)]
        return _Block(self)

    def Elif(self, test) -> "_Block":
        self.tests[-1].append(node(test))
        return _Block(self)

    def Else(self) -> "_Block":
        return _Block(self)

    Switch = If

    def Case(self, *patterns) -> "_Block":
        self.tests[-1] = []
        return _Block(self)

    Default = Case

    def note(self, made: inv.Inventory, *reads: Node) -> None:
        """Counts what is `made` in it, which reads these values."""
        circuit = counted()
        circuit.made += made * self.weight
        circuit.reads += reads


class _Block:
    """The statements that depend on the last tests of a module."""

    __slots__ = ("before", "module")

    def __init__(self, module: LightModule):
        self.module = module

    def __enter__(self):
        module = self.module
        self.before = module.conditions
        if module.tests[-1]:
            module.conditions = (*self.before, *module.tests[-1])
        module.tests.append([])

    def __exit__(self, *raised):
        self.module.conditions = self.before
        self.module.tests.pop()


class _Domain:
    def __init__(self, module: LightModule, clocked: bool):
        self.module, self.clocked = module, clocked

    def __iadd__(self, statements) -> "_Domain":
        self._add(statements)
        return self

    def _add(self, statements) -> None:
        if type(statements) is Assign:
            self._drive(*statements, 0)
        else:
            for statement in statements:
                self._add(statement)

    def _drive(self, target: Node, value: Node, low: int) -> None:
        """Bits of the value from `low` on drive the target."""
        width, start = target.width, 0
        while type(target) is not Wire:
            if type(target) is Concat:
                for part in target.parts:
                    self._drive(part, value, low)
                    low += part.width
                return
            if type(target) is Part:
                start += target.start
                target = target.value
            else:
                target, = target.operands
        if not target.drivers:
            counted().wires.append(target)
        conditions = self.module.conditions
        if not conditions:  # nothing is left of what drove it before
            target.drivers = [driver for driver in target.drivers if driver[:2] != (start, width)]
        elif not target.conditions or target.conditions[-1] is not conditions:
            target.conditions.append(conditions)
        target.drivers.append((start, width, value, low))
        target.weight = self.module.weight
        target.clocked |= self.clocked


class _Submodules:
    def __init__(self, module: LightModule):
        self.__dict__["module"] = module

    def __iadd__(self, part) -> "_Submodules":
        if isinstance(part, LightMemory):
            counted().memories.append((part, self.module.weight))
        elif not isinstance(part, LightModule):
            circuit = counted()
            before, circuit.weight = circuit.weight, self.module.weight
            part.elaborate(None)
            circuit.weight = before
        return self

    def __setattr__(self, name: str, part) -> None:
        self += part

    __setitem__ = __setattr__


class LightMemory:
    def __init__(self, shape, depth: int):
        self.width, self.depth, self.read_ports, self.write_ports = sizes(shape)[0], depth, [], []

    def read_port(self, *, domain: str = "sync") -> SimpleNamespace:
        port = self._port(self.read_ports, domain)
        later(port.data, port.addr, int(domain != "comb"))
        return port

    def write_port(self) -> SimpleNamespace:
        return self._port(self.write_ports, "sync")

    def _port(self, ports: list, domain: str) -> SimpleNamespace:
        port = SimpleNamespace(domain=domain, en=signal(1), addr=signal(range(self.depth)), data=signal(self.width))
        ports.append(port)
        return port
