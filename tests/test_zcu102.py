"""The ZCU102's self-test in simulation, and the files for Vivado as far as they can be checked without it."""

import re
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import tcl
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from programs import need

from boards.zcu102 import target
from boards.zcu102.self_test import SelfTest
from emamba.base.errors import EmambaError
from emamba.config import ModelConfig
from emamba.run.integer import IntegerModel
from rtl.kit.emit import to_verilog
from rtl.plan.accelerator import Accelerator
from rtl.plan.schedule import Schedule
from rtl.system.system import System
from sim.models import random_artifact

SMALL = ModelConfig(input="sequence", features=3, length=4, d_model=4, dt_rank=2, d_state=2, blocks=1, task="regression",
                    outputs=3)
# Behaviour of AMD's primitives, as far as the self-test uses them.
PRIMITIVES = """\
module IBUF(input I, output O); assign O = I; endmodule
module IBUFDS(input I, input IB, output O); assign O = I; endmodule
module OBUFT(input I, input T, output O); assign O = T ? 1'bz : I; endmodule
module STARTUPE3(output EOS); assign EOS = 1; endmodule
module BUFGCE #(parameter SIM_DEVICE = "") (input I, input CE, output O); assign O = I & CE; endmodule
module FDPE #(parameter INIT = 1) (input C, input CE, input PRE, input D, output reg Q);
  initial Q = INIT;
  always @(posedge C, posedge PRE) if (PRE) Q <= 1; else if (CE) Q <= D;
endmodule
"""
BENCH = """\
module bench;
  reg clk = 0, rst = 0, switch = 0;
  wire [7:0] led;
  always #4 clk = ~clk;
  self_test dut(.clk74_0__p(clk), .clk74_0__n(~clk), .rst_0__io(rst), .switch_0__io(switch), .led_0__io(led[0]),
    .led_1__io(led[1]), .led_2__io(led[2]), .led_3__io(led[3]), .led_4__io(led[4]), .led_5__io(led[5]), .led_6__io(led[6]),
    .led_7__io(led[7]));
  initial begin
    #(8 * CYCLES) $display("%b%b", led[2:1], dut.test.done > 4);
    switch = 1;
    #(8 * CYCLES) $display("%b", led[2:1]);
    switch = 0;
    #(8 * CYCLES) $display("%b", led[2:1]);
    rst = 1;
    #80 rst = 0;
    #(8 * CYCLES) $display("%b", led[2:1]);
    $finish;
  end
endmodule
"""


@pytest.fixture(scope="module")
def artifact():
    return random_artifact(SMALL)


@pytest.fixture(scope="module")
def golden(artifact):
    """Schedule, frames and the integer model's answers."""
    frames = target.golden_frames(artifact)
    return Schedule(artifact, 8), frames, IntegerModel(artifact).answer(frames)


