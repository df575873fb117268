"""Resources by Yosys, place and route by nextpnr. Long at first (an hour); results are kept in build/synthesis."""

from emamba.artifact import Artifact
from rtl.blocks.linear import Linear
from rtl.kit.datapath import Products
from rtl.plan import devices
from rtl.plan.cost import COSTS, estimate
from rtl.plan.planner import Request, at
from rtl.plan.schedule import Realization, Schedule

from .synthesis import by_module, place_and_route

ZCU102 = [
    (1, Realization(Products.CONSTANTS, decay_tables=True)),
    (2, None),
    (4, None),
    (20, Realization(Products.PAIRS, decay_tables=True)),
    (20, None),
]
"""T, realization or None for the choice of `rtl.plan.planner`."""
ECP5 = [
    ("ulx3s-85f", "85k", 140, Realization(Products.LOGIC, decay_tables=True, narrow=True, registers=True), 125),
    ("ulx3s-25f", "25k", 400, None, 110),
]
"""Device, nextpnr's name for it, T, realization or None for the choice of `rtl.plan.planner` at 90 %, MHz asked for."""
CELLS = {"lut": "TRELLIS_COMB", "ff": "TRELLIS_FF", "dsp": "MULT18X18D", "ebr": "DP16KD"}


def measure(artifact: Artifact) -> dict:
    return {
        "zcu102": [_counted(artifact, *point) for point in ZCU102],
        "ecp5": [_placed(artifact, *point) for point in ECP5],
        "ice40": _smallest(artifact),
        "model": {family: entry.get("errors", {}) for family, entry in COSTS["families"].items()},
    }


def _counted(artifact: Artifact, cycles: int, realization: Realization | None) -> dict:
    schedule = scheduled(artifact, cycles, realization)
    found = by_module(schedule, "xcup")
    limits = devices.find("zcu102").limits
    paired = [name for name, block in schedule.blocks.items() if isinstance(block, Linear) and block.paired]
    return {
        "cycles_per_token": schedule.period, "cycles_per_frame": schedule.cycles_per_frame, "latency_cycles": schedule.latency,
        "products": products(schedule.realization), "multipliers": schedule.multipliers,
        "resources": found["total"], "estimate": estimate(schedule, "xcup"),
        "shares": {name: found["total"][name] / limit for name, limit in limits.items()},
        "dsp_per_shared_multiplier": sum(found["modules"][name.replace(".", "_")]["dsp"] for name in paired)
        / max(1, sum(schedule.blocks[name].multipliers for name in paired)),
        "tool": found["tool"],
    }


def scheduled(artifact: Artifact, cycles: int, realization: Realization | None) -> Schedule:
    """On a ZCU102, as the planner chooses for None."""
    if realization is None:
        return at(artifact, cycles, Request(device=devices.find("zcu102"))).schedule
    return Schedule(artifact, cycles, realization)


def products(realization: Realization) -> str:
    """In words."""
    names: dict[str, list[str]] = {}
    for name, kind in sorted(realization.own):
        names.setdefault(kind.value, []).append(name)
    return "; ".join([realization.products.value, *(f"{kind} in {', '.join(of)}" for kind, of in names.items())])


def _placed(artifact: Artifact, name: str, device: str, cycles: int, realization: Realization | None, mhz: float) -> dict:
    if realization is None:
        schedule = at(artifact, cycles, Request(device=devices.find(name), fill=0.9)).schedule
    else:
        schedule = Schedule(artifact, cycles, realization)
    found = place_and_route(schedule, "ecp5", [f"--{device}", "--package", "CABGA381", "--speed", "6"], mhz)
    return {
        "device": name, "cycles_per_token": schedule.period, "cycles_per_frame": schedule.cycles_per_frame,
        "latency_cycles": schedule.latency, "multipliers": schedule.multipliers,
        "products": products(schedule.realization),
        "utilization": found["utilization"], "estimate": estimate(schedule, "ecp5"),
        "mhz": found["fmax_mhz"], "tools": found["tools"],
    }


