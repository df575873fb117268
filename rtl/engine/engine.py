"""The engine: a sequencer, lanes, post-processors and their memories; the streams of an accelerator around them."""

from collections.abc import Callable, Mapping

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from emamba.base.formats import IntFormat

from ..kit.block import PLAIN, Beat, BlockOptions, Port
from ..kit.ring import Ring
from ..kit.shared import Ram, Shared
from ..kit.states import StateWindow
from ..kit.streams import Fifo
from .feed import Feed
from .lanes import Lane
from .micro import PIECE, A, B, To
from .norm_unit import NormUnit
from .post import Post
from .sequencer import Sequencer
from .shared_store import SharedStore, load_ports
from .store import Store
from .supply import supply_signature


class Engine(wiring.Component):
    """Tokens in at `i`, results out at `o`, as of a pipeline's accelerator, for an `EngineSchedule`; with `trace` the values of
    every node that has instructions. `loads` makes the memories of weights and biases that can be loaded."""

    def __init__(self, schedule, options: BlockOptions = PLAIN, *, trace: bool = False,
                 loads: Mapping[str, Callable] | None = None, boots: bool = False):
        self.schedule, self.encoded = schedule, schedule.encoded
        self.inputs, self.output, self.blocks = {"i": schedule.input}, schedule.output, {}
        self.loads, self.boots = loads or {}, boots
        self.queue, = schedule.queues()
        self.peaks = [self.queue.name] if trace or options.count else []
        self.windows = {name: StateWindow(name, *size) for name, size in schedule.states.items() if options.stateful}
        self.trace = self._traced() if trace else {}
        members = {"i": In(schedule.input.signature), "o": Out(schedule.output.signature)}
        if self.encoded.image:
            members["rows"] = In(supply_signature(self.encoded.image))
        if options.stateful:
            members["rests"] = Out(1)
        if boots:
            members |= load_ports(self.encoded.shared)
        if options.count:
            members |= {"clear_peaks": In(1), "hold_peaks": In(1)}
        if self.peaks:
            members["peak_0"] = Out(range(self.queue.depth + 1))
        for k, port in enumerate(self.trace.values()):
            members[f"trace_{k}"] = Out(wiring.Signature({"payload": Out(Beat(port.format, port.lanes)), "fire": Out(1)}))
        super().__init__(members)

    def _traced(self) -> dict[str, Port]:
        artifact = self.schedule.artifact
        names = [name for each in self.encoded.program.instructions for i in each.results for name in i.traces if name]
        program = self.encoded.program
        widths = {name: artifact.graph[name].width for name in names}
        widths |= {name: program.buffers[name].rows * program.machine.lanes for name in program.columns}
        return {name: Port(artifact.operators[name].o, widths[name], self.encoded.machine.posts) for name in names}

    def elaborate(self, platform):
        m = Module()
        e, machine, program = self.encoded, self.encoded.machine, self.encoded.program
        lanes, posts, bits = machine.lanes, machine.posts, e.value_bits
        m.submodules.sequencer = sequencer = Sequencer(e)
        m.submodules.post = post = Post(e, self.loads)
        issue, i = sequencer.issue, sequencer.instruction

        # Memories: values, weights, state.
        apart = not self.windows  # `timing` proves it of a program, but not of who reads and writes the state from outside
        m.submodules.values = values = Ram(sequencer.rows, machine.beats, posts * bits, apart=apart, depths=program.depths)
        m.submodules.weights = fetch = self._weights(m, sequencer)
        m.submodules.states = states = Ram(sequencer.states, 1, lanes * e.state_bits, apart=apart)
        m.d.comb += [values.read_addr.eq(sequencer.x), states.read_addr.eq(sequencer.state)]

        # The pipeline: factors, product, sum, capture.
        factors, products, adding, captured = (Signal(issue.shape(), name=f"issue_{n}") for n in range(1, 5))
        m.d.sync += [factors.eq(issue), products.eq(factors), adding.eq(products), captured.eq(adding)]
        state_rows = [sequencer.state]
        for n in range(4):
            held = Signal.like(sequencer.state, name=f"state_row_{n}")
            m.d.sync += held.eq(state_rows[-1])
            state_rows.append(held)
        row = [values.read_data.word_select(k, bits).as_signed() for k in range(lanes)]
        channel = Signal(signed(bits))
        m.d.comb += channel.eq(Array(row)[factors.lane])
        if any(micro.to is To.INDEX for micro in e.micros):
            chooses = factors.to == To.INDEX
            if e.image:
                m.d.comb += [self.rows.request.eq(chooses & factors.first_group), self.rows.id.eq(channel)]
            with m.If(chooses):
                m.d.sync += sequencer.index.eq(channel)
        norm = self._norm(m, sequencer, post)
        picks = [Signal(len(keys), name=f"picks_{name}") for name, keys in (("a", e.firsts), ("b", e.seconds))]
        m.d.sync += [picks[0].eq(Cat(issue.a == key for key in e.firsts)),
                     picks[1].eq(Cat((issue.b == key) & ~issue.zero for key in e.seconds))]
        a_shared, b_shared = self._shared(m, picks, channel, factors.constant, norm)
        for k in range(lanes):
            lane = Lane(e, bool(k % 2))
            m.submodules[f"lane_{k}"] = Shared(lane, "lane", (e, e.shared and k % 2))
            if e.shared:
                m.d.comb += [fetch.places[k].eq(lane.place), lane.entry.eq(fetch.entries[k]), lane.taken.eq(fetch.takes[k % 2]),
                             fetch.looks.eq(adding.to == To.DECAY)]
            m.d.comb += [
                lane.a.eq(picks[0]), lane.b.eq(picks[1]), lane.row_kept.eq(factors.to == To.ROW),
                lane.constant.eq(factors.constant),
                *([lane.moves.eq(Cat(self._works(k, factors, i), self._works(k, products, i)))] if machine.chip else []),
                lane.adds.eq(self._works(k, adding, i)), lane.acc.eq(adding.acc), lane.decays.eq(adding.to == To.DECAY),
                lane.to.eq(captured.to), lane.scan.eq(i.scan), lane.row.eq(row[k]), lane.a_shared.eq(a_shared),
                lane.b_shared.eq(b_shared), lane.weight.eq(fetch.data.word_select(k, program.weight_bits)),
                lane.state.eq(states.read_data.word_select(k, e.state_bits)), post.sums[k].eq(lane.sum),
                states.write_data.word_select(k, e.state_bits).eq(lane.new_state),
            ]
        m.d.comb += [
            states.write_addr.eq(state_rows[4]), states.write_en.eq(captured.to == To.STATE),
            post.capture.eq(captured.to == To.DRAIN),
            *(getattr(post, f"{end}_{what}").eq(getattr(captured, f"{end}_{what}"))
              for end in ("first", "last") for what in ("group", "token")),
            *(getattr(post, name).eq(getattr(sequencer, name))
              for name in ("tile_begins", "tile_ends", "started", "instruction")),
            post.instruction_number.eq(sequencer.number), post.zeros.eq(norm.zeros if norm else 0),
        ]

        # Writes of values: results, or a beat of input.
        takes = self.i.valid & sequencer.take
        m.d.comb += [sequencer.given.eq(self.i.valid), sequencer.first.eq(self.i.payload.first), self.i.ready.eq(sequencer.take),
                     values.write_addr.eq(Mux(takes, sequencer.input_row, post.row))]
        for k in range(lanes):
            value = Signal(signed(bits), name=f"written_{k}")
            m.d.comb += [value.eq(Mux(takes, self.i.payload.data[k % posts], post.results[k % posts])),
                         values.write_data.word_select(k, bits).eq(value)]
        m.d.comb += values.write_en.eq(Cat(takes & (sequencer.input_beat == beat) | post.write & (post.beat == beat)
                                           for beat in range(machine.beats)))
        for name, window in self.windows.items():
            window.connect_ram(m, {"states": states, "values": values}[name])
        if self.windows:
            m.d.comb += self.rests.eq(sequencer.rests)
        self._give(m, sequencer, post)
        self._show(m, post)
        return m

    def _works(self, lane: int, issue, instruction):
        """Whether a lane multiplies."""
        return issue.works & (~issue.last_group | (instruction.working > lane)) if self.encoded.machine.chip else issue.works

    def _weights(self, m: Module, sequencer):
        """What has a row of weights as `data` in the cycle after it is read."""
        e = self.encoded
        if e.image:
            return self._fed(m, sequencer)
        if e.shared:
            fetch = SharedStore(e.shared, e.machine.lanes, e.program.weight_bits, self.boots)
            m.d.comb += [getattr(fetch, name).eq(getattr(self, name)) for name in load_ports(e.shared) if self.boots]
        else:
            fetch = self.loads["weights"]() if self.loads else Store(e.program.weights, IntFormat(e.program.weight_bits))
            m.d.comb += fetch.en.eq(1)
        m.d.comb += fetch.addr.eq(sequencer.weight)
        return fetch

    def _fed(self, m: Module, sequencer) -> Feed:
        feed = Feed(self.encoded)
        wiring.connect(m, feed.rows, wiring.flipped(self.rows))
        m.d.comb += [
            feed.fetching.eq(sequencer.fetching), feed.takes_row.eq(sequencer.takes_row), feed.indexed.eq(sequencer.indexed),
            sequencer.word.eq(feed.word), sequencer.word_ready.eq(feed.word_ready), sequencer.enough.eq(feed.rows.enough),
            sequencer.row_ready.eq(feed.row_ready), feed.packed.eq(sequencer.packed), feed.upper.eq(sequencer.upper),
            feed.keeps_row.eq(sequencer.keeps_row),
        ]
        return feed

    def _norm(self, m: Module, sequencer, post) -> NormUnit | None:
        """The norms' scalars, where the program has norms."""
        if not self.encoded.norms:
            return None
        m.submodules.norm_unit = norm = NormUnit(self.encoded)
        m.d.comb += [
            norm.token.eq(sequencer.token), norm.norm.eq(sequencer.instruction.norm),
            norm.ranged.eq(post.ranged), norm.range_begins.eq(post.begins), norm.range_ends.eq(post.ends),
            norm.range_valid.eq(post.counts), norm.range_token.eq(post.token), norm.squared.eq(post.squared),
            norm.square_begins.eq(post.square_begins), norm.square_ends.eq(post.square_ends),
            norm.square_valid.eq(post.square_counts), norm.square_token.eq(post.square_token),
            *(a.eq(b) for a, b in zip(norm.results, post.results, strict=True)),
            *(a.eq(b) for a, b in zip(norm.sums, post.raw, strict=True)),
        ]
        return norm

    def _shared(self, m: Module, picks, channel, constant, norm: NormUnit | None):
        """What all lanes get alike, as first and as second factor; 0 where they choose another."""
        e = self.encoded
        a, b = Signal(signed(e.a_bits), name="a_shared"), Signal(signed(e.b_bits), name="b_shared")
        firsts, seconds = {A.CHANNEL: channel, A.CONSTANT: constant}, {B.CHANNEL: channel, B.CONSTANT: constant}
        if norm is not None:
            firsts |= {A.ENTRY: norm.entry, A.MINUS: norm.minus, A.SCALED_LOW: norm.scaled[:PIECE],
                       A.SCALED_HIGH: norm.scaled[PIECE:].as_signed(), A.ENTRY_LOW: norm.entry[:PIECE],
                       A.ENTRY_HIGH: norm.entry[PIECE:]}
            seconds |= {B.TOTAL: norm.total, B.TOTAL_LOW: norm.total[:PIECE], B.TOTAL_HIGH: norm.total[PIECE:].as_signed()}
            if e.attends:
                seconds |= {B.SQUARES: norm.squares, B.GREATEST: norm.greatest}
        for factor, picked, keys, choices in zip((a, b), picks, (e.firsts, e.seconds), (firsts, seconds), strict=True):
            chosen = Const(0, len(factor))
            for pick, key in zip(picked, keys, strict=True):
                if key in choices:
                    own = Signal.like(factor, name=f"{factor.name}_{key.name.lower()}")
                    m.d.comb += own.eq(choices[key])
                    chosen = chosen | own & pick.replicate(len(own))
            m.d.comb += factor.eq(chosen)
        return a, b

    def _give(self, m: Module, sequencer, post) -> None:
        """Results that leave: a group begins where they find room."""
        machine, output = self.encoded.machine, self.output
        depth, tracked, beat = self.queue.depth, hasattr(self, "clear_peaks"), Beat(output.format, output.lanes)
        fifo = Ring(beat, depth) if self.boots else Fifo(beat, depth, through=False, deep=True, tracked=tracked)
        m.submodules.results = fifo
        if tracked:
            m.d.comb += [fifo.clear.eq(self.clear_peaks), fifo.hold.eq(self.hold_peaks)]
        if self.peaks:
            m.d.comb += self.peak_0.eq(fifo.peak)
        wiring.connect(m, fifo.o, wiring.flipped(self.o))
        taken = Signal(range(depth + machine.beats + 1))  # beats that are in the queue, or will be
        spare = sequencer.instruction.last_beat
        left = self.o.valid & self.o.ready
        short = Signal(range(machine.beats + 1))
        m.d.comb += [
            fifo.i.valid.eq(post.give), fifo.i.payload.first.eq(post.first),
            fifo.i.payload.last.eq(post.last), short.eq(Mux(sequencer.issue.last_group, spare + 1, machine.beats)),
            *(a.eq(b) for a, b in zip(fifo.i.payload.data, post.results, strict=True)),
        ]
        reserved, gone = Signal.like(short), Signal()
        domain = m.d.sync if machine.beats > 3 else m.d.comb  # registered where the next group of results begins later
        domain += [gone.eq(left), reserved.eq(Mux(sequencer.reserve, short, 0)),
                   sequencer.room.eq(taken <= depth - machine.beats)]
        m.d.sync += taken.eq(taken + reserved - gone)

    def _show(self, m: Module, post) -> None:
        """Traces."""
        for k, name in enumerate(self.trace):
            tap = getattr(self, f"trace_{k}")
            found = [(n, second, post.plain if place == 0 and i.table is not None else post.results)
                     for n, each in enumerate(self.encoded.program.instructions)
                     for second, i in enumerate(each.results) for place, traced in enumerate(i.traces) if traced == name]
            _, second, source = found[0]
            own = Signal(name=f"own_{k}")
            with m.Switch(post.number), m.Case(*(n for n, *_ in found)):
                m.d.comb += own.eq(1)
            m.d.comb += [tap.fire.eq(post.valid & own & (post.second == second)),
                         *(lane.eq(value) for lane, value in zip(tap.payload.data, source, strict=True))]
