"""A block that is placed and routed."""

from dataclasses import dataclass

from emamba.base.progress import say

from ..check.gates import Flat
from . import draw, route
from .block import Block
from .place import Placement
from .rules import Rules


@dataclass
class Laid:
    """`flat`: the cells without those that the layout adds."""

    block: Block
    placement: Placement
    routes: route.Routes
    flat: Flat


def routed(block: Block, placement: Placement, flat: Flat, rules: Rules) -> Laid:
    say(f"{block.name}: routes {block.nets:,} nets")
    offers = {kind: route.accesses(kind, shapes, rules) for kind, shapes in draw.pin_metal(block, rules).items()}
    return Laid(block, placement, route.route(block, placement, offers, rules), flat)
