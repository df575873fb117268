"""Checks a GDS by what is in it alone: which pins its shapes connect, against the netlist, and widths, spacings, areas and
enclosures of its metals and cuts, against the process' LEF."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import klayout.db as db

from .block import Block
from .draw import NAME
from .rules import Rules

TILE_UM, BORDER_UM = 60, 3
"""Tiles that widths and spacings are measured in, and what they see around them: more than any spacing."""
NAMED = 5
"""Faults of a kind that are named."""


@dataclass
class Checked:
    """What was compared and measured, and what is wrong; nothing is, where both lists are empty."""

    pins: int
    nets: int
    shapes: int
    connections: list[str]
    geometry: list[str]


def check(path: Path, block: Block, rules: Rules) -> Checked:
    layout = db.Layout()
    layout.read(str(path))
    top = layout.top_cell()
    regions = {layer.name: db.Region(top.begin_shapes_rec(layout.layer(rules.pdk.layout.streams[layer.name], 0))).merged()
               for layer in (*rules.metals, *rules.cuts)}
    shapes = sum(region.count() for region in regions.values())
    pins, nets, connections = _connections(layout, top, regions, block, rules)
    return Checked(pins, nets, shapes, connections, list(_geometry(top, regions, rules)))


def _geometry(top: db.Cell, regions: dict[str, db.Region], rules: Rules) -> Iterator[str]:
    def faults(what: str, found: db.EdgePairs | db.Region) -> list[str]:
        boxes = [one.bbox() for one in found.each()]
        return [f"{what}: {len(boxes)}, the first at ({boxes[0].left / 1000:.3f}, {boxes[0].bottom / 1000:.3f}) µm"] \
            if boxes else []

    for metal in rules.metals:
        region, layer = regions[metal.name], top.layout().layer(rules.pdk.layout.streams[metal.name], 0)
        yield from faults(f"{metal.name} narrower than {metal.width} nm", _tiled(top, layer, f"width_check({metal.width})"))
        yield from faults(f"{metal.name} nearer than {metal.spacing} nm", _tiled(top, layer, f"space_check({metal.spacing})"))
        yield from faults(f"{metal.name} smaller than its least area", region.with_area(0, metal.area, False))
    for k, cut in enumerate(rules.cuts):
        region = regions[cut.name]
        square = cut.side * cut.side
        yield from faults(f"{cut.name} of another size", region.with_area(square, square + 1, True)
                          + region.with_bbox_max(cut.side, cut.side + 1, True))
        yield from faults(f"{cut.name} nearer than {cut.spacing} nm", region.space_check(cut.spacing))
        for metal, around in ((rules.metals[k], cut.below[0]), (rules.metals[k + 1], cut.above[0])):
            yield from faults(f"{cut.name} not enclosed by {metal.name}", region.sized(around) - regions[metal.name])


def _tiled(top: db.Cell, layer: int, what: str) -> db.EdgePairs:
    """A check of a layer, tile by tile: a rail and all that touches it is one polygon, in which every edge would meet every
    other."""
    found, tiles, region = db.EdgePairs(), db.TilingProcessor(), db.Region(top.begin_shapes_rec(layer))
    region.flatten()
    tiles.tile_size(TILE_UM, TILE_UM)
    tiles.tile_border(BORDER_UM, BORDER_UM)
    tiles.input("region", region)
    tiles.output("found", found)
    tiles.queue(f"_output(found, region.{what})")
    tiles.execute("check")
    return found


class _Joined:
    """Sets that grow together."""

    def __init__(self):
        self.above: list[int] = []

    def add(self) -> int:
        self.above.append(len(self.above))
        return len(self.above) - 1

    def find(self, k: int) -> int:
        while self.above[k] != k:
            self.above[k] = k = self.above[self.above[k]]
        return k

    def join(self, found: list[int]) -> int:
        for other in found[1:]:
            self.above[self.find(other)] = self.find(found[0])
        return self.find(found[0]) if found else self.add()


def _connections(layout: db.Layout, top: db.Cell, regions: dict[str, db.Region], block: Block, rules: Rules
                 ) -> tuple[int, int, list[str]]:
    joined, scratch, faults = _Joined(), db.Layout(), []
    index = scratch.create_cell("index")
    polygons = {}
    for k, metal in enumerate(rules.metals):
        polygons[metal.name] = shapes = index.shapes(scratch.layer(k + 1, 0))
        for polygon in regions[metal.name].each():
            number = joined.add()
            for part in [polygon] if polygon.is_box() else polygon.decompose_trapezoids():
                shapes.insert(part.bbox(), number)  # all edges are along the axes, so a part is its bounds

    def at(metal: str, box: db.Box) -> list[int]:
        return [shape.prop_id for shape in polygons[metal].each_touching(box)]

    for k, cut in enumerate(rules.cuts):
        for polygon in regions[cut.name].each():
            joined.join([number for metal in rules.metals[k:k + 2] for number in at(metal.name, polygon.bbox())])
    made, names = rules.pdk.layout, block.net_names
    kinds = {f"u{k}": (cell.name, pins) for k, (cell, pins) in enumerate(zip(block.cells, block.pins, strict=True))}
    missing, pins, inner_of = set(kinds), 0, {}
    meant: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for instance in top.each_inst():
        name, kind = instance.property(NAME), instance.cell.name
        own = kinds.get(name, (kind, {}))
        if own[0] != kind or (name not in kinds and kind not in made.fill):
            faults.append(f"{name} is a {kind}, which the netlist does not say")
            continue
        missing.discard(name)
        wanted = {pin: names[net] for pin, net in own[1].items()} | {made.power: made.power, made.ground: made.ground}
        if kind not in inner_of:
            inner_of[kind] = _inner(kind, rules)
        for pin, layers in rules.macros[kind].pins.items():
            found = [number for layer, boxes in layers.items() if layer in polygons for box in boxes
                     for number in at(layer, instance.trans * db.Box(*box))]
            if found:
                pins += 1
                meant[wanted.get(pin, f"{name}/{pin}")].append((joined.join(found), f"{name}/{pin}"))
        for k, box in enumerate(inner_of[kind]):
            meant[f"{name}'s inner shape {k}"].append((joined.join(at(rules.metals[0].name, instance.trans * box)), name))
    faults += [f"{name} is missing" for name in sorted(missing)]
    for metal in rules.metals:
        for shape in top.shapes(layout.layer(made.streams[metal.name], made.label)).each():
            point = shape.text.trans.disp
            if found := at(metal.name, db.Box(point.x, point.y, point.x, point.y)):
                meant[shape.text_string].append((joined.join(found), f"the label {shape.text_string}"))
    absent = [port for port, (_, net) in block.ports.items() if port not in meant and len(_sinks(block, net)) > 0]
    faults += [f"the port {port} has no label" for port in absent]
    owner: dict[int, str] = {}
    opens, shorts = [], []
    for net, ends in meant.items():
        sets = {joined.find(number): place for number, place in reversed(ends)}
        if len(sets) > 1:
            opens.append(f"{net} is open between {' and '.join(list(sets.values())[:2])}")
        shorts += [f"{net} and {owner[number]} are one at {place}" for number, place in sets.items()
                   if owner.setdefault(number, net) != net]
    return pins, len(owner), faults[:NAMED] + opens[:NAMED] + shorts[:NAMED]


def _sinks(block: Block, net: int) -> list[int]:
    return [k for k, pins in enumerate(block.pins) if net in pins.values()]


def _inner(kind: str, rules: Rules) -> list[db.Box]:
    """One box of each shape of a cell that belongs to no pin."""
    macro, low = rules.macros[kind], rules.metals[0].name
    rest = db.Region([db.Box(*box) for box in macro.rest.get(low, ())]).merged()
    pins = db.Region([db.Box(*box) for layers in macro.pins.values() for box in layers.get(low, ())])
    return [next(iter(polygon.decompose_trapezoids())).bbox() for polygon in rest.not_interacting(pins).each()]
