"""Routing: where vias may stand on the cells' pins, and the wires of all nets on a grid, by negotiated congestion."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

import klayout.db as db
import numpy as np

from emamba.base.errors import DesignLimit, InputError

from . import native, supplies
from .block import Block
from .lef import Box
from .place import Placement
from .rules import GRID, MARGIN, Rules
from .supplies import Stack

SWEEPS = 60
"""Times that nets which meet are routed again at most."""
ENOUGH = 8
"""Places for a via that a pin offers at most."""
Node = tuple[int, int, int]


@dataclass(frozen=True)
class Access:
    """A via on a pin: its point of the grid, its distance from that in nm, and half the sides of its pad in the pins' metal."""

    i: int
    j: int
    dx: int
    dy: int
    pad: tuple[int, int]


@dataclass
class Routes:
    """Of every net that is routed, the edges between points (metal, i, j), and of its terminals the point, with the via on the
    pin or None at a port. `stacks` join rails and straps. `sweeps`: times that nets were routed until no two met."""

    edges: dict[int, list[tuple[Node, Node]]]
    ends: dict[int, list[tuple[Node, Access | None]]]
    stacks: list[Stack]
    sweeps: int


def accesses(kind: str, metal: list[Box], rules: Rules) -> dict[str, list[Access]]:
    """The vias that may stand on each signal pin of a cell, whose shapes in the pins' metal are `metal`: first those that stay on
    the grid and within the pin."""
    macro, low, cut = rules.macros[kind], rules.metals[0], rules.cuts[0]
    px, py = rules.pitch
    shapes = db.Region([db.Box(*box) for box in metal]).merged()
    usual = shapes.space_check(low.spacing).count()
    half = cut.side // 2
    pads = [(half + cut.below[a], half + cut.below[1 - a]) for a in (1, 0)]
    aside = min(70, rules.wires[0].pitch - rules.wires[0].width - rules.wires[0].spacing)

    def around(x: int, y: int, a: int, b: int) -> Box:
        return x - a, y - b, x + a, y + b

    def found(boxes: list[Box], shifts: range, heights: Iterable[int]) -> Iterator[tuple[float, Access]]:
        left, right = min(box[0] for box in boxes), max(box[2] for box in boxes)
        for i, dx, y in product(range(max(0, left // px), min(macro.width, right) // px + 2), shifts, heights):
            x, j = i * px + dx, round(y / py)
            if not _covered(around(x, y, half, half), boxes):
                continue
            for pad in pads:
                if x - pad[0] < low.spacing // 2 or x + pad[0] > macro.width - low.spacing // 2:
                    continue
                inside = _covered(around(x, y, *pad), boxes)
                if inside or (shapes + db.Region(db.Box(*around(x, y, *pad)))).merged().space_check(low.spacing).count() <= usual:
                    yield abs(y - j * py) + 2 * abs(dx) + 100 * (not inside), Access(i, j, dx, y - j * py, pad)

    result = {}
    for pin, layers in macro.pins.items():
        if pin not in (rules.pdk.layout.power, rules.pdk.layout.ground) and (boxes := layers.get(low.name)):
            low_y, high_y = min(box[1] for box in boxes), max(box[3] for box in boxes)
            best = list(found(boxes, range(1), range(py, macro.height, py))) or list(found(
                boxes, range(-aside, aside + 1, aside or 1), range(-(-low_y // GRID) * GRID, high_y + 1, 3 * GRID)))
            best.sort(key=lambda one: one[0], reverse=True)
            places = {(access.i, access.j, access.dx, access.dy): access for _, access in best}  # of each the best pad
            result[pin] = list(places.values())[:-ENOUGH - 1:-1]
    return result


def _covered(box: Box, boxes: list[Box]) -> bool:
    """Whether boxes leave nothing of a box."""
    left = [box]
    for x1, y1, x2, y2 in boxes:
        pieces = []
        for a, b, c, d in left:
            if a >= x2 or c <= x1 or b >= y2 or d <= y1:
                pieces.append((a, b, c, d))
                continue
            if a < x1:
                pieces.append((a, b, x1, d))
            if c > x2:
                pieces.append((x2, b, c, d))
            if b < y1:
                pieces.append((max(a, x1), b, min(c, x2), y1))
            if d > y2:
                pieces.append((max(a, x1), y2, min(c, x2), d))
        left = pieces
    return not left


def route(block: Block, placement: Placement, offers: dict[str, dict[str, list[Access]]], rules: Rules) -> Routes:
    """Routes all nets of more than one pin; refuses a block whose wires keep meeting."""
    px, py = rules.pitch
    nx, ny = (size // step + 2 * MARGIN + 1 for size, step in ((placement.width, px), (placement.height, py)))
    tracks = _ports(placement, ny, py)
    numbers, choices, terms, ends, points, beside = [], [], [0], [0], [], []
    for net, terminals in enumerate(block.terminals()):
        if len(terminals) < 2:
            continue
        for k, pin in terminals:
            if k < 0:
                found = [((1, 1 if tracks[pin][0] < 0 else nx - 2, tracks[pin][1]), None)]
            else:
                x, y = map(int, placement.corners[k])
                high, flipped = rules.row // py, placement.mirrored(y)
                found = []
                for a in offers[block.cells[k].name].get(pin, ()):
                    way = Access(a.i, high - a.j, a.dx, -a.dy, a.pad) if flipped else a
                    found.append(((0, x // px + way.i + MARGIN, y // py + way.j + MARGIN), way))
                if not found:
                    raise InputError(f"no via fits on the pin {pin} of {block.cells[k].name}; drop the cell in the PDK's "
                                     "description")
            for (layer, i, j), way in found:
                points.append((layer * ny + j) * nx + i)
                beside.append((layer * ny + j + (1 if way.dy > 0 else -1)) * nx + i if way and way.dy else -1)
            choices.append(found)
            ends.append(len(points))
        numbers.append(net)
        terms.append(len(choices))
    only = {found[0][0][1:] for found in choices if len(found) == 1 and found[0][0][0] == 0}
    stacks, blocked = supplies.stacks(rules, placement, only)
    nowhere = [(layer * ny + j) * nx + i for layer, i, j in sorted(blocked)]
    edges, starts, chosen, (sweeps, left) = native.run("route", [nx, ny, len(rules.wires), SWEEPS], nowhere, terms, ends, points,
                                                       beside)
    if left:
        raise DesignLimit(f"--layout: {left} points of {block.name} are still wanted by several nets after {sweeps} sweeps; "
                          "choose another block")

    def node(point: int) -> Node:
        return int(point // (nx * ny)), int(point % nx), int(point // nx % ny)

    routed, at = {}, {}
    for n, net in enumerate(numbers):
        pairs = edges[starts[n]:starts[n + 1]].reshape(-1, 2)
        routed[net] = [(node(a), node(b)) for a, b in pairs]
        at[net] = [choices[t][chosen[t]] for t in range(terms[n], terms[n + 1])]
    return Routes(routed, at, stacks, int(sweeps))


def _ports(placement: Placement, ny: int, py: int) -> dict[str, tuple[int, int]]:
    """A track of its own for every port, on its side and near its wish."""
    found = {}
    for side in (-1, 1):
        ports = sorted((y, port) for port, (way, y) in placement.ports.items() if way == side)
        tracks = np.array([round(y / py) + MARGIN for y, _ in ports], int)
        for k in range(1, len(tracks)):
            tracks[k] = max(tracks[k], tracks[k - 1] + 1)
        found |= {port: (side, int(track)) for (_, port), track in zip(ports, np.minimum(
            tracks, ny - 1 - np.arange(len(tracks))[::-1]), strict=True)}
    return found
