"""Causal depthwise convolution over tokens."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib.memory import Memory

from emamba.operators import MULTIPLIER
from emamba.operators import Conv1d as Operator

from .datapath import Pipeline, adder_tree, fold, requantize, rom, tap_format, tree_stages
from .streams import Elementwise, Port


class Conv1d(Elementwise):
    """`lanes` channels a cycle, lanes × taps multipliers. The taps − 1 tokens before the current one are kept per channel and
    count as zero where `first` is set. Formats, rounding and bounds: `emamba.operators.Conv1d`.
    """

    def __init__(self, op: Operator, lanes: int):
        self.op = op
        port = Port(op.i, op.width, lanes)
        super().__init__({"i": port}, Port(op.o, op.width, lanes))
        self.taps = op.weight.shape[1]
        self.multipliers = lanes * (self.taps + op.dyadic)

    def model(self, x):
        return self.op(x)

    @property
    def latency(self) -> int:
        """Taps, products, adder tree, (multiplier,) requantizer."""
        return 3 + tree_stages(self.taps + 1) + self.op.dyadic

    def elaborate(self, platform):
        m = Module()
        op, lanes, taps = self.op, self.output.lanes, self.taps
        token_beats, bits = self.output.beats, op.i.bits
        pipeline = Pipeline(m, self.o)
        advance = pipeline.advance
        step = self.i.valid & advance
        beat = Signal(range(token_beats))
        m.d.comb += self.i.ready.eq(advance)
        with m.If(step):
            m.d.sync += beat.eq(Mux(beat == token_beats - 1, 0, beat + 1))

        windows = [[x] for x in self.i.payload.data]
        if taps > 1:
            row = unsigned(lanes * (taps - 1) * bits)
            m.submodules.history = history = Memory(shape=row, depth=token_beats, init=[])
            read, write = history.read_port(domain="comb"), history.write_port()
            past = Signal(row)
            m.d.comb += [
                read.addr.eq(beat), write.addr.eq(beat), write.en.eq(step),
                past.eq(Mux(self.i.payload.first, 0, read.data)),
            ]
            for lane, x in enumerate(self.i.payload.data):
                base = lane * (taps - 1) * bits
                slices = [past[base + k * bits:base + (k + 1) * bits] for k in range(taps - 1)]
                windows[lane] = [s.as_signed() if op.i.signed else s for s in slices] + [x]
                for k, value in enumerate(windows[lane][1:]):
                    m.d.comb += write.data[base + k * bits:base + (k + 1) * bits].eq(value)

        weight_rows = fold(op.weight, token_beats, lanes).reshape(token_beats, -1)
        weights = rom(m, "weight", weight_rows, tap_format(op.weight), beat, advance)
        bias_beat = pipeline.register(beat, "bias_beat")
        bias = rom(m, "bias", fold(op.bias, token_beats, lanes), tap_format(op.bias), bias_beat, advance)
        sums = []
        for lane, window in enumerate(windows):
            held = [pipeline.register(tap, "tap") for tap in window]
            products = [pipeline.register(weights[lane * taps + k] * tap, "product") for k, tap in enumerate(held)]
            sums.append(adder_tree(pipeline, [*products, bias[lane]], "tree"))
        if op.dyadic:
            at = pipeline.register(beat, "scale_beat", self.latency - 3)
            scale = rom(m, "scale", fold(op.multiplier, token_beats, lanes), MULTIPLIER, at, advance)
            sums = [pipeline.register(s * k, "scaled") for s, k in zip(sums, scale, strict=True)]
        results = [pipeline.register(requantize(m, s, op.shift, op.o, op.rounding), "y") for s in sums]
        pipeline.finish(results, self.i.payload.first, self.i.payload.last, self.i.valid, self.latency)
        return m
