"""`emamba prepare`: a data set of one's own, a recipe for it, and what a trivial model reaches."""

import argparse
import os
from pathlib import Path

from emamba.base.errors import SettingError
from emamba.base.options import at_least, real
from emamba.base.progress import say
from emamba.io.files import check_replaceable

from .arguments import LARGE, Commands, command

LABELS = ("last", "majority", "any")
MISSING = ("refuse", "previous", "linear", "drop")


def add(commands: Commands) -> None:
    sub = command(commands, "prepare", _prepare,
                  "emamba prepare pump.csv --inputs pressure,flow --target flow --length 32 --out data/pump")
    add_source(sub)
    sub.add_argument("--out", type=Path, required=True, help="folder of the arrays and of recipe.toml; below the data directory, "
                     "recipes call it by its name")


def add_source(sub: argparse.ArgumentParser) -> None:
    """What is read, and how."""
    sub.add_argument("source", type=Path, nargs="+", help="CSV, Parquet or NPZ files with named columns, folders of them, or one "
                     "folder of sounds (.wav, .flac) with a folder for each class")
    sub.add_argument("--inputs", metavar="COLUMNS", help="tables: columns that the model reads, separated by commas")
    sub.add_argument("--target", metavar="COLUMN", help="tables: column that it predicts")
    sub.add_argument("--classes", action="store_true", help="tables: --target names classes")
    sub.add_argument("--change", action="store_true", help="tables: predict by how much --target changes from the window's last "
                     "row, for values that hardly move; the answer is added to that row's value")
    sub.add_argument("--label", default=None, metavar="RULE", help="class of a window: last (the default; the row --ahead after "
                     "its last one), majority, or any (the rarest class in it); of sounds, name=PATTERN finds it in the name")
    sub.add_argument("--group", metavar="BY", help="what stays in one part: file, a column such as subject, or name=PATTERN, a "
                     "regular expression on the file's name; none cuts each file in time (default: file from three files on)")
    sub.add_argument("--length", **at_least(1, LARGE), default=32, help="tables: rows of a window (default: 32)")
    sub.add_argument("--ahead", **at_least(0, LARGE), help="tables: rows from a window's last to its target's (default: 1, and 0 "
                     "for majority and any)")
    sub.add_argument("--step", **at_least(1, LARGE), default=1, help="tables: rows from a window to the next (default: 1)")
    sub.add_argument("--time", metavar="COLUMN", help="tables: when a row was measured, in seconds (large numbers: ms, µs or "
                     "ns since 1970) or as a date with the year first (2010-01-31, 20100131); a new recording begins after five "
                     "usual steps without a row")
    sub.add_argument("--rate", **real(above=0, most=1e9), metavar="HZ", help="tables: resample to this many rows a second, by "
                     "straight lines; needs --time")
    sub.add_argument("--missing", choices=MISSING, default="refuse", help="tables: a missing value is refused (default), takes "
                     "the previous one, is on a straight line between its neighbours, or its row is dropped and ends a recording")
    sub.add_argument("--seconds", **real(least=0.025, most=3600), default=1.0, help="sounds: seconds of each file (default: 1)")
    sub.add_argument("--bands", **at_least(1, 128), default=16, help="sounds: bands of the spectrum (default: 16)")


def _prepare(options: argparse.Namespace) -> int:
    print("\n".join(prepared(options, options.out)))
    place, out = os.path.dirname(os.path.abspath(options.out)), options.out
    told = "" if place in (os.path.abspath("data"), os.getcwd(), os.path.abspath(os.environ.get("EMAMBA_DATA") or "data")) else \
        f" --data {out.parent}"
    print(f"{out}/recipe.toml: a recipe to start from; emamba train {out}/recipe.toml{told} --out runs/{out.name}")
    return 0


def prepared(options: argparse.Namespace, out: Path) -> list[str]:
    """Writes the data set into the folder `out`; returns lines on it."""
    from emamba.datasets import prepare
    from emamba.datasets.series import Windows, series
    from emamba.datasets.sounds import sounds
    from emamba.io.tables import one_name, split_names

    check_replaceable(out, prepare.MARKER, prepare.RECORD)
    prepare.check_name(out)
    kind, files = prepare.find(options.source)
    say(f"reads {options.source[0]}")
    if kind == "sounds":
        if options.inputs or options.target:
            raise SettingError(f"{files[0]} is a folder, of sounds: --inputs and --target are for a CSV file")
        found = sounds(files[0], options.seconds, options.bands, options.group, options.label)
    else:
        if not options.inputs or not options.target:
            raise SettingError(f"{files[0]} is read as CSV: name its columns with --inputs and --target")
        if options.label not in (None, *LABELS):
            raise SettingError(f"--label {options.label}: of tables it is one of {', '.join(LABELS)}")
        chosen = Windows(length=options.length, ahead=options.ahead, step=options.step, classes=options.classes,
                         label=options.label or "last", group=options.group and one_name(options.group),
                         time=options.time and one_name(options.time), rate=options.rate, missing=options.missing,
                         change=options.change)
        found = series(files, split_names(options.inputs), one_name(options.target), chosen)
    return prepare.write(found, out)
