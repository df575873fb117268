"""The target `asic`: Verilog without initial values, timing constraints, and a list of the memories that want macros; for a
process also its netlist, area and timing, and the files of flows to a layout."""

import json
import re
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from amaranth.hdl import Const, MemoryInstance, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from jinja2 import Environment, PackageLoader, StrictUndefined

from rtl.accelerator import Accelerator
from rtl.emit import to_verilog
from rtl.schedule import Schedule

from . import timing
from .gates import verilog_models
from .mapping import implement
from .pdk import Pdk

CLOCK_MHZ = 100.0
LEAST_CLOCK_MHZ = 0.0
DEVICE = None
IO_SHARE = 0.2
"""Share of the clock period that input and output delays take (our choice)."""
CORE_UTILIZATION = 45
"""Percent of the core that cells may fill before routing (our choice)."""
UNPLACED = "place and route: not run here; README.txt says what to run"
NOTES = [
    "top.v has no initial values: hold rst for a cycle after power-on",
    "RAMs are written on the clock edge and read without a clock: a macro with a clocked read port needs another schedule",
]

KINDS = {"Linear": "accumulators", "Scan": "state", "Conv1d": "convolution history", "RangeNorm": "norm buffer",
         "LayerNorm": "norm buffer", "Pool": "pool sum"}


@dataclass(frozen=True)
class Ram:
    """A RAM of top.v: `path` of its instance, its Verilog `module`, which holds nothing else and has these `ports`. Where both
    addresses are one net there is only `r_addr`; a RAM of one word has none."""

    path: str
    module: str
    kind: str
    words: int
    width: int
    write_ports: int
    read_ports: int
    read: str
    ports: list[str]


