"""Random traffic on a Verilated AXI system, against what the register page foretells (`sim.expectation`).

An operation is a name and a seed, so that any part of a sequence can be run again: `shorten` finds a short one that still fails.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from boards.describe import describe
from boards.driver.accelerator import checksum
from boards.driver.description import Description
from emamba.run.integer import IntegerModel
from rtl.plan.loads import envelope
from rtl.plan.schedule import Schedule
from rtl.system.registers import BY_NAME, address, mask
from rtl.system.system import Options, System

from .expectation import Reference, Unexpected
from .native_system import NativeTransport
from .small import artifact_of, frames_of, other

Operation = tuple[str, int]

OUTSTANDING = 4
"""Packets sent and not answered: with more there are too many orders to follow."""
EPISODE = 1000
"""Operations from one power-up on."""
LOOKS = 40
"""Reads of STATUS until the design is at rest."""
COUNTERS = ("FRAMES_BAD", "FIRST_BAD", "SHORT_PACKETS", "LONG_PACKETS", "BAD_TKEEPS")
SEEN = ("STATUS", "ERRORS", "FRAMES_IN", "FRAMES_OUT", "LOAD_COUNT", "DIGEST")
MODES = ("CONTROL", "SCRATCH", "LOAD_CHECKSUM", "INTERRUPT_ENABLE")


@dataclass
class Design:
    """A system of random weights, whose weights can be loaded and whose state can be kept, with what it is compared with."""

    descriptions: list[Description]
    models: list[IntegerModel]
    system: System

    @classmethod
    def make(cls, bus_bits: int, parity: bool = False, **changes) -> "Design":
        first = artifact_of(**changes)
        system = System(Schedule(envelope(first), 6), Options(bus_bits, loadable=True, stateful=True, parity=parity), first)
        artifacts = [first, other(first)]
        return cls([Description.read(describe(system, frames_of(first, 1), each)) for each in artifacts],
                   [IntegerModel(each) for each in artifacts], system)


@dataclass
class Traffic:
    """Operations on a design that has just been powered up."""

    design: Design
    transport: NativeTransport
    log: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.own = self.design.descriptions[0]
        self.size = self.design.system.options.bus_bits // 8
        self.reference = Reference(self.design.descriptions, self.design.models, self.size)
        self.modes = dict.fromkeys(MODES, 0)
        self.states: list[np.ndarray | None] = [None, None]
        schedule = self.design.system.schedule
        self.calm = 12 * (schedule.latency + OUTSTANDING * schedule.cycles_per_frame)
        """Cycles after which nothing moves by itself, whatever the stalls."""

    def run(self, operations: list[Operation]) -> None:
        """Raises `Unexpected` at what the page does not foretell."""
        for name, seed in operations:
            self.log.append(name)
            OPERATIONS[name][1](self, random.Random(seed))
        self.settle(random.Random(0))

    # Packets

    def send(self, rng: random.Random, spoil: Callable[[bytearray, random.Random], bytes] | None = None) -> None:
        if self.reference.outstanding >= OUTSTANDING:
            return
        low, high = self.own.input.range
        shape = self.own.tokens, self.own.input_width
        frame = np.random.default_rng(rng.getrandbits(32)).integers(low, high + 1, shape).astype(self.own.input.dtype)
        data, keep = bytearray(frame.tobytes()), b""
        if spoil:
            keep = spoil(data, rng)
        keep = keep or bytes([1] * len(data))
        self._note(f"send {data.hex()}" + (f", of which {bytes(keep).hex()} count" if not all(keep) else ""))
        self.transport.send(bytes(data), keep)
        self.reference.send(bytes(data), keep)

    def send_short(self, rng: random.Random) -> None:
        def spoil(data, rng):
            del data[rng.randrange(1, len(data)):]
            return b""

        self.send(rng, spoil)

    def send_long(self, rng: random.Random) -> None:
        def spoil(data, rng):
            words = -(-len(data) // self.size)
            data.extend(bytes(words * self.size - len(data)))
            data.extend(rng.randbytes(rng.choice((1, self.size, self.size * words - 1, self.size * words,
                                                  self.size * (2 * words + 1)))))
            return b""

        self.send(rng, spoil)

    def send_holes(self, rng: random.Random) -> None:
        def spoil(data, rng):
            keep = bytearray([1] * len(data))
            for place in rng.sample(range(len(data)), rng.randint(1, 2)):
                keep[place] = 0
            return bytes(keep)

        self.send(rng, spoil)

    def receive(self, rng: random.Random) -> None:
        self._receive(rng.choice((0, 1, 20, 200, self.calm)))

    def _receive(self, cycles: int) -> bool:
        try:
            data = self.transport.receive(0, cycles / self.transport.cycles)
        except TimeoutError:
            self._note(f"no result in {cycles} cycles")
            return False
        self._note(f"result {data.hex()}{', marked' if self.transport.marks[-1] else ''}")
        self.reference.receive(data, self.transport.marks[-1])
        return True

    # Time

    def wait(self, rng: random.Random) -> None:
        cycles = rng.choice((1, 3, 10, 40, 150))
        self._note(f"wait {cycles}")
        self.transport.wait(cycles)

    def settle(self, rng: random.Random) -> None:
        """All that can happen has happened, and every result was received."""
        self._note("settle")
        self.transport.wait(self.calm)
        self.reference.settle()
        while self._receive(0):
            pass
        self.reference.nothing_left()
        for name in (*SEEN, *COUNTERS):
            self._read(name, settled=True)

    def stall(self, rng: random.Random) -> None:
        stalls = [rng.choice((0, 0, 25, 75, 90)) for _ in range(3)]
        self._note(f"stall {stalls}")
        self.transport.stall(*stalls, rng.getrandbits(16), rng.choice((1, 1, 4)))

    # Registers

    def read(self, rng: random.Random) -> None:
        name = rng.choice((*SEEN, *MODES, "MAGIC", "TOKENS", "CYCLES", "STATE_WORDS"))
        if name in MODES:
            value = self.transport.read32(address(name))
            self._expect(value == self.modes[name], f"{name} reads {value:#x} and not {self.modes[name]:#x}")
            return
        self._read(name)

    def _read(self, name: str, settled: bool = False) -> int:
        value = self.transport.read32(address(name))
        self._note(f"read {name}: {value:#x}")
        self.reference.read(name, value, settled)
        return value

    def mode(self, rng: random.Random) -> None:
        name = rng.choice(("SCRATCH", "INTERRUPT_ENABLE"))
        self._mode(name, rng.getrandbits(32))

    def _mode(self, name: str, value: int) -> None:
        self._write(name, value)
        self.modes[name] = value & sum(entry.mask for entry in BY_NAME[name].fields)

    def nowhere(self, rng: random.Random) -> None:
        """An access that no register answers."""
        place = rng.choice((0x07C, 0x0A8, 0x0FC, 0x3FFC))
        ask = rng.choice((f"R {place}", f"W {place} 0"))
        answer = self.transport._ask(ask)
        self._expect(answer[-1] == "2", f"'{ask}' was answered with {answer}")
        self.reference.error("ADDRESS")

    def clear_errors(self, rng: random.Random) -> None:
        bits = rng.choice((0xFFFFFFFF, rng.getrandbits(9)))
        self._write("ERRORS", bits)
        self.reference.clear_errors(bits)

    def clear_counters(self, rng: random.Random) -> None:
        self._command("CLEAR_COUNTERS")
        self.reference.clear_counters()

    def control(self, rng: random.Random) -> None:
        self._control(rng.choice((mask("CONTROL", "ENABLE"), 0)) | rng.choice((mask("CONTROL", "KEEP"), 0)))

    def run_on(self, rng: random.Random) -> None:
        self._control(mask("CONTROL", "ENABLE") | mask("CONTROL", "KEEP"))

    def _control(self, value: int) -> None:
        self._mode("CONTROL", value)
        self.reference.control(value)

    def clear_state(self, rng: random.Random) -> None:
        self._command("CLEAR_STATE")
        self.reference.clear_state()

    def reset(self, rng: random.Random) -> None:
        self._command("RESET")
        self.reference.reset(abandon=False)

    def abandon(self, rng: random.Random) -> None:
        """As a driver does: before and after the design's reset, both ends of the streams drop what is on its way."""
        self.transport.abort()
        self._command("RESET", "ABANDON")
        self.transport.abort()
        self.reference.reset(abandon=True)

    # Weights

    def begin(self, rng: random.Random) -> None:
        self._load("BEGIN")

    def commit(self, rng: random.Random) -> None:
        self._load("COMMIT")

    def abort(self, rng: random.Random) -> None:
        self._load("ABORT")

    def words(self, rng: random.Random) -> None:
        image = rng.choice(self.design.descriptions).image
        start = self._read("LOAD_COUNT")
        self._words(image[start:start + rng.choice((1, 7, len(image)))])
        if rng.random() < 0.1:
            self._words(np.array([rng.getrandbits(32)], "<u4"))

    def load(self, rng: random.Random) -> None:
        own = rng.choice(self.design.descriptions)
        self._load("BEGIN")
        self._words(own.image)
        value = checksum(own) ^ (rng.random() < 0.2)
        self._mode("LOAD_CHECKSUM", value)
        self.reference.checksum = value
        self._load("COMMIT")

    def _load(self, command: str) -> None:
        self._write("LOAD_COMMAND", mask("LOAD_COMMAND", command))
        self.reference.load(command)

    def _words(self, words: np.ndarray) -> None:
        self._note(f"write LOAD_DATA: {len(words)} words")
        for word in words:
            self.transport.write32(address("LOAD_DATA"), int(word))
        self.reference.load_words(words)

    # State

    def save(self, rng: random.Random) -> None:
        if not self._rests():
            return
        slot, count = rng.randrange(2), self.transport.read32(address("STATE_WORDS"))
        self._write("STATE_ADDRESS", 0)
        self.states[slot] = np.array([self.transport.read32(address("STATE_DATA")) for _ in range(count)], "<u4")
        self._note(f"save state {slot}")
        self.reference.save(slot, self.states[slot].tobytes())

    def restore(self, rng: random.Random) -> None:
        slot = rng.randrange(2)
        if self.states[slot] is None or not self._rests():
            return
        self.clear_state(rng)
        whole = rng.random() < 0.7
        words = self.states[slot] if whole else self.states[slot][:rng.randrange(len(self.states[slot]))]
        self._write("STATE_ADDRESS", 0)
        self._note(f"restore state {slot}, {len(words)} words")
        for word in words:
            self.transport.write32(address("STATE_DATA"), int(word))
        self.reference.restore(slot, whole)

    def look(self, rng: random.Random) -> None:
        """The state is read at any time."""
        self._note("read STATE_DATA")
        self.transport.read32(address("STATE_DATA"))
        self.reference.access_state()

    def _rests(self) -> bool:
        self._control(self.modes["CONTROL"] & ~mask("CONTROL", "ENABLE"))
        return any(self._read("STATUS") & mask("STATUS", "IDLE") for _ in range(LOOKS))

    # What the above share

    def _write(self, name: str, value: int) -> None:
        self._note(f"write {name}: {value:#x}")
        self.transport.write32(address(name), value)

    def _command(self, *names: str) -> None:
        self._write("COMMAND", sum(mask("COMMAND", name) for name in names))

    def _note(self, text: str) -> None:
        self.log.append(f"  {text}")

    def _expect(self, right: bool, sentence: str) -> None:
        if not right:
            raise Unexpected(sentence)


