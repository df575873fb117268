"""The measured pages are about the artifacts that ship."""

import json
from pathlib import Path

from benchmarks import evaluation

DOCS = Path("docs")


def test_evaluation_is_of_the_shipped_artifacts():
    measured = json.loads((DOCS / "evaluation.json").read_text(encoding="utf-8"))
    assert measured["shipped"] == evaluation.shipped()
    page = (DOCS / "evaluation.md").read_text(encoding="utf-8")
    for section, figures in measured.items():
        assert "\n".join(evaluation.SECTIONS[section][1](figures)) in page
