# amaranth: UnusedElaboratable=no
"""The accelerator as a component of a system: packets in and out by AXI4-Stream, registers by AXI4-Lite."""

import zlib
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from emamba import ops as operators
from emamba.artifact import Artifact
from emamba.base.errors import EmambaError

from ..blocks.pool import Pool
from ..blocks.scan import Scan
from ..kit.states import States, StateWindow
from ..kit.streams import Beat, Block, Fifo
from ..plan.accelerator import Accelerator
from ..plan.loads import DIGEST, Loads, crc_step
from ..plan.schedule import Schedule
from . import registers
from .axi import BUS_WIDTHS, AxiLite, PacketGuard, PacketReader, PacketWriter, Word
from .registers import BY_NAME, STAGE_LIMIT, Access

SYNCHRONOUS = ("awaddr", "awprot", "awvalid", "awready", "wdata", "wstrb", "wvalid", "wready", "bresp", "bvalid", "bready",
               "araddr", "arprot", "arvalid", "arready", "rdata", "rresp", "rvalid", "rready")


@dataclass(frozen=True)
class Options:
    """`bus_bits` of the streams; `counters` of stages and FIFOs; whether weights are `loadable`, and the design `stateful`: its
    state can be kept from packet to packet, read and written; and `parity` of states, FIFOs and loadable weights."""

    bus_bits: int = 64
    counters: bool = True
    loadable: bool = False
    stateful: bool = False
    parity: bool = False

    def __post_init__(self):
        if self.bus_bits not in BUS_WIDTHS:
            raise EmambaError(f"a stream of {self.bus_bits} bits is not possible; choose one of "
                              f"{', '.join(map(str, BUS_WIDTHS))}")


OPTIONS = Options()


