"""Liberty: reads the cells of a standard-cell library, and says what each does, weighs and takes.

Yosys and OpenSTA read what `Library.write` gives: the cells that a process' description keeps, in one file, without what neither
needs. The models of gate-level simulation come from the cells' functions, energy from their tables.
"""

import gzip
import re
import reprlib
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np

from emamba.base.errors import InputError
from emamba.io.files import read_bytes

COMMENT = re.compile(r"/\*.*?\*/|\\\r?\n", re.S)
STATEMENT = re.compile(r"""(?P<end>\})
    |(?P<name>\w+)\s*(?:\((?P<arguments>[^()]*)\)\s*(?P<open>\{)?\s*;?|:\s*(?P<value>"[^"]*"|[^;\n}]*)\s*;?)""", re.X)
ARGUMENT = re.compile(r'"([^"]*)"|([^\s,"]+)')
CELL = re.compile(r'^\s*cell\s*\(\s*"?([\w.]+)"?\s*\)\s*\{', re.M)
DROPPED_GROUPS = {"pg_pin", "leakage_power", "normalized_driver_waveform", "test_cell", "wire_load", "output_voltage",
                  "input_voltage", "receiver_capacitance", "output_current_rise", "output_current_fall"}
DROPPED = re.compile(r"related_(pg|power|ground)_pin|.*_signal_level|(in|out)put_voltage|power_down_function|driver_waveform.*"
                     r"|dont_use|sdf_.*|voltage_map|comment|library_features|define.*|default_operating_conditions|cell_footprint")


NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""Names of cells and pins, which become words of scripts, of Verilog and of C."""
LIBRARY_LIMIT = 1 << 30
"""Bytes of the largest library that is read, unpacked."""

CAPACITANCES = ("capacitance", "rise_capacitance", "fall_capacitance")


@dataclass
class Group:
    """`kind (arguments) { attributes; groups }`. The value of an attribute with arguments is their list."""

    kind: str
    arguments: list[str]
    attributes: list[tuple[str, str | list[str]]] = field(default_factory=list)
    groups: list["Group"] = field(default_factory=list)

    def get(self, name: str, default: str | list[str] | None = None):
        return next((value for key, value in self.attributes if key == name), default)

    def all(self, kind: str) -> list["Group"]:
        return [group for group in self.groups if group.kind == kind]

    def lines(self) -> Iterator[str]:
        yield f"{self.kind} ({', '.join(map(_quoted, self.arguments))}) {{"
        for key, value in self.attributes:
            if not DROPPED.fullmatch(key):
                yield f"{key} ({', '.join(map(_quoted, value))});" if isinstance(value, list) else f"{key} : {_quoted(value)};"
        for group in self.groups:
            if group.kind not in DROPPED_GROUPS:
                yield from group.lines()
        yield "}"


def read_library(path: Path) -> str:
    """The text of a file of a process, which may be gzipped."""
    try:
        data = read_bytes(path, LIBRARY_LIMIT)
        if data[:2] == b"\x1f\x8b":
            with gzip.open(BytesIO(data)) as file:
                data = file.read(LIBRARY_LIMIT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is a damaged gzip file ({error}): copy it again") from None
    if len(data) > LIBRARY_LIMIT:
        raise InputError(f"{path} unpacks to more than {LIBRARY_LIMIT} bytes, which is the most that is read")
    return data.decode("utf-8", "replace")


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[A-Za-z]\w*|-?[\d.]+([eE][+-]?\d+)?", value) else f'"{value}"'


def parse(text: str) -> list[Group]:
    """The groups of a text without comments."""
    stack = [Group("", [])]
    for match in STATEMENT.finditer(text):
        if match["end"]:
            if len(stack) > 1:
                stack.pop()
        elif match["value"] is not None:
            stack[-1].attributes.append((match["name"], match["value"].strip().strip('"')))
        else:
            arguments = [quoted or plain for quoted, plain in ARGUMENT.findall(match["arguments"])]
            if match["open"]:
                group = Group(match["name"], arguments)
                stack[-1].groups.append(group)
                stack.append(group)
            else:
                stack[-1].attributes.append((match["name"], arguments))
    return stack[0].groups


class Cell:
    """A cell: `area` in µm², `functions` of its outputs as expressions of Verilog and C (~ & | ^), and tables of energy."""

    def __init__(self, group: Group, library: "Library"):
        self.group, self.library, self.name = group, library, group.arguments[0]
        self.area, self.delays, self.macro = float(group.get("area", "0")), {}, None
        bits = (pin for bus in group.all("bus") for pin in self._bits(bus))
        self.pins = {pin.arguments[0]: pin for pin in (*group.all("pin"), *bits)}
        self.inputs = [name for name, pin in self.pins.items() if pin.get("direction") == "input"]
        self.outputs = [name for name, pin in self.pins.items() if pin.get("direction") == "output"]
        for name in (self.name, *(pin.split("[")[0] for pin in self.pins)):
            if not NAME.fullmatch(name):
                raise InputError(f"cell {self.name!r}: {name!r} is no name of letters, digits and _; drop it in the PDK's "
                                 "description")

    def _bits(self, bus: Group) -> list[Group]:
        """A pin for every bit of a bus, the lowest first, with what the bus says of all of them."""
        width = next(of.get("bit_width") for of in self.library.header.all("type") if of.arguments[0] == bus.get("bus_type"))
        shared = [pin for pin in bus.all("pin") if ":" in pin.arguments[0]]
        bits = []
        for name in (f"{bus.arguments[0]}[{k}]" for k in range(int(width))):
            own = [pin for pin in bus.all("pin") if pin.arguments[0] == name]
            bits.append(Group("pin", [name], [item for of in (*own, *shared, bus) for item in of.attributes],
                              [group for of in (*own, *shared, bus) for group in of.groups if group.kind != "pin"]))
        return bits

    @property
    def ports(self) -> list[tuple[str, str, int]]:
        """Direction, name and bits of every port, inputs first; a bus is one."""
        bits = Counter(pin.split("[")[0] for pin in (*self.inputs, *self.outputs))
        inputs = {pin.split("[")[0] for pin in self.inputs}
        return [("input" if name in inputs else "output", name, count) for name, count in bits.items()]

    @cached_property
    def state(self) -> Group | None:
        """The group `ff` or `latch`."""
        return next((group for group in self.group.groups if group.kind in ("ff", "latch")), None)

    @property
    def gates_clock(self) -> bool:
        return str(self.group.get("clock_gating_integrated_cell", "")).startswith("latch_posedge")

    @property
    def kind(self) -> str:
        """gate, ff, latch, clock_gate, or macro; else other."""
        if self.macro:
            return "macro"
        if self.gates_clock:
            return "clock_gate"
        if self.state:
            return self.state.kind
        functions = all(self.pins[pin].get("function") for pin in self.outputs)
        return "gate" if self.outputs and functions and not self.group.all("statetable") else "other"

    def role(self, role: str) -> str | None:
        """The pin of a clock gate that has `clock_gate_{role}_pin`."""
        return next((name for name, pin in self.pins.items() if pin.get(f"clock_gate_{role}_pin") == "true"), None)

    @cached_property
    def clock_pin(self) -> str | None:
        """The input that clocks a flip-flop or clock gate, or opens a latch."""
        if self.kind == "clock_gate":
            return self.role("clock")
        if self.kind in ("ff", "latch"):
            text = self.expression(self.state.get("clocked_on" if self.kind == "ff" else "enable"))
            if text not in self.inputs:
                raise InputError(f"cell {self.name}: its clock is '{text}', which is no input; drop it in the PDK's description")
            return text
        return None

    @property
    def inverts(self) -> bool:
        """Whether it is an inverter."""
        return (self.kind == "gate" and len(self.inputs) == len(self.outputs) == 1
                and all(evaluate(self.function(self.outputs[0]), {self.inputs[0]: x}) == 1 - x for x in (0, 1)))

    @property
    def clock_pins(self) -> list[str]:
        """The inputs that a clock net ends at."""
        if self.macro:
            return [self.macro.write.clock, self.macro.read.clock]
        return [self.clock_pin] if self.clock_pin else []

    @property
    def plain(self) -> bool:
        """Whether it is a latch of its inputs D and enable alone, which gives out what it holds; or no latch."""
        state = self.state
        return self.kind != "latch" or (len(self.inputs) == 2 and state.get("data_in") in self.inputs
                                        and state.get("enable") in self.inputs
                                        and all(self.pins[pin].get("function") == state.arguments[0] for pin in self.outputs))

    def expression(self, text: str | list[str] | None) -> str:
        where = f"cell {self.name} of {self.library.name}"
        if not isinstance(text, str):
            raise InputError(f"{where} lacks a function; drop it in the PDK's description")
        found = expression(text, where)
        known = {*self.pins, "ZERO", *(name.strip() for name in (self.state.arguments if self.state else ()))}
        if unknown := sorted(set(NAME.findall(found)) - known):
            raise InputError(f"{where}: the function '{text}' is of {unknown[0]}, which is no pin; drop the cell in the PDK's "
                             "description")
        return found

    def function(self, pin: str) -> str:
        """Of an output: in terms of inputs, or of `state` and its variables' names."""
        return self.expression(self.pins[pin].get("function"))

    def capacitance(self, pin: str) -> float:
        """Of an input and of the wire to it, in F."""
        return float(self.pins[pin].get("capacitance", "0")) * self.library.farads + self.library.wire

    @cached_property
    def leakage(self) -> float:
        """W, the mean over the conditions that the library gives."""
        found = self.group.get("cell_leakage_power")
        if found is None:
            groups = [g for g in self.group.all("leakage_power") if _supply(g)]
            whole = [g for g in groups if not g.get("when")]
            found = np.mean([float(g.get("value")) for g in whole or groups] or [0])
        return float(found) * self.library.watts

    def output_energy(self, pin: str) -> tuple[np.ndarray, np.ndarray]:
        """Internal energy in J of a transition of output `pin` over loads in F, at the library's typical input slew: the mean of
        rise and fall and over the inputs that may cause it."""
        curves = [curve for group in self.pins[pin].all("internal_power") if _supply(group) for curve in self._curves(group)]
        if not curves:
            return np.array([0.0, 1.0]), np.zeros(2)
        loads = max((curve[0] for curve in curves), key=len)
        return loads, np.mean([np.interp(loads, *curve) for curve in curves], axis=0)

    def input_energy(self, pin: str) -> float:
        """Internal energy in J of a transition of input `pin` that changes no output: the mean of rise and fall and over the
        conditions."""
        found = [energy[0] for group in self.pins[pin].all("internal_power") if _supply(group)
                 for _, energy in self._curves(group)]
        return float(np.mean(found)) if found else 0.0

    def cycle_energy(self, port: dict, active: bool) -> float:
        """Internal energy in J of a cycle of a macro's port whose enables are high, or low."""
        high = {*self.macro.high, *(port.enable if active else [])}
        values = {pin: int(pin in high) for pin in self.inputs} | {"ZERO": 0}
        return float(sum(energy[0] for group in self.pins[port.clock].all("internal_power")
                         if _supply(group) and evaluate(self.expression(group.get("when", "1")), values)
                         for _, energy in self._curves(group)))

    def delay(self, pin: str, load: float) -> float:
        """s from an input or the clock to output `pin` at a load in F and the library's typical slew: the slowest arc."""
        if pin not in self.delays:
            curves = [self.library.at_slew(table, self.library.seconds) for group in self.pins[pin].all("timing")
                      for table in group.groups if table.kind in ("cell_rise", "cell_fall")]
            loads = max((curve[0] for curve in curves), key=len, default=np.zeros(1))
            self.delays[pin] = loads, np.max([np.interp(loads, *curve) for curve in curves], axis=0) if curves else loads * 0
        loads, seconds = self.delays[pin]
        if len(loads) > 1 and load > loads[-1]:
            return float(seconds[-1] + (load - loads[-1]) * (seconds[-1] - seconds[-2]) / (loads[-1] - loads[-2]))
        return float(np.interp(load, loads, seconds))

    def _curves(self, group: Group) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for table in group.groups:
            if table.kind in ("rise_power", "fall_power", "power"):
                yield self.library.at_slew(table, self.library.joules)


