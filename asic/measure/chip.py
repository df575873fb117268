"""Measures a chip before place and route: area, timing, equality with the integer model at gate level, energy per sequence."""

from math import ceil

import numpy as np

from emamba.base.errors import InputError, Mismatch
from emamba.run.integer import IntegerModel
from rtl.kit import packing
from rtl.plan.schedule import Schedule

from ..check.gates import STREAMS, Flat, Run, simulate
from ..netlist.mapping import Netlist
from ..netlist.pdk import Pdk
from ..netlist.verilog import verilog
from . import energy
from .sizing import implement


def sequences_needed(schedule: Schedule) -> int:
    """Sequences that a run takes: 64 streams, each until the pipeline is full and one sequence longer."""
    return STREAMS * (_filling(schedule) + 1)


def _filling(schedule: Schedule) -> int:
    return ceil(schedule.latency / schedule.cycles_per_frame)


def measure(schedule: Schedule, pdk: Pdk, clock_mhz: float, tokens: np.ndarray, *, gated: bool = True,
            rests: bool = True, idle: bool = False) -> dict:
    """Measures one design; timing is None without OpenSTA.

    Parameters
    ----------
    schedule, pdk, clock_mhz
        the design, its process and clock
    tokens
        real inputs [sequences, L, width], at least `sequences_needed`
    gated
        see `asic.netlist.mapping.implement`
    rests
        idle blocks stand still
    idle
        measures the energy of a sequence's cycles after the last answer, without input
    """
    netlist, flat, corners = implement(verilog(schedule, rests=rests), pdk, clock_mhz, gated=gated)
    run = run_gates(schedule, netlist, flat, tokens, idle=idle)
    used = energy.analyze(flat, run, netlist.library, pdk, clock_mhz, sequences=1)
    return {"pdk": pdk.name, "cycles_per_token": schedule.period, "cycles_per_frame": schedule.cycles_per_frame,
            "latency_cycles": schedule.latency, "multipliers": schedule.multipliers,
            "multiplies_per_frame": schedule.multiplies_per_frame, "clock_mhz": clock_mhz, "gated": gated, "rests": rests,
            "area": netlist.report(), "timing": {name: corners.get(name) for name in pdk.corners},
            "sequences": sequences_needed(schedule), "energy_j": used}


def run_gates(schedule: Schedule, netlist: Netlist, flat: Flat, tokens: np.ndarray, *, idle: bool = False) -> Run:
    """Runs real inputs at gate level; refuses a netlist that differs from the integer model in any bit of an answer. Toggles are
    counted over a frame's cycles, while the pipeline is full or, with `idle`, after it is empty."""
    artifact, needed = schedule.artifact, sequences_needed(schedule)
    if len(tokens) < needed:
        raise InputError(f"the gate-level run takes {needed} sequences, and there are {len(tokens)}; give more")
    return run_codes(schedule, netlist, flat, artifact.codec.encode(tokens[:needed], artifact.input), idle=idle)


def run_codes(schedule: Schedule, netlist: Netlist, flat: Flat, codes: np.ndarray, *, idle: bool = False) -> Run:
    """`run_gates` of the integers of inputs, again and again where there are fewer than it takes."""
    artifact = schedule.artifact
    frames = np.resize(codes, (sequences_needed(schedule), *codes.shape[1:]))
    beats = packing.pack(schedule.input, frames).reshape(STREAMS, -1, packing.payload_words(schedule.input))
    frames_before = 2 * _filling(schedule) + 1 if idle else _filling(schedule)
    run = simulate(netlist, flat, schedule.input, schedule.output, beats, start=frames_before * schedule.cycles_per_frame,
                   cycles=schedule.cycles_per_frame)
    answers = IntegerModel(artifact).answer(frames)
    expected = packing.pack(schedule.output, answers).reshape(run.output.shape)
    mask = np.tile(packing.mask(schedule.output), (expected.shape[1] // len(packing.mask(schedule.output)), 1))
    wrong = ((run.output ^ expected) & mask).any(axis=(1, 2))
    if wrong.any():
        raise Mismatch(f"the mapped netlist differs from the integer model in {int(wrong.sum())} of {STREAMS} streams, "
                       f"the first in stream {int(wrong.argmax())}")
    return run
