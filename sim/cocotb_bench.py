"""The one cocotb test module: any blocks, from a file of stimulus and expected beats that `sim.bench` writes.

It runs inside the simulator. Each block has a clock of its own, which runs in its tests alone. Stream rules are checked in every
cycle; inputs change after the rising edge and everything is sampled at the falling one, where all simulators agree on what the
next rising edge sees.
"""

import json
import os
import random
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

CASES = json.loads(Path(os.environ["EMAMBA_BENCH"]).read_text())
PERIOD = 2  # ns
STALLS = [(25, 25), (60, 60), (60, 0), (0, 60)]  # percent of the cycles, on the inputs and on the outputs


class Stream:
    """A port of the design: what was transferred there, and in which cycles."""

    def __init__(self, dut, case, name, percent, rng):
        self.name, self.percent, self.rng, self.cycles = f"{CASES[case]['name']} {name}", percent, rng, []
        self.payload, self.valid, self.ready = (
            getattr(dut, f"{case}_{name}__{signal}") for signal in ("payload", "valid", "ready"))

    def pauses(self):
        return self.rng.random() * 100 < self.percent

    def bit(self, handle, signal):
        value = handle.value
        assert value.is_resolvable, f"{self.name}: {signal} is {value}"
        return value == 1


class Source(Stream):
    """Offers beats, after random pauses in which the payload is noise."""

    def __init__(self, dut, case, name, beats, *given):
        super().__init__(dut, case, name, *given)
        self.beats, self.bits = [int(beat, 16) for beat in beats], len(self.payload)

    def idle(self):
        self.offers, self.rests = False, True
        self.valid.value = 0
        self.payload.value = self.rng.getrandbits(self.bits)

    def drive(self):
        if self.offers:
            return
        if len(self.cycles) == len(self.beats):
            if not self.rests:
                self.idle()
        elif self.pauses():
            self.idle()
        else:
            self.offers, self.rests = True, False
            self.payload.value = self.beats[len(self.cycles)]
            self.valid.value = 1

    def sample(self, cycle):
        if self.bit(self.ready, "ready") and self.offers:
            self.offers = False
            self.cycles.append(cycle)


class Sink(Stream):
    """Takes beats at random; each must be the next one expected, in the bits of its mask, and stay until it is taken."""

    def __init__(self, dut, case, name, output, *given):
        super().__init__(dut, case, name, *given)
        pairs = zip(output["beats"], output["masks"], strict=True)
        self.beats = [(int(beat, 16), int(mask, 16)) for beat, mask in pairs]
        self.waiting, self.takes, self.schedule = None, None, output["cycles"]

    def idle(self):
        self.ready.value = 0

    def drive(self):
        takes = not self.pauses()
        if takes != self.takes:
            self.takes = takes
            self.ready.value = takes

    def sample(self, cycle):
        if not self.bit(self.valid, "valid"):
            assert self.waiting is None, f"{self.name}: valid fell before the beat was transferred"
            return
        payload = self.payload.value
        assert payload.is_resolvable, f"{self.name}: payload is {payload} while valid"
        payload = payload.to_unsigned()
        assert self.waiting in (None, payload), f"{self.name}: the payload {self.waiting:#x} became {payload:#x} while it waited"
        self.waiting = None if self.takes else payload
        if self.takes:
            beat = len(self.cycles)
            assert beat < len(self.beats), f"{self.name}: a surplus beat {payload:#x}"
            value, mask = self.beats[beat]
            got, wanted = payload & mask, value & mask
            assert got == wanted, f"{self.name}: beat {beat} is {got:#x}, not {wanted:#x} (mask {mask:#x})"
            self.cycles.append(cycle)

    def check_cycles(self):
        """Every beat left in the cycle that the schedule says."""
        if self.schedule is not None:
            wrong = [k for k, (got, wanted) in enumerate(zip(self.cycles, self.schedule, strict=True)) if got != wanted]
            assert not wrong, (f"{self.name}: {len(wrong)} of {len(self.cycles)} beats off schedule; beat {wrong[0]} left in "
                               f"cycle {self.cycles[wrong[0]]}, not {self.schedule[wrong[0]]}")


