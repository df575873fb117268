"""A constant memory that answers in the next cycle, however deep."""

import numpy as np
from amaranth.hdl import Module, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from emamba.base.formats import IntFormat


class Store(wiring.Component):
    """Rows of integers: `data` holds row `addr` a cycle later. The ports of `rtl.kit.rom.Rom`."""

    def __init__(self, rows: np.ndarray, element: IntFormat):
        self.rows, self.element = rows, element
        count, lanes = rows.shape
        super().__init__({"en": In(1), "addr": In(range(max(2, count))), "data": Out(unsigned(lanes * element.bits))})

    def elaborate(self, platform):
        m = Module()
        mask, bits = (1 << self.element.bits) - 1, self.element.bits
        words = [sum((int(value) & mask) << (k * bits) for k, value in enumerate(row)) for row in self.rows]
        m.submodules.storage = storage = Memory(shape=unsigned(len(self.data)), depth=max(2, len(words)), init=words)
        port = storage.read_port()
        m.d.comb += [port.en.eq(self.en), port.addr.eq(self.addr), self.data.eq(port.data)]
        return m
