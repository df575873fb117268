"""The engine as a chip, a section of docs/asic.md."""

from collections.abc import Callable

from emamba.artifact import Artifact
from rtl.engine.machine import Machine
from rtl.engine.schedule import EngineSchedule

POINTS = (("ihp-sg13g2", 80.0, Machine(4, 2, 18, tile=2, chip=True)),
          ("asap7", 1090.0, Machine(40, 10, 18, tile=2, chip=True)))
"""Processes, MHz and engines."""
PARTS = {"values": "values", "states": "states", "results": "queue of results", "weights": "weights", "lane": "lanes",
         "post": "post-processors", "sequencer": "sequencer", "norm": "norm unit", "top": "the rest"}
"""Of an engine, by how their instances' names begin."""


def engines(artifact: Artifact, measured: Callable[..., dict]) -> list[dict]:
    """Of each of POINTS what `benchmarks.asic.measured` gives, its blocks put together to PARTS: NAND2 and joules."""
    rows = []
    for process, mhz, machine in POINTS:
        found = measured(EngineSchedule(artifact, machine), f"{machine.lanes} lanes", process, mhz, every=True)
        del found["multiplications"]
        blocks, joules = found["area"].pop("blocks"), found["energy_j"].pop("blocks")
        parts = {part: [sum(blocks[name]["nand2"] for name in blocks if name.startswith(part)),
                        float(f"{sum(joules[name] for name in joules if name.startswith(part)):.6g}")] for part in PARTS}
        rows.append(found | {"lanes": machine.lanes, "factor_bits": machine.factor_bits, "tile": machine.tile, "parts": parts})
    return rows


def table(rows: list[dict]) -> list[str]:
    lines = ["## The engine", "",
             "One array that runs a program ([engine](engine.md)), its weights in a ROM of logic; MARS. RAMs are IHP's macros of",
             "two ports, one for writing and one for reading, where these are smaller, else latches. The netlist's answers equal",
             "the integer model's in all bits on the frames named. Tokens a second are at the clock that was asked for, or at",
             "what timing allows where that is less.", "",
             "| process | MHz asked for | lanes, bits of a factor, tokens a tile | cycles a token | tokens a second | mm² "
             "| of it macros | NAND2 | flip-flops | setup, typical | setup, slow | nJ a frame "
             "| gates / registers / clock / leakage, nJ | frames compared |",
             "| --- " * 14 + "|"]
    for row in rows:
        total, used = row["area"]["total"], row["energy_j"]
        kinds = " / ".join(f"{used['kinds'][kind] * 1e9:,.1f}" for kind in ("gates", "registers", "clock", "leakage"))
        setup = " | ".join(_setup(row["timing"], corner) for corner in ("typical", "slow"))
        lines.append(f"| {row['pdk']} | {row['clock_mhz']:g} | {row['lanes']}, {row['factor_bits']}, {row['tile']} "
                     f"| {row['cycles_per_token']:,} | {clock_mhz(row) * 1e6 / row['cycles_per_token']:,.0f} "
                     f"| {total['area_um2'] / 1e6:.3f} | {total.get('macro_um2', 0) / 1e6:.3f} | {total['nand2']:,} "
                     f"| {total['flip_flops']:,} | {setup} | {used['total'] * 1e9:,.1f} | {kinds} | {row['sequences']:,} |")
    for row in rows:
        lines += ["", f"Of {row['lanes']} lanes in {row['pdk']}:", "", "| part | NAND2 | share | nJ a frame | share |",
                  "| --- " * 5 + "|",
                  *(f"| {PARTS[part]} | {nand2:,} | {nand2 / row['area']['total']['nand2']:.1%} "
                    f"| {joules * 1e9:,.1f} | {joules / row['energy_j']['total']:.1%} |"
                    for part, (nand2, joules) in row["parts"].items())]
    return lines


def clock_mhz(row: dict) -> float:
    """The clock that was asked for, or what timing allows where that is less."""
    found = row["timing"]["typical"]
    return min(row["clock_mhz"], found["mhz"]) if found else row["clock_mhz"]


def _setup(timing: dict, corner: str) -> str:
    if corner not in timing:
        return "no library"
    found = timing[corner]
    return "not run" if found is None else f"{found['setup_ns']:+.2f} ns, {found['mhz']:,.0f} MHz"
