"""What is known of an artifact, on one page: figures for `report.json`, lines for the terminal. `report_page` draws them.

Every section has `how`: what was run to get its figures, or that it was not.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np

from emamba.artifact import Artifact
from emamba.base.version import version
from emamba.base.words import counted
from emamba.datasets import Dataset
from emamba.datasets.metrics import BETTER, data_figures, words
from emamba.ops import Scan
from emamba.ops.certificate import certify
from emamba.run.executors import predict
from emamba.run.integer import IntegerModel
from emamba.run.reference import Reference
from rtl.kit.inventory import Inventory
from rtl.plan.cost import TOOL, components
from rtl.plan.devices import DEVICES
from rtl.plan.planner import CYCLES_PER_TOKEN
from rtl.plan.schedule import Schedule

from ..executors import make_executor
from ..verdict import BOARD, FOLDINGS, Estimator, baseline_of, estimator, figure_part, verdict
from ..verdict import lines as verdict_lines
from . import profiling
from .answers import answers_part, interval, training_part
from .drawing import graph_part, timetable_part

Array = np.ndarray

TRACED = 64
"""Sequences whose values at every node are looked at."""
TRACED_VALUES = 1 << 22
"""Of their states, at most: bounds the memory."""
BINS = 60


def collect(artifact: Artifact, tokens: Array, targets: Array, data: Dataset, *, cycles_per_token: int = CYCLES_PER_TOKEN,
            device: str = BOARD, backends: tuple[str, ...] = ("float", "int"), sensitivity: dict | None = None,
            stalls: dict | None = None, command: str = "", step: Callable[[str], None] = lambda name: None) -> dict:
    """The report's figures.

    Parameters: tokens [n, L, input width] in the user's unit; targets without entries where there are none; the verdict is
    on `device`; `sensitivity` is what `emamba sensitivity --json` wrote, `stalls` what `emamba simulate --json` did;
    `command` asked for the report; `step` is told what is being done.
    """
    source = f"{data.name}, {data.split} split, {data.note}"
    config = artifact.config
    few = max(1, min(TRACED, TRACED_VALUES // (config.tokens * config.d_inner * config.d_state)))
    report = {
        "artifact": {"name": artifact.name, "digest": artifact.digest, "task": config.task, "form": config.form,
                     "tokens": config.tokens, "weights": int(sum(value.size for value in artifact.weights.values()))},
        "data": source,
        "made": {"how": "when and by what", "version": version(),
                 "command": command, "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"},
    }
    schedule, at = Schedule(artifact, cycles_per_token), estimator(artifact)
    cycles_per_token = schedule.period  # what is built
    step("accuracy")
    report["accuracy"], integer = _accuracy(artifact, tokens, targets, data, backends, cycles_per_token)
    report["answers"] = answers_part(artifact, integer, targets, data)
    report["training"] = training_part(artifact)
    step("pipeline")
    report["pipeline"] = _pipeline(schedule)
    report["graph"] = {"how": "the graph that every executor interprets, at the depths that the schedule computes",
                       "nodes": graph_part(schedule)}
    report["timetable"] = timetable_part(schedule) | {
        "how": "computed by the schedule, to the cycle; the benches check it against RTL"}
    report["stalls"] = _stalls(stalls)
    step("resources")
    report["pareto"] = _pareto(at)
    step("verdict")
    measured = {row["executor"]: row["figures"] for row in report["accuracy"]["rows"] if row["figures"]}
    figure = figure_part(config.task, data.unit, measured, baseline_of(data, artifact.record)) if measured else None
    report["verdict"] = verdict(artifact, figure, cycles_per_token=cycles_per_token, at=at, device=device,
                                agreement=None if figure else (artifact.record.get("verdict") or {}).get("agreement"))
    report["resources"] = _resources(at, cycles_per_token, report["verdict"]["fits"])
    step("formats")
    traced = Reference(artifact.graph, artifact.weights).run(artifact.codec.standardize(tokens[:few]))
    integers = IntegerModel(artifact).run(artifact.codec.encode(tokens[:few], artifact.input))
    about = f"first {counted(len(tokens[:few]), 'sequence')} of {source}"
    report["formats"] = _formats(artifact, traced, integers, about)
    report["drift"] = _drift(artifact, traced, integers, about)
    step("units")
    units = profiling.profile(artifact, tokens[:few])
    report["units"] = {"how": f"integer model and every code of each unit; inputs of the {about}",
                       "units": [unit.report() | {"curve": _lists(profiling.curve(unit, 400))} for unit in units]}
    report["certificate"] = {
        "how": "proof in exact integers over every code of δ, u and B, for inputs of any length; no data is needed",
        "scans": {name: asdict(certify(op)) for name, op in artifact.operators.items() if isinstance(op, Scan)}}
    report["sensitivity"] = _sensitivity(sensitivity)
    return report


def _sensitivity(found: dict | None) -> dict:
    if found is None:
        return {"how": "not run here: emamba sensitivity … --json FILE, then emamba report … --sensitivity FILE", "rows": []}
    return found | {"how": f"integer model on {found['sequences']} validation sequences, one tensor at a time at other bits; the "
                           f"change of {found['error']} from {found['base']:.4g}"}


def _stalls(found: dict | None) -> dict:
    if found is None:
        return {"how": "not run here: emamba simulate … --json FILE, then emamba report … --stalls FILE", "streams": []}
    pauses = f"; both ports pause in {found['stall_percent']} % of the cycles" if found["stall_percent"] else ""
    return {key: found[key] for key in ("cycles", "edges", "streams")} | {
        "how": f"the design in Amaranth's simulator at {found['cycles_per_token']} cycles a token, {found['cycles']} "
               f"cycles, {counted(found['sequences'], 'sequence')} of {found['data']}{pauses}"}


def _accuracy(artifact: Artifact, tokens: Array, targets: Array, data: Dataset, backends: tuple[str, ...],
              cycles: int) -> tuple[dict, Array]:
    """With the integer model's answers."""
    measured = {"float": "NumPy float64 with exact functions", "int": "integer model",
                "rtl": f"Verilated design at {cycles} cycles a token"}
    task, rows, values = artifact.config.task, [], {}
    for backend in measured:
        if backend not in backends:
            rows.append({"executor": backend, "how": "not run here", "figures": {}, "interval": None})
            continue
        executor = make_executor(artifact, backend, cycles_per_token=cycles)
        values[backend] = predict(artifact, backend, executor, tokens)
        figures = data_figures(task, values[backend], targets, data) if len(targets) else {}
        rows.append({"executor": backend, "how": measured[backend], "figures": figures,
                     "interval": interval(task, values[backend], targets, data) if len(targets) else None})
    rows.append({"executor": "board", "how": "not run here", "figures": {}, "interval": None})
    different = int((values["int"] != values["rtl"]).sum()) if {"int", "rtl"} <= set(values) else None
    bits = Counter(op.o.bits for op in artifact.operators.values())
    return {"how": f"{counted(len(tokens), 'sequence')} of {data.name}, {data.split} split, {data.note}",
            "unit": data.unit, "rows": rows, "metric": BETTER[task][0], "int_rtl_differences": different,
            "bits": {"weights": artifact.record.get("quantize", {}).get("weight_bits"),
                     "values": {str(width): count for width, count in sorted(bits.items())},
                     "states": sorted({op.h_wide.bits for op in artifact.operators.values() if isinstance(op, Scan)})},
            }, values.get("int", next(iter(values.values())))


