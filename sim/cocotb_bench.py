"""The one cocotb test module: any block, from a file of stimulus and expected beats that `sim.bench` writes.

It runs inside the simulator. Stream rules are checked on every port in every cycle; inputs change after the rising edge and
everything is sampled at the falling one, where all simulators agree on what the next rising edge sees.
"""

import json
import os
import random
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge
from cocotb.utils import get_sim_time
from cocotb_bus.drivers import BitDriver, BusDriver
from cocotb_bus.monitors import BusMonitor
from cocotb_bus.scoreboard import Scoreboard

SPEC = json.loads(Path(os.environ["EMAMBA_BENCH"]).read_text())
PERIOD = 2  # ns
BUS = {"bus_separator": "__", "case_insensitive": False}
STALLS = [(25, 25), (75, 75), (75, 0), (0, 75)]  # percent of the cycles, on the inputs and on the outputs
SETTLE = 64  # cycles after the last expected beat in which a surplus beat would show


class Source(BusDriver):
    """Offers beats, after random pauses in which the payload is noise."""

    _signals = ("payload", "valid", "ready")

    def __init__(self, dut, name, percent, rng):
        super().__init__(dut, name, dut.clk, **BUS)
        self.percent, self.rng, self.bits = percent, rng, len(self.bus.payload)

    def idle(self):
        self.bus.valid.value = 0
        self.bus.payload.value = self.rng.getrandbits(self.bits)

    async def _driver_send(self, transaction, sync=True):
        while self.rng.random() * 100 < self.percent:
            self.idle()
            await RisingEdge(self.clock)
        self.bus.payload.value = transaction
        self.bus.valid.value = 1
        ready = False
        while not ready:
            await FallingEdge(self.clock)
            ready = self.bus.ready.value == 1
            await RisingEdge(self.clock)
        self.idle()

    def stop(self):
        self._thread.cancel()
        self.idle()


class Sink(BitDriver):
    """Random `ready`."""

    def __init__(self, dut, name, percent, rng):
        super().__init__(getattr(dut, f"{name}__ready"), dut.clk)
        self.start(iter(lambda: (0, 1) if rng.random() * 100 < percent else (1, 0), None))

    def stop(self):
        self._cr.cancel()
        self._signal.value = 0


class StreamMonitor(BusMonitor):
    """Checks the stream rules and hands on every transferred beat."""

    _signals = ("payload", "valid", "ready")

    def __init__(self, dut, name):
        self.offered, self.transferred = None, []  # times
        super().__init__(dut, name, dut.clk, reset=dut.rst, callback=lambda beat: None, **BUS)

    async def _monitor_recv(self):
        waiting = None
        while True:
            await FallingEdge(self.clock)
            if self.in_reset:
                waiting = None
                continue
            valid, ready = self.bus.valid.value, self.bus.ready.value
            assert valid.is_resolvable, f"{self.name}: valid is {valid}"
            assert ready.is_resolvable, f"{self.name}: ready is {ready}"
            if valid != 1:
                assert waiting is None, f"{self.name}: valid fell before the beat was transferred"
                continue
            payload = self.bus.payload.value
            assert payload.is_resolvable, f"{self.name}: payload is {payload} while valid"
            payload = payload.to_unsigned()
            assert waiting in (None, payload), f"{self.name}: the payload {waiting:#x} became {payload:#x} while it waited"
            if self.offered is None:
                self.offered = get_sim_time("ns")
            if ready == 1:
                waiting = None
                self.transferred.append(get_sim_time("ns"))
                self._recv(payload)
            else:
                waiting = payload


class MaskedScoreboard(Scoreboard):
    """Compares the bits that carry something."""

    def compare(self, got, exp, log, strict_type=True):
        beat, value, mask = exp
        assert got & mask == value & mask, f"beat {beat} is {got & mask:#x}, not {value & mask:#x} (mask {mask:#x})"


