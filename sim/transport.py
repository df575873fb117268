"""The driver's transport to a simulated design: blocking functions over cocotbext-axi."""

import logging
import random

import cocotb
from cocotb.task import resume
from cocotb.triggers import SimTimeoutError, with_timeout
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource

from emamba.base.errors import DeviceError

OKAY = 0


class SimulationTransport:
    """`cycles` stand for a second. `stall` makes every channel pause at random in that share of the cycles, in percent; a burst
    of 16 words goes without a pause where `bursts`, as a DMA sends them."""

    def __init__(self, dut, *, cycles: int, period: int):
        self.nanoseconds = cycles * period
        self.lite = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.clk, dut.rst)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.clk, dut.rst)
        for port in (self.lite.write_if, self.lite.read_if, self.source, self.sink):
            port.log.setLevel(logging.WARNING)  # a line a transfer would take more time than the simulation
        self.marks = []
        """TUSER of every packet received."""

    def stall(self, source: int, sink: int, lite: int, rng: random.Random, *, bursts: bool = False) -> None:
        def pauses(percent, length=1):
            while True:
                pause = rng.random() * 100 < percent
                for _ in range(length):
                    yield pause

        write, read = self.lite.write_if, self.lite.read_if
        for channel, percent in ((self.source, source), (self.sink, sink), (write.aw_channel, lite), (write.w_channel, lite),
                                 (write.b_channel, lite), (read.ar_channel, lite), (read.r_channel, lite)):
            channel.clear_pause_generator()
            channel.pause = False
            if percent:
                channel.set_pause_generator(pauses(percent, 16 if bursts and channel is self.source else 1))

    @resume
    async def read32(self, address: int) -> int:
        result = await self.lite.read(address, 4)
        if result.resp != OKAY:
            raise DeviceError(f"reading {address:#x} was answered with {result.resp!s}")
        return int.from_bytes(result.data, "little")

    @resume
    async def write32(self, address: int, value: int) -> None:
        result = await self.lite.write(address, value.to_bytes(4, "little"))
        if result.resp != OKAY:
            raise DeviceError(f"writing {address:#x} was answered with {result.resp!s}")

    @resume
    async def write_bytes(self, address: int, data: bytes) -> None:
        await self.lite.write(address, data)

    def send(self, packet: bytes, keep: list[int] | None = None) -> None:
        self.source.send_nowait(AxiStreamFrame(packet, tkeep=keep))

    @resume
    async def receive(self, size: int, timeout: float) -> bytes:
        try:
            frame = await with_timeout(cocotb.start_soon(self.sink.recv()), round(timeout * self.nanoseconds), "ns")
        except SimTimeoutError:
            raise TimeoutError from None
        self.marks.append(bool(frame.tuser if isinstance(frame.tuser, int) else any(frame.tuser or [])))
        return bytes(frame.tdata)

    def clock(self) -> float:
        return get_sim_time("ns") / self.nanoseconds

    def abort(self) -> None:
        self.source.clear()
        self.sink.clear()