@pytest.fixture(scope="module")
def folder(artifact, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zcu102")
    target.write(folder, System(Schedule(artifact, 8)), 100.0)
    return folder


class Silent(wiring.Component):
    """Takes everything and gives nothing."""

    def __init__(self, schedule):
        super().__init__({"i": In(schedule.input.signature), "o": Out(schedule.output.signature)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.i.ready.eq(1)
        return m


def outcome(test: SelfTest, inject: int = 0) -> tuple[int, int, int]:
    """(passed, failed, done) once all golden frames have been played twice, or nothing came for long."""
    seen = []

    async def bench(ctx):
        ctx.set(test.inject, inject)
        await ctx.tick().repeat(test.patience + 2 * len(test.frames) * test.schedule.cycles_per_frame)
        seen.extend(int(ctx.get(signal)) for signal in (test.passed, test.failed, test.done))

    simulator = Simulator(test)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return tuple(seen)


def test_passes(golden):
    schedule, frames, answers = golden
    passed, failed, done = outcome(SelfTest(Accelerator(schedule), schedule, frames, answers))
    assert (passed, failed) == (1, 0) and done >= 2 * len(frames)


def test_one_wrong_golden_value_fails(golden):
    schedule, frames, answers = golden
    for index in ((0, 0, 0), (3, 0, 2)):
        wrong = answers.copy()
        wrong[index] ^= 1
        passed, failed, done = outcome(SelfTest(Accelerator(schedule), schedule, frames, wrong))
        assert (passed, failed) == (0, 1) and done >= 2 * len(frames)


def test_injected_fault_fails(golden):
    schedule, frames, answers = golden
    assert outcome(SelfTest(Accelerator(schedule), schedule, frames, answers), inject=1)[:2] == (0, 1)


def test_silence_fails(golden):
    schedule, frames, answers = golden
    assert outcome(SelfTest(Silent(schedule), schedule, frames, answers)) == (0, 1, 0)


def test_answer_at_every_token():
    """A result of several beats a frame: next-token prediction."""
    artifact = random_artifact("standard-tokens")
    schedule, frames = Schedule(artifact, 8), target.golden_frames(artifact)
    assert frames.max() < 5
    answers = IntegerModel(artifact).answer(frames)
    assert answers.shape == (4, 8, 5)
    assert outcome(SelfTest(Accelerator(schedule), schedule, frames, answers))[:2] == (1, 0)


def simulate(folder, files: dict[str, str], cycles: int) -> list[str]:
    """The bench's lines on the files for Vivado."""
    sources = files | {"primitives.v": PRIMITIVES, "bench.v": BENCH.replace("CYCLES", str(cycles))}
    for name, content in sources.items():
        (folder / name).write_text(content)
    need("iverilog", "vvp")
    subprocess.run(["iverilog", "-g2005", "-o", "bench", *sources], cwd=folder, check=True)
    return subprocess.run(["vvp", "-n", "bench"], cwd=folder, check=True, capture_output=True, text=True).stdout.split()


def test_files_in_simulation(folder, golden, tmp_path):
    """self_test.v and top.v as Vivado reads them, from the clock's pins to the LEDs: failed, passed after each step."""
    schedule, frames, answers = golden
    cycles = 4 * len(frames) * schedule.cycles_per_frame + schedule.latency
    files = {name: (folder / name).read_text() for name in ("self_test.v", "top.v")}
    assert simulate(tmp_path, files, cycles) == ["011", "10", "10", "01"]
    wrong = answers.copy()
    wrong[1, 0, 0] ^= 1
    test = SelfTest(target.Emitted(schedule), schedule, frames, wrong)
    files["self_test.v"] = target.shell(target.Board(test, 74.25e6), "clk74", files["top.v"])["self_test.v"]
    assert simulate(tmp_path, files, cycles)[0][:2] == "10"


def test_top_is_the_one_emission(folder, artifact):
    top = (folder / "top.v").read_text()
    assert top == to_verilog(Accelerator(Schedule(artifact, 8)))
    assert "always @*" not in top
    assert re.findall(r"\\?([\w.]+) +top \(", (folder / "self_test.v").read_text()) == ["top"]


def ports(verilog: str, module: str) -> set[str]:
    return set(re.search(rf"^module {module}\((.*?)\);", verilog, re.M)[1].split(", "))


def test_constraints_meet_the_ports(folder):
    shell, top = (ports((folder / f"{name}.v").read_text(), name) for name in ("self_test", "top"))
    constraints = (folder / "self_test.xdc").read_text()
    for key in ("LOC", "IOSTANDARD"):
        assert set(re.findall(rf'set_property {key} \S+ \[get_ports "(\w+)"\]', constraints)) == shell
    locations = re.findall(r"set_property LOC (\w+)", constraints)
    assert len(set(locations)) == len(locations) == len(shell)
    (period, port), = re.findall(r'create_clock .* -period (\S+) \[get_nets "(\w+)"\]', constraints)
    assert float(period) == pytest.approx(1000 / 74.25) and port in shell
    constraints = (folder / "out_of_context.xdc").read_text()
    assert re.findall(r"create_clock .* -period (\S+) \[get_ports (\w+)\]", constraints) == [("10.000", "clk")] and "clk" in top


@pytest.mark.parametrize("name", ["self_test.tcl", "out_of_context.tcl", "program.tcl"])
def test_scripts(folder, name):
    calls = tcl.run(folder, name)
    by_name = {call[0]: call[1:] for call in calls}
    if name == "program.tcl":
        assert by_name["get_hw_devices"] == ["xczu9eg*"]
        assert by_name["set_property"][:2] == ["PROGRAM.FILE", "self_test.bit"]
        return
    project = by_name["create_project"]
    assert project[project.index("-part") + 1] == "xczu9eg-ffvb1156-2-e"
    read = {call[-1] for call in calls if call[0] in ("add_files", "read_verilog", "read_xdc")}
    assert read == ({"top.v", "self_test.v", "self_test.xdc"} if name == "self_test.tcl" else {"top.v", "out_of_context.xdc"})
    assert all((folder / file).is_file() for file in read)
    order = [call[0] for call in calls]
    assert order.index("synth_design") < order.index("place_design") < order.index("route_design")
    top = by_name["synth_design"][by_name["synth_design"].index("-top") + 1]
    assert top == ("self_test" if name == "self_test.tcl" else "top")


def test_every_file_says_that_it_was_not_run(folder):
    for name in ("self_test.xdc", "self_test.tcl", "out_of_context.xdc", "out_of_context.tcl", "program.tcl", "README.txt"):
        assert target.UNRUN in (folder / name).read_text()


def test_clock():
    chosen = {mhz: target.board_clock(mhz) for mhz in (74.25, 124.9, 125.0, 299.0, 500.0)}
    assert chosen == {74.25: "clk74", 124.9: "clk74", 125.0: "clk125", 299.0: "clk125", 500.0: "clk300"}
    for name, mhz in target.CLOCKS.items():
        assert target.ZCU102Platform().lookup(name).clock.frequency == mhz * 1e6


def test_golden_frames(artifact):
    frames = target.golden_frames(artifact)
    assert frames.shape == (4, 4, 3) and frames.min() >= artifact.input.min and frames.max() <= artifact.input.max
    assert np.array_equal(frames, target.golden_frames(artifact))
    own = np.arange(60).reshape(5, 4, 3)
    assert np.array_equal(target.golden_frames(replace(artifact, record={"golden": own.tolist()})), own[:4])
    for golden in ([], [[1, 2, 3]], own[:, :2].tolist(), (own + 0.5).tolist(), "x"):
        with pytest.raises(EmambaError, match=r"golden frames are not integers \[frames, 4 tokens, 3 values\]"):
            target.golden_frames(replace(artifact, record={"golden": golden}))


def test_vivado(folder, tmp_path, monkeypatch, capsys):
    """With Vivado on PATH all scripts run; without, or when it fails, there is one sentence."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert target.run(folder) == []
    system, alone = (" and ".join(f"vivado -mode batch -source {name}" for name in names)
                     for names in (("package_ip.tcl", "build.tcl"), ("self_test.tcl", "out_of_context.tcl")))
    assert capsys.readouterr().out == (f"Vivado is not on PATH: in {folder / 'system'}, run {system}\n"
                                       f"Vivado is not on PATH: in {folder}, run {alone}\n")
    vivado = tmp_path / "vivado"
    vivado.write_text('#!/bin/sh\necho "$@" >> calls.txt\n')
    vivado.chmod(0o755)
    note, = target.run(folder)
    assert note == f"Vivado ran on {', '.join(target.SCRIPTS)}: its own reports here hold utilization and timing"
    for place, names in ((folder / "system", ["package_ip", "build"]), (folder, ["self_test", "out_of_context"])):
        calls = (place / "calls.txt").read_text().splitlines()
        assert calls == [f"-mode batch -nojournal -log {name}.log -source {name}.tcl" for name in names]
    vivado.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(EmambaError, match=r"Vivado ended with status 3 in system/package_ip.tcl: see .*/system/package_ip.log"):
        target.run(folder)
