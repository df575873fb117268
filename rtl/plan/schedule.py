"""From one number, the cycles a token may take, to every block's parallelism, and from that to exact timing and FIFO depths.

`fold` gives each block the fewest multipliers with which it takes at most T cycles a token. `Schedule` then follows the
beats of a few tokens through the graph by the blocks' own `schedule` functions. Nothing is simulated: since the pacer admits
one token every `period` cycles and every FIFO is as deep as its timetable needs, no stage ever waits for a later one, so
each beat's cycle follows from those of the stage's inputs.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil

import numpy as np

from emamba import ops
from emamba.artifact import Artifact
from emamba.base.errors import DesignLimit, SettingError
from emamba.graph import Node

from .. import blocks  # noqa: F401  registers the block of every operator
from ..kit.block import Cycles, Port, Spec
from ..kit.datapath import Products
from ..kit.registry import Realization, Stage, block_of
from ..kit.streams import Fifo, Gearbox, Pacer

WINDOW = 24
"""Tokens followed per sequence; longer sequences continue at one token a period."""

LATE = 1 << 40
"""A cycle in which everything before has long been done."""

MAX_CYCLES = 1 << 20
REALIZATION = Realization()


def fold(artifact: Artifact, node: Node, cycles_per_token: int, realization: Realization, order: str = "") -> Spec:
    """The block of `node` that takes at most `cycles_per_token` cycles a token with the fewest multipliers; in another `order`
    than the node's."""
    op, graph = artifact.operators[node.name], artifact.graph
    block = block_of(op)
    if block is None:
        raise DesignLimit(f"node '{node.name}': there is no block for a {node.kind}; register one with rtl.kit.registry.realizes")
    own = dict(realization.own).get(node.name)
    return block.fold(op, Stage(
        cycles=1 if own is Products.CONSTANTS else cycles_per_token, tokens=graph.length, reads=node.reads,
        order=order or node.order,
        nonnegative=tuple(_never_negative(artifact.operators.get(name)) for name in node.inputs),
        products=own or realization.products, realization=realization,
        work=_work(artifact, node) if node.reads == 1 < graph.length else 0.0))


def _work(artifact: Artifact, node: Node) -> float:
    """Of all products of a sequence with weights, those of a node."""
    work = {each.name: op.multiplies * each.reads for each in artifact.graph
            if isinstance(op := artifact.operators.get(each.name), ops.Weighted)}
    return work.get(node.name, 0) / sum(work.values()) if work else 0.0


def folded(artifact: Artifact, cycles_per_token: int, realization: Realization) -> tuple[dict[str, Spec], int]:
    """All blocks, and the cycles between two tokens that the slowest of them allows."""
    graph = artifact.graph
    found = {node.name: fold(artifact, node, cycles_per_token, realization) for node in graph if node.inputs}
    period = max(ceil(block.cycles * graph[name].reads / graph.length) for name, block in found.items())
    return {name: block.paced(period * graph.length) for name, block in found.items()}, period


def _never_negative(op: ops.Operator | None) -> bool:
    """Whether the operator's output is known to be ≥ 0."""
    if isinstance(op, ops.Linear):
        return op.relu
    return isinstance(op, ops.Activation) and bool((op(np.arange(op.i.min, op.i.max + 1)) >= 0).all())


@dataclass
class Queue:
    """A FIFO of the design; depth 0 where none is needed. `peak` is its high-water mark when neither end of the design stalls."""

    name: str
    port: Port
    depth: int = 0
    peak: int = 0

    def require(self, pushes: Cycles, pops: Cycles) -> None:
        """Makes the FIFO deep enough for beats that come and go in these cycles."""
        depth, peak = Fifo.needs(pushes, pops)
        self.depth, self.peak = max(self.depth, depth), max(self.peak, peak)


@dataclass
class Edge:
    """From a producer's fork to one input of a consumer: an own gearbox with the FIFO before it, if lanes differ only here,
    and the FIFO at the consumer."""

    source: str
    sink: str
    index: int
    gearbox: Gearbox | None = None
    before: Queue | None = None
    queue: Queue | None = None


@dataclass
class Output:
    """What follows a producer: a gearbox that all its readers share, with the FIFO before it, then the edges."""

    port: Port
    gearbox: Gearbox | None = None
    before: Queue | None = None
    edges: list[Edge] = field(default_factory=list)


