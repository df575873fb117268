"""A microcontroller as a board of the driver: the model's C on a serial line, and what the driver must know of it."""

import json
from pathlib import Path

import numpy as np

from emamba.micro.project import PREFIX, Project, renamed
from rtl.system.exports import c_header

from ..describe import description, format_of

FILES = Path(__file__).parent
SERIAL = ("device.c", "device.h", "main.c", "uart.h", "uart-16550.c", "uart-cmsdk.c")


def describe(project: Project) -> dict:
    """Of the C of a project: integers have the size of its types."""
    artifact, source = project.artifact, project.source
    sizes = {name: np.dtype(source.nodes.types[node.name].removesuffix("_t")).itemsize
             for name, node in (("input", artifact.graph.input), ("output", artifact.graph.output))}
    return description(artifact, project.frames, tokens=artifact.graph.length,
                       **{name: format_of(getattr(artifact, name), size) for name, size in sizes.items()},
                       state_words=source.state // 4 if artifact.graph.carried else 0)


def write(project: Project, folder: Path, prefix: str = PREFIX) -> None:
    """Writes the driver's description into `folder`, and what answers it into its folder serial."""
    words = ", ".join(f"UINT32_C(0x{project.artifact.digest[k:k + 8]})" for k in range(0, 64, 8))
    files = {"registers.h": c_header(), "identity.h": f"/* SHA-256 of the artifact. */\n#define DIGEST {words}\n",
             **{name: (FILES / name).read_text(encoding="utf-8") for name in SERIAL}}
    (folder / "serial").mkdir()
    for name, text in files.items():
        (folder / "serial" / name).write_text(renamed(text, prefix), encoding="utf-8")
    (folder / "accelerator.json").write_text(json.dumps(describe(project)) + "\n", encoding="utf-8")
