"""`emamba go`: from files to a board's files in one command, which can be given again after an interruption."""

import argparse
import contextlib
import hashlib
import io
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from emamba.base.errors import DesignLimit, Diverged, InputError, OutputError, SettingError
from emamba.base.options import at_least, cycles, real
from emamba.base.progress import note, say
from emamba.config import Recipe, load_toml
from emamba.io.files import read_bytes, write_file
from flow import build

from ..verdict import BOARD, lines
from .arguments import LARGE, Commands, command
from .prepare import add_source, prepared

BOARDS = ("zcu102", "zcu104", "kv260", "ulx3s", "verilog")
STAGES = ("prepare", "train", "quantize", "report", "compare", "build")
SKIPPED = ("report", "compare", "build")
"""What may be left out."""
RECORD = "go.json"
"""What is done, and of which inputs."""


def add(commands: Commands) -> None:
    sub = command(commands, "go", _go, "emamba go pump.csv --inputs pressure,flow --target flow --board kv260")
    add_source(sub)
    sub.add_argument("--board", choices=BOARDS, default="kv260", help="what files are built for (default: kv260)")
    sub.add_argument("--out", type=Path, help="folder of everything (default: build/NAME, the first source's name)")
    sub.add_argument("--recipe", type=Path, metavar="FILE", help="TOML file instead of the recipe that prepare writes")
    sub.add_argument("--epochs", **at_least(1, 1 << 20), help="of the training (default: those of the recipe)")
    sub.add_argument("--threads", **at_least(1, 1024), help="processor threads of the training (default: all)")
    rate = sub.add_mutually_exclusive_group()
    rate.add_argument("--cycles-per-token", **cycles(), metavar="T", help="of the design (default: the board's)")
    rate.add_argument("--frames-per-second", **real(above=0), metavar="F", help="the smallest design that does so many sequences")
    sub.add_argument("--sequences", **at_least(1, LARGE), default=4, help="compared with the hardware's simulation (default: 4)")
    sub.add_argument("--skip", action="append", default=[], choices=SKIPPED, help="leave this stage out; may be repeated")


def _go(options: argparse.Namespace) -> int:
    name = re.sub(r"\W+", "_", options.source[0].stem).strip("_").lower() or "own"
    out = options.out or Path("build") / name
    _check_folder(out)
    work = _Work(out, options)
    data, run, model, board = out / "data", out / "run", out / "model", out / options.board
    recipe = options.recipe or out / "recipe.toml"
    wanted = (load_toml(Recipe, recipe).data.name if options.recipe else name)
    files = _stamps(options.source)
    words = {key: str(value) for key, value in vars(options).items() if key in PREPARED}
    work.stage("prepare", [words, files], lambda: _prepare(options, data / wanted, None if options.recipe else recipe))
    _check_fit(load_toml(Recipe, recipe), options)
    of = ["--data", str(data)]
    threads = ["--threads", str(options.threads)] if options.threads else []
    trained = _with_epochs(recipe, options.epochs, out)
    work.stage("train", [_digest(trained), _digest(data / wanted / "source.json")],
               lambda: _command("train", trained, "--out", run, *threads, *of))
    device, usual = build.TARGETS[options.board].DEVICE or BOARD, _usual(options)
    work.stage("quantize", [_digest(run / "checkpoint.json"), device, usual],
               lambda: _command("quantize", run, "--out", model, "--device", device, "--cycles-per-token", usual, *of,
                                titled=name))
    made, T = _digest(model / "manifest.json"), _rate(options, model) if options.frames_per_second else usual
    work.stage("report", [made, T, device], shown=False,
               work=lambda: _command("report", model, "--out", out / "report.html", "--cycles-per-token", T, "--device", device,
                                     *of))
    work.stage("compare", [made, T, options.sequences],
               lambda: _command("compare", model, "--backends", "int,rtl", "--limit", options.sequences, "--cycles-per-token", T,
                                "--json", out / "compare.json", *of))
    work.stage("build", [made, T, options.board],
               lambda: _command("build", options.board, "--artifact", model, "--out", board, "--cycles-per-token", T))
    print(f"{out}: " + ", ".join(sorted(path.name for path in out.iterdir())))
    found = json.loads((model / "manifest.json").read_text(encoding="utf-8"))["record"]["verdict"]
    if (board / build.RECORD).is_file() and "build" not in options.skip:
        found |= {key: value for key, value in json.loads((board / build.RECORD).read_text(encoding="utf-8"))["verdict"].items()
                  if key in ("rate", "device") and value}
    print("\n".join(lines(found)))
    return 0


PREPARED = ("inputs", "target", "classes", "change", "label", "group", "length", "ahead", "step", "time", "rate", "missing",
            "seconds", "bands", "recipe")
