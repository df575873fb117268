"""Hold: buffers before the inputs that data reach too early through the routed wires."""

from collections import defaultdict
from dataclasses import replace
from math import ceil

import numpy as np

from emamba.base.errors import DesignLimit
from emamba.base.progress import say

from ..netlist.mapping import Netlist
from . import place, wires
from .laid import Laid, routed
from .rules import Rules

ROUNDS = 5
"""Times that buffers are added and the nets routed again at most."""
TRIES = 3
"""Placements that are tried a time, until one can be routed."""
SPARE_NS = 0.12
"""What is added to a delay that lacks, since all wires change (our choice)."""


def repair(laid: Laid, netlist: Netlist, rules: Rules, clock_mhz: float, least_ns: float = 0.0) -> Laid:
    """Adds buffers until no input has less hold slack than `least_ns` at any corner, ROUNDS are over, or no placement can be
    routed; the other cells stay about where they are."""
    buffer = netlist.library.smallest_buffer
    for _ in range(ROUNDS):
        lacks = _lacks(laid, netlist, rules, clock_mhz, least_ns)
        if not lacks:
            break
        say(f"{laid.block.name}: delays {len(lacks):,} inputs for hold")
        block = replace(laid.block, cells=list(laid.block.cells), pins=[dict(pins) for pins in laid.block.pins])
        corners = [laid.placement.corners]
        for (k, pin), count in lacks.items():
            for _ in range(count):
                block.add(buffer, block.pins[k][pin], [(k, pin)])
                corners.append(laid.placement.corners[k:k + 1])
        for seed in range(TRIES):
            try:
                placement = place.again(block, rules, laid.placement, np.vstack(corners), seed)
                laid = routed(block, placement, laid.flat, rules)
                break
            except DesignLimit:  # some wires find no way
                continue
        else:
            break
    return laid


def _lacks(laid: Laid, netlist: Netlist, rules: Rules, clock_mhz: float, least_ns: float) -> dict[tuple[int, str], int]:
    """How many buffers each input lacks, at the corner where it lacks most."""
    found: dict[tuple[int, str], int] = defaultdict(int)
    spef = wires.extract(laid.block, laid.routes, rules).spef
    for corner, row in wires.measure(wires.netlist_of(laid.block, netlist), spef, rules.pdk, clock_mhz).items():
        buffer = rules.pdk.corner(corner).smallest_buffer
        seconds = buffer.delay(buffer.outputs[0], buffer.capacitance(buffer.inputs[0]))
        for end, slack_ns in row.get("early", {}).items():
            cell, _, pin = end.removeprefix("u").partition("/")
            if slack_ns < least_ns and pin:
                count = ceil((least_ns - slack_ns + SPARE_NS) * 1e-9 / seconds)
                found[int(cell), pin] = max(found[int(cell), pin], count)
    return dict(found)
