"""The measured pages are about the artifacts that ship; every example runs, or it is listed why not; commands and names exist."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import demo
from benchmarks import __main__ as benchmarks
from benchmarks import evaluation
from emamba import artifact as artifacts
from emamba.base.formats import IntFormat
from emamba.config import ModelConfig
from emamba.graph import build_graph
from emamba.io.files import rows_text
from emamba.ops import Scan
from emamba.run.integer import IntegerModel, record_golden
from flow import build, cli
from flow.cli.words import SCHEMAS
from flow.search.space import Space
from sim.models import SHAPES, random_artifact

pytestmark = pytest.mark.slow

DOCS = Path("docs")
PAGES = [Path("README.md"), *sorted(DOCS.glob("*.md"))]
RUN = {"docs/tutorial.md": "test_tutorial", "docs/mistakes.md": "test_mistakes", "docs/command-line.md": "test_command_line",
       "docs/import.md": "test_examples_of_the_page_run", "docs/radar.md": "test_the_example_of_the_page",
       "docs/sound.md": "test_the_page_of_sounds",
       "docs/add-a-block.md": "test_a_model_is_one_file", "docs/engine.md": "test_an_operator_of_ones_own"}
"""Pages all of whose examples are run, and by which test."""
NOT_RUN = {
    ("README.md", "make demo"): "it takes minutes; test_demo runs it with few frames",
    ("README.md", "import emamba"): "test_quickstart runs it with a small model",
    ("docs/index.md", "import emamba"): "it is the README's",
    ("docs/model-search.md", "pip install '.[search"): "hours, and MARS' training frames, which are not here",
    ("docs/model-search.md", "[space.model]"): "no program; test_space reads it",
    ("docs/model-search.md", "pip install 'psycopg"): "a database server",
    ("docs/data.md", "[[train.stages]]"): "no program; test_stage_of_the_page reads it",
}
"""Examples that no test runs, by their first words, and why."""
FENCE = re.compile(r"^```(sh|python|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shell(page: Path) -> str:
    """All commands of a page, one after another."""
    return "\n".join(text for kind, text in FENCE.findall(page.read_text(encoding="utf-8")) if kind == "sh")


def test_evaluation_is_of_the_shipped_artifacts():
    measured = json.loads((DOCS / "evaluation.json").read_text(encoding="utf-8"))
    assert measured["shipped"] == evaluation.shipped()
    page = (DOCS / "evaluation.md").read_text(encoding="utf-8")
    for section, (_, table) in evaluation.SECTIONS.items():
        assert "\n".join(table(measured[section])) in page


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.json")), ids=lambda path: path.stem)
def test_figures_are_rows(path):
    """A row a line, under 50 kB, and which artifact each section is of."""
    text = path.read_text(encoding="utf-8")
    figures = json.loads(text)
    assert text == rows_text(figures) and len(text.encode()) < 50_000
    if path.stem != "search":
        assert list(figures["digests"]) == list(figures)[2:] and all(map(str.isalnum, figures["digests"].values()))


def test_tutorial(tmp_path):
    """Runs as written, in an empty folder."""
    environment = {name: value for name, value in os.environ.items() if name != "EMAMBA_DATA"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    result = subprocess.run(["bash", "-euo", "pipefail", "-c", shell(DOCS / "tutorial.md")], cwd=tmp_path, env=environment,
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "\n0 mismatches\n" in result.stdout
    figures = dict(re.findall(r"^(float|int): MAE \S+, RMSE (\S+)$", result.stdout, re.MULTILINE))
    assert result.stdout.count("; beats the linear fit, ") >= 2  # after training and quantization
    assert float(figures["int"]) < 0.1 and abs(float(figures["int"]) / float(figures["float"]) - 1) < 0.2
    assert {"top.v", "self_test.tcl", "report.json"} <= {path.name for path in (tmp_path / "build/pump").iterdir()}
    assert {"report.html", "report.json"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("path", sorted(DOCS.glob("notebooks/*.ipynb")), ids=lambda path: path.stem)
def test_notebook(path, tmp_path, monkeypatch, capsys):
    """Every cell, one after another, in an empty folder; the Verilog of a board is left out. None holds outputs."""
    monkeypatch.setattr("boards.zynqmp.bundle.to_verilog", lambda *_, **__: "module emamba_system();\nendmodule\n")
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for number, cell in enumerate(cells):
        assert not cell["outputs"] and cell["execution_count"] is None
        exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), names)
    assert {"own-data": "does NOT beat the linear fit", "import": "likely one: 100.0%", "streaming-radar": "boxing, votes [11 ",
            "from-artifact-to-board": "'left': 4, 'different': 0"}[path.stem] in capsys.readouterr().out


def test_demo(monkeypatch, capsys):
    """With few frames and a small design; what it builds is built elsewhere."""
    root, built = Path(__file__).parents[1], []
    for name, value in (("ARTIFACT", root / "models" / "mars_small"), ("FRAMES", 16), ("SHOWN", 4), ("CYCLES_PER_TOKEN", 640)):
        monkeypatch.setattr(demo, name, value)
    monkeypatch.setenv("EMAMBA_DATA", str(root / "data"))
    monkeypatch.setattr(build, "main", lambda words: built.append(words[0]))
    demo.main()
    out = capsys.readouterr().out
    assert "\nvalues in which RTL and integer model differ: 0 of 912\n" in out
    assert built == ["zcu102", "asic"]


def test_quickstart(tmp_path, monkeypatch, capsys):
    """The README's lines in Python, of a small model and a target without a system, whose Verilog is left out."""
    monkeypatch.setattr("flow.build.to_verilog", lambda *_, **__: "module top();\nendmodule\n")
    artifact = random_artifact("emamba-image")
    record_golden(artifact, np.zeros((2, artifact.config.tokens, artifact.config.input_width)))
    artifacts.save(artifact, tmp_path / "models/mars")
    monkeypatch.chdir(tmp_path)
    Path("build").mkdir()
    page = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    text = next(text for kind, text in FENCE.findall(page) if kind == "python")
    assert text in (Path(__file__).parents[1] / DOCS / "index.md").read_text(encoding="utf-8")
    exec(text.replace('"kv260"', '"verilog"').replace("compare()", "compare(backends=('int', 'int'))"), {})
    out = capsys.readouterr().out
    assert "frames a second" in out and "\n0\n" in out and Path("build/mars.html").is_file()
    assert json.loads(Path("build/kv260/report.json").read_text(encoding="utf-8"))["verdict"]["rate"]


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


