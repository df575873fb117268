"""`emamba search | pick`: search for shapes of a model, and turn a trial into an artifact."""

import argparse
from pathlib import Path

from emamba.base.errors import DesignLimit, SettingError, ToolMissing, extra
from emamba.base.options import at_least
from emamba.config import load_toml

from .arguments import LARGE, Commands, add_settings, check_artifact_folder, command
from .inputs import settings
from .output import measure_and_save


def add(commands: Commands) -> None:
    sub = command(commands, "search", _search, "emamba search models/searches/mars.toml --out runs/search_mars --workers 2")
    _add_space(sub)
    sub.add_argument("--out", type=Path, required=True, help="folder of the trials; a search in it goes on")
    sub.add_argument("--trials", **at_least(1, LARGE), help="finished trials at which it ends (default: those of the file)")
    sub.add_argument("--workers", **at_least(1, 256), default=1, help="processes, each with one thread (default: 1)")
    sub.add_argument("--show", action="store_true", help="show what was found so far, and search no further")
    sub = command(commands, "pick", _pick,
                  "emamba pick models/searches/mars.toml 17 --search runs/search_mars --epochs 120 --out models/mars_small")
    _add_space(sub)
    sub.add_argument("trial", **at_least(0, LARGE), nargs="?", help="number of the trial")
    sub.add_argument("--front", action="store_true", help="all trials that none is better than in every objective; one that is "
                     "in --out already stays")
    sub.add_argument("--search", type=Path, required=True, help="folder of the search")
    sub.add_argument("--out", type=Path, required=True, help="folder of the artifact; with --front, of a folder for each trial, "
                     "called by its number")
    sub.add_argument("--epochs", **at_least(1, LARGE), help="train on all frames so long first (default: take the trial's proxy)")
    sub.add_argument("--threads", **at_least(1, 1024), help="processor threads of the training (default: all)")
    add_settings(sub)


def _add_space(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("space", type=Path, help="TOML file of the search space")
    parser.add_argument("--storage", metavar="URL", help="database of the study, for searches on several machines "
                        "(default: a journal in the folder of the search)")


def _search(options: argparse.Namespace) -> int:
    wanted = _open_search(options, options.out)
    from ..search.pareto import table, write
    from ..search.search import best, finished, missing, open_study, run

    study = open_study(wanted) if options.show else run(wanted, options.trials, options.workers)
    if best(study):
        print(table(study, wanted.space))
    write(study, wanted.space, options.out)
    done = len(finished(study))
    print(f"{done} trials{', all points of the space' * (done >= wanted.space.size)}; {options.out}/search.json has them all")
    shortfall = None if options.show else missing(wanted, study, options.trials)
    if shortfall:
        raise DesignLimit(shortfall)
    return 0


def _pick(options: argparse.Namespace) -> int:
    if options.front == (options.trial is not None):
        raise SettingError("give the number of a trial, or --front")
    check_artifact_folder(options.out, None if options.front else "manifest.json")
    wanted = _open_search(options, options.search)
    from ..artifacts import quantized
    from ..search.search import best, checkpoint, open_study

    out = {options.trial: options.out}
    if options.front:
        out = {trial.number: options.out / str(trial.number) for trial in best(open_study(wanted))}
        out = {number: folder for number, folder in out.items() if not (folder / "manifest.json").exists()}
    for number, folder in out.items():
        trained, base = checkpoint(wanted, number, options.epochs, options.threads)
        measure_and_save(*quantized(folder.name, trained, settings(options, base), options.data), folder)
    return 0


def _open_search(options: argparse.Namespace, folder: Path):
    """The search of a file and a folder; refuses where its extras are missing."""
    from ..search.space import Space

    space = load_toml(Space, options.space)
    try:
        from ..search.search import Search
    except ImportError as error:
        raise ToolMissing(f"a search needs the extras [search,train] ({error}): {extra('search,train')}") from None
    return Search(space, space.search.name or options.space.stem, folder, options.storage, options.data)
