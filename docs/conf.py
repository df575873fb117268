"""The site: `make docs` builds it into build/docs."""

import re
import tomllib
from itertools import groupby
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert

ROOT = Path(__file__).parents[1]
project = "eMamba"
release = version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_heading_anchors = 3
myst_fence_as_directive = ["math"]
html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"eMamba {release}"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
exclude_patterns = []
nitpicky = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_mock_imports = ["torch"]
suppress_warnings = ["myst.xref_missing"]  # links to files of the checkout

LINE = re.compile(r"(?:Parameters: )?((?:[A-Za-z_]\w*(?:, )?)+): (.*)")
"""A line of a docstring that says what a parameter is."""
SPECIAL = re.compile(r"([\\*|]|(?<=\w)_(?!\w))")


def setup(app):
    app.connect("autodoc-process-docstring", lambda *arguments: _as_markup(arguments[-1]))
    app.add_html_math_renderer("mathml", (_math("inline"), None), (_math("block"), None))


def _math(display: str):
    """Formulas as MathML, which browsers draw without a script."""
    def visit(self, node):
        self.body.append(convert(node.astext(), display=display))
        raise nodes.SkipNode

    return visit


def _as_markup(lines: list[str]) -> None:
    """Docstrings are text for people: |h| is a magnitude, `x` is code, indented lines stay as they are, and lines that begin with
    names and a colon say what parameters are."""
    found: list[str] = []
    for blank, group in groupby(lines, key=lambda line: not line.strip()):
        rows = list(group)
        if blank:
            found.append("")
        elif all(row.startswith("    ") for row in rows):
            found += ["::", "", *(f"    {row}" for row in rows), ""]
        elif all(LINE.match(row) or row.startswith(" ") for row in rows):
            for row in rows:
                match = LINE.match(row)
                found.append(f":{match[1]}: {_text(match[2])}" if match else f"    {_text(row.strip())}")
        else:
            found += [_text(row.strip()) for row in rows]
    lines[:] = found


def _text(line: str) -> str:
    """A line with its code marked; nothing else of it is markup."""
    parts = re.split(r"(`[^`]+`)", line)
    return "".join(f"`{part}`" if part.startswith("`") else SPECIAL.sub(r"\\\1", part) for part in parts)
