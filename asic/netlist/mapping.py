"""From a chip's Verilog to a netlist of a library's cells, block by block, by Yosys and ABC.

Each block is mapped alone, and equal blocks once, as are modules that a block instantiates several times. The top keeps one
instance per block. Results are cached under the hash of all that they depend on.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path

from emamba.base import processes
from emamba.base.errors import InputError, ToolFailed
from emamba.io import cache
from emamba.io.files import write_folder
from rtl.kit.emit import BACKSLASH, INSTANCE, modules, parts
from rtl.kit.tools import version

from .cell import Cell
from .library import Library
from .memories import latched, with_macros
from .pdk import Pdk

LEAST_GATED = 4
"""Flip-flops from which a common enable becomes a gated clock; below, it becomes multiplexers (our choice)."""
MARGIN = 0.85
"""Share of the clock period that ABC is asked to meet within a block: the rest is for flip-flops and wires (our choice)."""

# Parts are mapped side by side, each in a process that is a copy of a fresh one: a start takes longer than most of them, and what
# was mapped before is not to change a result.
YOSYS = """\
import os
import sys
from pyosys import libyosys

running = {}

def finish():
    process, status = os.wait()
    if status:
        sys.exit(1)
    print(running.pop(process), flush=True)

for number, script in enumerate(sys.stdin.read().split("\\f")):
    if len(running) == len(os.sched_getaffinity(0)):
        finish()
    process = os.fork()
    if not process:
        os.dup2(2, 1)
        design = libyosys.Design()
        for line in script.splitlines():
            libyosys.run_pass("tee -q " + line, design)
        os._exit(0)
    running[process] = number
while running:
    finish()
"""

LANE = "\n  input row_kept;\n"
"""A port of an engine's lanes."""

FAST = "strash; &get -n; &synch2; &nf -D {0}; &put; buffer -c; topo; upsize -D {0}; dnsize -D {0}\n"
"""ABC for speed; its own script, which is for area, leaves long carries."""


@dataclass
class Part:
    """A mapped block: Yosys' ports and cells, and its Verilog."""

    name: str
    netlist: dict
    verilog: str

    @property
    def cells(self) -> dict[str, dict]:
        return self.netlist["cells"]

    @property
    def kinds(self) -> Counter:
        return Counter(cell["type"] for cell in self.cells.values())

    def exchange(self, kinds: dict[str, str]) -> None:
        """Gives cells, by their names, other cells of the library with the same pins."""
        for name, kind in kinds.items():
            self.cells[name]["type"] = kind

        def instance(match: re.Match) -> str:
            return f"  {kinds.get(match[2].removeprefix(BACKSLASH), match[1])} {match[2]} ("

        self.verilog = INSTANCE.sub(instance, self.verilog)


@dataclass
class Netlist:
    """`top` and the parts below it by module name, in cells of `library`; and the mapped Verilog, with macros and latches for
    RAMs."""

    library: Library
    top: Part
    parts: dict[str, Part]
    source: str

    @property
    def blocks(self) -> dict[str, list[Part]]:
        """Maps the instances in `top` to their part and the parts within, with repetitions; the rest is `top`."""
        return {name: self._within(self.parts[cell["type"]]) for name, cell in self.top.cells.items()
                if cell["type"] in self.parts} | {"top": [self.top]}

    def _within(self, part: Part) -> list[Part]:
        inner = [self.parts[cell["type"]] for cell in part.cells.values() if cell["type"] in self.parts]
        return [part, *(found for each in inner for found in self._within(each))]

    @property
    def macros(self) -> list[str]:
        """The kinds of macros in the netlist."""
        kinds = {kind for part in self.parts.values() for kind in part.kinds}
        return sorted(kind for kind in kinds if kind in self.library.cells and self.library.cells[kind].macro)

    @property
    def verilog(self) -> str:
        return "".join(part.verilog for part in (*self.parts.values(), self.top))

    def report(self) -> dict:
        """Area in µm² and in NAND2 equivalents, and the macros' share; cells, flip-flops and so on; by block and in total."""
        unit = self.library.smallest_nand2
        rows = {}
        for name, inner in self.blocks.items():
            kinds = sum((part.kinds for part in inner), Counter())
            counts = Counter({self.library.cells[kind]: count for kind, count in kinds.items() if kind in self.library.cells})
            rows[name] = {"area_um2": sum(cell.area * count for cell, count in counts.items()), "cells": counts.total()} | {
                key: sum(count for cell, count in counts.items() if cell.kind == what)
                for key, what in (("flip_flops", "ff"), ("latches", "latch"), ("clock_gates", "clock_gate"), ("macros", "macro"))
            } | {"macro_um2": sum(cell.area * count for cell, count in counts.items() if cell.kind == "macro")}
        total = {key: sum(row[key] for row in rows.values()) for key in rows["top"]}
        for row in (total, *rows.values()):
            row["nand2"] = round(row["area_um2"] / unit.area)
            row["area_um2"], row["macro_um2"] = round(row["area_um2"], 2), round(row["macro_um2"], 2)
        return {"nand2_cell": unit.name, "nand2_um2": unit.area, "total": total, "blocks": rows}


