"""Measured sections of a page: their figures in docs/NAME.json, their tables in docs/NAME.md."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from emamba.base.errors import SettingError
from emamba.io.files import write_file

DOCS = Path("docs")

Section = tuple[Callable[[], object], Callable[[object], list[str]]]
"""What measures it, and the Markdown of what that gave."""


def write(name: str, heading: list[str], sections: dict[str, Section], wanted: list[str], facts: dict | None = None) -> dict:
    """Measures the sections `wanted`, all for none, keeps the others' figures, and writes both files; returns the figures.

    `facts` come first in the JSON.
    """
    result, lines = measure(name, {key: run for key, (run, _) in sections.items()}, wanted, facts), [*heading, ""]
    for section, (_, table) in sections.items():
        if section in result:
            lines += [*table(result[section]), ""]
    write_page(name, "\n".join(lines))
    return result


def measure(name: str, sections: dict[str, Callable[[], object]], wanted: list[str], facts: dict | None = None) -> dict:
    """The figures alone, written after each section."""
    unknown = set(wanted) - set(sections)
    if unknown:
        raise SettingError(f"there is no section '{min(unknown)}'; choose some of {', '.join(sections)}")
    path, kept = DOCS / f"{name}.json", figures(name)
    for section, run in sections.items():
        if not wanted or section in wanted:
            print(f"{section} …", file=sys.stderr, flush=True)
            kept[section] = run()
            result = dict(facts or {}) | {key: kept[key] for key in sections if key in kept}
            text = json.dumps(result, indent=1) + "\n"
            write_file(path, lambda target, text=text: target.write_text(text, encoding="utf-8"))
    return result


def figures(name: str) -> dict:
    """Those of earlier runs."""
    path = DOCS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_page(name: str, text: str) -> None:
    write_file(DOCS / f"{name}.md", lambda target: target.write_text(text, encoding="utf-8"))
