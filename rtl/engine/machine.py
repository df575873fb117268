"""What an engine is asked to be."""

from dataclasses import dataclass

from emamba.base.errors import SettingError

MOST_LANES = 512


@dataclass(frozen=True)
class Machine:
    """`lanes` multipliers, `posts` post-processors that requantize a value a cycle each. `factor_bits`: signed bits of a
    multiplier's factors, or None for what the program needs. `rows` of values at most, `tile` tokens at a time at most."""

    lanes: int = 8
    posts: int = 0
    factor_bits: int | None = None
    rows: int = 4096
    tile: int = 16

    def __post_init__(self):
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

    def groups(self, width: int) -> int:
        """Rows of a token of `width` channels."""
        return -(-width // self.lanes)


def default_posts(lanes: int) -> int:
    """The divisor of `lanes` from a fifth of them on: a row of results then waits for no inner product of five or more terms."""
    return next(posts for posts in range(-(-lanes // 5), lanes + 1) if lanes % posts == 0)
