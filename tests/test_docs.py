"""The measured pages are about the artifacts that ship; the tutorial runs."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

from benchmarks import evaluation
from emamba import cli
from rtl import build

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


def test_mistakes(capsys, monkeypatch):
    """Every sentence of the page is the one that the command gives."""
    monkeypatch.delenv("EMAMBA_DATA", raising=False)
    page = (DOCS / "mistakes.md").read_text(encoding="utf-8")
    pairs = re.findall(r"^```sh\n(.*)\n```\n```text\n(.*)\n```$", page, re.MULTILINE)
    assert len(pairs) == 10
    for command, sentence in pairs:
        words = shlex.split(command)
        status = cli.main(words[1:]) if words[0] == "emamba" else build.main(words[3:])
        out, err = capsys.readouterr()
        assert (status, out, err.replace(f"{Path.cwd()}/", "")) == (1, "", f"{sentence}\n")


def test_completion_and_schemas(capsys):
    """Bash takes the script, and every kind of TOML file has a schema."""
    assert cli.main(["completion"]) == 0
    script = capsys.readouterr().out + "COMP_WORDS=(emamba report --se); COMP_CWORD=2; _emamba; echo ${COMPREPLY[@]}"
    assert subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout == "--sensitivity\n"
    for kind in cli.SCHEMAS:
        assert cli.main(["schema", kind]) == 0
        assert json.loads(capsys.readouterr().out)["additionalProperties"] is False


def test_version_is_one():
    """The package, the citation and the newest entry of the changelog name the same version."""
    version = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"\nversion: {version}\n" in Path("CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^## \[(.*?)\]", Path("CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE).group(1) == version


def test_every_page_is_on_the_site():
    """The site's contents name every page once."""
    listed = re.findall(r"^([a-z-]+)$", (DOCS / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in DOCS.glob("*.md") if path.stem != "index")
