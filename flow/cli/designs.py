"""Options of commands that run an artifact, or its design."""

import argparse
from pathlib import Path

from emamba.artifact import SHIPPED
from emamba.base.options import at_least, cycles
from rtl.engine.machine import Machine
from rtl.plan.planner import CYCLES_PER_TOKEN

from ..organization import add_engine, machine_of

PARTS = ("test", "validate", "train")


def add_sequences(parser: argparse.ArgumentParser, given: bool = True) -> None:
    """An artifact, and the sequences it runs on; with `given`, a file may hold them."""
    parser.add_argument("artifact", type=Path, nargs="?", default=SHIPPED,
                        help="folder of the artifact (default: the shipped MARS model)")
    parser.add_argument("--split", choices=PARTS, default="test", help="part of the data set (default: test)")
    parser.add_argument("--limit", **at_least(1), help="first N sequences only")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    if given:
        parser.add_argument("--inputs", type=Path, metavar="FILE",
                            help="inputs of the model in a .npy file instead of the data set")


def add_cycles(parser: argparse.ArgumentParser, what: str = "of the rtl backend") -> None:
    """The folding of the design."""
    parser.add_argument("--cycles-per-token", **cycles(), default=CYCLES_PER_TOKEN, help=f"{what} (default: {CYCLES_PER_TOKEN})")


def add_design(parser: argparse.ArgumentParser) -> None:
    """The folding of the design, or its engine."""
    add_cycles(parser)
    add_engine(parser)
    parser.add_argument("--weights", choices=["constant", "streamed"], default="constant", help="an engine's weights built in, "
                        "or read from a memory outside (default: constant)")


def design_of(options: argparse.Namespace) -> int | Machine:
    """Cycles a token of a pipeline, or the machine of an engine."""
    return machine_of(options) or options.cycles_per_token
