"""What the driver must know of a design, as JSON: `boards.driver.description` reads it."""

import numpy as np

from boards.driver.description import FORMAT, VERSION
from emamba.artifact import Artifact
from emamba.integer import IntegerModel

from .axi import element_bytes
from .streams import Port
from .system import System


def describe(system: System, artifact: Artifact, frames: np.ndarray) -> dict:
    """Of a `system` with `artifact` in it; golden `frames` [n, L, input width] of integers."""
    schedule = system.schedule
    answers = IntegerModel(artifact).run(frames, ["head"])["head"]
    codec = {key: None if value is None else value.tolist() for key, value in vars(artifact.codec).items()}
    return {
        "format": FORMAT, "version": VERSION, "name": artifact.name, "digest": artifact.digest,
        "tokens": schedule.tokens, "input_width": schedule.input.width,
        "output_tokens": answers.shape[1], "output_width": schedule.output.width,
        "input": _format(schedule.input), "output": _format(schedule.output), "codec": codec,
        "golden": {"frames": frames.tolist(), "answers": answers.tolist()},
        "stages": system.stages, "queues": system.accelerator.peaks, "cycles_per_frame": schedule.cycles_per_frame,
        "structure": {}, "structure_digest": "00" * 32, "image": None,
    }


def _format(port: Port) -> dict:
    return {"bits": port.format.bits, "signed": port.format.signed, "frac": port.format.frac, "size": element_bytes(port.format)}
