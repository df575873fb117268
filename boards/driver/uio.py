"""The driver's transport on Linux: registers and AXI DMA by UIO, packets in a u-dma-buf. Not run on a board here.

The DMA (AMD PG021) is in simple mode, without scatter and gather, one transfer a packet. The buffer is opened with O_SYNC, so
that the processor's caches do not stand between. While a packet is sent the next one is copied, and while a result is copied
the next one is received.
"""

import mmap
import os
import select
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np

from emamba.base.errors import DeviceError
from rtl.system.registers import MAGIC, SPAN, address, mask

from .claim import Claim, opened

DMA_SPAN = 1 << 16
TO_DEVICE, FROM_DEVICE = 0x00, 0x30
"""Offsets of the channels MM2S and S2MM."""
CONTROL, STATUS, ADDRESS, ADDRESS_HIGH, LENGTH = 0x00, 0x04, 0x18, 0x1C, 0x28
RUN, RESET = 1 << 0, 1 << 2  # of CONTROL
IDLE, ERRORS = 1 << 1, 0x70  # of STATUS; IDLE is 0 until a channel's first transfer has ended
ALIGNMENT = 64
PARTS = 4
"""The parts of the buffer: two packets in turn, and two results in turn."""
RESET_SECONDS = 0.1
NAP_SECONDS = 0.001
"""Longest sleep for an interrupt, which says that a result has left the design; the DMA may still be writing it."""


REGISTERS, DMA, BUFFER, WEIGHTS = "emamba-registers", "emamba-dma", "udmabuf-emamba", "udmabuf-emamba-weights"
"""Names of the overlay's nodes."""
SYSTEM = Path("/sys/class")
"""Where Linux tells which devices there are."""


def device(name: str, folder: str | Path | None = None) -> str:
    """The UIO device of the device tree's node of this name, such as /dev/uio4."""
    for path in sorted(Path(folder or SYSTEM / "uio").glob("*/name")):
        if path.read_text().strip() == name:
            return f"/dev/{path.parent.name}"
    raise DeviceError(f"there is no UIO device '{name}': load the device-tree overlay, on a kernel whose command line has "
                      "uio_pdrv_genirq.of_id=generic-uio")


def placed(buffer: str, physical: int | None = None, size: int | None = None) -> tuple[int, int]:
    """Physical address and size of a u-dma-buf, where they are not given."""
    facts = SYSTEM / "u-dma-buf" / Path(buffer).name
    try:
        return (int((facts / "phys_addr").read_text(), 0) if physical is None else physical,
                int((facts / "size").read_text(), 0) if size is None else size)
    except (OSError, ValueError) as error:
        raise DeviceError(f"cannot read {facts}: {error}; is the module u-dma-buf loaded?") from None


def overlay_buffer() -> str:
    """The u-dma-buf of the overlay, or the only one that there is."""
    found = sorted(path.name for path in (SYSTEM / "u-dma-buf").glob("*"))
    if BUFFER in found or len(found) == 1:
        return f"/dev/{BUFFER if BUFFER in found else found[0]}"
    many = f"there are {len(found)}, {', '.join(found)}: name one" if found else "load the device-tree overlay and the module " \
        "u-dma-buf"
    raise DeviceError(f"there is no DMA buffer '{BUFFER}'; {many}")


class Words:
    """32-bit words of a mapped device; an access is one load or store."""

    def __init__(self, path: str | Path, size: int):
        file = opened(path, os.O_RDWR | os.O_SYNC)
        try:
            self.memory = mmap.mmap(file, size)
        except (OSError, ValueError, OverflowError) as error:
            raise DeviceError(f"cannot map {size} bytes of {path}, since it has fewer or is another kind of device ({error}): "
                              "check the arguments registers, dma, buffer and size") from None
        finally:
            os.close(file)
        self.words = np.frombuffer(self.memory, "<u4")

    def __getitem__(self, address: int) -> int:
        return int(self.words[address >> 2])

    def __setitem__(self, address: int, value: int) -> None:
        self.words[address >> 2] = value


