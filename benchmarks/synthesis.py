"""Resources by Yosys, place and route by nextpnr: figures without vendor tools, from `pip install emamba[synthesis]`.

A count by Yosys differs from a vendor's: it is the same for everybody, and it shows what a change costs. Every result is
kept in build/synthesis under the hash of the Verilog, the commands and the tools' versions.
"""

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path

from amaranth.hdl import Elaboratable

from emamba.base.errors import SettingError, ToolFailed
from emamba.io.files import write_file
from rtl.kit import tools
from rtl.kit.block import Spec
from rtl.kit.emit import parts, to_verilog
from rtl.kit.tools import version
from rtl.plan.accelerator import Accelerator
from rtl.plan.schedule import Schedule

CACHE = Path("build/synthesis")
TOGETHER, SMALL = 12, 20_000
"""Texts of one run of Yosys, and characters below which one shares a run."""

FLOWS = {
    "xcup": ["scratchpad -set abc9.D 5000", "synth_xilinx -family xcup -flatten -noiopad -noclkbuf -top top"],
    "xc7": ["scratchpad -set abc9.D 5000", "synth_xilinx -family xc7 -flatten -noiopad -noclkbuf -top top"],
    "ecp5": ["scratchpad -set abc9.D 5000", "synth_ecp5 -top top"],
    "ice40": ["scratchpad -set abc9.D 20000", "synth_ice40 -device u -dsp -top top"],
    "gates": ["synth -flatten -top top -run begin:fine", "memory_map -rom-only", "opt -full", "techmap", "opt",
              "dfflegalize -cell $_DFF_P_ 01", "opt -nodffe -nosdff", "abc -g NAND,NOR,XOR,XNOR,MUX,AOI3,OAI3,AOI4", "opt_clean"],
}
"""Yosys commands from the Verilog of a module `top` to a netlist. The delay asked of abc9, in ps, lets it save area where it has
time; else it makes a small module as fast as can be, and up to four times as large as the same module within a design. For xcup
Yosys puts no register or adder into a DSP48E2; for xc7 (DSP48E1) it does, which is closer to what Vivado makes. In `gates` a ROM
becomes gates, other memories stay whole, and a clock enable or reset is gates before a plain flip-flop."""

LUTRAM = {
    "RAM32X1S": 1, "RAM32X1D": 2, "RAM32M": 4, "RAM32M16": 8, "RAM64X1S": 1, "RAM64X1D": 2, "RAM64M": 4, "RAM64M8": 8,
    "RAM64X8SW": 8, "RAM128X1S": 2, "RAM128X1D": 4, "RAM256X1S": 4, "RAM256X1D": 8, "RAM512X1S": 8,
    "SRL16E": 1, "SRLC16E": 1, "SRLC32E": 1,
}
XILINX = {
    "lut": {"LUT[1-6]": 1, "INV": 1, **LUTRAM}, "lutram": LUTRAM, "ff": {"FD[RSCP]E*": 1}, "carry": {"CARRY4": 0.5, "CARRY8": 1},
    "dsp": {"DSP48E[12]": 1}, "bram36": {"RAMB36E[12]": 1, "RAMB18E[12]": 0.5}, "uram": {"URAM288": 1},
}
COUNTS = {
    "xcup": XILINX,
    "xc7": XILINX,
    "ecp5": {
        "lut": {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6}, "lutram": {"TRELLIS_DPR16X4": 6}, "ff": {"TRELLIS_FF": 1},
        "carry": {"CCU2C": 1}, "dsp": {"MULT18X18D": 1}, "ebr": {"DP16KD": 1, "PDPW16KD": 1},
    },
    "ice40": {
        "lut": {"SB_LUT4": 1}, "ff": {"SB_DFF*": 1}, "carry": {"SB_CARRY": 1}, "dsp": {"SB_MAC16": 1},
        "ebr": {"SB_RAM40_4K*": 1}, "spram": {"SB_SPRAM256KA": 1},
    },
    "gates": {
        "nand2": {"$_NOT_": 0.75, "$_NAND_": 1, "$_NOR_": 1, "$_AOI3_": 1.25, "$_OAI3_": 1.25, "$_AOI4_": 1.5, "$_XOR_": 2,
                  "$_XNOR_": 2, "$_MUX_": 2.5},
        "ff": {"$_DFF_P_": 1},
    },
}
"""What a cell counts for. xcup, xc7: LUT6, of them memory and shift registers; carries of 8 bits. ecp5: LUT4 as nextpnr counts
before it packs; MULT18X18D; 18 kbit EBR. ice40: LUT4; SB_MAC16; 4 kbit EBR. gates: areas over a NAND2's, from the smallest
cells of IHP SG13G2, whose flip-flop would count 6.75."""


