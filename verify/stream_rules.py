"""The rules of a stream as assertions, and the proofs of every stream primitive.

The n-th item that leaves is the n-th that entered, for every n: a free choice marks one item as it enters and counts the items
before it, which must leave first; then the marked one must leave, unchanged. With a count of all items inside that never
exceeds the capacity nor falls below zero, nothing is lost, duplicated or reordered.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value

from emamba.base.formats import IntFormat
from rtl.kit.block import Beat, Port
from rtl.kit.streams import Fifo, Fork, Gearbox, Pacer

from .prove import Bench

FAIR = 2
"""Cycles after which a fair partner offers or takes a beat."""


class StreamBench(Bench):
    """Drives inputs that keep the rules but stall at will, and watches outputs. With `fair`, no partner stalls for more than
    FAIR − 1 cycles."""

    def __init__(self, fair: bool = False):
        super().__init__()
        self.fair = fair

    def drive(self, m: Module, port, name: str, beats: int = 1, paint=None) -> Signal:
        """Offers any payload, and keeps an offer until it is taken; first and last are the same on all `beats` of a token, and
        are `paint` where that is given. Returns the number of the beat in its token."""
        pending, beat = Signal(name=f"{name}_pending"), Signal(range(beats), name=f"{name}_beat")
        held = Signal.like(Value.cast(port.payload), name=f"{name}_held", reset_less=True)
        offer, payload = self.any(1, f"{name}_offer"), self.any(held.shape(), f"{name}_payload")
        wants = self._fairly(m, offer, port.valid & port.ready, name) if self.fair else offer
        flags = Mux(beat == 0, payload[-2:] if paint is None else paint, held[-2:])
        m.d.comb += [
            port.valid.eq(self.live & (pending | wants)),
            Value.cast(port.payload).eq(Mux(pending, held, Cat(payload[:-2], flags))),
        ]
        with m.If(port.valid):
            m.d.sync += [pending.eq(~port.ready), held.eq(port.payload)]
            with m.If(port.ready):
                m.d.sync += beat.eq(Mux(beat == beats - 1, 0, beat + 1))
        return beat

    def sink(self, m: Module, port, name: str) -> None:
        ready = self.any(1, f"{name}_ready")
        m.d.comb += port.ready.eq(self._fairly(m, ready, port.ready, name) if self.fair else ready)

    def _fairly(self, m: Module, choice, done, name: str) -> Value:
        patience = Signal(range(FAIR), name=f"{name}_patience")
        m.d.sync += patience.eq(Mux(done | (patience == FAIR - 1), 0, patience + 1))
        return choice | (patience == FAIR - 1)

    def keeps_the_rules(self, m: Module, port, name: str) -> None:
        """Valid stays, and the payload holds, until the transfer."""
        waiting = Signal(name=f"{name}_waiting")
        before = Signal.like(Value.cast(port.payload), name=f"{name}_before", reset_less=True)
        m.d.sync += [waiting.eq(port.valid & ~port.ready), before.eq(port.payload)]
        self.check(m, ~waiting | (port.valid & (Value.cast(port.payload) == before)))

    def moves(self, m: Module, activity, bound: int) -> None:
        """`activity` is high at least once in `bound` cycles."""
        idle = Signal(range(bound + 1))
        m.d.sync += idle.eq(Mux(activity, 0, Mux(idle == bound, idle, idle + 1)))
        self.check(m, idle < bound)

    def in_order(self, m: Module, i, o, capacity: int, name: str = "o") -> None:
        """What enters at `i` leaves at `o` in order, `capacity` at most inside."""
        inside = Signal(range(capacity + 2), name=f"{name}_inside")
        ahead = Signal.like(inside, name=f"{name}_ahead")
        marked, done = Signal(name=f"{name}_marked"), Signal(name=f"{name}_done")
        saved = Signal.like(Value.cast(i.payload), name=f"{name}_saved", reset_less=True)
        mark = self.any(1, f"{name}_mark") & ~marked & ~done
        enters, leaves = i.valid & i.ready, o.valid & o.ready
        m.d.sync += inside.eq(inside + enters - leaves)
        self.check(m, ~leaves | (inside != 0) | enters)
        self.check(m, inside <= capacity)
        with m.If(marked & leaves):
            m.d.sync += [ahead.eq(ahead - 1), marked.eq(ahead != 0), done.eq(ahead == 0)]
        self.check(m, ~(marked & leaves & (ahead == 0)) | (Value.cast(o.payload) == saved))
        with m.If(mark & enters):
            m.d.sync += [saved.eq(i.payload), ahead.eq(inside - leaves), marked.eq((inside != 0) | ~leaves)]
        self.check(m, ~(mark & enters & leaves & (inside == 0)) | (Value.cast(o.payload) == Value.cast(i.payload)))


class FifoRules(StreamBench):
    def __init__(self, depth: int, through: bool, fair: bool = False, make=Fifo):
        super().__init__(fair)
        self.depth, self.through, self.make = depth, through, make

    def body(self, m: Module) -> None:
        m.submodules.dut = fifo = self.make(Beat(IntFormat(2), 1), self.depth, through=self.through)
        self.drive(m, fifo.i, "i")
        self.sink(m, fifo.o, "o")
        if self.fair:
            self.moves(m, fifo.o.valid & fifo.o.ready, 2 * FAIR + 1)
            self.moves(m, fifo.i.valid & fifo.i.ready, 2 * FAIR + 1)
        else:
            self.keeps_the_rules(m, fifo.o, "o")
            self.in_order(m, fifo.i, fifo.o, self.depth)


class ForkRules(StreamBench):
    """Every output is in order; the slowest may be one beat behind, the fastest one before the input's transfer."""

    def __init__(self, outputs: int, fair: bool = False, make=Fork):
        super().__init__(fair)
        self.outputs, self.make = outputs, make

    def body(self, m: Module) -> None:
        m.submodules.dut = fork = self.make(Beat(IntFormat(2), 1), self.outputs)
        self.drive(m, fork.i, "i")
        for k, o in enumerate(fork.o):
            self.sink(m, o, f"o{k}")
            if self.fair:
                self.moves(m, o.valid & o.ready, 3 * FAIR + 1)
                continue
            self.keeps_the_rules(m, o, f"o{k}")
            # One copy of each offer: taken before or in the cycle of the input's transfer, and never twice.
            taken = Signal(name=f"taken_{k}")
            leaves, enters = o.valid & o.ready, fork.i.valid & fork.i.ready
            m.d.sync += taken.eq(~enters & (taken | leaves))
            self.check(m, ~leaves | (fork.i.valid & ~taken & (Value.cast(o.payload) == Value.cast(fork.i.payload))))
            self.check(m, ~enters | taken | leaves)


