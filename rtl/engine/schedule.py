"""What the rest of the project asks a schedule: ports, exact cycles, the report."""

from functools import cached_property

from emamba.artifact import Artifact

from ..kit.block import Port
from .compiler import compile_program
from .encode import Encoded
from .machine import Machine


class EngineSchedule:
    """An artifact as a program for an engine: the counterpart of `rtl.plan.schedule.Schedule`."""

    def __init__(self, artifact: Artifact, machine: Machine):
        self.artifact, self.machine, self.graph = artifact, machine, artifact.graph
        self.program = compile_program(artifact, machine)
        self.tokens = self.graph.length
        self.blocks: dict = {}
        posts = machine.posts
        source, result = self.graph.input, self.graph.output
        self.input = Port(artifact.operators[source.name].o, source.width, posts)
        self.output = Port(artifact.operators[result.name].o, result.width, posts)

    @cached_property
    def encoded(self) -> Encoded:
        return Encoded(self.program)

    @property
    def cycles_per_frame(self) -> int:
        return self.program.cycles_per_frame

    @property
    def period(self) -> int:
        """Cycles a token, rounded up."""
        return -(-self.cycles_per_frame // self.tokens)

    def queues(self) -> list:
        return []