def test_every_example_is_run_or_listed():
    """And nothing is listed that is no longer there; each test that is named exists."""
    listed = set()
    for page in PAGES:
        for _, text in FENCE.findall(page.read_text(encoding="utf-8")):
            known = [key for key in NOT_RUN if key[0] == str(page) and text.startswith(key[1])]
            assert len(known) == (str(page) not in RUN), f"{page}: {text.splitlines()[0]}"
            listed |= set(known)
    assert listed == set(NOT_RUN)
    tests = "".join(path.read_text(encoding="utf-8") for path in Path("tests").glob("test_*.py"))
    assert all(f"def {name}(" in tests for name in RUN.values())


def test_stage_of_the_page():
    """The page's stage is one of the recipe that ships."""
    text = next(text for kind, text in FENCE.findall(Path("docs/data.md").read_text(encoding="utf-8")) if kind == "toml")
    recipe = tomllib.loads(Path("models/recipes/mars_stream.toml").read_text(encoding="utf-8"))
    assert tomllib.loads(text)["train"]["stages"][0] in recipe["train"]["stages"]


def spans(pattern: str) -> list[str]:
    """Commands in the running text of all pages."""
    texts = (FENCE.sub("", page.read_text(encoding="utf-8")) for page in PAGES)
    return [span for text in texts for span in re.findall(r"`([^`\n]+)`", text) if re.match(pattern, span)]


