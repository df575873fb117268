"""The registers and packets of a design: its identity, its errors, when it rests."""

import numbers
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from emamba.base.errors import DeviceError, SettingError, brief
from rtl.system.registers import BY_NAME, INTERFACE, MAGIC, address, extract, mask

from .description import STATE_LIMIT, Description
from .transaction import Transactions, Unchanged


class Transport(Protocol):
    """A way to the design. `send` queues one input packet and does not wait for it; `receive` waits `timeout` seconds for the
    next output packet, of at most `size` bytes. A failure is a `TimeoutError` or a `DeviceError`. `abort` forgets what is
    queued, on its way and received, whatever was interrupted before. Time-outs are of `clock()`, in seconds, where it has one."""

    def read32(self, address: int) -> int: ...
    def write32(self, address: int, value: int) -> None: ...
    def send(self, packet: bytes) -> None: ...
    def receive(self, size: int, timeout: float) -> bytes: ...
    def abort(self) -> None: ...


TIMEOUT_LIMIT = 86_400
"""Seconds."""

CAUSES = {
    "SHORT": "an input packet was too short",
    "LONG": "an input packet was too long, or had no TLAST at its end",
    "NO_TLAST": "an input packet had no TLAST: the packet behind it was dropped with its excess",
    "BAD_TKEEP": "an input packet's TKEEP had a hole",
    "LOAD_INTERRUPTED": "a load of weights was interrupted by another, or went on without a beginning",
    "LOAD_REFUSED": "a load of weights was refused, since its length, checksum or structure is wrong",
    "ADDRESS": "a register was accessed that does not exist",
    "STATE_BUSY": "the state was accessed while packets were on their way",
    "STREAM": "the memory with the weights answered a read with an error: call stream() again",
    "PARITY": "a memory gave a word that is not as it was written: repeat the frames, or else load the weights",
}


