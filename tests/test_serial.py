# amaranth: UnusedElaboratable=no
"""The driver over a serial line to a Verilated design, and the line's own faults."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from boards.describe import describe
from boards.driver.accelerator import Accelerator
from boards.driver.serial import SerialTransport
from emamba.errors import EmambaError
from emamba.integer import IntegerModel
from rtl.emit import to_verilog
from rtl.schedule import Schedule
from rtl.serial import SerialSystem
from rtl.system import Options, System
from sim import native
from sim.small import artifact_of, frames_of

DIVISOR = 5
HARNESS = Path(native.__file__).with_name("serial_harness.cpp")


def test_driver_over_a_line(tmp_path):
    """Answers, the state, a short packet."""
    artifact = artifact_of(pool="none")
    system = System(Schedule(artifact, 6), Options(counters=False, stateful=True))
    ports = f'#include "Vtop.h"\nusing Top = Vtop;\n#define DIVISOR {DIVISOR}\n'
    folder = native.build({"top.v": to_verilog(SerialSystem(system, DIVISOR)), "ports.h": ports,
                           "harness.cpp": HARNESS.read_text()}, tmp_path, fast=False)
    ours, its = socket.socketpair()
    with subprocess.Popen([folder / "simulation"], stdin=its, stdout=its) as process, ours:
        its.close()
        accelerator = Accelerator(describe(system, frames_of(artifact, 2)), SerialTransport(ours.fileno()), timeout=20)
        assert accelerator.self_test() == 2
        frames, model = frames_of(artifact, 10), IntegerModel(artifact)
        assert (accelerator.run(frames) == model.run(frames, ["head"])["head"]).all()
        answers, kept = [], None
        for frame in frames[:3]:
            answer, kept = model.resume(frame[None], kept)
            answers.append(answer[0].tolist())
        accelerator.keep_state(True)
        accelerator.clear_state()
        assert accelerator.run(frames[:3]).tolist() == answers
        accelerator.transport.send(b"\1\2\3")
        accelerator.transport.receive(1, 20)
        with pytest.raises(EmambaError, match="an input packet was too short"):
            accelerator.check()
        with pytest.raises(EmambaError, match="reading 0xff0 was answered with 2"):
            accelerator.transport.read32(0xFF0)
        ours.shutdown(socket.SHUT_RDWR)
        assert process.wait(10) == 0


def test_faults_of_a_line():
    ours, its = socket.socketpair()
    with ours, its:
        transport = SerialTransport(ours.fileno())
        for sent, sentence in ((b"\2\0", "another answer than the one asked for"), (b"\x33", "0x33, which begins no message"),
                               (b"\1\2\0\0\0\0", "reading 0x4 was answered with 2")):
            its.send(sent)
            with pytest.raises(EmambaError, match=sentence):
                transport.read32(4)
        its.send(b"\2\0")
        with pytest.raises(EmambaError, match="an answer that nobody asked for"):
            transport.receive(8, 1)
        with pytest.raises(TimeoutError):
            transport.receive(8, 0.01)
    with pytest.raises(EmambaError, match=r"cannot open .*none: No such file"):
        SerialTransport(os.path.join(os.sep, "dev", "none"))
    terminal, device = os.openpty()
    with pytest.raises(EmambaError, match="no serial speed of 1234 baud"):
        SerialTransport(os.ttyname(device), 1234)
    for descriptor in (terminal, device):
        os.close(descriptor)
