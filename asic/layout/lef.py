"""LEF: the metals and cuts of a process, and the outlines and shapes of its cells. Lengths are whole nanometres."""

import re
from dataclasses import dataclass, field

from emamba.base.errors import InputError

Box = tuple[int, int, int, int]
SECTION = r"^\s*{0}\s+(\S+)(?!\S)[^\n]*\n(.*?)^\s*END\s+\1(?!\S)"


@dataclass(frozen=True)
class Metal:
    """A routing layer. `area` in nm²; `ohms` of a square."""

    name: str
    vertical: bool
    pitch: int
    width: int
    spacing: int
    area: int
    ohms: float


@dataclass(frozen=True)
class Cut:
    """A layer of vias: the side of a cut, the spacing of two, and how far the metal below and above reaches beyond it: at least,
    and at a line's ends."""

    name: str
    side: int
    spacing: int
    below: tuple[int, int]
    above: tuple[int, int]
    ohms: float


@dataclass
class Macro:
    """A cell: its size, and the shapes by layer of its pins and of what is no pin."""

    name: str
    width: int
    height: int
    pins: dict[str, dict[str, list[Box]]] = field(default_factory=dict)
    rest: dict[str, list[Box]] = field(default_factory=dict)

    def shapes(self, layer: str) -> list[Box]:
        return [box for shapes in (*self.pins.values(), self.rest) for box in shapes.get(layer, ())]


def nm(text: str) -> int:
    return round(float(text) * 1000)


def read_layers(text: str, where: str) -> dict[str, Metal | Cut]:
    """The metals and cuts of a technology, from the lowest to the highest."""
    text, found = re.sub(r"#.*", "", text), {}
    sides = {}
    for _, via in re.findall(SECTION.format("VIA"), text, re.M | re.S | re.I):
        for layer, x1, _, x2, _ in re.findall(r"LAYER\s+(\S+)\s*;\s*RECT\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)", via, re.I):
            sides[layer] = min(sides.get(layer, 1 << 30), nm(x2) - nm(x1))
    for name, body in re.findall(SECTION.format("LAYER"), text, re.M | re.S):
        def number(word: str, default: str | None = None, body: str = body, name: str = name) -> str:
            if match := re.search(rf"^\s*{word}\s+([\d.eE+-]+)", body, re.M):
                return match[1]
            if default is None:
                raise InputError(f"{where}: the layer {name} lacks {word}; name another file in the PDK's description")
            return default

        if re.search(r"TYPE\s+ROUTING", body):
            table = re.search(r"SPACINGTABLE.*?\n\s*WIDTH\s+\S+\s+(\S+)", body, re.S)
            found[name] = Metal(name, "VERTICAL" in body, nm(number("PITCH")), nm(number("WIDTH")),
                                nm(table[1] if table else number("SPACING")), round(float(number("AREA", "0")) * 1e6),
                                float(number("RESISTANCE\\s+RPERSQ", "0")))
        elif re.search(r"TYPE\s+CUT", body):
            below, above = (_enclosure(body, side) for side in ("BELOW", "ABOVE"))
            found[name] = Cut(name, nm(number("WIDTH", str(sides.get(name, 0) / 1000))), nm(number("SPACING")), below, above,
                              float(number("RESISTANCE", "0")))
    return found


def _enclosure(body: str, side: str) -> tuple[int, int]:
    """At least, and at a line's ends."""
    found = (re.search(rf"^\s*ENCLOSURE\s+{way}\s*([\d.]+)\s+([\d.]+)", body, re.M) for way in (side, ""))
    values = next((match.groups() for match in found if match), ("0", "0"))
    return min(map(nm, values)), max(map(nm, values))


def read_macros(text: str) -> dict[str, Macro]:
    found = {}
    for name, body in re.findall(SECTION.format("MACRO"), text, re.M | re.S):
        size = re.search(r"SIZE\s+(\S+)\s+BY\s+(\S+)", body)
        pins = {pin: _boxes(inner) for pin, inner in re.findall(SECTION.format("PIN"), body, re.M | re.S)}
        rest = re.search(r"^\s*OBS\n(.*?)^\s*END", body, re.M | re.S)
        found[name] = Macro(name, nm(size[1]), nm(size[2]), pins, _boxes(rest[1]) if rest else {})
    return found


def _boxes(text: str) -> dict[str, list[Box]]:
    found: dict[str, list[Box]] = {}
    for layer, shapes in re.findall(r"^\s*LAYER\s+(\S+)\s*;(.*?)(?=^\s*(?:LAYER|END)\b|\Z)", text, re.M | re.S):
        found.setdefault(layer, []).extend(tuple(map(nm, box)) for box in re.findall(
            r"RECT\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)", shapes))
    return found
