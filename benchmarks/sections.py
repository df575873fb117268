"""Measured sections of a page: their figures in docs/NAME.json, their tables in docs/NAME.md."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from emamba.errors import EmambaError
from emamba.files import write_file

DOCS = Path("docs")

Section = tuple[Callable[[], object], Callable[[object], list[str]]]
"""What measures it, and the Markdown of what that gave."""


def write(name: str, heading: list[str], sections: dict[str, Section], wanted: list[str], facts: dict | None = None) -> dict:
    """Measures the sections `wanted`, all for none, keeps the others' figures, and writes both files; returns the figures.

    `facts` come first in the JSON.
    """
    unknown = set(wanted) - set(sections)
    if unknown:
        raise EmambaError(f"there is no section '{min(unknown)}'; choose some of {', '.join(sections)}")
    path = DOCS / f"{name}.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    result, lines = dict(facts or {}), [*heading, ""]
    for section, (measure, table) in sections.items():
        if not wanted or section in wanted:
            print(f"{section} …", file=sys.stderr, flush=True)
            result[section] = measure()
        elif section in kept:
            result[section] = kept[section]
        if section in result:
            lines += [*table(result[section]), ""]
    write_file(path, lambda target: target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8"))
    write_file(DOCS / f"{name}.md", lambda target: target.write_text("\n".join(lines), encoding="utf-8"))
    return result
