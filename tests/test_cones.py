"""The estimate of the longest logic, on a netlist by hand."""

import json

import pytest

from benchmarks import cones


def cell(kind, ins, outs):
    ways = dict.fromkeys(ins, "input") | dict.fromkeys(outs, "output")
    return {"type": kind, "connections": ins | outs, "port_directions": ways}


def test_longest(monkeypatch):
    """A register, a lookup table, a carry's second bit, a register; what a memory reads begins no path of its own."""
    netlist = {"ports": {"o": {"direction": "output", "bits": [6]}},
               "netnames": {"a": {"hide_name": 0, "bits": [2]}, "b": {"hide_name": 0, "bits": [6]}},
               "cells": {"a": cell("FDRE", {"C": [9], "D": [6], "CE": ["1"]}, {"Q": [2]}),
                         "l": cell("LUT1", {"I0": [2]}, {"O": [3]}),
                         "c": cell("CARRY4", {"S": [3, 3], "CI": ["0"]}, {"O": [4, 5]}),
                         "b": cell("FDRE", {"C": [9], "D": [5], "CE": ["1"]}, {"Q": [6]})}}

    def yosys(folder, commands):
        (folder / "top.json").write_text(json.dumps({"modules": {"top": netlist}}))

    monkeypatch.setattr(cones.tools, "yosys", yosys)
    first, *rest = cones.longest("")
    assert (first["from"], first["to"]) == ("a", "b")
    assert first["ns"] == pytest.approx(0.08 + cones.NET + cones.LUT + cones.CARRY["S"] + cones.NET + 0.05)
    assert [(path["from"], path["to"], path["ns"]) for path in rest] == [("b", "o", 0.58), ("b", "a", 0.53)]