def synthesize(design: str | Elaboratable | Spec | Schedule, flow: str) -> dict:
    """Resources of a Verilog text with the module `top`, a component or a whole accelerator; the keys are COUNTS[flow]'s,
    `memory_bits` (gates only), `cells` by type and `tool`."""
    if flow not in FLOWS:
        raise SettingError(f"there is no flow '{flow}'; choose one of {', '.join(FLOWS)}")
    verilog = _verilog(design)
    return _kept([verilog, flow, *FLOWS[flow], json.dumps(COUNTS[flow]), version("pyosys")], lambda: _run(verilog, flow)["top"])


def synthesize_apart(texts: Sequence[str], flow: str) -> list[dict]:
    """Resources of several Verilog texts with a module `top` each, by one run of Yosys that keeps them apart: of a small one's
    time nearly all goes into the beginning of a run."""
    found: list[dict] = []
    for start in range(0, len(texts), TOGETHER):
        verilog = _side_by_side(texts[start:start + TOGETHER])
        modules = _kept([verilog, flow, *FLOWS[flow], json.dumps(COUNTS[flow]), version("pyosys")],
                        lambda verilog=verilog: _run(verilog, flow))
        found += [modules[f"part{k}"] for k in range(len(modules) - 1)]
    return found


def by_module(schedule: Schedule, flow: str) -> dict:
    """Resources of an accelerator, every block and piece between blocks synthesized alone; equal ones once. `modules` gives
    those of each, `total` their sum."""
    texts = parts(to_verilog(Accelerator(schedule)))
    distinct = list(dict.fromkeys(texts.values()))
    small = [text for text in distinct if len(text) < SMALL]
    large = [text for text in distinct if len(text) >= SMALL]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(large, pool.map(lambda text: synthesize(text, flow), large), strict=True))
    found |= zip(small, synthesize_apart(small, flow), strict=True)
    modules = {name: found[text] for name, text in texts.items()}
    keys = [*COUNTS[flow], *["memory_bits"] * (flow == "gates")]
    return {"total": {key: sum(module[key] for module in modules.values()) for key in keys}, "modules": modules,
            "distinct": len(distinct), "tool": version("pyosys")}


def lanes_apart(design: Elaboratable, flow: str) -> dict:
    """Resources of an engine, whose lanes are synthesized once and counted as often as they are there."""
    verilog = re.sub(r"(?m)^(?=module lane_\d+\()", "(* keep_hierarchy *)\n", _verilog(design))
    modules = _kept([verilog, flow, *FLOWS[flow], json.dumps(COUNTS[flow]), version("pyosys")], lambda: _run(verilog, flow))
    top = modules.pop("top")
    return {key: top[key] + sum(top["cells"].get(name, 0) * module[key] for name, module in modules.items())
            for key in top if key not in ("cells", "tool")} | {"tool": top["tool"]}


def place_and_route(design: str | Elaboratable | Spec | Schedule, family: str, options: list[str], mhz: float) -> dict:
    """What `rtl.kit.tools.routed` says of a design on a Lattice ECP5 or iCE40, the device by nextpnr's `options`, within the few
    pins of `behind_pins`."""
    verilog, options = behind_pins(_verilog(design)), [*options, "--freq", str(float(mhz)), "--seed", "1", "--timing-allow-fail"]

    def route():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            _yosys(verilog, FLOWS[family], folder / "top.json")
            return tools.routed(tools.nextpnr(family, folder, options), family)

    return _kept([verilog, *FLOWS[family], *options, *tools.packages(family)], route)


