"""What a component is made of, which `rtl.kit.tally` counts and `rtl.plan.cost` turns into resources."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

TREE_REST = 2
LONG_DELAY = 3
"""Stages from which an FPGA's tools make a shift register of a delay line without reset (Yosys' xilinx_srl)."""


@dataclass
class Inventory:
    """Bits of each kind; inventories add up and multiply by an integer.

    `adders`: of carry chains of two values; `increments`: of one value and a constant or none; `inversions`: of constants that
    invert it; `comparisons`: of a comparison with a constant; `carry_saves`: of the first rows of full adders before a chain,
    `compressors`: of the rows after them; `partials`: of the partial products of multipliers made of logic, and of their full
    adders; `resets`: of registers that take a constant; `registers`; `control`: components, each with its handshake; `logic`: by
    the number of their inputs, bits of logic between registers, chains and memories; `operands`: those of logic before a chain;
    `delays`: (stages, bits) of delay lines without reset of LONG_DELAY stages or more; `products`: (bits, bits) of signed
    multipliers, the wider first, and the share of their partial products that is not constant; `roms`: (words, bits without
    constant ones, style, different columns of bits, lookup tables of these with 4 and with 6 inputs); `rams`: (words, bits,
    whether a register follows). No inventory is changed once it is made.
    """

    adders: int = 0
    increments: int = 0
    inversions: int = 0
    comparisons: int = 0
    carry_saves: int = 0
    compressors: int = 0
    partials: int = 0
    resets: int = 0
    registers: int = 0
    control: int = 0
    logic: Counter = field(default_factory=Counter)
    operands: Counter = field(default_factory=Counter)
    delays: Counter = field(default_factory=Counter)
    products: Counter = field(default_factory=Counter)
    roms: Counter = field(default_factory=Counter)
    rams: Counter = field(default_factory=Counter)

    def __add__(self, other: "Inventory") -> "Inventory":
        return Inventory(*map(_sum, vars(self).values(), vars(other).values()))

    def __mul__(self, count: int) -> "Inventory":
        return Inventory(*(Counter({key: number * count for key, number in value.items()}) if isinstance(value, Counter)
                           else value * count for value in vars(self).values()))

    __rmul__ = __mul__


def _sum(a, b):
    if not isinstance(a, Counter):
        return a + b
    if a and b:
        return Counter({key: a[key] + b[key] for key in {*a, *b}})
    return a or b


def width(values: int) -> int:
    """Bits of Signal(range(values))."""
    return (values - 1).bit_length()


def register(bits: int, stages: int = 1) -> Inventory:
    """`Pipeline.register`."""
    if stages >= LONG_DELAY:
        return Inventory(delays=Counter({(stages, bits): 1}) if bits else Counter())
    return Inventory(registers=bits * stages)


def choices(bits: int, ways: int = 2) -> Inventory:
    """Multiplexers of one of several values."""
    return Inventory(logic=Counter({2 * ways - 1: bits}) if bits and ways > 1 else Counter())


def ram(words: int, bits: int, held: bool = False) -> Inventory:
    """A memory with one write port and one asynchronous read port, behind which there may be a register, which `held` counts;
    a single word is a register."""
    rams = Inventory(rams=Counter({(words, bits, held): 1})) if words > 1 else Inventory(registers=bits)
    return rams + Inventory(registers=bits * held)


def columns(rows: np.ndarray, bits: int) -> tuple[int, int]:
    """Columns of bits of a table without constant ones; and how many of these differ, since equal ones become one circuit."""
    rows = np.asarray(rows, np.int64).reshape(len(rows), -1)
    # A column's sum of random integers stands for it; they are so small that sums in floating point are exact.
    marks = np.random.default_rng(0).integers(1, 1 << (52 - len(rows).bit_length()), len(rows)).astype(np.float64)
    sums = [mark for bit in range(bits) for mark in (marks @ (rows >> bit & 1).astype(np.float64)).tolist()]
    constant = {0.0, float(marks.sum())}
    return sum(mark not in constant for mark in sums), len(set(sums) - constant)


PART, WIDE_PART, FEW_COLUMNS = 16, 32, 32
"""Words of a table that one lookup table of 4 inputs holds, and one of 6 if the table has more than so many columns: columns that
share parts keep tools from finding larger ones. One of 6 holds twice as many of other tables, without multiplexers after it."""


def tables(words: int, columns: int, rows: np.ndarray | None = None, bits: int = 0) -> tuple[int, int]:
    """Lookup tables with 4 and with 6 inputs of a table of so many different columns, of random words if its `rows` are not
    given: one for each different part of a column that is not constant, and a multiplexer for each but one."""
    def count(size: int, muxed: bool) -> int:
        parts = np.full(columns, -(-words // size)) if rows is None or words <= size else _parts(rows, bits, size)
        return int(np.maximum(1, 2 * parts - 1 if muxed else parts).sum())

    return count(PART, True), count(WIDE_PART, True) if columns > FEW_COLUMNS else count(2 * WIDE_PART, False)


def _parts(rows: np.ndarray, bits: int, size: int) -> np.ndarray:
    """Of each different column the different parts of `size` words that are not constant."""
    rows = np.asarray(rows, np.int64).reshape(len(rows), -1)
    padded = np.pad(rows, ((0, -len(rows) % size), (0, 0))).reshape(-1, size, rows.shape[1])
    marks = np.random.default_rng(0).integers(1, 1 << 40, size).astype(np.float64)
    sums = np.concatenate([(padded >> bit & 1).transpose(0, 2, 1) @ marks for bit in range(bits)], axis=1)
    sums = np.sort(np.unique(sums, axis=1), axis=0)
    different = (sums > 0) & (sums < marks.sum())
    different[1:] &= sums[1:] != sums[:-1]
    return different.sum(axis=0)[sums.max(axis=0) > 0]


def product(a: int, b: int, share: float = 1.0) -> Inventory:
    """A multiplier of two signed operands, and the share of its partial products that is not constant."""
    return Inventory(products=Counter({(max(a, b), min(a, b), share): 1}))


def constants(values: Iterable[int], bits: int, unread: int = 0) -> Inventory:
    """Products of constants and a signed operand of `bits`, each with its register: none for 0, no multiplier for a power of
    two, no register for low bits that are 0 or `unread`."""
    products, registers = Counter(), 0
    for value, count in Counter(np.abs(values).tolist()).items():
        if value:
            width, several = value.bit_length() + 1, value.bit_count() > 1
            registers += count * (width + bits - (not several) - max(unread, (value & -value).bit_length() - 1))
            if several:
                products[max(width, bits), min(width, bits), round((value.bit_count() - 1) / width, 2)] += count
    return Inventory(products=products, registers=registers)
