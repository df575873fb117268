"""Builds an AXI system for a simulator and runs tests of `sim.cocotb_system` on it, with the driver inside the simulator."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from boards.describe import describe
from emamba import artifact as artifacts
from rtl.kit.emit import to_verilog
from rtl.plan.schedule import Schedule
from rtl.system.system import System

from .bench import simulate

VISIBLE = ("clk", "rst", "?_axi*", "irq")


def stored(artifact: artifacts.Artifact, folder: Path) -> artifacts.Artifact:
    """The artifact with its digest, saved in `folder`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return replace(artifact, digest=artifacts.save(artifact, folder))


def run(name: str, simulators: tuple[str, ...], build_dir: Path, system: System, golden: np.ndarray, tests: list[str], *,
        frames: int = 8, seed: int = 0, others: tuple = (), loads: int = 8) -> None:
    """Runs the named tests on each simulator; a failed one raises. The artifact lies in the folder `artifact` of the bench's
    folder; the `others` can be loaded instead of it."""
    folder = bench_folder(name, build_dir)
    schedule: Schedule = system.schedule
    (folder / "accelerator.json").write_text(json.dumps(describe(system, golden)))
    for k, other in enumerate(others):
        stored_other = stored(other, folder / f"artifact_{k}")
        (folder / f"other_{k}.json").write_text(json.dumps(describe(system, golden, stored_other)))
    second = 40 * (schedule.latency + schedule.cycles_per_frame * 8) + 4000
    (folder / "system.json").write_text(json.dumps({
        "seed": seed, "second": second, "timeout": 400 * second, "frames": frames, "loads": loads}))
    verilog = to_verilog(system)
    for simulator in simulators:
        place = folder / simulator
        place.mkdir(exist_ok=True)
        simulate(f"system {name}", simulator, place, verilog, "sim.cocotb_system", visible=VISIBLE,
                 environment={"EMAMBA_SYSTEM": str(folder)}, seed=seed, test_filter=rf"\.({'|'.join(tests)})\b")


def bench_folder(name: str, build_dir: Path) -> Path:
    folder = (build_dir / f"system-{name}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
