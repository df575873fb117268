"""The ASIC flow on a small model and a library of a few cells: mapping, gate level, energy, files, refusals."""

import gzip
import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from programs import need
from test_zcu102 import SMALL

from asic import openroad, target
from asic.check import equivalence, gates
from asic.measure import chip, timing
from asic.netlist import mapping, memories, pdk
from asic.netlist.functions import evaluate, expression
from asic.netlist.liberty import parse
from asic.netlist.library import Library
from emamba import artifact as artifacts
from emamba.base.errors import EmambaError
from emamba.run.integer import IntegerModel
from flow.build import main
from rtl.kit import packing
from rtl.kit.datapath import Products
from rtl.kit.emit import INSTANCE
from rtl.plan.schedule import Realization, Schedule
from sim.models import random_artifact, random_inputs

pytestmark = pytest.mark.slow

TINY = Path(__file__).parent / "pdk" / "tiny.toml"
BASELINE = Path(__file__).with_name("asic_baseline.json")
CYCLES = 32
BENCH = """\
module bench;
  reg clk = 0, rst = 1, valid = 0;
  reg [{i_bits}-1:0] beats [0:{i_beats}-1];
  integer beat = 0, received = 0, waited = 0;
  wire ready, o_valid;
  wire [{o_bits}-1:0] o;
  always #5 clk = ~clk;
  top dut(.clk(clk), .rst(rst), .i__payload(beats[beat]), .i__valid(valid), .i__ready(ready), .o__payload(o), .o__valid(o_valid),
    .o__ready(1'b1));
  initial begin
    $readmemh("beats.hex", beats);
    #22 rst = 0;
    valid = 1;
  end
  always @(posedge clk) begin
    if (!rst) begin
      if (o_valid) begin $display("%b", o); received = received + 1; end
      if (valid && ready) begin if (beat + 1 < {i_beats}) beat <= #1 beat + 1; else valid <= #1 0; end
      waited = waited + 1;
      if (received == {o_beats} || waited == {limit}) $finish;
    end
  end
endmodule
"""


def small() -> Schedule:
    return Schedule(random_artifact(SMALL, residual_bits=8), CYCLES, Realization(Products.MERGED))


@pytest.fixture(scope="module")
def schedule():
    return small()


