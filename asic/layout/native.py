"""Compiles the C++ programs beside this file once, and runs them on arrays of 32-bit integers."""

import hashlib
import tempfile
from pathlib import Path

import numpy as np

from emamba.base import processes
from emamba.base.errors import ToolFailed
from emamba.io import cache

HEADER = Path(__file__).with_name("arrays.hpp")


def run(program: str, *arrays) -> list[np.ndarray]:
    """The arrays that a program writes for `arrays`."""
    built = _build(program)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "in").open("wb") as file:
            for array in arrays:
                data = np.asarray(array, np.int32).ravel()
                np.array([len(data)], np.int32).tofile(file)
                data.tofile(file)
        done = processes.run([built, folder / "in", folder / "out"])
        if done.returncode:
            raise ToolFailed(f"{program} of a layout ends with status {done.returncode}: {done.stderr.strip() or 'no message'}")
        data, found = np.fromfile(folder / "out", np.int32), []
    while len(data):
        found.append(data[1:1 + data[0]])
        data = data[1 + data[0]:]
    return found


def _build(program: str) -> Path:
    source = HEADER.with_name(f"{program}.cpp")
    key = hashlib.sha256("\0".join([HEADER.read_text(), source.read_text(), cache.compiler("g++")]).encode()).hexdigest()

    def compile_to(folder: Path) -> None:
        done = processes.run(["g++", "-std=c++17", "-O2", "-o", folder / program, source])
        if done.returncode:
            raise ToolFailed(f"g++ does not build {source.name}: {(done.stderr.splitlines() or ['no message'])[0]}")

    return cache.kept(cache.folder("layout"), key[:16], compile_to) / program
