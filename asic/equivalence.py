"""Formal equivalence of a mapped netlist and its RTL, part by part, for every state and every input.

Both become one graph of AND gates. Registers are matched by what they do; then ABC proves that from any state of the netlist, and
the state of the RTL that corresponds, outputs are equal and the next states correspond again. That is a refinement: what the
netlist does from any power-up state, the RTL does from one of its own. A wrong match can only break a proof.

A cycle is one step. A clock net tells whether it ticks: a clock gate is its enable, a flip-flop behind it keeps its state, and a
latch behind it holds what its data become at the same edge. That is so where setup and hold are met, and clock nets pass clock
gates and buffers alone, which is checked here. Macros are read on the other edge: a part that has one is left out. What a part
has within is a part of its own: here its outputs are inputs.

The RTL is taken twice: as Yosys lowers it for the mapping, and as written. Products as written are beyond SAT: what is not
finished there is equal to the lowered RTL only. What is undefined in the RTL: a read beyond a RAM's words gives 0 where these
are latches, else some word; a register that never changes is 0 or 1 at each use.
"""

import json
import re
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import combinations
from pathlib import Path
from types import CodeType

import numpy as np

from emamba.base.errors import DesignLimit, Mismatch
from rtl.kit import tools

from .and_graph import Bit, Graph, Simulation
from .gates import state_functions
from .liberty import Cell, Library
from .mapping import Netlist, Part, divide, lowering, stub, with_parts
from .memories import LEAST_WORDS

FEW, MANY = 300, 100_000
"""Conflicts of the SAT solver, for two nodes that may be equal."""
AS_WRITTEN = f"""\
hierarchy -top {{top}}
proc
flatten
opt_clean
memory_collect
memory_share
memory_map t:$mem* r:SIZE>={LEAST_WORDS} %i
setundef -undriven -zero
memory
opt_expr -mux_undef -undriven
techmap"""
AS_GATES = """\
dffunmap
simplemap
opt_clean
setundef -undriven -undef
write_json -noscopeinfo rtl.json"""
YOSYS_CELLS = {"BUF": "A", "NOT": "~A", "AND": "A & B", "OR": "A | B", "XOR": "A ^ B", "NAND": "~(A & B)", "NOR": "~(A | B)",
               "XNOR": "~(A ^ B)", "ANDNOT": "A & ~B", "ORNOT": "A | ~B", "MUX": "(S & B) | (~S & A)"}


@dataclass(frozen=True)
class Check:
    """Of a part: `functions` are its outputs and next states, `direct` how many of them equal the RTL as written. `result` is
    proven, different or unfinished; so is called, too, what seems to differ from the RTL as written alone, since more may be
    undefined there than is tried. `where` is the first function that is not proven."""

    part: str
    cells: int
    registers: int
    latches: int
    functions: int
    direct: int
    result: str
    where: str
    seconds: float


@dataclass(frozen=True)
class Source:
    """The Verilog of all parts by name, in the order of the netlist's, and at last that of `top`."""

    texts: dict[str, str]

    @classmethod
    def of(cls, verilog: str) -> "Source":
        names, texts = divide(verilog)
        return cls(texts | {"top": with_parts(verilog, names)})

    def read(self, name: str, lower: str, library: Library) -> dict:
        """A part as cells of one bit, by Yosys."""
        within = [inner for inner in self.texts if inner != name and inner in self.texts[name]]
        stubs = "".join(stub(cell) for cell in library.cells.values() if cell.kind == "clock_gate")
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            for file, text in [*((inner, self.texts[inner]) for inner in within), ("cells", stubs), ("rtl", self.texts[name])]:
                (work / f"{file}.v").write_text(text, encoding="utf-8")
            tools.yosys(work, [*(f"read_verilog -lib {file}.v" for file in (*within, "cells")), "read_verilog rtl.v",
                               *lower.splitlines(), *AS_GATES.splitlines()])
            return json.loads((work / "rtl.json").read_text(encoding="utf-8"))["modules"][name]


