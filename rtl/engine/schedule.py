"""What the rest of the project asks a schedule: ports, exact cycles, the report."""

from functools import cached_property
from typing import NamedTuple

from emamba.artifact import Artifact

from ..kit.block import Port
from .compiler import Program, compile_program
from .encode import Encoded
from .listing import listing
from .machine import ELEMENT, Machine
from .micro import Instruction, To
from .stream import Image
from .timing import TURN, WRITTEN, skipped, steps

LEAVES = 3
"""Cycles from a beat's write until the queue has room for another one."""


class Results(NamedTuple):
    """The queue of results, which holds what may be on its way, so that none waits for room at an output that takes all."""

    port: Port
    depth: int
    peak: int = 1
    name: str = "results"


class EngineSchedule:
    """An artifact as a program for an engine: the counterpart of `rtl.plan.schedule.Schedule`. `kept`: as of
    `compile_program`."""

    def __init__(self, artifact: Artifact, machine: Machine, kept: bool = False):
        self.artifact, self.machine, self.graph = artifact, machine, artifact.graph
        self.kept = kept or artifact.graph.carried
        self.program: Program = compile_program(artifact, machine, kept)
        self.encoded = Encoded(self.program)
        self.tokens, self.blocks = self.graph.length, {}
        source, result = self.graph.input, self.graph.output
        self.input = Port(artifact.operators[source.name].o, source.width, machine.posts)
        self.output = Port(artifact.operators[result.name].o, result.width, machine.posts)

    @property
    def cycles_per_frame(self) -> int:
        """Steady state, from the last output beat of one sequence to that of the next; of a stream, where a port has a beat in
        every cycle."""
        usual, last = self.cycles_per_tile
        return max((self.program.tiles - 1) * usual + last, self.image.beats_per_frame if self.image else 0)

    @cached_property
    def cycles_per_tile(self) -> tuple[int, int]:
        """Of a tile that is not the last of a sequence, and of the last."""
        usual, last = (sum(i.cycles(last) + i.gap + self.turn if i.runs(last) else skipped(self.machine)
                           for i in self.program.instructions) for last in (False, True))
        return usual, last

    @property
    def turn(self) -> int:
        """Cycles between instructions, beside their gaps: a stream's word is read by rows."""
        return TURN + (self.image.word_rows - 1 if self.image else 0)

    @property
    def image(self) -> Image | None:
        """What a memory outside holds."""
        return self.encoded.image

    @property
    def columns(self) -> dict:
        """Of a node whose rows have gaps, where its channels are in them."""
        return self.program.columns

    @property
    def period(self) -> int:
        """Cycles a token, rounded up."""
        return -(-self.cycles_per_frame // self.tokens)

    @property
    def start(self) -> int:
        """Cycles after a reset until it takes the first beat."""
        return 2 + self.program.instructions[0].gap

    @cached_property
    def latency(self) -> int:
        """From a sequence's first input beat to its last output beat."""
        return self.timetable(1)[-1]

    def timetable(self, sequences: int) -> list[int]:
        """Cycle of every output beat, counted from the first input beat, of sequences that follow each other at once."""
        found, begun, now = [], None, 0
        for tile in range(sequences * self.program.tiles):
            last = (tile + 1) % self.program.tiles == 0
            for instruction in self.program.instructions:
                if not instruction.runs(last):
                    now += skipped(self.machine)
                    continue
                now += self.turn + instruction.gap
                if begun is None and instruction.takes_input:
                    begun = now
                if instruction.out:
                    found += [now + cycle for cycle in self._beats(instruction, last)]
                now += instruction.cycles(last)
        return [cycle - begun for cycle in found]

    def _beats(self, i: Instruction, last: bool) -> list[int]:
        """Cycles from an instruction's start to its output beats, each a cycle in the queue of the results."""
        drain, = (step.at for step in steps(i) if step.to is To.DRAIN)
        short = -(-i.lanes // self.machine.posts)
        return [i.lead + token * i.token_cycles + group * i.group_cycles + drain + WRITTEN + 1 + beat
                for token in range(i.count(last)) for group in range(i.groups)
                for beat in range(short if group == i.groups - 1 else self.machine.beats)]

    def of(self, artifact: Artifact) -> "EngineSchedule":
        """The same engine of another artifact."""
        return EngineSchedule(artifact, self.machine, self.kept)

    def structure(self) -> dict:
        """What a load cannot change beside the nodes."""
        return {"engine": [self.machine.lanes, self.machine.posts, self.program.tile]}

    @property
    def states(self) -> dict[str, tuple[int, int]]:
        """Rows and bits of a row of the memories that hold what a sequence leaves."""
        lanes = self.machine.lanes
        found = {"states": (self.program.states, lanes * self.encoded.state_bits),
                 "values": (self.program.kept_rows, lanes * self.encoded.value_bits)}
        return {name: (rows, bits) for name, (rows, bits) in found.items() if rows}

    def queues(self) -> list[Results]:
        depth = 8 * self.machine.beats + 16
        return [Results(self.output, 1 << depth.bit_length() - 1 if self.machine.small else min(depth, self._under_way))]

    @property
    def _under_way(self) -> int:
        """The most beats of results between the group that makes room for them and their end, and a group's for the next one, of
        which it is known a cycle or two later."""
        beats, groups = self.machine.beats, 0
        for i in (each for each in self.program.instructions if each.out):
            drain, = (step.at for step in steps(i) if step.to is To.DRAIN)
            groups = max(groups, -(-(drain + WRITTEN + beats + LEAVES) // i.group_cycles))
        return beats * (groups + 2)

    @property
    def multipliers(self) -> int:
        return self.machine.lanes

    @property
    def multiplies_per_frame(self) -> int:
        return sum(i.work * self._tokens(i) for i in self.program.instructions)

    def _tokens(self, i: Instruction) -> int:
        """Of a sequence, those for which an instruction runs."""
        return i.runs(False) * (self.program.tiles - 1) * i.tokens + i.runs(True) * i.rest

    @property
    def utilization(self) -> float:
        """Share of the multipliers' cycles that do a multiplication of an operator."""
        return round(self.multiplies_per_frame / (self.multipliers * self.cycles_per_frame), 4)

    def memories(self) -> dict[str, int]:
        """Bits of every memory."""
        e, program, machine = self.encoded, self.program, self.machine
        sizes = [decay.bits for decay in e.decays if decay.tabled]
        tables = e.decay_bits * len(sizes) << max(sizes, default=0)
        functions = len(e.tables) * max((len(table) for table in e.tables), default=0) * e.final_bits
        found = {
            "values": program.rows * machine.lanes * e.value_bits, "weights": self._weight_bits(),
            "states": program.states * machine.lanes * e.state_bits, "biases": program.biases.size * e.bias_bits,
            "functions": functions * machine.posts, "decays": tables * machine.lanes,
            "reciprocals": sum(len(key.op.reciprocals[0]) * key.op.entry_bits for key in e.norms),
            "program": 0 if self.image else len(e.words) * e.instruction.size,
        }
        return {name: bits for name, bits in found.items() if bits}

    def _weight_bits(self) -> int:
        """On chip."""
        if self.image is None:
            return self.program.weights.size * self.program.weight_bits
        return (self.machine.stream.rows + self.image.chosen) * self.machine.lanes * ELEMENT

    def report(self) -> dict:
        """The keys of report.json that the schedule knows."""
        stages, issued = [], 0
        for i in self.program.instructions:
            tokens, tiles = self._tokens(i), i.runs(False) * (self.program.tiles - 1) + i.runs(True)
            cycles = tokens * i.token_cycles + tiles * (i.gap + self.turn) + (self.program.tiles - tiles) * skipped(self.machine)
            work = i.work * tokens
            issued += sum(step.op.works for step in steps(i) if step.issues) * i.groups * tokens
            stages.append({"name": i.name, "tokens": i.tokens, "groups": i.groups, "cycles_per_frame": cycles,
                           "multiplies_per_frame": work, "utilization": round(work / (self.multipliers * cycles), 4)})
        return {
            "organization": "engine", "lanes": self.machine.lanes, "post_processors": self.machine.posts,
            "tile": self.program.tile, "cycles_per_token": self.period, "cycles_per_frame": self.cycles_per_frame,
            "latency_cycles": self.latency, "tokens": self.tokens, "multipliers": self.multipliers,
            "multiplies_per_frame": self.multiplies_per_frame, "utilization": self.utilization,
            "issued": round(issued / self.cycles_per_frame, 4), "memories": self.memories(), "stages": stages,
            "fifo": [{"name": q.name, "depth": q.depth, "high_water": q.peak, "bits": q.depth * q.port.lanes * q.port.format.bits}
                     for q in self.queues()],
            "program": listing(self.program).splitlines(),
        } | ({"stream": self.image.report()} if self.image else {})