def _supply(group: Group) -> bool:
    """Whether a group is of the supply's rail: energy is counted once, where it leaves the supply."""
    return not re.search("VSS|GND|VPW|VNW", str(group.get("related_pg_pin", "")))


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
        """Unit of internal energy: by the format's rule, that of the capacitance times 1 V²."""
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
        found = [cell for cell in self.cells.values() if cell.inverts]
        if not found:
            raise InputError(f"the library {self.name} has no inverter; keep one in the PDK's description")
        return min(found, key=lambda cell: cell.area)

    def write(self, path: Path, name: str = "emamba") -> None:
        """One Liberty file of the kept cells, macros aside; an input's capacitance is that of the wire to it too."""
        header = Group("library", [name], [a for a in self.header.attributes], [
            *(group for group in self.header.groups if group.kind in ("operating_conditions", "type")), *self.templates.values(),
            *(self._with_leakage(cell) for cell in self.cells.values() if cell.library is self)])
        path.write_text("\n".join(header.lines()) + "\n", encoding="utf-8")

    def _with_leakage(self, cell: Cell) -> Group:
        attributes = [a for a in cell.group.attributes if a[0] != "cell_leakage_power"]
        groups = [self._loaded(group) if group.kind in ("pin", "bus") else group for group in cell.group.groups]
        return Group("cell", [cell.name], [*attributes, ("cell_leakage_power", f"{cell.leakage / self.watts:.6g}")], groups)

    def _loaded(self, pin: Group) -> Group:
        attributes = [(key, f"{float(value) + self.wire / self.farads:.6g}") if key in CAPACITANCES else (key, value)
                      for key, value in pin.attributes]
        return Group(pin.kind, pin.arguments, attributes if pin.get("direction") == "input" else pin.attributes,
                     [group for group in pin.groups if group.kind != "internal_power" or _supply(group)])


