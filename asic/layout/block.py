"""A block of a mapped chip, flat, as it is laid out; and the trees of buffers for its clock and reset."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from emamba.base.errors import DesignLimit, InputError, SettingError

from ..check.gates import Flat, flatten
from ..netlist.cell import Cell
from ..netlist.library import Library
from ..netlist.mapping import Netlist

MOST_CELLS = 10_000
"""Cells of the largest block that is laid out (our choice)."""
SINKS, GATED = 16, 4
"""Inputs that a buffer of a tree drives, and that a clock gate drives without one (our choice)."""


@dataclass
class Block:
    """Cell k is `cells[k]`, its pins are on the nets `pins[k]`; `ports` maps a port's bits to direction and net."""

    name: str
    cells: list[Cell]
    pins: list[dict[str, int]]
    ports: dict[str, tuple[str, int]]
    nets: int
    clocks: frozenset[int] = frozenset()

    def terminals(self) -> list[list[tuple[int, str]]]:
        """Of every net, its pins: cell and pin, or −1 and a port."""
        found: list[list[tuple[int, str]]] = [[] for _ in range(self.nets)]
        for k, pins in enumerate(self.pins):
            for pin, net in pins.items():
                found[net].append((k, pin))
        for port, (_, net) in self.ports.items():
            found[net].append((-1, port))
        return found

    def add(self, cell: Cell, net: int, sinks: list[tuple[int, str]]) -> int:
        """Puts a buffer between a net and inputs of cells; returns its number, its output is on the last net."""
        self.cells.append(cell)
        self.pins.append({cell.inputs[0]: net, cell.outputs[0]: self.nets})
        for k, pin in sinks:
            self.pins[k][pin] = self.nets
        self.nets += 1
        return len(self.cells) - 1

    @property
    def net_names(self) -> list[str]:
        names = [f"n{net}" for net in range(self.nets)]
        for port, (_, net) in self.ports.items():
            names[net] = port
        return names


def choose(netlist: Netlist, name: str | None) -> str:
    """The block of that name, or the largest that fits; refuses others."""
    sizes = {block: row["cells"] for block, row in netlist.report()["blocks"].items() if block != "top" and not row["macros"]}
    if name is None:
        fitting = [block for block in sizes if sizes[block] <= MOST_CELLS]
        if not fitting:
            raise DesignLimit(f"no block has at most {MOST_CELLS:,} cells, the most that are laid out here; give a token more "
                              "cycles with --cycles-per-token")
        return max(fitting, key=sizes.get)
    if name not in sizes:
        raise SettingError(f"--layout {name}: there is no such block without macros; choose one of {', '.join(sorted(sizes))}")
    if sizes[name] > MOST_CELLS:
        raise DesignLimit(f"--layout {name}: the block has {sizes[name]:,} cells, and at most {MOST_CELLS:,} are laid out here; "
                          "choose a smaller block, or lay out the chip by OpenROAD as README.txt says")
    return name


def extract(netlist: Netlist, name: str) -> tuple[Block, Flat]:
    """The block, and its cells as gate-level simulation numbers them: the first cells and nets of both are the same."""
    part = netlist.parts[netlist.top.cells[name]["type"]]
    flat = flatten(Netlist(netlist.library, part, netlist.parts, ""))
    ports, seen = {}, {}
    for port, row in part.netlist["ports"].items():
        for bit, net in enumerate(flat.ports[port]):
            label = port if len(row["bits"]) == 1 else f"{port}[{bit}]"
            if net in seen:
                raise InputError(f"{name}: the ports {seen[net]} and {label} are one net, which a layout cannot tell apart; lay "
                                 "out another block")
            seen[net], ports[label] = label, (row["direction"], net)
    pins = [{pin: net for pin, net in zip((*cell.inputs, *cell.outputs), (*ins, *outs), strict=True) if net >= 0}
            for cell, ins, outs in zip(flat.cells, flat.inputs, flat.outputs, strict=True)]
    return Block(name, list(flat.cells), pins, ports, flat.nets), flat


def grow_trees(block: Block, library: Library, buffer: Cell, at: Callable[[int], np.ndarray]) -> dict[int, np.ndarray]:
    """Adds buffers between clk and rst and their sinks; returns the place of each, the middle of what it drives.

    All flip-flops are as many levels from clk: a clock gate counts as a level, and joins the tree above the levels that its own
    sinks need."""
    terminals, places, clocks = block.terminals(), {}, set()

    def place(k: int) -> np.ndarray:
        return places[k] if k in places else at(k)

    def tree(net: int, direct: int, clock: bool) -> int:
        heights: dict[tuple[int, str], int] = {}
        for k, pin in terminals[net]:
            if k < 0 or pin in block.cells[k].outputs:
                continue
            cell = block.cells[k]
            gate = clock and cell.kind == "clock_gate" and pin == cell.clock_pin
            heights[k, pin] = 1 + tree(block.pins[k][cell.outputs[0]], GATED, True) if gate else 0
        if clock:
            clocks.add(net)
        items, level = [], 0
        while True:
            items += [sink for sink, height in heights.items() if height == level]
            if level >= max(heights.values(), default=0) and len(items) <= direct:
                return level
            above = []
            for group in _clusters(items, place):
                if clock:
                    clocks.add(block.nets)
                k = block.add(buffer, net, group)
                places[k] = np.mean([place(sink) for sink, _ in group], axis=0)
                above.append((k, buffer.inputs[0]))
            items, level = above, level + 1

    for port, clock in (("clk", True), ("rst", False)):
        if port in block.ports:
            tree(block.ports[port][1], 1 if clock else SINKS, clock)
    block.clocks = frozenset(clocks)
    return places


def _clusters(items: list, place: Callable[[int], np.ndarray]) -> list[list]:
    """Groups of neighbours of at most SINKS, of equal sizes."""
    if len(items) <= SINKS:
        return [items]
    points = np.array([place(k) for k, _ in items])
    order = np.argsort(points[:, np.argmax(np.ptp(points, axis=0))], kind="stable")
    half = len(items) // 2
    return [group for part in (order[:half], order[half:]) for group in _clusters([items[i] for i in part], place)]
