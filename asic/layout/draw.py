"""The shapes of a layout, and its GDS: cells, wires, vias, ports, and the supplies' straps with stacks of vias on the rails."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import klayout.db as db

from . import supplies
from .block import Block
from .lef import Box
from .place import Placement
from .route import Node, Routes
from .rules import MARGIN, Rules

NAME = 1
"""The property of an instance in GDS that is its name."""


@dataclass
class Drawing:
    """`shapes`: boxes by layer; `labels`: a layer, a name, and the pin's box."""

    shapes: dict[str, list[Box]] = field(default_factory=lambda: defaultdict(list))
    labels: list[tuple[str, str, Box]] = field(default_factory=list)


def pin_metal(block: Block, rules: Rules) -> dict[str, list[Box]]:
    """The shapes in the pins' metal of every kind of cell that the block has."""
    made, low, layout, found = rules.pdk.layout, rules.metals[0].name, db.Layout(), {}
    if made.gds:
        layout.read(str(rules.pdk.file(made.gds)))
    for kind in {cell.name: None for cell in block.cells}:
        if (cell := layout.cell(kind)) is None:
            found[kind] = rules.macros[kind].shapes(low)
        else:
            shapes = db.Region(cell.begin_shapes_rec(layout.layer(made.streams[low], 0))).merged()
            boxes = [part.bbox() for polygon in shapes.each() for part in polygon.decompose_trapezoids()]
            found[kind] = [(box.left, box.bottom, box.right, box.top) for box in boxes]
    return found


def runs(edges: list[tuple[Node, Node]]) -> tuple[list[tuple[Node, Node]], list[tuple[Node, Node]]]:
    """A net's edges as straight wires, each from end to end, and as vias from below to above."""
    vias = sorted({(min(a, b), max(a, b)) for a, b in edges if a[0] != b[0]})
    wires: list[list[Node]] = []
    steps = {(min(a, b), max(a, b)) for a, b in edges if a[0] == b[0]}
    for a, b in sorted(steps, key=lambda pair: (pair[0][0], pair[0][1] != pair[1][1],
                                                 pair[0][1:] if pair[0][1] == pair[1][1] else pair[0][:0:-1])):
        if wires and wires[-1][1] == a and (wires[-1][0][1] == b[1]) == (a[1] == b[1]):
            wires[-1][1] = b
        else:
            wires.append([a, b])
    return [(a, b) for a, b in wires], vias


def draw(block: Block, placement: Placement, routes: Routes, rules: Rules) -> Drawing:
    found = Drawing()
    names = block.net_names

    def point(node: Node) -> tuple[int, int]:
        return (node[1] - MARGIN) * rules.pitch[0], (node[2] - MARGIN) * rules.pitch[1]

    def square(layer: int, x: int, y: int) -> None:
        half = rules.cuts[layer].side // 2
        found.shapes[rules.cuts[layer].name].append((x - half, y - half, x + half, y + half))

    for net, edges in routes.edges.items():
        wires, vias = runs(edges)
        for a, b in wires:
            metal = rules.wires[a[0]]
            found.shapes[metal.name].append(rules.wire(metal, *point(a), *point(b)))
        for below, _ in vias:
            square(below[0] + 1, *point(below))
        for node, access in routes.ends[net]:
            x, y = point(node)
            if access is None:
                box = rules.wire(rules.wires[node[0]], x, y, x, y)
                found.shapes[rules.wires[node[0]].name].append(box)
                found.labels.append((rules.wires[node[0]].name, names[net], box))
                continue
            at_x, at_y, (a, b) = x + access.dx, y + access.dy, access.pad
            found.shapes[rules.metals[0].name].append((at_x - a, at_y - b, at_x + a, at_y + b))
            square(0, at_x, at_y)
            found.shapes[rules.wires[0].name].append(rules.wire(rules.wires[0], at_x, at_y, x, y))
    boxes, labels = supplies.shapes(rules, placement, routes.stacks)
    for layer, row in boxes.items():
        found.shapes[layer] += row
    found.labels += labels
    return found


def write_gds(path: Path, block: Block, placement: Placement, drawing: Drawing, rules: Rules) -> None:
    """Writes the layout, with the process' own cells, or where it has no GDS of them with their shapes of LEF."""
    made, layout = rules.pdk.layout, db.Layout()
    if made.gds:
        layout.read(str(rules.pdk.file(made.gds)))
    layout.dbu = 0.001
    top = layout.create_cell(block.name)

    def layer(name: str, datatype: int = 0) -> int:
        return layout.layer(made.streams[name], datatype)

    def cell(kind: str) -> int:
        if layout.cell(kind) is None:
            abstract = layout.create_cell(kind)
            for metal in rules.metals:
                for box in rules.macros[kind].shapes(metal.name):
                    abstract.shapes(layer(metal.name)).insert(db.Box(*box))
        return layout.cell(kind).cell_index()

    placed = [(f"u{k}", one.name, *map(int, placement.corners[k])) for k, one in enumerate(block.cells)]
    placed += [(f"fill{k}", *filler) for k, filler in enumerate(placement.fillers)]
    for name, kind, x, y in placed:
        flip = db.Trans(db.Trans.M0, x, y + placement.row) if placement.mirrored(y) else db.Trans(x, y)
        top.insert(db.CellInstArray(cell(kind), flip)).set_property(NAME, name)
    for name, boxes in drawing.shapes.items():
        for box in boxes:
            top.shapes(layer(name)).insert(db.Box(*box))
    for name, text, box in drawing.labels:
        middle = db.Box(*box).center()
        top.shapes(layer(name, made.pin)).insert(db.Box(*box))
        top.shapes(layer(name, made.label)).insert(db.Text(text, db.Trans(middle.x, middle.y)))
    top.shapes(layout.layer(made.outline, 4)).insert(db.Box(0, 0, placement.width, placement.height))
    for other in [one for one in layout.top_cells() if one.cell_index() != top.cell_index()]:
        other.prune_cell()
    options = db.SaveLayoutOptions()
    options.gds2_write_timestamps = False
    layout.write(str(path), options)
