"""Draws a report as one HTML file: inline SVG, light and dark, printable, nothing from a network and no script."""

from itertools import pairwise

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from emamba.datasets.metrics import NAMES, value_words, words

from ..verdict import lines as verdict_lines
from .charts import Plot, bars, heat, matrix, number
from .drawing import ROWS, drawings, timetable
from .profiling import unit_plots

SMALL = (300, 170)
MAP_ROWS = 60
"""Streams of one map, which is then no longer than a printed page."""
SECTIONS = {
    "training": "Training", "pipeline": "Pipeline", "timetable": "Timetable", "stalls": "Waits in the pipeline",
    "resources": "Devices", "pareto": "One knob: cycles a token", "units": "Functions", "formats": "Values and formats",
    "state": "Recurrent state", "sensitivity": "Sensitivity to bits",
}
"""Below the first screen, in this order; `page` leaves out what there is nothing of."""


def page(report: dict) -> str:
    """The whole file."""
    environment = Environment(loader=PackageLoader(__package__, "."), undefined=StrictUndefined, autoescape=True,
                              trim_blocks=True, lstrip_blocks=True)
    drawn = {name: Markup("".join(draw(report))) for name, draw in DRAWN.items()}
    judged = verdict_lines(report["verdict"])[1:]
    missing = {"training": not report["training"]["epochs"], "stalls": not report["stalls"]["streams"],
               "sensitivity": not report["sensitivity"]["rows"], "state": not report["certificate"]["scans"]}
    return environment.get_template("report.html.j2").render(
        report, drawn=drawn, judged=judged, words=words, number=number, figures=_figures(report),
        hows={name: report[name]["how"] for name in SECTIONS if name in report},
        sections={name: title for name, title in SECTIONS.items() if not missing.get(name)},
        absent=[report[name]["how"] for name in ("stalls", "sensitivity") if missing[name]])


def _figures(report: dict) -> list[tuple[str, str, str, str]]:
    """Rows of what, float, integers, change."""
    accuracy, bits = report["accuracy"], report["accuracy"]["bits"]
    found = {row["executor"]: row for row in accuracy["rows"]}
    real, integer = (found[name]["figures"] for name in ("float", "int"))
    rows = []
    for key in real.keys() | integer.keys():
        change = f"{integer[key] / real[key] - 1:+.2%}" if key in integer and real.get(key) else "–"
        rows.append((key != accuracy["metric"], NAMES.get(key, key.replace("_", " ")),
                     *(_told(found[name], key, accuracy) for name in ("float", "int")), change))
    result = [row[1:] for row in sorted(rows)]
    if baseline := (report["verdict"]["figure"] or {}).get("baseline"):
        figure = value_words(accuracy["metric"], baseline["value"], accuracy["unit"])
        result.append((f"the same of a trivial model: {baseline['name']}", figure, "–", "–"))
    weights = report["artifact"]["weights"]
    if bits["weights"]:
        result.append(("weights", f"{number(weights * 4)} bytes, float32", f"{number(weights * bits['weights'] / 8)} bytes, "
                       f"{bits['weights']} bits", f"÷ {32 / bits['weights']:.3g}"))
    shown = ", ".join(f"{width} bits ({count})" for width, count in bits["values"].items())
    result.append(("values of nodes", "float32", shown, ""))
    return result + [("state", "float32", f"{width} bits", "") for width in bits["states"]]


def _told(row: dict, key: str, accuracy: dict) -> str:
    if key not in row["figures"]:
        return "–"
    text, ends = value_words(key, row["figures"][key], accuracy["unit"]), row["interval"]
    return text + (f" ({' … '.join(value_words(key, end) for end in ends)})" if ends and key == accuracy["metric"] else "")


def _model(report: dict) -> list[str]:
    stages = {stage["name"]: stage for stage in report["pipeline"]["stages"]}

    def told(item) -> list[str]:
        stage = stages.get(item.name)
        return [f"{item.kind} {item.width}", *([f"{stage['multipliers']:,} mult, {stage['cycles']:,} cyc"] if stage else [])]

    return [picture.inline() for picture in drawings(report["graph"]["nodes"], told, report["pipeline"]["bottleneck"])]


def _answers(report: dict) -> list[str]:
    found = report["answers"]
    if "confusion" in found:
        return [matrix("Confusion matrix, integer model", found["classes"], found["confusion"])] if found["classes"] else []
    if "points" not in found:
        return []
    values = [value for point in found["points"] for value in point]
    span, unit = (min(values), max(values)), f", {found['unit']}" if found["unit"] else ""
    return [Plot("Predicted against true, integer model", f"true{unit}", f"predicted{unit}", span, span, size=(440, 400))
            .line([(span[0],) * 2, (span[1],) * 2], "c", "equal").dots(found["points"], "a", "a value").svg()]


