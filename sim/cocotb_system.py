"""Tests of the AXI system inside a simulator: the driver against the design that `sim.system_bench` has built."""

import json
import os
import random
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.task import bridge, resume
from cocotb.triggers import ClockCycles
from cocotb.utils import get_sim_time

from boards.driver.accelerator import TABLES, Accelerator, checksum
from boards.driver.description import Description
from emamba.artifact import load
from emamba.base.errors import EmambaError
from emamba.run.integer import IntegerModel
from rtl.system.registers import BY_NAME, REGISTERS, SPAN, Access, address
from sim.axi_rules import Rules
from sim.transport import SimulationTransport

FOLDER = Path(os.environ["EMAMBA_SYSTEM"])
SPEC = json.loads((FOLDER / "system.json").read_text())
PERIOD = 2  # ns
SECOND = SPEC["second"]  # cycles
STALLS = [(0, 0, 0), (25, 25, 25), (75, 0, 50), (0, 75, 0), (75, 75, 75)]  # percent: input stream, output stream, registers


class Desk:
    """The design at work, the rules watching, the driver not yet there."""

    def __init__(self, dut):
        self.dut = dut
        self.description = Description.read(FOLDER)
        self.artifact = load(FOLDER / "artifact")
        self.model = IntegerModel(self.artifact)

    async def start(self, seed, stalls=(0, 0, 0), bursts=False):
        dut = self.dut
        dut.rst.value = 1
        Clock(dut.clk, PERIOD, unit="ns").start()
        self.transport = SimulationTransport(dut, cycles=SECOND, period=PERIOD)
        self.rng = random.Random(f"{SPEC['seed']} {seed}")
        self.rules = Rules(dut)
        await ClockCycles(dut.clk, 4)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 2)
        self.transport.stall(*stalls, self.rng, bursts=bursts)
        return self

    def frames(self, count):
        low, high = self.description.input.range
        rng = np.random.default_rng(self.rng.getrandbits(32))
        return rng.integers(low, high + 1, (count, self.description.tokens, self.description.input_width))

    def answer(self, frames):
        return self.model.answer(frames)

    def connect(self, timeout=1.0):
        return Accelerator(self.description, self.transport, timeout=timeout)

    def refused(self, sentence, function, *arguments):
        """The function must fail with an error that holds the sentence."""
        try:
            function(*arguments)
        except EmambaError as error:
            assert sentence in str(error), f"'{sentence}' is not in '{error}'"
            return
        raise AssertionError(f"nothing was refused with '{sentence}'")

    def wait(self, cycles):
        @resume
        async def pass_by():
            await ClockCycles(self.dut.clk, cycles)
        pass_by()

    def check(self, accelerator, frames):
        got, wanted = accelerator.run(frames), self.answer(frames)
        wrong = (got != wanted).any(axis=(1, 2))
        assert not wrong.any(), f"{wrong.sum()} of {len(frames)} frames are wrong, frame {wrong.argmax()} first"


    def check_sequence(self, accelerator, packets):
        """Packets of one sequence."""
        kept = None
        for k, frames in enumerate(packets):
            wanted, kept = self.model.resume(frames, kept)
            assert (accelerator.run(frames) == wanted).all(), f"packet {k} of the sequence is wrong"


def bench(function):
    """A test whose body, with a `Desk`, is blocking code."""
    async def test(dut, **parameters):
        desk = await Desk(dut).start(f"{function.__name__} {parameters}", parameters.get("stalls", (0, 0, 0)),
                                     parameters.get("bursts", False))
        await bridge(function)(desk, **{key: value for key, value in parameters.items() if key not in ("stalls", "bursts")})
        desk.rules.task.cancel()

    test.__name__ = test.__qualname__ = function.__name__
    test.__doc__ = function.__doc__
    return test


