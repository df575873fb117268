"""The RTL executor: the Verilated accelerator of an artifact."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from emamba.artifact import Artifact
from emamba.io.files import draft
from rtl.engine.schedule import EngineSchedule
from rtl.kit import packing
from rtl.plan.accelerator import accelerator
from rtl.plan.schedule import Schedule

from .native import NativeSimulation, Result

Array = np.ndarray
IDLE = 50_000
"""Cycles beyond two sequences' in which nothing moves, after which a simulation is over."""


class RtlExecutor:
    """Builds the design at `cycles_per_token`, or of a schedule, or finds it built. `last` is the simulation's latest result:
    cycles, high-water marks; `fast`: see `NativeSimulation`."""

    def __init__(self, artifact: Artifact, cycles_per_token: int | EngineSchedule, build: Path | None = None, *,
                 trace: bool = False, fast: bool = True):
        self.artifact = artifact
        self.schedule = Schedule(artifact, cycles_per_token) if isinstance(cycles_per_token, int) else cycles_per_token
        self.simulation = NativeSimulation(accelerator(self.schedule, trace=trace), build, fast=fast)
        self.image, self.columns = (getattr(self.schedule, name, None) for name in ("image", "columns"))
        self.last: Result | None = None

    def run(self, tokens: Array, keep: Iterable[str] | None = None, **settings) -> dict[str, Array]:
        """tokens [batch, L, input width] of integers → int64 arrays [batch, L', width] of the nodes visible and in `keep`;
        `settings` are those of `NativeSimulation.run`."""
        self.last = result = self.simulate(packing.pack(self.schedule.input, tokens, self.artifact.graph.window(len(tokens))),
                                           **settings)
        beats = {self.artifact.graph.output.name: (self.schedule.output, result.output)}
        beats |= {name: (port, result.traces[name]) for name, port in self.simulation.trace.items()}
        found = {
            name: packing.unpack(port, words).reshape(len(tokens), -1, port.width)
            for name, (port, words) in beats.items() if keep is None or name in keep
        }
        return found | {name: found[name][..., columns] for name, columns in (self.columns or {}).items() if name in found}

    def simulate(self, words: Array, memory: dict[str, int] | None = None, **settings) -> Result:
        """Beats of `i` to results, with the memory that a streamed engine reads; a design of many cycles a sequence may be
        silent for as long."""
        settings = {"idle_cycles": IDLE + 2 * self.schedule.latency} | settings
        if self.image is None:
            return self.simulation.run(words, **settings)
        with draft(self.simulation.folder.parent) as folder:
            self.image.content.tofile(folder / "memory.bin")
            return self.simulation.run(words, memory={"memory": folder / "memory.bin"} | (memory or {}), **settings)

    def answer(self, tokens: Array, **settings) -> Array:
        """The output's integers alone."""
        name = self.artifact.graph.output.name
        return self.run(tokens, [name], **settings)[name]
