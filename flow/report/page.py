"""Draws a report as one HTML file: inline SVG, light and dark, printable, nothing from a network and no script."""

from itertools import pairwise

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from emamba.datasets.metrics import words

from ..verdict import lines as verdict_lines
from .charts import Plot, bars, heat, number
from .profiling import unit_plots

SMALL = (300, 170)
MAP_ROWS = 60
"""Streams of one map, which is then no longer than a printed page."""


def page(report: dict) -> str:
    """The whole file."""
    environment = Environment(loader=PackageLoader(__package__, "."), undefined=StrictUndefined, autoescape=True,
                              trim_blocks=True,
                              lstrip_blocks=True)
    drawn = {name: Markup("".join(draw(report))) for name, draw in DRAWN.items()}
    judged = verdict_lines(report["verdict"])[1:]
    return environment.get_template("report.html.j2").render(report, drawn=drawn, judged=judged, words=words, number=number)


def _pipeline(report: dict) -> list[str]:
    pipeline = report["pipeline"]
    stages = pipeline["stages"]
    cycles = [(s["name"], s["cycles_per_frame"], "b" if s["name"] == pipeline["bottleneck"] else "a",
               f"{s['cycles']} a token" + (f", {s['utilization']:.0%} busy" if s["multipliers"] else "")) for s in stages]
    multipliers = [(s["name"], s["multipliers"], "a", str(s["multipliers"])) for s in stages if s["multipliers"]]
    memory = [(s["name"], s["rom_bits"] + s["ram_bits"], "c", f"{number(s['rom_bits'])} ROM, {number(s['ram_bits'])} RAM")
              for s in stages if s["rom_bits"] + s["ram_bits"]]
    return [bars("Time of each stage, in the order of the data", "cycles a sequence; the line is what the slowest stage allows",
                 cycles, pipeline["cycles_per_frame"]),
            bars("Multipliers by stage", "multipliers", multipliers),
            bars("Memories by stage, with the queues behind it", "bits", memory)]


def _stalls(report: dict) -> list[str]:
    stalls = report["stalls"]
    if not stalls["streams"]:
        return []
    edges, rows = stalls["edges"], []
    for stream in stalls["streams"]:
        shares = {kind: [count / (high - low) for count, low, high in zip(stream["bins"][name], edges, edges[1:], strict=False)]
                  for kind, name in (("a", "transfer"), ("b", "blocked"))}
        rows.append((stream["name"], shares, f"{stream['transfer'] / stalls['cycles']:.0%} transfer, "
                     f"{stream['blocked'] / stalls['cycles']:.0%} blocked"))
    maps = -(-len(rows) // MAP_ROWS)
    cuts = [len(rows) * k // maps for k in range(maps + 1)]
    return [heat(f"Streams {low + 1} to {high} of {len(rows)}, in the order of the data", "cycle", edges, rows[low:high],
                 {"a": "transfer", "b": "blocked by its receiver", "none": "starved by its sender"})
            for low, high in pairwise(cuts)]


def _resources(report: dict) -> list[str]:
    rows = [(f"{device} {name}", value["share"] * 100, "b" if value["share"] > 1 else "a",
             f"{value['share']:.1%}: {number(value['estimate'])} of {number(value['limit'])}")
            for device, found in report["resources"]["devices"].items() for name, value in found.items()]
    shown = [(name, min(share, 150), kind, text) for name, share, kind, text in rows]
    return [bars("Resources against each device", "share of the device, %; cut at 150", shown, 100)]


def _pareto(report: dict) -> list[str]:
    designs = report["pareto"]["designs"]
    cycles = [design["cycles_per_token"] for design in designs]
    plots = []
    for key, name, label in (("multipliers", "Multipliers", "multipliers"), ("lut", "Lookup tables", "LUTs, estimate"),
                             ("dsp", "Multiplier blocks", "DSP blocks, estimate"), ("latency_cycles", "Latency", "cycles")):
        values = [max(design[key], 1) for design in designs]
        plots.append(Plot(f"{name} over cycles a token", "cycles a token, T", label, (min(cycles), max(cycles)),
                          (min(values) * 0.8, max(values) * 1.25), True, True, (350, 230))
                     .line(list(zip(cycles, values, strict=True)), "a", dots=True).svg())
    return plots


def _units(report: dict) -> list[str]:
    return [plot.svg() for unit in report["units"]["units"] for plot in unit_plots(unit)]


def _formats(report: dict) -> list[str]:
    plots = []
    for node in report["formats"]["nodes"]:
        edges, shares = node["histogram"]["edges"], node["histogram"]["shares"]
        span = min(edges[0], node["low"]), max(edges[-1], node["high"])
        plots.append(Plot(f"{node['name']}: {node['format']}", "value; lines: limits of the format", "share", span, (1e-6, 1),
                          log_y=True, size=SMALL)
                     .steps(edges, shares, "a").verticals((node["low"], node["high"]), "limit").svg())
    return plots


def _drift(report: dict) -> list[str]:
    plots = []
    for name, values in report["drift"]["scans"].items():
        shares = [value * 100 for value in values]
        plots.append(Plot(f"{name}: distance of the integer state h from float", "tokens read", "relative RMS error, %",
                          (1, len(shares)), (0, max(shares) * 1.1), size=(350, 230))
                     .line(list(enumerate(shares, 1)), "a", dots=len(shares) <= 64).svg())
    return plots


def _sensitivity(report: dict) -> list[str]:
    rows = report["sensitivity"]["rows"]
    if not rows:
        return []
    narrowest = min((width for row in rows for width in row["changes"]), key=int)
    shown = [(row["name"], max(row["changes"].get(narrowest) or 0, 0), "a", f"{row['changes'].get(narrowest) or 0:+.4g} from "
              f"{row['bits']} bits") for row in rows]
    return [bars(f"Cost of {narrowest} bits in one tensor alone", f"change of {report['sensitivity']['error']}", shown)]


DRAWN = {"pipeline": _pipeline, "stalls": _stalls, "resources": _resources, "pareto": _pareto, "units": _units,
         "formats": _formats, "drift": _drift, "sensitivity": _sensitivity}
