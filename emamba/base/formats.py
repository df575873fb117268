"""Integer formats and rounding: the one vocabulary of the quantizer, the integer model and the hardware."""

import re
from dataclasses import dataclass
from enum import StrEnum

from .errors import DesignLimit, SettingError


class Rounding(StrEnum):
    """What happens to the bits a right shift drops."""

    HALF_UP = "half_up"  # add half, then floor; the default
    HALF_EVEN = "half_even"
    TRUNCATE = "truncate"  # floor; the authors' hardware


@dataclass(frozen=True)
class IntFormat:
    """A fixed-point integer: value = integer · 2^−frac. `frac` may be negative or larger than `bits`."""

    bits: int
    signed: bool = True
    frac: int = 0

    def __post_init__(self):
        for name, kind in (("bits", int), ("signed", bool), ("frac", int)):
            if type(getattr(self, name)) is not kind:
                raise DesignLimit(f"{name} of an integer format must be a {kind.__name__}, not {getattr(self, name)!r}")
        if not 1 <= self.bits <= 62:
            raise DesignLimit(f"an integer format must have 1 to 62 bits, not {self.bits}")
        if not -64 <= self.frac <= 64:
            raise DesignLimit(f"frac = {self.frac} of an integer format is out of range; it must lie in −64..64")

    @classmethod
    def parse(cls, text: str) -> "IntFormat":
        """The format that is printed as `text`, such as INT8·2^-5 or UINT7*2^-8."""
        found = re.fullmatch(r"(U?)INT(\d{1,2})[·*]2\^(-?\d{1,2})", text.strip())
        if not found:
            raise SettingError(f"'{text[:40]}' is no integer format: write it as INT8*2^-5, or UINT7*2^-8 without a sign")
        return cls(int(found[2]), not found[1], -int(found[3]))

    @property
    def min(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        return (1 << (self.bits - 1 if self.signed else self.bits)) - 1

    @property
    def magnitude(self) -> int:
        """Largest absolute value."""
        return max(-self.min, self.max)

    @property
    def step(self) -> float:
        """Value of one least significant bit."""
        return 2.0**-self.frac

    def __str__(self):
        return f"{'' if self.signed else 'U'}INT{self.bits}·2^{-self.frac}"


def bits_for(magnitude: int) -> int:
    """Bits of a signed integer that holds −magnitude..magnitude."""
    return magnitude.bit_length() + 1