class Run:
    """One run over the whole stimulus."""

    def __init__(self, dut, name, source, sink):
        self.dut, self.rates, self.rng = dut, (source, sink), random.Random(f"{SPEC['seed']} {name} {source} {sink}")
        self.clock = None

    async def reset(self, cycles):
        if self.clock is None:
            self.dut.rst.value = 1
            for name in SPEC["inputs"]:
                getattr(self.dut, f"{name}__valid").value = 0
                getattr(self.dut, f"{name}__payload").value = 0
            for name in SPEC["outputs"]:
                getattr(self.dut, f"{name}__ready").value = 0
            self.clock = Clock(self.dut.clk, PERIOD, unit="ns")
            self.clock.start()
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, cycles)
        self.dut.rst.value = 0

    def start(self):
        """Begins in the cycle of the call; every source offers its first beat in it, but for its stalls."""
        dut, scoreboard = self.dut, MaskedScoreboard(self.dut)
        self.monitors = {name: StreamMonitor(dut, name) for name in (*SPEC["inputs"], *SPEC["outputs"])}
        self.expected = {}
        for name, output in SPEC["outputs"].items():
            pairs = zip(output["beats"], output["masks"], strict=True)
            self.expected[name] = [(k, int(beat, 16), int(mask, 16)) for k, (beat, mask) in enumerate(pairs)]
            scoreboard.add_interface(self.monitors[name], self.expected[name])
        self.sinks = [Sink(dut, name, self.rates[1], self.rng) for name in SPEC["outputs"]]
        self.sources = {name: Source(dut, name, self.rates[0], self.rng) for name in SPEC["inputs"]}
        for name, beats in SPEC["inputs"].items():
            for beat in beats:
                self.sources[name].append(int(beat, 16))

    def stop(self):
        for thread in (*self.sources.values(), *self.sinks):
            thread.stop()
        for monitor in self.monitors.values():
            monitor._thread.cancel()

    def counts(self):
        return {name: len(monitor.transferred) for name, monitor in self.monitors.items()}

    async def finish(self):
        """Waits until every beat has been taken and given, and then for surplus beats."""
        wanted = {name: len(beats) for name, beats in SPEC["inputs"].items()} | {
            name: len(output["beats"]) for name, output in SPEC["outputs"].items()
        }
        before, idle = {}, 0
        while (counts := self.counts()) != wanted:
            idle = 0 if counts != before else idle + 16
            assert idle < SPEC["idle_cycles"], f"nothing moved for {idle} cycles; beats so far {counts}, wanted {wanted}"
            before = counts
            await ClockCycles(self.dut.clk, 16)
        await ClockCycles(self.dut.clk, SETTLE)
        assert self.counts() == wanted, f"surplus beats: {self.counts()}, wanted {wanted}"

    def check_cycles(self):
        """Every output beat leaves in the cycle that the schedule says."""
        start = min(self.monitors[name].offered for name in SPEC["inputs"])
        for name, output in SPEC["outputs"].items():
            if output["cycles"] is not None:
                cycles = [round((time - start) / PERIOD) for time in self.monitors[name].transferred]
                wrong = [k for k, (got, wanted) in enumerate(zip(cycles, output["cycles"], strict=True)) if got != wanted]
                assert not wrong, (
                    f"{name}: {len(wrong)} of {len(cycles)} beats off schedule; beat {wrong[0]} left in cycle "
                    f"{cycles[wrong[0]]}, not {output['cycles'][wrong[0]]}"
                )


TIMEOUT = {"timeout_time": SPEC["timeout_cycles"] * PERIOD, "timeout_unit": "ns"}


@cocotb.test(**TIMEOUT)
async def full_speed(dut):
    """No stalls: every beat is right and in its cycle."""
    run = Run(dut, "full speed", 0, 0)
    await run.reset(2)
    run.start()
    await run.finish()
    run.check_cycles()


@cocotb.test(**TIMEOUT)
@cocotb.parametrize(rates=STALLS)
async def random_stalls(dut, rates):
    """Pauses on all ports."""
    run = Run(dut, "stalls", *rates)
    await run.reset(2)
    run.start()
    await run.finish()


@cocotb.test(**TIMEOUT)
@cocotb.parametrize(rates=[(0, 0), (25, 25), (25, 75)])
async def reset_in_traffic(dut, rates):
    """A reset of one cycle at a random point; the whole stimulus then gives the whole answer."""
    run = Run(dut, "reset", *rates)
    await run.reset(2)
    run.start()
    await ClockCycles(dut.clk, run.rng.randrange(2, 2 + max(len(beats) for beats in SPEC["inputs"].values())))
    run.stop()
    await run.reset(1)
    run.start()
    await run.finish()
    if rates == (0, 0):
        run.check_cycles()
