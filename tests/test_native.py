"""The native simulation, on a small design with traces, a wide port and a high-water mark."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from emamba.base.errors import EmambaError
from emamba.base.formats import IntFormat
from rtl.kit.block import Beat, Port
from rtl.kit.packing import pack, sequences
from rtl.kit.streams import Fifo, Gearbox
from sim.native import NativeSimulation, apart

INT8 = IntFormat(8)
WIDE, NARROW = Port(INT8, 40, 20), Port(INT8, 40, 1)


class Toy(wiring.Component):
    """Twenty lanes to one, a FIFO, and back to twenty; `block` and `repeat` are faults."""

    def __init__(self, fault=""):
        self.fault = fault
        self.inputs, self.output = {"i": WIDE}, WIDE
        self.trace = {"wide": WIDE, "narrow": NARROW}
        self.peaks = ["fifo"]
        traces = {
            f"trace_{k}": Out(wiring.Signature({"payload": Out(Beat(port.format, port.lanes)), "fire": Out(1)}))
            for k, port in enumerate(self.trace.values())
        }
        super().__init__({"i": In(self.inputs["i"].signature), "o": Out(self.output.signature), "peak_0": Out(3)} | traces)

    def elaborate(self, platform):
        m = Module()
        m.submodules.narrow = narrow = Gearbox(INT8, 40, 20, 1).build()
        m.submodules.fifo = fifo = Fifo(Beat(INT8, 1), 4)
        m.submodules.wide = wide = Gearbox(INT8, 40, 1, 20).build()
        wiring.connect(m, wiring.flipped(self.i), narrow.i)
        wiring.connect(m, narrow.o, fifo.i)
        wiring.connect(m, fifo.o, wide.i)
        m.d.comb += [self.o.payload.eq(wide.o.payload), self.o.valid.eq(wide.o.valid), wide.o.ready.eq(self.o.ready)]
        if self.fault == "block":
            m.d.comb += [self.o.valid.eq(0), wide.o.ready.eq(0)]
        if self.fault == "repeat":
            m.d.comb += wide.o.ready.eq(0)
        for trace, stream in ((self.trace_0, self.i), (self.trace_1, fifo.o)):
            m.d.comb += [trace.payload.eq(stream.payload), trace.fire.eq(stream.valid & stream.ready)]
        m.d.comb += self.peak_0.eq(fifo.peak)
        return m


@pytest.fixture(scope="module")
def build_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("native")


@pytest.fixture(scope="module")
def toy(build_dir):
    return NativeSimulation(Toy(), build_dir, fast=False)


def tokens_of(batch, length=5):
    return np.random.default_rng(0).integers(-128, 128, (batch, length, 40))


def check(result, tokens, toy):
    assert np.array_equal(np.stack(sequences(toy.o, result.output)), tokens)
    assert np.array_equal(np.stack(sequences(toy.trace["wide"], result.traces["wide"])), tokens)
    assert np.array_equal(np.stack(sequences(toy.trace["narrow"], result.traces["narrow"])), tokens)
    assert len(result.output_cycles) == len(result.output) and len(result.input_cycles) == tokens.size // 20
    assert (np.diff(result.output_cycles) > 0).all() and result.cycles > result.output_cycles[-1]


def test_full_speed(toy):
    tokens = tokens_of(20)
    result = toy.run(pack(toy.i, tokens))
    check(result, tokens, toy)
    assert result.first_input == 0
    assert (np.diff(result.output_cycles) == 20).all()  # one channel a cycle
    assert result.peaks == {"fifo": 0}  # every beat passes through


def test_stalls(toy):
    tokens = tokens_of(20)
    slow = toy.run(pack(toy.i, tokens), stall_seed=3, stall_percent=75)
    check(slow, tokens, toy)
    assert slow.peaks == {"fifo": 4}
    same, other = (toy.run(pack(toy.i, tokens), stall_seed=seed, stall_percent=75) for seed in (3, 4))
    assert np.array_equal(slow.output_cycles, same.output_cycles)
    assert not np.array_equal(slow.output_cycles, other.output_cycles)


@pytest.mark.parametrize("reset_at", [0, 1, 17, 400])
def test_reset(toy, reset_at):
    """What follows the reset is what a fresh design gives."""
    tokens = tokens_of(6)
    fresh = toy.run(pack(toy.i, tokens[2:]))
    result = toy.run(pack(toy.i, tokens), reset_at=reset_at, resume_beat=2 * 5 * 2)
    check(result, tokens[2:], toy)
    assert np.array_equal(result.output_cycles, fresh.output_cycles)


def test_build_is_kept(toy, build_dir):
    executable = toy.folder / "simulation"
    before = executable.stat().st_mtime_ns
    assert NativeSimulation(Toy(), build_dir, fast=False).folder == toy.folder
    assert executable.stat().st_mtime_ns == before


def test_memories_are_read_from_files():
    """Contents that begin at row 0; the rest of the text stays."""
    whole = "  initial begin\n    rom[0] = 8'h7f;\n    rom[1] = 8'h00;\n  end\n"
    later = "  initial begin\n    \\a.b [1] = 8'h7f;\n  end\n"
    assert apart(whole + later) == ('  initial $readmemh("memory_0.hex", rom);\n' + later, {"memory_0.hex": "7f\n00\n"})


def test_faults(build_dir):
    words = pack(WIDE, tokens_of(2))
    with pytest.raises(EmambaError, match=r"the design stopped: nothing moved for 500 cycles .* of 20 input beats were taken"):
        NativeSimulation(Toy("block"), build_dir, fast=False).run(words, idle_cycles=500)
    with pytest.raises(EmambaError, match=r"the design gives more than its input asks for, up to cycle \d+"):
        NativeSimulation(Toy("repeat"), build_dir, fast=False).run(words, idle_cycles=500)


def test_refusal(toy):
    with pytest.raises(EmambaError, match=r"stall_percent must lie in 0\.\.99, not 100"):
        toy.run(np.zeros((0, 6)), stall_percent=100)
