"""A microcontroller as a board: the driver's calls and faults against its C, on a computer under the sanitizers, and over the
UARTs of a Cortex-M4 and of a RISC-V in qemu."""

import re
import socket
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from programs import need
from test_micro import SANITIZERS, SMALL, WARNINGS, random_project

from boards import microcontroller
from boards.driver import serial
from boards.driver.accelerator import Accelerator
from boards.driver.serial import SerialTransport
from emamba.base.errors import EmambaError
from emamba.micro.measure import CORES, link, start
from emamba.micro.project import Project, check_of
from emamba.run.integer import IntegerModel

SECONDS = 60
HOST = """#include <unistd.h>
#include "device.h"
void device_put(uint8_t byte) { (void)!write(1, &byte, 1); }
int main(void) {
    uint8_t byte;
    for (device_begin(); read(0, &byte, 1) == 1;)
        device_take(byte);
}
"""


def project_of(name: str, folder, frames: int) -> Project:
    """With its files and those of the line."""
    project = random_project(name, frames)
    project.artifact = replace(project.artifact, digest="0123456789abcdef" * 4)
    project.write(folder)
    microcontroller.write(project, folder)
    return project


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A driver of a model with a state and a result a token, its line, and frames."""
    folder = tmp_path_factory.mktemp("device")
    project = project_of("mamba2-norm-before, carried", folder, 4)
    (folder / "serial" / "main.c").write_text(HOST, encoding="utf-8")
    subprocess.run(["cc", *WARNINGS, *SANITIZERS, *SMALL, f"-I{folder / 'src'}", f"-I{folder / 'serial'}", folder / "src/model.c",
                    folder / "serial/device.c", folder / "serial/main.c", "-o", folder / "device"], check=True)
    ours, its = socket.socketpair()
    with subprocess.Popen([folder / "device"], stdin=its, stdout=its) as process, ours:
        its.close()
        driver = Accelerator(folder, SerialTransport(ours.fileno(), seconds=SECONDS), timeout=SECONDS)
        yield SimpleNamespace(driver=driver, model=IntegerModel(project.artifact), frames=project.frames, line=ours)
        ours.shutdown(socket.SHUT_RDWR)
        assert process.wait(10) == 0


def usual(board) -> None:
    board.driver.reset()
    assert np.array_equal(board.driver.run(board.frames), board.model.answer(board.frames))


def test_answers_and_state(board):
    driver, model, frames = board.driver, board.model, board.frames
    assert driver.self_test() == 4
    usual(board)
    _, kept = model.resume(frames[:1])
    rest = model.resume(frames[1:2], kept)[0]
    driver.reset()
    driver.run(frames[:1])
    state = driver.save_state()
    assert np.array_equal(driver.run(frames[1:2]), rest)
    driver.restore_state(state)
    assert np.array_equal(driver.run(frames[1:2]), rest)
    driver.restore_state(0 * state)
    assert np.array_equal(driver.run(frames[:1]), model.resume(frames[:1])[0])
    driver.keep_state(False)
    assert all(np.array_equal(driver.run(frame[None]), model.resume(frame[None])[0]) for frame in frames)


def test_a_state_of_the_middle_of_a_sequence(board):
    """Which only a program on the board can have saved: it is refused, since a packet begins a sequence."""
    driver = board.driver
    driver.reset()
    driver.run(board.frames[:1])
    state = driver.save_state()
    for position in 0, 1:
        state[1] = position
        state[-2] = check_of(state[:-2])
        if not position:
            driver.restore_state(state)
    with pytest.raises(EmambaError, match="did not take the state"):
        driver.restore_state(state)
    usual(board)


def test_bad_packets(board):
    driver, size = board.driver, board.frames[0].size
    for packet, said in ((b"\1\2\3", "an input packet was too short"), (bytes(size + 5), "an input packet was too long")):
        usual(board)
        driver.transport.send(packet)
        assert len(driver.transport.receive(1 << 20, SECONDS)) == 14 * size  # seven integers of 16 bits a token
        with pytest.raises(EmambaError, match=said):
            driver.check()
    driver.reset()
    assert driver.description.input.range[1] < 127
    driver.transport.send(bytes([127]) * size)
    with pytest.raises(EmambaError, match="damaged or lost"):
        driver.transport.receive(1, SECONDS)
    driver.transport.abort()  # without a reset of the model, a packet goes on where that one was left
    driver.transport.send(bytes(size + 200))
    driver.transport.receive(1 << 20, SECONDS)
    usual(board)


def test_bad_registers_and_states(board):
    driver = board.driver
    usual(board)
    with pytest.raises(EmambaError, match="reading 0xff0 was answered with 2"):
        driver.transport.read32(0xFF0)
    with pytest.raises(EmambaError, match="writing 0x0 was answered with 2"):
        driver.transport.write32(0, 0xC0DBDCDD)
    driver.reset()
    driver.run(board.frames[:1])
    state = driver.save_state()
    for word in (0, len(state) // 2):  # of another model; damaged
        with pytest.raises(EmambaError, match="did not take the state"):
            driver.restore_state(state ^ (np.arange(len(state)) == word).astype(np.uint32))
        driver.reset()
    with pytest.raises(EmambaError, match=r"this state has 3 words"):
        driver.restore_state(state[:3])
    usual(board)


def test_noise_on_the_line(board):
    """Bytes of any kind, messages of any length, with right checksums and without: after a reset all is as usual."""
    random = np.random.default_rng(3)
    for k in range(20):
        content = random.integers(0, 256, random.integers(1, 3000), np.uint8).tobytes()
        board.line.send(content if k % 2 else serial.framed(content, k))
        board.line.send(serial.framed(bytes([k % 7]) + content[:k], 1 + k // 2))
    usual(board)


@pytest.mark.slow
@pytest.mark.parametrize("core, uart", [("m4", "cmsdk"), ("rv32", "16550")])
def test_driver_over_a_uart(core, uart, tmp_path):
    """Packets over a pseudo terminal to the UART of a machine of qemu."""
    need(f"{CORES[core].tools}-gcc", CORES[core].emulator)
    project = project_of("emamba-odd", tmp_path, 3)
    program = link(tmp_path, core, ("serial/main.c", "serial/device.c", f"serial/uart-{uart}.c", "src/model.c", *start(core)),
                   (f"-I{tmp_path / 'serial'}", *SMALL))
    command = [CORES[core].emulator, "-M", *CORES[core].machine, "-display", "none", "-monitor", "none", "-serial", "pty",
               "-kernel", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as machine:
        try:
            port = re.search(r"/dev/\S+", machine.stdout.readline())[0]
            transport = SerialTransport(port, seconds=SECONDS)
            driver = Accelerator(tmp_path, transport, timeout=SECONDS)
            assert driver.self_test() == len(project.frames)
            transport.close()
        finally:
            machine.kill()
