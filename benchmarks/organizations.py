"""Which organization, and which device: `python -m benchmarks.organizations [SECTION …]` writes docs/organizations.md."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from boards.icebreaker import target as icebreaker
from emamba.artifact import SHIPPED, Artifact, load
from emamba.base.door import guarded
from emamba.base.errors import DesignLimit
from emamba.base.progress import say
from rtl.engine.machine import MOST_LANES, Machine
from rtl.engine.schedule import EngineSchedule
from rtl.kit.datapath import Products
from rtl.plan import devices, engine_cost
from rtl.plan.accelerator import accelerator
from rtl.plan.cost import estimate
from rtl.plan.engine_plan import for_device
from rtl.plan.planner import Plan, Request, plan

from . import sections
from .synthesis import by_module, lanes_apart

BUDGETS = 4, 8, 20, 35, 40, 50, 60, 85, 200, 836
"""Multipliers."""
MEASURED = 8, 40, 85
"""Budgets whose designs Yosys counts."""
FAMILY = "ecp5"
DEVICES = "icebreaker", "ulx3s-12f", "ulx3s-25f", "ulx3s-45f", "ulx3s-85f", "kv260", "zcu102"
"""From the smallest on."""
LEAN = {"lut": 655, "ff": 500, "dsp": 0, "ebr": 2}
"""What serial line, packets, registers and loader of the icebreaker take, by Yosys."""


def both(artifact: Artifact, multipliers: int) -> Iterator[tuple[str, object]]:
    """Each organization with at most so many multipliers, where it is possible."""
    with suppress(DesignLimit):
        asked = Request(multipliers=multipliers, realization={"products": Products.MULTIPLIERS})
        yield "pipeline", plan(artifact, asked).schedule
    yield "engine", EngineSchedule(artifact, Machine(min(multipliers, MOST_LANES), factor_bits=18))


def budgets(artifact: Artifact) -> list[dict]:
    """Of each budget both organizations: cycles, and resources by the cost model."""
    rows = []
    for multipliers in BUDGETS:
        say(f"{multipliers} multipliers")
        found = {}
        for name, schedule in both(artifact, multipliers):
            count = estimate if name == "pipeline" else engine_cost.estimate
            found[name] = {"cycles": schedule.cycles_per_frame, "multipliers": schedule.multipliers,
                           **{key: round(value) for key, value in count(schedule, FAMILY).items()}}
        auto = min(found, key=lambda name: found[name]["cycles"])
        rows.append({"budget": multipliers, "auto": auto} | found)
    return rows


def measured(artifact: Artifact) -> list[dict]:
    """Of MEASURED budgets what Yosys counts."""
    rows = []
    for multipliers in MEASURED:
        for name, schedule in both(artifact, multipliers):
            say(f"{name} of {multipliers} multipliers")
            count = estimate if name == "pipeline" else engine_cost.estimate
            pipeline = name == "pipeline"
            found = by_module(schedule, FAMILY) if pipeline else lanes_apart(accelerator(schedule), FAMILY)
            found |= found.get("total", {})
            rows.append({"budget": multipliers, "organization": name, "cycles": schedule.cycles_per_frame, "tool": found["tool"],
                         **{key: {"yosys": found[key], "estimate": round(value)}
                            for key, value in count(schedule, FAMILY).items()}})
    return rows


def smallest(artifact: Artifact) -> dict:
    """The smallest device that an engine fits, and its rate there; or why none does."""
    refusal = ""
    for name in DEVICES:
        device = devices.find(name)
        try:
            found = _small(artifact, device) if name == "icebreaker" else for_device(artifact, device)
        except DesignLimit as error:
            refusal = str(error)
            continue
        schedule = found.schedule
        return {"device": name, "lanes": schedule.machine.lanes, "clock_mhz": device.clock_mhz,
                "cycles_per_frame": schedule.cycles_per_frame,
                "rate": round(device.clock_mhz * 1e6 / schedule.cycles_per_frame, 1), "tokens": schedule.tokens,
                "shares": {key: round(found.resources[key] / limit, 3) for key, limit in device.limits.items()}}
    return {"device": None, "refusal": refusal}


def _small(artifact: Artifact, device: devices.Device) -> Plan:
    """The engine of the target `icebreaker`, with its serial line; all of the device may be taken."""
    if artifact.graph.carried:
        raise DesignLimit("its system keeps no state")
    schedule = EngineSchedule(artifact, icebreaker.Target.MACHINE)
    taken = engine_cost.estimate(schedule, device.family)
    found = Plan(schedule, device, {key: taken[key] + LEAN[key] for key in taken})
    if found.load > 1:
        raise DesignLimit(f"it takes {found.load:.0%} of what the device has most of")
    return found


def shipped() -> dict[str, dict]:
    """Of every artifact that ships, the smallest device."""
    found = {}
    for manifest in sorted(Path("models").glob("**/manifest.json")):
        name = str(manifest.parent.relative_to("models"))
        found[name] = smallest(load(manifest.parent))
        print(name, found[name], file=sys.stderr, flush=True)
    return found


def table_budgets(rows: list[dict]) -> list[str]:
    def cells(row: dict, name: str) -> str:
        found = row.get(name)
        if not found:
            return "impossible | – | –"
        cycles = f"{found['cycles']:,}"
        return f"{f'**{cycles}**' if name == row['auto'] else cycles} | {found['lut']:,} | {found['ebr']:,}"

    return ["## By multipliers", "",
            "MARS; cycles a frame are exact, LUT4 and block RAMs of an ECP5 by the cost model, of the accelerator alone.",
            "Bold: what `--organization auto --multipliers N` builds.", "",
            "| N | pipeline | LUT4 | EBR | engine | LUT4 | EBR |", "| --- | --- | --- | --- | --- | --- | --- |",
            *(f"| {row['budget']} | {cells(row, 'pipeline')} | {cells(row, 'engine')} |" for row in rows)]


def table_measured(rows: list[dict]) -> list[str]:
    def cell(found: dict) -> str:
        error = f" ({found['estimate'] / found['yosys'] - 1:+.0%})" if found["yosys"] else ""
        return f"{found['yosys']:,}, {found['estimate']:,}{error}"

    return ["## The cost model beside Yosys", "", f"The same designs, counted by {rows[0]['tool']} and by the cost model.", "",
            "| N | organization | cycles a frame | LUT4 | FF | multipliers | EBR |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            *(f"| {row['budget']} | {row['organization']} | {row['cycles']:,} | "
              + " | ".join(cell(row[key]) for key in ("lut", "ff", "dsp", "ebr")) + " |" for row in rows)]


def table_shipped(rows: dict[str, dict]) -> list[str]:
    def line(name: str, row: dict) -> str:
        if not row["device"]:
            return f"| {name} | none: {row['refusal']} | | | | | |"
        shares = row["shares"]
        full = max(shares, key=shares.get)
        return (f"| {name} | {row['device']} | {row['lanes']} | {row['tokens']} | {row['cycles_per_frame']:,} | "
                f"{row['rate']:,g} at {row['clock_mhz']:g} MHz | {shares[full]:.0%} of {full.upper()} |")

    return ["## The smallest device of every artifact that ships", "",
            "The smallest of " + ", ".join(DEVICES) + " that an engine fits by the cost model, with as many lanes as fit:",
            "four fifths of every resource, or on the icebreaker, whose design is 8 lanes and counted with its serial line, all.",
            "A frame is a sequence. The clocks are the devices' defaults. `mars` was placed and routed on the icebreaker.", "",
            "| artifact | device | lanes | tokens | cycles a frame | frames a second | most taken |",
            "| --- | --- | --- | --- | --- | --- | --- |", *(line(name, row) for name, row in rows.items())]


SECTIONS = {"budgets": (budgets, table_budgets), "measured": (measured, table_measured), "shipped": (shipped, table_shipped)}


def main(names: list[str]) -> None:
    artifact = load(SHIPPED)
    sections.write("organizations", ["# Organizations and devices", "",
                                     "Written by `python -m benchmarks.organizations`; the same figures are in "
                                     "`organizations.json`. What an engine is: [engine](engine.md)."],
                   {name: (run if run is shipped else partial(run, artifact), table) for name, (run, table) in SECTIONS.items()},
                   names, artifact)


if __name__ == "__main__":
    sys.exit(guarded("organizations", lambda: main(sys.argv[1:])))
