"""An engine with what reads its program and weights from a memory outside."""

from collections.abc import Mapping

from amaranth.hdl import Module
from amaranth.lib import wiring

from ..kit.block import PLAIN, BlockOptions
from .engine import Engine
from .supply import Supply


class StreamedEngine(wiring.Component):
    """An `Engine` between the same streams, and `Supply`'s AXI4 ports with `base`, from reset on."""

    def __init__(self, schedule, options: BlockOptions = PLAIN, *, trace: bool = False, loads: Mapping | None = None):
        self.engine, self.supply = Engine(schedule, options, trace=trace, loads=loads), Supply(schedule.image)
        self.schedule, self.memory_ports = schedule, [reader.bits for reader in self.supply.readers]
        for name in ("inputs", "output", "blocks", "peaks", "trace"):
            setattr(self, name, getattr(self.engine, name))
        self.own = [name for name in self.engine.signature.members if name != "rows"]
        self.memory = [*self.supply.ports, "base"]
        super().__init__({name: part.signature.members[name]
                          for part, names in ((self.engine, self.own), (self.supply, self.memory)) for name in names})

    def elaborate(self, platform):
        m = Module()
        m.submodules.engine, m.submodules.supply = self.engine, self.supply
        wiring.connect(m, self.supply.rows, self.engine.rows)
        m.d.comb += self.supply.enable.eq(1)
        for part, names in ((self.engine, self.own), (self.supply, self.memory)):
            for name in names:
                member, ours, its = part.signature.members[name], getattr(self, name), getattr(part, name)
                if member.is_port:
                    m.d.comb += ours.eq(its) if member.flow is wiring.Out else its.eq(ours)
                else:
                    wiring.connect(m, wiring.flipped(ours), its)
        return m
