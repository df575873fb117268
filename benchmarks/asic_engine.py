"""The engine as a chip, a section of docs/asic.md."""

from collections.abc import Callable

from asic.measure import sizing
from asic.netlist import mapping, pdk
from asic.netlist.verilog import verilog
from emamba.artifact import Artifact
from rtl.engine.machine import Machine
from rtl.engine.schedule import EngineSchedule

POINTS = (("ihp-sg13g2", 80.0, Machine(4, 2, 17, tile=2)),)
"""Processes, MHz and engines."""
AREAS = ((*POINTS[0], True), ("asap7", 1000.0, Machine(40, 8, 17, tile=4), False))
"""The same, of which cells are counted; whether they get their sizes and timing too, or are as they are mapped for area."""
PARTS = {"values": "values", "states": "states", "results": "queue of results", "weights": "weights", "lane": "lanes",
         "post": "post-processors", "sequencer": "sequencer", "norm": "norm unit", "top": "the rest"}
"""Of an engine, by how their instances' names begin."""


def engines(artifact: Artifact, measured: Callable[..., dict]) -> list[dict]:
    """Of each of POINTS what `benchmarks.asic.measured` gives, its blocks put together to PARTS."""
    rows = []
    for process, mhz, machine in POINTS:
        found = measured(EngineSchedule(artifact, machine), f"{machine.lanes} lanes", process, mhz, every=True)
        blocks, joules = found["area"].pop("blocks"), found["energy_j"].pop("blocks")
        parts = {part: {"nand2": count, "joules": sum(value for name, value in joules.items() if name.startswith(part))}
                 for part, count in _parts(blocks).items()}
        rows.append(found | _machine(machine) | {"parts": parts})
    return rows


def areas(artifact: Artifact) -> list[dict]:
    """Of each of AREAS the cells that Yosys and ABC map it to."""
    rows = []
    for process, mhz, machine, timed in AREAS:
        schedule, described = EngineSchedule(artifact, machine), pdk.find(process)
        text, corners = verilog(schedule), {}
        if timed:
            netlist, _, corners = sizing.implement(text, described, mhz)
        else:
            netlist = mapping.implement(text, described, mhz)
        area = netlist.report()
        rows.append({"pdk": process, "clock_mhz": mhz, "cycles_per_token": schedule.period} | _machine(machine)
                    | {"timing": {name: {key: row[key] for key in ("setup_ns", "mhz")} for name, row in corners.items()},
                       "area": {key: area["total"][key] for key in ("area_um2", "macro_um2", "nand2", "flip_flops", "latches")},
                       "parts": {part: {"nand2": count} for part, count in _parts(area["blocks"]).items()}})
    return rows


def _machine(machine: Machine) -> dict:
    return {"lanes": machine.lanes, "posts": machine.posts, "factor_bits": machine.factor_bits, "tile": machine.tile}


def _parts(blocks: dict[str, dict]) -> dict[str, int]:
    """NAND2 of every part."""
    return {part: sum(row["nand2"] for name, row in blocks.items() if name.startswith(part)) for part in PARTS}


def table(rows: list[dict]) -> list[str]:
    lines = ["## The engine", "",
             "One array that runs a program ([engine](engine.md)), its weights in a ROM of logic. Macros are IHP's of two ports,",
             "one for writing, one for reading.", "",
             "| process | MHz | lanes, tokens a tile | cycles a token | tokens a second | mm² | of it macros | NAND2 "
             "| flip-flops | setup, typical | setup, slow | nJ a frame | gates / registers / clock / leakage, nJ |",
             "| --- " * 13 + "|"]
    for row in rows:
        total, used = row["area"]["total"], row["energy_j"]
        kinds = " / ".join(f"{used['kinds'][kind] * 1e9:,.1f}" for kind in ("gates", "registers", "clock", "leakage"))
        setup = " | ".join(_setup(row["timing"], corner) for corner in ("typical", "slow"))
        lines.append(f"| {row['pdk']} | {row['clock_mhz']:g} | {row['lanes']}, {row['tile']} | {row['cycles_per_token']:,} "
                     f"| {row['clock_mhz'] * 1e6 / row['cycles_per_token']:,.0f} | {total['area_um2'] / 1e6:.3f} "
                     f"| {total.get('macro_um2', 0) / 1e6:.3f} | {total['nand2']:,} | {total['flip_flops']:,} | {setup} "
                     f"| {used['total'] * 1e9:,.1f} | {kinds} |")
    lines += ["", "Frames compared with the integer model, at gate level: "
              + ", ".join(f"{row['sequences']:,}" for row in rows) + ".", ""]
    for row in rows:
        lines += [f"Of {row['lanes']} lanes in {row['pdk']}:", "",
                  "| part | NAND2 | share | nJ a frame |", "| --- | --- | --- | --- |",
                  *(f"| {PARTS[part]} | {found['nand2']:,} | {found['nand2'] / row['area']['total']['nand2']:.1%} "
                    f"| {found['joules'] * 1e9:,.1f} |" for part, found in row["parts"].items()), ""]
    return lines[:-1]


def table_areas(rows: list[dict]) -> list[str]:
    lines = ["## The engine's area", "",
             "One array that runs a program ([engine](engine.md)), its weights in a ROM of logic; MARS. RAMs are IHP's macros of",
             "two ports, one for writing and one for reading, else latches. In ASAP7, which has none, cells are as mapped for",
             "area: no timing was run there, and the pipeline of such a rate, T = 290 above, is smaller.", "",
             "| process | MHz asked for | lanes, bits of a factor, tokens a tile | cycles a token | tokens a second | mm² "
             "| macros, mm² | NAND2 | flip-flops | setup, typical | setup, slow |", "| --- " * 11 + "|"]
    for row in rows:
        area = row["area"]
        setup = " | ".join(_setup(row["timing"], corner) if row["timing"] else "not run" for corner in ("typical", "slow"))
        lines.append(f"| {row['pdk']} | {row['clock_mhz']:g} | {row['lanes']}, {row['factor_bits']}, {row['tile']} "
                     f"| {row['cycles_per_token']:,} | {row['clock_mhz'] * 1e6 / row['cycles_per_token']:,.0f} "
                     f"| {area['area_um2'] / 1e6:.3f} | {area['macro_um2'] / 1e6:.3f} | {area['nand2']:,} "
                     f"| {area['flip_flops']:,} | {setup} |")
    names = [f"{row['lanes']} lanes, {row['pdk']}" for row in rows]
    lines += ["", f"| NAND2 | {' | '.join(names)} |", "| --- " * (1 + len(rows)) + "|"]
    return lines + [f"| {title} | " + " | ".join(
        f"{row['parts'][part]['nand2']:,} ({row['parts'][part]['nand2'] / row['area']['nand2']:.0%})" for row in rows) + " |"
        for part, title in PARTS.items()]


def _setup(timing: dict, corner: str) -> str:
    if corner not in timing:
        return "no library"
    found = timing[corner]
    return "not run" if found is None else f"{found['setup_ns']:+.2f} ns, {found['mhz']:,.0f} MHz"