OPERATIONS: dict[str, tuple[int, Callable[[Traffic, random.Random], None]]] = {
    "send": (60, Traffic.send), "send short": (6, Traffic.send_short), "send long": (6, Traffic.send_long),
    "send holes": (4, Traffic.send_holes), "receive": (50, Traffic.receive), "wait": (15, Traffic.wait),
    "settle": (6, Traffic.settle), "stall": (3, Traffic.stall), "read": (30, Traffic.read), "mode": (2, Traffic.mode),
    "nowhere": (2, Traffic.nowhere), "clear errors": (4, Traffic.clear_errors), "clear counters": (3, Traffic.clear_counters),
    "control": (6, Traffic.control), "run on": (8, Traffic.run_on), "clear state": (4, Traffic.clear_state),
    "reset": (5, Traffic.reset), "abandon": (3, Traffic.abandon), "begin": (2, Traffic.begin), "words": (2, Traffic.words),
    "commit": (2, Traffic.commit), "abort": (1, Traffic.abort), "load": (3, Traffic.load), "save": (3, Traffic.save),
    "restore": (3, Traffic.restore), "look": (1, Traffic.look),
}
"""How often an operation comes, and what it does."""


def sequence(seed: int, count: int) -> list[Operation]:
    rng = random.Random(seed)
    names, weights = list(OPERATIONS), [weight for weight, _ in OPERATIONS.values()]
    return [(name, rng.getrandbits(32)) for name in rng.choices(names, weights, k=count)]