@pytest.fixture(scope="module")
def built(schedule, tmp_path_factory):
    """The folder that the command writes."""
    need("sta")
    folder = tmp_path_factory.mktemp("asic")
    artifacts.save(schedule.artifact, folder / "small")
    arguments = ["asic", "--pdk", str(TINY), "--artifact", str(folder / "small"), "--cycles-per-token", str(CYCLES)]
    assert main([*arguments, "--out", str(folder / "out")]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def measured(schedule, built):
    return chip.measure(schedule, pdk.find(str(TINY)), 200, inputs(schedule))


def inputs(schedule):
    return random_inputs(schedule.artifact.config, chip.sequences_needed(schedule), seed=3)


def figures(measured):
    """What is compared with the baseline."""
    used, corner = measured["energy_j"], measured["timing"]["typical"]
    return {"total": measured["area"]["total"], "setup_ns": corner["setup_ns"], "hold_ns": corner["hold_ns"],
            "energy_fj": {"total": round(used["total"] * 1e15), **{k: round(v * 1e15) for k, v in used["kinds"].items()}}}


def test_baseline(measured):
    assert figures(measured) == json.loads(BASELINE.read_text(encoding="utf-8"))


def test_files(built):
    names = {"emamba.core", "test", "lint.vlt", "top.v", "top_macros.v", "top.sdc", "memories.json", "netlist.v", "cells.v",
             "config.mk", "io.tcl",
             "README.txt", "report.json"}
    assert {path.name for path in built.iterdir()} == names
    report = json.loads((built / "report.json").read_text())
    assert report["clock_mhz"] == 200 and "none unmapped" in report["notes"][0]
    corner = report["resources"]["timing"]["typical"]
    assert report["notes"][1:3] == [
        f"setup at the typical corner: {corner['setup_ns']:+.3f} ns; the clock may be {corner['mhz']:,.0f} MHz, by OpenSTA "
        "before placement", f"hold at the typical corner: {corner['hold_ns']:+.3f} ns, by OpenSTA before placement"]
    slow = corner | {"setup_ns": -0.25, "mhz": 190.5}
    assert (f"setup at the slow corner: -0.250 ns, violated at {corner['end']}; the clock may be 190 MHz, by OpenSTA "
            "before placement") in target.findings(pdk.find(str(TINY)), report["resources"]["area"], {"slow": slow})
    early = corner | {"hold_ns": -0.004}
    assert (f"hold at the fast corner: -0.004 ns, violated at {corner['hold_end']}, by OpenSTA before placement"
            ) in target.findings(pdk.find(str(TINY)), report["resources"]["area"], {"fast": early})
    assert re.fullmatch(r"\w+/\S+/\S+", corner["hold_end"])
    assert len(corner["paths"]) == 5 and [path["slack_ns"] for path in corner["paths"]] == sorted(
        path["slack_ns"] for path in corner["paths"])
    assert all(re.fullmatch(r"\w+(/part_\w+)*/[a-z]\S+", path[end]) for path in corner["paths"] for end in ("from", "to"))
    assert "create_clock -name clk -period 5000.000" in (built / "top.sdc").read_text()  # the library's picoseconds
    assert "export PLATFORM = nangate45" in (built / "config.mk").read_text()
    assert "Not run here" in (built / "config.mk").read_text() and "not run here" in (built / "README.txt").read_text()


def test_netlist_in_another_simulator(schedule, built, tmp_path):
    """Icarus, with the cells' Verilog: every register begins unknown, and every bit of the answers is the integer model's."""
    artifact = schedule.artifact
    frames = artifact.codec.encode(random_inputs(artifact.config, 3, seed=9), artifact.input)
    beats = packing.to_ints(packing.pack(schedule.input, frames))
    expected = packing.to_ints(packing.pack(schedule.output, IntegerModel(artifact).answer(frames)))
    masks = packing.to_ints(packing.mask(schedule.output))
    (tmp_path / "beats.hex").write_text("\n".join(f"{beat:x}" for beat in beats))
    (tmp_path / "bench.v").write_text(BENCH.format(
        i_bits=packing.payload_bits(schedule.input), i_beats=len(beats), o_bits=packing.payload_bits(schedule.output),
        o_beats=len(expected), limit=schedule.latency + 8 * schedule.cycles_per_frame))
    sources = [str(built / "netlist.v"), str(built / "cells.v"), "bench.v"]
    need("iverilog", "vvp")
    subprocess.run(["iverilog", "-g2005", "-s", "bench", "-o", "bench", *sources], cwd=tmp_path, check=True)
    lines = subprocess.run(["vvp", "-n", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.split()
    assert len(lines) == len(expected)
    for k, (line, beat) in enumerate(zip(lines, expected, strict=True)):
        used = f"{masks[k % len(masks)]:0{len(line)}b}"
        both = zip(line, f"{beat:0{len(line)}b}", used, strict=True)
        assert all(a == b for a, b, counts in both if counts == "1")


def test_macros(built):
    """Rows and columns of macros, and RAMs that stay cells, in every file that speaks of them."""
    became = {memory["path"]: memory["becomes"] for memory in json.loads((built / "memories.json").read_text())}
    assert {path: kind for path, kind in became.items() if kind not in ("latches", "registers")} == {
        "block0_conv.history.ram": "1 × 3 RAM8X9", "block0_dt.accumulators.ram": "1 × 2 RAM8X9",
        "block0_dt_to_block0_y_1_fifo.storage.ram": "1 × 1 RAM8X9", "block0_x.accumulators.ram": "1 × 2 RAM8X9",
        "block0_y.states.ram": "2 × 2 RAM8X9", "block0_z.accumulators.ram": "1 × 2 RAM8X9"}
    assert (became["block0_silu_to_block0_gate_1_fifo.storage.ram"], became["head.accumulators.ram"]) == ("latches", "registers")
    report, config = json.loads((built / "report.json").read_text()), (built / "config.mk").read_text()
    total = report["resources"]["area"]["total"]
    assert (total["macros"], total["macro_um2"]) == (14, 14 * 300)
    assert " µm² (4,200 in macros) of cells of a library to test with: " in report["notes"][0]
    assert "block0_y.states.ram (16 words of 17 bits) is 2 × 2 RAM8X9; " in report["notes"][3]
    assert report["notes"][4] == ("no other RAM is a macro, since in macros they would be larger, by an estimate: "
                                  "embed_to_block0_residual_0_fifo.storage.ram (20 words of 10 bits) and 31 others are "
                                  "latches or registers")
    counts = {name: (built / name).read_text().count("RAM8X9 ") for name in ("top.v", "top_macros.v", "netlist.v")}
    assert counts["top.v"] == 0 and counts["netlist.v"] == 14
    tied = [len(re.findall(pins, (built / "netlist.v").read_text())) for pins in (
        r"\.W_MASK\(\{(?: \\?[\w.]*\bhigh ?,?){9} ?\}\)", r"\.TEST\(\\?[\w.]*\blow ?\)")]
    assert tied == [14, 14]
    assert "export VERILOG_FILES = $(dir $(DESIGN_CONFIG))netlist.v\nexport SYNTH_NETLIST_FILES = $(VERILOG_FILES)\n" in config
    assert r"RAM8X9 \history.ram.ram_0_0  (" in (built / "netlist.v").read_text()  # below its block, where config.yaml has it
    assert "ram8x9.lef" in config and "ram8x9.lib" in config and "export MACRO_PLACE_HALO = 20 20\n" in config


def test_choice_of_macros(tmp_path):
    """By area and by clock; and why there is none."""
    chosen, without = pdk.find(str(TINY)), pdk.find(described(tmp_path, "[[macros]]", "[[macros]]"))
    cell = chosen.typical.cells["RAM8X9"]
    assert cell.kind == "macro" and chosen.access["RAM8X9"] == pytest.approx(0.404e-9) and chosen.size(cell.macro) == (30, 10)
    assert memories.plan(chosen, 16, 17, 200) == memories.Plan(cell, 2, 2) and memories.plan(chosen, 20, 10, 200) is None
    assert memories.plan(chosen, 16, 17, 700) is None and memories.plan(without, 16, 17, 200) is None
    assert memories.why_none(chosen, 700) == ("RAM8X9 takes 0.40 ns to read at the slowest corner, which half a period has room "
                                              "for up to 619 MHz")
    assert memories.why_none(without, 200) == "the data of other have none"
    assert cell.cycle_energy(cell.macro.write, True) == pytest.approx(52e-15)  # rise and fall, in the RAM's picofarads
    assert cell.cycle_energy(cell.macro.read, False) == pytest.approx(1e-15)
    assert cell.capacitance("R_ADDR[2]") - cell.capacitance("R_ADDR[1]") == pytest.approx(2e-15)
    for before, after, sentence in (('"W_ADDR"', '"W_DATA"', "the macro RAM8X9 of other has no port W_DATA of 3 bits"),
                                    ('high = ["W_MASK"]', 'high = ["MASK"]', "has no port MASK of 1 bits; correct the PDK's"),
                                    ('typical = "ram', 'slow = "ram', "has no Liberty file for the corner typical"),
                                    ('name = "RAM8X9"', 'name = "RAM"', r"the library ram8x9\.lib of other has no cell RAM,")):
        path = described(tmp_path, before, after)
        for name in ("ram8x9.lib", "ram8x9.lef"):
            (tmp_path / name).write_text(TINY.with_name(name).read_text())
        with pytest.raises(EmambaError, match=sentence):
            _ = pdk.find(path).typical


def test_placed_macros(schedule, built, tmp_path):
    """In rows of the core's width, and so for LibreLane."""
    chosen = pdk.find(str(TINY)).model_copy(update={"flows": pdk.Flows(librelane=["a", "b"])})
    blocks = {name.replace(".", "_"): block for name, block in schedule.blocks.items()}
    rams = memories.find_memories((built / "top.v").read_text(), blocks)
    placed = target.place([(ram, memories.plan(chosen, ram.words, ram.width, 200)) for ram in rams], chosen, 0.45 * 200 ** 2)
    assert len(placed) == 14 and placed[0] == ("RAM8X9", "block0_conv.history.ram.ram_0_0", 20, 20)
    assert [at[2:] for at in placed[:5]] == [(20, 20), (70, 20), (120, 20), (170, 20), (20, 50)]
    facts = {"pdk": chosen, "clock_mhz": 200, "utilization": 45} | target._macro_facts(placed, chosen)
    target._render("config.yaml", tmp_path, facts)
    config = (tmp_path / "config.yaml").read_text()
    assert "VERILOG_FILES: dir::top_macros.v" in config and config.count("orientation: N") == 14
    assert "      block0_conv/history.ram.ram_0_0: { location: [20, 20], orientation: N }\n" in config


def test_wrong_netlist(schedule, built):
    """A cell of another function is found."""
    chosen = pdk.find(str(TINY))
    netlist = mapping.implement((built / "top.v").read_text(), chosen, 200)
    flat = gates.flatten(netlist)
    k = max(k for k, cell in enumerate(flat.cells) if cell.name == "XOR2" and flat.blocks[k] == "head")
    flat.cells[k] = netlist.library.cells["NAND2"]
    with pytest.raises(EmambaError, match="differs from the integer model in"):
        chip.run_gates(schedule, netlist, flat, inputs(schedule))


@pytest.fixture(scope="module")
def netlist(built):
    return mapping.implement((built / "top.v").read_text(), pdk.find(str(TINY)), 200)


def proofs(built, netlist, *parts: str) -> list[equivalence.Check]:
    return list(equivalence.check((built / "top.v").read_text(), netlist, only=parts))


def test_equivalence(built, netlist):
    """Of the top, of a FIFO of latches and of an adder tree with products: every function is the RTL's."""
    latches = min((part for part in netlist.parts.values() if part.kinds["LAT"] > 64), key=lambda part: len(part.cells)).name
    head = netlist.top.cells["head"]["type"]
    found = {proof.part: proof for proof in proofs(built, netlist, "top", latches, head)}
    assert {proof.result for proof in found.values()} == {"proven"}
    assert found["top"].cells == 0 and found["top"].functions > 100
    assert found[latches].latches > 64 and found[latches].direct == found[latches].functions  # the RTL's memory as it is written
    assert target.proven([*found.values()]) == "3 of 3 parts of the netlist are proven equivalent to the Verilog"
    assert found[head].functions > found[head].direct > 100  # the others are products, which are compared as they are lowered


def test_planted_netlist(built, netlist):
    """One cell of another function, a latch that opens with another word's clock, a register that data clock."""
    part = min((part for part in netlist.parts.values() if part.kinds["LAT"] > 64), key=lambda part: len(part.cells))
    cell = next(name for name, cell in part.cells.items() if cell["type"] == "NAND2")
    part.exchange({cell: "NOR2"})
    assert [kind for kind, _ in INSTANCE.findall(part.verilog)].count("NOR2") == part.kinds["NOR2"] > 0
    wrong, = proofs(built, netlist, part.name)
    part.exchange({cell: "NAND2"})
    assert wrong.result == "different" and re.fullmatch(r"\S+\[\d+\]", wrong.where)
    latches = [cell["connections"] for cell in part.cells.values() if cell["type"] == "LAT"]
    first, other = latches[0], next(pins for pins in latches if pins["G"] != latches[0]["G"])
    first["G"], kept = other["G"], first["G"]
    wrong, = proofs(built, netlist, part.name)
    first["G"] = kept
    assert wrong.result == "different"
    clocked = next(cell["connections"] for cell in part.cells.values() if cell["type"] == "DFF")
    kept, clocked["CK"] = clocked["CK"], clocked["D"]
    with pytest.raises(EmambaError, match="is clocked by what is no clock"):
        proofs(built, netlist, part.name)
    clocked["CK"] = kept
    with pytest.raises(EmambaError, match=f"the netlist differs from the Verilog in 1 of 1 parts, the first {part.name} at "):
        target.proven([wrong])


def test_expressions():
    cases = {"!(A B)": lambda a, b, c: 1 - a * b, "(A+B)'": lambda a, b, c: 1 - (a | b), "A^B*C": lambda a, b, c: (a ^ b) & c,
             "A'B+C": lambda a, b, c: (1 - a) & b | c, "!A|(B&C)": lambda a, b, c: 1 - a | b & c}
    for text, wanted in cases.items():
        found = expression(text, "here")
        for bits in np.ndindex(2, 2, 2):
            assert evaluate(found, dict(zip("ABC", bits, strict=True))) == wanted(*bits), text
    for text, fault in (("A &", "ends too early"), ("(A", "lacks a"), ("A)", "where it should end"), ("A $ B", "cannot be read")):
        with pytest.raises(EmambaError, match=re.escape(f"here: the function '{text}'") + ".*" + re.escape(fault)):
            expression(text, "here")


def test_library(tmp_path):
    library = pdk.find(str(TINY)).typical
    assert {cell.kind for cell in library.cells.values()} == {"gate", "ff", "latch", "clock_gate", "macro"}
    assert library.smallest_nand2.name == "NAND2" and library.volts == 1 and library.wire > 0
    library.write(tmp_path / "again.lib")
    again = Library([tmp_path / "again.lib"], ["*"], [], library.slew)
    flop, copy = library.cells["DFF"], again.cells["DFF"]
    assert copy.capacitance("D") == pytest.approx(flop.capacitance("D"), rel=1e-5)  # the wire is in the file
    assert copy.leakage == flop.leakage == pytest.approx(10e-12)
    assert np.array_equal(copy.output_energy("Q"), flop.output_energy("Q"))
    assert flop.input_energy("CK") == pytest.approx(0.45e-15)
    loads, energies = library.cells["INV"].output_energy("Y")
    assert np.allclose(loads, [1e-15, 4e-15, 16e-15]) and np.allclose(energies, [0.334e-15, 0.364e-15, 0.484e-15])


def test_layout(tmp_path, monkeypatch, capsys):
    """Stand-ins for the tools: each flow is called as it asks to be, and one that fails or leaves no GDS is named."""
    tiny = pdk.find(str(TINY))
    other = tiny.model_copy(update={"flows": pdk.Flows(
        openroad="gf180", librelane=["gf180mcuD", "gf180mcu_fd_sc_mcu7t5v0"])})
    place = tmp_path / "out"
    place.mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("FLOW_HOME", raising=False)
    assert openroad.run(place, tiny) == [] and "OpenROAD is not on PATH: " in capsys.readouterr().out

    def command(name, body=""):
        (tmp_path / name).write_text(f"#!/bin/sh\necho $WORK_HOME $@ > {place}/call\n{body}")
        (tmp_path / name).chmod(0o755)

    def gds(path):
        return f"/bin/mkdir -p {(place / path).parent}\n: > {place / path}\n"

    command("openroad")
    assert openroad.run(place, tiny)[0].startswith("place and route: not run here; OpenROAD is on PATH, but neither LibreLane")
    monkeypatch.setenv("FLOW_HOME", "/flow")
    command("make", gds("layout/results/nangate45/emamba/base/6_final.gds"))
    note, = openroad.run(place, tiny)
    assert note == "place and route: layout/results/nangate45/emamba/base/6_final.gds; the flow's own reports are beside it"
    assert (place / "call").read_text() == f"{place}/layout --file=/flow/Makefile DESIGN_CONFIG={place}/config.mk\n"
    command("librelane", gds("layout/gds/top.gds"))
    assert openroad.run(place, other) == ["place and route: layout/gds/top.gds; the flow's own reports are beside it"]
    assert (place / "call").read_text() == (
        f"--pdk gf180mcuD --scl gf180mcu_fd_sc_mcu7t5v0 --save-views-to {place}/layout --skip Yosys.Synthesis "
        f"--initial-state-element-override nl={place}/netlist.v config.yaml\n")
    command("make", "exit 2\n")
    with pytest.raises(EmambaError, match=r"make ended with status 2: see .*layout\.log"):
        openroad.run(place, tiny)
    command("librelane")
    (place / "layout" / "gds" / "top.gds").unlink()
    with pytest.raises(EmambaError, match=r"librelane left no .*top\.gds: see .*layout\.log"):
        openroad.run(place, other)


def test_parse():
    group, = parse('cell (A) { area : 1.5 ; pin("B") { function : "(C D)"; } values ("1, 2", "3"); }')
    assert group.get("area") == "1.5" and group.get("values") == ["1, 2", "3"]
    assert group.all("pin")[0].arguments == ["B"] and group.all("pin")[0].get("function") == "(C D)"


def test_sta_report():
    """The columns of OpenSTA's report, without it."""
    text = """\
== setup
Startpoint: part/_1_ (rising edge-triggered flip-flop clocked by clk)
Endpoint: part/_3_ (rising edge-triggered flip-flop clocked by clk)
   0.00    0.00   clock clk (rise edge)
  40.00   40.00 ^ part/_1_/Q (DFF)
  60.00  100.00 v part/_2_/Y (NAND2)
---------------------------------------------------------
        -12.50   slack (VIOLATED)

== hold
Startpoint: o__ready (input port clocked by clk)
Endpoint: part/_9_ (rising edge-triggered flip-flop clocked by clk)
   0.00    0.00 ^ o__ready (in)
   8.00    8.00 v part/_8_/Y (NAND2)
   0.00    8.00 v part/_9_/D (DFF)
           8.00   data arrival time

   0.00    0.00   clock clk (rise edge)
           0.00 ^ part/_9_/CK (DFF)
   5.00    5.00   library hold time
---------------------------------------------------------
          3.00   slack (MET)

== ends
part/_3_/D (DFF)    980.00  992.50  -12.50 (VIOLATED)
part/_4_/D (DFF)    980.00  900.00   80.00 (MET)
part/_5_/D (LAT)    500.00  500.00    0.00 (MET)
o__valid (output)   800.00  793.00    7.00 (MET)

== done
"""
    found = timing.read(text, pdk.find(str(TINY)).typical, 1000)
    assert (found["setup_ns"], found["hold_ns"]) == (-0.0125, 0.003) and found["mhz"] == pytest.approx(987.7, abs=0.1)
    assert [step["pin"] for step in found["path"]] == ["part/_1_/Q", "part/_2_/Y"]
    assert found["paths"] == [{"slack_ns": -0.0125, "from": "part/_1_", "to": "part/_3_"}]
    assert found["blocks"] == {"part": -0.0125, "ports": 0.007} and found["end"] == "part/_3_/D"
    assert found["hold_end"] == "part/_9_/D"
    without = timing.read(text.replace("-12.50", "12.50").replace("VIOLATED", "MET"), pdk.find(str(TINY)).typical, 1000)
    assert without["setup_ns"] == 0.007 and without["end"] == "o__valid"  # a latch that borrows has no slack of its own
    halves = text.replace("== done", """\
== full
o__valid (output)   800.00  793.00    7.00 (MET)

== half
part/ram/R_ADDR[0] (RAM8X9)   400.00  412.50  -12.50 (VIOLATED)

== done""")
    found = timing.read(halves, pdk.find(str(TINY)).typical, 1000)
    assert found["mhz"] == pytest.approx(975.6, abs=0.1)  # half a period lacks 12.5 ps


def described(tmp_path, before: str, after: str) -> str:
    """The path of a description that differs from the small one."""
    (tmp_path / "tiny.lib").write_text(TINY.with_suffix(".lib").read_text())
    path = tmp_path / "other.toml"
    path.write_text(TINY.read_text().replace(before, after))
    return str(path)


def test_refusals(tmp_path, monkeypatch, schedule, built):
    monkeypatch.delenv("EMAMBA_PDK", raising=False)
    with pytest.raises(EmambaError, match="there is no PDK 'sky'; choose one of asap7, gf180mcu, ihp-sg13g2, or name the file"):
        pdk.find("sky")
    with pytest.raises(EmambaError, match="the data of asap7 are not known: name their folder with --pdk-data or EMAMBA_PDK"):
        pdk.find("asap7")
    monkeypatch.setenv("EMAMBA_PDK", str(tmp_path))
    with pytest.raises(EmambaError, match=r"the library sg13g2_stdcell_typ_1p20V_25C\.lib of ihp-sg13g2 is not in "):
        _ = pdk.find("ihp-sg13g2").typical
    monkeypatch.delenv("EMAMBA_PDK")
    top = (built / "top.v").read_text()
    faults = [('drop = []', 'drop = ["DFF"]', "has no cell of the kind ff left; keep one in the description of other"),
              ('drop = []', 'drop = ["TIEH"]', "has no cell TIEH, which the description of other names"),
              ('drop = []', 'drop = ["NAND2"]', "has no NAND2 to count areas in"),
              ('title', 'name_of_it', "name_of_it: unknown key|title: Field required")]
    for before, after, sentence in faults:
        with pytest.raises(EmambaError, match=sentence):
            mapping.implement(top, pdk.find(described(tmp_path, before, after)), 200)


PLANTED = ("BUF\\nexec touch planted", "BUF; touch planted", "-p", "$(touch planted)", "[exec touch planted]", "BUF\\tx", "")


@pytest.mark.parametrize("value", PLANTED)
@pytest.mark.parametrize("before, where", [
    ('input = "BUF"', "drivers.input"), ('tie_high = "TIEH/Y"', "drivers.tie_high"), ('clock_buffer = "BUF"', "clock_buffer"),
    ('openroad = "nangate45"', "flows.openroad"), ('name = "RAM8X9"', "macros.0.name"), ('lef = "ram8x9.lef"', "macros.0.lef"),
    ('clock = "W_CLK"', "macros.0.write.clock"), ('data = "R_DATA"', "macros.0.read.data"),
    ('high = ["W_MASK"]', "macros.0.high.0"),
    ('typical = ["tiny.lib"]', "corners.typical.0"), ('clock_mhz = 200', "clock_mhz"), ('load_ff = 4', "load_ff")])
def test_values_of_a_description_are_words(tmp_path, value, before, where):
    """None becomes a command of Yosys, Tcl, Make or a shell."""
    key, old = before.split(" = ")
    planted = f'["{value}"]' if old.startswith("[") else f'"{value}"'
    with pytest.raises(EmambaError, match=rf"^.*other\.toml: {re.escape(where)}: [^\n]*$"):
        pdk.find(described(tmp_path, before, f"{key} = {planted}"))


@pytest.mark.parametrize("before, after, sentence", [
    ('gds = "ram8x9.gds"', 'gds = "../ram8x9.gds"', r"macros\.0\.gds: '\.\./ram8x9\.gds' is no file in the folder of"),
    ('["tiny.lib"]', '["/etc/passwd"]', r"corners\.typical\.0: '/etc/passwd' is no file in the folder"),
    ('slew_ps = 40', 'slew_ps = inf', "slew_ps: Input should be a finite number"),
    ('words = 8', 'words = true', r"macros\.0\.words: Input should be a valid integer"),
    ('title = "a library to test with"', 'title = "a\\nb"', "title: 'a\\\\nb' is no title: one line of at most 200 characters"),
    ('title', 'name', "name: unknown key|title: Field required"),
    ('typical = ["tiny.lib"]', 'slow = ["tiny.lib"]', "corners: there is none named typical"),
    ('typical = ["tiny.lib"]', 'typical = []', r"corners\.typical: List should have at least 1 item")])
def test_descriptions_that_are_refused(tmp_path, before, after, sentence):
    with pytest.raises(EmambaError, match=sentence):
        pdk.find(described(tmp_path, before, after))


def test_files_of_a_process(tmp_path, monkeypatch):
    """What is no library is refused in a sentence, and no name in one becomes a command."""
    path, library = described(tmp_path, "[[macros]]", "[[macros]]"), tmp_path / "tiny.lib"
    text = library.read_text()
    packed = gzip.compress(text.encode())
    for content, sentence in (
            (packed[:-20], "is a damaged gzip file"), (b"\x1f\x8b junk", "is a damaged gzip file"),
            (b"", "is no Liberty library"),
            (text.replace('pin (A)', 'pin ("A\nshell touch a")').encode(), "'A\\\\nshell touch a' is no name of letters"),
            (text.replace('"!A"', '"!exit"').encode(), "the function '!exit' is of exit, which is no pin"),
            (text.replace("nom_voltage", "other").encode(), "is damaged, or no Liberty library as they are known here"),
            (text.replace('"!A"', '"' + "(" * 100_000 + 'A"').encode(), "is nested too deeply")):
        library.write_bytes(content)
        with pytest.raises(EmambaError, match=sentence):
            _ = pdk.find(path).typical.smallest_inverter
    library.write_bytes(packed)
    bare = pdk.find(path).model_copy(update={"drop": ["DFF*", "INV*"]})
    with pytest.raises(EmambaError, match="has no cell of the kind ff left; keep one in the description of other"):
        memories.cell_area(bare, 8, 8)
    with pytest.raises(EmambaError, match="has no inverter; keep one in the PDK's description"):
        _ = bare.typical.smallest_inverter
    monkeypatch.setattr("asic.netlist.liberty.LIBRARY_LIMIT", len(text) - 1)
    with pytest.raises(EmambaError, match="unpacks to more than"):
        _ = pdk.find(path).typical
    library.unlink()
    os.mkfifo(library)
    with pytest.raises(EmambaError, match=r"cannot read .*tiny\.lib: it is a pipe"):
        _ = pdk.find(path).typical
    for name, what in (("/dev/zero", "it is a device"), (str(tmp_path), "(it is a folder|Is a directory)"),
                       (str(library), "it is a pipe")):
        with pytest.raises(EmambaError, match=f"cannot read {name}: {what}"):
            pdk.find(name)
    odd = pdk.find(str(TINY)).model_copy(update={"data": tmp_path / "my $(touch planted)"})
    with pytest.raises(EmambaError, match="has characters that Make or Tcl take for their own"):
        pdk.check_plain(odd)
    assert openroad.run(tmp_path / "a b", odd) == []


def test_refused_options(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["verilog", "--pdk", "asap7"]) == 1
    assert capsys.readouterr().err == "rtl.build: --pdk is for the target asic, not for verilog\n"
    assert main(["asic", "--prove"]) == 1
    assert capsys.readouterr().err == "rtl.build: --prove is of a netlist: name the process with --pdk\n"
    assert main(["asic", "--layout"]) == 1
    assert capsys.readouterr().err == "rtl.build: --layout is of a netlist: name the process with --pdk\n"


if __name__ == "__main__":
    result = figures(chip.measure(small(), pdk.find(str(TINY)), 200, inputs(small())))
    BASELINE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
