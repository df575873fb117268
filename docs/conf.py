"""The site: `make docs` builds it into build/docs."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
project = "eMamba"
release = version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"eMamba {release}"
exclude_patterns = []
nitpicky = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_mock_imports = ["torch"]
suppress_warnings = ["myst.xref_missing"]  # links to files of the checkout


def setup(app):
    """Docstrings are text for people, no markup: |h| is a magnitude, and lines stay as they are."""
    app.connect("autodoc-process-docstring", lambda *arguments: _keep_lines(arguments[-1]))


def _keep_lines(lines: list[str]) -> None:
    lines[:] = ["::", "", *(f"    {line}" for line in lines)] if lines else []
