"""The driver: from arrays to packets and registers and back. Any transport; NumPy is all it needs."""

import itertools
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from emamba.errors import EmambaError
from rtl.registers import BY_NAME, INTERFACE, MAGIC, address, extract, mask

from .description import Description


class Transport(Protocol):
    """A way to the design. `send` queues one input packet and does not wait for it; `receive` waits `timeout` seconds for the
    next output packet, of at most `size` bytes. A failure is a `TimeoutError` or an `EmambaError`. `abort` forgets the queue."""

    def read32(self, address: int) -> int: ...
    def write32(self, address: int, value: int) -> None: ...
    def send(self, packet: bytes) -> None: ...
    def receive(self, size: int, timeout: float) -> bytes: ...
    def abort(self) -> None: ...


AHEAD = 4
"""Packets sent before the first result is waited for, so that the design never waits for the driver."""

TABLES = ("BUSY", "STARVED", "BLOCKED", "CLIPPED", "SATURATED")
"""Counters of every stage."""

POLLS = 1000
"""Least reads of STATUS before the time-out counts: the time of a simulated design stands still between them."""

CAUSES = {
    "SHORT": "an input packet was too short",
    "LONG": "an input packet was too long, or had no TLAST at its end",
    "NO_TLAST": "an input packet had no TLAST: the packet behind it was dropped with its excess",
    "BAD_TKEEP": "an input packet's TKEEP had a hole",
    "LOAD_INTERRUPTED": "a load of weights was interrupted; the model before it still answers",
    "LOAD_REFUSED": "a load of weights was refused, since its length, checksum or structure is wrong; the model before it still "
                    "answers",
    "ADDRESS": "a register was accessed that does not exist",
    "STATE_BUSY": "the state was accessed while packets were on their way",
    "PARITY": "a memory gave a word that is not as it was written: repeat the frames, or else load the weights",
}


