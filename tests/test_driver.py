"""The driver and its transports, without a simulator."""

import ast
import functools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import zlib
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from interruptions import Failing, broken_off, stopped

from boards.describe import description as described
from boards.describe import format_of
from boards.driver import claim, uio
from boards.driver.accelerator import Accelerator, checksum, difference
from boards.driver.description import Description
from boards.driver.pynq import PynqTransport
from boards.zynqmp import bundle
from emamba.base.errors import EmambaError, SimulationStopped
from emamba.datasets.tokens import executor_tokens
from flow import drive as driving
from rtl.system.registers import INTERFACE, MAGIC, address, mask
from sim.models import random_artifact

DESCRIPTION = {
    "format": "emamba-accelerator", "version": 1, "name": "toy", "digest": "ab" * 32, "tokens": 2, "input_width": 3,
    "output_tokens": 1, "output_width": 2, "input": {"bits": 8, "signed": True, "frac": 4, "size": 1},
    "output": {"bits": 12, "signed": True, "frac": 2, "size": 2},
    "codec": {"mean": [1.0, 1.0, 1.0], "std": [2.0, 2.0, 2.0], "scale": [1.0, 10.0], "offset": [0.0, 5.0]},
    "golden": {"frames": [[[1, 2, 3], [4, 5, 6]]], "answers": [[[6, 15]]]}, "stages": ["input", "embed", "output"],
    "queues": ["q"], "cycles_per_frame": 8, "structure": {"nodes": {"embed": {"shift": 3}}},
    "structure_digest": "cd" * 32, "image": None,
}


class Toy:
    """Registers as a dictionary; a result is the sums of both tokens."""

    def __init__(self, **registers):
        words = {"MAGIC": MAGIC, "INTERFACE": INTERFACE[0] << 16 | INTERFACE[1], "TOKENS": 2, "INPUT_WIDTH": 3,
                 "OUTPUT_TOKENS": 1, "OUTPUT_WIDTH": 2, "STATUS": mask("STATUS", "IDLE"), "CAPABILITIES": 0} | registers
        self.words = {address(name): value for name, value in words.items()}
        self.words |= {address("DIGEST", k): 0xABABABAB for k in range(8)}
        self.written, self.results, self.aborted = [], [], 0

    def read32(self, place):
        return self.words.get(place, 0)

    def write32(self, place, value):
        self.written.append((place, value))
        if place == address("CONTROL"):
            self.words[place] = value

    def send(self, packet):
        frame = np.frombuffer(packet, np.int8).reshape(2, 3)
        self.results.append(frame.sum(1).astype("<i2").tobytes())

    def receive(self, size, timeout):
        if not self.results:
            raise TimeoutError
        return self.results.pop(0)

    def abort(self):
        self.aborted += 1
        self.results.clear()


def test_predict():
    accelerator = Accelerator(DESCRIPTION, Toy())
    batch = np.arange(42, dtype=float).reshape(7, 2, 3) / 8
    tokens = np.floor((batch - 1) / 2 * 16 + 0.5)
    assert np.allclose(accelerator.predict(batch), tokens.sum(2)[:, None] / 4 * [1, 10] + [0, 5])
    assert accelerator.self_test() == 1
    assert accelerator.classify(batch) == ["1" if row[1] > row[0] else "0" for row in accelerator.predict(batch)[:, 0]]
    assert set(Accelerator(DESCRIPTION | {"classes": ["no", "yes"]}, Toy()).classify(batch)) <= {"no", "yes"}
    with pytest.raises(EmambaError, match="a value that is not finite"):
        accelerator.predict(batch * np.nan)
    with pytest.raises(EmambaError, match=r"shape \[2, 3\]; the design reads \[sequences, 2 tokens, 3 values\]"):
        accelerator.run(np.zeros((2, 3), int))


@pytest.mark.parametrize("registers, sentence", [
    ({"MAGIC": 0}, "no accelerator of this project at this address, which reads 0x00000000"),
    ({"INTERFACE": 9 << 16}, "registers have version 9.0, this driver needs"),
    ({"TOKENS": 5}, "the FPGA's TOKENS is 5, the description says 2"),
])
def test_another_design(registers, sentence):
    with pytest.raises(EmambaError, match=sentence):
        Accelerator(DESCRIPTION, Toy(**registers))


