"""Processes: what a description of one names, and where its data are. The data are the user's: none are part of this project."""

import gzip
import os
import re
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from math import sqrt
from pathlib import Path

from emamba.errors import EmambaError

from .liberty import Cell, Library

UTILIZATION, CELL_AREA, RENT, BLOCK_CELLS = 0.7, 1.8, 0.6, 5000
"""What lengths of wires are estimated from: the share of the area that cells fill, a mean cell's area in NAND2, Rent's exponent
and the cells of a block (our choice)."""

DESCRIPTIONS = Path(__file__).parent / "pdks"
NAMES = sorted(path.stem for path in DESCRIPTIONS.glob("*.toml"))


@dataclass(frozen=True)
class Macro:
    """A two-port RAM of a process, `words` of `width` bits: the port `write` writes and the port `read` reads on the rising edge
    of its clock, where all its enables are high. A port names its pins: `clock`, `enable` (a list), `address`, `data`. Of the
    other inputs those in `high` are tied high, the rest low. `corners` names a Liberty file each; `lef` and `gds` are for a
    layout."""

    name: str
    words: int
    width: int
    corners: dict[str, str]
    lef: str
    gds: str
    write: dict[str, str | list[str]]
    read: dict[str, str | list[str]]
    high: list[str]


@dataclass(frozen=True)
class Pdk:
    """A process. `corners` names Liberty files, plain or gzipped, in `data`; `keep` and `drop` are patterns of cells; `drivers`
    the cells that drive an input of the chip and a constant; `wire` the capacitance in fF of a µm of wire; `flows` what the
    flows to a layout call the process; `macros` its RAMs, of which those are used whose files the data have."""

    name: str
    data: Path
    title: str
    corners: dict[str, list[str]]
    keep: list[str]
    drop: list[str]
    clock_mhz: float
    slew_ps: float
    load_ff: float
    drivers: dict[str, str]
    clock_buffer: str
    wire: dict[str, float]
    flows: dict[str, str | list[str]] = field(default_factory=dict)
    macros: list[Macro] = field(default_factory=list)

    @cached_property
    def typical(self) -> Library:
        """The library of the typical corner, with what a wire adds to an input."""
        library = self._library("typical")
        library.lay_wires(self.wire["signal"] * 1e-15 * self.wire_length(library))
        return library

    def corner(self, name: str) -> Library:
        """Another corner's, with the same wires."""
        library = self.typical if name == "typical" else self._library(name)
        library.lay_wires(self.typical.wire)
        return library

    def _library(self, corner: str) -> Library:
        library = Library([self.file(name) for name in self.corners[corner]], self.keep, self.drop, self.slew_ps * 1e-12)
        library.cells |= {macro.name: self._macro(macro, corner) for macro in self.present}
        return library

    @cached_property
    def present(self) -> list[Macro]:
        """The macros whose files are in the data, but for the layout itself."""
        return [macro for macro in self.macros if all(map(self._path, (macro.lef, *macro.corners.values())))]

    def size(self, macro: Macro) -> tuple[float, float]:
        """µm in x and in y of a macro, as its LEF says."""
        path = self.file(macro.lef)
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8", "replace")
        found = re.search(rf"^MACRO {re.escape(macro.name)}\b.*?^\s*SIZE ([\d.]+) BY ([\d.]+) ;", text, re.M | re.S)
        if not found:
            raise EmambaError(f"{path} does not say the size of {macro.name}; name another file in the PDK's description")
        return float(found[1]), float(found[2])

    @cached_property
    def access(self) -> dict[str, float]:
        """Of each macro that is present: s from the read port's clock to its data at the slowest corner."""
        found = {macro.name: [self._macro(macro, corner) for corner in self.corners] for macro in self.present}
        return {name: max(cell.delay(f"{cell.macro.read['data']}[0]", 0) for cell in cells) for name, cells in found.items()}

    def _macro(self, macro: Macro, corner: str) -> Cell:
        if corner not in macro.corners:
            raise EmambaError(f"the macro {macro.name} of {self.name} has no Liberty file for the corner {corner}; name one in "
                              "the PDK's description")
        found = Library([self.file(macro.corners[corner])], [macro.name], [], self.slew_ps * 1e-12).cells.get(macro.name)
        if found is None:
            raise EmambaError(f"the library {macro.corners[corner]} of {self.name} has no cell {macro.name}, which the PDK's "
                              "description names")
        ports = {name: bits for _, name, bits in found.ports}
        wanted = [(pin, ports.get(pin, 1)) for pin in macro.high]
        for port in (macro.write, macro.read):
            wanted += [(pin, 1) for pin in (port["clock"], *port["enable"])]
            wanted += [(port["address"], (macro.words - 1).bit_length()), (port["data"], macro.width)]
        for pin, bits in wanted:
            if ports.get(pin) != bits:
                raise EmambaError(f"the macro {macro.name} of {self.name} has no port {pin} of {bits} bits; correct the PDK's "
                                  "description")
        found.macro = macro
        return found

    @staticmethod
    def wire_length(library: Library) -> float:
        """µm of wire for each input that a net has: Donath's mean length of a connection in a block (1979), which is above that
        of a good placement."""
        pitch = sqrt(CELL_AREA * library.smallest_nand2.area / UTILIZATION)
        p, n = RENT, BLOCK_CELLS
        inner = 7 * (n ** (p - 0.5) - 1) / (4 ** (p - 0.5) - 1) - (1 - n ** (p - 1.5)) / (1 - 4 ** (p - 1.5))
        return pitch * 2 / 9 * inner * (1 - 4 ** (p - 1)) / (1 - n ** (p - 1))

    def _path(self, name: str) -> Path | None:
        return next((path for path in (self.data / name, self.data / f"{name}.gz") if path.is_file()), None)

    def file(self, name: str) -> Path:
        """A file of the data, which may be gzipped."""
        if path := self._path(name):
            return path
        raise EmambaError(f"the library {name} of {self.name} is not in {self.data}; name the folder of the process' data with "
                          "--pdk-data or EMAMBA_PDK")


def find(name: str, data: Path | None = None) -> Pdk:
    """A PDK by its name or by the path of a description like those in `pdks`. Its data are looked for in `data`, else in
    $EMAMBA_PDK, there in a folder of its name if there is one; else beside a description that is named by its path."""
    path = DESCRIPTIONS / f"{name}.toml" if name in NAMES else Path(name)
    if not path.is_file():
        raise EmambaError(f"there is no PDK '{name}'; choose one of {', '.join(NAMES)}, or name the file of a description")
    root = data or os.environ.get("EMAMBA_PDK")
    if root is None and name in NAMES:
        raise EmambaError(f"the data of {name} are not known: name their folder with --pdk-data or EMAMBA_PDK")
    folder = Path(root or path.parent)
    if (folder / path.stem).is_dir():
        folder = folder / path.stem
    try:
        described = tomllib.loads(path.read_text(encoding="utf-8"))
        macros = [Macro(**macro) for macro in described.pop("macros", [])]
        return Pdk(name=path.stem, data=folder.resolve(), macros=macros, **described)
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise EmambaError(f"{path} does not describe a PDK: {error}") from None