def _pipeline(schedule: Schedule) -> dict:
    """Of the schedule, with the bits of every stage's memories."""
    report = schedule.report()
    memory: dict[str, Inventory] = {}
    for node, inventory in components(schedule).values():
        memory[node] = memory.get(node, Inventory()) + inventory
    for stage in report["stages"]:
        found = memory[stage["name"]]
        stage["rom_bits"] = int(sum(words * bits * count for (words, bits, *_), count in found.roms.items()))
        stage["ram_bits"] = int(sum(words * bits * count for (words, bits, _), count in found.rams.items()))
    report["bottleneck"] = max(report["stages"], key=lambda stage: (stage["cycles_per_frame"], stage["multipliers"]))["name"]
    return {"how": "computed by the schedule; the benches check its cycles against RTL, cycle by cycle"} | report


def _resources(at: Estimator, cycles: int, smallest: dict[str, int | None]) -> dict:
    """Of each device at T, and at the smallest T that fits it."""
    devices, least = {}, {}
    for device in DEVICES.values():
        devices[device.name] = device.shares(at(device, cycles)[1])
        if period := smallest[device.name]:
            schedule, found = at(device, period)
            frames = device.clock_mhz * 1e6 / schedule.cycles_per_frame
            least[device.name] = {
                "cycles_per_token": period, "clock_mhz": device.clock_mhz, "multipliers": schedule.multipliers,
                "frames_per_second": frames, "shares": device.shares(found)}
    return {"how": f"estimates by the cost model fitted to {TOOL}; no vendor's tool was run", "cycles_per_token": cycles,
            "devices": devices, "smallest": least, "hopeless": [name for name, period in smallest.items() if not period]}


