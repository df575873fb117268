"""Benches of the stream kit."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from emamba.base.errors import Mismatch
from emamba.base.formats import IntFormat
from rtl.kit.block import Beat, Port
from rtl.kit.streams import Fifo, Fork, Gearbox, Pacer

from .bench import bench, failed, random_tokens, run_together


def wire(component, port, outputs=("o",), schedule=None):
    """The bench of a component that passes one port's beats on."""
    return bench(component, random_tokens(port, length=5), inputs={"i": port}, outputs=dict.fromkeys(outputs, port),
                 model=lambda tokens: tokens, schedule=schedule)


def fifo(depth, through=True, deep=False):
    spacing = 2 if depth == 1 and not through else 1
    return wire(Fifo(Beat(IntFormat(8), 3), depth, through=through, deep=deep), Port(IntFormat(8), 7, 3),
                schedule=lambda arrivals: (None, [(not through) + spacing * k for k in range(len(arrivals))]))


def fork(outputs):
    return wire(Fork(Beat(IntFormat(8), 2), outputs), Port(IntFormat(8), 5, 2), [f"o__{k}" for k in range(outputs)],
                schedule=lambda arrivals: (None, list(range(len(arrivals)))))


def gearbox(bits, width, in_lanes, out_lanes):
    format = IntFormat(bits, signed=bits == 8)
    i, o = Port(format, width, in_lanes), Port(format, width, out_lanes)
    return bench(Gearbox(format, width, in_lanes, out_lanes), random_tokens(i, length=4), inputs={"i": i}, outputs={"o": o},
                 model=lambda tokens: tokens)


def pacer(width, lanes, period):
    port = Port(IntFormat(8), width, lanes)
    return wire(Pacer(port, period), port)


CASES = [
    *((fifo, depth, through, deep) for depth in (1, 2, 5) for through in (True, False) for deep in (False, True)),
    *((fork, outputs) for outputs in (2, 3)),
    *((gearbox, *shape) for shape in (
        (8, 40, 20, 1), (8, 40, 1, 20), (5, 17, 3, 5), (5, 17, 5, 3), (8, 20, 57, 4), (8, 57, 4, 57), (8, 57, 4, 20),
        (8, 1, 1, 1), (5, 1, 4, 3), (8, 3, 2, 7), (8, 10, 4, 4), (1, 9, 2, 4),
    )),
    *((pacer, *shape) for shape in ((6, 2, 3), (6, 2, 5), (1, 1, 4))),
]


def name_of(case):
    make, *sizes = case
    return "-".join([make.__name__, *map(str, sizes)])


def test_streams(simulators, build_dir):
    run_together("streams", {name_of(case): case[0](*case[1:]) for case in CASES}, simulators, build_dir)


def flip(case):
    case.expected["o__1"][5, 0] ^= 1


def drop(case):
    for words in (case.expected, case.masks, case.cycles):
        words["o__1"] = words["o__1"][:-1]


def add(case):
    for words in (case.expected, case.masks):
        words["o__1"] = np.concatenate([words["o__1"], words["o__1"][:1]])
    case.cycles["o__1"], case.idle_cycles = None, 200


def delay(case):
    case.cycles["o__0"][-1] += 1


FAULTS = {
    flip: (7, "beat 5 is 0x7f, not 0x7e"),  # wrong beat
    drop: (7, "a surplus beat"),
    add: (7, "nothing moved"),  # beat too few
    delay: (2, "off schedule"),  # late beat
}


def test_a_fault_fails(simulators, build_dir):
    """The bench itself: what is not as expected fails every test that can see it."""
    cases = {fault.__name__: replace(fork(2), share=Fraction(1)) for fault in FAULTS}  # all beats under stalls too
    for fault in FAULTS:
        fault(cases[fault.__name__])
    for simulator in simulators:
        with pytest.raises(Mismatch, match=r": 23 of 28 tests failed; .*beat 5 is 0x7f, not 0x7e"):
            run_together("faults", cases, (simulator,), build_dir)
        found = failed(build_dir / simulator / "faults" / "results.xml").values()
        for fault, (tests, reason) in FAULTS.items():
            assert [reason in said for said in found if f"{fault.__name__} o__" in said] == [True] * tests, fault