class GearboxRules(StreamBench):
    """The marked item is one channel of a beat; it must leave in the lane and beat to which its place in the token leads."""

    def __init__(self, width: int, in_lanes: int, out_lanes: int, fair: bool = False, make=Gearbox):
        super().__init__(fair)
        self.shape, self.make = (width, in_lanes, out_lanes), make

    def body(self, m: Module) -> None:
        width, in_lanes, out_lanes = self.shape
        m.submodules.dut = box = self.make(IntFormat(1, False), width, in_lanes, out_lanes).build()
        capacity = box.capacity
        beat = self.drive(m, box.i, "i", box.in_beats)
        self.sink(m, box.o, "o")
        enters, leaves = box.i.valid & box.i.ready, box.o.valid & box.o.ready
        if self.fair:
            self.moves(m, enters, 3 * FAIR * max(box.in_beats, box.output.beats) + 2)
            self.moves(m, leaves, 3 * FAIR * max(box.in_beats, box.output.beats) + 2)
            return
        self.keeps_the_rules(m, box.o, "o")
        final = beat == box.in_beats - 1
        padded = box.output.beats * out_lanes - (box.in_beats - 1) * in_lanes  # what the last beat of a token counts for
        inside = Signal(range(2 * capacity + 1))
        m.d.sync += inside.eq(inside + Mux(enters, Mux(final, padded, in_lanes), 0) - Mux(leaves, out_lanes, 0))
        self.check(m, (inside <= capacity) & (~leaves | (inside >= out_lanes)))
        lane, mark = self.any(range(in_lanes), "lane"), self.any(1, "mark")
        real = (lane < in_lanes) & (~final | (lane < width - (box.in_beats - 1) * in_lanes))
        marked, done = Signal(), Signal()
        saved, flags = Signal(1, reset_less=True), Signal(2, reset_less=True)
        place = Signal(range(2 * capacity + in_lanes + 1))
        with m.If(marked & leaves):
            m.d.sync += [place.eq(place - out_lanes), marked.eq(place >= out_lanes), done.eq(place < out_lanes)]
        with m.If(mark & enters & real & ~marked & ~done):
            m.d.sync += [
                marked.eq(1),
                place.eq(inside + lane - Mux(leaves, out_lanes, 0)),
                saved.eq(box.i.payload.data.as_value().bit_select(lane, 1)),
                flags.eq(Value.cast(box.i.payload)[in_lanes:]),
            ]
        found = box.o.payload.data.as_value().bit_select(place[: max(1, out_lanes.bit_length())], 1)
        right = (found == saved) & (Value.cast(box.o.payload)[out_lanes:] == flags)
        self.check(m, ~(marked & leaves & (place < out_lanes)) | right)


