"""A circuit as a graph of AND gates: its outputs, and what follows each state of its registers."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from graphlib import CycleError, TopologicalSorter
from types import CodeType

from emamba.base.errors import DesignLimit

from ..netlist.cell import Cell
from ..netlist.library import Library
from .and_graph import Bit, Graph
from .gates import state_functions

YOSYS_CELLS = {"BUF": "A", "NOT": "~A", "AND": "A & B", "OR": "A | B", "XOR": "A ^ B", "NAND": "~(A & B)", "NOR": "~(A | B)",
               "XNOR": "~(A ^ B)", "ANDNOT": "A & ~B", "ORNOT": "A | ~B", "MUX": "(S & B) | (~S & A)"}


@dataclass(frozen=True)
class Kind:
    """What a cell does, as functions of its inputs and of STATE: `outputs`, and where its `clock` ticks what is `following`.
    `fixed` are asynchronous inputs; `inverted`: STATE is the complement of its data."""

    inputs: list[str]
    outputs: dict[str, CodeType]
    role: str = "gate"
    following: CodeType | None = None
    clock: str | None = None
    fixed: tuple[str, ...] = ()
    inverted: bool = False


def _code(text: str) -> CodeType:
    return compile(text, "function", "eval")


@cache
def cell_kinds(library: Library) -> dict[str, Kind]:
    """The kinds of the library's cells, and of the cells in which Yosys writes RTL."""
    kinds = {f"$_{name}_": Kind(re.findall("[A-Z]", text), {"Y": _code(text)}) for name, text in YOSYS_CELLS.items()}
    kinds["$_DFF_P_"] = Kind(["C", "D"], {"Q": _code("STATE")}, "ff", _code("D"), "C")
    kinds["$_DLATCH_P_"] = Kind(["E", "D"], {"Q": _code("STATE")}, "latch", _code("D"), "E")
    return kinds | {name: _kind(cell) for name, cell in library.cells.items() if cell.kind not in ("macro", "other")}


def _kind(cell: Cell) -> Kind:
    following, outputs = state_functions(cell)
    codes = {pin: _code(text) for pin, text in zip(cell.outputs, outputs, strict=True)}
    if cell.kind in ("gate", "clock_gate"):
        return Kind(cell.inputs, codes, cell.kind, clock=cell.clock_pin)
    if cell.kind == "latch":
        following = cell.expression(cell.state.get("data_in"))
    fixed = [pin for name in ("clear", "preset") if cell.state.get(name)
             for pin in re.findall(r"\w+", cell.expression(cell.state.get(name)))]
    return Kind(cell.inputs, codes, cell.kind, _code(following), cell.clock_pin, tuple(fixed),
                bool(re.fullmatch(r"\(~\w+\)", following)))


@dataclass
class Machine:
    """A circuit as literals: its `outputs`, its registers' `states` and `nexts`; the registers' `names` in the source,
    and the parts `within` it."""

    outputs: dict[str, int] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    nexts: dict[str, int] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    within: dict[str, str] = field(default_factory=dict)


class Nets(dict):
    """The value of each net, which has one driver."""

    def __missing__(self, net):
        raise DesignLimit(f"the net {net} has no driver")

    def drive(self, net, value: Bit) -> None:
        if net in self:
            raise DesignLimit(f"the net {net} has two drivers")
        self[net] = value


