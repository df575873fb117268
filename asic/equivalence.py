"""Formal equivalence of a mapped netlist and its RTL, part by part, for every state and every input.

Both become one graph of AND gates. Registers are matched by what they do; then ABC proves that from any state of the netlist, and
the state of the RTL that corresponds, outputs are equal and the next states correspond again. That is a refinement: what the
netlist does from any power-up state, the RTL does from one of its own. A wrong match can only break a proof.

A cycle is one step. A clock net tells whether it ticks: a clock gate is its enable, a flip-flop behind it keeps its state, and a
latch behind it holds what its data become at the same edge. That is so where setup and hold are met, and clock nets pass clock
gates and buffers alone, which is checked here. What a part has within is a part of its own: here its outputs are inputs.

The RTL is taken twice: as written, and lowered by Yosys as for the mapping, since SAT does not relate a product to Booth's. A
read beyond a RAM's words gives zero.
"""

import json
import re
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import combinations
from pathlib import Path
from types import CodeType

import numpy as np

from boards import tools
from emamba.errors import EmambaError

from .gates import state_functions
from .liberty import Cell, Library
from .mapping import Netlist, divide, lowering, stub
from .memories import LEAST_WORDS, latched

WORDS = 64
"""Of 64 patterns each, by which registers are matched."""
CONFLICTS = (300, 100_000)
"""Of the SAT solver, for two nodes that may be equal: at first, and for what is left."""
AS_WRITTEN = f"""\
hierarchy -top {{top}}
proc
flatten
memory_collect
memory_share
memory_map t:$mem* r:SIZE>={LEAST_WORDS} %i
setundef -zero
opt
memory
techmap"""
AS_GATES = """\
dffunmap
simplemap
opt_clean
setundef -undriven -zero
write_json -noscopeinfo rtl.json"""
YOSYS_CELLS = {"BUF": "A", "NOT": "~A", "AND": "A & B", "OR": "A | B", "XOR": "A ^ B", "NAND": "~(A & B)", "NOR": "~(A | B)",
               "XNOR": "~(A ^ B)", "ANDNOT": "A & ~B", "ORNOT": "A | ~B", "MUX": "(S & B) | (~S & A)"}


@dataclass(frozen=True)
class Check:
    """Of a part: `functions` are its outputs and next states, `direct` those that are proven equal to the RTL as written. `result`
    is proven, different or unfinished; `where` the first function that is not proven."""

    part: str
    cells: int
    registers: int
    latches: int
    functions: int
    direct: int
    result: str
    where: str
    seconds: float


def check(verilog: str, netlist: Netlist, seconds: float = 60) -> Iterator[Check]:
    """Every part of a chip's netlist against the Verilog that it was mapped from; `seconds` are the limit of one."""
    gate = netlist.library.smallest("clock_gate")
    written, mapped = divide(verilog)[1], divide(latched(verilog, gate))[1]
    if list(mapped) != list(netlist.parts):
        mapped = written
    for part, name in zip(netlist.parts, written, strict=True):
        yield check_part(netlist, part, Source(name, written), Source(part, mapped), seconds)


@dataclass(frozen=True)
class Source:
    """The Verilog of part `name` among those of all."""

    name: str
    texts: dict[str, str]


def check_part(netlist: Netlist, part: str, written: Source, mapped: Source, seconds: float) -> Check:
    """First against the RTL as written; what is left then against the RTL as Yosys lowers it."""
    start, library = time.perf_counter(), netlist.library
    cells = netlist.parts[part].netlist
    roles = [library.cells[cell["type"]].kind for cell in cells["cells"].values() if cell["type"] in library.cells]
    direct = None
    for source, lower in ((written, AS_WRITTEN.format(top=written.name)),
                          (mapped, lowering(part, mapped.texts[mapped.name]))):
        graph, free = Graph(), {}
        gate = machine(graph, free, cells, library_kinds(library))
        rtl = machine(graph, free, read(source, lower, library), library_kinds(library))
        pairs, inputs = correspond(graph, free, gate, rtl)
        left = unproven(graph, inputs, pairs, seconds - (time.perf_counter() - start))
        if direct is None:
            direct = len(pairs) - len(left)
        if not left:
            break
    found = [wrong for wrong in left if wrong[1]] or left
    result = "proven" if not left else "different" if found[0][1] else "unfinished"
    return Check(part, len(roles), roles.count("ff"), roles.count("latch"), len(pairs), direct, result, found[0][0] if left else "",
                 round(time.perf_counter() - start, 1))