def test_another_artifact():
    with pytest.raises(EmambaError, match=r"the FPGA holds another design: artifact abababababab…, not 'toy', 121212121212…"):
        Accelerator(DESCRIPTION | {"digest": "12" * 32}, Toy())


@pytest.mark.parametrize("status, errors, sentence", [
    ("EXCESS", "LONG", "an input packet has no TLAST"), ("IN_PACKET", "", "waits for the rest of an input packet"),
    ("IDLE", "", "nothing to do, so the packets do not reach it"), ("IN_PACKET", "BAD_TKEEP", "TKEEP had a hole"),
    ("OUT_PACKET", "", "the design works on it"),
])
def test_silence(status, errors, sentence):
    toy = Toy(STATUS=mask("STATUS", status), ERRORS=mask("ERRORS", errors) if errors else 0)
    accelerator = Accelerator(DESCRIPTION, toy)
    toy.send = lambda packet: None
    with pytest.raises(EmambaError, match=f"result 1 of 1 did not come within 1 s: .*{sentence}.*; call reset"):
        accelerator.run(np.zeros((1, 2, 3), int))
    with pytest.raises(EmambaError, match="a batch ended in its middle: call reset"):
        accelerator.check()
    aborted = toy.aborted
    accelerator.reset()
    assert toy.aborted > aborted and (address("COMMAND"), mask("COMMAND", "RESET") | mask("COMMAND", "ABANDON")) in toy.written


def test_refusals():
    toy = Toy()
    accelerator = Accelerator(DESCRIPTION, toy, timeout=0.01)
    for function, arguments, sentence in (
            (accelerator.keep_state, (True,), "cannot keep its state: build it with the option for state"),
            (accelerator.load, (DESCRIPTION,), "has its weights built in: build it with the option for weights"),
            (accelerator.counters, (), "counts nothing: build it with the option for counters")):
        with pytest.raises(EmambaError, match=sentence):
            function(*arguments)
    toy.words[address("STATUS")] = 0
    with pytest.raises(EmambaError, match="does not come to rest"):
        accelerator.clear_state()
    toy.receive = lambda size, timeout: b"\0"
    with pytest.raises(EmambaError, match="result 1 of 1 has 1 bytes, not 4"):
        accelerator.run(np.zeros((1, 2, 3), int))


def test_structure():
    other = {"nodes": {"embed": {"shift": 4}}}
    assert difference(DESCRIPTION["structure"], other) == "nodes.embed.shift is 4 there and 3 in the design"
    assert difference(other, other) == ""
    description = Description.read(DESCRIPTION | {"image": "01000000"})
    assert checksum(description) == zlib.crc32(bytes.fromhex("cd" * 32 + "01000000"))


def test_description(tmp_path):
    (tmp_path / "accelerator.json").write_text(json.dumps(DESCRIPTION))
    assert Description.read(tmp_path).digest == Description.read(DESCRIPTION).digest == "ab" * 32
    for change, sentence in (({"format": "x"}, "no description"), ({"version": 7}, "has version 7"),
                             ({"input": {}}, "is damaged")):
        with pytest.raises(EmambaError, match=sentence):
            Description.read(DESCRIPTION | change)
    with pytest.raises(EmambaError, match=r"cannot read .*accelerator.json: No such file"):
        Description.read(tmp_path / "none" / "accelerator.json")


WRONG = (None, 0, -1, 1.5, True, "", [], {}, "x", 10**30, float("nan"), float("inf"), "\ud800", "a" * 5000, [[]], [None], 2**62)


