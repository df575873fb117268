"""Options that several commands share, and checks of the files that options name."""

import argparse
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from emamba.base.errors import OutputError, SettingError
from emamba.base.options import at_least
from emamba.base.progress import add_voice
from emamba.io.files import check_replaceable

OUTPUTS = ("out", "json", "vcd", "plot")
"""Options that name what is written."""
INPUTS = ("inputs", "targets", "calibration", "config", "sensitivity", "stalls", "data", "search")
"""Options that name what is read; other paths are arguments."""
LARGE = 10**9
"""More than anybody means."""

FAMILIES = {
    "go": {"go": "prepare, train, quantize, report, compare and build; an interrupted one goes on"},
    "prepare": {"prepare": "turn tables of a time series, or sounds, into a data set of your own"},
    "train": {"train": "train a float model from a recipe",
              "finetune": "train an artifact on: quantization-aware, the forward pass is the integer model"},
    "artifact": {"import": "take over a trained model: a checkpoint of Mamba, or ONNX",
                 "quantize": "turn a checkpoint into an integer artifact",
                 "sensitivity": "what each tensor's width alone does to the figure"},
    "onnx": {"export": "write a model as ONNX"},
    "look": {"evaluate": "the task's figures on real data", "compare": "compare two executors at every trace key",
             "trace": "write the values of any nodes: [sequences, tokens, channels], an array each",
             "profile": "inputs of SiLU, exp and softplus against their domains and knots",
             "report": "one page of figures: accuracy, pipeline, resources, formats, functions, state"},
    "hardware": {"build": "turn an artifact into the files of a target",
                 "simulate": "run the hardware cycle by cycle: waits of every stream, and a waveform",
                 "drive": "run the driver on a built system: golden frames, a file's sequences, rate, bottleneck"},
    "search": {"search": "search for shapes of a model that cost less or err less",
               "pick": "turn a trial of a search, or its whole front, into artifacts"},
    "words": {"schema": "the JSON schema of a TOML file: its keys, their limits and meaning",
              "completion": "completion of commands and options for bash (and zsh, by bashcompinit)"},
}
"""Modules, and the commands of each."""

Run = Callable[[argparse.Namespace], int]


class Commands(argparse._SubParsersAction):
    """All commands by name; the module of one is imported where it is called, since most of them take long to import."""

    def __init__(self, *names, **rest):
        super().__init__(*names, **rest)
        self.waiting = dict(FAMILIES)
        for texts in FAMILIES.values():
            for name, text in texts.items():
                self.add_parser(name, help=text, description=text)

    def __call__(self, parser, namespace, values, option_string=None):
        self.fill(values[0])
        super().__call__(parser, namespace, values, option_string)

    def fill(self, name: str | None = None) -> dict[str, argparse.ArgumentParser]:
        """All commands, with the options of the command `name`, or of every one."""
        for family, texts in [(family, texts) for family, texts in self.waiting.items() if name is None or name in texts]:
            del self.waiting[family]
            import_module(f"{__package__}.{family}").add(self)
            for each in texts:
                add_voice(self.choices[each])
                self.choices[each].set_defaults(command=each)
        return self.choices


def command(commands: Commands, name: str, run: Run, example: str, data: bool = True) -> argparse.ArgumentParser:
    """The parser of a command, which reads data sets where `data` says so."""
    parser = commands.choices[name]
    parser.epilog = f"example: {example}"
    parser.set_defaults(run=run)
    if data:
        parser.add_argument("--data", type=Path, help="folder of the data sets (default: $EMAMBA_DATA, else ./data)")
    return parser


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Settings of the quantizer."""
    parser.add_argument("--config", type=Path, help="TOML file of quantization settings")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting; may be repeated")


def add_judges(parser: argparse.ArgumentParser) -> None:
    """Sequences by which widths are judged."""
    parser.add_argument("--limit", **at_least(1), default=1000, help="validation sequences that judge widths (default: 1000)")


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
