"""The chip in open libraries: area, timing and energy over T, into docs/asic.json and docs/asic.md.

`python -m benchmarks.asic`, or with the names of sections, which keeps the other sections' figures. The libraries are the user's:
EMAMBA_PDK names their folder, OpenSTA's command `sta` is to be on PATH. Mapped blocks are kept in the user's cache, points in
build/points: an interrupted run goes on where it was.
"""

import json
import sys
from collections import defaultdict
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path
from shutil import copyfile

from asic.check import equivalence
from asic.measure import chip, sizing
from asic.netlist import pdk
from asic.netlist.verilog import verilog as verilog_of
from emamba import datasets
from emamba.artifact import Artifact, load
from emamba.base.door import guarded
from emamba.config import ModelConfig
from emamba.datasets.tokens import executor_tokens
from emamba.io.files import write_file
from rtl.engine.schedule import EngineSchedule
from rtl.kit.datapath import Products
from rtl.plan.schedule import Realization, Schedule

from . import asic_clock, asic_engine, asic_narrow, authors, sections

MODELS = Path("models")
MODEL = "mars"
POINTS = Path("build/points")
"""Where results of earlier runs are found again."""
CLOCKS = {"asap7": 1000.0, "ihp-sg13g2": 100.0}
CYCLES = {"asap7": (1, 20, 58, 128), "ihp-sg13g2": (58, 128)}
REGISTERS = {20}
"""T whose norms, of ten lanes, take `--registers many` for 1 GHz."""
AUTHORS = 58
"""The authors' T: their longest stage takes 58 cycles a token."""
BESIDE = {"asap7": ((58, 1000.0), (290, 500.0)), "ihp-sg13g2": ((58, 100.0),)}
"""T and MHz of the designs beside the authors' chip; T over MHz gives the throughput."""
NAND2_DRIVE_1 = {"asap7": 0.08748, "ihp-sg13g2": 7.2576}
"""µm² of NAND2x1_ASAP7_75t_R, which is not the library's smallest, and of sg13g2_nand2_1, which is."""
CHIP = {"mm2": 0.350, "mhz": 100, "mw": 13.49, "frame_nj": 200}
"""The authors' first chip, GF 22 nm: core area, clock and power as its note gives them; the energy of a frame is inferred."""
NAND2_22NM = 0.20
"""µm² of a NAND2 in a 22 nm library (our assumption: the foundry publishes none)."""
REALIZATIONS = {"segments": Realization(Products.MERGED, tables=False, decay_tables=False),
                "tables": Realization(Products.MERGED)}
SMALL = ModelConfig(input="sequence", features=3, length=4, d_model=4, dt_rank=2, d_state=2, blocks=1, task="regression",
                    outputs=3)
SMALL_CYCLES = 32
"""The model of the layout, and its cycles a token."""
PROOF_SECONDS = 60
"""Limit of each of the two proofs of a part."""
LARGEST = 16
"""Blocks of a point that the page names."""
KINDS = ("gates", "registers", "clock", "leakage")
NORMS = {"mars": "RangeNorm", "mars_layer": "LayerNorm", "mars_rms": "RMSNorm"}


def realization(cycles: int) -> Realization:
    """The target's default; where a token takes one cycle, weights are wired in."""
    return Realization(Products.CONSTANTS if cycles == 1 else Products.MERGED, registers=cycles in REGISTERS)


def point(artifact: Artifact, cycles: int, process: str, chosen: Realization | None = None, mhz: float | None = None,
          **options) -> dict:
    """One design in one process."""
    if cycles == 1:  # no block is ever idle there
        options |= {"rests": False}
    schedule = Schedule(artifact, cycles, chosen or realization(cycles))
    return measured(schedule, f"T = {cycles}", process, mhz or CLOCKS[process], **options) | {"requested": cycles}


