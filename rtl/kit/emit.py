"""Verilog emission: the only place that calls Yosys."""

import gc
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amaranth._toolchain import require_tool
from amaranth._toolchain.yosys import YosysError, find_yosys
from amaranth.back import rtlil
from amaranth.hdl import Elaboratable

from emamba.base import processes
from emamba.base.errors import ToolFailed

from .block import Spec
from .shared import Foreign, collected

# `proc` turns every process into assigns and flip-flops: event-driven simulators keep the `always @*` blocks, which Yosys would
# write without it, at X until an input changes. Names that Yosys made are renumbered: Icarus takes a function with such an
# escaped name for a system function.
SCRIPT = """\
read_rtlil <<rtlil
{rtlil}
rtlil
hierarchy -check
proc{roms}
clean -purge
write_verilog
"""

LINT = Path(__file__).with_name("lint.vlt")
"""What Verilator may say of emitted Verilog, line by line with the reason; it lies beside every Verilog file."""

FOREIGN = re.compile(r"^ *\(\* (?!rom_style).*\*\)\n", re.M)
"""Attributes of Amaranth and Yosys; those for an FPGA's tools stay."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Without looking for garbage: a conversion makes millions of objects that live to its end, and takes a quarter less time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def to_verilog(component: Elaboratable | Spec, name: str = "top", platform=None) -> str:
    """Verilog-2005 of `component`, elaborated for `platform`."""
    component = component.build() if isinstance(component, Spec) else component
    with uncollected(), collected(platform) as shared:
        text = rtlil.convert(component, name=name, platform=platform, emit_src=False)
        text += shared.converted(platform)
    try:
        found = find_yosys(lambda version: version >= (0, 40))
    except YosysError as error:
        raise ToolFailed(f"Yosys does not write the design: {str(error).splitlines()[0]}") from None
    own = hasattr(found, "YOSYS_PACKAGE")  # -P: not what lies in the current folder under its name
    command = [sys.executable, "-P", "-m", found.YOSYS_PACKAGE] if own else [require_tool(found.YOSYS_BINARY)]
    done = processes.run([*command, "-q", "-"], input=SCRIPT.format(
        rtlil=text + "".join(map(Foreign.rtlil, shared.foreign)), roms=" -norom" * (platform is not None)))
    if done.returncode:
        raise ToolFailed(f"Yosys does not write the design: {(done.stderr.splitlines() or ['no message'])[0]}")
    return FOREIGN.sub("", done.stdout) + "".join(f"\n{foreign.verilog}" for foreign in shared.foreign)


def write(path: Path, verilog: str) -> None:
    """Writes Verilog, and beside it what a linter needs to know of it."""
    path.write_text(verilog, encoding="utf-8")
    shutil.copyfile(LINT, path.with_name(LINT.name))


INSTANCE = re.compile(r"^  (\\\S+|\w+) +(\\\S+|\w+) \($", re.M)
"""The first line of an instance: its module and its name."""
BACKSLASH = "\\"
"""Before a name of Verilog's that is no plain word; Yosys' JSON has none."""


def modules(verilog: str) -> dict[str, str]:
    """Verilog text of each module."""
    return {match[1].strip(): match[0] for match in re.finditer(r"^module (\\\S+ |\w+)\(.*?^endmodule\n", verilog, re.M | re.S)}


def parts(verilog: str) -> dict[str, str]:
    """Verilog text of each instance in `top`, as a module `top` of its own."""
    found, texts = {}, modules(verilog)
    for kind, name in INSTANCE.findall(texts["top"]):
        text = "".join(text for module, text in texts.items() if module == kind or module.startswith(f"{kind}."))
        found[name] = text.replace(f"module {kind}(", "module top(").replace(f"{kind} ", "top").replace(f"{kind}.", r"\top.")
    return found