def _pareto(at: Estimator) -> dict:
    device, designs = DEVICES["zcu102"], {}
    for cycles in FOLDINGS:
        schedule, found = at(device, cycles)
        designs[schedule.period] = {
            "cycles_per_token": schedule.period, "cycles_per_frame": schedule.cycles_per_frame,
            "latency_cycles": schedule.latency, "multipliers": schedule.multipliers,
        } | {name: round(found[name]) for name in device.limits}
    return {"how": f"schedule, and resources for {device.name} by the cost model fitted to {TOOL}",
            "designs": [designs[period] for period in sorted(designs)]}


def _formats(artifact: Artifact, traced: dict[str, Array], integers: dict[str, Array], about: str) -> dict:
    nodes = []
    for node in artifact.graph:
        form, values = artifact.operators[node.name].o, np.asarray(traced[node.name], np.float64).ravel()
        counts, edges = np.histogram(values, BINS, _span(values))
        codes = integers[node.name]
        nodes.append({
            "name": node.name, "format": str(form), "bits": form.bits, "low": form.min * form.step, "high": form.max * form.step,
            "step": form.step, "seen": [float(values.min()), float(values.max())],
            "clipped": float(((values < (form.min - 0.5) * form.step) | (values >= (form.max + 0.5) * form.step)).mean()),
            "at_limit": float(((codes == form.min) & form.signed | (codes == form.max)).mean()),
            "histogram": {"edges": edges.tolist(), "shares": (counts / values.size).tolist()}})
    for node in nodes:
        node["grade"] = grade(node["clipped"], CLIPPED)
    return {"how": f"histograms and clipped: values of the float model; at the limits: integers of the integer model; {about}. "
                   f"Clipped up to {CLIPPED[0]:.1%} is good, up to {CLIPPED[1]:.0%} fair, above it bad", "nodes": nodes}


CLIPPED, DRIFTED, GROWS = (1e-3, 1e-2), (0.05, 0.2), 1.5
"""Shares up to which clipping, and the state's distance from float, are good and fair; a distance whose last quarter is that many
times its second one still grows."""


def grade(value: float, limits: tuple[float, float]) -> str:
    """good, fair or bad."""
    return "good" if value <= limits[0] else "fair" if value <= limits[1] else "bad"


def drift_grade(shares: list[float]) -> str:
    """Of a state's distance from float, token by token."""
    quarter = len(shares) // 4
    second, last = (float(np.mean(part)) for part in (shares[quarter:2 * quarter], shares[-quarter:])) if quarter > 1 else (0, 0)
    grows = second > 0 and last > GROWS * second and shares[-1] > DRIFTED[0] / 5
    return grade(shares[-1], DRIFTED) + (", and grows" if grows else "")


TINY = 1e-290
"""A span below it has no bins."""


def _span(values: Array) -> tuple[float, float]:
    """Ends of a histogram, wide enough for bins where all values are alike."""
    low, high = float(values.min()), float(values.max())
    largest = max(abs(low), abs(high))
    if high - low > max(1e-9 * largest, TINY):
        return low, high
    half = largest / 2 if largest > TINY else 0.5
    return low - half, high + half