def parts(value, path=()):
    """The path of everything in a description."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from parts(value[key], (*path, key))


def test_untrusted_description(tmp_path):
    """Whatever stands in the place of a part: a sentence, or a description that works."""
    refused = 0
    for path in list(parts(DESCRIPTION))[1:]:
        for wrong in WRONG:
            source = json.loads(json.dumps(DESCRIPTION))
            *inside, last = path
            functools.reduce(lambda value, key: value[key], inside, source)[last] = wrong
            try:
                description = Description.read(source)
            except EmambaError as error:
                refused += 1
                assert str(error).endswith(("build it again", "from the same build", "that rtl.build wrote")), error
                continue
            answer = description.decode(description.encode(np.ones((1, 2, 3)))[:, :1, :2])
            assert np.isfinite(answer).all() or path[0] == "output"
    assert refused > 800
    deep = functools.reduce(lambda inner, _: {"a": inner}, range(99), {})
    for change in ({"extra": 1}, {"classes": ["a"] * 3}, {"classes": "ab"}, {"tokens": 1 << 40}, {"structure": deep}):
        with pytest.raises(EmambaError, match=r"the description is damaged: .*; build it again"):
            Description.read(DESCRIPTION | change)
    with pytest.raises(EmambaError, match="the description is damaged: stages is missing"):
        Description.read({key: value for key, value in DESCRIPTION.items() if key != "stages"})
    pipe = tmp_path / "accelerator.json"
    os.mkfifo(pipe)
    for source, sentence in ((pipe, "is no file"), (tmp_path, "is no file"), ("/dev/zero", "is no file"), (5, "not int")):
        with pytest.raises(EmambaError, match=sentence):
            Description.read(source)
    for text in ("[" * 100_000, '{"a": 1' + "0" * 5000 + "}", "\0", '"'):
        (tmp_path / "damaged.json").write_text(text)
        with pytest.raises(EmambaError, match=r"damaged.json is damaged: copy it again"):
            Description.read(tmp_path / "damaged.json")


@pytest.mark.parametrize("batch, sentence", [
    ([[[1, 2], [3]]], "is no array of numbers"), ([[["a"] * 3] * 2], "what are no real numbers"),
    (np.ones((1, 2, 3), complex), "what are no real numbers"), (np.ones((1, 2, 4)), r"has the shape \[1, 2, 4\]"),
    (np.full((1, 2, 3), None), "what are no real numbers"), (np.full((1, 2, 3), np.inf), "not finite")])
def test_batches(batch, sentence):
    with pytest.raises(EmambaError, match=sentence):
        Accelerator(DESCRIPTION, Toy()).predict(batch)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e9, "1", None, True])
def test_timeouts(seconds):
    with pytest.raises(EmambaError, match=r"the time-out is .*: give seconds above 0"):
        Accelerator(DESCRIPTION, Toy(), timeout=seconds)
    driver = Accelerator(DESCRIPTION, Toy())
    with pytest.raises(EmambaError, match="the time-out is"):
        driver.timeout = seconds


def test_time_out_is_the_longest_wait():
    """Of the transport's clock, however long a read takes."""
    toy = Toy()
    toy.now = 0.0
    toy.clock = lambda: toy.now
    driver = Accelerator(DESCRIPTION, toy)

    def slow(place, read=toy.read32):
        toy.now += 0.016
        return read(place)

    toy.read32, toy.words[address("STATUS")] = slow, 0
    with pytest.raises(EmambaError, match="does not come to rest"):
        driver.clear_state()
    assert 1 < toy.now < 1.1


def test_states_of_another_size():
    """A count of words that cannot be is refused before anything is read."""
    stateful = {"CAPABILITIES": mask("CAPABILITIES", "STATEFUL")}
    with pytest.raises(EmambaError, match="STATE_WORDS is 4294967295, above 1048576"):
        Accelerator(DESCRIPTION, Toy(STATE_WORDS=0xFFFFFFFF, **stateful))
    with pytest.raises(EmambaError, match="the FPGA's STATE_WORDS is 5, the description says 4"):
        Accelerator(DESCRIPTION | {"state_words": 4}, Toy(STATE_WORDS=5, **stateful))
    driver = Accelerator(DESCRIPTION | {"state_words": 4}, Toy(STATE_WORDS=4, **stateful))
    for state in ([1, 2, 3], [1.0] * 4, [-1] * 4, [1 << 32] * 4, [[1] * 4], ["a"] * 4):
        with pytest.raises(EmambaError, match="this state "):
            driver.restore_state(state)
    driver.check()


