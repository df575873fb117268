"""What a frame takes as a chip, estimated from the measured chips of MARS."""

from dataclasses import dataclass

import numpy as np

from emamba.artifact import load
from rtl.kit.datapath import Products
from rtl.plan.cost import estimate
from rtl.plan.schedule import Realization, Schedule

from .sections import figures

PROCESS = "asap7"
MODEL = "models/baselines/mars_mamba"
"""Of the shape of the chips that were measured."""


@dataclass(frozen=True)
class Energy:
    """Joules of a multiplication and of a flip-flop's cycle; `error`, the largest one on the measured chips, as a share."""

    multiplication: float
    flip_flop: float
    error: float

    def of(self, schedule: Schedule) -> float:
        """Joules of a frame, with a full pipeline."""
        return float(_work(schedule) @ (self.multiplication, self.flip_flop))


def fitted() -> Energy:
    """From docs/asic.json: chips of MODEL's shape in PROCESS, but for those whose weights are wired in."""
    artifact, measured = load(MODEL), figures("asic")
    chips = [row for name in (PROCESS, "beside") for row in measured[name] if row["pdk"] == PROCESS and row["requested"] > 1]
    work = np.array([_work(Schedule(artifact, row["requested"], Realization(Products.MERGED))) for row in chips])
    joules = np.array([row["energy_j"]["total"] for row in chips])
    found = np.linalg.lstsq(work / joules[:, None], np.ones(len(chips)), rcond=None)[0]
    return Energy(*map(float, found), float(np.abs(work @ found / joules - 1).max()))


def _work(schedule: Schedule) -> np.ndarray:
    """Of a frame, the multiplications, and the cycles of all flip-flops."""
    return np.array([schedule.multiplies_per_frame, estimate(schedule, "gates")["ff"] * schedule.cycles_per_frame])
