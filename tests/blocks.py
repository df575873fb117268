"""Runs a block in the Amaranth simulator, or a whole model in a native one, against its integer model and its schedule."""

from pathlib import Path

import numpy as np
from amaranth.sim import Simulator

from emamba.artifact import Artifact
from emamba.run.integer import IntegerModel
from rtl.kit.block import Block, Port, Spec
from rtl.plan.schedule import Schedule
from sim.bench import STALLED
from sim.executor import RtlExecutor
from sim.models import random_inputs


def beats_of(port: Port, tokens: np.ndarray) -> list[tuple[list[int], int, int]]:
    """(lanes, first, last) of every beat."""
    result = []
    for sequence in tokens:
        for t, token in enumerate(sequence):
            for b in range(port.beats):
                lanes = [int(v) for v in token[b * port.lanes:(b + 1) * port.lanes]]
                result.append((lanes, int(t == 0), int(t == len(sequence) - 1)))
    return result


def simulate(block: Block, inputs: list[list], beats: int, rng, stall: float):
    """Feeds every input port; returns the output beats and the cycles of input and output transfers."""
    received, cycles, taken = [], [], [[] for _ in inputs]
    now = [0]
    limit = 2000 + 60 * (sum(map(len, inputs)) + beats) * max(1, block.cycles)

    async def clock(ctx):
        while True:
            await ctx.tick()
            now[0] += 1

    def feeder(port, items, log):
        async def process(ctx):
            for lanes, first, last in items:
                while rng.random() < stall:
                    await ctx.tick()
                for k in range(len(port.payload.data)):
                    ctx.set(port.payload.data[k], lanes[k] if k < len(lanes) else 0)
                ctx.set(port.payload.first, first)
                ctx.set(port.payload.last, last)
                ctx.set(port.valid, 1)
                _, _, ready = await ctx.tick().sample(port.ready)
                while not ready:
                    _, _, ready = await ctx.tick().sample(port.ready)
                log.append(now[0])
                ctx.set(port.valid, 0)
        return process

    async def sink(ctx):
        o = block.o
        while len(received) < beats:
            assert now[0] < limit, f"deadlock after {len(received)} of {beats} beats"
            ctx.set(o.ready, rng.random() >= stall)
            *_, valid, ready, payload = await ctx.tick().sample(o.valid, o.ready, o.payload)
            if valid and ready:
                received.append(([int(payload.data[k]) for k in range(len(o.payload.data))], payload.first, payload.last))
                cycles.append(now[0])

    simulator = Simulator(block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(clock, background=True)
    for name, items, log in zip(block.inputs, inputs, taken, strict=True):
        simulator.add_testbench(feeder(getattr(block, name), items, log), background=True)
    simulator.add_testbench(sink)
    simulator.run()
    return received, taken, cycles


def check(block: Spec, *tokens: np.ndarray, seed: int = 0, stalls=(0.0, 0.3, 0.7)) -> None:
    """The block equals its model under stalls, and its schedule at full speed, beat by beat."""
    answer = block.model(*tokens)
    for stall in stalls:
        some = STALLED if stall else len(answer)
        expected = beats_of(block.output, answer[:some])
        inputs = [beats_of(port, x[:some]) for port, x in zip(block.inputs.values(), tokens, strict=True)]
        received, taken, cycles = simulate(block.build(), inputs, len(expected), np.random.default_rng(seed), stall)
        for (lanes, first, last), (want, want_first, want_last) in zip(received, expected, strict=True):
            assert lanes[:len(want)] == want
            assert (first, last) == (want_first, want_last)
        if stall == 0.0:
            *transfers, departures = (cycles.tolist() for cycles in block.schedule(*[[0] * len(items) for items in inputs]))
            origin = taken[0][0] - transfers[0][0]
            for port, cycles_taken in zip(taken, transfers, strict=True):  # beats that nothing waits for may come later
                assert [cycle - origin for cycle in port] == cycles_taken[:len(port)]
            assert [cycle - origin for cycle in cycles] == departures


def check_model(artifact: Artifact, cycles: int, build: Path) -> Schedule:
    """The hardware of a model at `cycles` a token: values of every node, every beat in its cycle, high-water marks, stalls."""
    rtl = RtlExecutor(artifact, cycles, build, trace=True, fast=False)
    schedule = rtl.schedule
    until_full = schedule.latency // schedule.cycles_per_frame + 3
    integers = artifact.codec.encode(random_inputs(artifact.config, until_full), artifact.input)
    expected = IntegerModel(artifact).run(integers)
    assert all(np.array_equal(value, expected[name]) for name, value in rtl.run(integers).items())
    result = rtl.last
    assert (result.output_cycles - result.first_input).tolist() == schedule.timetable(until_full)
    assert result.peaks == {queue.name: queue.peak for queue in schedule.queues()}
    for seed, percent in ((1, 30), (2, 75)):
        assert np.array_equal(rtl.answer(integers, stall_seed=seed, stall_percent=percent), expected["head"])
    return schedule