def test_what_is_wrong_in_memory_stays_wrong():
    """A fault of parity, and a frame that was cut, ask for a reset."""
    toy = Toy()
    driver = Accelerator(DESCRIPTION, toy)
    for name in ("PARITY", "SHORT"):
        toy.words[address("ERRORS")] = mask("ERRORS", name)
        with pytest.raises(EmambaError, match=r"call reset\(\)"):
            driver.run(np.zeros((1, 2, 3), int))
        toy.words[address("ERRORS")] = 0
        with pytest.raises(EmambaError, match="a batch ended in its middle"):
            driver.self_test()
        driver.reset()
        assert driver.self_test() == 1


def test_two_drivers_of_one_transport():
    """The design is as the last one has made it, so that the first has to begin anew."""
    toy = Toy()
    first, second = (Accelerator(DESCRIPTION, toy) for _ in range(2))
    assert second.self_test() == 1
    with pytest.raises(EmambaError, match="another driver was made on this transport since"):
        first.run(np.zeros((1, 2, 3), int))
    first.reset()
    assert first.self_test() == 1
    with pytest.raises(EmambaError, match="another driver was made on this transport since"):
        second.check()


def test_one_at_a_time(monkeypatch):
    """Threads take turns; a signal's handler in the middle of a call, and a forked process, are refused."""
    toy = Toy()
    driver = Accelerator(DESCRIPTION, toy)
    frames = np.random.default_rng(0).integers(-8, 8, (8, 5, 2, 3))
    answers = [None] * len(frames)

    def ask(k):
        answers[k] = driver.run(frames[k])

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(len(frames))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (np.array(answers) == frames.sum(-1)[:, :, None]).all()

    send = toy.send
    toy.send = lambda packet: driver.reset()
    with pytest.raises(EmambaError, match="a reset is asked for in the middle of a batch, by the same thread"):
        driver.run(frames[0])
    toy.send = send
    driver.reset()
    own = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: own + 1)  # as after a fork
    with pytest.raises(EmambaError, match=f"this driver belongs to process {own}"):
        driver.run(frames[0])
    monkeypatch.undo()


def test_numpy_is_enough():
    """The driver imports nothing that is not on a board."""
    code = ("import sys, boards.driver.accelerator, boards.driver.uio, boards.driver.pynq; "
            "print({name.split('.')[0] for name in sys.modules} & {'amaranth', 'pydantic', 'safetensors', 'torch', 'cocotb'})")
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert process.stdout.strip() == "set()", process.stderr


def test_python_of_the_board():
    """PYNQ's images have Python 3.10: no newer syntax, and no name that a module got later."""
    root, newer = Path(__file__).parents[1], "StrEnum Self Never assert_never reveal_type UTC chdir"
    for name in bundle.DRIVER:
        ast.parse((root / name).read_text(encoding="utf-8"), feature_version=(3, 10))
    modules = ", ".join(name.removesuffix(".py").replace("/", ".") for name in bundle.DRIVER)
    code = ("import contextlib, datetime, enum, typing, numpy\n"
            f"for name in '{newer}'.split():\n"
            "    for module in (contextlib, datetime, enum, typing):\n"
            f"        vars(module).pop(name, None)\nimport {modules}")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


class Channel:
    """One of a fake PYNQ's DMA channels: idle some looks after `transfer`, once `work` has given the bytes moved."""

    error = False

    def __init__(self, work):
        self.work, self.transferred, self.waited, self.starts = work, 0, True, 0
        self.start()

    def start(self):
        self.buffer, self.looks, self.done, self.first, self.starts = None, 0, False, True, self.starts + 1

    def transfer(self, array, start=0, nbytes=0):
        assert self.first or self.idle, "DMA channel not idle"
        self.buffer, self.looks, self.done, self.first, self.waited = array[:nbytes], 3, False, False, False

    @property
    def idle(self):
        if self.looks:
            self.looks -= 1
        elif self.buffer is not None and not self.done:
            count = self.work(self.buffer)
            self.done = count is not None
            self.count = count
        return self.done

    def wait(self):
        assert self.idle
        self.transferred, self.waited = self.count, True


