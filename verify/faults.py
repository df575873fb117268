"""Abuse of a whole small model: resets, stalls, undefined registers at power-up, upset bits, and a very long run."""

import hashlib
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from emamba.artifact import Artifact
from emamba.base.errors import SimulationStopped, ToolFailed
from emamba.run.integer import IntegerModel
from rtl.kit import packing, tools
from rtl.kit.emit import to_verilog
from rtl.plan.accelerator import Accelerator
from rtl.plan.schedule import Schedule
from sim.models import random_artifact, random_inputs
from sim.native import NativeSimulation

from .equality import BUILD
from .mutants import mutated

MODEL, CYCLES_PER_TOKEN = "emamba-image", 3
STALLS = (0, 1, 10, 25, 50, 75, 90, 99)


class Frames:
    """Frames of a model with their answers, in beats; a run's `strap` inverts one of `wires` wires."""

    def __init__(self, artifact: Artifact, cycles_per_token: int, frames: int, wires: int = 0, seed: int = 1):
        self.schedule = Schedule(artifact, cycles_per_token)
        self.component = Accelerator(self.schedule)
        made = mutated(self.component, wires, seed, only="inv") if wires else None
        self.wires = len(made.kinds) if made else 0
        tokens = artifact.codec.encode(random_inputs(artifact.config, frames), artifact.input)
        answer = IntegerModel(artifact).answer(tokens)
        self.words, self.expected = packing.pack(self.schedule.input, tokens), packing.pack(self.schedule.output, answer)
        self.mask = np.tile(packing.mask(self.schedule.output), (len(self.expected) // self.schedule.output.beats, 1))
        self.beats, self.answers = len(self.words) // frames, len(self.expected) // frames  # of a frame
        self.simulation = NativeSimulation(
            self.component, BUILD, fast=False, verilog=made and made.verilog, options=("-Wno-fatal",) if made else ()
        )

    def run(self, seed: int | None = None, percent: int = 0, **settings) -> np.ndarray:
        return self.simulation.run(self.words, seed, percent, idle_cycles=20_000, **settings).output

    def wrong(self, output: np.ndarray, first: int = 0) -> list[int]:
        """Frames, from `first` on, that differ from the answer."""
        expected, mask = self.expected[first * self.answers :], self.mask[first * self.answers :]
        if len(output) != len(expected):
            return list(range(len(expected) // self.answers))
        differs = ((output & mask) != (expected & mask)).any(1).reshape(-1, self.answers).any(1)
        return np.flatnonzero(differs).tolist()


def resets() -> dict:
    """A reset in every cycle from the first beat to the end of the second frame; what follows must be right at once."""
    frames = Frames(random_artifact(MODEL), CYCLES_PER_TOKEN, 5)
    cycles = range(frames.schedule.latency + 2 * frames.schedule.cycles_per_frame + 1)
    wrong = [
        cycle
        for cycle in cycles
        for percent in (0, 50)
        if frames.wrong(frames.run(cycle, percent, reset_at=cycle, resume_beat=3 * frames.beats), 3)
    ]
    return {"cycles": len(cycles), "runs": 2 * len(cycles), "wrong": len(wrong)}


def stalls() -> dict:
    frames = Frames(random_artifact(MODEL), CYCLES_PER_TOKEN, 8)
    rates = [
        {"percent": percent, "runs": 3, "wrong": sum(bool(frames.wrong(frames.run(seed, percent))) for seed in range(3))}
        for percent in STALLS
    ]
    return {"rates": rates}


def upsets(count: int = 60, seed: int = 1) -> dict:
    """One wrong bit for one cycle, on any wire or memory port, in the second of eight frames. Without a reset the frames inside
    may be wrong; what a control register loses stays lost until the next reset, after which everything must be right."""
    frames = Frames(random_artifact(MODEL), CYCLES_PER_TOKEN, 8, count, seed)
    rng = np.random.default_rng(seed)
    result: Counter = Counter()
    longest = 0
    for k in range(1, frames.wires + 1):
        at = int(rng.integers(frames.schedule.cycles_per_frame, frames.schedule.latency + frames.schedule.cycles_per_frame))
        try:
            wrong = frames.wrong(frames.run(strap=k, strap_at=at))
            outcome = "no effect" if not wrong else "until reset" if wrong[-1] == 7 else "passing"
            longest = max(longest, wrong[-1] - wrong[0] + 1 if outcome == "passing" else 0)
        except SimulationStopped:
            outcome = "until reset"
        result[outcome] += 1
        after = frames.run(strap=k, strap_at=at, reset_at=at + 20, resume_beat=5 * frames.beats)
        result["wrong after a reset"] += bool(frames.wrong(after, 5))
    return {
        "upsets": frames.wires,
        **{key: result[key] for key in ("no effect", "passing", "until reset", "wrong after a reset")},
        "longest": longest,
    }


def soak(shape: str, cycles_per_token: int, tokens: int = 1_000_000) -> dict:
    """One run without a pause; the SHA-256 of all answers equals the integer model's."""
    artifact = random_artifact(shape)
    schedule, config = Schedule(artifact, cycles_per_token), artifact.config
    sequences = -(-tokens // config.tokens)
    rng = np.random.default_rng(0)
    i = artifact.input
    integers = rng.integers(i.min, i.max + 1, (sequences, config.tokens, config.input_width))
    answer = IntegerModel(artifact).answer(integers)
    result = NativeSimulation(Accelerator(schedule), BUILD).run(packing.pack(schedule.input, integers))
    head = packing.unpack(schedule.output, result.output).reshape(answer.shape)
    digests = [hashlib.sha256(values.astype("<i8").tobytes()).hexdigest() for values in (head, answer)]
    return {
        "model": shape,
        "tokens": sequences * config.tokens,
        "cycles": result.cycles,
        "digest": digests[0][:16],
        "equal": digests[0] == digests[1],
    }


# -- undefined registers ------------------------------------------------------------------------------------------------------

BENCH = """\
`timescale 1ns/1ps
module bench;
  reg clk = 0, rst = 1, valid = 0, ready = 0; reg [{i}:0] payload; wire [{o}:0] out; wire out_valid, in_ready;
  reg [{i}:0] beats [0:{last}]; integer next = 0, cycle = 0, undefined = 0; integer seed = {seed};
  top dut(.clk(clk), .rst(rst), .i__payload(payload), .i__valid(valid), .i__ready(in_ready),
          .o__payload(out), .o__valid(out_valid), .o__ready(ready));
  always #1 clk = ~clk;
  initial $readmemh("beats.hex", beats);
  always @(negedge clk) begin
    cycle = cycle + 1;
    if (cycle == 3) rst = 0;
    if (!rst) begin
      if (valid && taken) begin valid = 0; next = next + 1; end
      if (!valid && next <= {last} && $unsigned($random(seed)) % 100 >= {percent}) begin valid = 1; payload = beats[next]; end
      ready = $unsigned($random(seed)) % 100 >= {percent};
    end
  end
  reg taken = 0;
  always @(posedge clk) begin
    taken = valid && in_ready === 1;
    if (!rst) begin
      if (^out_valid === 1'bx || ^in_ready === 1'bx) undefined = undefined + 1;
      if (out_valid === 1 && ready) $display("beat %b", out);
    end
    if (cycle > {cycles}) begin $display("undefined %0d", undefined); $finish; end
  end
endmodule
"""
STRIP = [
    "read_verilog top.v",
    "hierarchy -top top",
    "proc",
    "flatten",
    "memory_collect",
    "setattr -unset init w:*",
    "clean",
    "write_verilog -noattr undefined.v",
]
"""Registers lose their initial values; `powerless` does so to memories that are written."""


def undefined(artifact: Artifact, cycles_per_token: int, percent: int = 40, frames: int = 4) -> dict:
    """Every register and written memory is X at power-up, in Icarus; after three cycles of reset no X may leave, and the answers
    are the integer model's."""
    schedule = Schedule(artifact, cycles_per_token)
    tokens = artifact.codec.encode(random_inputs(artifact.config, frames), artifact.input)
    answer = packing.pack(schedule.output, IntegerModel(artifact).answer(tokens))
    words = packing.to_ints(packing.pack(schedule.input, tokens))
    bits = {name: packing.payload_bits(port) - 1 for name, port in (("i", schedule.input), ("o", schedule.output))}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "top.v").write_text(to_verilog(Accelerator(schedule)))
        tools.yosys(folder, STRIP)
        (folder / "undefined.v").write_text(powerless((folder / "undefined.v").read_text()))
        (folder / "beats.hex").write_text("\n".join(f"{word:x}" for word in words) + "\n")
        cycles = 20 * (schedule.latency + len(tokens) * schedule.cycles_per_frame)
        (folder / "bench.v").write_text(BENCH.format(**bits, last=len(words) - 1, seed=1, percent=percent, cycles=cycles))
        for command in (["iverilog", "-g2012", "-o", "bench", "bench.v", "undefined.v"], ["vvp", "bench"]):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            if done.returncode:
                raise ToolFailed(f"{command[0]} does not run the bench: {done.stderr.strip().splitlines()[0]}")
    beats = re.findall(r"^beat ([01xz]+)", done.stdout, re.M)
    masks = [f"{mask:b}".zfill(len(beats[0])) for mask in packing.to_ints(packing.mask(schedule.output))] * len(beats)
    used = [
        "".join(bit for bit, wanted in zip(beat, mask, strict=True) if wanted == "1")
        for beat, mask in zip(beats, masks, strict=False)
    ]
    wanted = [
        "".join(bit for bit, keep in zip(f"{word:b}".zfill(len(mask)), mask, strict=True) if keep == "1")
        for word, mask in zip(packing.to_ints(answer), masks, strict=False)
    ]
    return {
        "model": artifact.name,
        "beats": len(beats),
        "undefined": sum("x" in beat or "z" in beat for beat in used) + int(re.search(r"^undefined (\d+)", done.stdout, re.M)[1]),
        "right": used == wanted,
    }


def powerless(verilog: str) -> str:
    """Without the initial blocks of memories that are written."""
    written = set(re.findall(r"^\s*(?:if \(.*\)\s*)?(\\\S+ |\w+)\s*\[.*\] *<=", verilog, re.M))
    blocks = re.compile(r"^  initial begin\n(.*?)^  end\n", re.M | re.S)
    return blocks.sub(lambda block: "" if re.match(r"\s*(\\\S+ |\w+)", block[1])[1] in written else block[0], verilog)
