"""Token embedding: one table row per token id."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emamba.base.formats import IntFormat
from emamba.ops import Lookup as Operator

from ..kit.block import Port, Spec, transfers
from ..kit.datapath import Pipeline, fold
from ..kit.hdl import Mux, Signal
from ..kit.registry import Stage, realizes
from ..kit.rom import rom, rom_latency


@realizes(Operator)
@dataclass(frozen=True)
class Lookup(Spec):
    """`lanes` channels a cycle; the id is held for the beats of its row. Formats: `emamba.ops.Lookup`."""

    stores = None

    op: Operator
    lanes: int

    @cached_property
    def inputs(self):
        return {"i": Port(self.op.i, 1, 1)}

    @classmethod
    def fold(cls, op: Operator, stage: Stage) -> "Lookup":
        return cls(op, stage.lanes(op.width))

    @cached_property
    def latency(self) -> int:
        return rom_latency(len(self.op.table) * self.output.beats)

    def schedule(self, arrivals):
        count = self.output.beats
        taken = transfers(arrivals, count)
        return taken, (taken[:, None] + np.arange(self.latency + 1 - count, self.latency + 1)).reshape(-1)

    def constants(self, op: Operator | None = None) -> dict[str, tuple[np.ndarray, IntFormat]]:
        """By name, the rows of every constant memory and their format; of another operator, where one is given."""
        op = op or self.op
        rows = fold(op.table.T, self.output.beats, self.lanes).transpose(2, 0, 1)
        return {"table": (rows.reshape(len(op.table) * self.output.beats, -1), op.o)}

    def circuit(self, m, block, platform):
        vocabulary, count = len(self.op.table), self.output.beats
        pipeline = Pipeline(m, block.o, block.loads)
        pipeline.rest(platform, block.i.valid, self.latency)
        beat = Signal(range(count))
        end = beat == count - 1
        m.d.comb += block.i.ready.eq(pipeline.advance & end)
        with m.If(block.i.valid & pipeline.advance):
            m.d.sync += beat.eq(Mux(end, 0, beat + 1))
        token, = block.i.payload.data
        row = Mux(token < vocabulary, token, vocabulary - 1)
        lanes = rom(pipeline, "table", *self.constants()["table"], row * count + beat, self.latency)
        pipeline.finish(lanes, block.i.payload.first, block.i.payload.last, block.i.valid, self.latency)
