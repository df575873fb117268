"""The driver: from arrays to packets and registers and back. Any transport; NumPy is all it needs."""

import numbers
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from emamba.base.errors import DeviceError, InputError, SettingError, brief
from rtl.system.registers import BY_NAME, INTERFACE, MAGIC, address, extract, mask

from .description import STATE_LIMIT, Description, array
from .transaction import Transactions, Unchanged, transaction


class Transport(Protocol):
    """A way to the design. `send` queues one input packet and does not wait for it; `receive` waits `timeout` seconds for the
    next output packet, of at most `size` bytes. A failure is a `TimeoutError` or a `DeviceError`. `abort` forgets what is
    queued, on its way and received, whatever was interrupted before. Time-outs are of `clock()`, in seconds, where it has one."""

    def read32(self, address: int) -> int: ...
    def write32(self, address: int, value: int) -> None: ...
    def send(self, packet: bytes) -> None: ...
    def receive(self, size: int, timeout: float) -> bytes: ...
    def abort(self) -> None: ...


AHEAD = 4
"""Packets sent before the first result is waited for, so that the design never waits for the driver."""

TABLES = ("BUSY", "STARVED", "BLOCKED", "CLIPPED", "SATURATED")
"""Counters of every stage."""

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
    "PARITY": "a memory gave a word that is not as it was written: repeat the frames, or else load the weights",
}
LOADING = ("LOAD_INTERRUPTED", "LOAD_REFUSED")
HARMFUL = ("SHORT", "LONG", "NO_TLAST", "BAD_TKEEP", "PARITY")
"""What leaves a wrong state, or a wrong memory, behind."""


