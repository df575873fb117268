"""From a chip's Verilog to a netlist of a library's cells, block by block, by Yosys and ABC.

Each block is mapped alone, flat, and equal ones once; the top keeps one instance a block. Results are kept in build/cells under
the hash of all that they depend on.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from boards.tools import version
from emamba.errors import EmambaError
from emamba.files import write_folder
from rtl.emit import parts

from .liberty import Cell, Library
from .pdk import Pdk

CACHE = Path("build/cells")
LEAST_GATED = 4
"""Flip-flops from which a common enable becomes a gated clock; below, it becomes multiplexers (our choice)."""
MARGIN = 0.85
"""Share of the clock period that ABC is asked to meet within a block: the rest is for flip-flops and wires (our choice)."""

# One process for all parts: its start takes longer than most of them.
YOSYS = """\
import sys
from pyosys import libyosys
for number, script in enumerate(sys.stdin.read().split("\\f")):
    design = libyosys.Design()
    for line in script.splitlines():
        libyosys.run_pass("tee -q " + line, design)
    print("mapped", number, flush=True)
"""


@dataclass
class Part:
    """A mapped block: Yosys' ports and cells, and its Verilog."""

    name: str
    netlist: dict
    verilog: str

    @cached_property
    def cells(self) -> dict[str, dict]:
        return self.netlist["cells"]

    @cached_property
    def kinds(self) -> Counter:
        return Counter(cell["type"] for cell in self.cells.values())


@dataclass
class Netlist:
    """`top` and the part of each of its instances, in cells of `library`."""

    library: Library
    top: Part
    instances: dict[str, Part]

    @property
    def verilog(self) -> str:
        texts = dict.fromkeys(part.verilog for part in (*self.instances.values(), self.top))
        return "".join(texts)

    def area(self, part: Part) -> float:
        """µm² of a part's own cells."""
        return sum(self.library.cells[kind].area * count for kind, count in part.kinds.items() if kind in self.library.cells)

    @property
    def blocks(self) -> dict[str, Part]:
        """By instance, and the rest under `top`."""
        return self.instances | {"top": self.top}

    def report(self) -> dict:
        """Area in µm² and in NAND2 equivalents, cells and flip-flops, by block and in all."""
        unit = self.library.smallest_nand2
        rows = {}
        for name, part in self.blocks.items():
            kinds = {kind: self.library.cells[kind].kind for kind in part.kinds if kind in self.library.cells}
            rows[name] = {"area_um2": self.area(part), "cells": sum(part.kinds[kind] for kind in kinds)} | {
                key: sum(part.kinds[kind] for kind, found in kinds.items() if found == what)
                for key, what in (("flip_flops", "ff"), ("latches", "latch"), ("clock_gates", "clock_gate"))}
        total = {key: sum(row[key] for row in rows.values()) for key in rows["top"]}
        for row in (total, *rows.values()):
            row["nand2"] = round(row["area_um2"] / unit.area)
            row["area_um2"] = round(row["area_um2"], 2)
        return {"nand2_cell": unit.name, "nand2_um2": unit.area, "total": total, "blocks": rows}


def implement(verilog: str, pdk: Pdk, clock_mhz: float, *, gated: bool = True, booth: bool = False) -> Netlist:
    """The netlist of a chip's Verilog in the PDK's typical cells. `gated`: a common enable of flip-flops gates their clock.
    `booth`: multipliers of Booth's kind, larger and faster."""
    library = pdk.typical
    texts = parts(verilog)
    names = {text: f"part_{k}" for k, text in enumerate(dict.fromkeys(texts.values()))}
    flow = _Flow(pdk, library, clock_mhz, gated, booth)
    top = re.search(r"^module top\(.*?^endmodule\n", verilog, re.M | re.S)[0]
    top = re.sub(r"^  (?:\\\S+|\w+)\s+(\\\S+|\w+) \($", lambda match: f"  {names[texts[match[1]]]} {match[1]} (", top, flags=re.M)
    inputs = {name: text.replace("module top(", f"module {name}(").replace(r"\top.", rf"\{name}.")
              for text, name in names.items()}
    mapped = flow.run(inputs, top)
    return Netlist(library, mapped["top"], {name: mapped[names[text]] for name, text in texts.items()})


