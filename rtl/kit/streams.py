"""The stream kit. A stream is `amaranth.lib.stream`: a transfer happens in a cycle where `valid` and `ready` are both high;
once high, `valid` stays and the payload holds until the transfer.

One payload is a beat: `lanes` integers of one token, `first` on every beat of a sequence's first token, `last` on every beat
of its last. A token of `width` channels takes ceil(width / lanes) beats; lanes beyond the width carry anything.

Timing. Every block has `schedule(*arrivals)`: given the cycle at which each input beat is first valid, it returns the cycle at
which each input beat is transferred and the cycle at which each output beat is first valid, for an output that is always
ready. The functions are exact, so FIFO depths, latency and throughput follow from them without simulation.
"""

from collections import deque
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from amaranth.lib import data, stream

from emamba.base.formats import IntFormat

from . import light
from .block import Cycles, Port, Spec, beats, shape_of, transfers
from .hdl import Cat, Component, In, Memory, Module, Mux, Out, Shape, Signal, Value, counted, unsigned
from .parity import decode, encode

DEEP_FIFO = 1024
"""Beats from which a FIFO is in block RAM."""


class Fifo(Component):
    """First in, first out. With `through`, a beat that finds it empty can be read in the cycle in which it comes, so that the
    FIFO costs no latency; else in the next. `ready` never depends on the reader's.

    `peak`: the most beats held, the high-water mark. Where it is `tracked`, that is since a cycle in which `clear` was high, and
    it stands still while `hold` is high. With `parity`, `fault` is high as a beat leaves that is not as it came.

    A `deep` one, by default one of DEEP_FIFO beats or more, holds the next beat in a register after the memory, so that the
    memory can be block RAM. It acts alike in every cycle.
    """

    def __init__(self, layout: data.Layout, depth: int, *, through: bool = True, tracked: bool = False, parity: bool = False,
                 deep: bool | None = None):
        self.depth, self.through, self.tracked, self.parity = depth, through, tracked, parity
        self.deep = depth >= DEEP_FIFO if deep is None else deep
        side = stream.Signature(layout)
        super().__init__({"i": In(side), "o": Out(side), "peak": Out(range(depth + 1))} | ({"fault": Out(1)} if parity else {})
                         | ({"clear": In(1), "hold": In(1)} if tracked else {}))

    def elaborate(self, platform):
        m = Module()
        layout = self.i.payload.shape()
        bits = Shape.cast(layout).width
        m.submodules.storage = storage = Memory(shape=unsigned(bits + self.parity), depth=self.depth, init=[])
        write, read = storage.write_port(), storage.read_port(domain="comb")
        level = Signal(range(self.depth + 1))
        empty, full = Signal(init=1), Signal()  # registers, so that no path through `ready` and `valid` waits for a comparison
        push, pop = Signal(), Signal()
        passes = self.i.valid & self.o.ready & empty if self.through else 0
        stored, next_read = read.data, pop
        if self.deep:
            alone, later = push & (empty | pop & (level == 1)), pop & (level != 1)
            stored, next_read = self._front(m, write.data, read.data, alone, later), alone | later
        word = decode(stored, self.parity)

        def advance(pointer):
            return pointer.eq(Mux(pointer == self.depth - 1, 0, pointer + 1))

        m.d.comb += [
            push.eq(self.i.valid & self.i.ready & ~passes),
            pop.eq(self.o.ready & ~empty),
            self.i.ready.eq(~full),
            self.o.valid.eq(~empty | self.i.valid if self.through else ~empty),
            write.data.eq(encode(self.i.payload, self.parity)),
            write.en.eq(push),
            self.o.payload.eq(Mux(empty, self.i.payload.as_value(), word) if self.through else word),
        ]
        if counted():  # what leaves has an age of its own
            for port in (self.o.valid, self.o.payload):
                light.later(port, port, 0)
        if self.parity:
            m.d.comb += self.fault.eq(pop & stored.xor())
        with m.If(push ^ pop):
            m.d.sync += [
                level.eq(level + Mux(push, 1, -1)),
                empty.eq(~push & (level == 1)),
                full.eq(push & (level == self.depth - 1)),
            ]
        if self.depth > 1:
            with m.If(push):
                m.d.sync += advance(write.addr)
            with m.If(next_read):
                m.d.sync += advance(read.addr)
        rises = level > self.peak
        with m.If(rises & ~self.hold if self.tracked else rises):
            m.d.sync += self.peak.eq(level)
        if self.tracked:
            with m.If(self.clear):
                m.d.sync += self.peak.eq(0)
        return m

    def _front(self, m: Module, given: Value, read: Value, alone: Value, later: Value) -> Value:
        """The beat that leaves next: the one `given`, where it comes `alone`, else one `read` from the memory as the one before
        it leaves and `later` ones are there."""
        direct, fetched = (Signal(len(given), name=name, reset_less=True) for name in ("direct", "fetched"))
        from_memory = Signal(name="from_memory")
        with m.If(alone):
            m.d.sync += [direct.eq(given), from_memory.eq(0)]
        with m.If(later):
            m.d.sync += [fetched.eq(read), from_memory.eq(1)]
        return Mux(from_memory, fetched, direct)

    @staticmethod
    def needs(pushes: Cycles, pops: Cycles) -> tuple[int, int]:
        """Of a FIFO with `through`: least depth at which a push never waits, and the most beats ever held. The depth counts a
        beat that leaves in the cycle of a push, since `ready` does not look at it."""
        pushed = np.arange(1, len(pushes) + 1)
        before, gone = (np.searchsorted(pops, pushes, side) for side in ("left", "right"))
        return max(1, int((pushed - before).max())), max(0, int((pushed - gone).max()))


