"""Causal depthwise convolution over tokens."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib.memory import Memory

from emamba.operators import MULTIPLIER
from emamba.operators import Conv1d as Operator

from .datapath import Pipeline, accumulate, adder_tree, choose, fold, requantize, rom, tap_format, tree_stages, width_of
from .streams import Block, Port, beats, transfers


class Conv1d(Block):
    """`lanes` channels × `tap_lanes` taps a cycle; a token takes ceil(channels / lanes) · ceil(taps / tap_lanes) cycles. The
    taps − 1 tokens before the current one are kept per channel and count as zero where `first` is set. Formats, rounding and
    bounds: `emamba.operators.Conv1d`.
    """

    def __init__(self, op: Operator, lanes: int, tap_lanes: int):
        self.op, self.tap_lanes = op, tap_lanes
        super().__init__({"i": Port(op.i, op.width, lanes)}, Port(op.o, op.width, lanes))
        self.taps = op.weight.shape[1]
        self.groups = beats(self.taps, tap_lanes)
        self.multipliers = lanes * (tap_lanes + op.dyadic)
        self.multiplies = op.multiplies

    def model(self, x):
        return self.op(x)

    @property
    def cycles(self) -> int:
        return self.output.beats * self.groups

    @property
    def latency(self) -> int:
        """Cycles from a beat's last group of taps to its output: taps, products, adder tree, (sum of the groups,)
        (multiplier,) requantizer."""
        return 3 + tree_stages(self.tap_lanes + (self.groups == 1)) + (self.groups > 1) + self.op.dyadic

    def schedule(self, arrivals):
        taken = transfers(arrivals, self.groups)
        return taken, [t + self.latency for t in taken]

    def elaborate(self, platform):
        m = Module()
        op, lanes, taps, groups, tap_lanes = self.op, self.output.lanes, self.taps, self.groups, self.tap_lanes
        token_beats, bits = self.output.beats, op.i.bits
        pipeline = Pipeline(m, self.o)
        advance, register = pipeline.advance, pipeline.register
        step, beat, group = Signal(range(self.cycles)), Signal(range(token_beats)), Signal(range(groups))
        last_group, last_beat = group == groups - 1, beat == token_beats - 1
        m.d.comb += self.i.ready.eq(advance & last_group)
        with m.If(self.i.valid & advance):
            m.d.sync += [
                step.eq(Mux(last_group & last_beat, 0, step + 1)),
                group.eq(Mux(last_group, 0, group + 1)),
            ]
            with m.If(last_group):
                m.d.sync += beat.eq(Mux(last_beat, 0, beat + 1))

        windows = [[x] for x in self.i.payload.data]
        if taps > 1:
            row = unsigned(lanes * (taps - 1) * bits)
            m.submodules.history = history = Memory(shape=row, depth=token_beats, init=[])
            read, write = history.read_port(domain="comb"), history.write_port()
            past = Signal(row)
            m.d.comb += [
                read.addr.eq(beat), write.addr.eq(beat), write.en.eq(self.i.valid & self.i.ready),
                past.eq(Mux(self.i.payload.first, 0, read.data)),
            ]
            for lane, x in enumerate(self.i.payload.data):
                base = lane * (taps - 1) * bits
                slices = [past[base + k * bits:base + (k + 1) * bits] for k in range(taps - 1)]
                windows[lane] = [s.as_signed() if op.i.signed else s for s in slices] + [x]
                for k, value in enumerate(windows[lane][1:]):
                    m.d.comb += write.data[base + k * bits:base + (k + 1) * bits].eq(value)

        by_lane = fold(op.weight, token_beats, lanes).transpose(2, 0, 1)  # taps, beats, lanes
        weight_rows = fold(by_lane, groups, tap_lanes).transpose(2, 0, 3, 1).reshape(self.cycles, -1)
        weights = rom(m, "weight", weight_rows, tap_format(op.weight), step, advance)
        sums = []
        for lane, window in enumerate(windows):
            held = [register(tap, "tap") for tap in choose(m, window, group, groups, tap_lanes)]
            sums.append([register(weights[lane * tap_lanes + k] * tap, "product") for k, tap in enumerate(held)])
        bias_rows, bias_format = fold(op.bias, token_beats, lanes), tap_format(op.bias)
        if groups == 1:
            bias = rom(m, "bias", bias_rows, bias_format, register(beat, "bias_beat"), advance)
            sums = [adder_tree(pipeline, [*products, b], "tree") for products, b in zip(sums, bias, strict=True)]
        else:
            before = 2 + tree_stages(tap_lanes)
            bias = rom(m, "bias", bias_rows, bias_format, register(beat, "bias_beat", before - 1), advance)
            start = register(group == 0, "start", before)
            live = pipeline.flag(self.i.valid, "live", before)
            sums = [accumulate(m, pipeline, adder_tree(pipeline, products, "tree"), b, start, live, width_of(op.bound))
                    for products, b in zip(sums, bias, strict=True)]
        if op.dyadic:
            scale = rom(m, "scale", fold(op.multiplier, token_beats, lanes), MULTIPLIER,
                        register(beat, "scale_beat", self.latency - 3), advance)
            sums = [register(s * k, "scaled") for s, k in zip(sums, scale, strict=True)]
        results = [register(requantize(m, s, op.shift, op.o, op.rounding), "y") for s in sums]
        pipeline.finish(results, self.i.payload.first, self.i.payload.last, self.i.valid & last_group, self.latency)
        return m