def check(verilog: str, netlist: Netlist, seconds: float = 60, only: Collection[str] = ()) -> Iterator[Check]:
    """Every part of a chip's netlist, and its top, or `only` some, against the Verilog that it was mapped from. `seconds` limit
    each of the two proofs of a part."""
    parts = {**netlist.parts, "top": netlist.top}
    written, mapped = Source.of(verilog), Source.of(netlist.source)
    names = dict(zip(parts, written.texts, strict=True))
    for name in only or parts:
        yield _check(parts[name], netlist.library, names, written, mapped, seconds)


def _check(part: Part, library: Library, names: dict[str, str], written: Source, mapped: Source, seconds: float) -> Check:
    """`names`: by that of a part its name in `written`, which differs where RAMs have become latches."""
    if "macro" in (roles := [library.cells[cell["type"]].kind for cell in part.cells.values() if cell["type"] in library.cells]):
        return Check(part.name, len(roles), roles.count("ff"), roles.count("latch"), 0, 0, "unfinished", "a macro", 0.0)
    start, same, seeds, left = time.perf_counter(), {name: name for name in names}, {}, []
    for source, known, lower, efforts in (
            (mapped, same, lowering(part.name, mapped.texts[part.name]), (FEW, MANY)),
            (written, names, AS_WRITTEN.format(top=names[part.name]), (FEW,))):
        graph, free = Graph(), {}
        gate, rtl = (machine(graph, free, module, cell_kinds(library), known)
                     for module in (part.netlist, source.read(known[part.name], lower, library)))
        functions, seeds = correspond(graph, free, gate, rtl, seeds)
        inputs = [bit.literal for bit in free.values()] + [*gate.states.values(), *rtl.kit.states.values()]
        left.append(unproven(graph, inputs, functions, efforts, seconds))
    lowered, direct = left
    wrong = [name for name, differs in lowered if differs and direct]
    unfinished = [*(name for name, differs in direct if differs), *(name for name, _ in lowered if direct)]
    result = "different" if wrong else "unfinished" if unfinished else "proven"
    return Check(part.name, len(roles), roles.count("ff"), roles.count("latch"), len(functions), len(functions) - len(direct),
                 result, (*wrong, *unfinished, "")[0], round(time.perf_counter() - start, 1))


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
    """Of the library's cells and of those that Yosys leaves of RTL."""
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
    """Of a circuit the literals of what is observed; of every register those of its state and of the next, and its names in the
    source; and what the parts are that it has within."""

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
    """Of a module of Yosys' JSON. `free` are the inputs by name, which circuits have in common. What is a part, by `parts` or
    by what they become, is left out: its outputs are inputs."""
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
    """Gates, each behind those that drive it."""
    driver = {pins[pin]: name for name, (kind, pins) in gates.items() for pin in kind.outputs if pin in pins}
    needs = {name: {driver[pins[pin]] for pin in kind.inputs if pins.get(pin) in driver} for name, (kind, pins) in gates.items()}
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise DesignLimit(f"the netlist has a loop of gates through {error.args[1][0]}") from None


def _step(graph: Graph, found: Machine, cells: dict[str, tuple[Kind, dict]], registers: dict[str, Bit], nets: Nets) -> None:
    """What follows each state: of flip-flops first, since a latch opens behind the edge and takes what they have become."""
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


def classes(graph: Graph, inputs: list[int], states: list[int], nexts: list[int], known: list[int],
            constant: dict[int, int]) -> tuple[list[int], dict[int, int]]:
    """Classes of registers that do the same as long as those of a class hold the same; and which of them stay 0, or 1 (−1).

    They begin as `known`, with those constants. Where zeros do not stay, they become ones; where these do not, anything. Those
    with other next states part, until none do."""
    simulation = Simulation(graph)
    simulation.set(inputs, simulation.noise(len(inputs)))
    found, count = known, max(*known, *constant, 0) + 1
    while True:
        values = simulation.noise(count)
        for key, value in constant.items():
            values[key] = value
        simulation.set(states, values[found])
        simulation.run()
        numbers, still = {}, {}
        new = [numbers.setdefault((old, row.tobytes()), len(numbers))
               for old, row in zip(found, simulation.of(nexts), strict=True)]
        for (old, row), number in numbers.items():
            value = constant.get(old)
            if value is not None:
                stays = row == bytes([value & 255]) * len(row)
                if stays or value == 0:
                    still[number] = value if stays else -1
        if len(numbers) == count and sorted(still.values()) == sorted(constant.values()):
            return new, still
        found, constant, count = new, still, len(numbers)


