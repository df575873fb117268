"""`python -m rtl.build`: its files, its options, its refusals."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import lint, need
from test_zcu102 import SMALL

from asic import target as asic
from asic.netlist.verilog import without_initial_values
from boards.driver.description import Description
from emamba import artifact as artifacts
from emamba.io.files import draft
from emamba.run.integer import IntegerModel
from flow import cli
from flow.build import ESTIMATED, main, make_parser, request, surprises
from rtl.kit import packing
from rtl.kit.datapath import Products
from rtl.kit.emit import to_verilog
from rtl.plan import devices
from rtl.plan.accelerator import Accelerator
from rtl.plan.planner import Request, plan
from rtl.plan.schedule import MAX_CYCLES, Realization, Schedule
from sim.models import random_artifact, random_inputs

FILES = {
    "verilog": {"top.v", "lint.vlt", "emamba.core", "test"},
    "zcu102": {"top.v", "lint.vlt", "self_test.v", "self_test.xdc", "self_test.tcl", "out_of_context.xdc",
               "out_of_context.tcl", "program.tcl", "README.txt", "system", "emamba.core", "test"},
    "zcu104": {"system", "emamba.core"},
    "kv260": {"system", "emamba.core"},
    "asic": {"top.v", "lint.vlt", "top.sdc", "memories.json", "emamba.core", "test"},
    "axi": {"top.v", "lint.vlt", "emamba.core", "accelerator.json", "registers.h", "registers.rdl",
            "emamba_litex.py"},
    "ulx3s": {"top.bit", "top.lpf", "accelerator.json"},
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Folder of a small artifact."""
    folder = tmp_path_factory.mktemp("artifact") / "small"
    artifacts.save(random_artifact(SMALL), folder)
    return folder


@pytest.fixture(autouse=True)
def without_vivado(monkeypatch):
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **rest: None if name == "vivado" else which(name, **rest))


@pytest.fixture
def unwritten(monkeypatch):
    """The Verilog of a chip or accelerator is left out, where only the report counts."""
    for module in ("flow.build", "asic.netlist.verilog"):
        monkeypatch.setattr(f"{module}.to_verilog", lambda *_, **__: "module top();\nendmodule\n")


