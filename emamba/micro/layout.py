"""When each node runs, and where its values are.

Tokens are pushed one by one. Nodes that need no more than the tokens so far run at once, in group 0. A node that needs a whole
sequence begins a later phase, which runs after the last token; the nodes of a phase with the same number of tokens are a group,
that runs token by token. What another group reads, or a node that needs a whole sequence, is kept for every token.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ..artifact import Artifact

ROUND = 4
"""Elements that the size of a place is a multiple of: what a Linear reads at a time, beyond the last one too."""


@dataclass(frozen=True)
class Group:
    """Nodes that run together `tokens` times, one token each."""

    phase: int
    tokens: int
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """An array of `size` elements from `start` on in the pool of one type; in what is kept between calls, or in scratch."""

    kept: bool
    pool: str
    start: int
    size: int


class Layout:
    """Groups of an artifact's nodes, and the places of their values. `types`: the C type of each node's values."""

    def __init__(self, artifact: Artifact, types: dict[str, str]):
        self.artifact, self.graph, self.types = artifact, artifact.graph, types
        self.phases: dict[str, int] = {}
        """Of a node's values."""
        self.runs: dict[str, int] = {}
        """The phase in which a node runs."""
        for node in self.graph:
            before = max((self.phases[name] for name in node.inputs), default=0)
            later = node.operator.whole or node.operator.pools
            self.phases[node.name] = before + later
            self.runs[node.name] = before if node.operator.pools else before + later
        self.pools: dict[tuple[bool, str], int] = {}
        """Elements of each pool: by whether it is kept, and its type."""
        self.places: dict[str, Place] = {}

    @cached_property
    def groups(self) -> list[Group]:
        found: dict[tuple[int, int], list[str]] = {}
        for node in self.graph:
            found.setdefault((self.runs[node.name], self.steps(node.name)), []).append(node.name)
        ordered = sorted(found.items(), key=lambda item: item[0][0])
        return [Group(phase, tokens, tuple(names)) for (phase, tokens), names in ordered]

    def steps(self, name: str) -> int:
        """Calls of a node for a sequence."""
        node = self.graph[name]
        return node.reads if node.operator.pools else node.tokens

    def group_of(self, name: str) -> int:
        return next(k for k, group in enumerate(self.groups) if name in group.nodes)

    @cached_property
    def readers(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {node.name: [] for node in self.graph}
        for node in self.graph:
            for name in dict.fromkeys(node.inputs):
                found[name].append(node.name)
        return found

    def whole(self, name: str) -> bool:
        """Whether all tokens of a node's values are there at a time."""
        node, group = self.graph[name], self.group_of(name)
        if node.operator.pools:
            return False
        outside = any(self.group_of(reader) != group or self.graph[reader].operator.whole for reader in self.readers[name])
        return outside or (name == self.graph.output.name and self.runs[name] > 0)

    def place(self, name: str) -> Place:
        return self.places[name]

    def assign(self, scratch: Iterable[tuple[str, str, int]] = ()) -> None:
        """Gives every node's values a place, and each array of `scratch`: a node, a type, a size."""
        order = {name: k for k, name in enumerate(name for group in self.groups for name in group.nodes)}
        spans = [(order[group.nodes[0]], order[group.nodes[-1]]) for group in self.groups]
        wanted: dict[str, list[tuple[int, int, str, int]]] = {}
        for node in self.graph:
            name, whole = node.name, self.whole(node.name)
            size = (node.tokens if whole else 1) * node.width
            if name == self.graph.output.name or (whole and self.runs[name] == 0):
                self.places[name] = self._keep(self.types[name], _room(size, node.width))
                continue
            begin, end = order[name], max((order[reader] for reader in self.readers[name]), default=order[name])
            if whole:
                begin = spans[self.group_of(name)][0]
                end = max(spans[self.group_of(reader)][1] for reader in self.readers[name])
            elif node.operator.pools:
                end = max((spans[self.group_of(reader)][1] for reader in self.readers[name]), default=end)
            wanted.setdefault(self.types[name], []).append((begin, end, name, _room(size, node.width)))
        for name, kind, size in scratch:
            wanted.setdefault(kind, []).append((order[name], order[name], f"{name} scratch", _room(size, size)))
        for kind, arrays in wanted.items():
            self._share(kind, arrays)

    def _keep(self, kind: str, size: int) -> Place:
        start = self.pools.get((True, kind), 0)
        self.pools[True, kind] = start + size
        return Place(True, kind, start, size)

    def _share(self, kind: str, arrays: list[tuple[int, int, str, int]]) -> None:
        """The lowest place for each array that no other one has while it lives."""
        given: list[tuple[int, int, Place]] = []
        for begin, end, name, size in sorted(arrays, key=lambda array: (-array[3], array[0])):
            start = 0
            for other in sorted((place for first, last, place in given if first <= end and begin <= last),
                                key=lambda place: place.start):
                if start + size <= other.start:
                    break
                start = max(start, other.start + other.size)
            self.places[name] = place = Place(False, kind, start, size)
            given.append((begin, end, place))
            self.pools[False, kind] = max(self.pools.get((False, kind), 0), start + size)


def _room(size: int, width: int) -> int:
    """Of a place for `size` elements, of which a Linear reads `width` at a time: up to ROUND − 1 more after the last."""
    return -(-(size + ROUND - 1) // ROUND) * ROUND if size % ROUND or width % ROUND else size