def correspond(graph: Graph, free: dict[str, Bit], gate: Machine, rtl: Machine, seeds: dict[str, str]
               ) -> tuple[list[tuple[str, int]], dict[str, str]]:
    """The functions that are to be 0, by the RTL's names: with the netlist's registers in place of its own, whether an output or
    a next state differs. And the registers of the netlist by the RTL's names; `seeds` are such, known before."""
    for what, ours, theirs in (("ports", set(gate.outputs), set(rtl.outputs)),
                               ("parts", set(gate.within.items()), set(rtl.within.items()))):
        if ours != theirs:
            raise Mismatch(f"the netlist has other {what} than the RTL: {min(ours ^ theirs)}")
    match, constant = _match(graph, [bit.literal for bit in free.values()], gate, rtl, seeds)
    moved = {rtl.kit.states[name]: literal for name, literal in constant.items()}
    moved |= {rtl.kit.states[name]: gate.states[own] for name, own in match.items()}
    still = {state for state, following in ((rtl.kit.states[name], rtl.nexts[name]) for name in constant)
             if graph.replace([following], moved | {state: state}) == [state]}
    constant = {name: literal for name, literal in constant.items() if rtl.kit.states[name] not in still}
    names = [*rtl.outputs, *(rtl.names[name][0] for name in (*match, *constant))]
    ours = [*(gate.outputs[name] for name in rtl.outputs), *(gate.nexts[own] for own in match.values()), *constant.values()]
    theirs = [*rtl.outputs.values(), *(rtl.nexts[name] for name in (*match, *constant))]
    differs = [Bit(graph, 1)] * len(names)
    for value in (0, 1):
        literals = graph.replace(theirs, moved | dict.fromkeys([*still, free["x"].literal], value))
        differs = [either & (Bit(graph, a) ^ Bit(graph, b)) for either, a, b in zip(differs, ours, literals, strict=True)]
    return ([(name, bit.literal) for name, bit in zip(names, differs, strict=True)],
            {alias: own for name, own in match.items() for alias in rtl.names[name]})


def _match(graph: Graph, inputs: list[int], gate: Machine, rtl: Machine, seeds: dict[str, str]
           ) -> tuple[dict[str, str], dict[str, int]]:
    """By name of the RTL's registers those of the netlist, and the constants of those that it does not have."""
    ours, theirs = sorted(gate.states, key=_number), sorted(rtl.kit.states, key=_number)
    match = {name: next(seeds[alias] for alias in rtl.names[name] if alias in seeds) for name in theirs
             if not seeds.keys().isdisjoint(rtl.names[name])}
    doubles, fixed = classes(graph, inputs, [rtl.kit.states[name] for name in theirs], [rtl.nexts[name] for name in theirs],
                             [0] * len(theirs), {0: 0})
    choices, alike = defaultdict(list), []
    for name, key in zip(theirs, doubles, strict=True):
        if name in match and key not in fixed:
            choices[key].append(match[name])
    for name, key in zip(theirs, doubles, strict=True):
        if name not in match and choices[key]:
            match[name] = choices[key][0]
            alike.append(([name], choices[key]))
    numbers = {own: k for k, own in enumerate(dict.fromkeys(match.values()), 3)}
    guess = {name: 1 - fixed[key] for name, key in zip(theirs, doubles, strict=True) if key in fixed and seeds} | {
        name: numbers[own] for name, own in match.items()}
    found, fixed = classes(graph, inputs, [gate.states[name] for name in ours] + [rtl.kit.states[name] for name in theirs],
                           [gate.nexts[name] for name in ours] + [rtl.nexts[name] for name in theirs],
                           [numbers.get(name, 0) for name in ours] + [guess.get(name, 0) for name in theirs], {0: 0, 1: 0, 2: -1})
    held, same = defaultdict(list), defaultdict(list)
    for name, key in zip(ours, found[:len(ours)], strict=True):
        held[key].append(name)
    for name, key in zip(theirs, found[len(ours):], strict=True):
        if name not in match:
            same[key].append(name)
    match |= {name: held[key][min(k, len(held[key]) - 1)] for key, names in same.items() if held[key]
              for k, name in enumerate(names)}
    constant = {name: -fixed[key] for key, names in same.items() if key in fixed and not held[key] for name in names}
    alike += [(names, held[key]) for key, names in same.items()]
    _settle(graph, inputs, gate, rtl, match, constant, [(names, others) for names, others in alike if len(others) > 1])
    return match, constant


