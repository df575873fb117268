"""Static timing of a mapped netlist by OpenSTA: setup, hold, and the worst slack of every block."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from emamba.base import processes
from emamba.base.errors import InputError, ToolFailed, ToolMissing

from ..netlist.library import Library
from ..netlist.mapping import Netlist
from ..netlist.pdk import Pdk

LONGEST = 5
"""Paths that are named."""
ENDPOINTS = 1_000_000
"""More than a netlist has: all are sorted by block."""
IO_SHARE = 0.2
"""Share of the clock period that input and output delays take (our choice)."""
SCRIPT = """\
set sta_crpr_enabled 0
read_liberty cells.lib
{macros}
read_verilog netlist.v
link_design {top}
create_clock -name clk -period {period} [get_ports clk]
set_input_delay {delay} -clock clk [get_ports {{rst {inputs}}}]
set_output_delay {delay} -clock clk [get_ports {{{outputs}}}]
set_driving_cell -lib_cell {driver} [get_ports {{{inputs}}}]
set_load {load} [get_ports {{{outputs}}}]
{routed}
puts "== setup"
report_checks -path_delay max -format full -group_count {longest} -to [all_registers -edge_triggered -data_pins]
puts "== hold"
report_checks -path_delay min -format full
{early}
puts "== ends"
report_checks -path_delay max -group_count {endpoints} -format end
{halves}
puts "== done"
exit
"""
HALVES = """\
puts "== full"
report_checks -path_delay max -rise_from [get_clocks clk] -rise_to [get_clocks clk] -group_count {endpoints} -format end
puts "== half"
report_checks -path_delay max -fall_from [get_clocks clk] -group_count {endpoints} -format end
report_checks -path_delay max -fall_to [get_clocks clk] -group_count {endpoints} -format end
"""
"""Where there are macros: they are read on the clock's falling edge, so paths to and from them have half a period."""
END = re.compile(r"^(\S+) \(([^)]*)\)(?:\s+-?[\d.]+){2}\s+(-?[\d.]+) \((?:MET|VIOLATED)\)$", re.M)


def available() -> bool:
    return shutil.which("sta") is not None


EARLY = """\
puts "== early"
report_checks -path_delay min -group_count {endpoints} -format end
"""
ROUTED = """\
read_spef -quiet wires.spef
set_propagated_clock [get_clocks clk]
"""


def analyze(netlist: Netlist, pdk: Pdk, corner: str, clock_mhz: float, spef: str = "") -> dict:
    """Slacks in ns, the clock in MHz that setup allows, the ends of the paths that limit setup and hold, the worst path between
    flip-flops, the longest such paths by their registers, and the worst slack by block.

    Clock and reset arrive everywhere at once, as through trees that placement adds; wires are capacitance at the inputs. With
    `spef`, wires are what it says, clock and reset take their way through what the netlist has, and `early` is the hold slack by
    input.
    A latch that opens before its data arrive has no slack of its own: what it borrows is taken from the paths after it.
    Clock pessimism is not removed: an ideal clock has none, yet OpenSTA of 2019 removes some.
    """
    library = pdk.corner(corner)
    missing = [kind for part in (netlist.top, *netlist.parts.values()) for kind in part.kinds
               if kind in netlist.library.cells and kind not in library.cells]
    if missing:
        raise InputError(f"the corner {corner} of {pdk.name} has no cell {missing[0]}, which the netlist has; "
                         "drop it in the PDK's description")
    if not available():
        raise ToolMissing("there is no OpenSTA: install its command sta, e.g. apt-get install opensta")
    period = 1e-6 / clock_mhz / library.seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library.write(folder / "cells.lib", wired=not spef)
        (folder / "wires.spef").write_text(spef, encoding="utf-8")
        for name in netlist.macros:
            library.cells[name].library.write(folder / f"{name}.lib", name)
        (folder / "netlist.v").write_text(netlist.verilog, encoding="utf-8")
        parts = {"macros": "\n".join(f"read_liberty {name}.lib" for name in netlist.macros),
                 "halves": HALVES.format(endpoints=ENDPOINTS) if netlist.macros else ""}
        ports = netlist.top.netlist["ports"]
        inputs, outputs = ([name + "*" * (len(row["bits"]) > 1) for name, row in ports.items() if row["direction"] == way
                            and name not in ("clk", "rst")] for way in ("input", "output"))
        parts |= {"top": netlist.top.name, "inputs": " ".join(inputs), "outputs": " ".join(outputs),
                  "routed": ROUTED if spef else "", "early": EARLY.format(endpoints=ENDPOINTS) if spef else ""}
        parts |= {"longest": str(LONGEST), "endpoints": str(ENDPOINTS), "period": f"{period:.6g}",
                  "delay": f"{IO_SHARE * period:.6g}", "driver": pdk.drivers.input,
                  "load": f"{pdk.load_ff * 1e-15 / library.farads:.6g}"}
        (folder / "run.tcl").write_text(SCRIPT.format(**parts), encoding="utf-8")
        done = processes.run(["sta", "-no_splash", "-exit", "run.tcl"], cwd=folder)
    text = done.stdout + done.stderr
    if "== done" not in text:
        wrong = [line for line in text.splitlines() if "rror" in line] or text.splitlines()[-1:]
        raise ToolFailed(f"OpenSTA does not read the netlist: {wrong[0]}")
    found = read(text, library, clock_mhz)
    for path in found["paths"]:
        path |= {end: _register(netlist, path[end]) for end in ("from", "to")}
    return found


