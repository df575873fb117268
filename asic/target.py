"""The target `asic`: Verilog without initial values, timing constraints, and a list of the memories that want macros; for a
process also its netlist, area and timing, and the files of flows to a layout."""

import json
import re
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from jinja2 import Environment, PackageLoader, StrictUndefined

from rtl.accelerator import Accelerator
from rtl.datapath import Products
from rtl.emit import to_verilog
from rtl.schedule import Schedule

from . import layout
from .gates import verilog_models
from .memories import Platform, Ram, find_memories
from .pdk import Pdk
from .sizing import implement
from .timing import IO_SHARE

CLOCK_MHZ = 100.0
LEAST_CLOCK_MHZ = 0.0
DEVICE = None
PRODUCTS = Products.MERGED
CORE_UTILIZATION = 45
"""Percent of the core that cells may fill before routing (our choice)."""
UNRUN = "place and route: not run here; README.txt says what to run"
NOTES = [
    "top.v has no initial values: hold rst for a cycle after power-on",
    "RAMs are written on the clock edge and read without a clock: a macro with a clocked read port needs another schedule",
]


def for_pdk(pdk: Pdk) -> SimpleNamespace:
    """The target for a process."""
    return SimpleNamespace(CLOCK_MHZ=pdk.clock_mhz, LEAST_CLOCK_MHZ=0.0, DEVICE=None, PRODUCTS=PRODUCTS, UNRUN=UNRUN,
                           write=partial(write, pdk=pdk), run=partial(layout.run, pdk=pdk))


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
        return resources, ["place and route: not run here, since no --pdk is named", *NOTES]
    netlist, _, corners = implement(top, pdk, clock_mhz)
    (folder / "netlist.v").write_text(netlist.verilog, encoding="utf-8")
    (folder / "cells.v").write_text(verilog_models(netlist.library), encoding="utf-8")
    area = netlist.report()
    facts |= {"pdk": pdk, "clock_mhz": clock_mhz, "area": area["total"], "memories": memories, "utilization": CORE_UTILIZATION,
              "nickname": layout.DESIGN, "corners": corners,
              "largest": max((memory.words * memory.width for memory in memories), default=0)}
    _render("README.txt", folder, facts)
    if "openroad" in pdk.flows:
        _render("config.mk", folder, facts)
        _render("io.tcl", folder, facts)
    if "librelane" in pdk.flows:
        _render("config.yaml", folder, facts)
        _render("pins.cfg", folder, facts)
    notes = [*findings(pdk, area, corners), *_registers(memories), UNRUN, *NOTES]
    return resources | {"pdk": pdk.name, "area": area, "timing": corners}, notes


def _registers(memories: list[Ram]) -> list[str]:
    if not memories:
        return []
    largest = max(memories, key=lambda memory: memory.words * memory.width)
    return [f"no RAM is a macro, since none of the process reads without a clock: {largest.path} ({largest.words} words of "
            f"{largest.width} bits) and {len(memories) - 1} others are latches or registers"]


def findings(pdk: Pdk, area: dict, corners: dict) -> list[str]:
    """What the report says of a mapped chip; a negative slack is named with where it is."""
    total = area["total"]
    found = [f"{total['area_um2']:,.0f} µm² of cells of {pdk.title}: {total['nand2']:,} NAND2 equivalents, "
             f"{total['flip_flops']:,} flip-flops; by Yosys and ABC, none unmapped"]
    if not corners:
        return [*found, "timing: not run here, since there is no command sta (OpenSTA) on PATH"]
    for name, corner in corners.items():
        for kind in ("setup", "hold"):
            slack = corner[f"{kind}_ns"]
            end = corner["end"] if kind == "setup" else "a register"
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
