"""Mutants: changes of single wires and cells of the hardware.

Yosys makes them, all of a design in one netlist, of which the input `strap` chooses one: so that one model is compiled for all.
"""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from amaranth.lib.wiring import Component

from rtl.kit import tools
from rtl.kit.emit import to_verilog

from .netlist import Netlist

BITS = 10
"""Of the strap; 0 is the design itself."""
UNUSED = re.compile(r"-port RD_(SRST|ARST|CLK)\b")
"""Ports of Yosys' memories that this project's have no use for."""


@dataclass
class Mutants:
    """Verilog with all mutants, of which `strap` selects one; the design as RTLIL. `kinds` says what each is as Yosys does,
    `names` by its meaning; those in `data` meet data, and no handshake."""

    verilog: str
    kinds: list[str]
    names: list[str]
    data: set[str]
    rtlil: str


def mutated(component: Component, count: int, seed: int = 1, only: str = "") -> Mutants:
    """At most `count`, all of one mode `only` where it is given."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "top.v").write_text(to_verilog(component))
        prepare = [
            "read_verilog top.v",
            "hierarchy -top top",
            "proc",
            "opt_hier",
            "opt -full",
            "wreduce",
            "opt_expr",
            "opt_hier",
            "opt_clean",
            "memory_collect",
            "opt_clean",
            "write_rtlil top.il",
            "write_json top.json",
        ]
        tools.yosys(folder, [*prepare, f"mutate -list {3 * count} -seed {seed} -o list.txt"])
        kinds = [line.removeprefix("mutate ") for line in (folder / "list.txt").read_text().splitlines()]
        kinds = [kind for kind in kinds if f"-mode {only}" in kind and not UNUSED.search(kind)][:count]
        mutate = [f"mutate -ctrl strap {BITS} {k} {kind}" for k, kind in enumerate(kinds, 1)]
        tools.yosys(folder, ["read_rtlil top.il", *mutate, "flatten", "clean", "write_verilog -noattr mutated.v"])
        netlist = Netlist((folder / "top.json").read_text())
        names = [netlist.name(kind) for kind in kinds]
        data = {name for name, kind in zip(names, kinds, strict=True) if netlist.is_data(kind)}
        return Mutants((folder / "mutated.v").read_text(), kinds, names, data, (folder / "top.il").read_text())
