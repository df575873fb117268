"""The driver over a serial line to a Verilated design, and the line's own faults."""

import os
import socket
import threading
import time
from itertools import cycle
from types import SimpleNamespace

import numpy as np
import pytest

from boards.describe import describe
from boards.driver import serial
from boards.driver.accelerator import Accelerator
from boards.driver.claim import Claim
from boards.driver.serial import SerialTransport
from emamba.base.errors import EmambaError
from emamba.run.integer import IntegerModel
from rtl.plan.schedule import Schedule
from rtl.system import serial as gateware
from rtl.system.registers import MAGIC, address
from rtl.system.serial import SerialSystem
from rtl.system.system import Options, System
from sim.serial_bench import line_to
from sim.small import artifact_of, frames_of

DIVISOR = 5
SECONDS = 60  # for what must come
QUIET = 1000  # cycles: a frame takes fewer


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A driver on the line to a design with a state, the artifact's model, and frames."""
    artifact = artifact_of(features=2, d_model=2, d_state=1, norm="none", outputs=2, pool="none")
    system = System(Schedule(artifact, 6), Options(counters=False, stateful=True))
    folder = tmp_path_factory.mktemp("serial")
    with line_to(SerialSystem(system, DIVISOR), DIVISOR, folder, seconds=SECONDS, fast=False, quiet=QUIET) as transport:
        driver = Accelerator(describe(system, frames_of(artifact, 2)), transport, timeout=SECONDS)
        yield SimpleNamespace(driver=driver, model=IntegerModel(artifact), frames=frames_of(artifact, 10))


def test_driver_over_a_line(board):
    """Answers, the state, a short packet."""
    driver, model, frames = board.driver, board.model, board.frames
    assert driver.self_test() == 2
    assert (driver.run(frames) == model.answer(frames)).all()
    answers, kept = [], None
    for frame in frames[:3]:
        answer, kept = model.resume(frame[None], kept)
        answers.append(answer[0].tolist())
    driver.keep_state(True)
    driver.clear_state()
    assert driver.run(frames[:3]).tolist() == answers
    driver.transport.send(b"\1\2\3")
    driver.transport.receive(1, SECONDS)
    with pytest.raises(EmambaError, match="an input packet was too short"):
        driver.check()
    with pytest.raises(EmambaError, match="reading 0xff0 was answered with 2"):
        driver.transport.read32(0xFF0)
    with pytest.raises(EmambaError, match="writing 0xff0 was answered with 2"):
        driver.transport.write32(0xFF0, 0xC0DBDCDD)
    driver.transport.write32(0xF0, 0xC0DBDCDD)
    assert driver.transport.read32(0xF0) == 0xC0DBDCDD
    driver.reset()


KINDS = {"changed": lambda byte: bytes([byte ^ 0x10]), "an end": lambda byte: bytes([serial.END if byte != serial.END else 0]),
         "lost": lambda byte: b"", "twice": lambda byte: bytes([byte, byte])}


class Faulty:
    """`os` with a line that spoils a byte: number `at` of what is written, or read."""

    def __init__(self, written: bool = False, at: int = -1, kind: str = "lost"):
        self.faults = {written: (at, kind)}
        self.passed = {True: 0, False: 0}

    def __getattr__(self, name):
        return getattr(os, name)

    def spoilt(self, data: bytes, written: bool) -> bytes:
        at, kind = self.faults.get(written, (-1, ""))
        at -= self.passed[written]
        self.passed[written] += len(data)
        return data[:at] + KINDS[kind](data[at]) + data[at + 1:] if 0 <= at < len(data) else data

    def write(self, file, data):
        data = bytes(data)
        spoilt = self.spoilt(data, True)
        while spoilt:
            spoilt = spoilt[os.write(file, spoilt):]
        return len(data)

    def read(self, file, size):
        data = os.read(file, size)
        spoilt = self.spoilt(data, False)
        if data and not spoilt:
            raise BlockingIOError
        return spoilt


def usual(board) -> None:
    """A driver that begins from nothing."""
    driver = board.driver
    assert not driver.save_state().any()
    assert (driver.run(board.frames[:1]) == board.model.answer(board.frames[:1])).all()


ACTIONS = {
    "run": lambda driver, frames: driver.run(frames[:2]).tolist(),
    "state": lambda driver, frames: (driver.restore_state(np.arange(driver.state_words)), driver.save_state().tolist())[1],
    "reset": lambda driver, frames: driver.reset(),
}


