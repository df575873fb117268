"""The supplies' straps, and the stacks of vias between them and the rails that cells stand on."""

from dataclasses import dataclass

from emamba.base.errors import DesignLimit

from .lef import Box
from .place import Placement
from .rules import MARGIN, Rules

STRAP_UM = 60.0
"""From a strap of a supply to the next one of the other (our choice)."""


@dataclass(frozen=True)
class Stack:
    """A stack at the crossing of a strap and a rail."""

    x: int
    rail: int


def straps(rules: Rules, width: int) -> list[tuple[int, str]]:
    """Middles of the straps, on vertical tracks, and their supplies by turns."""
    step = rules.pitch[0]
    least = -(-(rules.strap_width + rules.strap.spacing) // step) * step
    pairs = max(1, round(width / 1000 / STRAP_UM / 2))
    found: list[tuple[int, str]] = []
    for k in range(2 * pairs):
        middle = round(width * (2 * k + 1) / (4 * pairs) / step) * step
        found.append((max(middle, found[-1][0] + least) if found else middle,
                      (rules.pdk.layout.ground, rules.pdk.layout.power)[k % 2]))
    return found


def pads(rules: Rules) -> list[tuple[int, int]]:
    """Half the sides of a stack's pads on the routed metals: two cuts beside each other, one below the strap."""
    found = []
    for k, _ in enumerate(rules.wires):
        below, above = rules.cuts[k], rules.cuts[k + 1]
        wide, high = below.side + below.spacing // 2 + below.above[1], below.side // 2 + below.above[1]
        if k == len(rules.wires) - 1:
            wide, high = (max(size, above.side // 2 + above.below[1]) for size in (wide, high))
        found.append((wide, high))
    return found


def stacks(rules: Rules, placement: Placement, only: set[tuple[int, int]]) -> tuple[list[Stack], set[tuple[int, int, int]]]:
    """A stack at every crossing of a strap and its rail but those that would shut in one of the points `only`, which are some
    pins' only ones; and the points of the grid, by metal, whose wires would come too near to one."""
    (px, py), found, blocked = rules.pitch, [], set()
    for rail in range(placement.rows + 1):
        supply = (rules.pdk.layout.ground, rules.pdk.layout.power)[rail % 2]
        before = len(found)
        for x in (x for x, of in straps(rules, placement.width) if of == supply):
            i, j = x // px + MARGIN, rail * rules.row // py + MARGIN
            near = set()
            for layer, (metal, pad) in enumerate(zip(rules.wires, pads(rules), strict=True)):
                reach = [metal.width / 2, rules.end(metal)][:: 1 if metal.vertical else -1]
                di, dj = (int((pad[k] + metal.spacing + reach[k] - 1) // (px, py)[k]) for k in (0, 1))
                near |= {(layer, i + a, j + b) for a in range(-di, di + 1) for b in range(-dj, dj + 1)}
            if not any((0, a, b + step) in near for a, b in only for step in (-1, 0, 1)):
                found.append(Stack(x, rail))
                blocked |= near
        if len(found) == before:
            raise DesignLimit(f"--layout: no via fits between the straps and rail {rail}, since all cells there have pins; "
                              "choose another block")
    return found, blocked


def shapes(rules: Rules, placement: Placement, made: list[Stack]) -> tuple[dict[str, list[Box]], list[tuple[str, str, Box]]]:
    """Boxes by layer, and of every strap its layer, supply and box."""
    found: dict[str, list[Box]] = {layer.name: [] for layer in (*rules.metals, *rules.cuts)}
    half, labels = rules.strap_width // 2, []
    for x, supply in straps(rules, placement.width):
        labels.append((rules.strap.name, supply, (x - half, -half, x + half, placement.height + half)))
        found[rules.strap.name].append(labels[-1][2])
    for stack in made:
        x, y = stack.x, stack.rail * rules.row
        for metal, (a, b) in zip(rules.wires, pads(rules), strict=True):
            found[metal.name].append((x - a, y - b, x + a, y + b))
        for k, cut in enumerate(rules.cuts):
            side = cut.side // 2
            beside = (cut.side + cut.spacing) // 2 if k < len(rules.wires) else 0
            found[cut.name] += [(x + away - side, y - side, x + away + side, y + side) for away in sorted({-beside, beside})]
    return found, labels
