"""Every stream of an accelerator, cycle by cycle, in Amaranth's simulator: slower than the native one, and needs no compiler."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Cat
from amaranth.sim import Simulator

from emamba.base.errors import DesignLimit
from rtl.kit import packing
from rtl.kit.block import Port
from rtl.plan.accelerator import Accelerator
from rtl.plan.schedule import Schedule

Array = np.ndarray

MOST_MULTIPLIERS = 20_000
"""Of a design that is simulated here: half a minute to elaborate, then a tenth of a second a cycle."""


@dataclass
class Recording:
    """What every stream did in every cycle since the reset.

    `streams` are the design's own, `i` and `o`, and its blocks', as `block0.x.i`, in the order of the data. `valid` and
    `ready` are bool [cycles, streams]; `payload` has a row of integers a cycle, one a stream, with the bits of `rtl.kit.packing`.
    """

    streams: dict[str, Port]
    valid: Array
    ready: Array
    payload: list[tuple[int, ...]]

    @property
    def cycles(self) -> int:
        return len(self.payload)

    def transfers(self, name: str) -> tuple[Array, Array]:
        """Cycles in which a stream transfers, int64 [beats], and the beats [beats, words]."""
        port, k = self.streams[name], list(self.streams).index(name)
        cycles = np.flatnonzero(self.valid[:, k] & self.ready[:, k])
        return cycles, packing.from_ints([self.payload[cycle][k] for cycle in cycles], packing.payload_words(port))

    def stalls(self, bins: int = 60) -> dict:
        """Cycles in which each stream transfers, is starved (`valid` is low: it waits for its sender) and is blocked (`ready`
        alone is low: for its receiver), of all cycles and from each of `edges` to the next."""
        edges = np.unique(np.linspace(0, self.cycles, bins + 1).astype(int))
        kinds = {"transfer": self.valid & self.ready, "starved": ~self.valid, "blocked": self.valid & ~self.ready}
        binned = {kind: np.add.reduceat(cycles, edges[:-1], axis=0, dtype=np.int64) for kind, cycles in kinds.items()}
        return {"cycles": self.cycles, "edges": edges.tolist(), "streams": [
            {"name": name, "lanes": port.lanes} | {kind: int(counts[:, k].sum()) for kind, counts in binned.items()}
            | {"bins": {kind: counts[:, k].tolist() for kind, counts in binned.items()}}
            for k, (name, port) in enumerate(self.streams.items())]}


def record(schedule: Schedule, tokens: Array, cycles: int, stall_percent: int = 0,
           progress: Callable[[int], None] | None = None) -> Recording:
    """Feeds integers [batch, L, input width] until the last result has left, or `cycles` are over. With `stall_percent` the
    design's two ports pause at random, by a fixed seed, in that share of the cycles."""
    if schedule.multipliers > MOST_MULTIPLIERS:
        raise DesignLimit(f"{schedule.artifact.name} at {schedule.period} cycles a token has {schedule.multipliers} multipliers; "
                          f"at most {MOST_MULTIPLIERS} are simulated here: give more --cycles-per-token")
    design = Accelerator(schedule)
    streams = {"i": (schedule.input, design.i)}
    for name, block in design.blocks.items():
        streams |= {f"{name}.{port}": (block.inputs[port], getattr(block, port)) for port in block.inputs}
        streams[f"{name}.o"] = block.output, block.o
    streams["o"] = schedule.output, design.o
    names = list(streams)
    pauses = np.random.default_rng(0).random((cycles, 2)) * 100 < stall_percent
    waiting = packing.to_ints(packing.pack(schedule.input, tokens, schedule.graph.window(len(tokens))))[::-1]
    left = len(tokens) * schedule.output.beats * schedule.graph.output.tokens
    flags, payload = [], []

    async def run(ctx):
        nonlocal left
        offered = False
        for cycle, (late, deaf) in enumerate(pauses):
            if waiting and not offered and not late:
                offered = True
                ctx.set(design.i.payload.as_value(), waiting.pop())
            ctx.set(design.i.valid, offered)
            ctx.set(design.o.ready, int(not deaf))
            _, _, valid, ready, *values = await ctx.tick().sample(
                Cat(stream.valid for _, stream in streams.values()), Cat(stream.ready for _, stream in streams.values()),
                *(stream.payload.as_value() for _, stream in streams.values()))
            flags.append((valid, ready))
            payload.append(tuple(values))
            offered &= not ready & 1
            left -= valid & ready & 1 << len(names) - 1 > 0
            if progress:
                progress(cycle + 1)
            if not left:
                return

    simulator = Simulator(design)
    simulator.add_clock(1e-9)
    simulator.add_testbench(run)
    simulator.run()
    valid, ready = (np.array([[word >> k & 1 for k in range(len(names))] for word in words], bool)
                    for words in zip(*flags, strict=True))
    return Recording({name: port for name, (port, _) in streams.items()}, valid, ready, payload)
