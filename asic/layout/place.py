"""Placement: where connected cells would like to be, spread evenly over the core, then in rows, with swaps for shorter wires."""

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np

from ..netlist.cell import Cell
from ..netlist.library import Library
from . import native
from .block import Block, grow_trees
from .lef import Macro
from .rules import Rules

UTILIZATION = 0.65
"""Share of the core that cells fill (our choice)."""
ROUNDS, STEPS = 24, 40
"""Times that cells are pulled together and spread, and steps of a solution."""
BROAD = 48
"""Pins from which a net pulls at nothing."""
MOVES, FEW = 300, 20
"""Swaps and moves that are tried of each cell: hot ones, then colder; and only those that make wires shorter."""


@dataclass
class Placement:
    """Lower left corners of the cells in nm from the core's, of which every second row is mirrored; fillers as kind and corner;
    ports as places on the left and right edge."""

    width: int
    rows: int
    row: int
    corners: np.ndarray
    fillers: list[tuple[str, int, int]]
    ports: dict[str, tuple[int, int]]
    length: tuple[float, float]

    @property
    def height(self) -> int:
        return self.rows * self.row

    def mirrored(self, y: int) -> bool:
        return y // self.row % 2 == 1


class _Pull:
    """Nets as springs between their pins, each axis alone: a net's outermost pins hold all others (bound to bound)."""

    def __init__(self, block: Block, offsets: list[dict[str, np.ndarray]]):
        self.movable = len(offsets)
        self.ports = {port: self.movable + k for k, port in enumerate(block.ports)}
        net, cell, offset = [], [], []
        for number, terminals in enumerate(block.terminals()):
            if 1 < len(terminals) <= BROAD:
                for k, pin in terminals:
                    net.append(number)
                    cell.append(k if k >= 0 else self.ports[pin])
                    offset.append(offsets[k][pin] if k >= 0 else np.zeros(2))
        self.net, self.cell, self.offset = np.array(net, int), np.array(cell, int), np.array(offset, float).reshape(-1, 2)

    def solve(self, places: np.ndarray, axis: int, anchors: np.ndarray, strength: float) -> np.ndarray:
        """Coordinates of the movable cells in balance with their anchors; the ports after them stay."""
        at = places[:, axis]
        pins = at[self.cell] + self.offset[:, axis]
        order = np.lexsort((pins, self.net))
        starts = np.flatnonzero(np.diff(self.net[order], prepend=-1))
        sizes = np.diff(np.append(starts, len(order)))
        low, high = np.repeat(starts, sizes), np.repeat(starts + sizes - 1, sizes)
        own = np.arange(len(order))
        a = np.concatenate([own[own != low], own[(own != low) & (own != high)]])
        b = np.concatenate([low[own != low], high[(own != low) & (own != high)]])
        share = np.repeat(1 / np.maximum(sizes - 1, 1), sizes)[a]
        a, b = order[a], order[b]
        weight = share / np.maximum(abs(pins[a] - pins[b]), 500)
        ends, shift = (self.cell[a], self.cell[b]), self.offset[a, axis] - self.offset[b, axis]
        n, total = self.movable, len(places)
        hold = strength / np.maximum(abs(at[:n] - anchors), 500)

        def gather(index: np.ndarray, values: np.ndarray) -> np.ndarray:
            return np.bincount(index, values, total)[:n]

        diagonal = gather(ends[0], weight) + gather(ends[1], weight) + hold
        fixed = at.copy()
        fixed[:n] = 0
        right = (hold * anchors + gather(ends[0], weight * (fixed[ends[1]] - shift))
                 + gather(ends[1], weight * (fixed[ends[0]] + shift)))

        def product(x: np.ndarray) -> np.ndarray:
            x = np.append(x, np.zeros(total - n))
            return diagonal * x[:n] - gather(ends[0], weight * x[ends[1]]) - gather(ends[1], weight * x[ends[0]])

        x = at[:n].copy()
        rest = right - product(x)
        step = rest / diagonal
        level = rest @ step
        for _ in range(STEPS):
            if level <= 0:
                break
            ahead = product(step)
            length = level / (step @ ahead)
            x, rest = x + length * step, rest - length * ahead
            next_level = rest @ (rest / diagonal)
            step, level = rest / diagonal + next_level / level * step, next_level
        return x


