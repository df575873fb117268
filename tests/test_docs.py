"""The measured pages are about the artifacts that ship."""

import json
from pathlib import Path

from benchmarks import evaluation
from emamba.artifact import load

DOCS = Path("docs")


def test_evaluation_is_of_the_shipped_artifacts():
    measured = json.loads((DOCS / "evaluation.json").read_text(encoding="utf-8"))
    assert measured["shipped"] == evaluation.shipped() and set(measured) == set(evaluation.SECTIONS)
    page = (DOCS / "evaluation.md").read_text(encoding="utf-8")
    for section, (_, table) in evaluation.SECTIONS.items():
        assert "\n".join(table(measured[section])) in page


def test_benchmarks_are_of_the_shipped_artifact():
    measured = json.loads((DOCS / "benchmarks.json").read_text(encoding="utf-8"))
    assert measured["model"]["digest"] == load("models/mars").digest
