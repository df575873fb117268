"""What a component is made of, counted from its parameters alone: nothing is elaborated.
`rtl.plan.cost` turns it into resources."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from emamba.base.formats import IntFormat, Rounding

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
    first; `roms`: (words, bits without constant ones, style, different columns of bits); `rams`: (words, bits, whether a register
    follows). No inventory is changed once it is made.
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


def counter(values: int) -> Inventory:
    """A register that counts to `values` and wraps."""
    bits = width(values)
    return Inventory(increments=bits, comparisons=bits, muxes=bits, registers=bits)


def product(a: int, b: int, registered: bool = True) -> Inventory:
    """A multiplier of two signed operands, and the register of its result."""
    return Inventory(products=Counter({(max(a, b), min(a, b)): 1}), registers=a + b if registered else 0)


def ram(words: int, bits: int, held: bool = False) -> Inventory:
    """A memory with one write port and one asynchronous read port, behind which there may be a register, which `held` counts;
    a single word is a register."""
    rams = Inventory(rams=Counter({(words, bits, held): 1})) if words > 1 else Inventory(registers=bits)
    return rams + Inventory(registers=bits * held)


def chosen(bits: int, groups: int) -> Inventory:
    """`datapath.choose`."""
    return Inventory(selects=bits * groups) if groups > 1 else Inventory()


def weighted(a: int, b: int, logic: bool, halved: bool = False) -> tuple[Inventory, list[int]]:
    """`datapath.weighted`: a multiplier, or logic, and the registers of its terms; bits of the terms. Logic adds shifted copies
    of b, the last of them negated."""
    if not logic:
        return product(a, b), [a + b]
    cut = a // 2 if halved else 0
    upper = total([b + k for k in range(a - cut - 1)] + [a - cut + b])[1]
    lower = [total([b + k for k in range(cut)])[1]] if cut else []
    return Inventory(partials=a * b, registers=upper + sum(lower)), [upper + cut, *lower]


def total(widths: list[int]) -> tuple[Inventory, int]:
    """`datapath.balanced_sum` of terms of these widths, and the width of the sum."""
    terms = list(widths)
    while len(terms) > 1:
        terms = [max(terms[k:k + 2]) + 1 if k + 1 < len(terms) else terms[k] for k in range(0, len(terms), 2)]
    if len(widths) < 2:
        return Inventory(), terms[0]
    return Inventory(adders=terms[0], compressors=sum(sorted(widths)[:-2])), terms[0]


def requantizer(bits: int, shift: int, o: IntFormat, rounding: Rounding, fits: bool = False) -> Inventory:
    """`datapath.requantize` of a value of `bits`."""
    rounds = shift > 0 and rounding is not Rounding.TRUNCATE
    result = Inventory(increments=(bits - unread(shift, rounding)) * rounds)
    rounded = max(1, bits + rounds - shift)
    return result if fits else result + Inventory(comparisons=max(1, rounded - o.bits + 1), muxes=o.bits)


def unread(shift: int, rounding: Rounding) -> int:
    """Low bits of a value that `datapath.requantize` does not read, and for which a register before it is not made."""
    return max(0, shift - (rounding is Rounding.HALF_UP)) * (rounding is not Rounding.HALF_EVEN)


def columns(rows: np.ndarray, bits: int) -> tuple[int, int]:
    """Columns of bits of a table without constant ones; and how many of these differ, since equal ones become one circuit."""
    rows = np.asarray(rows, np.int64).reshape(len(rows), -1)
    # A column's sum of random integers stands for it; they are so small that sums in floating point are exact.
    marks = np.random.default_rng(0).integers(1, 1 << (52 - len(rows).bit_length()), len(rows)).astype(np.float64)
    sums = [mark for bit in range(bits) for mark in (marks @ (rows >> bit & 1).astype(np.float64)).tolist()]
    constant = {0.0, float(marks.sum())}
    return sum(mark not in constant for mark in sums), len(set(sums) - constant)


def signed_bits(format: IntFormat) -> int:
    """Bits of the signed operand that a value of `format` is."""
    return format.bits + (not format.signed)


def finish(latency: int) -> Inventory:
    """`Pipeline.finish`, and the handshake of the pipeline."""
    return Inventory(control=1) + register(1, 1) * latency + register(2, latency)


def constants(values: Iterable[int], bits: int, logic: bool) -> Inventory:
    """Products of constants and an operand of `bits`: none for 0 and powers of two."""
    kinds = Counter((abs(v).bit_length() + 1, abs(v).bit_count() > 1, (v & -v).bit_length() - 1) for v in map(int, values) if v)
    return sum((((weighted(a, bits, logic)[0] if several else register(a - 1 + bits)) + Inventory(registers=-zeros)) * count
                for (a, several, zeros), count in kinds.items()), Inventory())