class Run:
    """Runs over the stimulus of a case: the whole one, or the part for stalls."""

    def __init__(self, dut, case, name, source, sink, *, whole=False):
        self.dut, self.case, self.spec, self.rates = dut, case, CASES[case], (source, sink)
        self.beats = dict.fromkeys(self.spec["stalled"]) if whole else self.spec["stalled"]
        self.rng = random.Random(f"{self.spec['seed']} {name} {source} {sink}")
        self.clk, self.rst = getattr(dut, f"{case}_clk"), getattr(dut, f"{case}_rst")
        self.connect()

    def connect(self):
        """Streams from their first beat on."""
        self.sources = [Source(self.dut, self.case, name, beats[:self.beats[name]], self.rates[0], self.rng)
                        for name, beats in self.spec["inputs"].items()]
        self.sinks = [Sink(self.dut, self.case, name, {key: part and part[:self.beats[name]] for key, part in output.items()},
                           self.rates[1], self.rng) for name, output in self.spec["outputs"].items()]
        self.streams = [*self.sources, *self.sinks]
        for stream in self.streams:
            stream.idle()

    async def begin(self):
        self.rst.value = 1
        Clock(self.clk, PERIOD, unit="ns").start()
        await self.reset(2)

    async def reset(self, cycles):
        self.rst.value = 1
        await ClockCycles(self.clk, cycles)
        self.rst.value = 0

    async def play(self, cycles=None):
        """So many cycles, or until every beat has been taken and given, and then for surplus beats."""
        falling, rising = FallingEdge(self.clk), RisingEdge(self.clk)
        wanted = sum(len(stream.beats) for stream in self.streams)
        cycle = idle = moved = 0
        while (moved < wanted or idle < self.spec["settle"]) if cycles is None else cycle < cycles:
            for stream in self.streams:
                stream.drive()
            await falling
            for stream in self.streams:
                stream.sample(cycle)
            before, moved = moved, sum(len(stream.cycles) for stream in self.streams)
            idle = idle + 1 if moved == before else 0
            if moved < wanted and idle == self.spec["idle_cycles"]:
                counts = (f"{len(stream.cycles)} of {len(stream.beats)} beats of {stream.name}" for stream in self.streams)
                raise AssertionError(f"nothing moved for {idle} cycles; {', '.join(counts)}")
            await rising
            cycle += 1

    def check_cycles(self):
        for sink in self.sinks:
            sink.check_cycles()


TIMEOUT = {"timeout_time": PERIOD * max(spec["timeout_cycles"] for spec in CASES.values()), "timeout_unit": "ns"}


@cocotb.test(**TIMEOUT)
@cocotb.parametrize(case=list(CASES))
async def full_speed(dut, case):
    """No stalls: every beat is right and in its cycle."""
    run = Run(dut, case, "full speed", 0, 0, whole=True)
    await run.begin()
    await run.play()
    run.check_cycles()


@cocotb.test(**TIMEOUT)
@cocotb.parametrize(case=list(CASES), rates=STALLS)
async def random_stalls(dut, case, rates):
    """Pauses on all ports."""
    run = Run(dut, case, "stalls", *rates)
    await run.begin()
    await run.play()


@cocotb.test(**TIMEOUT)
@cocotb.parametrize(case=list(CASES), rates=[(0, 0), (25, 60)])
async def reset_in_traffic(dut, case, rates):
    """A reset of one cycle at a random point; the stimulus then gives its whole answer."""
    run = Run(dut, case, "reset", *rates)
    await run.begin()
    await run.play(run.rng.randrange(2, 2 + max(len(source.beats) for source in run.sources)))
    run.connect()
    await run.reset(1)
    await run.play()
    if rates == (0, 0):
        run.check_cycles()
