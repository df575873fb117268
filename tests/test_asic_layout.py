"""A block's layout with a library of a few cells: placed, routed, drawn, and checks that see what is planted."""

import dataclasses
import json

import klayout.db as db
import numpy as np
import pytest
from programs import need
from test_asic import SMALL, TINY

from asic.check.gates import STREAMS, Run, sinks
from asic.layout import block as blocks
from asic.layout import check, decks, draw, flow, hold, power, wires
from asic.layout.lef import read_layers, read_macros
from asic.layout.rules import Rules
from asic.netlist import mapping, pdk
from asic.netlist.memories import Platform
from asic.netlist.verilog import without_initial_values
from emamba.base.errors import DesignLimit, InputError, SettingError
from rtl.kit.datapath import Products
from rtl.kit.emit import to_verilog
from rtl.plan.schedule import Realization, Schedule
from sim.models import random_artifact

NAME = "linear"


@pytest.fixture(scope="module")
def rules():
    return Rules.of(pdk.find(str(TINY)))


@pytest.fixture(scope="module")
def netlist(rules):
    """A chip of one block, a Linear of the small model."""
    schedule = Schedule(random_artifact(SMALL, residual_bits=8), 32, Realization(Products.MERGED))
    text = without_initial_values(to_verilog(schedule.blocks["block0.C"], platform=Platform(rests=False)))
    mapped = mapping.implement(text, rules.pdk, 200)
    top = mapping.Part("top", {"cells": {NAME: {"type": "top", "connections": {}}}, "ports": {}}, "")
    return mapping.Netlist(mapped.library, top, mapped.parts | {"top": mapped.top}, "")


@pytest.fixture(scope="module")
def laid(netlist, rules):
    return flow.compose(netlist, rules, NAME)


@pytest.fixture(scope="module")
def gds(laid, rules, tmp_path_factory):
    path = tmp_path_factory.mktemp("layout") / "block.gds"
    draw.write_gds(path, laid.block, laid.placement, draw.draw(laid.block, laid.placement, laid.routes, rules), rules)
    return path


def test_block(laid, rules, gds):
    """At least 700 cells in legal rows, all nets routed, and the file says the same."""
    block, placement = laid.block, laid.placement
    assert len(laid.flat.cells) >= 700 and len(placement.corners) == len(block.cells)
    filled = 0
    placed = [(cell.name, *corner) for cell, corner in zip(block.cells, placement.corners, strict=True)] + placement.fillers
    for y in range(0, placement.height, placement.row):
        row = sorted((x, rules.macros[kind].width) for kind, x, at in placed if at == y)
        assert [x for x, _ in row] == [0, *(x + width for x, width in row)][:-1]  # no gap, no overlap
        filled += sum(width for _, width in row)
    assert filled == placement.width * placement.rows
    assert placement.length[1] < placement.length[0]
    found = check.check(gds, block, rules)
    assert found.connections == found.geometry == [] and found.nets > 700


def test_trees(laid):
    """Every flip-flop is as many buffers and gates from the clock, and no buffer drives too many."""
    block = laid.block
    driver = {pins[cell.outputs[0]]: k for k, (cell, pins) in enumerate(zip(block.cells, block.pins, strict=True))
              if cell.outputs and cell.outputs[0] in pins}
    depths = set()
    for cell, pins in zip(block.cells, block.pins, strict=True):
        if cell.kind == "ff":
            net, depth = pins[cell.clock_pin], 0
            while net in driver:
                gate = block.cells[driver[net]]
                net, depth = block.pins[driver[net]][gate.clock_pin or gate.inputs[0]], depth + 1
            assert net == block.ports["clk"][1]
            depths.add(depth)
    assert len(depths) == 1
    sinks = [len(ends) - 1 for net, ends in enumerate(block.terminals()) if net in block.clocks]
    assert max(sinks) <= blocks.SINKS


