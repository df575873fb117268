"""An artifact's design, cycle by cycle: what every stream does, and whether the results are the integer model's."""

from collections.abc import Callable

import numpy as np

from emamba.artifact import Artifact
from emamba.run.integer import IntegerModel
from rtl.kit import packing
from rtl.plan.schedule import Schedule
from sim.recorder import Recording, record


def simulate(artifact: Artifact, tokens: np.ndarray, cycles_per_token: int, cycles: int, stall_percent: int = 0,
             progress: Callable[[int], None] | None = None) -> tuple[Recording, dict]:
    """Runs the design on tokens [n, L, input width] in the user's unit.

    Parameters: `cycles` ends it at the latest; `stall_percent` is the share of cycles in which both ports pause.
    Returns: the recording, and what `emamba simulate --json` writes of it.
    """
    integers = artifact.codec.encode(tokens, artifact.input)
    schedule = Schedule(artifact, cycles_per_token)
    recording = record(schedule, integers, cycles, stall_percent, progress)
    expected = packing.pack(schedule.output, IntegerModel(artifact).answer(integers), artifact.graph.window(len(tokens)))
    _, beats = recording.transfers("o")
    masks = np.resize(packing.mask(schedule.output), beats.shape)  # lanes beyond the last channel carry anything
    return recording, {
        "artifact": {"name": artifact.name, "digest": artifact.digest}, "cycles_per_token": schedule.period,
        "stall_percent": stall_percent, "sequences": len(tokens),
        "beats": {"expected": len(expected), "left": len(beats),
                  "different": int(((beats ^ expected[:len(beats)]) & masks).any(1).sum())},
        **recording.stalls()}


def table(found: dict) -> str:
    """Shares of the cycles in which each stream transfers or waits, a line each."""
    lines = [f"{'stream':22}{'lanes':>6}{'transfer':>12}{'starved':>12}{'blocked':>12}   share of {found['cycles']} cycles"]
    for stream in found["streams"]:
        shares = (f"{stream[kind] / found['cycles']:12.1%}" for kind in ("transfer", "starved", "blocked"))
        lines.append(f"{stream['name']:22}{stream['lanes']:6}" + "".join(shares))
    return "\n".join([*lines, "starved: valid is low, it waits for its sender; blocked: ready alone is low, it waits for its "
                      "receiver"])
