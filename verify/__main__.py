"""Verifies, and writes docs/verification.json and docs/verification.md. `make verify` runs all sections; `python -m verify
SECTION …` only some, and keeps the others' figures; `python -m verify SECTION ROW …` only those rows of a section, such as
`mutants "whole model"`, where it has rows that are measured one by one."""

import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks import sections
from emamba.artifact import load
from emamba.base.door import guarded
from emamba.base.errors import Mismatch, SettingError
from emamba.base.formats import IntFormat, Rounding
from emamba.ops import Scan
from emamba.piecewise import fit
from sim import cases
from sim.models import random_artifact

from . import (
    arithmetic,
    certificate,
    coverage,
    depths,
    equality,
    faults,
    fuzz,
    judge,
    page,
    planted,
    shapes,
    targets,
    traffic,
    upsets,
)
from .block_rules import rules
from .prove import Bench, prove
from .stream_rules import primitives

MODEL = Path("models/mars")
SECONDS = 300
"""Time limit of a proof."""
PROOFS = Path("build/proofs")
"""Where proofs of earlier runs are found again, by their circuit."""
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
    "head_scan-3-3-3-2-2-2",
    "head_scan-12-4-2-3-3-2",
    "depthwise-5-3-5-2",
    "smooth-5-3-1",
    "multiply-5-3",
    "add-5-3",
    "pool-5-3-False",
    "pool-5-3-True",
    "lookup-11-5-2",
)
MODELS = ("mars", "mars_int8", "mars_random", "mars_random_int8")
RATES = (1, 4, 20, 64, 128)
MUTANTS, WHOLE, SHAPES = 24, 60, 25
TRAFFIC = 25_000
"""Operations on each design."""
FUZZ = {"artifacts": 50_000, "configurations": 10_000, "data files": 6000}

Jobs = dict[str, Callable[[], dict]]
"""Rows of a section by name, and what measures them."""


def _proofs(benches: dict[str, Bench]) -> Jobs:
    return {
        name: lambda name=name, bench=bench: {"property": name} | asdict(prove(bench, SECONDS, PROOFS))
        for name, bench in benches.items()
    }


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


def _certificates() -> list[dict]:
    rows = []
    for model in MODELS:
        for name, op in load(Path("models") / model).operators.items():
            if isinstance(op, Scan):
                rows.append(_timed(lambda op=op: certificate.check(op), model=model, scan=name))
    return rows


def _depths() -> list[dict]:
    artifact = load(MODEL)
    return [_timed(lambda rate=rate: depths.check(artifact, rate), rate=rate) for rate in RATES]


def _mutants() -> Jobs:
    counts = dict.fromkeys(targets.BLOCKS, MUTANTS) | {targets.WHOLE: WHOLE}
    return {
        name: lambda name=name, count=count: {"block": name} | asdict(judge.score(name, count))
        for name, count in counts.items()
    }


def _fuzz() -> list[dict]:
    return [_timed(lambda kind=kind, count=count: fuzz.fuzz(kind, count), kind=kind) for kind, count in FUZZ.items()]


def _abuse() -> Jobs:
    jobs = {
        "resets": faults.resets,
        "stalls": faults.stalls,
        "undefined": lambda: faults.undefined(random_artifact(faults.MODEL), faults.CYCLES_PER_TOKEN),
        "upsets": faults.upsets,
        "parity": upsets.run,
        "soak": lambda: faults.soak("emamba-odd", 4),
    }
    return {name: lambda name=name, run=run: _timed(run, kind=name, on=faults.MODEL) for name, run in jobs.items()}


def _traffic() -> Jobs:
    return {name: lambda name=name: _timed(lambda: traffic.run(name, TRAFFIC), design=name) for name in traffic.DESIGNS}


def _coverage() -> Jobs:
    return {name: lambda name=name: _timed(lambda: coverage.toggles(name)) for name in (*targets.BLOCKS, targets.WHOLE)}


def measured(only: list[str]) -> dict[str, Callable[[], object]]:
    """What measures each section; of `only` these rows, if it names any."""

    def rows(section: str, jobs: Jobs) -> list[dict]:
        kept = {next(iter(row.values())): row for row in sections.figures("verification").get(section, [])}
        if unknown := set(only) - set(jobs):
            raise SettingError(f"section '{section}' has no row '{min(unknown)}'; choose some of {', '.join(jobs)}")
        for name in only or jobs:
            kept[name] = jobs[name]()
            print(f"  {name}: {kept[name]}", file=sys.stderr, flush=True)
        return [kept[name] for name in jobs if name in kept]

    return {
        "planted": lambda: planted.run(load(MODEL)),
        "streams": lambda: rows("streams", _proofs(primitives())),
        "blocks": lambda: rows("blocks", _proofs(_blocks())),
        "definitions": lambda: rows("definitions", _proofs(_definitions())),
        "units": _units,
        "certificates": _certificates,
        "depths": _depths,
        "arithmetic": lambda: _timed(arithmetic.score),
        "mutants": lambda: rows("mutants", _mutants()),
        "fuzz": _fuzz,
        "shapes": lambda: _timed(lambda: {"models": shapes.run(SHAPES)}),
        "abuse": lambda: rows("abuse", _abuse()),
        "traffic": lambda: rows("traffic", _traffic()),
        "coverage": lambda: rows("coverage", _coverage()),
        "states": coverage.states,
        "points": coverage.points,
    }


def main(names: list[str]) -> None:
    known = list(measured([]))
    only = names[1:] if names[:1] and names[0] in known and not set(names[1:]) & set(known) else []
    found = page.rows(sections.measure("verification", measured(only), names[:1] if only else names, load(MODEL)))
    sections.write_page("verification", page.page(found))
    if bad := [row.property for row in found if not row.holds]:
        raise Mismatch(f"{len(bad)} of {len(found)} properties do not hold, the first: {bad[0]} (see docs/verification.md)")


if __name__ == "__main__":
    sys.exit(guarded("verify", lambda: main(sys.argv[1:])))
