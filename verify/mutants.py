# amaranth: UnusedElaboratable=no
"""Mutants: changes of single wires and cells of the hardware, which the benches must notice.

Yosys makes them, all of a design in one netlist, of which the input `strap` chooses one: so that one model is compiled for all.
A mutant is killed when the beats that leave differ from the integer model's, or leave in other cycles than the schedule says,
at full speed; or differ under stalls, in their cycles too, or after a reset; or when the design stops. One that survives gets
many more sequences. Of those that survive these, a proof is tried that they behave the same for any input: first of the module
that was changed, with free inputs, then of the modules around it. Streams are the same that carry the same beats in the same
cycles.
"""

import re
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from amaranth.lib.wiring import Component

from emamba.base.errors import Mismatch, SimulationStopped
from emamba.config import ModelConfig
from emamba.run.integer import IntegerModel
from rtl.blocks.linear import Linear
from rtl.blocks.pool import Pool
from rtl.kit import packing, tools
from rtl.kit.emit import to_verilog
from rtl.plan.accelerator import Accelerator
from rtl.plan.schedule import Schedule
from sim import cases
from sim.models import random_artifact, random_inputs
from sim.native import NativeSimulation

from .equality import BUILD, Joined
from .prove import check

BITS = 10
"""Of the strap; 0 is the design itself."""


def _narrow(op):
    """Sums, multipliers and shift so small that the least bits show in the result."""
    return replace(op, weight=op.weight >> 2, bias=op.bias >> 4, multiplier=op.multiplier % 16, shift=8)


MANY, MORE, FEW = 3000, 60_000, 24
"""Sequences at full speed; of those that survive these, for wrong values that few inputs show; and under stalls and resets."""
TOKENS = 8
"""Of a sequence, so that a state can grow."""

UNUSED = re.compile(r"-port RD_(SRST|ARST|CLK)\b")
"""Ports of Yosys' memories that this project's have no use for."""

BLOCKS = {
    "linear": lambda: cases.linear_block(5, 4, 2, 2),
    "linear, pairs": lambda: cases.linear_block(5, 4, 3, 4, products=cases.Products.PAIRS),
    "linear, dyadic, ReLU": lambda: Linear(_narrow(cases.linear(cases.rng(), 4, 3, dyadic=True, relu=True)), 2, 3),
    "conv1d": lambda: cases.conv1d_block(5, 3, 2, 3),
    "range_norm": lambda: cases.range_norm_block(5, 2, 8),
    "layer_norm": lambda: cases.layer_norm_block(5, 2, 8),
    "activation": lambda: cases.activation_block("silu"),
    "scan": lambda: Joined(cases.scan_block(2, 3, 2, 2)),
    "scan, table": lambda: Joined(cases.scan_block(2, 2, 2, 2, table=True)),
    "multiply": lambda: Joined(cases.multiply_block(3, 3)),
    "add": lambda: Joined(cases.add_block(3, 3)),
    "pool": lambda: cases.pool_block(5, 3, True),
    "lookup": lambda: cases.lookup_block(11, 5, 2),
}
TINY = ModelConfig(
    form="emamba",
    input="sequence",
    features=2,
    length=3,
    d_model=2,
    expand=1,
    d_state=2,
    dt_rank=1,
    d_conv=2,
    blocks=1,
    pool="none",
    norm="none",
    task="regression",
    outputs=1,
)
TINY_SEED = 2
"""The least model whose answers show, with weights of this seed, what its state was before a sequence."""
WHOLE = "whole model"


