"""Sums of products in the adders of DSP48E2s, for UltraScale+ (our choice; AMD UG579).

Behind a multiplier of 27 × 18 bits a DSP48E2 adds three words of 48 bits: its product, the sum of the DSP48E2 below it, and one
that it reads, which here is that of another one. So n of them are a tree whose operands come a step later a level, and no sum
takes logic. Two products with a shared factor, as in `rtl.kit.pairs`, are one word in all of them: high·2^f + low, where f is
wide enough for the whole sum of the low ones. With 2^(f−1) added it needs no borrow.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from amaranth.hdl import ClockSignal, Instance

from emamba.base.formats import IntFormat

from . import inventory as inv
from .datapath import Pipeline, accumulate
from .hdl import Cat, Const, Signal, Value, counted, signed
from .light import later, node
from .pairs import NARROW_BITS, WIDE_BITS
from .shared import Foreign, collecting

SUM_BITS = 48
PRODUCT, C = 0b0101, 0b11
"""Of OPMODE: the product at X and Y; C at W, where the sum itself is 0b01."""
REGISTERS = ("ACASCREG", "ADREG", "ALUMODEREG", "AREG", "BCASCREG", "BREG", "CARRYINREG", "CARRYINSELREG", "CREG", "DREG",
             "INMODEREG", "OPMODEREG")
"""Parameters of the registers that are not used."""
UNUSED = {"D": 27, "ACIN": 30, "BCIN": 18, "ALUMODE": 4, "INMODE": 5, "CARRYINSEL": 3} | dict.fromkeys(
    ("CARRYIN", "CARRYCASCIN", "MULTSIGNIN", "CEA1", "CEA2", "CEAD", "CEALUMODE", "CEB1", "CEB2", "CEC", "CECARRYIN", "CECTRL",
     "CED", "CEINMODE", "RSTA", "RSTALLCARRYIN", "RSTALUMODE", "RSTB", "RSTC", "RSTCTRL", "RSTD", "RSTINMODE", "RSTM", "RSTP"), 1)
DSP48E2 = Foreign("DSP48E2", (("CLK", 1), ("A", 30), ("B", 18), ("C", SUM_BITS), ("PCIN", SUM_BITS), ("OPMODE", 9), ("CEM", 1),
                              ("CEP", 1), *UNUSED.items(), ("P", -SUM_BITS), ("PCOUT", -SUM_BITS)),
                  Path(__file__).with_name("dsp48e2.v").read_text(encoding="utf-8"), REGISTERS)


@dataclass(frozen=True)
class Link:
    """A DSP48E2, whose operands come `skew` steps later than the first ones; it adds the sums of the links of these numbers."""

    skew: int
    below: int | None = None
    beside: int | None = None


def links(terms: int, accumulates: bool = False) -> list[Link]:
    """Those of a sum, the last of which gives it. One that `accumulates` adds its own sum to it in each step, so no other one
    stands beside it. Nothing stands beside the first."""
    found: list[Link] = []

    def grow(count: int, skew: int) -> int | None:
        if not count:
            return None
        found.append(Link(skew, grow(count // 2, skew - 1), grow((count - 1) // 2, skew - 1)))
        return len(found) - 1

    inner = terms - accumulates
    below = grow(inner, inner.bit_length() - 1)
    return [*found, Link(inner.bit_length(), below)] if accumulates else found


def steps(links: list[Link]) -> int:
    """From the first operands to the sum."""
    return links[-1].skew + 2


def possible(weight: IntFormat, i: IntFormat, width: int) -> bool:
    """Whether a DSP48E2 takes a product of a weight and an `i`, and a sum of `width` bits."""
    return weight.bits <= WIDE_BITS and i.bits + (not i.signed) <= NARROW_BITS and width <= SUM_BITS


def both_fit(weight: IntFormat, i: IntFormat, width: int) -> bool:
    """Whether it takes two of each: the sum of the low ones, of `width` bits, lies below the weight of the high one."""
    return possible(weight, i, 2 * width) and width + weight.bits <= WIDE_BITS


def by_skew(rows: np.ndarray, element: IntFormat, links: list[Link]) -> dict[str, tuple[np.ndarray, IntFormat]]:
    """The memories of weights [rows, lanes, terms]: one for all whose step is the same, since each comes as late as its
    operand."""
    return {f"weight_{skew}": (rows[:, :, [link.skew == skew for link in links]].reshape(len(rows), -1), element)
            for skew in sorted({link.skew for link in links})}


def by_lane(memories: dict[int, list[Value]], links: list[Link], lanes: int) -> list[list[Value]]:
    """[lanes][terms] of what those memories, by skew, hold."""
    each = {skew: len(values) // lanes for skew, values in memories.items()}
    found = []
    for lane in range(lanes):
        left = {skew: iter(values[lane * each[skew]:(lane + 1) * each[skew]]) for skew, values in memories.items()}
        found.append([next(left[link.skew]) for link in links])
    return found


def sum_of(pipeline: Pipeline, links: list[Link], words: list[Value], values: list[Value], addend: Value,
           start: Value | None = None, live: Value | None = None) -> Value:
    """Σ word · value + addend, `steps` later. Without `start` the addend comes a step after the first operands. With it the sum
    accumulates where `live` is high, and takes the addend in place of itself where `start` is, all in the step before."""
    sums: list[tuple[Value, Value]] = []
    for k, (link, word, value) in enumerate(zip(links, words, values, strict=True)):
        last = k == len(links) - 1
        below = None if link.below is None else sums[link.below][1]
        if start is not None and last:
            sums.append(_link(pipeline, word, value, below, addend, start, live))
        else:
            beside = sums[link.beside][0] if link.beside is not None else addend if k == 0 and start is None else None
            sums.append(_link(pipeline, word, value, below, beside))
    return sums[-1][0]


def pair_of(pipeline: Pipeline, links: list[Link], low: list[Value], stored: list[Value], values: list[Value],
            addends: tuple[Value, Value], width: int, **accumulation) -> tuple[Value, Value]:
    """The sums of low · value and of high · value, of `width` bits, from low and what `rtl.kit.pairs.encode` stored for high;
    else as `sum_of`."""
    fields = []
    for value in (*low, *addends):
        field = Signal(signed(width), name="field")
        pipeline.m.d.comb += field.eq(value)
        fields.append(field)
    words = [Cat(field, high).as_signed() for field, high in zip(fields, stored, strict=False)]
    lower, upper = fields[-2:]
    addend = Cat(lower[:-1], ~lower[-1], upper).as_signed()
    total = sum_of(pipeline, links, words, values, addend, **accumulation)
    return Cat(total[:width - 1], ~total[width - 1]).as_signed(), total[width:2 * width].as_signed()


def _link(pipeline: Pipeline, word: Value, value: Value, below: Value | None, beside: Value | None, start: Value | None = None,
          live: Value | None = None) -> tuple[Value, Value]:
    """The sum of a link, and the same for the link above it."""
    terms = [term for term in (below, beside) if term is not None]
    accumulation = [] if start is None else [start, live]
    if counted():
        product, total = Signal(signed(SUM_BITS)), Signal(signed(SUM_BITS))
        later(product, Cat(word, value))
        later(total, Cat(product, *terms, *accumulation))
        pipeline.m.note(inv.product(WIDE_BITS, NARROW_BITS), *map(node, (word, value, *terms, *accumulation)))
        return total, total
    found = collecting()
    if found is not None:
        found.foreign[DSP48E2] = None
        return _instance(pipeline, word, value, below, beside, start, live)
    product = pipeline.register(word * value, "product")
    if start is None:
        total = pipeline.register(sum(terms, product), "total", shape=signed(SUM_BITS))
    else:
        value = product if below is None else product + below
        total = accumulate(pipeline.m, pipeline, value, beside, start, live, signed(SUM_BITS))
    return total, total


def _instance(pipeline, word, value, below, beside, start, live) -> tuple[Value, Value]:
    """P and PCOUT of a DSP48E2."""
    m, operands = pipeline.m, {"A": (word, 30), "B": (value, NARROW_BITS), "C": (0 if beside is None else beside, SUM_BITS)}
    ports = {"PCIN": 0 if below is None else below, "CEM": pipeline.moves,
             "CEP": pipeline.moves if live is None else pipeline.advance & live, "CLK": ClockSignal()}
    for name, (given, bits) in operands.items():
        ports[name] = port = Signal(signed(bits), name=name)
        m.d.comb += port.eq(given)
    z, w = int(below is not None), Const(0 if beside is None else C, 2) if start is None else Cat(Const(1, 1), start)
    p, cascade = Signal(signed(SUM_BITS), name="P"), Signal(SUM_BITS, name="PCOUT")
    m.submodules += Instance(
        DSP48E2.name, *(("p", name, 0) for name in REGISTERS), *(("i", name, Const(0, bits)) for name, bits in UNUSED.items()),
        *(("i", name, port) for name, port in ports.items()), i_OPMODE=Cat(Const(PRODUCT, 4), Const(z, 3), w), o_P=p,
        o_PCOUT=cascade)
    return p, cascade
