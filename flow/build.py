"""`emamba build TARGET`, or `python -m rtl.build TARGET`: an artifact becomes a target's files."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

from amaranth.hdl import Elaboratable

from asic import target as asic
from asic.layout.block import MOST_CELLS
from asic.netlist import pdk as pdks
from boards.describe import describe, golden_frames
from boards.icebreaker import target as icebreaker
from boards.ulx3s import target as ulx3s
from boards.upduino import target as upduino
from boards.zcu102 import target as zcu102
from boards.zynqmp.presets import PRESETS
from boards.zynqmp.target import Target
from emamba.artifact import SHIPPED, Artifact, load
from emamba.base.door import guarded
from emamba.base.errors import SettingError
from emamba.base.options import add_own, at_least, check, cycles, real, refuse
from emamba.base.progress import add_voice, say, shown
from emamba.graph import import_models
from emamba.io.files import change_record, check_replaceable, foreign, write_folder
from emamba.ops import Scan
from emamba.ops.certificate import certify
from flow import micro
from flow.handover import hand_over
from flow.organization import add_engine, fastest, machine_of
from flow.verdict import built as judged
from flow.verdict import lines
from rtl.engine.listing import listing
from rtl.engine.machine import Machine
from rtl.engine.schedule import EngineSchedule
from rtl.engine.stream import STREAMED
from rtl.kit import emit
from rtl.kit.datapath import Products
from rtl.kit.emit import to_verilog
from rtl.plan import devices
from rtl.plan.accelerator import accelerator
from rtl.plan.loads import envelope
from rtl.plan.planner import CYCLES_PER_TOKEN, FILL, Plan, Request, plan
from rtl.plan.schedule import Schedule
from rtl.system import exports
from rtl.system.litex import litex_module
from rtl.system.system import Options, System

NO_TOOL = "Verilog only: no tool has estimated resources or timing"
ESTIMATED = "the estimate is the accelerator's with its memories: packets, registers and counters around it come on top"


def write_verilog(folder: Path, schedule: Schedule, clock_mhz: float | None) -> tuple[dict, list[str]]:
    emit.write(folder / "top.v", to_verilog(accelerator(schedule)))
    if isinstance(schedule, EngineSchedule) and schedule.image:
        schedule.image.content.tofile(folder / STREAMED)
    return {}, [NO_TOOL]


def write_axi(folder: Path, system: System, clock_mhz: float | None) -> tuple[dict, list[str]]:
    """The system as Verilog, and what software needs to know of it."""
    description = describe(system, golden_frames(system.artifact))
    emit.write(folder / "top.v", to_verilog(system))
    files = {"accelerator.json": json.dumps(description) + "\n",
             "registers.h": exports.c_header(), "registers.rdl": exports.systemrdl()}
    if system.supply:
        system.supply.image.content.tofile(folder / STREAMED)
    else:
        files["emamba_litex.py"] = litex_module(system)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return {}, [NO_TOOL]


TARGETS = {"verilog": SimpleNamespace(CLOCK_MHZ=None, LEAST_CLOCK_MHZ=0.0, DEVICE=None, write=write_verilog),
           "axi": SimpleNamespace(CLOCK_MHZ=None, LEAST_CLOCK_MHZ=0.0, DEVICE=None, write=write_axi),
           "ulx3s": ulx3s.Target(), "zcu102": zcu102, "zcu104": Target(PRESETS["zcu104"]), "kv260": Target(PRESETS["kv260"]),
           "icebreaker": icebreaker.Target(), "upduino": upduino.Target(), "asic": asic}
"""A target has a default clock in MHz, or None, and the least that it can do; the device that it is for, or None;
`write(folder, schedule, clock_mhz)`, which returns resources and notes for the report; perhaps a default CYCLES_PER_TOKEN of its
own; perhaps MACHINE, the engine that it is for; perhaps `on(device)`, the same target with another device; and perhaps
`run(folder)`, which runs tools on the finished folder and returns the notes that then hold in place of the target's UNRUN."""

FASTEST = 1e5
"""MHz; above it, a period is not a whole picosecond, and no chip reaches it."""
RECORD = "report.json"
"""The report of an output, by which what was written is known."""
ENGINES = ("verilog", "axi", "ulx3s", "zcu102", "zcu104", "kv260", "icebreaker", "upduino", "asic")
"""Targets that an engine can be built for."""
BOARDS = ("zcu102", "zcu104", "kv260", "icebreaker", "upduino")
"""Targets with one device each."""
STREAMS = ("verilog", "axi", "zcu102", "zcu104", "kv260")
"""Targets whose engine can have ports to a memory outside."""
SYSTEMS = ("axi", "ulx3s", "zcu102", "zcu104", "kv260", "icebreaker", "upduino")
"""Targets whose `write` takes a `System` in place of a schedule."""