@cocotb.test(timeout_time=SPEC["timeout"] * PERIOD, timeout_unit="ns")
@cocotb.parametrize((("stalls", "bursts"), [(STALLS[0], False), (STALLS[2], False), (STALLS[4], True)]))
@bench
def frames(desk):
    """Back-to-back frames under stalls of all channels, the self-test and the identity."""
    accelerator = desk.connect()
    assert accelerator.self_test() == len(desk.description.golden[0])
    desk.check(accelerator, desk.frames(SPEC["frames"]))
    counters = accelerator.counters()
    assert counters["in"] == counters["out"] == SPEC["frames"] + len(desk.description.golden[0])
    assert counters["bad"] == 0


@cocotb.test(timeout_time=SPEC["timeout"] * PERIOD, timeout_unit="ns")
@bench
def throughput(desk):
    """Steady state within 2 % of the accelerator's own cycles a frame."""
    accelerator = desk.connect()
    accelerator.run(desk.frames(4))
    batch = desk.frames(24)
    times = []
    receive = desk.transport.receive

    def timed(size, timeout):
        result = receive(size, timeout)
        times.append(get_sim_time("ns") / PERIOD)
        return result

    desk.transport.receive = timed
    desk.check(accelerator, batch)
    cycles = (times[-1] - times[7]) / (len(times) - 8)
    wanted = desk.description.cycles_per_frame
    assert wanted <= cycles <= 1.02 * wanted, f"a frame takes {cycles} cycles, not {wanted}"