def _unit(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)\s*([fpnum]?)(?:[sSwWfF]|ff|pf|Ff)?", text.strip())
    if not match:
        raise InputError(f"a Liberty library has the unknown unit '{text}'")
    return float(match[1]) * {"": 1, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15}[match[2]]


def is_nand(function: str, inputs: list[str]) -> bool:
    a, b = inputs
    return all(evaluate(function, {a: x, b: y}) == 1 - x * y for x in (0, 1) for y in (0, 1))


def evaluate(function: str, values: dict[str, int]) -> int:
    """A function's bit for bits of its inputs."""
    return eval(re.sub(r"[A-Za-z_]\w*", lambda match: str(values[match[0]]), function)) & 1


PARTS = re.compile(r"\s*([A-Za-z_]\w*|[01]|[()!'^&*|+])")


def expression(text: str, where: str) -> str:
    """A Liberty function as an expression that Verilog, C and Python read alike, with every operation in parentheses."""
    parts, at = [], 0
    while at < len(text.rstrip()):
        match = PARTS.match(text, at)
        if not match:
            raise InputError(f"{where}: the function '{text}' cannot be read")
        parts.append(match[1])
        at = match.end()

    def either():
        value = both()
        while parts and parts[0] in "|+":
            parts.pop(0)
            value = f"({value} | {both()})"
        return value

    def both():
        value = differ()
        while parts and parts[0] not in "|+)":
            if parts[0] in "&*":
                parts.pop(0)
            value = f"({value} & {differ()})"
        return value

    def differ():
        value = single()
        while parts and parts[0] == "^":
            parts.pop(0)
            value = f"({value} ^ {single()})"
        return value

    def single():
        if not parts:
            raise InputError(f"{where}: the function '{text}' ends too early")
        part = parts.pop(0)
        if part == "!":
            value = f"(~{single()})"
        elif part == "(":
            value = either()
            if not parts or parts.pop(0) != ")":
                raise InputError(f"{where}: the function '{text}' lacks a ')'")
        else:
            value = {"0": "ZERO", "1": "(~ZERO)"}.get(part, part)
        while parts and parts[0] == "'":
            parts.pop(0)
            value = f"(~{value})"
        return value

    try:
        value = either()
    except RecursionError:
        raise InputError(f"{where}: the function {reprlib.repr(text)} is nested too deeply") from None
    if parts:
        raise InputError(f"{where}: the function '{text}' has '{parts[0]}' where it should end")
    return value
