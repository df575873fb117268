"""A system as a module of LiteX: registers on AXI-Lite, packets on two streams."""

from .registers import ADDRESS_BITS, SPAN
from .system import System

TEXT = '''\
"""{name} as a module of LiteX, made by eMamba.

    self.emamba = EMamba(platform)
    self.bus.add_slave("emamba", self.emamba.bus, SoCRegion(origin=0x9000_0000, size={span:#x}, cached=False))

`sink` takes a sequence a packet, once software has set ENABLE, bit 0 of the register CONTROL at 0x60; `source` gives its result,
`irq` is a level for an EventSourceLevel. What the packets hold says accelerator.json, where the registers are registers.h.
"""

from pathlib import Path

from litex.gen import LiteXModule
from litex.soc.interconnect import axi, stream
from migen import ClockSignal, Instance, ResetSignal, Signal


class EMamba(LiteXModule):
    """The system in top.v, which lies beside this file."""

    def __init__(self, platform, clock="sys"):
        self.bus = axi.AXILiteInterface(data_width=32, address_width=32, addressing="byte")
        self.sink = stream.Endpoint([("data", {bits}), ("keep", {size})])
        self.source = stream.Endpoint([("data", {bits}), ("keep", {size}), ("user", 1)])
        self.irq = Signal()
        self.specials += Instance(
            "top",
{ports}
        )
        platform.add_source(str(Path(__file__).with_name("top.v")))
'''
FIXED = {"clk": "ClockSignal(clock)", "rst": "ResetSignal(clock)", "irq": "self.irq"}
PLACES = {"s_axil": "self.bus", "s_axis": "self.sink", "m_axis": "self.source"}


def litex_module(system: System) -> str:
    """The Python file; of a system without ports to a memory outside."""
    members = system.signature.members
    inputs = {name: member.flow.name == "In" for name, member in members.items()} | {"clk": True, "rst": True}
    lines = [f"            {'i' if inward else 'o'}_{name}={_signal(name)}," for name, inward in inputs.items()]
    bits = system.options.bus_bits
    return TEXT.format(name=system.artifact.name.replace('"', "'").replace("\\", "/"), span=SPAN, bits=bits, size=bits // 8,
                       ports="\n".join(lines))


def _signal(name: str) -> str:
    """What a port is connected to."""
    if name in FIXED:
        return FIXED[name]
    place, _, port = name.rpartition("_")
    if place != "s_axil":
        return f"{PLACES[place]}.{port.removeprefix('t')}"
    channel = next(channel for channel in ("aw", "ar", "w", "b", "r") if port.startswith(channel))
    part = f"[:{ADDRESS_BITS}]" if port == f"{channel}addr" else ""  # a SoC's buses have addresses of 32 bits
    return f"{PLACES[place]}.{channel}.{port.removeprefix(channel)}{part}"