def _smallest(artifact: Artifact) -> dict:
    """An iCE40 UP5K: place and route where it fits, else by how much it does not."""
    device = devices.find("icebreaker")
    schedule = Schedule(artifact, 1280, Realization(decay_tables=False, narrow=True))
    counted = by_module(schedule, "ice40")["total"]
    shares = {name: counted[name] / limit for name, limit in device.limits.items()}
    result = {"cycles_per_token": schedule.period, "multipliers": schedule.multipliers, "resources": counted, "shares": shares}
    if max(shares.values()) <= 1:
        result["mhz"] = place_and_route(schedule, "ice40", ["--up5k", "--package", "sg48"], 24)["fmax_mhz"]
    return result


def table(result: dict) -> list[str]:
    lines = ["## Resources on the ZCU102, by Yosys", "",
             "`synth_xilinx -family xcup`, module by module: no count of Vivado, which was not run. Yosys packs neither",
             "registers nor adders into a DSP48E2, and keeps those of cascades there. Shares of 274,080 LUT, 548,160 FF,",
             "2,520 DSP and 912 BRAM36.", "",
             "| T | cycles a frame | latency | products | LUT | FF | DSP | BRAM36 | DSP per multiplier, shared operand |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for row in result["zcu102"]:
        cells = " | ".join(f"{row['resources'][name]:,.0f} ({row['shares'][name]:.1%})"
                           for name in ("lut", "ff", "dsp", "bram36"))
        shared = "–" if row["products"].startswith("constants") else f"{row['dsp_per_shared_multiplier']:.2f}"
        lines.append(f"| {row['cycles_per_token']} | {row['cycles_per_frame']} | {row['latency_cycles']} | {row['products']} "
                     f"| {cells} | {shared} |")
    lines += ["", "## Placed and routed on ECP5 (speed grade 6)", "",
              "By nextpnr, between registers behind a few pins; Fmax by its own timing analysis. No board was used.", "",
              "| device | T | cycles a frame | frames a second at Fmax | multipliers | LUT4 | FF | MULT18 | EBR | Fmax, MHz |",
              "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for row in result["ecp5"]:
        cells = " | ".join(f"{used['used']:,} ({used['used'] / used['available']:.0%})"
                           for used in (row["utilization"][cell] for cell in CELLS.values()))
        lines.append(f"| {row['device']} | {row['cycles_per_token']} | {row['cycles_per_frame']:,} "
                     f"| {row['mhz'] * 1e6 / row['cycles_per_frame']:,.0f} | {row['multipliers']} | {cells} | {row['mhz']:.1f} |")
    small = result["ice40"]
    shares = ", ".join(f"{small['resources'][name]:,.0f} {name.upper()} ({share:.0%})"
                       for name, share in small["shares"].items())
    fits = f"fits, {small['mhz']:.1f} MHz" if "mhz" in small else "does not fit"
    lines += ["", f"iCE40 UP5K, T = {small['cycles_per_token']}, {small['multipliers']} multipliers: {fits}; {shares} by "
              "Yosys.", "",
              "## The cost model's error", "",
              "Over the components that it was fitted to; then for the whole designs above, against Yosys and nextpnr.", "",
              "| family | resource | components | mean error | largest |", "| --- | --- | --- | --- | --- |"]
    for family, errors in result["model"].items():
        lines += [f"| {family} | {name} | {error['components']} | {error['mean']:.1%} | {error['largest']:+.1%} |"
                  for name, error in errors.items()]
    lines += ["", "| design | resource | estimate | counted | error |", "| --- | --- | --- | --- | --- |"]
    designs = [(f"zcu102, T = {row['cycles_per_token']}, {row['products'].partition(';')[0]}", row["estimate"], row["resources"])
               for row in result["zcu102"]]
    for row in result["ecp5"]:
        used = {name: row["utilization"][cell]["used"] for name, cell in CELLS.items()}
        designs.append((f"{row['device']}, T = {row['cycles_per_token']}", row["estimate"], used))
    for design, estimated, counted in designs:
        lines += [f"| {design} | {name} | {value:,.0f} | {counted[name]:,.0f} | {value / counted[name] - 1:+.1%} |"
                  for name, value in estimated.items() if counted[name]]
    return lines
