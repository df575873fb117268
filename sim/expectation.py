"""What the register page foretells of an AXI system, whatever the order in which operations meet packets on their way.

Three moments cannot be seen from outside: when a packet begins, when its result is complete, and when a load takes over. So the
reference is a set of worlds, one for each order that is possible. An operation changes every world, an observation removes those
that it contradicts; where none is left, the design did what the page does not foretell.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from boards.driver.accelerator import checksum
from boards.driver.description import Description
from emamba.run.integer import IntegerModel
from rtl.system.registers import BY_NAME, mask

ERROR = {field.name: field.mask for field in BY_NAME["ERRORS"].fields}
BYTE_OF_THE_END = b"\0"
"""With which a reset ends a result that has begun."""


class Unexpected(AssertionError):
    """The design did what no world foretells."""


@dataclass(frozen=True)
class Packet:
    """What is read of an input packet: its integers [1, tokens, width], zeros where they lack; bits of ERRORS that it sets, and
    those that its excess may set at any time; its words whose TKEEP is wrong."""

    tokens: np.ndarray
    errors: int = 0
    later: int = 0
    bad_words: int = 0

    @property
    def marked(self) -> bool:
        return bool(self.errors)


def read_packet(data: bytes, keep: bytes, size: int, own: Description) -> Packet:
    """The packet of these bytes, a flag each whether it counts, on a stream of `size` bytes."""
    wanted = own.tokens * own.input_width * own.input.size
    words = -(-wanted // size)
    meant = bytes(byte if kept else 0 for byte, kept in zip(data, keep, strict=True))[:wanted].ljust(wanted, b"\0")
    tokens = np.frombuffer(meant, own.input.dtype).astype(np.int64).reshape(1, own.tokens, own.input_width)
    low, high = own.input.range
    tokens = (tokens - low) % (high - low + 1) + low  # higher bits are not read
    flags = [keep[k:k + size].ljust(size, b"\0") for k in range(0, len(data), size)]
    complete = len(flags) >= words and all(flags[words - 1][:wanted - (words - 1) * size])
    bad = sum(any(flag[k + 1] > flag[k] for k in range(size - 1)) or (k < len(flags) - 1 and not all(flag))
              for k, flag in enumerate(flags[:words]))
    errors = (ERROR["SHORT"] * (len(flags) <= words and not complete) | ERROR["LONG"] * (len(flags) > words)
              | ERROR["BAD_TKEEP"] * (bad > 0))
    return Packet(tokens, errors, ERROR["NO_TLAST"] * (len(flags) >= 2 * words), bad)


class Result(NamedTuple):
    """Of a packet, begun by artifact `model` in the state `before`, as number `number` of FRAMES_IN. `errors` of the packet that
    were surely seen once it is complete. A `broken` one is cut by a reset."""

    packet: int
    model: int
    before: int
    number: int
    errors: int
    broken: bool = False


class Counts(NamedTuple):
    """Counters that a packet changes; not `exact` where a packet was dropped, or was inside as they were cleared."""

    started: int = 0
    done: int = 0
    bad: int = 0
    first_bad: int = 0
    short: int = 0
    long: int = 0
    bad_words: int = 0
    exact: bool = True


class World(NamedTuple):
    """One order of events. `pending` packets were sent and have not begun, those of `inside` have begun, the results of `out` are
    complete and not received. `state` is what the last packet leaves, `saved` are states that were read. `commits` is a load that
    was accepted, `crc` that of the words of a load that is under way. `errors` are set, those of `perhaps` may be."""

    enable: bool = False
    keep: bool = False
    cleared: bool = True
    state: int = 0
    saved: tuple[int, ...] = (0, 0)
    model: int = 0
    pending: tuple[int, ...] = ()
    inside: tuple[Result, ...] = ()
    out: tuple[Result, ...] = ()
    commits: int | None = None
    loading: bool = False
    words: int = 0
    crc: int = 0
    counts: Counts = Counts()
    errors: int = 0
    perhaps: int = 0

    @property
    def state_read(self) -> int:
        return 0 if self.cleared else self.state


class Reference:
    """Follows one design from its power-up. It may hold the artifacts of `descriptions` and `models`, the first to begin with."""

    def __init__(self, descriptions: list[Description], models: list[IntegerModel], size: int):
        self.descriptions, self.models, self.size = descriptions, models, size
        self.worlds: set[World] = {World()}
        self.packets: list[Packet] = []
        self.checksum = 0
        self.state_words: dict[int, bytes] = {}
        structure = bytes.fromhex(descriptions[0].structure_digest)
        self._crc = zlib.crc32(b"".join(structure[k:k + 4][::-1] for k in range(0, len(structure), 4)))
        self._images = {checksum(own): k for k, own in enumerate(descriptions)} if descriptions[0].image is not None else {}
        self._length = len(descriptions[0].image) if self._images else 0
        self._states: list = [None]
        self._after: dict[World, tuple[World, ...]] = {}
        self._runs: dict[tuple[int, int, int], tuple[bytes, int]] = {}

    @property
    def outstanding(self) -> int:
        """Most packets of which no result was received."""
        return max(len(world.pending) + len(world.inside) + len(world.out) for world in self.worlds)

    # What happens by itself.

    def advance(self) -> None:
        """Adds every world that time alone leads to."""
        new = list(self.worlds)
        while new:
            before = new.pop()
            if before not in self._after:
                self._after[before] = tuple(self._next(before))
            for world in self._after[before]:
                if world not in self.worlds:
                    self.worlds.add(world)
                    new.append(world)

    def settle(self) -> None:
        """Time enough has passed for all that happens by itself."""
        self.advance()
        self._keep(lambda world: not any(self._next(world)), "a packet, a result or a load is stuck")

    def _next(self, world: World) -> Iterator[World]:
        counts = world.counts
        if world.pending and world.enable and world.commits is None:
            number = world.pending[0]
            packet = self.packets[number]
            before = world.state if world.keep and not world.cleared else 0
            result = Result(number, world.model, before, counts.started + 1, packet.errors)
            yield world._replace(pending=world.pending[1:], inside=(*world.inside, result), cleared=False,
                                 state=self._run(result)[1], counts=counts._replace(started=counts.started + 1),
                                 perhaps=world.perhaps | packet.errors | packet.later)
        if world.inside:
            result = world.inside[0]
            packet = self.packets[result.packet]
            counts = counts._replace(
                done=counts.done + 1, bad=counts.bad + packet.marked, first_bad=counts.first_bad or packet.marked * result.number,
                short=counts.short + bool(packet.errors & ERROR["SHORT"]), long=counts.long + bool(packet.errors & ERROR["LONG"]),
                bad_words=counts.bad_words + packet.bad_words)
            yield world._replace(inside=world.inside[1:], out=(*world.out, result), counts=counts,
                                 errors=world.errors | result.errors)
        if world.commits is not None and not world.inside:
            yield world._replace(commits=None, model=world.commits, cleared=True)

    def _run(self, result: Result) -> tuple[bytes, int]:
        """The bytes of its answer, and the number of the state that it leaves."""
        key = result.packet, result.model, result.before
        if key not in self._runs:
            answer, after = self.models[result.model].resume(self.packets[result.packet].tokens, self._states[result.before])
            self._states.append(after)
            self._runs[key] = answer.astype(self.descriptions[0].output.dtype).tobytes(), len(self._states) - 1
        return self._runs[key]

    # What is done to the design.

    def change(self, change: Callable[[World], World | Iterable[World]]) -> None:
        """Something that acts at one moment."""
        self.advance()
        found: set[World] = set()
        for world in self.worlds:
            after = change(world)
            found |= {after} if isinstance(after, World) else set(after)
        self.worlds = found

    def send(self, data: bytes, keep: bytes) -> None:
        self.packets.append(read_packet(data, keep, self.size, self.descriptions[0]))
        number = len(self.packets) - 1
        self.change(lambda world: world._replace(pending=(*world.pending, number)))

    def control(self, value: int) -> None:
        self.change(lambda world: world._replace(enable=bool(value & mask("CONTROL", "ENABLE")),
                                          keep=bool(value & mask("CONTROL", "KEEP"))))

    def clear_state(self) -> None:
        self.change(lambda world: world._replace(cleared=True))

    def clear_counters(self) -> None:
        self.change(lambda world: world._replace(counts=Counts(exact=not world.inside), inside=tuple(
            result._replace(number=0) for result in world.inside)))

    def reset(self, abandon: bool) -> None:
        def change(world: World) -> Iterator[World]:
            counts = world.counts._replace(exact=world.counts.exact and not world.inside)
            after = world._replace(inside=(), cleared=True, counts=counts)
            if abandon:
                yield after._replace(pending=(), out=())
                return
            yield after
            if world.inside:
                yield after._replace(out=(*world.out, world.inside[0]._replace(broken=True)))

        self.change(change)

    def clear_errors(self, bits: int) -> None:
        """What a packet inside sets may have been seen before, or may not."""
        def change(world: World) -> World:
            later = world.perhaps & ERROR["NO_TLAST"]  # of an excess that still comes
            for result in world.inside:
                later |= result.errors
            inside = tuple(result._replace(errors=result.errors & ~bits) for result in world.inside)
            return world._replace(errors=world.errors & ~bits, perhaps=world.perhaps & ~bits | later, inside=inside)

        self.change(change)

    def error(self, name: str) -> None:
        self.change(lambda world: world._replace(errors=world.errors | ERROR[name]))

    def access_state(self) -> None:
        """At any time."""
        self.change(lambda world: world._replace(
            errors=world.errors | ERROR["STATE_BUSY"] * (world.enable or bool(world.inside))))

    def load(self, command: str) -> None:
        """BEGIN, COMMIT or ABORT."""
        def change(world: World) -> World:
            if command == "ABORT":
                return world._replace(loading=False)
            if command == "BEGIN":
                wrong = ERROR["LOAD_INTERRUPTED"] * (world.loading or world.commits is not None)
                begun = world if world.commits is not None else world._replace(loading=True, words=0, crc=self._crc)
                return begun._replace(errors=world.errors | wrong)
            whole = world.loading and world.words == self._length and world.crc == self.checksum
            if not whole:
                return world._replace(loading=False, errors=world.errors | ERROR["LOAD_REFUSED"])
            return world._replace(loading=False, commits=self._images[world.crc])

        self.change(change)

    def load_words(self, words: np.ndarray) -> None:
        """Words one after the other: nothing that happens by itself changes what they do."""
        def change(world: World) -> World:
            if not world.loading:
                return world._replace(errors=world.errors | ERROR["LOAD_INTERRUPTED"])
            taken = words[:self._length - world.words]
            wrong = ERROR["LOAD_REFUSED"] * (len(taken) < len(words))
            return world._replace(words=world.words + len(taken), crc=zlib.crc32(taken.tobytes(), world.crc),
                           errors=world.errors | wrong)

        if len(words):
            self.change(change)

    def save(self, slot: int, words: bytes) -> None:
        """The state, read at rest: zeros where it is cleared; the same words for the same state."""
        self.state_words.setdefault(0, bytes(len(words)))
        self.see(lambda world: words == self.state_words.get(world.state_read, words), f"the state reads as {words.hex()}")
        states = {world.state_read for world in self.worlds}
        if len(states) == 1:
            self.state_words[states.pop()] = words
        self.worlds = {world._replace(saved=(*world.saved[:slot], world.state_read, *world.saved[slot + 1:]))
                       for world in self.worlds}

    def restore(self, slot: int, whole: bool) -> None:
        """What was read into a slot is written over a cleared state, at rest; a part of it changes nothing."""
        self.change(lambda world: world._replace(cleared=not whole, state=world.saved[slot]))

    # What is seen of it.

    def see(self, agrees: Callable[[World], bool], what: str) -> None:
        self.advance()
        self._keep(agrees, what)

    def _keep(self, agrees: Callable[[World], bool], what: str) -> None:
        kept = {world for world in self.worlds if agrees(world)}
        if not kept:
            raise Unexpected(f"{what}; no order of events leads to it: {sorted(self.worlds, key=str)[0]}")
        self.worlds = kept

    def receive(self, data: bytes, marked: bool) -> None:
        self.see(lambda world: bool(world.out) and self._answers(world.out[0], data, marked),
                 f"a result is {data.hex()}{', marked' if marked else ''}")
        self.worlds = {world._replace(out=world.out[1:]) for world in self.worlds}

    def _answers(self, result: Result, data: bytes, marked: bool) -> bool:
        answer = self._run(result)[0]
        if result.broken:
            shown = len(data) - len(BYTE_OF_THE_END)
            return (marked and 0 < shown < len(answer) and shown % self.size == 0
                    and data == answer[:shown] + BYTE_OF_THE_END)
        return data == answer and marked == self.packets[result.packet].marked

    def nothing_left(self) -> None:
        """Everything complete was received."""
        self._keep(lambda world: not world.out, "a result is missing")

    def read(self, name: str, value: int, settled: bool = False) -> None:
        """A register that was read. Some say something only once all results were received."""
        what = f"{name} reads {value:#x}"
        if name == "ERRORS":
            self.see(lambda world: not world.errors & ~value and not value & ~(world.errors | world.perhaps), what)
            self.worlds = {world._replace(errors=world.errors | value) for world in self.worlds}
        elif name == "DIGEST":
            self.see(lambda world: value == int(self.descriptions[world.model].digest[:8], 16), what)
        elif name in NUMBERS:
            self.see(lambda world: value == NUMBERS[name](world), what)
        elif name == "STATUS":
            known = sum(mask(name, field) for field in (*FLAGS, *SETTLED_FLAGS * settled))
            self.see(lambda world: value & known == sum(mask(name, field) for field, flag in FLAGS.items() if flag(world)), what)
        elif settled and name in SETTLED:
            self.see(lambda world: not world.counts.exact or value == SETTLED[name](world.counts), what)


FLAGS: dict[str, Callable[[World], bool]] = {
    "IDLE": lambda world: not world.inside, "CLEARED": lambda world: world.cleared, "LOADING": lambda world: world.loading,
    "COMMITTING": lambda world: world.commits is not None}
"""Of STATUS."""
SETTLED_FLAGS = ("IN_PACKET", "EXCESS", "OUT_PACKET")
"""Which are 0 then."""
NUMBERS: dict[str, Callable[[World], int]] = {
    "FRAMES_IN": lambda world: world.counts.started, "FRAMES_OUT": lambda world: world.counts.done,
    "LOAD_COUNT": lambda world: world.words}
SETTLED: dict[str, Callable[[Counts], int]] = {
    "FRAMES_BAD": lambda counts: counts.bad, "FIRST_BAD": lambda counts: counts.first_bad,
    "SHORT_PACKETS": lambda counts: counts.short, "LONG_PACKETS": lambda counts: counts.long,
    "BAD_TKEEPS": lambda counts: counts.bad_words}