def fake_overlay(registers):
    """Every packet comes back, its bytes reversed; what is sent is read as late as the DMA may."""
    packets = []

    def send(buffer):
        packets.append(bytes(buffer)[::-1])
        return len(buffer)

    def receive(buffer):
        if not (dma.sendchannel.idle and packets):  # looked at, since the fake moves on only then
            return None
        packet = packets.pop(0)
        buffer[:len(packet)] = np.frombuffer(packet, np.uint8)
        return len(packet)

    control = {0x00: 0, 0x30: 0}

    def write(place, value):
        control[place] = value & ~4
        packets.clear()

    mmio = SimpleNamespace(read=control.get, write=write)
    dma = SimpleNamespace(mmio=mmio, sendchannel=Channel(send), recvchannel=Channel(receive))
    return SimpleNamespace(accelerator=SimpleNamespace(mmio=registers), dma=dma)


class Buffer(np.ndarray):
    freed = 0

    def freebuffer(self):
        Buffer.freed += 1


def test_pynq(monkeypatch):
    with pytest.raises(EmambaError, match="needs the package pynq, which is not installed"):
        PynqTransport(object())
    monkeypatch.setitem(sys.modules, "pynq", SimpleNamespace(allocate=lambda shape, dtype: np.zeros(shape, dtype).view(Buffer)))
    with pytest.raises(EmambaError, match="the overlay has no such part"):
        PynqTransport(SimpleNamespace())
    words = {0x60: 5}
    overlay = fake_overlay(SimpleNamespace(read=words.get, write=words.__setitem__))
    transport = PynqTransport(overlay)
    transport.write32(0x64, 7)
    assert transport.read32(0x60) == 5 and words[0x64] == 7
    packets = [bytes([k, k + 1, k + 2]) for k in range(7)]
    for packet in packets[:3]:
        transport.send(packet)
    assert transport.staged == 3 and len(transport.queue) == 1  # one is sent, the next is in its buffer
    for packet in packets[3:]:
        transport.send(packet)
    assert transport.receive(3, 60) == packets[0][::-1]
    assert transport.armed == 3 and overlay.dma.recvchannel.buffer is not None  # before anyone asks for it
    with pytest.raises(EmambaError, match="the DMA waits for a result of 3 bytes, not of 4"):
        transport.receive(4, 60)
    assert [transport.receive(3, 60) for _ in packets[1:]] == [packet[::-1] for packet in packets[1:]]
    assert not transport.armed
    with pytest.raises(TimeoutError):
        transport.receive(3, 0.01)
    transport.abort()
    assert overlay.dma.recvchannel.starts == 3
    transport.send(bytes(range(9)))  # larger than the buffers
    assert transport.receive(9, 60) == bytes(range(9))[::-1] and Buffer.freed
    overlay.dma.sendchannel.error = True
    with pytest.raises(EmambaError, match="the DMA stopped at an input packet: reset the driver"):
        transport.receive(9, 60)
    overlay.dma.mmio.read = lambda place: 4
    with pytest.raises(EmambaError, match="the DMA does not leave its reset"):
        transport.abort()


class Dma(threading.Thread):
    """What the DMA's registers do, on the files that stand for the devices: every packet comes back, its bytes reversed."""

    def __init__(self, words, buffer):
        super().__init__(daemon=True)
        self.words, self.buffer, self.packets = words, buffer, []
        self.sources, self.places, self.stopped = [], [], False
        self.works = threading.Event()
        self.works.set()
        self.start()

    def run(self):
        while not self.stopped:
            time.sleep(0.0002)
            self.works.wait()
            self.step()

    def step(self):
        words = self.words
        for channel in (uio.TO_DEVICE, uio.FROM_DEVICE):
            if words[channel + uio.CONTROL] & uio.RESET:
                words[channel + uio.LENGTH] = words[channel + uio.STATUS] = words[channel + uio.CONTROL] = 0
                self.packets.clear()
        size = words[uio.LENGTH]
        if size and not words[uio.STATUS] & uio.IDLE:
            place = (words[uio.ADDRESS] | words[uio.ADDRESS_HIGH] << 32) - 0x8_0000_0000
            self.packets.append(bytes(self.buffer[place:place + size])[::-1])
            self.sources.append(place)
            words[uio.STATUS] = uio.IDLE
        if words[uio.FROM_DEVICE + uio.LENGTH] and self.packets and not words[uio.FROM_DEVICE + uio.STATUS] & uio.IDLE:
            packet = self.packets.pop(0)
            place = words[uio.FROM_DEVICE + uio.ADDRESS]
            self.places.append(place)
            self.buffer[place:place + len(packet)] = packet
            words[uio.FROM_DEVICE + uio.LENGTH] = len(packet)
            words[uio.FROM_DEVICE + uio.STATUS] = uio.IDLE


