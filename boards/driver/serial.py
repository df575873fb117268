"""The driver's transport over a serial line (`rtl.serial`): the ULX3S's USB, or any file of bytes. Not run on a board here."""

import os
import select
import time
from collections import deque

from emamba.errors import EmambaError

READ, WRITE, WORD, LAST, MARKED = 0x01, 0x02, 0x80, 0x40, 0x20
BYTES = 8
ANSWER_SECONDS = 1.0


class SerialTransport:
    """On an open file descriptor `line`, or a device such as /dev/ttyUSB0 at `baud`."""

    def __init__(self, line: int | str, baud: int = 1_000_000):
        self.line = self._open(line, baud) if isinstance(line, str) else line
        self.bytes, self.results, self.packet = bytearray(), deque(), bytearray()

    @staticmethod
    def _open(path: str, baud: int) -> int:
        import termios
        import tty
        try:
            line = os.open(path, os.O_RDWR | os.O_NOCTTY)
        except OSError as error:
            raise EmambaError(f"cannot open {path}: {error.strerror}; is the board connected?") from None
        speed = getattr(termios, f"B{baud}", None)
        if speed is None:
            raise EmambaError(f"this system has no serial speed of {baud} baud; build the design for another one")
        tty.setraw(line)
        settings = termios.tcgetattr(line)
        settings[4] = settings[5] = speed
        termios.tcsetattr(line, termios.TCSANOW, settings)
        return line

    def read32(self, address: int) -> int:
        answer = self._ask(bytes([READ]) + address.to_bytes(2, "little"), READ)
        if answer[0]:
            raise EmambaError(f"reading {address:#x} was answered with {answer[0]}")
        return int.from_bytes(answer[1:], "little")

    def write32(self, address: int, value: int) -> None:
        answer = self._ask(bytes([WRITE]) + address.to_bytes(2, "little") + value.to_bytes(4, "little"), WRITE)
        if answer[0]:
            raise EmambaError(f"writing {address:#x} was answered with {answer[0]}")

    def send(self, packet: bytes) -> None:
        words = [packet[k:k + BYTES] for k in range(0, len(packet), BYTES)]
        self._write(b"".join(bytes([WORD | LAST * (k == len(words) - 1) | len(word) - 1]) + word
                             for k, word in enumerate(words)))

    def receive(self, size: int, timeout: float) -> bytes:
        end = time.monotonic() + timeout
        while not self.results:
            if self._message(end) is not None:
                raise EmambaError("the line gives an answer that nobody asked for: reset the board")
        return self.results.popleft()

    def abort(self) -> None:
        self.results.clear()
        self.packet.clear()

    def _ask(self, message: bytes, kind: int) -> bytes:
        self._write(message)
        end = time.monotonic() + ANSWER_SECONDS
        try:
            while (answer := self._message(end)) is None:
                pass
        except TimeoutError:
            raise EmambaError("nothing answers on the line: is the board programmed, and the speed that of the design?") from None
        if answer[0] != kind:
            raise EmambaError("the line gives another answer than the one asked for: reset the board")
        return answer[1:]

    def _message(self, end: float) -> bytes | None:
        """Takes one message: an answer, which is returned, or a word of a result, which is kept."""
        kind = self._take(1, end)[0]
        if kind in (READ, WRITE):
            return bytes([kind]) + self._take(5 if kind == READ else 1, end)
        if not kind & WORD:
            raise EmambaError(f"the line gives the byte {kind:#x}, which begins no message: is the speed that of the design?")
        self.packet += self._take((kind & BYTES - 1) + 1, end)
        if kind & LAST:
            self.results.append(bytes(self.packet))
            self.packet.clear()
        return None

    def _take(self, count: int, end: float) -> bytes:
        while len(self.bytes) < count:
            ready, _, _ = select.select([self.line], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise TimeoutError
            self.bytes += os.read(self.line, 4096)
        taken, self.bytes = bytes(self.bytes[:count]), self.bytes[count:]
        return taken

    def _write(self, message: bytes) -> None:
        while message:
            message = message[os.write(self.line, message):]
