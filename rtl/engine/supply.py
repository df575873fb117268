"""What reads an engine's program and weights from a memory outside, ahead and in their order."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .machine import ELEMENT
from .reader import ADDRESS_BITS, Reader, read_ports
from .stream import Image


def supply_signature(image: Image) -> wiring.Signature:
    """Rows as an engine sees them: the next one while `valid`; `enough`: all those of a group whose decays do not wait. `request`
    asks for those of an id; `chosen` is the next of them while `chosen_valid`."""
    bits = image.machine.lanes * ELEMENT
    found = {"valid": Out(1), "enough": Out(1), "row": Out(bits), "next": In(1)}
    if image.table:
        found |= {"request": In(1), "id": In(range(image.ids)), "chosen_valid": Out(1), "chosen": Out(bits), "chosen_next": In(1)}
    return wiring.Signature(found)


class Supply(wiring.Component):
    """Rows at `rows`, from AXI4 ports `m_axi_<k>`, the last of which brings an id's rows where a program chooses some.

    `base` is where the image lies, a multiple of 4 KiB; `enable` starts reading. While `flush` is high, and until what was asked
    for has come, everything is dropped; then the first row is next. `ready`: nothing is dropped. `error`: the memory answered
    with an error.
    """

    def __init__(self, image: Image):
        self.image, machine = image, image.machine
        settings = machine.stream
        self.readers = [Reader(image.bits, image.lanes * ELEMENT, settings.rows, settings.burst) for _ in range(settings.ports)]
        if image.table:
            self.readers.append(Reader(image.table_bits, machine.lanes * ELEMENT, image.chosen, settings.burst))
        self.ports = {f"m_axi_{k}_{name}": port for k, reader in enumerate(self.readers)
                      for name, port in read_ports(reader.bits).items()}
        super().__init__(self.ports | {
            "rows": Out(supply_signature(image)), "base": In(ADDRESS_BITS), "enable": In(1), "flush": In(1), "ready": Out(1),
            "error": Out(1)})

    def elaborate(self, platform):
        m = Module()
        image, rows = self.image, self.rows
        for k, reader in enumerate(self.readers):
            m.submodules[f"reader_{k}"] = reader
            for name, port in read_ports(reader.bits).items():
                ours, its = getattr(self, f"m_axi_{k}_{name}"), getattr(reader, name)
                m.d.comb += ours.eq(its) if port.flow is Out else its.eq(ours)
            m.d.comb += [reader.base.eq(self.base), reader.flush.eq(self.flush)]
        streams = self.readers[:image.stream.ports]
        for k, reader in enumerate(streams):
            self._regions(m, k, reader)
            m.d.comb += reader.next.eq(rows.next)
        m.d.comb += [
            rows.valid.eq(Cat(reader.level != 0 for reader in streams).all()), rows.row.eq(Cat(reader.row for reader in streams)),
            rows.enough.eq(Cat(reader.level >= image.whole for reader in streams).all()),
            self.ready.eq(Cat(reader.ready for reader in self.readers).all()),
            self.error.eq(Cat(reader.error for reader in self.readers).any()),
        ]
        if image.table:
            self._table(m, self.readers[-1])
        return m

    def _regions(self, m: Module, k: int, reader: Reader) -> None:
        """A sequence's tiles, for ever."""
        regions, tile = self.image.regions, Signal(range(max(2, self.image.program.tiles)), name=f"tile_{k}")
        last = tile == self.image.program.tiles - 1
        first, beats = ([value(region) for region in regions] for value in (
            lambda region: region.first[k], lambda region: region.rows * reader.beats))
        m.d.comb += [reader.job.valid.eq(self.enable), reader.job.payload.first.eq(Mux(last, first[-1], first[0])),
                     reader.job.payload.beats.eq(Mux(last, beats[-1], beats[0]))]
        with m.If(reader.job.valid & reader.job.ready):
            m.d.sync += tile.eq(Mux(last, 0, tile + 1))
        with m.If(self.flush):
            m.d.sync += tile.eq(0)

    def _table(self, m: Module, reader: Reader) -> None:
        """The rows of an id, where one is asked for."""
        image, rows = self.image, self.rows
        waiting, chosen = Signal(), Signal(range(image.ids))
        beats = image.chosen * image.table_beats
        m.d.comb += [
            reader.job.valid.eq(waiting & self.enable), reader.job.payload.beats.eq(beats),
            reader.job.payload.first.eq(image.table_first + chosen * (beats * image.table_bits // 8)),
            rows.chosen.eq(reader.row), rows.chosen_valid.eq(reader.level != 0), reader.next.eq(rows.chosen_next),
        ]
        with m.If(rows.request):
            m.d.sync += [waiting.eq(1), chosen.eq(rows.id)]
        with m.Elif(reader.job.ready & self.enable | self.flush):
            m.d.sync += waiting.eq(0)
