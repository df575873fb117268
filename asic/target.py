"""The target `asic`: Verilog without initial values, timing constraints, and a list of the memories; for a process also its
netlist, area and timing, and the files of flows to a layout."""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import product
from math import sqrt
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from emamba.artifact import Artifact
from emamba.base.errors import Mismatch, ToolMissing
from rtl.kit import emit
from rtl.kit.datapath import Products
from rtl.plan.schedule import Schedule

from . import openroad
from .check.equivalence import Check, check
from .check.gates import verilog_models
from .measure.chip import run_codes
from .measure.sizing import implement
from .measure.timing import IO_SHARE
from .netlist.memories import LEAST_WORDS, Plan, Ram, choose, find_memories, why_none, with_macros
from .netlist.pdk import Pdk, check_plain
from .netlist.verilog import verilog

CLOCK_MHZ = 100.0
LEAST_CLOCK_MHZ = 0.0
DEVICE = None
PRODUCTS = Products.MERGED
CORE_UTILIZATION = 45
"""Percent of the core that cells may fill before routing (our choice)."""
HALO_UM = 20
"""Room around a macro for wires and supplies (our choice)."""
UNRUN = "place and route of the chip: not run here; README.txt says what to run"
NOTES = [
    "top.v has no initial values: hold rst for a cycle after power-on",
    "RAMs are written on the clock edge and read without a clock: a macro in a RAM's place is read on the clock's falling edge",
]


def for_pdk(pdk: Pdk, prove: bool = False, block: str | None = None,
            inputs: Callable[[Artifact], np.ndarray] | None = None) -> SimpleNamespace:
    """The target for a process.

    Parameters
    ----------
    pdk
        the process
    prove
        the netlist is proven equivalent to the Verilog
    block
        the name of a block that is laid out, or an empty one for the largest that fits
    inputs
        gives integer inputs of a model, by whose toggles the energy of the block is measured
    """
    if block is not None:
        layout()
    writing = partial(write, pdk=pdk, prove=prove, block=block, inputs=inputs)
    return SimpleNamespace(CLOCK_MHZ=pdk.clock_mhz, LEAST_CLOCK_MHZ=0.0, DEVICE=None, PRODUCTS=PRODUCTS, UNRUN=UNRUN,
                           write=writing, run=partial(openroad.run, pdk=pdk))


def layout() -> Callable[..., tuple[dict, list[str]]]:
    """`lay_out`, which only an extra brings."""
    try:
        from .layout.flow import lay_out
    except ModuleNotFoundError as error:
        if error.name != "klayout":
            raise
        raise ToolMissing("--layout needs the package klayout; install it, e.g. pip install 'emamba[asic]'") from None
    return lay_out