@cocotb.test(timeout_time=SPEC["timeout"] * PERIOD, timeout_unit="ns")
@cocotb.parametrize(stalls=STALLS[1:2])
@bench
def malformed(desk):
    """Packets that are short, long, without TLAST or with holes are told, their results are marked, and the next one is right."""
    accelerator = desk.connect()
    own, transport = desk.description, desk.transport
    size, whole = own.output_tokens * own.output_width * own.output.size, len(accelerator.packets(desk.frames(1))[0])

    def spoilt(packet, sentence, keep=None, results=1):
        transport.send(packet, keep)
        for _ in range(results):
            transport.receive(size, 1)
        assert transport.marks[-1], f"the result before '{sentence}' is not marked"
        desk.refused(sentence, accelerator.check)
        desk.check(accelerator, desk.frames(2))
        assert not any(transport.marks[-2:])

    for length in {1, whole // 2, whole - 1}:
        spoilt(desk.rng.randbytes(length), "an input packet was too short")
    bus = len(desk.dut.s_axis_tkeep)
    padded = -(-whole // bus) * bus
    for excess in (1, bus, 3 * bus + 1, whole - 1):
        spoilt(desk.rng.randbytes(padded + excess), "an input packet was too long")
    joined = accelerator.packets(desk.frames(1))[0].ljust(padded, b"\0") + desk.rng.randbytes(padded)
    spoilt(joined, "an input packet had no TLAST")
    if whole > 2:
        keep = [1] * whole
        keep[whole // 2] = 0
        spoilt(desk.rng.randbytes(whole), "TKEEP had a hole", keep)
    counters = accelerator.counters()
    assert counters["bad"] == counters["in"] - 2 * (counters["in"] // 3) == counters["out"] // 3
    transport.send(b"\1")  # what follows a short packet at once is right
    transport.send(accelerator.packets(desk.frames(1))[0])
    transport.receive(size, 1), transport.receive(size, 1)
    assert transport.marks[-2:] == [True, False]


@cocotb.test(timeout_time=SPEC["timeout"] * PERIOD, timeout_unit="ns")
@cocotb.parametrize(stalls=STALLS[2:3])
@bench
def reset_in_traffic(desk):
    """A soft reset at any time breaks no rule, and all that comes after it is right."""
    accelerator = desk.connect()
    own, transport = desk.description, desk.transport
    for _ in range(3):
        for packet in accelerator.packets(desk.frames(4)):
            transport.send(packet)
        desk.wait(desk.rng.randrange(1, 3 * own.cycles_per_frame + 200))
        transport.write32(address("COMMAND"), BY_NAME["COMMAND"].field("RESET").mask)
        transport.source.clear()
        desk.wait(12 * own.cycles_per_frame)
        transport.sink.clear()
        accelerator.clear_counters()
        desk.check(accelerator, desk.frames(3))
        assert accelerator.counters()["out"] == 3


def interrupt(desk):
    """A level: high while a cause that is enabled was seen and not cleared. An error has just been seen."""
    read, write, line = desk.transport.read32, desk.transport.write32, desk.dut.irq
    error, result = (BY_NAME["INTERRUPT"].field(name).mask for name in ("ERROR", "RESULT"))
    assert read(address("INTERRUPT")) == error and line.value == 0
    for enabled, level in ((result, 0), (error | result, 1), (0, 0), (error, 1)):
        write(address("INTERRUPT_ENABLE"), enabled)
        desk.wait(2)
        assert line.value == level
    write(address("INTERRUPT"), result)
    assert line.value == 1 and read(address("INTERRUPT")) == error
    write(address("INTERRUPT"), error)
    desk.wait(2)
    assert line.value == 0 and read(address("INTERRUPT")) == 0


@cocotb.test(timeout_time=SPEC["timeout"] * PERIOD, timeout_unit="ns")
@bench
def registers(desk):
    """Every address, every access; strobes; the sentences of a driver at the wrong place."""
    transport = desk.transport
    sizes = transport.read32(address("SIZES"))
    live = dict.fromkeys(TABLES, sizes & 0xFFFF) | {"PEAK": sizes >> 16}
    known = {register.address(k): register for register in REGISTERS for k in range(live.get(register.name, register.count))}
    desk.wait(1)
    for place in [*range(0, 0x108, 4), 0x800, 0xFFC, 0x1000 + 4 * live["BUSY"], 0x1800, 0x2FFC, 0x3000, SPAN - 4]:
        register = known.get(place)
        for write in (False, True):
            allowed = register and register.access is not (Access.READ if write else None)
            if write and register and register.name in ("COMMAND", "LOAD_COMMAND", "CONTROL"):
                continue
            call = (transport.write32, place, 0) if write else (transport.read32, place)
            if allowed:
                call[0](*call[1:])
            else:
                desk.refused("was answered with 2", *call)
    errors = transport.read32(address("ERRORS"))
    assert errors & BY_NAME["ERRORS"].field("ADDRESS").mask
    transport.write32(address("ERRORS"), errors)
    assert transport.read32(address("ERRORS")) == 0
    interrupt(desk)
    transport.write32(address("SCRATCH"), 0x01234567)
    transport.write_bytes(address("SCRATCH") + 1, b"\xab\xcd")
    assert transport.read32(address("SCRATCH")) == 0x01CDAB67
    accelerator = desk.connect()
    desk.check(accelerator, desk.frames(2))
    desk.refused("the batch has the shape", accelerator.run, np.zeros((1, 2, 3), int))
    desk.refused("is no integer in", accelerator.run, desk.frames(1) + 1000)
    spoilt = replace(desk.description, golden=(desk.description.golden[0], desk.description.golden[1] + 1))
    desk.refused("the self-test fails: 2 of 2", Accelerator(spoilt, transport).self_test)
    desk.refused("the FPGA holds another design", Accelerator, replace(desk.description, digest="12" * 32, image=None), transport)
    desk.refused("OUTPUT_WIDTH is", Accelerator, replace(desk.description, output_width=99), transport)
    accelerator = desk.connect(0.05)
    transport.write32(address("CONTROL"), 0)
    desk.refused("did not come within 0.05 s: the design is not enabled", accelerator.run, desk.frames(1))


@cocotb.test(timeout_time=SPEC["timeout"] * PERIOD, timeout_unit="ns")
@cocotb.parametrize(stalls=STALLS[1:2])
@bench
def state(desk):
    """A sequence in packets, the state kept; two sequences that share the design, their states saved and restored."""
    accelerator = desk.connect()
    accelerator.keep_state(True)
    desk.check_sequence(accelerator, [desk.frames(1) for _ in range(6)])
    accelerator.clear_state()
    desk.check_sequence(accelerator, [desk.frames(1) for _ in range(4)])
    saved, model = [np.zeros_like(accelerator.save_state())] * 2, [None, None]
    for turn in range(8):
        which = desk.rng.randrange(2)
        accelerator.restore_state(saved[which])
        frames = desk.frames(1)
        answer, model[which] = desk.model.resume(frames, model[which])
        assert (accelerator.run(frames) == answer).all(), f"packet {turn} of sequence {which} is wrong"
        saved[which] = accelerator.save_state()
    accelerator.keep_state(False)
    desk.check(accelerator, desk.frames(3))
    accelerator.keep_state(True)  # goes on with the state of the last packet
    accelerator.clear_state()
    packets = np.concatenate([desk.frames(1) for _ in range(5)])
    answers, kept = [], None
    for packet in packets:
        answer, kept = desk.model.resume(packet[None], kept)
        answers.append(answer)
    assert (accelerator.run(packets) == np.concatenate(answers)).all(), "packets back to back are wrong"
    desk.refused("this state has 1 words", accelerator.restore_state, np.zeros(1, np.uint32))


@cocotb.test(timeout_time=SPEC["timeout"] * PERIOD, timeout_unit="ns")
@bench
def weights(desk):
    """Artifacts alternate; a load that is interrupted, damaged or of another structure changes nothing."""
    accelerator = desk.connect()
    own, other = desk.description, Description.read(json.loads((FOLDER / "other_0.json").read_text()))
    models = {own.digest: desk.model, other.digest: IntegerModel(load(FOLDER / "artifact_0"))}
    for turn in range(SPEC["loads"]):
        accelerator.load((other, own)[turn % 2])
        frames = desk.frames(2)
        answers = [models[digest].answer(frames) for digest in (accelerator.description.digest, own.digest)]
        assert (accelerator.run(frames) == answers[0]).all(), f"wrong after load {turn}"
        assert turn % 2 or (answers[0] != answers[1]).any()
    accelerator.load(own)

    write = desk.transport.write32
    write(address("LOAD_COMMAND"), 1)
    for word in other.image[:len(other.image) // 2]:
        write(address("LOAD_DATA"), int(word))
    desk.check(accelerator, desk.frames(2))  # a half-loaded model never runs
    write(address("LOAD_CHECKSUM"), checksum(other))
    write(address("LOAD_COMMAND"), 2)
    desk.refused("a load of weights was refused", accelerator.check)
    desk.check(accelerator, desk.frames(2))
    image = other.image.copy()
    image[3] ^= 1
    write(address("LOAD_COMMAND"), 1)
    for word in image:
        write(address("LOAD_DATA"), int(word))
    write(address("LOAD_COMMAND"), 2)
    desk.refused("a load of weights was refused", accelerator.check)
    write(address("LOAD_COMMAND"), 1)
    write(address("LOAD_COMMAND"), 1)
    desk.refused("a load of weights was interrupted", accelerator.check)
    desk.check(accelerator, desk.frames(2))
    structure = deepcopy(other.structure)
    structure["nodes"]["embed"]["shift"] = 99
    changed = replace(other, structure=structure, structure_digest="00" * 32)
    desk.refused("'random' does not fit this design: nodes.embed.shift is 99 there and", accelerator.load, changed)

    # A load that is committed while packets are on their way takes effect after them.
    frames = desk.frames(3)
    for packet in accelerator.packets(frames):
        desk.transport.send(packet)
    desk.wait(desk.rng.randrange(1, 60))
    write(address("LOAD_COMMAND"), 1)
    for word in other.image:
        write(address("LOAD_DATA"), int(word))
    write(address("LOAD_CHECKSUM"), checksum(other))
    size = own.output_tokens * own.output_width * own.output.size
    results = [desk.transport.receive(size, 1) for _ in frames]
    write(address("LOAD_COMMAND"), 2)
    got = np.frombuffer(b"".join(results), own.output.dtype).reshape(len(frames), own.output_tokens, own.output_width)
    assert (got == models[own.digest].answer(frames)).all()
    desk.wait(20)
    assert accelerator._digest() == other.digest
    assert Accelerator(own, desk.transport).run(frames).tolist() == models[own.digest].answer(frames).tolist()