def _number(name: str) -> int:
    """Yosys numbers registers in the order of their bits."""
    return int((re.findall(r"\d+", name) or ["0"])[-1])


def _settle(graph: Graph, inputs: list[int], gate: Machine, rtl: Machine, match: dict[str, str], constant: dict[str, int],
            alike: list[tuple[list[str], list[str]]]) -> None:
    """Chooses among the netlist's registers that do the same those with which most is as it is to be."""
    if not alike:
        return
    simulation = Simulation(graph)
    for literals in (inputs, [*gate.states.values()], [*rtl.kit.states.values()]):
        simulation.set(literals, simulation.noise(len(literals)))
    simulation.set([rtl.kit.states[name] for name in constant], simulation.of(list(constant.values())))

    def wrong(tried: dict[str, str]) -> int:
        simulation.set([rtl.kit.states[name] for name in tried], simulation.of([gate.states[name] for name in tried.values()]))
        simulation.run()
        a = simulation.of([*(gate.outputs[name] for name in rtl.outputs), *(gate.nexts[name] for name in tried.values())])
        b = simulation.of([*rtl.outputs.values(), *(rtl.nexts[name] for name in tried)])
        return int(np.unpackbits((a ^ b).view(np.uint8)).sum())

    least, before = wrong(match), None
    while least and least != before:
        before = least
        changes = [{name: other} for names, others in alike for name in names for other in others]
        changes += [{one: match[other], other: match[one]} for names, _ in alike for one, other in combinations(names, 2)]
        for change in changes:
            if change.items() <= match.items():
                continue
            now = wrong(match | change)
            if now < least:
                least = now
                match |= change


def unproven(graph: Graph, inputs: list[int], functions: list[tuple[str, int]], efforts: tuple[int, ...],
             seconds: float) -> list[tuple[str, bool]]:
    """The names of the functions that ABC does not prove to be 0, those first of which patterns show that they are not."""
    until, left = time.perf_counter() + seconds, [function for function in functions if function[1]]
    if not left:
        return []
    simulation = Simulation(graph)
    simulation.set(inputs, simulation.noise(len(inputs)))
    simulation.run()
    seen = simulation.of([literal for _, literal in left]).any(axis=1)
    wrong = [name for (name, _), one in zip(left, seen, strict=True) if one]
    for conflicts in efforts:
        zero = _sweep(graph, inputs, [literal for _, literal in left], conflicts, until - time.perf_counter())
        left = [function for function, proven in zip(left, zero, strict=True) if not proven]
        if not left or wrong:
            break
    return sorted(((name, name in wrong) for name, _ in left), key=lambda one: not one[1])


def _sweep(graph: Graph, inputs: list[int], outputs: list[int], conflicts: int, seconds: float) -> list[bool]:
    """Which outputs ABC proves to be 0."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "miter.aig").write_bytes(graph.aiger(inputs, outputs))
        try:
            tools.abc(work, f"&r miter.aig; &fraig -y -C {conflicts}; &w swept.aig", max(seconds, 1.0))
        except subprocess.TimeoutExpired:
            return [False] * len(outputs)
        return _outputs(work / "swept.aig")


def _outputs(path: Path) -> list[bool]:
    """Whether each output of an AIGER file is constant 0."""
    lines = path.read_bytes().split(b"\n")
    return [line == b"0" for line in lines[1:1 + int(lines[0].split()[4])]]
