"""The graph of a model: every fact about every node is a field. All executors interpret it; artifacts store it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..base.errors import DesignLimit, InputError, located, printable
from ..ops import OPERATORS, Input, Operator
from ..ops.base import one_of
from .own import import_named

NAME = re.compile(r"[A-Za-z]\w{0,39}(\.[A-Za-z0-9]\w{0,39}){0,7}", re.ASCII)
"""Names of nodes and tensors: words with points between them."""
ROLES = ("inner", "stem", "residual", "branch", "delta", "head")
"""What a node's values are for, which decides their bits: values inside a block; input and embedding; the residual stream and
what is multiplied into it; the branch that is added to it; the step size δ, never negative; the result."""
ORDERS = ("accumulate", "emit")
"""Order of a folded Linear's beats: it sums all outputs while a token comes, or holds the token and emits output by output."""
MOST_NODES, MOST_TOKENS, MOST_CHANNELS = 1 << 14, 1 << 20, 1 << 20
DEFAULTS = {"role": "inner", "order": "accumulate", "norm": "", "parameters": {}, "attributes": {}}


@dataclass(frozen=True)
class Node:
    """One node. `kind` is a registered operator, `width` its channels a token; of each sequence it `reads` so many tokens and
    gives `tokens`.

    role, order: see ROLES and ORDERS
    norm: the norm whose weight and bias are folded into this node; else empty
    parameters: by the operator's name for it, a tensor of the checkpoint; several nodes may share one
    attributes: what the operator asks for beside (`Operator.attributes`); each can be read as an attribute of the node
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    width: int
    tokens: int
    reads: int
    role: str = "inner"
    order: str = "accumulate"
    norm: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def operator(self) -> type[Operator]:
        return OPERATORS[self.kind]

    def __getattr__(self, name: str) -> Any:
        kind = self.__dict__.get("kind")  # not there while a copy is made
        if kind not in OPERATORS or name not in OPERATORS[kind].attributes:
            raise AttributeError(f"a node of the kind {kind} has no '{name}'")
        return self.attributes.get(name)


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which every input comes before its readers; each name is the key of a trace.

    outputs: the results
    carried: whether the sequences of a call follow each other in time, with the state carried from each to the next
    """

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    carried: bool = False

    def __post_init__(self):
        _check(self)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, name: str) -> Node:
        return self._by_name[name]

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        return tuple(node.name for node in self.nodes if not node.inputs)

    @property
    def input(self) -> Node:
        """The only input."""
        return self[self._only("input", self.inputs)]

    @property
    def output(self) -> Node:
        """The only output."""
        return self[self._only("output", self.outputs)]

    def _only(self, what: str, names: tuple[str, ...]) -> str:
        if len(names) != 1:
            raise DesignLimit(f"the model has {len(names)} {what}s ({', '.join(names)}); exactly one is possible here")
        return names[0]

    @property
    def length(self) -> int:
        """Tokens of a sequence at the input, L."""
        return self.input.tokens

    @cached_property
    def pooled(self) -> bool:
        """Whether the output is one of a sequence, not one of each token."""
        rates: dict[str, bool] = {}
        for node in self.nodes:
            rates[node.name] = node.operator.pools or any(rates[name] for name in node.inputs)
        return rates[self.output.name]

    def window(self, sequences: int) -> int:
        """How many of the `sequences` of a call follow each other in time."""
        return max(1, sequences) if self.carried else 1

    def unfolded(self, name: str) -> str:
        """The norm whose weight and bias a node's values still lack, or an empty string."""
        return unfolded(self._by_name, name)

    @cached_property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of a checkpoint."""
        found: dict[str, tuple[int, ...]] = {}
        for node in self.nodes:
            shapes = self.shapes(node)
            for parameter, tensor in node.parameters.items():
                if found.setdefault(tensor, shapes[parameter]) != shapes[parameter]:
                    raise InputError(f"node '{node.name}': it needs the tensor '{tensor}' in the shape "
                                      f"{list(shapes[parameter])}, another node in {list(found[tensor])}")
        return found

    def shapes(self, node: Node) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter that a node may have."""
        return node.operator.shapes(node, [self[name].width for name in node.inputs])

    def last_reader(self) -> dict[str, int]:
        """By name, the place in the order of the last node that reads a node; the outputs are read at the end."""
        places = {name: k for k, node in enumerate(self.nodes) for name in node.inputs}
        return places | dict.fromkeys(self.outputs, len(self.nodes))

    def to_json(self) -> dict:
        """What `graph_from_json` reads: fields that have their default are left out."""
        nodes = []
        for node in self.nodes:
            row = {"name": node.name, "kind": node.kind, "inputs": list(node.inputs), "width": node.width, "tokens": node.tokens}
            said = {key: getattr(node, key) for key in DEFAULTS}
            nodes.append(row | {key: dict(value) if isinstance(value, Mapping) else value for key, value in said.items()
                                if value != DEFAULTS[key]})
        return {"nodes": nodes, "outputs": list(self.outputs)} | ({"carried": True} if self.carried else {})


