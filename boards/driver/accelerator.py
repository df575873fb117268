"""The driver: from arrays to packets and registers and back. Any transport; NumPy is all it needs."""

import hashlib
import zlib
from pathlib import Path

import numpy as np

from emamba.base.errors import DeviceError, InputError
from rtl.system.registers import mask

from .description import Description, array
from .device import Device, Transport
from .transaction import Unchanged, transaction

AHEAD = 4
"""Packets sent before the first result is waited for, so that the design never waits for the driver."""

TABLES = ("BUSY", "STARVED", "BLOCKED", "CLIPPED", "SATURATED")
"""Counters of every stage."""

LOADING = ("LOAD_INTERRUPTED", "LOAD_REFUSED")
HARMFUL = ("SHORT", "LONG", "NO_TLAST", "BAD_TKEEP", "PARITY", "STREAM")
"""Errors after which a state or a memory is wrong."""


class Accelerator(Device):
    """A design at `transport`, checked to be what `description` says: the JSON that rtl.build wrote, its file or folder.

    `predict` takes and gives values in the user's unit, `run` integers. `timeout` in seconds is the longest wait for one answer
    of the design: for a result, or until it rests. Where the design can load weights and holds others, those of the description
    are loaded. It begins from nothing: no results, a state of zeros, which is kept from packet to packet where the model's state
    is carried. Where a call ends in its middle, by Ctrl-C too, the next ones are refused until `reset`. Threads take turns.
    """

    def __init__(self, description: Description | dict | str | Path, transport: Transport, *, timeout: float = 1.0):
        self._pending: Description | None = None  # the description whose load is under way
        super().__init__(description, transport, timeout)
        self._start()

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """[n, L, input width] in the user's unit → [n, L', outputs]: values, or logits."""
        own = self.description
        return own.decode(self._run(own, own.encode(batch)))

    def classify(self, batch: np.ndarray) -> list[str]:
        """[n, L, input width] in the user's unit → the names of the classes."""
        own = self.description
        return own.named(own.decode(self._run(own, own.encode(batch))))

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
        if self._can("STREAMED") and not self._read("STREAM_CONTROL") & mask("STREAM_CONTROL", "ENABLE"):
            raise Unchanged("the design has no weights yet: call stream() with the image that rtl.build wrote")
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
        """Runs the golden frames; returns how many. A state that is carried is the same after it."""
        self._needs_mode()
        frames, answers = self.description.golden
        if self.description.carried:
            state = self.save_state()
            self.clear_state()
        wrong = (self.run(frames) != answers).any(axis=(1, 2))
        if self.description.carried:
            self.restore_state(state)
        if wrong.any():
            raise DeviceError(f"the self-test fails: {wrong.sum()} of {len(frames)} golden frames are wrong, frame "
                              f"{int(wrong.argmax())} first; check the clock's timing report and program the FPGA again")
        return len(frames)

    @transaction("a self-test")
    def _needs_mode(self) -> None:
        kept = bool(self._read("CONTROL") & mask("CONTROL", "KEEP"))
        if kept and not self.description.carried:
            raise Unchanged("the golden frames begin with a state of zeros, and the state is kept: call keep_state(False) before "
                            "the self-test")
        if not kept and self.description.carried:
            raise Unchanged("the golden frames go on with the state of the frame before, and the state is not kept: call "
                            "keep_state(True) before the self-test")

    @transaction("a look at the errors")
    def check(self) -> None:
        """Raises what the design has noticed since the last time, as a sentence."""
        self._notice(("PARITY",))

    @transaction("a reset", anew=True)
    def reset(self) -> None:
        """Empties the design and forgets what was sent, received and noticed; the state becomes zero and is kept as at the start,
        the counters stay. After a load that was broken off, `description` is of the weights that answer."""
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
        result: dict = {"cycles": cycles | self._read("CYCLES_HIGH") << 32, "in": self._read("FRAMES_IN"),
                  "out": self._read("FRAMES_OUT"), "bad": self._read("FRAMES_BAD"), "parity": self._read("PARITY_FAULTS")}
        result["stages"] = {stage: {name.lower(): self._read(name, k) for name in TABLES}
                            for k, stage in enumerate(self.description.stages)}
        result["queues"] = {queue: self._read("PEAK", k) for k, queue in enumerate(self.description.queues)}
        self._write32("CONTROL", control)
        return result

    def bottleneck(self) -> str:
        """The stage that waits least: a block, `input` for the sender, or `output` for the receiver of the results."""
        stages = self.counters()["stages"]
        return min(stages, key=lambda name: stages[name]["starved"] + stages[name]["blocked"])

    # State

    @transaction("a change of mode")
    def keep_state(self, keep: bool) -> None:
        """Makes each packet continue the state of the previous one, or begin with zeros."""
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

    def stream(self, image: bytes | str | Path) -> None:
        """Puts the image of streamed weights, or its file, which rtl.build wrote, into memory that the design reads; then as
        after `reset`. A design with streamed weights has no answer before."""
        content = image if isinstance(image, bytes) else Path(image).read_bytes()
        wanted = self.description.stream
        if wanted is None:
            raise InputError(f"'{self.description.name}' has its weights on chip: build it with --weights streamed")
        if (len(content), hashlib.sha256(content).hexdigest()) != (wanted["bytes"], wanted["sha256"]):
            raise InputError(f"this image of {len(content)} bytes is not that of '{self.description.name}', which has "
                             f"{wanted['bytes']}: take both from the same build")
        self._stream(content)

    @transaction("a placing of the weights", anew=True)
    def _stream(self, content: bytes) -> None:
        self._needs("STREAMED", "has its weights on chip", "streamed weights")
        if not hasattr(self.transport, "hold"):
            raise Unchanged("this transport has no memory that the design reads: give it a function hold(content), which returns "
                            "an address")
        self._write32("STREAM_CONTROL", 0)
        place = self.transport.hold(content)
        self._write32("STREAM_ADDRESS", place & 0xFFFFFFFF)
        self._write32("STREAM_CONTROL", place >> 32 | mask("STREAM_CONTROL", "ENABLE"))
        self._begin()

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
        if self.description.carried:
            self._needs("STATEFUL", "cannot keep its state, and the model's is carried from frame to frame", "state")
        self._write32("CONTROL", mask("CONTROL", "ENABLE") | (mask("CONTROL", "KEEP") if self.description.carried else 0))
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


def checksum(description: Description) -> int:
    """CRC-32 of a load, which begins with the structure."""
    structure = np.array([int(description.structure_digest[k:k + 8], 16) for k in range(0, 64, 8)], "<u4")
    return zlib.crc32(b"" if description.image is None else description.image.tobytes(), zlib.crc32(structure.tobytes()))


def difference(ours, its, path: str = "") -> str:
    """The first place at which two structures differ, as a sentence."""
    if isinstance(ours, dict) and isinstance(its, dict):
        for key in dict.fromkeys([*ours, *its]):
            found = difference(ours.get(key), its.get(key), f"{path}.{key}" if path else key)
            if found:
                return found
        return ""
    return "" if ours == its else f"{path} is {its} there and {ours} in the design"
