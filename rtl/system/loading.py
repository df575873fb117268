"""Loading weights through the registers: words, their count and checksum, the change of banks."""

import zlib

from amaranth.hdl import Cat, Module, Mux, Signal

from ..plan.loads import DIGEST, Loads, crc_step
from .bank import Bank
from .core import Core

DIGEST_WORDS = 8


def digest_words(digest: str) -> list[int]:
    """The words of a SHA-256 in the registers: the first holds its first four bytes, big-endian; 0s for an unsaved artifact."""
    data = bytes.fromhex(digest)
    return [int.from_bytes(data[k:k + 4], "big") for k in range(0, 4 * DIGEST_WORDS, 4)]


def connect(m: Module, bank: Bank, core: Core, loads: Loads) -> None:
    """Connects the registers of a load with the memories of `loads`."""
    bus, words, structure = loads.bus, loads.words, digest_words(loads.structure_digest)
    start = zlib.crc32(b"".join(word.to_bytes(4, "little") for word in structure)) ^ 0xFFFFFFFF
    begin, commit, abort = bank.load_command.begin, bank.load_command.commit, bank.load_command.abort
    value, given = bank.load_data.written
    loading, count, crc = Signal(), Signal(range(words + 1)), Signal(32, init=start)
    takes = given & loading & (count < words)
    right = loading & (count == words) & (crc == ~bank.load_checksum.hold())
    m.d.comb += [
        bus.en.eq(takes), bus.address.eq(count), bus.data.eq(value),
        core.takes_over.eq(core.committing & core.idle),
    ]
    with m.If(takes):
        m.d.sync += [count.eq(count + 1), crc.eq(Cat(crc_step(crc, value)))]
    with m.If(begin), m.If(~core.committing):
        m.d.sync += [loading.eq(1), count.eq(0), crc.eq(start)]
    with m.Elif(commit):
        m.d.sync += loading.eq(0)
        with m.If(right):
            m.d.sync += core.committing.eq(1)
    with m.Elif(abort):
        m.d.sync += loading.eq(0)
    with m.If(core.takes_over):
        m.d.sync += [bus.bank.eq(~bus.bank), core.committing.eq(0)]
    bank.errors.on(load_interrupted=begin & (loading | core.committing) | given & ~loading,
                   load_refused=commit & ~begin & ~right | given & loading & (count == words))
    bank.interrupt.on(loaded=core.takes_over)
    bank.status.reads(loading=loading, committing=core.committing)
    bank.load_count.reads(count)
    bank.load_words.reads(words)
    bank.structure.reads(*structure)

    place, = loads.of(DIGEST)
    for k, word in enumerate(digest_words(loads.artifact.digest)):
        parts = [Signal(32, name=f"digest_{half}_{k}", init=word * (1 - half)) for half in range(2)]
        for half, part in enumerate(parts):
            with m.If(takes & (count == place.base + k) & (bus.bank != half)):
                m.d.sync += part.eq(value)
        bank.digest.reads(Mux(bus.bank, parts[1], parts[0]))
