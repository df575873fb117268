"""Runs Vivado on a target's scripts where it is on PATH; else says what to run."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from emamba.base import processes
from emamba.base.errors import ToolFailed

UNRUN = "not run in Vivado here; no UltraScale+ timing or power is known"


def templates(package: str) -> Environment:
    """The templates beside a target's modules."""
    return Environment(loader=PackageLoader(package, "."), undefined=StrictUndefined, keep_trailing_newline=True,
                       trim_blocks=True, autoescape=False)


def run(folder: Path, scripts: Sequence[str]) -> list[str]:
    """Runs the scripts, each in its own folder below `folder`, and returns notes for the report; none where Vivado is missing."""
    vivado = shutil.which("vivado")
    places = [(folder / name).parent for name in scripts]
    if vivado is None:
        for place in dict.fromkeys(places):
            commands = " and ".join(f"vivado -mode batch -source {Path(name).name}"
                                    for name, its in zip(scripts, places, strict=True) if its == place)
            print(f"Vivado is not on PATH: in {place}, run {commands}")
        return []
    for name, place in zip(scripts, places, strict=True):
        log = Path(name).with_suffix(".log").name
        command = [vivado, "-mode", "batch", "-nojournal", "-log", log, "-source", Path(name).name]
        to = None if sys.stdout.isatty() else subprocess.DEVNULL
        process = processes.run(command, cwd=place, stdout=to, stderr=None)
        if process.returncode:
            raise ToolFailed(f"Vivado ended with status {process.returncode} in {name}: see {place / log}")
    return [f"Vivado ran on {', '.join(scripts)}: its own reports here hold utilization and timing"]
