"""Tests of the AXI system inside a simulator: the driver against the design that `sim.system_bench` has built."""

import json
import os
import random
from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.task import bridge
from cocotb.triggers import ClockCycles

from boards.driver.accelerator import Accelerator
from boards.driver.description import Description
from emamba.artifact import load
from emamba.integer import IntegerModel
from sim.axi_rules import Rules
from sim.transport import SimulationTransport

FOLDER = Path(os.environ["EMAMBA_SYSTEM"])
SPEC = json.loads((FOLDER / "system.json").read_text())
PERIOD = 2  # ns
SECOND = SPEC["second"]  # cycles
STALLS = [(0, 0, 0), (25, 25, 25), (75, 0, 50), (0, 75, 0), (75, 75, 75)]  # percent: input stream, output stream, registers


class Desk:
    """The design at work, the rules watching, the driver not yet there."""

    def __init__(self, dut):
        self.dut = dut
        self.description = Description.read(FOLDER)
        self.artifact = load(FOLDER / "artifact")
        self.model = IntegerModel(self.artifact)

    async def start(self, seed, stalls=(0, 0, 0), bursts=False):
        dut = self.dut
        dut.rst.value = 1
        Clock(dut.clk, PERIOD, unit="ns").start()
        self.transport = SimulationTransport(dut, cycles=SECOND, period=PERIOD)
        self.rng = random.Random(f"{SPEC['seed']} {seed}")
        self.rules = Rules(dut)
        await ClockCycles(dut.clk, 4)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 2)
        self.transport.stall(*stalls, self.rng, bursts=bursts)
        return self

    def frames(self, count):
        low, high = self.description.input.range
        rng = np.random.default_rng(self.rng.getrandbits(32))
        return rng.integers(low, high + 1, (count, self.description.tokens, self.description.input_width))

    def answer(self, frames):
        return self.model.run(frames, ["head"])["head"]

    def connect(self):
        return Accelerator(self.description, self.transport)

    def check(self, accelerator, frames):
        got, wanted = accelerator.run(frames), self.answer(frames)
        wrong = (got != wanted).any(axis=(1, 2))
        assert not wrong.any(), f"{wrong.sum()} of {len(frames)} frames are wrong, frame {wrong.argmax()} first"


def bench(function):
    """A test whose body, with a `Desk`, is blocking code."""
    async def test(dut, **parameters):
        desk = await Desk(dut).start(f"{function.__name__} {parameters}", parameters.get("stalls", (0, 0, 0)),
                                     parameters.get("bursts", False))
        await bridge(function)(desk, **{key: value for key, value in parameters.items() if key not in ("stalls", "bursts")})
        desk.rules.task.cancel()

    test.__name__ = test.__qualname__ = function.__name__
    test.__doc__ = function.__doc__
    return test


@cocotb.test(timeout_time=SPEC["timeout"] * PERIOD, timeout_unit="ns")
@cocotb.parametrize(stalls=STALLS, bursts=[False, True])
@bench
def frames(desk):
    """Back-to-back frames under stalls of all channels, the self-test and the identity."""
    accelerator = desk.connect()
    assert accelerator.self_test() == len(desk.description.golden[0])
    desk.check(accelerator, desk.frames(SPEC["frames"]))
    counters = accelerator.counters()
    assert counters["in"] == counters["out"] == SPEC["frames"] + len(desk.description.golden[0])
    assert counters["bad"] == 0