def machine(graph: Graph, free: dict[str, Bit], module: dict, kinds: dict[str, Kind], parts: dict[str, str]) -> Machine:
    """Builds a module of Yosys' JSON in a graph. An instance of a part is left out: its outputs are inputs.

    Parameters
    ----------
    graph
        is added to
    free
        inputs by name, which circuits have in common
    module
        an entry of `modules` in the JSON
    kinds
        what each type of cell does
    parts
        names of parts, and what they are in the other circuit
    """
    false, found, cells, ends = Bit(graph, 0), Machine(), {}, []
    nets = Nets({"0": false, "1": ~false, "x": free.setdefault("x", graph.input())})
    clocks = [bit for port, row in module["ports"].items() if port == "clk" for bit in row["bits"]]
    ports = [(port, row["direction"] == "input", row["bits"]) for port, row in module["ports"].items()]
    for name, cell in module["cells"].items():
        if cell["type"] in kinds:
            cells[name] = kinds[cell["type"]], {pin: bits[0] for pin, bits in cell["connections"].items() if bits}
            continue
        if cell["type"] not in parts and cell["type"] not in parts.values():
            raise DesignLimit(f"{name} is a {cell['type']}, which the proof does not know")
        found.within[name] = parts.get(cell["type"], cell["type"])
        ports += [(f"{name}.{pin}", cell["port_directions"][pin] == "output", bits) for pin, bits in cell["connections"].items()
                  if bits != clocks]
    for name, given, bits in ports:
        if bits == clocks:
            nets.drive(bits[0], ~false)  # it ticks
        elif given:
            for k, bit in enumerate(bits):
                nets.drive(bit, free.setdefault(f"{name}[{k}]", graph.input()))
        else:
            ends.append((name, bits))
    _check_clocks(cells, set(clocks), ends)

    def evaluate(name: str, values: dict[str, Bit]) -> None:
        kind, pins = cells[name]
        for pin, code in kind.outputs.items():
            if pin in pins:
                nets.drive(pins[pin], eval(code, {}, values | {"ZERO": false}))

    registers = {name: graph.input() for name, (kind, _) in cells.items() if kind.following}
    for name, state in registers.items():
        evaluate(name, {"STATE": ~state if cells[name][0].inverted else state})
    for name in _order({name: cell for name, cell in cells.items() if name not in registers}):
        kind, pins = cells[name]
        evaluate(name, {pin: nets[pins.get(pin)] for pin in kind.inputs})
    _step(graph, found, cells, registers, nets)
    wires = defaultdict(list)
    for net, row in module["netnames"].items():
        for k, bit in enumerate(row["bits"]):
            wires[bit].append(f"{net}[{k}]")
    for name in registers:
        kind, pins = cells[name]
        found.names[name] = next((wires[pins[pin]] for pin in kind.outputs if pin in pins), [name])
    found.outputs = {f"{name}[{k}]": nets[bit].literal for name, bits in ends for k, bit in enumerate(bits)}
    return found


def _order(gates: dict[str, tuple[Kind, dict]]) -> list[str]:
    """The gates, each after those that drive it."""
    driver = {pins[pin]: name for name, (kind, pins) in gates.items() for pin in kind.outputs if pin in pins}
    needs = {name: {driver[pins[pin]] for pin in kind.inputs if pins.get(pin) in driver} for name, (kind, pins) in gates.items()}
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise DesignLimit(f"the netlist has a loop of gates through {error.args[1][0]}") from None


def _step(graph: Graph, found: Machine, cells: dict[str, tuple[Kind, dict]], registers: dict[str, Bit], nets: Nets) -> None:
    """Finds what follows each state: flip-flops first, since a latch opens after the edge and takes their new state."""
    data = {}
    for name in registers:
        kind, pins = cells[name]
        values = {pin: nets[pins.get(pin)] for pin in kind.inputs}
        if any(values[pin].literal > 1 for pin in kind.fixed):
            raise DesignLimit(f"{name} has an asynchronous input that is no constant, which the proof does not model")
        following = eval(kind.following, {}, values | {"ZERO": Bit(graph, 0)})
        data[name] = values[kind.clock], ~following if kind.inverted else following
    moved = {}
    for latches in (False, True):
        names = [name for name in registers if (cells[name][0].role == "latch") == latches]
        after = [data[name][1].literal for name in names]
        if latches:
            if graph.inputs(after) - set(moved):
                raise DesignLimit("a latch holds what does not come from flip-flops, which the proof does not model")
            after = graph.replace(after, moved)
        for name, literal in zip(names, after, strict=True):
            tick, state = data[name][0], registers[name]
            found.states[name] = state.literal
            found.nexts[name] = moved[state.literal] = ((tick & Bit(graph, literal)) | (~tick & state)).literal


def _check_clocks(cells: dict[str, tuple[Kind, dict]], clocks: set, ends: list[tuple[str, list]]) -> None:
    """Clock nets pass clock gates and buffers, and end at clock pins."""
    readers = defaultdict(list)
    for name, (kind, pins) in cells.items():
        for pin in kind.inputs:
            readers[pins[pin]].append((name, pin))
    waiting, seen = list(clocks), set(clocks)
    while waiting:
        for name, pin in readers[waiting.pop()]:
            kind, pins = cells[name]
            if pin == kind.clock and kind.following:
                continue
            passes = pin == kind.clock or (len(kind.inputs) == 1 and all(eval(code, {}, {pin: 2}) == 2
                                                                         for code in kind.outputs.values()))
            if not passes:
                raise DesignLimit(f"the clock goes to pin {pin} of {name}, which is neither a clock pin nor a buffer's")
            new = {pins[pin] for pin in kind.outputs if pin in pins} - seen
            waiting += new
            seen |= new
    for name, (kind, pins) in cells.items():
        if kind.clock and pins[kind.clock] not in seen:
            raise DesignLimit(f"{name} is clocked by what is no clock: {pins[kind.clock]}")
    if wrong := [name for name, bits in ends if seen & set(bits)]:
        raise DesignLimit(f"the clock goes to {wrong[0]}, which is no clock pin")
