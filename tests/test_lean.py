"""The serial system of few registers: the same driver, the same answers, the same causes of errors."""

import os
from contextlib import suppress
from types import SimpleNamespace

import pytest

from boards.describe import describe
from boards.driver import serial
from boards.driver.accelerator import Accelerator
from boards.driver.serial import SerialTransport
from boards.icebreaker.target import OFFSET, flash_content
from emamba.base.errors import EmambaError
from emamba.run.integer import IntegerModel
from rtl.engine.machine import Machine
from rtl.engine.schedule import EngineSchedule
from rtl.system.flash import FlashSystem
from rtl.system.lean import SMALLER
from rtl.system.registers import address, mask
from rtl.system.serial import RECEIVED
from sim.serial_bench import line_to
from sim.small import artifact_of, frames_of

DIVISOR = 5
SECONDS = 60


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A driver on the line to a small engine that begins from a flash memory, the artifact's model, and frames."""
    artifact = artifact_of(features=3, d_model=2, d_state=1, norm="range", outputs=3, pool="none")
    system = FlashSystem(EngineSchedule(artifact, Machine(2, 1, 16, small=True)), DIVISOR, OFFSET)
    flash = flash_content(b"a bitstream", system)
    with line_to(system, DIVISOR, tmp_path_factory.mktemp("lean"), seconds=SECONDS, fast=False, flash=flash) as transport:
        driver = Accelerator(describe(system.lean, frames_of(artifact, 2)), transport, timeout=SECONDS)
        yield SimpleNamespace(driver=driver, model=IntegerModel(artifact), frames=frames_of(artifact, 40))


def usual(board, frames=3) -> None:
    assert (board.driver.run(board.frames[:frames]) == board.model.answer(board.frames[:frames])).all()


def test_driver(board):
    """Answers; packets that are short, too long, or without an end; registers that are none, and such as it lacks."""
    driver = board.driver
    assert driver.self_test() == 2 and driver.transport.window == (RECEIVED >> SMALLER) - serial.SPARE
    usual(board, 40)
    packet = driver.packets(board.frames[:1])[0]
    answer = board.model.answer(board.frames[:1]).astype(driver.description.output.dtype).tobytes()
    for sent, cause in ((packet[:5], "too short"), (packet + b"\0", "too long"), (3 * packet, "had no TLAST: the packet behind")):
        driver.transport.send(sent)
        assert (driver.transport.receive(len(answer), SECONDS) == answer) == (len(sent) >= len(packet))
        with pytest.raises(EmambaError, match=cause):
            driver.check()
        usual(board)
    for access in (lambda: driver.transport.read32(0xFF0), lambda: driver.transport.write32(0xFF0, 0xC0DBDCDD),
                   lambda: driver.transport.write32(address("MAGIC"), 1)):
        with pytest.raises(EmambaError, match="was answered with 2"):
            access()
    with pytest.raises(EmambaError, match="register was accessed that does not exist"):
        driver.check()
    driver.transport.write32(address("SCRATCH"), 7)
    assert driver.transport.read32(address("SCRATCH")) == 0


def test_resets(board):
    """In the middle of a packet, and of a result, which is ended and marked; with nothing enabled."""
    driver, transport = board.driver, board.driver.transport
    packet, reset = driver.packets(board.frames[:1])[0], lambda: transport.write32(address("COMMAND"), mask("COMMAND", "RESET"))
    transport.queue.append((serial.DATA, packet[:4]))
    transport._move(0)
    reset()
    transport.send(packet[4:])
    usual(board)
    transport.send(packet)
    transport._until(lambda: transport.packet or transport.results, SECONDS)
    reset()
    assert len(transport.receive(len(packet), SECONDS))
    usual(board)
    transport.write32(address("CONTROL"), 0)
    transport.send(packet)
    with pytest.raises(TimeoutError):
        transport.receive(1, 0.1)
    driver.reset()
    usual(board)


@pytest.mark.parametrize("written, step", [(True, 23), (False, 29)])
def test_spoilt_bytes(board, monkeypatch, written, step):
    """With a changed or lost byte in either direction, an answer is right or refused; a reset makes all as it was."""
    driver = board.driver
    driver.reset()
    wanted = board.model.answer(board.frames[:2])
    for at in range(0, 200, step):
        passed = [0]

        def spoilt(data, at=at, passed=passed):
            place, passed[0] = at - passed[0], passed[0] + len(data)
            if not 0 <= place < len(data):
                return data
            return data[:place] + (bytes([data[place] ^ 16]) if at % 2 else b"") + data[place + 1:]

        def write(file, data, spoilt=spoilt):
            os.write(file, spoilt(bytes(data)))
            return len(data)

        def read(file, size, spoilt=spoilt):
            return spoilt(os.read(file, size)) or bytes([serial.END])

        driver.timeout = driver.transport.seconds = 0.05
        monkeypatch.setattr(serial, "os", SimpleNamespace(**vars(os) | ({"write": write} if written else {"read": read})))
        with suppress(EmambaError):
            assert (driver.run(board.frames[:2]) == wanted).all()
        monkeypatch.setattr(serial, "os", os)
        driver.timeout = driver.transport.seconds = SECONDS
        driver.reset()
        usual(board, 1)


def test_another_driver(board):
    """Somebody was killed in the middle of a message."""
    driver, line = board.driver, board.driver.transport.line
    os.write(line, serial.framed(bytes([serial.DATA]) + bytes(24), 9)[:-5])
    board.driver = Accelerator(driver.description, SerialTransport(line, seconds=SECONDS), timeout=SECONDS)
    usual(board)
