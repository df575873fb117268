"""The driver's transport under PYNQ, which is imported only here. Not run on a board here."""

import time
from collections import deque

import numpy as np

from emamba.errors import EmambaError


class PynqTransport:
    """`overlay` is a loaded `pynq.Overlay` in which `registers` names the accelerator and `dma` the AXI DMA."""

    def __init__(self, overlay, registers: str = "accelerator", dma: str = "dma"):
        try:
            from pynq import allocate
        except ImportError:
            raise EmambaError("the PYNQ transport needs the package pynq, which is not installed; elsewhere take the UIO "
                              "transport") from None
        self.allocate = allocate
        try:
            self.registers, self.dma = getattr(overlay, registers).mmio, getattr(overlay, dma)
        except AttributeError as error:
            raise EmambaError(f"the overlay has no such part: {error}") from None
        self.queue: deque[bytes] = deque()
        self.sending = None

    def read32(self, address: int) -> int:
        return self.registers.read(address)

    def write32(self, address: int, value: int) -> None:
        self.registers.write(address, value)

    def send(self, packet: bytes) -> None:
        self.queue.append(packet)
        self._send_next()

    def receive(self, size: int, timeout: float) -> bytes:
        with self.allocate((size,), np.uint8) as buffer:
            self.dma.recvchannel.transfer(buffer)
            end = time.monotonic() + timeout
            while not self.dma.recvchannel.idle:
                self._send_next()
                if time.monotonic() > end:
                    raise TimeoutError
            buffer.invalidate()
            return bytes(buffer[:self.dma.recvchannel.transferred])

    def abort(self) -> None:
        self.queue.clear()
        for channel in (self.dma.sendchannel, self.dma.recvchannel):
            channel.stop()
            channel.start()

    def _send_next(self) -> None:
        if self.queue and (self.sending is None or self.dma.sendchannel.idle):
            if self.sending is not None:
                self.sending.freebuffer()
            packet = np.frombuffer(self.queue.popleft(), np.uint8)
            self.sending = self.allocate(packet.shape, np.uint8)
            self.sending[:] = packet
            self.sending.flush()
            self.dma.sendchannel.transfer(self.sending)
