"""RangeNorm against LayerNorm and RMSNorm: multipliers, latency and resources. Yosys takes some minutes at first."""

from emamba.artifact import Artifact
from rtl.kit.block import Spec
from rtl.plan.cost import resources
from rtl.plan.schedule import Schedule
from sim.models import random_artifact

from .synthesis import synthesize

CYCLES = 20
NORMS = {"range": "RangeNorm", "layer": "LayerNorm", "rms": "RMSNorm"}
NODE = "block0.norm"


def measure(artifact: Artifact) -> list[dict]:
    """Of the artifact's shape with each norm, with random weights, which change no count but the constants'."""
    return [_measured(artifact, norm) for norm in NORMS]


def _measured(artifact: Artifact, norm: str) -> dict:
    schedule = Schedule(random_artifact(artifact.config.model_copy(update={"norm": norm})), CYCLES)
    block = schedule.blocks[NODE]
    return {
        "norm": NORMS[norm], "cycles_per_token": schedule.period, "lanes": block.output.lanes, "multipliers": block.multipliers,
        "multiplies": block.multiplies, "cycles": block.cycles, "latency": latency(block), "input": str(block.op.i),
        "output": str(block.op.o), "estimate": resources(block.inventory(), "xcup"), "xcup": _counts(block, "xcup"),
        "gates": _counts(block, "gates"),
        "model": {"multipliers": schedule.multipliers, "latency_cycles": schedule.latency},
    }


def latency(block: Spec) -> int:
    """Cycles from a token's last input beat to its first output beat."""
    taken, departures = block.schedule(list(range(block.output.beats)))
    return departures[0] - taken[-1]


def _counts(block: Spec, flow: str) -> dict:
    return {key: value for key, value in synthesize(block, flow).items() if key != "cells"}


def table(rows: list[dict]) -> list[str]:
    first = rows[0]
    lines = ["## RangeNorm, LayerNorm, RMSNorm", "",
             f"One norm of the paper's MARS shape at T = {first['cycles_per_token']}, {first['lanes']} channels a cycle, "
             f"{first['input']} in. Latency from",
             "a token's last input beat to its first output beat. By Yosys for xcup, and in brackets by the cost model; then by",
             "Yosys in gates. Last, multipliers and latency of the whole model with each.", "",
             "| norm | output | multipliers | latency | LUT | FF | DSP | BRAM36 | NAND2 | FF | memory bits | model: multipliers "
             "| latency |", "| --- " * 13 + "|"]
    for row in rows:
        cells = [f"{row['xcup'][name]:,.0f} ({value:,.0f})" for name, value in row["estimate"].items()]
        cells += [f"{row['gates'][name]:,.0f}" for name in ("nand2", "ff", "memory_bits")]
        cells += [f"{row['model'][name]:,}" for name in ("multipliers", "latency_cycles")]
        lines.append(f"| {row['norm']} | {row['output']} | {row['multipliers']} | {row['latency']} | {' | '.join(cells)} |")
    return lines
