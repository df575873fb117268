"""Ā of a scan in the engine: a table of δ·A down to where Ā no longer changes, or exp's segments."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emamba.ops import Scan
from emamba.ops.certificate import certify

from .machine import Machine

TABLE_BITS = 11
"""Bits of δ·A up to which a lane has a table."""
TABLE_LATENCY, SEGMENTS_LATENCY, SHARED_LATENCY = 4, 7, (4, 6)
"""Cycles from a product δ·A to the first micro-operation that may use its decay; of a shared memory, that of even and of odd
lanes."""


@dataclass(frozen=True)
class Decay:
    """Of an operator, compared by what a lane computes with: formats, segments, scales."""

    op: Scan
    key: tuple

    def __eq__(self, other):
        return isinstance(other, Decay) and self.key == other.key

    def __hash__(self):
        return hash(self.key)

    @classmethod
    def of(cls, op: Scan) -> "Decay":
        unit = op.decay
        reach = op.dt.max * int(op.A.min())
        key = (reach, str(unit.i), str(unit.o), unit.shift, unit.knots.tobytes(), unit.slopes.tobytes(), unit.offsets.tobytes(),
               op.p, op.hold, op.rounding, op.term_shift, op.h, op.h_wide, certify(op).holds)
        return cls(op, key)

    @cached_property
    def certified(self) -> bool:
        return certify(self.op).holds

    @cached_property
    def _values(self) -> np.ndarray:
        """Ā of every δ·A that can be: 0, −1, −2, …"""
        op = self.op
        most = int(op.read(np.array(op.dt.max * int(op.A.min()))))
        found = op.decay(np.arange(0, most - 1, -1))
        if op.hold:
            found[0] = 1 << op.a_bar.frac
        return found

    @cached_property
    def bits(self) -> int:
        """Address bits of the table: below, Ā is `tail`."""
        values = self._values
        moved = np.flatnonzero(values != values[-1])
        return max(1, int(moved[-1]).bit_length()) if len(moved) else 1

    @property
    def tabled(self) -> bool:
        return self.bits <= TABLE_BITS

    @property
    def tail(self) -> int:
        return int(self._values[-1])

    @property
    def table(self) -> np.ndarray:
        """By the lower bits of δ·A in two's complement."""
        values, size = self._values, 1 << self.bits
        padded = np.concatenate([values, np.full(max(0, size + 1 - len(values)), self.tail)])
        return np.concatenate([padded[:1], padded[1:size][::-1]])

    def latency(self, machine: Machine) -> tuple[int, int]:
        """Cycles until the first lane's old decay is gone, and until all lanes have the new one."""
        if machine.small:
            return SHARED_LATENCY
        return (TABLE_LATENCY if self.tabled else SEGMENTS_LATENCY,) * 2