def test_planted_shapes(gds, laid, rules):
    """A fault of each kind away from the core; in it, a via less, a wire across others, a cell less, and one under another's
    name."""
    def change(layout, top):
        for layer, corners in ((7, (-9000, 0, -8900, 2000)), (9, (-9000, 4000, -8000, 4200)), (9, (-9000, 4300, -8000, 4500)),
                               (9, (-9000, 6000, -8700, 6200)), (8, (-9000, 8000, -8820, 8180)), (8, (-9000, 9000, -8800, 9180)),
                               (6, (-9000, 1000, -8820, 1180)), (6, (-9000, 1280, -8820, 1460)),
                               (3, (10_000, 10_000, 10_200, 60_000))):
            top.shapes(layout.layer(layer, 0)).insert(db.Box(*corners))
        next(top.shapes(layout.layer(4, 0)).each()).delete()
        named = {one.property(draw.NAME): one for one in top.each_inst()}
        other = next(name for name, one in named.items() if one.cell.name != named["u5"].cell.name)
        named[other].set_property(draw.NAME, "u5")

    layout = db.Layout()
    layout.read(str(gds))
    change(layout, layout.top_cell())
    planted = gds.with_name("planted.gds")
    layout.write(str(planted))
    found = check.check(planted, laid.block, rules)
    kinds = [fault.split(":")[0] for fault in found.geometry]
    assert set(kinds) >= {
        "M4 narrower than 200 nm", "M5 nearer than 200 nm", "M5 smaller than its least area", "V3 nearer than 200 nm",
        "V3 not enclosed by M3", "V3 not enclosed by M4", "V4 of another size", "V4 not enclosed by M4", "V4 not enclosed by M5"}
    assert "M4 narrower than 200 nm: 1, the first at (-9.000, 0.000) µm" in found.geometry
    for sentence in ("u5 is a", " is missing", " is open between ", " are one at "):
        assert any(sentence in fault for fault in found.connections), found.connections


def test_planted_netlist(gds, laid, rules):
    """Two pins of a gate that change places are found, although every shape is legal."""
    k, cell = next((k, cell) for k, cell in enumerate(laid.block.cells) if cell.name == "AOI21")
    pins = list(laid.block.pins)
    a, b = (next(pin for pin in cell.inputs if pin == name) for name in "AC")
    pins[k] = pins[k] | {a: pins[k][b], b: pins[k][a]}
    found = check.check(gds, dataclasses.replace(laid.block, pins=pins), rules)
    assert found.geometry == [] and any(f"u{k}/" in fault for fault in found.connections)


def test_wires(laid, rules, netlist):
    """Every pin is on its net's tree of resistors, and the capacitance is that of the length."""
    routed = wires.extract(laid.block, laid.routes, rules)
    for net, length in routed.length.items():
        wire = rules.pdk.wire.clock if net in laid.block.clocks else rules.pdk.wire.signal
        assert routed.farads[net] == pytest.approx(length * wire * 1e-15)
    nets = routed.spef.split("*D_NET ")[1:]
    assert len(nets) == len(laid.routes.edges)
    for text in nets:
        ends = [line.split()[1] for line in text.splitlines() if line.startswith(("*I", "*P"))]
        pairs = [line.split()[1:3] for line in text.split("*RES\n")[1].split("*END")[0].splitlines()]
        reached, before = {ends[0]}, 0
        while len(reached) > before:
            before = len(reached)
            reached |= {end for pair in pairs if reached & set(pair) for end in pair}
        assert set(ends) <= reached


