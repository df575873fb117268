"""What an operator's `c` calls to become C: constants in the narrowest types, places in memory, formats."""

from dataclasses import dataclass
from math import prod
from typing import TypeGuard

import numpy as np

from ..artifact import Artifact
from ..base.errors import DesignLimit
from ..ops import Operator, Scan, Weighted
from ..ops.certificate import certify
from ..run.compiled import IntegerLoop
from .text import SHORT

LARGEST_TABLE = 1 << 20
"""Entries that a table may have."""
DECAY_ENTRIES = 1 << 10
"""Of a table of Ā by channel and δ, at most; beyond, δ·A is multiplied and looked up."""
PACKED_FROM, PACKED_BITS = 8192, 17
"""Bytes of states of so many bits from which on three bytes hold each, by four instructions more."""
BLOCKED_FROM = 8192
"""Entries of a table of Ā by δ·A from which on it has one for a block of arguments, by five instructions more."""
LANES, DEPTH = 4, 4
"""Outputs and inputs of a Linear that are next to each other in its weights: four products of bytes are two SMLAD."""
FAST = "\n#if MODEL_DSP\n    return {name}(acc, weight, x);\n#endif\n"
"""In a product of four pairs, where there are instructions for it."""
LIMITS = {f"int{bits}_t": (-(1 << bits - 1), (1 << bits - 1) - 1) for bits in (32, 64)}
"""Of a saturation that never acts."""
WIDTH = {name: int(short[1:]) // 8 for name, short in SHORT.items()}
"""Bytes of a type."""


@dataclass(frozen=True)
class Constant:
    """An array in flash."""

    name: str
    type: str


@dataclass(frozen=True)
class Limits:
    """Least and largest of `size` numbers in what is kept; `counted`: of each token of the sequence so far."""

    size: int
    low: int
    high: int
    counted: bool = False


@dataclass(frozen=True)
class Kept:
    """An array of what a node keeps between tokens, or of scratch."""

    type: str
    size: int
    limits: tuple[Limits, ...] = ()


class Nodes:
    """The fields of every node, by name; and the constants that they point to."""

    lanes, depth, decay_entries = LANES, DEPTH, DECAY_ENTRIES

    def __init__(self, artifact: Artifact):
        self.artifact = artifact
        self.constants: dict[str, tuple[str, np.ndarray]] = {}
        """By name, a C type and the numbers."""
        self._names: dict[tuple, str] = {}
        self.types = {node.name: narrowest(op.o.min, op.o.max) for node in artifact.graph
                      for op in (artifact.operators[node.name],)}
        """The C type of each node's values."""
        self.functions: dict[str, str] = {}
        self.fields: dict[str, dict] = {}
        self.words: dict[str, dict[str, str]] = {}
        """What the words of an operator's C mean in a node."""
        self._packs = 4 * sum(op.A.size for op in artifact.operators.values() if _packable(op)) >= PACKED_FROM
        for node in artifact.graph:
            if node.inputs:
                self._add(node)

    def _add(self, node) -> None:
        op = self.artifact.operators[node.name]
        if op.source is None:
            raise DesignLimit(f"node '{node.name}': there is no C of the operator {type(op).__name__}, so no C of this artifact: "
                              "give the operator a `source` and a `c`, or use another one")
        self._node, self._op = node, op
        self._words = words = {
            **{f"in{k}": self.types[name] for k, name in enumerate(node.inputs)}, "value": self.types[node.name],
            "sum": _signed(op.sum_bound), "wide": "int64_t", "LANES": str(LANES), "DEPTH": str(DEPTH), "TOKENS": "1",
            "LANE_LOOP": "UNROLLED", "SCALED": "1", "FAST_DOT": ""}
        if isinstance(op, Scan):
            packed = self._packs and _packable(op)
            words |= {"state": _signed(op.state_bound), "STATES": str(op.d_state), "PACKED": str(int(packed)),
                      "TOGETHER": "1", "BLOCKED": "0",
                      "kept_t": "int16_t" if packed else narrowest(op.h.min, op.h.max)}
        function, fields = op.c(self)
        if start := fields.pop("start", None):
            first = self.constants[start.name][1]
            fields |= {"start": self._constant(first, words["kept_t"])} if first.any() else {}
        if type(op) is Scan and "rates" in fields:
            table = self.constants[fields["table"].name][1][:-1]  # without what it holds for its type alone
            if len(table) >= BLOCKED_FROM and (bits := _block_bits(table)):
                fields |= {"table": self._constant(_blocked(table, bits), "uint16_t"), "bits": bits}
                words["BLOCKED"] = "1"
        for field, words_of in (("weight", ("weight_t",)), ("bias", ("bias_t",)), ("multiplier", ("multiplier_t",)),
                                ("table", ("entry", "decay_t", "place_t")), ("rates", ("rate_t",)), ("direct", ("direct_t",))):
            words |= dict.fromkeys(words_of, fields[field].type if field in fields else "int8_t")
        if isinstance(op, Weighted) and not op.dyadic:
            words |= {"SCALED": "0", "multiplier_t": "int8_t"}
            del fields["multiplier"]
            fields["bias"], fields["o"].half = self._constant(self.constants[fields["bias"].name][1] + fields["o"].half, ""), 0
            words["bias_t"] = fields["bias"].type
        if isinstance(op, Scan) and certify(op).holds:
            for name in ("h", "h_wide"):  # what the certificate excludes is not computed
                fields[name].low, fields[name].high = LIMITS[words["state"]]
        if words["weight_t"] == "int8_t" and words["in0"] in ("int8_t", "int16_t") and words["sum"] == "int32_t":
            words["FAST_DOT"] = FAST.format(name=f"dot_{SHORT[words['in0']]}")
        self.functions[node.name], self.fields[node.name], self.words[node.name] = function, fields, words

    # -- what an operator's `c` calls -----------------------------------------------------------------------------------------

    def pointer(self, x: np.ndarray, kind: str) -> Constant:
        """`x` in flash: as the node's values for the kind VALUE, else in the narrowest type."""
        return self._constant(x, self.types[self._node.name] if kind == "VALUE" else "")

    def _constant(self, x: np.ndarray, kind: str) -> Constant:
        x = np.ascontiguousarray(x, np.int64)
        kind = kind or narrowest(int(x.min(initial=0)), int(x.max(initial=0)))
        key = kind, x.tobytes()
        if key not in self._names:
            base = "of_" + self._node.name.replace(".", "_")
            self._names[key] = name = f"{base}_{sum(other.rpartition('_')[0] == base for other in self.constants)}"
            self.constants[name] = kind, x.reshape(-1)
        return Constant(self._names[key], kind)

    def keep(self, shape: tuple[int, ...], kind: str, limits: tuple[int, int], *, last: tuple[int, int] | None = None,
             counted: bool = False) -> dict:
        """Fields of what an operator keeps from token to token; VALUE is of its input. Least and largest number of an array, and
        of its last one where that differs; `counted`: of each token of the sequence so far."""
        words, size = {"VALUE": "in0", "SUM": "sum", "STATE": "kept_t"}, prod(shape)
        if kind == "STATE" and self._words["PACKED"] == "1":
            return {"kept": Kept("int16_t", shape[0] * (shape[1] + (shape[1] + 1) // 2))}
        parts = (Limits(size - 1, *limits, counted), Limits(1, *last, counted)) if last else (Limits(size, *limits, counted),)
        return {"kept": Kept(self._words[words[kind]], size, parts)}

    def reserve(self, shape: tuple[int, ...], kind: str) -> Kept:
        """Scratch of a node's sums."""
        return Kept(self._words[kind.lower()], prod(shape))

    @staticmethod
    def check_table(name: str, entries: int) -> None:
        """Refuses a table that is too large."""
        if entries > LARGEST_TABLE:
            raise DesignLimit(f"a table of {name} has {entries} entries; a microcontroller's C has at most {LARGEST_TABLE}: use "
                              "fewer bits for its input")

    format = staticmethod(IntegerLoop.format)


def _block_bits(table: np.ndarray) -> int:
    """Of the largest block of entries in which a table of bytes rises by 1 at most; 0 where there is none."""
    if table.min() < 0 or table.max() > 255 or (np.diff(table) < 0).any():
        return 0
    rises = ([bits, np.ptp(_blocks(table, bits), 1).max()] for bits in range(7, 0, -1))
    return next((bits for bits, rise in rises if rise <= 1), 0)


def _blocks(table: np.ndarray, bits: int) -> np.ndarray:
    return np.pad(table, (0, -len(table) % (1 << bits)), mode="edge").reshape(-1, 1 << bits)


def _blocked(table: np.ndarray, bits: int) -> np.ndarray:
    """Entries as scan.c reads them."""
    blocks = _blocks(table, bits)
    return blocks[:, 0] + ((blocks == blocks[:, :1]).sum(1) << 8)


def _packable(op: Operator) -> TypeGuard[Scan]:
    """Whether three bytes hold a state of the scan, also a forged one: no product of it leaves 32 bits."""
    return type(op) is Scan and op.h.bits == PACKED_BITS and op.a_bar.bits <= 8 and op.h0 is None


def narrowest(low: int, high: int) -> str:
    """The C type of numbers in low..high; unsigned ones have at most 16 bits, so that they become signed in every sum."""
    for bits in (8, 16, 32, 64):
        if -(1 << bits - 1) <= low and high < 1 << bits - 1:
            return f"int{bits}_t"
        if bits <= 16 and low >= 0 and high < 1 << bits:
            return f"uint{bits}_t"
    raise DesignLimit(f"a number reaches {max(-low, high).bit_length()} bits; at most 63 are possible: use narrower formats")


def _signed(bound: int) -> str:
    return narrowest(min(-bound, -(1 << 15) - 1), bound)