class Accelerator:
    """A design behind `transport`, checked to be what `description` says: the JSON that rtl.build wrote, its file or folder.

    `predict` takes and gives values in the user's unit, `run` integers. `timeout` in seconds is that of one result. Where the
    design can load weights and holds others, those of the description are loaded.
    """

    def __init__(self, description: Description | dict | str | Path, transport: Transport, *, timeout: float = 1.0):
        self.description, self.transport, self.timeout = Description.read(description), transport, timeout
        self._identify()
        self._write("COMMAND", RESET=1, ABANDON=1)
        self._write("COMMAND", CLEAR_COUNTERS=1)
        self._write32("ERRORS", 0xFFFFFFFF)
        self._control(ENABLE=1, KEEP=0, FREEZE=0)
        if self._digest() != self.description.digest:
            self.load(self.description)

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """[n, L, input width] in the user's unit → [n, L', outputs]: values, or logits."""
        return self.description.decode(self.run(self.description.encode(batch)))

    def run(self, tokens: np.ndarray) -> np.ndarray:
        """Integers [n, L, input width] → [n, L', outputs]."""
        own = self.description
        packets = self.packets(tokens)
        size = own.output_tokens * own.output_width * own.output.size
        results = []
        for k in range(len(packets) + AHEAD):
            if k < len(packets):
                self.transport.send(packets[k])
            if k >= AHEAD:
                results.append(self._receive(size, k - AHEAD, len(packets)))
        self.check()
        answer = np.frombuffer(b"".join(results), own.output.dtype).astype(np.int64)
        return answer.reshape(len(packets), own.output_tokens, own.output_width)

    def packets(self, tokens: np.ndarray) -> list[bytes]:
        """One for each of the sequences [n, L, input width]."""
        own, tokens = self.description, np.asarray(tokens)
        wanted = (own.tokens, own.input_width)
        if tokens.ndim != 3 or tokens.shape[1:] != wanted:
            raise EmambaError(f"the batch has the shape {list(tokens.shape)}; the design reads "
                              f"[sequences, {own.tokens} tokens, {own.input_width} values]")
        low, high = own.input.range
        if tokens.dtype.kind not in "iu" or (tokens.size and (tokens.min() < low or tokens.max() > high)):
            raise EmambaError(f"the batch holds what is no integer in {low}..{high}; predict takes values in the user's unit")
        return [frame.astype(own.input.dtype).tobytes() for frame in tokens]

    def self_test(self) -> int:
        """Runs the golden frames; returns how many."""
        frames, answers = self.description.golden
        wrong = (self.run(frames) != answers).any(axis=(1, 2))
        if wrong.any():
            raise EmambaError(f"the self-test fails: {wrong.sum()} of {len(frames)} golden frames are wrong, frame "
                              f"{int(wrong.argmax())} first; check the clock's timing report and program the FPGA again")
        return len(frames)

    def check(self) -> None:
        """Raises what the design has noticed since the last time, as a sentence."""
        errors = self._read("ERRORS")
        if not errors:
            return
        counts = {name: self._read(name) for name in ("SHORT_PACKETS", "LONG_PACKETS", "FRAMES_BAD", "FIRST_BAD")}
        self._write32("ERRORS", errors)
        causes = "; ".join(text for name, text in CAUSES.items() if errors & mask("ERRORS", name))
        marked = (f" ({counts['SHORT_PACKETS']} short, {counts['LONG_PACKETS']} long; {counts['FRAMES_BAD']} results are not to "
                  f"be used, first that of packet {counts['FIRST_BAD']})") if counts["FRAMES_BAD"] else ""
        raise EmambaError(f"{causes}{marked}")

    def reset(self) -> None:
        """Empties the design and forgets what was sent; the state becomes zero, the counters stay."""
        self.transport.abort()
        self._write("COMMAND", RESET=1, ABANDON=1)

    # Counters

    def clear_counters(self) -> None:
        self._write("COMMAND", CLEAR_COUNTERS=1)

    def counters(self) -> dict:
        """`cycles`, those with a fault of `parity`, frames `in`, `out` and `bad`; per stage its cycles busy, starved and
        blocked, its beats with a clipped value, and the cycles in which its state was clipped; per FIFO the most beats that it
        held. All since they were cleared; a reset of the design clears the FIFOs' too."""
        self._needs("COUNTERS", "counts nothing", "counters")
        control = self._read("CONTROL")
        self._write32("CONTROL", control | mask("CONTROL", "FREEZE"))
        cycles = self._read("CYCLES")
        result = {"cycles": cycles | self._read("CYCLES_HIGH") << 32, "in": self._read("FRAMES_IN"),
                  "out": self._read("FRAMES_OUT"), "bad": self._read("FRAMES_BAD"), "parity": self._read("PARITY_FAULTS")}
        result["stages"] = {stage: {name.lower(): self._read(name, k) for name in TABLES}
                            for k, stage in enumerate(self.description.stages)}
        result["queues"] = {queue: self._read("PEAK", k) for k, queue in enumerate(self.description.queues)}
        self._write32("CONTROL", control)
        return result

    def bottleneck(self) -> str:
        """The stage that waits least: a block, `input` for who sends, or `output` for who takes the results."""
        stages = self.counters()["stages"]
        return min(stages, key=lambda name: stages[name]["starved"] + stages[name]["blocked"])

    # State

    def keep_state(self, keep: bool) -> None:
        """Whether a packet goes on with the state of the one before it; else each begins with zeros."""
        self._needs("STATEFUL", "cannot keep its state", "state")
        self._rest()
        self._control(ENABLE=1, KEEP=int(keep))

    def clear_state(self) -> None:
        """The next packet begins with a state of zeros."""
        self._rest()
        self._write("COMMAND", CLEAR_STATE=1)
        self._control(ENABLE=1)

    def save_state(self) -> np.ndarray:
        """The state between two packets, as words of 32 bits."""
        self._needs("STATEFUL", "does not show its state", "state")
        self._rest()
        count = self._read("STATE_WORDS")
        state = np.zeros(count, np.uint32)
        if not self._read("STATUS") & mask("STATUS", "CLEARED"):
            self._write32("STATE_ADDRESS", 0)
            state[:] = [self._read("STATE_DATA") for _ in range(count)]
        self._control(ENABLE=1)
        return state

    def restore_state(self, state: np.ndarray) -> None:
        """What `save_state` gave; `keep_state` must be on for it to matter."""
        self._needs("STATEFUL", "does not show its state", "state")
        count = self._read("STATE_WORDS")
        if len(state) != count:
            raise EmambaError(f"this state has {len(state)} words, that of the design has {count}: it is another design's")
        self._rest()
        self._write32("STATE_ADDRESS", 0)
        for word in state:
            self._write32("STATE_DATA", int(word))
        self._control(ENABLE=1)

    # Weights

    def load(self, description: Description | dict | str | Path) -> None:
        """Loads another artifact's weights; it answers from the next packet on. The one before answers until all is there."""
        other = Description.read(description)
        self._needs("LOADABLE", "has its weights built in", "weights")
        if other.image is None:
            raise EmambaError(f"the description of '{other.name}' holds no weights to load: build it with loadable weights")
        if other.structure_digest != self.description.structure_digest:
            raise EmambaError(f"'{other.name}' does not fit this design: "
                              f"{difference(self.description.structure, other.structure)}; build a design for it")
        self._write("LOAD_COMMAND", BEGIN=1)
        for word in other.image:
            self._write32("LOAD_DATA", int(word))
        self._write32("LOAD_CHECKSUM", checksum(other))
        self._write("LOAD_COMMAND", COMMIT=1)
        if not self._waits(lambda status: not status & mask("STATUS", "COMMITTING")):
            raise EmambaError("the load waits for packets that do not leave the design: receive the results, or reset it")
        self.check()
        if self._digest() != other.digest:
            raise EmambaError("the design answers with another artifact than the one that was loaded")
        self.description = other

    # What the above share

    def _identify(self) -> None:
        own = self.description
        magic = self._read("MAGIC")
        if magic != MAGIC:
            raise EmambaError(f"there is no accelerator of this project at this address, which reads {magic:#010x} and not "
                              f"{MAGIC:#010x}: program the FPGA, and check the address")
        version = self._read("INTERFACE")
        major, minor = (extract("INTERFACE", field, version) for field in ("MAJOR", "MINOR"))
        if major != INTERFACE[0] or minor < INTERFACE[1]:
            raise EmambaError(f"the FPGA's registers have version {major}.{minor}, this driver needs "
                              f"{INTERFACE[0]}.{INTERFACE[1]}: take both from the same build")
        self.capabilities = self._read("CAPABILITIES")
        digest = self._digest()
        if digest != own.digest and not (self.capabilities & mask("CAPABILITIES", "LOADABLE") and own.image is not None
                                         and self._digest("STRUCTURE") == own.structure_digest):
            raise EmambaError(f"the FPGA holds another design: artifact {digest[:12]}…, not '{own.name}', {own.digest[:12]}…; "
                              "program the bitstream of this description")
        shapes = {"TOKENS": own.tokens, "INPUT_WIDTH": own.input_width, "OUTPUT_TOKENS": own.output_tokens,
                  "OUTPUT_WIDTH": own.output_width}
        for name, wanted in shapes.items():
            if self._read(name) != wanted:
                raise EmambaError(f"the FPGA's {name} is {self._read(name)}, the description says {wanted}: take both from the "
                                  "same build")

    def _digest(self, name: str = "DIGEST") -> str:
        return "".join(f"{self._read(name, k):08x}" for k in range(BY_NAME[name].count))

    def _needs(self, capability: str, lack: str, option: str) -> None:
        if not self.capabilities & mask("CAPABILITIES", capability):
            raise EmambaError(f"this design {lack}: build it with the option for {option}")

    def _receive(self, size: int, k: int, count: int) -> bytes:
        try:
            result = self.transport.receive(size, self.timeout)
        except TimeoutError:
            reason = self._silence()
            self.reset()
            raise EmambaError(f"result {k + 1} of {count} did not come within {self.timeout:g} s: {reason}; the design was "
                              "reset") from None
        if len(result) != size:
            self.reset()
            raise EmambaError(f"result {k + 1} of {count} has {len(result)} bytes, not {size}: the packet was broken off, and "
                              "the design was reset")
        return result

    def _silence(self) -> str:
        """Why nothing comes."""
        status, errors = self._read("STATUS"), self._read("ERRORS")
        self._write32("ERRORS", errors)
        if status & mask("STATUS", "EXCESS"):
            return "an input packet has no TLAST, so that the next ones count as its excess"
        if errors:
            return "; ".join(text for name, text in CAUSES.items() if errors & mask("ERRORS", name))
        if not self._read("CONTROL") & mask("CONTROL", "ENABLE"):
            return "the design is not enabled, since something else wrote its CONTROL; make the driver anew"
        if status & mask("STATUS", "IN_PACKET"):
            return "the design waits for the rest of an input packet"
        if status & mask("STATUS", "IDLE"):
            return "the design has nothing to do, so the packets do not reach it; check the DMA"
        return "the design works on it; raise the time-out, or check that the results are taken"

    def _rest(self) -> None:
        """Waits until no packet is on its way, and admits none."""
        self._control(ENABLE=0)
        if self._waits(lambda status: status & mask("STATUS", "IDLE")):
            return
        self._control(ENABLE=1)
        raise EmambaError("the design does not come to rest: receive all results first, or reset it")

    def _waits(self, ready: Callable[[int], bool]) -> bool:
        """Whether STATUS becomes so within the time-out."""
        end = time.monotonic() + self.timeout
        for look in itertools.count():
            if ready(self._read("STATUS")):
                return True
            if look >= POLLS and time.monotonic() > end:
                return False

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


def checksum(description: Description) -> int:
    """CRC-32 of a load, which begins with the structure."""
    structure = np.array([int(description.structure_digest[k:k + 8], 16) for k in range(0, 64, 8)], "<u4")
    return zlib.crc32(description.image.tobytes(), zlib.crc32(structure.tobytes()))


def difference(ours, its, path: str = "") -> str:
    """The first place at which two structures differ, as a sentence."""
    if isinstance(ours, dict) and isinstance(its, dict):
        for key in dict.fromkeys([*ours, *its]):
            found = difference(ours.get(key), its.get(key), f"{path}.{key}" if path else key)
            if found:
                return found
        return ""
    return "" if ours == its else f"{path} is {its} there and {ours} in the design"