class RamCell(wiring.Component):
    """One RAM and nothing else, so that a macro can stand in its module's place."""

    def __init__(self, memory: Memory):
        self.memory = memory
        (write,), (read,) = memory.write_ports, memory.read_ports
        super().__init__({
            "w_en": In(write.en.shape()), "w_addr": In(write.addr.shape()), "w_data": In(write.data.shape()),
            "r_addr": In(read.addr.shape()), "r_data": Out(read.data.shape()),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.cells = cells = MemoryInstance(data=self.memory.data)
        cells.write_port(domain="sync", addr=self.w_addr, data=self.w_data, en=self.w_en)
        cells.read_port(domain="comb", addr=self.r_addr, data=self.r_data, en=Const(1), transparent_for=())
        return m


class Platform:
    """Read-only memories become logic, since nothing on a chip is initialized; each RAM becomes a module of its own."""

    def get_memory(self, memory: Memory):
        return self._ram(memory) if memory.write_ports else self._rom(memory)

    @staticmethod
    def _ram(memory):
        m = Module()
        m.submodules.ram = ram = RamCell(memory)
        (write,), (read,) = memory.write_ports, memory.read_ports
        m.d.comb += [
            ram.w_en.eq(write.en), ram.w_addr.eq(write.addr),
            ram.w_data.eq(write.data | 0),  # an operator makes the word one net; else each of its sources is a nameless port
            ram.r_addr.eq(read.addr), read.data.eq(ram.r_data),
        ]
        return m

    @staticmethod
    def _rom(memory):
        m = Module()
        port, = memory.read_ports
        rows = [int(row) for row in memory.data.init]
        held = Signal.like(port.data, name="held", reset_less=True)
        # A tree of multiplexers: Yosys makes a memory of a switch with as many constants.
        for bit in port.addr:
            pairs = [rows[k:k + 2] for k in range(0, len(rows), 2)]
            rows = [Mux(bit, pair[-1], pair[0]) if len(pair) == 2 else pair[0] for pair in pairs]
        with m.If(port.en):
            m.d.sync += held.eq(rows[0])
        m.d.comb += port.data.eq(held)
        return m


def for_pdk(pdk: Pdk) -> SimpleNamespace:
    """The target for a process."""
    return SimpleNamespace(CLOCK_MHZ=pdk.clock_mhz, LEAST_CLOCK_MHZ=0.0, DEVICE=None, write=partial(write, pdk=pdk))


def write(folder: Path, schedule: Schedule, clock_mhz: float, pdk: Pdk | None = None) -> tuple[dict, list[str]]:
    """Writes the target's files; returns resources and notes for the report."""
    top = verilog(schedule)
    memories = find_memories(top, {node.name.replace(".", "_"): node.kind for node in schedule.graph})
    (folder / "top.v").write_text(top, encoding="utf-8")
    (folder / "memories.json").write_text(json.dumps([asdict(memory) for memory in memories], indent=1) + "\n", encoding="utf-8")
    period = 1e-6 / clock_mhz / (pdk.typical.seconds if pdk else 1e-9)  # constraints are in the library's unit of time
    facts = {"period": f"{period:.3f}", "delay": f"{IO_SHARE * period:.3f}"}
    _render("top.sdc", folder, facts)
    resources = {"memories": len(memories), "memory_bits": sum(memory.words * memory.width for memory in memories)}
    if pdk is None:
        return resources, [UNPLACED.replace("; README.txt says what to run", ", since no --pdk is named"), *NOTES]
    netlist = implement(top, pdk, clock_mhz)
    (folder / "netlist.v").write_text(netlist.verilog, encoding="utf-8")
    (folder / "cells.v").write_text(verilog_models(netlist.library), encoding="utf-8")
    area = netlist.report()
    corners = {name: timing.analyze(netlist, pdk, name, clock_mhz) for name in pdk.corners} if timing.available() else {}
    facts |= {"pdk": pdk, "clock_mhz": clock_mhz, "area": area["total"], "memories": memories, "utilization": CORE_UTILIZATION,
              "corners": corners, "largest": max((memory.words * memory.width for memory in memories), default=0)}
    _render("README.txt", folder, facts)
    if "openroad" in pdk.flows:
        _render("config.mk", folder, facts)
    if "librelane" in pdk.flows:
        _render("config.yaml", folder, facts)
    notes = [*_findings(pdk, area, corners), *_registers(memories), UNPLACED, *NOTES]
    return resources | {"pdk": pdk.name, "area": area, "timing": corners}, notes


def _registers(memories: list[Ram]) -> list[str]:
    if not memories:
        return []
    largest = max(memories, key=lambda memory: memory.words * memory.width)
    return [f"no RAM is a macro, since none of the process reads without a clock: {largest.path} ({largest.words} words of "
            f"{largest.width} bits) and {len(memories) - 1} others are registers"]


def _findings(pdk: Pdk, area: dict, corners: dict) -> list[str]:
    total = area["total"]
    found = [f"{total['area_um2']:,.0f} µm² of cells of {pdk.title}: {total['nand2']:,} NAND2 equivalents, "
             f"{total['flip_flops']:,} flip-flops; by Yosys and ABC, none unmapped"]
    if not corners:
        return [*found, "timing: not run here, since there is no command sta (OpenSTA) on PATH"]
    for name, corner in corners.items():
        for kind in ("setup", "hold"):
            slack = corner[f"{kind}_ns"]
            end = corner["path"][-1]["pin"] if kind == "setup" and corner["path"] else "a register"
            found.append(f"{kind} at the {name} corner: {slack:+.3f} ns" + (f", violated at {end}" if slack < 0 else "")
                         + (f"; the clock may be {corner['mhz']:,.0f} MHz" if kind == "setup" else "")
                         + ", by OpenSTA before placement")
    return found


def _render(name: str, folder: Path, facts: dict) -> None:
    environment = Environment(loader=PackageLoader("asic", "."), undefined=StrictUndefined, keep_trailing_newline=True,
                              autoescape=False, trim_blocks=True, lstrip_blocks=True)
    (folder / name).write_text(environment.get_template(f"{name}.j2").render(facts), encoding="utf-8")


def verilog(schedule: Schedule) -> str:
    """The chip: Verilog without initial values, each RAM a module of its own."""
    return without_initial_values(to_verilog(Accelerator(schedule), platform=Platform()))


def without_initial_values(verilog: str) -> str:
    """The Verilog without what sets memories and registers before the first clock, which a chip does not do."""
    verilog = re.sub(r"^  initial begin\n(?:    \S+\[\d+\] = \d+'[hd]0+;\n)*  end\n", "", verilog, flags=re.M)
    verilog = re.sub(r"^(  reg (?:signed )?(?:\[\d+:\d+\] )?(?:\\\S+ |\w+)) = \d+'[hd][0-9a-f]+;$", r"\1;", verilog, flags=re.M)
    left = re.search(r"^  (initial\b|reg\b.*=).*$", verilog, re.M)
    assert not left, f"an initial value is left: {left[0]}"
    return verilog


def find_memories(verilog: str, kinds: dict[str, str]) -> list[Ram]:
    """Every RAM instance below module `top`, in the order of the instances; `kinds` gives the node kind of a block's instance."""
    modules = {name: body for name, body in re.findall(r"^module \\?(\S+?) ?\(.*?\);\n(.*?)^endmodule$", verilog, re.M | re.S)}
    instances = {name: re.findall(r"^  \\?([\w.]+) +\\?([\w.]+) \($", body, re.M) for name, body in modules.items()}
    found = []

    def walk(module: str, path: tuple[str, ...]) -> None:
        body = modules[module]
        for high, low, name, last, first in re.findall(r"^  reg \[(\d+):(\d+)\] \\?(\S+) +\[(\d+):(\d+)\];$", body, re.M):
            writes = len(re.findall(rf"^\s*{re.escape(name)}\[.*\] <=", body, re.M))
            reads = len(re.findall(rf"= {re.escape(name)}\[", body))
            kind = "FIFO" if path[0].endswith("_fifo") else KINDS[kinds[path[0]]]
            ports = [port for port in re.findall(r"^  (?:in|out)put (?:\[\d+:\d+\] )?(\w+);$", body, re.M) if port != "rst"]
            words, width = int(last) - int(first) + 1, int(high) - int(low) + 1
            found.append(Ram(".".join(path), module, kind, words, width, writes, reads, "asynchronous", ports))
        for child, instance in instances[module]:
            walk(child, (*path, instance))

    walk("top", ())
    return found
