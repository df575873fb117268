"""What a frame takes as a chip, estimated from the measured chips of MARS."""

from dataclasses import dataclass, field

import numpy as np

from emamba.artifact import load
from rtl.kit.datapath import Products
from rtl.plan.cost import estimate
from rtl.plan.schedule import Realization, Schedule

from .sections import figures

PROCESS = "asap7"
MODEL = "models/baselines/mars_mamba"
SHAPE = "mars"
"""Of the chips that it is fitted to; MODEL has it."""
MERGED = Realization(Products.MERGED)


@dataclass(frozen=True)
class Energy:
    """Joules of a multiplication and of a flip-flop's cycle; `error`, the largest one on the chips that it is fitted to, as a
    share; `others`, of chips of other models, by name, what was measured and what is estimated."""

    multiplication: float
    flip_flop: float
    error: float
    others: dict[str, tuple[float, float]] = field(default_factory=dict)

    def of(self, schedule: Schedule) -> float:
        """Joules of a frame, with a full pipeline."""
        return float(_work(schedule) @ (self.multiplication, self.flip_flop))


def fitted() -> Energy:
    """From docs/asic.json: chips of MODEL's shape in PROCESS, but for those whose weights are wired in."""
    artifact, measured = load(MODEL), figures("asic")
    rows = [row for row in (*measured[PROCESS], *measured["beside"]) if row["pdk"] == PROCESS and row["requested"] > 1]
    chips = [row for row in rows if row.get("model", SHAPE) == SHAPE]
    work = np.array([_work(Schedule(artifact, row["requested"], MERGED)) for row in chips])
    joules = np.array([row["energy_j"]["total"] for row in chips])
    found = np.linalg.lstsq(work / joules[:, None], np.ones(len(chips)), rcond=None)[0]
    others = {row["model"]: (row["energy_j"]["total"],
                             float(_work(Schedule(load(f"models/{row['model']}"), row["requested"], MERGED)) @ found))
              for row in rows if row not in chips}
    return Energy(*map(float, found), float(np.abs(work @ found / joules - 1).max()), others)


def _work(schedule: Schedule) -> np.ndarray:
    """Of a frame, the multiplications, and the cycles of all flip-flops."""
    return np.array([schedule.multiplies_per_frame, estimate(schedule, "gates")["ff"] * schedule.cycles_per_frame])
