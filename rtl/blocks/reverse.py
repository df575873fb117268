"""A sequence's tokens, the last one first."""

from dataclasses import dataclass, replace

import numpy as np

from emamba.ops import Reverse as Operator

from ..kit.block import Spec, transfers
from ..kit.datapath import Pipeline
from ..kit.hdl import Cat, Memory, Module, Mux, Signal, Value, unsigned
from ..kit.parity import decode, encode
from ..kit.registry import Stage, realizes


@realizes(Operator)
@dataclass(frozen=True)
class Reverse(Spec):
    """`lanes` channels a cycle, through a memory of one sequence of `tokens` tokens. Each sequence is written into the slots that
    the one before frees as it is read, so the order of the slots alternates, and a token can enter in every period. `frame` are
    the cycles of a sequence; tokens leave evenly over them at the fastest."""

    stores = "reversed sequence"

    latency = 1

    op: Operator
    lanes: int
    tokens: int
    frame: int

    @classmethod
    def fold(cls, op: Operator, stage: Stage) -> "Reverse":
        return cls(op, stage.quick_lanes(op.width), stage.reads, stage.cycles * stage.tokens)

    def paced(self, cycles):
        return replace(self, frame=cycles)

    @property
    def pace(self) -> int:
        """Cycles from one token to the next, at least."""
        return max(1, self.frame // self.tokens)

    @property
    def words(self) -> int:
        return self.tokens * self.output.beats

    def schedule(self, arrivals):
        count, tokens = self.output.beats, self.tokens
        taken, steps, freed = [], [], 0
        free, step, start = 0, 0, -self.pace
        for came in np.reshape(arrivals, (-1, self.words)):
            taken.append(transfers(np.maximum(came, freed), 1, free))
            free = taken[-1][-1] + 1
            ready = taken[-1][-count:] + 1
            ready[0] = max(ready[0], start + self.pace)
            first = transfers(ready, 1, step)
            second = max(first[-1] + 1, first[0] + self.pace)
            starts = second + max(count, self.pace) * np.arange(tokens - 1)
            freed = np.append(first, starts[:, None] + np.arange(count))
            step, start = freed[-1] + 1, freed[-count]
            steps.append(freed)
        return np.concatenate(taken), np.concatenate(steps) + self.latency

    def circuit(self, m, block, platform):
        tokens, words, parity = self.tokens, self.words, block.fault is not None
        pipeline = Pipeline(m, block.o)
        pushed, moved = Signal(), Signal()
        to, _, _ = self._walk(m, pushed, "write", 0)
        at, token, beat = self._walk(m, moved, "read", tokens - 1)
        level, wait = Signal(range(words + 1)), Signal(range(self.pace))
        there = (token != 0) | (level > words - self.output.beats)
        step = there & ((beat != 0) | (wait == 0))
        pipeline.rest(platform, step, self.latency)
        m.d.comb += [
            moved.eq(step & pipeline.advance),
            block.i.ready.eq((level != words) | moved),
            pushed.eq(block.i.valid & block.i.ready),
        ]
        with m.If(pushed ^ moved):
            m.d.sync += level.eq(level + Mux(pushed, 1, -1))
        with m.If(moved & (beat == 0)):
            m.d.sync += wait.eq(self.pace - 1)
        with m.Elif(wait != 0):
            m.d.sync += wait.eq(wait - 1)

        data = Cat(*block.i.payload.data)
        m.submodules.sequence = memory = Memory(shape=unsigned(len(data) + parity), depth=words, init=[])
        read, write = memory.read_port(domain="comb"), memory.write_port()
        m.d.comb += [write.addr.eq(to), write.en.eq(pushed), write.data.eq(encode(data, parity)), read.addr.eq(at)]
        if parity:
            m.d.comb += block.fault.eq(moved & read.data.xor())
        held = pipeline.register(decode(read.data, parity), "held")
        bits = len(data) // self.lanes
        lanes = [held[k * bits:(k + 1) * bits] for k in range(self.lanes)]
        pipeline.finish(lanes, token == 0, token == tokens - 1, step, self.latency)

    def _walk(self, m: Module, step: Value, name: str, slot: int) -> tuple[Signal, Signal, Signal]:
        """A word's address, its token and its beat, from token to token to the next slot, from slot 0 or the last one on; the
        next sequence begins at the slot at which this one ends, and goes the other way."""
        count = self.output.beats
        address = Signal(range(self.words), init=slot * count, name=f"{name}_address")
        token, beat = Signal(range(self.tokens), name=f"{name}_token"), Signal(range(count), name=f"{name}_beat")
        down = Signal(init=slot > 0, name=f"{name}_down")
        end, last = beat == count - 1, token == self.tokens - 1
        with m.If(step):
            m.d.sync += [beat.eq(beat + 1), address.eq(address + 1)]
            with m.If(end):
                m.d.sync += [beat.eq(0), token.eq(Mux(last, 0, token + 1)),
                             address.eq(Mux(last, address - (count - 1), Mux(down, address - (2 * count - 1), address + 1)))]
                with m.If(last):
                    m.d.sync += down.eq(~down)
        return address, token, beat
