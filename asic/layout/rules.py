"""What a process asks of a layout: its metals as a grid of wires, its cells' sizes and shapes."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from emamba.base.errors import DesignLimit, InputError, SettingError

from ..netlist.liberty import read_library
from ..netlist.pdk import Pdk
from .lef import Box, Cut, Macro, Metal, read_layers, read_macros

MARGIN = 6
"""Steps of the grid around the core, where ports are."""
GRID = 5
"""nm that all coordinates are multiples of."""


@dataclass
class Rules:
    """`metals` from that of the cells' pins upwards, `cuts` between them; the last metal is that of the supplies' straps."""

    pdk: Pdk
    metals: list[Metal]
    cuts: list[Cut]
    macros: dict[str, Macro]
    fill: list[str]

    @classmethod
    def of(cls, pdk: Pdk) -> "Rules":
        made = pdk.layout
        if made is None:
            raise SettingError(f"--layout: the description of {pdk.name} has no section [layout]; name ihp-sg13g2, or add one")
        layers = read_layers(read_library(pdk.file(made.technology)), made.technology)
        macros = read_macros(read_library(pdk.file(made.cells)))
        names = list(layers)
        for name in made.metals:
            if not isinstance(layers.get(name), Metal):
                raise InputError(f"{made.technology} has no metal {name}, which the description of {pdk.name} names")
        cuts = [next(layers[name] for name in names[names.index(low):names.index(high)] if isinstance(layers[name], Cut))
                for low, high in pairwise(made.metals)]
        found = cls(pdk, [layers[name] for name in made.metals], cuts, macros,
                    sorted(made.fill, key=lambda kind: -macros[kind].width))
        found.check()
        return found

    @property
    def wires(self) -> list[Metal]:
        """The metals that signals are routed on, in turn vertical and horizontal."""
        return self.metals[1:-1]

    @cached_property
    def site(self) -> int:
        return min(self.macros[kind].width for kind in self.fill)

    @cached_property
    def row(self) -> int:
        return self.macros[self.fill[0]].height

    @cached_property
    def pitch(self) -> tuple[int, int]:
        """Of the vertical tracks, and of the horizontal ones."""
        return tuple(next(metal.pitch for metal in self.wires if metal.vertical == way) for way in (True, False))

    @property
    def port_pitch(self) -> int:
        return 2 * self.pitch[1]

    @property
    def strap(self) -> Metal:
        return self.metals[-1]

    @property
    def strap_width(self) -> int:
        cut = self.cuts[-1]
        return max(self.strap.width, cut.side + 2 * cut.above[1])

    @property
    def least_columns(self) -> int:
        """For a strap of each supply."""
        return -(-3 * (self.strap_width + self.strap.spacing) // self.site)

    def end(self, metal: Metal) -> int:
        """How far a wire reaches beyond the middle of its last via: the cut, what encloses it, and half of what a wire of one
        step lacks of the least area."""
        k = self.metals.index(metal)
        reach = max(self.cuts[k - 1].side // 2 + self.cuts[k - 1].above[1], self.cuts[k].side // 2 + self.cuts[k].below[1]
                    if k < len(self.wires) else 0)
        step = self.pitch[metal.vertical]
        return max(reach, -int(-(metal.area / metal.width - step) // (2 * GRID)) * GRID)

    def wire(self, metal: Metal, x1: int, y1: int, x2: int, y2: int) -> Box:
        """The shape of a wire between two points of the grid."""
        half, end = metal.width // 2, self.end(metal)
        x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
        return (x1 - half, y1 - end, x2 + half, y2 + end) if metal.vertical else (x1 - end, y1 - half, x2 + end, y2 + half)

    def check(self) -> None:
        """Refuses a process whose wires do not fit the grid that signals are routed on."""
        across, along = self.pitch, self.pitch[::-1]
        for k, metal in enumerate(self.wires):
            way = 0 if metal.vertical else 1
            cut = self.cuts[k]
            beside = max(cut.above[0], self.cuts[k + 1].below[0] if k < len(self.wires) - 1 else 0)
            wrong = (metal.vertical != (k % 2 == 0) or metal.pitch != across[way] or self.site % self.pitch[0]
                     or self.row % self.pitch[1] or across[way] - metal.width < metal.spacing
                     or metal.width - cut.side < 2 * beside
                     or 2 * along[way] - 2 * self.end(metal) < metal.spacing or min(across) - cut.side < cut.spacing)
            if wrong:
                raise DesignLimit(f"--layout: the wires of {metal.name} of {self.pdk.name} do not fit a grid of "
                                  f"{across[0]} × {across[1]} nm in which cells stand; lay out by OpenROAD as README.txt says")
