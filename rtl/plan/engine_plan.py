"""The engine for a device: as many lanes as fit it, by estimate."""

from math import sqrt

from emamba.artifact import Artifact
from emamba.base.errors import DesignLimit
from emamba.ops import Lookup, Weighted

from ..engine.machine import Machine
from ..engine.schedule import EngineSchedule
from .cost import FAMILIES
from .devices import Device
from .engine_cost import estimate
from .planner import FILL, Plan

FACTOR_BITS = {"xcup": None, "ecp5": 18, "ice40": 16}
"""Of a family's multipliers; UltraScale+ takes what programs need in one block."""
LANES = 512, 384, 256, 192, 128, 96, 64, 48, 40, 32, 24, 20, 16, 12, 8, 6, 4, 3, 2, 1
"""Numbers of lanes that are tried."""


def with_lanes(artifact: Artifact, lanes: int, device: Device, kept: bool = False) -> Plan:
    """The engine of `lanes` for a device, and what it takes of it."""
    schedule = EngineSchedule(artifact, Machine(lanes, factor_bits=FACTOR_BITS[device.family]), kept)
    return Plan(schedule, device, estimate(schedule, device.family))


def _weights(artifact: Artifact) -> int:
    """Bits."""
    weighted = (op for op in artifact.operators.values() if isinstance(op, Weighted))
    return sum(op.weight.size * op.w.bits for op in weighted) + sum(
        op.table.size * op.o.bits for op in artifact.operators.values() if isinstance(op, Lookup))


def _memory(device: Device) -> int:
    """Bits of a device's block RAMs."""
    family = FAMILIES[device.family]
    return round(device.limits[family.block] * max(words * bits for words, bits in family.shapes) / family.block_share)


def for_device(artifact: Artifact, device: Device, fill: float = FILL, kept: bool = False) -> Plan:
    """The engine with the most of LANES, or nearly, that takes at most `fill` of every resource; refuses what fits with none."""
    weights, memory = _weights(artifact), _memory(device)
    if weights > memory:
        raise DesignLimit(f"the weights of {artifact.name} have {weights:,} bits, but the block RAMs of {device.name} hold "
                          f"{memory:,}: take a larger device, or --weights streamed")
    found, refusal = None, DesignLimit(f"an engine of one lane takes more than {fill:.0%} of the multipliers of {device.name}: "
                                       "take a larger device")
    most = fill * device.limits["dsp"]
    for lanes in LANES:
        if lanes > most:
            continue
        try:
            found = with_lanes(artifact, lanes, device, kept)
        except DesignLimit as error:
            refusal = error  # as of lanes that do not divide what they must
            continue
        if found.load <= fill:
            return found
        most = lanes * sqrt(fill / found.load)  # part of what it takes does not depend on its lanes
    if found is None:
        raise refusal
    name = max(device.limits, key=lambda key: found.resources[key] / device.limits[key])
    raise DesignLimit(f"an engine of {found.schedule.machine.lanes} lanes takes an estimated {found.resources[name]:,.0f} of "
                      f"{device.limits[name]:,} {name.upper()} of {device.name}: take a larger device")