class Device(Transactions):
    """A design that is to be what `description` says. `timeout` in seconds is the longest wait for one answer."""

    def __init__(self, description: Description | dict | str | Path, transport: Transport, timeout: float):
        self.description = Description.read(description)
        self.timeout = timeout
        self._clock = getattr(transport, "clock", time.monotonic)
        super().__init__(transport)

    @property
    def timeout(self) -> float:
        return self._seconds

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, numbers.Real) or not 0 < seconds <= TIMEOUT_LIMIT:
            raise SettingError(f"the time-out is {brief(seconds)}: give seconds above 0, at most {TIMEOUT_LIMIT}")
        self._seconds: float = float(seconds)

    def _identify(self) -> None:
        own = self.description
        magic = self._read("MAGIC")
        if magic != MAGIC:
            raise DeviceError(f"there is no accelerator of this project at this address, which reads {magic:#010x} and not "
                              f"{MAGIC:#010x}: program the FPGA, and check the address")
        version = self._read("INTERFACE")
        major, minor = (extract("INTERFACE", field, version) for field in ("MAJOR", "MINOR"))
        if major != INTERFACE[0] or minor < INTERFACE[1]:
            raise DeviceError(f"the FPGA's registers have version {major}.{minor}, this driver needs "
                              f"{INTERFACE[0]}.{INTERFACE[1]}: take both from the same build")
        self.capabilities = self._read("CAPABILITIES")
        digest = self._digest()
        if digest != own.digest and not (self._can("LOADABLE") and own.image is not None
                                         and self._digest("STRUCTURE") == own.structure_digest):
            raise DeviceError(f"the FPGA holds another design: artifact {digest[:12]}…, not '{own.name}', {own.digest[:12]}…; "
                              "program the bitstream of this description")
        shapes = {"TOKENS": own.tokens, "INPUT_WIDTH": own.input_width, "OUTPUT_TOKENS": own.output_tokens,
                  "OUTPUT_WIDTH": own.output_width}
        self.state_words = self._read("STATE_WORDS") if self._can("STATEFUL") else 0
        if self._can("STATEFUL") and own.state_words is not None:
            shapes["STATE_WORDS"] = own.state_words
        for name, wanted in shapes.items():
            found = self._read(name)
            if found != wanted:
                raise DeviceError(f"the FPGA's {name} is {found}, the description says {wanted}: take both from the same build")
        if self.state_words > (STATE_LIMIT if own.state_words is None else own.state_words):
            raise DeviceError(f"the FPGA's STATE_WORDS is {self.state_words}, above {STATE_LIMIT}: take the description and the "
                              "bitstream from the same build")

    def _digest(self, name: str = "DIGEST") -> str:
        return "".join(f"{self._read(name, k):08x}" for k in range(BY_NAME[name].count))

    def _can(self, capability: str) -> bool:
        return bool(self.capabilities & mask("CAPABILITIES", capability))

    def _needs(self, capability: str, lack: str, option: str) -> None:
        if not self._can(capability):
            raise Unchanged(f"this design {lack}: build it with the option for {option}")

    def _receive(self, k: int, count: int) -> bytes:
        own = self.description
        size = own.output_tokens * own.output_width * own.output.size
        try:
            result = self.transport.receive(size, self.timeout)
        except TimeoutError:
            raise DeviceError(f"result {k + 1} of {count} did not come within {self.timeout:g} s: {self._silence()}; call "
                              "reset()") from None
        if len(result) != size:
            raise DeviceError(f"result {k + 1} of {count} has {len(result)} bytes, not {size}: the packet was broken off; call "
                              "reset()")
        return result

    def _notice(self, harmful: tuple[str, ...], after: str = "") -> None:
        """Raises the errors that the design has noticed; after a `harmful` one a reset must follow."""
        errors = self._read("ERRORS")
        if not errors:
            return
        counts = {name: self._read(name) for name in ("SHORT_PACKETS", "LONG_PACKETS", "FRAMES_BAD", "FIRST_BAD")}
        self._write32("ERRORS", errors)
        marked = (f" ({counts['SHORT_PACKETS']} short, {counts['LONG_PACKETS']} long; {counts['FRAMES_BAD']} results are not to "
                  f"be used, first that of packet {counts['FIRST_BAD']})") if counts["FRAMES_BAD"] else ""
        text = f"{causes(errors)}{marked}{f'; {after}' if after else ''}"
        if any(errors & mask("ERRORS", name) for name in harmful):
            raise DeviceError(f"{text}; call reset()")
        raise Unchanged(text)

    def _silence(self) -> str:
        """Why no result comes."""
        try:
            status, errors, control = self._read("STATUS"), self._read("ERRORS"), self._read("CONTROL")
        except (DeviceError, OSError) as error:
            return f"the registers do not answer either ({error or 'no answer in time'})"
        if status & mask("STATUS", "EXCESS"):
            return "an input packet has no TLAST, so that the next ones count as its excess"
        if errors:
            return causes(errors)
        if not control & mask("CONTROL", "ENABLE"):
            return "the design is not enabled, since something else wrote its CONTROL"
        if status & mask("STATUS", "IN_PACKET"):
            return "the design waits for the rest of an input packet"
        if status & mask("STATUS", "IDLE"):
            return "the design has nothing to do, so the packets do not reach it; check the DMA"
        return "the design works on it; raise the time-out, or check that the results are taken"

    def _rest(self) -> None:
        """Waits until no packet is on its way, and admits none."""
        self._control(ENABLE=0)
        if self._waits(lambda status: bool(status & mask("STATUS", "IDLE"))):
            return
        self._control(ENABLE=1)
        raise Unchanged("the design does not come to rest: receive all results first, or reset it")

    def _waits(self, ready: Callable[[int], bool]) -> bool:
        """Whether STATUS becomes so within the time-out."""
        end = self._clock() + self.timeout
        while not ready(self._read("STATUS")):
            if self._clock() > end:
                return False
        return True

    def _control(self, **fields: int) -> None:
        value = self._read("CONTROL")
        for name, bit in fields.items():
            value = value | mask("CONTROL", name) if bit else value & ~mask("CONTROL", name)
        self._write32("CONTROL", value)

    def _read(self, name: str, index: int = 0) -> int:
        return self.transport.read32(address(name, index))

    def _write32(self, name: str, value: int) -> None:
        self.transport.write32(address(name), value)

    def _write(self, name: str, **fields: int) -> None:
        self._write32(name, sum(mask(name, field) for field, bit in fields.items() if bit))


def causes(errors: int) -> str:
    """The bits of ERRORS as sentences."""
    return "; ".join(text for name, text in CAUSES.items() if errors & mask("ERRORS", name)) or f"unknown errors {errors:#x}"
