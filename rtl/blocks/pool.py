"""One token per sequence."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory

from emamba.ops import Pool as Operator

from ..kit import inventory as inv
from ..kit.datapath import Pipeline, signed_digits, times, width_of
from ..kit.registry import Stage, realizes
from ..kit.streams import Block, Port, transfers


@realizes(Operator)
class Pool(Block):
    """The last token, or the mean of the sequence, `lanes` channels a cycle; leaves with the sequence's last token.

    `tokens` is the nominal sequence length, for the schedule only. Formats: `emamba.ops.Pool`.
    """

    stores = "pool sum"

    latency = 3  # sum, product, requantizer

    def __init__(self, op: Operator, lanes: int, tokens: int):
        self.op, self.tokens = op, tokens
        self.keeps = False  # whether packets may go on with the state of the one before, without a first token
        super().__init__({"i": Port(op.i, op.channels, lanes)}, Port(op.o, op.channels, lanes))

    @classmethod
    def fold(cls, op: Operator, stage: Stage) -> "Pool":
        return cls(op, stage.quick_lanes(op.width), stage.tokens)

    def model(self, x):
        return self.op(x)

    def schedule(self, arrivals):
        taken = transfers(arrivals)
        count = self.output.beats
        return taken, [t + self.latency for k, t in enumerate(taken) if k // count % self.tokens == self.tokens - 1]

    @property
    def inventory(self) -> inv.Inventory:
        op, lanes, count = self.op, self.output.lanes, self.output.beats
        if not op.mean:
            bits = op.i.bits
            return lanes * (inv.register(2 * bits + op.o.bits)) + inv.finish(self.latency)
        bits = width_of(op.bound).width
        terms = [bits + shift for shift, _ in signed_digits(op.multiplier)]
        product, product_bits = inv.total(terms)
        zeros = min(shift for shift, _ in signed_digits(op.multiplier))
        idle = max(zeros, inv.unread(op.shift, op.rounding))
        lane = (inv.Inventory(adders=bits, operand_muxes=bits, registers=bits + product_bits - idle + op.o.bits) + product
                + inv.requantizer(product_bits, op.shift, op.o, op.rounding))
        return lanes * lane + inv.ram(count, bits * lanes) + inv.counter(count) + inv.finish(self.latency)

    def elaborate(self, platform):
        m = Module()
        op, lanes, count = self.op, self.output.lanes, self.output.beats
        pipeline = Pipeline(m, self.o, clips=self.clips)
        pipeline.rest(platform, self.i.valid, self.latency)
        m.d.comb += self.i.ready.eq(pipeline.advance)
        values = list(self.i.payload.data)
        if op.mean:
            shape = width_of(op.bound)
            m.submodules.sums = sums = Memory(shape=shape.width * lanes, depth=count, init=[])
            read, write = sums.read_port(domain="comb"), sums.write_port()
            beat = Signal(range(count))
            with m.If(self.i.valid & pipeline.advance):
                m.d.sync += beat.eq(Mux(beat == count - 1, 0, beat + 1))
            first = self._first(m, self.i.valid & pipeline.advance & (beat == count - 1)) if self.keeps else self.i.payload.first
            totals = []
            for k, x in enumerate(values):
                total = Signal(shape, name=f"total_{k}")
                so_far = read.data[k * shape.width:(k + 1) * shape.width].as_signed()
                m.d.comb += total.eq(x + Mux(first, 0, so_far))
                totals.append(total)
            m.d.comb += [
                read.addr.eq(beat), write.addr.eq(beat), write.data.eq(Cat(totals)),
                write.en.eq(self.i.valid & pipeline.advance),
            ]
            values = totals
        results = []
        for value in values:
            total = pipeline.register(value, "total")
            product = pipeline.register(times(total, op.multiplier) if op.mean else total, "product")
            results.append(pipeline.result(product, op.shift if op.mean else 0, op.o, op.rounding))
        pipeline.finish(results, Const(1), Const(1), self.i.valid & self.i.payload.last, self.latency)
        return m

    def _first(self, m: Module, end: Value) -> Signal:
        """High at the first token of a packet, which has no `first` where it goes on with the state of the one before."""
        first = Signal(init=1, name="first_token")
        with m.If(end):
            m.d.sync += first.eq(self.i.payload.last)
        return first
