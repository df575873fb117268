"""Energy of a mapped netlist from the toggles of its gate-level run.

A toggle costs half of C·V² of its net, pins and wires, and the cell's internal energy at that load from the library's tables, at
a typical input slew. An input's toggle that changes no output costs the table of that input. A macro's cycle costs what the
tables of its clocks say of a write, a read, or neither. The clock tree is estimated: a buffer for every SINKS inputs that a
clock net has, in levels. Leakage lasts for the whole frame.
"""

from collections import defaultdict
from math import ceil

import numpy as np

from ..check.gates import STREAMS, Flat, Run, loads
from ..netlist.cell import Cell
from ..netlist.library import Library
from ..netlist.pdk import Pdk

SINKS = 16
"""Inputs that a buffer of the clock tree drives (our choice)."""


def analyze(flat: Flat, run: Run, library: Library, pdk: Pdk, clock_mhz: float, sequences: int, *, load: np.ndarray | None = None,
            tree: bool = True) -> dict:
    """J per sequence, in total, by kind and by block; `sequences` pass in the window of `run`. `load` in place of the chip's;
    without `tree`, clocks have the buffers among the cells alone."""
    share = STREAMS * sequences
    toggles = run.toggles.astype(float) / share
    load = loads(flat, pdk) if load is None else load
    half = library.volts ** 2 / 2
    blocks: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    by_cell: dict[str, list[int]] = defaultdict(list)
    for k, cell in enumerate(flat.cells):
        by_cell[cell.name].append(k)
    seconds = run.cycles / sequences / (clock_mhz * 1e6)
    for name, members in by_cell.items():
        cell = library.cells[name]
        internal, switched, clock = _energies(cell, members, flat, toggles, load, half)
        kind = {"gate": "gates", "ff": "registers", "latch": "registers", "clock_gate": "clock", "macro": "macros"}[cell.kind]
        for k, *parts in zip(members, internal, switched, clock, strict=True):
            row = blocks[flat.blocks[k]]
            row[kind] += parts[0] + (0 if cell.kind == "clock_gate" else parts[1])
            row["clock"] += parts[2] + (parts[1] if cell.kind == "clock_gate" else 0)
            row["leakage"] += cell.leakage * seconds
    macros = [k for k, cell in enumerate(flat.cells) if cell.kind == "macro"]
    for k, counts in zip(macros, run.accesses / share, strict=True):
        cell = flat.cells[k]
        for port, count in zip((cell.macro.write, cell.macro.read), counts, strict=True):
            blocks[flat.blocks[k]]["macros"] += (count * cell.cycle_energy(port, True)
                                                 + (run.cycles / sequences - count) * cell.cycle_energy(port, False))
    for block, joules in (_clock_tree(flat, toggles, library, pdk, half) if tree else {}).items():
        blocks[block]["clock"] += joules
    kinds = {kind: sum(row[kind] for row in blocks.values()) for kind in ("gates", "registers", "macros", "clock", "leakage")}
    return {"total": sum(kinds.values()), "kinds": kinds, "blocks": {name: sum(row.values()) for name, row in blocks.items()}}


def _energies(cell: Cell, members: list[int], flat: Flat, toggles: np.ndarray, load: np.ndarray, half: float):
    """The internal energy of each member, and the energy of its outputs' nets and of its clock pin."""
    ins = np.array([flat.inputs[k] for k in members]).reshape(len(members), -1)
    outs = np.array([flat.outputs[k] for k in members]).reshape(len(members), -1)
    internal, switched, clock = np.zeros((3, len(members)))
    changed = np.zeros(len(members))
    for pin, nets in zip(cell.outputs, outs.T, strict=True):
        count = np.where(nets >= 0, toggles[nets], 0)
        charge = load[nets] * (nets >= 0)
        internal += count * np.interp(charge, *cell.output_energy(pin))
        switched += count * charge * half
        changed += count
    counts = toggles[ins] if ins.size else np.zeros((len(members), 0))
    beat = cell.clock_pin
    if cell.kind == "gate" and counts.size:
        without = np.maximum(0, 1 - changed / np.maximum(counts.sum(axis=1), 1e-30))
        internal += without * (counts * [cell.input_energy(pin) for pin in cell.inputs]).sum(axis=1)
    for pin, count in zip(cell.inputs, counts.T, strict=True):
        if cell.macro and pin in cell.clock_pins:  # counted by its accesses
            continue
        if pin == beat:
            clock += count * cell.input_energy(pin)
        elif cell.kind != "gate":
            internal += count * cell.input_energy(pin)
    return internal, switched, clock


def _clock_tree(flat: Flat, toggles: np.ndarray, library: Library, pdk: Pdk, half: float) -> dict[str, float]:
    """The energy of the buffers between a clock net's driver and its sinks, and of the root's sinks, by the sinks' block."""
    buffer = library.cells[pdk.clock_buffer]
    pin, table = buffer.inputs[0], buffer.output_energy(buffer.outputs[0])
    sinks: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for k, cell in enumerate(flat.cells):
        for clock in cell.clock_pins:
            sinks[flat.inputs[k][cell.inputs.index(clock)]].append((k, clock))
    found: dict[str, float] = defaultdict(float)
    root, = flat.ports["clk"]
    for net, members in sinks.items():
        each = np.mean([flat.cells[k].capacitance(clock) for k, clock in members])
        buffers, level = 0, len(members)
        while level > SINKS:
            level = ceil(level / SINKS)
            buffers += level
        one = float(np.interp(SINKS * each, *table)) + half * buffer.capacitance(pin)
        charge = half * each * len(members) if net == root else 0  # of other nets it counts at the clock gate that drives them
        for k, _ in members:
            found[flat.blocks[k]] += toggles[net] * (buffers * one + charge) / len(members)
    return found
