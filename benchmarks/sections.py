"""Measured sections of a page: their figures in docs/NAME.json, their tables in docs/NAME.md."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from emamba.artifact import Artifact
from emamba.base.errors import SettingError
from emamba.io.files import rows_text, write_file

DOCS = Path("docs")

Section = tuple[Callable[[], object], Callable[[object], list[str]]]
"""What measures it, and the Markdown of what that gave."""


def write(name: str, heading: list[str], sections: dict[str, Section], wanted: list[str], artifact: Artifact) -> dict:
    """Measures sections, keeps the others' figures, and writes docs/NAME.json and docs/NAME.md; returns the figures.

    Parameters:
        name: of the files
        heading: first lines of the page
        sections: what measures each, and what shows it
        wanted: names of those to measure; all for none
        artifact: what is measured; its digest is kept for each section
    """
    result = measure(name, {key: run for key, (run, _) in sections.items()}, wanted, artifact)
    lines = [*heading, ""]
    for section, (_, table) in sections.items():
        if section in result:
            lines += [*table(result[section]), ""]
    write_page(name, "\n".join(lines))
    return result


def measure(name: str, sections: dict[str, Callable[[], object]], wanted: list[str], artifact: Artifact) -> dict:
    """The figures alone, written after each section."""
    unknown = set(wanted) - set(sections)
    if unknown:
        raise SettingError(f"there is no section '{min(unknown)}'; choose some of {', '.join(sections)}")
    path, kept = DOCS / f"{name}.json", figures(name)
    digests = kept.get("digests", {})
    for section, run in sections.items():
        if not wanted or section in wanted:
            print(f"{section} …", file=sys.stderr, flush=True)
            kept[section], digests[section] = run(), artifact.digest[:16]
            found = [key for key in sections if key in kept]
            heads = {"model": artifact.name, "digests": {key: digests.get(key) for key in found}}
            result = heads | {key: kept[key] for key in found}
            text = rows_text(result)
            write_file(path, lambda target, text=text: target.write_text(text, encoding="utf-8"))
    return result


def figures(name: str) -> dict:
    """Figures of earlier runs."""
    path = DOCS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def replace_tables(name: str, tables: list[list[str]]) -> None:
    """Puts tables in the place of those of docs/NAME.md with the same heads; the rest of the page is written by hand."""
    lines = (DOCS / f"{name}.md").read_text(encoding="utf-8").splitlines()
    for table in tables:
        start = end = lines.index(table[0])
        while end < len(lines) and lines[end].startswith("|"):
            end += 1
        lines[start:end] = table
    write_page(name, "\n".join(lines) + "\n")


def write_page(name: str, text: str) -> None:
    write_file(DOCS / f"{name}.md", lambda target: target.write_text(text, encoding="utf-8"))
