"""Which block realizes which operator, and what a block learns of its place in the graph."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Literal

import amaranth.hdl

from emamba.graph.own import import_named
from emamba.ops import Operator

from .datapath import Products

SHORT = 32
"""T up to which a short latency counts for more than few multipliers: the first of the two figures below holds (our choice)."""

NORM_SHARE, LEAN_SHARE = (7, 5), 2
"""A norm reads and emits a token in this part of a period, and so do the residual sums and the pool beside it: nothing can
overlap with it, so its time is pure latency, and it has few multipliers. The second figure holds on a `lean` chip."""

ONCE_PERIODS, ONCE_CYCLES = (1.5, 3), 16
"""Token periods, and cycles at least, that a node may take that reads one token of a sequence."""
ONCE_SHARE = 6
"""Of all multipliers, such a node has at most about one part of so many to be so fast (our choice)."""


@dataclass(frozen=True)
class Realization:
    """How operators become circuits where there is a choice. The integers are the same.

    `products` with weights; `own` are those of single nodes, of which constants are graphs at any T. `tables`: functions of few
    bits, SiLU and softplus, are tables of every code instead of segments; `decay_tables`: so is Ā as a function of δ, for every
    state; by None where a chip's tables of it are small. `narrow` multipliers, of 18 bits, get wider factors in two parts.
    `registers`: one behind each level of long logic, for a fast clock.
    """

    products: Products = Products.MULTIPLIERS
    tables: bool = True
    decay_tables: bool | None = None
    own: frozenset[tuple[str, Products]] = frozenset()
    narrow: bool = False
    registers: bool = False


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A node's place in the graph, and what its block may take.

    `cycles` a token; `tokens` a sequence, of which the node reads `reads`. `order` of a matrix product: "emit" holds a
    whole token and gives output by output, "accumulate" sums all outputs while the input arrives; the two alternate along the
    pipeline, so that neighbours overlap. `nonnegative`: which inputs never are below zero. `work`: of a node that reads one
    token, its share of a sequence's products with weights.
    """

    cycles: int
    tokens: int = 1
    reads: int = 1
    order: Literal["emit", "accumulate"] = "accumulate"
    nonnegative: tuple[bool, ...] = ()
    products: Products = Products.MULTIPLIERS
    realization: Realization = Realization()
    work: float = 0.0

    @property
    def budget(self) -> int:
        """Cycles that the node's work on a token may take."""
        share = max(1, self.tokens * self.cycles // self.reads)
        if self.reads > 1 or self.tokens == 1:
            return share
        return min(share, max(int(ONCE_PERIODS[self.cycles > SHORT] * self.cycles), ONCE_CYCLES,
                              int(ONCE_SHARE * self.work * share)))

    def lanes(self, width: int) -> int:
        return ceil(width / self.budget)

    @property
    def lean(self) -> bool:
        """Whether area counts for more than latency and multipliers: on a chip, above SHORT."""
        return self.products is Products.MERGED and self.cycles > SHORT

    def quick_lanes(self, width: int) -> int:
        """Those of a stage with which nothing overlaps."""
        share = LEAN_SHARE if self.lean else NORM_SHARE[self.cycles > SHORT]
        return ceil(width / max(1, self.budget // share))


BLOCKS: dict[type[Operator], type] = {}


def realizes(*kinds: type[Operator]) -> Callable[[type], type]:
    """Registers a block for operators of these kinds: its class method `fold(op, stage)` makes the block with the fewest
    multipliers that keeps the budget of the stage."""
    def register(block: type) -> type:
        for name in ("Cat", "Const", "Module", "Mux", "Signal"):
            if getattr(sys.modules[block.__module__], name, None) is getattr(amaranth.hdl, name):
                raise TypeError(f"the block {block.__name__} takes {name} from amaranth.hdl: take it from rtl.kit.hdl, to "
                                "be counted")
        BLOCKS.update(dict.fromkeys(kinds, block))
        return block
    return register


def block_of(op: Operator) -> type | None:
    """The class of blocks registered for an operator."""
    if type(op) not in BLOCKS:
        import_named()
    return next((BLOCKS[kind] for kind in type(op).__mro__ if kind in BLOCKS), None)