class System(wiring.Component):
    """Ports `s_axil_*`, `s_axis_*` and `m_axis_*` as AMBA names them, and the level `irq`, on one clock. A packet is a
    sequence (`rtl.system.axi`); every packet that begins gives one packet of results, unless RESET comes between. Registers:
    `rtl.system.registers`.

    Where weights are loadable, the schedule is that of `rtl.plan.loads.envelope(artifact)`.
    """

    def __init__(self, schedule: Schedule, options: Options = OPTIONS, artifact: Artifact | None = None):
        self.schedule, self.options, self.artifact = schedule, options, artifact or schedule.artifact
        self.loads = Loads(schedule, self.artifact, options.parity) if options.loadable else None
        self.states = self._open(schedule) if options.stateful else None
        size = options.bus_bits // 8
        self.accelerator = Accelerator(schedule, count=options.counters, parity=options.parity)
        if options.counters:
            for block in schedule.blocks.values():
                block.clips = Signal(block.output.lanes)
                if isinstance(block, Scan) and block.clips_state:
                    block.saturates = Signal()
        self.reader = PacketReader(schedule.input, schedule.tokens, size)
        self.writer = PacketWriter(schedule.output, size)
        self.stages = ["input", *schedule.blocks, "output"]
        if len(self.stages) > STAGE_LIMIT:
            raise EmambaError(f"the system counts at most {STAGE_LIMIT - 2} stages; this model has {len(schedule.blocks)}")
        self.depth = -(-schedule.latency // schedule.cycles_per_frame) + 4
        """Packets that may be on their way through the design."""
        lite = AxiLite().signature.members
        members = {f"s_axil_{name}": lite[name] for name in SYNCHRONOUS}
        for name, flow, back in (("s_axis", In, Out), ("m_axis", Out, In)):
            members |= {f"{name}_tdata": flow(8 * size), f"{name}_tkeep": flow(size), f"{name}_tlast": flow(1),
                        f"{name}_tvalid": flow(1), f"{name}_tready": back(1)}
        super().__init__(members | {"m_axis_tuser": Out(1), "irq": Out(1)})

    @staticmethod
    def _open(schedule: Schedule) -> States:
        """Windows onto the state of every block that has one."""
        windows = []
        for name, block in schedule.blocks.items():
            if isinstance(block, Pool):
                block.keeps = True
            rows, bits = getattr(block, "state", (0, 0))
            if bits:
                block.window = StateWindow(name.replace(".", "_"), rows, bits)
                windows.append(block.window)
        return States(windows)

    def elaborate(self, platform):
        m = Module()
        m.submodules.lite = lite = AxiLite()
        for name in SYNCHRONOUS:
            ours, its = getattr(self, f"s_axil_{name}"), getattr(lite, name)
            m.d.comb += ours.eq(its) if lite.signature.members[name].flow is Out else its.eq(ours)
        return _Parts(self, m, lite).build()


class _Parts:
    """What `System` is made of, with the signals between them."""

    def __init__(self, system: System, m: Module, lite: AxiLite):
        self.system, self.m, self.lite = system, m, lite
        self.schedule, self.options = system.schedule, system.options
        self.reset, self.abandon, self.idle = Signal(), Signal(), Signal()
        self.committing, self.takes_over = Signal(), Signal()  # a load waits for packets on their way; it replaces the weights
        self.restored = Signal()  # the last word of a whole state is written
        self.w = {}  # register name → (value written, high for a cycle as it is written)
        self.values: dict[str, list] = {}  # register name → what reads of its words give
        self.errors: dict[str, list] = {}  # sticky bit → causes

    def build(self) -> Module:
        self._commands()
        self._streams()
        if self.system.loads:
            self._load(self.system.loads)
        if self.system.states:
            self._state(self.system.states)
        if self.options.counters:
            self._stage_counters()
        if self.options.parity:
            self._parity()
        self._identity()
        self._decode()
        return self.m

    def written(self, name: str):
        """The value written to a register of one word, and high as it is."""
        if name not in self.w:
            en = Signal(name=f"write_{name.lower()}")
            self.m.d.comb += en.eq(self.lite.w_en & (self.lite.w_address == BY_NAME[name].offset >> 2))
            self.w[name] = self.lite.w_data, en
        return self.w[name]

    def command(self, name: str, field: str):
        """High for a cycle as a 1 is written to a field."""
        value, en = self.written(name)
        bit = BY_NAME[name].field(field).low
        return en & value[bit] & self.lite.w_strobe[bit // 8]

    def mode(self, name: str) -> Signal:
        """A register that reads as it was written."""
        register = Signal(32, name=name.lower(), init=BY_NAME[name].reset)
        value, en = self.written(name)
        strobe = Cat(bit.replicate(8) for bit in self.lite.w_strobe)
        meant = sum(field.mask for field in BY_NAME[name].fields)
        with self.m.If(en):
            self.m.d.sync += register.eq((value & strobe | register & ~strobe) & meant)
        self.values[name] = [register]
        return register

    def field(self, register: Signal, name: str, field: str):
        return register[BY_NAME[name].field(field).low]

    def counter(self, name: str, event, clear) -> Signal:
        count = Signal(32, name=name.lower())
        with self.m.If(clear):
            self.m.d.sync += count.eq(0)
        with self.m.Elif(event):
            self.m.d.sync += count.eq(count + 1)
        self.values.setdefault(name, []).append(count)
        return count

    def _commands(self):
        m = self.m
        control = self.mode("CONTROL")
        self.mode("SCRATCH")
        self.enable, self.keep, self.freeze = (self.field(control, "CONTROL", name) for name in ("ENABLE", "KEEP", "FREEZE"))
        m.d.sync += [self.reset.eq(self.command("COMMAND", "RESET")),
                     self.abandon.eq(self.command("COMMAND", "RESET") & self.command("COMMAND", "ABANDON"))]
        self.clear_counters = self.command("COMMAND", "CLEAR_COUNTERS")

    def _streams(self):
        m, system, schedule = self.m, self.system, self.schedule
        size = self.options.bus_bits // 8
        reset = self.reset
        m.submodules.words = words = ResetInserter(self.abandon)(Fifo(Word(size), 2, through=False))
        m.submodules.reader = reader = ResetInserter(reset)(system.reader)
        m.submodules.tokens = tokens = ResetInserter(reset)(Fifo(Beat(schedule.input.format, schedule.input.lanes),
                                                                 2 * schedule.input.beats, through=False))
        m.submodules.core = core = ResetInserter(reset)(system.accelerator)
        m.submodules.writer = writer = ResetInserter(reset)(system.writer)
        m.submodules.flags = flags = ResetInserter(reset)(Fifo(data.StructLayout({"bad": 1}), system.depth, through=False))
        m.submodules.guard = guard = ResetInserter(self.abandon)(PacketGuard(size))
        m.d.comb += [
            words.i.payload.data.eq(system.s_axis_tdata), words.i.payload.keep.eq(system.s_axis_tkeep),
            words.i.payload.last.eq(system.s_axis_tlast), words.i.valid.eq(system.s_axis_tvalid),
            system.s_axis_tready.eq(words.i.ready),
            system.m_axis_tdata.eq(guard.o.payload.data), system.m_axis_tkeep.eq(guard.o.payload.keep),
            system.m_axis_tlast.eq(guard.o.payload.last), system.m_axis_tuser.eq(guard.o.payload.user),
            system.m_axis_tvalid.eq(guard.o.valid), guard.o.ready.eq(system.m_axis_tready), guard.cut.eq(reset),
        ]
        m.d.comb += [  # a word taken in the cycle of a reset would be lost, and its packet with it
            reader.i.payload.eq(words.o.payload), reader.i.valid.eq(words.o.valid & ~reset),
            words.o.ready.eq(reader.i.ready & ~reset),
        ]
        wiring.connect(m, reader.o, tokens.i)
        wiring.connect(m, tokens.o, core.i)
        wiring.connect(m, core.o, writer.i)
        wiring.connect(m, writer.o, guard.i)
        m.d.comb += [flags.i.valid.eq(reader.flag.valid), flags.i.payload.bad.eq(reader.flag.bad),
                     writer.bad.eq(flags.o.payload.bad), flags.o.ready.eq(writer.done)]

        # Packets on their way.
        inside = Signal(range(system.depth + 1))
        was_open = Signal()
        with m.If(reset):
            m.d.sync += [inside.eq(0), was_open.eq(reader.in_packet & ~self.abandon)]
        with m.Else():
            m.d.sync += [inside.eq(inside + reader.started - writer.done), was_open.eq(0)]
        m.d.comb += [
            self.idle.eq((inside == 0) & ~reset),
            reader.drop.eq(was_open),
            reader.admit.eq(self.enable & (inside < system.depth) & ~reset & ~was_open & ~self.committing),
        ]
        self.cleared = cleared = Signal(init=1)
        self.clears = self.command("COMMAND", "CLEAR_STATE") | reset | self.takes_over
        self.begins = reader.started
        with m.If(self.clears):
            m.d.sync += cleared.eq(1)
        with m.Elif(self.begins | self.restored):
            m.d.sync += cleared.eq(0)
        m.d.comb += reader.clear.eq(cleared | ~self.keep)

        clear = self.clear_counters
        marked = reader.flag.valid & reader.flag.bad
        frames = self.counter("FRAMES_IN", reader.started, clear)
        self.counter("FRAMES_OUT", writer.done, clear)
        self.counter("FRAMES_BAD", marked, clear)
        self.counter("SHORT_PACKETS", reader.short, clear)
        self.counter("LONG_PACKETS", reader.long, clear)
        self.counter("BAD_TKEEPS", reader.bad_keep, clear)
        first_bad = Signal(32)
        with m.If(clear):
            m.d.sync += first_bad.eq(0)
        with m.Elif(marked & (first_bad == 0)):
            m.d.sync += first_bad.eq(frames + reader.started)
        self.values["FIRST_BAD"] = [first_bad]
        self.errors |= {"SHORT": reader.short, "LONG": reader.long, "NO_TLAST": reader.no_tlast, "BAD_TKEEP": reader.bad_keep}

        cycles, high = Signal(64), Signal(32)
        with m.If(clear):
            m.d.sync += cycles.eq(0)
        with m.Elif(~self.freeze):
            m.d.sync += cycles.eq(cycles + 1)
        with m.If(self.lite.r_en & (self.lite.r_address == BY_NAME["CYCLES"].offset >> 2)):
            m.d.sync += high.eq(cycles[32:])
        self.values |= {"CYCLES": [cycles[:32]], "CYCLES_HIGH": [high]}
        self.status = {"IDLE": self.idle, "IN_PACKET": reader.in_packet, "EXCESS": reader.excess,
                       "OUT_PACKET": guard.open | guard.o.valid, "CLEARED": cleared}

    def _load(self, loads: Loads):
        m, bus = self.m, loads.bus
        words, structure = loads.words, bytes.fromhex(loads.structure_digest)
        start = zlib.crc32(b"".join(structure[k:k + 4][::-1] for k in range(0, 32, 4))) ^ 0xFFFFFFFF
        begin, commit, abort = (self.command("LOAD_COMMAND", name) for name in ("BEGIN", "COMMIT", "ABORT"))
        value, given = self.written("LOAD_DATA")
        wanted = self.mode("LOAD_CHECKSUM")
        loading, count, crc = Signal(), Signal(range(words + 1)), Signal(32, init=start)
        takes = given & loading & (count < words)
        right = loading & (count == words) & (crc == ~wanted)
        m.d.comb += [
            bus.en.eq(takes), bus.address.eq(count), bus.data.eq(value),
            self.takes_over.eq(self.committing & self.idle),
        ]
        with m.If(takes):
            m.d.sync += [count.eq(count + 1), crc.eq(Cat(crc_step(crc, value)))]
        with m.If(begin), m.If(~self.committing):
            m.d.sync += [loading.eq(1), count.eq(0), crc.eq(start)]
        with m.Elif(commit):
            m.d.sync += loading.eq(0)
            with m.If(right):
                m.d.sync += self.committing.eq(1)
        with m.Elif(abort):
            m.d.sync += loading.eq(0)
        with m.If(self.takes_over):
            m.d.sync += [bus.bank.eq(~bus.bank), self.committing.eq(0)]
        self.errors |= {
            "LOAD_INTERRUPTED": begin & (loading | self.committing) | given & ~loading,
            "LOAD_REFUSED": commit & ~begin & ~right | given & loading & (count == words),
        }
        self.status |= {"LOADING": loading, "COMMITTING": self.committing}

        place, = loads.of(DIGEST)
        digest = bytes.fromhex(loads.artifact.digest)
        banks = [[Signal(32, name=f"digest_{bank}_{k}", init=int.from_bytes(digest[4 * k:4 * k + 4], "big") * (1 - bank))
                  for k in range(place.rows)] for bank in range(2)]
        for bank, parts in enumerate(banks):
            for k, part in enumerate(parts):
                with m.If(takes & (count == place.base + k) & (bus.bank != bank)):
                    m.d.sync += part.eq(value)
        self.values |= {
            "LOAD_COUNT": [count], "LOAD_WORDS": [words],
            "DIGEST": [Mux(bus.bank, *parts) for parts in zip(*reversed(banks), strict=True)],
            "STRUCTURE": [int.from_bytes(structure[k:k + 4], "big") for k in range(0, 32, 4)],
        }

    def _state(self, states: States):
        m = self.m
        value, given = self.written("STATE_DATA")
        address = Signal(32)
        place, moves = self.written("STATE_ADDRESS")
        asked = self.lite.r_en & (self.lite.r_address == BY_NAME["STATE_DATA"].offset >> 2)
        open_ = self.idle & ~self.enable
        data = states.connect(m, open_, given, address, value)
        # Over a cleared state only a whole one counts: until then it reads as zeros and packets begin with zeros.
        whole = Signal(name="state_whole")  # every word before the address was written since STATE_ADDRESS was
        with m.If(moves):
            m.d.sync += [address.eq(place), whole.eq((place == 0) & self.lite.w_strobe.all())]
        with m.Elif(asked | given):
            m.d.sync += [address.eq(address + 1), whole.eq(whole & given & open_)]
        with m.If(self.clears | self.begins):
            m.d.sync += whole.eq(0)
        m.d.comb += self.restored.eq(given & open_ & whole & (address == states.words - 1))
        self.errors["STATE_BUSY"] = (asked | given) & ~open_
        self.values |= {"STATE_ADDRESS": [address], "STATE_DATA": [Mux(self.cleared, 0, data)],
                        "STATE_WORDS": [states.words]}

    def _interrupt(self, strobe: Value, causes: dict[str, Value]):
        """Sticky causes, of which the enabled ones hold the line high."""
        m, enabled = self.m, self.mode("INTERRUPT_ENABLE")
        seen, now = Signal(32, name="interrupt_seen"), Signal(32, name="interrupt_now")
        value, clears = self.written("INTERRUPT")
        m.d.comb += [self.field(now, "INTERRUPT", name).eq(cause) for name, cause in causes.items()]
        m.d.sync += [seen.eq(seen & ~Mux(clears, value & strobe, 0) | now), self.system.irq.eq((seen & enabled).any())]
        self.values["INTERRUPT"] = [seen]

    def _stage_counters(self):
        """A stage is blocked where its output waits, else starved where an input lacks, else busy. The streams' ends stand for
        what is outside: the source starves where the design takes nothing, and the sink where it gives nothing."""
        m, system = self.m, self.system
        source, sink = (system.s_axis_tvalid, system.s_axis_tready), (system.m_axis_tvalid, system.m_axis_tready)
        rows = [(0, source[0] & ~source[1])]
        for block in self.schedule.blocks.values():
            blocked = block.o.valid & ~block.o.ready
            rows.append((~Cat(getattr(block, name).valid for name in block.inputs).all() & ~blocked, blocked))
        rows.append((sink[1] & ~sink[0], 0))
        clipped, running = [0, *map(self._clipped, self.schedule.blocks.values()), 0], ~self.freeze
        for k, (starved, blocked) in enumerate(rows):
            state = Signal(2, name=f"stage_{k}")
            m.d.sync += state.eq(Cat(starved, blocked))  # a register: the counters are far from no path
            self.counter("BUSY", running & (state == 0), self.clear_counters)
            self.counter("STARVED", running & state[0], self.clear_counters)
            self.counter("BLOCKED", running & state[1], self.clear_counters)
            self.counter("CLIPPED", running & clipped[k], self.clear_counters)
        for block in (None, *self.schedule.blocks.values(), None):
            if getattr(block, "saturates", None) is None:
                self.values.setdefault("SATURATED", []).append(0)
            else:
                self.counter("SATURATED", running & block.saturates, self.clear_counters)
        accelerator = system.accelerator
        m.d.comb += [accelerator.clear_peaks.eq(self.clear_counters), accelerator.hold_peaks.eq(self.freeze)]
        self.values["PEAK"] = [getattr(accelerator, f"peak_{k}") for k in range(len(accelerator.peaks))]

    def _parity(self):
        fault = Signal(name="parity_fault")  # a register, as for the stages
        self.m.d.sync += fault.eq(self.system.accelerator.fault)
        self.counter("PARITY_FAULTS", fault, self.clear_counters)
        self.errors["PARITY"] = fault

    def _clipped(self, block: Block):
        """High a cycle after a beat left with a clipped lane; lanes beyond the width do not count."""
        m, port = self.m, block.output
        beat, found = Signal(range(port.beats), name="clip_beat"), Signal(name="clip_found")
        taken, end = block.o.valid & block.o.ready, beat == port.beats - 1
        used = port.width - (port.beats - 1) * port.lanes
        with m.If(taken):
            m.d.sync += beat.eq(Mux(end, 0, beat + 1))
        with m.If(self.reset):
            m.d.sync += beat.eq(0)
        m.d.sync += found.eq(taken & Cat(flag & ~end if k >= used else flag for k, flag in enumerate(block.clips)).any())
        return found

    def _identity(self):
        schedule, system = self.schedule, self.system
        port_in, port_out = schedule.input, schedule.output
        mean = any(isinstance(op, operators.Pool) and op.mean for op in system.artifact.operators.values())
        digest = bytes.fromhex(system.artifact.digest)

        def packed(name: str, **fields) -> int:
            return sum(int(value) << BY_NAME[name].field(field).low for field, value in fields.items())

        self.values |= {
            "MAGIC": [registers.MAGIC], "INTERFACE": [packed("INTERFACE", MAJOR=registers.INTERFACE[0],
                                                             MINOR=registers.INTERFACE[1])],
            "CAPABILITIES": [packed("CAPABILITIES", COUNTERS=self.options.counters, LOADABLE=self.options.loadable,
                                    STATEFUL=self.options.stateful, MEAN=mean, PARITY=self.options.parity,
                                    BUS_BYTES=self.options.bus_bits // 8, INPUT_BYTES=system.reader.bytes,
                                    OUTPUT_BYTES=system.writer.bytes)],
            "SIZES": [packed("SIZES", STAGES=len(system.stages), QUEUES=len(system.accelerator.peaks))],
            "TOKENS": [schedule.tokens], "INPUT_WIDTH": [port_in.width], "OUTPUT_WIDTH": [port_out.width],
            "OUTPUT_TOKENS": [1 if schedule.pooled else schedule.tokens],
        }
        self.values.setdefault("STRUCTURE", [0] * 8)
        self.values.setdefault("DIGEST", [int.from_bytes(digest[k:k + 4], "big") for k in range(0, 32, 4)])

    def _decode(self):
        """Reads and writes of every address; what lies between is an error."""
        m, lite, system = self.m, self.lite, self.system
        errors, seen = Signal(32, name="errors"), Signal(32, name="seen")
        value, clears = self.written("ERRORS")
        outside = Signal()
        self.errors["ADDRESS"] = outside
        m.d.comb += [seen[BY_NAME["ERRORS"].field(name).low].eq(cause) for name, cause in self.errors.items()]
        strobe = Cat(bit.replicate(8) for bit in lite.w_strobe)
        m.d.sync += errors.eq(errors & ~Mux(clears, value & strobe, 0) | seen)
        self._interrupt(strobe, {"RESULT": system.m_axis_tvalid & system.m_axis_tready & system.m_axis_tlast,
                                 "ERROR": seen.any(), "LOADED": self.takes_over})
        status = Signal(32, name="status")
        m.d.comb += [status[BY_NAME["STATUS"].field(name).low].eq(bit) for name, bit in self.status.items()]
        self.values |= {"ERRORS": [errors], "STATUS": [status]}
        m.d.comb += [lite.w_error.eq(1), lite.r_error.eq(1), outside.eq(lite.w_en & lite.w_error | lite.r_en & lite.r_error)]
        with m.Switch(lite.w_address):
            for register in registers.REGISTERS:
                if register.access is not Access.READ:
                    with m.Case(register.offset >> 2):
                        m.d.comb += lite.w_error.eq(0)
        with m.Switch(lite.r_address):
            for register in registers.REGISTERS:
                words = [0] if register.access is Access.WRITE else self.values.get(register.name, [0] * (register.count == 1))
                for k, word in enumerate(words):
                    with m.Case(register.address(k) >> 2):
                        m.d.comb += [lite.r_error.eq(0), lite.r_data.eq(word)]