"""Options that decide what the data set is."""


class _Work:
    """Stages in a folder: one that was done of the same inputs is not done again."""

    def __init__(self, out: Path, options: argparse.Namespace):
        self.out, self.skip = out, options.skip
        self.known = json.loads(read_bytes(out / RECORD)) if (out / RECORD).is_file() else {}

    def stage(self, name: str, inputs: list, work: Callable[[], None], shown: bool = True) -> None:
        title = f"[{STAGES.index(name) + 1}/{len(STAGES)}] {name}"
        key = hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()
        if name in self.skip or self.known.get(name) == key:
            print(f"{title}: {'left out' if name in self.skip else 'done before'}", flush=True)
            return
        print(title, flush=True)
        say(title)
        start = time.monotonic()
        with contextlib.redirect_stdout(_Noted(sys.stdout if shown else None)):
            work()
        self.known[name] = key
        text = json.dumps(self.known, indent=1) + "\n"
        write_file(self.out / RECORD, lambda path: path.write_text(text, encoding="utf-8"))
        note(f"{title}: {time.monotonic() - start:.1f} s")


class _Noted(io.TextIOBase):
    """Standard output whose lines go to the log, and indented `to` a stream."""

    def __init__(self, to: TextIO | None):
        self.to, self.rest = to, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *whole, self.rest = (self.rest + text).split("\n")
        for line in whole:
            note(line)
            if self.to:
                print(f"  {line}", file=self.to, flush=True)
        return len(text)


def _command(*words: object, **known: str) -> None:
    """Runs a command of `emamba`; a difference it found ends everything. `known` are no options, but read like them."""
    from . import make_parser

    options = make_parser().parse_args([str(word) for word in words], argparse.Namespace(**known))
    if options.run(options):
        raise DesignLimit(f"{words[0]} found what is wrong: see above")


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file: name a folder with --out")
    if out.is_dir() and any(out.iterdir()) and not (out / RECORD).is_file() and not (out / "data").is_dir():
        raise OutputError(f"{out} is no earlier output, since it has no {RECORD}: name another folder with --out")


def _prepare(options: argparse.Namespace, folder: Path, recipe: Path | None) -> None:
    print("\n".join(prepared(options, folder)))
    if recipe and not recipe.exists():  # else it may have been edited
        write_file(recipe, lambda path: path.write_bytes((folder / "recipe.toml").read_bytes()))
    elif recipe:
        print(f"{recipe} is kept: remove it for a new one")


def _check_fit(recipe: Recipe, options: argparse.Namespace) -> None:
    """Refuses before the training what no T makes fit the board: by the estimate of the same shape with random weights."""
    from rtl.plan import devices
    from rtl.plan.planner import Request, plan
    from sim.models import random_artifact

    name = build.TARGETS[options.board].DEVICE
    if name is None or "build" in options.skip:
        return
    say("weighs the shape for the board")
    try:
        plan(random_artifact(recipe.model), Request(device=devices.find(name)))
    except DesignLimit as error:
        raise DesignLimit(f"the model of the recipe does not fit {options.board}: {error}") from None
    except (InputError, SettingError, Diverged):
        return  # of a form that cannot be made up: the build tells


def _with_epochs(recipe: Path, epochs: int | None, out: Path) -> Path:
    """The recipe, or a copy of it with other epochs."""
    if epochs is None:
        return recipe
    text = recipe.read_text(encoding="utf-8")
    changed, count = re.subn(r"(?m)^epochs *= *\d+", f"epochs = {epochs}", text, count=1)
    if not count:
        raise SettingError(f"--epochs {epochs}: {recipe} has no line epochs = …: add one below [train]")
    copy = out / "trained.toml"
    write_file(copy, lambda path: path.write_text(changed, encoding="utf-8"))
    return copy


def _usual(options: argparse.Namespace) -> int:
    """T as asked for, else the board's."""
    from rtl.plan.planner import CYCLES_PER_TOKEN

    return options.cycles_per_token or getattr(build.TARGETS[options.board], "CYCLES_PER_TOKEN", CYCLES_PER_TOKEN)


def _rate(options: argparse.Namespace, model: Path) -> int:
    """The largest T that does as many frames a second as asked for."""
    from emamba.artifact import load
    from rtl.plan.planner import Request, plan

    clock = build.TARGETS[options.board].CLOCK_MHZ or 100.0
    return plan(load(model), Request(frames_per_second=options.frames_per_second, clock_mhz=clock)).schedule.requested


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except InputError:
        return "none"


def _stamps(sources: list[Path]) -> list:
    """Names, sizes and times of all files."""
    files = [file for source in sources for file in (sorted(source.rglob("*")) if source.is_dir() else [source])]
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]