TEXT = "turn an artifact into the files of a target"


def main(arguments: list[str] | None = None) -> int:
    """Builds a target; every failure is one sentence on standard error."""
    return guarded("rtl.build", lambda: _run(check(make_parser().parse_args(arguments))))


def _run(options: argparse.Namespace) -> None:
    import_models(*options.own)
    with shown(f"rtl.build {options.target}", options.quiet, options.log):
        build(options)


def make_parser() -> argparse.ArgumentParser:
    """The parser of `python -m rtl.build`."""
    parser = argparse.ArgumentParser("python -m rtl.build", description=TEXT,
                                     epilog="example: python -m rtl.build zcu102 --artifact models/mars --cycles-per-token 20")
    add_own(parser)
    add_options(parser)
    add_voice(parser)
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """What a build can be asked for."""
    parser.add_argument("target", metavar="TARGET", help=", ".join((*TARGETS, micro.TARGET)))
    parser.add_argument("--artifact", type=Path, default=SHIPPED, help="the artifact's folder (default: the shipped MARS model)")
    parser.add_argument("--out", type=Path, help="folder to write (default: build/TARGET)")
    parser.add_argument("--prefix", metavar="NAME", help=f"{micro.TARGET}: begins all names, so that several models can be in "
                        "one program (default: model)")
    add_engine(parser, auto=True)
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument("--cycles-per-token", **cycles(), metavar="T",
                      help=f"cycles a token may take: few are fast, many are small (default: {CYCLES_PER_TOKEN}, "
                      f"{ulx3s.Target.CYCLES_PER_TOKEN} for ulx3s)")
    rate.add_argument("--multipliers", **at_least(1), metavar="N", help="the fastest design with at most N multipliers")
    rate.add_argument("--frames-per-second", **real(above=0),
                      metavar="F", help="the smallest design that does F sequences a second")
    parser.add_argument("--device", metavar="D", help="the device: alone it asks for the smallest T that fits; "
                        f"{', '.join(devices.DEVICES)} (the targets zcu102 and kv260 are for their own)")
    parser.add_argument("--fill", **real(above=0, most=1, words="--fill must be a share above 0 and at most 1, not {value:g}"),
                        metavar="SHARE", default=FILL,
                        help=f"share of the device that --device may fill, by estimate (default: {FILL:g})")
    parser.add_argument("--products", choices=[kind.value for kind in Products],
                        help="products with weights: one multiplier each, pairs in a wide one, cascades of these, adder "
                        "graphs at T = 1, merged with their sum (default: what the estimate favours, merged for asic)")
    parser.add_argument("--decays", choices=["segments", "tables"], help="the scan's exp (default: what the estimate "
                        "favours, for asic tables where they are small)")
    parser.add_argument("--activations", choices=["segments", "tables"], help="SiLU and softplus (default: tables up to 8 bits)")
    parser.add_argument("--registers", choices=["few", "many"], help="a norm's long logic in one cycle, or in one a level, for a "
                        "fast clock (default: as the device and --clock-mhz ask for)")
    parser.add_argument("--pdk", metavar="P", help=f"the target asic's process: {', '.join(pdks.NAMES)}, or the path of a "
                        "description like those in asic/pdks")
    parser.add_argument("--pdk-data", type=Path, metavar="FOLDER", help="where the process' libraries are (default: $EMAMBA_PDK)")
    parser.add_argument("--prove", action="store_true", help="with --pdk: proves that the netlist does what the Verilog says, in "
                        "minutes")
    parser.add_argument("--layout", nargs="?", const="", metavar="BLOCK", help="with --pdk: places, routes and checks a block "
                        f"of the chip, to GDS (default: the largest of at most {MOST_CELLS:,} cells)")
    parser.add_argument("--clock-mhz", **real(above=0),
                        metavar="C", help="clock of --frames-per-second and of the timing constraints "
                        "(default: " + ", ".join(f"{target.CLOCK_MHZ:g} for {name}" for name, target in TARGETS.items()
                                                 if target.CLOCK_MHZ) + ")")
    parser.add_argument("--weights", choices=["constant", "loadable", "streamed"], default="constant",
                        help=f"weights built in; {', '.join(SYSTEMS)}: in twice the memory, to be loaded while the design runs; "
                        "an engine: read with its program from a memory outside, by AXI4")
    parser.add_argument("--state", choices=["cleared", "kept"],
                        help=f"{', '.join(SYSTEMS)}: a sequence begins with zeros, or its state can be kept, read and written "
                        "(default: as the artifact's model says)")
    parser.add_argument("--counters", choices=["yes", "no"], default="yes",
                        help=f"{', '.join(SYSTEMS)}: what stages and FIFOs do is counted, in five 32-bit counters a stage")
    parser.add_argument("--parity", choices=["no", "yes"], default="no",
                        help=f"{', '.join(SYSTEMS)}: a bit beside every word of states, FIFOs and loadable weights, and faults "
                        "counted")
    parser.add_argument("--bus-bits", **at_least(1), default=64, metavar="W", help=f"{', '.join(SYSTEMS)}: width of the streams, "
                        "32, 64 or 128 (default: 64)")


