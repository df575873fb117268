"""The command line: `emamba train | import | quantize | …`, one module a family of commands.

Exit status 0 only where everything asked for was done: 1 after one sentence on standard error, or where `compare` found a
difference; 2 for an unknown command; others: `emamba.base.door`.
"""

import argparse
import shlex
import sys

from emamba.base.door import guarded
from emamba.base.options import add_own, check
from emamba.base.progress import shown
from emamba.base.version import version

from .arguments import Commands, check_outputs


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; every failure is one sentence on standard error."""
    arguments = sys.argv[1:] if arguments is None else arguments
    line = argparse.Namespace(line=shlex.join(["emamba", *arguments]))
    return guarded("emamba", lambda: run(make_parser().parse_args(arguments, line)))


def run(options: argparse.Namespace) -> int:
    if options.own:
        from emamba.graph import import_models

        import_models(*options.own)
    check_outputs(check(options))
    with shown(f"emamba {options.command}", options.quiet, options.log):
        return options.run(options)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands, whose options it reads when one is called."""
    parser = argparse.ArgumentParser("emamba", description="From a trained Mamba to integer-only, bit-exact hardware.")
    parser.add_argument("--version", action="version", version=f"emamba {version()}")
    add_own(parser)
    parser.add_subparsers(action=Commands, required=True, metavar="COMMAND")
    return parser
