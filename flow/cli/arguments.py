"""Options that several commands share, and checks of the files that options name."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from emamba.artifact import SHIPPED
from emamba.base.errors import OutputError, SettingError
from emamba.base.options import at_least, cycles
from emamba.io.files import check_replaceable
from rtl.engine.machine import Machine
from rtl.plan.planner import CYCLES_PER_TOKEN

from ..organization import add_engine, machine_of

PARTS = ("test", "validate", "train")
OUTPUTS = ("out", "json", "vcd", "plot")
"""Options that name what is written."""
INPUTS = ("inputs", "targets", "calibration", "config", "sensitivity", "stalls", "data", "search")
"""Options that name what is read; other paths are arguments."""
LARGE = 10**9
"""More than anybody means."""

Commands = argparse._SubParsersAction
Run = Callable[[argparse.Namespace], int]


def command(commands: Commands, name: str, run: Run, text: str, example: str) -> argparse.ArgumentParser:
    """Adds a command that reads data sets."""
    parser = commands.add_parser(name, help=text, description=text, epilog=f"example: {example}")
    parser.set_defaults(run=run)
    parser.add_argument("--data", type=Path, help="folder of the data sets (default: $EMAMBA_DATA, else ./data)")
    return parser


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Settings of the quantizer."""
    parser.add_argument("--config", type=Path, help="TOML file of quantization settings")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting; may be repeated")


def add_judges(parser: argparse.ArgumentParser) -> None:
    """Sequences by which widths are judged."""
    parser.add_argument("--limit", **at_least(1), default=1000, help="validation sequences that judge widths (default: 1000)")


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


def check_artifact_folder(folder: Path, marker: str | None = "manifest.json") -> None:
    """Refuses a folder whose name no artifact can have, or that cannot be replaced."""
    if not folder.name.isprintable():
        raise SettingError(f"--out {folder}: name it with characters that can be printed")
    if marker:
        check_replaceable(folder, marker)


def check_outputs(options: argparse.Namespace) -> None:
    """Refuses a file that would be written over one that is read, or over another output."""
    paths = {key: value for key, value in vars(options).items() if isinstance(value, Path)}
    named = {key: f"--{key.replace('_', '-')}" if key in OUTPUTS or key in INPUTS else key.upper() for key in paths}
    inputs = {key: path for key, path in paths.items() if key not in OUTPUTS and os.path.isfile(path)}
    read = {os.path.realpath(path): f"{named[key]} {path}" for key, path in inputs.items()}
    written = [(f"{named[key]} {path}", path) for key, path in paths.items() if key in OUTPUTS]
    written += [(f"what --{key} {paths[key]} writes beside it", paths[key].with_suffix(suffix))
                for key, suffix in getattr(options, "beside", {}).items() if key in paths]
    for name, path in written:
        if other := read.get(place := os.path.realpath(path)):
            raise OutputError(f"{other} is the file that {name} would replace: name another one")
        read[place] = name
