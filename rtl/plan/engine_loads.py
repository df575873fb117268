"""Weights of an engine that can be loaded while it runs: the memories of weights and of biases."""

from functools import partial

import numpy as np

from emamba.artifact import Artifact
from emamba.base.errors import DesignLimit
from emamba.base.formats import IntFormat

from ..engine.schedule import EngineSchedule
from .loads import LoadableRom, Loads
from .schedule import Schedule


class EngineLoads(Loads):
    """The loadable memories of a `schedule`, which was made of `envelope(artifact)`; the program stays as it is."""

    def _elements(self):
        return {"weights": IntFormat(self.schedule.program.weight_bits), "biases": IntFormat(self.schedule.encoded.bias_bits)}

    def _rows(self, artifact: Artifact) -> dict[str, np.ndarray]:
        found = self.schedule.program.constants(artifact)
        for name, rows in found.items():
            element = self.elements[name]
            if rows.min() < element.min or rows.max() > element.max:
                raise DesignLimit(f"the {name} of '{artifact.name}' hold {rows.min()}..{rows.max()}; the design's memory takes "
                                  f"{element.min}..{element.max}: build a design for it")
        return found

    def _makers(self, rows, parity):
        return {name: partial(LoadableRom, values, self.elements[name], self.of(name), self.bus, parity, steps=1)
                for name, values in rows.items()}


def loads_of(schedule: Schedule | EngineSchedule, artifact: Artifact, parity: bool) -> Loads:
    """What can be loaded into a design of either organization."""
    return (EngineLoads if isinstance(schedule, EngineSchedule) else Loads)(schedule, artifact, parity)
