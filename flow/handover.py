"""What goes with Verilog to those who put it into their design: a header, a FuseSoC description, and a testbench in plain Verilog
with golden vectors."""

import re
from pathlib import Path

import numpy as np

from boards.describe import golden_frames
from emamba.artifact import Artifact
from emamba.base.errors import printable
from emamba.run.integer import IntegerModel
from rtl.kit import packing
from rtl.kit.block import Port

TOPS = ("top.v", "system/emamba_system.v")
"""Files that get the header, where they are there."""
STREAMS = ("verilog", "zcu102", "asic")
"""Targets whose top.v is the accelerator alone, with its two streams as ports."""
SLACK = 10_000
"""Cycles that the testbench waits beyond those of the schedule."""

HEADER = """\
// {name}: {task}, form {form}, {tokens} tokens a sequence. Written by eMamba; do not edit.
// Artifact {digest}
// {period} cycles a token (T), {frame} a sequence, {latency} from the first beat in to the last beat out; {clock}.
// Clock clk, rising edge. Reset rst, synchronous, high: hold it for a cycle after power-on.
{ports}// SPDX-License-Identifier: Apache-2.0 (the circuits; weights and tables are of the owner of the model)
"""
STREAM_PORTS = """\
// Stream i, in:  i__valid, i__ready, i__payload; {i}.
// Stream o, out: o__valid, o__ready, o__payload; {o}.
// A beat moves in a cycle in which valid and ready are high. Lane 0 lies in the least significant bits, the other lanes above it,
// then the bit `first` of a sequence's first token, then `last` of its last one; lanes beyond the channels are ignored.
"""
SYSTEM_PORTS = """\
// AXI4-Lite registers s_axil (registers.h), AXI4-Stream s_axis in and m_axis out, interrupt irq. A packet is a sequence: integers
// {i_bytes} in and {o_bytes} out, little-endian, channel after channel of token after token, as accelerator.json says.
"""
CORE = """\
CAPI=2:
name: "emamba:{target}:{name}:0.1.0"
description: "{title}, {period} cycles a token, by eMamba"
filesets:
  rtl:
    files: [{rtl}]
    file_type: verilogSource
  waivers:
    files: [{waivers}]
    file_type: vlt
{tests}targets:
  default:
    filesets: [rtl]
    toplevel: {top}
  lint:
    flow: lint
    flow_options: {{tool: verilator, verilator_options: [-Wall]}}
    filesets: [waivers, rtl]
    toplevel: {top}
{sim}"""
CORE_TESTS = """\
  tests:
    files:
      - test/testbench.v: {file_type: verilogSource}
      - test/input.hex: {file_type: user, copyto: input.hex}
      - test/output.hex: {file_type: user, copyto: output.hex}
      - test/mask.hex: {file_type: user, copyto: mask.hex}
"""
CORE_SIM = """\
  sim:
    flow: sim
    flow_options: {tool: icarus}
    filesets: [rtl, tests]
    toplevel: testbench
"""
TESTBENCH = """\
// Sends the golden sequences of {name} and compares every beat that comes out, with pauses on both sides. In this folder:
//   iverilog -g2005 -o test.vvp testbench.v ../top.v && vvp -n test.vvp
//   verilator --binary --timing -Wno-fatal --top testbench testbench.v ../top.v && obj_dir/Vtestbench
// SPDX-License-Identifier: Apache-2.0
`timescale 1ns / 1ps
module testbench;
  reg clk = 0, rst = 1;
  reg [{i_bits}:0] given [0:{i_last}];
  reg [{o_bits}:0] expected [0:{o_last}];
  reg [{o_bits}:0] mask [0:{o_last}];
  reg [15:0] chance = 16'hace1;
  integer sent = 0, seen = 0, wrong = 0, cycles = 0;
  wire i_ready, o_valid;
  wire [{o_bits}:0] o_payload;
  wire i_valid = !rst && sent <= {i_last} && chance[1:0] != 0;
  wire o_ready = chance[4:3] != 0;
  wire [{o_bits}:0] difference = (o_payload ^ expected[seen]) & mask[seen];

  top dut (.clk(clk), .rst(rst), .i__valid(i_valid), .i__ready(i_ready), .i__payload(given[sent]),
           .o__valid(o_valid), .o__ready(o_ready), .o__payload(o_payload));

  always #5 clk = !clk;

  initial begin
    $readmemh("input.hex", given);
    $readmemh("output.hex", expected);
    $readmemh("mask.hex", mask);
    repeat (4) @(posedge clk);
    rst <= 0;
  end

  always @(posedge clk) begin
    cycles <= cycles + 1;
    if (!(i_valid && !i_ready))  // valid stays until it is taken
      chance <= {{chance[14:0], chance[15] ^ chance[13] ^ chance[12] ^ chance[10]}};
    else
      chance[15:2] <= {{chance[14:2], chance[15] ^ chance[13] ^ chance[12] ^ chance[10]}};
    if (i_valid && i_ready) sent <= sent + 1;
    if (!rst && o_valid && o_ready) begin
      if (difference !== 0) begin
        wrong <= wrong + 1;
        $display("beat %0d: %h where %h is right", seen, o_payload, expected[seen]);
      end
      seen <= seen + 1;
      if (seen == {o_last}) begin
        $display("%s: {o_count} beats, %0d wrong", wrong == 0 && difference === 0 ? "PASS" : "FAIL",
                 wrong + (difference !== 0 ? 1 : 0));
        $finish;
      end
    end
    if (cycles > {limit}) begin
      $display("FAIL: %0d of {o_count} beats came out in {limit} cycles", seen);
      $finish;
    end
  end
endmodule
"""


