"""Builds an AXI system for a simulator and runs tests of `sim.cocotb_system` on it, with the driver inside the simulator."""

import json
import os
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import VerilatorControlFile, Verilog, get_runner

from boards.describe import describe
from emamba import artifact as artifacts
from emamba.errors import EmambaError
from rtl.emit import to_verilog
from rtl.schedule import Schedule
from rtl.system import System

from . import tools
from .bench import VERILATOR, first_failure, last_line

# The ports alone are visible to cocotb, as in sim.bench.
VISIBLE = """\
`verilator_config
public_flat_rw -module "top" -var "clk"
public_flat_rw -module "top" -var "rst"
public_flat_rw -module "top" -var "?_axi*"
public_flat_rw -module "top" -var "irq"
"""


def stored(artifact: artifacts.Artifact, folder: Path) -> artifacts.Artifact:
    """The artifact with its digest, saved in `folder`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return replace(artifact, digest=artifacts.save(artifact, folder))


def run(name: str, simulator: str, build_dir: Path, system: System, golden: np.ndarray, tests: list[str], *, frames: int = 8,
        seed: int = 0, others: tuple = (), loads: int = 8) -> None:
    """Runs the named tests; a failed one raises. The artifact lies in the folder `artifact` of the bench's folder; the
    `others` can be loaded instead of it."""
    folder = bench_folder(name, simulator, build_dir)
    schedule: Schedule = system.schedule
    (folder / "accelerator.json").write_text(json.dumps(describe(system, golden)))
    for k, other in enumerate(others):
        stored_other = stored(other, folder / f"artifact_{k}")
        (folder / f"other_{k}.json").write_text(json.dumps(describe(system, golden, stored_other)))
    second = 40 * (schedule.latency + schedule.cycles_per_frame * 8) + 4000
    (folder / "system.json").write_text(json.dumps({
        "seed": seed, "second": second, "timeout": 400 * second, "frames": frames, "loads": loads}))
    (folder / "top.v").write_text(to_verilog(system))
    (folder / "visible.vlt").write_text(VISIBLE)
    results = folder / "results.xml"
    results.unlink(missing_ok=True)
    environment = tools.environment(simulator, build_dir) | {"EMAMBA_SYSTEM": str(folder)}
    sources, arguments = [Verilog(folder / "top.v")], []
    if simulator == "verilator":
        sources, arguments = [VerilatorControlFile(folder / "visible.vlt"), *sources], VERILATOR
    log = folder / "build.log"
    with mock.patch.dict(os.environ, environment):
        try:
            runner = get_runner(simulator)
            runner.build(sources=sources, hdl_toplevel="top", build_dir=folder / "obj", build_args=arguments, always=True,
                         timescale=("1ns", "1ps"), log_file=log)
            log = folder / "test.log"
            runner.test("sim.cocotb_system", "top", hdl_toplevel_lang="verilog", build_dir=folder / "obj", test_dir=folder,
                        results_xml=str(results), seed=seed, log_file=log, test_filter=rf"\.({'|'.join(tests)})\b")
        except (RuntimeError, SystemExit):
            if not results.exists():
                raise EmambaError(f"system {name} does not run on {simulator}: {last_line(log)} (see {log})") from None
    count, failures = get_results(results)
    if failures or not count:
        failure = first_failure(results)
        raise EmambaError(f"system {name} on {simulator}: {failures} of {count} tests failed; {failure} (see {log})")


def bench_folder(name: str, simulator: str, build_dir: Path) -> Path:
    folder = (build_dir / simulator / f"system-{name}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
