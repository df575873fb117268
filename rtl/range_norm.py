# amaranth: UnusedElaboratable=no
"""RangeNorm without a divider."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data

from emamba.formats import IntFormat
from emamba.operators import RangeNorm as Operator

from . import inventory as inv
from .datapath import (
    NARROW_BITS,
    Pipeline,
    balanced_sum,
    reduce_tree,
    requantize,
    rom,
    rom_inventory,
    rom_latency,
    signed_digits,
    times,
    wide_inventory,
    wide_product,
    width_of,
)
from .streams import Beat, Block, Fifo, Port, shape_of, transfers


class RangeNorm(Block):
    """`lanes` channels a cycle, one multiplier each, or two `narrow` ones. A token is stored while its sum, maximum and minimum
    form; then it is read back as n = D·x − Σx and multiplied by a table's 1/(D·R), which alone is shifted left by the zeros above
    the leading one of R = max − min. Formats and rounding: `emamba.operators.RangeNorm`.
    """

    def __init__(self, op: Operator, lanes: int, *, narrow: bool = False):
        self.op = op
        self.split = narrow and op.entry_bits + op.i.bits - 1 > NARROW_BITS
        super().__init__({"i": Port(op.i, op.channels, lanes)}, Port(op.o, op.channels, lanes))
        self.lookup = rom_latency(len(op.reciprocals[0]))  # steps to the table's entry
        self.multipliers, self.multiplies = lanes, op.channels

    @property
    def latency(self) -> int:
        """n and the range, zeros, table, factor, product, (sum of its parts,) requantizer."""
        return 5 + self.lookup + self.split

    def model(self, x):
        return self.op(x)

    def schedule(self, arrivals):
        count = self.output.beats
        taken = transfers(arrivals)
        steps, free = [], 0
        for t in range(0, len(taken), count):
            start = max(taken[t + count - 1] + 1, free)
            steps += range(start, start + count)
            free = start + count
        return taken, [step + self.latency for step in steps]

    @property
    def inventory(self) -> inv.Inventory:
        op, lanes, count, bits = self.op, self.output.lanes, self.output.beats, self.op.i.bits
        table, _ = op.reciprocals
        total = width_of(op.channels * op.i.magnitude).width
        tokens, statistics = Fifo(Beat(op.i, lanes), count + 2, through=False), Fifo(unsigned(total + 2 * bits), 2, through=False)
        sums, _ = inv.total([bits] * lanes + [total])
        read = inv.Inventory(adders=2 * lanes * bits, muxes=2 * lanes * bits, operand_muxes=total, registers=total + 2 * bits)
        span = inv.Inventory(adders=bits, muxes=2 * bits * inv.width(bits) + (op.entry_bits + bits) * inv.width(bits),
                             registers=2 * bits + (1 + self.lookup) * inv.width(bits) + op.entry_bits + bits - 1)
        n, _ = inv.total([inv.signed_bits(op.i) + shift for shift, _ in signed_digits(op.channels)] + [total])
        n_bits = width_of(op.channels << bits).width
        factor, product = op.entry_bits + bits, width_of(op.channels << bits + op.entry_bits).width
        products, terms = wide_inventory(n_bits, factor, self.split)
        lane = (n + inv.register(n_bits, 3 + self.lookup) + products + inv.total(terms)[0]
                + inv.Inventory(registers=product * self.split - inv.unread(op.shift, op.rounding))
                + inv.requantizer(product, op.shift, op.o, op.rounding) + inv.register(op.o.bits))
        entries = rom_inventory(table.reshape(-1, 1), IntFormat(op.entry_bits, False), self.lookup)
        return (tokens.inventory + statistics.inventory + sums + read + span + entries + lanes * lane + 2 * inv.counter(count)
                + inv.finish(self.latency))

    def elaborate(self, platform):
        m = Module()
        op, lanes, count = self.op, self.output.lanes, self.output.beats
        table, _ = op.reciprocals
        x_shape, sum_shape = shape_of(op.i), width_of(op.channels * op.i.magnitude)
        statistics = data.StructLayout({"total": sum_shape, "high": x_shape, "low": x_shape})
        m.submodules.tokens = tokens = Fifo(Beat(op.i, lanes), count + 2, through=False)
        m.submodules.statistics = stats = Fifo(statistics, 2, through=False)

        beat = Signal(range(count))
        start, end = beat == 0, beat == count - 1
        kept = Signal(statistics)
        ready = tokens.i.ready & stats.i.ready
        padding = count * lanes - op.channels
        values = list(self.i.payload.data)
        real = values[:lanes - padding] if count == 1 else values
        partial = {name: list(real) for name in ("total", "high", "low")}
        if count > 1:
            for lane in range(lanes - padding, lanes):
                partial["total"][lane] = Mux(end, 0, values[lane])
                partial["high"][lane] = Mux(end, op.i.min, values[lane])
                partial["low"][lane] = Mux(end, op.i.max, values[lane])
        now = Signal(statistics)
        beat_high, beat_low = Signal(x_shape), Signal(x_shape)
        m.d.comb += [
            self.i.ready.eq(ready),
            tokens.i.valid.eq(self.i.valid & ready),
            tokens.i.payload.eq(self.i.payload),
            stats.i.valid.eq(self.i.valid & ready & end),
            stats.i.payload.eq(now),
            beat_high.eq(reduce_tree(partial["high"], lambda a, b: Mux(a > b, a, b))),
            beat_low.eq(reduce_tree(partial["low"], lambda a, b: Mux(a < b, a, b))),
            now.total.eq(Mux(start, 0, kept.total) + balanced_sum(partial["total"])),
            now.high.eq(Mux(start | (beat_high > kept.high), beat_high, kept.high)),
            now.low.eq(Mux(start | (beat_low < kept.low), beat_low, kept.low)),
        ]
        with m.If(self.i.valid & ready):
            m.d.sync += [kept.eq(now), beat.eq(Mux(end, 0, beat + 1))]

        pipeline = Pipeline(m, self.o)
        advance = pipeline.advance
        step = stats.o.valid & tokens.o.valid
        out_beat = Signal(range(count))
        out_end = out_beat == count - 1
        m.d.comb += [tokens.o.ready.eq(step & advance), stats.o.ready.eq(step & advance & out_end)]
        with m.If(step & advance):
            m.d.sync += out_beat.eq(Mux(out_end, 0, out_beat + 1))

        bits = op.i.bits
        span = pipeline.register((stats.o.payload.high - stats.o.payload.low)[:bits], "span")
        zeros = Signal(range(bits))
        with m.Switch(span):
            for k in range(bits):
                with m.Case("0" * k + "1" + "-" * (bits - 1 - k)):
                    m.d.comb += zeros.eq(k)
        zeros_held, span_held = pipeline.register(zeros, "zeros"), pipeline.register(span, "span_held")
        normalized = Signal(unsigned(bits))
        m.d.comb += normalized.eq(span_held << zeros_held)
        index_bits = len(table).bit_length() - 1
        address = normalized[bits - 1 - index_bits:bits - 1] if index_bits else 0
        entry, = rom(pipeline, "reciprocal", table.reshape(-1, 1), IntFormat(op.entry_bits, False), address, self.lookup)

        zeros_late = pipeline.register(zeros_held, "zeros_late", self.lookup)
        factor = pipeline.register(entry << zeros_late, "factor", shape=unsigned(op.entry_bits + bits - 1))
        n_shape = width_of(op.channels << bits)  # |D·x − Σx| ≤ D·R
        product_shape = width_of(op.channels << bits + op.entry_bits)
        results = []
        for x in tokens.o.payload.data:
            n = pipeline.register(times(x, op.channels) - stats.o.payload.total, "n", 3 + self.lookup, n_shape)
            parts = wide_product(pipeline, n, factor, self.split, "product")
            product = pipeline.register(balanced_sum(parts), "product_sum", int(self.split), product_shape)
            results.append(pipeline.register(requantize(m, product, op.shift, op.o, op.rounding), "y"))
        pipeline.finish(results, tokens.o.payload.first, tokens.o.payload.last, step, self.latency)
        return m


