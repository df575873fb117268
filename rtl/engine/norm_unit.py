"""The scalars of a norm: of a token's statistics its sum, the entry of the table, and how far n is to be shifted."""

from amaranth.hdl import Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from emamba.ops import Attention, LayerNorm, RangeNorm

from ..blocks.norm import normalized
from ..kit.datapath import Pipeline, balanced_sum, reduce_tree, times
from .encode import Encoded


class NormUnit(wiring.Component):
    """Follows `token` at once: `total` two cycles after it, `entry`, with a minus and `scaled` by the
    number of channels, and `zeros` `operators.norms.entry_latency`; for an attention `squares` and `greatest` as `total`.

    The statistics are gathered of values as they are written: `ranged` with the results of a beat, `squared` with its sums before
    the requantization; `begins` at a token's first beat, `ends` with its last. `valid` says which values of a beat count.
    """

    def __init__(self, encoded: Encoded):
        e = self.encoded = encoded
        posts = e.machine.posts
        self.range = data.StructLayout({"total": signed(e.total_bits), "high": signed(e.value_bits), "low": signed(e.value_bits)})
        self.kept = data.StructLayout({"total": signed(e.total_bits), "spread": e.value_bits}
                                      | ({"high": signed(e.value_bits)} if e.attends else {}))
        self.square_bits = e.square_bits
        zeros = max((key.op.largest_shift for key in e.norms), default=1)
        super().__init__({
            "token": In(range(max(2, e.program.most_tokens))), "norm": In(range(max(2, len(e.norms)))),
            "total": Out(signed(e.total_bits)), "entry": Out(unsigned(max((k.op.entry_bits for k in e.norms), default=1))),
            "minus": Out(signed(max((k.op.entry_bits for k in e.norms), default=1) + 1)), "scaled": Out(signed(e.scaled_bits)),
            "zeros": Out(range(zeros + 1)),
            "ranged": In(1), "range_begins": In(1), "range_ends": In(1), "range_valid": In(posts),
            "results": In(signed(e.final_bits)).array(posts), "range_token": In(range(max(2, e.program.most_tokens))),
            "squared": In(1), "square_begins": In(1), "square_ends": In(1), "square_valid": In(posts),
            "sums": In(signed(e.drained_bits)).array(posts), "square_token": In(range(max(2, e.program.most_tokens))),
        } | ({"squares": Out(signed(e.square_bits)), "greatest": Out(signed(e.value_bits))} if e.attends else {}))

    def elaborate(self, platform):
        m = Module()
        statistics, squares = self._range(m), self._squares(m)
        m.d.comb += self.total.eq(statistics.total)
        if self.encoded.attends:
            m.d.comb += [self.squares.eq(squares), self.greatest.eq(statistics.high)]
        found = []
        for k, key in enumerate(self.encoded.norms):
            op, inner = key.op, Module()
            m.submodules[f"norm_{k}"], pipeline = inner, Pipeline(inner)
            spread = pipeline.register(self._spread(pipeline, op, statistics, squares), "spread", shape=unsigned(op.spread_bits))
            found.append(normalized(inner, pipeline, op, spread, isinstance(op, LayerNorm)))
        with m.Switch(self.norm):
            for k, (entry, shift) in enumerate(found):
                with m.Case(k) if k < len(found) - 1 else m.Default():
                    m.d.comb += [self.entry.eq(entry), self.zeros.eq(shift),
                                 self.scaled.eq(times(entry, self.encoded.norms[k].op.channels))]
        m.d.comb += self.minus.eq(-self.entry)
        return m

    @staticmethod
    def _spread(pipeline: Pipeline, op, statistics, squares):
        if isinstance(op, Attention):
            return statistics.total[:op.spread_bits]
        if isinstance(op, RangeNorm):
            return statistics.spread[:op.spread_bits]
        if not op.centered:
            return squares + op.epsilon
        total = pipeline.register(statistics.total * statistics.total, "total_squared")
        return pipeline.register(times(squares + op.epsilon, op.channels), "squares_scaled") - total

    def _memory(self, m: Module, name: str, layout, ends, token, value):
        depth = max(2, self.encoded.program.most_tokens)
        attrs = {"ram_style": "block"} if self.encoded.machine.small else {}
        m.submodules[name] = memory = Memory(shape=layout, depth=depth, init=[], attrs=attrs)
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [write.en.eq(ends), write.addr.eq(token), write.data.eq(value), read.addr.eq(self.token)]
        return read.data

    def _range(self, m: Module):
        """Sum of a token, and the spread from its lowest value to its highest."""
        kept, now = Signal(self.range, name="range_kept"), Signal(self.range, name="range_now")
        bits, chip = self.encoded.value_bits, self.encoded.machine.chip
        ranged, start, ends, valid, token = (Signal.like(value, name=f"{name}_later") for name, value in (
            ("ranged", self.ranged), ("begins", self.range_begins), ("ends", self.range_ends), ("valid", self.range_valid),
            ("token", self.range_token)))  # registered with the results, which come from a memory
        m.d.sync += [ranged.eq(self.ranged), start.eq(self.range_begins), ends.eq(self.range_ends), valid.eq(self.range_valid),
                     token.eq(self.range_token)]
        beat = []
        for k, value in enumerate(self.results):
            x = Signal(signed(bits), name=f"x_{k}")
            m.d.sync += x.eq(value)
            beat.append((x, x, Mux(valid[k], x, 0), valid[k] if k else Const(1)))
        if chip:
            halves = filter(None, (beat[:-(-len(beat) // 2)], beat[-(-len(beat) // 2):]))
            beat = [(*self._later(m, f"half_{k}", self._whole(half)), Const(1)) for k, half in enumerate(halves)]
            ranged, start, ends, token = self._later(m, "last", (ranged, start, ends, token))
        total, high, low = Mux(start, 0, kept.total), kept.high, kept.low
        for k, (most, least, addend, counts) in enumerate(beat):
            total = total + addend
            highest, lowest = (Signal(signed(bits), name=f"{what}_{k}") for what in ("high", "low"))
            above, below = (start | (most > high), start | (least < low)) if k == 0 else (counts & (most > high),
                                                                                          counts & (least < low))
            m.d.comb += [highest.eq(Mux(above, most, high)), lowest.eq(Mux(below, least, low))]
            high, low = highest, lowest
        m.d.comb += [now.total.eq(total), now.high.eq(high), now.low.eq(low)]
        with m.If(ranged):
            m.d.sync += kept.eq(now)
        if chip:
            now, (ranged, ends, token) = kept, self._later(m, "kept", (ranged, ends, token))
        found = Signal(self.kept, name="range_found")
        m.d.comb += [found.total.eq(now.total), found.spread.eq(now.high - now.low)]
        if self.encoded.attends:
            m.d.comb += found.high.eq(now.high)
        return self._memory(m, "ranges", self.kept, ranged & ends, token, found)

    @staticmethod
    def _later(m: Module, name: str, values) -> list[Signal]:
        """The values a cycle later."""
        found = [Signal.like(value, name=f"{name}_{k}") for k, value in enumerate(values)]
        m.d.sync += [held.eq(value) for held, value in zip(found, values, strict=True)]
        return found

    def _whole(self, beat: list[tuple]) -> list:
        """Greatest, least and sum of a part of a beat, by trees."""
        bits = self.encoded.value_bits
        most, least = ([Mux(counts, x, Const(limit, signed(bits))) for x, _, _, counts in beat]
                       for limit in (-1 << bits - 1, (1 << bits - 1) - 1))
        return [reduce_tree(most, lambda a, b: Mux(a > b, a, b)), reduce_tree(least, lambda a, b: Mux(a < b, a, b)),
                balanced_sum([addend for _, _, addend, _ in beat])]

    def _squares(self, m: Module):
        """Sum of squares."""
        kept, now = Signal(self.square_bits, name="squares_kept"), Signal(self.square_bits, name="squares_now")
        total = Mux(self.square_begins, 0, kept)
        for k, value in enumerate(self.sums):
            total = total + Mux(self.square_valid[k], value[:self.square_bits], 0)
        m.d.comb += now.eq(total)
        with m.If(self.squared):
            m.d.sync += kept.eq(now)
        return self._memory(m, "squares", unsigned(self.square_bits), self.squared & self.square_ends, self.square_token, now)