class Fork(Component):
    """Copies each beat to every output; an output that is ready takes it without waiting for the others."""

    def __init__(self, layout: data.Layout, outputs: int):
        self.outputs = outputs
        side = stream.Signature(layout)
        super().__init__({"i": In(side), "o": Out(side).array(outputs)})

    def elaborate(self, platform):
        m = Module()
        taken = Signal(self.outputs)
        served = Cat(o.ready | taken[k] for k, o in enumerate(self.o))
        m.d.comb += self.i.ready.eq(served.all())
        for k, o in enumerate(self.o):
            m.d.comb += [o.payload.eq(self.i.payload), o.valid.eq(self.i.valid & ~taken[k])]
        with m.If(self.i.valid):
            m.d.sync += taken.eq(Mux(self.i.ready, 0, served))
        return m


@dataclass(frozen=True)
class Gearbox(Spec):
    """Changes the number of lanes: tokens of `width` channels in beats of `in_lanes` become beats of `out_lanes`."""

    format: IntFormat
    width: int
    in_lanes: int
    out_lanes: int
    stores = None

    @property
    def inputs(self) -> dict[str, Port]:
        return {"i": Port(self.format, self.width, self.in_lanes)}

    @property
    def output(self) -> Port:
        return Port(self.format, self.width, self.out_lanes)

    @cached_property
    def in_beats(self) -> int:
        return beats(self.width, self.in_lanes)

    @cached_property
    def tail(self) -> int:
        """Lanes of a token's last beat, with the padding that aligns the next token to an output beat."""
        return beats(self.width, self.out_lanes) * self.out_lanes - (self.in_beats - 1) * self.in_lanes

    @cached_property
    def step(self) -> int:
        return max(self.in_lanes, self.tail)

    @cached_property
    def room(self) -> int:
        """Highest level at which a beat may enter."""
        return 2 * self.out_lanes if self.in_lanes > self.out_lanes else self.out_lanes - 1 + self.step

    @cached_property
    def capacity(self) -> int:
        return self.room + self.step

    def circuit(self, m, block, platform):
        element = data.StructLayout({"value": shape_of(self.format), "first": 1, "last": 1})
        slots = [Signal(element, name=f"slot_{k}", reset_less=True) for k in range(self.capacity)]
        level = Signal(range(self.capacity + 1))
        beat = Signal(range(self.in_beats))
        final = beat == self.in_beats - 1
        count = Mux(final, self.tail, self.in_lanes)
        push, pop = block.i.valid & block.i.ready, block.o.valid & block.o.ready
        m.d.comb += [
            block.i.ready.eq(level <= self.room),
            block.o.valid.eq(level >= self.out_lanes),
            block.o.payload.first.eq(slots[0].first),
            block.o.payload.last.eq(slots[0].last),
            *(block.o.payload.data[k].eq(slots[k].value) for k in range(self.out_lanes)),
        ]
        m.d.sync += level.eq(level + Mux(push, count, 0) - Mux(pop, self.out_lanes, 0))
        with m.If(push):
            m.d.sync += beat.eq(Mux(final, 0, beat + 1))

        incoming = []
        for k in range(max(self.in_lanes, self.tail)):
            item = Signal(element, name=f"incoming_{k}")
            m.d.comb += [
                item.value.eq(block.i.payload.data[min(k, self.in_lanes - 1)]),
                item.first.eq(block.i.payload.first),
                item.last.eq(block.i.payload.last),
            ]
            incoming.append(item)
        base = Signal(range(self.capacity + 1))
        m.d.comb += base.eq(level - Mux(pop, self.out_lanes, 0))
        reachable = self._levels()
        for k, slot in enumerate(slots):
            shifted = slots[k + self.out_lanes] if k + self.out_lanes < self.capacity else slot
            with m.If(pop):
                m.d.sync += slot.eq(shifted)
            with m.If(push), m.Switch(base):
                for level_before in reachable:
                    if 0 <= k - level_before < len(incoming):
                        with m.Case(level_before):
                            m.d.sync += slot.eq(incoming[k - level_before])

    def _levels(self) -> list[int]:
        """Every fill level after the pop, if any, of a cycle with a push."""
        found: set[int] = set()
        seen, todo = set(), deque([(0, 0)])
        while todo:
            state = level, beat = todo.popleft()
            if state in seen:
                continue
            seen.add(state)
            count = self.tail if beat == self.in_beats - 1 else self.in_lanes
            after = {level, level - self.out_lanes} if level >= self.out_lanes else {level}
            todo += [(base, beat) for base in after]
            if level <= self.room:
                found |= after
                todo += [(base + count, (beat + 1) % self.in_beats) for base in after]
        return sorted(found)

    def schedule(self, arrivals: Cycles) -> tuple[Cycles, Cycles]:
        tokens, known = np.reshape(arrivals, (-1, self.in_beats)), {}
        pushes, departures, k = [], [], 0
        while k < len(tokens):
            start, count = tokens[k, 0], 1
            while True:  # tokens that no later one meets in here
                came = tokens[k:k + count].reshape(-1) - start
                if came.tobytes() not in known:
                    known[came.tobytes()] = self._follow(came.tolist())
                taken, left = known[came.tobytes()]
                if k + count >= len(tokens) or tokens[k + count, 0] - start > left[-1]:
                    break
                count *= 2
            pushes.append(taken + start)
            departures.append(left + start)
            k += count
        return np.concatenate(pushes), np.concatenate(departures)

    def _follow(self, arrivals: list[int]) -> tuple[Cycles, Cycles]:
        """Cycles of beats that come and go, from an empty gearbox to an empty one."""
        pushes, departures = [], []
        cycle = level = 0
        taken = 0
        while taken < len(arrivals) or level >= self.out_lanes:
            if level < self.out_lanes and taken < len(arrivals):
                cycle = max(cycle, arrivals[taken])
            push = taken < len(arrivals) and arrivals[taken] <= cycle and level <= self.room
            pop = level >= self.out_lanes
            if push:
                pushes.append(cycle)
                taken += 1
                level += self.tail if taken % self.in_beats == 0 else self.in_lanes
            if pop:
                departures.append(cycle)
                level -= self.out_lanes
            cycle += 1
        return np.array(pushes), np.array(departures)


