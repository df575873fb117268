"""The driver against the Verilated AXI system: the shipped model's frames; loads and bottlenecks in a small one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from boards.describe import describe
from boards.driver.accelerator import Accelerator
from emamba.artifact import Artifact
from emamba.run.integer import IntegerModel
from rtl.plan.loads import envelope
from rtl.plan.schedule import Schedule
from rtl.system.system import Options, System
from sim.native_system import NativeTransport
from sim.small import artifact_of, frames_of, other, slowed

BUILD = Path("build/native")
CYCLES_PER_TOKEN = 20
STEADY = 100
"""Frames from which the rate is taken, after the first SETTLE."""
SETTLE = 8
STALLS = {"input stream": 30, "output stream": 30, "registers": 30}
"""Percent of the cycles in which a channel pauses."""
BURST = 16
LOADS, FRAMES = 100, 60
SLOW = ("embed", "block0.conv", "block0.y")
"""Blocks that get a tenth of their multipliers, one at a time."""


def measure(artifact: Artifact, tokens: np.ndarray) -> dict:
    return {"frames": _frames(artifact, tokens), "loads": _loads(), "bottlenecks": _bottlenecks()}


def _frames(artifact: Artifact, tokens: np.ndarray) -> dict:
    """All frames under stalls of every channel; the rate without."""
    system = System(Schedule(artifact, CYCLES_PER_TOKEN))
    integers = artifact.codec.encode(tokens, artifact.input)
    expected = IntegerModel(artifact).answer(integers)
    with NativeTransport(system, BUILD, cycles=1_000_000) as transport:
        accelerator = Accelerator(describe(system, integers[:4]), transport)
        transport.stall(*STALLS.values(), 7, burst=BURST)
        wrong = (accelerator.run(integers) != expected).sum()
        transport.stall(0, 0, 0, 7)
        transport.cycles_of.clear()
        wrong += (accelerator.run(integers[:STEADY + SETTLE]) != expected[:STEADY + SETTLE]).sum()
        ends = transport.cycles_of[SETTLE - 1:]
        return {"frames": len(tokens), "mismatches": int(wrong), "stalls": STALLS, "burst": BURST,
                "cycles_per_token": system.schedule.period, "cycles_per_frame": (ends[-1] - ends[0]) / (len(ends) - 1),
                "scheduled": system.schedule.cycles_per_frame, "bad": accelerator.counters()["bad"]}


def _loads() -> dict:
    """Two artifacts in turn, under stalls; then a load that is broken off, and answers after it."""
    first = artifact_of()
    second, golden = other(first), frames_of(first, 2)
    system = System(Schedule(envelope(first), 6), Options(loadable=True), first)
    descriptions = [describe(system, golden, artifact) for artifact in (first, second)]
    models, wrong = [IntegerModel(first), IntegerModel(second)], 0
    with NativeTransport(system, BUILD, cycles=1_000_000) as transport:
        accelerator = Accelerator(descriptions[0], transport)
        transport.stall(25, 25, 25, 1)
        for turn in range(LOADS):
            which = (turn + 1) % 2
            accelerator.load(descriptions[which])
            frames = frames_of(first, 2, turn)
            answers = [model.answer(frames) for model in models]
            assert (answers[0] != answers[1]).any()
            wrong += (accelerator.run(frames) != answers[which]).any(axis=(1, 2)).sum()
    return {"loads": LOADS, "words": system.loads.words, "frames": 2 * LOADS, "wrong": int(wrong)}


def _bottlenecks() -> list[dict]:
    """What the driver names where a block is slow, the source rests, or the sink."""
    rows = []
    for slow in SLOW:
        with slowed(slow, 40):
            system = System(Schedule(artifact_of(), 4))
        rows.append(_named(system, slow, lambda transport: None))
    system = System(Schedule(artifact_of(), 4))
    rows.append(_named(system, "input", lambda transport: transport.stall(99, 0, 0, 5)))
    rows.append(_named(system, "output", lambda transport: transport.stall(0, 99, 0, 5)))
    return rows


def _named(system: System, planted: str, plant: Callable[[NativeTransport], None]) -> dict:
    frames = frames_of(system.artifact, FRAMES)
    with NativeTransport(system, BUILD, cycles=1_000_000) as transport:
        accelerator = Accelerator(describe(system, frames[:1]), transport)
        plant(transport)
        accelerator.clear_counters()
        accelerator.run(frames)
        stages = accelerator.counters()["stages"]
        return {"planted": planted, "named": accelerator.bottleneck(), **stages[planted]}


def table(result: dict) -> list[str]:
    frames, loads = result["frames"], result["loads"]
    assert not frames["mismatches"] and not frames["bad"] and not loads["wrong"]
    assert all(row["named"] == row["planted"] for row in result["bottlenecks"])
    stalls = ", ".join(f"{name} {percent} %" for name, percent in frames["stalls"].items())
    lines = ["## The AXI system, through the driver", "",
             "The driver of the board against the Verilated system; no board was used.", "",
             f"{frames['frames']:,} frames of the official MARS test set at T = {frames['cycles_per_token']}, with random pauses",
             f"of every channel ({stalls} of the cycles;",
             f"the input in bursts of {frames['burst']} words): {frames['mismatches']} mismatches with the integer model.",
             f"Without pauses {frames['cycles_per_frame']:g} cycles from result to result; the accelerator's own are "
             f"{frames['scheduled']}.", "",
             f"Two artifacts loaded in turn into a small model, {loads['loads']} times {loads['words']} words, with pauses:",
             f"{loads['wrong']} of {loads['frames']} answers wrong.", "",
             "Bottlenecks planted in that model at T = 4, and what the driver named; cycles of that stage.", "",
             "| planted | named | busy | starved | blocked |", "| --- | --- | --- | --- | --- |"]
    return lines + [f"| {row['planted']} | {row['named']} | {row['busy']:,} | {row['starved']:,} | {row['blocked']:,} |"
                    for row in result["bottlenecks"]]