class _Flow:
    def __init__(self, pdk: Pdk, library: Library, clock_mhz: float, gated: bool, booth: bool):
        self.pdk, self.library, self.gated, self.booth = pdk, library, gated, booth
        self.picoseconds = round(MARGIN * 1e6 / clock_mhz)
        self.buffer = self._cell(pdk.drivers["input"])
        for kind in ("ff", *["clock_gate"] * gated):
            if not any(cell.kind == kind for cell in library.cells.values()):
                raise EmambaError(f"the library {library.name} has no cell of the kind {kind} left; keep one in the description "
                                  f"of {pdk.name}")

    def _cell(self, name: str) -> Cell:
        if name not in self.library.cells:
            raise EmambaError(f"the library {self.library.name} has no cell {name}, which the description of {self.pdk.name} "
                              "names")
        return self.library.cells[name]

    def script(self, name: str, sources: list[str]) -> list[str]:
        ties = []
        for value in ("high", "low"):
            cell, pin = self.pdk.drivers[f"tie_{value}"].split("/")
            ties += [f"-{value[:2]}cell", self._cell(cell).name, pin]
        buffer = f"{self.buffer.name} {self.buffer.inputs[0]} {self.buffer.outputs[0]}"
        return [
            *sources, f"synth -flatten -top {name} -noabc{' -booth' * self.booth}",
            *([f"clockgate -liberty cells.lib -min_net_size {LEAST_GATED}"] * self.gated),
            "opt", "dfflibmap -liberty cells.lib", "opt",
            f"abc -liberty cells.lib -constr abc.constr -D {self.picoseconds}", "opt_clean -purge",
            "setundef -zero",
            f"hilomap {' '.join(ties)}", f"insbuf -buf {buffer}", "splitnets", "opt_clean -purge", "setattr -unset src *",
            f"write_verilog -noattr -noexpr -nohex {name}.mapped.v", f"write_json -noscopeinfo {name}.json",
        ]

    def run(self, inputs: dict[str, str], top: str) -> dict[str, Part]:
        constraints = f"set_driving_cell {self.buffer.name}\nset_load {self.pdk.load_ff}\n"
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            self.library.write(work / "cells.lib")
            (work / "abc.constr").write_text(constraints, encoding="utf-8")
            shared = [(work / "cells.lib").read_text(encoding="utf-8"), constraints, version("pyosys")]
            stubs = [f"read_verilog -lib {name}.v" for name in inputs]
            jobs = {name: ([f"read_verilog {name}.v"], text) for name, text in inputs.items()}
            jobs["top"] = ([*stubs, "read_verilog top.v"], top)
            paths, scripts = {}, []
            for name, (sources, text) in jobs.items():
                (work / f"{name}.v").write_text(text, encoding="utf-8")
                script = self.script(name, sources)
                key = [text.replace(name, "part"), "\n".join(script).replace(name, "part"), *shared]
                key += inputs.values() if name == "top" else []
                paths[name] = CACHE.resolve() / sha256("\0".join(key).encode()).hexdigest()[:24]
                if not paths[name].exists():
                    scripts.append((name, "\n".join(script)))
            for number in self._yosys(work, [script for _, script in scripts]):
                name = scripts[number][0]
                with write_folder(paths[name], "part.json") as kept:
                    for suffix, target in ((".json", "part.json"), (".mapped.v", "part.v")):
                        text = (work / f"{name}{suffix}").read_text(encoding="utf-8")
                        (kept / target).write_text(re.sub(rf"\b{name}\b", "emamba_part", text), encoding="utf-8")
        return {name: self._part(name, path) for name, path in paths.items()}

    @staticmethod
    def _yosys(work: Path, scripts: list[str]) -> Iterator[int]:
        """Runs the scripts; the number of each as soon as it is done, so that an interruption loses only one."""
        if not scripts:
            return
        (work / "scripts").write_text("\f".join(scripts), encoding="utf-8")
        with (work / "scripts").open() as source, (work / "log").open("w+") as log, subprocess.Popen(
                [sys.executable, "-c", YOSYS], cwd=work, stdin=source, stdout=subprocess.PIPE, stderr=log, text=True) as process:
            said = []
            for line in process.stdout:
                if line.startswith("mapped "):
                    yield int(line.split()[1])
                elif "ERROR" in line:
                    said.append(line.strip())
            if process.wait():
                log.seek(0)
                said += [line.strip() for line in log if "ERROR" in line]
                raise EmambaError(f"Yosys does not map the chip: {(said or [f'status {process.returncode}'])[0]}")

    def _part(self, name: str, path: Path) -> Part:
        text = re.sub(r"\bemamba_part\b", name, (path / "part.v").read_text(encoding="utf-8"))
        netlist = json.loads((path / "part.json").read_text(encoding="utf-8"))["modules"]["emamba_part"]
        part = Part(name, netlist, re.sub(r"^( *(?:input|output|wire)) signed\b", r"\1", text, flags=re.M))
        strange = [kind for kind in part.kinds if kind not in self.library.cells and not fnmatchcase(kind, "part_*")]
        if strange:
            raise EmambaError(f"{name}: {part.kinds[strange[0]]} cells {strange[0]} are left unmapped, which {self.library.name} "
                              f"does not have; keep a cell that can take their place in the description of {self.pdk.name}")
        return part
