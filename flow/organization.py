"""The options that choose a design's organization."""

import argparse
from dataclasses import replace

from emamba.artifact import Artifact
from emamba.base.errors import DesignLimit, SettingError
from emamba.base.options import at_least, refuse
from rtl.engine.machine import MOST_LANES, Machine, Stream
from rtl.engine.schedule import EngineSchedule
from rtl.plan.engine_plan import for_device
from rtl.plan.planner import Plan, Request, plan

ORGANIZATIONS = ("pipeline", "engine")


def add_engine(parser: argparse.ArgumentParser, auto: bool = False) -> None:
    """Options of the organization; `auto` is one where both can be compared."""
    parser.add_argument("--organization", choices=[*ORGANIZATIONS, *["auto"] * auto], default="pipeline",
                        help="hardware of its own for every layer, or one array of lanes that runs a program (default: pipeline)"
                        + "; auto: the faster one with --multipliers N, or on --device D" * auto)
    parser.add_argument("--lanes", **at_least(1), metavar="N", help="multipliers of an engine (default: 8)")
    parser.add_argument("--posts", **at_least(1), metavar="P", help="values that an engine requantizes a cycle, a divisor of its "
                        "lanes (default: a fifth of them, or the next divisor)")
    parser.add_argument("--factor-bits", **at_least(2), metavar="B", help="signed bits of factors of an engine's multipliers, "
                        "18 for those of an ECP5; wider ones take two steps (default: as the widest)")
    parser.add_argument("--tile", **at_least(1), metavar="T", help="most tokens that an engine works at a time: few take little "
                        f"memory and more cycles (default: {Machine.tile}; 1 of streamed weights)")
    parser.add_argument("--ports", **at_least(1), metavar="P", help="AXI4 ports of streamed weights, a divisor of the lanes "
                        "(default: 1)")
    parser.add_argument("--port-bits", **at_least(1), metavar="W", help="data bits of such a port: 32, 64, 128, … 1024 (default: "
                        "128)")


def machine_of(options: argparse.Namespace, own: Machine | None = None, chip: bool = False) -> Machine | None:
    """The engine that the options ask for, or None; of a target that is for its `own` alone, that one with what is asked for;
    perhaps for a `chip`."""
    stream = _stream(options)
    if own:
        if stream:
            raise SettingError("--weights streamed needs a memory outside, and the target's board has none: leave it out")
        return replace(own, lanes=options.lanes or own.lanes, factor_bits=options.factor_bits or own.factor_bits,
                       tile=options.tile or own.tile,
                       posts=options.posts or (0 if options.lanes else own.posts))
    if options.organization == "engine":
        tile = options.tile or (1 if stream else Machine.tile)  # a tile's tokens would read the same weights again
        return Machine(options.lanes or Machine.lanes, options.posts or 0, options.factor_bits, tile=tile, stream=stream,
                       chip=chip)
    refuse(options, ("lanes", "posts", "factor_bits", "tile"), "is of an engine: add --organization engine")
    if stream:
        raise SettingError("--weights streamed is of an engine: add --organization engine")
    return None


def fastest(options: argparse.Namespace, artifact: Artifact, asked: Request) -> Plan:
    """Of both organizations the one with fewer cycles a frame, within `asked`'s multipliers or, by estimate, its device."""
    kept = options.state == "kept"
    refuse(options, ("cycles_per_token", "frames_per_second"), "is a rate, but --organization auto finds the fastest design: "
           "leave it out")
    if asked.multipliers is None and asked.device is None:
        raise SettingError("--organization auto compares designs of as many multipliers, or on one device: add --multipliers N "
                           "or --device D")

    def engine() -> Plan:
        if asked.multipliers is None:
            return for_device(artifact, asked.device, asked.fill, kept)
        return Plan(EngineSchedule(artifact, Machine(min(asked.multipliers, MOST_LANES)), kept))

    found, refusals = [], []
    for make in (lambda: plan(artifact, replace(asked, cycles_per_token=None)), engine):
        try:
            found.append(make())
        except DesignLimit as error:
            refusals.append(error)
    if not found:
        raise refusals[0]
    return min(found, key=lambda planned: planned.schedule.cycles_per_frame)


def _stream(options: argparse.Namespace) -> Stream | None:
    if options.weights == "streamed":
        return Stream(options.ports or Stream.ports, options.port_bits or Stream.bits)
    refuse(options, ("ports", "port_bits"), "is of streamed weights: add --weights streamed")
    return None
