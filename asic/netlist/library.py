"""Liberty: reads the cells of a standard-cell library, and says what each does, weighs and takes.

Yosys and OpenSTA read what `Library.write` gives: the cells that a process' description keeps, in one file, without what neither
needs. The models of gate-level simulation come from the cells' functions, energy from their tables.
"""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from emamba.base.errors import InputError

from .cell import Cell, from_supply
from .functions import is_nand
from .liberty import COMMENT, Group, parse, read_library

CELL = re.compile(r'^\s*cell\s*\(\s*"?([\w.]+)"?\s*\)\s*\{', re.M)
CAPACITANCES = ("capacitance", "rise_capacitance", "fall_capacitance")


class Library:
    """Cells of `paths` whose names match a pattern of `keep` and none of `drop`. `slew`: what is taken for a typical input slew,
    in s; `wire`: the capacitance in F of the wire to an input, which is 0 until it is known. A macro among the cells has a
    library of its own."""

    wire = 0.0

    def __init__(self, paths: Iterable[Path], keep: list[str], drop: list[str], slew: float):
        self.slew, self.cells, self.templates = slew, {}, {}
        for path in paths:
            try:
                self._read(Path(path), keep, drop)
            except (ValueError, TypeError, LookupError, StopIteration) as error:
                raise InputError(f"{path} is damaged, or no Liberty library as they are known here ({type(error).__name__}: "
                                 f"{error}): copy it again, or name another file in the PDK's description") from None

    def _read(self, path: Path, keep: list[str], drop: list[str]) -> None:
        text = read_library(path)
        starts = [(match.start(), match[1]) for match in CELL.finditer(text)]
        if not starts:
            raise InputError(f"{path} is no Liberty library, since it has no cell; name another file in the PDK's description")
        header, = parse(COMMENT.sub("", text[:starts[0][0]]) + "}")[:1]
        self._units(header, path)
        for (start, name), (end, _) in zip(starts, [*starts[1:], (len(text), "")], strict=True):
            if any(fnmatchcase(name, pattern) for pattern in keep) and not any(fnmatchcase(name, pattern) for pattern in drop):
                self.cells[name] = Cell(parse(COMMENT.sub("", text[start:end]))[0], self)

    def _units(self, header: Group, path: Path) -> None:
        self.name = header.arguments[0]
        units = {"time": _unit(header.get("time_unit", "1ns")), "farads": _unit("".join(header.get("capacitive_load_unit"))),
                 "watts": _unit(header.get("leakage_power_unit", "1nW"))}
        if self.templates and units != {"time": self.seconds, "farads": self.farads, "watts": self.watts}:
            raise InputError(f"{path} has other units than the PDK's libraries before it")
        self.seconds, self.farads, self.watts = units["time"], units["farads"], units["watts"]
        self.volts = float(header.get("nom_voltage"))
        if not self.templates:
            self.header = header
        self.templates |= {group.arguments[0]: group for group in header.groups if group.kind.endswith("template")}

    def lay_wires(self, farads: float) -> None:
        """What a wire adds to an input."""
        for library in {self, *(cell.library for cell in self.cells.values())}:
            library.wire = farads

    @property
    def joules(self) -> float:
        """Unit of internal energy: by the format's rule, the unit of capacitance times 1 V²."""
        return self.farads

    def at_slew(self, table: Group, unit: float) -> tuple[np.ndarray, np.ndarray]:
        """Loads in F of a table, and its values at the typical slew: energies in J or times in s, as its unit is."""
        rows = np.array([[float(x) for x in re.split(r"[,\s]+", row.strip())] for row in table.get("values")])
        template = self.templates.get(table.arguments[0], Group("", []))
        axes, order = [], []
        for k in (1, 2):
            order.append(template.get(f"variable_{k}"))
            row = table.get(f"index_{k}") or template.get(f"index_{k}")
            axes.append(np.array([float(x) for x in re.split(r"[,\s]+", row[0].strip())]) if row else np.zeros(1))
        if rows.size == 1:
            return np.zeros(1), rows.reshape(1) * unit
        if order[0] == "total_output_net_capacitance" and order[1]:
            rows, axes = rows.T, axes[::-1]
        rows = rows.reshape(len(axes[0]), -1)
        slew = self.slew / self.seconds
        values = np.array([np.interp(slew, axes[0], column) for column in rows.T])
        return axes[1] * self.farads, values * unit

    def smallest(self, kind: str) -> Cell | None:
        """The smallest cell of a kind; of latches, of the plain ones."""
        return min((cell for cell in self.cells.values() if cell.kind == kind and cell.plain), key=lambda cell: cell.area,
                   default=None)

    @property
    def smallest_nand2(self) -> Cell:
        """What areas are counted in."""
        found = [cell for cell in self.cells.values() if cell.kind == "gate" and len(cell.inputs) == 2
                 and is_nand(cell.function(cell.outputs[0]), cell.inputs)]
        if not found:
            raise InputError(f"the library {self.name} has no NAND2 to count areas in; keep one in the PDK's description")
        return min(found, key=lambda cell: cell.area)

    @property
    def smallest_inverter(self) -> Cell:
        return self._smallest("inverter", [cell for cell in self.cells.values() if cell.inverts])

    @property
    def smallest_buffer(self) -> Cell:
        return self._smallest("buffer", [cell for cell in self.cells.values() if cell.buffers])

    def _smallest(self, what: str, found: list[Cell]) -> Cell:
        if not found:
            raise InputError(f"the library {self.name} has no {what}; keep one in the PDK's description")
        return min(found, key=lambda cell: cell.area)

    def write(self, path: Path, name: str = "emamba", wired: bool = True) -> None:
        """Writes one Liberty file of the kept cells without macros; an input's capacitance includes the wire to it if `wired`."""
        wire = self.wire if wired else 0.0
        header = Group("library", [name], [a for a in self.header.attributes], [
            *(group for group in self.header.groups if group.kind in ("operating_conditions", "type")), *self.templates.values(),
            *(self._with_leakage(cell, wire) for cell in self.cells.values() if cell.library is self)])
        path.write_text("\n".join(header.lines()) + "\n", encoding="utf-8")

    def _with_leakage(self, cell: Cell, wire: float) -> Group:
        attributes = [a for a in cell.group.attributes if a[0] != "cell_leakage_power"]
        groups = [self._loaded(group, wire) if group.kind in ("pin", "bus") else group for group in cell.group.groups]
        return Group("cell", [cell.name], [*attributes, ("cell_leakage_power", f"{cell.leakage / self.watts:.6g}")], groups)

    def _loaded(self, pin: Group, wire: float) -> Group:
        attributes = [(key, f"{float(value) + wire / self.farads:.6g}") if key in CAPACITANCES else (key, value)
                      for key, value in pin.attributes]
        return Group(pin.kind, pin.arguments, attributes if pin.get("direction") == "input" else pin.attributes,
                     [group for group in pin.groups if group.kind != "internal_power" or from_supply(group)])


def _unit(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)\s*([fpnum]?)(?:[sSwWfF]|ff|pf|Ff)?", text.strip())
    if not match:
        raise InputError(f"a Liberty library has the unknown unit '{text}'")
    return float(match[1]) * {"": 1, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15}[match[2]]
