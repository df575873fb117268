"""The report: its figures are those of executors and schedule, its page needs nothing from outside, every plot has axes."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from benchmarks import browser
from emamba.artifact import load, save
from emamba.base.errors import EmambaError
from emamba.datasets import Dataset
from emamba.datasets.metrics import BETTER, figures
from emamba.run.executors import make_executor, predict
from flow import cli
from flow.report import charts
from flow.report.answers import interval
from flow.report.charts import Plot, bars, heat
from flow.report.collect import collect, drift_grade, grade, lines
from flow.report.page import page
from rtl.plan.schedule import Schedule
from sim.models import random_artifact, random_inputs
from sim.recorder import Recording

SECTIONS = {"verdict", "artifact", "data", "made", "accuracy", "answers", "training", "pipeline", "graph", "timetable", "stalls",
            "resources", "pareto", "formats", "drift", "units", "certificate", "sensitivity"}


NAME = "odd <script src='//x'>alert(1)</script> & \"more\""
"""Of the artifact: text, and no part of a page."""


def data_of(artifact, tokens):
    none = np.zeros(0)
    return Dataset("given", "all", "random", none, none, none, none, tokens, none, unit="cm", unit_scale=100.0)


def stalls_of(artifact):
    """As `emamba simulate` writes them, of two streams that wait at random."""
    port = Schedule(artifact, 8).input
    valid, ready = np.random.default_rng(0).integers(0, 2, (2, 100, 2), dtype=bool)
    return {"artifact": {"digest": artifact.digest}, "cycles_per_token": 8, "stall_percent": 50, "data": "random", "sequences": 2,
            **Recording({"i": port, "embed.i": port}, valid, ready, [()] * 100).stalls(bins=10)}


@pytest.fixture(scope="module")
def found():
    artifact = replace(random_artifact("emamba-odd"), name=NAME)
    tokens = random_inputs(artifact.config, 9)
    targets = np.arange(9) % 4
    sensitivity = {"error": "error rate", "base": 0.25, "sequences": 9,
                   "rows": [{"name": "embed", "bits": 12, "changes": {"6": 0.125, "8": None}}]}
    return artifact, tokens, targets, collect(artifact, tokens, targets, data_of(artifact, tokens), cycles_per_token=8,
                                              sensitivity=sensitivity, stalls=stalls_of(artifact))


def test_figures(found):
    artifact, tokens, targets, report = found
    assert set(report) == SECTIONS and all(report[name]["how"] for name in SECTIONS - {"artifact", "data", "verdict"})
    assert report["verdict"]["rate"]["cycles_per_token"] == 8
    json.dumps(report, allow_nan=False)
    rows = {row["executor"]: row for row in report["accuracy"]["rows"]}
    for backend in ("float", "int"):
        values = predict(artifact, backend, make_executor(artifact, backend), tokens)
        assert rows[backend]["figures"] == figures("classification", values, targets)
        low, high = rows[backend]["interval"]
        assert 0 <= low <= rows[backend]["figures"]["accuracy"] <= high <= 1
    assert rows["rtl"] == {"executor": "rtl", "how": "not run here", "figures": {}, "interval": None}
    matrix = np.array(report["answers"]["confusion"])
    assert matrix.sum() == 9 and matrix.trace() == round(9 * rows["int"]["figures"]["accuracy"])
    schedule = Schedule(artifact, 8)
    assert report["resources"]["cycles_per_token"] == schedule.period == 8
    fitting = {name for name, cycles in report["verdict"]["fits"].items() if cycles}
    assert set(report["resources"]["smallest"]) == fitting
    assert fitting == set(report["resources"]["devices"]) - {*report["resources"]["hopeless"]}
    assert max(end for row in report["timetable"]["rows"] for _, end in row["spans"]) == schedule.latency
    assert report["pipeline"]["latency_cycles"] == schedule.latency >= report["pipeline"]["latency_floor"]
    assert [stage["name"] for stage in report["pipeline"]["stages"]] == [node.name for node in schedule.graph.nodes[1:]]
    slowest = max(stage["cycles_per_frame"] for stage in report["pipeline"]["stages"])
    stages = {stage["name"]: stage for stage in report["pipeline"]["stages"]}
    assert stages[report["pipeline"]["bottleneck"]]["cycles_per_frame"] == slowest
    designs = report["pareto"]["designs"]
    assert [design["cycles_per_token"] for design in designs] == sorted({design["cycles_per_token"] for design in designs})
    assert all(a["multipliers"] >= b["multipliers"] for a, b in pairwise(designs))


def test_values_and_state(found):
    artifact, _, _, report = found
    nodes = {node["name"]: node for node in report["formats"]["nodes"]}
    assert set(nodes) == set(artifact.operators)
    for name, node in nodes.items():
        assert node["format"] == str(artifact.operators[name].o)
        assert sum(node["histogram"]["shares"]) == pytest.approx(1)
        assert 0 <= node["clipped"] <= 1 and 0 <= node["at_limit"] <= 1
    drift = report["drift"]["scans"]["block0.y"]
    assert len(drift) == artifact.config.tokens and all(0 <= value < 1 for value in drift)
    assert report["certificate"]["scans"]["block0.y"]["holds"]


def test_without_targets(found):
    """The page tells the agreement that an import measured, and has no bracket to explain; a head's cycles are a sequence's."""
    artifact = replace(random_artifact("emamba-image"), record={"verdict": {"agreement": {
        "sequences": 1, "relative_error": 0.01, "int": 3.5, "float": 3.0}}})
    tokens = random_inputs(artifact.config, 1)
    report = collect(artifact, tokens, np.zeros(0), data_of(artifact, tokens))
    text = page(report)
    assert "on 1 calibration sequence: " in text and "perplexity 3.5, float 3" in text and "in brackets" not in text
    assert "in brackets: the 95% confidence interval" in page(found[3]) and "As a pipeline, no T fits" in page(found[3])
    head = report["pipeline"]["stages"][-1]
    assert head["name"] == "head" and f"{head['cycles']} once a sequence" in text and " a token, " in text


def test_words(found):
    text = "\n".join(lines(found[3]))
    assert text.startswith(f"{NAME}: ") and "not run here" in text and "cannot overflow" in text


class _Page(HTMLParser):
    """Every tag must be closed in its order, and nothing may come from outside."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attributes):
        assert tag != "script"
        for name, value in attributes:
            assert name not in ("src", "srcset") and not name.startswith("on")
            assert name != "href" or value == "data:," or value[0] == "#"
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page(found):
    text = page(found[3])
    parser = _Page()
    parser.feed(text)
    assert not parser.open and "http" not in text and "url(" not in text and "@import" not in text
    assert "prefers-color-scheme: dark" in text and "@media print" in text
    assert all(f'href="#{name}"' in text and f'id="{name}"' in text for name in ("pipeline", "resources", "state", "stalls"))
    drawn = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    boxes = [svg for svg in drawn if 'class="drawing"' in svg]
    shown = "".join(boxes)
    assert len(boxes) >= 3 and all(f">{node['name'].split('.')[-1]}<" in shown for node in found[3]["graph"]["nodes"])
    drawn = [svg for svg in drawn if svg not in boxes]
    assert len(drawn) > 25
    for svg in drawn:
        root = ElementTree.fromstring(svg)
        words = [item for item in root.iter("text") if item.get("class") is None]
        ticks = [item for item in root.iter("text") if item.get("class") == "tick"]
        assert words and all(item.text for item in words), root.get("aria-label")
        sides = [sum(item.get("text-anchor") == side for item in ticks) for side in ("middle", "end")]
        assert min(sides[:len(words)]) >= 2, f"an axis of '{root.get('aria-label')}' has fewer than two numbers"


