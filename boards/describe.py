"""What the driver must know of a design, as JSON: `boards.driver.description` reads it."""

import numpy as np

from emamba.artifact import Artifact
from emamba.errors import EmambaError
from emamba.integer import IntegerModel
from rtl.axi import element_bytes
from rtl.loads import structure
from rtl.streams import Port
from rtl.system import System

from .driver.accelerator import difference
from .driver.description import FORMAT, VERSION


def describe(system: System, frames: np.ndarray, artifact: Artifact | None = None) -> dict:
    """Of a `system`, with golden `frames` [n, L, input width] of integers; with another `artifact`, which can be loaded into it,
    where one is given."""
    artifact, schedule, loads = artifact or system.artifact, system.schedule, system.loads
    image = None
    if loads:
        found = difference(loads.structure, structure(schedule, artifact, loads.elements))
        if found:
            raise EmambaError(f"'{artifact.name}' cannot be loaded into a design of '{system.artifact.name}': {found}; build a "
                              "design for it")
        image = loads.image(artifact).tobytes().hex()
    answers = IntegerModel(artifact).run(frames, ["head"])["head"]
    codec = {key: None if value is None else value.tolist() for key, value in vars(artifact.codec).items()}
    return {
        "format": FORMAT, "version": VERSION, "name": artifact.name, "digest": artifact.digest,
        "tokens": schedule.tokens, "input_width": schedule.input.width,
        "output_tokens": answers.shape[1], "output_width": schedule.output.width,
        "input": _format(schedule.input), "output": _format(schedule.output), "codec": codec,
        "golden": {"frames": frames.tolist(), "answers": answers.tolist()},
        "stages": system.stages, "queues": system.accelerator.peaks, "cycles_per_frame": schedule.cycles_per_frame,
        "structure": loads.structure if loads else {}, "structure_digest": loads.structure_digest if loads else "",
        "image": image,
    }


def _format(port: Port) -> dict:
    return {"bits": port.format.bits, "signed": port.format.signed, "frac": port.format.frac, "size": element_bytes(port.format)}
