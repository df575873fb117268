"""The options that choose a design's organization."""

import argparse

from emamba.base.errors import SettingError
from emamba.base.options import at_least
from rtl.engine.machine import Machine

ORGANIZATIONS = ("pipeline", "engine")


def add_engine(parser: argparse.ArgumentParser, auto: bool = False) -> None:
    """Options of the organization; `auto` is one where both can be compared."""
    parser.add_argument("--organization", choices=[*ORGANIZATIONS, *["auto"] * auto], default="pipeline",
                        help="hardware of its own for every layer, or one array of lanes that runs a program (default: pipeline)"
                        + "; auto: the faster one with --multipliers N" * auto)
    parser.add_argument("--lanes", **at_least(1), metavar="N", help="multipliers of an engine (default: 8)")
    parser.add_argument("--posts", **at_least(1), metavar="P", help="values that an engine requantizes a cycle, a divisor of its "
                        "lanes (default: a fifth of them, or the next divisor)")
    parser.add_argument("--factor-bits", **at_least(2), metavar="B", help="signed bits of factors of an engine's multipliers, "
                        "18 for those of an ECP5; wider ones take two steps (default: as the widest)")


def machine_of(options: argparse.Namespace) -> Machine | None:
    """The engine that the options ask for, or None."""
    if options.organization == "engine":
        return Machine(options.lanes or Machine.lanes, options.posts or 0, options.factor_bits)
    for name in ("lanes", "posts", "factor_bits"):
        if getattr(options, name) is not None:
            raise SettingError(f"--{name.replace('_', '-')} is of an engine: add --organization engine")
    return None
