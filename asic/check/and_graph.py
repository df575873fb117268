"""A graph of AND gates: built, written for ABC, and simulated under random patterns."""

from collections.abc import Container, Iterator
from dataclasses import dataclass

import numpy as np

WORDS = 64
"""Words of 64 random patterns each by which a graph is simulated."""


class Graph:
    """AND gates, equal ones once. A literal is twice the number of its node, and one more where it is inverted."""

    def __init__(self):
        self.pairs: list[tuple[int, int] | None] = [None]  # of node 0, which is false, and of inputs there is none
        self.known: dict[tuple[int, int], int] = {}

    def input(self) -> "Bit":
        self.pairs.append(None)
        return Bit(self, 2 * (len(self.pairs) - 1))

    def both(self, a: int, b: int) -> int:
        a, b = min(a, b), max(a, b)
        if a == 0 or a ^ b == 1:
            return 0
        if a in (1, b):
            return b
        if (a, b) not in self.known:
            self.pairs.append((a, b))
            self.known[a, b] = 2 * (len(self.pairs) - 1)
        return self.known[a, b]

    def order(self, literals: list[int], done: Container[int]) -> Iterator[int]:
        """The nodes in the cones of the literals, each after its inputs, without those in `done`, which may grow meanwhile."""
        stack = [literal // 2 for literal in reversed(literals)]
        while stack:
            node = stack[-1]
            left = [] if node in done else [literal // 2 for literal in self.pairs[node] or () if literal // 2 not in done]
            if left:
                stack += left
            else:
                stack.pop()
                if node not in done:
                    yield node

    def replace(self, literals: list[int], inputs: dict[int, int]) -> list[int]:
        """The literals with the inputs' replaced."""
        new = {0: 0} | {literal // 2: value for literal, value in inputs.items()}
        for node in self.order(literals, new):
            pair = self.pairs[node]
            new[node] = self.both(*(new[literal // 2] ^ literal & 1 for literal in pair)) if pair else 2 * node
        return [new[literal // 2] ^ literal & 1 for literal in literals]

    def inputs(self, literals: list[int]) -> set[int]:
        """The literals of inputs that some depend on."""
        seen: set[int] = {0}
        return {2 * node for node in self.order(literals, seen) if not seen.add(node) and self.pairs[node] is None}

    def aiger(self, inputs: list[int], outputs: list[int]) -> bytes:
        """The outputs in the binary format AIGER."""
        number, ands = {0: 0} | {literal // 2: k for k, literal in enumerate(inputs, 1)}, bytearray()
        for node in self.order(outputs, number):
            low, high = sorted(2 * number[literal // 2] + (literal & 1) for literal in self.pairs[node])
            number[node] = len(number)
            for delta in (2 * number[node] - high, high - low):
                while delta > 127:
                    ands.append(delta & 127 | 128)
                    delta >>= 7
                ands.append(delta)
        head = f"aig {len(number) - 1} {len(inputs)} 0 {len(outputs)} {len(number) - 1 - len(inputs)}\n"
        return (head + "".join(f"{2 * number[literal // 2] + (literal & 1)}\n" for literal in outputs)).encode() + bytes(ands)


@dataclass(frozen=True)
class Bit:
    """A value in a graph, so that the functions of cells can be evaluated as they are."""

    graph: Graph
    literal: int

    def __invert__(self):
        return Bit(self.graph, self.literal ^ 1)

    def __and__(self, other):
        return Bit(self.graph, self.graph.both(self.literal, other.literal))

    def __or__(self, other):
        return ~(~self & ~other)

    def __xor__(self, other):
        return (self & ~other) | (~self & other)


class Simulation:
    """All values of a graph under random patterns; of an input a half of them, few or most are one."""

    def __init__(self, graph: Graph):
        level = np.zeros(len(graph.pairs), np.int64)
        pairs = np.array([pair or (0, 0) for pair in graph.pairs])
        for node, pair in enumerate(graph.pairs):
            if pair:
                level[node] = 1 + max(level[pair[0] // 2], level[pair[1] // 2])
        order = np.argsort(level, kind="stable")
        steps = np.split(order, np.flatnonzero(np.diff(level[order])) + 1)[1:]
        self.steps = [(nodes, *pairs[nodes].T) for nodes in steps]
        self.values = np.zeros((len(graph.pairs), WORDS), np.int64)
        self.random = np.random.default_rng(1)

    def noise(self, rows: int) -> np.ndarray:
        one, two, three = self.random.integers(-2**63, 2**63 - 1, (3, rows, WORDS))
        few, most = slice(WORDS // 2, 3 * WORDS // 4), slice(3 * WORDS // 4, WORDS)
        one[:, few] &= two[:, few] & three[:, few]
        one[:, most] |= two[:, most] | three[:, most]
        return one

    def set(self, literals: list[int], values: np.ndarray) -> None:
        self.values[np.array(literals, int) // 2] = values

    def run(self) -> None:
        for nodes, a, b in self.steps:
            self.values[nodes] = self.of(a) & self.of(b)

    def of(self, literals) -> np.ndarray:
        literals = np.asarray(literals, int)
        return self.values[literals // 2] ^ -(literals & 1)[:, None]
