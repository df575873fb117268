"""Gate level: a mapped netlist on real sequences, with cells that do what the library's functions say.

`verilog_models` gives the cells to any simulator. `simulate` is our own (`gates.cpp`): 64 streams at once, one in each bit of a
word, with the toggles of every net in a window of whole sequences.
"""

import hashlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emamba.base import processes
from emamba.base.errors import DesignLimit, InputError, ToolFailed
from emamba.io import cache
from rtl.kit import packing
from rtl.kit.block import Port

from ..netlist.cell import Cell
from ..netlist.library import Library
from ..netlist.mapping import Netlist
from ..netlist.pdk import Pdk

SOURCE = Path(__file__).with_name("gates.cpp")
PROGRAM = "simulate"
STREAMS = 64
ROLES = {"gate": 0, "ff": 1, "latch": 2, "clock_gate": 3}
CLOCK_INVERTER = 4
"""The role of a gate that inverts the clock."""


@dataclass
class Flat:
    """The cells of all blocks over one numbering of nets. For cell k: its library cell, block, and place in the netlist (a part
    and its name there), and the nets of its inputs and outputs, −1 for an output that nothing reads."""

    cells: list[Cell]
    blocks: list[str]
    places: list[tuple[str, str]]
    inputs: list[list[int]]
    outputs: list[list[int]]
    nets: int
    ports: dict[str, list[int]]

    def clock(self, k: int) -> int:
        """The net that clocks cell k, or opens it; −1 for a gate."""
        cell = self.cells[k]
        return self.inputs[k][cell.inputs.index(cell.clock_pin)] if cell.clock_pin else -1


def flatten(netlist: Netlist) -> Flat:
    library, flat = netlist.library, Flat([], [], [], [], [], 0, {})

    def add(block: str, part, known: dict[int, int]) -> None:
        def number(bit) -> int:
            if isinstance(bit, str):
                raise ToolFailed(f"{block}: the mapped netlist has a constant '{bit}' at a pin, where a tie cell should be")
            if bit not in known:
                known[bit] = flat.nets
                flat.nets += 1
            return known[bit]

        for name, cell in part.cells.items():
            model = library.cells.get(cell["type"])
            pins = cell["connections"]
            if model is None:
                inner, ports = netlist.parts[cell["type"]], {}
                for port, row in inner.netlist["ports"].items():
                    for bit, outer in zip(row["bits"], pins.get(port, []), strict=False):
                        ports[bit] = number(outer)
                add(name if block == "top" else block, inner, ports)
                continue
            flat.cells.append(model)
            flat.blocks.append(block)
            flat.places.append((part.name, name))
            flat.inputs.append([number(_bit(pins, pin)) for pin in model.inputs])
            flat.outputs.append([number(bit) if (bit := _bit(pins, pin)) is not None else -1 for pin in model.outputs])

    top = {}
    for bit in (bit for port in netlist.top.netlist["ports"].values() for bit in port["bits"]):
        top.setdefault(bit, len(top))
    flat.nets = len(top)
    flat.ports = {name: [top[bit] for bit in port["bits"]] for name, port in netlist.top.netlist["ports"].items()}
    add("top", netlist.top, top)
    return flat


def _bit(pins: dict[str, list], pin: str):
    """The net at a cell's `pin`, which may be a bit of a bus; None for an output that nothing reads."""
    name, _, bit = pin.partition("[")
    return pins[name][int(bit.rstrip("]") or 0)] if pins.get(name) else None


def sinks(flat: Flat) -> np.ndarray:
    """The load in F that the inputs of cells, and the wires to them, are on every net."""
    load = np.zeros(flat.nets)
    for cell, nets in zip(flat.cells, flat.inputs, strict=True):
        for pin, net in zip(cell.inputs, nets, strict=True):
            load[net] += cell.capacitance(pin)
    return load


