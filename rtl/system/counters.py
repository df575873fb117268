"""Counters of cycles, of what every stage does, of clipped values and of parity."""

from amaranth.hdl import Cat, Module, Mux, Signal

from ..kit.block import Block
from .bank import Bank
from .core import Core


def cycles(m: Module, bank: Bank) -> None:
    """Counts cycles in 64 bits; a read of the low word keeps the high one."""
    count, high = Signal(64, name="cycles"), Signal(32)
    with m.If(bank.command.clear_counters):
        m.d.sync += count.eq(0)
    with m.Elif(~bank.control.freeze):
        m.d.sync += count.eq(count + 1)
    with m.If(bank.cycles.read):
        m.d.sync += high.eq(count[32:])
    bank.cycles.reads(count[:32])
    bank.cycles_high.reads(high)


def stages(m: Module, bank: Bank, core: Core, source, sink) -> None:
    """Counts what every stage does in each cycle, and connects the FIFOs' high-water marks.

    A stage is blocked where its output waits, else starved where an input lacks, else busy. The streams' ends stand for what is
    outside: `source` starves where the design takes nothing, and `sink` where it gives nothing.
    """
    blocks, running = core.accelerator.blocks.values(), ~bank.control.freeze
    rows = [(source.valid & ~source.ready, 0, 0, None)]
    for block in blocks:
        blocked = block.o.valid & ~block.o.ready
        starved = ~Cat(getattr(block, name).valid for name in block.inputs).all() & ~blocked
        rows.append((starved, blocked, _clipped(m, core.reset, block), block.saturates))
    rows.append((sink.ready & ~sink.valid, 0, 0, None))
    for k, (starved, blocked, clipped, saturates) in enumerate(rows):
        state = Signal(2, name=f"stage_{k}")
        m.d.sync += state.eq(Cat(starved, blocked))  # registered: relaxes the timing path to the counters
        bank.busy.count(running & (state == 0))
        bank.starved.count(running & state[0])
        bank.blocked.count(running & state[1])
        bank.clipped.count(running & clipped)
        if saturates is None:
            bank.saturated.reads(0)
        else:
            bank.saturated.count(running & saturates)
    accelerator = core.accelerator
    m.d.comb += [accelerator.clear_peaks.eq(bank.command.clear_counters), accelerator.hold_peaks.eq(bank.control.freeze)]
    bank.peak.reads(*(getattr(accelerator, f"peak_{k}") for k in range(len(accelerator.peaks))))


def _clipped(m: Module, reset: Signal, block: Block) -> Signal:
    """High a cycle after a beat left with a clipped lane; lanes beyond the width do not count."""
    port = block.output
    beat, found = Signal(range(port.beats), name="clip_beat"), Signal(name="clip_found")
    taken, end = block.o.valid & block.o.ready, beat == port.beats - 1
    used = port.width - (port.beats - 1) * port.lanes
    with m.If(taken):
        m.d.sync += beat.eq(Mux(end, 0, beat + 1))
    with m.If(reset):
        m.d.sync += beat.eq(0)
    m.d.sync += found.eq(taken & Cat(flag & ~end if k >= used else flag for k, flag in enumerate(block.clips)).any())
    return found


def parity(m: Module, bank: Bank, core: Core) -> None:
    """Counts and reports words of wrong parity."""
    fault = Signal(name="parity_fault")  # registered, as for the stages
    m.d.sync += fault.eq(core.accelerator.fault)
    bank.parity_faults.count(fault)
    bank.errors.on(parity=fault)
