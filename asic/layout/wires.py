"""Resistance and capacitance of routed wires, as SPEF; and the timing of the block with them."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

from ..measure import timing
from ..netlist.mapping import Netlist, Part
from ..netlist.pdk import Pdk
from .block import Block
from .draw import runs
from .lef import Metal
from .route import Node, Routes
from .rules import Rules

HEADER = """\
*SPEF "IEEE 1481-1998"
*DESIGN "{name}"
*DATE ""
*VENDOR ""
*PROGRAM ""
*VERSION ""
*DESIGN_FLOW ""
*DIVIDER /
*DELIMITER :
*BUS_DELIMITER []
*T_UNIT 1 PS
*C_UNIT 1 FF
*R_UNIT 1 OHM
*L_UNIT 1 HENRY
"""


@dataclass
class Wires:
    """By net, the length in µm and the capacitance in F of its wires; the vias of all; and SPEF."""

    length: dict[int, float]
    farads: dict[int, float]
    vias: int
    spef: str


def extract(block: Block, routes: Routes, rules: Rules) -> Wires:
    """A resistor for every straight piece between vias, branches and pins, and its capacitance by halves at its ends; the
    capacitance of a µm is the process' description's, the resistance its LEF's."""
    names, terminals, lines = block.net_names, block.terminals(), [HEADER.format(name=block.name)]
    lengths, farads, vias = {}, {}, 0
    for net, edges in routes.edges.items():
        wire = rules.pdk.wire.clock if net in block.clocks else rules.pdk.wire.signal
        ends, numbers = routes.ends[net], {}
        straight, ups = runs(edges)
        corners = {node for pair in (*ups, *straight) for node in pair} | {node for node, _ in ends}
        resistors, charge, length = [], defaultdict(float), 0

        def number(node: Node, numbers: dict = numbers) -> int:
            return numbers.setdefault(node, len(numbers) + 1)

        for a, b in straight:
            metal: Metal = rules.wires[a[0]]
            axis = 2 if metal.vertical else 1
            stops = sorted(node for node in corners if (node[0], node[3 - axis]) == (a[0], a[3 - axis])
                           and a[axis] <= node[axis] <= b[axis])
            for one, two in pairwise(stops):
                size = (two[axis] - one[axis]) * rules.pitch[0 if axis == 1 else 1]
                length += size
                resistors.append((number(one), number(two), metal.ohms * size / metal.width))
                for node in (one, two):
                    charge[number(node)] += size / 2000 * wire
        resistors += [(number(a), number(b), rules.cuts[a[0] + 1].ohms) for a, b in ups]
        vias += len(ups) + sum(access is not None for _, access in ends)
        lengths[net], farads[net] = length / 1000, sum(charge.values()) * 1e-15
        places = [pin if k < 0 else f"u{k}:{pin}" for k, pin in terminals[net]]
        lines += [f"*D_NET {names[net]} {sum(charge.values()):.4f}", "*CONN"]
        for (k, pin), place in zip(terminals[net], places, strict=True):
            out = block.ports[pin][0] == "output" if k < 0 else pin in block.cells[k].outputs
            lines.append(f"*{'P' if k < 0 else 'I'} {place} {'O' if out else 'I'}")
        lines += ["*CAP", *(f"{k} {names[net]}:{node} {value:.4f}" for k, (node, value) in enumerate(charge.items(), 1)), "*RES"]
        resistors = [(f"{names[net]}:{a}", f"{names[net]}:{b}", ohms) for a, b, ohms in resistors]
        resistors += [(place, f"{names[net]}:{number(node)}", rules.cuts[0].ohms if access else 0.001)
                      for place, (node, access) in zip(places, ends, strict=True)]
        lines += [f"{k} {a} {b} {ohms:.4f}" for k, (a, b, ohms) in enumerate(resistors, 1)] + ["*END", ""]
    return Wires(lengths, farads, vias, "\n".join(lines))


def netlist_of(block: Block, netlist: Netlist) -> Netlist:
    """The block with its trees, flat, as a netlist of its own."""
    names = block.net_names
    buses: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for port, end in block.ports.items():
        buses[port.split("[")[0]].append(end)
    ports = {port: {"direction": bits[0][0], "bits": [net for _, net in bits]} for port, bits in buses.items()}
    cells = {f"u{k}": {"type": cell.name, "connections": {pin: [net] for pin, net in pins.items()}}
             for k, (cell, pins) in enumerate(zip(block.cells, block.pins, strict=True))}
    heads = []
    for port, row in ports.items():
        most = len(row["bits"]) - 1
        heads.append(f"  {row['direction']} {f'[{most}:0] ' * (most > 0)}{port};")
    own = {net for _, net in block.ports.values()}
    wires = [f"  wire {names[net]};" for net in range(block.nets) if net not in own]
    body = [f"  {cell['type']} {name} (\n" + ",\n".join(
        f"    .{pin}({names[net]})" for pin, (net,) in cell["connections"].items()) + "\n  );" for name, cell in cells.items()]
    text = "\n".join([f"module {block.name}({', '.join(ports)});", *heads, *wires, *body, "endmodule", ""])
    return Netlist(netlist.library, Part(block.name, {"ports": ports, "cells": cells, "netnames": {}}, text), {}, "")


def measure(flat: Netlist, spef: str, pdk: Pdk, clock_mhz: float) -> dict[str, dict]:
    """A flat block's timing by corner, through its wires and its clock's tree, or without `spef` as before placement; empty
    without OpenSTA."""
    found = {}
    for corner in pdk.corners if timing.available() else ():
        found[corner] = timing.analyze(flat, pdk, corner, clock_mhz, spef)
        del found[corner]["blocks"]
    return found
