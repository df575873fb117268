"""The authors' shape (`models/mars_paper`) beside what the authors' own hardware measures."""

from pathlib import Path

from emamba.artifact import Artifact, load
from rtl.kit.datapath import Products
from rtl.plan.schedule import Realization, Schedule

from .forms import with_folded
from .synthesis import by_module

MODEL = Path("models/mars_paper")
CYCLES = (20,)
AUTHORS = {"cycles": 1643, "multipliers": 806, "multiplies": 320320, "utilization": 0.234, "lut": 82700, "ff": 55000, "dsp": 1770,
           "rmse": 8.833, "mae": 6.632}
"""Their public SystemVerilog, simulated and counted by Yosys as here, and its integers on the official test frames; multipliers
are those with two variable factors."""


def measure(_: Artifact) -> list[dict]:
    """Rows of the shape as it is and with its Linears in a row as one, at CYCLES."""
    rows = []
    for name, (made, figures) in zip(("mars_paper", "mars_paper, folded"), with_folded(load(MODEL)), strict=True):
        for cycles in CYCLES:
            schedule = Schedule(made, cycles, Realization(Products.PAIRS, decay_tables=True))
            counted = by_module(schedule, "xcup")["total"]
            rows.append({"design": f"{name}, T = {cycles}", "cycles": schedule.cycles_per_frame, "latency": schedule.latency,
                         "multipliers": schedule.multipliers, "multiplies": schedule.multiplies_per_frame,
                         "utilization": schedule.utilization(schedule.multiplies_per_frame, schedule.multipliers),
                         **{key: counted[key] for key in ("lut", "ff", "dsp", "bram36")}, **figures})
    return rows


def table(rows: list[dict]) -> list[str]:
    def line(row: dict) -> str:
        return (f"| {row['design']} | {row['cycles']:,} | {row.get('latency', row['cycles']):,} | {row['multipliers']} "
                f"| {row['multiplies']:,} | {row['utilization']:.3f} | {row['lut']:,.0f} | {row['ff']:,.0f} | {row['dsp']:,.0f} "
                f"| {row.get('bram36', '–')} | {row['rmse']:.3f} | {row['mae']:.3f} |")

    return ["## The authors' shape", "",
            "MARS, official split. The authors' design of 2026 is simulated and counted like ours, by Yosys for UltraScale+; its",
            "frames do not overlap. Routed by Vivado on a Kintex-7 it has 105,100 LUT, 59,400 FF and 296 DSP at 50 MHz.",
            "Ours was not routed for such a device. Its weights are its authors'; ours were trained here, with 12 bits on the",
            "residual path.", "",
            "| design | cycles a frame | latency | multipliers | multiplies a frame | utilization | LUT | FF | DSP | BRAM36 "
            "| RMSE, cm | MAE, cm |", "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *map(line, [{"design": "the authors'", **AUTHORS}, *rows])]
