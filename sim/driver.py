"""Plays a bench in any simulator: offers beats and takes what leaves, with stalls, and checks values, cycles and stream rules.

`sim.cocotb_bench` drives Verilog with it, on Icarus and Verilator; `sim.amaranth_bench` a component in Amaranth's simulator. In
every cycle the inputs change, then everything is sampled, then the clock rises.
"""

import random
from collections.abc import Awaitable, Callable
from typing import Protocol

STALLS = [(25, 25), (60, 60), (60, 0), (0, 60)]  # percent of the cycles, on the inputs and on the outputs


class Pin(Protocol):
    bits: int

    def get(self) -> int: ...

    def set(self, value: int) -> None: ...


class Stream:
    """A port of the design, by its pins `payload`, `valid` and `ready`: in which cycles it transferred, and should have."""

    def __init__(self, name: str, pins: tuple[Pin, Pin, Pin], cycles: list[int] | None, percent: int, rng: random.Random):
        self.name, self.schedule, self.percent, self.rng = name, cycles, percent, rng
        self.payload, self.valid, self.ready = pins
        self.cycles: list[int] = []

    def pauses(self) -> bool:
        return self.rng.random() * 100 < self.percent

    def check_cycles(self) -> None:
        """Every beat was transferred in the cycle that the schedule says."""
        if self.schedule is not None:
            wrong = [k for k, (got, wanted) in enumerate(zip(self.cycles, self.schedule, strict=True)) if got != wanted]
            assert not wrong, (f"{self.name}: {len(wrong)} of {len(self.cycles)} beats off schedule; beat {wrong[0]} moved in "
                               f"cycle {self.cycles[wrong[0]]}, not {self.schedule[wrong[0]]}")


class Source(Stream):
    """Offers beats, after random pauses in which the payload is noise."""

    def __init__(self, beats: list[int], *given):
        super().__init__(*given)
        self.beats = beats
        self.idle()

    def idle(self) -> None:
        self.offers, self.rests = False, True
        self.valid.set(0)
        self.payload.set(self.rng.getrandbits(self.payload.bits))

    def drive(self) -> None:
        if self.offers:
            return
        if len(self.cycles) == len(self.beats):
            if not self.rests:
                self.idle()
        elif self.pauses():
            self.idle()
        else:
            self.offers, self.rests = True, False
            self.payload.set(self.beats[len(self.cycles)])
            self.valid.set(1)

    def sample(self, cycle: int) -> None:
        if self.ready.get() and self.offers:
            self.offers = False
            self.cycles.append(cycle)


class Sink(Stream):
    """Takes beats at random; each must be the next one expected, in the bits of its mask, and stay until it is taken."""

    def __init__(self, beats: list[tuple[int, int]], *given):
        super().__init__(*given)
        self.beats, self.waiting, self.takes = beats, None, None
        self.ready.set(0)

    def drive(self) -> None:
        takes = not self.pauses()
        if takes != self.takes:
            self.takes = takes
            self.ready.set(takes)

    def sample(self, cycle: int) -> None:
        if not self.valid.get():
            assert self.waiting is None, f"{self.name}: valid fell before the beat was transferred"
            return
        payload = self.payload.get()
        assert self.waiting in (None, payload), f"{self.name}: the payload {self.waiting:#x} became {payload:#x} while it waited"
        self.waiting = None if self.takes else payload
        if self.takes:
            beat = len(self.cycles)
            assert beat < len(self.beats), f"{self.name}: a surplus beat {payload:#x}"
            value, mask = self.beats[beat]
            got, wanted = payload & mask, value & mask
            assert got == wanted, f"{self.name}: beat {beat} is {got:#x}, not {wanted:#x} (mask {mask:#x})"
            self.cycles.append(cycle)


class Run:
    """Plays the stimulus of a bench (`Bench.spec`): the whole one, or the part for stalls.

    Parameters:
        spec: the bench
        pins: payload, valid and ready of a port, by its name
        name: of the test, which chooses the random numbers
        rates: percent of the cycles in which inputs and outputs pause
        whole: all beats, not only those for stalls
    """

    def __init__(self, spec: dict, pins: Callable[[str], tuple[Pin, Pin, Pin]], name: str, rates: tuple[int, int], *,
                 whole: bool = False):
        self.spec, self.pins, self.rates, self.whole = spec, pins, rates, whole
        self.rng = random.Random(f"{spec['seed']} {name} {rates[0]} {rates[1]}")
        self.connect()

    def connect(self) -> None:
        """Streams from their first beat on."""
        def given(name: str, port: dict, rate: int) -> tuple:
            cycles = port["cycles"] and port["cycles"][:self.count(name)]
            return f"{self.spec['name']} {name}", self.pins(name), cycles, rate, self.rng

        def integers(name: str, texts: list[str]) -> list[int]:
            return [int(text, 16) for text in texts[:self.count(name)]]

        inputs, outputs = (self.spec[key].items() for key in ("inputs", "outputs"))
        self.sources = [Source(integers(name, port["beats"]), *given(name, port, self.rates[0])) for name, port in inputs]
        sinks = [Sink(list(zip(*(integers(name, port[key]) for key in ("beats", "masks")), strict=True)),
                      *given(name, port, self.rates[1])) for name, port in outputs]
        self.streams = [*self.sources, *sinks]

    def count(self, name: str) -> int | None:
        """Beats of a port that are played."""
        return None if self.whole else self.spec["stalled"][name]

    async def play(self, settle: Callable[[], Awaitable], rise: Callable[[], Awaitable], cycles: int | None = None) -> None:
        """So many cycles, or until every beat has been taken and given, and then for surplus beats. `settle` ends as the outputs
        are steady, `rise` after the clock's next edge."""
        wanted = sum(len(stream.beats) for stream in self.streams)
        cycle = idle = moved = 0
        while (moved < wanted or idle < self.spec["settle"]) if cycles is None else cycle < cycles:
            for stream in self.streams:
                stream.drive()
            await settle()
            for stream in self.streams:
                stream.sample(cycle)
            before, moved = moved, sum(len(stream.cycles) for stream in self.streams)
            idle = idle + 1 if moved == before else 0
            if moved < wanted and idle == self.spec["idle_cycles"]:
                counts = (f"{len(stream.cycles)} of {len(stream.beats)} beats of {stream.name}" for stream in self.streams)
                raise AssertionError(f"nothing moved for {idle} cycles; {', '.join(counts)}")
            await rise()
            cycle += 1

    def check_cycles(self) -> None:
        for stream in self.streams:
            stream.check_cycles()