@dataclass(frozen=True)
class Pacer(Spec):
    """Admits one token every `period` cycles, so that no stage behind it is ever blocked by a slower one."""

    port: Port
    period: int
    stores = None

    @property
    def inputs(self) -> dict[str, Port]:
        return {"i": self.port}

    @property
    def output(self) -> Port:
        return self.port

    @cached_property
    def token_beats(self) -> int:
        return self.output.beats

    def circuit(self, m, block, platform):
        beat = Signal(range(self.token_beats))
        wait = Signal(range(self.period))
        admit = (beat != 0) | (wait == 0)
        m.d.comb += [
            block.o.payload.eq(block.i.payload),
            block.o.valid.eq(block.i.valid & admit),
            block.i.ready.eq(block.o.ready & admit),
        ]
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.If(block.o.valid & block.o.ready):
            m.d.sync += beat.eq(Mux(beat == self.token_beats - 1, 0, beat + 1))
            with m.If(beat == 0):
                m.d.sync += wait.eq(self.period - 1)

    def schedule(self, arrivals: Cycles) -> tuple[Cycles, Cycles]:
        taken, free = [], 0
        for came in np.reshape(arrivals, (-1, self.token_beats)):
            taken.append(transfers(came, 1, free))
            free = max(taken[-1][0] + self.period, taken[-1][-1] + 1)
        return (found := np.concatenate(taken)), found
