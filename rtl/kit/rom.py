"""Constant memories: every constant array of a design is one, so that a target can replace it."""

from collections import Counter

import numpy as np
from amaranth.hdl import Array

from emamba.base.formats import IntFormat

from . import inventory as inv
from .datapath import Pipeline
from .hdl import Component, Const, In, Memory, Module, Out, Signal, Value, counted, unsigned
from .light import later

MOST_KNOWN = 256
"""Words up to which the contents of a memory count; larger ones are block RAM, or counted as random."""
SHALLOW_ROM, DEEP_ROM = 64, 2048
"""Words up to which a memory is read fast, and up to which it is one memory. A deeper one than the first, in block RAM, gets a
register at its output; a deeper one than the second is banks, each with such a register, and another one behind their choice."""


def rom_latency(words: int) -> int:
    """Steps from the address to the data of a `Rom`."""
    return 1 + (words > SHALLOW_ROM) + (words > DEEP_ROM)


class Rom(Component):
    """Read-only memory of rows of integers: `data` holds row `addr` `rom_latency` steps, which `en` marks, later. Every constant
    array of a design is one of these, so that a target can replace it (block RAM, gates, a macro, a loadable memory). `style`,
    "block" or none, is what an FPGA's tools are asked for."""

    def __init__(self, rows: np.ndarray, element: IntFormat, style: str | None = None):
        rows = np.asarray(rows, np.int64)
        self.rows, self.element, self.style = rows, element, style
        self.count, self.lanes = rows.shape
        super().__init__({
            "en": In(1),
            "addr": In(range(self.count)),
            "data": Out(unsigned(self.lanes * element.bits)),
        })

    def words(self) -> list[int]:
        mask = (1 << self.element.bits) - 1
        return [sum((int(value) & mask) << (k * self.element.bits) for k, value in enumerate(row)) for row in self.rows]

    def elaborate(self, platform):
        m = Module()
        if circuit := counted():
            return self._count(m, circuit.trim)
        if self.count == 1:
            m.d.comb += self.data.eq(self.words()[0])
            return m
        words, depth = self.words(), min(self.count, DEEP_ROM)
        banks = []
        for k, start in enumerate(range(0, self.count, depth)):
            part = words[start:start + depth]
            m.submodules[f"storage_{k}" if self.count > depth else "storage"] = storage = Memory(
                shape=unsigned(len(self.data)), depth=len(part), init=part, attrs={"rom_style": self.style} if self.style else {})
            port = storage.read_port()
            m.d.comb += [port.en.eq(self.en), port.addr.eq(self.addr[:len(port.addr)])]
            banks.append(port.data)

        def held(value: Value, name: str) -> Signal:
            register = Signal.like(value, name=name, reset_less=True)
            with m.If(self.en):
                m.d.sync += register.eq(value)
            return register

        if self.count > SHALLOW_ROM:
            banks = [held(bank, "held") for bank in banks]
        data = banks[0]
        if len(banks) > 1:
            bank = held(held(self.addr[len(Const(depth - 1)):], "bank"), "bank_held")
            data = held(Array(banks)[bank], "chosen")
        m.d.comb += self.data.eq(data)
        return m

    def _count(self, m: Module, trim: bool) -> None:
        if self.count == 1:
            self.data.rows = self.rows[0]
            return
        self.data.words = self.count
        bits, different = inv.columns(self.rows, self.element.bits) if trim else [len(self.data)] * 2
        known = (self.rows, self.element.bits) if trim and self.count <= MOST_KNOWN else ()
        tables = inv.tables(self.count, different, *known)
        m.note(rom_parts(self.count, bits, self.style, different, tables), self.addr)


def rom(pipeline: Pipeline, name: str, rows: np.ndarray, element: IntFormat, address: Value, steps: int,
        style: str | None = None) -> list[Value]:
    """A `Rom` submodule and its lanes as integers, `steps` after `address`."""
    pipeline.m.submodules[name] = memory = pipeline.loads.get(name) or Rom(rows, element, style)
    if memory.count > 1:
        address = pipeline.register(address, f"{name}_address", steps - rom_latency(memory.count))
    pipeline.m.d.comb += [memory.addr.eq(address), memory.en.eq(pipeline.moves)]
    element, bits = memory.element, memory.element.bits
    if circuit := counted():  # the first lane stands for all, whose bits are read
        circuit.reads.append(memory.data)
        if memory.count > 1:
            later(memory.data, address, rom_latency(memory.count))
        return [memory.data[:bits].as_signed() if element.signed else memory.data[:bits]] * memory.lanes
    lanes = [memory.data[k * bits:(k + 1) * bits] for k in range(memory.lanes)]
    return [lane.as_signed() if element.signed else lane for lane in lanes]


def rom_parts(words: int, bits: int, style: str | None, different: int, tables: tuple[int, int]) -> inv.Inventory:
    """Of a `Rom` of `bits`-bit words with `different` columns, which are so many lookup `tables`."""
    depths = Counter(min(DEEP_ROM, words - start) for start in range(0, words, DEEP_ROM))
    parts = inv.Inventory(roms=Counter({(depth, bits, style, different, *(count * depth // words for count in tables)): number
                                        for depth, number in depths.items()}))
    banks = depths.total()
    if words > SHALLOW_ROM:
        parts += inv.Inventory(registers=different * banks)
    if banks > 1:
        parts += inv.Inventory(registers=different + 2 * inv.width(banks)) + inv.choices(different, banks)
    return parts
