"""Verilog emission: the only place that calls Yosys."""

from amaranth._toolchain.yosys import find_yosys
from amaranth.back import rtlil
from amaranth.hdl import Elaboratable

# `proc` turns every process into assigns and flip-flops: event-driven simulators keep the `always @*` blocks, which Yosys would
# write without it, at X until an input changes. Names that Yosys made are renumbered: Icarus takes a function with such an
# escaped name for a system function.
SCRIPT = """\
read_rtlil <<rtlil
{rtlil}
rtlil
hierarchy -check
proc
{memories}clean
write_verilog -noattr
"""


def to_verilog(component: Elaboratable, name: str = "top", *, rom_as_logic: bool = False) -> str:
    """Verilog-2005 of `component`; `rom_as_logic` writes read-only memories as gates, for an ASIC without initialized RAM."""
    text = rtlil.convert(component, name=name, emit_src=False)
    yosys = find_yosys(lambda version: version >= (0, 40))
    memories = "memory_map -rom-only\nopt_expr\n" if rom_as_logic else ""
    return yosys.run(["-q", "-"], SCRIPT.format(rtlil=text, memories=memories))
