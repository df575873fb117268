"""What the norms share: the store of a token, and the product with a reciprocal from a table."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from amaranth.lib import data

from emamba import ops
from emamba.base.formats import IntFormat

from ..kit.block import Beat, Spec, transfers
from ..kit.datapath import NARROW_BITS, Pipeline, balanced_sum, wide_product, width_of
from ..kit.hdl import Cat, Module, Mux, Signal, Value, unsigned
from ..kit.registry import Stage
from ..kit.rom import rom, rom_latency
from ..kit.streams import Fifo


def normalized(m: Module, pipeline: Pipeline, op: ops.Operator, spread: Value, halved: bool, registers: bool = False
               ) -> tuple[Value, Value]:
    """The entry of `op`'s table for a spread, 1 step and the table's later, and how far it is to be shifted left: by the zeros
    above the spread's leading one, or where it is `halved` by half of them. `registers` put a step before the table."""
    bits, (table, _) = op.spread_bits, op.reciprocals
    zeros = Signal(range(bits))
    with m.Switch(spread):
        for k in range(bits):
            with m.Case("0" * k + "1" + "-" * (bits - 1 - k)):
                m.d.comb += zeros.eq(k)
    zeros_held, held = pipeline.register(zeros, "zeros"), pipeline.register(spread, "spread_held")
    normalized = Signal(unsigned(bits))
    m.d.comb += normalized.eq(held << zeros_held)
    normalized, zeros_held = (pipeline.register(value, name, int(registers)) for value, name in (
        (normalized, "normalized_held"), (zeros_held, "zeros_later")))
    below = len(table).bit_length() - 1 - halved
    address = Cat(normalized[bits - 1 - below:bits - 1], zeros_held[:int(halved)])
    lookup = rom_latency(len(table))
    entry, = rom(pipeline, "reciprocal", table.reshape(-1, 1), IntFormat(op.entry_bits, False), address, lookup)
    return entry, pipeline.register(zeros_held[int(halved):], "shift", lookup)


def reciprocal(m: Module, pipeline: Pipeline, op: ops.Operator, spread: Value, halved: bool = False,
               registers: bool = False) -> Value:
    """The entry, shifted; 2 steps, that of `registers` and the table's later."""
    entry, shift = normalized(m, pipeline, op, spread, halved, registers)
    return pipeline.register(entry << shift, "factor", shape=unsigned(op.entry_bits + op.largest_shift))


