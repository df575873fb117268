"""The tokens under a kernel that moves over a grid: a streaming line buffer."""

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

import numpy as np

from emamba.ops import Window as Operator

from ..kit.block import Cycles, Port, Spec, transfers
from ..kit.datapath import Pipeline
from ..kit.hdl import Cat, Const, Memory, Module, Mux, Signal, Value, unsigned
from ..kit.parity import decode, encode
from ..kit.registry import Stage, realizes


@realizes(Operator)
@dataclass(frozen=True)
class Window(Spec):
    """Reads `in_lanes` channels a cycle into a ring of `depth` tokens, and gives those of `copies` taps a cycle, from as many
    copies of the ring. A slot is written anew once no later window reads it, so the last windows of a sequence leave while the
    next one comes. `frame` are the cycles of a sequence; windows leave evenly over them at the fastest.

    Several taps at a time are whole tokens, of one row of the kernel or of whole rows. Else `in_lanes` divide the channels.
    """

    stores = "line buffer"

    latency = 2  # ring, border

    op: Operator
    in_lanes: int
    copies: int
    frame: int

    @property
    def inputs(self) -> dict[str, Port]:
        return {"i": Port(self.op.i, self.op.channels, self.in_lanes)}

    @property
    def output(self) -> Port:
        return Port(self.op.o, self.op.width, self.in_lanes * self.copies)

    @classmethod
    def fold(cls, op: Operator, stage: Stage) -> "Window":
        """That with the fewest lanes with which words enter, and windows leave, in time."""
        grid, frame = op.grid, stage.cycles * stage.tokens
        together = [n for n in range(1, grid.kernel_columns + 1) if grid.kernel_columns % n == 0]
        together += [grid.kernel_columns * n for n in range(2, grid.kernel_rows + 1) if grid.kernel_rows % n == 0]
        lanes = [n for n in range(1, op.channels + 1) if op.channels % n == 0]
        choices = [cls(op, n, 1, frame) for n in lanes] + [cls(op, op.channels, n, frame) for n in together[1:]]
        return next((block for block in choices if block.cycles * stage.reads <= frame), choices[-1])

    def paced(self, cycles):
        return replace(self, frame=cycles)

    @property
    def tokens(self) -> int:
        return self.op.rows * self.op.columns

    @property
    def windows(self) -> int:
        return len(self.op.grid.tokens)

    @property
    def words(self) -> int:
        """Of a token."""
        return self.inputs["i"].beats

    @property
    def pace(self) -> int:
        """Cycles from one window to the next, at least."""
        return max(1, self.frame // self.windows)

    @property
    def cycles(self) -> int:
        return max(self.words, ceil(self.windows * self.output.beats / self.tokens))

    @property
    def group(self) -> tuple[int, int]:
        """Rows and columns of the taps that are read together."""
        columns = min(self.copies, self.op.kernel_columns)
        return self.copies // columns, columns

    @cached_property
    def depth(self) -> int:
        """Tokens of the ring: so many that none waits, if they come evenly."""
        tokens, sequences = self.tokens, 3
        arrivals = (np.arange(sequences * tokens) * self.frame // tokens)[:, None] + np.arange(self.words)
        taken, steps = self._follow(arrivals, sequences * tokens)
        free = np.concatenate([self.released + k * tokens for k in range(sequences)] + [[sequences * tokens]])
        done = steps[self.output.beats - 1::self.output.beats]
        current = np.searchsorted(done, taken[::self.words])
        return int((np.arange(sequences * tokens) - free[current]).max()) + 1

    @cached_property
    def released(self) -> np.ndarray:
        """Of each window, the tokens before it that neither it nor a later one reads."""
        op, (rows, columns) = self.op, self.op.grid.places
        top, left = np.arange(rows)[:, None] * op.stride_rows - op.pad_top, np.arange(columns) * op.stride_columns - op.pad_left
        return (np.maximum(top, 0) * op.columns + np.maximum(left, 0) * self._leaves(top)).reshape(-1)

    def _leaves(self, top):
        """Whether no later row of windows begins in the grid's row in which one at `top` begins."""
        return (top + self.op.stride_rows > 0) | (self.op.grid.places[0] == 1)

    @cached_property
    def needed(self) -> np.ndarray:
        """Of each window and each group of its taps, the token that it waits for: of those in the border, the next one to it."""
        op, (rows, columns) = self.op, self.group
        places = [
            np.arange(count)[:, None] * stride - pad + np.arange(size - 1, kernel, size) for count, stride, pad, size, kernel in (
                (op.grid.places[0], op.stride_rows, op.pad_top, rows, op.kernel_rows),
                (op.grid.places[1], op.stride_columns, op.pad_left, columns, op.kernel_columns))]
        row, column = (np.clip(last, 0, size - 1) for last, size in zip(places, (op.rows, op.columns), strict=True))
        return (row[:, None, :, None] * op.columns + column[None, :, None, :]).reshape(self.windows, -1)

    def _follow(self, arrivals: Cycles, depth: int) -> tuple[Cycles, Cycles]:
        """Cycles in which words are taken, and in which the steps of windows are made, with a ring of `depth` tokens."""
        words, windows, tokens, pace = self.words, self.windows, self.tokens, self.pace
        needed = self.needed.tolist()
        last_reader = (np.searchsorted(self.released, np.arange(tokens), side="right") - 1).tolist()
        tokens_come = np.reshape(arrivals, (-1, words))
        taken: list[Cycles] = []
        ends: list[int] = []
        starts: list[int] = []
        done: list[int] = []

        def take(until: int) -> None:
            """Tokens up to number `until`."""
            while len(taken) <= until:
                token = len(taken)
                sequence, place = divmod(token - depth, tokens)
                freed = done[sequence * windows + last_reader[place]] + 1 if token >= depth else 0
                taken.append(transfers(tokens_come[token], 1, max(freed, ends[-1] + 1 if ends else 0)))
                ends.append(int(taken[-1][-1]))

        at, start = 0, -pace
        for sequence in range(len(tokens_come) // tokens):
            for groups in needed:
                at = start = max(at, start + pace)
                for k, last in enumerate(groups):
                    last += sequence * tokens
                    take(last)
                    at = max(at, ends[last] + 1)
                    if k == 0:
                        start = at
                    starts.append(at)
                    at += words
                done.append(at - 1)
        take(len(tokens_come) - 1)
        return np.concatenate(taken), (np.array(starts)[:, None] + np.arange(words)).reshape(-1)

    def schedule(self, arrivals):
        taken, steps = self._follow(arrivals, self.depth)
        return taken, steps + self.latency

    def circuit(self, m, block, platform):
        pipeline = Pipeline(m, block.o)
        reader, writer = _Reader(self, m), _Writer(self, m)
        taken, moved = Signal(), Signal()
        wait = Signal(range(self.pace))
        step = writer.has(reader) & (~reader.start | (wait == 0))
        pipeline.rest(platform, step, self.latency)
        m.d.comb += [
            moved.eq(step & pipeline.advance),
            block.i.ready.eq(writer.free(reader)),
            taken.eq(block.i.valid & block.i.ready),
        ]
        with m.If(moved & reader.start):
            m.d.sync += wait.eq(self.pace - 1)
        with m.Elif(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        reader.move(moved)
        writer.move(taken, moved & reader.ends)

        parity, lanes, faults = block.fault is not None, [], []
        data = Cat(*block.i.payload.data)
        for copy, (address, inside) in enumerate(zip(reader.addresses, reader.inside(), strict=True)):
            m.submodules[f"ring_{copy}"] = ring = Memory(
                shape=unsigned(len(data) + parity), depth=self.depth * self.words, init=[])
            read, write = ring.read_port(domain="comb"), ring.write_port()
            m.d.comb += [read.addr.eq(address), write.addr.eq(writer.address), write.en.eq(taken),
                         write.data.eq(encode(data, parity))]
            faults.append(moved & inside & read.data.xor())
            token, shown = pipeline.register(decode(read.data, parity), "token"), pipeline.register(inside, "inside")
            kept = pipeline.register(Mux(shown, token, 0), "kept")
            bits = len(data) // self.in_lanes
            lanes += [kept[k * bits:(k + 1) * bits] for k in range(self.in_lanes)]
        if parity:
            m.d.comb += block.fault.eq(Cat(faults).any())
        pipeline.finish(lanes, reader.first, reader.last, step, self.latency)


class _Writer:
    """Where the next token goes: its place on the grid, and that of the token whose slot it takes; `ahead` are the sequences by
    which it is beyond the reader, `behind` those by which that token is before the reader's."""

    def __init__(self, spec: Window, m: Module):
        self.spec, self.m, op = spec, m, spec.op
        most = spec.depth // spec.tokens + 2
        self.address, self.word = Signal(range(spec.depth * spec.words)), Signal(range(spec.words), name="word_in")
        self.row, self.column = Signal(range(op.rows), name="row_in"), Signal(range(op.columns), name="column_in")
        row, column = divmod(-spec.depth % spec.tokens, op.columns)
        self.old_row = Signal(range(op.rows), init=row, name="old_row")
        self.old_column = Signal(range(op.columns), init=column, name="old_column")
        self.ahead = Signal(range(-1, most + 1), name="ahead")
        self.behind = Signal(range(most + 1), init=-(-spec.depth // spec.tokens), name="behind")

    def has(self, reader: "_Reader") -> Value:
        """Whether the taps of the reader's group are there."""
        op, (rows, columns) = self.spec.op, self.spec.group
        row, column = _clipped(reader.row + (rows - 1), op.rows), _clipped(reader.column + (columns - 1), op.columns)
        before = _less(row, self.row) | ((row == self.row) & _less(column, self.column))
        return (self.ahead > 0) | ((self.ahead == 0) & before)

    def free(self, reader: "_Reader") -> Value:
        """Whether no window, from the reader's on, reads the slot."""
        op, leaves = self.spec.op, self.spec._leaves(reader.top)
        here = (self.old_row == _clipped(reader.top, op.rows)) & _less(self.old_column, reader.left)
        return (self.behind != 0) | _less(self.old_row, reader.top) | (leaves & here)

    def move(self, taken: Value, next_sequence: Value) -> None:
        m, spec = self.m, self.spec
        size, ends, begins = spec.depth * spec.words, Signal(name="ends_in"), Signal(name="old_ends")
        whole = taken & (self.word == spec.words - 1)
        with m.If(taken):
            m.d.sync += [self.address.eq(Mux(self.address == size - 1, 0, self.address + 1)),
                         self.word.eq(Mux(self.word == spec.words - 1, 0, self.word + 1))]
        for row, column, end in ((self.row, self.column, ends), (self.old_row, self.old_column, begins)):
            last_row, last_column = row == spec.op.rows - 1, column == spec.op.columns - 1
            m.d.comb += end.eq(whole & last_row & last_column)
            with m.If(whole):
                m.d.sync += column.eq(Mux(last_column, 0, column + 1))
                with m.If(last_column):
                    m.d.sync += row.eq(Mux(last_row, 0, row + 1))
        m.d.sync += [self.ahead.eq(self.ahead + ends - next_sequence), self.behind.eq(self.behind - begins + next_sequence)]


class _Reader:
    """The window that is read, at `top` and `left` of the grid, and in it the first tap of a group, at `row` and `column`;
    `addresses` are those of the taps in the ring."""

    def __init__(self, spec: Window, m: Module):
        self.spec, self.m, op = spec, m, spec.op
        self.top, self.row = (Signal(range(-op.pad_top, op.rows + op.pad_bottom + 1), init=-op.pad_top, name=name)
                              for name in ("top", "row"))
        self.left, self.column = (Signal(range(-op.pad_left, op.columns + op.pad_right + 1), init=-op.pad_left, name=name)
                                  for name in ("left", "column"))
        rows, columns = spec.group
        self.groups = op.kernel_rows // rows, op.kernel_columns // columns
        self.down, self.across = Signal(range(self.groups[0]), name="down"), Signal(range(self.groups[1]), name="across")
        self.word = Signal(range(spec.words), name="word_out")
        self.taps = [(k // columns, k % columns) for k in range(spec.copies)]
        first = -op.pad_top * op.columns - op.pad_left
        self.addresses = [
            Signal(range(spec.depth * spec.words), init=(first + row * op.columns + column) % spec.depth * spec.words,
                   name=f"address_{k}") for k, (row, column) in enumerate(self.taps)]
        self.start = (self.down == 0) & (self.across == 0) & (self.word == 0)
        self.last_word, self.last_across = self.word == spec.words - 1, self.across == self.groups[1] - 1
        self.whole = self.last_word & self.last_across & (self.down == self.groups[0] - 1)
        places = op.grid.places
        self.last_row = self.top == (places[0] - 1) * op.stride_rows - op.pad_top
        self.last_column = self.left == (places[1] - 1) * op.stride_columns - op.pad_left
        self.first, self.last = (self.top == -op.pad_top) & (self.left == -op.pad_left), self.last_row & self.last_column
        self.ends = self.whole & self.last

    def inside(self) -> list[Value]:
        """Of each tap, whether it is on the grid."""
        op = self.spec.op
        return [~_less(self.row + row, 0) & (self.row + row < op.rows) & ~_less(self.column + column, 0)
                & (self.column + column < op.columns) for row, column in self.taps]

    def move(self, moved: Value) -> None:
        m, spec, op, (rows, columns) = self.m, self.spec, self.spec.op, self.spec.group
        size, back = spec.depth * spec.words, (self.groups[1] - 1) * columns
        up = (self.groups[0] - 1) * rows * op.columns + back
        across, down = (op.grid.places[1] - 1) * op.stride_columns, (op.grid.places[0] - 1) * op.stride_rows * op.columns
        delta = Signal(range(size), name="delta")

        def go(tokens: int):
            """From the last word of a token to the first one of another."""
            return delta.eq((tokens * spec.words - (spec.words - 1)) % size)

        m.d.comb += delta.eq(1 % size)
        with m.If(moved):
            m.d.sync += self.word.eq(Mux(self.last_word, 0, self.word + 1))
            for address in self.addresses:
                total = Signal(range(2 * size - 1))
                m.d.comb += total.eq(address + delta)
                m.d.sync += address.eq(Mux(total >= size, total - size, total))
        with m.If(moved & self.last_word):
            m.d.sync += [self.across.eq(self.across + 1), self.column.eq(self.column + columns)]
            m.d.comb += go(columns)
            with m.If(self.last_across):
                m.d.sync += [self.across.eq(0), self.column.eq(self.left)]
                m.d.sync += [self.down.eq(self.down + 1), self.row.eq(self.row + rows)]
                m.d.comb += go(rows * op.columns - back)
            with m.If(self.whole):
                left, top = self.left + op.stride_columns, self.top + op.stride_rows
                m.d.sync += [self.down.eq(0), self.row.eq(self.top), self.column.eq(left), self.left.eq(left)]
                m.d.comb += go(op.stride_columns - up)
                with m.If(self.last_column):
                    m.d.sync += [self.row.eq(top), self.top.eq(top), self.column.eq(-op.pad_left), self.left.eq(-op.pad_left)]
                    m.d.comb += go(op.stride_rows * op.columns - across - up)
                    with m.If(self.last_row):
                        m.d.sync += [self.row.eq(-op.pad_top), self.top.eq(-op.pad_top)]
                        m.d.comb += go(spec.tokens - down - across - up)


def _less(a: Value, b: Value | int) -> Value:
    """a < b, without a comparison where the shapes exclude it."""
    never = not Value.cast(a).shape().signed and (b <= 0 if isinstance(b, int) else not len(b))
    return Const(0, 1) if never else a < b


def _clipped(value: Value, size: int) -> Value:
    """A place on the grid, or where it is beyond it the next one on it."""
    return Mux(_less(value, 0), 0, Mux(value > size - 1, size - 1, value))
