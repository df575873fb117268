"""The verdict: what a model is worth, what its hardware does and takes, and what is proven, on one screen and in every JSON."""

from collections.abc import Callable, Mapping
from math import ceil

import numpy as np

from emamba.artifact import Artifact
from emamba.base.words import counted, time_words
from emamba.datasets import Dataset
from emamba.datasets.baseline import Baseline, measure
from emamba.datasets.metrics import BETTER, value_words, words
from emamba.ops import Scan
from emamba.ops.certificate import certify
from rtl.kit.block import BlockOptions
from rtl.kit.datapath import Products
from rtl.plan.cost import TOOL, estimate, exceeds
from rtl.plan.devices import DEVICES, Device, find
from rtl.plan.planner import CYCLES_PER_TOKEN, FILL
from rtl.plan.schedule import MAX_CYCLES, Realization, Schedule, folded

FOLDINGS = (1, 2, 5, 10, 20, 40, 80, 160, 320, 640, 1280)
"""T of the designs that are weighed against each other."""
BOARD = "zcu102"
"""What a model is weighed for."""
CLOSE = 0.02
"""Share of a figure that integers may cost before the verdict says so."""


Estimator = Callable[[Device, int], tuple[Schedule, dict]]


def realization(device: Device) -> Realization:
    """The circuits that a device is weighed with."""
    wide = device.family == "xcup"
    return Realization(Products.CASCADES if wide else Products.MULTIPLIERS, narrow=not wide)


def baseline_of(data: Dataset | None, record: Mapping | None = None) -> Baseline | None:
    """The trivial models of a data set: as it or a training stored them, else measured where all its parts are there."""
    stored = [data and data.baseline, (record or {}).get("training", {}).get("baseline")]
    for found in map(Baseline.read, stored):
        if found:
            return found
    return measure(data) if data else None


def figure_part(task: str, unit: str, measured: Mapping[str, Mapping], baseline: Baseline | None, part: str = "test") -> dict:
    """Of the leading figure: the float and the integer model's, and the trivial model's to beat."""
    metric, sign = BETTER[task]
    found: dict = {"metric": metric, "unit": unit, "part": part}
    found |= {backend: figures[metric] for backend, figures in measured.items() if metric in figures}
    ours = found.get("int", found.get("float"))
    if baseline and baseline.metric == metric and ours is not None and part in baseline.parts:
        found["baseline"] = {"name": baseline.best, "value": baseline.value(part)}
        found["beats_baseline"] = bool(sign * (ours - baseline.value(part)) > 0)
    return found


def rate_part(schedule, clock_mhz: float | None) -> dict:
    """Of a schedule, at a clock where one is known."""
    found = {"cycles_per_token": schedule.period, "cycles_per_frame": schedule.cycles_per_frame,
             "latency_cycles": schedule.latency, "multipliers": schedule.multipliers, "clock_mhz": clock_mhz}
    if clock_mhz:
        found |= {"frames_per_second": clock_mhz * 1e6 / schedule.cycles_per_frame, "microseconds": schedule.latency / clock_mhz}
    return found


def estimator(artifact: Artifact) -> Estimator:
    """A function of a device and T that gives schedule and estimate, once for all devices of a family."""
    known: dict[tuple[str, int], tuple[Schedule, dict]] = {}

    def at(device: Device, cycles: int) -> tuple[Schedule, dict]:
        key = device.family, cycles
        if key not in known:
            schedule = Schedule(artifact, cycles, realization(device))
            known[key] = schedule, estimate(schedule, device.family)
        return known[key]

    return at


def fits(artifact: Artifact, at: Estimator) -> dict[str, int | None]:
    """Device → the smallest of the usual T that fits it by estimate, None where none does."""
    return {device.name: _smallest(artifact, at, device) for device in DEVICES.values()}


def _smallest(artifact: Artifact, at: Estimator, device: Device) -> int | None:
    """From the T at which the multipliers suffice, up while a design does not fit, or down while one does; most that do not fit
    are refused by their largest blocks alone, which costs little."""
    usual, limits = (*FOLDINGS, MAX_CYCLES), {name: FILL * limit for name, limit in device.limits.items()}
    options, made = BlockOptions(carried=artifact.graph.carried), realization(device)

    def fitting(cycles: int) -> bool:
        if exceeds(folded(artifact, cycles, made)[0].values(), options, device.family, limits):
            return False
        return all(at(device, cycles)[1][name] <= limit for name, limit in limits.items())

    work = [block.multiplies for block in folded(artifact, 1, made)[0].values()]
    paired = 2 if made.products is Products.CASCADES else 1
    start = next((k for k, cycles in enumerate(usual) if sum(ceil(products / cycles) for products in work)
                  <= paired * limits["dsp"]), len(usual) - 1)
    found = next((k for k in range(start, len(usual)) if fitting(usual[k])), None)
    if found is None:
        return None
    while found == start > 0 and fitting(usual[start - 1]):
        found = start = start - 1
    return at(device, usual[found])[0].period


def proven(artifact: Artifact) -> dict:
    """What a proof stands for, and what only tests do."""
    scans = [certify(op).holds for op in artifact.operators.values() if isinstance(op, Scan)]
    return {"states": len(scans), "cannot_overflow": sum(scans)}


