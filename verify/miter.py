"""Proofs that a mutant changes nothing: two copies of a module or of a whole block, one with the mutant, give the same."""

import re
import tempfile
from pathlib import Path

from amaranth.lib.wiring import Component

from rtl.kit import packing, tools

from .mutants import Mutants
from .prove import check

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
