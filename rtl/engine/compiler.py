"""An artifact becomes a program: every node its instructions, then a place for every value and gaps that make it safe."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from emamba.artifact import Artifact
from emamba.base.errors import DesignLimit, located
from emamba.graph import Node
from emamba.ops import Operator

from . import operators  # noqa: F401  registers the executors
from .decays import Decay
from .machine import ELEMENT, Machine
from .memory_map import allocate, depths
from .micro import A as First
from .micro import B, Buffer, Instruction, MicroOp, Operand, Stat, To, Walk, When, Zero, bits_of, idle
from .micro import Body as Repeat
from .pairs import pair
from .registry import executor_of
from .timing import check, lane_faults, settle


class Compiler:
    """What executors emit instructions with. `kept`: sequences may go on with the state of the one before."""

    def __init__(self, artifact: Artifact, machine: Machine, tile: int, kept: bool):
        self.artifact, self.machine, self.tile, self.kept = artifact, machine, tile, kept
        self.graph, self.instructions = artifact.graph, []
        self.tiles = -(-self.graph.length // tile)
        self.rest = self.graph.length - (self.tiles - 1) * tile  # tokens of the last tile
        self.buffers: dict[str, Buffer] = {}
        self.states = 0
        self.histories: dict[str, int] = {}
        for node in self.graph:
            kept = executor_of(node, artifact.operators[node.name]).history(node, artifact.operators[node.name])
            for name in node.inputs:
                self.histories[name] = max(kept, self.histories.get(name, 0))
        for node in self.graph:
            with located(f"node '{node.name}'"):
                op = artifact.operators[node.name]
                executor_of(node, op).compile(self, node, op)
        self._carry()
        self.instructions = pair(self.instructions, machine)

    # -- what executors ask ---------------------------------------------------------------------------------------------------

    def rate(self, node: Node) -> tuple[int, When]:
        """Tokens of a tile, and the tiles."""
        pooled = node.tokens == 1 and self.graph.length > 1
        return (1, When.LAST) if pooled else (node.tokens if self.tiles == 1 else self.tile, When.ALWAYS)

    def rest_of(self, node: Node) -> int:
        """Tokens of the last tile."""
        return self.rest if self.tiles > 1 and self.rate(node)[1] is When.ALWAYS else self.rate(node)[0]

    def store(self, node: Node, parts: int = 1) -> Operand:
        """The buffer of a node's values, of whose tokens each of `parts` equal ones begins a row."""
        history, (tokens, _) = self.histories.get(node.name, 0), self.rate(node)
        carried = history and (self.tiles > 1 or self.kept)
        rows = parts * self.machine.groups(node.width // parts)
        buffer = Buffer(node.name, rows, history + tokens, history, bool(carried), parts=parts)
        self.buffers[node.name] = buffer
        return Operand(buffer, history, True)

    def load(self, name: str, walk: Walk = Walk.STAY, back: int = 0, parts: bool = False) -> Operand:
        """A node's values as an operand, `back` tokens before the current one; a row a group, where it does not walk. `parts`:
        who asks knows that each part begins a row."""
        buffer, width = self.buffers[name], self.graph[name].width
        if buffer.parts > 1 and not parts and buffer.rows * self.machine.lanes != width:
            raise DesignLimit(f"the engine keeps each of the {buffer.parts} taps of '{name}' in rows of its own, as only a "
                              f"Linear or a Depthwise reads them: take --lanes that divide {width // buffer.parts}, or "
                              "build it with --organization pipeline")
        return Operand(buffer, buffer.history - back, walk in (Walk.STAY, Walk.TOKEN), walk)

    def rows(self, values: np.ndarray) -> np.ndarray:
        """[width, k] → rows [groups · k, lanes]: of each group, k rows; zero beyond the width."""
        groups, lanes = self.machine.groups(len(values)), self.machine.lanes
        padded = np.zeros((groups * lanes, *values.shape[1:]), np.int64)
        padded[:len(values)] = values
        return np.moveaxis(padded.reshape(groups, lanes, -1), 2, 1).reshape(-1, lanes)

    def narrow(self, bits: int) -> bool:
        """Whether a multiplier cannot take a factor of so many bits at once."""
        return self.machine.factor_bits is not None and bits > self.machine.factor_bits

    def emit(self, node: Node, op: Operator | None, chain: Sequence[Repeat], **fields) -> Instruction:
        """Adds an instruction of `node`'s width and rate, by default with its format and rounding, into its buffer."""
        tokens, when = self.rate(node)
        width, lanes = node.width, self.machine.lanes
        groups = fields.pop("groups", self.machine.groups(width))
        fields = {"tokens": tokens, "rest": self.rest_of(node), "when": when, "groups": groups,
                  "lanes": width - (self.machine.groups(width) - 1) * lanes,
                  "traces": (node.name, "")} | fields
        if op is not None:
            fields = {"format": op.o, "rounding": op.rounding} | fields
        if "dest" not in fields:
            fields["dest"] = self.store(node)
        if node.name in self.graph.outputs and node.name in fields["traces"]:
            if "out" not in fields and not self.readers(node.name):
                fields["dest"] = None
            fields["out"] = True
        chain = list(chain)
        cycles = sum(body.cycles for body in chain)
        if any(micro.to is To.DRAIN for body in chain for micro in body.ops):
            chain += idle(self.machine.beats - cycles)
        instruction = Instruction(name=fields.pop("name", node.name), chain=chain, **fields)
        self.instructions.append(instruction)
        return instruction

    def producer(self, name: str) -> Instruction | None:
        """The instruction that writes a node's final values, token by token, where there is one."""
        found = [each for each in self.instructions if name in each.traces and not each.takes_input]
        return found[-1] if len(found) == 1 else None

    def readers(self, name: str) -> int:
        return sum(name in node.inputs for node in self.graph)

    def only_reader(self, name: str) -> bool:
        return self.readers(name) == 1 and name not in self.graph.outputs

    def state(self, rows: int) -> int:
        """Rows of the state that nobody else has."""
        self.states += rows
        return self.states - rows

    def gather(self, name: str, stat: Stat, groups: int = 1) -> None:
        """Has the statistics of a node's tokens, or of each of their `groups`, gathered before what is emitted next."""
        maker = self.producer(name)
        later = self.instructions[self.instructions.index(maker):] if maker else []
        if groups == 1 and stat is Stat.RANGE and maker and maker.stat is Stat.NONE and not any(i.stat or i.norm for i in later):
            maker.stat = stat
            return
        node = self.graph[name]
        square = stat is Stat.SQUARES
        ops = [MicroOp(x=0, to=To.ROW)] if square else []
        ops.append(MicroOp(x=0, a=First.KEPT if square else First.CONSTANT, constant=1, b=B.ROW, to=To.DRAIN))
        o = self.artifact.operators[name].o
        self.emit(node, None, [Repeat(tuple(ops))], name=f"{name}.statistics", dest=None, stat=stat,
                  format=o, traces=("", ""), bound=o.magnitude**2 if square else o.magnitude, kept=o.magnitude,
                  **self.by_groups(node, groups, [self.load(name)], node.width * square))

    def by_groups(self, node: Node, groups: int, operands: list[Operand], work: int) -> dict:
        """Fields of an instruction that takes each of a token's `groups` for a token."""
        if groups == 1:
            return {"operands": operands, "work": work}
        size = node.width // groups
        if size % self.machine.lanes:
            raise DesignLimit(f"the engine works groups of whole rows, but here one has {size} channels: take --lanes that "
                              f"divide {size}, or build it with --organization pipeline")
        rows = size // self.machine.lanes
        return {"operands": [replace(each, rows=rows) for each in operands], "work": work // groups, "groups": rows,
                "tokens": self.rate(node)[0] * groups, "rest": self.rest_of(node) * groups, "lanes": self.machine.lanes}

    # -- the rest -------------------------------------------------------------------------------------------------------------

    def _carry(self) -> None:
        """Keeps the last tokens of every tile that the next one reads, once this one has read them."""
        for name, buffer in self.buffers.items():
            if not (buffer.history and buffer.kept):
                continue
            after = 1 + max(k for k, i in enumerate(self.instructions) if any(each.buffer is buffer for each in i.operands))
            later, self.instructions = self.instructions[after:], self.instructions[:after]
            node, o = self.graph[name], self.artifact.operators[name].o
            copy = MicroOp(x=0, a=First.CONSTANT, constant=1, b=B.ROW, zero=Zero.BEFORE, to=To.DRAIN)
            tiles = [(When.EARLY, self.tile)] * (self.tiles > 1) + [(When.LAST, self.rest)] * self.kept
            for when, count in tiles:
                self.emit(node, None, [Repeat((copy,))], name=f"{name}.history", operands=[Operand(buffer, count, True)],
                          tokens=buffer.history, rest=buffer.history, dest=Operand(buffer, 0, True), format=o, when=when,
                          bound=o.magnitude, traces=("", ""), before=max(0, buffer.history - count))
            self.instructions += later


@dataclass
class Program:
    """A program with all that its engine must hold."""

    artifact: Artifact
    machine: Machine
    tile: int
    instructions: list[Instruction]
    rows: int
    states: int
    buffers: dict[str, Buffer]

    @cached_property
    def kept_rows(self) -> int:
        """First rows of values, among which are all that a sequence leaves to the next one."""
        buffers = [each.buffer for i in self.instructions for each in (*i.operands, i.dest) if each]
        return max((buffer.base + buffer.lasting for buffer in buffers if buffer.kept), default=0)

    @cached_property
    def depths(self) -> list[int]:
        """Of every beat of a row, the rows from which on none has values in it."""
        return depths(self.instructions, self.machine.posts, self.machine.beats)

    @property
    def tiles(self) -> int:
        return -(-self.artifact.graph.length // self.tile)

    @property
    def most_tokens(self) -> int:
        """Of an instruction."""
        return max(i.tokens for i in self.instructions)

    def __post_init__(self):
        self.biases, self.bias_base = self._rows(self.artifact, "bias")

    @cached_property
    def _weights(self) -> tuple[np.ndarray, list[int]]:
        return self._rows(self.artifact, "weights")

    @property
    def weights(self) -> np.ndarray:
        """Of a stream, what the interpreter reads alone."""
        return self._weights[0]

    @property
    def weight_base(self) -> list[int]:
        return self._weights[1]

    def _rows(self, artifact: Artifact, kind: str) -> tuple[np.ndarray, list[int]]:
        """The rows of a memory of weights or biases, and where each instruction's begin."""
        rows, bases, lanes = [], [], self.machine.posts if kind == "bias" else self.machine.lanes
        for instruction in self.instructions:
            bases.append(sum(map(len, rows)))
            if (of := getattr(instruction, kind)) is not None:
                values = of(artifact.operators)
                if kind == "bias":  # by beats of a row of results
                    padded = np.zeros(-(-len(values) // self.machine.posts) * self.machine.posts, np.int64)
                    padded[:len(values)] = values
                    values = padded.reshape(-1, self.machine.posts)
                rows.append(values)
        return np.concatenate(rows) if rows else np.zeros((1, lanes), np.int64), bases

    def constants(self, artifact: Artifact) -> dict[str, np.ndarray]:
        """Rows of weights and biases of another artifact of the same structure."""
        return {"weights": self._rows(artifact, "weights")[0], "biases": self._rows(artifact, "bias")[0]}

    @cached_property
    def weight_bits(self) -> int:
        if self.machine.stream:
            return ELEMENT
        return bits_of([int(self.weights.min()), int(self.weights.max())])

    @cached_property
    def value_bits(self) -> int:
        """Signed bits of a value in memory."""
        results = [result for i in self.instructions for result in i.results if result.dest]
        stored = [i.table_format if i.table is not None else i.format for i in results]
        return max(o.bits + (not o.signed) for o in stored)

    def used(self, name: str) -> set:
        """What micro-operations say in a field."""
        return {getattr(op, name) for instruction in self.instructions for body in instruction.chain for op in body.ops}

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """Of a node whose tokens' parts do not fill their rows, where its channels are in these."""
        found, lanes = {}, self.machine.lanes
        for name, buffer in self.buffers.items():
            width, rows = self.artifact.graph[name].width // buffer.parts, buffer.rows // buffer.parts
            if buffer.parts > 1 and rows * lanes != width:
                found[name] = (np.arange(buffer.parts)[:, None] * rows * lanes + np.arange(width)).ravel()
        return found

    @cached_property
    def decays(self) -> list[Decay]:
        """The scans' decays that differ."""
        return list(dict.fromkeys(Decay.of(i.scan) for i in self.instructions if i.scan is not None))


def compile_program(artifact: Artifact, machine: Machine, kept: bool = False) -> Program:
    """The program of an artifact, in the largest tiles that the machine's rows hold; refuses what cannot be. `kept`: what a
    sequence leaves is there for the next one, as it always is where the artifact's state is carried."""
    graph = artifact.graph
    _ = graph.input, graph.output
    whole = any(node.operator.whole for node in graph)
    alone = any(executor_of(node, artifact.operators[node.name]).one_token and node.tokens > 1 for node in graph)
    most = 1 if whole else graph.length if alone else -(-graph.length // machine.tile)
    for tiles in range(most, most + 1 if whole else graph.length + 1):
        tile = -(-graph.length // tiles)
        compiled = Compiler(artifact, machine, tile, kept or graph.carried)
        rows = allocate(compiled.instructions)
        if rows <= machine.limit(whole):
            break
    else:
        what = "a sequence" if whole else "a token"
        raise DesignLimit(f"{what} of {artifact.name} needs {rows} rows of {machine.lanes} values, but the engine has "
                          f"{machine.limit(whole)}: take more lanes, or build it with --organization pipeline")
    program = Program(artifact, machine, tile, compiled.instructions, rows, compiled.states, compiled.buffers)
    settle(program.instructions, machine, rows, compiled.states)
    verify(program)
    return program


def verify(program: Program) -> None:
    """Proves that a program needs no interlock."""
    for instruction in program.instructions:
        latency = (0, 0) if instruction.scan is None else Decay.of(instruction.scan).latency(program.machine)
        for fault in lane_faults(instruction, program.machine, latency)[:1]:
            raise DesignLimit(f"instruction '{instruction.name}': {fault}")
    check(program.instructions, program.machine, program.rows, program.states)
