"""The folder of `emamba build c`: model.h and model.c, their self-test, and what builds them."""

import re
from pathlib import Path

import numpy as np

from ..artifact import Artifact
from ..base.errors import SettingError
from ..ops import Multiply, Scan, Weighted
from ..run.integer import IntegerModel
from . import sensor
from .measure import Measured
from .source import FILES, Source, filled, word_of
from .text import SHORT
from .units import SENSORS, units

PLAIN = ("test/main.c", "examples/host.c", "zephyr/module.yml", "zephyr/CMakeLists.txt", "zephyr/Kconfig",
         *(f"zephyr/sample/{name}" for name in ("CMakeLists.txt", "main.c", "prj.conf", "sample.yaml")),
         *(f"bare-metal/{name}" for name in ("cortex-m.c", "link.ld", "main.c", "port.h", "risc-v.c", "start.c", "string.h")))
"""Files that are alike for every artifact."""
FILLED = ("test/selftest.c", "test/selftest.h", "CMakeLists.txt", "README.md", "library.json", "library.properties",
          "examples/host.rs")
"""Files with an artifact's numbers."""
PREFIX = "model"
"""Of every name that a program sees, and of the two files."""
KEYWORDS = ("auto break case char const continue default do double else enum extern float for goto if inline int long register "
            "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while")
NAMES = re.compile(r"\bmodel(?=_[a-z]|\.[hc]\b| \*m\b| m;| instance\b|\)|;)|(?<=emamba_)model\b|\bMODEL(?=_)"
                   r"|(?<=EMAMBA_)MODEL(?=_H\b|\b)")
OFFSET, PRIME = 2166136261, 16777619
"""Of FNV-1a."""


class Project:
    """The C of an artifact with a self-test of `frames` [n, L, input width] of integers."""

    def __init__(self, artifact: Artifact, frames: np.ndarray):
        self.artifact, self.frames = artifact, frames
        self.source = Source(artifact)
        self.answers = IntegerModel(artifact).answer(frames)

    @property
    def multiplications(self) -> int:
        """Of a frame, without those of addresses: a token of a scan has four a state and two a channel, a norm one a channel."""
        total = 0
        for node in self.artifact.graph:
            op = self.artifact.operators[node.name]
            if isinstance(op, Weighted):
                total += op.multiplies * node.tokens
            elif isinstance(op, Scan):
                total += op.width * (4 * op.d_state + 2) * node.tokens
            elif isinstance(op, Multiply) or op.normalizes:
                total += op.width * node.tokens
            elif node.kind == "Attention":
                total += 2 * node.tokens**2 * op.width
        return total

    def report(self) -> dict:
        return {"ram_bytes": self.source.ram, "state_bytes": self.source.state, "constants_bytes": self.source.constants,
                "multiplications_per_frame": self.multiplications, "frames": len(self.frames)}

    def write(self, folder: Path, measured: Measured | None = None, note: str = "", prefix: str = PREFIX) -> None:
        """Writes all files; the README has what was `measured`, and a `note`."""
        artifact, source = self.artifact, self.source
        checks = ", ".join(f"UINT32_C(0x{check_of(answer):08X})" for answer in self.answers)
        inputs = ",\n".join("    {" + ", ".join(map(str, frame.reshape(-1).tolist())) + "}" for frame in self.frames)
        rows = {"flash, code and constants, bytes": measured.flash, "stack, bytes": measured.stack,
                "instructions a frame": measured.instructions} if measured else {}
        graph, types = artifact.graph, source.nodes.types
        i, o = (SHORT[types[node.name]] for node in (graph.input, graph.output))
        words = {
            "rust_input": i, "rust_output": o, "read": graph.length * graph.input.width,
            "given": graph.output.tokens * graph.output.width,
            "frames": len(self.frames), "answers": checks, "inputs": inputs, "name": word_of(artifact.name), "ram": source.ram,
            "state": source.state, "constants": source.constants, "multiplications": f"{self.multiplications:,}",
            "tokens": artifact.graph.length, "input_width": artifact.graph.input.width, "input": artifact.input,
            "output_width": artifact.graph.output.width, "output": artifact.output, "note": f"{note}." if note else "",
            "measured": "".join(f"| {name} (Cortex-M4, -O2) | {value:,} |\n" for name, value in rows.items())}
        extra = sensor.files(artifact)
        words |= {"units": units(artifact), "sensors": "".join(line for name, line in SENSORS.items() if name in extra)}
        files = {"src/model.h": source.header, "src/model.c": source.code,
                 **{name: filled(name, words) for name in FILLED},
                 **{name: (FILES / name).read_text(encoding="utf-8") for name in PLAIN}, **extra}
        for name, text in files.items():
            path = folder / renamed(name, prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(renamed(text, prefix), encoding="utf-8")


def renamed(text: str, prefix: str) -> str:
    """A text with another prefix, so that several models can be in one program."""
    if not re.fullmatch("[a-z][a-z0-9_]*", prefix) or prefix in KEYWORDS.split():
        raise SettingError(f"the prefix '{prefix}' cannot begin names of C: give small letters, digits and _, a letter first")
    return text if prefix == PREFIX else NAMES.sub(lambda match: prefix.upper() if match[0].isupper() else prefix, text)


def check_of(values: np.ndarray) -> int:
    """FNV-1a of integers' low 32 bits, the lowest byte first."""
    found = OFFSET
    for byte in values.astype("<i8").astype("<i4").tobytes():
        found = (found ^ byte) * PRIME & 0xFFFFFFFF
    return found