@dataclass(frozen=True)
class Norm(Spec):
    """`lanes` channels a cycle, one multiplier each, or two `narrow` ones. A token is stored while its statistics form, `delay`
    steps behind it; then it is read back as n and multiplied by a table's reciprocal of the token's spread, which alone is
    shifted left for the zeros above the spread's leading one: by as many, or where it is `halved` by half of them.

    With `registers` long logic has one behind each of its levels.

    Groups of channels pass like tokens, one after another; `lanes` divide a group, where there are several.
    A subclass gives the layout of the `statistics` and `spread_steps` from these to the spread; `collect`, `spread` and
    `deviation`.
    """

    stores = "norm buffer"
    halved = False
    spread_steps = 1

    op: ops.Norm
    lanes: int
    narrow: bool = False
    registers: bool = False

    @property
    def statistics(self) -> data.StructLayout:
        raise NotImplementedError

    @property
    def delay(self) -> int:
        raise NotImplementedError

    @property
    def multipliers(self) -> int:
        return self.lanes

    @property
    def multiplies(self) -> int:
        return self.op.width

    @property
    def group_beats(self) -> int:
        return self.output.beats // self.op.groups

    @property
    def split(self) -> bool:
        return self.narrow and self.op.entry_bits + self.op.largest_shift > NARROW_BITS

    @property
    def lookup(self) -> int:
        """Steps to the table's entry."""
        return rom_latency(len(self.op.reciprocals[0]))

    @classmethod
    def fold(cls, op: ops.Norm, stage: Stage) -> "Norm":
        lanes = stage.quick_lanes(op.width)
        if op.groups > 1:
            lanes = next((n for n in range(lanes, op.channels) if op.channels % n == 0), op.channels)
        return cls(op, lanes, stage.realization.narrow, stage.realization.registers)

    @property
    def depth(self) -> int:
        """Beats stored: a group, what follows it until its statistics are there, and two."""
        return self.group_beats + self.delay + 2

    @property
    def tokens(self) -> int:
        """Groups that may end in the store, so that their statistics always find room."""
        return 1 + (self.depth - 1) // self.group_beats

    @property
    def factor_step(self) -> int:
        """From the statistics, n and the spread, zeros, (the normalized spread,) table, factor."""
        return self.spread_steps + 2 + self.registers + self.lookup

    @cached_property
    def latency(self) -> int:
        """And product, (sum of its parts,) requantizer, (its rounding)."""
        return self.factor_step + 2 + self.split + self.registers

    def schedule(self, arrivals):
        count = self.group_beats
        taken = transfers(arrivals)
        ends = transfers(taken[count - 1::count] + 1 + self.delay, count)
        return taken, (ends[:, None] + np.arange(self.latency + 1 - count, self.latency + 1)).reshape(-1)

    def collect(self, m: Module, free: Pipeline, padded, start: Value, kept) -> dict[str, Value]:
        """The statistics with a beat, by name, and at its `start` without those `kept`; `padded` gives the beat's channels, with
        the lanes beyond the last one at a given value. `start` and `kept` come `delay` steps late, by the pipeline `free`."""
        raise NotImplementedError

    def spread(self, pipeline: Pipeline, statistics) -> Value:
        """`spread_steps` later."""
        raise NotImplementedError

    def deviation(self, x: Value, statistics) -> Value:
        """n of a channel."""
        raise NotImplementedError

    def circuit(self, m, block, platform):
        op, lanes, count, parity = self.op, self.lanes, self.group_beats, block.fault is not None
        m.submodules.tokens = tokens = Fifo(Beat(op.i, lanes), self.depth, through=False, parity=parity)
        m.submodules.statistics = stats = Fifo(self.statistics, self.tokens, through=False, parity=parity)
        if parity:
            m.d.comb += block.fault.eq(tokens.fault | stats.fault)
        self._store(m, block, platform, tokens, stats)

        pipeline = Pipeline(m, block.o, clips=block.clips)
        step = stats.o.valid & tokens.o.valid
        pipeline.rest(platform, step, self.latency)
        move = step & pipeline.advance
        beat = Signal(range(count), name="out_beat")
        end = beat == count - 1
        m.d.comb += [tokens.o.ready.eq(move), stats.o.ready.eq(move & end)]
        with m.If(move):
            m.d.sync += beat.eq(Mux(end, 0, beat + 1))

        factor = reciprocal(m, pipeline, op, self.spread(pipeline, stats.o.payload), self.halved, self.registers)
        n_shape, product_shape = width_of(op.n_bound), width_of(op.shifted_bound << op.entry_bits)

        def result(own, x):
            n = own.register(self.deviation(x, stats.o.payload), "n", self.factor_step, n_shape)
            parts = wide_product(own, n, factor, self.split, "product")
            product = own.register(balanced_sum(parts), "product_sum", int(self.split), product_shape)
            return own.result(product, op.shift, op.o, op.rounding, halved=self.registers)

        results = pipeline.each(result, tokens.o.payload.data)
        pipeline.finish(results, tokens.o.payload.first, tokens.o.payload.last, step, self.latency)

    def _store(self, m: Module, block, platform, tokens: Fifo, stats: Fifo) -> None:
        lanes, count = self.lanes, self.group_beats
        beat = Signal(range(count))
        start, end, taken = beat == 0, beat == count - 1, block.i.valid & block.i.ready
        padding = count * lanes - self.op.channels
        values = list(block.i.payload.data)

        def padded(neutral: int) -> list[Value]:
            real = values[:lanes - padding]
            return real if count == 1 else real + [Mux(end, neutral, value) for value in values[lanes - padding:]]

        free = Pipeline(m)
        free.rest(platform, taken, self.delay)
        kept, now = Signal(self.statistics, name="kept"), Signal(self.statistics, name="now")
        live = free.flag(taken, "live", self.delay)
        m.d.comb += [
            block.i.ready.eq(tokens.i.ready),
            tokens.i.valid.eq(block.i.valid),
            tokens.i.payload.eq(block.i.payload),
            stats.i.valid.eq(live & free.register(end, "late_end", self.delay)),
            stats.i.payload.eq(now),
        ]
        found = self.collect(m, free, padded, free.register(start, "late_start", self.delay), kept)
        m.d.comb += [now[name].eq(value) for name, value in found.items()]
        with m.If(live):
            m.d.sync += kept.eq(now)
        with m.If(taken):
            m.d.sync += beat.eq(Mux(end, 0, beat + 1))