def _drift(artifact: Artifact, traced: dict[str, Array], integers: dict[str, Array], about: str) -> dict:
    """RMS of the integer state's distance from the float state's, by the float state's RMS, token by token; of a state that is
    carried, token by token of all sequences."""
    reference, model, scans = Reference(artifact.graph, artifact.weights), IntegerModel(artifact), {}
    for name, op in artifact.operators.items():
        if isinstance(op, Scan):
            real = reference.states(name, traced)
            error = model.states(name, integers) * op.h_wide.step - real
            if artifact.graph.carried:
                real, error = (values.reshape(1, -1, *values.shape[2:]) for values in (real, error))
            rms = [np.sqrt((values**2).mean((0, 2, 3))) for values in (error, real)]
            scans[name] = np.divide(*rms, out=np.zeros_like(rms[0]), where=rms[1] > 0).tolist()
    return {"how": f"distance of the states of float and integer model after every token, by the float state's RMS; {about}. "
                   f"Up to {DRIFTED[0]:.0%} is good, up to {DRIFTED[1]:.0%} fair, above it bad",
            "scans": scans, "grades": {name: drift_grade(shares) for name, shares in scans.items()}}


def _lists(arrays: dict[str, Array]) -> dict[str, list]:
    return {name: np.round(value, 6).tolist() for name, value in arrays.items()}


def lines(report: dict) -> list[str]:
    """The report for a terminal."""
    artifact, pipeline = report["artifact"], report["pipeline"]
    result = [f"{artifact['name']}: {artifact['weights']:,} weights, {artifact['tokens']} tokens a sequence, digest "
              f"{artifact['digest'][:16]}", *verdict_lines(report["verdict"]), "", f"Accuracy ({report['accuracy']['how']})"]
    result += [f"  {row['executor']:6} {words(row['figures'], report['accuracy']['unit']) or 'no figures'}; {row['how']}"
               for row in report["accuracy"]["rows"]]
    result += ["", f"Pipeline ({pipeline['how']})",
               f"  {pipeline['cycles_per_token']} cycles a token, {pipeline['cycles_per_frame']:,} a sequence, latency "
               f"{pipeline['latency_cycles']:,}, at least {pipeline['latency_floor']:,} with {pipeline['multipliers']:,} "
               f"multipliers, {pipeline['utilization']:.1%} busy; bottleneck {pipeline['bottleneck']}",
               f"  {'stage':18}{'cycles':>8}{'multipliers':>12}{'busy':>8}{'ROM bits':>10}{'RAM bits':>10}"]
    result += [f"  {stage['name']:18}{stage['cycles']:8}{stage['multipliers']:12}{stage['utilization']:8.1%}"
               f"{stage['rom_bits']:10}{stage['ram_bits']:10}" for stage in pipeline["stages"]]
    if report["stalls"]["streams"]:
        waits = sorted(report["stalls"]["streams"], key=lambda stream: -stream["blocked"])[:3]
        result += ["", f"Blocked most ({report['stalls']['how']})"]
        result += [f"  {stream['name']}: {stream['blocked'] / report['stalls']['cycles']:.1%} of the cycles" for stream in waits]
    resources = report["resources"]
    result += ["", f"Resources at {resources['cycles_per_token']} cycles a token ({resources['how']})"]
    result += [f"  {name:12}" + ", ".join(f"{key} {value['estimate']:,} ({value['share']:.1%})" for key, value in found.items())
               for name, found in resources["devices"].items() if name not in resources["hopeless"]]
    result += ["", f"State ({report['certificate']['how']})"]
    for name, found in report["certificate"]["scans"].items():
        drift = report["drift"]["scans"][name]
        result.append(f"  {name}: {'cannot overflow' if found['holds'] else 'may saturate'} (bound {found['bound']} of "
                      f"{found['limit']}); drift {drift[-1]:.2%} after {counted(len(drift), 'token')}: "
                      f"{report['drift']['grades'][name]}")
    worst = sorted(report["formats"]["nodes"], key=lambda node: -node["clipped"])[:3]
    result += ["", f"Clipped most ({report['formats']['how']})"]
    result += [f"  {node['name']}: {node['clipped']:.3%} outside {node['format']}: {node['grade']}" for node in worst]
    return [*result, "", f"Sensitivity: {report['sensitivity']['how']}"]
