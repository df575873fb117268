"""`python -m benchmarks.cones`: the longest logic of every block on UltraScale+, estimated from Yosys' netlist with a fixed delay
a net. It ranks logic, and shows what a change does to it; no vendor's timing analysis stands behind it.
"""

import argparse
import json
import re
import tempfile
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from emamba.artifact import SHIPPED, load
from emamba.base.options import check, cycles
from rtl.kit import tools
from rtl.kit.emit import parts, to_verilog
from rtl.plan import devices
from rtl.plan.accelerator import Accelerator
from rtl.plan.planner import CYCLES_PER_TOKEN, Request, at

FLOW = "synth_xilinx -family xcup -flatten -noiopad -noclkbuf -top top"
NET, LUT, MUX, RAM = 0.4, 0.1, 0.13, 0.3
"""ns of a net, a lookup table, a MUXF with its wire, a read of distributed memory."""
CARRY = {"CI": 0.02, "CYINIT": NET + 0.02, "S": 0.13, "DI": NET + 0.15}
"""ns from an input of a carry to its outputs; the lookup table before S is in the same slice."""
STARTS = {"FD*": (0.08, 0.05), "SRL*": (0.6, 0.1), "DSP*": (0.3, 0.3), "RAMB*": (0.9, 0.3)}
"""Cells between which paths run: ns from the clock to the output, and before the clock at the input."""
READS = re.compile(r"ADDR[A-G]|A\d+$|DPRA")
"""Pins of distributed memory that a read goes through."""


def longest(verilog: str, count: int = 5) -> list[dict]:
    """The longest paths of a module `top`, one for each two named nets: their ns, and the nets after and before registers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "top.v").write_text(verilog, encoding="utf-8")
        tools.yosys(folder, ["read_verilog top.v", FLOW, "write_json top.json"])
        module = json.loads((folder / "top.json").read_text(encoding="utf-8"))["modules"]["top"]
    named = {bit: net for net, value in module["netnames"].items() if not value["hide_name"] for bit in value["bits"]}
    arcs: dict[int, list[tuple[int, float]]] = {}
    starts: dict[int, float] = {}
    ends: list[tuple[int, float, str]] = []
    for cell in module["cells"].values():
        kind = cell["type"]
        pins = {way: [(pin, k, bit) for pin, bits in cell["connections"].items() if cell["port_directions"][pin] == way
                      for k, bit in enumerate(bits) if isinstance(bit, int)] for way in ("input", "output")}
        edge = next((times for pattern, times in STARTS.items() if fnmatchcase(kind, pattern)), None)
        memory = kind.startswith("RAM") and not edge
        if edge:
            starts |= {bit: edge[0] for *_, bit in pins["output"]}
        else:
            arcs |= {output: [(bit, delay) for pin, k, bit in pins["input"] if (delay := _delay(kind, pin, k, at)) is not None]
                     for _, at, output in pins["output"]}
        if edge or memory:
            name = next((named[bit] for *_, bit in pins["output"] if bit in named), kind)
            ends += [(bit, edge[1] if edge else 0.1, name) for pin, _, bit in pins["input"]
                     if "CLK" not in pin and pin != "C" and not (memory and READS.match(pin))]
    for name, port in module["ports"].items():
        ends += [(bit, 0.1, name) for bit in port["bits"] if isinstance(bit, int) and port["direction"] == "output"]
    arrival, before = _arrivals(arcs, starts)
    found: dict[tuple[str, str], dict] = {}
    for bit, setup, to in sorted(ends, key=lambda end: -arrival.get(end[0], 0) - end[1]):
        first = bit
        while before.get(first) is not None:
            first = before[first]
        path = {"ns": round(arrival.get(bit, 0) + NET + setup, 2), "from": named.get(first, "a memory"), "to": to}
        found.setdefault((path["from"], path["to"]), path)
        if len(found) == count:
            break
    return list(found.values())


def _delay(kind: str, pin: str, k: int, output: int) -> float | None:
    """From bit `k` of an input pin to bit `output` of an output pin; none where there is no way."""
    if kind.startswith("CARRY"):
        return CARRY.get(pin) if k <= output else None
    if kind.startswith("RAM"):
        return NET + RAM if READS.match(pin) else None
    return MUX if kind.startswith("MUXF") else NET + LUT


def _arrivals(arcs: dict[int, list[tuple[int, float]]], starts: dict[int, float]) -> tuple[dict[int, float], dict[int, int]]:
    """Of every net the ns at which it is there, and the net that comes last before it."""
    arrival: dict[int, float] = {}
    before: dict[int, int] = {}
    for wanted in arcs:
        stack = [wanted]
        while stack:
            bit = stack[-1]
            if waits := [source for source, _ in arcs.get(bit, ()) if source not in arrival]:
                stack += waits
                continue
            stack.pop()
            times = [(arrival[source] + delay, source) for source, delay in arcs.get(bit, ())]
            arrival[bit], last = max(times, default=(starts.get(bit, 0.0), None))
            if last is not None:
                before[bit] = last
    return arrival | {bit: time for bit, time in starts.items() if bit not in arrival}, before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifact", type=Path, default=SHIPPED)
    parser.add_argument("--cycles-per-token", **cycles(), default=CYCLES_PER_TOKEN)
    parser.add_argument("--registers", choices=["few", "many"], default="few")
    parser.add_argument("blocks", nargs="*", help="nodes, with _ for . in their names (default: all)")
    options = check(parser.parse_args())
    device = devices.find("zcu102")
    request = Request(cycles_per_token=options.cycles_per_token, device=device)
    found = at(load(options.artifact), options.cycles_per_token, request).schedule
    schedule = type(found)(found.artifact, found.requested, replace(found.realization, registers=options.registers == "many"))
    texts = parts(to_verilog(Accelerator(schedule)))
    for name in options.blocks or [node.name.replace(".", "_") for node in schedule.graph.nodes[1:]]:
        for path in longest(texts[name]):
            print(f"{name}: {path['ns']:.2f} ns from {path['from']} to {path['to']}", flush=True)


if __name__ == "__main__":
    main()
