"""Checks the rules of AXI4-Stream and AXI4-Lite on the ports of a design, in every cycle of every run."""

import cocotb
from cocotb.triggers import FallingEdge

from rtl.system.registers import address, mask

OKAY, SLVERR = 0, 2


class Channel:
    """A valid–ready channel: valid stays until the transfer, and so does what it carries."""

    def __init__(self, dut, prefix, handshake, payload):
        self.dut, self.name, self.waiting, self.count = dut, prefix, None, 0
        self.valid, self.ready = (getattr(dut, f"{prefix}{handshake}{name}") for name in ("valid", "ready"))
        self.payload = {name: getattr(dut, f"{prefix}{handshake}{name}") for name in payload}

    def sample(self, in_reset):
        """The payload of a transfer in this cycle, or None."""
        valid, ready = self.valid.value, self.ready.value
        if in_reset:
            self.waiting = None
            return None
        assert valid.is_resolvable and ready.is_resolvable, f"{self.name}: valid is {valid}, ready is {ready}"
        if valid != 1:
            assert self.waiting is None, f"{self.name}: valid fell before the transfer"
            return None
        payload = {name: signal.value for name, signal in self.payload.items()}
        for name, value in payload.items():
            assert value.is_resolvable, f"{self.name}: {name} is {value} while valid"
        payload = {name: int(value) for name, value in payload.items()}
        assert self.waiting in (None, payload), f"{self.name}: {self.waiting} became {payload} while it waited"
        self.waiting = None if ready == 1 else payload
        if ready == 1:
            self.count += 1
        return payload if ready == 1 else None


class Rules:
    """Of `s_axil_*`, `s_axis_*` and `m_axis_*`; starts at once. `words` counts the transfers of a stream."""

    def __init__(self, dut):
        self.dut = dut
        stream = ("data", "keep", "last")
        self.input = Channel(dut, "s_axis_", "t", stream)
        self.output = Channel(dut, "m_axis_", "t", (*stream, "user"))
        self.aw = Channel(dut, "s_axil_", "aw", ("addr",))
        self.w = Channel(dut, "s_axil_", "w", ("data", "strb"))
        self.b = Channel(dut, "s_axil_", "b", ("resp",))
        self.ar = Channel(dut, "s_axil_", "ar", ("addr",))
        self.r = Channel(dut, "s_axil_", "r", ("data", "resp"))
        self.written, self.answering = {}, False
        self.withdraws = False
        """Whether ABANDON may withdraw a word of the output: until the cycle after the write's response is offered."""
        self.task = cocotb.start_soon(self._watch())

    def _follow(self, aw, w, b):
        self.withdraws = bool(self.written.get("addr") == address("COMMAND")
                              and self.written.get("data", 0) & mask("COMMAND", "ABANDON"))
        offered = b is not None or self.b.waiting is not None
        self.written = ({} if offered and not self.answering else self.written) | (aw or {}) | (w or {})
        self.answering = offered and b is None

    async def _watch(self):
        lite = (self.aw, self.w, self.b, self.ar, self.r)
        while True:
            await FallingEdge(self.dut.clk)
            in_reset = self.dut.rst.value == 1
            self.input.sample(in_reset)
            if self.withdraws:
                self.output.waiting = None
            word = self.output.sample(in_reset)
            if word is not None:
                keep = word["keep"]
                assert keep and keep & (keep + 1) == 0, f"m_axis: TKEEP {keep:#x} has a hole or nothing"
                whole = (1 << len(self.dut.m_axis_tkeep)) - 1
                assert word["last"] or keep == whole, "m_axis: a word before the last is not whole"
                assert word["last"] or not word["user"], "m_axis: TUSER is on a word before the last"
            transfers = [channel.sample(in_reset) for channel in lite]
            self._follow(*transfers[:3])
            if in_reset:
                for channel in lite:
                    channel.count = 0
                continue
            # A response is offered only after what it answers was transferred.
            offered = self.b.count + (self.b.waiting is not None)
            assert offered <= min(self.aw.count, self.w.count), "s_axil: a write was answered before it came"
            assert self.r.count + (self.r.waiting is not None) <= self.ar.count, "s_axil: a read was answered before it came"
            for response in (transfers[2], transfers[4]):
                assert response is None or response["resp"] in (OKAY, SLVERR), f"s_axil: response {response}"
