"""The words of the engine's program: micro-operations, bodies that repeat, instructions, and what holds them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

from emamba.base.formats import IntFormat, Rounding
from emamba.ops import Operator


class A(IntEnum):
    """First factor of a lane: its weight; what all lanes get alike, a channel's value, a constant or a norm's entry; what it
    keeps; a decay, and that shifted left by as many bits as a narrow multiplier lacks for the state; an entry with a minus, and
    parts of one times the number of channels; parts of an entry."""

    WEIGHT, CHANNEL, CONSTANT, ENTRY, KEPT, DECAY, DECAY_UP, MINUS, SCALED_LOW, SCALED_HIGH, ENTRY_LOW, ENTRY_HIGH = range(12)


class B(IntEnum):
    """Second factor of a lane: its value of a row; a channel's value, a constant or a statistic of a token, which all lanes get;
    what it holds or keeps; its state, rounded or as wide as it is. LOW and HIGH are parts for narrow multipliers."""

    (ROW, CHANNEL, CONSTANT, TOTAL, TOTAL_LOW, TOTAL_HIGH, HELD, HELD_LOW, HELD_HIGH, STATE, STATE_LOW, STATE_HIGH, WIDE,
     WIDE_LOW, WIDE_HIGH, KEPT, SQUARES, GREATEST) = range(18)


class Acc(IntEnum):
    """What a product is added to: nothing, the sum, the sum times 2^8, the sum as an input term of the state."""

    START, ADD, RAISE, TERM = range(4)


class To(IntEnum):
    """Where a sum goes: nowhere, to the post-processors, into a lane's HELD or KEPT, into the state, to the decays; without a
    product, ROW puts the row that is read, times 2^constant, into KEPT, and INDEX a channel of it before the addresses of
    weights."""

    NONE, DRAIN, HELD, KEPT, STATE, DECAY, ROW, INDEX = range(8)


class Zero(IntEnum):
    """When the second factor is zero: never; before a sequence's first token; of the first token's state; in the first tile; in a
    sequence that begins anew; in one that goes on."""

    NEVER, BEFORE, STATE, TILE, NEW, OLD = range(6)


class Walk(IntEnum):
    """How an operand moves from step to step of a body: not, to the next channel, to the next token."""

    STAY, CHANNEL, TOKEN = range(3)


class When(IntEnum):
    """The tiles of a sequence in which an instruction runs: all, all but the last, the last."""

    ALWAYS, EARLY, LAST = range(3)


class Stat(IntEnum):
    """What is gathered of a token while it is written: nothing; sum, maximum and minimum; the sum before the requantization,
    which are squares or an attention's products."""

    NONE, RANGE, SQUARES = range(3)


PIECE = 8
"""Bits of a LOW part, but of the state's."""


@dataclass(frozen=True)
class MicroOp:
    """One cycle of all lanes. `x`: the operand that is read, or None; `weight`: whether a row of weights is, `indexed`: the one
    that the index chooses, `packed`: of a stream, half a row, of 4 bits a lane; `state`: "read" or
    "last" (then the next row comes). `first` is what the product of a body's first step is added to, `acc` those of the others.
    With `at_last` the sum goes `to` in the last step alone; with `skip` the last step is idle."""

    x: int | None = None
    weight: bool = False
    indexed: bool = False
    packed: bool = False
    state: str = ""
    a: A = A.WEIGHT
    b: B = B.ROW
    constant: int = 0
    first: Acc = Acc.START
    acc: Acc = Acc.START
    to: To = To.NONE
    at_last: bool = False
    skip: bool = False
    zero: Zero = Zero.NEVER

    @property
    def works(self) -> bool:
        """Whether it multiplies."""
        return self != IDLE and self.to not in (To.ROW, To.INDEX)


IDLE = MicroOp()


@dataclass(frozen=True)
class Body:
    """Micro-operations that run `steps` times; with `rewind` the state begins at the group's first row again."""

    ops: tuple[MicroOp, ...]
    steps: int = 1
    rewind: bool = False

    @property
    def cycles(self) -> int:
        return len(self.ops) * self.steps


@dataclass(eq=False)
class Buffer:
    """Rows of the memory of values: `rows` a token, for `tokens` tokens of which the first `history` are of the tile before.
    `kept`: these live from tile to tile, or all where there are none. `base` is where the memory map puts it. `parts`: of a
    token, each in rows of its own."""

    name: str
    rows: int
    tokens: int
    history: int = 0
    kept: bool = False
    base: int = -1
    parts: int = 1

    @property
    def size(self) -> int:
        return self.rows * self.tokens

    @property
    def lasting(self) -> int:
        """First rows that live from tile to tile: of a buffer with a history that alone."""
        return self.rows * (self.history or self.tokens) if self.kept else 0


