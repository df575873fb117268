"""Runs a flow of OpenROAD from a written folder to GDS where it is on PATH. Not run here."""

import os
import shutil
import sys
from pathlib import Path

from emamba.base import processes
from emamba.base.errors import ToolFailed

from .netlist.pdk import PATH, Pdk

DESIGN = "emamba"


def netlist_first(folder: Path | str) -> list[str]:
    """Options with which LibreLane takes the folder's netlist in place of what it would synthesize."""
    return ["--skip", "Yosys.Synthesis", "--initial-state-element-override", f"nl={folder}/netlist.v"]


def run(folder: Path, pdk: Pdk) -> list[str]:
    """Writes `layout` in the folder, by LibreLane if its command is on PATH, else by OpenROAD-flow-scripts if FLOW_HOME names
    their folder `flow`, as they themselves call it; returns notes for the report, none where there is no OpenROAD."""
    if shutil.which("openroad") is None:
        print(f"OpenROAD is not on PATH: {folder / 'README.txt'} says what to run")
        return []
    if not PATH.fullmatch(str(folder)):
        return [f"place and route: not run here, since the path {folder} has characters that Make would take for its own"]
    target, scripts, environment = folder / "layout", os.environ.get("FLOW_HOME"), {}
    if pdk.flows.librelane and shutil.which("librelane"):
        process, cells = pdk.flows.librelane
        command = ["librelane", "--pdk", process, "--scl", cells, "--save-views-to", str(target), *netlist_first(folder),
                   "config.yaml"]
        gds = target / "gds" / "top.gds"
    elif pdk.flows.openroad and scripts:
        command = ["make", f"--file={Path(scripts) / 'Makefile'}", f"DESIGN_CONFIG={folder / 'config.mk'}"]
        environment = {"WORK_HOME": str(target)}
        gds = target / "results" / pdk.flows.openroad / DESIGN / "base" / "6_final.gds"
    else:
        return ["place and route: not run here; OpenROAD is on PATH, but neither LibreLane nor, named by FLOW_HOME, "
                "OpenROAD-flow-scripts for this process"]
    target.mkdir(exist_ok=True)
    with (folder / "layout.log").open("w") as log:
        to = None if sys.stdout.isatty() else log
        done = processes.run(command, cwd=folder, env=os.environ | environment, stdout=to, stderr=None)
    if done.returncode or not gds.is_file():
        fault = f"ended with status {done.returncode}" if done.returncode else f"left no {gds}"
        raise ToolFailed(f"{command[0]} {fault}: see {folder / 'layout.log'}")
    return [f"place and route: {gds.relative_to(folder)}; the flow's own reports are beside it"]
