"""Names of mutants by what they change: signals of the source, or a digest of the logic that makes one. Names and line numbers
that tools generate change with any edit of the source; these do not."""

import hashlib
import json
import re
from collections import defaultdict
from functools import cached_property

PRIVATE = re.compile(r"\$|_\d+_$|\\?\$")
"""Names that Amaranth and Yosys made."""
STATE = re.compile(r"\$(a|s)?(dff|ff|latch|mem)|\$sr")
"""Cells that keep something: where a name looks no further back."""
FIELDS = re.compile(r"-(mode|module|cell|port|portbit) (\S+)")


def plain(name: str) -> str:
    """A name without the numbers that tell it from its like."""
    return re.sub(r"\$\d+", "", name)


class Module:
    """A module of a netlist as Yosys writes it in JSON."""

    def __init__(self, text: dict):
        self.cells = text["cells"]
        self.public: dict[int, str] = {}
        for name, net in sorted(text["netnames"].items(), key=lambda item: (len(item[0]), item[0])):
            if not PRIVATE.match(name):
                for k, bit in enumerate(net["bits"]):
                    self.public.setdefault(bit, f"{plain(name)}[{k}]" if len(net["bits"]) > 1 else plain(name))
        self._meanings: dict[str, str] = {}

    @cached_property
    def drivers(self) -> dict[int, tuple[str, str, int]]:
        """Bit -> cell, port and bit of the port that drives it."""
        return {bit: (name, port, k) for name, cell in self.cells.items() for port, bits in cell["connections"].items()
                if cell["port_directions"].get(port) == "output" for k, bit in enumerate(bits)}

    @cached_property
    def readers(self) -> dict[int, list[str]]:
        """Bit -> cells that read it."""
        found = defaultdict(list)
        for name, cell in self.cells.items():
            for port, bits in cell["connections"].items():
                if cell["port_directions"].get(port) == "input":
                    for bit in bits:
                        found[bit].append(name)
        return found

    def bit(self, bit: int | str) -> str:
        """What a bit is: a constant, a signal of the source, or an output of a cell."""
        if isinstance(bit, str) or bit in self.public:
            return str(self.public.get(bit, bit))
        if bit not in self.drivers:
            return "?"
        cell, port, k = self.drivers[bit]
        return f"{self.cell(cell)}.{port}[{k}]"

    def cell(self, name: str) -> str:
        """What a cell is: its type, its parameters and what it reads, as a digest."""
        if name not in self._meanings:
            cell = self.cells[name]
            kind = cell["type"].removeprefix("$")
            self._meanings[name] = kind  # of a loop without a name
            read = [] if STATE.match(cell["type"]) and not self.public.keys() & self._outputs(name) else [
                [plain(port), *map(self.bit, bits)] for port, bits in sorted(cell["connections"].items())
                if cell["port_directions"].get(port) == "input"]
            content = json.dumps([cell["type"], cell.get("parameters", {}), read], sort_keys=True)
            self._meanings[name] = f"{kind}#{hashlib.sha256(content.encode()).hexdigest()[:8]}"
        return self._meanings[name]

    def _outputs(self, name: str) -> set:
        cell = self.cells[name]
        return {bit for port, bits in cell["connections"].items() if cell["port_directions"].get(port) == "output"
                for bit in bits}

    def toward(self, name: str) -> str:
        """The signal of the source that a cell's output is, or the nearest that it is for."""
        seen, layer = {name}, [name]
        while layer:
            bits = set().union(*map(self._outputs, layer))
            named = sorted(self.public[bit].partition("[")[0] for bit in bits if bit in self.public)
            if named:
                return named[0]
            layer = sorted({cell for bit in bits for cell in self.readers.get(bit, ())} - seen)
            seen |= set(layer)
        return "nothing"


class Netlist:
    """All modules of a netlist."""

    def __init__(self, text: str):
        self.modules = {name: Module(module) for name, module in json.loads(text)["modules"].items()}

    def name(self, kind: str) -> str:
        """A mutant, from the line that Yosys writes of it: mode, module, signal, cell, port and bit."""
        words = _words(kind)
        if "cell" not in words:
            return kind
        module = self.modules[words["module"]]
        return (f"{words['mode']} {words['module']} {module.toward(words['cell'])} {module.cell(words['cell'])} "
                f"{plain(words.get('port', ''))}[{words.get('portbit', '')}]")

    def is_data(self, kind: str) -> bool:
        """Whether its cell has a port of several bits; handshake cells have ports of one."""
        words = _words(kind)
        cell = self.modules[words["module"]].cells.get(words.get("cell"), {"connections": {}})
        return any(len(bits) > 1 for bits in cell["connections"].values())


def _words(kind: str) -> dict[str, str]:
    return {key: value.removeprefix("\\") for key, value in FIELDS.findall(kind)}
