"""Products of a vector and a constant integer matrix as one graph of shared adders: no multiplier, no weight memory."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from heapq import heapify, heappop, heappush
from itertools import combinations
from typing import NamedTuple

import numpy as np

from emamba.base.errors import InputError, Mismatch
from emamba.base.formats import IntFormat

from . import inventory as inv
from .datapath import Pipeline, signed_digits
from .hdl import Const, Shape, Signal, Value, counted


class Term(NamedTuple):
    """±(value of `node`)·2^shift, shift ≥ 0."""

    node: int
    shift: int = 0
    negate: bool = False


class Adder(NamedTuple):
    """left ± right·2^shift."""

    left: int
    right: int
    shift: int
    subtract: bool


@dataclass(frozen=True)
class Graph:
    """y = W·x. Nodes 0 to inputs − 1 are x; node inputs + k is adder k, of earlier nodes. An output None is 0."""

    inputs: int
    nodes: tuple[Adder, ...]
    outputs: tuple[Term | None, ...]

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        """y, exact: int64 [..., inputs] → [..., outputs]."""
        values = self._values(x)
        zero = np.zeros_like(values[0])
        return np.stack([zero if term is None else _at(values, term) for term in self.outputs], axis=-1)

    def _values(self, x: np.ndarray) -> list[np.ndarray]:
        """The values of all nodes."""
        values = list(np.moveaxis(np.asarray(x, np.int64), -1, 0))
        for a in self.nodes:
            right = values[a.right] << a.shift
            values.append(values[a.left] - right if a.subtract else values[a.left] + right)
        return values

    @property
    def adders(self) -> int:
        return len(self.nodes)

    @cached_property
    def levels(self) -> list[int]:
        """Per node, the adders on the longest way to it."""
        levels = [0] * self.inputs
        for a in self.nodes:
            levels.append(1 + max(levels[a.left], levels[a.right]))
        return levels

    @property
    def depth(self) -> int:
        """Adders on the longest way to an output."""
        return max((self.levels[term.node] for term in self.outputs if term), default=0)

    def shapes(self, i: IntFormat) -> list[Shape]:
        """Per node, the narrowest shape that holds all its values. Its weights give the least and the greatest of them."""
        weights = np.array(self._values(np.eye(self.inputs, dtype=np.int64)))
        positive, negative = weights.clip(min=0).sum(axis=1), weights.clip(max=0).sum(axis=1)
        low, high = positive * i.min + negative * i.max, positive * i.max + negative * i.min
        return [Shape.cast(range(int(a), int(b) + 1)) for a, b in zip(low, high, strict=True)]

    def adder_bits(self, i: IntFormat) -> int:
        """Σ widths of the adders, without the low bits that only the left side has: these are wires."""
        return sum(shape.width - a.shift for a, shape in zip(self.nodes, self.shapes(i)[self.inputs:], strict=True))

    def merged_bits(self, i: IntFormat, levels: int = 2) -> int:
        """Of these the ones of adders that only another one in the same step reads, and whose width tells Yosys that none can
        overflow: it adds the three terms carry-save."""
        steps, widths = self.steps(i, levels), [shape.width for shape in self.shapes(i)]
        read = Counter(node for a in self.nodes for node in (a.left, a.right))
        read.update(term.node for term in self.outputs if term)
        found = 0
        for k, a in enumerate(self.nodes, self.inputs):
            for node in {a.left, a.right}:
                if node >= self.inputs and read[node] == 1 and steps[node] == steps[k]:
                    inner = self.nodes[node - self.inputs]
                    most = (1 << widths[inner.left]) + (1 << widths[inner.right] + inner.shift) - 2
                    found += (widths[node] - inner.shift) * (most.bit_length() <= widths[node])
        return found

    def register_bits(self, i: IntFormat, levels: int = 2) -> int:
        """Σ widths of the pipeline registers in `hardware`."""
        return self._register_bits(i, levels, self.steps(i, levels))

    def _register_bits(self, i: IntFormat, levels: int, steps: list[int]) -> int:
        ends = list(steps)
        for a, step in zip(self.nodes, steps[self.inputs:], strict=True):
            for node in (a.left, a.right):
                ends[node] = max(ends[node], step)
        for term in filter(None, self.outputs):
            ends[term.node] = stages(self, levels)
        return sum(shape.width * (end - step) for shape, step, end in zip(self.shapes(i), steps, ends, strict=True))

    def steps(self, i: IntFormat, levels: int) -> list[int]:
        """Per node, the pipeline step in which it is added: as early as possible or as late as possible, whichever needs fewer
        registers. Early, a sum replaces its two terms; late, the few inputs are kept instead of many sums."""
        late = [stages(self, levels) * levels] * len(self.levels)
        for node, a in reversed(list(enumerate(self.nodes, self.inputs))):
            for term in (a.left, a.right):
                late[term] = min(late[term], late[node] - 1)
        late[:self.inputs] = [0] * self.inputs
        choices = [[max(0, (level - 1) // levels) for level in chosen] for chosen in (self.levels, late)]
        return min(choices, key=lambda steps: self._register_bits(i, levels, steps))


def _at(values: list, term: Term):
    value = values[term.node]
    return -(value << term.shift) if term.negate else value << term.shift


def stages(graph: Graph, levels: int = 2) -> int:
    """Steps from the inputs to the outputs of `hardware`."""
    return -(-graph.depth // levels)


def hardware(pipeline: Pipeline, graph: Graph, inputs: list[Value], i: IntFormat, levels: int = 2) -> list[Value]:
    """W·x, `stages` steps after x: a register after every `levels` adders. A value that is needed later passes through one chain
    of registers for all its readers. A negated output is an expression, for the adder behind it to absorb."""
    if counted():
        merged = graph.merged_bits(i, levels)
        made = inv.Inventory(adders=graph.adder_bits(i) - merged, carry_saves=merged,
                             registers=graph.register_bits(i, levels))
        pipeline.m.note(made, *inputs)
        return [Signal(graph.shapes(i)[-1])] * len(graph.outputs)
    steps = graph.steps(i, levels)
    chains = [[Value.cast(x)] for x in inputs]

    def read(node: int, shift: int, step: int) -> Value:
        chain = chains[node]
        while len(chain) <= step - steps[node]:
            chain.append(pipeline.register(chain[-1], "held"))
        return chain[step - steps[node]].shift_left(shift)

    for node, (a, shape) in enumerate(zip(graph.nodes, graph.shapes(i)[graph.inputs:], strict=True), graph.inputs):
        left, right = read(a.left, 0, steps[node]), read(a.right, a.shift, steps[node])
        total = Signal(shape, name="sum")
        pipeline.m.d.comb += total.eq(left - right if a.subtract else left + right)
        chains.append([total])

    def output(term: Term | None) -> Value:
        if term is None:
            return Const(0)
        value = read(term.node, term.shift, stages(graph, levels))
        return -value if term.negate else value

    return [output(term) for term in graph.outputs]


def solve(matrix: np.ndarray, i: IntFormat) -> Graph:
    """The adder graph of an integer matrix [outputs, inputs] for inputs of format `i`; the same at every call."""
    matrix = np.ascontiguousarray(matrix, np.int64)
    if matrix.ndim != 2 or not matrix.size:
        raise InputError(f"an adder graph needs a matrix with at least one weight, not one of shape {matrix.shape}")
    return _solve(matrix.tobytes(), matrix.shape, i)


@lru_cache(maxsize=256)
def _solve(content: bytes, shape: tuple[int, int], i: IntFormat) -> Graph:
    matrix = np.frombuffer(content, np.int64).reshape(shape)
    graph = _csd(matrix, i)
    if not np.array_equal(graph.evaluate(np.eye(shape[1], dtype=np.int64)).T, matrix):
        raise Mismatch(f"an adder graph gives another product than that of its matrix of {shape[0]} x {shape[1]} weights")
    return graph


class Builder:
    """Collects adders; equal ones are one node. `reach` is a bound of Σ|weights| of each node."""

    def __init__(self, inputs: int):
        self.inputs = inputs
        self.nodes: dict[Adder, int] = {}
        self.levels, self.reach = [0] * inputs, [1] * inputs

    def add(self, a: Term | None, b: Term | None) -> Term | None:
        """a + b. The less shifted term is on the left; its sign and power of two go to the result."""
        if a is None or b is None:
            return a or b
        a, b = sorted((a, b), key=lambda term: (term.shift, term.negate, term.node))
        adder = Adder(a.node, b.node, b.shift - a.shift, a.negate != b.negate)
        if adder not in self.nodes:
            self.nodes[adder] = len(self.levels)
            self.levels.append(1 + max(self.levels[a.node], self.levels[b.node]))
            self.reach.append(self.reach[a.node] + (self.reach[b.node] << adder.shift))
        return Term(self.nodes[adder], a.shift, a.negate)

    def tree(self, terms: list[Term]) -> Term | None:
        """Σ terms, in as few levels as there can be."""
        def rank(term):
            return self.levels[term.node], term.shift, term

        heap = [rank(term) for term in terms]
        heapify(heap)
        while len(heap) > 1:
            heappush(heap, rank(self.add(heappop(heap)[-1], heappop(heap)[-1])))
        return heap[0][-1] if heap else None

    def graph(self, outputs: list[Term | None]) -> Graph:
        return Graph(self.inputs, tuple(self.nodes), tuple(outputs))


def _csd(matrix: np.ndarray, i: IntFormat) -> Graph:
    """Canonical signed digits, common pairs of them shared (Hartley, 1996), and a balanced adder tree a row.

    Greedy: the pair that saves the most adder bits becomes a node, until no pair occurs twice; the measure of the saving is our
    choice.
    """
    builder = Builder(matrix.shape[1])
    rows = [{(shift, column): sign for column, weight in enumerate(row) for shift, sign in signed_digits(int(weight))}
            for row in matrix]
    counts = Counter(_pattern(*pair) for row in rows for pair in combinations(row.items(), 2))

    def rank(pattern):
        left, _, gap, _ = pattern
        overlap = i.bits + builder.reach[left].bit_length() - gap  # bits of the adder: those where the two terms meet
        return -(counts[pattern] - 1) * overlap, pattern

    def count(row, digit, change):
        for other in row.items():
            pattern = _pattern(digit, other)
            counts[pattern] += change
            if change > 0 and counts[pattern] > 1:
                heappush(heap, rank(pattern))

    heap = [rank(pattern) for pattern, occurrences in counts.items() if occurrences > 1]
    heapify(heap)
    while heap:
        entry = heappop(heap)
        pattern = left, right, gap, relation = entry[1]
        if counts[pattern] < 2:
            continue
        if entry != rank(pattern):  # some occurrences went to other pairs
            heappush(heap, rank(pattern))
            continue
        new = builder.add(Term(left), Term(right, gap, relation < 0)).node
        for row in rows:
            for shift in [shift for shift, node in row if node == left]:
                first, second = (shift, left), (shift + gap, right)
                sign = row.get(first)
                if sign and row.get(second) == sign * relation:
                    for digit in (first, second):
                        count(row, (digit, row.pop(digit)), -1)
                    count(row, ((shift, new), sign), 1)
                    row[shift, new] = sign
    return builder.graph([builder.tree([Term(node, shift, sign < 0) for (shift, node), sign in row.items()]) for row in rows])


def _pattern(a, b) -> tuple[int, int, int, int]:
    """What two digits ((shift, node), sign) have without their common shift and sign: two nodes, shift and sign between them."""
    ((low, left), sign), ((high, right), other) = (a, b) if a < b else (b, a)
    return left, right, high - low, sign * other
