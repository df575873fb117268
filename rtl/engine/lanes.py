"""The lanes: each a multiplier, a sum, what it holds and keeps, and its decay of a state."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from emamba.base.formats import Rounding

from ..blocks.activation import PIECEWISE_LATENCY, piecewise_linear
from ..kit.block import shape_of
from ..kit.datapath import Pipeline, balanced_sum, bounded, requantize
from .decays import Decay
from .encode import Encoded
from .micro import PIECE, A, Acc, B, To
from .shared_store import WORD


class Lane(wiring.Component):
    """Factors in the cycle after the issue, then product, sum, capture. `factors`, `adds` and `captures` say what a
    micro-operation asks for in these cycles; `a` and `b` pick one of the program's first and second factors;
    `a_shared` and `b_shared` are those that all lanes get alike.

    With `write`, `new_state` is the sum as a state. `sum` may drain. Of a small engine, the decay is word `place` of a memory
    that lanes share; it is `taken` from `entry`; `odd` lanes ask for it two cycles later. On a chip, factors and product stay but
    where the lane `moves`, and what few micro-operations read of product and sum is 0 else.
    """

    def __init__(self, encoded: Encoded, odd: bool = False):
        e, self.odd, self.chip = encoded, odd, encoded.machine.chip
        self.encoded = e
        super().__init__({
            "a": In(len(e.firsts)), "b": In(len(e.seconds)), "row_kept": In(1), "adds": In(1), "acc": In(2), "decays": In(1),
            "to": In(3), "scan": In(range(max(2, len(e.decays)))),
            "weight": In(signed(e.program.weight_bits)), "row": In(signed(e.value_bits)),
            "a_shared": In(signed(e.a_bits)), "b_shared": In(signed(e.b_bits)), "state": In(signed(e.state_bits)),
            "constant": In(e.micro["constant"].shape), "sum": Out(signed(e.sum_bits)), "new_state": Out(signed(e.state_bits)),
        } | ({"moves": In(2)} if self.chip else {})
            | ({"place": Out(range(e.shared.depth)), "entry": In(WORD), "taken": In(1)} if e.shared else {}))

    def elaborate(self, platform):
        m = Module()
        e = self.encoded
        held, kept, product, total = (
            Signal(signed(bits), name=name, reset_less=self.chip or name == "product") for name, bits in (
                ("held", e.held_bits), ("kept", e.kept_bits), ("product", e.a_bits + e.b_bits), ("total", e.sum_bits)))
        m.d.comb += self.sum.eq(total)
        decay = self._shared_decay(m, product) if e.shared else self._own_decay(m, product)
        split = e.split
        a_choices = {A.WEIGHT: self.weight, A.KEPT: kept, A.DECAY: decay, A.DECAY_UP: decay.shift_left(split)}
        b_choices = {B.ROW: self.row, B.KEPT: kept, B.HELD: held, B.HELD_LOW: held[:PIECE]}
        if e.held_bits > PIECE:
            b_choices[B.HELD_HIGH] = held[PIECE:].as_signed()
        if e.decays:
            b_choices |= {B.WIDE: self.state, B.WIDE_LOW: self.state[:PIECE]} | self._states(m)
        a, b = Signal(signed(e.a_bits)), Signal(signed(e.b_bits))
        for name, factor, keys, choices in (("a", a, e.firsts, a_choices), ("b", b, e.seconds, b_choices)):
            chosen = getattr(self, f"{name}_shared")  # 0 where a lane's own factor is chosen
            for pick, key in zip(getattr(self, name), keys, strict=True):
                if key in choices:
                    own = Signal.like(factor, name=f"{name}_{key.name.lower()}")
                    m.d.comb += own.eq(choices[key])
                    chosen = chosen | own & pick.replicate(len(own))
            if self.chip:
                m.d.comb += factor.eq(chosen)
            else:
                m.d.sync += factor.eq(chosen)

        if self.chip:
            addends = self._by_digits(m, a, b)
            m.d.comb += product.eq(balanced_sum(addends))
        else:
            addends = [product]
            m.d.sync += product.eq(a * b)
        base = Signal(signed(e.sum_bits))
        term = self._by_scan(m, "term", signed(e.sum_bits), [
            requantize(m, self._of(self.sum, self.acc, Acc.TERM), d.op.term_shift, bounded(d.op.term_bound), d.op.rounding,
                       fits=True) for d in e.decays])
        bases = {Acc.ADD: self.sum, Acc.RAISE: self.sum << PIECE, Acc.TERM: term}
        with m.Switch(self.acc):
            for acc in sorted(e.accs & set(bases)):
                with m.Case(acc):
                    m.d.comb += base.eq(bases[acc])
        with m.If(self.adds):
            m.d.sync += total.eq(balanced_sum([*addends, base]))
        with m.If(self.to == To.HELD):
            m.d.sync += held.eq(self.sum)
        with m.If(self.to == To.KEPT):
            m.d.sync += kept.eq(self.sum)
        with m.Elif(self.row_kept), m.Switch(self.constant):
            for up in e.row_shifts:
                with m.Case(up) if up != e.row_shifts[-1] else m.Default():
                    m.d.sync += kept.eq(self.row << up)
        m.d.comb += self.new_state.eq(self._by_scan(m, "stored", signed(e.state_bits), [
            requantize(m, self._of(self.sum, self.to, To.STATE), 0, d.op.h_wide, d.op.rounding, fits=d.certified)
            for d in e.decays]))
        return m

    def _by_digits(self, m: Module, a: Signal, b: Signal) -> list:
        """Two cycles after factors, the addends of their product, each of a multiplier of its own. The second factor's digits
        have a sign: the upper one of a value of PIECE bits is 0, and its multiplier stands still."""
        digits = [b[:PIECE].as_signed(), b[PIECE:].as_signed() + b[PIECE - 1]] if len(b) > PIECE else [b]
        first, addends = Signal.like(a, name="first", reset_less=True), []
        with m.If(self.moves[0]):
            m.d.sync += first.eq(a)
        for k, digit in enumerate(digits):
            second = Signal.like(digit, name=f"second_{k}", reset_less=True)
            partial = Signal(signed(len(first) + len(second)), name=f"partial_{k}", reset_less=True)
            with m.If(self.moves[0]):
                m.d.sync += second.eq(digit)
            with m.If(self.moves[1]):
                m.d.sync += partial.eq(first * second)
            addends.append(partial << k * PIECE)
        return addends

    def _of(self, value: Signal, asked: Signal, wanted: int):
        """The value, on a chip only where what is `asked` is `wanted`."""
        return (value & (asked == wanted).replicate(len(value))).as_signed() if self.chip else value

    def _by_scan(self, m: Module, name: str, shape, values: list) -> Signal:
        """The value of the scan that runs."""
        found = Signal(shape, name=name)
        with m.Switch(self.scan):
            for k, value in enumerate(values):
                with m.Case(k) if k < len(values) - 1 else m.Default():
                    m.d.comb += found.eq(value)
        return found

    def _states(self, m: Module) -> dict:
        """Parts of the state, rounded or not; where its rounded upper part begins as the wide one does, that is one of the two
        with a carry."""
        e, split, state = self.encoded, self.encoded.split, self.state
        high = state[PIECE:].as_signed()
        if split and all(d.certified and d.op.rounding is Rounding.HALF_UP and d.op.a_bar.frac == PIECE - split
                         for d in e.decays):
            half, upper = state[PIECE - split - 1], state[PIECE - split:PIECE]
            joined, rounds = Signal.like(high, name="upper_state"), Const(0)
            if B.STATE_HIGH in e.seconds:
                rounds = self.b[e.seconds.index(B.STATE_HIGH)]
            m.d.comb += joined.eq(high + (half & upper.all() & rounds))
            return {B.STATE_LOW: (upper + half)[:split], B.STATE_HIGH: joined, B.WIDE_HIGH: joined}
        rounded = self._by_scan(m, "rounded", signed(e.rounded_bits), [
            requantize(m, state, d.op.a_bar.frac, d.op.h, d.op.rounding, fits=d.certified) for d in e.decays])
        return {B.STATE: rounded, B.STATE_LOW: rounded[:split] if split else Const(0), B.STATE_HIGH: rounded[split:].as_signed(),
                B.WIDE_HIGH: high}

    def _shared_decay(self, m: Module, product: Signal) -> Signal:
        """Ā of the last product δ·A, which comes from the memory that lanes share."""
        e, image, decay = self.encoded, self.encoded.shared, Signal(signed(self.encoded.decay_bits), name="decay")
        place, near, now, tail = (Signal(shape, name=name) for name, shape in (
            ("place_read", self.place.shape()), ("near", 1), ("near_now", 1), ("tail", decay.shape())))
        with m.Switch(self.scan):
            for number, each in enumerate(e.decays):
                with m.Case(number) if number < len(e.decays) - 1 else m.Default():
                    read, bits = self._read(m, number, each, product), each.bits
                    m.d.comb += [place.eq(number * image.entries | Cat(read[:bits])), tail.eq(each.tail),
                                 now.eq((read == 0) | read[bits:].all() & read[:bits].any())]
        with m.If(self.decays):
            m.d.sync += near.eq(now)
        if self.odd:
            with m.If(self.decays):
                m.d.sync += self.place.eq(place)
        else:
            m.d.comb += self.place.eq(place)
        with m.If(self.taken):
            m.d.sync += decay.eq(Mux(near, self.entry, tail))
        return decay

    def _read(self, m: Module, number: int, decay: Decay, product: Signal) -> Signal:
        """What exp is applied to."""
        op = decay.op
        p, read = Signal(shape_of(op.p), name=f"p_{number}"), Signal(shape_of(op.decay.i), name=f"read_{number}")
        m.d.comb += [p.eq(self._of(product, self.decays, 1)), read.eq(
            p if op.decay.i == op.p else requantize(m, p, op.argument_shift, op.decay.i, op.rounding))]
        return read

    def _own_decay(self, m: Module, product: Signal) -> Signal:
        self._tables(m)
        found = [self._decay(m, k, decay, product) for k, decay in enumerate(self.encoded.decays)]
        return self._by_scan(m, "decay", signed(self.encoded.decay_bits), found)

    def _decay(self, m: Module, number: int, decay: Decay, product: Signal):
        """Ā of the last product δ·A that `decays`, by a table or by segments."""
        op, pipeline = decay.op, Pipeline(m)
        read, x = self._read(m, number, decay, product), Signal(shape_of(op.decay.i), name=f"argument_{number}")
        with m.If(self.decays):
            m.d.sync += x.eq(read)
        if not decay.tabled:
            found = piecewise_linear(m, pipeline, x, op.decay)
            return Mux(pipeline.register(x == 0, "held", PIECEWISE_LATENCY), 1 << op.a_bar.frac, found) if op.hold else found
        near, bits = Signal(name=f"near_{number}"), decay.bits
        with m.If(self.decays):
            m.d.sync += near.eq((read == 0) | read[bits:].all() & read[:bits].any())
        tables = [d for d in self.encoded.decays if d.tabled]
        with m.If(self.scan == number):
            m.d.comb += self.place.eq(Cat(x[:bits], Const(0, max(d.bits for d in tables) - bits), Const(tables.index(decay), 8)))
        return Mux(pipeline.register(near, "near_read"), self.entry, decay.tail)

    def _tables(self, m: Module) -> None:
        """One memory of all scans' decays: `entry` is that at `place`, a cycle later."""
        tables = [d for d in self.encoded.decays if d.tabled]
        size = 1 << max((d.bits for d in tables), default=0)
        self.place, self.entry = Signal(range(max(2, size * len(tables)))), Signal(signed(self.encoded.decay_bits))
        if not tables:
            return
        entries = [value for d in tables for value in [*d.table.tolist(), *[0] * (size - len(d.table))]]
        m.submodules.decays = memory = Memory(shape=self.entry.shape(), depth=len(entries), init=entries)
        port = memory.read_port()
        m.d.comb += [port.addr.eq(self.place), self.entry.eq(port.data)]