def verdict(artifact: Artifact, figure: dict | None = None, *, cycles_per_token: int = CYCLES_PER_TOKEN,
            agreement: dict | None = None, at: Estimator | None = None, device: str = BOARD) -> dict:
    """Of an artifact, with what `figure_part` or `agreement_part` gave, on a device at T."""
    at, board = at or estimator(artifact), find(device)
    schedule, resources = at(board, cycles_per_token)
    return {"figure": figure, "agreement": agreement, "rate": rate_part(schedule, board.clock_mhz),
            "device": {"name": board.name, "how": f"cost model fitted to {TOOL}", **board.shares(resources)},
            "fits": fits(artifact, at), "proven": proven(artifact)}


def built(schedule, clock_mhz: float | None, resources: Mapping, artifact: Artifact) -> dict:
    """Of a design that was built; `resources` as report.json holds them."""
    device = {"name": resources["device"], "how": resources["tool"],
              **{name: resources[name] for name in DEVICES[resources["device"]].limits}} if "device" in resources else None
    figures = artifact.record.get("figures", {})
    measured = {key: figures[key] for key in ("float", "int") if isinstance(figures.get(key), dict)}
    task, unit = artifact.config.task, artifact.data.get("unit", "")
    return {"figure": figure_part(task, unit, measured, baseline_of(None, artifact.record)) if measured else None,
            "rate": rate_part(schedule, clock_mhz), "device": device, "proven": proven(artifact)}


def agreement_part(task: str, real: np.ndarray, integer: np.ndarray) -> dict:
    """How far the integer model's answers [..., outputs] are from the float model's, without targets."""
    found: dict = {"sequences": len(real)}
    if task != "regression":
        found["same_answer"] = float((real.argmax(-1) == integer.argmax(-1)).mean())
    spread = float(np.sqrt(((real - real.mean()) ** 2).mean()))
    found["relative_error"] = float(np.sqrt(((integer - real) ** 2).mean())) / spread if spread > 0 else 0.0
    return found


def lines(found: dict) -> list[str]:
    """The verdict for a terminal."""
    result = []
    if figure := found.get("figure"):
        result.append(_figure_line(figure))
    if agreement := found.get("agreement"):
        result.append(_agreement_line(agreement))
    if rate := found.get("rate"):
        text = f"{rate['cycles_per_token']} cycles a token, {rate['multipliers']:,} multipliers: "
        if rate["clock_mhz"]:
            result.append(f"{text}{rate['frames_per_second']:,.0f} frames a second, {time_words(rate['microseconds'])} of "
                          f"latency at {rate['clock_mhz']:g} MHz")
        else:
            result.append(f"{text}{rate['cycles_per_frame']:,} cycles a frame, {rate['latency_cycles']:,} of latency")
    if device := found.get("device"):
        names = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram36": "BRAM", "ebr": "EBR"}
        result.append(f"{device['name']}, by estimate: " + ", ".join(
            f"{word} {device[name]['estimate']:,} of {device[name]['limit']:,} ({device[name]['share']:.1%})"
            for name, word in names.items() if name in device))
    if "fits" in found:
        fitting = [f"{name} from T = {cycles}" for name, cycles in found["fits"].items() if cycles]
        hopeless = [name for name, cycles in found["fits"].items() if not cycles]
        result.append("as a pipeline it fits " + ", ".join(fitting or ["no device"])
                      + f", but not {', '.join(hopeless)}" * bool(fitting and hopeless))
    if known := found.get("proven"):
        count, unsure = known["states"], known["states"] - known["cannot_overflow"]
        told = ("proven: nothing to overflow, there is no state" if not count else
                f"not proven: {unsure} of {counted(count, 'state')} may saturate" if unsure else
                f"proven: {f'none of the {count} states can' if count > 1 else 'the state cannot'} overflow, for any input of "
                "any length")
        result.append(f"{told}; tested, not proven: hardware equals integer model")
    return ["verdict:", *(f"  {line}" for line in result)]


def _figure_line(figure: dict) -> str:
    shown = {key: words({figure["metric"]: figure[key]}, figure["unit"]) for key in ("int", "float") if key in figure}
    text = shown.get("int") or shown.get("float", "no figure")
    if "int" in shown and "float" in shown:
        change = figure["int"] / figure["float"] - 1 if figure["float"] else 0.0
        told = "nearly the same" if abs(change) < CLOSE else f"{change:+.1%}"
        text += f" as integers, {shown['float']} as float ({told})"
    if "baseline" in figure:
        text += (f"; {'beats' if figure['beats_baseline'] else 'does NOT beat'} the {figure['baseline']['name']}, "
                 f"{value_words(figure['metric'], figure['baseline']['value'])}")
    return f"{text} ({figure['part']} part)"


def _agreement_line(agreement: dict) -> str:
    same = (f"the same answer as the float model in {agreement['same_answer']:.1%}, " if "same_answer" in agreement else "")
    more = "; perplexity " + ", float ".join(value_words("perplexity", agreement[key]) for key in ("int", "float")
                                             ) if "int" in agreement else ""
    return (f"on {counted(agreement['sequences'], 'calibration sequence')}: {same}an error of "
            f"{agreement['relative_error']:.2%} of the outputs' spread{more}")