@pytest.fixture
def board(tmp_path, monkeypatch):
    """The three devices as files, and the DMA's model."""
    for name, size in (("registers", uio.SPAN), ("dma", uio.DMA_SPAN), ("buffer", 4096)):
        (tmp_path / name).write_bytes(bytes(size))
    paths = [str(tmp_path / name) for name in ("registers", "dma", "buffer")]
    with pytest.raises(EmambaError, match="the DMA does not leave its reset"):
        uio.UioTransport(*paths, physical=0x8_0000_0000, size=4096, poll=True)
    start = uio.UioTransport._start

    def started(self, channel, offset, size):  # the hardware lowers IDLE as LENGTH is written
        self.dma[channel + uio.LENGTH] = 0
        self.dma[channel + uio.STATUS] = 0
        start(self, channel, offset, size)

    monkeypatch.setattr(uio.UioTransport, "_start", started)
    monkeypatch.setattr(uio, "RESET_SECONDS", 60)
    model = Dma(uio.Words(paths[1], uio.DMA_SPAN), uio.Words(paths[2], 4096).memory)
    yield paths, model
    model.stopped = True


def test_uio(board, tmp_path):
    paths, model = board
    transport = uio.UioTransport(*paths, physical=0x8_0000_0000, size=4096, poll=True)
    transport.write32(0x60, 0x12345678)
    assert transport.read32(0x60) == 0x12345678
    packets = [bytes([k, k + 1, k + 2]) for k in range(5)]
    model.works.clear()
    for packet in packets[:3]:
        transport.send(packet)
    assert len(transport.queue) == 1 and transport.staged == 3  # one is sent, the next is in the buffer
    model.works.set()
    assert transport.receive(3, 60) == packets[0][::-1]
    assert transport.armed == 3  # the DMA waits for the second result before anyone asks for it
    with pytest.raises(EmambaError, match="the DMA waits for a result of 3 bytes, not of 4"):
        transport.receive(4, 60)
    assert [transport.receive(3, 60) for _ in range(2)] == [packet[::-1] for packet in packets[1:3]]
    assert transport.armed == 0 and model.places == [2048, 3072, 2048] and model.sources == [0, 1024, 0]
    with pytest.raises(TimeoutError):
        transport.receive(3, 0.02)
    transport.abort()
    transport.send(packets[3])
    assert transport.receive(3, 60) == packets[3][::-1]
    with pytest.raises(EmambaError, match="a packet has 1025 bytes, a quarter of the DMA buffer 1024"):
        transport.send(bytes(1025))
    model.words[uio.STATUS] = 0x10
    with pytest.raises(EmambaError, match="the DMA stopped at an input packet with status 0x10"):
        transport.send(b"x")
    with pytest.raises(EmambaError, match=r"cannot open .*: No such file"):
        uio.UioTransport(str(tmp_path / "none"), *paths[1:])


def test_uio_refusals(board, tmp_path):
    """Devices that are exchanged, not there, of another kind; sizes and places that cannot be."""
    paths, _ = board
    registers, dma, buffer = paths
    os.mkfifo(tmp_path / "pipe")
    uio.Words(registers, uio.SPAN)[0] = MAGIC
    right = {"physical": 0x8_0000_0000, "size": 4096}
    for places, options, sentence in (
            ((dma, registers, buffer), right, "is the accelerator's registers and no DMA: .* registers and dma are exchanged"),
            ((registers, buffer, buffer), right, "cannot map 65536 bytes .*: check the arguments registers, dma"),
            ((registers, dma, tmp_path / "pipe"), right, "pipe is a pipe and no device"),
            ((tmp_path / "pipe", dma, buffer), right, "pipe is a pipe and no device"),
            ((registers, tmp_path, buffer), right, "cannot open .*: Is a directory"),
            (paths, right | {"size": 8192}, "cannot map 8192 bytes of .*buffer"),
            (paths, right | {"size": 255}, "has 255 bytes, and 256"), (paths, right | {"size": 10**30}, "cannot map"),
            (paths, right | {"physical": 0x8_0000_0001}, "is no multiple of 64"),
            (paths, right | {"physical": -64}, "is no multiple of 64"),
            (paths, {}, "cannot read .*is the module u-dma-buf loaded")):
        with pytest.raises(EmambaError, match=sentence):
            uio.UioTransport(*places, **options)
    transport = uio.UioTransport(*paths, **right)  # none of them kept the device
    with pytest.raises(EmambaError, match="a packet of no bytes"):
        transport.send(b"")
    transport.close()


