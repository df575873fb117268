"""The page on microcontrollers has the figures that were measured, of what ships; an engine in float32 is counted."""

import json
import subprocess
from pathlib import Path

import pytest
from programs import need
from test_micro import random_project

from benchmarks import floating, microcontrollers
from emamba.base.errors import InputError
from emamba.micro.measure import CORES

DOCS = Path("docs")
ENGINE = """
void *calloc(__SIZE_TYPE__, __SIZE_TYPE__);  /* needs no C library's headers */
static float *y, kept[3];
void engine_begin(float *weights) {
    y = calloc(25, sizeof *y);
    y[0] = weights[0];
}
void engine_token(unsigned token) {
    for (unsigned k = 0; k < 1000; k++)
        kept[k % 3] = y[0] = y[0] * kept[k % 3] + (float)token;
}
"""


def test_page():
    measured = json.loads((DOCS / "microcontrollers.json").read_text(encoding="utf-8"))
    page = (DOCS / "microcontrollers.md").read_text(encoding="utf-8")
    for name, (_, table) in microcontrollers.SECTIONS.items():
        assert "\n".join(table(measured[name])) in page
    assert {row["artifact"]: row["digest"] for row in measured["sizes"]} == {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))["digest"][:16]
        for path in Path("models").glob("*/manifest.json")}
    *engines, ours = measured["floating"]
    assert all(row["instructions"] >= 4 * ours["instructions"] and row["ram"] >= 3 * ours["ram"] for row in engines)


def test_an_engine_is_counted(tmp_path):
    need("arm-none-eabi-gcc", "qemu-system-arm")
    random_project("standard-one-channel").write(tmp_path)
    rows = []
    for flags in (floating.FPU, ()):
        command = ["arm-none-eabi-gcc", *CORES["m4"].options, *flags, "-O2", "-c", "-xc", "-", "-o", tmp_path / "engine.o"]
        subprocess.run(command, input=ENGINE, text=True, check=True)
        rows.append(floating.engine(tmp_path, tmp_path / "engine.o"))
    assert [row["numbers"] for row in rows] == ["float32, FPU", "float32, without FPU"]
    assert [row["ram"] for row in rows] == [104 + 16] * 2
    assert 5000 < 4 * rows[0]["instructions"] < rows[1]["instructions"]
    with pytest.raises(InputError, match="needs --engine OBJECT, compiled for a Cortex-M4"):
        floating.measured([])