def test_every_command_is_understood():
    """Those of examples are parsed; of those in running text command and options are known."""
    parser, building = cli.make_parser(), build.make_parser()
    lines = [line for page in PAGES for line in shell(page).splitlines() if line.startswith(("emamba ", "python -m rtl.build "))]
    assert len(lines) > 20
    for line in lines:
        words = shlex.split(line.partition(" > ")[0], comments=True)
        assert (parser.parse_args(words[1:]) if words[0] == "emamba" else building.parse_args(words[3:])), line
    known = parser._subparsers._group_actions[0].fill() | {"python": building, "COMMAND": parser, "--help": parser}
    found = spans(r"emamba |python -m rtl\.build")
    assert len(found) > 40
    for span in found:
        words = shlex.split(re.sub(r"^--model \S+ ", "", span.replace("\\|", "|").removeprefix("emamba ")))
        options = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
        assert words[0] in known and options <= set(known[words[0]]._option_string_actions), span


def test_every_module_and_section_that_is_named_exists():
    sections = {"benchmarks": benchmarks.SECTIONS, "benchmarks.evaluation": evaluation.SECTIONS}
    named = [span.split()[2:] for span in spans("python -m ")]
    assert len(named) > 20
    for module, *words in named:
        spec = importlib.util.find_spec(module)
        assert spec and (spec.origin is None or "__main__" in Path(spec.origin).read_text(encoding="utf-8")
                         or importlib.util.find_spec(f"{module}.__main__")), module
        assert set(words) <= set(sections[module]) if module in sections else True
    targets = set(re.findall(r"^([a-z]+):", Path("Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert set(re.findall(r"`make ([a-z]+)", text)) <= targets


def test_space():
    """The example of the page on searches is a space."""
    page = (DOCS / "model-search.md").read_text(encoding="utf-8")
    example = tomllib.loads(next(text for kind, text in FENCE.findall(page) if kind == "toml"))
    shipped = tomllib.loads(Path("models/searches/mars.toml").read_text(encoding="utf-8"))
    assert Space.model_validate(shipped | example).space["model"]["form"] == ["emamba", "standard"]


def test_glossary():
    """It names every node, every tensor and every size of a model, and no setting or operator that is not there."""
    page = (DOCS / "glossary.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`([^`]+)`", page))
    for shape in SHAPES.values():
        config = ModelConfig(**shape)
        assert {node.name.rsplit(".", 1)[-1] for node in build_graph(config)} <= names
        assert {re.sub(r"^blocks\.\d+\.", "", tensor) for tensor in build_graph(config).tensors} <= names
    sizes = {"d_model", "expand", "d_state", "dt_rank", "d_conv", "blocks", "patch", "overlap", "vocabulary", "pool", "outputs"}
    assert {f"config.{name}" for name in sizes} <= names
    owners = {"config": ModelConfig, "Scan": Scan, "IntFormat": IntFormat, "IntegerModel": IntegerModel}
    for owner, _, name in (found.partition(".") for found in names):
        if owner in owners and name:
            assert name in {*dir(owners[owner]), *getattr(owners[owner], "__annotations__", {})}, f"{owner}.{name}"


def test_command_line(tmp_path):
    """The page's examples, in an empty folder."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["bash", "-euo", "pipefail", "-c", shell(DOCS / "command-line.md")], cwd=tmp_path, env=environment, check=True)
    assert all(json.loads(path.read_text())["title"] for path in tmp_path.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.schema.json", "quantize.schema.json"}


def test_completion_and_schemas(capsys):
    """Bash takes the script, and every kind of TOML file has a schema."""
    assert cli.main(["completion"]) == 0
    script = capsys.readouterr().out + "COMP_WORDS=(emamba report --se); COMP_CWORD=2; _emamba; echo ${COMPREPLY[@]}"
    assert subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout == "--sensitivity\n"
    for kind in SCHEMAS:
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
