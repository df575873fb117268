"""Cycles, multipliers and estimated resources of the shipped model over T, and Yosys' counts of some blocks, against
baselines.json. A change that is meant: `python -m tests.test_baselines`."""

import json
from pathlib import Path

import pytest

from benchmarks.synthesis import synthesize
from emamba.artifact import load
from rtl.plan import devices
from rtl.plan.planner import Request, plan
from rtl.plan.schedule import Schedule

PATH = Path(__file__).with_name("baselines.json")
MODEL = Path("models/mars")
SWEEP = (1, 4, 8, 16, 20, 32, 64, 128, 800)
BLOCKS = {"xcup": (20, ("block0.x",)), "ecp5": (128, ("block0.B", "block0.conv", "norm"))}


def cycles() -> dict:
    keys = ("cycles_per_token", "cycles_per_frame", "latency_cycles", "latency_floor", "latency_limit", "multipliers",
            "utilization")
    artifact = load(MODEL)
    return {str(T): {key: report[key] for key in keys} for T in SWEEP for report in [Schedule(artifact, T).report()]}


def estimates() -> dict:
    artifact, found = load(MODEL), {}
    for name, T in (("zcu102", 20), ("zcu102", 4), ("ulx3s-85f", 128)):
        resources = plan(artifact, Request(cycles_per_token=T, device=devices.find(name))).resources
        found[f"{name}, T = {T}"] = {key: round(value) for key, value in resources.items()}
    return found


def counts() -> dict:
    artifact, found = load(MODEL), {}
    for flow, (T, names) in BLOCKS.items():
        blocks = plan(artifact, Request(cycles_per_token=T, device=devices.find(
            {"xcup": "zcu102", "ecp5": "ulx3s-85f"}[flow]))).schedule.blocks
        for name in names:
            counted = synthesize(blocks[name], flow)
            found[f"{flow}, T = {T}, {name}"] = {key: counted[key] for key in ("lut", "ff", "dsp")}
    return found


KINDS = {"cycles": cycles, "estimates": estimates, "yosys": counts}


@pytest.mark.parametrize("kind", KINDS)
def test_baseline(kind):
    assert KINDS[kind]() == json.loads(PATH.read_text(encoding="utf-8"))[kind]


def test_what_must_be_kept():
    """The limits that this design has set itself, on MARS."""
    kept = json.loads(PATH.read_text(encoding="utf-8"))["cycles"]
    assert all(kept[str(T)]["utilization"] >= 0.85 for T in (8, 16, 20, 32, 64, 128)) and kept["20"]["utilization"] >= 0.92
    assert kept["20"]["latency_cycles"] <= 560 and kept["20"]["cycles_per_frame"] <= 322
    assert kept["20"]["multipliers"] * kept["20"]["cycles_per_frame"] <= 270_000
    assert kept["1"]["cycles_per_frame"] == 16
    assert all(row["latency_cycles"] <= 1.03 * row["latency_floor"] for row in kept.values())


if __name__ == "__main__":
    PATH.write_text(json.dumps({kind: measure() for kind, measure in KINDS.items()}, indent=1) + "\n", encoding="utf-8")