def test_power(laid, rules, netlist):
    """A net that toggles once costs what its wire's change of capacitance does; a clock's buffers toggle with it."""
    routed, flat, library = wires.extract(laid.block, laid.routes, rules), laid.flat, netlist.library
    chip = dataclasses.replace(flat, blocks=[NAME] * len(flat.cells))
    net = flat.outputs[next(k for k, cell in enumerate(flat.cells) if cell.name == "INV")][0]
    (clk,) = flat.ports["clk"]

    def used(toggling: int) -> dict[str, float]:
        toggles = np.zeros(flat.nets, np.uint64)
        toggles[toggling] = STREAMS
        run = Run(None, toggles, np.zeros((0, 2)), 0)
        return power.compare(laid.block, routed, flat, (chip, run), library, rules.pdk, 200)

    found, load = used(net), sinks(flat)[net]
    wired = load - library.wire * sum(net in nets for nets in flat.inputs) + routed.farads[net]
    table = library.cells["INV"].output_energy("Y")
    change = (wired - load) * library.volts ** 2 / 2 + np.interp(wired, *table) - np.interp(load, *table)
    assert found["routed_j"] - found["assumed_j"] == pytest.approx(change)
    buffers = len(laid.block.cells) - len(flat.cells)
    buffer = library.cells[rules.pdk.clock_buffer]
    assert used(clk)["routed_j"] > buffers / 2 * buffer.output_energy(buffer.outputs[0])[1][0]


def test_hold(laid, netlist, rules, tmp_path):
    """With buffers before the inputs that data reach first, all are as late as is asked; the layout is that of the netlist."""
    need("sta")
    wired = wires.extract(laid.block, laid.routes, rules)
    before = wires.measure(wires.netlist_of(laid.block, netlist), wired.spef, rules.pdk, 200)
    least_ns = sorted(before["typical"]["early"].values())[3] + 0.001
    found = hold.repair(laid, netlist, rules, 200, least_ns)
    added = range(len(laid.block.cells), len(found.block.cells))
    assert len(added) >= 4 and {found.block.cells[k].name for k in added} == {"BUF"}
    wired = wires.extract(found.block, found.routes, rules)
    after = wires.measure(wires.netlist_of(found.block, netlist), wired.spef, rules.pdk, 200)
    assert after["typical"]["hold_ns"] >= least_ns > before["typical"]["hold_ns"]
    path = tmp_path / "block.gds"
    draw.write_gds(path, found.block, found.placement, draw.draw(found.block, found.placement, found.routes, rules), rules)
    checked = check.check(path, found.block, rules)
    assert checked.connections == checked.geometry == []
    moved = np.abs(found.placement.corners[:added.start] - laid.placement.corners).sum(axis=1)
    assert np.median(moved) <= rules.row


def test_lay_out(laid, netlist, rules, tmp_path, monkeypatch):
    """The files and the report's words; without the decks, it says so."""
    need("sta")
    monkeypatch.setattr(flow, "compose", lambda *_: laid)
    facts, lines = flow.lay_out(netlist, rules.pdk, 200, tmp_path / "layout")
    assert {path.suffix for path in (tmp_path / "layout").iterdir()} == {".gds", ".v", ".spef", ".png", ".json"}
    assert json.loads((tmp_path / "layout" / "layout.json").read_text())["nets"] == facts["nets"]
    assert "block level, no pads, no seal ring" in lines[0]
    assert lines[-1].startswith("the foundry's decks: not run here, since ")
    corner, before = facts["timing"]["typical"], facts["timing_before"]["typical"]
    assert corner["setup_ns"] > 0 and facts["um_per_sink"] < facts["assumed_um_per_sink"]
    early = facts | {"timing": {"typical": corner | {"hold_ns": -0.5, "hold_end": "u1/D"}},
                     "decks": {"items": 2, "matches": False}}
    assert flow.report(early, "")[-2].endswith(
        f"; hold -0.500 ns, before placement {before['hold_ns']:+.3f}, violated at u1/D; by OpenSTA")
    assert flow.report(early, "")[-1] == "the foundry's decks in KLayout: 2 items of the main table, the netlists do not match"