def spoilt(board, monkeypatch, line, action, wanted) -> None:
    """Over that line the answer is right, or the call and the next are refused; a reset makes all as it was."""
    driver = board.driver
    driver.timeout = driver.transport.seconds = 0.05
    monkeypatch.setattr(serial, "os", line)
    try:
        assert action(driver, board.frames) == wanted
        refused = False
    except EmambaError:
        refused = True
    driver.timeout = driver.transport.seconds = SECONDS
    monkeypatch.setattr(serial, "os", os)
    if refused:
        with pytest.raises(EmambaError, match="ended in its middle"):
            driver.check()
    driver.reset()
    usual(board)


@pytest.mark.parametrize("name, step", [("run", 5), ("state", 199), ("reset", 47)])
def test_spoilt_bytes(board, monkeypatch, name, step):
    """A byte of either direction is changed, lost or doubled, or an end."""
    board.driver.reset()
    monkeypatch.setattr(serial, "os", clean := Faulty())
    wanted = ACTIONS[name](board.driver, board.frames)
    for written, total in clean.passed.items():
        for at, kind in zip(range(0, total, step), cycle(KINDS)):
            spoilt(board, monkeypatch, Faulty(written, at, kind), ACTIONS[name], wanted)


class Copying:
    """`os` with a line on which what is written at the `which`-th time comes so many times."""

    def __init__(self, which, copies):
        self.left, self.copies = which, copies

    def __getattr__(self, name):
        return getattr(os, name)

    def write(self, file, data):
        self.left -= 1
        for _ in range(self.copies if self.left == 0 else 1):
            os.write(file, data)
        return len(data)


def test_whole_messages(board, monkeypatch):
    """One that is lost, or comes twice."""
    board.driver.reset()
    wanted = ACTIONS["run"](board.driver, board.frames)
    for copies in (0, 2):
        for which in (1, 2, 3):
            spoilt(board, monkeypatch, Copying(which, copies), ACTIONS["run"], wanted)


def test_half_a_message(board):
    """Somebody was killed in the middle of a message, or wrote what is none: the next one begins as usual."""
    driver, packet = board.driver, board.driver.packets(board.frames[:1])[0]
    driver.reset()
    for number, left in ((7, 5), (0, 9), (0, 1)):
        board.driver.transport.send(packet)
        line, half = driver.transport.line, serial.framed(bytes([serial.DATA]) + bytes(24), number)[:-left]
        os.write(line, half + b"\1\0\0\x80\x41" * left)
        driver = board.driver = Accelerator(driver.description, SerialTransport(line, seconds=SECONDS), timeout=SECONDS)
        usual(board)


def test_more_than_the_line_keeps(board):
    """What is sent waits here until the design takes it; where it takes nothing, a reset empties the line."""
    driver = board.driver
    driver.reset()
    packets = driver.packets(np.resize(board.frames, (200, *board.frames.shape[1:])))
    answers = board.model.answer(board.frames).astype(driver.description.output.dtype)
    for packet in packets:
        driver.transport.send(packet)
    for k in range(len(packets)):
        assert driver.transport.receive(99, SECONDS) == answers[k % len(answers)].tobytes()
    driver.check()
    driver.transport.write32(address("CONTROL"), 0)
    for packet in packets:
        driver.transport.send(packet)
    assert driver.transport.queue
    with pytest.raises(TimeoutError):
        driver.transport.receive(1, 0.1)
    driver.reset()
    usual(board)


class Board:
    """The other end of a line, without a design: `answers` maps a kind to what it answers."""

    def __init__(self, answers, version=serial.VERSION):
        self.answers, self.version = answers, version
        self.ours, self.its = socket.socketpair()
        self.thread = threading.Thread(target=self.serve)

    def __enter__(self):
        self.thread.start()
        return self.ours.fileno()

    def __exit__(self, *_):
        self.ours.close()
        self.thread.join()
        self.its.close()

    def serve(self):
        numbers, waiting = [0, 0], b""
        while data := self.its.recv(4096):
            *frames, waiting = (waiting + data).split(bytes([serial.END]))
            for frame in filter(None, frames):
                message = serial.unframed(frame, numbers[0])
                if message is None and (message := serial.unframed(frame, 0)):
                    numbers = [0, 0]
                if message is None:
                    continue
                numbers[0] += 1
                answer = bytes([serial.HELLO, self.version]) + message[1:]
                if message[0] != serial.HELLO:
                    answer = self.answers.get(message[0])
                if answer is None:
                    return self.its.shutdown(socket.SHUT_RDWR)
                if answer:
                    self.its.send(serial.framed(answer, numbers[1]) if answer[0] < 7 else answer)
                    numbers[1] += 1