def write(folder: Path, schedule: Schedule, clock_mhz: float, pdk: Pdk | None = None, prove: bool = False,
          block: str | None = None, inputs: Callable[[Artifact], np.ndarray] | None = None) -> tuple[dict, list[str]]:
    """Writes the target's files; returns resources and notes for the report."""
    top = verilog(schedule)
    memories = find_memories(top, {name.replace(".", "_"): block for name, block in schedule.blocks.items()})
    emit.write(folder / "top.v", top)
    period = 1e-6 / clock_mhz / (pdk.typical.seconds if pdk else 1e-9)  # constraints are in the library's unit of time
    facts = {"period": f"{period:.3f}", "delay": f"{IO_SHARE * period:.3f}"}
    _render("top.sdc", folder, facts)
    resources = {"memories": len(memories), "memory_bits": sum(memory.words * memory.width for memory in memories)}
    planned = [(memory, choose(pdk, memory, clock_mhz) if pdk else None) for memory in memories]
    rows = [asdict(memory) | ({"becomes": becomes(pdk, memory, chosen)} if pdk else {}) for memory, chosen in planned]
    (folder / "memories.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if pdk is None:
        return resources, ["place and route: not run here, since no --pdk is named", *NOTES]
    if any(chosen for _, chosen in planned):
        check_plain(pdk)
    netlist, flat, corners = implement(top, pdk, clock_mhz)
    (folder / "netlist.v").write_text(netlist.verilog, encoding="utf-8")
    (folder / "cells.v").write_text(verilog_models(netlist.library), encoding="utf-8")
    area = netlist.report()
    nodes = [name for node in schedule.graph if (name := node.name.replace(".", "_")) in area["blocks"]]
    order = [(name, area["blocks"][name]["area_um2"] / area["total"]["area_um2"]) for name in nodes or sorted(area["blocks"])]
    placed = place(planned, pdk, area["total"]["area_um2"])
    if placed:
        (folder / "top_macros.v").write_text(with_macros(top, pdk, clock_mhz), encoding="utf-8")
    facts |= {"pdk": pdk, "clock_mhz": clock_mhz, "area": area["total"], "utilization": CORE_UTILIZATION, "corners": corners,
              "nickname": openroad.DESIGN, "order": order, "netlist_first": " ".join(openroad.netlist_first("$PWD")),
              **_macro_facts(placed, pdk)}
    _render("README.txt", folder, facts)
    if pdk.flows.openroad:
        _render("config.mk", folder, facts)
        _render("io.tcl", folder, facts)
    if pdk.flows.librelane:
        _render("config.yaml", folder, facts)
        _render("pins.cfg", folder, facts)
    notes = [*findings(pdk, area, corners), *_rams(planned, pdk, clock_mhz), UNRUN, *NOTES]
    resources |= {"pdk": pdk.name, "area": area, "timing": corners}
    if prove:
        proofs = list(check(top, netlist))
        resources["proofs"] = [asdict(proof) for proof in proofs]
        notes.insert(1, proven(proofs))
    if block is not None:
        run = (flat, run_codes(schedule, netlist, flat, inputs(schedule.artifact))) if inputs else None
        resources["layout"], lines = layout()(netlist, pdk, clock_mhz, folder / "layout", block or None, run)
        notes[notes.index(UNRUN):notes.index(UNRUN)] = lines
    return resources, notes


def proven(proofs: list[Check]) -> str:
    """The report's line on the proofs; refuses a netlist that differs from its Verilog."""
    if wrong := [proof for proof in proofs if proof.result == "different"]:
        raise Mismatch(f"the netlist differs from the Verilog in {len(wrong)} of {len(proofs)} parts, the first "
                       f"{wrong[0].part} at {wrong[0].where}")
    done = [proof for proof in proofs if proof.result == "proven"]
    return (f"{len(done)} of {len(proofs)} parts of the netlist are proven equivalent to the Verilog"
            + (f"; the proof of {len(proofs) - len(done)} was not finished" if len(done) < len(proofs) else ""))


def becomes(pdk: Pdk, memory: Ram, chosen: Plan | None) -> str:
    """A RAM in the netlist: macros in rows × columns, latches, or registers."""
    if chosen:
        return f"{chosen.rows} × {chosen.columns} {chosen.cell.name}"
    return "latches" if memory.words >= LEAST_WORDS and pdk.typical.smallest("latch") else "registers"


def _rams(planned: list[tuple[Ram, Plan | None]], pdk: Pdk, clock_mhz: float) -> list[str]:
    """The report's lines on macros, and on memories that are not."""
    def named(memory: Ram) -> str:
        return f"{memory.path} ({memory.words} words of {memory.width} bits)"

    found = []
    if macros := [f"{named(memory)} is {becomes(pdk, memory, chosen)}" for memory, chosen in planned if chosen]:
        found.append(f"macros, written on the clock's rising edge and read on its falling edge: {'; '.join(macros)}")
    if cells := [memory for memory, chosen in planned if not chosen]:
        largest = max(cells, key=lambda memory: memory.words * memory.width)
        found.append(f"{'no other RAM' if macros else 'no RAM'} is a macro, since {why_none(pdk, clock_mhz)}: {named(largest)}"
                     + f" and {len(cells) - 1} others" * (len(cells) > 1) + " are latches or registers")
    return found


def place(planned: list[tuple[Ram, Plan | None]], pdk: Pdk, area_um2: float) -> list[tuple[str, str, float, float]]:
    """Suggests a placement in rows from the core's lower left corner: each macro's kind, its instance in the flattened chip, and
    its lower left corner in µm."""
    found, side = [], sqrt(area_um2 * 100 / CORE_UTILIZATION)
    x = y = top = HALO_UM
    for memory, chosen in planned:
        for row, column in product(range(chosen.rows), range(chosen.columns)) if chosen else ():
            wide, high = pdk.size(chosen.cell.macro)
            if x > HALO_UM and x + wide > side:
                x, y = HALO_UM, top
            found.append((chosen.cell.name, f"{memory.path}.ram_{row}_{column}", x, y))
            x, top = x + wide + HALO_UM, max(top, y + high + HALO_UM)
    return found


def findings(pdk: Pdk, area: dict, corners: dict) -> list[str]:
    """The report's lines on a mapped chip; a negative slack is named with the end of its path."""
    total = area["total"]
    macros = f" ({total['macro_um2']:,.0f} in macros)" if total["macros"] else ""
    found = [f"{total['area_um2']:,.0f} µm²{macros} of cells of {pdk.title}: {total['nand2']:,} NAND2 equivalents, "
             f"{total['flip_flops']:,} flip-flops; by Yosys and ABC, none unmapped"]
    if not corners:
        return [*found, "timing: not run here, since there is no command sta (OpenSTA) on PATH"]
    for name, corner in corners.items():
        for kind in ("setup", "hold"):
            slack = corner[f"{kind}_ns"]
            end = corner["end" if kind == "setup" else "hold_end"]
            found.append(f"{kind} at the {name} corner: {slack:+.3f} ns" + (f", violated at {end}" if slack < 0 else "")
                         + (f"; the clock may be {corner['mhz']:,.0f} MHz" if kind == "setup" else "")
                         + ", by OpenSTA before placement")
    return found


def _macro_facts(placed: list[tuple[str, str, float, float]], pdk: Pdk) -> dict:
    return {"placed": placed, "verilog": "top_macros.v" if placed else "top.v", "halo": HALO_UM,
            "macros": [macro for macro in pdk.present if any(name == macro.name for name, *_ in placed)]}


def _render(name: str, folder: Path, facts: dict) -> None:
    environment = Environment(loader=PackageLoader("asic", "templates"), undefined=StrictUndefined, keep_trailing_newline=True,
                              autoescape=False, trim_blocks=True, lstrip_blocks=True)
    (folder / name).write_text(environment.get_template(f"{name}.j2").render(facts), encoding="utf-8")
