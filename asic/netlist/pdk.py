"""Processes: their descriptions, and where their data are. The data are the user's: none are part of this project."""

import os
import re
import reprlib
import tomllib
from functools import cached_property
from math import sqrt
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from emamba.base.errors import InputError, SettingError
from emamba.config import Config, validate
from emamba.io.files import read_text

from .cell import Cell
from .functions import NAME
from .liberty import read_library
from .library import Library

UTILIZATION, CELL_AREA, RENT, BLOCK_CELLS = 0.7, 1.8, 0.6, 5000
"""What lengths of wires are estimated from: the share of the area that cells fill, a mean cell's area in NAND2, Rent's exponent
and the cells of a block (our choice)."""

DESCRIPTIONS = Path(__file__).parents[1] / "pdks"
NAMES = sorted(path.stem for path in DESCRIPTIONS.glob("*.toml"))
DESCRIPTION_LIMIT = 1 << 20
"""Bytes of the largest description that is read."""


def _of(pattern: re.Pattern, what: str) -> AfterValidator:
    """Texts of one form, each a single word for Yosys, OpenSTA, Make, Tcl and YAML."""
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"{reprlib.repr(text)} is no {what}")
        return text

    return AfterValidator(check)


PATH = re.compile(r"/?[A-Za-z0-9_@%+=:,.-]+(/[A-Za-z0-9_@%+=:,.-]+)*")
Word = Annotated[str, _of(NAME, "name: letters, digits and _, and no digit first")]
Pin = Annotated[str, _of(re.compile(f"{NAME.pattern}/{NAME.pattern}"), "cell and pin with / between them, such as TIEH/Y")]
File = Annotated[str, _of(re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*"),
                          "file in the folder of the process' data: letters, digits and _ . + -, folders with / between them")]
