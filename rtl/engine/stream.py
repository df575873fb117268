"""What a memory outside holds for an engine: words of the program and rows of weights, in the order in which they are read."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emamba.base.errors import DesignLimit

from .machine import BOUNDARY, ELEMENT
from .micro import Instruction
from .timing import steps

STREAMED = "weights_streamed.bin"
"""The file of an image for the memory outside."""


def places(i: Instruction) -> list[tuple[int, int | None]]:
    """Of every row of weights that a group reads, its place in the stream; of a packed one also the bit in a byte."""
    found, row = [], -1
    for step in steps(i):
        if step.op.weight and step.issues and not step.op.indexed:
            half = step.op.packed and step.k % 2
            row += not half
            found.append((row, ELEMENT // 2 * half if step.op.packed else None))
    return found


def packed(rows: np.ndarray, i: Instruction) -> np.ndarray:
    """Rows of bytes, those of 4 bits two in one."""
    where = places(i)
    if all(low is None for _, low in where):
        return rows
    row, low = np.array([place for place, _ in where]), np.array([-1 if low is None else low for _, low in where])
    given = rows.reshape(i.groups, len(where), -1)
    found = np.zeros((i.groups, row[-1] + 1, given.shape[2]), np.uint8)
    found[:, row[low < 0]] = given[:, low < 0]
    found[:, row[low == 0]] = given[:, low == 0] & 15
    found[:, row[low > 0]] |= given[:, low > 0] << ELEMENT // 2
    return found.reshape(-1, given.shape[2])


@dataclass(frozen=True)
class Region:
    """Rows that are read one after the other, `times`; on every port from byte `first` of the image."""

    rows: int
    times: int
    first: tuple[int, ...]


class Image:
    """The bytes of the memory: for each port its part of every row, for tiles that are not the last of a sequence and for the
    last; after them the rows that a token's id chooses, whole."""

    def __init__(self, encoded):
        self.encoded, self.program, self.machine = encoded, encoded.program, encoded.machine
        self.stream = self.machine.stream
        self.lanes = self.machine.lanes // self.stream.ports
        """Of a port."""
        place, regions = 0, []
        for last, times in ((False, self.program.tiles - 1), (True, 1)):
            if times:
                rows = self._count(last)
                size = -(-rows * self.beats * self.bits // 8 // BOUNDARY) * BOUNDARY
                regions.append(Region(rows, times, tuple(place + port * size for port in range(self.stream.ports))))
                place += self.stream.ports * size
        self.regions, self.table_first = regions, place
        if self.whole > self.stream.rows:
            raise DesignLimit(f"a group of a scan reads {self.whole} rows of weights, which must wait on chip together, but "
                              f"{self.stream.rows} can: take --weights constant")
        tables = [i for i in self.program.instructions if i.chosen]
        if len(tables) > 1:
            raise DesignLimit(f"a stream has one table whose rows an id chooses, but '{tables[1].name}' is a second one: take "
                              "--weights constant")
        self.table = tables[0] if tables else None

    @cached_property
    def bits(self) -> int:
        """Of a port's data."""
        return self.stream.width(self.lanes * ELEMENT)

    @cached_property
    def beats(self) -> int:
        """Of a port for a row."""
        return self.stream.beats(self.lanes * ELEMENT)

    @cached_property
    def table_bits(self) -> int:
        """Of the data of the port that brings chosen rows."""
        return self.stream.width(self.machine.lanes * ELEMENT)

    @cached_property
    def table_beats(self) -> int:
        """Beats of a row that a token's id chooses."""
        return self.stream.beats(self.machine.lanes * ELEMENT)

    @cached_property
    def chosen(self) -> int:
        """Rows that an id chooses."""
        return self.table.chosen if self.table else 0

    @cached_property
    def ids(self) -> int:
        place = self.table.operands[0].buffer
        return 1 + next(i.high for i in self.program.instructions if i.dest and i.dest.buffer is place)

    @property
    def size(self) -> int:
        """Bytes."""
        chosen = self.ids * self.chosen * self.table_beats * self.table_bits // 8 if self.table else 0
        return self.table_first + chosen

    @cached_property
    def word_rows(self) -> int:
        """Rows of a word of the program."""
        return -(-self.encoded.instruction.size // (self.machine.lanes * ELEMENT))

    @cached_property
    def whole(self) -> int:
        """Rows that must be there before a group of a scan begins: its decays do not wait."""
        return max((len(places(i)) for i in self.program.instructions if i.scan is not None), default=1)

    @property
    def beats_per_frame(self) -> int:
        """Of a port."""
        return sum(region.rows * region.times for region in self.regions) * self.beats

    def report(self) -> dict:
        return {"bytes": self.size, "ports": self.stream.ports, "port_bits": self.bits, "burst": self.stream.burst,
                "rows_on_chip": self.stream.rows, "beats_per_frame": self.beats_per_frame,
                "bytes_per_frame": self.beats_per_frame * self.bits // 8 * self.stream.ports,
                "regions": [{"rows": region.rows, "times": region.times, "first": region.first} for region in self.regions]}

    def _weights(self, i: Instruction) -> np.ndarray:
        rows = i.weights(self.program.artifact.operators)
        if rows.size and (rows.min() < -(1 << ELEMENT - 1) or rows.max() >= 1 << ELEMENT - 1):
            raise DesignLimit(f"the weights of '{i.name}' hold {rows.min()}..{rows.max()}, but a streamed one has {ELEMENT} "
                              "bits: lower weight_bits and a_bits, or take --weights constant")
        return rows

    def _count(self, last: bool) -> int:
        """Rows of a tile."""
        return sum(self.word_rows + i.count(last) * i.groups * (1 + max((row for row, _ in places(i)), default=-1))
                   for i in self.program.instructions if i.runs(last))

    def rows(self, last: bool) -> Iterator[np.ndarray]:
        """Bytes [rows, lanes] of a tile, by parts."""
        lanes = self.machine.lanes
        for i, word in self.encoded.tile(last):
            whole = word.to_bytes(self.word_rows * lanes, "little")
            yield np.frombuffer(whole, np.uint8).reshape(-1, lanes)
            if i.weights is not None and not i.chosen:
                rows = packed(self._weights(i).astype(np.int8).view(np.uint8), i)
                for _ in range(i.count(last)):
                    yield rows

    @cached_property
    def content(self) -> np.ndarray:
        """All bytes."""
        found, width = np.zeros(self.size, np.uint8), self.beats * self.bits // 8
        for region in self.regions:
            done = 0
            for rows in self.rows(region is self.regions[-1]):
                for port, first in enumerate(region.first):
                    part = found[first + done * width:first + (done + len(rows)) * width].reshape(-1, width)
                    part[:, :self.lanes] = rows[:, port * self.lanes:][:, :self.lanes]
                done += len(rows)
            assert done == region.rows, f"{done} rows, not {region.rows}"
        if self.table:
            part = found[self.table_first:].reshape(-1, self.table_beats * self.table_bits // 8)
            part[:, :self.machine.lanes] = self._weights(self.table).astype(np.int8).view(np.uint8)
        return found

    def identity(self) -> dict:
        """By which a driver knows the bytes."""
        return {"bytes": self.size, "sha256": hashlib.sha256(self.content).hexdigest()}