class Interrupt:
    """The interrupt of a UIO device (Linux, Documentation/driver-api/uio-howto.rst). Its first use shows whether there is one."""

    def __init__(self, path: str | Path):
        self.file = opened(path, os.O_RDWR)

    def wait(self, seconds: float) -> bool:
        """Sleeps until it comes, for at most `seconds`; False if the device has no interrupt."""
        try:
            os.write(self.file, (1).to_bytes(4, sys.byteorder))  # lets the next one through
            if select.select([self.file], [], [], seconds)[0]:
                os.read(self.file, 4)
        except OSError:
            return False
        return True


class UioTransport:
    """`registers` and `dma` are UIO devices, such as /dev/uio0; `buffer` a u-dma-buf, such as /dev/udmabuf0, whose physical
    address and size are read in /sys/class/u-dma-buf/<name>, or given. By default they are those of the bundle's overlay.

    `weights` is another one, for streamed weights: it begins at a multiple of 4 KiB.

    Once all packets are under way it sleeps until the accelerator's interrupt; with `poll`, or where there is none, it polls.
    The devices are this process' until `close`, or its end.
    """

    def __init__(self, registers: str | None = None, dma: str | None = None, buffer: str | None = None, *,
                 physical: int | None = None, size: int | None = None, poll: bool = False, weights: str = f"/dev/{WEIGHTS}"):
        registers, dma, buffer = registers or device(REGISTERS), dma or device(DMA), buffer or overlay_buffer()
        self.claim, self.weights = Claim(registers), weights
        try:
            self._map(registers, dma, buffer, physical, size)
            self.interrupt = None if poll else Interrupt(registers)
            self.queue: deque[bytes] = deque()
            self.started: set[int] = set()
            self.staged = 0  # bytes of the packet that is in the buffer and not yet sent
            self.sent_from, self.received_at = 0, 0  # which of the two parts is next
            self.expected, self.armed = 0, 0
            self.abort()
        except BaseException:
            self.close()
            raise

    def _map(self, registers: str, dma: str, buffer: str, physical: int | None, size: int | None) -> None:
        if Words(dma, 4)[0] == MAGIC:
            raise DeviceError(f"{dma} is the accelerator's registers and no DMA: the arguments registers and dma are exchanged")
        self.registers, self.dma = Words(registers, SPAN), Words(dma, DMA_SPAN)
        self.physical, size = placed(buffer, physical, size)
        if type(size) is not int or size < PARTS * ALIGNMENT:
            raise DeviceError(f"the DMA buffer {buffer} has {size} bytes, and {PARTS * ALIGNMENT} are the least: load u-dma-buf "
                              "with a larger one")
        if type(self.physical) is not int or not 0 <= self.physical < 1 << 64 or self.physical % ALIGNMENT:
            raise DeviceError(f"the DMA buffer {buffer} lies at the physical address {self.physical}, which is no multiple of "
                              f"{ALIGNMENT} of 64 bits: give that of phys_addr in /sys/class/u-dma-buf")
        self.part = size // PARTS // ALIGNMENT * ALIGNMENT
        self.buffer = Words(buffer, PARTS * self.part).memory

    def close(self) -> None:
        """Gives the devices back; another transport may have them."""
        interrupt: Interrupt | None = getattr(self, "interrupt", None)
        if interrupt:
            os.close(interrupt.file)
            self.interrupt = None
        self.claim.close()

    def read32(self, address: int) -> int:
        return self.registers[address]

    def write32(self, address: int, value: int) -> None:
        self.registers[address] = value

    def send(self, packet: bytes) -> None:
        self.claim.check()
        self._check(len(packet), "packet")
        self.queue.append(packet)
        self.expected += 1
        self._send_next()

    def receive(self, size: int, timeout: float) -> bytes:
        self._check(size, "result")
        if not self.armed:
            self._arm(size)
        elif self.armed != size:
            raise DeviceError(f"the DMA waits for a result of {self.armed} bytes, not of {size}: call abort before the size "
                              "changes")
        end = time.monotonic() + timeout
        while not self._idle(FROM_DEVICE):
            self._send_next()
            if time.monotonic() > end:
                raise TimeoutError
            if self.interrupt and not (self.queue or self.staged):
                self._sleep()
        count, place = self.dma[FROM_DEVICE + LENGTH], self._place()
        self.armed, self.received_at, self.expected = 0, 1 - self.received_at, max(0, self.expected - 1)
        if self.expected:  # the next result is taken while this one is copied
            self._arm(size)
        return bytes(self.buffer[place:place + count])

    def hold(self, content: bytes) -> int:
        """Puts streamed weights into the buffer that is for them; where it lies."""
        self.claim.check()
        place, size = placed(self.weights)
        if len(content) > size or place % 4096:
            raise DeviceError(f"{self.weights} has {size} bytes at {place:#x}, but the weights need {len(content)} at a multiple "
                              "of 4 KiB: load u-dma-buf with a larger one")
        Words(self.weights, size).memory[:len(content)] = content
        return place

    def abort(self) -> None:
        self.claim.check()
        self.queue.clear()
        self.started.clear()
        self.expected, self.armed, self.staged = 0, 0, 0
        for channel in (TO_DEVICE, FROM_DEVICE):  # resetting one resets both, as PG021 says
            self.dma[channel + CONTROL] = RESET
        end = time.monotonic() + RESET_SECONDS
        while self.dma[TO_DEVICE + CONTROL] & RESET or self.dma[FROM_DEVICE + CONTROL] & RESET:
            if time.monotonic() > end:
                raise DeviceError("the DMA does not leave its reset: see that its clock runs, and that the bitstream is the "
                                  "overlay's")
        for channel in (TO_DEVICE, FROM_DEVICE):
            self.dma[channel + CONTROL] = RUN

    def _send_next(self) -> None:
        """Starts the packet that is in the buffer, where the DMA is ready for it, and copies the next one."""
        if self.queue and not self.staged:
            self._stage()
        if self.staged and self._idle(TO_DEVICE):
            self._start(TO_DEVICE, self.sent_from * self.part, self.staged)
            self.staged, self.sent_from = 0, 1 - self.sent_from
            if self.queue:
                self._stage()

    def _stage(self) -> None:
        packet = self.queue.popleft()
        place = self.sent_from * self.part
        self.buffer[place:place + len(packet)] = packet
        self.staged = len(packet)

    def _sleep(self) -> None:
        self.registers[address("INTERRUPT_ENABLE")] = mask("INTERRUPT_ENABLE", "RESULT")
        if self.interrupt and not self.interrupt.wait(NAP_SECONDS):
            self.interrupt = None
        self.registers[address("INTERRUPT")] = mask("INTERRUPT", "RESULT")

    def _check(self, size: int, what: str) -> None:
        if not 0 < size <= self.part:
            raise DeviceError(f"a {what} has {size} bytes, a quarter of the DMA buffer {self.part}: load u-dma-buf with a "
                              "larger one" if size else f"a {what} of no bytes cannot be moved: name its size")

    def _place(self) -> int:
        """Where in the buffer the result lies that is next."""
        return (2 + self.received_at) * self.part

    def _arm(self, size: int) -> None:
        self._start(FROM_DEVICE, self._place(), size)
        self.armed = size

    def _start(self, channel: int, offset: int, size: int) -> None:
        place = self.physical + offset
        self.dma[channel + ADDRESS], self.dma[channel + ADDRESS_HIGH] = place & 0xFFFFFFFF, place >> 32
        self.dma[channel + LENGTH] = size  # starts it
        self.started.add(channel)

    def _idle(self, channel: int) -> bool:
        status = self.dma[channel + STATUS]
        if status & ERRORS:
            name = "input" if channel == TO_DEVICE else "result"
            raise DeviceError(f"the DMA stopped at an {name} packet with status {status:#x}: reset the driver")
        return channel not in self.started or bool(status & IDLE)