def defaults() -> dict:
    """Of every option."""
    parser = argparse.ArgumentParser(add_help=False)
    add_options(parser)
    return {action.dest: action.default for action in parser._actions}


def build(options: argparse.Namespace) -> int:
    """Builds what the options ask for, and says what was built."""
    Elaboratable._MustUse__silence = True  # a refusal leaves a design unused, which Amaranth would tell
    if options.target == micro.TARGET:
        return micro.build(options, defaults())
    refuse(options, ("prefix",), f"is of the target {micro.TARGET}, not of {options.target}")
    if options.target not in TARGETS:
        raise SettingError(f"there is no target '{options.target}'; choose one of {', '.join((*TARGETS, micro.TARGET))}")
    target = TARGETS[options.target]
    if options.pdk:
        if target is not asic:
            raise SettingError(f"--pdk is for the target asic, not for {options.target}")
        target = asic.for_pdk(pdks.find(options.pdk, options.pdk_data), options.prove, options.layout,
                              golden_frames if options.layout is not None else None)
    elif options.prove or options.layout is not None:
        raise SettingError(f"--{'prove' if options.prove else 'layout'} is of a netlist: name the process with --pdk")
    if options.device and hasattr(target, "on"):
        target = target.on(options.device)
    elif options.device and options.target in BOARDS and options.device != options.target:
        raise SettingError(f"--device {options.device}: the target {options.target} is a board of its own; leave out "
                           "--device, or take the target verilog or axi")
    clock_mhz = _clock(options, target.CLOCK_MHZ, target.LEAST_CLOCK_MHZ)
    out = options.out or Path("build") / options.target
    check_replaceable(out, RECORD, RECORD)
    artifact = load(options.artifact)
    live = options.weights == "loadable"
    system = options.target in SYSTEMS
    state = options.state or ("kept" if system and artifact.graph.carried else "cleared")
    choice = Options(options.bus_bits, options.counters == "yes", live, state == "kept", options.parity == "yes")
    if not system and choice != Options():
        raise SettingError(f"--weights, --state, --counters, --parity and --bus-bits are for {', '.join(SYSTEMS)}, not for the "
                           f"target {options.target}")
    default = getattr(target, "CYCLES_PER_TOKEN", CYCLES_PER_TOKEN)
    asked = request(options, target.DEVICE, clock_mhz, default, getattr(target, "PRODUCTS", None))
    planned = _organized(options, artifact, asked)
    schedule = planned.schedule
    design = System(schedule, choice, artifact) if system else schedule
    say(f"{artifact.name}: {schedule.period} cycles per token, {schedule.multipliers:,} multipliers; {options.target}")
    certificates = {name: certify(op) for name, op in artifact.operators.items() if isinstance(op, Scan)}
    caveats = [f"{name}: no certificate excludes that the state saturates"
               for name, certificate in certificates.items() if not certificate.holds]
    with write_folder(out, RECORD, RECORD) as temporary:
        resources, notes = target.write(temporary, design, clock_mhz)
        if isinstance(schedule, EngineSchedule) and not system:
            (temporary / "program.txt").write_text(listing(schedule.program), encoding="utf-8")
        hand_over(temporary, options.target, artifact, schedule, clock_mhz, alone=options.weights != "streamed")
        caveats += [ESTIMATED] * bool(planned.device and system)
        caveats += surprises(options, schedule, target.CLOCK_MHZ, clock_mhz)
        report = schedule.report() | {
            "target": options.target, "artifact": {"name": artifact.name, "digest": artifact.digest}, "clock_mhz": clock_mhz,
            "certificate": {name: asdict(certificate) for name, certificate in certificates.items()},
            "resources": resources | planned.report(),
            "notes": [*notes, *caveats],
        }
        report["verdict"] = judged(schedule, clock_mhz, report["resources"], artifact)
        (temporary / RECORD).write_text(json.dumps(report), encoding="utf-8")
    kept = foreign(out, RECORD)
    if hasattr(target, "run") and (notes := target.run(out.resolve())):
        report["notes"] = [*notes, *(note for note in report["notes"] if note != target.UNRUN)]
        change_record(out, RECORD, {"notes": report["notes"]})
    least = (f"at least {report['latency_floor']:,} with as many multipliers, {report['latency_limit']:,} with any number, "
             if "latency_floor" in report else "")
    print(f"{options.target} of {artifact.name}: {schedule.period} cycles per token, {schedule.cycles_per_frame:,} per frame, "
          f"latency {schedule.latency:,} cycles, {least}{schedule.multipliers:,} multipliers {report['utilization']:.1%} busy")
    print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
    print("\n".join(lines(report["verdict"])))
    for note in report["notes"]:
        print(f"note: {note}")
    if kept:
        print(f"kept, since it was not written here, and perhaps of an earlier design: {', '.join(kept)}")
    return 0


