"""Whole designs at full speed: a Verilated model with a C++ harness around it.

The design has the streams `i` and `o`. It may have `trace`, a dict of `Port` whose k-th entry has the outputs
`trace_{k}__payload` and `trace_{k}__fire`, and `peaks`, a list of names whose k-th has the output `peak_{k}`. The k-th of its
`memory_ports`, which are widths, is `m_axi_{k}_*` to a memory outside (`memory.hpp`). A Verilog text that was
changed for a test may have the input `strap`, which a run holds at one value.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from amaranth.lib.wiring import Component

from emamba.base import processes
from emamba.base.errors import SettingError, SimulationStopped, ToolFailed
from emamba.io import cache
from emamba.io.files import draft, write_file
from rtl.kit import packing
from rtl.kit.block import Port
from rtl.kit.emit import LINT, to_verilog

from . import tools

HARNESS, MEMORY_MODEL = (Path(__file__).with_name(name) for name in ("harness.cpp", "memory.hpp"))
VERILATOR = ["--cc", "--exe", "--build", "-j", "2", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-assert",
             "--prefix", "Vtop", "--top-module", "top", "--Mdir", "obj", "-o", "../simulation"]
FAST = ["-MAKEFLAGS", "OPT_FAST=-O2 OPT_GLOBAL=-O2 OPT_SLOW=-O0", "--output-split", "20000", "--output-split-cfuncs", "2000"]
"""Two thirds of the code run once, as the simulation begins: optimizing them would double the time of the compiler."""
PLAIN = ["-CFLAGS", "-O0", "--output-split", "0"]
"""Where nothing is optimized, a compiler needs more time for the headers of each file than for the design."""
MEMORY = re.compile(r"^  initial begin\n((?:    (\\\S+ |\w+)\[\d+\] = \d+'h[0-9a-f]+;\n)+)  end\n", re.M)
ROW = re.compile(r"\[(\d+)\] = \d+'h([0-9a-f]+);")
SETTLE = 256  # cycles without a transfer after which the run is over


@dataclass
class Result:
    """What left the design. Beats are rows of words (`rtl.kit.packing`); cycles count from the end of the last reset."""

    output: np.ndarray
    traces: dict[str, np.ndarray]
    input_cycles: np.ndarray  # in which each beat was taken
    output_cycles: np.ndarray  # in which each beat left
    cycles: int
    peaks: dict[str, int]
    memory_bytes: int = 0
    coverage: str = ""  # Verilator's report, of a simulation built with it

    @property
    def first_input(self) -> int:
        """Cycle in which the first beat was taken."""
        return int(self.input_cycles[0])


class NativeSimulation:
    """Builds the model, or finds the one that an earlier run built of the same Verilog.

    `fast` spends compile time on simulation speed: for whole data sets, not for a few sequences of a small design. `verilog`
    takes the place of the component's own for `platform`, with the input `strap`. `options` are Verilator's.
    """

    def __init__(self, component: Component, build_dir: Path | None = None, *, fast: bool = True, verilog: str | None = None,
                 platform=None, options: tuple[str, ...] = ()):
        tools.verilator()  # what is missing is told before the design is made
        self.i, self.o = component.inputs["i"], component.output
        graph = getattr(getattr(component, "schedule", None), "graph", None)
        self.growth = max(1, -(-graph.output.tokens // graph.length)) if graph else 1  # of a sequence, in tokens
        self.trace: dict[str, Port] = dict(getattr(component, "trace", {}))
        self.peaks: list[str] = list(getattr(component, "peaks", []))
        self.memory_ports: list[int] = list(getattr(component, "memory_ports", []))
        files = {"top.v": verilog or to_verilog(component, platform=platform), "ports.h": self._ports(strap=verilog is not None),
                 "harness.cpp": HARNESS.read_text(encoding="utf-8")}
        if self.memory_ports:
            files["memory.hpp"] = MEMORY_MODEL.read_text(encoding="utf-8")
        self.folder = build(files, build_dir, fast=fast, options=options)

    def run(self, words: np.ndarray, stall_seed: int | None = None, stall_percent: int = 0, *, sink_percent: int | None = None,
            idle_cycles: int = 50_000, reset_at: int | None = None, resume_beat: int = 0, strap: int = 0,
            strap_at: int | None = None, memory: dict[str, object] | None = None) -> Result:
        """Feeds beats of `i` until every sequence has left.

        With `stall_percent`, both ports pause at random in that share of the cycles; `sink_percent`, where given, is the
        output's. With `reset_at`, the design is reset in that cycle, the input goes on at `resume_beat`, and the result covers
        the time after the reset. `strap` drives the input of that name, in all cycles or only in cycle `strap_at`, before the
        reset. `memory` are settings of the memory outside: `memory`, its file, and others of `memory.hpp`.
        """
        words = np.ascontiguousarray(words, "<u4")
        sink_percent = stall_percent if sink_percent is None else sink_percent
        if not (0 <= stall_percent < 100 and 0 <= sink_percent < 100):
            raise SettingError(f"stall_percent must lie in 0..99, not {stall_percent} and {sink_percent}")
        settings = {
            "seed": stall_seed or 0,
            "percent": stall_percent,
            "sink": sink_percent,
            "lasts": self._lasts(words),
            "most": -(-len(words) // self.i.beats) * self.o.beats * self.growth,
            "idle_cycles": max(idle_cycles, SETTLE),
            "settle": SETTLE,
            "reset_at": -1 if reset_at is None else reset_at,
            "resume_lasts": self._lasts(words[resume_beat:]),
            "resume_beat": resume_beat,
            "strap": strap,
            "strap_at": -1 if strap_at is None else strap_at,
        } | (memory or {})
        with draft(self.folder.parent) as folder:
            return self._run(words, settings, folder)

    def _run(self, words, settings, folder):
        words.tofile(folder / "i.bin")
        command = [self.folder / "simulation", folder / "i.bin", folder, *(f"{name}={value}" for name, value in settings.items())]
        process = processes.run(command, cwd=self.folder)
        if process.returncode:
            raise SimulationStopped(f"the simulation ended with status {process.returncode}: {process.stderr.strip()}")
        summary = dict(line.split() for line in (folder / "summary.txt").read_text().splitlines())
        result = Result(
            output=self._beats(folder / "o.bin", self.o),
            traces={key: self._beats(folder / f"trace_{k}.bin", port) for k, (key, port) in enumerate(self.trace.items())},
            input_cycles=np.fromfile(folder / "i_cycles.bin", np.uint64).astype(np.int64),
            output_cycles=np.fromfile(folder / "o_cycles.bin", np.uint64).astype(np.int64),
            cycles=int(summary["cycles"]),
            memory_bytes=int(summary.get("memory_bytes", 0)),
            peaks={name: int(summary[f"peak_{k}"]) for k, name in enumerate(self.peaks)},
            coverage=report.read_text(errors="replace") if (report := folder / "coverage.dat").exists() else "",
        )
        resumed = settings["reset_at"] >= 0
        wanted = settings["resume_lasts" if resumed else "lasts"]
        offered = len(words) - (settings["resume_beat"] if resumed else 0)
        counts = (f"{len(result.input_cycles)} of {offered} input beats were taken and {len(result.output)} output beats came "
                  f"out, {summary['lasts']} of them a sequence's last where {wanted} should be")
        if summary["status"] == "stuck":
            raise SimulationStopped(f"the design stopped: nothing moved for {summary['idle']} cycles after cycle "
                                    f"{result.cycles - int(summary['idle'])}; {counts}", "stop")
        if summary["status"] == "surplus":
            raise SimulationStopped(f"the design gives more than its input asks for, up to cycle {result.cycles}: {counts}",
                                    "surplus")
        return result

    def _lasts(self, words: np.ndarray) -> int:
        """Output beats with `last` that an input makes."""
        return int(packing.flags(self.i, words)[1].sum()) // self.i.beats * self.o.beats

    @staticmethod
    def _beats(path: Path, port: Port) -> np.ndarray:
        return np.fromfile(path, "<u4").reshape(-1, packing.payload_words(port))

    def _ports(self, strap: bool) -> str:
        """The header that tells the harness about this design; Verilator writes a double underscore as ___05F."""
        names = {f"{port.upper()}_{signal.upper()}": f"{port}___05F{signal}"
                 for port in "io" for signal in ("payload", "valid", "ready")}
        traces = " ".join(f"X({k}, {packing.payload_words(port)})" for k, port in enumerate(self.trace.values()))
        defines = {
            "I_WORDS": packing.payload_words(self.i),
            "O_WORDS": packing.payload_words(self.o),
            "O_LAST": packing.payload_bits(self.o) - 1,
            "CLK": "clk",
            "RST": "rst",
            **names,
            "TRACE_PAYLOAD(k)": "trace_##k##___05Fpayload",
            "TRACE_FIRE(k)": "trace_##k##___05Ffire",
            "PEAK(k)": "peak_##k",
            "TRACES(X)": traces,
            "PEAKS(X)": " ".join(f"X({k})" for k in range(len(self.peaks))),
            "SET_STRAP(value)": "top->strap = value" if strap else "(void)(value)",
        }
        lines = [f"#define {name} {value}" for name, value in defines.items()]
        lines += [memories(self.memory_ports)] if self.memory_ports else []
        return "\n".join(['#include "Vtop.h"', "using Top = Vtop;", *lines, ""])


def memories(widths: Sequence[int]) -> str:
    """What tells a harness of ports to a memory outside."""
    return "#define MEMORIES(X) " + " ".join(f"X({k}, {bits})" for k, bits in enumerate(widths))


def build(files: dict[str, str], build_dir: Path | None, *, fast: bool, options: tuple[str, ...] = ()) -> Path:
    """The folder of the `simulation` that Verilator makes of top.v, ports.h and harness.cpp, made now or by an earlier run; in
    the user's own cache, or in `build_dir`. It runs in that folder, where its memories' contents are."""
    place = cache.folder("native") if build_dir is None else cache.private(Path(build_dir).absolute())
    environment = tools.verilator()
    arguments = [*VERILATOR, *(FAST if fast else PLAIN), *options]
    verilog, memories = apart(files["top.v"])
    files = files | memories | {"top.v": verilog, LINT.name: LINT.read_text(encoding="utf-8")}
    content = "\0".join([*files.values(), *arguments, Path(environment["OBJCACHE"]).parent.name])

    def make(folder: Path) -> None:
        with cache.workshop(folder) as work:
            for name, text in files.items():
                (work / name).write_text(text, encoding="utf-8")
            command = ["verilator", *arguments, LINT.name, "top.v", "harness.cpp", "-CFLAGS", "-I.."]
            process = processes.run(command, cwd=work, env=os.environ | environment)
            said = process.stdout + process.stderr
            (work / "build.log").write_text(said, encoding="utf-8")
            if process.returncode:
                log = place / "failed.log"
                write_file(log, lambda path: path.write_text(said, encoding="utf-8"))
                raise ToolFailed(f"Verilator does not build the design: {first_error(said)} (see {log})")
            shutil.rmtree(work / "obj")

    return cache.kept(place, f"native-{hashlib.sha256(content.encode()).hexdigest()[:16]}", make)


def apart(verilog: str) -> tuple[str, dict[str, str]]:
    """Verilog that reads its memories' contents from files, and these files: as statements they take half the compiler's time."""
    files: dict[str, str] = {}

    def moved(match: re.Match) -> str:
        places, values = zip(*ROW.findall(match[1]), strict=True)
        if [int(place) for place in places] != list(range(len(places))):
            return match[0]
        name = f"memory_{len(files)}.hex"
        files[name] = "\n".join([*values, ""])
        return f'  initial $readmemh("{name}", {match[2]});\n'

    return MEMORY.sub(moved, verilog), files


def first_error(said: str) -> str:
    """The first line of Verilator, make and compilers that says what is wrong, not only that something is."""
    lines = [line.strip() for line in said.splitlines() if "rror" in line or "***" in line]
    telling = [line for line in lines if "exited with" not in line and "] Error " not in line]
    return (telling or lines or ["no message"])[0]
