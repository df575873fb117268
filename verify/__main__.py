# amaranth: UnusedElaboratable=no
"""Verifies, and writes docs/verification.json and docs/verification.md. `make verify` runs all sections; `python -m verify
SECTION …` only some, and keeps the others' figures."""

import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks import sections
from emamba.artifact import load
from emamba.errors import EmambaError
from emamba.formats import IntFormat, Rounding
from emamba.operators import Scan
from emamba.piecewise import fit
from sim import cases
from sim.models import random_artifact

from . import arithmetic, certificate, coverage, depths, equality, faults, fuzz, mutants, planted, shapes
from .block_rules import rules
from .prove import Bench, prove
from .stream_rules import primitives

MODEL = Path("models/mars")
SECONDS = 1800
"""Time limit of a proof."""
PROOFS = Path("build/proofs")
"""Where those of earlier runs are found again, by their circuit."""
BLOCKS = (
    "linear-5-7-1-7",
    "linear-17-5-4-2",
    "linear-20-6-20-2-dyadic",
    "linear-9-4-3-2-pairs",
    "linear-7-5-7-5-constants",
    "conv1d-5-3-2-3",
    "conv1d-5-3-2-2",
    "range_norm-5-2-12",
    "range_norm-1-1-8",
    "layer_norm-2-2-8",
    "layer_norm-5-2-12",
    "activation-silu",
    "activation-silu-table",
    "scan-1-1-1-1",
    "scan-2-3-2-3",
    "scan-5-4-2-2",
    "scan-2-3-2-3-table",
    "multiply-5-3",
    "add-5-3",
    "pool-5-3-False",
    "pool-5-3-True",
    "lookup-11-5-2",
)
MODELS = ("mars", "mars_int8", "mars_random", "mars_random_int8")
RATES = (1, 4, 20, 64, 128)
MUTANTS, WHOLE, SHAPES = 24, 60, 25
FUZZ = {"artifacts": 8000, "configurations": 7000, "data files": 5000}

HEADING = """\
# Verification

Written by `make verify`; the same figures are in `verification.json`. Times are those of the run, on whatever else the machine
did, and say nothing but how much work a check is. What a section does and why that is enough stands at the head of its file in
`verify/`. `make test` runs a short form of some.""".splitlines()


def _proofs(benches: dict[str, Bench]) -> list[dict]:
    rows = []
    for name, bench in benches.items():
        rows.append({"property": name} | asdict(prove(bench, SECONDS, PROOFS)))
        print(f"  {name}: {rows[-1]['result']}, {rows[-1]['seconds']} s", file=sys.stderr, flush=True)
    return rows


def _proof_table(title: str, text: list[str], method: str, bound: Callable[[str], str]):
    def table(rows: list[dict]) -> list[str]:
        proven = sum(row["result"] == "proven" for row in rows)
        unknown = sum(row["result"] == "unknown" for row in rows)
        lines = [
            f"## {title}",
            "",
            *text,
            "",
            f"{proven} of {len(rows)} proven, {unknown} unknown, {len(rows) - proven - unknown} broken.",
            "",
            "| property | method | bound | time, s | result |",
            "| --- | --- | --- | --- | --- |",
        ]
        return lines + [
            f"| {row['property']} | {method} | {bound(row['property'])} | {row['seconds']:.1f} | {row['result']} |"
            for row in rows
        ]

    return table


def _blocks() -> dict[str, Bench]:
    return {
        f"{name}, {'progress' if fair else 'rules and order'}": rules(cases.BLOCKS[name](), fair)
        for name in BLOCKS
        for fair in (False, True)
    }


def _definitions() -> dict[str, Bench]:
    small = IntFormat(8, True, 5)
    benches = equality.requantizers()
    for name, o in (("silu", small), ("softplus", IntFormat(8, True, 4)), ("exp", IntFormat(8, True, 7))):
        for rounding in (Rounding.HALF_UP, Rounding.TRUNCATE):
            benches[f"{name}, 17 segments, INT8, {rounding}"] = equality.PiecewiseLinear(
                fit(name, small, o, 17, rounding=rounding)
            )
    benches["two packed products of 4 bits"] = equality.PackedProduct(4)
    return benches