class Graph:
    """AND gates, equal ones once. A literal is twice the number of its node, and one more where it is inverted."""

    def __init__(self):
        self.pairs: list[tuple[int, int] | None] = [None]  # of node 0, which is false, and of inputs there is none
        self.known: dict[tuple[int, int], int] = {}

    def input(self) -> "Bit":
        self.pairs.append(None)
        return Bit(self, 2 * (len(self.pairs) - 1))

    def both(self, a: int, b: int) -> int:
        a, b = min(a, b), max(a, b)
        if a == 0 or a ^ b == 1:
            return 0
        if a in (1, b):
            return b
        if (a, b) not in self.known:
            self.pairs.append((a, b))
            self.known[a, b] = 2 * (len(self.pairs) - 1)
        return self.known[a, b]

    def order(self, literals: list[int], done: Container[int]) -> Iterator[int]:
        """Nodes that the literals are made of, each behind those that it is made of; none of `done`, which grows meanwhile."""
        stack = [literal // 2 for literal in reversed(literals)]
        while stack:
            node = stack[-1]
            left = [] if node in done else [literal // 2 for literal in self.pairs[node] or () if literal // 2 not in done]
            if left:
                stack += left
            else:
                stack.pop()
                if node not in done:
                    yield node

    def replace(self, literals: list[int], inputs: dict[int, int]) -> list[int]:
        """The literals with those of inputs replaced."""
        new = {0: 0} | {literal // 2: value for literal, value in inputs.items()}
        for node in self.order(literals, new):
            pair = self.pairs[node]
            new[node] = self.both(*(new[literal // 2] ^ literal & 1 for literal in pair)) if pair else 2 * node
        return [new[literal // 2] ^ literal & 1 for literal in literals]

    def inputs(self, literals: list[int]) -> set[int]:
        """The literals of inputs that some depend on."""
        seen: set[int] = {0}
        return {2 * node for node in self.order(literals, seen) if not seen.add(node) and self.pairs[node] is None}

    def aiger(self, inputs: list[int], outputs: list[int]) -> bytes:
        """The outputs in the binary format AIGER."""
        number, ands = {0: 0} | {literal // 2: k for k, literal in enumerate(inputs, 1)}, bytearray()
        for node in self.order(outputs, number):
            low, high = sorted(2 * number[literal // 2] + (literal & 1) for literal in self.pairs[node])
            number[node] = len(number)
            for delta in (2 * number[node] - high, high - low):
                while delta > 127:
                    ands.append(delta & 127 | 128)
                    delta >>= 7
                ands.append(delta)
        head = f"aig {len(number) - 1} {len(inputs)} 0 {len(outputs)} {len(number) - 1 - len(inputs)}\n"
        return (head + "".join(f"{2 * number[literal // 2] + (literal & 1)}\n" for literal in outputs)).encode() + bytes(ands)


@dataclass(frozen=True)
class Bit:
    """A value in a graph, so that the functions of cells can be evaluated as they are."""

    graph: Graph
    literal: int

    def __invert__(self):
        return Bit(self.graph, self.literal ^ 1)

    def __and__(self, other):
        return Bit(self.graph, self.graph.both(self.literal, other.literal))

    def __or__(self, other):
        return ~(~self & ~other)

    def __xor__(self, other):
        return (self & ~other) | (~self & other)


@dataclass(frozen=True)
class Kind:
    """What a cell does, as functions of its inputs and of STATE: `outputs`, and of one with a `clock` what follows where it ticks.
    `inverted`: STATE is the complement of its data."""

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
def library_kinds(library: Library) -> dict[str, Kind]:
    """Of the library's cells and of those that Yosys leaves of RTL."""
    kinds = {f"$_{name}_": Kind(re.findall("[A-Z]", text), {"Y": _code(text)}) for name, text in YOSYS_CELLS.items()}
    kinds["$_DFF_P_"] = Kind(["C", "D"], {"Q": _code("STATE")}, "ff", _code("D"), "C")
    kinds["$_DLATCH_P_"] = Kind(["E", "D"], {"Q": _code("STATE")}, "latch", _code("D"), "E")
    return kinds | {name: _kind(cell) for name, cell in library.cells.items() if cell.kind != "other"}


def _kind(cell: Cell) -> Kind:
    following, outputs = state_functions(cell)
    codes = {pin: _code(text) for pin, text in zip(cell.outputs, outputs, strict=True)}
    if cell.kind in ("gate", "clock_gate"):
        return Kind(cell.inputs, codes, cell.kind, clock=cell.clock_pin)
    if cell.kind == "latch":
        following = cell.expression(cell.state.get("data_in"))
    asynchronous = [cell.expression(cell.state.get(name)) for name in ("clear", "preset") if cell.state.get(name)]
    return Kind(cell.inputs, codes, cell.kind, _code(following), cell.clock_pin, tuple(re.findall(r"\w+", " ".join(asynchronous))),
                bool(re.fullmatch(r"\(~\w+\)", following)))


@dataclass
class Machine:
    """Of a circuit the literals of what is observed, and of every register that of its state and of the next."""

    outputs: dict[str, int] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    nexts: dict[str, int] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


def machine(graph: Graph, free: dict[str, Bit], module: dict, kinds: dict[str, Kind]) -> Machine:
    """Of a module of Yosys' JSON; `free` are the inputs by name, which circuits have in common. Cells of no kind are left out."""
    false = Bit(graph, 0)
    value, found, cells = {"0": false, "1": ~false}, Machine(), {}

    def given(name: str, bits: list) -> None:
        for k, bit in enumerate(bits):
            value[bit] = free.setdefault(f"{name}[{k}]", graph.input())

    def observed(name: str, bits: list) -> None:
        found.outputs.update({f"{name}[{k}]": value[bit].literal for k, bit in enumerate(bits)})

    nets = {bit: f"{net}[{k}]" for net, row in module["netnames"].items() for k, bit in enumerate(row["bits"])}
    clock = module["ports"].get("clk", {"bits": []})["bits"]
    ends: list[tuple[str, list]] = []
    for port, row in module["ports"].items():
        if row["direction"] == "output":
            ends.append((port, row["bits"]))
        elif port != "clk":
            given(port, row["bits"])
    value.update(dict.fromkeys(clock, ~false))
    for name, cell in module["cells"].items():
        pins = cell["connections"]
        if cell["type"] in kinds:
            cells[name] = kinds[cell["type"]], {pin: bits[0] for pin, bits in pins.items() if bits}
            continue
        if cell["type"].startswith("$"):
            raise EmambaError(f"{name} is a {cell['type']}, which the proof does not know")
        for pin, bits in pins.items():
            if cell["port_directions"][pin] == "output":
                given(f"{name}.{pin}", bits)
            elif bits != clock:
                ends.append((f"{name}.{pin}", bits))
    _check_clocks(cells, set(clock), ends)
    registers = {name for name, (kind, _) in cells.items() if kind.following}
    for name in registers:
        kind, pins = cells[name]
        state = graph.input()
        held = ~state if kind.inverted else state
        value.update({pins[pin]: eval(code, {}, {"STATE": held, "ZERO": false}) for pin, code in kind.outputs.items() if pin in pins})
        found.states[name] = state.literal
    gates = {name: cell for name, cell in cells.items() if name not in registers}
    driver = {pins[pin]: name for name, (kind, pins) in gates.items() for pin in kind.outputs if pin in pins}
    needs = {name: {driver[pins[pin]] for pin in kind.inputs if pins[pin] in driver} for name, (kind, pins) in gates.items()}
    try:
        for name in TopologicalSorter(needs).static_order():
            kind, pins = cells[name]
            bits = {pin: value[pins[pin]] for pin in kind.inputs} | {"ZERO": false}
            value.update({pins[pin]: eval(code, {}, bits) for pin, code in kind.outputs.items() if pin in pins})
    except CycleError as error:
        raise EmambaError(f"the netlist has a loop of gates through {error.args[1][0]}") from None
    latches = {}
    for name in registers:
        kind, pins = cells[name]
        bits = {pin: value[pins[pin]] for pin in kind.inputs} | {"ZERO": false}
        if any(bits[pin].literal > 1 for pin in kind.fixed):
            raise EmambaError(f"{name}: its asynchronous input is no constant, which the proof does not model")
        tick, data, state = bits[kind.clock], eval(kind.following, {}, bits), Bit(graph, found.states[name])
        if kind.role == "latch":
            latches[name] = tick, data
        else:
            found.nexts[name] = ((tick & (~data if kind.inverted else data)) | (~tick & state)).literal
    moved = {found.states[name]: following for name, following in found.nexts.items()}
    data = graph.replace([data.literal for _, data in latches.values()], moved)
    if strange := graph.inputs([data.literal for _, data in latches.values()]) - set(moved):
        raise EmambaError(f"the data of a latch are to come from flip-flops; they come from {_name(strange, free)}")
    for (name, (tick, _)), after in zip(latches.items(), data, strict=True):
        found.nexts[name] = ((tick & Bit(graph, after)) | (~tick & Bit(graph, found.states[name]))).literal
    for name, bits in ends:
        observed(name, bits)
    found.names = {name: next((nets[pins[pin]] for pin in kind.outputs if pin in pins), name) for name, (kind, pins) in
                   ((name, cells[name]) for name in registers)}
    return found


def _name(literals: set[int], free: dict[str, Bit]) -> str:
    return next((f"the input {name}" for name, bit in free.items() if bit.literal in literals), "another latch")


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
                raise EmambaError(f"the clock goes to pin {pin} of {name}, which is neither a clock pin nor a buffer's")
            new = {pins[pin] for pin in kind.outputs if pin in pins} - seen
            waiting += new
            seen |= new
    for name, (kind, pins) in cells.items():
        if kind.clock and pins[kind.clock] not in seen:
            raise EmambaError(f"{name} is clocked by what is no clock: {pins[kind.clock]}")
    if wrong := [name for name, bits in ends if seen & set(bits)]:
        raise EmambaError(f"the clock goes to {wrong[0]}, which is no clock pin")


def read(source: Source, lower: str, library: Library) -> dict:
    """A part's RTL as cells of one bit, by Yosys."""
    text = source.texts[source.name]
    within = [inner for inner in source.texts if inner != source.name and inner in text]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for inner in within:
            (work / f"{inner}.v").write_text(source.texts[inner], encoding="utf-8")
        (work / "cells.v").write_text("".join(stub(cell) for cell in library.cells.values() if cell.kind == "clock_gate"),
                                      encoding="utf-8")
        (work / "rtl.v").write_text(text, encoding="utf-8")
        tools.yosys(work, [*(f"read_verilog -lib {file}.v" for file in (*within, "cells")), "read_verilog rtl.v",
                           *lower.splitlines(), *AS_GATES.splitlines()])
        return json.loads((work / "rtl.json").read_text(encoding="utf-8"))["modules"][source.name]


class Simulation:
    """All values of a graph under random patterns; of an input a half of them, few or most are one."""

    def __init__(self, graph: Graph):
        level = np.zeros(len(graph.pairs), np.int64)
        pairs = np.array([pair or (0, 0) for pair in graph.pairs])
        for node, pair in enumerate(graph.pairs):
            if pair:
                level[node] = 1 + max(level[pair[0] // 2], level[pair[1] // 2])
        order = np.argsort(level, kind="stable")
        steps = np.split(order, np.flatnonzero(np.diff(level[order])) + 1)[1:]
        self.steps = [(nodes, *pairs[nodes].T) for nodes in steps]
        self.values = np.zeros((len(graph.pairs), WORDS), np.int64)
        self.random = np.random.default_rng(1)

    def noise(self, rows: int) -> np.ndarray:
        one, two, three = self.random.integers(-2**63, 2**63 - 1, (3, rows, WORDS))
        few, most = slice(WORDS // 2, 3 * WORDS // 4), slice(3 * WORDS // 4, WORDS)
        one[:, few] &= two[:, few] & three[:, few]
        one[:, most] |= two[:, most] | three[:, most]
        return one

    def set(self, literals: list[int], values: np.ndarray) -> None:
        self.values[np.array(literals, int) // 2] = values

    def run(self) -> None:
        for nodes, a, b in self.steps:
            self.values[nodes] = self.of(a) & self.of(b)

    def of(self, literals) -> np.ndarray:
        literals = np.asarray(literals, int)
        return self.values[literals // 2] ^ -(literals & 1)[:, None]


def classes(graph: Graph, inputs: list[int], states: list[int], nexts: list[int]) -> tuple[list[int], dict[int, int]]:
    """Classes of registers that do the same as long as those of a class hold the same; and which of them stay 0, or 1 (−1).

    At first all are one class that holds zeros. Those with other next states part, until none do."""
    simulation = Simulation(graph)
    simulation.set(inputs, simulation.noise(len(inputs)))
    found, constant, count = [0] * len(states), {0: 0}, 1
    while True:
        values = simulation.noise(count)
        for key, value in constant.items():
            values[key] = value
        simulation.set(states, values[found])
        simulation.run()
        new, known, still = [], {}, {}
        for old, row in zip(found, simulation.of(nexts), strict=True):
            key = old, row.tobytes()
            if key not in known:
                known[key] = len(known)
                first = int(row[0])
                if first in (0, -1) and (row == first).all() and (count == 1 or constant.get(old) == first):
                    still[known[key]] = first
            new.append(known[key])
        if (len(known), len(still)) == (count, len(constant)):
            return new, still
        found, constant, count = new, still, len(known)


def correspond(graph: Graph, free: dict[str, Bit], gate: Machine, rtl: Machine) -> tuple[list[tuple[str, int, int]], list[int]]:
    """What is to be proven, as a name, the netlist's literal and the RTL's, where the RTL's registers are those of the netlist;
    and the inputs of it all."""
    inputs = [bit.literal for bit in free.values()]
    ours, theirs = sorted(gate.states, key=_number), sorted(rtl.states, key=_number)
    states, nexts = ([getattr(gate, what)[name] for name in ours] + [getattr(rtl, what)[name] for name in theirs]
                     for what in ("states", "nexts"))
    if set(gate.outputs) != set(rtl.outputs):
        raise EmambaError(f"the netlist has other ports: {min(set(gate.outputs) ^ set(rtl.outputs))}")
    found, constant = classes(graph, inputs, states, nexts)
    held, same = defaultdict(list), defaultdict(list)
    for name, key in zip(ours, found[:len(ours)], strict=True):
        held[key].append(name)
    for name, key in zip(theirs, found[len(ours):], strict=True):
        same[key].append(name)
    match = {}
    for key, names in same.items():
        for k, name in enumerate(names):
            if held[key]:
                match[name] = held[key][min(k, len(held[key]) - 1)]
            elif key in constant:
                match[name] = None
    fixed = {name: -constant[key] for key, names in same.items() if key in constant for name in names}

    def pairs() -> list[tuple[str, int, int]]:
        moved = {rtl.states[name]: gate.states[own] if own else fixed[name] for name, own in match.items()}
        literals = graph.replace([*rtl.outputs.values(), *(rtl.nexts[name] for name in match)], moved)
        wanted = [*(gate.outputs[name] for name in rtl.outputs),
                  *(gate.nexts[own] if own else fixed[name] for name, own in match.items())]
        return list(zip([*rtl.outputs, *(rtl.names[name] for name in match)], wanted, literals, strict=True))

    doubtful = [names for key, names in same.items() if len(held[key]) > 1]
    _settle(graph, inputs, gate, rtl, match, fixed, doubtful)
    lost = [rtl.states[name] for name in theirs if name not in match]
    return pairs(), [*inputs, *gate.states.values(), *lost]


def _number(name: str) -> int:
    """Yosys numbers registers in the order of their bits."""
    return int((re.findall(r"\d+", name) or ["0"])[-1])


def _settle(graph, inputs, gate, rtl, match, fixed, doubtful) -> None:
    """Exchanges registers that do the same where others then see what they are to."""
    if not doubtful:
        return
    simulation = Simulation(graph)
    simulation.set(inputs, simulation.noise(len(inputs)))
    simulation.set(list(rtl.states.values()), simulation.noise(len(rtl.states)))
    simulation.set(list(gate.states.values()), simulation.noise(len(gate.states)))
    observed = list(rtl.outputs)

    def wrong() -> int:
        for name, own in match.items():
            simulation.set([rtl.states[name]], simulation.of([gate.states[own]]) if own else -fixed[name])
        simulation.run()
        a = simulation.of([*(gate.outputs[name] for name in observed),
                           *(gate.nexts[own] if own else fixed[name] for name, own in match.items())])
        b = simulation.of([*(rtl.outputs[name] for name in observed), *(rtl.nexts[name] for name in match)])
        return int((a != b).any(axis=1).sum())

    least = wrong()
    for names in doubtful:
        for one, other in combinations(names, 2):
            if not least:
                return
            match[one], match[other] = match[other], match[one]
            if (now := wrong()) < least:
                least = now
            else:
                match[one], match[other] = match[other], match[one]


def unproven(graph: Graph, inputs: list[int], pairs: list[tuple[str, int, int]], seconds: float) -> list[tuple[str, bool]]:
    """The names of those pairs that ABC does not prove equal, and whether patterns show that they differ."""
    left = [(name, (Bit(graph, a) ^ Bit(graph, b)).literal) for name, a, b in pairs if a != b]
    if not left:
        return []
    simulation = Simulation(graph)
    simulation.set(inputs, simulation.noise(len(inputs)))
    simulation.run()
    differs = simulation.of([literal for _, literal in left]).any(axis=1)
    until, wrong = time.perf_counter() + seconds, {name for (name, _), known in zip(left, differs, strict=True) if known}
    for conflicts in CONFLICTS:
        zero = _sweep(graph, inputs, [literal for _, literal in left], conflicts, until - time.perf_counter())
        left = [pair for pair, proven in zip(left, zero, strict=True) if not proven]
        if not left or wrong:
            break
    return [(name, name in wrong) for name, _ in left]


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