def hand_over(folder: Path, target: str, artifact: Artifact, schedule, clock_mhz: float | None, alone: bool = True) -> None:
    """Adds to the files of a target what explains and tests its Verilog, which needs nothing beside it where it is `alone`."""
    tested = target in STREAMS and alone
    tops = [name for name in TOPS if (folder / name).is_file()]
    if tested:
        _write_test(folder / "test", artifact, schedule)
    for name in tops:
        text = (folder / name).read_text(encoding="utf-8")
        own = _header(artifact, schedule, clock_mhz, stream=target in STREAMS and name == "top.v")
        (folder / name).write_text(own + text, encoding="utf-8")
    if tops:
        top = "emamba_system" if tops[0] != "top.v" else "top"
        values = {"name": re.sub(r"\W", "_", artifact.name), "title": printable(artifact.name).replace('"', "'"),
                  "period": schedule.period, "target": target, "rtl": tops[0], "top": top,
                  "waivers": tops[0].replace(Path(tops[0]).name, "lint.vlt"), "tests": CORE_TESTS if tested else "",
                  "sim": CORE_SIM if tested else ""}
        (folder / "emamba.core").write_text(CORE.format(**values), encoding="utf-8")


def _header(artifact: Artifact, schedule, clock_mhz: float | None, stream: bool) -> str:
    if stream:
        ports = STREAM_PORTS.format(i=_beats(schedule.input), o=_beats(schedule.output))
    else:
        ports = SYSTEM_PORTS.format(i_bytes=str(schedule.input.format), o_bytes=str(schedule.output.format))
    clock = f"made for {clock_mhz:g} MHz" if clock_mhz else "any clock that the timing allows"
    return HEADER.format(name=printable(artifact.name), task=artifact.config.task, form=artifact.config.form,
                         tokens=schedule.tokens, digest=artifact.digest, period=schedule.period, frame=schedule.cycles_per_frame,
                         latency=schedule.latency, clock=clock, ports=ports)


def _beats(port: Port) -> str:
    return (f"{port.width} channels of {port.format} in {port.beats} beat{'s' * (port.beats > 1)} of {port.lanes} "
            f"lane{'s' * (port.lanes > 1)}, {packing.payload_bits(port)} bits with first and last")


def _write_test(folder: Path, artifact: Artifact, schedule) -> None:
    frames = golden_frames(artifact)
    window = artifact.graph.window(len(frames))
    given = packing.pack(schedule.input, frames, window)
    expected = packing.pack(schedule.output, IntegerModel(artifact).answer(frames), window)
    mask = np.resize(packing.mask(schedule.output), expected.shape)
    folder.mkdir()
    for name, words, port in (("input", given, schedule.input), ("output", expected, schedule.output),
                              ("mask", mask, schedule.output)):
        digits = -(-packing.payload_bits(port) // 4)
        text = "".join(f"{beat:0{digits}x}\n" for beat in packing.to_ints(words))
        (folder / f"{name}.hex").write_text(text, encoding="utf-8")
    limit = 4 * (len(frames) + 1) * schedule.cycles_per_frame + 4 * schedule.latency + SLACK
    (folder / "testbench.v").write_text(TESTBENCH.format(
        name=printable(artifact.name), i_bits=packing.payload_bits(schedule.input) - 1,
        o_bits=packing.payload_bits(schedule.output) - 1, i_last=len(given) - 1, o_last=len(expected) - 1,
        o_count=len(expected), limit=limit), encoding="utf-8")
