"""Flipped bits in the memories of an AXI system with parity: no wrong answer without a count, and none after a reset and, where a
weight flipped, its repair. In Amaranth's simulator, where memories can be written from outside."""

import random
from collections.abc import Iterator
from dataclasses import replace

from amaranth.hdl import Fragment, MemoryData, MemoryInstance, Shape
from amaranth.sim import Simulator

from emamba.run.integer import IntegerModel
from rtl.plan.loads import envelope
from rtl.plan.schedule import Schedule
from rtl.system.registers import address, mask
from rtl.system.system import Options, System
from sim.models import random_artifact, random_inputs

from .targets import TINY, TINY_SEED

OPTIONS = Options(32, counters=False, loadable=True, stateful=True, parity=True)
LONG = 2000
"""Cycles after which an answer will not come."""


def memories(fragment: Fragment, place: tuple[str, ...] = ()) -> Iterator[tuple[str, MemoryData]]:
    """Memories of a design that are written."""
    for part, name, _ in fragment.subfragments:
        if isinstance(part, MemoryInstance) and part._write_ports:
            yield ".".join(place), part._data
        yield from memories(part, (*place, name or "memory"))


class Port:
    """The system's ports, cycle by cycle; `answer` collects what leaves, and `flip` acts in its cycle."""

    def __init__(self, system: System, ctx):
        self.system, self.ctx, self.answer, self.cycle, self.flip = system, ctx, b"", 0, {}
        self.answers: list[bytes] = []
        ctx.set(system.m_axis_tready, 1)
        ctx.set(system.s_axil_bready, 1)
        ctx.set(system.s_axil_rready, 1)

    async def step(self) -> None:
        system, ctx = self.system, self.ctx
        if self.cycle in self.flip:
            row, value = self.flip[self.cycle]
            ctx.set(row, ctx.get(row) ^ value)
        if ctx.get(system.m_axis_tvalid):
            keep = ctx.get(system.m_axis_tkeep)
            word = ctx.get(system.m_axis_tdata).to_bytes(4, "little")
            self.answer += bytes(byte for k, byte in enumerate(word) if keep >> k & 1)
            if ctx.get(system.m_axis_tlast):
                self.answers.append(self.answer)
                self.answer = b""
        self.cycle += 1
        await ctx.tick()

    async def _lite(self, channels: dict[str, dict[str, int]], answer: str) -> int:
        system, ctx, waiting = self.system, self.ctx, set(channels)
        for channel, values in channels.items():
            for name, value in (values | {"valid": 1}).items():
                ctx.set(getattr(system, f"s_axil_{channel}{name}"), value)
        while True:
            ready = {channel for channel in waiting if ctx.get(getattr(system, f"s_axil_{channel}ready"))}
            done, data = ctx.get(getattr(system, f"s_axil_{answer}valid")), ctx.get(system.s_axil_rdata)
            await self.step()
            for channel in ready:
                ctx.set(getattr(system, f"s_axil_{channel}valid"), 0)
            waiting -= ready
            if done:
                return data

    async def write(self, name: str, value: int) -> None:
        await self._lite({"aw": {"addr": address(name)}, "w": {"data": value, "strb": 15}}, "b")

    async def read(self, name: str) -> int:
        return await self._lite({"ar": {"addr": address(name)}}, "r")

    async def send(self, packet: bytes) -> None:
        system, ctx = self.system, self.ctx
        for k in range(0, len(packet), 4):
            part = packet[k:k + 4]
            ctx.set(system.s_axis_tdata, int.from_bytes(part, "little"))
            ctx.set(system.s_axis_tkeep, (1 << len(part)) - 1)
            ctx.set(system.s_axis_tlast, k + 4 >= len(packet))
            ctx.set(system.s_axis_tvalid, 1)
            limit = self.cycle + LONG
            while not (taken := ctx.get(system.s_axis_tready)) and self.cycle < limit:
                await self.step()
            await self.step()
            ctx.set(system.s_axis_tvalid, 0)
            assert taken, "the system takes nothing"

    async def frame(self, packet: bytes) -> bytes:
        """Its answer; nothing where none comes."""
        self.answers.clear()
        await self.send(packet)
        limit = self.cycle + LONG
        while not self.answers and self.cycle < limit:
            await self.step()
        return self.answers[0] if self.answers else b""


def run(flips: int = 400, seed: int = 0) -> dict:
    """Flips of one bit in random words, before or in the middle of a frame, and what became of that frame and the next ones."""
    artifact = replace(random_artifact(TINY, TINY_SEED), digest="5a" * 32)
    system = System(Schedule(envelope(artifact), 2), OPTIONS, artifact)
    design = Fragment.get(system, None)
    places = [(name, data) for name, data in memories(design) if Shape.cast(data.shape).width > 1 and "core" in name]
    tokens = artifact.codec.encode(random_inputs(artifact.config, 3), artifact.input)
    answers, rng = IntegerModel(artifact).answer(tokens), random.Random(seed)
    packets = [frame.astype(f"<i{system.input_bytes}").tobytes() for frame in tokens]
    wanted = [frame.astype(f"<i{system.output_bytes}").tobytes() for frame in answers]
    result = {"flips": flips, "memories": len(places), "seen": 0, "wrong": 0, "wrong unseen": 0, "wrong later": 0}

    async def bench(ctx):
        port = Port(system, ctx)
        await port.write("CONTROL", mask("CONTROL", "ENABLE"))
        assert await port.frame(packets[0]) == wanted[0] and await port.read("PARITY_FAULTS") == 0
        began = port.cycle
        assert await port.frame(packets[0]) == wanted[0]
        length = port.cycle - began
        for _ in range(flips):
            _, memory = rng.choice(places)
            row, bit = memory[rng.randrange(memory.depth)], 1 << rng.randrange(Shape.cast(memory.shape).width)
            before = {data: [ctx.get(data[k]) for k in range(data.depth)] for _, data in places}
            port.flip = {port.cycle + rng.randrange(length): (row, bit)}
            wrong = [await port.frame(packets[k]) != wanted[k] for k in range(2)]
            seen = await port.read("PARITY_FAULTS") > 0
            assert seen == bool(await port.read("ERRORS") & mask("ERRORS", "PARITY"))
            result["seen"] += seen
            result["wrong"] += any(wrong)
            result["wrong unseen"] += any(wrong) and not seen
            for data, words in before.items():
                for k, word in enumerate(words):
                    ctx.set(data[k], word)
            await port.write("COMMAND", mask("COMMAND", "RESET") | mask("COMMAND", "ABANDON") | mask("COMMAND", "CLEAR_COUNTERS"))
            await port.write("ERRORS", 0xFFFFFFFF)
            result["wrong later"] += await port.frame(packets[2]) != wanted[2] or await port.read("PARITY_FAULTS") > 0

    simulator = Simulator(design)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return result
