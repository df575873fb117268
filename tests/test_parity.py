"""Parity of memories: one flipped bit is seen as its word is read, and nothing else is."""

from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
from amaranth.lib.memory import Memory
from amaranth.sim import Simulator

from emamba.base.formats import IntFormat
from rtl.kit.block import Beat, Block, BlockOptions
from rtl.kit.streams import Fifo
from rtl.plan.loads import Column, LoadableRom, LoadBus
from sim import cases

ROWS = np.arange(24).reshape(12, 2)


def fifo() -> Fifo:
    return Fifo(Beat(IntFormat(8), 2), 4, parity=True)


def block(name: str) -> Block:
    return cases.BLOCKS[name]().build(BlockOptions(parity=True))


def rom() -> LoadableRom:
    return LoadableRom(ROWS, IntFormat(8), [Column("a", 0, 16, 12)], LoadBus(16), parity=True)


CASES: dict[str, tuple[Callable, str]] = {
    "FIFO": (fifo, "rtl.kit.streams"), "scan": (lambda: block("scan-5-4-2-2"), "rtl.blocks.recurrence"),
    "convolution": (lambda: block("conv1d-5-3-2-3"), "rtl.blocks.conv1d"),
    "attention": (lambda: block("attention-4-2-2"), "rtl.blocks.attention"),
    "norm": (lambda: block("range_norm-5-2-12"), "rtl.kit.streams"),
    "weights": (rom, "rtl.plan.loads"),
}


def faults(component, module: str, flipped: int | None) -> int:
    """Cycles with a fault in some hundred of random traffic; in the middle, one bit of every word of a memory flips."""
    memories, rng = [], np.random.default_rng(0)

    def make(**settings) -> Memory:
        memories.append(Memory(**settings))
        return memories[-1]

    with mock.patch(f"{module}.Memory", make):
        simulator = Simulator(component)
    inputs = getattr(component, "inputs", {"i": None})
    sent, count = dict.fromkeys(inputs, 0), 0

    async def bench(ctx):
        nonlocal count
        for cycle in range(300):
            if isinstance(component, LoadableRom):
                ctx.set(component.en, 1)
                ctx.set(component.addr, cycle % 12)
            else:
                for name, port in inputs.items():
                    i = getattr(component, name)
                    ctx.set(i.valid, 1)
                    ctx.set(i.payload.first, sent[name] < (port.beats if port else 1))
                    for lane in i.payload.data:
                        ctx.set(lane, int(rng.integers(-100, 100)))
                    sent[name] += ctx.get(i.ready)
                ctx.set(component.o.ready, cycle % 3 == 0)
            if cycle == 150 and flipped is not None:
                rows = memories[0].data
                for k in range(rows.depth):
                    ctx.set(rows[k], ctx.get(rows[k]) ^ 1 << flipped % rows.shape.width)
            count += ctx.get(component.fault)
            await ctx.tick()

    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return count


@pytest.mark.parametrize("name", CASES)
def test_a_flipped_bit_is_seen(name):
    make, module = CASES[name]
    assert faults(make(), module, None) == 0
    for flipped in (0, 5, -1):
        assert faults(make(), module, flipped) > 0
