"""Proofs by induction: a component with assertions becomes a circuit of AND gates and flip-flops, for which ABC's property-
directed reachability (PDR) finds an inductive invariant, or an input sequence that breaks an assertion.

The proof begins in any state of all registers and memories, after one cycle of reset: what is proven therefore also holds after
a reset at any moment, and no stale state survives one. The number of cycles has no bound.
"""

import hashlib
import json
import re
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Assert, ClockDomain, Module, Signal

from emamba.io.files import write_file
from rtl.kit import tools

LOWER = """\
read_rtlil design.il
hierarchy -check -top top
proc
flatten
setattr -set keep 1 w:started %ci1 w:*.started %ci1 %u
opt_clean
{cut}
memory -nomap
memory_map -formal
async2sync
chformal -lower
opt -fast
setattr -unset init w:* w:started %d w:*.started %d
setundef -undriven -anyseq
techmap
opt -fast
dffunmap
aigmap
opt_clean
setundef -undriven -anyseq
write_aiger -I -B -zinit -no-startoffset -map design.map design.aig
"""
CUT = "cutpoint t:$mul w:*requantized*"


@dataclass(frozen=True)
class Proof:
    """`result` is proven, broken or unknown; `detail` is ABC's own last word; `registers` the bits of state that were left."""

    result: str
    detail: str
    registers: int
    seconds: float


class Bench:
    """Base of what is proven: `body(m)` makes the design, its environment and, by `check`, the assertions. Inputs of the module
    are free in every cycle. `live` is high in every cycle but the first, which is the reset."""

    unroll = 0  # cycles after which nothing new can happen, where the design has no loop
    cut = False  # whether products and requantized values become free: what holds for these holds for all

    def __init__(self):
        self.live = Signal(name="started", init=0, reset_less=True)
        self.free: list[Signal] = []

    def any(self, shape, name: str) -> Signal:
        """A value that is free in every cycle."""
        signal = Signal(shape, name=f"any_{name}")
        self.free.append(signal)
        return signal

    def check(self, m: Module, condition) -> None:
        m.d.comb += Assert(~self.live | condition)

    def body(self, m: Module) -> None:
        raise NotImplementedError

    def module(self) -> Module:
        m = Module()
        m.domains.sync = sync = ClockDomain()
        m.domains.always = always = ClockDomain(reset_less=True)
        clk = Signal(name="clk")
        self.free.append(clk)
        m.d.comb += [sync.clk.eq(clk), always.clk.eq(clk), sync.rst.eq(~self.live)]
        m.d.always += self.live.eq(1)
        self.body(m)
        return m


def prove(bench: Bench, seconds: int = 120, kept: Path | None = None) -> Proof:
    """Proves all assertions of `bench`, or says why not. In a folder `kept`, the proof of a circuit is found again."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lower(bench, folder)
        if not kept:
            return check(folder, seconds, start, unroll=bench.unroll)
        record = kept / f"{hashlib.sha256((folder / 'design.aig').read_bytes()).hexdigest()[:16]}-{bench.unroll}.json"
        if record.exists():
            return Proof(**json.loads(record.read_text(encoding="utf-8")))
        proof = check(folder, seconds, start, unroll=bench.unroll)
    if proof.result != "unknown":
        write_file(record, lambda target: target.write_text(json.dumps(asdict(proof)), encoding="utf-8"))
    return proof


def lower(bench: Bench, folder: Path) -> None:
    """Writes design.aig."""
    text = _convert(bench)
    (folder / "design.il").write_text(text)
    tools.yosys(folder, LOWER.format(cut=CUT if bench.cut else "").splitlines())


def check(folder: Path, seconds: int, start: float, simplify: str = "", unroll: int = 0) -> Proof:
    """Runs ABC on design.aig, after its commands `simplify`."""
    begun = tools.abc(folder, f"read_aiger design.aig; print_stats; fold; strash; {simplify}print_stats; write_aiger begun.aig")
    sizes = re.findall(r"lat\s*=\s*(\d+)\s+and\s*=\s*(\d+)", begun)
    sequential = f"bmc3 -F {unroll} -T {seconds}" if unroll else f"pdr -T {seconds}"
    engine = "dprove" if "0" in sizes[-1] else sequential  # PDR needs registers and gates
    report = tools.abc(folder, f"read_aiger begun.aig; {engine}")
    words = r"^(Property proved|UNSATISFIABLE|Output.*was asserted.*|Property UNDECIDED|No output.*|Explored all.*)"
    detail = (re.findall(words, report, re.M) or report.strip().splitlines() or ["no answer"])[-1].strip()
    frames = re.match(r"No output asserted in (\d+) frames", detail)
    if detail.startswith(("Property proved", "UNSATISFIABLE", "Explored all")) or (frames and int(frames[1]) >= unroll > 0):
        result = "proven"
    else:
        result = "broken" if "was asserted" in detail else "unknown"
    return Proof(result, detail, int(sizes[0][0]), round(time.perf_counter() - start, 2))


def _convert(bench: Bench) -> str:
    module = bench.module()
    return rtlil.convert(module, name="top", ports=bench.free, emit_src=False)