def _organized(options: argparse.Namespace, artifact: Artifact, asked: Request) -> Plan:
    """The design in the organization that is asked for; of both, the faster one."""
    machine = machine_of(options, getattr(TARGETS[options.target], "MACHINE", None), options.target == "asic")
    if machine is not None:
        return _engine(options, artifact, machine)
    artifact = envelope(artifact) if options.weights == "loadable" else artifact
    if options.organization == "pipeline" or options.parity == "yes" or options.target not in ENGINES:
        return plan(artifact, asked)
    return fastest(options, artifact, asked)


def _engine(options: argparse.Namespace, artifact: Artifact, machine: Machine) -> Plan:
    """An engine, whose lanes decide its rate."""
    if options.target not in ENGINES:
        raise SettingError(f"--organization engine is for {', '.join(ENGINES)}, not for the target {options.target}")
    if machine.stream and options.target not in STREAMS:
        raise SettingError(f"--weights streamed is for {', '.join(STREAMS)}, not for the target {options.target}")
    refuse(options, ("cycles_per_token", "multipliers", "frames_per_second", "products", "decays", "activations", "registers"),
           "is of a pipeline; an engine's rate comes from its --lanes")
    artifact = envelope(artifact) if options.weights == "loadable" else artifact
    return Plan(EngineSchedule(artifact, machine, options.state == "kept"))


def request(options: argparse.Namespace, device: str | None, clock_mhz: float | None, default: int,
            products: Products | None = None) -> Request:
    """What the options ask of a target for `device` at `clock_mhz`, which takes `default` cycles a token and `products` where
    nothing is asked."""
    fixed = {"decay_tables": False, "products": Products.PAIRS} if options.weights == "loadable" else {}
    if options.products or products:
        fixed["products"] = Products(options.products or products)
    for name, choice, yes in (("decay_tables", options.decays, "tables"), ("tables", options.activations, "tables"),
                              ("registers", options.registers, "many")):
        if choice:
            fixed[name] = choice == yes
    cycles = options.cycles_per_token
    if cycles is None and options.device is None:
        cycles = default
    device = options.device or device
    return Request(cycles_per_token=cycles, multipliers=options.multipliers, frames_per_second=options.frames_per_second,
                   clock_mhz=clock_mhz, device=devices.find(device) if device else None, fill=options.fill,
                   realization=fixed, loadable=options.weights == "loadable")


def _clock(options: argparse.Namespace, default: float | None, least: float) -> float | None:
    """The clock in MHz, checked; None where nothing depends on one."""
    if options.clock_mhz is None:
        return default
    if options.clock_mhz > FASTEST:
        raise SettingError(f"--clock-mhz {options.clock_mhz:g}: no clock is faster than {FASTEST:g} MHz")
    if options.clock_mhz < least:
        raise SettingError(f"--clock-mhz {options.clock_mhz:g}: the target {options.target} has no clock below {least:g} MHz")
    if default is None and options.frames_per_second is None:
        raise SettingError(f"--clock-mhz changes nothing in the target {options.target}; it goes with --frames-per-second")
    return options.clock_mhz


def surprises(options: argparse.Namespace, schedule: Schedule | EngineSchedule, usual: float | None,
              clock_mhz: float | None) -> list[str]:
    """What differs from what was asked, or is more than is known."""
    found = []
    if options.cycles_per_token and options.cycles_per_token > schedule.period:
        found.append(f"--cycles-per-token {options.cycles_per_token} gives {schedule.period}: no stage takes more")
    if clock_mhz and usual and clock_mhz > usual:
        found.append(f"{clock_mhz:g} MHz is above the target's default of {usual:g} MHz: no tool has shown that this design "
                     "reaches it")
    return found


if __name__ == "__main__":
    sys.exit(main())