def _training(report: dict) -> list[str]:
    found, plots = report["training"], []
    for key, label in (("figure", f"{found['metric']}, validation part"), ("loss", "loss, training part")):
        points = [(row["epoch"], row[key]) for row in found["epochs"] if row[key] is not None]
        values = [value for _, value in points]
        if values:
            log = key == "loss" and min(values) > 0
            plots.append(Plot(label.split(",")[0].capitalize() + " by epoch", "epoch", label, (points[0][0], points[-1][0]),
                              (min(values), max(values)), log_y=log, size=(440, 240))
                         .line(points, "a").verticals([found["best"]] if found["best"] else [], "limit").svg())
    return plots


def _pipeline(report: dict) -> list[str]:
    pipeline = report["pipeline"]
    stages = pipeline["stages"]
    cycles = [(s["name"], s["cycles_per_frame"], "b" if s["name"] == pipeline["bottleneck"] else "a",
               _pace(s) + (f", {s['utilization']:.0%} busy" if s["multipliers"] else "")) for s in stages]
    multipliers = [(s["name"], s["multipliers"], "a", str(s["multipliers"])) for s in stages if s["multipliers"]]
    memory = [(s["name"], s["rom_bits"] + s["ram_bits"], "c", f"{number(s['rom_bits'])} ROM, {number(s['ram_bits'])} RAM")
              for s in stages if s["rom_bits"] + s["ram_bits"]]
    return [bars("Time of each stage, in the order of the data", "cycles a sequence; the line is what the slowest stage allows",
                 cycles, pipeline["cycles_per_frame"]),
            bars("Multipliers by stage", "multipliers", multipliers),
            bars("Memories by stage, with the FIFOs after it", "bits", memory)]


def _pace(stage: dict) -> str:
    """Cycles of a token; of a stage that works once a sequence, such as a head after a pool, of that."""
    once = stage["cycles_per_frame"] == stage["cycles"]
    return f"{stage['cycles']:,} {'once a sequence' if once else 'a token'}"


def _timetable(report: dict) -> list[str]:
    found, tokens = report["timetable"], report["artifact"]["tokens"]
    title = f"{'All' if found['tokens'] == tokens else 'The first'} {found['tokens']} tokens of a sequence" + (
        f", the first {ROWS} nodes" if len(found["rows"]) > ROWS else "")
    return [timetable(title, found["rows"]).inline()]


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
    found = report["resources"]
    rows = [(f"{device} {name}", value["share"] * 100, "a", f"{value['share']:.1%}: {number(value['estimate'])} of "
             f"{number(value['limit'])}")
            for device, shares in found["devices"].items() if all(value["share"] <= 1 for value in shares.values())
            for name, value in shares.items()]
    return [bars(f"At {found['cycles_per_token']} cycles a token", "share of the device, %", rows, 100)] if rows else []


def _pareto(report: dict) -> list[str]:
    designs = report["pareto"]["designs"]
    cycles = [design["cycles_per_token"] for design in designs]
    plots = []
    for key, name, label in (("multipliers", "Multipliers", "multipliers"), ("lut", "Lookup tables", "LUTs, estimate"),
                             ("dsp", "Multiplier blocks", "DSP blocks, estimate"), ("latency_cycles", "Latency", "cycles")):
        values = [max(design[key], 1) for design in designs]
        plots.append(Plot(f"{name} over cycles a token", "cycles a token, T", label, (min(cycles), max(cycles)),
                          (min(values) * 0.8, max(values) * 1.25), True, True, (350, 230))
                     .line(list(zip(cycles, values, strict=True)), "a", dots=True)
                     .verticals([report["resources"]["cycles_per_token"]], "limit", "this report's T").svg())
    return plots


def _units(report: dict) -> list[str]:
    return [f'<div class="unit">{"".join(plot.svg() for plot in unit_plots(unit))}</div>' for unit in report["units"]["units"]]


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


DRAWN = {"model": _model, "answers": _answers, "training": _training, "pipeline": _pipeline, "timetable": _timetable,
         "stalls": _stalls, "resources": _resources, "pareto": _pareto, "units": _units, "formats": _formats, "state": _drift,
         "sensitivity": _sensitivity}
