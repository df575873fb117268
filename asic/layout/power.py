"""The energy of a block that is laid out, from the toggles of the chip's gate-level run: with wires as assumed before placement
and an estimated clock tree, and with the wires and the trees that it has."""

import numpy as np

from ..check.gates import Flat, Run, sinks
from ..measure import energy
from ..netlist.library import Library
from ..netlist.pdk import Pdk
from .block import Block
from .wires import Wires


def compare(block: Block, wires: Wires, flat: Flat, chip: tuple[Flat, Run], library: Library, pdk: Pdk, clock_mhz: float
            ) -> dict[str, float]:
    """J per sequence, `assumed_j` and `routed_j`.

    Parameters
    ----------
    block, wires
        as laid out
    flat
        the block without its trees, as `asic.layout.block.extract` gives it
    chip
        the chip's cells, and its run over one sequence's period
    library, pdk, clock_mhz
        the cells, the process and its clock
    """
    whole, run = chip
    members = [k for k, name in enumerate(whole.blocks) if name == block.name]
    toggles = np.zeros(block.nets, run.toggles.dtype)
    for own, k in enumerate(members):
        for net, outer in zip((*flat.inputs[own], *flat.outputs[own]), (*whole.inputs[k], *whole.outputs[k]), strict=True):
            if net >= 0:
                toggles[net] = run.toggles[outer]
    before = energy.analyze(flat, _of(run, toggles[:flat.nets]), library, pdk, clock_mhz, 1, load=sinks(flat))
    added = range(len(flat.cells), len(block.cells))
    before_it = {block.pins[k][block.cells[k].outputs[0]]: block.pins[k][block.cells[k].inputs[0]] for k in added}
    for net in before_it:
        source = net
        while source in before_it:
            source = before_it[source]
        toggles[net] = toggles[source]
    laid = Flat(block.cells, [block.name] * len(block.cells), [], [[pins[pin] for pin in cell.inputs] for cell, pins in
                zip(block.cells, block.pins, strict=True)], [[pins.get(pin, -1) for pin in cell.outputs] for cell, pins in
                zip(block.cells, block.pins, strict=True)], block.nets, flat.ports)
    load = sinks(laid)
    for cell, nets in zip(laid.cells, laid.inputs, strict=True):
        for net in nets:
            load[net] -= cell.library.wire
    for net, farads in wires.farads.items():
        load[net] += farads
    after = energy.analyze(laid, _of(run, toggles), library, pdk, clock_mhz, 1, load=load, tree=False)
    return {"assumed_j": before["total"], "routed_j": after["total"]}


def _of(run: Run, toggles: np.ndarray) -> Run:
    return Run(run.output, toggles, np.zeros((0, 2)), run.cycles)
