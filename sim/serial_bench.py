"""A Verilated design with a serial line, and the driver's transport to it."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amaranth.lib.wiring import Component

from boards.driver.serial import SerialTransport
from rtl.kit.emit import to_verilog

from . import native

HARNESS = Path(__file__).with_name("serial_harness.cpp")


@contextmanager
def line_to(component: Component, divisor: int, build_dir: Path, *, seconds: float,
            fast: bool = True, flash: bytes | None = None, quiet: int = 1 << 62) -> Iterator[SerialTransport]:
    """A transport to `component`, which has `rx` and `tx` with a bit every `divisor` cycles.

    Parameters
        seconds: for an answer
        fast: whether the simulation is compiled for speed
        flash: content of a flash memory, which the component reads
        quiet: cycles without a bit after which the component only waits for one, so that it need not be simulated
    """
    ports = (f'#include "Vtop.h"\nusing Top = Vtop;\n#define DIVISOR {divisor}\n#define QUIET {quiet}ull\n'
             + "#define FLASH\n" * (flash is not None))
    content = build_dir / "flash.bin"
    content.write_bytes(flash or b"")
    folder = native.build({"top.v": to_verilog(component), "ports.h": ports, "harness.cpp": HARNESS.read_text(encoding="utf-8")},
                          build_dir, fast=fast)
    ours, its = socket.socketpair()
    with subprocess.Popen([folder / "simulation", content], cwd=folder, stdin=its, stdout=its) as process, ours:
        its.close()
        yield SerialTransport(ours.fileno(), seconds=seconds)
        ours.shutdown(socket.SHUT_RDWR)
        assert process.wait(10) == 0
