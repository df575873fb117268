"""`emamba build | simulate | drive`: the files of a target, its design cycle by cycle, and the driver on it."""

import argparse
from pathlib import Path

import numpy as np

from emamba.artifact import load
from emamba.base.errors import SettingError
from emamba.base.options import at_least
from emamba.base.progress import meter
from emamba.base.words import counted
from emamba.io.files import write_file

from .. import build
from .arguments import LARGE, Commands, command
from .designs import add_cycles, add_sequences
from .inputs import sequences, source_of
from .output import write_json


def add(commands: Commands) -> None:
    build.add_options(command(commands, "build", build.build,
                              "emamba build zcu102 --artifact models/mars --cycles-per-token 20", data=False))
    sub = command(commands, "simulate", _simulate, "emamba simulate models/mars --limit 2 --vcd build/mars.vcd")
    add_sequences(sub)
    add_cycles(sub)
    sub.add_argument("--cycles", **at_least(1, LARGE),
                     default=2000, help="maximum cycles to simulate (default: 2000)")
    sub.add_argument("--stall-percent", **at_least(0, 99),
                     default=0, metavar="P", help="both ports pause at random in this share of the "
                     "cycles (default: 0)")
    sub.add_argument("--vcd", type=Path, metavar="FILE", help="also write the waveform, and beside it, ending with .gtkw, the "
                     "view for gtkwave")
    sub.set_defaults(limit=2, beside={"vcd": ".gtkw"})
    sub = command(commands, "drive", _drive, "emamba drive build/kv260 --sim", data=False)
    sub.add_argument("folder", type=Path, help="what `emamba build axi`, zcu102, zcu104 or kv260 wrote, or its host/ on a board")
    sub.add_argument("--sim", action="store_true", help="the Verilog of the folder in a simulator, in place of the board")
    sub.add_argument("--inputs", type=Path, metavar="FILE", help="sequences in the user's unit in a .npy file")
    sub.add_argument("--out", type=Path, metavar="FILE", help="with --inputs: the answers as a .npy file")
    sub.add_argument("--json", type=Path, help="also write the result to this file")


def _drive(options: argparse.Namespace) -> int:
    from emamba.io.tensor_files import read_array

    from ..drive import drive, words

    if (options.out is None) != (options.inputs is None):
        raise SettingError("--inputs and --out go together: the answers are of these sequences")
    batch = read_array(options.inputs) if options.inputs else None
    found, answers = drive(options.folder, options.sim, batch)
    if options.out:
        write_file(options.out, lambda path: _save(path, answers))
    write_json(options.json, found)
    print("\n".join([*words(found), *([str(options.out)] if options.out else [])]))
    return 0


def _save(path: Path, answers: np.ndarray) -> None:
    with path.open("wb") as file:  # a name would get a suffix
        np.save(file, answers)


def _simulate(options: argparse.Namespace) -> int:
    from sim.waveform import write_gtkw, write_vcd

    from ..simulate import simulate, table

    if options.vcd and options.vcd.suffix != ".vcd":
        raise SettingError(f"--vcd {options.vcd}: name a file that ends with .vcd")
    artifact = load(options.artifact)
    tokens, _, data = sequences(options, artifact)
    recording, found = simulate(artifact, tokens, options.cycles_per_token, options.cycles, options.stall_percent,
                                meter(options.cycles, "cycles"))
    if options.vcd:
        write_file(options.vcd, lambda path: write_vcd(recording, path))
        write_file(options.vcd.with_suffix(".gtkw"), lambda path: write_gtkw(recording, path))
    write_json(options.json, found | {"data": source_of(data)})
    beats = found["beats"]
    print(table(found))
    print(f"{beats['left']:,} of {beats['expected']:,} output beats of {counted(len(tokens), 'sequence')} came out "
          f"({source_of(data)}), {beats['different']} of them not the integer model's"
          + ("" if beats["left"] == beats["expected"] else "; --cycles ended it"))
    if options.vcd:
        print(f"{options.vcd}, {options.vcd.with_suffix('.gtkw')}")
    return 1 if beats["different"] else 0
