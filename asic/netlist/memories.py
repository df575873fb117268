"""The memories of a chip: read-only ones become logic, each RAM is a module of its own, which becomes macros, latches or
registers. A RAM that is read on the clock is one that is read without it, and a register."""

import re
from dataclasses import dataclass
from math import ceil

from amaranth.hdl import Const, MemoryInstance, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from emamba.base.errors import InputError
from rtl.kit.block import Spec
from rtl.kit.emit import BACKSLASH, INSTANCE, modules

from .cell import Cell
from .pdk import Pdk, Ports

HELD = "held_ram"
"""The name of a RAM whose words go to a register."""
LEAST_WORDS = 8
"""Words from which a RAM is latches (our choice): the register before them costs less than they save."""
ACCESS_SHARE = 0.5
"""Of the half period in which a macro is read, what its access may take at the slowest corner (our choice): the rest is for the
logic behind it."""
HELD_SHARE = 0.9
"""The same, where a register is behind it."""


@dataclass(frozen=True)
class Plan:
    """Macros in place of a RAM, in `rows` for its words and `columns` for its bits."""

    cell: Cell
    rows: int
    columns: int

    @property
    def area(self) -> float:
        return self.rows * self.columns * self.cell.area


def plan(pdk: Pdk, words: int, width: int, clock_mhz: float, parts: int = 1, held: bool = False) -> Plan | None:
    """The smallest macros whose access fits in the cycle; None where cells are smaller. A word's `parts` are written apart, each
    to macros of its own; `held`: what is read goes to a register."""
    longest = (HELD_SHARE if held else ACCESS_SHARE) * 0.5e-6 / clock_mhz
    cells = [pdk.typical.cells[name] for name, seconds in pdk.access.items() if seconds <= longest]
    plans = [Plan(cell, ceil(words / cell.macro.words), parts * ceil(width // parts / cell.macro.width)) for cell in cells]
    best = min(plans, key=lambda plan: plan.area, default=None)
    return best if best and words > 1 and best.area < cell_area(pdk, words, width) else None


def cell_area(pdk: Pdk, words: int, width: int) -> float:
    """An estimate in µm² of a RAM in cells: a latch and a NAND2 of the read multiplexer each bit, the register before them, a
    clock gate and four NAND2 of decoders each word; of less than LEAST_WORDS a flip-flop in a latch's place."""
    library = pdk.typical
    nand2, register, latch, gate = (library.smallest_nand2, *map(library.smallest, ("ff", "latch", "clock_gate")))
    if register is None:
        raise InputError(f"the library {library.name} has no cell of the kind ff left; keep one in the description of "
                         f"{pdk.name}")
    held = latch is not None and words >= LEAST_WORDS
    word = width * ((latch if held else register).area + nand2.area) + (gate.area if gate else 0) + 4 * nand2.area
    return words * word + width * register.area * held


def why_none(pdk: Pdk, clock_mhz: float) -> str:
    """Why a RAM does not become a macro."""
    if not pdk.present:
        return f"the data of {pdk.name} have none" if pdk.macros else f"the description of {pdk.name} names none"
    name, seconds = min(pdk.access.items(), key=lambda item: item[1])
    fastest = ACCESS_SHARE * 0.5e-6 / seconds
    if fastest < clock_mhz:
        return (f"{name} takes {seconds * 1e9:.2f} ns to read at the slowest corner, which half a period has room for up to "
                f"{fastest:,.0f} MHz")
    return "in macros they would be larger, by an estimate"


@dataclass(frozen=True)
class Ram:
    """A RAM of top.v: `path` of its instance, its Verilog `module`, which holds nothing else and has these `ports`. Where both
    addresses are one net there is only `r_addr`; a RAM of one word has none. `write_parts` of a word are written apart."""

    path: str
    module: str
    kind: str
    words: int
    width: int
    write_ports: int
    write_parts: int
    read_ports: int
    read: str
    ports: list[str]


def choose(pdk: Pdk, ram: Ram, clock_mhz: float) -> Plan | None:
    """`plan` of a RAM."""
    return plan(pdk, ram.words, ram.width, clock_mhz, ram.write_parts, ram.path.endswith(f".{HELD}"))


class RamCell(wiring.Component):
    """One RAM and nothing else, so that a macro can stand in its module's place. `w_en` has a bit for every part of a word that
    is written apart."""

    def __init__(self, memory: Memory):
        self.memory = memory
        (write,), (read,) = memory.write_ports, memory.read_ports
        super().__init__({
            "w_en": In(len(write.en)), "w_addr": In(write.addr.shape()), "w_data": In(len(Value.cast(write.data))),
            "r_addr": In(read.addr.shape()), "r_data": Out(len(Value.cast(read.data))),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.cells = cells = MemoryInstance(data=self.memory.data)
        cells.write_port(domain="sync", addr=self.w_addr, data=self.w_data, en=self.w_en)
        cells.read_port(domain="comb", addr=self.r_addr, data=self.r_data, en=Const(1), transparent_for=())
        return m


class Platform:
    """Read-only memories become logic, since nothing on a chip is initialized; each RAM becomes a module of its own. `rests`:
    a block that nothing is in stands still, its clocks gated."""

    def __init__(self, *, rests: bool = True):
        self.rests = rests

    def get_memory(self, memory: Memory):
        return self._ram(memory) if memory.write_ports else self._rom(memory)

    @staticmethod
    def _ram(memory):
        m, ram = Module(), RamCell(memory)
        (write,), (read,) = memory.write_ports, memory.read_ports
        m.d.comb += [  # an operator makes one net of a value; else each of its sources is a nameless port
            ram.w_en.eq(write.en | 0 if len(write.en) > 1 else write.en), ram.w_data.eq(Value.cast(write.data) | 0),
            ram.w_addr.eq(write.addr), ram.r_addr.eq(read.addr),
        ]
        if read.domain == "comb":
            m.submodules.ram = ram
            m.d.comb += read.data.eq(ram.r_data)
            return m
        m.submodules[HELD] = ram
        last, wrote, held = Signal.like(read.addr), Signal(init=1), Signal(len(ram.r_data), name="held", reset_less=True)
        m.d.sync += wrote.eq(write.en.any() | wrote & ~read.en)
        with m.If(read.en):
            m.d.sync += last.eq(read.addr)
            with m.If(wrote | (read.addr != last)):  # else it holds what would be read
                m.d.sync += held.eq(ram.r_data)
        m.d.comb += Value.cast(read.data).eq(held)
        return m

    @staticmethod
    def _rom(memory):
        m = Module()
        port, = memory.read_ports
        rows = [int(row) for row in memory.data.init]
        held = Signal.like(port.data, name="held", reset_less=True)
        # A tree of multiplexers: Yosys makes a memory of a switch with as many constants.
        for bit in port.addr:
            pairs = [rows[k:k + 2] for k in range(0, len(rows), 2)]
            rows = [Mux(bit, pair[-1], pair[0]) if len(pair) == 2 else pair[0] for pair in pairs]
        with m.If(port.en):
            m.d.sync += held.eq(rows[0])
        m.d.comb += port.data.eq(held)
        return m


def find_memories(verilog: str, blocks: dict[str, Spec]) -> list[Ram]:
    """Every RAM instance below module `top`, in the order of the instances. `blocks` are by instance name."""
    bodies, found = {name.removeprefix(BACKSLASH): text for name, text in modules(verilog).items()}, []

    def walk(module: str, path: tuple[str, ...]) -> None:
        body = bodies[module]
        for high, low, name, last, first in re.findall(r"^  reg \[(\d+):(\d+)\] \\?(\S+) +\[(\d+):(\d+)\];$", body, re.M):
            reads = len(re.findall(rf"= {re.escape(name)}\[", body))
            kind = "FIFO" if path[0].endswith("_fifo") else blocks[path[0]].stores if path[0] in blocks else path[0].split("$")[0]
            ports = [port for port in re.findall(r"^  (?:in|out)put (?:\[\d+:\d+\] )?(\w+);$", body, re.M) if port != "rst"]
            words, width = int(last) - int(first) + 1, int(high) - int(low) + 1
            found.append(Ram(".".join(path), module, kind, words, width, 1, len(_enables(body)), reads,
                             "to a register" if path[-1] == HELD else "asynchronous", ports))
        for child, instance in INSTANCE.findall(body):
            walk(child.removeprefix(BACKSLASH), (*path, instance.removeprefix(BACKSLASH)))

    walk("top", ())
    return found


RAM = re.compile(r"""^module [ ]\\\S+ [ ]\((?P<ports>[^;]*)\);\n (?:(?!^endmodule).)*?
    (?P<body>^[ ]{2}reg [ ]\[(?P<high>\d+):0\] [ ]cells [ ]\[(?P<last>\d+):0\];\n .*?) ^endmodule\n""", re.M | re.S | re.X)


def with_macros(verilog: str, pdk: Pdk, clock_mhz: float) -> str:
    """The Verilog with macros where `plan` finds some, which act alike at every rising edge.

    They are written on the clock's rising edge and read on its falling edge, so that the data of this cycle's address, written
    ones too, are valid in its second half. Nothing is read unless the address is new or a word was written: a read costs energy.
    A buffer after every bit drives its load: a macro has one size only.
    """
    def macros(match: re.Match) -> str:
        width, words = int(match["high"]) + 1, int(match["last"]) + 1
        enables = _enables(match[0])
        chosen = plan(pdk, words, width, clock_mhz, len(enables), f".{HELD} " in match[0].split("\n")[0])
        if not chosen:
            return match[0]
        return match[0].replace(match["body"], _instances(pdk, chosen, words, width, match["ports"], enables))

    return RAM.sub(macros, verilog)


def _enables(module: str) -> list[str]:
    """Of a RAM's parts that are written apart, lowest bits first."""
    several = re.search(r"input \[(\d+):0\] w_en;", module)
    return [f"w_en[{n}]" for n in range(int(several[1]) + 1)] if several else ["w_en"]


def _instances(pdk: Pdk, chosen: Plan, words: int, width: int, ports: str, enables: list[str]) -> str:
    cell, macro, library = chosen.cell, chosen.cell.macro, pdk.typical
    within, address = (macro.words - 1).bit_length(), (words - 1).bit_length()
    w_addr = "w_addr" if "w_addr" in ports else "r_addr"
    inverter, buffer = library.smallest_inverter, library.cells[pdk.drivers.input]

    def padded(net: str, bits: int, wanted: int) -> str:
        return f"{{{{{wanted - bits}{{low}}}}, {net}}}" if bits < wanted else net

    def port(of: Ports, clock: str, enable: str, addressed: str, data: str) -> dict[str, str]:
        lower = f"{addressed}[{within - 1}:0]" if address > within else padded(addressed, address, within)
        return {of.clock: clock, **dict.fromkeys(of.enable, enable), of.address: lower, of.data: data}

    ties = [pdk.drivers.tie(value) for value in ("low", "high")]
    lines = [
        "  wire low, high, fall;",
        *(f"  {kind} tie_{value} (.{pin}({value}));" for (kind, pin), value in zip(ties, ("low", "high"), strict=True)),
        f"  {inverter.name} invert (.{inverter.inputs[0]}(clk), .{inverter.outputs[0]}(fall));",
        f"  reg [{address - 1}:0] last;", "  reg wrote;", "  always @(posedge clk) last <= r_addr;",
        "  always @(posedge clk) wrote <= |w_en;", "  wire fresh = wrote || r_addr != last;",
    ]
    for row in range(chosen.rows):
        w_here, r_here = (f"{addressed}[{address - 1}:{within}] == {row}" if chosen.rows > 1 else "1'b1"
                          for addressed in (w_addr, "r_addr"))
        lines += [*(f"  wire write_{row}_{n} = {enable} && {w_here};" for n, enable in enumerate(enables)),
                  f"  wire here_{row} = {r_here};", f"  wire read_{row} = fresh && here_{row};",
                  f"  wire [{width - 1}:0] word_{row};"]
        for column in range(chosen.columns):
            n, place = divmod(column, chosen.columns // len(enables))
            part, name = width // len(enables), f"{row}_{column}"
            first, used = n * part + place * macro.width, min(macro.width, part - place * macro.width)
            written = padded(f"w_data[{first + used - 1}:{first}]", used, macro.width)
            pins = {pin: f"{{{bits}{{{'high' if pin in macro.high else 'low'}}}}}"
                    for way, pin, bits in cell.ports if way == "input"}
            pins |= port(macro.write, "clk", f"write_{row}_{n}", w_addr, written)
            pins |= port(macro.read, "fall", f"read_{row}", "r_addr", f"data_{name}")
            lines += [f"  wire [{macro.width - 1}:0] data_{name};",
                      f"  {macro.name} ram_{name} ({', '.join(f'.{pin}({net})' for pin, net in pins.items())});"]
            lines += [f"  {buffer.name} buffer_{row}_{first + k} (.{buffer.inputs[0]}(data_{name}[{k}]), "
                      f".{buffer.outputs[0]}(word_{row}[{first + k}]));" for k in range(used)]
    data = " | ".join(f"({{{width}{{here_{row}}}}} & word_{row})" for row in range(chosen.rows))
    return "\n".join([*lines, f"  assign r_data = {data};", ""])


def latched(verilog: str, clock_gate: Cell) -> str:
    """The Verilog with every RAM of at least LEAST_WORDS words as latches, which act alike in every cycle.

    Data are held in flip-flops from the edge that writes; in the first half of the next cycle the word's gated clock opens its
    latches, so that the new word is there when a register would have it. A read is one word's AND and an OR of all: a word that
    is not chosen switches nothing.
    """
    def latches(match: re.Match) -> str:
        width, words = int(match["high"]) + 1, int(match["last"]) + 1
        if words < LEAST_WORDS:
            return match[0]
        address = "w_addr" if "w_addr" in match["ports"] else "r_addr"
        tied = f", .{clock_gate.role('test')}(1'b0)" if clock_gate.role("test") else ""
        lines, enables = [], _enables(match[0])
        part = width // len(enables)  # is written apart
        for n, enable in enumerate(enables):
            own, apart = f"[{part - 1}:0]", f"_{n}" * (len(enables) > 1)
            data = f"w_data[{n * part} +: {part}]" if apart else "w_data"
            lines += [f"  reg {own} held{apart};", f"  always @(posedge clk) if ({enable}) held{apart} <= {data};"]
            for k in range(words):
                lines += [
                    f"  wire open_{k}{apart};",
                    f"  {clock_gate.name} gate_{k}{apart} (.{clock_gate.role('clock')}(clk), .{clock_gate.role('enable')}"
                    f"({enable} && {address} == {k}), .{clock_gate.outputs[0]}(open_{k}{apart}){tied});",
                    f"  reg {own} word_{k}{apart};",
                    f"  always @* if (open_{k}{apart}) word_{k}{apart} = held{apart};",
                ]
        for k in range(words if len(enables) > 1 else 0):
            whole = ", ".join(f"word_{k}_{n}" for n in reversed(range(len(enables))))
            lines.append(f"  wire [{width - 1}:0] word_{k} = {{{whole}}};")
        chosen = " | ".join(f"({{{width}{{r_addr == {k}}}}} & word_{k})" for k in range(words))
        return match[0].replace(match["body"], "\n".join([*lines, f"  assign r_data = {chosen};", ""]))

    return RAM.sub(latches, verilog)