class PacerRules(StreamBench):
    """Passes beats unchanged; two tokens begin at least `period` cycles apart, and a token waits no longer than that."""

    def __init__(self, beats: int, period: int, fair: bool = False, make=Pacer):
        super().__init__(fair)
        self.beats, self.period, self.make = beats, period, make

    def body(self, m: Module) -> None:
        m.submodules.dut = pacer = self.make(Port(IntFormat(1, False), self.beats, 1), self.period).build()
        self.drive(m, pacer.i, "i")
        self.sink(m, pacer.o, "o")
        leaves = pacer.o.valid & pacer.o.ready
        if self.fair:
            self.moves(m, leaves, self.period + 2 * FAIR + 1)
            return
        self.keeps_the_rules(m, pacer.o, "o")
        self.in_order(m, pacer.i, pacer.o, 0)
        beat, age = Signal(range(self.beats)), Signal(range(self.period + 1), init=self.period)
        m.d.sync += age.eq(Mux(leaves & (beat == 0), 1, Mux(age == self.period, age, age + 1)))
        with m.If(leaves):
            m.d.sync += beat.eq(Mux(beat == self.beats - 1, 0, beat + 1))
        self.check(m, ~(leaves & (beat == 0)) | (age == self.period))


def primitives() -> dict[str, Bench]:
    """Every stream primitive in the shapes of its benches, for any stalls and for fair partners."""
    cases: dict[str, tuple] = {}
    for depth in (1, 2, 3, 5, 8):
        for through in (True, False):
            cases[f"Fifo depth {depth}{' through' if through else ''}"] = (FifoRules, depth, through)
    for outputs in (2, 3, 4):
        cases[f"Fork to {outputs}"] = (ForkRules, outputs)
    for shape in ((4, 2, 1), (4, 1, 2), (5, 2, 3), (5, 3, 2), (6, 3, 2), (7, 2, 7), (1, 1, 1), (1, 4, 3), (8, 1, 4), (9, 2, 4)):
        cases["Gearbox of {} channels, {} to {} lanes".format(*shape)] = (GearboxRules, *shape)
    for shape in ((3, 3), (3, 5), (1, 4), (1, 1)):
        cases["Pacer of {} beats each {} cycles".format(*shape)] = (PacerRules, *shape)
    return {
        f"{name}, {'progress' if fair else 'order'}": make(*shape, fair=fair)
        for name, (make, *shape) in cases.items()
        for fair in (False, True)
    }
