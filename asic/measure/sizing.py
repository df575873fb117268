"""Drive strengths before placement: a cell that is slow at its load becomes the smallest one of the same function that is not;
blocks that are still slow are mapped for speed.

ABC sizes within a block, where it takes every register for a strong driver and does not see what an output drives.
"""

from collections import defaultdict

from ..check.gates import Flat, flatten, loads
from ..netlist import mapping
from ..netlist.cell import Cell
from ..netlist.library import Library
from ..netlist.mapping import Netlist
from ..netlist.pdk import Pdk
from . import timing

SHARE = 0.045
"""Of the clock period, what a cell may take at its load (our choice)."""
PASSES = 3
"""A larger cell loads those before it more."""


def implement(verilog: str, pdk: Pdk, clock_mhz: float, *, gated: bool = True) -> tuple[Netlist, Flat, dict[str, dict]]:
    """Maps a chip, sizes its cells by their loads, and maps blocks that miss the clock for speed.

    Returns
    -------
    the netlist, its cells over one numbering of nets, and the timing by corner, which is empty without OpenSTA
    """
    def sized(fast: list[str]) -> tuple[Netlist, Flat]:
        netlist = mapping.implement(verilog, pdk, clock_mhz, gated=gated, fast=fast)
        flat = flatten(netlist)
        resize(netlist, flat, pdk, clock_mhz)
        return netlist, flat

    netlist, flat = sized([])
    if not timing.available():
        return netlist, flat, {}
    typical = timing.analyze(netlist, pdk, "typical", clock_mhz)
    if slow := [name for name, slack in typical["blocks"].items() if slack < 0]:
        netlist, flat = sized(slow)
        typical = timing.analyze(netlist, pdk, "typical", clock_mhz)
    return netlist, flat, {name: typical if name == "typical" else timing.analyze(netlist, pdk, name, clock_mhz)
                           for name in pdk.corners}


def resize(netlist: Netlist, flat: Flat, pdk: Pdk, clock_mhz: float) -> None:
    """Changes cells of `netlist` and of its `flat` form."""
    limit, siblings, changed = SHARE * 1e-6 / clock_mhz, _siblings(netlist.library), {}
    for _ in range(PASSES):
        load = loads(flat, pdk)
        wanted: dict[tuple[str, str], Cell] = {}
        for k, cell in enumerate(flat.cells):
            choices = siblings[cell.name]
            if len(choices) < 2:
                continue
            farads = [load[net] if net >= 0 else 0.0 for net in flat.outputs[k]]
            if _delay(cell, farads) > limit:
                best = (next((choice for choice in choices if _delay(choice, farads) <= limit), None)
                        or min(choices, key=lambda choice: _delay(choice, farads)))
                if best.area > wanted.get(flat.places[k], cell).area:
                    wanted[flat.places[k]] = best
        for k, place in enumerate(flat.places):
            flat.cells[k] = wanted.get(place, flat.cells[k])
        changed |= wanted
        if not wanted:
            break
    by_part = defaultdict(dict)
    for (part, name), cell in changed.items():
        by_part[part][name] = cell.name
    for part in (netlist.top, *netlist.parts.values()):
        part.exchange(by_part[part.name])


def _siblings(library: Library) -> dict[str, list[Cell]]:
    """The cells of the same function by name, smallest first."""
    alike = defaultdict(list)
    for cell in sorted(library.cells.values(), key=lambda cell: cell.area):
        alike[_function(cell)].append(cell)
    return {cell.name: alike[_function(cell)] for cell in library.cells.values()}


def _function(cell: Cell) -> tuple:
    """A key that exchangeable cells share; only gates and flip-flops are exchangeable."""
    if cell.kind not in ("gate", "ff"):
        return (cell.name,)
    state = cell.state
    stored = (state.get("clocked_on"), state.get("next_state"), state.get("preset"), state.get("clear")) if state else ()
    return cell.kind, tuple(cell.inputs), stored, tuple((pin, cell.pins[pin].get("function")) for pin in cell.outputs)


def _delay(cell: Cell, farads: list[float]) -> float:
    return max(cell.delay(pin, load) for pin, load in zip(cell.outputs, farads, strict=True))
