"""Parts of a design that are modules of their own in its Verilog: what it has many times, and memories without contents."""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import groupby

from amaranth.back import rtlil
from amaranth.hdl import (
    Cat,
    ClockSignal,
    Elaboratable,
    Fragment,
    Instance,
    Module,
    Mux,
    ResetInserter,
    ResetSignal,
    Signal,
    Value,
    unsigned,
)
from amaranth.hdl._ir import PortDirection
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


@dataclass(frozen=True)
class Foreign:
    """A module that is written as Verilog: `ports` are their widths, below 0 of an output; `parameters` are integers."""

    name: str
    ports: tuple[tuple[str, int], ...]
    verilog: str
    parameters: tuple[str, ...] = ()

    def rtlil(self) -> str:
        """Its ports and parameters alone."""
        parameters = "".join(f"  parameter \\{name}\n" for name in self.parameters)
        wires = "".join(f"  wire width {abs(bits)} {'input' if bits > 0 else 'output'} {k} \\{port}\n"
                        for k, (port, bits) in enumerate(self.ports, 1))
        return f"attribute \\blackbox 1\nmodule \\{self.name}\n{parameters}{wires}end\n"


@dataclass
class Collected:
    """The modules that a design's text needs beside its own: components by name and by whom they are of, with whether they have
    an input `restart`; and those written as Verilog."""

    components: dict[tuple, tuple[str, wiring.Component, bool]] = field(default_factory=dict)
    foreign: dict[Foreign, None] = field(default_factory=dict)

    def converted(self, platform) -> str:
        """RTLIL of the components, as parts of another design."""
        found = ""
        for name, component, restarts in self.components.values():
            ports = {"__".join(map(str, path)): (Value.cast(value), PortDirection.Output if member.flow is Out
                                                 else PortDirection.Input)
                     for path, member, value in component.signature.flatten(component)}
            part = component
            if restarts:
                restart = Signal(name="restart")
                part, ports["restart"] = ResetInserter(restart)(component), (restart, PortDirection.Input)
            text = rtlil.convert(part, name=name, platform=platform, ports=ports, emit_src=False)
            found += text.replace("attribute \\top 1\n", "")
        return found


_COLLECTED: ContextVar[Collected | None] = ContextVar("collected", default=None)
_RESET: ContextVar[Value | None] = ContextVar("reset", default=None)


@contextmanager
def collected(platform) -> Iterator[Collected]:
    """While a design is converted. On a platform of its own, such as a chip's, nothing is shared: each memory may become another
    macro."""
    found = Collected()
    token = _COLLECTED.set(found if platform is None else None)
    try:
        yield found
    finally:
        _COLLECTED.reset(token)


def collecting() -> Collected | None:
    """Where Verilog is written whose modules may be shared, those that it needs."""
    return _COLLECTED.get()


class Shared(Elaboratable):
    """`component`, elaborated once for all that are `of` the same where Verilog is written, else each for itself. `name`: how the
    module's name begins. What resets it beside its domain is told by `Restarted`.
    """

    def __init__(self, component: wiring.Component, name: str, of: Hashable):
        self.component, self.name, self.of = component, name, of

    def elaborate(self, platform):
        found, reset = collecting(), _RESET.get()
        if found is None:
            return self.component
        restarts = reset is not None
        first = (f"{self.name}_{len(found.components)}", self.component, restarts)
        name, elaborated, _ = found.components.setdefault((self.name, self.of, restarts), first)
        if elaborated is not self.component:
            self.component._MustUse__used = True  # else Amaranth warns that nothing elaborates it
        ports = {"i_clk": ClockSignal(), "i_rst": ResetSignal()} | ({"i_restart": reset} if restarts else {})
        for path, member, value in self.component.signature.flatten(self.component):
            ports[f"{'o' if member.flow is Out else 'i'}_{'__'.join(map(str, path))}"] = value
        return Instance(name, **ports)


class Restarted(Elaboratable):
    """`component`, whose registers are reset where `reset` is high, those of its `Shared` parts too."""

    def __init__(self, component: Elaboratable, reset: Value):
        self.component, self.reset = component, reset

    def elaborate(self, platform):
        token = _RESET.set(self.reset)
        try:
            return ResetInserter(self.reset)(Fragment.get(self.component, platform))
        finally:
            _RESET.reset(token)


class Ram(wiring.Component):
    """`depth` words of `lanes` × `bits` bits, of which none is read before it is written: `read_data` is the word at `read_addr`
    a cycle later, as it was before a write in that cycle; `write_en` has a bit a lane. `apart`: no word is used that is read
    while it is written, so that tools need not keep what it was. `depths`: of each lane, the words from which on it is not used;
    a chip has none there.

    Verilog of an Amaranth memory would have a line a word to clear it.
    """

    def __init__(self, depth: int, lanes: int, bits: int, *, apart: bool = False, depths: Sequence[int] = ()):
        self.depth, self.lanes, self.bits, self.apart = depth, lanes, bits, apart
        self.depths = [max(2, each) for each in depths] or [depth] * lanes
        super().__init__({
            "read_addr": In(range(depth)), "read_data": Out(lanes * bits), "write_addr": In(range(depth)),
            "write_data": In(lanes * bits), "write_en": In(lanes)})

    def elaborate(self, platform):
        found = collecting()
        if found is not None:
            return self._instance(found)
        m, first, data = Module(), 0, []
        for depth, alike in groupby(self.depths):
            lanes = len([*alike])
            m.submodules[f"storage_{first}"] = storage = Memory(shape=unsigned(lanes * self.bits), depth=depth, init=[])
            read, write = storage.read_port(), storage.write_port(granularity=self.bits)
            m.d.comb += [read.addr.eq(self.read_addr), write.addr.eq(self.write_addr),
                         write.data.eq(self.write_data[first * self.bits:]),
                         write.en.eq(Mux(self.write_addr < depth, self.write_en[first:first + lanes], 0))]
            data.append(read.data)
            first += lanes
        m.d.comb += self.read_data.eq(Cat(data))
        return m

    def _instance(self, found: Collected) -> Instance:
        name = f"ram_{self.depth}x{self.lanes}x{self.bits}"
        attribute = "(* no_rw_check *) " if self.apart else ""  # Yosys' word for it
        place, width = len(self.read_addr), self.lanes * self.bits
        writes = "".join(f"    if (write_en[{k}]) storage[write_addr][{k * self.bits} +: {self.bits}] <= "
                         f"write_data[{k * self.bits} +: {self.bits}];\n" for k in range(self.lanes))
        ports = {"clk": 1, "read_addr": place, "read_data": -width, "write_addr": place, "write_data": width,
                 "write_en": self.lanes}
        declared = ", ".join(f"{'input' if bits > 0 else 'output reg'} [{abs(bits) - 1}:0] {port}"
                             for port, bits in ports.items())
        found.foreign[Foreign(name, tuple(ports.items()), (
            f"module {name}({declared});\n  {attribute}reg [{width - 1}:0] storage [0:{self.depth - 1}];\n"
            f"  always @(posedge clk) begin\n    read_data <= storage[read_addr];\n{writes}  end\nendmodule\n"))] = None
        return Instance(name, i_clk=ClockSignal(), i_read_addr=self.read_addr, o_read_data=self.read_data,
                        i_write_addr=self.write_addr, i_write_data=self.write_data, i_write_en=self.write_en)
