"""The Verilated design against the integer model and the schedule, over T and over every realization."""

import time

import numpy as np

from emamba.artifact import Artifact
from emamba.run.integer import IntegerModel
from rtl.kit import packing
from rtl.kit.datapath import Products
from rtl.plan.accelerator import Accelerator
from rtl.plan.schedule import Realization, Schedule
from sim.native import NativeSimulation

POINTS = [
    (1, Realization(Products.CONSTANTS, decay_tables=True)),
    (4, Realization(Products.PAIRS, decay_tables=True)),
    *((cycles, Realization()) for cycles in (8, 16, 20, 32, 64, 128)),
    (20, Realization(Products.PAIRS, decay_tables=True)),
    (128, Realization(decay_tables=True, narrow=True)),
]
FRAMES, LONG = 1000, 500
"""Frames of a point; fewer where a frame takes many cycles."""


def measure(artifact: Artifact, tokens: np.ndarray) -> list[dict]:
    rows = []
    for cycles, realization in POINTS:
        schedule = Schedule(artifact, cycles, realization)
        frames = tokens[:FRAMES if schedule.period <= 128 else LONG]
        start = time.perf_counter()
        simulation = NativeSimulation(Accelerator(schedule))
        built = time.perf_counter()
        integers = artifact.codec.encode(frames, artifact.input)
        result = simulation.run(packing.pack(schedule.input, integers))
        ran = time.perf_counter()
        expected = IntegerModel(artifact).answer(integers)
        head = packing.unpack(schedule.output, result.output).reshape(expected.shape)
        leaves = result.output_cycles[schedule.output.beats - 1::schedule.output.beats]
        rows.append({
            "requested": cycles, "products": realization.products.value, "tables": realization.tables,
            "decay_tables": bool(realization.decay_tables), "frames": len(frames), "mismatches": int((head != expected).sum()),
            "cycles_per_frame": (int(leaves[-1]) - int(leaves[0])) / (len(leaves) - 1),
            "latency_cycles": int(leaves[0]) - result.first_input,
            "scheduled": [schedule.cycles_per_frame, schedule.latency],
            "multipliers": schedule.multipliers, "utilization": schedule.report()["utilization"],
            "build_seconds": round(built - start, 1), "run_seconds": round(ran - built, 1),
        })
    return rows


def table(rows: list[dict]) -> list[str]:
    lines = ["## Measured on the Verilated design", "",
             "Real frames of the official test set; a mismatch would be a value of the head that differs from the integer",
             "model's. Cycles and latency equal the schedule's in every row.", "",
             "| T | products | Ā | SiLU | frames | mismatches | cycles a frame | latency | multipliers | utilization |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        assert [row["cycles_per_frame"], row["latency_cycles"]] == row["scheduled"] and not row["mismatches"], row
        kinds = ["tables" if row[key] else "segments" for key in ("decay_tables", "tables")]
        lines.append(f"| {row['requested']} | {row['products']} | {kinds[0]} | {kinds[1]} | {row['frames']:,} "
                     f"| {row['mismatches']} | {row['cycles_per_frame']:g} | {row['latency_cycles']:,} "
                     f"| {row['multipliers']:,} | {row['utilization']:.3f} |")
    return lines