class Schedule:
    """Blocks, connections, depths and exact timing of an artifact at `cycles_per_token`."""

    start = 0
    """Cycles after a reset until it takes the first beat."""

    def __init__(self, artifact: Artifact, cycles_per_token: int, realization: Realization = REALIZATION):
        if not 1 <= cycles_per_token <= MAX_CYCLES:
            raise SettingError(f"cycles_per_token = {cycles_per_token} is out of range; it must lie in 1..{MAX_CYCLES}")
        self.artifact, self.requested, self.realization = artifact, cycles_per_token, realization
        self.graph = artifact.graph
        self.tokens = self.graph.length
        self.blocks, self.period = folded(artifact, cycles_per_token, realization)
        source = self.graph.input.name
        reader = next(node for node in self.graph if source in node.inputs)
        self.input = list(self.blocks[reader.name].inputs.values())[reader.inputs.index(source)]
        self.output = self.blocks[self.graph.output.name].output
        self.outputs = {node.name: self._connect(node) for node in self.graph}
        self._set_depths()

    @property
    def cycles_per_frame(self) -> int:
        """Steady state, from the last output beat of one sequence to that of the next."""
        return self.period * self.tokens

    def _connect(self, node: Node) -> Output:
        port = self.blocks[node.name].output if node.name in self.blocks else self.input
        readers = [(reader.name, k) for reader in self.graph for k, name in enumerate(reader.inputs) if name == node.name]
        wanted = [list(self.blocks[name].inputs.values())[k] for name, k in readers]
        output = Output(port)
        shared = len({p.lanes for p in wanted}) == 1 and wanted[0].lanes != port.lanes
        if shared:
            output.gearbox = Gearbox(port.format, port.width, port.lanes, wanted[0].lanes)
            output.before = Queue(f"{node.name}.narrow", port)
        for (name, k), want in zip(readers, wanted, strict=True):
            edge = Edge(node.name, name, k, queue=Queue(f"{node.name}→{name}", want))
            if not shared and want.lanes != port.lanes:
                edge.gearbox = Gearbox(port.format, port.width, port.lanes, want.lanes)
                edge.before = Queue(f"{node.name}→{name}.narrow", port)
            output.edges.append(edge)
        return output

    def _set_depths(self) -> None:
        """The latency of one sequence, and every FIFO as deep as a stream of sequences needs: followed until the first one has
        left and another window has passed, when the pipeline is as full as it gets."""
        window = self.window
        entered, departures = self._follow(1, window)
        self.latency = int(departures[-1] - entered[0]) + (self.tokens - window) * self.period
        self._follow(ceil((departures[-1] - entered[0]) / (window * self.period)) + 2, window)

    @property
    def window(self) -> int:
        """Tokens of a sequence that show how all of them pass."""
        regular = all((node.tokens == node.reads and not node.operator.whole) or node.operator.pools for node in self.graph)
        return min(self.tokens, WINDOW) if regular else self.tokens

    @cached_property
    def latency_floor(self) -> int:
        """No schedule of this rate with as few multipliers has a latency below it."""
        return self._floor([self.requested])

    @cached_property
    def latency_limit(self) -> int:
        """No schedule of this rate has a latency below it, with any number of multipliers."""
        return self._floor([1 << k for k in range(self.requested.bit_length())] + [self.requested])

    def _floor(self, rates: list[int]) -> int:
        """A token enters every period, and the last one passes block after block. Of each, the first and the last beat come as
        early as with any of its foldings at these rates and in either order, were all beats between as early as the first."""
        realization = self.realization
        if self.requested > 1 and realization.products is Products.CONSTANTS:  # whose graphs nothing but T = 1 has
            realization = replace(realization, products=Products.PAIRS)
        entry = LATE + (self.tokens - 1) * self.period
        ends = {self.graph.input.name: (entry, entry)}
        for node in self.graph.nodes[1:]:
            tokens = max(1, self.window * node.reads // self.tokens)
            folded = (fold(self.artifact, node, rate, realization, order) for rate in rates for order in ("emit", "accumulate"))
            found = [_ends(block.paced(self.cycles_per_frame).over(tokens), tokens, [ends[source] for source in node.inputs])
                     for block in folded]
            ends[node.name] = tuple(map(min, zip(*found, strict=True)))
        return ends[self.graph.output.name][1] - LATE

    def timetable(self, sequences: int) -> list[int]:
        """Cycle of every output beat, counted from the first input beat, of sequences that follow each other at once."""
        entered, departures = self._follow(sequences, self.tokens)
        return (departures - entered[0]).tolist()

    def _follow(self, sequences: int, tokens: int) -> tuple[Cycles, Cycles]:
        """Cycles in which the input beats of sequences of `tokens` tokens enter and their output beats leave; on the way,
        raises each FIFO's depth to what this timetable needs."""
        offered = np.zeros(sequences * tokens * self.input.beats, int)
        entered, departures = Pacer(self.input, self.period).schedule(offered)
        arrivals: dict[str, list] = {node.name: [None] * len(node.inputs) for node in self.graph}
        for node in self.graph:
            if node.inputs:
                block = self.blocks[node.name].over(tokens * node.reads // self.tokens)
                *taken, departures = map(np.asarray, block.schedule(*arrivals[node.name]))
                for source in dict.fromkeys(node.inputs):
                    for edge in self.outputs[source].edges:
                        if edge.sink == node.name:
                            edge.queue.require(arrivals[node.name][edge.index], taken[edge.index])
            output = self.outputs[node.name]
            flow = self._through(output.gearbox, output.before, departures)
            for edge in output.edges:
                arrivals[edge.sink][edge.index] = self._through(edge.gearbox, edge.before, flow)
        return entered, departures

    @staticmethod
    def _through(gearbox: Gearbox | None, before: Queue | None, pushes: Cycles) -> Cycles:
        """Beats behind a gearbox; the FIFO before it is as deep as the gearbox makes beats wait."""
        if gearbox is None:
            return pushes
        taken, departures = gearbox.schedule(pushes)
        if not np.array_equal(taken, pushes):
            before.require(pushes, taken)
        return departures

    def of(self, artifact: Artifact) -> "Schedule":
        """The same design of another artifact."""
        return Schedule(artifact, self.requested, self.realization)

    def structure(self) -> dict:
        """What a load cannot change beside the blocks."""
        return {}

    @property
    def states(self) -> dict[str, tuple[int, int]]:
        """Rows and bits of a row of the memories that hold what a sequence leaves."""
        return {name: block.state for name, block in self.blocks.items() if block.state[1]}

    def queues(self) -> list[Queue]:
        """Every FIFO of the design."""
        result = []
        for output in self.outputs.values():
            result += [output.before, *(queue for edge in output.edges for queue in (edge.before, edge.queue))]
        return [queue for queue in result if queue is not None and queue.depth]

    def _per_frame(self, name: str) -> int:
        """How often a node works on a token in one sequence."""
        return self.graph[name].reads

    @property
    def multipliers(self) -> int:
        return sum(block.multipliers for block in self.blocks.values())

    @property
    def multiplies_per_frame(self) -> int:
        return sum(block.multiplies * self._per_frame(name) for name, block in self.blocks.items())

    def utilization(self, work: int, multipliers: int) -> float:
        """Share of the multiplier cycles of a frame that do `work` multiplications."""
        return round(work / (multipliers * self.cycles_per_frame), 4) if multipliers else 0.0

    def report(self) -> dict:
        """The keys of report.json that the schedule knows."""
        stages = []
        for node in self.graph.nodes[1:]:
            block, times = self.blocks[node.name], self._per_frame(node.name)
            work = block.multiplies * times
            stages.append({
                "name": node.name, "kind": node.kind,
                "lanes": {name: port.lanes for name, port in block.inputs.items()} | {"o": block.output.lanes},
                "cycles": block.cycles, "cycles_per_frame": block.cycles * times, "multipliers": block.multipliers,
                "multiplies_per_frame": work, "utilization": self.utilization(work, block.multipliers),
            })
        return {
            "cycles_per_token": self.period, "cycles_per_frame": self.cycles_per_frame, "latency_cycles": self.latency,
            "latency_floor": self.latency_floor, "latency_limit": self.latency_limit,
            "tokens": self.tokens, "multipliers": self.multipliers, "multiplies_per_frame": self.multiplies_per_frame,
            "utilization": self.utilization(self.multiplies_per_frame, self.multipliers), "stages": stages,
            "fifo": [{"name": q.name, "depth": q.depth, "high_water": q.peak, "bits": q.depth * q.port.lanes * q.port.format.bits}
                     for q in self.queues()],
        }


def _ends(block: Spec, tokens: int, arrivals: list[tuple[int, int]]) -> tuple[int, int]:
    """The first and the last output beat of the last token, all before it having come long ago, of whose beats at every input
    the last comes in the second of two cycles and the others in the first."""
    given = []
    for port, (first, last) in zip(block.inputs.values(), arrivals, strict=True):
        cycles = np.zeros(tokens * port.beats, int)
        cycles[-port.beats:], cycles[-1] = first, last
        given.append(cycles)
    left = np.asarray(block.schedule(*given)[-1])
    return int(left[-block.output.beats]), int(left[-1])
