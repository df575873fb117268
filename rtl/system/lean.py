"""An accelerator on a serial line with few registers: `rtl.system.serial.SerialSystem` for devices of a few thousand cells.

Same messages, packets and driver. What reads as a constant lies in a memory; CAPABILITIES has no FULL."""

from amaranth.hdl import Array, Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from emamba import ops as operators
from emamba.artifact import Artifact
from emamba.base.errors import DesignLimit

from ..engine.schedule import EngineSchedule
from ..kit.ring import Ring
from ..kit.shared import Restarted
from ..plan.accelerator import accelerator
from ..plan.schedule import Schedule
from .axi import OKAY, SLVERR, element_bytes
from .lean_line import Inbound, Outbound
from .lean_packets import ByteReader, ByteWriter
from .loading import digest_words
from .registers import BY_NAME, INTERFACE, MAGIC, REGISTERS, Access, address, mask
from .serial import END, ENDED, ENDS, HELLO, MARKED, READ, RECEIVED, VERSION, WRITE, Receiver, Transmitter

SMALLER = 1
"""A HELLO's answer says in its upper half how often the memory of received bytes is halved."""
BYTES = 256
"""Of registers from address 0 on."""
INSIDE = 2
"""Packets that may be on their way."""


class LeanSystem(wiring.Component):
    """The accelerator of a `schedule` between `rx` and `tx`, with a bit every `divisor` cycles. `artifact` is described.
    While `hold`, no packet begins and the status is that of a design with work: its memories are being loaded."""

    def __init__(self, schedule: Schedule | EngineSchedule, divisor: int, artifact: Artifact | None = None, design=None):
        if schedule.graph.carried:
            raise DesignLimit(f"the state of {schedule.artifact.name} is carried from sequence to sequence, which a system of "
                              "few registers cannot keep: take a larger device")
        self.schedule, self.divisor, self.artifact = schedule, divisor, artifact or schedule.artifact
        self.design = design or accelerator(schedule)
        self.stages, self.queues, self.state_words = ["input", *schedule.blocks, "output"], [], 0
        self.loads = self.supply = None
        self.input_bytes, self.output_bytes = (element_bytes(port.format) for port in (schedule.input, schedule.output))
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "hold": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = Receiver(self.divisor)
        m.submodules.transmitter = transmitter = Transmitter(self.divisor)
        m.submodules.inbound, m.submodules.outbound = inbound, outbound = Inbound(), Outbound()
        ends, clear, got = Signal(range(ENDS)), Signal(), receiver.o
        with m.If(got.valid):
            m.d.sync += ends.eq(Mux(got.payload == END, ends + 1, 0))
            m.d.comb += clear.eq((got.payload == END) & (ends == ENDS - 1))
        m.submodules.received = received = ResetInserter(clear)(Ring(8, RECEIVED >> SMALLER))
        m.d.comb += [
            receiver.line.eq(self.rx), self.tx.eq(transmitter.line), inbound.clear.eq(clear),
            outbound.closed.eq(inbound.closed), outbound.asked.eq(inbound.asked),
            outbound.opens.eq(inbound.kind == HELLO), inbound.answered.eq(outbound.answered),
        ]
        for source, sink in ((got, received.i), (received.o, inbound.i), (outbound.o, transmitter.i)):
            wiring.connect(m, source, sink)
        self._registers(m, inbound, outbound, *self._packets(m, inbound, outbound))
        return m

    def _packets(self, m, inbound, outbound):
        """The way of packets. Returns ENABLE, a reset and whether it abandons, all still to be driven, and bits of STATUS and of
        ERRORS."""
        schedule, enable, reset, abandon = self.schedule, Signal(name="enable"), Signal(name="reset"), Signal(name="abandon")
        m.submodules.reader = reader = ResetInserter(reset)(ByteReader(schedule.input, schedule.tokens))
        m.submodules.design, design = Restarted(self.design, reset), self.design
        m.submodules.writer = writer = ResetInserter(reset)(ByteWriter(schedule.output))
        for source, sink in ((inbound.o, reader.i), (reader.o, design.i), (design.o, writer.i)):
            wiring.connect(m, source, sink)
        inside, judged, bad = Signal(range(INSIDE + 1)), Signal(range(INSIDE + 1)), Signal(INSIDE)  # packets; those read, marked
        was_open, leaving, broken, admits = (Signal(name=name) for name in ("was_open", "leaving", "broken", "admits"))
        byte, given = outbound.i.payload, outbound.i.valid & outbound.i.ready
        done = given & writer.o.payload.last
        left = Signal.like(judged, name="left")
        m.d.comb += [
            left.eq(judged - done),
            reader.drop.eq(was_open), reader.admit.eq(admits),
            byte.data.eq(writer.o.payload.data), byte.flags.eq(Mux(writer.o.payload.last, Cat(1, bad[0]), 0)),
            outbound.i.valid.eq(writer.o.valid), writer.o.ready.eq(outbound.i.ready),
            outbound.broken.eq(Mux(broken, ENDED | MARKED, 0)),
        ]
        m.d.sync += [admits.eq(enable & ~self.hold & (inside < INSIDE) & ~was_open & ~reset),
                     was_open.eq(reset & reader.in_packet & ~abandon), inside.eq(inside + reader.started - done), judged.eq(left)]
        with m.If(done):
            m.d.sync += bad.eq(bad >> 1)
        with m.If(reader.closes):
            m.d.sync += [judged.eq(left + 1), bad.bit_select(left, 1).eq(reader.bad)]
        with m.If(given):
            m.d.sync += leaving.eq(~done)
        with m.If(outbound.mended):
            m.d.sync += broken.eq(0)
        with m.If(reset):
            m.d.sync += [inside.eq(0), judged.eq(0), bad.eq(0), leaving.eq(0), broken.eq((leaving | broken) & ~abandon)]
        status = {"IDLE": (inside == 0) & ~self.hold, "IN_PACKET": reader.in_packet, "EXCESS": reader.excess,
                  "OUT_PACKET": writer.o.valid | leaving | broken, "CLEARED": 1}
        errors = {"SHORT": reader.short, "LONG": reader.long, "NO_TLAST": reader.no_tlast}
        return enable, reset, abandon, status, errors

    def _registers(self, m, inbound, outbound, enable, reset, abandon, status, errors):
        """Answers what `inbound` asks. A register is written as its answer ends."""
        kind, body, place = inbound.kind, inbound.body, outbound.place
        reads, writes = kind == READ, kind == WRITE
        m.submodules.constants = memory = Memory(shape=10, depth=BYTES, init=self._constants())
        port, at = memory.read_port(), Signal(16, name="at")  # registered, as `content`: they stand long before they are used
        m.d.sync += at.eq(Mux(reads, body[16:], body[:16]))
        m.d.comb += port.addr.eq(Cat(place[0], ~place[1], at[2:8]))
        wrong = at[8:].any() | ~Mux(reads, port.data[8], port.data[9])
        acts, fails = Signal(name="acts"), Signal(name="fails")
        m.d.sync += [acts.eq(outbound.answered & writes & ~wrong), fails.eq(outbound.answered & (reads | writes) & wrong)]

        chosen = {name: Signal(name=f"chooses_{name.lower()}") for name in ("CONTROL", "COMMAND", "STATUS", "ERRORS")}
        m.d.sync += [flag.eq(at[2:8] == address(name) >> 2) for name, flag in chosen.items()]

        def written(name, field=None):
            here = acts & chosen[name]
            return here & body[16:].bit_select(BY_NAME[name].field(field).low, 1) if field else here

        seen = {}
        for name, cause in (errors | {"ADDRESS": fails}).items():
            seen[name] = flag = Signal(name=f"error_{name.lower()}")
            with m.If(cause):
                m.d.sync += flag.eq(1)
            with m.Elif(written("ERRORS", name)):
                m.d.sync += flag.eq(0)
        with m.If(written("CONTROL")):
            m.d.sync += enable.eq(written("CONTROL", "ENABLE"))
        m.d.sync += [reset.eq(written("COMMAND", "RESET")), abandon.eq(written("COMMAND", "ABANDON"))]

        value, content = Signal(8, name="value"), Signal(8, name="content")
        m.d.comb += [value.eq(port.data), outbound.content.eq(content)]
        with m.If(place == 2):  # the lowest byte
            for name, bits in (("CONTROL", {"ENABLE": enable}), ("STATUS", status), ("ERRORS", seen)):
                with m.If(chosen[name]):
                    m.d.comb += [value[mask(name, field).bit_length() - 1].eq(bit) for field, bit in bits.items()]
        with m.If(place == 0):
            m.d.sync += content.eq(kind)
        with m.Elif(place == 1):
            m.d.sync += content.eq(Mux(reads | writes, Mux(wrong, SLVERR, OKAY), VERSION | SMALLER << 4))
        with m.Else():
            parts = Array(body[k:k + 8] for k in range(0, len(body), 8))
            m.d.sync += content.eq(Mux(reads, value, parts[Cat(place[0], ~place[1])]))

    def _constants(self) -> list[int]:
        """Bytes of registers, each with whether its register can be read, and written."""
        found, schedule = [0] * BYTES, self.schedule
        mean = any(isinstance(op, operators.Pool) and op.mean for op in self.artifact.operators.values())
        values = {
            "MAGIC": [MAGIC], "INTERFACE": [INTERFACE[0] << 16 | INTERFACE[1]], "TOKENS": [schedule.tokens],
            "CAPABILITIES": [mask("CAPABILITIES", "MEAN") * mean | 1 << 8 | self.input_bytes << 16 | self.output_bytes << 24],
            "SIZES": [len(self.stages)], "INPUT_WIDTH": [schedule.input.width], "OUTPUT_WIDTH": [schedule.output.width],
            "OUTPUT_TOKENS": [schedule.graph.output.tokens], "DIGEST": digest_words(self.artifact.digest)}
        for register in REGISTERS:
            for k in range(register.count):
                place, value = register.address(k), (values.get(register.name) or [0] * register.count)[k]
                if place < BYTES:
                    flags = 1 | (register.access is not Access.READ) << 1
                    found[place:place + 4] = [value >> 8 * byte & 255 | flags << 8 for byte in range(4)]
        return found
