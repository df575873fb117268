"""`python -m rtl.build TARGET`: an artifact becomes a target's files. Exit status 0 only where all that was asked for is done."""

import argparse
import json
import math
import sys
from bisect import bisect_left
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

from asic import target as asic
from boards.zcu102 import target as zcu102
from emamba.artifact import Artifact, load
from emamba.certificate import certify
from emamba.errors import EmambaError
from emamba.files import check_replaceable, write_file, write_folder
from emamba.graph import build_graph
from emamba.operators import Scan

from .accelerator import Accelerator
from .emit import to_verilog
from .schedule import MAX_CYCLES, REALIZATION, Schedule, fold

CYCLES_PER_TOKEN = 20


def write_verilog(folder: Path, schedule: Schedule, clock_mhz: float | None) -> tuple[dict, list[str]]:
    (folder / "top.v").write_text(to_verilog(Accelerator(schedule)), encoding="utf-8")
    return {}, ["Verilog only: no tool has estimated resources or timing"]


TARGETS = {"verilog": SimpleNamespace(CLOCK_MHZ=None, LEAST_CLOCK_MHZ=0.0, write=write_verilog), "zcu102": zcu102, "asic": asic}
"""A target has a default clock in MHz, or None, and the least that it can do; `write(folder, schedule, clock_mhz)`, which returns
resources and notes for the report; and perhaps `run(folder)`, which runs tools on the finished folder and returns the notes that
then hold instead."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise EmambaError(f"{message} (see --help)")


def main(arguments: list[str] | None = None) -> int:
    """Builds a target; every failure is one sentence on standard error."""
    try:
        build(_parser().parse_args(arguments))
    except EmambaError as error:
        print(f"rtl.build: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("rtl.build: interrupted; nothing half-written is left", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("python -m rtl.build", description="Turns an artifact into the files of a target.",
                     epilog="example: python -m rtl.build zcu102 --artifact models/mars --cycles-per-token 20")
    parser.add_argument("target", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--artifact", type=Path, default=Path("models/mars"), help="the artifact's folder (default: models/mars)")
    parser.add_argument("--out", type=Path, help="folder to write (default: build/TARGET)")
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument("--cycles-per-token", type=int, metavar="T",
                      help=f"cycles a token may take: few are fast, many are small (default: {CYCLES_PER_TOKEN})")
    rate.add_argument("--multipliers", type=int, metavar="N", help="the fastest design with at most N multipliers")
    rate.add_argument("--frames-per-second", type=float, metavar="F", help="the smallest design that does F sequences a second")
    parser.add_argument("--clock-mhz", type=float, metavar="C", help="clock of --frames-per-second and of the timing constraints "
                        "(default: " + ", ".join(f"{target.CLOCK_MHZ:g} for {name}" for name, target in TARGETS.items()
                                                 if target.CLOCK_MHZ) + ")")
    return parser


def build(options: argparse.Namespace) -> None:
    if options.target not in TARGETS:
        raise EmambaError(f"there is no target '{options.target}'; choose one of {', '.join(TARGETS)}")
    target = TARGETS[options.target]
    clock_mhz = _clock(options, target.CLOCK_MHZ, target.LEAST_CLOCK_MHZ)
    out = (options.out or Path("build") / options.target).resolve()
    check_replaceable(out, "report.json")
    artifact = load(options.artifact)
    schedule = Schedule(artifact, cycles_per_token(artifact, options))
    _progress(f"{artifact.name}: {schedule.period} cycles per token, {schedule.multipliers} multipliers; {options.target} …")
    certificates = {name: certify(op) for name, op in artifact.operators.items() if isinstance(op, Scan)}
    caveats = [f"{name}: no certificate excludes that the state saturates"
               for name, certificate in certificates.items() if not certificate.holds]
    with write_folder(out, "report.json") as temporary:
        resources, notes = target.write(temporary, schedule, clock_mhz)
        report = schedule.report() | {
            "target": options.target, "artifact": {"name": artifact.name, "digest": artifact.digest}, "clock_mhz": clock_mhz,
            "certificate": {name: asdict(certificate) for name, certificate in certificates.items()}, "resources": resources,
            "notes": [*notes, *caveats],
        }
        (temporary / "report.json").write_text(_text(report), encoding="utf-8")
    if hasattr(target, "run") and (notes := target.run(out)):
        report["notes"] = [*notes, *caveats]
        write_file(out / "report.json", lambda path: path.write_text(_text(report), encoding="utf-8"))
    print(f"{options.target} of {artifact.name}: {schedule.period} cycles per token, {schedule.cycles_per_frame} per frame, "
          f"latency {schedule.latency} cycles, {schedule.multipliers} multipliers, utilization {report['utilization']:.1%}")
    print(f"{options.out or Path('build') / options.target}: {', '.join(sorted(path.name for path in out.iterdir()))}")
    for note in report["notes"]:
        print(f"note: {note}")


def cycles_per_token(artifact: Artifact, options: argparse.Namespace) -> int:
    """T, as given or as what the other options ask for."""
    if options.multipliers is not None:
        return _for_multipliers(artifact, options.multipliers)
    if options.frames_per_second is not None:
        return _for_rate(artifact, options.frames_per_second, options.clock_mhz)
    return CYCLES_PER_TOKEN if options.cycles_per_token is None else options.cycles_per_token


def _for_multipliers(artifact: Artifact, limit: int) -> int:
    """The smallest T that needs at most `limit` multipliers; more cycles never need more multipliers."""
    nodes = build_graph(artifact.config)[1:]

    def needed(cycles: int) -> int:
        return sum(fold(artifact, node, cycles, REALIZATION).multipliers for node in nodes)

    every = range(1, MAX_CYCLES + 1)
    least = needed(MAX_CYCLES)
    if limit < least:
        slowest = every[bisect_left(every, -least, key=lambda cycles: -needed(cycles))]
        raise EmambaError(f"--multipliers {limit}: this model needs at least {least}, which do at {slowest} cycles per token")
    return every[bisect_left(every, -limit, key=lambda cycles: -needed(cycles))]


def _for_rate(artifact: Artifact, frames_per_second: float, clock_mhz: float | None) -> int:
    """The largest T at which the clock gives `frames_per_second`."""
    if clock_mhz is None:
        raise EmambaError("--frames-per-second needs --clock-mhz, the clock that the design will run at")
    if not (math.isfinite(frames_per_second) and frames_per_second > 0):
        raise EmambaError(f"--frames-per-second must be a number above 0, not {frames_per_second:g}")
    tokens = artifact.config.tokens
    cycles = math.floor(min(clock_mhz * 1e6 / (frames_per_second * tokens), MAX_CYCLES))
    if cycles < 1:
        most = clock_mhz * 1e6 / tokens
        raise EmambaError(f"--frames-per-second {frames_per_second:g}: {clock_mhz:g} MHz give at most {most:g}, a cycle for each "
                          f"of {tokens} tokens; ask for less or name a faster clock")
    return cycles


def _clock(options: argparse.Namespace, default: float | None, least: float) -> float | None:
    """The clock in MHz, checked; None where nothing depends on one."""
    if options.clock_mhz is None:
        return default
    if not (math.isfinite(options.clock_mhz) and options.clock_mhz > 0):
        raise EmambaError(f"--clock-mhz must be a number above 0, not {options.clock_mhz:g}")
    if options.clock_mhz < least:
        raise EmambaError(f"--clock-mhz {options.clock_mhz:g}: the target {options.target} has no clock below {least:g} MHz")
    if default is None and options.frames_per_second is None:
        raise EmambaError(f"--clock-mhz changes nothing in the target {options.target}; it goes with --frames-per-second")
    return options.clock_mhz


def _text(report: dict) -> str:
    return json.dumps(report, indent=1, ensure_ascii=False) + "\n"


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