INSTANCE = re.compile(r"^  (\S+) \\?(\S+) +\(\n(.*?)\n  \);", re.M | re.S)
PIN = re.compile(r"\.(\w+)\(\\?(\S+?(?: \[\d+\])?) ?\)")


def _register(netlist: Netlist, place: str) -> str:
    """A flip-flop by its block and the register that it is a bit of, after its output or after an inverter behind it."""
    *blocks, name = place.split("/")
    part = netlist.top
    for block in blocks:
        part = netlist.parts[part.cells[block]["type"]]
    kinds = netlist.library.cells
    cells = [(own, kinds[kind], dict(PIN.findall(pins))) for kind, own, pins in INSTANCE.findall(part.verilog) if kind in kinds]
    nets = [pins[kind.outputs[0]] for own, kind, pins in cells if own == name and kind.kind == "ff"]
    nets += [pins[kind.outputs[0]] for _, kind, pins in cells if len(kind.inputs) == 1 and pins[kind.inputs[0]] in nets]
    named = [net for net in nets if not re.match(r"_\d+_", net)]
    return "/".join([*blocks, *(named or [name])[:1]])


def read(text: str, library: Library, clock_mhz: float) -> dict:
    """Reads OpenSTA's report."""
    setup, hold, ends = (re.search(rf"== {name}\n(.*?)(?=\n== )", text, re.S)[1] for name in ("setup", "hold", "ends"))
    nanoseconds = library.seconds * 1e9

    def slack(report: str) -> float:
        found = re.search(r"(-?[\d.]+)\s+slack", report)
        if not found:
            raise ToolFailed("OpenSTA finds no path between registers; the netlist has no clock")
        return float(found[1]) * nanoseconds

    def slacks(report: str) -> Iterator[tuple[str, float]]:
        for end, cell, value in END.findall(report):
            left = float(value) * nanoseconds
            if left < 0 or cell not in library.cells or library.cells[cell].kind != "latch":
                yield end, left

    early: dict[str, float] = {}
    if found := re.search(r"== early\n(.*?)(?=\n== )", text, re.S):
        for end, left in slacks(found[1]):
            early[end] = min(left, early.get(end, left))
    worst, ends_at, setup_ns = {}, "a register", slack(setup)
    for end, left in slacks(ends):
        block = end.split("/")[0] if "/" in end else "ports"
        worst[block] = min(worst.get(block, 1e9), left)
        if left <= setup_ns:
            setup_ns, ends_at = left, end
    pins = re.findall(r"^.* (\S+) \(\w+\)$", hold.split("data arrival time")[0], re.M)
    longest = re.split(r"^Startpoint: ", setup, flags=re.M)[1:]
    paths = [{"slack_ns": round(slack(one), 4), "from": one.split()[0], "to": re.search(r"^Endpoint: (\S+)", one, re.M)[1]}
             for one in longest]
    path = re.findall(r"^\s*(-?[\d.]+)\s+(-?[\d.]+)\s+[v^]?\s*(\S+) \((\w+)\)\s*$", longest[0], re.M)
    period = 1000 / clock_mhz
    shortest = period - setup_ns
    if both := re.search(r"== full\n(.*?)== half\n(.*?)(?=\n== )", text, re.S):
        shortest = max(period - times * min((left for _, left in slacks(part)), default=period)
                       for part, times in zip(both.groups(), (1, 2), strict=True))
    return {"setup_ns": round(setup_ns, 4), "hold_ns": round(slack(hold), 4), "mhz": round(1000 / shortest, 1),
            "end": ends_at, "hold_end": pins[-1] if pins else "a register",
            "path": [{"ns": round(float(delay) * nanoseconds, 4), "pin": pin, "cell": cell} for delay, _, pin, cell in path],
            "paths": paths, "blocks": {name: round(value, 4) for name, value in sorted(worst.items(), key=lambda item: item[1])}
            } | ({"early": early} if early else {})
