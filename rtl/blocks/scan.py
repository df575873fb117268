"""The selective scan: the recurrent heart of Mamba."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np

from emamba.base.formats import IntFormat
from emamba.ops import Scan as Operator
from emamba.ops.certificate import certify

from ..kit.block import BlockOptions, Port, Spec, beats, shape_of, transfers
from ..kit.datapath import (
    NARROW_BITS,
    Pipeline,
    Products,
    accumulate,
    adder_tree,
    bounded,
    choose,
    fold,
    requantize,
    tap_format,
    tree_stages,
    wide_product,
    width_of,
)
from ..kit.hdl import Cat, Module, Mux, Signal, Value
from ..kit.registry import Stage, realizes
from ..kit.rom import rom, rom_latency
from .activation import PIECEWISE_LATENCY, piecewise_linear
from .recurrence import Recurrence

SEGMENTS_LEAD, TABLE_LEAD = 1 + PIECEWISE_LATENCY, 3
"""Steps from the operands to the recurrence: δ·A and exp; or δ·u, its product with B, and the requantizer."""

LOOP = 4
"""Steps of the recurrence, where a row has so much time: read, first token or not, Ā·h, sum and write."""

TABLE_WORDS = 65536
"""Entries of Ā, of all states and codes of δ, up to which a chip has tables of them: they take no more than the segments and
multipliers of about two states (our choice, by mapping MARS to ASAP7)."""


@realizes(Operator)
@dataclass(frozen=True)
class Scan(Recurrence, Spec):
    """`lanes` channels × `state_lanes` states a cycle; a token takes ceil(d_inner / lanes) · ceil(d_state / state_lanes) cycles.

    Inputs: u and dt by `lanes` channels, B and C one beat of d_state values a token. The stored states of a token form the
    rows of one memory, one row a cycle. The loop from a row's read to its write is pipelined over as many cycles as pass
    before the row is needed again, at most LOOP, so that the recurrence never waits and never limits the rate.

    Ā is exp's segments at δ·A; or, with `table`, a table of δ for every state, as A is constant (`positive`: δ is never
    negative, so half a table). `narrow` multipliers get C·h in two parts. Where the certificate excludes that the state
    saturates, nothing clips it.
    Formats, rounding and saturation: `emamba.ops.Scan`.
    """

    stores = "state"

    op: Operator
    lanes: int
    state_lanes: int
    table: bool = False
    positive: bool = False
    narrow: bool = False

    @cached_property
    def inputs(self):
        op = self.op
        states = op.groups * op.d_state
        return {"u": Port(op.u, op.width, self.lanes), "dt": Port(op.dt, op.heads, self.head_lanes),
                "B": Port(op.B, states, op.d_state * self.group_lanes), "C": Port(op.C, states, op.d_state * self.group_lanes)}

    @property
    def head_lanes(self) -> int:
        """δ a beat."""
        return self.lanes

    @property
    def group_lanes(self) -> int:
        """Groups with a B and a C of their own a beat."""
        return 1

    @property
    def decay_units(self) -> int:
        """Circuits that compute an Ā each a cycle."""
        return self.lanes * self.state_lanes

    @property
    def code_bits(self) -> int:
        """Bits of δ that address the table."""
        return self.op.dt.bits - (self.op.dt.signed and self.positive)

    @property
    def channel_groups(self) -> int:
        return self.output.beats

    @property
    def state_groups(self) -> int:
        return beats(self.op.d_state, self.state_lanes)

    @property
    def operands(self) -> int:
        """Steps to the operands."""
        return rom_latency(self.cycles)

    @property
    def lead(self) -> int:
        """Steps to the recurrence."""
        return self.operands + (TABLE_LEAD + self.shared if self.table else SEGMENTS_LEAD + self.narrowed)

    @property
    def narrowed(self) -> bool:
        """Whether exp reads fewer bits than δ·A has, which takes a step."""
        return self.op.decay.i != self.op.p

    @property
    def multipliers(self) -> int:
        """The input term's one or two, Ā·h and C·h of each state; δ·A and exp's slope of each Ā that no table gives; and one a
        channel that does δ·u and then D·u, where a channel takes several cycles."""
        op = self.op
        per_channel = 1 if op.delta_b or self.state_lanes < op.d_state else 2
        return (self.lanes * ((3 + op.delta_b) * self.state_lanes + per_channel)
                + (0 if self.table else 2 * self.decay_units))

    @property
    def multiplies(self) -> int:
        op = self.op
        states = op.width * op.d_state
        return (3 + op.delta_b) * states + op.width * (1 if op.delta_b else 2) + (0 if self.table else 2 * op.A.size)

    @classmethod
    def fold(cls, op: Operator, stage: Stage) -> "Scan":
        """That with groups of channels × groups of states ≤ budget."""
        choices = []
        for groups in range(1, min(op.d_state, stage.budget) + 1):
            state_lanes = ceil(op.d_state / groups)
            lanes = cls.possible_lanes(op, ceil(op.width / min(op.width, stage.budget // beats(op.d_state, state_lanes))))
            choices.append((groups, cls(op, lanes, state_lanes, cls._tabled(op, stage), stage.nonnegative[1],
                                        stage.realization.narrow)))
        return min(choices, key=lambda choice: (choice[1].multipliers, choice[1].lanes, choice[0], choice[1].state_lanes))[1]

    @staticmethod
    def _tabled(op: Operator, stage: Stage) -> bool:
        """Whether Ā is a table: as asked, else where a chip's tables are small."""
        if stage.realization.decay_tables is not None:
            return stage.realization.decay_tables
        return stage.products in (Products.MERGED, Products.CONSTANTS) and op.A.size << op.dt.bits <= TABLE_WORDS

    @staticmethod
    def possible_lanes(op: Operator, least: int) -> int:
        """The fewest lanes that a block can have, and not fewer than `least`."""
        return least

    @property
    def shared(self) -> bool:
        """Whether one multiplier does δ·u and then D·u."""
        return self.state_groups > 1 and not self.op.delta_b

    def saturates(self, options: BlockOptions) -> bool:
        """Where the certificate of this operator, or of what may be loaded, does not exclude it."""
        return bool(options.loads) or not self.certified

    @cached_property
    def certified(self) -> bool:
        return certify(self.op).holds

    @cached_property
    def cycles(self) -> int:
        return self.channel_groups * self.state_groups

    @property
    def loop(self) -> int:
        """Cycles from the read of a state to its write."""
        return min(LOOP, self.cycles)

    @property
    def state(self) -> tuple[int, int]:
        """Rows of the state, and bits of a row."""
        return self.cycles, self.op.h.bits * self.lanes * self.state_lanes

    @cached_property
    def latency(self) -> int:
        """Operands, decay and input term, recurrence, C·h, adder tree, accumulator, requantizer."""
        return self.lead + self.loop + 1 + self._tree_stages + 2

    @property
    def _tree_stages(self) -> int:
        split = self.narrow and self.op.h_wide.bits > NARROW_BITS
        return tree_stages(self.state_lanes * (1 + split))

    def schedule(self, u, dt, B, C):
        rows = [self._rows(name) for name in self.inputs]
        taken = transfers(np.maximum.reduce([np.repeat(x, count) for x, count in zip((u, dt, B, C), rows, strict=True)]),
                          self.state_groups)
        return *(taken[count - 1::count] for count in rows), taken + self.latency

    def _rows(self, name: str) -> int:
        """Beats of u during which a beat of an input stays."""
        return self.channel_groups // self.inputs[name].beats

    def circuit(self, m, block, platform):
        op, state_lanes = self.op, self.state_lanes
        groups, state_groups, rows = self.channel_groups, self.state_groups, self.cycles
        pipeline, constants = Pipeline(m, block.o, block.loads, block.clips), self.constants()
        advance = pipeline.advance
        register = pipeline.register

        step, group, state_group = Signal(range(rows)), Signal(range(groups)), Signal(range(state_groups))
        last_state, last_group = state_group == state_groups - 1, group == groups - 1
        valid = Signal()
        m.d.comb += [
            valid.eq(block.u.valid & block.dt.valid & block.B.valid & block.C.valid),
            block.u.ready.eq(valid & advance & last_state),
        ]
        ends = {count: self._last_of(m, count, block.u.ready, last_group) for count in {self._rows("dt"), self._rows("B")}}
        m.d.comb += [getattr(block, name).ready.eq(valid & advance & last_state & ends[self._rows(name)])
                     for name in ("dt", "B", "C")]
        pipeline.rest(platform, valid, self.latency)
        with m.If(valid & advance):
            m.d.sync += [
                step.eq(Mux(last_state & last_group, 0, step + 1)),
                state_group.eq(Mux(last_state, 0, state_group + 1)),
            ]
            with m.If(last_state):
                m.d.sync += group.eq(Mux(last_group, 0, group + 1))

        def operand(lanes, name):
            return pipeline.each(lambda own, lane: own.register(lane, name, self.operands), lanes)

        u, dt = operand(block.u.payload.data, "u"), operand(block.dt.payload.data, "dt")
        B, C = ([operand(choose(m, list(port.payload.data)[k:k + op.d_state], state_group, state_groups, state_lanes), name)
                 for k in range(0, op.d_state * self.group_lanes, op.d_state)]
                for name, port in (("B", block.B), ("C", block.C)))
        D = rom(pipeline, "D", *constants["D"], group, self.operands)

        # Ā and the input term, then the recurrence: each state's in a module of its own, all of them alike.
        inner = pipeline.modules("state", self.lanes * state_lanes)
        start = register(state_group == 0, "start", self.operands)
        products = pipeline.each(lambda own, *operands: self._channel_products(own.m, own, *operands, start),
                                 u, self._spread(dt), D)
        terms = self._terms(pipeline, inner, u, dt, B, [du for du, _ in products])
        first, last = (register(flag, "flag", self.lead) for flag in (block.u.payload.first, block.u.payload.last))
        live = pipeline.flag(valid, "live", self.lead)
        decays = self._table(block, pipeline, step, group) if self.table else self._segments(m, block, pipeline, inner, dt, step,
                                                                                             group)
        row = register(step, "row", self.lead)
        origin = [0] * len(inner) if op.h0 is None else rom(pipeline, "h0", *constants["h0"], step, self.lead)
        states, clipped = self._recurrence(m, block, pipeline, inner, decays, terms, first, last, live, row, origin)
        if block.saturates is not None:
            ends = register(Cat(last_group, last_state), "ends", self.lead + self.loop - 1)
            self._count(m, block, pipeline, clipped, live, ends)

        # y = C·h + D·u.
        wait = self.lead + self.loop
        C_held = self._spread([pipeline.each(lambda own, c: own.register(c, "C_held", wait - self.operands), values)
                                    for values in C])
        before = wait + 1 + self._tree_stages
        y_start, y_live = register(start, "y_start", before - self.operands), pipeline.flag(valid, "y_live", before)

        def readout(own, lane, product, values):
            direct, age = product[1]
            place = slice(lane * state_lanes, (lane + 1) * state_lanes)
            parts = own.each(lambda state, c, h: wide_product(state, c, h, self.narrow, "ch"), values, states[place],
                             within=inner[place])
            total = adder_tree(own, [term for part in parts for term in part], "tree")
            bypass = own.register(direct, "direct_held", before - age).shift_left(op.d_shift)
            y = accumulate(own.m, own, total, bypass, y_start, y_live, width_of(op.y_bound))
            return own.result(y, op.y_shift, op.o, op.rounding)

        results = pipeline.each(readout, range(self.lanes), products, C_held)
        pipeline.finish(results, block.u.payload.first, block.u.payload.last, valid & last_state, self.latency)

    def _last_of(self, m: Module, count: int, moves: Value, last: Value) -> Value:
        """High in the last of every `count` beats of u; `last` is so in the last of a token."""
        if count == self.channel_groups:
            return last
        place = Signal(range(count), name=f"of_{count}")
        with m.If(moves):
            m.d.sync += place.eq(Mux(place == count - 1, 0, place + 1))
        return place == count - 1

    def _spread(self, values: list) -> list:
        """By channel of a beat, its own of fewer values."""
        return [values[lane * len(values) // self.lanes] for lane in range(self.lanes)]

    def constants(self, op: Operator | None = None) -> dict[str, tuple[np.ndarray, IntFormat]]:
        """By name, the rows of every constant memory and their format; of another operator, where one is given. Tables of
        decays are not among them."""
        op = op or self.op
        found = {"D": (fold(op.direct, self.channel_groups, self.lanes), tap_format(op.D))}
        if op.h0 is not None:
            found["h0"] = self._by_step(op.h0).reshape(self.cycles, -1), op.h
        if not self.table:
            found["A"] = self._rates(op.A), tap_format(op.A)
        return found

    def _rates(self, A: np.ndarray) -> np.ndarray:
        """The rows of the memory of A, one a step."""
        return self._by_step(A).reshape(self.cycles, -1)

    def _by_step(self, values: np.ndarray) -> np.ndarray:
        """[d_inner, d_state, ...] → [rows, lanes, state_lanes, ...], one row a step."""
        by_channel = fold(values, self.channel_groups, self.lanes)
        by_state = fold(np.moveaxis(by_channel, 2, 0), self.state_groups, self.state_lanes)  # state: group, lane; channel: same
        return np.moveaxis(by_state, (2, 0, 3, 1), (0, 1, 2, 3)).reshape(self.cycles, self.lanes, self.state_lanes,
                                                                        *values.shape[2:])

    def _channel_products(self, m, pipeline, u, dt, D, start):
        """δ·u for the input terms, and D·u with its age in steps; of the operands, of which `start` marks the first of a
        channel. If a channel takes several steps, one multiplier does both, one after the other."""
        register = pipeline.register
        if self.op.delta_b:
            return None, (register(D * u, "direct"), self.operands + 1)
        if not self.shared:
            return register(dt * u, "du"), (register(D * u, "direct"), self.operands + 1)
        product = register(Mux(start, dt, D) * u, "product")
        fresh, held = register(start, "fresh"), Signal(product.shape(), name="du_held", reset_less=True)
        with m.If(pipeline.advance & fresh):
            m.d.sync += held.eq(product)
        return pipeline.after(held, product, fresh), (product, self.operands + 2)

    def _terms(self, pipeline, inner, u, dt, B, du):
        """The input terms b at h_wide's scale, from the operands and δ·u, ready at step `lead`."""
        op, rest = self.op, self.lead - self.operands - 2 - self.shared
        dt, places = self._spread(dt), [divmod(n, self.state_lanes) for n in range(len(inner))]
        if op.delta_b:
            held, B = pipeline.each(lambda own, value: own.register(value, "u_held", 2), u), self._spread(B)
            operands = [(dt[lane], B[lane][k], held[lane]) for lane, k in places]

            def term(own, delta, b, u):
                b_bar = requantize(own.m, own.register(delta * b, "db"), op.b_bar_shift, op.b_bar, op.rounding)
                return own.register(own.register(b_bar, "b_bar") * u, "bu", rest).shift_left(op.a_bar.frac)
        else:
            held = self._spread([pipeline.each(lambda own, value: own.register(value, "B_held", 1 + self.shared), values)
                                      for values in B])
            operands = [(du[lane], held[lane][k]) for lane, k in places]

            def term(own, du, b):
                exact = own.register(du * b, "dub", rest)
                rounded = requantize(own.m, exact, op.term_shift, bounded(op.term_bound), op.rounding, fits=True)
                return own.register(rounded, "term")

        return pipeline.each(term, *zip(*operands, strict=True), within=inner)

    def _segments(self, m, block, pipeline, inner, dt, step, group):
        """Ā of every lane at step `lead`."""
        op = self.op
        A = rom(pipeline, "A", *self.constants()["A"], step, self.operands)

        def decay(own, k, a, state):
            return self._decay(own, state, dt[k // self.state_lanes] * a)

        decays = pipeline.each(decay, range(len(inner)), A, inner)
        if op.hold:
            held = pipeline.each(lambda own, lane: own.register(lane == 0, "held", self.lead), block.dt.payload.data)
            decays = pipeline.each(lambda own, k, decay: Mux(held[k // self.state_lanes], 1 << op.a_bar.frac, decay),
                                   range(len(inner)), decays)
        return decays

    def _decay(self, own, part, product: Value) -> Value:
        """exp of δ·A by segments; the product's register stands in `own`, the rest in `part`."""
        op = self.op
        p = own.register(product, "p", shape=shape_of(op.p))
        if self.narrowed:
            p = own.register(requantize(own.m, p, op.argument_shift, op.decay.i, op.rounding), "argument")
        return piecewise_linear(part.m, part, p, op.decay)

    def _table(self, block, pipeline, step, group):
        """The same by tables, each addressed by δ and the number of the row."""
        return self._looked_up(block, pipeline, np.moveaxis(self._by_step(self._by_code()), 3, 1), step)

    def _by_code(self) -> np.ndarray:
        """Ā [*A's shape, codes of δ]."""
        op, codes = self.op, np.arange(1 << self.code_bits)
        if op.dt.signed and self.code_bits == op.dt.bits:
            codes = np.where(codes > op.dt.max, codes - (1 << op.dt.bits), codes)
        return np.moveaxis(op.decays(codes[:, None].repeat(op.heads, 1)), 0, -1)

    def _looked_up(self, block, pipeline, entries: np.ndarray, row: Value) -> list[Value]:
        """Ā of every lane of δ, from entries [rows, codes, lanes, states]."""
        element = tap_format(entries)

        def table(own, lane, x):
            code = Value.cast(x)[:self.code_bits]
            address = Cat(code, row) if len(entries) > 1 else code
            rows = entries[:, :, lane].reshape(-1, entries.shape[-1])
            return rom(own, f"decay_{lane}", rows, element, address, self.lead, "block")

        return [decay for found in pipeline.each(table, range(self.head_lanes), block.dt.payload.data) for decay in found]