def test_page_in_a_browser(found, tmp_path, monkeypatch):
    """Where there is a Chromium: the page follows the user's colours, and a message of its console is a failure."""
    report, out = tmp_path / "r.html", tmp_path / "r.png"
    report.write_text(page(found[3]), encoding="utf-8")
    if shutil.which("chromium"):
        browser.picture(browser.find(), report, 500, "dark", out, height=400)
        with Image.open(out) as picture:
            assert picture.size == (500, 400) and picture.getpixel((499, 399))[:3] == (0x15, 0x18, 0x1c)
        report.write_text("<script>console.error('wrong')</script>", encoding="utf-8")
        with pytest.raises(EmambaError, match="wrong"):
            browser.picture(browser.find(), report, 500, "dark", out, height=400)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EmambaError, match="there is no Chromium here: install it"):
        browser.find()


def test_intervals():
    """A figure lies within its interval, which is narrower where more was seen."""
    random, data = np.random.default_rng(0), data_of(None, np.zeros(0))
    for task, values, targets, scale in (
            ("regression", random.normal(size=(400, 3)), np.zeros((400, 3)), 100),
            ("classification", random.normal(size=(400, 5)), random.integers(0, 5, 400), 1),
            ("next_token", random.normal(size=(400, 6, 5)), random.integers(0, 5, (400, 6)), 1)):
        widths = []
        for count in (100, 400):
            low, high = interval(task, values[:count], targets[:count], data)
            assert low < figures(task, values[:count], targets[:count], scale)[BETTER[task][0]] < high
            widths.append(high - low)
        assert widths[1] < 0.7 * widths[0]
    assert interval("classification", values[:1], targets[:1], data) is None