def unfolded(nodes: Mapping[str, Node], name: str) -> str:
    """The norm whose weight and bias are still to be folded into what reads a node, or an empty string."""
    while nodes[name].operator.commutes:
        name = nodes[name].inputs[0]
    return name if nodes[name].operator.normalizes and nodes[name].parameters else ""


def graph_from_json(data: Any) -> Graph:
    """A graph from untrusted JSON."""
    if (not isinstance(data, dict) or {*data, "carried"} != {"nodes", "outputs", "carried"}
            or not all(isinstance(data[key], list) for key in ("nodes", "outputs")) or data.get("carried", True) is not True):
        raise InputError("graph: must be a table with the lists nodes and outputs, and perhaps carried = true")
    if len(data["nodes"]) > MOST_NODES:
        raise InputError(f"graph: {len(data['nodes'])} nodes are too many; at most {MOST_NODES} are possible")
    nodes: dict[str, Node] = {}
    for row in data["nodes"]:
        if not isinstance(row, dict):
            raise InputError("graph: each node must be a table")
        where = f"node '{_short(row.get('name'))}'"
        required = {"name": str, "kind": str, "inputs": list, "width": int, "tokens": int}
        for key, kind in (required | {key: type(value) for key, value in DEFAULTS.items()}).items():
            if key in required and key not in row:
                raise InputError(f"{where}: the key '{key}' is missing")
            if key in row and type(row[key]) is not kind:
                raise InputError(f"{where}: '{key}' must be of type {kind.__name__}")
        for key in sorted(set(row) - set(required) - set(DEFAULTS)):
            raise InputError(f"{where}: unknown key '{_short(key)}'")
        if not all(isinstance(name, str) for name in row["inputs"]):
            raise InputError(f"{where}: inputs must be names of nodes")
        if not all(isinstance(name, str) for name in row.get("parameters", {}).values()):
            raise InputError(f"{where}: parameters must be names of tensors")
        if row["name"] in nodes:
            raise InputError(f"{where} is there twice")
        reads = nodes[row["inputs"][0]].tokens if row["inputs"] and row["inputs"][0] in nodes else row["tokens"]
        nodes[row["name"]] = Node(**row | {"inputs": tuple(row["inputs"]), "reads": reads})
    if not all(isinstance(name, str) for name in data["outputs"]):
        raise InputError("graph: outputs must be names of nodes")
    return Graph(tuple(nodes.values()), tuple(data["outputs"]), "carried" in data)


def _short(value: object) -> str:
    return printable(str(value)[:60])


# -- checks -------------------------------------------------------------------------------------------------------------------


def _check(graph: Graph) -> None:
    """Refuses a graph that no executor could run."""
    known: dict[str, Node] = {}
    identifiers: set[str] = set()
    for node in graph.nodes:
        if not NAME.fullmatch(node.name):
            raise InputError(f"a node is called '{_short(node.name)}'; names are words of letters, digits and underscores with "
                              "points between them")
        with located(f"node '{node.name}'"):
            _check_node(node, known)
            if node.name in known or node.name.replace(".", "_") in identifiers:
                raise InputError("another node has this name, or one that differs in points and underscores alone")
        known[node.name] = node
        identifiers.add(node.name.replace(".", "_"))
    if not graph.outputs or len(set(graph.outputs)) != len(graph.outputs) or not set(graph.outputs) <= set(known):
        raise InputError(f"the outputs {', '.join(map(_short, graph.outputs)) or '(none)'} are not different nodes of the graph")
    read = {name for node in graph.nodes for name in node.inputs} | set(graph.outputs)
    for name in known:
        if name not in read:
            raise InputError(f"node '{name}': nothing reads it, and it is not an output: remove it")
    for node in graph.nodes:
        if graph.carried and node.operator.whole:
            raise DesignLimit(f"node '{node.name}': {one_of(node.operator)} needs whole sequences, so no state is carried from "
                              "one to the next")
    _check_norms(graph)
    _ = graph.tensors


