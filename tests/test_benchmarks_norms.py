"""The section that compares the norms: multipliers and latency by the formulas of docs/architecture.md."""

import pytest

from benchmarks import norms
from emamba.artifact import load
from rtl.kit.datapath import tree_stages


@pytest.fixture
def rows(monkeypatch):
    counts = {"lut": 1, "ff": 2, "dsp": 3, "bram36": 4, "nand2": 5, "memory_bits": 6, "cells": {}, "seconds": 7}
    monkeypatch.setattr(norms, "synthesize", lambda block, flow: counts)
    return norms.measure(load("models/mars"))


def test_multipliers_and_latency(rows):
    lanes, tree = rows[0]["lanes"], tree_stages(rows[0]["lanes"])
    assert [row["multipliers"] for row in rows] == [lanes, 2 * lanes + 1, 2 * lanes]
    assert [row["multiplies"] for row in rows] == [20, 41, 40]
    assert [row["latency"] for row in rows] == [6 + 2, 8 + 2 + tree, 7 + 2 + tree]
    assert [row["estimate"]["dsp"] for row in rows] == [row["multipliers"] for row in rows]


def test_table(rows):
    lines = norms.table(rows)
    assert [line.split(" | ")[0] for line in lines[-3:]] == ["| RangeNorm", "| LayerNorm", "| RMSNorm"]
    assert len({line.count("|") for line in lines[-5:]}) == 1
