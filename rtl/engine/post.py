"""The post-processors: bias, requantization by any shift, table, and the way to memory and to the output."""

from collections.abc import Callable, Mapping

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from emamba.base.formats import IntFormat, Rounding

from .encode import Encoded
from .micro import Stat, bits_of
from .store import Store


def shifted(m: Module, value, shift, rounding: Signal, kinds: list[Rounding]):
    """value · 2^−shift, rounded as `kinds[rounding]` says: `emamba.base.arithmetic.round_shift` by a shift that is a signal.
    Returns the value rounded down, and whether a step is added."""
    bits = len(value)
    extended = Signal(signed(bits + 1), name="extended")
    moved = Signal(signed(bits + 1), name="moved")
    m.d.comb += [extended.eq(Cat(Const(0, 1), value)), moved.eq(extended >> shift)]
    floor, half = moved[1:].as_signed(), moved[0]
    ups = {Rounding.TRUNCATE: Const(0, 1), Rounding.HALF_UP: half}
    if Rounding.HALF_EVEN in kinds:
        back = Signal(signed(bits + 1), name="back")
        m.d.comb += back.eq(moved << shift)
        ups[Rounding.HALF_EVEN] = half & (moved[1] | (back != extended))
    return floor, Array(ups[kind] for kind in kinds)[rounding]