def test_decks(laid, rules, tmp_path, monkeypatch):
    """A stand-in for KLayout, and decks as they lie in a checkout of the open PDK: what it says is in the result."""
    named = rules.pdk.layout.model_copy(update={"drc": "main.drc", "lvs": "main.lvs", "cdl": "cells.cdl"})
    own = dataclasses.replace(rules, pdk=rules.pdk.model_copy(update={"layout": named, "data": tmp_path}))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert decks.missing(own) == "there is no command klayout on PATH"
    (tmp_path / "klayout").write_text("""#!/bin/sh
for word in "$@"; do
    case $word in
        report=*.lyrdb) printf "<item><category>'M1.b'</category></item>\\n%.0s" 1 2 > "${word#report=}" ;;
        schematic=*) echo "ERROR : Netlists don't match" ;;
    esac
done
""")
    (tmp_path / "klayout").chmod(0o755)
    assert decks.missing(own) == f"main.drc of tiny is not in {tmp_path}"
    place = tmp_path / "libs.tech" / "klayout"
    place.mkdir(parents=True)
    kinds = {cell.name: cell for cell in laid.block.cells}
    for name in ("main.drc", "main.lvs"):
        (place / name).write_text("")
    (place / "cells.cdl").write_text("".join(
        f".SUBCKT {kind} {' '.join(cell.inputs)}\n+ {' '.join(cell.outputs)} PWR GND\nM1 a b c d n\n.ENDS\n"
        for kind, cell in kinds.items()))
    assert decks.missing(own) == ""
    decks.write_cdl(tmp_path / "block.cdl", laid.block, own)
    text = (tmp_path / "block.cdl").read_text()
    assert text.count("\nXu") == len(laid.block.cells) and ".SUBCKT linear " in text and text.endswith(".ENDS\n")
    k, cell = next((k, cell) for k, cell in enumerate(laid.block.cells) if cell.name == "NAND2")
    nets = [laid.block.net_names[laid.block.pins[k][pin]] for pin in (*cell.inputs, *cell.outputs)]
    assert f"\nXu{k} {' '.join(nets)} PWR GND NAND2\n" in text
    assert decks.run(tmp_path, "block", own) == {"rules": {"M1.b": 2}, "items": 2, "matches": False}


def test_refusals(netlist, rules, monkeypatch):
    assert blocks.choose(netlist, None) == NAME
    with pytest.raises(SettingError, match="--layout other: there is no such block without macros; choose one of linear"):
        blocks.choose(netlist, "other")
    monkeypatch.setattr(blocks, "MOST_CELLS", 10)
    with pytest.raises(DesignLimit, match=r"--layout linear: the block has \d+ cells, and at most 10 are laid out here"):
        blocks.choose(netlist, NAME)
    with pytest.raises(DesignLimit, match="no block has at most 10 cells"):
        blocks.choose(netlist, None)
    with pytest.raises(SettingError, match=r"the description of asap7 has no section \[layout\]"):
        Rules.of(rules.pdk.model_copy(update={"layout": None, "name": "asap7"}))
    wide = dataclasses.replace(rules, metals=[dataclasses.replace(metal, width=260) for metal in rules.metals])
    with pytest.raises(DesignLimit, match="the wires of M2 of tiny do not fit a grid of 400 × 400 nm"):
        wide.check()


def test_lef():
    layers = read_layers((TINY.parent / "tiny_tech.lef").read_text(), "tiny")
    assert layers["M2"].vertical and not layers["M3"].vertical and layers["M2"].area == 100_000
    assert layers["V1"].above == (10, 50) and layers["V5"].side == 400
    macro = read_macros((TINY.parent / "tiny_cells.lef").read_text())["NAND2"]
    assert (macro.width, macro.height) == (1600, 4000) and macro.pins["B"]["M1"] == [(700, 1100, 900, 2500)]
    assert macro.rest == {"M1": [(300, 2900, 1300, 3100)]}
    with pytest.raises(InputError, match="tiny: the layer M9 lacks PITCH"):
        read_layers("LAYER M9\n TYPE ROUTING ;\nEND M9\n", "tiny")