@pytest.fixture
def refuse(small, tmp_path, capsys, monkeypatch):
    """Runs a command that must fail, and write nothing; returns its sentence."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, artifact: Path = small) -> str:
        before = sorted(tmp_path.rglob("*"))
        assert main([*arguments, "--artifact", str(artifact)]) == 1
        captured = capsys.readouterr()
        assert sorted(tmp_path.rglob("*")) == before
        assert captured.out == "" and captured.err.count("\n") == 1
        return captured.err.removeprefix("rtl.build: ").rstrip("\n")
    return run


def built(out: Path) -> dict:
    return json.loads((out / "report.json").read_text())


@pytest.mark.parametrize("name", ["verilog", "kv260"])
def test_target(name, small, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert main([name, "--artifact", str(small), "--out", str(out), "--cycles-per-token", "8"]) == 0
    assert {path.name for path in out.iterdir()} == FILES[name] | {"report.json"}
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    artifact = artifacts.load(small)
    request = Request(cycles_per_token=8, device=devices.find(name) if name == "kv260" else None)
    report, expected = built(out), plan(artifact, request).schedule.report()
    assert {key: report[key] for key in expected} == json.loads(json.dumps(expected))
    assert report["target"] == name and report["artifact"] == {"name": "random", "digest": artifact.digest}
    assert report["certificate"] == artifact.record["certificate"] and report["notes"]
    assert set(report) == set(expected) | {"target", "artifact", "clock_mhz", "certificate", "resources", "notes", "verdict",
                                           "files"}
    assert {Path(file).parts[0] for file in report["files"]} == FILES[name] | {"report.json"}
    captured = capsys.readouterr()
    assert captured.err == ""
    assert f"{name} of random: 8 cycles per token, 32 per frame, latency {report['latency_cycles']} cycles, " in captured.out
    assert all(file in captured.out for file in FILES[name]) and all(note in captured.out for note in report["notes"])
    assert name != "verilog" or lint(out / "top.v") == ""


def test_the_plain_testbench(small, tmp_path):
    """By Icarus, from the files alone: golden sequences give golden answers, and one that is changed is found."""
    need("iverilog", "vvp")
    out = tmp_path / "out"
    assert main(["verilog", "--artifact", str(small), "--out", str(out), "--cycles-per-token", "8"]) == 0
    top = (out / "top.v").read_text()
    assert top.startswith("// random: ") and artifacts.load(small).digest in top.splitlines()[1] and "SPDX" in top[:3000]
    core = (out / "emamba.core").read_text()
    assert core.startswith("CAPI=2:\n") and all((out / name).is_file() for name in re.findall(r"test/[\w.]+", core))
    subprocess.run(["iverilog", "-g2005", "-o", "test.vvp", "testbench.v", "../top.v"], cwd=out / "test", check=True)

    def said() -> tuple[str, str]:
        run = subprocess.run(["vvp", "-n", "test.vvp"], cwd=out / "test", check=True, capture_output=True, text=True)
        return re.search(r"^(PASS|FAIL): \d+ beats, (\d+) wrong", run.stdout, re.M).groups()

    assert said() == ("PASS", "0")
    first, *rest = (out / "test/output.hex").read_text().splitlines()
    (out / "test/output.hex").write_text("\n".join([f"{int(first, 16) ^ 1:x}", *rest]))
    assert said() == ("FAIL", "1")


def test_an_earlier_output_is_replaced(small, unwritten, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    for cycles in (8, 16):
        assert main(["verilog", "--artifact", str(small), "--out", str(out), "--cycles-per-token", str(cycles)]) == 0
        assert built(out)["cycles_per_token"] == cycles
    (out / "project").mkdir()
    (out / "project" / "mine.xpr").write_text("kept")
    capsys.readouterr()
    assert main(["asic", "--artifact", str(small), "--out", str(out)]) == 0
    assert capsys.readouterr().out.endswith("\nkept, since it was not written here, and perhaps of an earlier design: project\n")
    assert {path.name for path in out.iterdir()} == FILES["asic"] | {"report.json", "project"}
    assert (out / "project" / "mine.xpr").read_text() == "kept"


def test_default_folders(small, unwritten, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flow.build.SHIPPED", small)
    assert main(["verilog"]) == 0
    assert built(Path("build/verilog"))["cycles_per_token"] == Schedule(artifacts.load(small), 20).period


def test_multipliers_option(small, unwritten, tmp_path):
    out = tmp_path / "out"
    assert main(["verilog", "--artifact", str(small), "--out", str(out), "--multipliers", "40"]) == 0
    artifact, report = artifacts.load(small), built(out)
    assert report["multipliers"] <= 40 < Schedule(artifact, report["cycles_per_token"] - 1).multipliers


def test_too_few_multipliers(refuse):
    assert refuse("verilog", "--multipliers", "3").startswith("--multipliers 3: this model needs at least ")


def test_device(small, unwritten, tmp_path):
    """The smallest T that fits the device, with the estimate in the report."""
    out = tmp_path / "out"
    assert main(["verilog", "--artifact", str(small), "--out", str(out), "--device", "ulx3s-25f", "--fill", "0.6"]) == 0
    report, found = built(out), plan(artifacts.load(small), Request(device=devices.find("ulx3s-25f"), fill=0.6))
    assert report["cycles_per_token"] == found.schedule.period and report["resources"] == json.loads(json.dumps(found.report()))
    assert all(report["resources"][name]["share"] <= 0.6 for name in ("lut", "ff", "dsp", "ebr"))


def test_chosen_circuits(small, tmp_path):
    out = tmp_path / "out"
    choices = ["--products", "multipliers", "--decays", "segments", "--activations", "segments"]
    assert main(["zcu102", "--artifact", str(small), "--out", str(out), *choices]) == 0
    expected = Schedule(artifacts.load(small), 20, Realization(tables=False, registers=True)).report()
    assert all(built(out)[key] == json.loads(json.dumps(expected[key])) for key in ("stages", "latency_cycles", "fifo"))


def test_options_of_the_system(small, tmp_path, refuse):
    """Loadable weights are in the system; the self-test beside it is that of the artifact."""
    for option in ("--weights loadable", "--state kept", "--counters no", "--parity yes", "--bus-bits 32"):
        assert refuse("asic", *option.split()) == (
            "--weights, --state, --counters, --parity and --bus-bits are for axi, ulx3s, zcu102, zcu104, kv260, icebreaker, "
            "upduino, not for the target asic")
    out = tmp_path / "out"
    assert main(["zcu102", "--artifact", str(small), "--out", str(out), "--cycles-per-token", "8", "--weights", "loadable",
                 "--state", "kept", "--bus-bits", "32"]) == 0
    description = Description.read(out / "system" / "host")
    assert description.image is not None and ESTIMATED in built(out)["notes"]
    assert lint(out / "system" / "emamba_system.v") == ""
    fixed = Realization(decay_tables=False, products=Products.PAIRS, registers=True)
    assert (out / "top.v").read_text().endswith(to_verilog(Accelerator(Schedule(artifacts.load(small), 8, fixed))))


def test_frames_per_second(small, unwritten, tmp_path):
    out = tmp_path / "out"
    rate = ["--frames-per-second", "1e6", "--clock-mhz", "50"]
    assert main(["verilog", "--artifact", str(small), "--out", str(out), *rate]) == 0
    report = built(out)
    assert report["cycles_per_token"] == 12  # 50e6 / (1e6 · 4 tokens) = 12.5
    assert report["clock_mhz"] * 1e6 / report["cycles_per_frame"] >= 1e6


def test_refused_rates(refuse):
    assert refuse("verilog", "--frames-per-second", "100") == \
        "--frames-per-second needs --clock-mhz, the clock that the design will run at"
    assert refuse("asic", "--frames-per-second", "1e9", "--clock-mhz", "200") == \
        "--frames-per-second 1e+09: 200 MHz give at most 5e+07, a cycle for each of 4 tokens in every stage; ask for less " \
        "or name a faster clock"
    for value in ("0", "-1", "nan", "inf"):
        assert refuse("asic", "--frames-per-second", value, "--clock-mhz", "200").startswith(
            "--frames-per-second must be a number above 0, not ")
        assert refuse("asic", "--clock-mhz", value).startswith("--clock-mhz must be a number above 0, not ")
    assert refuse("verilog", "--clock-mhz", "100") == \
        "--clock-mhz changes nothing in the target verilog; it goes with --frames-per-second"
    assert refuse("zcu102", "--clock-mhz", "50") == \
        "--clock-mhz 50: the target zcu102 has no clock below 74.25 MHz"


def test_what_is_not_as_asked_is_said(small, unwritten, tmp_path):
    out = tmp_path / "out"
    assert main(["verilog", "--artifact", str(small), "--out", str(out), "--cycles-per-token", "9999"]) == 0
    assert "--cycles-per-token 9999 gives 32: no stage takes more" in built(out)["notes"]
    options = make_parser().parse_args(["zcu102", "--frames-per-second", "1e6"])
    assert request(options, "zcu102", 125.0, 20).clock_mhz == 125
    assert surprises(options, Schedule(artifacts.load(small), 20), 125.0, 800.0) == [
        "800 MHz is above the target's default of 125 MHz: no tool has shown that this design reaches it"]


def test_refused_arguments(refuse):
    for target in ("zcu102", "zcu104"):
        assert refuse(target, "--device", "kv260") == (
            f"--device kv260: the target {target} is a board of its own; leave out --device, or take the target verilog or axi")
    assert refuse("fpga") == \
        "there is no target 'fpga'; choose one of verilog, axi, ulx3s, zcu102, zcu104, kv260, icebreaker, upduino, asic, c"
    assert refuse("verilog", "--cycles-per-token", "0") == f"cycles_per_token = 0 is out of range; it must lie in 1..{MAX_CYCLES}"
    assert refuse("verilog", "--device", "de10") == \
        "there is no device 'de10'; choose one of zcu102, kv260, ulx3s-85f, ulx3s-45f, ulx3s-25f, ulx3s-12f, icebreaker"
    assert refuse("verilog", "--device", "zcu102", "--fill", "2") == "--fill must be a share above 0 and at most 1, not 2"


@pytest.mark.parametrize("program, before", [(main, []), (cli.main, ["build"])], ids=["rtl.build", "emamba build"])
def test_wrong_usage(program, before, capsys):
    """Both names of a build tell words that are no build alike."""
    for words, sentence in (([], "the following arguments are required: TARGET"),
                            (["verilog", "--cycles-per-token", "x"], "argument --cycles-per-token: invalid int value: 'x'"),
                            (["verilog", "--multipliers", "9", "--cycles-per-token", "9"],
                             "argument --cycles-per-token: not allowed with argument --multipliers"),
                            (["verilog", "--speed", "9"], "unrecognized arguments: --speed 9")):
        with pytest.raises(SystemExit) as end:
            program([*before, *words])
        assert end.value.code == 2 and capsys.readouterr().err.endswith(f"error: {sentence}\n")


def test_emamba_build_is_rtl_build(small, tmp_path, monkeypatch, capsys):
    """The same files, words and refusals; a refusal begins with the program's name."""
    words = ["verilog", "--artifact", str(small), "--cycles-per-token", "8", "--out"]
    said = {}
    for name, program, before in (("a", main, []), ("b", cli.main, ["build"])):
        assert program([*before, *words, str(tmp_path / name)]) == 0
        said[name] = capsys.readouterr().out.replace(f"{tmp_path / name}", "")
    assert said["a"] == said["b"]
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert {file.parts[0] for file in files} == FILES["verilog"] | {"report.json"}
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert cli.main(["build", "fpga"]) == main(["fpga"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.removeprefix("emamba: ") == second.removeprefix("rtl.build: ")


def test_refused_artifacts(refuse, small, tmp_path):
    assert refuse("verilog", artifact=Path("nowhere")) == "nowhere is not an artifact: it has no manifest.json"
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in small.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    with open(damaged / "weights.safetensors", "r+b") as file:
        file.truncate(100)
    assert "weights.safetensors is truncated or was altered" in refuse("verilog", artifact=damaged)


def test_refused_folders(refuse, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").touch()
    assert refuse("verilog", "--out", str(theirs)) == \
        f"{theirs} is no earlier output, since it has no report.json: name another folder with --out"
    assert refuse("verilog", "--out", str(theirs / "thesis.txt")).startswith(f"{theirs}/thesis.txt is no earlier output")
    below = theirs / "thesis.txt" / "out"
    assert refuse("verilog", "--out", str(below)).startswith(f"cannot write {below}: ")


def test_nothing_half_written(refuse, small, tmp_path, monkeypatch, capsys):
    def fail(folder, *_):
        (folder / "top.v").write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(asic, "write", fail)
    assert refuse("asic", "--out", str(tmp_path / "out")) == \
        f"cannot write {tmp_path}/out: No space left on device; name a folder you may write to"

    def interrupt(folder, *_):
        (folder / "top.v").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(asic, "write", interrupt)
    assert main(["asic", "--artifact", str(small), "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "rtl.build: interrupted; nothing half-written is left\n" and not list(tmp_path.iterdir())


def test_no_torch(small, tmp_path):
    """The hardware side is complete without the training side's libraries."""
    script = (
        "import sys, flow.build\n"
        f"status = flow.build.main(['kv260', '--artifact', {str(small)!r}, '--out', {str(tmp_path / 'out')!r}, '--quiet'])\n"
        "sys.exit(status or any(name.split('.')[0] in ('torch', 'optuna', 'cocotb') for name in sys.modules))\n"
    )
    environment = os.environ | {"PATH": ""}  # without Vivado
    process = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, env=environment)
    assert process.returncode == 0 and process.stderr == ""
    command = [sys.executable, "-m", "rtl.build", "nowhere"]
    process = subprocess.run(command, capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.startswith("rtl.build: there is no target 'nowhere'")


@pytest.fixture(scope="module", params=["emamba-one-token", "standard-tokens"])
def chip(request, tmp_path_factory):
    """An artifact's schedule and the folder of its ASIC files."""
    schedule = Schedule(random_artifact(request.param), 20)
    folder = tmp_path_factory.mktemp("asic")
    asic.write(folder, schedule, 250.0)
    return schedule, folder


@pytest.mark.parametrize("chip", ["emamba-one-token"], indirect=True)
def test_linter_finds_faults(chip, tmp_path):
    """Nothing in a chip; a wire that nothing drives; a bit that is lost."""
    shutil.copytree(chip[1], tmp_path, dirs_exist_ok=True)
    verilog = tmp_path / "top.v"
    text = verilog.read_text()
    assert lint(verilog) == ""
    for pattern, planted, rule in ((r"^  assign _\d+_ = .* \+ .*;\n", "", "UNDRIVEN"),
                                   (r"^  wire \[\d+:0\] (_\d+_);\n", r"  wire \1;\n", "WIDTHTRUNC")):
        verilog.write_text(re.sub(pattern, planted, text, count=1, flags=re.M))
        assert f"-{rule}: top.v:" in lint(verilog)


BENCH = """\
module bench;
  reg clk = 0, rst = 1;
  reg [{i_bits} - 1:0] beats [0:{i_beats} - 1];
  integer sent = 0, received = 0, wait_cycles = 0;
  wire ready, valid;
  wire [{o_bits} - 1:0] payload;
  always #1 clk = ~clk;
  top dut(.clk(clk), .rst(rst), .i__payload(sent < {i_beats} ? beats[sent] : {i_bits}'bx), .i__valid(!rst && sent < {i_beats}),
          .i__ready(ready), .o__payload(payload), .o__valid(valid), .o__ready(1'b1));
  initial $readmemh("beats.hex", beats);
  always @(posedge clk) begin
    rst <= 0;
    if (!rst) begin
      if (ready === 1'b1 && sent < {i_beats}) sent <= sent + 1;
      if (valid === 1'bx || ready === 1'bx) begin $display("x"); $finish; end
      if (valid) begin $display("%b", payload); received <= received + 1; end
      wait_cycles <= wait_cycles + 1;
      if (received == {o_beats} || wait_cycles == {limit}) $finish;
    end
  end
endmodule
"""


def test_chip_needs_no_initial_value(chip, tmp_path):
    """Every register and memory starts unknown; after one cycle of reset every bit of the answers is the integer model's."""
    schedule, folder = chip
    artifact = schedule.artifact
    frames = artifact.codec.encode(random_inputs(artifact.config, 3, seed=9), artifact.input)
    answers = IntegerModel(artifact).answer(frames)
    beats = packing.to_ints(packing.pack(schedule.input, frames))
    expected = packing.to_ints(packing.pack(schedule.output, answers))
    masks = packing.to_ints(packing.mask(schedule.output))
    (tmp_path / "beats.hex").write_text("\n".join(f"{beat:x}" for beat in beats))
    o_bits = packing.payload_bits(schedule.output)
    (tmp_path / "bench.v").write_text(BENCH.format(
        i_bits=packing.payload_bits(schedule.input), i_beats=len(beats), o_bits=o_bits, o_beats=len(expected),
        limit=schedule.latency + 4 * schedule.cycles_per_frame))
    sources = [str(folder / "top.v"), "bench.v"]
    need("iverilog", "vvp")
    subprocess.run(["iverilog", "-g2005", "-o", "bench", *sources], cwd=tmp_path, check=True)
    lines = subprocess.run(["vvp", "-n", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.split()
    assert len(lines) == len(expected)
    for k, (line, beat) in enumerate(zip(lines, expected, strict=True)):
        counted = "".join(bit for bit, used in zip(line, f"{masks[k % len(masks)]:0{o_bits}b}", strict=True) if used == "1")
        wanted = "".join(bit for bit, used in zip(f"{beat:0{o_bits}b}", f"{masks[k % len(masks)]:0{o_bits}b}", strict=True)
                         if used == "1")
        assert counted == wanted


def test_chip_verilog(chip):
    _, folder = chip
    top = (folder / "top.v").read_text()
    assert "always @*" not in top and not re.search(r"\binitial\b|^ *reg\b.*=", top, re.M)


def test_memories(chip):
    """All of the design's RAMs, by the sizes that the blocks ask for."""
    schedule, folder = chip
    memories = json.loads((folder / "memories.json").read_text())
    top = (folder / "top.v").read_text()
    assert len(memories) == len(re.findall(r"^  reg .*\];$", top, re.M))
    found = {memory["path"]: (memory["kind"], memory["words"], memory["width"]) for memory in memories}
    expected, fifos = {}, {}
    for name, block in schedule.blocks.items():
        at, op = name.replace(".", "_"), block.op
        lanes = block.output.lanes
        match type(block).__name__:
            case "Linear" if block.chunks > 1 and block.groups > 1:
                expected[f"{at}.accumulators.ram"] = ("accumulators", block.groups, found[f"{at}.accumulators.ram"][2])
            case "Scan" if block.cycles > 1:
                expected[f"{at}.states.ram"] = ("state", block.cycles, op.h.bits * block.lanes * block.state_lanes)
            case "Conv1d" if block.taps > 1 and block.output.beats > 1:
                expected[f"{at}.history.ram"] = ("convolution history", block.output.beats, lanes * (block.taps - 1) * op.i.bits)
            case "Pool" if op.mean:
                expected[f"{at}.sums.ram"] = ("pool sum", block.output.beats, found[f"{at}.sums.ram"][2])
    for path, (kind, words, width) in found.items():
        if kind == "FIFO":
            fifos.setdefault((words, width), []).append(path)
    assert {path: size for path, size in found.items() if size[0] not in ("FIFO", "norm buffer")} == expected
    queues = sorted((queue.depth, packing.payload_bits(queue.port)) for queue in schedule.queues())
    assert sorted(size for size, paths in fifos.items() for _ in paths) == queues
    norms = [path.rsplit(".", 3)[-3] for path, size in found.items() if size[0] == "norm buffer"]
    kinds = [type(block).__name__ for block in schedule.blocks.values()]
    assert sorted(norms) == sorted(["statistics", "tokens"] * kinds.count("RangeNorm"))
    for memory in memories:
        name = re.escape(memory["module"])
        header, body = re.search(rf"^module \\{name} \((.*?)\);\n(.*?)^endmodule", top, re.M | re.S).groups()
        assert (memory["write_ports"], memory["read_ports"], memory["read"]) == (1, 1, "asynchronous")
        assert set(header.split(", ")) == {*memory["ports"], "rst"}
        assert set(memory["ports"]) - {"w_addr", "r_addr"} == {"clk", "w_en", "w_data", "r_data"}
        assert all(re.fullmatch(r" *assign \w+ = [\w'\[\]]+;", line) for line in body.splitlines() if "assign" in line)


def test_read_only_memories_are_logic(chip):
    _, folder = chip
    assert not re.search(r"^  reg \[.*\] storage ", (folder / "top.v").read_text(), re.M)


def test_timing_constraints(chip):
    _, folder = chip
    constraints = (folder / "top.sdc").read_text()
    assert "create_clock -name clk -period 4.000 [get_ports clk]" in constraints
    assert constraints.count("0.800 -clock clk") == 2
    named = {name.rstrip("*") for group in re.findall(r"get_ports \{(.*?)\}", constraints) for name in group.split()} | {"clk"}
    assert named == set(re.search(r"^module top\((.*?)\);", (folder / "top.v").read_text(), re.M)[1].split(", "))


def test_initial_values_that_cannot_go():
    with pytest.raises(AssertionError, match="an initial value is left:   initial begin"):
        without_initial_values("  initial begin\n    a[0] = 2'h1;\n  end\n")
    text = "  reg [3:0] a [1:0];\n  initial begin\n    a[0] = 4'h0;\n    a[1] = 4'h0;\n  end\n  reg [31:0] \\x$1  = 32'd7;\n"
    assert without_initial_values(text) == "  reg [3:0] a [1:0];\n  reg [31:0] \\x$1 ;\n"


@pytest.mark.parametrize("number, status, said", [
    (signal.SIGTERM, 143, "rtl.build: terminated; nothing half-written is left\n"), (signal.SIGKILL, -9, "")])
def test_killed(small, tmp_path, number, status, said):
    """In the middle of the work, with a tool running: the earlier output is whole, nothing runs on, and the next run removes what
    a killed one left."""
    out, command = tmp_path / "out", [sys.executable, "-m", "rtl.build", "verilog", "--artifact", str(small), "--out"]
    out.mkdir()
    (out / "report.json").write_text("{}")
    marker = tmp_path / "started"
    code = ("import runpy, sys\nfrom emamba.base import processes\nfrom rtl.kit import emit\n"
            f"emit.to_verilog = lambda *_: processes.run(['sh', '-c', 'touch {marker}; sleep 300'])\n"
            "sys.argv = sys.argv[:1] + sys.argv[2:]\nrunpy.run_module('rtl.build', run_name='__main__')")
    with subprocess.Popen([command[0], "-c", code, *command[2:], str(out)], stderr=subprocess.PIPE, text=True) as process:
        while not marker.exists():
            time.sleep(0.05)
        process.send_signal(number)
        assert process.stderr.read() == said
    assert process.returncode == status and (out / "report.json").read_text() == "{}"
    assert len(list(tmp_path.glob(".emamba-*"))) == (number == signal.SIGKILL)
    with draft(tmp_path):
        assert len(list(tmp_path.glob(".emamba-*"))) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"out", "started"}
