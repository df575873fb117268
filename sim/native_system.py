"""The driver's transport to a whole AXI system at full speed: a Verilated model at the end of a pipe
(`system_harness.cpp`)."""

import subprocess
import tempfile
from copy import copy
from pathlib import Path

from emamba.base.errors import DeviceError, SimulationStopped
from rtl.kit.emit import to_verilog
from rtl.system.registers import address, mask
from rtl.system.system import System

from . import native

HARNESS = Path(__file__).with_name("system_harness.cpp")

PLACE, LATENCY = 3 << 32, 30
"""Address of what the memory outside holds, and the cycles until it answers."""


class NativeTransport:
    """`cycles` stand for a second. `marks` are TUSER of every packet received, `cycles_of` the cycles in which it ended."""

    def __init__(self, system: System, build_dir: Path | None, *, cycles: int, fast: bool = True):
        widths = [reader.bits for reader in system.supply.readers] if system.supply else []
        self._build(to_verilog(system), system.options.bus_bits, widths, build_dir, cycles, fast)

    @classmethod
    def of(cls, verilog: str, bus_bits: int, build_dir: Path | None, *, cycles: int, fast: bool = True) -> "NativeTransport":
        """Of the Verilog of a system, whose module is `top`, without ports to a memory outside."""
        made = cls.__new__(cls)
        made._build(verilog, bus_bits, [], build_dir, cycles, fast)
        return made

    def _build(self, verilog: str, bus_bits: int, widths: list[int], build_dir: Path | None, cycles: int, fast: bool) -> None:
        defines = {"BUS_BYTES": bus_bits // 8, "COMMAND": address("COMMAND"), "ABANDON": mask("COMMAND", "ABANDON")}
        lines = ['#include "Vtop.h"', "using Top = Vtop;", *(f"#define {name} {value}" for name, value in defines.items())]
        files = {"top.v": verilog, "harness.cpp": HARNESS.read_text(encoding="utf-8")}
        if widths:
            lines.append(native.memories(widths))
            files["memory.hpp"] = native.MEMORY_MODEL.read_text(encoding="utf-8")
        files["ports.h"] = "\n".join([*lines, ""])
        folder = native.build(files, build_dir, fast=fast)
        self.cycles, self.simulation = cycles, folder / "simulation"
        self._start()

    def _start(self) -> None:
        self.marks, self.cycles_of = [], []
        self.process = subprocess.Popen([self.simulation], cwd=self.simulation.parent, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def fresh(self) -> "NativeTransport":
        """The same design in a process of its own, just powered up."""
        other = copy(self)
        other._start()
        return other

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        self.process.stdin.close()
        status, text = self.process.wait(), self.process.stderr.read().decode().strip()
        self.process.stdout.close()
        self.process.stderr.close()
        if status:
            raise SimulationStopped(f"the simulation ended with status {status}: {text}")

    def stall(self, source: int, sink: int, lite: int, seed: int, burst: int = 1) -> None:
        """Sets the percentage of cycles in which each channel pauses; the input pauses in bursts of `burst` words."""
        self._tell(f"P {source} {sink} {lite} {burst} {seed}")

    def wait(self, cycles: int) -> int:
        return int(self._ask(f"N {cycles}")[0])

    def clock(self) -> float:
        return self.wait(0) / self.cycles

    def read32(self, address: int) -> int:
        value, response = map(int, self._ask(f"R {address}"))
        if response:
            raise DeviceError(f"reading {address:#x} was answered with {response}")
        return value

    def write32(self, address: int, value: int) -> None:
        response, = map(int, self._ask(f"W {address} {value}"))
        if response:
            raise DeviceError(f"writing {address:#x} was answered with {response}")

    def send(self, packet: bytes, keep: bytes | None = None) -> None:
        """With `keep`, a 1 or 0 for each byte: its TKEEP."""
        self._tell(f"S {len(packet)}", packet) if keep is None else self._tell(f"K {len(packet)}", packet + keep)

    def receive(self, size: int, timeout: float) -> bytes:
        answer = self._ask(f"G {round(timeout * self.cycles)}")
        if answer == ["timeout"]:
            raise TimeoutError
        cycle, user, count = map(int, answer)
        self.marks.append(bool(user))
        self.cycles_of.append(cycle)
        return self.process.stdout.read(count)

    def hold(self, content: bytes) -> int:
        """Puts bytes into the memory that a design reads; their address."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            self._tell(f"L {PLACE} {LATENCY} {file.name}")
            self.wait(0)
        return PLACE

    def abort(self) -> None:
        self._tell("A")

    def _tell(self, line: str, data: bytes = b"") -> None:
        self.process.stdin.write(line.encode() + b"\n" + data)

    def _ask(self, line: str) -> list[str]:
        self._tell(line)
        self.process.stdin.flush()
        answer = self.process.stdout.readline().decode().split()
        if not answer:
            raise SimulationStopped(f"the simulation broke off: {self.process.stderr.read().decode().strip()}")
        return answer
