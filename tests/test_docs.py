"""The measured pages are about the artifacts that ship; the tutorial runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks import evaluation

DOCS = Path("docs")


def test_evaluation_is_of_the_shipped_artifacts():
    measured = json.loads((DOCS / "evaluation.json").read_text(encoding="utf-8"))
    assert measured["shipped"] == evaluation.shipped()
    page = (DOCS / "evaluation.md").read_text(encoding="utf-8")
    for section, figures in measured.items():
        assert "\n".join(evaluation.SECTIONS[section][1](figures)) in page


def test_tutorial(tmp_path):
    """Runs as written, in an empty folder; simulations share what is compiled once."""
    page = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    commands = "\n".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    native = (Path("build") / "native").resolve()
    native.mkdir(parents=True, exist_ok=True)
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "native").symlink_to(native)
    environment = {name: value for name, value in os.environ.items() if name != "EMAMBA_DATA"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    result = subprocess.run(["bash", "-euo", "pipefail", "-c", commands], cwd=tmp_path, env=environment, capture_output=True,
                            text=True)
    assert result.returncode == 0, result.stderr
    assert "\n0 mismatches\n" in result.stdout
    figures = dict(re.findall(r"^(float|int): MAE \S+, RMSE (\S+)$", result.stdout, re.MULTILINE))
    assert float(figures["int"]) < 0.5 and abs(float(figures["int"]) / float(figures["float"]) - 1) < 0.2
    assert {"top.v", "self_test.tcl", "report.json"} <= {path.name for path in (tmp_path / "build/pump").iterdir()}
    assert {"report.html", "report.json"} <= {path.name for path in tmp_path.iterdir()}
