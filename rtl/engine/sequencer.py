"""Issues a micro-operation a cycle: instructions of tokens × groups × bodies × steps, and the addresses that go with them."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .encode import OPERANDS, Encoded, pack
from .micro import To, Walk, Zero
from .timing import WRITTEN


class Issue(data.StructLayout):
    """What goes down the lanes' pipeline with a micro-operation."""

    def __init__(self, encoded: Encoded):
        micro, lanes = encoded.micro, encoded.machine.lanes
        super().__init__({
            "a": micro["a"].shape, "b": micro["b"].shape, "constant": micro["constant"].shape, "acc": 2, "to": 3, "zero": 1,
            "lane": max(1, (lanes - 1).bit_length()), "works": 1,
            "first_group": 1, "first_token": 1, "last_group": 1, "last_token": 1,
        })


def constants(m: Module, index, layout: data.StructLayout, words: list[dict], name: str):
    """A word of a small constant memory, at once."""
    found = Signal(layout, name=name)
    with m.Switch(index):
        for k, value in enumerate(pack(layout, words)):
            with m.Case(k) if k < len(words) - 1 else m.Default():
                m.d.comb += found.as_value().eq(value)
    return found


class Sequencer(wiring.Component):
    """`issue` with its addresses, every cycle. `instruction` is the one that runs; it stays until its last sum is captured.

    `take`: a beat of input may be written to `input_row`, as beat `input_beat` of it; `given`: there is one; `first`: its flag.
    `room`: results of a group find room at the output. `rests`: no sequence has begun whose last result is not written.
    """

    def __init__(self, encoded: Encoded):
        self.encoded = encoded
        program, machine = encoded.program, encoded.machine
        self.rows, self.states = max(2, program.rows), max(2, program.states)
        self.weights = encoded.shared.depth if encoded.shared else 2 if encoded.image else max(2, len(program.weights))
        streamed = {"word": In(encoded.instruction), "word_ready": In(1), "fetching": Out(1), "enough": In(1), "row_ready": In(1),
                    "indexed": Out(1), "takes_row": Out(1), "packed": Out(1), "upper": Out(1), "keeps_row": Out(1)}
        super().__init__((streamed if encoded.image else {}) | {
            "instruction": Out(encoded.instruction), "number": Out(range(max(2, len(encoded.words)))),
            "issue": Out(Issue(encoded)),
            "x": Out(range(self.rows)), "weight": Out(range(self.weights)), "state": Out(range(self.states)),
            "token": Out(range(max(2, program.most_tokens))), "take": Out(1), "given": In(1), "first": In(1),
            "input_row": Out(range(self.rows)), "input_beat": Out(range(max(2, machine.beats))),
            "room": In(1), "reserve": Out(1),
            "first_tile": Out(1), "last_tile": Out(1), "tile_begins": Out(1), "tile_ends": Out(1), "fresh": Out(1),
            "started": Out(1), "rests": Out(1), "index": In(range(self.weights)),
        })

    def _program(self, m: Module, fetched):
        """Gives `instruction` and `number`, which stay until the next word is read; when it is."""
        encoded, i = self.encoded, self.instruction
        if encoded.image:
            with m.If(self.word_ready):
                m.d.sync += i.eq(self.word)
            m.d.comb += self.number.eq(i.number)
            return self.word_ready
        m.submodules.program = memory = Memory(shape=encoded.instruction.size, depth=len(encoded.words),
                                               init=pack(encoded.instruction, encoded.words))
        port = memory.read_port()
        m.d.comb += [port.addr.eq(fetched), i.as_value().eq(port.data)]
        m.d.sync += self.number.eq(fetched)  # of what is read
        return 1

    def elaborate(self, platform):
        m = Module()
        encoded, program, machine = self.encoded, self.encoded.program, self.encoded.machine
        i, fetched = self.instruction, Signal.like(self.number)
        word_ready = self._program(m, fetched)

        tile = Signal(range(max(2, program.tiles)))
        m.d.comb += [self.first_tile.eq(tile == 0), self.last_tile.eq(tile == program.tiles - 1)]
        m.d.sync += [self.tile_begins.eq(self.first_tile), self.tile_ends.eq(self.last_tile)]  # as a sum is captured
        body, index = Signal(encoded.body), Signal(range(len(encoded.bodies) + 1))
        u, micro_index = Signal(encoded.micro), Signal(range(len(encoded.micros) + 1))
        at, k = Signal(encoded.body["length"].shape), Signal(encoded.body["steps"].shape)
        group, wait = Signal(i.groups.shape()), Signal(range(max(w["lead"] + w["gap"] for w in encoded.words) + 1))
        lane, row, walked = Signal(range(max(2, machine.lanes))), Signal(range(self.rows)), Signal(range(self.rows))
        bases = Array(Signal(range(self.rows), name=f"base_{n}") for n in range(OPERANDS))
        phase = Signal(encoded.instruction["period"].shape if encoded.leaps else 1)  # tokens since the operand leapt
        weight, state, group_state = Signal.like(self.weight), Signal.like(self.state), Signal.like(self.state)

        # Where the next micro-operation is.
        end_ops, end_steps = at == body.length, k == body.steps
        end_chain = end_ops & end_steps & body.final
        end_token = end_chain & (group == i.groups)
        last_token = self.token == Mux(self.last_tile, i.rest, i.tokens)
        end = end_token & last_token
        next_index, next_micro = Signal.like(index), Signal.like(micro_index)
        m.d.comb += [
            next_index.eq(Mux(end_ops & end_steps, Mux(body.final, i.body, index + 1), index)),
            next_micro.eq(Mux(end_ops, Mux(end_steps, Mux(body.final, i.micro, micro_index + 1), body.first), micro_index + 1)),
        ]
        decode = Signal()
        found_body = constants(m, Mux(decode, i.body, next_index), encoded.body, encoded.bodies, "found_body")
        found_micro = constants(m, Mux(decode, i.micro, next_micro), encoded.micro, encoded.micro_words, "found_micro")

        run, go = Signal(), Signal()
        group_start = Signal()
        last, first = end_steps, k == 0
        skipped = u.skip & last
        waits = (wait != 0) | i.takes & ~self.given | i.out & group_start & ~self.room
        if encoded.image:
            waits |= u.weight & ~skipped & ~self.row_ready | i.whole & group_start & ~self.enough
            m.d.comb += [self.packed.eq(u.packed), self.upper.eq(k[0]), self.keeps_row.eq(u.packed & ~k[0] & ~last),
                         self.indexed.eq(u.indexed), self.takes_row.eq(go & u.weight & ~skipped)]
        m.d.comb += [go.eq(run & ~waits), self.take.eq(run & i.takes & (wait == 0)), self.reserve.eq(go & i.out & group_start)]

        # Addresses.
        m.d.comb += [self.input_row.eq(bases[0] + row), self.input_beat.eq(lane)]
        grouped = Array(i[f"x{n}_grouped"] for n in range(OPERANDS))[u.x]
        walk = Array(i[f"x{n}_walk"] for n in range(OPERANDS))[u.x]
        move = Mux(walk == Walk.CHANNEL, row, Mux(walk == Walk.TOKEN, walked, 0))
        m.d.comb += [self.x.eq(bases[u.x] + Mux(grouped, group, 0) + move), self.state.eq(state),
                     self.weight.eq(weight + Mux(u.indexed, self.index, 0))]

        # What goes down.
        capture = go & ~skipped & (last | ~u.at_last)
        before, new = self.fresh & (self.token + k < i.before), Mux(i.late, self.started, self.fresh)
        m.d.comb += [
            self.issue.a.eq(u.a), self.issue.b.eq(u.b), self.issue.constant.eq(u.constant), self.issue.lane.eq(lane),
            self.issue.acc.eq(Mux(first, u.first, u.acc)), self.issue.to.eq(Mux(capture, u.to, To.NONE)),
            self.issue.works.eq(go & ~skipped & (u.works if machine.chip else 1)),
            self.issue.zero.eq((u.zero == Zero.BEFORE) & before | (u.zero == Zero.STATE) & self.fresh & (self.token == 0)
                               | (u.zero == Zero.TILE) & self.first_tile | (u.zero == Zero.NEW) & new
                               | (u.zero == Zero.OLD) & ~new),
            self.issue.first_group.eq(group == 0), self.issue.first_token.eq(self.token == 0),
            self.issue.last_group.eq(group == i.groups), self.issue.last_token.eq(last_token),
        ]

        with m.If(run & (wait != 0)):
            m.d.sync += wait.eq(wait - 1)
        with m.If(go):
            m.d.sync += [group_start.eq(end_chain), u.eq(found_micro), micro_index.eq(next_micro), at.eq(Mux(end_ops, 0, at + 1))]
            with m.If(u.weight & ~skipped):
                m.d.sync += weight.eq(weight + 1)
            with m.If(u.next_state):
                m.d.sync += state.eq(state + 1)
            with m.If(end_ops):
                wrap = lane == Mux(i.takes, machine.beats - 1, machine.lanes - 1)  # of a row: beats of input, or channels
                step = i.x0_step if encoded.steps else i.x0_stride
                m.d.sync += [k.eq(Mux(end_steps, 0, k + 1)), lane.eq(Mux(end_steps | wrap, 0, lane + 1)),
                             row.eq(Mux(end_steps, 0, row + wrap)), walked.eq(Mux(end_steps, 0, walked + step))]
                with m.If(end_steps):
                    m.d.sync += [body.eq(found_body), index.eq(next_index)]
                    with m.If(found_body.rewind & ~body.final):
                        m.d.sync += state.eq(group_state)
            with m.If(end_chain):
                m.d.sync += [group.eq(Mux(end_token, 0, group + 1)), group_state.eq(state + u.next_state)]
            with m.If(end_token):
                m.d.sync += [self.token.eq(self.token + 1), wait.eq(i.lead), weight.eq(i.weight), state.eq(i.state),
                             group_state.eq(i.state)]
                m.d.sync += [base.eq(base + i[f"x{n}_stride"]) for n, base in enumerate(bases)]
                if encoded.leaps:
                    with m.If(phase + 1 == i.period):
                        m.d.sync += bases[0].eq(bases[0] + i.x0_leap)
                    m.d.sync += phase.eq(Mux(phase + 1 == i.period, 0, phase + 1))

        # From instruction to instruction.
        turn, drains = Signal(2), Signal(range(WRITTEN + machine.beats + 1), init=0)  # cycles until the last result is written
        begun = Signal()
        m.d.comb += self.rests.eq(~begun & (drains == 0))
        with m.If(drains != 0):
            m.d.sync += drains.eq(drains - 1)

        def advance():
            m.next = "fetch"
            m.d.sync += fetched.eq(Mux(i.final, 0, fetched + 1))
            with m.If(i.final):
                m.d.sync += [tile.eq(Mux(self.last_tile, 0, tile + 1)), self.fresh.eq(0), begun.eq(~self.last_tile),
                             drains.eq(WRITTEN + machine.beats)]

        with m.FSM():
            with m.State("fetch"):
                if encoded.image:
                    m.d.comb += self.fetching.eq(1)
                with m.If(word_ready):
                    m.next = "decode"
            with m.State("decode"):
                m.d.comb += decode.eq(1)
                m.d.sync += [
                    body.eq(found_body), u.eq(found_micro), index.eq(i.body), micro_index.eq(i.micro), at.eq(0), k.eq(0),
                    group_start.eq(1),
                    group.eq(0), self.token.eq(0), lane.eq(0), row.eq(0), walked.eq(0), wait.eq(i.lead + i.gap),
                    weight.eq(i.weight), state.eq(i.state), group_state.eq(i.state), phase.eq(0),
                    *(base.eq(i[f"x{n}"]) for n, base in enumerate(bases)),
                ]
                m.next = "run"
                with m.If(Mux(self.last_tile, i.early, i.late)):
                    advance()
            with m.State("run"):
                m.d.comb += run.eq(1)
                with m.If(go & i.takes & (self.token == 0) & (at == 0) & self.first_tile):
                    m.d.sync += [self.fresh.eq(self.first), self.started.eq(self.first)]
                with m.If(go & i.takes):
                    m.d.sync += begun.eq(1)
                with m.If(go & end):
                    m.next = "turn"
            with m.State("turn"):
                m.d.sync += turn.eq(Mux(turn == 2, 0, turn + 1))
                with m.If(turn == 2):
                    advance()
        return m