def implement(verilog: str, pdk: Pdk, clock_mhz: float, *, gated: bool = True, fast: Collection[str] = ()) -> Netlist:
    """Maps a chip's Verilog to the PDK's typical cells.

    Parameters
    ----------
    verilog
        of the chip, without initial values
    pdk
        the process
    clock_mhz
        the clock
    gated
        an enable that flip-flops share gates their clock, and RAMs that are not macros become latches if the library has them
    fast
        instances that are mapped for speed, the others for area
    """
    library = pdk.typical
    flow = _Flow(pdk, library, clock_mhz, gated)
    verilog = with_macros(verilog, pdk, clock_mhz)
    if flow.latch:
        verilog = latched(verilog, flow.clock_gate)
    names, inputs = divide(verilog)
    top = with_parts(verilog, names)
    quick = {part for instance, part in names.items() if instance.removeprefix(BACKSLASH) in fast}
    mapped = flow.run(inputs | {"top": top}, quick)
    return Netlist(library, mapped.pop("top"), mapped, verilog)


def divide(verilog: str) -> tuple[dict[str, str], dict[str, str]]:
    """Maps the instances in `top` to their parts, and the parts to their Verilog; the order does not depend on the content."""
    found: dict[str, str] = {}
    return {instance: _add(text, found) for instance, text in parts(verilog).items()}, found


def with_parts(verilog: str, names: dict[str, str]) -> str:
    """The module `top` with parts for its instances."""
    return INSTANCE.sub(lambda match: f"  {names[match[2]]} {match[2]} (", modules(verilog)["top"])


def lowering(name: str, text: str) -> str:
    """How Yosys lowers a part. Products with weights from a memory, and those of an engine's lanes, are Booth's, which are
    smaller."""
    booth = f"{BACKSLASH}{name}.weight" in text or LANE in text
    return f"synth -flatten -top {name} -noabc{' -booth' * booth}"


def _add(text: str, found: dict[str, str]) -> str:
    """Adds a module and the modules within to `found` under new names; returns its name. A leaf that it instantiates several
    times is a part too, which is mapped once."""
    texts, alike = modules(text), defaultdict(list)
    for name, module in texts.items():
        if name != "top" and not INSTANCE.search(module):
            alike[module.replace(f"module {name} (", "module top(")].append(name)
    for module, several in alike.items():
        if len(several) > 1:
            part = _add(module, found)
            for name in several:
                text = text.replace(texts[name], "").replace(f"  {name} ", f"  {part} ")
    part = f"part_{sha256(text.encode()).hexdigest()[:12]}"
    found[part] = text.replace("module top(", f"module {part}(").replace(r"\top.", rf"\{part}.")
    return part