_FED = "the bench feeds every code in every lane, and the answers are those of the design"
_DECAY = "of all products δ·A that this lane can get, none has another Ā"
EQUAL: dict[str, dict[str, str]] = {
    "activation": {
        "cnot1 top $ternary$top.v:367$130 Y 2 _112_ 2": _FED,
        "const1 top $ternary$top.v:429$192 A 0 _148_ 0": _FED,
        "cnot1 top $ternary$top.v:427$190 A 2 _146_ 2": _FED,
    },
    "layer_norm": {
        "const0 top $eq$top.v:534$176 A 16": "a spread of 5 channels is a multiple of 5, or 1 or 4 more, which 65,537 is not",
    },
    "scan": {
        "const1 top.block.state_0 $auto$ff.cc:337:slice$1298 Q 6 product 6": _DECAY,
        "inv top.block.state_1 $mul$top.v:1627$729 Y 7 _005_ 7": _DECAY,
        "cnot1 top.block.state_2 $ternary$top.v:1925$890 Y 0 _062_ 0": _DECAY,
        "const1 top.block.state_2 $ge$top.v:1850$821 Y 0 _022_ 0": _DECAY,
    },
    WHOLE: {
        "const1 top.block0_y.state_0 $ternary$top.v:7054$2969 A 3 _050_ 3": _DECAY,
        "const1 top.block0_y $auto$ff.cc:337:slice$4625 Q 0 y_start_7 0": "all states of a channel come in one cycle: "
        "every cycle is a channel's first",
        "const0 top.block0_dt_low $auto$ff.cc:337:slice$4801 Q 0 out_last_1 0": "the scan takes `last` from u, and nothing else "
        "behind this block reads it",
    },
}
"""By block, mutants that PDR does not decide and that change nothing that can be seen, and why."""


@dataclass
class Target:
    """What is mutated, tokens for it, and the answer in beats and cycles."""

    component: Component
    tokens: np.ndarray
    expected: np.ndarray
    cycles: list[int] | None
    idle_cycles: int = 2000


@dataclass
class Score:
    """`kills` by what noticed; `proven` equal by PDR; `explained` to be equal, with the reason; and what is left."""

    mutants: int
    killed: int
    proven: int
    explained: dict[str, str]
    alive: list[str]
    seconds: float
    kills: dict[str, int]


