"""A bench in Amaranth's simulator: for short ones, since nothing is compiled."""

from collections.abc import Sequence

from amaranth.hdl import Value
from amaranth.sim import Simulator

from .bench import Bench
from .driver import Run


class Pin:
    def __init__(self, ctx, signal: Value):
        self.ctx, self.signal, self.bits = ctx, signal, len(signal)

    def set(self, value: int) -> None:
        self.ctx.set(self.signal, value)

    def get(self) -> int:
        return self.ctx.get(self.signal)


def run(bench: Bench, name: str, rates: Sequence[tuple[int, int]] = ((0, 0), (30, 30), (70, 70))) -> None:
    """Runs a bench with each of `rates`, percent of the cycles in which inputs and outputs pause; a wrong beat raises. Without
    pauses all beats are played, each of which must be in its cycle."""
    spec = bench.spec(name)

    def pins(ctx, port: str) -> tuple[Pin, Pin, Pin]:
        name, _, index = port.partition("__")
        stream = getattr(bench.component, name)
        stream = stream[int(index)] if index else stream
        return Pin(ctx, Value.cast(stream.payload)), Pin(ctx, stream.valid), Pin(ctx, stream.ready)

    async def nothing() -> None:
        """A value that is read here is steady."""

    async def test(ctx):
        pauses = next(left)
        fast = pauses == (0, 0)
        played = Run(spec, lambda port: pins(ctx, port), "amaranth", pauses, whole=fast)
        await played.play(nothing, ctx.tick)
        if fast:
            played.check_cycles()

    left, simulator = iter(rates), Simulator(bench.component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(test)
    for k in range(len(rates)):
        if k:
            simulator.reset()
        simulator.run()
