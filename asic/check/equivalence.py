"""Formal equivalence of a mapped netlist and its RTL, part by part, for every state and every input.

Both become one graph of AND gates. Registers are matched by what they do; then ABC proves that from any state of the netlist, and
the state of the RTL that corresponds, outputs are equal and the next states correspond again. That is a refinement: what the
netlist does from any power-up state, the RTL does from one of its own. A wrong match can only break a proof.

A cycle is one step. A clock net tells whether it ticks: a clock gate is its enable, a flip-flop after it keeps its state, and a
latch after it holds what its data become at the same edge. That is so where setup and hold are met, and clock nets pass clock
gates and buffers alone, which is checked here. Macros are read on the other edge: a part that has one is left out. What a part
has within is a part of its own: here its outputs are inputs.

The RTL is taken twice: as Yosys lowers it for the mapping, and as written. Products as written are beyond SAT: what is not
finished there is equal to the lowered RTL only. What is undefined in the RTL: a read beyond a RAM's words gives 0 where these
are latches, else some word; a register that never changes is 0 or 1 at each use.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from rtl.kit import tools

from ..netlist.library import Library
from ..netlist.mapping import Netlist, Part, divide, lowering, stub, with_parts
from ..netlist.memories import LEAST_WORDS
from .and_graph import Graph, Simulation
from .correspond import correspond
from .machine import cell_kinds, machine

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


@dataclass(frozen=True)
class Check:
    """The proof of a part. `functions` counts its outputs and next states, `direct` those that equal the RTL as written.

    `result` is proven, different or unfinished. What differs only from the RTL as written is unfinished, since more may be
    undefined there than is tried. `where` is the first function that is not proven.
    """

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
    """The Verilog of all parts by name, in the order of the netlist's parts, with `top` last."""

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
    """Proves a part. `names` maps parts to their names in `written`, which differ where RAMs have become latches."""
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
        inputs = [bit.literal for bit in free.values()] + [*gate.states.values(), *rtl.states.values()]
        left.append(unproven(graph, inputs, functions, efforts, seconds))
    lowered, direct = left
    wrong = [name for name, differs in lowered if differs and direct]
    unfinished = [*(name for name, differs in direct if differs), *(name for name, _ in lowered if direct)]
    result = "different" if wrong else "unfinished" if unfinished else "proven"
    return Check(part.name, len(roles), roles.count("ff"), roles.count("latch"), len(functions), len(functions) - len(direct),
                 result, (*wrong, *unfinished, "")[0], round(time.perf_counter() - start, 1))


def unproven(graph: Graph, inputs: list[int], functions: list[tuple[str, int]], efforts: tuple[int, ...],
             seconds: float) -> list[tuple[str, bool]]:
    """Names the functions that ABC does not prove to be 0, first those that a pattern disproves, which are marked."""
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
