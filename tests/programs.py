"""Programs beside Python that some tests run. Where one is not there they fail, and say which package has it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sim import tools

PACKAGES = {"iverilog": "iverilog", "vvp": "iverilog", "tclsh": "tcl", "dtc": "device-tree-compiler", "sta": "opensta",
            "arm-none-eabi-gcc": "gcc-arm-none-eabi", "qemu-system-arm": "qemu-system-arm",
            "riscv64-unknown-elf-gcc": "gcc-riscv64-unknown-elf", "qemu-system-riscv32": "qemu-system-misc"}


def need(*commands: str) -> None:
    for command in commands:
        if not shutil.which(command):
            pytest.fail(f"the test runs {command}, which is not on PATH: apt-get install {PACKAGES[command]}", pytrace=False)


def lint(verilog: Path) -> str:
    """What Verilator says of a file, beside which its waivers lie; nothing where it finds nothing."""
    done = subprocess.run(["verilator", "--lint-only", "-Wall", "lint.vlt", verilog.name], cwd=verilog.parent,
                          env=os.environ | tools.verilator(), capture_output=True, text=True)
    return done.stderr if done.returncode else ""
