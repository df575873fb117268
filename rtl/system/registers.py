"""The register table of the AXI system, the one source of gateware, driver, and what `rtl.system.exports` writes.

Pure Python, of 3.10 too: the driver imports it on the board. Registers are 32-bit words; addresses count bytes.
"""

from dataclasses import dataclass
from enum import Enum

MAGIC = int.from_bytes(b"eMam", "little")
INTERFACE = (1, 5)  # a driver works with the same major and at least its own minor
ADDRESS_BITS = 14
SPAN = 1 << ADDRESS_BITS


class Access(Enum):
    READ = "ro"
    WRITE = "wo"  # reads as 0
    BOTH = "rw"
    CLEAR = "w1c"  # writing a 1 clears a bit


@dataclass(frozen=True)
class Field:
    """Bits `low` up of a register. A design without `capability`, a bit of CAPABILITIES, need not have it."""

    name: str
    low: int
    width: int
    description: str
    reset: int = 0
    capability: str = ""

    @property
    def mask(self) -> int:
        return (1 << self.width) - 1 << self.low


@dataclass(frozen=True)
class Register:
    """`count` words, `stride` bytes apart, from byte `offset`. `fields` cover the bits that mean something; none for a number.

    A design without `capability`, a bit of CAPABILITIES, need not have the register: one word then reads as 0, and the address of
    a table is an error.
    """

    name: str
    offset: int
    access: Access
    description: str
    fields: tuple[Field, ...] = ()
    count: int = 1
    stride: int = 4
    capability: str = ""

    @property
    def reset(self) -> int:
        return sum(field.reset << field.low for field in self.fields)

    def address(self, index: int = 0) -> int:
        if not 0 <= index < self.count:
            raise IndexError(f"{self.name} has {self.count} words, not a word {index}")
        return self.offset + index * self.stride

    def field(self, name: str) -> Field:
        return next(field for field in self.fields if field.name == name)


def _flags(*names: tuple[str, ...]) -> tuple[Field, ...]:
    """Fields of one bit, each of a name, a description and, where it needs one, a capability."""
    return tuple(Field(name, k, 1, text, 0, *capability) for k, (name, text, *capability) in enumerate(names))


STAGE_LIMIT, QUEUE_LIMIT = 512, 1024

R, W, RW, W1C = Access.READ, Access.WRITE, Access.BOTH, Access.CLEAR

