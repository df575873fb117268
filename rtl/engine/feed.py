"""From rows of a stream to words of the program and rows of weights."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .machine import ELEMENT
from .supply import supply_signature

HALF = ELEMENT // 2
"""Bits of a packed weight."""


class Feed(wiring.Component):
    """While the sequencer is `fetching`, `word` is there with `word_ready`, and the next rows are its. Else `row_ready` says that
    there is a row of weights, an id's where it is `indexed`; with `takes_row` it is at `data` from the next cycle on. Of a
    `packed` one, the lower or `upper` half of each byte is; with `keeps_row` it is next again."""

    def __init__(self, encoded):
        self.encoded, self.image = encoded, encoded.image
        signature = supply_signature(self.image)
        super().__init__({
            "rows": In(signature), "fetching": In(1), "word": Out(encoded.instruction), "word_ready": Out(1), "indexed": In(1),
            "takes_row": In(1), "packed": In(1), "upper": In(1), "keeps_row": In(1), "row_ready": Out(1),
            "data": Out(encoded.machine.lanes * ELEMENT),
        })

    def elaborate(self, platform):
        m = Module()
        rows, count, size = self.rows, self.image.word_rows, len(self.word.as_value())
        at, before, row, ready = Signal(range(max(2, count))), [], rows.row, rows.valid
        taken = self.fetching & rows.valid
        for k in range(count - 1):
            held = Signal.like(rows.row, name=f"held_{k}", reset_less=True)
            with m.If(at == k):
                m.d.sync += held.eq(rows.row)
            before.append(held)
        with m.If(taken):
            m.d.sync += at.eq(Mux(at == count - 1, 0, at + 1))
        chooses = self.takes_row & self.indexed
        if self.image.table:
            row, ready = Mux(self.indexed, rows.chosen, row), Mux(self.indexed, rows.chosen_valid, ready)
            m.d.comb += rows.chosen_next.eq(chooses)
        m.d.comb += [self.word.as_value().eq(Cat(before, rows.row)[:size]), self.word_ready.eq(taken & (at == count - 1)),
                     rows.next.eq(taken | self.takes_row & ~self.indexed & ~self.keeps_row), self.row_ready.eq(ready)]
        with m.If(self.takes_row):
            m.d.sync += self.data.eq(row)
            with m.If(self.packed):
                m.d.sync += [self.data.word_select(k, ELEMENT).eq(Mux(self.upper, byte[HALF:], byte[:HALF]).as_signed())
                             for k, byte in enumerate(rows.row.word_select(k, ELEMENT)
                                                      for k in range(self.encoded.machine.lanes))]
        return m