def test_faults_of_a_line():
    """Each in a sentence, within its time."""
    for answers, sentence in (
            ({serial.READ: bytes([serial.WRITE]) + bytes(5)}, "another answer than the one asked for"),
            ({serial.READ: bytes([serial.READ, 2]) + bytes(4)}, "reading 0x4 was answered with 2"),
            ({serial.READ: bytes([serial.REFUSED]) + bytes(5)}, "a message to the board was damaged or lost"),
            ({serial.READ: b"\x33\x44\xc0"}, "a message from the board is damaged or missing"),
            ({serial.READ: b""}, "nothing answers on the line in time"),
            ({}, r"the line (has ended|fails .*): is the board still")):
        with Board(answers) as line:
            transport = SerialTransport(line, seconds=0.5)
            with pytest.raises(EmambaError, match=sentence):
                transport.read32(4)
            if "0x4" not in sentence:
                with pytest.raises(EmambaError, match=r"\(since then the line waits for a reset\)"):
                    transport.read32(4)
    with Board({}, version=9) as line, pytest.raises(EmambaError, match="protocol has version 9, this driver speaks 2"):
        SerialTransport(line, seconds=0.5)
    ours, its = socket.socketpair()
    with ours, its:
        start = time.monotonic()
        with pytest.raises(EmambaError, match="nothing answers on the line: is the board programmed"):
            SerialTransport(ours.fileno(), seconds=0.3)
        assert len(its.recv(4096)) > 3 * serial.ENDS

        def older():
            while not its.recv(4096).endswith(b"\1\0\0"):
                pass
            its.send(b"\1\0" + MAGIC.to_bytes(4, "little"))

        thread = threading.Thread(target=older)
        thread.start()
        with pytest.raises(EmambaError, match="the board speaks an older protocol than this driver"):
            SerialTransport(ours.fileno(), seconds=3)
        thread.join()
        assert time.monotonic() - start < 60


def test_lines_that_are_none(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    for path, sentence in ((tmp_path / "none", "cannot open .*none: No such file"), (tmp_path / "file", "file is no serial line"),
                           (tmp_path / "pipe", "pipe is a pipe and no device"), (tmp_path, "cannot open .*: Is a directory")):
        with pytest.raises(EmambaError, match=sentence):
            SerialTransport(path)
    for line in (-1, 1 << 20):
        with pytest.raises(EmambaError, match="cannot be used: Bad file descriptor"):
            SerialTransport(line)
    terminal, device = os.openpty()
    path = os.ttyname(device)
    for baud, sentence in ((1234, "no serial speed of 1234 baud"), (0, "give a speed above 0"), ("fast", "give a speed above 0")):
        with pytest.raises(EmambaError, match=sentence):
            SerialTransport(path, baud)
    with pytest.raises(EmambaError, match="nothing answers on the line"):
        SerialTransport(path, 9600, seconds=0.1)
    holder = Claim(path)
    with pytest.raises(EmambaError, match="is in use by this process"):
        SerialTransport(path, 9600, seconds=0.1)
    holder.close()
    os.close(terminal)
    with pytest.raises(EmambaError, match=r"cannot open|is the board"):
        SerialTransport(path, 9600, seconds=0.1)
    os.close(device)


def test_a_full_line():
    """What cannot be written for want of a reader ends by its time, too."""
    ours, its = socket.socketpair()
    with ours, its:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        try:
            while True:
                ours.send(bytes(65536), socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        with pytest.raises(EmambaError, match="nothing answers on the line"):
            SerialTransport(ours.fileno(), seconds=0.1)


def test_numbers_of_both_ends():
    """The driver does without the gateware's modules, so it has its own."""
    for name in ("VERSION", "END", "ESC", "ESCAPED_END", "ESCAPED_ESC", "REFUSED", "HELLO", "READ", "WRITE", "DATA", "LAST",
                 "RESULT", "ENDED"):
        assert getattr(serial, name) == getattr(gateware, name)
    assert serial.ENDS > gateware.ENDS and serial.RECEIVED == gateware.RECEIVED
