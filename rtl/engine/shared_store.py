"""Weights and decays of a small device in the same memories of a single port, which are loaded once at the start."""

from functools import cached_property

import numpy as np
from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from emamba.base.errors import DesignLimit
from emamba.base.words import counted

WORD = 16
"""Bits of a memory's word: the weights of two lanes, or a decay."""
DEPTH = 1 << 14
"""Words of a memory of an iCE40 UltraPlus."""
MOST_LANES = 8
"""For which an iCE40 UltraPlus has memories and multipliers."""
EVEN, ODD = 1, 3
"""Cycles from a product δ·A to that in which the decay of an even lane is read, and of an odd one, which waits for its turn."""


class Image:
    """What the memories hold: tables of decays, then rows of weights; two lanes share one of the memories."""

    def __init__(self, encoded):
        self.program, self.tables, self.banks = encoded.program, encoded.decays, -(-encoded.machine.lanes // 2)
        self.entries = 1 << max((decay.bits for decay in self.tables), default=0)
        self.first = self.entries * len(self.tables)
        """Word of the first row of weights."""
        self.depth = max(2, self.first + len(self.program.weights))
        if self.program.weight_bits > WORD // 2 or encoded.decay_bits > WORD + 1:
            raise DesignLimit(f"weights of {self.program.weight_bits} bits and decays of {encoded.decay_bits - 1} do not fit a "
                              f"small engine's words of {WORD} bits: take a larger device")
        if self.depth > DEPTH:
            raise DesignLimit(self._too_deep(self.program.artifact.name))

    def _too_deep(self, name: str) -> str:
        """What takes the memory, and which setting lowers it."""
        rows, scans, bits = self.depth - self.first, len(self.tables), max((d.op.dt.bits for d in self.tables), default=1) + 1
        fewer = next((k for k in range(1, bits - 1) if (self.first >> k) + rows <= DEPTH), 0)
        remedy = ("take more --lanes" if self.first + rows * self.banks * 2 // MOST_LANES <= DEPTH else
                  f"""each bit of δ less halves the tables: quantize with --set 'bits={{"*.dt" = {bits - fewer}}}'""" if fewer
                  else "take fewer blocks or a smaller d_model")
        return (f"the memory for weights and tables of Ā holds {DEPTH:,} words, but {name} needs {self.depth:,}: {self.first:,} "
                f"for tables of Ā ({counted(scans, 'scan')} × {self.entries:,} values of δ·A) and {rows:,} for weights; "
                f"{remedy}, or take another target")

    @cached_property
    def words(self) -> np.ndarray:
        """[depth, banks] of 16 bits."""
        found, rows = np.zeros((self.depth, self.banks), np.uint16), len(self.program.weights)
        weights = np.zeros((rows, 2 * self.banks), np.int64)
        weights[:, :self.program.weights.shape[1]] = self.program.weights
        low, high = (weights[:, part::2] & 255 for part in range(2))
        found[self.first:self.first + rows] = low | high << 8
        for k, decay in enumerate(self.tables):
            found[k * self.entries:][:len(decay.table)] = decay.table[:, None]
        return found

    @property
    def data(self) -> bytes:
        """As a flash memory holds it: word by word of every memory, little-endian."""
        return self.words.astype("<u2").tobytes()


def load_ports(image: Image) -> dict[str, wiring.Member]:
    """By which the memories are filled: `load_en` writes `load_data` to memory `load_bank`, word `load_row`."""
    return {"load_en": In(1), "load_bank": In(range(max(2, image.banks))), "load_row": In(range(image.depth)),
            "load_data": In(WORD)}


class SharedStore(wiring.Component):
    """`data` holds row `addr` of weights a cycle later, except where `looks` was high 0 or 2 cycles before: then words at the
    `places` of even, and of odd lanes. `entries` are these words a cycle later, `takes` says of which lanes.

    With `boots`, the memories are empty, and filled by `load_ports`."""

    def __init__(self, image: Image, lanes: int, weight_bits: int, boots: bool):
        self.image, self.lanes, self.weight_bits, self.boots = image, lanes, weight_bits, boots
        super().__init__((load_ports(image) if boots else {}) | {
            "addr": In(range(image.depth)), "data": Out(unsigned(lanes * weight_bits)), "looks": In(1),
            "places": In(range(image.depth)).array(lanes), "entries": Out(WORD).array(lanes), "takes": Out(2)})

    def elaborate(self, platform):
        m = Module()
        image, weights = self.image, []
        ages = [self.looks]
        for age in range(1, ODD + 1):
            ages.append(held := Signal(name=f"looked_{age}"))
            m.d.sync += held.eq(ages[-2])
        m.d.comb += self.takes.eq(Cat(ages[EVEN], ages[ODD]))
        for bank in range(image.banks):
            own = [lane for lane in (2 * bank, 2 * bank + 1) if lane < self.lanes]
            address = Signal(range(image.depth), name=f"address_{bank}")
            m.d.comb += address.eq(Mux(self.looks, self.places[own[0]], Mux(ages[ODD - 1], self.places[own[-1]], self.addr)))
            writes = Signal(name=f"writes_{bank}")
            if self.boots:
                m.d.comb += writes.eq(self.load_en & (self.load_bank == bank))
                with m.If(self.load_en):
                    m.d.comb += address.eq(self.load_row)
            word = self._memory(m, bank, address, writes, platform)
            for part, lane in enumerate(own):
                m.d.comb += self.entries[lane].eq(word)
                weights.append(word.word_select(part, WORD // 2)[:self.weight_bits])
        m.d.comb += self.data.eq(Cat(weights))
        return m

    def _memory(self, m: Module, bank: int, address: Signal, writes: Signal, platform):
        """One memory of a single port, as a UP5K has it."""
        if self.boots and getattr(platform, "device", "") == "iCE40UP5K":
            word = Signal(WORD, name=f"word_{bank}")
            m.submodules[f"bank_{bank}"] = Instance(
                "SB_SPRAM256KA", i_ADDRESS=Cat(address, Const(0, DEPTH.bit_length() - 1 - len(address))), i_DATAIN=self.load_data,
                i_MASKWREN=Const(15, 4), i_WREN=writes, i_CHIPSELECT=Const(1), i_CLOCK=ClockSignal(), i_STANDBY=Const(0),
                i_SLEEP=Const(0), i_POWEROFF=Const(1), o_DATAOUT=word)
            return word
        init = [] if self.boots else self.image.words[:, bank].tolist()
        m.submodules[f"bank_{bank}"] = memory = Memory(shape=unsigned(WORD), depth=self.image.depth, init=init)
        port = memory.read_port()
        m.d.comb += port.addr.eq(address)
        if self.boots:
            write = memory.write_port()
            m.d.comb += [write.addr.eq(address), write.en.eq(writes), write.data.eq(self.load_data)]
        return port.data
