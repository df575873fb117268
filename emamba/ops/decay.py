"""Ā of a scan, from the codes of δ."""

from functools import cached_property

import numpy as np

from .. import piecewise
from ..base import arithmetic as arith
from ..base.formats import IntFormat, Rounding
from ..piecewise import Segments, codes
from .activation import TABLE_SIZE
from .base import Array

HIGHEST = (1 << 31) - 1
"""A limit that no argument of a table reaches."""
SLOWEST = 40
"""Fraction bits of δ·A, at most: finer ones change no exp that is rounded to decay_bits."""


def argument_format(product: IntFormat, largest: int, decay_bits: int) -> IntFormat:
    """What exp reads of δ·A, which is at most `largest`: all of it, or as many bits as a unit may read, down to where an Ā of
    `decay_bits` rounds to 0."""
    if product.bits <= piecewise.MAX_BITS:
        return product
    extent = min(largest * product.step, decay_bits * np.log(2.0))
    return IntFormat(piecewise.MAX_BITS, True, min(product.frac, piecewise.MAX_BITS - 1 - int(np.ceil(np.log2(extent)))))


class Decays:
    """What a `Scan` is from δ to Ā."""

    A: Array
    dt: IntFormat
    a: IntFormat
    decay: Segments
    hold: bool
    rounding: Rounding

    @property
    def heads(self) -> int:
        raise NotImplementedError

    @property
    def word(self) -> np.dtype:
        raise NotImplementedError

    @property
    def p(self) -> IntFormat:
        """δ·A, exact."""
        return IntFormat(self.dt.bits + self.a.bits, True, self.dt.frac + self.a.frac)

    @property
    def argument_shift(self) -> int:
        """From δ·A's scale to the one that exp reads."""
        return self.p.frac - self.decay.i.frac

    @property
    def a_bar(self) -> IntFormat:
        return self.decay.o

    def read(self, product: Array) -> Array:
        """What exp reads of δ·A."""
        return product if self.decay.i == self.p else arith.requantize(product, self.argument_shift, self.decay.i, self.rounding)

    def exp_of(self, product: Array) -> Array:
        """exp of δ·A."""
        x = self.read(product)
        return self.decay(x) if self._exp_table is None else self._exp_table[x - self.decay.i.min]

    @cached_property
    def _exp_table(self) -> Array | None:
        """Ā of every code that exp reads, where `decay_table` is too large."""
        return self.decay(codes(self.decay.i)) if not self.tabulated and self.decay.i.bits <= piecewise.MAX_BITS else None

    def decays(self, dt: Array) -> Array:
        """Ā [..., *A's shape] for δ [..., A's rows]."""
        a_bar = self.exp_of(dt[..., None] * self.A)
        return np.where(dt[..., None] == 0, 1 << self.a_bar.frac, a_bar) if self.hold else a_bar

    @property
    def tabulated(self) -> bool:
        """Whether `decay_table` is small enough to be made."""
        return self.A.size << self.dt.bits <= TABLE_SIZE

    @cached_property
    def decay_table(self) -> Array | None:
        """Ā of every channel and code of δ, [A's columns, A's rows · codes]; None where there are too many."""
        if not self.tabulated:
            return None
        return self.decays(codes(self.dt)[:, None]).T.astype(self.word).reshape(self.A.shape[1], -1)

    def _look_up_decays(self, dt: Array) -> Array:
        """Ā [A's columns, A's rows, batch] for δ [A's rows, batch]."""
        if self.decay_table is None:
            return self.decays(dt.T).T
        index = dt - self.dt.min + (np.arange(self.heads) << self.dt.bits)[:, None]
        return self.decay_table.take(index, 1, mode="wrap")  # the fastest mode; nothing wraps

    def density(self, dt: Array) -> Array:
        """How often exp reads each code, for δ [..., heads]."""
        return piecewise.products(dt, self.A, self.dt, self.decay.i, hold=self.hold, shift=self.argument_shift,
                                  rounding=self.rounding)

    def c_decays(self, loop) -> dict:
        """What the C of a scan knows of Ā."""
        if self.tabulated and self.A.size << self.dt.bits <= loop.decay_entries:
            every = self.decays(codes(self.dt)[:, None].repeat(self.heads, 1))
            return {"least": self.dt.min, "table": loop.pointer(every, "STATE")}
        i = self.decay.i
        loop.check_table("Ā", 1 << i.bits)
        ends = self.read(np.array([self.dt.min, self.dt.max])[:, None] * np.array([self.A.min(), self.A.max()]))
        first, last = int(ends.min()), int(ends.max())
        every = self.decay(np.arange(first, last + 1))
        changes = np.flatnonzero(np.diff(every))
        least = int(changes[0]) if len(changes) else len(every) - 1  # below it, all are alike
        held = int(self.decays(np.zeros(self.heads, int)).max())
        table = np.append(every[least:], held)  # with it, so that the table's type holds it
        limits = first + least, last if self.dt.min < 0 else HIGHEST
        return {"least": first + least, "table": loop.pointer(table, "STATE"), "rates": loop.pointer(self.A, "STATE"),
                "argument": loop.format(self, self.argument_shift, i, limits=limits),
                "held": held}
