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

    `adders`: of adders, subtractors and comparators of two values; `increments`: of adders of a constant; `compressors`: of each
    term beyond the second of a sum within one cycle, which tools add carry-save; `comparisons`: with constants; `muxes`: of
    two-to-one multiplexers; `operand_muxes`: of those before an adder; `selects`: of each input of wider ones; `partials`: of the
    partial products of multipliers made of logic; `registers`; `control`: components, each with its handshake; `delays`: (stages,
    bits) of delay lines without reset of LONG_DELAY stages or more; `products`: (bits, bits) of signed multipliers, the wider
    first, and the share of their partial products that is not constant; `roms`: (words, bits without constant ones, style,
    different columns of bits); `rams`: (words, bits, whether a register follows). No inventory is changed once it is made.
    """

    adders: int = 0
    increments: int = 0
    compressors: int = 0
    comparisons: int = 0
    muxes: int = 0
    operand_muxes: int = 0
    selects: int = 0
    partials: int = 0
    registers: int = 0
    control: int = 0
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


def product(a: int, b: int, share: float = 1.0) -> Inventory:
    """A multiplier of two signed operands, and the share of its partial products that is not constant."""
    return Inventory(products=Counter({(max(a, b), min(a, b), share): 1}))


def constants(values: Iterable[int], bits: int) -> Inventory:
    """Products of constants and a signed operand of `bits`, each with its register: none for 0, no multiplier for a power of
    two, no register for low bits that are 0."""
    products, registers = Counter(), 0
    for value, count in Counter(np.abs(values).tolist()).items():
        if value:
            width, several = value.bit_length() + 1, value.bit_count() > 1
            registers += count * (width + bits - (not several) - (value & -value).bit_length() + 1)
            if several:
                products[max(width, bits), min(width, bits), round((value.bit_count() - 1) / width, 2)] += count
    return Inventory(products=products, registers=registers)