def _check_node(node: Node, known: dict[str, Node]) -> None:
    if node.kind not in OPERATORS:
        import_named()
    if node.kind not in OPERATORS:
        raise InputError(f"there is no operator '{_short(node.kind)}'; the operators are {', '.join(OPERATORS)}: import the "
                          "file that registers it")
    cls = node.operator
    if len(node.inputs) != cls.inputs:
        raise InputError(f"it has {len(node.inputs)} inputs, but a {node.kind} has {cls.inputs}")
    for name in node.inputs:
        if name not in known:
            raise InputError(f"it reads '{_short(name)}', which is no node before it")
    if not 1 <= node.width <= MOST_CHANNELS or not 1 <= node.tokens <= MOST_TOKENS:
        raise InputError(f"{node.width} channels of {node.tokens} tokens are out of range; 1..{MOST_CHANNELS} of "
                          f"1..{MOST_TOKENS} are possible")
    if len(lengths := {known[name].tokens for name in node.inputs}) > 1:
        raise InputError(f"its inputs have different numbers of tokens: {', '.join(map(str, sorted(lengths)))}")
    for what, value, choices in (("role", node.role, ROLES), ("order", node.order, ORDERS)):
        if value not in choices:
            raise InputError(f"its {what} is '{_short(value)}'; choose one of {', '.join(choices)}")
    _check_attributes(node)
    if cls is not Input and node.tokens != (wanted := cls.output_tokens(node, node.reads)):
        raise InputError(f"it gives {node.tokens} tokens a sequence, but a {node.kind} of {node.reads} gives {wanted}")
    shapes = cls.shapes(node, [known[name].width for name in node.inputs])
    for parameter, tensor in node.parameters.items():
        if parameter not in shapes:
            raise InputError(f"a {node.kind} has no parameter '{_short(parameter)}'")
        if not NAME.fullmatch(tensor):
            raise InputError(f"its {parameter} is the tensor '{_short(tensor)}', which is not a name")
    for parameter in shapes:
        if parameter not in node.parameters and parameter not in cls.optional:
            raise InputError(f"its parameter '{parameter}' names no tensor")


def _check_attributes(node: Node) -> None:
    cls = node.operator
    for name in (name for name in cls.needed if name not in node.attributes):
        raise InputError(f"a {node.kind} needs the attribute '{name}'")
    for name, value in node.attributes.items():
        allowed = cls.attributes.get(name)
        if allowed is None:
            raise InputError(f"a {node.kind} has no attribute '{_short(name)}'")
        if allowed is float:
            right, words = isinstance(value, float) and 0 <= value <= 1e30, "a float in 0..1e30"
        elif isinstance(allowed, type):
            right, words = type(value) is allowed, f"a {allowed.__name__}"
        elif isinstance(allowed, range):
            right, words = type(value) is int and value in allowed, f"an integer in {allowed.start}..{allowed.stop - 1}"
        else:
            right, words = isinstance(value, str) and value in allowed, f"one of {', '.join(allowed)}"
        if not right:
            raise InputError(f"its {name} is {_short(value)}; it must be {words}")


def _check_norms(graph: Graph) -> None:
    """Each reader of a norm with parameters must fold them: they are computed nowhere else."""
    for node in graph.nodes:
        lacking = [graph.unfolded(name) for name in node.inputs]
        if node.norm and (not node.operator.folds or node.norm != lacking[0]):
            raise InputError(f"node '{node.name}': it cannot fold '{_short(node.norm)}': a Linear folds the norm that it "
                              "reads, perhaps after a pool")
        for k, norm in enumerate(lacking):
            if norm and node.norm != norm and not (k == 0 and set(graph[norm].parameters) <= set(node.operator.commutes)):
                raise InputError(f"node '{node.name}': it reads the norm '{norm}' and does not fold its weight and bias")
    for name in graph.outputs:
        if norm := graph.unfolded(name):
            raise InputError(f"node '{name}': it is an output, so nothing folds the norm '{norm}'")
