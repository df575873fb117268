"""The ULX3S' bitstream of the shipped model, by open tools. Long: tens of minutes."""

import tempfile
from pathlib import Path

from boards.ulx3s.target import CLOCK_MHZ, Target
from emamba.artifact import Artifact
from rtl.plan import devices
from rtl.plan.planner import Request, plan
from rtl.system.system import Options, System

DEVICE = "ulx3s-85f"
CELLS = {"LUT4": "TRELLIS_COMB", "FF": "TRELLIS_FF", "MULT18": "MULT18X18D", "EBR": "DP16KD"}


def measure(artifact: Artifact) -> dict:
    """As `python -m rtl.build ulx3s` does."""
    schedule = plan(artifact, Request(cycles_per_token=Target.CYCLES_PER_TOKEN, device=devices.find(DEVICE))).schedule
    with tempfile.TemporaryDirectory() as folder:
        resources, _ = Target(DEVICE).write(Path(folder), System(schedule, Options()), CLOCK_MHZ)
        size = (Path(folder) / "top.bit").stat().st_size
    return resources | {"bytes": size, "cycles_per_token": schedule.period, "cycles_per_frame": schedule.cycles_per_frame,
                        "multipliers": schedule.multipliers, "clock_mhz": CLOCK_MHZ}


def table(result: dict) -> list[str]:
    counts = [result["utilization"][cell] for cell in CELLS.values()]
    cells = " | ".join(f"{count['used']:,} ({count['used'] / count['available']:.0%})" for count in counts)
    return ["## A bitstream for the ULX3S", "",
            f"`python -m rtl.build ulx3s`: the AXI system with its counters behind the serial port at {result['baud']:,} baud,",
            f"placed and routed by {result['tools'][1]}; no board was used. The line brings fewer frames than the design can do.",
            "",
            f"| device | T | cycles a frame | frames a second at {result['clock_mhz']:g} MHz | multipliers | {' | '.join(CELLS)} "
            "| Fmax, MHz | bytes |", "| --- " * (len(CELLS) + 7) + "|",
            f"| {result['placed_on']} | {result['cycles_per_token']} | {result['cycles_per_frame']:,} "
            f"| {result['clock_mhz'] * 1e6 / result['cycles_per_frame']:,.0f} | {result['multipliers']} | {cells} "
            f"| {result['fmax_mhz']:.1f} | {result['bytes']:,} |"]
