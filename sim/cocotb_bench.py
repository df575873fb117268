"""The one cocotb test module: any blocks, from a file of stimulus and expected beats that `sim.bench` writes.

It runs inside the simulator. Each block has a clock of its own, which runs in its tests alone. Inputs change after the rising
edge and everything is sampled at the falling one, where all simulators agree on what the next rising edge sees.
"""

import json
import os
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from sim.driver import STALLS, Run

CASES = json.loads(Path(os.environ["EMAMBA_BENCH"]).read_text())
PERIOD = 2  # ns


class Pin:
    """A signal, which must have a value where it is read."""

    def __init__(self, dut, name: str):
        self.name, self.handle = name, getattr(dut, name)
        self.bits = len(self.handle)

    def set(self, value: int) -> None:
        self.handle.value = value

    def get(self) -> int:
        value = self.handle.value
        assert value.is_resolvable, f"{self.name} is {value}"
        return int(value)


class Case(Run):
    """A run over the stimulus of a case."""

    def __init__(self, dut, case, name, rates, **options):
        self.clk, self.rst = getattr(dut, f"{case}_clk"), getattr(dut, f"{case}_rst")

        def pins(port: str) -> tuple[Pin, ...]:
            return tuple(Pin(dut, f"{case}_{port}__{signal}") for signal in ("payload", "valid", "ready"))

        super().__init__(CASES[case], pins, name, rates, **options)

    async def begin(self):
        self.rst.value = 1
        Clock(self.clk, PERIOD, unit="ns").start()
        await self.reset(2)

    async def reset(self, cycles):
        self.rst.value = 1
        await ClockCycles(self.clk, cycles)
        self.rst.value = 0

    async def run(self, cycles=None):
        falling, rising = FallingEdge(self.clk), RisingEdge(self.clk)
        await self.play(lambda: falling, lambda: rising, cycles)


TIMEOUT = {"timeout_time": PERIOD * max(spec["timeout_cycles"] for spec in CASES.values()), "timeout_unit": "ns"}


@cocotb.test(**TIMEOUT)
@cocotb.parametrize(case=list(CASES))
async def full_speed(dut, case):
    """No stalls: every beat is right and in its cycle."""
    run = Case(dut, case, "full speed", (0, 0), whole=True)
    await run.begin()
    await run.run()
    run.check_cycles()


@cocotb.test(**TIMEOUT)
@cocotb.parametrize(case=list(CASES), rates=STALLS)
async def random_stalls(dut, case, rates):
    """Pauses on all ports."""
    run = Case(dut, case, "stalls", rates)
    await run.begin()
    await run.run()


@cocotb.test(**TIMEOUT)
@cocotb.parametrize(case=list(CASES), rates=[(0, 0), (25, 60)])
async def reset_in_traffic(dut, case, rates):
    """A reset of one cycle at a random point; the stimulus then gives its whole answer."""
    run = Case(dut, case, "reset", rates)
    await run.begin()
    await run.run(run.rng.randrange(2, 2 + max(len(source.beats) for source in run.sources)))
    run.connect()
    await run.reset(1)
    await run.run()
    if rates == (0, 0):
        run.check_cycles()