def loads(flat: Flat, pdk: Pdk) -> np.ndarray:
    """The load in F of every net of a chip."""
    load = sinks(flat)
    for name in flat.ports:
        if name in ("o__payload", "o__valid") or (name.endswith("__ready") and name != "o__ready"):
            load[flat.ports[name]] += pdk.load_ff * 1e-15
    return load


@dataclass
class Run:
    """`output`: the beats of each stream [streams, beats, words]; in a window of `cycles`, summed over the streams, `toggles` of
    each net and `accesses` [macros, 2], how often each macro was written and read."""

    output: np.ndarray
    toggles: np.ndarray
    accesses: np.ndarray
    cycles: int


def simulate(netlist: Netlist, flat: Flat, i: Port, o: Port, words: np.ndarray, *, start: int, cycles: int) -> Run:
    """Runs sequences: `words` are beats [streams, beats, words] of port `i`; counts toggles in `cycles` cycles from `start` on.

    Every register and word begins with random bits, and a cycle of reset follows."""
    streams, beats = words.shape[:2]
    bits = packing.payload_bits(i)
    if streams != STREAMS:
        raise InputError(f"gate-level simulation takes {STREAMS} streams at once, not {streams}")
    unpacked = np.unpackbits(np.ascontiguousarray(words, "<u4").view(np.uint8), axis=-1, bitorder="little")[..., :bits]
    lanes = np.packbits(np.moveaxis(unpacked, 0, -1), axis=-1, bitorder="little")  # beats, bits, 8 bytes
    lasts = int(packing.flags(i, words[0])[1].sum()) // i.beats * o.beats
    program = _build(netlist.library)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _netlist(netlist.library, flat, folder / "netlist.bin")
        lanes.tofile(folder / "beats.bin")
        limit = start + cycles + 40 * beats * max(1, cycles) // max(1, beats) + 100_000
        settings = {"beats": beats, "lasts": lasts, "limit": limit, "from": start, "cycles": cycles}
        command = [program, folder / "netlist.bin", folder / "beats.bin", folder, *(f"{k}={v}" for k, v in settings.items())]
        done = processes.run(command)
        status = done.stdout.split()
        if done.returncode or not status or status[0] != "done":
            faults = {"stuck": "stops", "uneven": "has handshakes that depend on data"}
            what = faults.get((status or [""])[0], "does not simulate")
            raise ToolFailed(f"the mapped netlist {what}: {done.stderr.strip() or ' '.join(status) or 'no output'}")
        data = np.fromfile(folder / "o.bin", np.uint8).reshape(-1, packing.payload_bits(o), STREAMS // 8)
        toggles = np.fromfile(folder / "toggles.bin", np.uint64)
        accesses = np.fromfile(folder / "accesses.bin", np.uint64).reshape(-1, 2)
    o_bits = np.moveaxis(np.unpackbits(data, axis=-1, bitorder="little"), -1, 0)
    padded = np.zeros((STREAMS, len(data), packing.payload_words(o) * packing.WORD), np.uint8)
    padded[..., :o_bits.shape[-1]] = o_bits
    return Run(np.packbits(padded, axis=-1, bitorder="little").view("<u4"), toggles, accesses, cycles)


def _netlist(library: Library, flat: Flat, path: Path) -> None:
    """The netlist in the words that `gates.cpp` reads."""
    kinds = {name: k for k, name in enumerate(library.cells)}
    gated, falling = _clock_order(flat), _read_clocks(flat)
    order = [k for k in range(len(flat.cells)) if flat.cells[k].kind not in ("clock_gate", "macro")] + gated
    cells, pins = np.zeros((len(order), 7), np.int32), []
    for row, k in zip(cells, order, strict=True):
        cell, ins, outs = flat.cells[k], flat.inputs[k], flat.outputs[k]
        role = CLOCK_INVERTER if k in falling else ROLES[cell.kind]
        row[:] = (kinds[cell.name], role, flat.clock(k), len(ins), len(outs), len(pins), len(pins) + len(ins))
        pins += ins + outs
    macros = []
    for k, cell in enumerate(flat.cells):
        if cell.kind == "macro":
            nets = dict(zip((*cell.inputs, *cell.outputs), (*flat.inputs[k], *flat.outputs[k]), strict=True))
            macro = cell.macro
            macros.append((macro.words, macro.width, (macro.words - 1).bit_length(), len(macro.write.enable),
                           len(macro.read.enable), len(pins)))
            for way in (macro.write, macro.read):
                pins += [nets[pin] for pin in way.enable]
                pins += [net for name in (way.address, way.data) for pin, net in nets.items() if pin.startswith(f"{name}[")]
    port = flat.ports
    single = [port[name][0] for name in ("clk", "rst", "i__valid", "i__ready", "o__valid", "o__ready")]
    payloads = [port["i__payload"], port["o__payload"]]
    header = [flat.nets, len(order), len(macros), len(pins), *single, *map(len, payloads), *payloads[0], *payloads[1]]
    np.concatenate([np.array(header, np.int32), cells.ravel(), np.array(macros, np.int32).ravel(),
                    np.array(pins, np.int32)]).tofile(path)


def _read_clocks(flat: Flat) -> set[int]:
    """The inverters of the clock that macros are read on; refuses a macro that is clocked otherwise."""
    driver = {net: k for k, nets in enumerate(flat.outputs) for net in nets}
    found, (clk,) = set(), flat.ports["clk"]
    for k, cell in enumerate(flat.cells):
        if cell.kind == "macro":
            written, read = (flat.inputs[k][cell.inputs.index(pin)] for pin in cell.clock_pins)
            inverter = driver.get(read)
            if written != clk or inverter is None or flat.inputs[inverter] != [clk] or not flat.cells[inverter].inverts:
                raise DesignLimit(f"{flat.blocks[k]}: the macro {cell.name} is not written on the clock's rising edge and read "
                                  "on its falling edge")
            found.add(inverter)
    return found


def _clock_order(flat: Flat) -> list[int]:
    """The clock gates, each after the one that clocks it."""
    left = {k for k, cell in enumerate(flat.cells) if cell.kind == "clock_gate"}
    driver, order = {flat.outputs[k][0]: k for k in left}, []
    while left:
        ready = [k for k in left if driver.get(flat.clock(k)) not in left]
        order += sorted(ready)
        left -= set(ready)
    return order


def state_functions(cell: Cell) -> tuple[str, list[str]]:
    """The next state and the outputs, as expressions of the inputs' names and STATE."""
    if cell.kind == "clock_gate":
        enables = [pin for pin in (cell.role("enable"), cell.role("test")) if pin]
        return "ZERO", [f"({cell.role('clock')} & ({' | '.join(enables)}))"]
    if cell.kind == "gate":
        return "ZERO", [cell.function(pin) for pin in cell.outputs]
    positive, negative = cell.state.arguments[0].replace(" ", ""), cell.state.arguments[-1]
    names = {positive: "STATE", negative: "(~STATE)"}
    outputs = [_substitute(cell.function(pin), names) for pin in cell.outputs]
    following = cell.expression(cell.state.get("next_state" if cell.kind == "ff" else "data_in"))
    if cell.kind == "latch":
        following = f"(({cell.clock_pin} & {following}) | (~{cell.clock_pin} & STATE))"
    for name, value in (("preset", "(~ZERO)"), ("clear", "ZERO")):
        if when := cell.state.get(name):
            when = cell.expression(when)
            following = f"(({when} & {value}) | (~{when} & {following}))"
    return _substitute(following, names), outputs


def _substitute(text: str, names: dict[str, str]) -> str:
    return re.sub(r"[A-Za-z_]\w*", lambda match: names.get(match[0], match[0]), text)


def _build(library: Library) -> Path:
    """The simulator for the cells of a library."""
    nexts, outs, pins = [], [], 1
    for k, cell in enumerate(library.cells.values()):
        if cell.kind not in ROLES:
            continue
        following, outputs = state_functions(cell)
        names = {pin: f"i[{n}]" for n, pin in enumerate(cell.inputs)} | {"STATE": "s"}
        if following != "ZERO":
            nexts.append(f"    case {k}: return {_substitute(following, names)};  // {cell.name}")
        lines = " ".join(f"o[{n}] = {_substitute(text, names)};" for n, text in enumerate(outputs))
        outs.append(f"    case {k}: {lines} break;  // {cell.name}")
        pins = max(pins, len(cell.inputs), len(cell.outputs))
    header = "\n".join([f"constexpr int PINS = {pins};", "static inline Word next_state(int kind, const Word* i, Word s) {",
                        "    switch (kind) {", *nexts, "    }", "    return s;", "}",
                        "static inline void outputs(int kind, const Word* i, Word s, Word* o) {", "    switch (kind) {", *outs,
                        "    }", "}", ""])
    source = SOURCE.read_text(encoding="utf-8")
    key = hashlib.sha256("\0".join([header, source, cache.compiler("g++")]).encode()).hexdigest()

    def compile_to(folder: Path) -> None:
        (folder / "cells.h").write_text(header, encoding="utf-8")
        (folder / "gates.cpp").write_text(source, encoding="utf-8")
        done = processes.run(["g++", "-std=c++17", "-O2", "-o", PROGRAM, "gates.cpp"], cwd=folder)
        if done.returncode:
            raise ToolFailed(f"g++ does not build the gate-level simulator: {done.stderr.splitlines()[0]}")

    return cache.kept(cache.folder("gates"), key[:16], compile_to) / PROGRAM


def verilog_models(library: Library) -> str:
    """The library's cells in Verilog, by their functions alone: no delays, no power."""
    return "\n".join(_macro_model(cell) if cell.macro else _model(cell) for cell in library.cells.values()
                     if cell.kind != "other")


def _macro_model(cell: Cell) -> str:
    """A two-port RAM; what else it has, as a mask or a self-test, is tied off and not in the model."""
    macro, write, read = cell.macro, cell.macro.write, cell.macro.read
    enabled = {way.clock: " && ".join(way.enable) for way in (write, read)}
    return "\n".join([
        f"module {cell.name}({', '.join(name for _, name, _ in cell.ports)});",
        *(f"  {way} {f'[{bits - 1}:0] ' * (bits > 1)}{name};" for way, name, bits in cell.ports),
        f"  reg [{macro.width - 1}:0] {read.data}, words [0:{macro.words - 1}];",
        f"  always @(posedge {write.clock}) if ({enabled[write.clock]}) words[{write.address}] <= {write.data};",
        f"  always @(posedge {read.clock}) if ({enabled[read.clock]}) {read.data} <= words[{read.address}];",
        "endmodule", ""])


def _model(cell: Cell) -> str:
    ports = [*cell.inputs, *cell.outputs]
    following, outputs = state_functions(cell)
    body = [f"  input {pin};" for pin in cell.inputs] + [f"  output {pin};" for pin in cell.outputs]
    constant = {"ZERO": "1'b0"}
    if cell.kind == "clock_gate":
        clock, enables = cell.role("clock"), [pin for pin in (cell.role("enable"), cell.role("test")) if pin]
        body += ["  reg held;", f"  always @({clock} or {' or '.join(enables)}) if (!{clock}) held = {' | '.join(enables)};",
                 f"  assign {cell.outputs[0]} = {clock} & held;"]
    else:
        if cell.kind == "ff":
            body += ["  reg STATE;", f"  always @(posedge {cell.clock_pin}) STATE <= {_substitute(following, constant)};"]
        elif cell.kind == "latch":
            body += ["  reg STATE;", f"  always @({' or '.join(cell.inputs)}) if ({cell.clock_pin}) STATE <= "
                     f"{_substitute(cell.expression(cell.state.get('data_in')), constant)};"]
        body += [f"  assign {pin} = {_substitute(text, constant)};" for pin, text in zip(cell.outputs, outputs, strict=True)]
    return "\n".join([f"module {cell.name}({', '.join(ports)});", *body, "endmodule", ""])