def measured(schedule: Schedule | EngineSchedule, name: str, process: str, mhz: float, every: bool = False, **options) -> dict:
    """One schedule's design in one process, by the name under which its progress is shown; with `every` one of its blocks."""
    artifact, described = schedule.artifact, pdk.find(process)
    text = verilog_of(schedule, rests=options.get("rests", True))
    key = [artifact.digest, text, process, str(mhz), str(options),
           (pdk.DESCRIPTIONS / f"{process}.toml").read_text(encoding="utf-8")]
    path = POINTS / f"{sha256(chr(0).join(key).encode()).hexdigest()[:24]}.json"
    if not path.exists():
        print(f"{name}, {process}, {mhz:g} MHz …", file=sys.stderr, flush=True)
        tokens = executor_tokens(datasets.load("mars", "official").x_test[:chip.sequences_needed(schedule)], artifact.config)
        found = chip.measure(schedule, described, mhz, tokens, **options)
        write_file(path, lambda target: target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8"))
    return shown(json.loads(path.read_text(encoding="utf-8")), every) | {
        "multiplications": Schedule(artifact, AUTHORS).multiplies_per_frame}


def shown(found: dict, every: bool) -> dict:
    """Of a point what the page shows: totals, and of the blocks every one, or those that use the most, norms and scans."""
    area, used = found["area"], found["energy_j"]
    largest = sorted(area["blocks"], key=lambda name: -used["blocks"].get(name, 0))[:LARGEST]
    names = [name for name in area["blocks"] if every or name in largest or _norm(name) or _scan(name)]
    return {key: found[key] for key in ("pdk", "cycles_per_token", "cycles_per_frame", "clock_mhz", "sequences")} | {
        "area": {"total": {key: area["total"][key] for key in ("area_um2", "nand2", "flip_flops")}
                 | ({"macro_um2": area["total"]["macro_um2"]} if area["total"]["macros"] else {}),
                 "blocks": {name: {"nand2": area["blocks"][name]["nand2"]} for name in names}},
        "timing": {corner: row and {key: row[key] for key in ("setup_ns", "mhz")} for corner, row in found["timing"].items()},
        "energy_j": {"total": _digits(used["total"]), "kinds": {key: _digits(used["kinds"][key]) for key in KINDS},
                     "blocks": {name: _digits(used["blocks"][name]) for name in names if name in used["blocks"]}},
    }


def _digits(value: float) -> float:
    return float(f"{value:.8g}")


def points(artifact: Artifact, process: str) -> list[dict]:
    return [point(artifact, cycles, process) for cycles in reversed(CYCLES[process])]


def gating(artifact: Artifact) -> list[dict]:
    cases = {"none": {"gated": False, "rests": False}, "by enables": {"rests": False}, "and idle blocks": {}}
    return [_whole(point(artifact, AUTHORS, "asap7", **options, **when)) | {"name": name + ", idle" * bool(when)}
            for when in ({}, {"idle": True}) for name, options in cases.items()]


def _whole(row: dict) -> dict:
    """A point without its blocks."""
    return row | {part: {key: value for key, value in row[part].items() if key != "blocks"} for part in ("area", "energy_j")}


def beside(artifact: Artifact) -> list[dict]:
    wanted = [(artifact, process, *row) for process, rows in BESIDE.items() for row in rows]
    wanted.append((load(authors.MODEL), "asap7", authors.CYCLES, None))
    return [_whole(point(made, cycles, process, mhz=mhz)) | {"model": made.name} for made, process, cycles, mhz in wanted]


def norms() -> list[dict]:
    return [point(load(MODELS / name), AUTHORS, "asap7") | {"norm": norm} for name, norm in NORMS.items()]


def functions(artifact: Artifact) -> list[dict]:
    return [point(artifact, AUTHORS, "asap7", chosen) | {"functions": name} for name, chosen in REALIZATIONS.items()]


def laid() -> list[dict]:
    """The largest block of the small model that fits, laid out; its picture goes beside the page."""
    from tempfile import TemporaryDirectory

    from asic.layout.flow import lay_out
    from boards.describe import golden_frames
    from sim.models import random_artifact

    artifact, process, described = random_artifact(SMALL, residual_bits=8), "ihp-sg13g2", pdk.find("ihp-sg13g2")
    schedule = Schedule(artifact, SMALL_CYCLES, Realization(Products.MERGED, decay_tables=False))
    netlist, flat, _ = sizing.implement(verilog_of(schedule), described, CLOCKS[process])
    run = chip.run_codes(schedule, netlist, flat, golden_frames(artifact))
    with TemporaryDirectory() as name:
        facts, _ = lay_out(netlist, described, CLOCKS[process], Path(name) / "layout", None, (flat, run))
        copyfile(Path(name) / "layout" / f"{facts['block']}.png", sections.DOCS / "layout.png")
    for key in ("timing", "timing_before"):
        facts[key] = {name: {key: row[key] for key in ("setup_ns", "hold_ns", "mhz")} for name, row in facts[key].items()}
    return [facts | {"pdk": process, "clock_mhz": CLOCKS[process]}]


def proofs(artifact: Artifact) -> list[dict]:
    """Every different part of the chip, with the instances that it is, or that it is within."""
    verilog = verilog_of(Schedule(artifact, AUTHORS, realization(AUTHORS)))
    netlist = sizing.implement(verilog, pdk.find("asap7"), CLOCKS["asap7"])[0]
    blocks, rows = defaultdict(list), []
    for block, parts in netlist.blocks.items():
        for name in dict.fromkeys(part.name for part in parts):
            blocks[name].append(block)
    for proof in equivalence.check(verilog, netlist, PROOF_SECONDS):
        rows.append({"blocks": blocks[proof.part]} | asdict(proof))
        print(f"  {', '.join(blocks[proof.part])}: {proof.result}, {proof.seconds} s", file=sys.stderr, flush=True)
    return rows


def _row(row: dict) -> str:
    total, used = row["area"]["total"], row["energy_j"]
    kinds = " / ".join(f"{used['kinds'][kind] * 1e9:.1f}" for kind in KINDS)
    return (f"{row['cycles_per_frame']:,} | {total['area_um2']:,.0f} | {total['nand2']:,} | {total['flip_flops']:,} "
            f"| {_timing(row, 'typical')} | {_timing(row, 'slow')} | {used['total'] * 1e9:,.1f} | {kinds} "
            f"| {used['total'] / row['multiplications'] * 1e15:,.0f} "
            f"| {row['cycles_per_frame'] / asic_engine.clock_mhz(row) * used['total'] * 1e9 * total['nand2'] / 1e6:,.1f} |")


def _timing(row: dict, corner: str) -> str:
    if corner not in row["timing"]:
        return "no library"
    found = row["timing"][corner]
    return "not run" if found is None else f"{found['setup_ns']:+.2f} ns, {found['mhz']:,.0f} MHz"


HEADS = ("cycles a frame | µm² | NAND2 | flip-flops | setup, typical | setup, slow | nJ a frame | gates / registers / clock / "
         "leakage, nJ | fJ a multiplication | M NAND2 · µs · nJ |")


def _table(first: str, rows: list[tuple[str, dict]]) -> list[str]:
    return [f"| {first} | {HEADS}", "| --- " * 11 + "|", *(f"| {name} | {_row(row)}" for name, row in rows)]


def table_points(rows: list[dict]) -> list[str]:
    process = rows[0]["pdk"]
    best = min(rows, key=lambda row: row["energy_j"]["total"])
    return [f"## {process}, {CLOCKS[process]:g} MHz: area, timing and energy over T", "",
            "MARS, the paper's shape; where T = 1, weights are wired in, and idle blocks keep their clocks. Every point: the",
            "mapped netlist's answers equal the integer model's in all bits on the frames named; no cell is unmapped. Last,",
            "area × time of a frame × energy: small is good.", "",
            *_table("T", [(f"**{row['requested']}**" if row is best else str(row["requested"]), row) for row in rows]), "",
            "Frames compared: " + ", ".join(f"T = {row['requested']}: {row['sequences']:,}" for row in rows)
            + f". Least energy: T = {best['requested']}, {best['energy_j']['total'] * 1e9:,.1f} nJ.", "", *_blocks(best)]


def _blocks(row: dict) -> list[str]:
    """The largest blocks of a point."""
    blocks, used = row["area"]["blocks"], row["energy_j"]["blocks"]
    names = sorted(blocks, key=lambda name: -used.get(name, 0))[:LARGEST]
    return [f"Of T = {row['requested']}, the blocks that use the most:", "", "| block | NAND2 | share | nJ a frame | share |",
            "| --- | --- | --- | --- | --- |",
            *(f"| {name} | {blocks[name]['nand2']:,} | {blocks[name]['nand2'] / row['area']['total']['nand2']:.1%} "
              f"| {used.get(name, 0) * 1e9:.2f} | {used.get(name, 0) / row['energy_j']['total']:.1%} |" for name in names)]


def table_beside(rows: list[dict]) -> list[str]:
    chip = CHIP["mm2"] * 1e6 / NAND2_22NM
    lines = ["## Beside the authors' chip", "",
             f"Theirs: {CHIP['mm2']:.3f} mm² core, {CHIP['mhz']} MHz, {CHIP['mw']} mW, GF 22 nm, of another architecture (one",
             f"array of processing elements), {AUTHORS} cycles a token by its longest stage. Assumed: {NAND2_22NM:.2f} µm² a",
             f"NAND2, which makes the whole core, memories and free room with it, {chip:,.0f} NAND2; about",
             f"{CHIP['frame_nj']} nJ a frame is inferred, not measured. Ours: cells alone, no placement, no pads. ASAP7's",
             "smallest NAND2 has half the drive of the usual unit, so both are counted. `mars_paper` has the shape of the",
             f"authors' newer design, which takes {authors.AUTHORS['cycles']:,} cycles a frame "
             "([benchmarks](benchmarks.md#the-authors-shape)) and was not mapped.", "",
             "| design | MHz | M tokens a second | NAND2, smallest | NAND2, drive 1 | nJ a frame | source |",
             "| --- " * 7 + "|",
             f"| the authors' chip | {CHIP['mhz']} | {CHIP['mhz'] / AUTHORS:.2f} |  | {chip:,.0f} (area over NAND2) "
             f"| about {CHIP['frame_nj']} | its note, and inferred |"]
    for row in rows:
        total = row["area"]["total"]
        lines.append(f"| `{row['model']}`, T = {row['requested']}, {row['pdk']} | {row['clock_mhz']:g} "
                     f"| {row['clock_mhz'] / row['cycles_per_token']:.2f} | {total['nand2']:,} "
                     f"| {total['area_um2'] / NAND2_DRIVE_1[row['pdk']]:,.0f} | {row['energy_j']['total'] * 1e9:,.1f} "
                     "| mapped and simulated |")
    return lines


def table_gating(rows: list[dict]) -> list[str]:
    return [f"## Clock gating, T = {AUTHORS}, ASAP7", "",
            "None: an enable is a multiplexer before each flip-flop, and RAMs are flip-flops. By enables: one of four or more",
            "gates their clock, and RAMs are latches. And idle blocks: a block that nothing is in gets no clock, as the chip is",
            "built. Idle: as many cycles after the last answer, in which nothing comes: what then switches in the gates is what",
            "isolating the operands of idle units could save.", "",
            *_table("clock gating", [(row["name"], row) for row in rows])]


def table_norms(rows: list[dict]) -> list[str]:
    return [f"## RangeNorm, LayerNorm, RMSNorm, T = {AUTHORS}, ASAP7", "", "Whole models, each trained with its norm.", "",
            *_table("norm", [(row["norm"], row) for row in rows]), "", "The norms alone:", "",
            "| norm | NAND2 | nJ a frame |", "| --- | --- | --- |",
            *(f"| {row['norm']} | {sum(block['nand2'] for name, block in row['area']['blocks'].items() if _norm(name)):,} "
              f"| {sum(joules for name, joules in row['energy_j']['blocks'].items() if _norm(name)) * 1e9:.2f} |"
              for row in rows)]


def _norm(name: str) -> bool:
    return name == "norm" or name.endswith("_norm")


def _scan(name: str) -> bool:
    return name.endswith("_y")


def table_functions(rows: list[dict]) -> list[str]:
    return [f"## Piecewise-linear functions against tables, T = {AUTHORS}, ASAP7", "",
            "Segments: SiLU in 17, exp in 11. Tables: of every input code, exact; of Ā for every state.", "",
            *_table("SiLU and exp", [(row["functions"], row) for row in rows])]


def table_equivalence(rows: list[dict]) -> list[str]:
    whole = [row for row in rows if row["functions"] == row["direct"]]
    proven = [row for row in rows if row["result"] == "proven"]
    return [f"## Formal equivalence of netlist and RTL, T = {AUTHORS}, ASAP7", "",
            "Every output and every next state of every different part, for all states and inputs, by SAT sweeping in ABC; the",
            "netlist is that of the figures above, its cells as the library's functions say. As written: functions proven equal",
            "to the Verilog with its operators and memories. The others are of products: they are proven equal to what Yosys",
            "lowers the Verilog to, which is not proven, but tested by the runs above. A cycle is one step: a clock gate is its",
            "enable, a latch opens behind the edge. Setup and hold are taken as met.", "",
            f"{len(proven)} of {len(rows)} parts proven, {len(whole)} of them as written alone; "
            f"{sum(row['direct'] for row in rows):,} of {sum(row['functions'] for row in rows):,} functions as written. "
            f"Limit: {PROOF_SECONDS} s for each of the two.", "",
            "| part | cells | registers | latches | functions | as written | s | result |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *(_proof(row) for row in rows)]


def table_laid(rows: list[dict]) -> list[str]:
    lines = ["## A block laid out", "",
             "By `--layout`, the largest block of at most 10,000 cells of a small model with random weights, not of MARS: block",
             "level, no pads, no seal ring. Signals are on Metal2 to Metal5, supplies on TopMetal1. Our own code checks the GDS:",
             "connections, widths, spacings, areas, enclosures. The decks are the foundry's, in KLayout 0.30.0, where they",
             "ask for 0.30.3. Antenna and density rules were not run. Inputs that data reached too early got buffers,",
             "and the nets were routed again.", "",
             "![The layout](layout.png)", "",
             "| block | cells | buffers of clock and reset | for hold | µm × µm | nets | wire, mm | vias | µm a sink "
             "| assumed before |", "| --- " * 10 + "|"]
    lines += [f"| {row['block']} | {row['cells']:,} | {row['tree_buffers']:,} | {row['hold_buffers']:,} "
              f"| {row['width_um']:.0f} × {row['height_um']:.0f} | {row['nets']:,} | {row['wire_um'] / 1000:.1f} "
              f"| {row['vias']:,} | {row['um_per_sink']:.1f} | {row['assumed_um_per_sink']:.1f} |" for row in rows]
    for row in rows:
        lines += ["", f"| {row['block']}, {row['pdk']}, {row['clock_mhz']:g} MHz | before placement | wires and clock tree |",
                  "| --- | --- | --- |"]
        for corner, found in row["timing"].items():
            before = row["timing_before"][corner]
            lines += [f"| {kind}, {corner} | {before[f'{kind}_ns']:+.3f} ns | {found[f'{kind}_ns']:+.3f} ns |"
                      for kind in ("setup", "hold")]
        used = [f"{row['energy'][name] * 1e9:.2f} nJ" for name in ("assumed_j", "routed_j")]
        lines.append(f"| a sequence of random inputs | {used[0]} | {used[1]} |")
        lines += ["", f"By the decks: {row['decks']['items']:,} items of the main table; the netlists "
                  + ("match." if row["decks"]["matches"] else "do not match.")] if "decks" in row else []
    return lines


def _proof(row: dict) -> str:
    where = f", first {row['where']}" if row["where"] else ""
    return (f"| {', '.join(row['blocks'])} | {row['cells']:,} | {row['registers']:,} | {row['latches']:,} | {row['functions']:,} "
            f"| {row['direct']:,} | {row['seconds']} | {row['result']}{where} |")


HEADING = ["# The chip in open libraries", "",
           "Written by `python -m benchmarks.asic`; the same figures are in `asic.json`. What they are and are not:", "",
           "- Area is that of the cells alone, by Yosys and ABC, in the typical library; NAND2 is its smallest. RAMs are",
           "  latches: IHP's SRAM macros are read too slowly for a pipeline at these clocks, but not for an engine at 80 MHz.",
           "- Place and route of the chip was not run here; of a block it was, below. Timing is OpenSTA's before placement, with",
           "  ideal clock and reset, and wires as capacitance: every input carries the wire of Donath's mean connection (Rent",
           "  0.6, 5,000 cells, 70 % filled).",
           "- Gate level: our simulator of 64 streams, cells by the library's functions, registers from random bits. Every gate",
           "  takes one step of time, so glitches are in the toggles, as many as with equal delays.",
           "- Energy: toggles of one frame period with a full pipeline, the mean of 64 streams; internal energy from the",
           "  library's tables at a typical slew, C·V²/2 of pins and wires, leakage, and an estimated clock tree: a buffer for",
           "  16 sinks.",
           "- A multiplication is one of the model's; where T = 1 those with weights are adders.",
           "- ASAP7 is predictive: nobody manufactures it, and it has one corner here. Inputs are MARS test frames.",
           "- In ASAP7 the chips at T = 1, 20 and 58, of `mars_paper` and of narrower numbers are of this design. Others of",
           "  the first two tables, and beside the authors', were measured before convolutions of more than 64 cycles",
           "  got a register before their taps and, at T = 58, norms one lane in place of two, and x, z and δ whole sums in",
           "  place of a memory of partial ones. Clock gating, norms, functions, the block laid out and the proof were",
           "  measured before two more changes: Ā from tables of δ where these are small, and two trees of 5 to 8 products in",
           "  place of one."]


def main(names: list[str]) -> None:
    artifact = load(MODELS / MODEL)
    sections.write("asic", HEADING, {
        **{process: (partial(points, artifact, process), table_points) for process in CLOCKS},
        "clock": (partial(asic_clock.measure, artifact), asic_clock.table),
        "beside": (partial(beside, artifact), table_beside), "gating": (partial(gating, artifact), table_gating),
        "narrower": (partial(asic_narrow.narrower, artifact, partial(point, cycles=AUTHORS, process="asap7")),
                     partial(asic_narrow.table, scan=_scan)),
        "engines": (partial(asic_engine.engines, artifact, measured), asic_engine.table),
        "norms": (norms, table_norms), "functions": (partial(functions, artifact), table_functions),
        "layout": (laid, table_laid), "equivalence": (partial(proofs, artifact), table_equivalence),
    }, names, artifact)


if __name__ == "__main__":
    sys.exit(guarded("benchmarks.asic", lambda: main(sys.argv[1:])))