def target(name: str, sequences: int = MANY) -> Target:
    if name == WHOLE:
        artifact = random_artifact(TINY, TINY_SEED)
        schedule = Schedule(artifact, 2)
        tokens = artifact.codec.encode(random_inputs(artifact.config, sequences), artifact.input)
        tokens[::3] = np.random.default_rng(1).integers(artifact.input.min, artifact.input.max + 1, tokens[::3].shape)
        answer = IntegerModel(artifact).run(tokens, ["head"])["head"]
        return Target(Accelerator(schedule), tokens, answer, schedule.timetable(len(tokens)))
    block = BLOCKS[name]()
    inner = block.block if isinstance(block, Joined) else block
    length = inner.tokens if isinstance(inner, Pool) else TOKENS
    parts = cases.tokens_of(inner, sequences, length)
    for part in parts:  # every second random sequence has small values
        part[1:sequences:2] >>= np.random.default_rng(2).integers(0, 8, (sequences // 2, 1, 1))
    arrivals = [[0] * (len(parts[0]) * length * port.beats) for port in inner.inputs.values()]
    return Target(block, np.concatenate(parts, 2), inner.model(*parts), inner.schedule(*arrivals)[-1])


@dataclass
class Mutants:
    """Verilog with all mutants behind `strap`, what each is, and the design that they change as RTLIL."""

    verilog: str
    kinds: list[str]
    rtlil: str


def mutated(component: Component, count: int, seed: int = 1, only: str = "") -> Mutants:
    """At most `count`, all of one mode `only` where it is given."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "top.v").write_text(to_verilog(component))
        prepare = [
            "read_verilog top.v",
            "hierarchy -top top",
            "proc",
            "opt_hier",
            "opt -full",
            "wreduce",
            "opt_expr",
            "opt_hier",
            "opt_clean",
            "memory_collect",
            "opt_clean",
            "write_rtlil top.il",
        ]
        tools.yosys(folder, [*prepare, f"mutate -list {3 * count} -seed {seed} -o list.txt"])
        kinds = [line.removeprefix("mutate ") for line in (folder / "list.txt").read_text().splitlines()]
        kinds = [kind for kind in kinds if f"-mode {only}" in kind and not UNUSED.search(kind)][:count]
        mutate = [f"mutate -ctrl strap {BITS} {k} {kind}" for k, kind in enumerate(kinds, 1)]
        tools.yosys(folder, ["read_rtlil top.il", *mutate, "flatten", "clean", "write_verilog -noattr mutated.v"])
        return Mutants((folder / "mutated.v").read_text(), kinds, (folder / "top.il").read_text())


def score(name: str, count: int, seed: int = 1, seconds: int = 20) -> Score:
    """Of `count` mutants; a proof of equality may take `seconds`."""
    start = time.perf_counter()
    case = target(name)
    made = mutated(case.component, count, seed)
    simulation = NativeSimulation(case.component, BUILD, fast=False, verilog=made.verilog, options=("-Wno-fatal",))
    bench = _bench(simulation, case)
    if reason := bench(0):
        raise Mismatch(f"{name}: the design itself fails its bench: {reason}")
    reasons = {k: bench(k) for k in range(1, len(made.kinds) + 1)}
    if not all(reasons.values()):
        longer = _bench(simulation, target(name, MORE))
        reasons |= {k: longer(k) for k, reason in reasons.items() if not reason}
    survivors = [k for k, reason in reasons.items() if not reason]
    reason_of = EQUAL.get(name, {})
    explained = {text: reason_of[text] for k in survivors if (text := _short(made.kinds[k - 1])) in reason_of}
    left = [k for k in survivors if _short(made.kinds[k - 1]) not in explained]
    alive = [_short(made.kinds[k - 1]) for k in left if not _equal(made, case.component, k, seconds)]
    return Score(
        len(made.kinds),
        len(made.kinds) - len(survivors),
        len(left) - len(alive),
        explained,
        alive,
        round(time.perf_counter() - start, 1),
        dict(Counter(reason for reason in reasons.values() if reason)),
    )


def _equal(made: Mutants, component: Component, strap: int, seconds: int) -> bool:
    """Whether a proof is found, from the changed module outwards; of each as it is, and with its products free."""
    module = re.search(r"-module (\S+)", made.kinds[strap - 1])[1]
    while module != "top":
        if any(same(made, strap, module, seconds, free=free) for free in (False, True)):
            return True
        module = module.rpartition(".")[0]
    return any(same(made, strap, module, seconds, free=free, component=component) for free in (False, True))


def _bench(simulation: NativeSimulation, case: Target):
    port = simulation.o
    words = packing.pack(simulation.i, case.tokens)
    expected = packing.pack(port, case.expected)
    mask = np.tile(packing.mask(port), (len(expected) // port.beats, 1))
    beats, answers = len(words) // len(case.tokens), len(expected) // len(case.tokens)  # of a sequence
    few = min(FEW, len(case.tokens))
    some = words[-few * beats:]

    def right(output: np.ndarray, sequences: int) -> bool:
        """Whether it is the answer to the last so many."""
        last = sequences * answers
        return len(output) == last and not ((output ^ expected[-last:]) & mask[-last:]).any()

    def stalled(strap: int, seed: int, source: int, sink: int):
        return simulation.run(some, seed, source, sink_percent=sink, strap=strap, idle_cycles=case.idle_cycles)

    waits = list(enumerate(((60, 60), (25, 25), (85, 85), (0, 90), (90, 0))))
    usual = [stalled(0, seed, *rates).output_cycles for seed, rates in waits]

    def judge(strap: int) -> str:
        """Which check fails, or nothing."""
        settings = {"strap": strap, "idle_cycles": case.idle_cycles}
        try:
            plain = simulation.run(words, **settings)
            if not right(plain.output, len(case.tokens)):
                return "value"
            if case.cycles is not None and plain.output_cycles.tolist() != case.cycles:
                return "cycle"
            for (seed, rates), wanted in zip(waits, usual, strict=True):
                found = stalled(strap, seed, *rates)
                if not right(found.output, few) or not np.array_equal(found.output_cycles, wanted):
                    return "stalls"
            for cycle in range(3, 4 * beats, max(1, beats // 3)):
                after = simulation.run(some, cycle, 0, sink_percent=70, reset_at=cycle, resume_beat=few // 2 * beats, **settings)
                if not right(after.output, few - few // 2):
                    return "reset"
        except SimulationStopped as error:
            return error.kind
        return ""

    return judge


MITER = """\
module miter(input clk, input [{i}:0] payload, input valid, input ready{head});
  reg live = 0, pending = 0, fresh = 1, ends = 0; reg [{i}:0] held; reg [15:0] beat = 0, place = 0;
  wire last = beat == 0 ? payload[{i}] : ends, v = live & (pending | valid);
  wire [{i}:0] p = pending ? held : {{last, fresh, payload[{i}-2:0]}};
  wire [{o}:0] a, b, mask = place == {o_beats} - 1 ? {final} : {inner}; wire av, bv, ar, br;
{free}
  top gold(.clk(clk), .rst(~live), .i__payload(p), .i__valid(v), .i__ready(ar), .o__payload(a), .o__valid(av), .o__ready(ready),
           .strap(1'd0){gold});
  top gate(.clk(clk), .rst(~live), .i__payload(p), .i__valid(v), .i__ready(br), .o__payload(b), .o__valid(bv), .o__ready(ready),
           .strap(1'd1){gate});
  always @(posedge clk) begin
    live <= 1; pending <= v & ~ar; held <= p;
    if (v & ar) begin
      beat <= beat == {i_beats} - 1 ? 0 : beat + 1; ends <= last;
      if (beat == {i_beats} - 1) fresh <= p[{i}];
    end
    if (av & ready) place <= place == {o_beats} - 1 ? 0 : place + 1;
  end
  always @* if (live) assert(av == bv && ar == br && (!av || ((a ^ b) & mask) == 0));
endmodule
"""
LOWER = [
    "read_verilog module.v",
    "read_verilog -formal miter.v",
    "hierarchy -top miter",
    "proc",
    "flatten",
    "opt -full",
    "memory -nomap",
    "memory_map",
    "{clocks}",
    "chformal -lower",
    "opt -full",
    "setundef -zero -undriven",
    "techmap",
    "opt -fast",
    "dffunmap",
    "aigmap",
    "opt_clean",
    "setundef -zero -undriven",
    "write_aiger -I -B -zinit -no-startoffset design.aig",
]
SIMPLIFY = "&get -n; &scl; &lcorr; &scorr; &put; scorr; dc2; "
PRODUCT = re.compile(r"assign ([^=;]+) = ([^;]+?) \* ([^;]+);")
PORT = re.compile(r"^  (input|output) (?:\[(\d+):0\] )?(\S+?) ?;", re.M)


def same(made: Mutants, strap: int, module: str, seconds: int, *, free: bool = True,
         component: Component | None = None) -> bool:
    """Whether a module is proven to give the same with a mutant as without, for any inputs; of the whole `component`, for any
    sequences. With `free`, products are anything, but for that equal factors have equal products in both."""
    kind = made.kinds[strap - 1]
    clocks = "clk2fflogic" if re.search(r"-port \w*CLK\b|-wire clk\b", kind) else "async2sync"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "top.il").write_text(made.rtlil)
        tools.yosys(folder, ["read_rtlil top.il", f"mutate -ctrl strap 1 1 {kind}", f"hierarchy -top {module}", "flatten",
                             "clean", f"rename {module} top", "write_verilog -noattr module.v"])
        verilog = (folder / "module.v").read_text()
        if not re.search(r"\bstrap\b", verilog):
            return True  # what it changes is not connected to anything
        places = len(PRODUCT.findall(verilog)) if free else 0
        if free and not places and not component:
            return False  # without products there is nothing to free
        (folder / "module.v").write_text(_opened(verilog, places) if places else verilog)
        (folder / "miter.v").write_text(_stream_miter(component, places) if component else _miter(verilog, places))
        tools.yosys(folder, [command.format(clocks=clocks) for command in LOWER])
        return check(folder, seconds, 0.0, SIMPLIFY).result == "proven"


def _miter(verilog: str, places: int) -> str:
    """`gold` and `gate`, the mutant, with the same inputs; a stream's payload counts while it is valid."""
    ports = [(name, int(top or 0), way) for way, top, name in PORT.findall(verilog) if name != "strap"]
    outputs = [name for name, _, way in ports if way == "output"]
    lines, equal = [], []
    for strap, part in enumerate(("gold", "gate")):
        own = [(name, f"{name} " if way == "input" else f"\\{part}.{name.removeprefix(chr(92))} ") for name, _, way in ports]
        lines += [f"wire [{top}:0] {wire};" for (_, top, way), (_, wire) in zip(ports, own, strict=True) if way == "output"]
        pins = ", ".join(f".{name} ({wire})" for name, wire in own)
        lines.append(f"top {part}({pins}, .strap(1'd{strap}){PINS[part] * (places > 0)});")
    for name in outputs:
        plain = name.removeprefix("\\")
        valid = plain.replace("__payload", "__valid")
        masked = valid != plain and valid in [each.removeprefix("\\") for each in outputs]
        equal.append(f"(\\gold.{plain} == \\gate.{plain} " + f"|| !\\gold.{valid} " * masked + ")")
    head = [f"input [{top}:0] {name} " for name, top, way in ports if way == "input"]
    lines += [PRODUCTS.format(wide=128 * places - 1)] * (places > 0)
    head += [FREE.format(wide=128 * places - 1)] * (places > 0)
    return "\n".join([f"module miter({', '.join(head)});", *lines, f"always @* assert({' && '.join(equal)});", "endmodule", ""])


FREE = "input [{wide}:0] products, input [{wide}:0] others"
PRODUCTS = """\
  wire [{wide}:0] afactors, bfactors, bproducts;
  genvar k; generate for (k = 0; k <= {wide}; k = k + 128)
    assign bproducts[k +: 128] = afactors[k +: 128] == bfactors[k +: 128] ? products[k +: 128] : others[k +: 128];
  endgenerate
"""
PINS = {"gold": ", .factors(afactors), .products(products)", "gate": ", .factors(bfactors), .products(bproducts)"}


def _stream_miter(component: Component, places: int) -> str:
    i, o = component.inputs["i"], component.output
    masks = [f"{packing.payload_bits(o)}'h{mask:x}" for mask in packing.to_ints(packing.mask(o))]
    wide = 128 * places - 1
    return MITER.format(
        i=packing.payload_bits(i) - 1, o=packing.payload_bits(o) - 1, i_beats=i.beats, o_beats=o.beats, inner=masks[0],
        final=masks[-1], head=", " + FREE.format(wide=wide) if places else "", free=PRODUCTS.format(wide=wide) if places else "",
        **{part: pins if places else "" for part, pins in PINS.items()},
    )


def _opened(verilog: str, places: int) -> str:
    """The Verilog with its products as inputs and their factors as outputs."""
    place = iter(range(0, 128 * places, 128))

    def opened(found: re.Match) -> str:
        k = next(place)
        return (f"assign {found[1]} = products[{k} +: 128]; wire signed [63:0] left{k} = {found[2]}, right{k} = {found[3]}; "
                f"assign factors[{k} +: 128] = {{left{k}, right{k}}};")

    head = f"\\1factors, products, \\2 output [{128 * places - 1}:0] factors; input [{128 * places - 1}:0] products;"
    return re.sub(r"(module top\()(.*?;)", head, PRODUCT.sub(opened, verilog), count=1, flags=re.S)


def _short(kind: str) -> str:
    words = dict(re.findall(r"-(mode|module|cell|port|portbit|wire|wirebit|src) (\S+)", kind))
    return " ".join(words.get(key, "") for key in ("mode", "module", "cell", "port", "portbit", "wire", "wirebit")).strip()
