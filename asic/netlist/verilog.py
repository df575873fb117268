"""The chip's Verilog, which has no initial values."""

import re

from rtl.engine.schedule import EngineSchedule
from rtl.kit.emit import to_verilog
from rtl.plan.accelerator import accelerator
from rtl.plan.schedule import Schedule

from .memories import Platform


def verilog(schedule: Schedule | EngineSchedule, *, rests: bool = True) -> str:
    """The chip: Verilog without initial values, each RAM a module of its own. `rests`: idle blocks of a pipeline stand still."""
    return without_initial_values(to_verilog(accelerator(schedule), platform=Platform(rests=rests)))


def without_initial_values(verilog: str) -> str:
    """The Verilog without what sets memories and registers before the first clock, which a chip does not do."""
    verilog = re.sub(r"^  initial begin\n(?:    \S+\[\d+\] = \d+'[hd]0+;\n)*  end\n", "", verilog, flags=re.M)
    verilog = re.sub(r"^(  reg (?:signed )?(?:\[\d+:\d+\] )?(?:\\\S+ |\w+)) = \d+'[hd][0-9a-f]+;$", r"\1;", verilog, flags=re.M)
    left = re.search(r"^  (initial\b|reg\b.*=).*$", verilog, re.M)
    assert not left, f"an initial value is left: {left[0]}"
    return verilog
