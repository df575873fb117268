"""An engine as a chip, in a library of a few cells."""

import json

import pytest
from programs import need
from test_asic import TINY, inputs

from asic.measure import chip, sizing
from asic.netlist import memories, pdk
from asic.netlist.verilog import verilog
from emamba import artifact as artifacts
from emamba.config import ModelConfig
from emamba.graph import Builder, model
from flow.build import main
from rtl.engine.machine import Machine
from rtl.engine.schedule import EngineSchedule
from sim.models import random_artifact
from sim.small import TINY as TINY_MODEL

pytestmark = pytest.mark.slow

MHZ = 200


@model("stages")
def stages(g: Builder) -> str:
    """Three Linears, whose circuits take little of a run."""
    return g.linear("mixed", g.x, 3)


def test_engine(tmp_path, capsys):
    """Its RAMs are macros, those that are read on the clock with a register behind, each part of a word that is written apart in
    its own; the mapped netlist answers as the integer model."""
    need("sta")
    config = ModelConfig(**TINY_MODEL | {"form": "stages", "features": 1, "length": 8, "d_model": 3, "norm": "none",
                                         "outputs": 1})
    artifact = random_artifact(config, residual_bits=8)
    artifacts.save(artifact, tmp_path / "artifact")
    asked = ["--organization", "engine", "--lanes", "2", "--posts", "1", "--tile", "8", "--pdk", str(TINY)]
    out = tmp_path / "out"
    assert main(["asic", "--artifact", str(tmp_path / "artifact"), "--out", str(out), *asked]) == 0, capsys.readouterr().err
    report, text = json.loads((out / "report.json").read_text()), (out / "program.txt").read_text()
    assert report["organization"] == "engine" and report["tile"] == 8 and report["program"] == text.splitlines()
    rams = {memory["path"].split(".")[0]: memory for memory in json.loads((out / "memories.json").read_text())}
    values = rams["values"]
    assert (values["write_parts"], values["read"], rams["results"]["read"]) == (2, "to a register", "asynchronous")
    assert (values["becomes"], rams["results"]["becomes"]) == ("5 × 2 RAM8X9", "2 × 2 RAM8X9")
    schedule, chosen = EngineSchedule(artifact, Machine(2, 1, tile=8, chip=True)), pdk.find(str(TINY))
    netlist, flat, _ = sizing.implement(verilog(schedule), chosen, MHZ)
    assert netlist.verilog == (out / "netlist.v").read_text()
    run = chip.run_gates(schedule, netlist, flat, inputs(schedule))
    assert run.accesses.sum() > 0
    assert memories.plan(chosen, 16, 18, 1000, held=True) and not memories.plan(chosen, 16, 18, 1000)