class _Flow:
    def __init__(self, pdk: Pdk, library: Library, clock_mhz: float, gated: bool):
        self.pdk, self.library, self.gated = pdk, library, gated
        self.picoseconds = round(MARGIN * 1e6 / clock_mhz)
        self.buffer = self._cell(pdk.drivers.input)
        for kind in ("ff", *["clock_gate"] * gated):
            if not library.smallest(kind):
                raise InputError(f"the library {library.name} has no cell of the kind {kind} left; keep one in the description "
                                 f"of {pdk.name}")
        self.clock_gate, self.latch = (library.smallest(kind) if gated else None for kind in ("clock_gate", "latch"))
        self.macros = {name: cell for name, cell in library.cells.items() if cell.kind == "macro"}

    def _cell(self, name: str) -> Cell:
        if name not in self.library.cells:
            raise InputError(f"the library {self.library.name} has no cell {name}, which the description of {self.pdk.name} "
                             "names")
        return self.library.cells[name]

    def script(self, name: str, text: str, within: list[str], fast: bool) -> list[str]:
        ties = []
        for value in ("high", "low"):
            cell, pin = self.pdk.drivers.tie(value)
            ties += [f"-{value[:2]}cell", self._cell(cell).name, pin]
        buffer = f"{self.buffer.name} {self.buffer.inputs[0]} {self.buffer.outputs[0]}"
        return [
            *(f"read_verilog -lib {inner}.v" for inner in within), f"read_verilog {name}.v",
            *["read_verilog -lib cells.v"] * bool(self.latch), *["read_verilog -lib macros.v"] * self.has_macros(text),
            lowering(name, text),
            *["techmap -map latch.v"] * bool(self.latch),
            *([f"clockgate -liberty cells.lib -min_net_size {LEAST_GATED}"] * self.gated),
            "opt", "dfflibmap -liberty cells.lib", "opt",
            f"abc -liberty cells.lib -constr abc.constr -D {self.picoseconds}{' -script fast.abc' * fast}", "opt_clean -purge",
            "setundef -zero",
            f"hilomap {' '.join(ties)}", f"insbuf -buf {buffer}", "splitnets", "opt_clean -purge", "setattr -unset src *",
            "rename -enumerate",  # else names of cells are not the same in the two files
            f"write_verilog -noattr -noexpr -nohex {name}.mapped.v", f"write_json -noscopeinfo {name}.json",
        ]

    def has_macros(self, text: str) -> bool:
        return any(f"  {name} " in text for name in self.macros)

    @property
    def macro_stubs(self) -> str:
        """Macros, and the cells that stand beside them."""
        ties = (self._cell(self.pdk.drivers.tie(value)[0]) for value in ("low", "high"))
        return "".join(map(stub, (*self.macros.values(), *ties, self.buffer, self.library.smallest_inverter)))

    def run(self, inputs: dict[str, str], fast: set[str]) -> dict[str, Part]:
        """Maps Verilog modules, each of which may instantiate earlier ones; those in `fast`, and what is within, for speed."""
        constraints = f"set_driving_cell {self.buffer.name}\nset_load {self.pdk.load_ff}\n"
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            self.library.write(work / "cells.lib")
            (work / "abc.constr").write_text(constraints, encoding="utf-8")
            (work / "fast.abc").write_text(FAST.format(self.picoseconds), encoding="utf-8")
            shared = [(work / "cells.lib").read_text(encoding="utf-8"), constraints, version("pyosys"), FAST]
            if self.latch:
                for file, content in (("cells.v", stub(self.clock_gate)), ("latch.v", _latch(self.latch))):
                    (work / file).write_text(content, encoding="utf-8")
                    shared.append(content)
            stubs = self.macro_stubs if self.macros else ""
            (work / "macros.v").write_text(stubs, encoding="utf-8")
            place, paths, scripts = cache.folder("cells"), {}, []
            within = {name: [inner for inner in inputs if inner != name and inner in text] for name, text in inputs.items()}
            fast = fast | {inner for name in fast for inner in within[name]}
            for name, text in inputs.items():
                (work / f"{name}.v").write_text(text, encoding="utf-8")
                script = self.script(name, text, within[name], name in fast)
                key = "\0".join([text, *script, *(inputs[inner] for inner in within[name]), *shared,
                                 *[stubs] * self.has_macros(text)])
                paths[name] = place / sha256(key.encode()).hexdigest()[:24]
                if not paths[name].exists():
                    scripts.append((name, "\n".join(script)))
            for number in self._yosys(work, [script for _, script in scripts]):
                name = scripts[number][0]
                with write_folder(paths[name], "part.json") as kept:
                    for suffix, target in ((".json", "part.json"), (".mapped.v", "part.v")):
                        shutil.copyfile(work / f"{name}{suffix}", kept / target)
        return {name: self._part(name, path) for name, path in paths.items()}

    @staticmethod
    def _yosys(work: Path, scripts: list[str]) -> Iterator[int]:
        """Runs the scripts; yields the number of each as soon as it is done, so that an interruption loses only one."""
        if not scripts:
            return
        (work / "scripts").write_text("\f".join(scripts), encoding="utf-8")
        with (work / "scripts").open() as source, (work / "log").open("w+") as log, processes.group(
                [sys.executable, "-c", YOSYS], cwd=work, stdin=source, stdout=subprocess.PIPE, stderr=log, text=True) as process:
            for line in process.stdout:
                yield int(line)
            if process.wait():
                log.seek(0)
                said = [line.strip() for line in log if "ERROR" in line]
                raise ToolFailed(f"Yosys does not map the chip: {(said or [f'status {process.returncode}'])[0]}")

    def _part(self, name: str, path: Path) -> Part:
        netlist = json.loads((path / "part.json").read_text(encoding="utf-8"))["modules"][name]
        text = re.sub(r"^( *(?:input|output|wire)) signed\b", r"\1", (path / "part.v").read_text(encoding="utf-8"), flags=re.M)
        part = Part(name, netlist, text)
        strange = [kind for kind in part.kinds if kind not in self.library.cells and not fnmatchcase(kind, "part_*")]
        if strange:
            raise InputError(f"{name}: {part.kinds[strange[0]]} cells {strange[0]} are left unmapped, which {self.library.name} "
                             f"does not have; keep a cell that can take their place in the description of {self.pdk.name}")
        return part


def stub(cell: Cell) -> str:
    """A library's cell as an empty module."""
    ports = [f"{way} {f'[{bits - 1}:0] ' * (bits > 1)}{name}" for way, name, bits in cell.ports]
    return f"module {cell.name}({', '.join(ports)});\nendmodule\n"


def _latch(cell: Cell) -> str:
    """The Verilog by which Yosys replaces its latch."""
    pins = f".{cell.clock_pin}(E), .{cell.expression(cell.state.get('data_in'))}(D), .{cell.outputs[0]}(Q)"
    return f"module \\$_DLATCH_P_ (input E, D, output Q);\n  {cell.name} _TECHMAP_REPLACE_ ({pins});\nendmodule\n"
