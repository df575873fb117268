"""The selective scan: the recurrent heart of Mamba."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib.memory import Memory

from emamba.operators import Scan as Operator

from .activation import PIECEWISE_LATENCY, piecewise_linear
from .datapath import Pipeline, adder_tree, bounded, fold, requantize, rom, tap_format, tree_stages, width_of
from .streams import Block, Port, beats, shape_of

DECAY_LATENCY = 2 + PIECEWISE_LATENCY  # operands, δ·A, exp


class Scan(Block):
    """`lanes` channels × `state_lanes` states a cycle; a token takes ceil(d_inner / lanes) · ceil(d_state / state_lanes) cycles.

    Inputs: u and dt by `lanes` channels, B and C one beat of d_state values a token. The stored states of a token form the
    rows of one memory, one row a cycle. The loop from a row's read to its write is pipelined over as many cycles as pass
    before the row is needed again, at most three, so that the recurrence never waits and never limits the rate.
    Formats, rounding and saturation: `emamba.operators.Scan`.
    """

    def __init__(self, op: Operator, lanes: int, state_lanes: int):
        self.op, self.lanes, self.state_lanes = op, lanes, state_lanes
        super().__init__({
            "u": Port(op.u, op.width, lanes), "dt": Port(op.dt, op.width, lanes),
            "B": Port(op.B, op.d_state, op.d_state), "C": Port(op.C, op.d_state, op.d_state),
        }, Port(op.o, op.width, lanes))
        self.channel_groups = self.output.beats
        self.state_groups = beats(op.d_state, state_lanes)
        per_state, per_channel = op.multiplies
        self.multipliers = lanes * (per_state * state_lanes + per_channel)

    def model(self, u, dt, B, C):
        return self.op(u, dt, B, C)

    @property
    def cycles(self) -> int:
        return self.channel_groups * self.state_groups

    @property
    def loop(self) -> int:
        """Cycles from the read of a state to its write."""
        return min(3, self.cycles)

    @property
    def latency(self) -> int:
        """Decay, recurrence, C·h, adder tree, accumulator, requantizer."""
        return DECAY_LATENCY + self.loop + 1 + tree_stages(self.state_lanes) + 2

    def schedule(self, u, dt, B, C):
        taken = {name: [] for name in self.inputs}
        departures, free = [], 0
        for k in range(len(u)):
            token = k // self.channel_groups
            free = max(free, u[k], dt[k], B[token], C[token]) + self.state_groups
            taken["u"].append(free - 1)
            taken["dt"].append(free - 1)
            departures.append(free - 1 + self.latency)
            if (k + 1) % self.channel_groups == 0:
                taken["B"].append(free - 1)
                taken["C"].append(free - 1)
        return *taken.values(), departures

    def elaborate(self, platform):
        m = Module()
        op, lanes, state_lanes = self.op, self.lanes, self.state_lanes
        groups, state_groups, rows = self.channel_groups, self.state_groups, self.cycles
        pipeline = Pipeline(m, self.o)
        advance = pipeline.advance
        register = pipeline.register

        step, group, state_group = Signal(range(rows)), Signal(range(groups)), Signal(range(state_groups))
        last_state, last_group = state_group == state_groups - 1, group == groups - 1
        valid = Signal()
        m.d.comb += [
            valid.eq(self.u.valid & self.dt.valid & self.B.valid & self.C.valid),
            self.u.ready.eq(valid & advance & last_state),
            self.dt.ready.eq(valid & advance & last_state),
            self.B.ready.eq(valid & advance & last_state & last_group),
            self.C.ready.eq(valid & advance & last_state & last_group),
        ]
        with m.If(valid & advance):
            m.d.sync += [
                step.eq(Mux(last_state & last_group, 0, step + 1)),
                state_group.eq(Mux(last_state, 0, state_group + 1)),
            ]
            with m.If(last_state):
                m.d.sync += group.eq(Mux(last_group, 0, group + 1))

        # Step 1: operands.
        u = [register(lane, "u") for lane in self.u.payload.data]
        dt = [register(lane, "dt") for lane in self.dt.payload.data]
        B = [register(lane, "B") for lane in self._states(m, self.B, state_group)]
        C = [register(lane, "C") for lane in self._states(m, self.C, state_group)]
        by_channel = fold(op.A, groups, lanes)  # groups, lanes, d_state
        by_state = fold(by_channel.transpose(2, 0, 1), state_groups, state_lanes)  # state_groups, state_lanes, groups, lanes
        A_rows = by_state.transpose(2, 0, 3, 1).reshape(rows, lanes * state_lanes)
        A = rom(m, "A", A_rows, tap_format(op.A), step, advance)
        D = rom(m, "D", fold(op.D, groups, lanes), tap_format(op.D), group, advance)

        # Steps 2 to DECAY_LATENCY: Ā and the input term, then the recurrence.
        direct = [register(d * x, "direct") for d, x in zip(D, u, strict=True)]
        terms = self._terms(m, pipeline, u, dt, B)
        first = register(self.u.payload.first, "first", DECAY_LATENCY)
        live = pipeline.flag(valid, "live", DECAY_LATENCY)
        address = register(step, "row", DECAY_LATENCY)
        decays = []
        for k in range(lanes * state_lanes):
            p = register(dt[k // state_lanes] * A[k], "p", shape=shape_of(op.p))
            decays.append(piecewise_linear(m, pipeline, p, op.decay))
        if op.hold:
            held = [register(lane == 0, "held", DECAY_LATENCY) for lane in self.dt.payload.data]
            decays = [Mux(held[k // state_lanes], 1 << op.a_bar.frac, decay) for k, decay in enumerate(decays)]
        states = self._recurrence(m, pipeline, decays, terms, first, live, address)

        # y = C·h + D·u.
        wait = DECAY_LATENCY + self.loop
        C_held = [register(c, "C_held", wait - 1) for c in C]
        start = register(state_group == 0, "y_start", wait + 1 + tree_stages(state_lanes))
        y_live = pipeline.flag(valid, "y_live", wait + 1 + tree_stages(state_lanes))
        results = []
        for lane in range(lanes):
            products = [register(C_held[k] * states[lane * state_lanes + k], "ch") for k in range(state_lanes)]
            total = adder_tree(pipeline, products, "tree")
            bypass = register(direct[lane], "direct_held", wait - 1 + tree_stages(state_lanes)).shift_left(op.d_shift)
            accumulator = Signal(width_of(op.y_bound), name="acc", reset_less=True)
            with m.If(advance & y_live):
                m.d.sync += accumulator.eq(total + Mux(start, bypass, accumulator))
            results.append(register(requantize(m, accumulator, op.y_shift, op.o, op.rounding), "y"))
        pipeline.finish(results, self.u.payload.first, self.u.payload.last, valid & last_state, self.latency)
        return m

    def _states(self, m, port, state_group):
        """The state_lanes values of the current state group."""
        values = list(port.payload.data)
        if self.state_groups == 1:
            return values
        chosen = [Signal(v.shape(), name=f"chosen_{k}") for k, v in enumerate(values[:self.state_lanes])]
        with m.Switch(state_group):
            for group in range(self.state_groups):
                with m.Case(group):
                    for k, lane in enumerate(values[group * self.state_lanes:(group + 1) * self.state_lanes]):
                        m.d.comb += chosen[k].eq(lane)
        return chosen

    def _terms(self, m, pipeline, u, dt, B):
        """The input terms b at h_wide's scale, from operands at step 1, ready at step DECAY_LATENCY."""
        op, register = self.op, pipeline.register
        terms = []
        for lane in range(self.lanes):
            if not op.delta_b:
                du = register(dt[lane] * u[lane], "du")
            else:
                u_held = register(u[lane], "u_held", 2)
            for k in range(self.state_lanes):
                if op.delta_b:
                    b_bar = requantize(m, register(dt[lane] * B[k], "db"), op.b_bar_shift, op.b_bar, op.rounding)
                    term = register(register(b_bar, "b_bar") * u_held, "bu", DECAY_LATENCY - 3).shift_left(op.a_bar.frac)
                else:
                    exact = register(du * register(B[k], "B_held"), "dub", DECAY_LATENCY - 3)
                    term = register(requantize(m, exact, op.term_shift, bounded(op.term_bound), op.rounding), "term")
                terms.append(term)
        return terms

    def _recurrence(self, m, pipeline, decays, terms, first, live, address):
        """h_wide of every lane, `loop` steps later; the stored state is written in the last of them."""
        op, loop, register, advance = self.op, self.loop, pipeline.register, pipeline.advance
        bits, count = op.h.bits, self.lanes * self.state_lanes
        row = unsigned(bits * count)
        m.submodules.states = memory = Memory(shape=row, depth=self.cycles, init=[])
        read, write = memory.read_port(domain="comb"), memory.write_port()
        m.d.comb += [
            read.addr.eq(address),
            write.addr.eq(register(address, "write_row", loop - 1)),
            write.en.eq(advance & pipeline.flag(live, "write_live", loop - 1)),
        ]
        results = []
        for k in range(count):
            h = Mux(first, 0, read.data[k * bits:(k + 1) * bits]).as_signed()
            a, term = decays[k], terms[k]
            if loop == 3:
                h, a, term = register(h, "h"), register(a, "a_bar"), register(term, "b_1")
            product = a * h
            if loop >= 2:
                product, term = register(product, "ah"), register(term, "b_2")
            h_wide = requantize(m, product + term, 0, op.h_wide, op.rounding)
            m.d.comb += write.data[k * bits:(k + 1) * bits].eq(requantize(m, h_wide, op.a_bar.frac, op.h, op.rounding))
            results.append(register(h_wide, "h_wide"))
        return results