class Accelerator(Transactions):
    """A design behind `transport`, checked to be what `description` says: the JSON that rtl.build wrote, its file or folder.

    `predict` takes and gives values in the user's unit, `run` integers. `timeout` in seconds is the longest wait for one answer
    of the design: for a result, or until it rests. Where the design can load weights and holds others, those of the description
    are loaded. It begins from nothing: no results, a state of zeros that is not kept. Where a call ends in its middle, by Ctrl-C
    too, the next ones are refused until `reset`. Threads take turns.
    """

    def __init__(self, description: Description | dict | str | Path, transport: Transport, *, timeout: float = 1.0):
        self.description, self.timeout = Description.read(description), timeout
        self._clock = getattr(transport, "clock", time.monotonic)
        self._pending = None  # the description whose load is under way
        super().__init__(transport)
        self._start()

    @property
    def timeout(self) -> float:
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, numbers.Real) or not 0 < seconds <= TIMEOUT_LIMIT:
            raise SettingError(f"the time-out is {brief(seconds)}: give seconds above 0, at most {TIMEOUT_LIMIT}")
        self._timeout = float(seconds)

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """[n, L, input width] in the user's unit → [n, L', outputs]: values, or logits."""
        own = self.description
        return own.decode(self._run(own, own.encode(batch)))

    def run(self, tokens: np.ndarray) -> np.ndarray:
        """Integers [n, L, input width] → [n, L', outputs]."""
        return self._run(self.description, tokens)

    def _run(self, own: Description, tokens: np.ndarray) -> np.ndarray:
        packets = self.packets(tokens)
        answer = np.frombuffer(b"".join(self._batch(own, packets)), own.output.dtype).astype(np.int64)
        return answer.reshape(len(packets), own.output_tokens, own.output_width)

    @transaction("a batch")
    def _batch(self, own: Description, packets: list[bytes]) -> list[bytes]:
        if own is not self.description:
            raise Unchanged("another thread loaded other weights in the meantime: ask again")
        results = []
        for k in range(len(packets) + AHEAD):
            if k < len(packets):
                self.transport.send(packets[k])
            if k >= AHEAD:
                results.append(self._receive(k - AHEAD, len(packets)))
        self._notice(HARMFUL)
        return results

    def packets(self, tokens: np.ndarray) -> list[bytes]:
        """One for each of the sequences [n, L, input width]."""
        own, tokens = self.description, array(tokens)
        own.check_shape(tokens)
        low, high = own.input.range
        if tokens.dtype.kind not in "iu" or (tokens.size and (tokens.min() < low or tokens.max() > high)):
            raise InputError(f"the batch holds what is no integer in {low}..{high}; predict takes values in the user's unit")
        return [frame.astype(own.input.dtype).tobytes() for frame in tokens]

    def self_test(self) -> int:
        """Runs the golden frames; returns how many."""
        self._needs_zeros()
        frames, answers = self.description.golden
        wrong = (self.run(frames) != answers).any(axis=(1, 2))
        if wrong.any():
            raise DeviceError(f"the self-test fails: {wrong.sum()} of {len(frames)} golden frames are wrong, frame "
                              f"{int(wrong.argmax())} first; check the clock's timing report and program the FPGA again")
        return len(frames)

    @transaction("a self-test")
    def _needs_zeros(self) -> None:
        if self._read("CONTROL") & mask("CONTROL", "KEEP"):
            raise Unchanged("the golden frames begin with a state of zeros, and the state is kept: call keep_state(False) before "
                            "the self-test")

    @transaction("a look at the errors")
    def check(self) -> None:
        """Raises what the design has noticed since the last time, as a sentence."""
        self._notice(("PARITY",))

    @transaction("a reset", anew=True)
    def reset(self) -> None:
        """Empties the design and forgets what was sent, received and noticed; the state becomes zero and is not kept, the
        counters stay. After a load that was broken off, `description` is of the weights that answer."""
        self._begin()

    # Counters

    @transaction("a clearing of the counters")
    def clear_counters(self) -> None:
        self._write("COMMAND", CLEAR_COUNTERS=1)

    @transaction("a reading of the counters")
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

    @transaction("a change of mode")
    def keep_state(self, keep: bool) -> None:
        """Whether a packet goes on with the state of the one before it; else each begins with zeros."""
        self._needs("STATEFUL", "cannot keep its state", "state")
        self._rest()
        self._control(ENABLE=1, KEEP=int(bool(keep)))

    @transaction("a clearing of the state")
    def clear_state(self) -> None:
        """The next packet begins with a state of zeros."""
        self._rest()
        self._write("COMMAND", CLEAR_STATE=1)
        self._control(ENABLE=1)

    @transaction("a reading of the state")
    def save_state(self) -> np.ndarray:
        """The state between two packets, as words of 32 bits."""
        self._needs("STATEFUL", "does not show its state", "state")
        self._rest()
        state = np.zeros(self.state_words, np.uint32)
        if not self._read("STATUS") & mask("STATUS", "CLEARED"):
            self._write32("STATE_ADDRESS", 0)
            state[:] = [self._read("STATE_DATA") for _ in range(len(state))]
        self._control(ENABLE=1)
        return state

    @transaction("a writing of the state")
    def restore_state(self, state: np.ndarray) -> None:
        """What `save_state` gave; `keep_state` must be on for it to matter."""
        self._needs("STATEFUL", "does not show its state", "state")
        words = array(state)
        if words.ndim != 1 or len(words) != self.state_words:
            raise Unchanged(f"this state has {words.size} words, that of the design has {self.state_words}: it is another "
                            "design's")
        if words.dtype.kind not in "iu" or (words.size and (words.min() < 0 or words.max() > 0xFFFFFFFF)):
            raise Unchanged("this state holds what is no word of 32 bits: give what save_state gave")
        self._rest()
        self._write("COMMAND", CLEAR_STATE=1)
        self._write32("STATE_ADDRESS", 0)
        for word in words:
            self._write32("STATE_DATA", int(word))
        if len(words) and self._read("STATUS") & mask("STATUS", "CLEARED"):
            raise DeviceError("the design did not take the state: call reset() and restore it again")
        self._control(ENABLE=1)

    # Weights

    def load(self, description: Description | dict | str | Path) -> None:
        """Loads another artifact's weights; it answers from the next packet on. The one before answers until all is there."""
        self._load(Description.read(description))

    @transaction("a load of weights")
    def _load(self, other: Description) -> None:
        self._exchange(other)
        self._notice(("PARITY",))

    def _exchange(self, other: Description) -> None:
        self._needs("LOADABLE", "has its weights built in", "weights")
        if other.image is None:
            raise Unchanged(f"the description of '{other.name}' holds no weights to load: build it with loadable weights")
        if other.structure_digest != self.description.structure_digest:
            raise Unchanged(f"'{other.name}' does not fit this design: "
                            f"{difference(self.description.structure, other.structure)}; build a design for it")
        self._pending = other
        self._write("LOAD_COMMAND", ABORT=1)  # of one that somebody began
        self._write("ERRORS", **dict.fromkeys(LOADING, 1))
        self._write("LOAD_COMMAND", BEGIN=1)
        for word in other.image:
            self._write32("LOAD_DATA", int(word))
        self._write32("LOAD_CHECKSUM", checksum(other))
        self._write("LOAD_COMMAND", COMMIT=1)
        if not self._waits(lambda status: not status & mask("STATUS", "COMMITTING")):
            raise DeviceError("the load waits for packets that do not leave the design: call reset()")
        digest = self._digest()
        if digest == other.digest:
            self.description, self._pending = other, None
        elif digest == self.description.digest:
            self._pending = None
            self._notice(("PARITY",), f"'{self.description.name}' still answers")
            raise Unchanged(f"the design did not take the load of '{other.name}': '{self.description.name}' still answers; build "
                            "both descriptions again")
        else:
            raise DeviceError("the design answers with another artifact than the one that was loaded: call reset()")

    # What the above share

    @transaction("the driver's start", anew=True)
    def _start(self) -> None:
        self.transport.abort()
        self._identify()
        self._begin()
        self._write("COMMAND", CLEAR_COUNTERS=1)

    def _begin(self) -> None:
        """Leaves nothing of what was before: no packets, results, modes, state, errors, half a load."""
        self._own()
        self.transport.abort()
        self._write("COMMAND", RESET=1, ABANDON=1)
        self.transport.abort()  # of what the design gave in between
        if self._can("LOADABLE"):
            self._write("LOAD_COMMAND", ABORT=1)
        self._write32("CONTROL", mask("CONTROL", "ENABLE"))
        self._write("COMMAND", CLEAR_STATE=1)
        if not self._waits(lambda status: not status & mask("STATUS", "COMMITTING")):
            raise DeviceError("the design does not end a load after a reset: program the FPGA again")
        for name in ("ERRORS", "INTERRUPT"):
            self._write32(name, 0xFFFFFFFF)
        digest = self._digest()
        if self._pending is not None and digest == self._pending.digest:  # a load that took over
            self.description, self._pending = self._pending, None
        if digest != self.description.digest:
            self._exchange(self.description)

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
        """Raises what the design has noticed; where something `harmful` is among it, a reset must follow."""
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
        """Why nothing comes."""
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
        if self._waits(lambda status: status & mask("STATUS", "IDLE")):
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
    """Of the bits of ERRORS."""
    return "; ".join(text for name, text in CAUSES.items() if errors & mask("ERRORS", name)) or f"unknown errors {errors:#x}"


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
