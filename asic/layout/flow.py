"""Lays out one block of a mapped chip: placed, with trees and supplies, routed, drawn, checked, and timed through its wires."""

import json
from pathlib import Path

from emamba.base.errors import Mismatch
from emamba.base.progress import say

from ..check.gates import Flat, Run
from ..netlist.mapping import Netlist
from ..netlist.pdk import Pdk
from . import block as blocks
from . import check, decks, draw, hold, picture, place, power, wires
from .laid import Laid, routed
from .rules import Rules

WORDS = "block level, no pads, no seal ring"


def compose(netlist: Netlist, rules: Rules, name: str) -> Laid:
    """Places and routes a block."""
    block, flat = blocks.extract(netlist, name)
    say(f"{name}: places {len(block.cells):,} cells")
    placement = place.arrange(block, rules, netlist.library, netlist.library.cells[rules.pdk.clock_buffer])
    return routed(block, placement, flat, rules)


def lay_out(netlist: Netlist, pdk: Pdk, clock_mhz: float, folder: Path, name: str | None = None,
            chip: tuple[Flat, Run] | None = None) -> tuple[dict, list[str]]:
    """Writes the layout of a block into a folder; returns its figures and the report's lines on it.

    Parameters
    ----------
    netlist, pdk, clock_mhz
        the chip, its process and clock
    folder
        is made
    name
        the block; None is the largest that fits
    chip
        the chip's cells and its run over one sequence's period, for the energy; None measures none
    """
    rules = Rules.of(pdk)
    name = blocks.choose(netlist, name)
    laid = compose(netlist, rules, name)
    grown = len(laid.block.cells)
    laid = hold.repair(laid, netlist, rules, clock_mhz)
    block, placement, routes = laid.block, laid.placement, laid.routes
    folder.mkdir()
    gds = folder / f"{name}.gds"
    draw.write_gds(gds, block, placement, draw.draw(block, placement, routes, rules), rules)
    say(f"{name}: checks the shapes")
    checked = check.check(gds, block, rules)
    if faults := [*checked.connections, *checked.geometry]:
        raise Mismatch(f"the layout of {name} is not what the netlist and the process ask for: {'; '.join(faults)}")
    wired = wires.extract(block, routes, rules)
    flat = wires.netlist_of(block, netlist)
    (folder / f"{name}.v").write_text(flat.verilog, encoding="utf-8")
    (folder / f"{name}.spef").write_text(wired.spef, encoding="utf-8")
    picture.write(folder / f"{name}.png", gds, rules)
    length, own = sum(wired.length.values()), len(laid.flat.cells)
    facts = {
        "block": name, "words": WORDS, "cells": own, "tree_buffers": grown - own, "hold_buffers": len(block.cells) - grown,
        "fillers": len(placement.fillers), "nets": len(routes.edges), "sweeps": routes.sweeps,
        "width_um": placement.width / 1000, "height_um": placement.height / 1000,
        "wire_um": round(length, 1), "vias": wired.vias,
        "um_per_sink": round(length / sum(len(ends) - 1 for ends in routes.ends.values()), 2),
        "assumed_um_per_sink": round(pdk.wire_length(pdk.typical), 2), "half_perimeter_um": placement.length,
        "pins": checked.pins, "shapes": checked.shapes, "timing": wires.measure(flat, wired.spef, pdk, clock_mhz),
        "timing_before": wires.measure(wires.netlist_of(blocks.extract(netlist, name)[0], netlist), "", pdk, clock_mhz)}
    if chip:
        facts["energy"] = power.compare(block, wired, laid.flat, chip, netlist.library, pdk, clock_mhz)
    for corner in (*facts["timing"].values(), *facts["timing_before"].values()):
        corner.pop("early", None)
    why = decks.missing(rules)
    if not why:
        say(f"{name}: runs the foundry's decks")
        decks.write_cdl(folder / f"{name}.cdl", block, rules)
        facts["decks"] = decks.run(folder, name, rules)
    (folder / "layout.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return facts, report(facts, why)


def report(facts: dict, why: str) -> list[str]:
    """The report's lines; `why` the decks were not run."""
    lines = [f"layout of {facts['block']} ({WORDS}): {facts['cells']:,} cells, {facts['tree_buffers']:,} buffers of clock and "
             f"reset and {facts['hold_buffers']:,} for hold on {facts['width_um']:.1f} × {facts['height_um']:.1f} µm, "
             f"{facts['nets']:,} nets routed in {facts['sweeps']} sweeps, {facts['wire_um'] / 1000:.1f} mm of wire, "
             f"{facts['vias']:,} vias",
             f"the shapes connect {facts['pins']:,} pins as the netlist does; widths, spacings, areas and enclosures of the "
             "metals keep the process' LEF",
             f"a sink has {facts['um_per_sink']:.1f} µm of wire, where {facts['assumed_um_per_sink']:.1f} are assumed before "
             "placement"]
    for name, corner in facts["timing"].items():
        before = facts["timing_before"][name]
        setup, hold = (f"{kind} {corner[f'{kind}_ns']:+.3f} ns, before placement {before[f'{kind}_ns']:+.3f}"
                       + f", violated at {corner[end]}" * (corner[f"{kind}_ns"] < 0)
                       for kind, end in (("setup", "end"), ("hold", "hold_end")))
        lines.append(f"{facts['block']} through its wires and clock tree, {name} corner: {setup}; the clock may be "
                     f"{corner['mhz']:,.0f} MHz; {hold}; by OpenSTA")
    if used := facts.get("energy"):
        assumed, routed = (used[name] * 1e12 for name in ("assumed_j", "routed_j"))
        lines.append(f"energy of {facts['block']} a sequence: {routed:,.1f} pJ through its wires and clock tree, where "
                     f"{assumed:,.1f} were estimated before placement")
    if why:
        return [*lines, f"the foundry's decks: not run here, since {why}"]
    found = facts["decks"]
    return [*lines, f"the foundry's decks in KLayout: {found['items']:,} items of the main table, the netlists "
            + ("match" if found["matches"] else "do not match")]