Label = Annotated[str, _of(re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*"), "label: letters, digits and _ . -")]
Title = Annotated[str, _of(re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,200}"), "title: one line of at most 200 characters")]
Number = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class Strict(Config):
    model_config = ConfigDict(strict=True)


class Ports(Strict):
    """Pins of a macro's port: the address and the data are buses."""

    clock: Word
    enable: list[Word]
    address: Word
    data: Word


class Macro(Strict):
    """A two-port RAM of a process, `words` of `width` bits: the port `write` writes and the port `read` reads on the rising edge
    of its clock while all its enables are high. The other inputs are tied high if they are in `high`, else low. `corners` names
    Liberty files; `lef` and `gds` are for a layout."""

    name: Word
    words: int = Field(ge=2, le=1 << 24)
    width: int = Field(ge=1, le=1 << 16)
    corners: dict[Label, File]
    lef: File
    gds: File
    write: Ports
    read: Ports
    high: list[Word]


class Drivers(Strict):
    """The cells that drive an input of the chip and a constant."""

    input: Word
    tie_high: Pin
    tie_low: Pin

    def tie(self, value: str) -> tuple[str, str]:
        """Cell and pin of the constant `high` or `low`."""
        cell, pin = (self.tie_high if value == "high" else self.tie_low).split("/")
        return cell, pin


class Wire(Strict):
    """The capacitance in fF of a µm of wire."""

    signal: Number
    clock: Number


class Flows(Strict):
    """What the flows to a layout call the process: OpenROAD-flow-scripts its platform, LibreLane PDK and library."""

    openroad: Label | None = None
    librelane: Annotated[list[Label], Field(min_length=2, max_length=2)] | None = None


class Layout(Strict):
    """What a layout takes. Files: technology and cells in LEF, the cells' GDS and their netlist in CDL, and decks of KLayout, of
    which a layout can do without the last four. `metals` from that of the cells' pins to that of the supplies' straps; `fill`
    are cells without function; `streams` gives each layer its number in GDS, whose pins and labels have other data types."""

    technology: File
    cells: File
    gds: File | None = None
    cdl: File | None = None
    drc: File | None = None
    lvs: File | None = None
    metals: Annotated[list[Word], Field(min_length=4)]
    fill: Annotated[list[Word], Field(min_length=1)]
    power: Word
    ground: Word
    streams: dict[Word, int]
    outline: int
    pin: int
    label: int


class Description(Strict):
    """What a TOML file says of a process. `corners` names Liberty files, plain or gzipped; `keep` and `drop` are patterns of
    cells; `macros` its RAMs, of which those are used whose files the data have."""

    title: Title
    corners: dict[Label, Annotated[list[File], Field(min_length=1)]]
    keep: list[str]
    drop: list[str]
    clock_mhz: Positive
    slew_ps: Positive
    load_ff: Positive
    drivers: Drivers
    clock_buffer: Word
    wire: Wire
    flows: Flows = Flows()
    layout: Layout | None = None
    macros: list[Macro] = Field([])


class Pdk(Description):
    """A process: its description, and the folder `data` of its files."""

    name: str
    data: Path

    @cached_property
    def typical(self) -> Library:
        """The library of the typical corner, with what a wire adds to an input."""
        library = self._library("typical")
        library.lay_wires(self.wire.signal * 1e-15 * self.wire_length(library))
        return library

    def corner(self, name: str) -> Library:
        """The library of another corner, with the same wires."""
        library = self.typical if name == "typical" else self._library(name)
        library.lay_wires(self.typical.wire)
        return library

    def _library(self, corner: str) -> Library:
        library = Library([self.file(name) for name in self.corners[corner]], self.keep, self.drop, self.slew_ps * 1e-12)
        library.cells |= {macro.name: self._macro(macro, corner) for macro in self.present}
        return library

    @cached_property
    def present(self) -> list[Macro]:
        """The macros whose files for synthesis are in the data."""
        return [macro for macro in self.macros if all(map(self._path, (macro.lef, *macro.corners.values())))]

    def size(self, macro: Macro) -> tuple[float, float]:
        """Width and height of a macro in µm, from its LEF."""
        path = self.file(macro.lef)
        text = read_library(path)
        found = re.search(rf"^MACRO {re.escape(macro.name)}\b.*?^\s*SIZE ([\d.]+) BY ([\d.]+) ;", text, re.M | re.S)
        if not found:
            raise InputError(f"{path} does not say the size of {macro.name}; name another file in the PDK's description")
        return float(found[1]), float(found[2])

    @cached_property
    def access(self) -> dict[str, float]:
        """Access time in s of each macro that is present: from the read port's clock to its data, at the slowest corner."""
        found = {macro.name: [self._macro(macro, corner) for corner in self.corners] for macro in self.present}
        return {name: max(cell.delay(f"{cell.macro.read.data}[0]", 0) for cell in cells) for name, cells in found.items()}

    def _macro(self, macro: Macro, corner: str) -> Cell:
        if corner not in macro.corners:
            raise InputError(f"the macro {macro.name} of {self.name} has no Liberty file for the corner {corner}; name one in "
                             "the PDK's description")
        found = Library([self.file(macro.corners[corner])], [macro.name], [], self.slew_ps * 1e-12).cells.get(macro.name)
        if found is None:
            raise InputError(f"the library {macro.corners[corner]} of {self.name} has no cell {macro.name}, which the PDK's "
                             "description names")
        ports = {name: bits for _, name, bits in found.ports}
        wanted = [(pin, ports.get(pin, 1)) for pin in macro.high]
        for port in (macro.write, macro.read):
            wanted += [(pin, 1) for pin in (port.clock, *port.enable)]
            wanted += [(port.address, (macro.words - 1).bit_length()), (port.data, macro.width)]
        for pin, bits in wanted:
            if ports.get(pin) != bits:
                raise InputError(f"the macro {macro.name} of {self.name} has no port {pin} of {bits} bits; correct the PDK's "
                                 "description")
        found.macro = macro
        return found

    @staticmethod
    def wire_length(library: Library) -> float:
        """µm of wire per input of a net: Donath's mean length of a connection in a block (1979), longer than in a good
        placement."""
        pitch = sqrt(CELL_AREA * library.smallest_nand2.area / UTILIZATION)
        p, n = RENT, BLOCK_CELLS
        inner = 7 * (n ** (p - 0.5) - 1) / (4 ** (p - 0.5) - 1) - (1 - n ** (p - 1.5)) / (1 - 4 ** (p - 1.5))
        return pitch * 2 / 9 * inner * (1 - 4 ** (p - 1)) / (1 - n ** (p - 1))

    def _path(self, name: str) -> Path | None:
        flat = [path for path in (self.data / name, self.data / f"{name}.gz") if path.exists()]
        return next(iter(flat or sorted(self.data.glob(f"libs.*/**/{name}"))), None)

    def has(self, name: str) -> bool:
        return self._path(name) is not None

    def file(self, name: str) -> Path:
        """A file of the data, which may be gzipped."""
        if path := self._path(name):
            return path
        raise InputError(f"the library {name} of {self.name} is not in {self.data}; name the folder of the process' data with "
                         "--pdk-data or EMAMBA_PDK")


def find(name: str, data: Path | None = None) -> Pdk:
    """Finds a PDK by its name or by the path of a description like those in `pdks`. Its data are in `data`, else $EMAMBA_PDK or
    its subfolder of the PDK's name, else beside a description that is named by its path."""
    path = DESCRIPTIONS / f"{name}.toml" if name in NAMES else Path(name)
    if not path.exists():
        raise SettingError(f"there is no PDK '{name}'; choose one of {', '.join(NAMES)}, or name the file of a description")
    root = data or os.environ.get("EMAMBA_PDK")
    if root is None and name in NAMES:
        raise SettingError(f"the data of {name} are not known: name their folder with --pdk-data or EMAMBA_PDK")
    folder = Path(root or path.parent)
    if (folder / path.stem).is_dir():
        folder = folder / path.stem
    try:
        described = tomllib.loads(read_text(path, DESCRIPTION_LIMIT))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} does not describe a PDK: {error}") from None
    validate(Description, described, str(path))
    if "typical" not in described["corners"]:
        raise InputError(f"{path}: corners: there is none named typical, which area and energy are taken from; name one")
    return Pdk(name=path.stem, data=folder.resolve(), **described)


def check_plain(pdk: Pdk) -> None:
    """Refuses a folder of data that Make, Tcl and YAML do not all read as one word: they have no common way to quote it."""
    if not PATH.fullmatch(str(pdk.data)):
        raise SettingError(f"the path of the data of {pdk.name}, {str(pdk.data)!r}, has characters that Make or Tcl take for "
                           "their own, and the files of macros go there with it: move the data to a path of letters, digits and "
                           "_ @ % + = : , . -")
