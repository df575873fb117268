"""The driver's transport over a serial line (`rtl.system.serial`): the ULX3S's USB, or any file of bytes.
Not run on a board here."""

import errno
import fcntl
import os
import select
import time
import zlib
from collections import deque
from collections.abc import Callable
from pathlib import Path

from emamba.base.errors import DeviceError, InputError, SettingError
from rtl.system.registers import MAGIC

from .claim import Claim, opened

VERSION = 2
END, ESC, ESCAPED_END, ESCAPED_ESC = 0xC0, 0xDB, 0xDC, 0xDD
REFUSED, HELLO, READ, WRITE, DATA, LAST, RESULT = range(7)
ENDED = 1
ENDS = 12
"""More than the eight that empty the line, since some may belong to what came before."""
RECEIVED, SPARE = 2048, 64
"""Bytes that a design keeps, or half as many so many times as the upper half of its version says; and how many fewer are on the
line without an answer, so that an access to a register finds room."""
CHUNK = 256
"""Bytes of a packet in one message."""
FRAME_LIMIT = 1 << 28
TRIES = 3
BITS = 20
"""Of line time for a byte, at most: each may be escaped."""


class SerialTransport:
    """On an open file descriptor `line`, or a device such as /dev/ttyUSB0 at `baud`, which is this process' until `close`, or its
    end. An answer of a register may take `seconds`, and the time on the line."""

    def __init__(self, line: int | str | Path, baud: int = 1_000_000, *, seconds: float = 1.0):
        self.baud, self.seconds = baud, seconds
        self.claim: Claim | None = None
        if type(baud) is not int or baud <= 0 or not 0 < seconds <= 3600:
            raise SettingError(f"{baud} baud and {seconds} s: give a speed above 0, and at most 3600 seconds")
        self.line = line if isinstance(line, int) else self._open(line)
        self.fault = ""
        try:
            os.set_blocking(self.line, False)
            self.abort()
        except OSError as error:
            self.close()
            raise DeviceError(f"the line {line} cannot be used: {error.strerror}; is the board connected?") from None
        except BaseException:
            self.close()
            raise

    def _open(self, path: str | Path) -> int:
        import termios
        import tty
        line = opened(path, os.O_RDWR, "is the board connected, and no other program on it?")
        claimed = False
        try:
            speed = getattr(termios, f"B{self.baud}", None)
            if speed is None:
                raise DeviceError(f"this system has no serial speed of {self.baud} baud; build the design for another one")
            if not os.isatty(line):
                raise DeviceError(f"{path} is no serial line: name a device such as /dev/ttyUSB0")
            claimed = True  # the claim closes it from here on
            self.claim = Claim(path, line)
            fcntl.ioctl(line, termios.TIOCEXCL)
            tty.setraw(line)
            settings = termios.tcgetattr(line)
            settings[2] |= termios.CLOCAL | termios.CREAD
            settings[4] = settings[5] = speed
            termios.tcsetattr(line, termios.TCSANOW, settings)
        except (OSError, termios.error) as error:
            raise DeviceError(f"{path} cannot be set to {self.baud} baud: {error}; is it a serial line?") from None
        finally:
            if not claimed:
                os.close(line)
        return line

    def close(self) -> None:
        """Gives a device that was opened here back; another transport may have it."""
        if self.claim:
            self.claim.close()

    def read32(self, address: int) -> int:
        status, value = self._ask(READ, address.to_bytes(2, "little"))
        if status:
            raise DeviceError(f"reading {address:#x} was answered with {status}")
        return value

    def write32(self, address: int, value: int) -> None:
        status, _ = self._ask(WRITE, address.to_bytes(2, "little") + value.to_bytes(4, "little"))
        if status:
            raise DeviceError(f"writing {address:#x} was answered with {status}")

    def send(self, packet: bytes) -> None:
        if not packet:
            raise InputError("a packet of no bytes cannot be sent: give it a token")
        self._check()
        parts = [packet[k:k + CHUNK] for k in range(0, len(packet), CHUNK)]
        self.queue += [(LAST if k == len(parts) - 1 else DATA, part) for k, part in enumerate(parts)]
        self._move(0)

    def receive(self, size: int, timeout: float) -> bytes:
        self._check()
        waiting = len(self.wire) + size + sum(len(part) for _, part in self.queue)
        self._until(lambda: self.results, timeout + waiting * BITS / self.baud)
        return self.results.popleft()

    def abort(self) -> None:
        """Begins anew: the line is emptied, both directions count from 0, whatever was on it."""
        if self.claim:
            self.claim.check()
        for _ in range(TRIES):
            try:
                return self._begin(self.seconds / TRIES)
            except TimeoutError:
                pass
        if self._is_older():
            self._fail("the board speaks an older protocol than this driver: program the bitstream of this build")
        self._fail("nothing answers on the line: is the board programmed, and the speed that of the design?")

    def _begin(self, seconds: float) -> None:
        if self.claim:
            import termios
            termios.tcflush(self.line, termios.TCIOFLUSH)
        self.fault = ""
        self.received, self.wire = bytearray(), bytearray([END] * ENDS)
        self.queue: deque[tuple[int, bytes]] = deque()
        self.results: deque[bytes] = deque()
        self.packet = bytearray()
        self.asked: deque[tuple[int, int]] = deque()
        """Kind and bytes on the line of every message without an answer."""
        self.sent = self.answered = self.taken = 0
        self.answer, self.nonce, self.window = (0, 0), os.urandom(4), 0
        self._message(HELLO, self.nonce)
        self._until(lambda: not self.nonce, seconds)
        halved, version = divmod(self.answer[0], 16)
        if version != VERSION:
            self._fail(f"the board's serial protocol has version {version}, this driver speaks {VERSION}: take both from "
                       "the same build")
        self.window = (RECEIVED >> halved) - SPARE

    def _is_older(self) -> bool:
        """Whether the register MAGIC answers as it did before messages were checked."""
        self.received, self.wire = bytearray(), bytearray(bytes(9) + bytes([1, 0, 0]))
        wanted = bytes([1, 0]) + MAGIC.to_bytes(4, "little")
        try:
            self._until(lambda: wanted in self.received, self.seconds / TRIES, self._append)
        except (TimeoutError, DeviceError):
            return False
        return True

    def _check(self) -> None:
        if self.claim:
            self.claim.check()
        if self.fault:
            raise DeviceError(f"{self.fault} (since then the line waits for a reset)")

    def _fail(self, sentence: str) -> None:
        self.fault = sentence
        raise DeviceError(sentence)

    def _ask(self, kind: int, content: bytes) -> tuple[int, int]:
        self._check()
        self._message(kind, content)
        own = self.sent
        try:
            self._until(lambda: self.answered >= own, self.seconds + sum(size for _, size in self.asked) * BITS / self.baud)
        except TimeoutError:
            self._fail("nothing answers on the line in time: is the board programmed, and connected?")
        return self.answer

    def _message(self, kind: int, content: bytes) -> None:
        """Puts a message on the line."""
        message = framed(bytes([kind]) + content, self.sent)
        self.wire += message
        self.asked.append((kind, len(message)))
        self.sent += 1

    def _until(self, done: Callable[[], object], seconds: float, take: Callable[[bytes], None] | None = None) -> None:
        end = time.monotonic() + seconds
        while not done():
            left = end - time.monotonic()
            if left < 0:
                raise TimeoutError
            self._move(left, take)

    def _move(self, seconds: float, take: Callable[[bytes], None] | None = None) -> None:
        """Waits for the line, at most so long, and writes and reads what it can."""
        while self.queue and not self.nonce:
            kind, part = self.queue[0]
            size = len(framed(bytes([kind]) + part, self.sent))
            if sum(size for _, size in self.asked) + size > self.window:
                break
            self._message(kind, part)
            self.queue.popleft()
        poll = select.poll()
        poll.register(self.line, select.POLLIN | (select.POLLOUT if self.wire else 0))
        for _, events in poll.poll(1000 * seconds):
            try:
                if events & select.POLLOUT and self.wire:
                    del self.wire[:os.write(self.line, self.wire)]
                if events & ~select.POLLOUT:
                    data = os.read(self.line, 1 << 16)
                    if not data:
                        self._fail("the line has ended: is the board still connected?")
                    (take or self._take)(data)
            except BlockingIOError:
                pass
            except OSError as error:
                self._fail(f"the line fails ({errno.errorcode.get(error.errno or 0, error)}): is the board still connected?")

    def _append(self, data: bytes) -> None:
        self.received += data

    def _take(self, data: bytes) -> None:
        """Bytes from the line to messages."""
        *frames, rest = (bytes(self.received) + data).split(bytes([END]))
        self.received = bytearray(rest)
        if len(rest) > FRAME_LIMIT:
            self._fail("the line gives bytes without an end")
        for frame in filter(None, frames):
            message = unframed(frame, 0 if self.nonce else self.taken)
            if self.nonce:
                self._opened(message)
            elif message is None:
                self._fail("a message from the board is damaged or missing")
            else:
                self.taken += 1
                self._message_taken(message)

    def _opened(self, message: bytes | None) -> None:
        """What comes before the answer to this HELLO is of somebody else."""
        if message is not None and len(message) == 6 and message[0] == HELLO and message[2:] == self.nonce:
            self.asked.clear()
            self.answered, self.taken, self.nonce, self.answer = 1, 1, b"", (message[1], 0)

    def _message_taken(self, message: bytes) -> None:
        kind = message[0]
        if kind == RESULT:
            self.packet += message[1:-1]
            if message[-1] & ENDED:
                self.results.append(bytes(self.packet))
                self.packet.clear()
        elif kind == REFUSED:
            self._fail("a message to the board was damaged or lost")
        elif not self.asked or kind != self.asked[0][0] or len(message) != 6:
            self._fail("the board gives another answer than the one asked for")
        else:
            self.asked.popleft()
            self.answered += 1
            if kind in (READ, WRITE):
                self.answer = message[1], int.from_bytes(message[2:], "little")


def framed(message: bytes, number: int) -> bytes:
    """A message as it goes over the line."""
    message += zlib.crc32(message, number & 0xFFFF).to_bytes(4, "little")
    coded = message.replace(bytes([ESC]), bytes([ESC, ESCAPED_ESC])).replace(bytes([END]), bytes([ESC, ESCAPED_END]))
    return coded + bytes([END])


def unframed(frame: bytes, number: int) -> bytes | None:
    """The message between two ENDs; None where it is damaged, or has another number."""
    data = frame.replace(bytes([ESC, ESCAPED_END]), bytes([END])).replace(bytes([ESC, ESCAPED_ESC]), bytes([ESC]))
    message, check = data[:-4], data[-4:]
    return message if message and zlib.crc32(message, number & 0xFFFF).to_bytes(4, "little") == check else None
