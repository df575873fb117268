"""The tokens under a kernel that moves over a grid."""

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..base.errors import InputError
from .base import Array, SameFormat, check_input, check_same, register


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of a grid of tokens, row by row, with a border of zeros; and of a kernel that moves over it by a stride."""

    rows: int
    columns: int
    kernel_rows: int
    kernel_columns: int
    stride_rows: int = 1
    stride_columns: int = 1
    pad_top: int = 0
    pad_left: int = 0
    pad_bottom: int = 0
    pad_right: int = 0


@dataclass(frozen=True, kw_only=True)
class Grid(Sizes):
    """A grid of tokens and a kernel that moves over it."""

    @classmethod
    def of(cls, source: Any) -> "Grid":
        """That of a node or an operator, which says it in attributes of these names."""
        given = {entry.name: getattr(source, entry.name) for entry in fields(cls)}
        return cls(**{name: value for name, value in given.items() if value is not None})

    def __post_init__(self):
        for name in ("rows", "columns", "kernel_rows", "kernel_columns", "stride_rows", "stride_columns"):
            if getattr(self, name) < 1:
                raise InputError(f"its {name} are {getattr(self, name)}; at least 1 is possible")
        for side, pad, kernel in (("top", self.pad_top, self.kernel_rows), ("left", self.pad_left, self.kernel_columns),
                                  ("bottom", self.pad_bottom, self.kernel_rows), ("right", self.pad_right, self.kernel_columns)):
            if not 0 <= pad < kernel:
                raise InputError(f"its border of {pad} zeros on the {side} is not narrower than its kernel of {kernel}")
        if min(self.places) < 1:
            raise InputError(f"its kernel of {self.kernel_rows}×{self.kernel_columns} is larger than its grid of {self.rows}×"
                             f"{self.columns} with its border: choose a smaller kernel or a wider border")

    @property
    def places(self) -> tuple[int, int]:
        """Rows and columns of the kernel's places."""
        return ((self.rows + self.pad_top + self.pad_bottom - self.kernel_rows) // self.stride_rows + 1,
                (self.columns + self.pad_left + self.pad_right - self.kernel_columns) // self.stride_columns + 1)

    @property
    def taps(self) -> int:
        return self.kernel_rows * self.kernel_columns

    @cached_property
    def tokens(self) -> Array:
        """The token under each tap at each place, [places, taps], row by row; the number of all tokens where there is none."""
        rows, columns = (
            np.arange(places)[:, None] * stride - pad + np.arange(kernel)
            for places, stride, pad, kernel in zip(
                self.places, (self.stride_rows, self.stride_columns), (self.pad_top, self.pad_left),
                (self.kernel_rows, self.kernel_columns), strict=True))
        row, column = rows[:, None, :, None], columns[None, :, None, :]
        inside = (row >= 0) & (row < self.rows) & (column >= 0) & (column < self.columns)
        return np.where(inside, row * self.columns + column, self.rows * self.columns).reshape(-1, self.taps)


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class Window(SameFormat, Sizes):
    """At every place of a kernel on the grid that a sequence's tokens are, the tokens under it as one, tap by tap; zeros where it
    reaches into the border. In the input's format. `channels` are those of the input."""

    attributes: ClassVar = {
        **dict.fromkeys(("rows", "columns"), range(1, (1 << 20) + 1)),
        **dict.fromkeys(("kernel_rows", "kernel_columns", "stride_rows", "stride_columns"), range(1, 1 << 10)),
        **dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), range(1 << 10))}
    needed = "rows", "columns", "kernel_rows", "kernel_columns"
    whole = True
    source = Path(__file__).with_suffix(".c")

    def __post_init__(self):
        super().__post_init__()
        _ = self.grid

    @cached_property
    def grid(self) -> Grid:
        return Grid.of(self)

    @property
    def width(self) -> int:
        return self.channels * self.grid.taps

    @classmethod
    def shapes(cls, node, widths):
        check_same("its width", node.width, widths[0] * Grid.of(node).taps)
        return {}

    @classmethod
    def output_tokens(cls, node, tokens):
        grid = Grid.of(node)
        if grid.rows * grid.columns != tokens:
            raise InputError(f"its grid of {grid.rows}×{grid.columns} has {grid.rows * grid.columns} tokens, but a sequence that "
                             f"it reads has {tokens}")
        return grid.places[0] * grid.places[1]

    @classmethod
    def real(cls, xp, node, parameters, x):
        return _gathered(xp, x, Grid.of(node))

    @classmethod
    def quantize(cls, node, q):
        return cls(channels=node.width // Grid.of(node).taps, **vars(Grid.of(node)), **cls.kept(node, q))

    def check_node(self, node):
        check_same("its grid", self.grid, Grid.of(node))

    def check_inputs(self, producers):
        check_input("window", producers[0], self.channels, self.i)

    def __call__(self, x: Array) -> Array:
        if x.shape[1] != self.rows * self.columns:
            raise InputError(f"a sequence has {x.shape[1]} tokens, but this model reads a grid of {self.rows}×{self.columns}")
        return _gathered(np, x, self.grid)

    def c(self, loop):
        return "window", {"input": self.channels, "taps": self.grid.taps, "table": loop.pointer(self.grid.tokens, "int64")}


def _gathered(xp, x, grid: Grid):
    padded = xp.concatenate([x, xp.zeros_like(x[:, :1])], 1)
    return padded[:, grid.tokens].reshape(len(x), len(grid.tokens), -1)