def _timed(run: Callable[[], dict], **facts) -> dict:
    start = time.perf_counter()
    result = run()
    return facts | result | {"seconds": round(time.perf_counter() - start, 1)}


def _units() -> list[dict]:
    artifact, rows = load(MODEL), []

    def compared(found: tuple) -> dict:
        return {"cases": found[0], "different": found[1]}

    for name, op in equality.activations(artifact).items():
        rows.append(
            _timed(
                lambda op=op: compared(equality.every_code(op)),
                property=f"{name} of {artifact.name}, piecewise linear",
                bound=f"every code of {op.i}",
            )
        )
    rows.append(
        _timed(lambda: compared(equality.every_token()), property="RangeNorm of two channels", bound="every token of INT8")
    )
    rows.append(
        _timed(
            lambda: compared(equality.every_span()),
            property="RangeNorm of 20 channels, table path",
            bound="every R of INT12, four tokens each",
        )
    )
    rows.append(
        _timed(lambda: compared(equality.every_product(6)), property="two packed products of 6 bits", bound="every operand")
    )
    for rounding in Rounding:
        for saturates in (True, False):

            def walk(rounding=rounding, saturates=saturates) -> dict:
                found = equality.every_transition(equality.small_scan(rounding, saturates=saturates))
                return {"cases": found["pairs"], "different": found["different"], "states": found["states"]}

            rows.append(
                _timed(
                    walk,
                    property=f"scan lane, {rounding}, state {'saturates' if saturates else 'certified'}",
                    bound="every state that can be reached with every input",
                )
            )
    return rows


def _units_table(rows: list[dict]) -> list[str]:
    lines = [
        "## Units over every input",
        "",
        "The Verilated hardware against `emamba.operators`, on all inputs there are.",
        "",
        "| property | bound | cases | different | time, s |",
        "| --- | --- | --- | --- | --- |",
    ]
    return lines + [
        f"| {row['property']} | {row['bound']} | {row['cases']:,} | {row['different']} | {row['seconds']} |" for row in rows
    ]


def _certificates() -> list[dict]:
    rows = []
    for model in MODELS:
        for name, op in load(Path("models") / model).operators.items():
            if isinstance(op, Scan):
                rows.append(_timed(lambda op=op: certificate.check(op), model=model, scan=name))
    return rows


def _certificates_table(rows: list[dict]) -> list[str]:
    lines = [
        "## No state overflows",
        "",
        "Largest |h_wide| and |h| that one token can make of a state within the certificate's bounds: for every code of δ, u",
        "and B and each A of the model. They stay within the bounds, so that these hold for any input of any length; and the",
        "bounds are met, so that none is larger than it must be.",
        "",
        "| model | scan | cases | reached, bound, limit of h_wide | reached, bound, limit of h | holds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    return lines + [
        f"| {row['model']} | {row['scan']} | {row['cases']:,} | {row['widest']:,}, {row['bound']:,}, {row['limit']:,} "
        f"| {row['deepest']:,}, {row['stored']:,}, {row['limit_stored']:,} | {'yes' if row['holds'] else 'NO'} |"
        for row in rows
    ]


def _depths() -> list[dict]:
    artifact = load(MODEL)
    return [_timed(lambda rate=rate: depths.check(artifact, rate), rate=rate) for rate in RATES]


def _depths_table(rows: list[dict]) -> list[str]:
    lines = [
        "## FIFO depths",
        "",
        "Each FIFO of the shipped MARS model, stepped on its own through all pushes and pops of the schedule. Too shallow: a",
        "push waits. Too deep: one place less would do.",
        "",
        "| cycles a token | FIFOs | pushes | too shallow | too deep |",
        "| --- | --- | --- | --- | --- |",
    ]
    return lines + [f"| {row['rate']} | {row['fifos']} | {row['pushes']:,} | {row['shallow']} | {row['loose']} |" for row in rows]


def _planted_table(rows: list[dict]) -> list[str]:
    lines = [
        "## Planted faults",
        "",
        "One line of the source is replaced; the named check must notice.",
        "",
        "| fault | check | caught |",
        "| --- | --- | --- |",
    ]
    return lines + [f"| {row['fault']} | {row['check']} | {'yes' if row['caught'] else 'NO'} |" for row in rows]