def test_grades():
    assert [grade(value, (0.1, 0.2)) for value in (0.1, 0.2, 0.3)] == ["good", "fair", "bad"]
    assert drift_grade([0.001 * k for k in range(100)]) == "fair, and grows" and drift_grade([0.04] * 100) == "good"


def test_plot():
    svg = Plot("<t>", "time, s", "current, A", (0, 10), (1, 1000), log_y=True).line([(0, 1), (5, 1e9)], "a", "one").svg()
    root = ElementTree.fromstring(re.search(r"<svg.*</svg>", svg).group())
    assert root.get("aria-label") == "<t>"
    assert [item.text for item in root.iter("text") if item.get("class") is None] == ["time, s", "current, A"]
    points = [tuple(map(float, pair.split(","))) for pair in root.find("polyline").get("points").split()]
    assert points == [(charts.LEFT, 240 - charts.BOTTOM), (charts.LEFT + (420 - charts.LEFT - charts.RIGHT) / 2, charts.TOP)]
    assert "one" in svg
    Plot("flat", "x", "y", (3, 3), (0, 0)).line([(3, 0)], "a").svg()
    assert "<rect" in bars("b", "bits", [("n", 0, "a", "0")])


def test_no_title_is_cut():
    for title in ("short", "block0.y: distance of the integer state h from float", "a title that is too long for its plot " * 3):
        found = ElementTree.fromstring(charts.heading(title, 58, 350))
        width = float(found.get("textLength", 6.6 * len(title)))
        assert float(found.get("x")) >= 4 and float(found.get("x")) + width <= 350 and found.text == title


def test_heat():
    """Neighbours of one shade are one rectangle, and there is none where nothing is."""
    svg = heat("h", "cycle", [0, 10, 20, 30, 40], [("s", {"a": [0.5, 0.5, 0, 1], "b": [0, 0, 0.25, 0]}, "w")], {"a": "moves"})
    drawn = [item for item in ElementTree.fromstring(re.search(r"<svg.*</svg>", svg).group()).iter("rect")
             if item.get("class") in "ab"]
    assert [(item.get("class"), float(item.get("width")), float(item.get("fill-opacity"))) for item in drawn] == [
        ("a", 148, 0.5), ("a", 74, 1), ("b", 74, 0.25)]
    assert '<span class="a">moves</span>' in svg


@pytest.mark.parametrize("value, text", [(0, "0"), (1200, "1,200"), (123456, "123.5k"), (2.5e6, "2.5M"), (1e-5, "1e-5"),
                                         (0.25, "0.25")])
def test_number(value, text):
    assert charts.number(value) == text


def test_ticks():
    assert charts.ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert charts.ticks(-1, 1, 4) == pytest.approx([-1, -0.5, 0, 0.5, 1])
    assert charts.ticks(-4, 3.97, 3) == [-4, -2, 0, 2]
    assert charts.decades(80, 900) == [100, 200, 500] and charts.decades(12, 19, 3) == [12, 14, 16, 18]
    assert charts.decades(1e-6, 1, 4) == pytest.approx([1e-6, 1e-4, 1e-2, 1])


def test_command(found, tmp_path, capsys):
    artifact, tokens, _, _ = found
    save(artifact, tmp_path / "a")
    np.save(tmp_path / "x.npy", tokens)
    stalls = stalls_of(load(tmp_path / "a"))
    (tmp_path / "w.json").write_text(json.dumps(stalls), encoding="utf-8")
    asked = ["report", str(tmp_path / "a"), "--inputs", str(tmp_path / "x.npy"), "--out", str(tmp_path / "out" / "r.html"),
             "--stalls", str(tmp_path / "w.json"), "--device", "kv260"]
    assert cli.main(asked) == 0
    text, error = capsys.readouterr()
    shares = re.findall(r"^  (i|embed.i): (.*)% of the cycles$", text, re.MULTILINE)
    assert error == "" and dict(shares) == {stream["name"]: f"{stream['blocked']:.1f}" for stream in stalls["streams"]}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["r.html", "r.json"]
    report = json.loads((tmp_path / "out" / "r.json").read_text(encoding="utf-8"))
    assert set(report) == SECTIONS and report["verdict"]["device"]["name"] == "kv260"
    (tmp_path / "s.json").write_text("[]", encoding="utf-8")
    (tmp_path / "w.json").write_text(json.dumps(stalls | {"artifact": {"digest": "0"}}), encoding="utf-8")
    for more, sentence in ((["--sensitivity", str(tmp_path / "s.json")], "is not what emamba sensitivity --json writes"),
                           (["--stalls", str(tmp_path / "w.json")], "simulate --json writes (it is of another artifact)"),
                           (["--device", "zx81"], "there is no device 'zx81'; choose one of "),
                           (["--out", "r.pdf"], "--out r.pdf: name a file that ends with .html")):
        assert cli.main([*asked, *more]) == 1
        assert sentence in capsys.readouterr().err