@dataclass
class Operand:
    """Rows that an instruction reads: of `buffer`, from its token number `token` and that one's `row` on, or `backwards`;
    `grouped`: a row a group. `rows`: from token to token, where not the buffer's; `step`: of Walk.TOKEN, the same. After each
    `period` tokens it goes on `leap` rows after where they began."""

    buffer: Buffer
    token: int = 0
    grouped: bool = False
    walk: Walk = Walk.STAY
    backwards: bool = False
    row: int = 0
    rows: int | None = None
    step: int | None = None
    period: int | None = None
    leap: int = 0

    @property
    def base(self) -> int:
        return self.buffer.base + self.token * self.buffer.rows + self.row

    @property
    def stride(self) -> int:
        rows = self.buffer.rows if self.rows is None else self.rows
        return -rows if self.backwards else rows

    @property
    def walked(self) -> int:
        """Rows of a step of Walk.TOKEN."""
        return self.buffer.rows if self.step is None else self.step

    def later(self, token):
        """Rows from the first token to another one, or to those of an array."""
        if self.period is None:
            return token * self.stride
        return token % self.period * self.stride + token // self.period * self.leap


@dataclass(eq=False)
class Instruction:
    """`tokens`, or in a sequence's last tile `rest`, × `groups` × the bodies of `chain`; a group is a row of results. Before each
    token `lead` cycles pass.

    lanes: results of the last group
    operands: what micro-operations read by number
    weights: of an artifact's operators, rows [.., lanes], read in order and from the start again with each token
    bias: of an artifact's operators, that of every result; or None
    state: first row of the state, or None
    dest: where results go; None: to no memory
    format, low, high: of the results, and their limits where others; table: then a function of them
    before: tokens that lie before the sequence, of Zero.BEFORE
    norm: by whose statistics the results are scaled; gathered: whose statistics it reads as they are
    bounds: largest |sum|, |HELD| and |KEPT|
    samples: cycle of a token in which a norm's scalars are read at the latest
    work: multiplications of a token
    traces: nodes whose values are the results before and after the table
    second, place: another one, whose results follow in the same row, from this lane on (`rtl.engine.pairs`)
    """

    name: str
    chain: list[Body]
    tokens: int
    rest: int = 0
    groups: int = 1
    lanes: int = 0
    operands: list[Operand] = field(default_factory=list)
    weights: Callable[[Mapping[str, Operator]], np.ndarray] | None = None
    bias: Callable[[Mapping[str, Operator]], np.ndarray] | None = None
    state: int | None = None
    dest: Operand | None = None
    format: IntFormat = field(default_factory=lambda: IntFormat(8))
    low: int | None = None
    high: int | None = None
    shift: int = 0
    rounding: Rounding = Rounding.HALF_UP
    table: np.ndarray | None = None
    table_format: IntFormat | None = None
    stat: Stat = Stat.NONE
    out: bool = False
    when: When = When.ALWAYS
    before: int = 0
    norm: object | None = None
    gathered: object | None = None
    scan: object | None = None
    lead: int = 0
    samples: int = 0
    takes_input: bool = False
    bound: int = 0
    held: int = 0
    kept: int = 0
    work: int = 0
    traces: tuple[str, str] = ("", "")
    gap: int = 0
    second: "Instruction | None" = None
    place: int = 0

    @property
    def results(self) -> "list[Instruction]":
        """Itself, and the one whose results share its lanes."""
        return [self] if self.second is None else [self, self.second]

    @property
    def working(self) -> int:
        """Lanes of the last group with results, those of second results too."""
        return self.lanes if self.second is None else self.place + self.second.lanes

    @property
    def group_cycles(self) -> int:
        return sum(body.cycles for body in self.chain)

    @property
    def token_cycles(self) -> int:
        return self.lead + self.groups * self.group_cycles

    def __post_init__(self):
        self.rest = self.rest or self.tokens

    def runs(self, last: bool) -> bool:
        """Whether it runs in a tile, which is a sequence's last or not."""
        return self.when is not (When.EARLY if last else When.LAST)

    def count(self, last: bool) -> int:
        """Tokens of a tile."""
        return self.rest if last else self.tokens

    def cycles(self, last: bool) -> int:
        """From its first issue to the one after its last."""
        return self.count(last) * self.token_cycles

    @property
    def chosen(self) -> int:
        """Rows of weights of a token that a value chooses."""
        return self.groups * sum(op.indexed for body in self.chain for op in body.ops)

    @property
    def drains(self) -> bool:
        """Whether it gives results."""
        return any(op.to is To.DRAIN for body in self.chain for op in body.ops)


def idle(cycles: int) -> list[Body]:
    """Cycles in which nothing is issued."""
    return [Body((IDLE,), cycles)] if cycles > 0 else []


def inner(**fields) -> MicroOp:
    """A step of an inner product, whose sum drains with the last step."""
    return replace(MicroOp(acc=Acc.ADD, to=To.DRAIN, at_last=True), **fields)


def bits_of(values: Sequence[int]) -> int:
    """Signed bits that hold all of `values`."""
    low, high = min((0, *values)), max((0, *values))
    return 1 + max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0)
