"""Numbers of the command line: refused for their form as wrong usage, and for their size by one sentence before work begins."""

import argparse
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from .errors import SettingError

MOST_CYCLES = 1 << 20
"""Cycles a token may take; `rtl.plan.schedule` has the same limit."""
RANGE = 1000
"""Of a range that is so small both ends are told."""


def whole(text: str) -> int:
    """A whole number in plain digits."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ValueError
    return int(text)


def decimal(text: str) -> float:
    """A number in plain digits, perhaps with an exponent."""
    if not text.isascii() or "_" in text:
        raise ValueError
    return float(text)


whole.__name__, decimal.__name__ = "int", "float"  # as argparse tells


class Number(argparse.Action):
    """Stores a number that is finite, at least `least` or above `above`, and at most `most`. `words` is the sentence of its own
    that an option has. What is refused is so by `check`: the parser would call it wrong usage."""

    def __init__(self, *names, least=None, above=None, most=math.inf, words: str = "", **rest):
        super().__init__(*names, **rest)
        self.least, self.above, self.most, self.words = least, above, most, words

    def __call__(self, parser, namespace, value, option_string=None):
        if value is None:  # what the parser calls with, where an argument of nargs="?" is not there
            return
        name = option_string or self.metavar or self.dest.upper()
        enough = value >= self.least if self.above is None else value > self.above
        if not (enough and value <= self.most and math.isfinite(value)):
            sentence = (self.words or f"{name} must {self._range(enough)}, not {{value:g}}").format(value=value)
            namespace.refused = getattr(namespace, "refused", sentence)
        setattr(namespace, self.dest, value)

    def _range(self, enough: bool) -> str:
        if self.above is not None:
            return f"be a number above {self.above:g}" + (f" and at most {self.most:g}" if math.isfinite(self.most) else "")
        if self.most - self.least < RANGE:
            return f"lie in {self.least:g}..{self.most:g}"
        return f"be at most {self.most:g}" if enough else f"be at least {self.least:g}"


def refuse(options: argparse.Namespace, names: Iterable[str], why: str, defaults: Mapping[str, object] | None = None) -> None:
    """Refuses options that are given (not None, or not their default) to what has no use for them, by `why`."""
    for name in names:
        if getattr(options, name) != (defaults or {}).get(name):
            raise SettingError(f"--{name.replace('_', '-')} {why}")


def check(options: argparse.Namespace) -> argparse.Namespace:
    """Refuses options by the first sentence about a number."""
    if sentence := getattr(options, "refused", None):
        raise SettingError(sentence)
    return options


def cycles() -> dict:
    """How an option --cycles-per-token is added."""
    return {"type": whole, "action": Number, "least": 1, "most": MOST_CYCLES,
            "words": f"cycles_per_token = {{value}} is out of range; it must lie in 1..{MOST_CYCLES}"}


def at_least(least: int, most: float = math.inf) -> dict:
    """How an option of a whole number is added."""
    return {"type": whole, "action": Number, "least": least, "most": most}


def real(**limits: float) -> dict:
    """How an option of a real number is added."""
    return {"type": decimal, "action": Number, **limits}


def add_own(parser: argparse.ArgumentParser) -> None:
    """Files of the user's own."""
    parser.add_argument("--model", dest="own", action="append", default=[], type=Path, metavar="FILE",
                        help="a Python file of your own that registers a model, an operator or its hardware; can be given "
                        "several times")
