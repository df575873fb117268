"""What the C of an artifact takes on a microcontroller: built by a cross compiler, run by qemu, with its self-test.

`-icount shift=0` gives an instruction a nanosecond. RISC-V counts instructions; the SysTick of a Cortex-M counts the nanoseconds
of a frame, to `Core.step` instructions.
"""

import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from ..base import processes
from ..base.errors import ToolFailed, ToolMissing

PACKAGES = {"arm-none-eabi-gcc": "gcc-arm-none-eabi", "arm-none-eabi-size": "binutils-arm-none-eabi",
            "qemu-system-arm": "qemu-system-arm", "riscv64-unknown-elf-gcc": "gcc-riscv64-unknown-elf",
            "riscv64-unknown-elf-size": "binutils-riscv64-unknown-elf", "qemu-system-riscv32": "qemu-system-misc"}
FLAGS = ("-O2", "-std=c99", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fbuiltin",
         "-fno-tree-loop-distribute-patterns", "-ffunction-sections", "-fdata-sections")
STACK = 1024
"""Bytes that the linker must find for the stack, at least."""
SECONDS = 600.0
"""Of a run, at most."""


@dataclass(frozen=True)
class Core:
    """A machine of qemu: its processor, memory, and instructions of a count."""

    options: tuple[str, ...]
    machine: tuple[str, ...]
    flash: int
    flash_size: int
    ram: int
    ram_size: int
    step: float = 1.0
    tools: str = "arm-none-eabi"
    emulator: str = "qemu-system-arm"
    port: str = "cortex-m"

    @property
    def arguments(self) -> tuple[str, ...]:
        """Of its emulator, before the program; an instruction takes a nanosecond."""
        return ("-M", *self.machine, "-nographic", "-icount", "shift=0", "-semihosting-config", "enable=on,target=native",
                "-kernel")


def _cortex(number: str, machine: tuple[str, ...], mhz: int, flash: int, flash_size: int, ram: int, ram_size: int) -> Core:
    """With a SysTick of so many MHz."""
    return Core(("-mthumb", f"-mcpu=cortex-{number}"), machine, flash, flash_size, ram, ram_size, step=1000 / mhz)


CORES = {
    "m0": _cortex("m0", ("microbit", "-global", "nrf51-soc.flash-size=1048576", "-global", "nrf51-soc.sram-size=1048576"),
                  16, 0, 1 << 20, 0x20000000, 1 << 20),
    "m4": _cortex("m4", ("mps2-an386",), 25, 0, 4 << 20, 0x20000000, 1 << 20),
    "m33": _cortex("m33", ("mps2-an505",), 20, 0x10000000, 4 << 20, 0x38000000, 1 << 20),
    "m55": _cortex("m55", ("mps3-an547",), 32, 0, 512 << 10, 0x31000000, 1 << 20),
    "rv32": Core(("-march=rv32imac", "-mabi=ilp32"), ("virt", "-bios", "none"), 0x80000000, 4 << 20, 0x80400000, 1 << 20,
                 tools="riscv64-unknown-elf", emulator="qemu-system-riscv32", port="risc-v"),
}
"""The microbit gets more memory than it has: the self-test of a model of many outputs keeps them all. RAM of the others is cut,
so that little is painted."""


@dataclass(frozen=True)
class Measured:
    """Bytes of flash (code and constants of model.c), of its memory, of the stack at its deepest; instructions of a frame."""

    core: str
    frames: int
    wrong: int
    flash: int
    ram: int
    stack: int
    instructions: int

    def report(self) -> dict:
        return asdict(self)


def measure(folder: Path, core: str, ram: int, frames: int | None = None, flags: tuple[str, ...] = (),
            code_of: str = "") -> Measured:
    """Builds what `project.write` wrote into `folder` for a `core` of CORES and runs its self-test, `frames` of it.

    Parameters
        ram: bytes of the model's memory, for the result
        frames: of the self-test; all of them without it
        flags: for the compiler, after the others
        code_of: another core whose code, built here before, is run; its instructions must be among this core's

    Raises ToolMissing without the compiler or qemu, ToolFailed where one of them fails or the program does not fit.
    """
    chosen, built = CORES[core], code_of or core
    need(core)
    model, rest = folder / f"{built}.o", folder / f"{built}-rest.o"
    if not code_of:
        flags = (*flags, *([f"-DSELF_TEST_FRAMES={frames}"] if frames else []))
        run([*_compiler(folder, core, flags), "-c", folder / "src" / "model.c", "-o", model])
        run([*_compiler(folder, core, flags), "-r", "-nostdlib",
             *(folder / name for name in ("test/selftest.c", "bare-metal/main.c", *start(core))), "-o", rest])
    program = link(folder, core, (model, rest))
    text, data, *_ = run([f"{chosen.tools}-size", model]).splitlines()[1].split()
    said = run([chosen.emulator, *chosen.arguments, program], statuses=(0, 1))
    try:
        wrong, count, stack, units = map(int, said.split())
    except ValueError:
        raise ToolFailed(f"the self-test of {folder} on {core} says '{said.strip()[:80]}' instead of four numbers") from None
    return Measured(core, count, wrong, int(text) + int(data), ram, stack, round(units * chosen.step))


def need(core: str) -> None:
    """Raises ToolMissing without the compiler or qemu of a core."""
    chosen = CORES[core]
    for command in (f"{chosen.tools}-gcc", f"{chosen.tools}-size", chosen.emulator):
        if not shutil.which(command):
            raise ToolMissing(f"the measurement needs {command}, which is not on PATH; install it, e.g. apt-get install "
                              f"{PACKAGES[command]}")


def start(core: str) -> tuple[str, str]:
    """Files with which every program of a core begins."""
    return "bare-metal/start.c", f"bare-metal/{CORES[core].port}.c"


def link(folder: Path, core: str, files: tuple[str | Path, ...], flags: tuple[str, ...] = (),
         libraries: tuple[str, ...] = ()) -> Path:
    """A program for the machine of a `core`.

    Parameters
        files: C and objects, `start` among them; in the folder, or anywhere
        flags: for the compiler, after the others
        libraries: for the linker, before the compiler's own

    Raises ToolFailed where it does not link or fit.
    """
    chosen, program = CORES[core], folder / f"{core}.elf"
    places = {"FLASH": chosen.flash, "FLASH_SIZE": chosen.flash_size, "RAM": chosen.ram, "RAM_SIZE": chosen.ram_size,
              "STACK_SIZE": STACK}
    run([*_compiler(folder, core, flags), "-nostdlib", "-Wl,--gc-sections",
         *(f"-Wl,--defsym={name}={value}" for name, value in places.items()), "-T", folder / "bare-metal" / "link.ld",
         *(folder / file for file in files), *libraries, "-lgcc", "-o", program])
    return program


def _compiler(folder: Path, core: str, flags: tuple[str, ...]) -> list:
    chosen = CORES[core]
    return [f"{chosen.tools}-gcc", *chosen.options, *FLAGS, *flags,
            *(f"-I{folder / name}" for name in ("bare-metal", "src", "test"))]


def run(command: list, statuses: tuple[int, ...] = (0,)) -> str:
    """What a program prints. Raises ToolFailed with its first fault where it ends with another status."""
    done = processes.run(command, timeout=SECONDS)
    if done.returncode not in statuses:
        lines = done.stderr.splitlines() or [f"it ends with status {done.returncode}"]
        fault = next((line for line in lines if re.search("error|undefined|stack", line)), lines[0])
        raise ToolFailed(f"{command[0]} fails: {fault[:200]}")
    return done.stdout or done.stderr  # qemu's semihosting writes to the latter
