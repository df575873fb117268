"""What an engine is asked to be."""

from dataclasses import dataclass

from emamba.base.errors import SettingError

MOST_LANES = 512
TILE_ROWS, WHOLE_ROWS = 4096, 1 << 16
"""Of values: what a tile may take, for larger ones save few cycles, and what a sequence that must lie there as a whole may."""
PORT_BITS = 32, 64, 128, 256, 512, 1024
"""Widths of data that AXI4 has."""
BOUNDARY = 4096
"""Bytes of which a burst reaches no two parts."""
ELEMENT = 8
"""Bits of a streamed weight; wider integers take several rows."""


@dataclass(frozen=True)
class Stream:
    """Program and weights come from a memory outside, in the order in which they are read.

    Parameters
    ----------
    ports
        AXI4 ports, each of which brings its part of every row
    bits
        of a port's data; fewer where its part of a row has fewer
    rows
        that wait on chip
    burst
        beats of a burst
    """

    ports: int = 1
    bits: int = 128
    rows: int = 512
    burst: int = 16

    def __post_init__(self):
        if self.bits not in PORT_BITS:
            raise SettingError(f"an AXI4 port of {self.bits} bits is not possible; choose one of "
                               f"{', '.join(map(str, PORT_BITS))}")
        if self.burst & (self.burst - 1) or not 1 <= self.burst <= 256:
            raise SettingError(f"bursts of {self.burst} beats are not possible: take a power of two up to 256")

    def width(self, bits: int) -> int:
        """Of a port's data that brings so many bits of every row."""
        return min(self.bits, next((width for width in PORT_BITS if width >= bits), self.bits))

    def beats(self, bits: int) -> int:
        """Of a port that brings so many bits of every row."""
        return -(-bits // self.width(bits))


@dataclass(frozen=True)
class Machine:
    """`lanes` multipliers, `posts` post-processors that requantize a value a cycle each. `factor_bits`: signed bits of a
    multiplier's factors, or None for what the program needs. `rows` of values at most, or None for `limit`; `tile` tokens at
    a time at most. `stream`: where program and weights come from a memory outside. `small`: for a device of a few thousand
    cells, where weights and decays share memories of a single port. `chip`: for a fast clock and little energy: a beat's
    statistics are found by trees, and lanes without work stand still."""

    lanes: int = 8
    posts: int = 0
    factor_bits: int | None = None
    rows: int | None = None
    tile: int = 16
    stream: Stream | None = None
    small: bool = False
    chip: bool = False

    def __post_init__(self):
        if self.stream and self.small:
            raise SettingError("a small engine's weights lie in the memories of its decays, so they cannot be streamed too: take "
                               "one of both")
        if self.stream and self.lanes % self.stream.ports:
            raise SettingError(f"{self.stream.ports} ports: their number must divide the {self.lanes} lanes")
        if not 1 <= self.lanes <= MOST_LANES:
            raise SettingError(f"--lanes {self.lanes}: an engine has 1 to {MOST_LANES} lanes")
        if self.posts == 0:
            object.__setattr__(self, "posts", default_posts(self.lanes))
        if not 1 <= self.posts <= self.lanes or self.lanes % self.posts:
            raise SettingError(f"{self.posts} post-processors: their number must divide the {self.lanes} lanes")

    @property
    def beats(self) -> int:
        """Beats in which a row of results passes the post-processors."""
        return self.lanes // self.posts

    @property
    def gathering(self) -> int:
        """Cycles more from a token's last results to its statistics."""
        return 2 * self.chip

    def limit(self, whole: bool) -> int:
        """Rows of values that a program may take, of a `whole` sequence or of a tile of it."""
        return self.rows or (WHOLE_ROWS if whole else TILE_ROWS)

    def groups(self, width: int) -> int:
        """Rows of a token of `width` channels."""
        return -(-width // self.lanes)


def default_posts(lanes: int) -> int:
    """The divisor of `lanes` from a fifth of them on: a row of results then waits for no inner product of five or more terms."""
    return next(posts for posts in range(-(-lanes // 5), lanes + 1) if lanes % posts == 0)