def _mutants() -> list[dict]:
    rows = []
    for name in (*mutants.BLOCKS, *mutants.WHOLE):
        rows.append({"block": name} | asdict(mutants.score(name, WHOLE if name in mutants.WHOLE else MUTANTS)))
        print(f"  {name}: {rows[-1]['killed']} of {rows[-1]['mutants']}", file=sys.stderr, flush=True)
    return rows


def _mutants_table(rows: list[dict]) -> list[str]:
    total, killed, equal = (sum(row[key] for row in rows) for key in ("mutants", "killed", "equal"))
    lines = [
        "## Mutants of the hardware",
        "",
        f"{total} changes of single wires and cells, by Yosys `mutate`: {killed} killed, {equal} proven to change nothing",
        f"that can be seen; {killed / max(1, total - equal):.1%} of the others are killed. By a wrong value, a wrong cycle, "
        "under stalls,",
        "after a reset, or because the design stops.",
        "",
        "| block | mutants | killed | proven equal | alive | by | time, s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        kills = ", ".join(f"{kind} {count}" for kind, count in sorted(row["kills"].items()))
        lines.append(
            f"| {row['block']} | {row['mutants']} | {row['killed']} | {row['equal']} | {len(row['alive'])} | {kills} "
            f"| {row['seconds']:.0f} |"
        )
    alive = [f"- {row['block']}: `{text}`" for row in rows for text in row["alive"]]
    return [*lines, "", "Neither killed nor proven equal:", "", *alive] if alive else lines


def _arithmetic_table(row: dict) -> list[str]:
    lines = [
        "## Mutants of the integer arithmetic",
        "",
        f"{row['mutants']} single changes of `emamba/arithmetic.py`: {row['killed']} are killed by a second computation in exact",
        f"fractions, {row['killed'] / row['mutants']:.1%}.",
    ]
    return [*lines, "", "Alive:", "", *(f"- {text}" for text in row["alive"])] if row["alive"] else lines


def _fuzz() -> list[dict]:
    return [_timed(lambda kind=kind, count=count: fuzz.fuzz(kind, count), kind=kind) for kind, count in FUZZ.items()]


def _fuzz_table(rows: list[dict]) -> list[str]:
    lines = [
        "## Mutated files",
        "",
        f"{sum(row['cases'] for row in rows):,} mutated files, with a limit of {fuzz.SECONDS} s and {fuzz.MEMORY >> 30} GB each. "
        "Refused: with one sentence. Loaded:",
        "what loads is saved, loaded, scheduled and run. Faults: anything else.",
        "",
        "| kind | cases | refused | loaded | faults | time, s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['kind']} | {row['cases']:,} | {row['refused']:,} | {row['loaded']:,} | {len(row['faults'])} "
        f"| {row['seconds']:.0f} |"
        for row in rows
    ]
    faults = [f"- {row['kind']}, {text}" for row in rows for text in row["faults"]]
    return [*lines, "", *faults[:50]] if faults else lines


def _abuse() -> dict:
    return {
        "resets": faults.resets(),
        "stalls": faults.stalls(),
        "undefined": faults.undefined(random_artifact(faults.MODEL), faults.CYCLES_PER_TOKEN),
        "upsets": faults.upsets(),
        "soak": faults.soak(random_artifact("emamba-odd"), 4),
    }


def _abuse_table(row: dict) -> list[str]:
    resets, upsets, undefined, soak = row["resets"], row["upsets"], row["undefined"], row["soak"]
    worst = sum(rate["wrong"] for rate in row["stalls"])
    return [
        "## Abuse",
        "",
        f"On the small model {faults.MODEL}, except where another is named.",
        "",
        "| what | how much | wrong |",
        "| --- | --- | --- |",
        f"| a reset, then other frames | in each of {resets['cycles']} cycles, with and without stalls | {resets['wrong']} |",
        f"| stalls on both ports | {', '.join(str(rate['percent']) for rate in row['stalls'])} % of the cycles, 3 runs each "
        f"| {worst} |",
        f"| X in every register and written memory at power-up, in Icarus | {undefined['beats']} beats, under stalls "
        f"| {undefined['undefined']} undefined, {'right' if undefined['right'] else 'WRONG'} |",
        f"| tokens in one run, {soak['model']} | {soak['tokens']:,} tokens, {soak['cycles']:,} cycles, SHA-256 {soak['digest']}… "
        f"| {'equal to the integer model' if soak['equal'] else 'DIFFERENT'} |",
        "",
        f"{upsets['upsets']} upsets, each of one bit for one cycle in the second of eight frames: {upsets['no effect']} change "
        f"nothing, {upsets['passing']} change up to {upsets['longest']} frames and pass, {upsets['until reset']} last until a "
        f"reset; {upsets['wrong after a reset']} are still wrong after one. There is no parity, and no state machine finds its "
        "place again by itself: an upset of a counter or a FIFO's pointer needs a reset.",
    ]


def _coverage() -> dict:
    return {"blocks": [coverage.toggles(name) for name in (*mutants.BLOCKS, *mutants.WHOLE)], "points": coverage.points()}


def _coverage_table(row: dict) -> list[str]:
    lines = [
        "## Coverage",
        "",
        "Of the generated Verilog, by Verilator, under the mutants' benches.",
        "",
        "| block | lines | toggled bits | signals with most bits that never moved |",
        "| --- | --- | --- | --- |",
    ]
    for block in row["blocks"]:
        shares = [f"{hit} of {total} ({hit / max(1, total):.1%})" for hit, total in (block["line"], block["toggle"])]
        lines.append(f"| {block['block']} | {shares[0]} | {shares[1]} | {', '.join(f'`{name}`' for name in block['holes'])} |")
    return [
        *lines,
        "",
        "Points of function in the small models' benches:",
        "",
        "| point | times |",
        "| --- | --- |",
        *(f"| {name} | {count:,} |" for name, count in row["points"].items()),
    ]


def _shapes_table(rows: list[dict]) -> list[str]:
    wrong = sum(not row["right"] or row["undefined"] for row in rows)
    return [
        "## Random shapes",
        "",
        f"{len(rows)} models of random shape, form, norm, pool and folding, from random float weights through the quantizer to",
        f"Verilog in Icarus, with X at power-up and under stalls: {sum(row['beats'] for row in rows):,} beats, {wrong} models",
        "that differ from the integer model or show an X.",
    ]


SECTIONS: dict[str, sections.Section] = {
    "planted": (lambda: planted.run(load(MODEL)), _planted_table),
    "streams": (
        lambda: _proofs(primitives()),
        _proof_table(
            "Stream primitives",
            [
                "Order: valid stays, the payload holds, and the n-th item that leaves is the n-th that entered, for every n;",
                "nothing is lost, doubled, reordered or made up. Progress: with partners that wait at most one cycle, something",
                "moves within a bound. From any state of the registers, after one cycle of reset.",
            ],
            "PDR",
            lambda name: "none",
        ),
    ),
    "blocks": (
        lambda: _proofs(_blocks()),
        _proof_table(
            "Interfaces of the blocks",
            [
                "The same for the output of every block, for any data: products and requantized values are free. Tokens are told",
                "apart by `first` and `last`. Named as in `sim/cases.py`.",
            ],
            "PDR",
            lambda name: "none",
        ),
    ),
    "definitions": (
        lambda: _proofs(_definitions()),
        _proof_table(
            "Units against their definition",
            ["For every input, against a definition that is not the code that both sides share."],
            "SAT",
            lambda name: "complete: no loop",
        ),
    ),
    "units": (_units, _units_table),
    "certificates": (_certificates, _certificates_table),
    "depths": (_depths, _depths_table),
    "arithmetic": (arithmetic.score, _arithmetic_table),
    "mutants": (_mutants, _mutants_table),
    "fuzz": (_fuzz, _fuzz_table),
    "shapes": (lambda: shapes.run(SHAPES), _shapes_table),
    "abuse": (_abuse, _abuse_table),
    "coverage": (_coverage, _coverage_table),
}


def main(names: list[str]) -> None:
    sections.write("verification", HEADING, SECTIONS, names)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except EmambaError as error:
        sys.exit(f"verify: {error}")