def _spread(places: np.ndarray, areas: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The places with as much area everywhere: halves of the cells go to parts of the box of their area, again and again."""
    part, boxes = np.zeros(len(places), int), np.array([box], float)
    while len(boxes) < len(places):
        axis = (boxes[:, 3] - boxes[:, 1] > boxes[:, 2] - boxes[:, 0]).astype(int)
        order = np.lexsort((places[np.arange(len(places)), axis[part]], part))
        of, sums = part[order], np.cumsum(areas[order])
        first, last = np.searchsorted(of, np.arange(len(boxes))), np.searchsorted(of, np.arange(len(boxes)), "right") - 1
        before, whole = sums[first] - areas[order][first], sums[last]
        right = sums - areas[order] / 2 > ((before + whole) / 2)[of]
        right[first], right[last] = False, first[of[last]] < last
        share = np.bincount(of, ~right * areas[order], len(boxes)) / (whole - before)
        halves = np.repeat(boxes, 2, axis=0)
        for k in np.flatnonzero(first < last):
            low, high = axis[k], axis[k] + 2
            halves[2 * k, high] = halves[2 * k + 1, low] = boxes[k, low] + share[k] * (boxes[k, high] - boxes[k, low])
        used, part[order] = np.unique(2 * of + right, return_inverse=True)
        boxes = halves[used]
    return (boxes[part, :2] + boxes[part, 2:]) / 2


def arrange(block: Block, rules: Rules, library: Library, buffer: Cell) -> Placement:
    """Places the block, and on the way the buffers of its trees, which it gets here."""
    macros, row = rules.macros, rules.row
    sinks = sum(1 for cell in block.cells if cell.clock_pin)
    area = sum(macros[cell.name].width for cell in block.cells) * row + sinks / 8 * macros[buffer.name].width * row
    sides = [[port for port, (direction, _) in block.ports.items() if direction == way] for way in ("input", "output")]
    rows = max(2, round(sqrt(area / UTILIZATION) / row), ceil(max(map(len, sides)) * rules.port_pitch / row))
    rows += rows % 2
    columns = max(ceil(area / UTILIZATION / (rows * row) / rules.site), rules.least_columns)
    width, height = columns * rules.site, rows * row
    movable = len(block.cells)
    places = np.tile([width / 2, height / 2], (movable + len(block.ports), 1))
    pull = _Pull(block, _offsets(block, macros))
    areas = np.array([macros[cell.name].width for cell in block.cells], float)
    places[:movable] += np.random.default_rng(1).normal(0, rules.site, (movable, 2))
    anchors, terminals = places[:movable].copy(), block.terminals()
    near = {port: [k for k, _ in terminals[net] if k >= 0 and len(terminals[net]) <= BROAD]
            for port, (_, net) in block.ports.items()}
    for turn in range(ROUNDS):
        if turn < 4:
            for side, x in zip(sides, (0, width), strict=True):
                wish = {port: np.mean(places[near[port], 1]) if turn and near[port] else 0 for port in side}
                for k, port in enumerate(sorted(side, key=wish.get)):
                    places[pull.ports[port]] = x, (k + 0.5) * height / len(side)
        for axis in (0, 1):
            places[:movable, axis] = pull.solve(places, axis, anchors[:, axis], 0.01 * turn + 1e-4)
        anchors = _spread(places[:movable], areas, (0, 0, width, height))
    above = grow_trees(block, library, buffer, lambda k: anchors[k])
    wishes = np.vstack([anchors, *[place[None] for _, place in sorted(above.items())]])
    ports = {port: (-1 if direction == "input" else 1, int(places[pull.ports[port], 1])) for port, (direction, _) in
             block.ports.items()}
    return _in_rows(block, rules, columns, rows, wishes, ports)


def again(block: Block, rules: Rules, before: Placement, corners: np.ndarray, seed: int = 0) -> Placement:
    """The block, which has more cells than in a placement before, in the same core, its cells near to `corners`; a little
    elsewhere for another `seed`."""
    middles = np.array([[rules.macros[cell.name].width, rules.row] for cell in block.cells]) / 2
    shifts = np.random.default_rng(seed).normal(0, rules.site, middles.shape) * (seed > 0)
    wishes = corners + middles + shifts
    return _in_rows(block, rules, before.width // rules.site, before.rows, wishes, before.ports, hot=False)


def _offsets(block: Block, macros: dict[str, Macro]) -> list[dict[str, np.ndarray]]:
    kinds = {kind: _middles(macros[kind]) for kind in {cell.name for cell in block.cells}}
    return [kinds[cell.name] for cell in block.cells]


def _middles(macro: Macro) -> dict[str, np.ndarray]:
    """Of each pin, the middle of its shapes from the cell's middle; y alike, since rows are mirrored."""
    found = {}
    for pin, layers in macro.pins.items():
        boxes = np.array([box for shapes in layers.values() for box in shapes], float).reshape(-1, 4)
        found[pin] = np.array([boxes[:, [0, 2]].mean() - macro.width / 2 if len(boxes) else 0, 0])
    return found


def _in_rows(block: Block, rules: Rules, columns: int, rows: int, wishes: np.ndarray, ports: dict[str, tuple[int, int]],
             hot: bool = True) -> Placement:
    macros, width = rules.macros, columns * rules.site
    sites = np.array([macros[cell.name].width // rules.site for cell in block.cells])
    offsets = _offsets(block, macros)
    starts, cells, dx, dy = [0], [], [], []
    for terminals in block.terminals():
        if 1 < len(terminals) <= BROAD:
            for k, pin in terminals:
                cells.append(k)
                dx.append(offsets[k][pin][0] + macros[block.cells[k].name].width / 2 if k >= 0 else max(0, ports[pin][0]) * width)
                dy.append(rules.row / 2 if k >= 0 else ports[pin][1])
            starts.append(len(cells))
    corners = wishes - np.stack([sites * rules.site / 2, np.full(len(sites), rules.row / 2)], 1)
    columns_of, rows_of, lengths = native.run(
        "place", [columns, rows, rules.site, rules.row, MOVES if hot else FEW, hot], sites, *corners.T, starts, cells, dx, dy)
    x, y = columns_of * rules.site, rows_of * rules.row
    fillers = []
    for number in range(rows):
        members = np.flatnonzero(rows_of == number)
        members = members[np.argsort(columns_of[members])]
        ends = [0, *(columns_of[members] + sites[members])]
        for end, start in zip(ends, [*columns_of[members], columns], strict=True):
            for kind in rules.fill:
                size = macros[kind].width // rules.site
                while start - end >= size:
                    fillers.append((kind, int(end * rules.site), number * rules.row))
                    end += size
    return Placement(width, rows, rules.row, np.stack([x, y], 1), fillers, ports, tuple(float(v) / 1000 for v in lengths))
