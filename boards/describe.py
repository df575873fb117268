"""What the driver must know of a design, as JSON: `boards.driver.description` reads it."""

import numpy as np

from emamba.artifact import Artifact
from emamba.base.errors import DesignLimit, InputError
from emamba.base.formats import IntFormat
from emamba.run.integer import IntegerModel
from rtl.kit.block import Port
from rtl.plan.loads import structure
from rtl.system.axi import element_bytes
from rtl.system.system import System

from .driver.accelerator import difference
from .driver.description import FORMAT, VERSION

GOLDEN_FRAMES = 4
SEED = 0


def golden_frames(artifact: Artifact) -> np.ndarray:
    """Quantized inputs [n, L, input width]: the artifact's own, else random ones."""
    config, i = artifact.config, artifact.input
    shape = (config.tokens, config.input_width)
    kept = artifact.record.get("golden")
    if kept is None:
        top = config.vocabulary - 1 if config.input == "tokens" else i.max
        return np.random.default_rng(SEED).integers(i.min, top + 1, (GOLDEN_FRAMES, *shape))
    frames = np.array(kept, object)
    if frames.shape[1:] != shape or not all(type(value) is int for value in frames.flat):
        raise InputError(f"the artifact's golden frames are not integers [frames, {shape[0]} tokens, {shape[1]} values]: "
                         "quantize the checkpoint again")
    return frames[:GOLDEN_FRAMES].astype(np.int64)


def describe(system: System, frames: np.ndarray, artifact: Artifact | None = None) -> dict:
    """Of a `system`, with golden `frames` [n, L, input width] of integers; with another `artifact`, which can be loaded into it,
    where one is given."""
    artifact, schedule, loads = artifact or system.artifact, system.schedule, system.loads
    image = None
    if loads:
        found = difference(loads.structure, structure(schedule, artifact, loads.elements))
        if found:
            raise DesignLimit(f"'{artifact.name}' cannot be loaded into a design of '{system.artifact.name}': {found}; build a "
                              "design for it")
        image = loads.image(artifact).tobytes().hex()
    return description(
        artifact, frames, tokens=schedule.tokens, input=_format(schedule.input), output=_format(schedule.output),
        state_words=system.state_words, stages=system.stages, queues=system.queues, cycles_per_frame=schedule.cycles_per_frame,
        structure=loads.structure if loads else {}, structure_digest=loads.structure_digest if loads else "", image=image,
        stream=system.supply and system.supply.image.identity())


def description(artifact: Artifact, frames: np.ndarray, *, tokens: int, input: dict, output: dict, state_words: int,
                cycles_per_frame: int = 1, **more) -> dict:
    """All fields of `boards.driver.description.Description`; those of `more` are empty where they are not given."""
    answers = IntegerModel(artifact).answer(frames)
    codec = {key: None if value is None else value.tolist() for key, value in vars(artifact.codec).items()}
    config = artifact.config
    cut = {"image": list(config.image), "patch": list(config.patch), "overlap": config.overlap} if config.image else None
    return {
        "format": FORMAT, "version": VERSION, "name": artifact.name, "digest": artifact.digest, "tokens": tokens,
        "input_width": artifact.graph.input.width, "output_tokens": answers.shape[1],
        "output_width": artifact.graph.output.width, "input": input, "output": output, "codec": codec,
        "golden": {"frames": frames.tolist(), "answers": answers.tolist()}, "stages": [], "queues": [],
        "cycles_per_frame": cycles_per_frame, "structure": {}, "structure_digest": "", "image": None,
        "state_words": state_words, "carried": artifact.graph.carried,
        "front_end": artifact.data.get("front_end"), "stream": None, "classes": artifact.record.get("classes"), "cut": cut} | more


def format_of(format: IntFormat, size: int) -> dict:
    """Of integers of `size` bytes each in packets."""
    return {"bits": format.bits, "signed": format.signed, "frac": format.frac, "size": size}


def _format(port: Port) -> dict:
    return format_of(port.format, element_bytes(port.format))
