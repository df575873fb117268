"""The driver's transport under PYNQ, which is imported only here. Not run on a board here.

PYNQ, pynq/lib/dma.py: a channel's `transfer` flushes what is sent, its `wait` invalidates what was received and counts it, and
its `stop` waits for a transfer that may never end, so that the DMA is reset instead (AMD PG021).
"""

import time
from collections import deque

import numpy as np

from emamba.base.errors import DeviceError, ToolMissing

from .claim import claim_name

CONTROL, FROM_DEVICE, RESET = 0x00, 0x30, 1 << 2  # of the DMA
RESET_SECONDS = 0.1


class PynqTransport:
    """`overlay` is a loaded `pynq.Overlay` in which `registers` names the accelerator and `dma` the AXI DMA. While a packet is
    sent the next one is copied, and while a result is copied the next one is received. The accelerator is this process' until
    `close`, or its end."""

    def __init__(self, overlay, registers: str = "accelerator", dma: str = "dma"):
        try:
            from pynq import allocate  # type: ignore[import-not-found]
        except ImportError:
            raise ToolMissing("the PYNQ transport needs the package pynq, which is not installed; elsewhere take the UIO "
                              "transport") from None
        self.allocate = allocate
        try:
            self.registers, self.dma = getattr(overlay, registers).mmio, getattr(overlay, dma)
        except AttributeError as error:
            raise DeviceError(f"the overlay has no such part: {error}") from None
        place = getattr(self.registers, "base_addr", None)
        self.claim = None if place is None else claim_name(f"pynq-{place:x}", f"the accelerator at {place:#x}")
        self.packets: list = [None, None]  # buffers that take turns
        self.results: list = [None, None]
        self.queue: deque[bytes] = deque()
        self.sending = False
        self.staged = self.sent_from = self.expected = self.armed = self.received_at = 0
        try:
            self.abort()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives the accelerator back; another transport may have it."""
        if self.claim:
            self.claim.close()

    def read32(self, address: int) -> int:
        return self.registers.read(address)

    def write32(self, address: int, value: int) -> None:
        self.registers.write(address, value)

    def send(self, packet: bytes) -> None:
        self._own()
        self._check()
        self.queue.append(packet)
        self.expected += 1
        self._send_next()

    def receive(self, size: int, timeout: float) -> bytes:
        channel = self.dma.recvchannel
        if not self.armed:
            self._arm(size)
        elif self.armed != size:
            raise DeviceError(f"the DMA waits for a result of {self.armed} bytes, not of {size}: call abort before the size "
                              "changes")
        end = time.monotonic() + timeout
        while not channel.idle:
            self._send_next()
            self._check()
            if time.monotonic() > end:
                raise TimeoutError
        self._check()
        channel.wait()
        count, buffer = channel.transferred, self.results[self.received_at]
        self.armed, self.received_at, self.expected = 0, 1 - self.received_at, max(0, self.expected - 1)
        if self.expected:
            self._arm(size)
        return bytes(buffer[:count])

    def hold(self, content: bytes) -> int:
        """Puts streamed weights into a buffer of their own; where it lies."""
        self._own()
        self.weights = self.allocate((len(content),), np.uint8)
        self.weights[:] = np.frombuffer(content, np.uint8)
        self.weights.flush()
        return self.weights.physical_address

    def abort(self) -> None:
        self._own()
        self.queue.clear()
        self.sending = False
        self.staged = self.sent_from = self.expected = self.armed = self.received_at = 0
        mmio = self.dma.mmio
        mmio.write(CONTROL, RESET)  # of both channels, as PG021 says
        end = time.monotonic() + RESET_SECONDS
        while (mmio.read(CONTROL) | mmio.read(FROM_DEVICE + CONTROL)) & RESET:
            if time.monotonic() > end:
                raise DeviceError("the DMA does not leave its reset: see that its clock runs")
        for channel in (self.dma.sendchannel, self.dma.recvchannel):
            channel.start()

    def _own(self) -> None:
        if self.claim:
            self.claim.check()

    def _check(self) -> None:
        for channel, what in ((self.dma.recvchannel, "a result"), (self.dma.sendchannel, "an input")):
            if channel.error:
                raise DeviceError(f"the DMA stopped at {what} packet: reset the driver")

    def _send_next(self) -> None:
        """Starts the packet that is in its buffer, where the DMA is ready for it, and copies the next one."""
        channel = self.dma.sendchannel
        if self.queue and not self.staged:
            self._stage()
        if self.staged and (not self.sending or channel.idle):
            channel.transfer(self.packets[self.sent_from], nbytes=self.staged)
            self.sending, self.staged, self.sent_from = True, 0, 1 - self.sent_from
            if self.queue:
                self._stage()

    def _stage(self) -> None:
        packet = self.queue.popleft()
        buffer = self._room(self.packets, self.sent_from, len(packet))
        buffer[:len(packet)] = np.frombuffer(packet, np.uint8)
        self.staged = len(packet)

    def _arm(self, size: int) -> None:
        self.dma.recvchannel.transfer(self._room(self.results, self.received_at, size), nbytes=size)
        self.armed = size

    def _room(self, buffers: list, which: int, size: int) -> np.ndarray:
        """The buffer, made larger where it must be."""
        if buffers[which] is None or len(buffers[which]) < size:
            if buffers[which] is not None:
                buffers[which].freebuffer()
            buffers[which] = self.allocate((size,), np.uint8)
        return buffers[which]
