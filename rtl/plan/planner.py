"""From what a user asks for, a rate, a number of multipliers or a device, to a schedule."""

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache

from emamba.artifact import Artifact
from emamba.base.errors import DesignLimit, SettingError

from ..blocks.conv1d import Conv1d
from ..blocks.linear import Linear
from ..kit.datapath import Products
from .cost import TOOL, estimate, resources
from .devices import DEVICES, Device
from .loads import Loads
from .schedule import MAX_CYCLES, Realization, Schedule, fold

CYCLES_PER_TOKEN = 20
PLAIN_MHZ = {"xcup": 100, "ecp5": 90, "ice40": 25}
"""Clock above which a norm's logic gets more registers: below what was estimated or, of the latter two, routed without them."""
GRAPHS, LEAST_ADDERS = 4, 8
"""T up to which a graph of all of a layer's weights takes fewer lookup tables than multipliers made of them, and what a weight
takes of them there at least."""
FILL = 0.8
"""Share of every resource of a device that a design may take, by estimate."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """At most one of the first three, which decide T; else the device decides, else CYCLES_PER_TOKEN. `realization` holds what
    the user fixed; the rest is chosen for the device. `loadable`: the memories of weights are loaded, in two banks."""

    cycles_per_token: int | None = None
    multipliers: int | None = None
    frames_per_second: float | None = None
    clock_mhz: float | None = None
    device: Device | None = None
    fill: float = FILL
    realization: dict[str, object] = field(default_factory=dict)
    loadable: bool = False


@dataclass(frozen=True)
class Plan:
    """A schedule; on a device, with what `rtl.plan.cost` expects of it."""

    schedule: Schedule
    device: Device | None = None
    resources: dict[str, float] = field(default_factory=dict)

    def report(self) -> dict:
        """What `resources` of report.json holds of a device: per resource the estimate, the limit and the share."""
        if self.device is None:
            return {}
        return {"device": self.device.name, "tool": f"cost model fitted to {TOOL}"} | self.device.shares(self.resources)

    @property
    def shares(self) -> list[float]:
        """Of each resource of the device."""
        return [self.resources[name] / limit for name, limit in self.device.limits.items()]

    @property
    def load(self) -> float:
        """Share of the scarcest resource."""
        return max(self.shares)


def plan(artifact: Artifact, request: Request) -> Plan:
    """The design that a request asks for; refuses what cannot be met."""
    if not 0 < request.fill <= 1:
        raise SettingError(f"--fill must be a share above 0 and at most 1, not {request.fill:g}")
    if request.device and request.device.family != "xcup" and request.realization.get("products") is Products.CASCADES:
        raise SettingError(f"--products cascades are for the DSP48E2 of UltraScale+, which {request.device.name} lacks: take "
                           "multipliers")
    if request.multipliers is not None:
        cycles = _for_multipliers(artifact, request)
    elif request.frames_per_second is not None:
        cycles = _for_rate(artifact, request)
    elif request.cycles_per_token is None and request.device:
        return _for_device(artifact, request)
    else:
        cycles = CYCLES_PER_TOKEN if request.cycles_per_token is None else request.cycles_per_token
    return _checked(artifact, request, at(artifact, cycles, request))


def at(artifact: Artifact, cycles_per_token: int, request: Request) -> Plan:
    """The realization at T that takes the least of the device: of those that fit, the least in sum; else the smallest share of
    the scarcest resource."""
    if request.device is None:
        return Plan(Schedule(artifact, cycles_per_token, Realization(**request.realization)))
    plans = []
    for realization in _realizations(request, cycles_per_token):
        found = _estimated(artifact, cycles_per_token, realization, request)
        plans.append(found if "products" in request.realization else _with_fewer(artifact, cycles_per_token, found, request))
    return min(plans, key=lambda candidate: (max(candidate.load, request.fill), sum(candidate.shares)))


def _estimated(artifact: Artifact, cycles_per_token: int, realization: Realization, request: Request) -> Plan:
    schedule = Schedule(artifact, cycles_per_token, realization)
    loads = Loads(schedule, artifact).memories if request.loadable else None
    return Plan(schedule, request.device, estimate(schedule, request.device.family, loads=loads))


def _with_fewer(artifact: Artifact, cycles_per_token: int, best: Plan, request: Request) -> Plan:
    """While multipliers are too few, one layer after the other gets products with fewer: first where it costs the fewest lookup
    tables for each multiplier."""
    realization, family, limits = best.schedule.realization, request.device.family, request.device.limits
    nodes = {node.name: node for node in best.schedule.graph}
    found, own = dict(best.resources), {}
    layers = {name: resources(block.inventory(), family) for name, block in best.schedule.blocks.items()
              if isinstance(block, Linear | Conv1d) and block.multipliers}

    @cache
    def other(name: str, products: Products) -> dict[str, float]:
        single = replace(realization, own=frozenset({(name, products)}))
        return resources(fold(artifact, nodes[name], cycles_per_token, single).inventory(), family)

    def others() -> Iterator[tuple[float, str, Products]]:
        for name, now in layers.items():
            kinds = [Products.PAIRS] * (family == "xcup") + [Products.LOGIC]
            if 1 < cycles_per_token <= GRAPHS and artifact.operators[name].weight.size * LEAST_ADDERS < limits["lut"]:
                kinds.append(Products.CONSTANTS)
            for kind in kinds:
                then = other(name, kind)
                if then["dsp"] < now["dsp"]:
                    yield (then["lut"] - now["lut"]) / (now["dsp"] - then["dsp"]), name, kind

    def change(name: str, then: dict[str, float]) -> dict[str, float]:
        return {key: count + then[key] - layers[name][key] for key, count in found.items()}

    first, most = dict(layers), request.fill * limits["dsp"]
    while found["dsp"] > most and (choice := min(others(), default=None)):
        _, name, kind = choice
        found, layers[name], own[name] = change(name, other(name, kind)), other(name, kind), kind
    for name in sorted(own, key=lambda name: first[name]["lut"] - layers[name]["lut"]):  # what later ones made needless
        if change(name, first[name])["dsp"] <= most:
            found, layers[name] = change(name, first[name]), first[name]
            del own[name]
    if not own or max(found[key] / limit for key, limit in limits.items()) >= best.load:
        return best
    return _estimated(artifact, cycles_per_token, replace(realization, own=frozenset(own.items())), request)


def _realizations(request: Request, cycles_per_token: int) -> Iterator[Realization]:
    wide = request.device.family == "xcup"
    products = [Products.CASCADES if wide else Products.MULTIPLIERS]
    if cycles_per_token == 1:
        products.append(Products.CONSTANTS)
    for kind in products:
        for decay_tables in (False, True):
            chosen = Realization(kind, decay_tables=decay_tables, narrow=not wide, registers=_fast(request))
            yield replace(chosen, **request.realization)


def _fast(request: Request) -> bool:
    """Whether the clock is faster than logic without more registers is."""
    return request.clock_mhz is not None and request.clock_mhz > PLAIN_MHZ[request.device.family]


def _for_device(artifact: Artifact, request: Request) -> Plan:
    """The smallest T that fits the device."""
    slowest = Schedule(artifact, MAX_CYCLES).period

    def fits(cycles: int) -> bool:
        return at(artifact, cycles, request).load <= request.fill

    least = at(artifact, slowest, request)  # first: what fits nowhere is refused at once
    if least.load > request.fill:
        return _checked(artifact, request, least, request.fill)
    if fits(1):  # by circuits that larger T do not have
        return at(artifact, 1, request)
    return at(artifact, 2 + bisect_left(range(2, slowest), True, key=fits), request)


def _checked(artifact: Artifact, request: Request, plan: Plan, fill: float = 1.0) -> Plan:
    """The plan, if it fits its device; else a refusal: the limit, the stage that takes most of it, the nearest that fits."""
    if plan.device is None or plan.load <= fill:
        return plan
    name = max(plan.device.limits, key=lambda key: plan.resources[key] / plan.device.limits[key])
    stage, most = max(estimate(plan.schedule, plan.device.family, by_node=True).items(), key=lambda item: item[1][name])
    share = f"{plan.resources[name]:,.0f} of {plan.device.limits[name]:,} {name.upper()}"
    raise DesignLimit(f"at {plan.schedule.period} cycles per token the design takes an estimated {share} of {plan.device.name}, "
                      f"{most[name]:,.0f} of them in {stage}; {_nearest(artifact, request)}")


def _nearest(artifact: Artifact, request: Request) -> str:
    """What fits instead."""
    slowest = Schedule(artifact, MAX_CYCLES).period
    others = [device for device in DEVICES.values() if device.family == request.device.family and device != request.device]
    for device in [request.device, *sorted(others, key=lambda device: device.limits["lut"])]:
        elsewhere = replace(request, device=device)
        if at(artifact, slowest, elsewhere).load > request.fill:
            continue
        found = _for_device(artifact, elsewhere)
        return f"the nearest that fits is {device.name} at {found.schedule.period} cycles per token"
    return "no device in the list is large enough"


def _for_multipliers(artifact: Artifact, request: Request) -> int:
    """The smallest T that needs at most `multipliers`; more cycles never need more multipliers."""
    nodes, realization = artifact.graph.nodes[1:], Realization(**request.realization)

    def needed(cycles: int) -> dict[str, int]:
        return {node.name: fold(artifact, node, cycles, realization).multipliers for node in nodes}

    every, limit = range(1, MAX_CYCLES + 1), request.multipliers
    least = needed(MAX_CYCLES)
    if limit < sum(least.values()):
        slowest = every[bisect_left(every, -sum(least.values()), key=lambda cycles: -sum(needed(cycles).values()))]
        stage = max(least, key=least.get)
        raise DesignLimit(f"--multipliers {limit}: this model needs at least {sum(least.values())}, {least[stage]} of them in "
                          f"{stage}, which do at {slowest} cycles per token")
    return every[bisect_left(every, -limit, key=lambda cycles: -sum(needed(cycles).values()))]


def _for_rate(artifact: Artifact, request: Request) -> int:
    """The largest T at which the clock gives `frames_per_second`."""
    frames, clock_mhz, tokens = request.frames_per_second, request.clock_mhz, artifact.graph.length
    if clock_mhz is None:
        raise SettingError("--frames-per-second needs --clock-mhz, the clock that the design will run at")
    if not (math.isfinite(frames) and frames > 0):
        raise SettingError(f"--frames-per-second must be a number above 0, not {frames:g}")
    cycles = math.floor(min(clock_mhz * 1e6 / (frames * tokens), MAX_CYCLES))
    if cycles < 1:
        most = clock_mhz * 1e6 / tokens
        raise DesignLimit(f"--frames-per-second {frames:g}: {clock_mhz:g} MHz give at most {most:g}, a cycle for each of "
                          f"{tokens} tokens in every stage; ask for less or name a faster clock")
    return cycles
