"""Softmax attention: two sequences of queries, keys and values in memories, and a pass over the keys for every query."""

from dataclasses import dataclass, replace

import numpy as np

from emamba.base.formats import IntFormat
from emamba.ops import Attention as Operator

from ..kit.block import Port, Spec
from ..kit.datapath import (
    NARROW_BITS,
    Pipeline,
    accumulate,
    adder_tree,
    balanced_sum,
    requantize,
    times,
    tree_stages,
    wide_product,
    width_of,
)
from ..kit.hdl import Cat, Memory, Module, Mux, Signal, Value, unsigned
from ..kit.parity import decode, encode
from ..kit.registry import Stage, realizes
from ..kit.rom import rom_latency
from .activation import PIECEWISE_LATENCY, piecewise_linear
from .norm import reciprocal

WEIGHT = 4 + PIECEWISE_LATENCY
"""Steps from the choice of a key to its weight: score, difference, p before and after rounding, exp."""


@realizes(Operator)
@dataclass(frozen=True)
class Attention(Spec):
    """`lanes` channels a cycle of q·k, and beside it of e·v for the scores of before: they divide a head, or are whole heads.

    A query takes its heads one after the other, or `head_lanes` together. For each, one unit scores all keys and keeps the
    largest score; then the other weighs all values, once for every beat of the head, and divides by the weights' sum. So that
    neither waits, there are scores of several turns. The memories hold the sequence that is worked on and the one that comes.
    Queries start `pace` cycles after each other at the earliest. A causal query needs no token after its own.
    `narrow` multipliers get a wide factor in two parts. Formats: `emamba.ops.Attention`.
    """

    stores = "queries, keys, values and scores"

    op: Operator
    lanes: int
    pace: int = 1
    narrow: bool = False

    @classmethod
    def fold(cls, op: Operator, stage: Stage) -> "Attention":
        """The fewest lanes that keep the budget; where it is too small, all lanes."""
        heads = [count for count in range(1, op.heads + 1) if op.heads % count == 0]
        possible = [n for n in range(1, op.head_dim) if op.head_dim % n == 0] + [op.head_dim * count for count in heads]
        enough = (lanes for lanes in possible if cls(op, lanes).cycles <= stage.budget)
        return cls(op, next(enough, op.width), narrow=stage.realization.narrow)

    def paced(self, cycles):
        return replace(self, pace=max(1, cycles // self.op.tokens))

    @property
    def inputs(self):
        return {name: Port(getattr(self.op, name), self.op.width, self.lanes) for name in "qkv"}

    @property
    def tokens(self) -> int:
        return self.op.tokens

    @property
    def head_lanes(self) -> int:
        """Heads a cycle."""
        return max(1, self.lanes // self.op.head_dim)

    @property
    def chunks(self) -> int:
        """Beats of a head."""
        return max(1, self.op.head_dim // self.lanes)

    @property
    def turns(self) -> int:
        """Heads, or groups of them, one after the other."""
        return self.output.beats // self.chunks

    @property
    def words(self) -> int:
        """Of a sequence, in each memory."""
        return self.op.tokens * self.output.beats

    @property
    def cycles(self) -> int:
        return self.words

    @property
    def multipliers(self) -> int:
        """Of a lane q·k, e·v and the reciprocal's; of a head exp's slope."""
        return 3 * self.lanes + self.head_lanes

    @property
    def multiplies(self) -> int:
        keys = (self.op.tokens + 1) // 2 if self.op.causal else self.op.tokens
        return keys * (2 * self.op.width + self.op.heads * self.chunks) + self.op.width

    @property
    def scoring(self) -> int:
        """Steps from the choice of a key to its score: operands, product, tree, sum."""
        return 3 + tree_stages(self.lanes // self.head_lanes)

    @property
    def banks(self) -> int:
        """Turns whose scores are kept, so that the unit of the scores need not wait."""
        return 2 + -(-self.scoring // (self.op.tokens * self.chunks))

    @property
    def lookup(self) -> int:
        return rom_latency(len(self.op.reciprocals[0]))

    @property
    def split(self) -> bool:
        return self.narrow and self.op.entry_bits + self.op.largest_shift > NARROW_BITS

    @property
    def factor_step(self) -> int:
        """Product and sum of a value; zeros, table and factor of the weights' sum."""
        return WEIGHT + 2 + 2 + self.lookup

    @property
    def latency(self) -> int:
        """From the choice of the last key to the output: and product, (sum of its parts,) requantizer."""
        return self.factor_step + 2 + self.split

    def schedule(self, q, k, v):
        op, count, chunks = self.op, self.output.beats, self.chunks
        came = np.maximum.reduce((q, k, v)).tolist()
        taken, departures, freed, released = [], [], [], []
        scored = weighed = 0
        start = -self.pace
        for begin in range(0, len(came), self.words):
            room = released[-2] if len(released) > 1 else 0
            for n in range(begin, begin + self.words):
                taken.append(max(came[n], taken[-1] + 1 if taken else 0, room))
            for query in range(op.tokens):
                keys = query + 1 if op.causal else op.tokens
                there = taken[begin + (query + 1 if op.causal else op.tokens) * count - 1] + 1
                for turn in range(self.turns):
                    first = max(scored, there, freed[-self.banks] if len(freed) >= self.banks else 0)
                    if not turn:
                        start = first = max(first, start + self.pace)
                    scored = first + keys * chunks
                    first = max(weighed, scored + self.scoring)
                    departures += [first + (n + 1) * keys - 1 + self.latency for n in range(chunks)]
                    weighed = first + keys * chunks
                    freed.append(weighed)
            released.append(weighed + WEIGHT - 1)
        return *([np.array(taken)] * 3), np.array(departures)

    # -- circuit --------------------------------------------------------------------------------------------------------------

    def circuit(self, m, block, platform):
        op, length, count = self.op, self.op.tokens, self.output.beats
        pipeline = Pipeline(m, block.o, clips=block.clips)
        rooms, there = Signal(range(3), init=2), Signal(range(2 * length + 1))
        banks, filled = Signal(range(self.banks + 1), init=self.banks), Signal(range(self.banks + 1))
        scores, weighs, fresh, wait = Signal(), Signal(), Signal(init=1), Signal(range(self.pace))
        m.d.comb += [
            scores.eq((there != 0) & (banks != 0) & (~fresh | (wait == 0))),
            weighs.eq(filled != 0),
        ]
        score = _Turns(self, m, scores & pipeline.advance, "score", keys_outside=True)
        weigh = _Turns(self, m, weighs & pipeline.advance, "weigh", keys_outside=False)
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.If(score.step):
            m.d.sync += fresh.eq(score.end_of_query)
            with m.If(fresh):
                m.d.sync += wait.eq(self.pace - 1)
        pipeline.rest(platform, scores | weighs, self.latency)

        # The three streams together, into one of two places of a sequence.
        streams = block.q, block.k, block.v
        pushed = Signal()
        m.d.comb += [pushed.eq(Cat(s.valid for s in streams).all() & (rooms != 0)), *(s.ready.eq(pushed) for s in streams)]
        place, _ = _counter(m, pushed, 2 * self.words, "place")
        _, end_of_token = _counter(m, pushed, count, "beat")
        _, last_token = _counter(m, pushed & end_of_token, length, "token")
        q_memory, k_memory, v_memory = (
            _Memory(m, block, name, Cat(*s.payload.data), place, 2 * self.words, pushed)
            for name, s in zip("qkv", streams, strict=True))

        found, done, turned = self._score(m, pipeline, score, scores, q_memory, k_memory)
        largest = self._largest(m, pipeline, score, found, done)
        at, _ = _counter(m, done, self.banks * length, "scored")
        bank, _ = _counter(m, turned, self.banks, "bank")
        memories = (_Memory(m, block, "scores", Cat(found), at, self.banks * length, done),
                    _Memory(m, block, "peaks", Cat(largest), bank, self.banks, turned), v_memory)
        results = self._weigh(m, pipeline, weigh, weighs, *memories)
        pipeline.finish(results, weigh.query == 0, weigh.query == length - 1, weighs & weigh.last_key, self.latency)

        stored = pushed & end_of_token & last_token
        taken = score.step & (score.end_of_query if op.causal else score.end_of_sequence)
        released = pipeline.flag(weighs & weigh.end_of_sequence, "released", WEIGHT - 1) & pipeline.advance
        weighed = weigh.step & weigh.end_of_turn
        for level, up, down in ((rooms, released, stored), (there, pushed & end_of_token if op.causal else stored, taken),
                                (banks, weighed, score.step & score.end_of_turn), (filled, turned, weighed)):
            pipeline.timeless(level)
            with m.If(up ^ down):
                m.d.sync += level.eq(level + Mux(up, 1, -1))
        if block.fault is not None:
            m.d.comb += block.fault.eq(Cat(memory.fault for memory in (q_memory, k_memory, *memories)).any())

    def _score(self, m: Module, pipeline: Pipeline, turn: "_Turns", live: Value, q_memory: "_Memory", k_memory: "_Memory"):
        """The score of each head, and when it is there; and when that of a turn's last key is."""
        op, each, steps = self.op, self.lanes // self.head_lanes, self.scoring
        at = Signal(range(2 * self.words), name="q_place")
        with m.If(turn.step):
            again = Mux(turn.end_of_turn, Mux(at == 2 * self.words - 1, 0, at + 1), at - (self.chunks - 1))
            m.d.sync += at.eq(Mux(turn.last_chunk, again, at + 1))
        q, k = q_memory.read(pipeline, at, turn.step, op.q), k_memory.read(pipeline, turn.row, turn.step, op.k)
        start, adds = pipeline.register(turn.chunk == 0, "start", steps - 1), pipeline.flag(live, "adds", steps - 1)
        products = pipeline.each(lambda own, a, b: own.register(a * b, "qk"), q, k)
        totals = [adder_tree(pipeline, products[head * each:(head + 1) * each], "tree") for head in range(self.head_lanes)]
        scores = [accumulate(m, pipeline, total, 0, start, adds, width_of(op.score_bound)) for total in totals]
        done, turned = (pipeline.flag(live & end, "done", steps) for end in (turn.last_chunk, turn.end_of_turn))
        return scores, done & pipeline.advance, turned & pipeline.advance

    def _largest(self, m: Module, pipeline: Pipeline, turn: "_Turns", scores: list[Value], done: Value) -> list[Value]:
        """Of each head the largest score of a turn, up to now."""
        first, found = pipeline.register(turn.key == 0, "first", self.scoring), []
        for score in scores:
            kept, now = Signal(score.shape(), name="kept", reset_less=True), Signal(score.shape(), name="largest")
            m.d.comb += now.eq(Mux(first | (score > kept), score, kept))
            with m.If(done):
                m.d.sync += kept.eq(now)
            found.append(now)
        return found

    def _weigh(self, m: Module, pipeline: Pipeline, turn: "_Turns", live: Value, scores: "_Memory", peaks: "_Memory",
               v_memory: "_Memory") -> list[Value]:
        """The outputs of a beat."""
        op, each, words = self.op, self.lanes // self.head_lanes, self.banks * self.op.tokens
        first, at = Signal(range(words), name="first_score"), Signal(range(words), name="score_place")
        following = Mux(at == words - 1, 0, at + 1)
        with m.If(turn.step):
            m.d.sync += at.eq(Mux(turn.last_key & ~turn.last_chunk, first, following))
            with m.If(turn.end_of_turn):
                m.d.sync += first.eq(following)
        bank, _ = _counter(m, turn.step & turn.end_of_turn, self.banks, "weighed_bank")
        place = pipeline.register(turn.row, "v_place", WEIGHT - 1)
        reads = pipeline.flag(live, "reads", WEIGHT - 1) & pipeline.advance
        found, tops = (memory.read(pipeline, row, turn.step, IntFormat(width_of(op.score_bound).width))
                       for memory, row in ((scores, at), (peaks, bank)))
        values = v_memory.read(pipeline, place, reads, op.v)
        start, adds = pipeline.register(turn.key == 0, "starts", WEIGHT + 1), pipeline.flag(live, "sums", WEIGHT + 1)
        product_shape = width_of(op.shifted_bound << op.entry_bits)

        def head(own, score, top):
            scaled = own.register(times(own.register(score - top, "below"), op.multiplier), "scaled")
            p = own.register(requantize(own.m, scaled, op.shift, op.exp.i, op.rounding), "p")
            weight = piecewise_linear(own.m, own, p, op.exp)
            spread = accumulate(own.m, own, own.register(weight, "weight"), 0, start, adds, unsigned(op.spread_bits))
            return weight, reciprocal(own.m, own, op, spread)

        def result(own, value, weight, factor):
            total = accumulate(own.m, own, own.register(weight * value, "ev"), 0, start, adds, width_of(op.n_bound))
            parts = wide_product(own, own.register(total, "n", 2 + self.lookup), factor, self.split, "product")
            product = own.register(balanced_sum(parts), "product_sum", int(self.split), product_shape)
            return own.result(product, op.y_shift, op.o, op.rounding)

        inner = pipeline.modules("head", self.head_lanes)
        heads = pipeline.each(head, found, tops, within=inner)
        return pipeline.each(result, values, *zip(*(heads[lane // each] for lane in range(self.lanes)), strict=True))


class _Memory:
    """Words that come at an `address` where `step` is high. `fault`, with parity: a word is read that is not as it came."""

    def __init__(self, m: Module, block, name: str, word: Value, address: Value, depth: int, step: Value):
        self.m, self.parity, self.fault = m, block.fault is not None, Signal(name=f"{name}_fault")
        m.submodules[name] = memory = Memory(shape=unsigned(len(word) + self.parity), depth=depth, init=[])
        write, self.port = memory.write_port(), memory.read_port(domain="comb")
        m.d.comb += [write.addr.eq(address), write.en.eq(step), write.data.eq(encode(word, self.parity))]

    def read(self, pipeline: Pipeline, address: Value, step: Value, format: IntFormat) -> list[Value]:
        """The integers of the word at an address, a step later; it counts where `step` is high."""
        self.m.d.comb += self.port.addr.eq(address)
        if self.parity:
            self.m.d.comb += self.fault.eq(step & self.port.data.xor())
        word = pipeline.register(decode(self.port.data, self.parity), "held")
        parts = [word[k:k + format.bits] for k in range(0, len(word), format.bits)]
        return [part.as_signed() if format.signed else part for part in parts]


class _Turns:
    """What a unit works on: `key`, `chunk` of a head, and `query`, which move with every `step`; `row` is the place of the key's
    beat. A key comes with all chunks, or where the keys are not outside a chunk with all keys."""

    def __init__(self, block: Attention, m: Module, step: Value, name: str, keys_outside: bool):
        chunks, turns, length, count = block.chunks, block.turns, block.op.tokens, block.output.beats
        self.step, self.query = step, Signal(range(length), name=f"{name}_query")
        last = self.query if block.op.causal else length - 1
        if keys_outside:
            self.chunk, self.last_chunk = _counter(m, step, chunks, f"{name}_chunk")
            self.key, self.last_key = _counter(m, step & self.last_chunk, length, f"{name}_key", last)
        else:
            self.key, self.last_key = _counter(m, step, length, f"{name}_key", last)
            self.chunk, self.last_chunk = _counter(m, step & self.last_key, chunks, f"{name}_chunk")
        self.end_of_turn = self.last_key & self.last_chunk
        _, last_turn = _counter(m, step & self.end_of_turn, turns, f"{name}_turn")
        self.end_of_query = self.end_of_turn & last_turn
        last_query = self.query == length - 1
        with m.If(step & self.end_of_query):
            m.d.sync += self.query.eq(Mux(last_query, 0, self.query + 1))
        self.end_of_sequence = self.end_of_query & last_query

        places = range(2 * block.words)
        self.row, first = Signal(places, name=f"{name}_row"), Signal(places, name=f"{name}_first")
        upper = Signal(name=f"{name}_upper")
        after = Mux(self.end_of_query, Mux(last_query ^ upper, block.words, 0), first + (chunks if keys_outside else 1))
        again = self.end_of_turn if keys_outside else self.last_key
        onward = Mux(self.last_chunk, count - chunks + 1, 1) if keys_outside else count
        with m.If(step):
            m.d.sync += self.row.eq(Mux(again, after, self.row + onward))
            with m.If(again):
                m.d.sync += first.eq(after)
            with m.If(self.end_of_sequence):
                m.d.sync += upper.eq(~upper)


def _counter(m: Module, step: Value, values: int, name: str, last: Value | int | None = None) -> tuple[Signal, Value]:
    """A counter to `values`, or up to `last`, and whether it is at its end."""
    count = Signal(range(values), name=name)
    end = count == (values - 1 if last is None else last)
    with m.If(step):
        m.d.sync += count.eq(Mux(end, 0, count + 1))
    return count, end