class Post(wiring.Component):
    """A row drains from `sums` in the cycles after `capture`, as many values a cycle as there are post-processors.

    `write`: `results` go to `row`, beat `beat` of it. `give`: they leave, with `first` and `last`. `plain` are those before the
    table; `number` is their instruction's, `second` says that they are its second ones.
    """

    def __init__(self, encoded: Encoded, loads: Mapping[str, Callable]):
        e = self.encoded = encoded
        self.loads = loads
        machine, program = e.machine, e.program
        zeros = max((key.op.largest_shift for key in e.norms), default=0)
        self.rows = max(2, program.rows)
        token = range(max(2, program.most_tokens))
        self.settings = data.StructLayout({
            "shift": range(e.shifts[1] + e.left + 1), "clip": range(max(2, len(e.clips))), "tabled": 1,
            "table": range(max(2, len(e.tables))), "stat": 2, "stores": 1, "out": 1, "biased": 1,
            "number": range(max(2, len(e.words))), "first_group": 1, "last_group": 1, "last_beat": range(max(2, machine.beats)),
            "tail": range(max(2, machine.posts)), "token": token, "row": range(self.rows), "first": 1, "last": 1, "second": 1,
        })
        super().__init__({
            "capture": In(1), "first_group": In(1), "first_token": In(1), "last_group": In(1), "last_token": In(1),
            "tile_begins": In(1), "tile_ends": In(1), "started": In(1), "zeros": In(range(zeros + 1)),
            "instruction": In(e.instruction), "instruction_number": In(range(max(2, len(e.words)))),
            "sums": In(signed(e.sum_bits)).array(machine.lanes),
            "write": Out(1), "row": Out(range(self.rows)), "beat": Out(range(max(2, machine.beats))),
            "results": Out(signed(e.final_bits)).array(machine.posts), "plain": Out(signed(e.result_bits)).array(machine.posts),
            "valid": Out(1), "number": Out(range(max(2, len(e.words)))), "second": Out(1), "give": Out(1), "first": Out(1),
            "last": Out(1),
            "ranged": Out(1), "squared": Out(1), "begins": Out(1), "ends": Out(1), "counts": Out(machine.posts),
            "token": Out(token),
            "raw": Out(signed(e.drained_bits)).array(machine.posts), "square_begins": Out(1), "square_ends": Out(1),
            "square_counts": Out(machine.posts), "square_token": Out(token),
        })

    def elaborate(self, platform):
        m = Module()
        e, i = self.encoded, self.instruction
        posts, beats = e.machine.posts, e.machine.beats
        drained = [Signal(signed(e.sum_bits), name=f"drained_{k}", reset_less=e.machine.chip) for k in range(e.machine.lanes)]
        now, draining, beat = Signal(self.settings, name="now"), Signal(), Signal(range(max(2, beats)))
        then, double, second_row = Signal(self.settings, name="then"), Signal(), Signal(range(self.rows))
        row, token_row, token = Signal(range(self.rows)), Signal(range(self.rows)), Signal(now.token.shape())
        end, doubles = beat == now.last_beat, any(word["double"] for word in e.words)

        # A row is captured.
        new_row, new_token = Signal.like(row), Signal.like(token)
        m.d.comb += [
            new_row.eq(Mux(self.first_group, Mux(self.first_token, i.dest, token_row + i.dest_stride), row + 1)),
            new_token.eq(Mux(self.first_group, Mux(self.first_token, 0, token + 1), token)),
        ]
        for k, value in enumerate(drained):
            with m.If(self.capture):
                m.d.sync += value.eq(self.sums[k])
            with m.Elif(draining):
                m.d.sync += value.eq(drained[k + posts] if k + posts < len(drained) else 0)
        with m.If(self.capture):
            m.d.sync += [
                now.shift.eq(i.shift - Mux(i.normed, self.zeros, 0)), now.clip.eq(i.clip), now.tabled.eq(i.tabled),
                now.table.eq(i.table), now.stat.eq(i.stat), now.stores.eq(i.stores), now.out.eq(i.out), now.biased.eq(i.biased),
                now.number.eq(self.instruction_number), now.first_group.eq(self.first_group), now.last_group.eq(self.last_group),
                now.last_beat.eq(Mux(self.last_group, i.last_beat, beats - 1)), now.tail.eq(i.tail), now.token.eq(new_token),
                now.row.eq(new_row), row.eq(new_row), token.eq(new_token), draining.eq(1), beat.eq(0),
                now.first.eq(self.first_token & (self.tile_begins | i.late) & self.started),
                now.last.eq(self.last_token & self.tile_ends), now.second.eq(0), double.eq(i.double if doubles else 0),
            ]
            if doubles:
                new_second = Mux(self.first_token, i.dest_2, second_row + i.dest_2_stride)
                m.d.sync += [then.shift.eq(i.shift_2), then.clip.eq(i.clip_2), then.stores.eq(1), then.biased.eq(i.biased),
                             then.number.eq(self.instruction_number), then.last_beat.eq(i.last_beat_2), then.row.eq(new_second),
                             then.second.eq(1), second_row.eq(new_second)]
            with m.If(self.first_group):
                m.d.sync += token_row.eq(new_row)
        with m.Elif(draining & end & double):  # the row's second results
            m.d.sync += [now.eq(then), beat.eq(0), double.eq(0)]
        with m.Elif(draining):
            m.d.sync += [beat.eq(beat + 1), draining.eq(~end)]
        biases = self._biases(m, now, draining & (~end | double))

        # Sum with bias; rounded; clipped.
        stages = [(now, beat, draining)]
        for n in range(3):
            settings, place, live = Signal(self.settings, name=f"settings_{n}"), Signal.like(beat, name=f"beat_{n}"), Signal(
                name=f"live_{n}")
            m.d.sync += [settings.eq(stages[-1][0]), place.eq(stages[-1][1]), live.eq(stages[-1][2])]
            stages.append((settings, place, live))
        (s0, b0, l0), (s1, _, _), (s2, b2, l2) = stages[1:]
        for p in range(posts):
            self._post(m, p, drained[p] + biases[p], s0, s1, s2)
        last0, last2 = (s.last_group & (b == s.last_beat) for s, b in ((s0, b0), (s2, b2)))
        m.d.comb += [
            self.valid.eq(l2), self.write.eq(l2 & s2.stores), self.row.eq(s2.row), self.beat.eq(b2), self.number.eq(s2.number),
            self.second.eq(s2.second),
            self.give.eq(l2 & s2.out), self.first.eq(s2.first), self.last.eq(s2.last),
            self.ranged.eq(l2 & (s2.stat == Stat.RANGE)), self.begins.eq(s2.first_group & (b2 == 0)), self.ends.eq(last2),
            self.token.eq(s2.token), self.counts.eq(Cat(~last2 | (s2.tail >= p) if p else Const(1) for p in range(posts))),
            self.squared.eq(l0 & (s0.stat == Stat.SQUARES)), self.square_begins.eq(s0.first_group & (b0 == 0)),
            self.square_ends.eq(last0), self.square_token.eq(s0.token),
            self.square_counts.eq(Cat(~last0 | (s0.tail >= p) if p else Const(1) for p in range(posts))),
        ]
        return m

    def _biases(self, m: Module, now, more):
        """Those of the beat that drains: the next row is read as a row is captured, or while one drains."""
        e, i = self.encoded, self.instruction
        biases = e.program.biases
        if not biases.any() and not self.loads:
            return [0] * e.machine.posts
        m.submodules.biases = memory = self.loads["biases"]() if self.loads else Store(biases, IntFormat(e.bias_bits))
        pointer = Signal(range(len(biases) + 1))
        m.d.comb += [memory.en.eq(1), memory.addr.eq(Mux(self.capture & self.first_group, i.bias, pointer))]
        with m.If(self.capture & i.biased | more & now.biased & ~self.capture):
            m.d.sync += pointer.eq(memory.addr + 1)
        return [Mux(now.biased, memory.data.word_select(k, e.bias_bits).as_signed(), 0) for k in range(e.machine.posts)]

    def _post(self, m: Module, p: int, total, s0, s1, s2) -> None:
        """One of the post-processors."""
        e = self.encoded
        raw = Signal(signed(e.drained_bits), name=f"raw_{p}")
        m.d.sync += raw.eq(total)
        m.d.comb += self.raw[p].eq(raw)
        kinds = list(dict.fromkeys(clip.rounding for clip in e.clips))
        choice = Array(kinds.index(clip.rounding) for clip in e.clips)[s0.clip]
        wide = Signal(signed(e.drained_bits + e.left), name=f"wide_{p}")
        m.d.comb += wide.eq(raw << e.left)
        floor, up = shifted(m, wide, s0.shift, choice, kinds)
        bits = e.result_bits
        value, over, negative = (Signal(shape, name=f"{name}_{p}") for name, shape in (
            ("value", signed(bits + 1)), ("over", 1), ("negative", 1)))
        above = floor[bits - 1:]
        m.d.sync += [value.eq(floor[:bits].as_signed() + up), over.eq(above.any() & ~above.all()), negative.eq(floor[-1])]
        low, high = Signal(signed(bits + 1), name=f"low_{p}"), Signal(signed(bits + 1), name=f"high_{p}")
        with m.Switch(s1.clip):
            for k, clip in enumerate(e.clips):
                with m.Case(k) if k < len(e.clips) - 1 else m.Default():
                    m.d.comb += [low.eq(clip.low), high.eq(clip.high)]
        result = Signal(signed(bits), name=f"result_{p}")
        m.d.comb += result.eq(Mux(over, Mux(negative, low, high), Mux(value < low, low, Mux(value > high, high, value))))
        plain = Signal(signed(bits), name=f"plain_{p}")
        m.d.sync += plain.eq(result)
        m.d.comb += [self.plain[p].eq(plain), self.results[p].eq(self._looked_up(m, p, result, plain, s1, s2))]

    def _looked_up(self, m: Module, p: int, result, plain, s1, s2):
        """The result, or its function."""
        e = self.encoded
        if not e.tables:
            return plain
        size = max(len(table) for table in e.tables)
        bits = size.bit_length() - 1
        entries = [int(value) for table in e.tables for value in _spread(table, size)]
        m.submodules[f"tables_{p}"] = memory = Memory(shape=signed(bits_of(entries)), depth=len(entries), init=entries)
        port = memory.read_port()
        m.d.comb += port.addr.eq(Cat(result[:bits], s1.table))
        return Mux(s2.tabled, port.data, plain)


def _spread(table, size: int) -> list:
    """A table of a narrower code at the places of a wider one, whose upper bits repeat its sign or are zero."""
    codes = len(table)
    return [table[k % codes] for k in range(size)]