def behind_pins(verilog: str) -> str:
    """`verilog` with its module `top` behind four pins: a shift register drives all inputs, and a rotating sum modulo 2 of all
    outputs drives the output pin, so that every path starts and ends in a flip-flop and nothing is optimized away."""
    body = re.search(r"^module top\(.*?^endmodule\n", verilog, re.MULTILINE | re.DOTALL)[0]
    connections, width = [".clk(clk)"], Counter()
    for direction, name, bits in _ports(body):
        if name != "clk":
            at = width[direction]
            connections.append(f".{name} ({direction}s[{at + bits - 1}:{at}])")
            width[direction] += bits
    return re.sub(r"(?m)(?<=^module )top(?=\()", "inside", verilog) + f"""\
module top(input clk, input pin, output out);
  reg [{width["input"] - 1}:0] inputs;
  reg [{width["output"] - 1}:0] sum;
  wire [{width["output"] - 1}:0] outputs;
  inside inside({", ".join(connections)});
  always @(posedge clk) begin
    inputs <= {{inputs, pin}};
    sum <= {{sum, sum[{width["output"] - 1}]}} ^ outputs;
  end
  assign out = sum[{width["output"] - 1}];
endmodule
"""


def _side_by_side(texts: Sequence[str]) -> str:
    """A module `top` with an instance of every text's, whose ports are its own."""
    modules, instances, widths = [], [], Counter()
    for k, text in enumerate(texts):
        body = re.search(r"^module top\(.*?^endmodule\n", text, re.MULTILINE | re.DOTALL)[0]
        connections = []
        for direction, name, bits in _ports(body):
            at = widths[direction]
            connections.append(f".{name} ({direction}s[{at + bits - 1}:{at}])" if name != "clk" else ".clk(clk)")
            widths[direction] += bits if name != "clk" else 0
        instances.append(f"  part{k} p{k}({', '.join(connections)});")
        named = re.sub(r"(?m)^module top(?=\()", f"(* keep_hierarchy *) module part{k}", text)
        modules.append(named.replace(r"\top.", rf"\part{k}."))
    head = f"module top(input clk, input [{widths['input'] - 1}:0] inputs, output [{widths['output'] - 1}:0] outputs);"
    return "\n".join([head, *instances, "endmodule", *modules])


def _ports(module: str) -> Iterator[tuple[str, str, int]]:
    """Direction, name and bits of the ports of a module."""
    for direction, high, name in re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\\\S+|\w+) ?;", module, re.MULTILINE):
        yield direction, name, int(high or 0) + 1


def _run(verilog: str, flow: str) -> dict[str, dict]:
    """Resources of every module that Yosys leaves."""
    with tempfile.TemporaryDirectory() as name:
        netlist = Path(name) / "top.json"
        _yosys(verilog, FLOWS[flow], netlist)
        modules = json.loads(netlist.read_text(encoding="utf-8"))["modules"]
    return {name: _counted(module["cells"].values(), flow) for name, module in modules.items()
            if not module["attributes"].get("blackbox")}


def _counted(cells, flow: str) -> dict:
    memories = [cell["parameters"] for cell in cells if cell["type"] == "$mem_v2"]
    kinds = Counter(cell["type"] for cell in cells)
    del kinds["$scopeinfo"], kinds["$mem_v2"]
    counts = COUNTS[flow]
    known = {kind for weights in counts.values() for kind in weights}
    left = [kind for kind in kinds if kind.startswith("$") and kind not in known]
    if left or (memories and flow != "gates"):
        raise ToolFailed(f"Yosys leaves {', '.join(left) or '$mem_v2'} unmapped in flow '{flow}'")
    result = {key: sum(weight * count for pattern, weight in weights.items() for kind, count in kinds.items()
                       if fnmatchcase(kind, pattern)) for key, weights in counts.items()}
    if flow == "gates":
        result["memory_bits"] = sum(int(memory["SIZE"], 2) * int(memory["WIDTH"], 2) for memory in memories)
    return result | {"cells": dict(kinds.most_common()), "tool": f"pyosys {version('pyosys')}"}


def _yosys(verilog: str, commands: list[str], netlist: Path) -> None:
    source = netlist.with_suffix(".v")
    source.write_text(verilog, encoding="utf-8")
    tools.yosys(netlist.parent, [f"read_verilog {source.name}", *commands, f"write_json {netlist.name}"])


def _verilog(design: str | Elaboratable | Spec | Schedule) -> str:
    if isinstance(design, str):
        return design
    return to_verilog(Accelerator(design) if isinstance(design, Schedule) else design)


def _kept(key: list[str], make) -> dict:
    """The result of `make`, kept on disk."""
    path = CACHE / f"{sha256(chr(0).join(key).encode()).hexdigest()[:32]}.json"
    if not path.exists():
        result = make()
        write_file(path, lambda target: target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8"))
    return json.loads(path.read_text(encoding="utf-8"))