REGISTERS = (
    Register("MAGIC", 0x000, R, f"{MAGIC:#x}: this is an accelerator of this project"),
    Register("INTERFACE", 0x004, R, "version of this register table", (
        Field("MINOR", 0, 16, "incremented when registers or fields are added"),
        Field("MAJOR", 16, 16, "incremented when they change"))),
    Register("CAPABILITIES", 0x008, R, "what the design was built with", (
        Field("LOADABLE", 0, 1, "weights can be loaded"), Field("STATEFUL", 1, 1, "the state can be kept, read and written"),
        Field("COUNTERS", 2, 1, "stages and FIFOs are counted"), Field("MEAN", 3, 1, "a mean pool: packets have TOKENS tokens"),
        Field("PARITY", 4, 1, "memories have parity"),
        Field("FULL", 5, 1, "modes, counts of packets, interrupts and a register for tests are there"),
        Field("STREAMED", 6, 1, "weights are read from a memory outside"),
        Field("BUS_BYTES", 8, 8, "bytes of a stream's word"), Field("INPUT_BYTES", 16, 8, "bytes of an input integer"),
        Field("OUTPUT_BYTES", 24, 8, "bytes of an output integer"))),
    Register("SIZES", 0x00C, R, "rows of the tables below", (
        Field("STAGES", 0, 16, "stages: the input stream, every block, the output stream"), Field("QUEUES", 16, 16, "FIFOs"))),
    Register("TOKENS", 0x010, R, "tokens of a packet"),
    Register("INPUT_WIDTH", 0x014, R, "integers of an input token"),
    Register("OUTPUT_WIDTH", 0x018, R, "integers of an output token"),
    Register("OUTPUT_TOKENS", 0x01C, R, "tokens of a result"),
    Register("DIGEST", 0x020, R, "SHA-256 of the artifact that answers; word 0 holds its first four bytes, big-endian", count=8),
    Register("STRUCTURE", 0x040, R, "SHA-256 of what loading cannot change; 0 without LOADABLE", count=8),
    Register("CONTROL", 0x060, RW, "modes", (
        Field("ENABLE", 0, 1, "packets may begin; at 0 none does, and the design comes to rest"),
        Field("KEEP", 1, 1, "a packet continues the state of the previous one; at 0, or if CLEARED, it begins with zeros", 0,
              "FULL"),
        Field("FREEZE", 2, 1, "CYCLES and the tables of stages and FIFOs hold their values", 0, "FULL"))),
    Register("COMMAND", 0x064, W, "writing a 1 acts once", _flags(
        ("RESET", "drops the packets that have begun, and the rest of an open one; sets CLEARED; a complete result stays at the "
                  "output, and a marked word of one byte ends a result that has begun to leave"),
        ("ABANDON", "with RESET, if both ends of the streams were reset too: withdraws what waits at the input and at the "
                    "output; the next word begins a packet"),
        ("CLEAR_STATE", "sets CLEARED"),
        ("CLEAR_COUNTERS", "sets all counters and high-water marks to 0"))),
    Register("STATUS", 0x068, R, "what the design is doing", _flags(
        ("IDLE", "the result of every packet that has begun is complete"),
        ("IN_PACKET", "an input packet has begun and not ended"),
        ("EXCESS", "the open input packet is already longer than TOKENS tokens"),
        ("OUT_PACKET", "a word of a result waits, or a result that has begun to leave is not complete"),
        ("CLEARED", "the next packet begins with a state of zeros, and the state reads as zeros: after a reset, CLEAR_STATE or a "
                    "load that took over, until a packet begins or a whole state is written"),
        ("LOADING", "a load has begun and is not committed", "LOADABLE"),
        ("COMMITTING", "a load is accepted: it takes over once IDLE, and no packet begins before", "LOADABLE"))),
    Register("ERRORS", 0x06C, W1C, "errors since each bit was cleared", _flags(
        ("SHORT", "a packet ended before its last token: it is zero-padded, and its result is marked"),
        ("LONG", "a packet continued after its last token: it is truncated, and its result is marked"),
        ("NO_TLAST", "a packet's excess reached the length of another packet, so a TLAST must be missing"),
        ("BAD_TKEEP", "TKEEP had a hole, or a word before the last was not whole: the bytes read as 0, and the result is marked",
         "FULL"),
        ("LOAD_INTERRUPTED", "a load began before the previous one was committed or, without effect, before it took over; or a "
                             "word came without a load", "LOADABLE"),
        ("LOAD_REFUSED", "a load was committed with a wrong count, checksum or structure, or without a load; or a word too many "
                         "came", "LOADABLE"),
        ("ADDRESS", "an address without a register was accessed"),
        ("STATE_BUSY", "the state was accessed while ENABLE was 1 or IDLE 0: it read as 0, and nothing was written", "STATEFUL"),
        ("PARITY", "a memory gave another word than was written; answers since may be wrong", "PARITY"),
        ("STREAM", "the memory outside answered a read with an error; answers since may be wrong", "STREAMED"))),
    Register("INTERRUPT", 0x070, W1C, "events since each bit was cleared", _flags(
        ("RESULT", "the last word of a result left"), ("ERROR", "a bit of ERRORS was set"),
        ("LOADED", "a load took over", "LOADABLE")), capability="FULL"),
    Register("INTERRUPT_ENABLE", 0x074, RW, "the bits of INTERRUPT that hold the line `irq` high", _flags(
        ("RESULT", "a result"), ("ERROR", "an error"), ("LOADED", "a load")), capability="FULL"),
    Register("CYCLES", 0x080, R, "cycles, low word; reading it latches the high word", capability="FULL"),
    Register("CYCLES_HIGH", 0x084, R, "high word at the last read of CYCLES", capability="FULL"),
    Register("FRAMES_IN", 0x088, R, "packets that began", capability="FULL"),
    Register("FRAMES_OUT", 0x08C, R, "results that are complete at the output", capability="FULL"),
    Register("FRAMES_BAD", 0x090, R, "packets whose result is marked", capability="FULL"),
    Register("FIRST_BAD", 0x094, R, "FRAMES_IN of the first such packet; 0 if there was none", capability="FULL"),
    Register("SHORT_PACKETS", 0x098, R, "packets that were short", capability="FULL"),
    Register("LONG_PACKETS", 0x09C, R, "packets that were long", capability="FULL"),
    Register("BAD_TKEEPS", 0x0A0, R, "words with a bad TKEEP", capability="FULL"),
    Register("PARITY_FAULTS", 0x0A4, R, "cycles in which a memory of states, a FIFO or loadable weights gave another word than "
             "was written", capability="PARITY"),
    Register("LOAD_COMMAND", 0x0C0, W, "writing a 1 acts once; of several, the first", _flags(
        ("BEGIN", "a load begins at its first word"), ("COMMIT", "the load takes over, if count and checksum are right"),
        ("ABORT", "the load is dropped")), capability="LOADABLE"),
    Register("LOAD_DATA", 0x0C4, W, "the next word of the load", capability="LOADABLE"),
    Register("LOAD_CHECKSUM", 0x0C8, RW, "the CRC-32 that STRUCTURE and the load must have", (
        Field("CHECKSUM", 0, 32, "zlib's CRC-32 of little-endian words"),), capability="LOADABLE"),
    Register("LOAD_COUNT", 0x0CC, R, "words written", capability="LOADABLE"),
    Register("LOAD_WORDS", 0x0D0, R, "words of a load", capability="LOADABLE"),
    Register("STREAM_ADDRESS", 0x0D4, RW, "where the image of the weights lies, a multiple of 4 KiB: low word", (
        Field("LOW", 0, 32, "bits 31..0"),), capability="STREAMED"),
    Register("STREAM_CONTROL", 0x0D8, RW, "its upper bits, and whether it is read", (
        Field("HIGH", 0, 8, "bits 39..32"),
        Field("ENABLE", 31, 1, "the image is read, from its first byte on after each RESET; at 0 what was read is dropped")),
        capability="STREAMED"),
    Register("STATE_ADDRESS", 0x0E0, RW, "the word of the state that STATE_DATA accesses", (
        Field("ADDRESS", 0, 32, "incremented by each access to STATE_DATA"),), capability="STATEFUL"),
    Register("STATE_DATA", 0x0E4, RW, "that word. If CLEARED, a state takes effect once all its words are written, from word 0",
             capability="STATEFUL"),
    Register("STATE_WORDS", 0x0E8, R, "words of the state", capability="STATEFUL"),
    Register("SCRATCH", 0x0F0, RW, "for tests", (Field("VALUE", 0, 32, "whatever was written"),),
             capability="FULL"),
    Register("SATURATED", 0x0800, R, "cycles in which a scan's state was clipped; 0 if its certificate excludes that",
             count=STAGE_LIMIT, capability="COUNTERS"),
    Register("BUSY", 0x1000, R, "cycles in which a stage worked", count=STAGE_LIMIT, capability="COUNTERS"),
    Register("STARVED", 0x1800, R, "cycles in which it waited for input", count=STAGE_LIMIT, capability="COUNTERS"),
    Register("BLOCKED", 0x2000, R, "cycles in which its output waited", count=STAGE_LIMIT, capability="COUNTERS"),
    Register("CLIPPED", 0x2800, R, "output beats of a block in which a value was clipped to its format", count=STAGE_LIMIT,
             capability="COUNTERS"),
    Register("PEAK", 0x3000, R, "most beats that a FIFO held", count=QUEUE_LIMIT, capability="COUNTERS"),
)

BY_NAME = {register.name: register for register in REGISTERS}


def address(name: str, index: int = 0) -> int:
    return BY_NAME[name].address(index)


def mask(name: str, field: str) -> int:
    return BY_NAME[name].field(field).mask


def extract(name: str, field: str, value: int) -> int:
    """The field's part of a register's value."""
    entry = BY_NAME[name].field(field)
    return (value & entry.mask) >> entry.low
