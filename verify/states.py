"""Every state of every controller, and stalls of every port in each of them.

A controller is a register with a reset, of few bits: data registers have none, or many. A point is a value of such a register; or
such a value while a port offers nothing, or while an offer of it waits. Random streams with resets and stalls of every rate, in
Amaranth's simulator, show most points; that the others cannot occur is proven, from any state after one cycle of reset.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from amaranth.hdl import Elaboratable, Fragment, Module, ResetInserter, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In
from amaranth.sim import Simulator

from emamba.base.formats import IntFormat
from rtl.kit.block import Beat, Block, Port
from rtl.kit.streams import Fifo, Fork, Gearbox, Pacer

from .prove import Proof, prove
from .stream_rules import StreamBench

CYCLES, WIDEST = 4000, 6
RATES = (0, 20, 50, 80, 95)
RUN = 40
"""Cycles between two resets, with the same rates of stalls."""


@dataclass
class Found:
    """`unseen` points were not seen, and are proven to be impossible where `proof` says so."""

    registers: int
    points: int
    unseen: list[str]
    proof: Proof | None
    cycles: int

    @property
    def open(self) -> int:
        return len(self.unseen) if self.proof and self.proof.result != "proven" else 0


class Given(Elaboratable):
    """A component that was elaborated, so that its registers have names outside."""

    def __init__(self, fragment: Fragment):
        self.fragment = fragment

    def elaborate(self, platform):
        return self.fragment


def _controllers(fragment: Fragment) -> list[Signal]:
    return list({id(signal): signal for signal in _registers(fragment) if 0 < len(signal) <= WIDEST}.values())


def _registers(fragment: Fragment) -> Iterator[Signal]:
    for statement in fragment.statements.get("sync", ()):
        yield from (signal for signal in statement._lhs_signals() if not signal.reset_less)
    for part, *_ in fragment.subfragments:
        yield from _registers(part)


def ports(component: Component) -> Iterator[tuple[str, object, bool]]:
    """Name, stream and whether it comes in, of every stream port."""
    for name, member in component.signature.members.items():
        if member.is_signature and isinstance(member.signature, stream.Signature):
            for path in [()] if not member.dimensions else [(k,) for k in range(member.dimensions[0])]:
                port = getattr(component, name)
                yield "".join([name, *map(str, path)]), port[path[0]] if path else port, member.flow is In


def beats(component: Component, name: str) -> int:
    """Beats of a token at an input."""
    return component.inputs[name].beats if isinstance(component, Block) else 1


def walk(component: Component, cycles: int = CYCLES) -> Found:
    fragment = Fragment.get(component, None)
    registers, streams = _controllers(fragment), list(ports(component))
    rng, seen = random.Random(0), set()
    reset = Signal()
    simulator = Simulator(ResetInserter(reset)(Given(fragment)))
    simulator.add_clock(1e-6)

    async def bench(ctx):
        flags = {}
        for cycle in range(cycles):
            if cycle % RUN == 0:
                rates = {name: rng.choice(RATES) for name, *_ in streams}
                ctx.set(reset, 1)
                await ctx.tick()
                ctx.set(reset, 0)
                held, place = {}, {}
            for name, port, enters in streams:
                moves = rng.randrange(100) >= rates[name]
                if not enters:
                    ctx.set(port.ready, moves)
                elif name not in held and moves:
                    if not place.get(name):
                        flags[name] = rng.randrange(4)
                    held[name] = rng.getrandbits(len(Value.cast(port.payload)) - 2) | flags[name] << (
                        len(Value.cast(port.payload)) - 2)
                    ctx.set(Value.cast(port.payload), held[name])
                if enters:
                    ctx.set(port.valid, name in held)
            states = [(register.name, k, ctx.get(register)) for k, register in enumerate(registers)]
            for name, port, enters in streams:
                valid, ready = ctx.get(port.valid), ctx.get(port.ready)
                condition = "waits" if valid and not ready else "is absent" if not valid else ""
                if condition:
                    seen.update((state, name, condition) for state in states)
                if enters and valid and ready:
                    del held[name]
                    place[name] = (place.get(name, 0) + 1) % beats(component, name)
            seen.update(states)
            await ctx.tick()

    simulator.add_testbench(bench)
    simulator.run()
    fragment, wanted = Fragment.get(component, None), {}
    for k, register in enumerate(_controllers(fragment)):
        for value in range(1 << len(register)):
            state, at = (register.name, k, value), register.as_unsigned() == value
            wanted[state] = at
            for name, port, _ in streams:
                wanted[state, name, "waits"] = at & port.valid & ~port.ready
                wanted[state, name, "is absent"] = at & ~port.valid
    unseen = {point: condition for point, condition in wanted.items() if point not in seen}
    proof = prove(Impossible(component, fragment, list(unseen.values())), 300) if unseen else None
    return Found(len(registers), len(wanted), [str(point) for point in unseen], proof, cycles)


class Impossible(StreamBench):
    """None of the conditions ever holds, for any streams and data."""

    cut = True

    def __init__(self, component: Component, fragment: Fragment, conditions: list):
        super().__init__()
        self.component, self.fragment, self.conditions = component, fragment, conditions

    def body(self, m: Module) -> None:
        m.submodules.dut = Given(self.fragment)
        for name, port, enters in ports(self.component):
            if enters:
                self.drive(m, port, name, beats(self.component, name))
            else:
                self.sink(m, port, name)
        for condition in self.conditions:
            self.check(m, ~condition)


def primitives() -> dict[str, Callable[[], Component]]:
    """What makes one of each stream primitive."""
    beat = Beat(IntFormat(2), 1)
    return {
        "FIFO": partial(Fifo, beat, 3),
        "FIFO, not through": partial(Fifo, beat, 3, through=False),
        "fork": partial(Fork, beat, 3),
        "gearbox": Gearbox(IntFormat(2), 5, 2, 3).build,
        "pacer": Pacer(Port(IntFormat(2), 3, 1), 5).build,
    }
