"""The recurrence of a scan: its states from token to token."""

from ..kit.block import shape_of
from ..kit.datapath import requantize
from ..kit.hdl import Cat, Memory, Mux, Signal, unsigned
from ..kit.parity import encode


class Recurrence:
    """What a `Scan` is from Ā and the input terms to h_wide."""

    def _recurrence(self, m, block, pipeline, inner, decays, terms, first, last, live, address, origin):
        """h_wide of every lane, `loop` steps later, and whether its state is clipped; it is written in the last of them. `origin`
        is h before the first token."""
        op, loop = self.op, self.loop
        fits = not self.saturates(block.options)
        count = self.lanes * self.state_lanes
        stored = [Signal(shape_of(op.h), name="stored") for _ in range(count)]
        states = self._states(m, block, pipeline, stored, first, last, live, address)
        if loop == 4:
            states = pipeline.each(lambda own, h: own.register(h, "read"), states)
            first = pipeline.register(first, "first_read")
            if op.h0 is not None:
                origin = pipeline.each(lambda own, h: own.register(h, "origin"), origin)
        if self.cycles > 1 or block.carries or op.h0 is not None:
            states = pipeline.each(lambda own, start, h: Mux(first, start, h).as_signed(), origin, states)

        def state(own, k, h, a, term):
            register = own.register
            if loop >= 3:
                h, a, term = register(h, "h"), register(a, "a_bar", loop - 2), register(term, "b_1", loop - 2)
            product = a * h
            if loop >= 2:
                product, term = register(product, "ah"), register(term, "b_2")
            flags = []
            h_wide = requantize(own.m, product + term, 0, op.h_wide, op.rounding, fits=fits, clipped=flags)
            own.m.d.comb += stored[k].eq(requantize(own.m, h_wide, op.a_bar.frac, op.h, op.rounding, fits=fits, clipped=flags))
            return register(h_wide, "h_wide"), Cat(flags).any()

        return zip(*pipeline.each(state, range(count), states, decays, terms, within=inner), strict=True)

    def _count(self, m, block, pipeline, clipped, live, ends):
        """`saturates` a cycle behind the write of a state that was clipped; lanes beyond the last channel or state do not count.
        `ends` says whether the row written is one of the last channels', and one of the last states'."""
        op, found = self.op, []
        tails = [op.width - (self.channel_groups - 1) * self.lanes, op.d_state - (self.state_groups - 1) * self.state_lanes]
        for k, flag in enumerate(clipped):
            beyond = [place >= tail for place, tail in zip(divmod(k, self.state_lanes), tails, strict=True)]
            found.append(flag & ~Cat(end for end, out in zip(ends, beyond, strict=True) if out).any())
        written = pipeline.advance & pipeline.flag(live, "clip_live", self.loop - 1)
        m.d.sync += block.saturates.eq(written & Cat(found).any())

    def _states(self, m, block, pipeline, stored, first, last, live, address):
        """The states of row `address`; `stored` are those to write, `loop` − 1 steps later."""
        op, advance, bits = self.op, pipeline.advance, self.op.h.bits
        if self.cycles == 1:  # registers, cleared behind the last token: clearing costs nothing there
            states = [Signal(shape_of(op.h), name="state") for _ in stored]
            with m.If(advance & live):
                m.d.sync += [h.eq(value) for h, value in zip(states, stored, strict=True)]
            if block.window:
                with m.If(block.window.write):
                    m.d.sync += Cat(states).eq(block.window.connect(m, Cat(states)))
            elif not block.carries and op.h0 is None:
                with m.If(advance & live & last):
                    m.d.sync += [h.eq(0) for h in states]
            return states
        width, parity = bits * len(stored), block.fault is not None
        m.submodules.states = memory = Memory(shape=unsigned(width + parity), depth=self.cycles, init=[])
        read, write = memory.read_port(domain="comb"), memory.write_port()
        m.d.comb += [
            read.addr.eq(address),
            write.addr.eq(pipeline.register(address, "write_row", self.loop - 1)),
            write.en.eq(advance & pipeline.flag(live, "write_live", self.loop - 1)),
            write.data.eq(encode(Cat(stored), parity)),
        ]
        if parity:
            m.d.comb += block.fault.eq(advance & live & ~first & read.data.xor())
        if block.window:
            block.window.connect_memory(m, read, write)
        return [read.data[k * bits:(k + 1) * bits].as_signed() for k in range(len(stored))]