ECHO = DESCRIPTION | {"tokens": 1, "input_width": 4, "output_width": 4, "input": DESCRIPTION["input"] | {"bits": 8},
                      "output": DESCRIPTION["output"] | {"bits": 8, "size": 1}, "golden": {"frames": [[[1, 2, 3, 4]]],
                                                                                            "answers": [[[4, 3, 2, 1]]]},
                      "codec": {"mean": None, "std": None, "scale": [1.0] * 4, "offset": [0.0] * 4}}
"""A design that gives a packet back, its bytes reversed, as the fakes of the DMA do."""


def over(streams) -> Failing:
    """Registers of a `Toy`, packets by a transport of DMAs."""
    toy = Toy(TOKENS=1, INPUT_WIDTH=4, OUTPUT_WIDTH=4)
    return Failing(SimpleNamespace(read32=toy.read32, write32=toy.write32, send=streams.send, receive=streams.receive,
                                   abort=streams.abort))


class Stepped:
    """The DMA's registers; the model moves on as they are read."""

    def __init__(self, words, model):
        self.words, self.model = words, model

    def __getitem__(self, place):
        self.model.step()
        return self.words[place]

    def __setitem__(self, place, value):
        self.words[place] = value


@pytest.mark.parametrize("kind", ["uio", "pynq"])
def test_broken_off_dma(board, monkeypatch, kind):
    """At every call of the transport, and by Ctrl-C at any line of it: refused until a reset, and right behind it."""
    if kind == "uio":
        paths, model = board
        streams = uio.UioTransport(*paths, physical=0x8_0000_0000, size=4096, poll=True)
        model.stopped = True
        model.join()
        streams.dma = Stepped(streams.dma, model)
    else:
        module = SimpleNamespace(allocate=lambda shape, dtype: np.zeros(shape, dtype).view(Buffer))
        monkeypatch.setitem(sys.modules, "pynq", module)
        streams = PynqTransport(fake_overlay(None))
    failing = over(streams)
    driver = Accelerator(ECHO, failing, timeout=60)
    frames = np.random.default_rng(0).integers(-128, 128, (7, 1, 4))

    def answers():
        assert (driver.run(frames) == frames[:, :, ::-1]).all()

    def refused():
        with pytest.raises(EmambaError, match=r"ended in its middle: call reset\(\) first"):
            driver.run(frames)
        driver.reset()
        answers()

    for _ in broken_off(failing, answers):
        refused()
    for line in count(1, 23):
        if not stopped(answers, ("driver/accelerator.py", "driver/device.py", f"driver/{kind}.py"), line):
            break
        if driver._open:
            refused()
        answers()
    assert line > 200


OWNER = """
import sys, time
from boards.driver import claim
lock = claim.Claim(sys.argv[1])
print("mine", flush=True)
time.sleep(600)
"""


def test_one_process_at_a_time(board, tmp_path, monkeypatch):
    """The sentence names who has the device; it is free as soon as that process is killed."""
    paths, _ = board
    right = {"physical": 0x8_0000_0000, "size": 4096, "poll": True}
    command, root = [sys.executable, "-c", OWNER, paths[0]], Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"mine\n"
        with pytest.raises(EmambaError, match=rf"registers is in use by process {process.pid}: close it there first"):
            uio.UioTransport(*paths, **right)
        process.kill()
    transport = uio.UioTransport(*paths, **right)
    with pytest.raises(EmambaError, match="registers is in use by this process"):
        uio.UioTransport(*paths, **right)
    own = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: own + 1)  # as after a fork
    with pytest.raises(EmambaError, match="which started this one"):
        transport.abort()
    monkeypatch.undo()


