"""How cycles and the time to generate the hardware grow."""

import time

from emamba.artifact import Artifact
from emamba.config import ModelConfig
from rtl.kit.emit import to_verilog
from rtl.plan import devices
from rtl.plan.accelerator import Accelerator
from rtl.plan.planner import Request, plan
from rtl.plan.schedule import Schedule
from sim.models import random_artifact

LENGTHS = (16, 64, 256, 1024, 4096)
FOLDINGS = (64, 32, 16, 8, 4)
WIDTHS = ((20, 20), (40, 80), (80, 320))
"""d_model and T: as many multipliers each time, four times the weights."""
LARGE = {"d_model": 64, "d_state": 16, "blocks": 4, "dt_rank": 4}


def model(**changes) -> Artifact:
    """A random model, which for these questions is as good as a trained one."""
    shape = {"input": "sequence", "features": 20, "length": 16, "d_model": 20, "dt_rank": 32, "blocks": 2, "task": "regression",
             "outputs": 57}
    return random_artifact(ModelConfig(**shape | changes))


def measure(artifact: Artifact) -> dict:
    lengths = [{"tokens": length, "cycles_per_frame": Schedule(model(length=length), 20).cycles_per_frame} for length in LENGTHS]
    _emit(artifact, FOLDINGS[0])  # once before the clock runs: imports and caches
    foldings = [_emit(artifact, cycles) for cycles in FOLDINGS]
    widths = [_emit(model(d_model=d_model), cycles) for d_model, cycles in WIDTHS]
    return {"lengths": lengths, "foldings": foldings, "widths": widths, "large": _large()}


def _emit(artifact: Artifact, cycles_per_token: int) -> dict:
    schedule = Schedule(artifact, cycles_per_token)
    start = time.perf_counter()
    verilog = to_verilog(Accelerator(schedule))
    seconds = time.perf_counter() - start
    return {"cycles_per_token": cycles_per_token, "multipliers": schedule.multipliers, "weights": _weights(artifact),
            "verilog_bytes": len(verilog), "seconds": seconds}


def _weights(artifact: Artifact) -> int:
    return sum(op.weight.size for op in artifact.operators.values() if hasattr(op, "weight"))


def _large() -> dict:
    artifact = model(length=64, **LARGE)
    device = devices.find("zcu102")
    found = plan(artifact, Request(device=device))
    report = found.schedule.report()
    keys = ("cycles_per_token", "cycles_per_frame", "latency_cycles", "multipliers", "utilization")
    return LARGE | {"tokens": 64, "weights": _weights(artifact), "device": device.name, "resources": found.report()} | {
        key: report[key] for key in keys}


def table(result: dict) -> list[str]:
    first = result["lengths"][0]
    lines = ["## Growth", "",
             "Cycles a frame at T = 20 over the number of tokens: " + ", ".join(
                 f"{row['tokens']:,} → {row['cycles_per_frame']:,}" for row in result["lengths"]) + "; "
             + ("linear." if all(row["cycles_per_frame"] * first["tokens"] == row["tokens"] * first["cycles_per_frame"]
                                 for row in result["lengths"]) else "not linear."), "",
             "Time from a schedule to Verilog, in one run, as a ratio to the first row; `growth` is that over the ratio of the",
             "multipliers, or of the weights: 1 is linear.", "",
             "| model | T | multipliers | weights | time | growth |", "| --- | --- | --- | --- | --- | --- |"]
    for name, rows, key in (("MARS", result["foldings"], "multipliers"), ("d_model 20, 40, 80", result["widths"], "weights")):
        for row in rows:
            ratio = row["seconds"] / rows[0]["seconds"]
            growth = ratio * rows[0][key] / row[key]
            lines.append(f"| {name} | {row['cycles_per_token']} | {row['multipliers']:,} | {row['weights']:,} | {ratio:.2f} "
                         f"| {growth:.2f} |")
    large = result["large"]
    shares = ", ".join(f"{row['estimate']:,} {name.upper()} ({row['share']:.0%})" for name, row in large["resources"].items()
                       if isinstance(row, dict))
    lines += ["", f"A model with d_model {large['d_model']}, d_state {large['d_state']}, {large['blocks']} blocks, "
              f"{large['tokens']} tokens and {large['weights']:,} weights: the smallest T that fits 80 % of a "
              f"{large['device']} is {large['cycles_per_token']} by the estimate ({shares}); {large['multipliers']:,} "
              f"multipliers, {large['cycles_per_frame']:,} cycles a frame, latency {large['latency_cycles']:,}, utilization "
              f"{large['utilization']:.3f}."]
    return lines
