"""The authors' shape (`models/mars_paper`) beside what the authors' own hardware measures."""

from pathlib import Path

from emamba.artifact import Artifact, load
from rtl.kit.datapath import Products
from rtl.plan.schedule import Realization, Schedule

from .forms import with_folded
from .resources import products, scheduled
from .synthesis import by_module

MODEL = Path("models/mars_paper")
CYCLES = 102
"""T at which the shape takes about as many cycles as the authors' design."""
POINTS = ((20, Realization(Products.PAIRS, decay_tables=True)), (CYCLES, None))
"""T, realization or None for the choice of `rtl.plan.planner`."""
AUTHORS = {"cycles": 1643, "multipliers": 806, "multiplies": 320320, "utilization": 0.234, "lut": 82700, "ff": 55000, "dsp": 1770,
           "rmse": 8.833, "mae": 6.632}
"""Their public SystemVerilog, simulated and counted by Yosys as here, and its integers on the official test frames; multipliers
are those with two variable factors."""
ROUTED = {"lut": 105100, "ff": 59400, "dsp": 296, "mhz": 50, "watts": 0.182}
"""Vivado's reports of it on a Kintex-7; the power is dynamic, by assumed activity."""


def measure(_: Artifact) -> list[dict]:
    """Rows of the shape as it is and with its Linears in a row as one, at POINTS."""
    named = zip((MODEL.name, f"{MODEL.name}, folded"), with_folded(load(MODEL)), strict=True)
    return [_row(scheduled(made, *point), name, figures) for name, (made, figures) in named for point in POINTS]


def _row(schedule: Schedule, name: str, figures: dict[str, float]) -> dict:
    counted = by_module(schedule, "xcup")["total"]
    return {"design": f"{name}, T = {schedule.period}", "cycles": schedule.cycles_per_frame, "latency": schedule.latency,
            "multipliers": schedule.multipliers, "products": products(schedule.realization),
            "multiplies": schedule.multiplies_per_frame,
            "utilization": schedule.utilization(schedule.multiplies_per_frame, schedule.multipliers),
            **{key: counted[key] for key in ("lut", "ff", "dsp", "bram36")}, **figures}


def table(rows: list[dict]) -> list[str]:
    def line(row: dict) -> str:
        return (
            f"| {row['design']} | {row['cycles']:,} | {row.get('latency', row['cycles']):,} | {row['multipliers']} "
            f"| {row.get('products', '–')} | {row['multiplies']:,} | {row['utilization']:.3f} | {row['lut']:,.0f} "
            f"| {row['ff']:,.0f} | {row['dsp']:,.0f} | {row.get('bram36', 'not counted')} | {row['rmse']:.3f} "
            f"| {row['mae']:.3f} |")

    return ["## The authors' shape", "",
            "MARS, official split. The authors' design of 2026 is simulated and counted like ours, by Yosys for UltraScale+; its",
            "frames do not overlap. Routed by Vivado on a Kintex-7, theirs has "
            f"{ROUTED['lut']:,} LUT, {ROUTED['ff']:,} FF and {ROUTED['dsp']} DSP at", f"{ROUTED['mhz']} MHz and takes "
            f"{ROUTED['watts']} W dynamic, by assumed activity, as its authors report: about",
            f"{ROUTED['watts'] / ROUTED['mhz'] * AUTHORS['cycles']:.1f} µJ a frame, inferred. Its NAND2 and nJ as a chip are not "
            "known; [ours are](asic.md#beside-the-authors-chip).", "Ours was not routed for such a device. Its weights "
            "are its authors'; ours were trained here, with 12 bits", "on the residual path.", "",
            "| design | cycles a frame | latency | multipliers | products | multiplies a frame | utilization | LUT | FF "
            "| DSP | BRAM36 | RMSE, cm | MAE, cm |", "| --- " * 13 + "|",
            *map(line, [{"design": "the authors'", **AUTHORS}, *rows])]