def test_one_pynq_at_a_time(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pynq", SimpleNamespace(allocate=lambda shape, dtype: np.zeros(shape, dtype).view(Buffer)))
    monkeypatch.setattr(claim, "RUN", tmp_path / "run")
    overlay = fake_overlay(SimpleNamespace(read={}.get, write={}.__setitem__, base_addr=0xA000_0000))
    transport = PynqTransport(overlay)
    with pytest.raises(EmambaError, match="the accelerator at 0xa0000000 is in use by this process"):
        PynqTransport(overlay)
    transport.close()
    with pytest.raises(EmambaError, match="was closed"):
        transport.send(b"x")
    PynqTransport(overlay).close()
    (tmp_path / "run").chmod(0o777)
    with pytest.raises(EmambaError, match="is not this user's own folder"):
        PynqTransport(overlay)


def test_uio_sleeps(board, monkeypatch):
    """Until the accelerator's interrupt, once all packets are under way; it polls where there is none."""
    paths, model = board
    transport = uio.UioTransport(*paths, physical=0x8_0000_0000, size=4096)
    ours, its = socket.socketpair()
    with ours, its:
        transport.interrupt.file = ours.fileno()
        assert transport.interrupt.wait(0.001) and its.recv(4) == (1).to_bytes(4, sys.byteorder)
        its.send(bytes(4))
        assert transport.interrupt.wait(60) and its.recv(4)
        packets, wait, waits = [bytes([k, k]) for k in range(6)], uio.Interrupt.wait, []

        def counted(self, seconds):
            model.works.set()
            waits.append(len(transport.queue) + bool(transport.staged))
            return wait(self, seconds)

        monkeypatch.setattr(uio.Interrupt, "wait", counted)
        model.works.clear()
        transport.send(packets[0])
        assert transport.receive(2, 60) == packets[0] and waits
        for packet in packets[1:]:
            transport.send(packet)
        assert [transport.receive(2, 60) for _ in packets[1:]] == packets[1:]
        assert not any(waits)
        assert transport.read32(address("INTERRUPT_ENABLE")) == mask("INTERRUPT_ENABLE", "RESULT")
        assert transport.read32(address("INTERRUPT")) == mask("INTERRUPT", "RESULT")  # written, which clears it
    with pytest.raises(TimeoutError):
        transport.receive(2, 0.01)
    assert transport.interrupt is None


def test_images_are_cut_before_the_simulator_is_built(tmp_path, monkeypatch):
    """Images as the Python API takes them; another shape is refused at once."""
    artifact, given = replace(random_artifact("emamba-image"), digest="ab" * 32), []
    images = np.random.default_rng(0).normal(size=(2, *artifact.config.image))
    tokens = executor_tokens(images, artifact.config)
    form = format_of(artifact.input, 4)
    content = described(artifact, artifact.codec.encode(tokens[:1], artifact.input), tokens=artifact.graph.length, input=form,
                          output=format_of(artifact.output, 4), state_words=0, structure_digest="ab" * 32)
    (tmp_path / "accelerator.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "top.v").touch()

    def built(*_):
        raise SimulationStopped("built")

    monkeypatch.setattr(driving, "_simulated", built)
    monkeypatch.setattr(Description, "check_shape", lambda self, batch, check=Description.check_shape: given.append(batch) or
                        check(self, batch))
    with pytest.raises(SimulationStopped, match="built"):
        driving.drive(tmp_path, True, images)
    assert np.array_equal(given[0], tokens)
    with pytest.raises(EmambaError, match=r"the batch has the shape \[2, 1, 2\]; the design reads \[sequences, "):
        driving.drive(tmp_path, True, np.zeros((2, 1, 2)))
    with pytest.raises(EmambaError, match="the description is damaged: cut is not a table of image, patch and overlap"):
        Description.read(content | {"cut": content["cut"] | {"patch": [0, 1]}})
