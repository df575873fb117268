"""A program as words: what its read-only memories hold, and the widths of all that its engine has."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from amaranth.hdl import signed as signed_shape
from amaranth.lib import data

from emamba.base.errors import DesignLimit
from emamba.base.formats import Rounding, bits_for
from emamba.ops import Attention, LayerNorm

from .compiler import Program
from .micro import PIECE, A, Acc, B, Instruction, MicroOp, To, When, bits_of
from .shared_store import Image as Shared
from .stream import Image

OPERANDS = 4


def _unsigned(values: Iterable[int]) -> int:
    return max(1, max(values, default=0).bit_length())


@dataclass(frozen=True)
class Clip:
    """Limits of a result, and how it is rounded."""

    low: int
    high: int
    rounding: Rounding


class Encoded:
    """The words of a program, each a dict of its fields, and their layouts."""

    def __init__(self, program: Program):
        self.program, self.machine = program, program.machine
        self.norms, self.clips, self.tables = [], [], []
        self.bodies: list[dict] = []
        self.micros: list[MicroOp] = []
        self._chains: dict[tuple, tuple[int, int]] = {}
        self.decays = program.decays
        self.shared = Shared(self) if self.machine.small else None
        self.words = [self._instruction(k, instruction) for k, instruction in enumerate(program.instructions)]
        self.instruction = _layout(self.words)
        self.body = _layout(self.bodies)
        self.micro_words = [self._micro(micro) for micro in self.micros]
        self.micro = _layout(self.micro_words, signed={"constant"})
        self.factors = self.a_bits, self.b_bits  # refused here where they are too wide
        self.image = Image(self) if self.machine.stream else None

    # -- words ----------------------------------------------------------------------------------------------------------------

    def _instruction(self, k: int, i: Instruction) -> dict:
        program, posts = self.program, self.machine.posts
        body, micro = self._chain(i)
        first = self.shared.first if self.shared else 0
        word = {"body": body, "micro": micro, "tokens": i.tokens - 1, "rest": i.rest - 1, "groups": i.groups - 1,
                "lead": i.lead, "gap": i.gap, "weight": 0 if self.machine.stream else first + program.weight_base[k],
                "state": i.state or 0, "bias": program.bias_base[k],
                "biased": i.bias is not None,
                "shift": self.left + i.shift, "clip": self._number(self.clips, self._clip(i)), "tabled": i.table is not None,
                "table": self._table(i), "stat": int(i.stat), "stores": i.dest is not None, "out": i.out,
                "late": i.when is When.LAST, "early": i.when is When.EARLY, "before": i.before, "normed": i.norm is not None,
                "norm": 0 if i.norm is None else self._number(self.norms, _NormKey(i.norm)),
                "scan": 0 if i.scan is None else next(n for n, d in enumerate(self.decays) if d == type(d).of(i.scan)),
                "takes": i.takes_input, "last_beat": -(-i.lanes // posts) - 1, "tail": (i.lanes - 1) % posts,
                "final": i is program.instructions[-1], "dest": i.dest.base if i.dest else 0,
                "dest_stride": i.dest.stride if i.dest else 0}
        other = i.second or i
        word |= {"double": i.second is not None, "shift_2": self.left + other.shift,
                 "clip_2": self._number(self.clips, self._clip(other)), "dest_2": other.dest.base if other.dest else 0,
                 "dest_2_stride": other.dest.stride if other.dest else 0, "last_beat_2": -(-other.lanes // posts) - 1}
        if self.machine.chip:
            word["working"] = i.working or self.machine.lanes
        if self.machine.stream:
            word |= {"number": k, "whole": i.scan is not None}
        first = i.operands[0] if i.operands else None
        if self.steps:
            word["x0_step"] = (first.walked if first else 0) & self.row_mask
        if self.leaps:
            period = first.period if first else None
            word |= {"period": period or 0, "x0_leap": first.leap - (period - 1) * first.stride & self.row_mask if period else 0}
        for n in range(OPERANDS):
            operand = i.operands[n] if n < len(i.operands) else None
            word |= {f"x{n}": operand.base if operand else 0, f"x{n}_stride": operand.stride & self.row_mask if operand else 0,
                     f"x{n}_grouped": bool(operand and operand.grouped), f"x{n}_walk": int(operand.walk) if operand else 0}
        return {key: int(value) for key, value in word.items()}

    def tile(self, last: bool) -> list[tuple[Instruction, int]]:
        """What runs in a tile, with its word: the order of a stream."""
        found = [(i, word) for i, word in zip(self.program.instructions, self.words, strict=True) if i.runs(last)]
        words = [word | {"final": int(k == len(found) - 1)} for k, (_, word) in enumerate(found)]
        return [(i, word) for (i, _), word in zip(found, pack(self.instruction, words), strict=True)]

    def _chain(self, i: Instruction) -> tuple[int, int]:
        """First body and first micro-operation of a chain; equal ones are there once."""
        key = tuple(i.chain)
        if key not in self._chains:
            self._chains[key] = len(self.bodies), len(self.micros)
            for body in i.chain:
                self.bodies.append({"first": len(self.micros), "length": len(body.ops) - 1, "steps": body.steps - 1,
                                    "rewind": int(body.rewind), "final": int(body is i.chain[-1])})
                self.micros += body.ops
        return self._chains[key]

    def _micro(self, m: MicroOp) -> dict:
        return {"x": m.x or 0, "weight": int(m.weight), "indexed": int(m.indexed), "packed": int(m.packed),
                "next_state": int(m.state == "last"), "a": int(m.a), "b": int(m.b), "constant": m.constant,
                "first": int(m.first), "acc": int(m.acc), "to": int(m.to), "at_last": int(m.at_last), "skip": int(m.skip),
                "zero": int(m.zero)} | ({"works": int(m.works)} if self.machine.chip else {})

    @staticmethod
    def _number(found: list, value) -> int:
        if value not in found:
            found.append(value)
        return found.index(value)

    def _clip(self, i: Instruction) -> Clip:
        return Clip(i.format.min if i.low is None else i.low, i.format.max if i.high is None else i.high, i.rounding)

    def _table(self, i: Instruction) -> int:
        if i.table is None:
            return 0
        keys = [table.tobytes() for table in self.tables]
        if i.table.tobytes() not in keys:
            self.tables.append(i.table)
            return len(keys)
        return keys.index(i.table.tobytes())

    @cached_property
    def steps(self) -> bool:
        """Whether an operand walks other than from token to token."""
        return any(operand.step is not None for i in self.program.instructions for operand in i.operands)

    @cached_property
    def leaps(self) -> bool:
        """Whether the tokens of an operand are not evenly apart."""
        return any(operand.period for i in self.program.instructions for operand in i.operands)

    # -- widths ---------------------------------------------------------------------------------------------------------------

    @property
    def row_mask(self) -> int:
        """Addresses of rows wrap at it."""
        return (1 << (max(2, self.program.rows) - 1).bit_length()) - 1

    @cached_property
    def shifts(self) -> tuple[int, int]:
        """Least and largest shift to the right of a sum."""
        results = [result for i in self.program.instructions if i.drains for result in i.results]
        found = [i.shift for i in results]
        least = [i.shift - (0 if i.norm is None else i.norm.largest_shift) for i in results]
        return min((0, *least)), max((0, *found))

    @property
    def left(self) -> int:
        """Bits by which every sum is shifted to the left first, so that no shift is negative."""
        return -self.shifts[0]

    @cached_property
    def sum_bits(self) -> int:
        least = max(self.a_bits, self.b_bits)
        return max(least, bits_for(max((i.bound for i in self.program.instructions), default=1)))

    @cached_property
    def drained_bits(self) -> int:
        """Of a sum with its bias."""
        return max(self.sum_bits, self.bias_bits) + 1

    @cached_property
    def bias_bits(self) -> int:
        return bits_of([int(self.program.biases.min()), int(self.program.biases.max())])

    @cached_property
    def total_bits(self) -> int:
        """Of a token's sum."""
        return max((bits_for(key.op.sum_of_weights if isinstance(key.op, Attention) else key.op.channels * key.op.i.magnitude)
                    for key in self.norms), default=1)

    @cached_property
    def square_bits(self) -> int:
        """Of a token's sum of squares; of an attention's products, with a sign."""
        return max((bits_for(key.op.score_bound) if isinstance(key.op, Attention) else key.op.squares_bound.bit_length()
                    for key in self.norms if isinstance(key.op, Attention | LayerNorm)), default=1)

    @property
    def attends(self) -> bool:
        return any(isinstance(key.op, Attention) for key in self.norms)

    @cached_property
    def scaled_bits(self) -> int:
        """Of an entry times the number of channels."""
        return max((bits_for((1 << key.op.entry_bits) * key.op.channels) for key in self.norms), default=PIECE + 1)

    @cached_property
    def held_bits(self) -> int:
        return bits_for(max((i.held for i in self.program.instructions), default=0))

    @cached_property
    def whole_held_bits(self) -> int:
        """Of what a multiplier takes at once."""
        return bits_for(max((i.held for i in self.program.instructions
                             if any(op.b is B.HELD for body in i.chain for op in body.ops)), default=0))

    @cached_property
    def kept_bits(self) -> int:
        kept = bits_for(max((i.kept for i in self.program.instructions), default=0))
        return max(kept, self.row_bits)

    @cached_property
    def row_bits(self) -> int:
        """Of a row that is kept, as which alone KEPT is a first factor."""
        return max((bits + micro.constant for micro, bits in self._reads if micro.to is To.ROW), default=self.value_bits)

    @cached_property
    def channel_bits(self) -> int:
        """Of a channel as a first factor."""
        return max((bits for micro, bits in self._reads if micro.works and micro.a is A.CHANNEL), default=self.value_bits)

    @cached_property
    def _reads(self) -> list[tuple[MicroOp, int]]:
        """Every micro-operation that reads values, with their bits: on a chip those of the results that are written there."""
        written = {}
        for i in self.program.instructions:
            for result in (each for each in i.results if each.dest):
                o, clip = result.table_format, self._clip(result)
                bits = bits_of([clip.low, clip.high]) if result.table is None else o.bits + (not o.signed)
                written[result.dest.buffer] = max(bits, written.get(result.dest.buffer, 1))
            if i.takes_input:
                written.pop(i.dest.buffer)
        of = written if self.machine.chip else {}
        return [(op, of.get(i.operands[op.x].buffer, self.value_bits))
                for i in self.program.instructions for body in i.chain for op in body.ops if op.x is not None]

    @cached_property
    def firsts(self) -> list[A]:
        """First factors that the program chooses."""
        return sorted({micro.a for micro in self.micros if micro.works})

    @cached_property
    def seconds(self) -> list[B]:
        return sorted({micro.b for micro in self.micros if micro.works})

    @cached_property
    def accs(self) -> set[Acc]:
        """What products are added to."""
        return {acc for micro in self.micros if micro.works for acc in (micro.first, micro.acc)}

    @cached_property
    def row_shifts(self) -> list[int]:
        """Bits by which rows that are kept are shifted to the left."""
        return sorted({micro.constant for micro in self.micros if micro.to is To.ROW})

    @property
    def value_bits(self) -> int:
        return self.program.value_bits

    @cached_property
    def state_bits(self) -> int:
        return max((decay.op.h_wide.bits for decay in self.decays), default=1)

    @cached_property
    def rounded_bits(self) -> int:
        """Of a state that is multiplied by a decay."""
        return max((decay.op.h.bits for decay in self.decays), default=1)

    @cached_property
    def split(self) -> int:
        """Bits of the lower part of a rounded state."""
        return max(0, self.rounded_bits - (self.machine.factor_bits or self.rounded_bits))

    @cached_property
    def decay_bits(self) -> int:
        """Of a decay, with a sign that is always 0."""
        return max((decay.op.a_bar.bits for decay in self.decays), default=1) + 1

    @cached_property
    def constant_bits(self) -> int:
        return bits_of([micro.constant for micro in self.micros])

    @cached_property
    def a_bits(self) -> int:
        entry = max((key.op.entry_bits + 1 for key in self.norms), default=1)
        found = {A.WEIGHT: self.program.weight_bits, A.CHANNEL: self.channel_bits, A.CONSTANT: self.constant_bits,
                 A.ENTRY: entry, A.ENTRY_LOW: PIECE + 1, A.ENTRY_HIGH: entry - PIECE, A.KEPT: self.row_bits,
                 A.DECAY: self.decay_bits, A.DECAY_UP: self.decay_bits + self.split,
                 A.SCALED_LOW: PIECE + 1, A.SCALED_HIGH: self.scaled_bits - PIECE}
        found[A.MINUS] = found[A.ENTRY]
        return self._factor(found, {micro.a for micro in self.micros if micro.works})

    @cached_property
    def b_bits(self) -> int:
        found = {B.ROW: self.value_bits, B.CHANNEL: self.value_bits, B.CONSTANT: self.constant_bits,
                 B.TOTAL: self.total_bits, B.TOTAL_LOW: PIECE + 1, B.TOTAL_HIGH: self.total_bits - PIECE,
                 B.HELD: self.whole_held_bits, B.HELD_LOW: PIECE + 1, B.HELD_HIGH: self.held_bits - PIECE,
                 B.STATE: self.rounded_bits, B.STATE_LOW: self.split + 1, B.STATE_HIGH: self.rounded_bits - self.split,
                 B.KEPT: self.kept_bits, B.WIDE: self.state_bits, B.SQUARES: self.square_bits, B.GREATEST: self.value_bits,
                 B.WIDE_LOW: PIECE + 1, B.WIDE_HIGH: self.state_bits - PIECE}
        return self._factor(found, {micro.b for micro in self.micros if micro.works})

    def _factor(self, bits: dict, used: set) -> int:
        name, most = max(((key.name, bits[key]) for key in used), key=lambda item: item[1])
        limit = self.machine.factor_bits
        if limit is not None and most > limit:
            raise DesignLimit(f"{name} has {most} bits, but the engine's multipliers take {limit}: take wider multipliers")
        return most

    @cached_property
    def result_bits(self) -> int:
        """Signed bits that hold every result before its table."""
        return max(bits_of([clip.low, clip.high]) for clip in self.clips)

    @cached_property
    def final_bits(self) -> int:
        found = [i.table_format for i in self.program.instructions if i.table is not None]
        return max([self.result_bits, *(o.bits + (not o.signed) for o in found)])


class _NormKey:
    """A norm by what its scalars are computed with."""

    def __init__(self, op):
        self.op = op
        self.key = (type(op), op.channels, op.spread_bits, op.entry_bits, getattr(op, "epsilon", 0), op.reciprocals[0].tobytes())

    def __eq__(self, other):
        return self.key == other.key


def _layout(words: list[dict], signed: set[str] = frozenset()) -> data.StructLayout:
    """The narrowest fields that hold every word."""
    return data.StructLayout({
        key: signed_shape(bits_of([word[key] for word in words])) if key in signed else _unsigned(word[key] for word in words)
        for key in words[0]})


def pack(layout: data.StructLayout, words: list[dict]) -> list[int]:
    """The words as integers."""
    return [int(layout.const(word).as_value().value) for word in words]