@dataclass
class Failure:
    """The shortest sequence that was found to fail, what it did, and what was not foretold."""

    operations: list[Operation]
    log: list[str]
    sentence: str

    def __str__(self) -> str:
        return "\n".join([f"{len(self.operations)} operations:", *self.log, self.sentence])


def check_many(design: Design, transport: NativeTransport, count: int, seed: int = 0) -> Failure | None:
    """So many operations, in sequences of EPISODE from power-up."""
    for k, start in enumerate(range(0, count, EPISODE)):
        failure = check(design, transport, sequence(seed + k, min(EPISODE, count - start)))
        if failure:
            return failure
    return None


def check(design: Design, transport: NativeTransport, operations: list[Operation]) -> Failure | None:
    """Runs a sequence from power-up, and shortens one that fails."""
    failure = _attempt(design, transport, operations)
    return shorten(failure, lambda part: _attempt(design, transport, part)) if failure else None


def _attempt(design: Design, transport: NativeTransport, operations: list[Operation]) -> Failure | None:
    with transport.fresh() as process:
        traffic = Traffic(design, process)
        try:
            traffic.run(operations)
        except Unexpected as error:
            return Failure(operations, traffic.log, str(error))
    return None


def shorten(failure: Failure, attempt: Callable[[list[Operation]], Failure | None]) -> Failure:
    """Leaves out ever smaller parts of a failing sequence, as long as it fails in any way."""
    size = len(failure.operations) // 2
    while size:
        start = 0
        while start < len(failure.operations):
            operations = failure.operations
            found = attempt(operations[:start] + operations[start + size:])
            failure, start = (found, start) if found else (failure, start + size)
        size = size // 2 if size > 1 else 0
    return failure
