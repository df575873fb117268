"""The blocks of MARS that limited the clock, each mapped as a chip of its own: a section of `python -m benchmarks.asic`."""

from amaranth.hdl import Module
from amaranth.lib import wiring

from asic.measure import sizing
from asic.netlist import pdk
from asic.netlist.memories import Platform
from asic.netlist.verilog import without_initial_values
from emamba.artifact import Artifact
from rtl.kit.block import BlockOptions, Spec
from rtl.kit.datapath import Products
from rtl.kit.emit import to_verilog
from rtl.plan.schedule import Realization, fold

PROCESS, MHZ = "asap7", 1000.0
ROWS = ((20, "block0.norm", True), (20, "block1.x", False), (20, "block1.dt", False), (128, "block1.y", False))
"""T, block, and whether `--registers` is `many`."""


class Alone(wiring.Component):
    """A chip of one block."""

    def __init__(self, spec: Spec):
        self.block = spec.build(BlockOptions())
        super().__init__(dict(self.block.signature.members))

    def elaborate(self, platform):
        m = Module()
        m.submodules.block = self.block
        wiring.connect(m, wiring.flipped(self), self.block)
        return m


def measure(artifact: Artifact) -> list[dict]:
    found, process = [], pdk.find(PROCESS)
    for cycles, name, many in ROWS:
        spec = fold(artifact, artifact.graph[name], cycles, Realization(Products.MERGED, registers=many))
        verilog = without_initial_values(to_verilog(Alone(spec), platform=Platform(rests=True)))
        netlist, _, corners = sizing.implement(verilog, process, MHZ)
        row = corners["typical"]
        found.append({"cycles": cycles, "block": name, "registers": "many" if many else "few", "setup_ns": row["setup_ns"],
                      "mhz": row["mhz"], "nand2": netlist.report()["total"]["nand2"]})
    return found


def table(rows: list[dict]) -> list[str]:
    return [f"## Blocks that limited the clock, {PROCESS}, {MHZ:g} MHz", "",
            "Each as a chip of its own, by the flow of the whole one. Setup in the tables of MARS' chips is less than it would",
            "be now, but for those of the design as it is: OpenSTA read cells as ABC chose them, while",
            "area and energy are of the sizes that loads ask for. Here it reads the sizes.", "",
            "| T | block | registers | NAND2 | setup, typical |", "| --- " * 5 + "|",
            *(f"| {row['cycles']} | {row['block']} | {row['registers']} | {row['nand2']:,} | {row['setup_ns']:+.2f} ns, "
              f"{row['mhz']:,.0f} MHz |" for row in rows)]
