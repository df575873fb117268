"""A block: its streams, the spec that is its plain value, and the component that a spec builds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from amaranth.lib import data, stream, wiring

from emamba.base.formats import IntFormat

from . import inventory as inv
from .hdl import Component, In, Module, Out, Shape, Signal, signed, unsigned
from .states import StateWindow
from .tally import tally

Cycles = np.ndarray
"""Of every beat of a stream, the cycle in which it comes, is taken, or leaves."""


def shape_of(o: IntFormat) -> Shape:
    return signed(o.bits) if o.signed else unsigned(o.bits)


def beats(width: int, lanes: int) -> int:
    """Beats per token."""
    return -(-width // lanes)


class Beat(data.StructLayout):
    """Payload of every stream: `data[lanes]`, `first`, `last`."""

    def __init__(self, format: IntFormat, lanes: int):
        super().__init__({"data": data.ArrayLayout(shape_of(format), lanes), "first": 1, "last": 1})

    @cached_property
    def size(self) -> int:
        return super().size


@dataclass(frozen=True)
class Port:
    """A stream of tokens: `width` channels of `format`, `lanes` of them a beat."""

    format: IntFormat
    width: int
    lanes: int

    @property
    def beats(self) -> int:
        return beats(self.width, self.lanes)

    @property
    def signature(self) -> stream.Signature:
        return _stream(self.format, self.lanes)


@lru_cache(maxsize=4096)
def _stream(format: IntFormat, lanes: int) -> stream.Signature:
    return stream.Signature(Beat(format, lanes))


@dataclass(frozen=True)
class BlockOptions:
    """What a block has beside its streams.

    `count`: flags of clipped values; `carried`: a packet without `first` goes on with the state of the one before; `stateful`:
    that, and a window onto the state; `parity` of its memories; `loads`: by name, makers of memories that stand for constant
    ones (`rtl.plan.loads`).
    """

    count: bool = False
    carried: bool = False
    stateful: bool = False
    parity: bool = False
    loads: Mapping[str, Callable[[], wiring.Component]] = field(default_factory=dict)


PLAIN = BlockOptions()


class Spec:
    """A block as a plain value: an operator, its lanes, its realization. Subclasses are frozen dataclasses.

    `inputs` by name and `output` are its streams: of `lanes` channels of `op`, unless a block says otherwise. `model(*tokens)`
    is the integer definition, on arrays [batch, L, width]; `schedule(*arrivals)` the exact timing, on arrays of cycles;
    `multipliers` the number of multiplier circuits, `multiplies` how many multiplications a token takes, and `cycles` the cycles
    that it occupies the block.
    `circuit` writes the block into a module.
    """

    multipliers = multiplies = 0
    state = 0, 0  # rows that it keeps from token to token, and bits of a row
    stores: str | None  # what its RAMs hold, None where it has none; every kind of block says it

    def __init_subclass__(cls):
        if not hasattr(cls, "stores"):
            raise TypeError(f"the block {cls.__name__} must say in `stores` what its RAMs hold, or None")

    @cached_property
    def inputs(self) -> dict[str, Port]:
        return {"i": Port(self.op.i, self.op.width, self.lanes)}

    @cached_property
    def output(self) -> Port:
        return Port(self.op.o, self.op.width, self.lanes)

    def model(self, *tokens):
        return self.op(*tokens)

    @property
    def cycles(self) -> int:
        return max(port.beats for port in (*self.inputs.values(), self.output))

    def over(self, tokens: int) -> "Spec":
        """The block for sequences of so many tokens, by which the schedule follows a part of one."""
        return self

    def paced(self, cycles: int) -> "Spec":
        """The block for a design that takes a sequence every so many cycles: what it could give faster it gives evenly."""
        return self

    def saturates(self, options: BlockOptions) -> bool:
        """Whether its state can be clipped."""
        return False

    def inventory(self, options: BlockOptions = PLAIN) -> inv.Inventory:
        """What its circuit is made of."""
        bare = options == BlockOptions(carried=options.carried)
        return _made(self, options.carried) if bare else tally(lambda: self.build(options))

    def circuit(self, m: Module, block: "Block", platform) -> None:
        """Writes the circuit between the streams of `block` into `m`."""
        raise NotImplementedError

    def build(self, options: BlockOptions = PLAIN, name: str = "") -> "Block":
        """The component; `name` is that of its window."""
        return Block(self, options, name, src_loc_at=1)


class Block(Component):
    """The component of a spec, whose attributes it shows: its input streams by name, and one output stream `o`.

    `clips` has a flag of every output lane whose value is clipped, `saturates` is high where the state is, both where that is
    counted; `window` opens the state (`rtl.kit.states`); `fault` is high as a memory gives a word of wrong parity.
    """

    def __init__(self, spec: Spec, options: BlockOptions = PLAIN, name: str = "", *, src_loc_at: int = 0):
        self.spec, self.options, self.carries = spec, options, options.carried or options.stateful
        super().__init__({name: In(port.signature) for name, port in spec.inputs.items()} | {"o": Out(spec.output.signature)})
        self.loads = {part: make() for part, make in options.loads.items()}
        self.clips = Signal(spec.output.lanes, name="clips") if options.count else None
        self.saturates = Signal(name="saturates") if options.count and spec.saturates(options) else None
        self.fault = Signal(name="fault") if options.parity else None
        rows, bits = spec.state
        self.window = StateWindow(name, rows, bits) if options.stateful and bits else None

    def __getattr__(self, name: str):
        if name == "spec":
            raise AttributeError(name)
        return getattr(self.spec, name)

    def elaborate(self, platform):
        m = Module()
        self.spec.circuit(m, self, platform)
        return m


@lru_cache(maxsize=4096)
def _made(spec: Spec, carried: bool) -> inv.Inventory:
    return tally(lambda: spec.build(BlockOptions(carried=carried)))


def transfers(arrivals: Cycles, hold: int = 1, free: int = 0) -> Cycles:
    """Cycle in which each beat is taken by a consumer that needs `hold` cycles a beat, takes it in the last of them, and is busy
    until cycle `free`."""
    before = hold * np.arange(len(arrivals))
    return np.maximum(np.maximum.accumulate(arrivals - before), free) + before + (hold - 1)


class Elementwise(Spec):
    """A block that takes one beat of every input together and gives one beat `latency` cycles later."""

    stores = None
    latency: int

    def schedule(self, *arrivals):
        taken = transfers(np.maximum.reduce(arrivals))
        return *([taken] * len(arrivals)), taken + self.latency
