"""The pictures of the pages are those of the code: `python -m benchmarks.pictures` writes them."""

from pathlib import Path

from benchmarks.pictures import CYCLES, MODEL, pictures, transfers
from emamba.artifact import load
from flow.report.drawing import beats
from rtl.plan.schedule import Schedule


def test_pictures():
    drawn = pictures()
    assert {name: Path("docs", name).read_text(encoding="utf-8") for name in drawn} == drawn


def test_a_token_leaves_as_scheduled():
    """The last beat of a frame leaves in the cycle of the schedule's latency; nobody works before its input comes."""
    schedule = Schedule(load(MODEL), CYCLES)
    spans = beats(schedule, schedule.tokens)
    assert max(end for rows in spans.values() for _, end in rows) == spans["head"][-1][1] == schedule.latency
    for node in schedule.graph.nodes[2:]:
        assert spans[node.name][0][0] > spans[node.inputs[0]][0][0]


def test_what_goes_in_comes_out():
    seen = transfers()
    given, taken = ([now[f"{side}.payload"] for now in seen if now[f"{side}.valid"] and now[f"{side}.ready"]] for side in "io")
    assert given == taken == [0xA0, 0xA1, 0xA2, 0xA3, 0xA4]
