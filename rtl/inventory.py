"""What a component is made of, counted from its parameters alone: nothing is elaborated. `rtl.cost` turns it into resources."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

import numpy as np

from emamba.formats import IntFormat, Rounding

TREE_REST = 2
LONG_DELAY = 3
"""Stages from which an FPGA's tools make a shift register of a delay line without reset (Yosys' xilinx_srl)."""


@dataclass
class Inventory:
    """Bits of each kind; inventories add up and multiply by an integer.

    `adders`: of two-input adders and subtractors; `compressors`: of each term beyond the second of a sum within one cycle, which
    tools add carry-save; `comparisons`; `muxes`: of two-to-one multiplexers; `registers`; `delays`: (stages, bits) of delay lines
    without reset of LONG_DELAY stages or more. `products`: (bits, bits) of signed multipliers, the wider first; `roms`: (words,
    bits, style, different columns of bits); `rams`: (words, bits), read asynchronously; `control`: the components, each with its handshake.
    """

    adders: int = 0
    compressors: int = 0
    comparisons: int = 0
    muxes: int = 0
    registers: int = 0
    control: int = 0
    delays: Counter = field(default_factory=Counter)
    products: Counter = field(default_factory=Counter)
    roms: Counter = field(default_factory=Counter)
    rams: Counter = field(default_factory=Counter)

    def __add__(self, other: "Inventory") -> "Inventory":
        return Inventory(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def __mul__(self, count: int) -> "Inventory":
        def scaled(value):
            return Counter({key: number * count for key, number in value.items()}) if isinstance(value, Counter) else value * count
        return Inventory(**{f.name: scaled(getattr(self, f.name)) for f in fields(self)})

    __rmul__ = __mul__


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
    return Inventory(adders=bits, comparisons=bits, muxes=bits, registers=bits)


def product(a: int, b: int, registered: bool = True) -> Inventory:
    """A multiplier of two signed operands, and the register of its result."""
    return Inventory(products=Counter({(max(a, b), min(a, b)): 1}), registers=a + b if registered else 0)


def ram(words: int, bits: int) -> Inventory:
    """A memory with one write port and one asynchronous read port; a single word is a register."""
    return Inventory(rams=Counter({(words, bits): 1})) if words > 1 else Inventory(registers=bits)


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
    result = Inventory(adders=bits if rounds else 0)
    rounded = max(1, bits + rounds - shift)
    return result if fits else result + Inventory(comparisons=2 * rounded, muxes=2 * o.bits)


def columns(rows: np.ndarray, bits: int) -> int:
    """Different columns of bits of a table, without constant ones: equal columns become one circuit."""
    rows = np.asarray(rows, np.int64).reshape(len(rows), -1)
    signature = np.random.default_rng(0).integers(0, 1 << 63, len(rows), np.uint64)
    found = np.unique([(rows >> bit & 1).astype(np.uint64).T @ signature for bit in range(bits)])
    return len(found) - int(np.isin([np.uint64(0), signature.sum()], found).sum())


def signed_bits(format: IntFormat) -> int:
    """Bits of the signed operand that a value of `format` is."""
    return format.bits + (not format.signed)


def finish(latency: int) -> Inventory:
    """`Pipeline.finish`, and the handshake of the pipeline."""
    return Inventory(control=1) + register(1, 1) * latency + register(2, latency)


def constants(values: Iterable[int], bits: int) -> Inventory:
    """Products of constants and an operand of `bits`: none for 0 and powers of two."""
    return sum((product(abs(int(v)).bit_length() + 1, bits) if v & (v - 1) else register(abs(int(v)).bit_length() + bits)
                for v in map(int, values)), Inventory())
