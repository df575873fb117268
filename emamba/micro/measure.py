"""What the C of an artifact takes on a Cortex-M: built by arm-none-eabi-gcc, run by qemu-system-arm, with its self-test.

`-icount shift=0` gives an instruction a nanosecond, and SysTick counts the nanoseconds of a frame: to `Core.step` instructions.
"""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from ..base import processes
from ..base.errors import ToolFailed, ToolMissing

COMPILER, SIZE, EMULATOR = "arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm"
PACKAGES = {COMPILER: "gcc-arm-none-eabi", SIZE: "binutils-arm-none-eabi", EMULATOR: "qemu-system-arm"}
FLAGS = ("-mthumb", "-O2", "-std=c99", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fbuiltin",
         "-fno-tree-loop-distribute-patterns", "-ffunction-sections", "-fdata-sections")
STACK = 1024
"""Bytes that the linker must find for the stack, at least."""
SECONDS = 120.0
"""Of a run, at most."""


@dataclass(frozen=True)
class Core:
    """A machine of qemu: its processor, memory, and the MHz that its SysTick counts."""

    cpu: str
    machine: str
    mhz: int
    flash: int
    flash_size: int
    ram: int
    ram_size: int

    @property
    def step(self) -> float:
        """Instructions of a count."""
        return 1000 / self.mhz


CORES = {
    "m0": Core("cortex-m0", "microbit", 16, 0, 256 << 10, 0x20000000, 16 << 10),
    "m4": Core("cortex-m4", "mps2-an386", 25, 0, 4 << 20, 0x20000000, 1 << 20),
    "m33": Core("cortex-m33", "mps2-an505", 20, 0x10000000, 4 << 20, 0x38000000, 1 << 16),
    "m55": Core("cortex-m55", "mps3-an547", 32, 0, 512 << 10, 0x20000000, 1 << 16),
}
"""RAM of the larger machines is cut, so that little is painted; the self-test of a model of many outputs keeps them all."""


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


def measure(folder: Path, core: str, ram: int, frames: int | None = None, flags: tuple[str, ...] = ()) -> Measured:
    """Builds what `project.write` wrote into `folder` for a `core` of CORES and runs its self-test, `frames` of it.

    Parameters
        ram: bytes of the model's memory, for the result
        frames: of the self-test; all of them without it
        flags: for the compiler, after the others

    Raises ToolMissing without the compiler or qemu, ToolFailed where one of them fails or the program does not fit.
    """
    for command, package in PACKAGES.items():
        if not shutil.which(command):
            raise ToolMissing(f"the measurement needs {command}, which is not on PATH; install it, e.g. apt-get install "
                              f"{package}")
    chosen, program, model = CORES[core], folder / f"{core}.elf", folder / f"{core}.o"
    options = [f"-mcpu={chosen.cpu}", *FLAGS, *flags, *([f"-DSELF_TEST_FRAMES={frames}"] if frames else []),
               f"-I{folder / 'cortex-m'}", f"-I{folder / 'src'}", f"-I{folder / 'test'}"]
    places = {"FLASH": chosen.flash, "FLASH_SIZE": chosen.flash_size, "RAM": chosen.ram, "RAM_SIZE": chosen.ram_size,
              "STACK_SIZE": STACK}
    _run([COMPILER, *options, "-c", folder / "src" / "model.c", "-o", model])
    _run([COMPILER, *options, "-nostdlib", "-Wl,--gc-sections",
          *(f"-Wl,--defsym={name}={value}" for name, value in places.items()), "-T", folder / "cortex-m" / "link.ld", model,
          *(folder / name for name in ("test/selftest.c", "cortex-m/main.c", "cortex-m/startup.c")), "-lgcc", "-o", program])
    text, data, *_ = _run([SIZE, model]).splitlines()[1].split()
    said = _run([EMULATOR, "-M", chosen.machine, "-nographic", "-icount", "shift=0", "-semihosting-config",
                 "enable=on,target=native", "-kernel", program], statuses=(0, 1))
    try:
        wrong, count, stack, ticks = map(int, said.split())
    except ValueError:
        raise ToolFailed(f"the self-test of {folder} on {core} says '{said.strip()[:80]}' instead of four numbers") from None
    return Measured(core, count, wrong, int(text) + int(data), ram, stack, round(ticks * chosen.step))


def _run(command: list, statuses: tuple[int, ...] = (0,)) -> str:
    done = processes.run(command, timeout=SECONDS)
    if done.returncode not in statuses:
        said = [line for line in done.stderr.splitlines() if "error" in line or "stack" in line] or done.stderr.splitlines() or [
            f"it ends with status {done.returncode}"]
        raise ToolFailed(f"{command[0]} fails: {said[0][:200]}")
    return done.stdout or done.stderr  # qemu's semihosting writes to the latter
