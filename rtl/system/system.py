"""The accelerator as a component of a system: packets in and out by AXI4-Stream, registers by AXI4-Lite."""

from dataclasses import dataclass

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from emamba import ops as operators
from emamba.artifact import Artifact
from emamba.base.errors import DesignLimit, SettingError
from emamba.ops.base import one_of

from ..engine.engine import Engine
from ..engine.schedule import EngineSchedule
from ..engine.supply import Supply
from ..kit.block import BlockOptions
from ..kit.states import States, StateWindow
from ..plan.accelerator import accelerator
from ..plan.engine_loads import loads_of
from ..plan.schedule import Schedule
from . import counters, loading, state, streaming
from .axi import BUS_WIDTHS, AxiLite, element_bytes, lite_ports
from .bank import Bank
from .core import Core
from .registers import INTERFACE, MAGIC, STAGE_LIMIT


@dataclass(frozen=True)
class Options:
    """What a system is built with.

    Parameters
    ----------
    bus_bits
        width of the streams
    counters
        counts stages and FIFOs
    loadable
        weights can be loaded
    stateful
        the state can be kept from packet to packet, read and written
    parity
        protects states, FIFOs and loadable weights
    """

    bus_bits: int = 64
    counters: bool = True
    loadable: bool = False
    stateful: bool = False
    parity: bool = False

    def __post_init__(self):
        if self.bus_bits not in BUS_WIDTHS:
            raise SettingError(f"a stream of {self.bus_bits} bits is not possible; choose one of "
                               f"{', '.join(map(str, BUS_WIDTHS))}")

    def check(self, schedule: Schedule) -> None:
        """Refuses a schedule for which these options are not possible."""
        if isinstance(schedule, EngineSchedule) and self.parity:
            raise SettingError("an engine's memories have no parity: --parity yes needs --organization pipeline")
        if isinstance(schedule, EngineSchedule) and self.stateful and not schedule.kept:
            raise SettingError("the engine's program leaves no state to the next packet: make its schedule with kept = True")
        if schedule.graph.carried and not self.stateful:
            raise SettingError(f"the state of {schedule.artifact.name} is carried from sequence to sequence, so it must be kept: "
                               "build with --state kept")
        if self.stateful and (whole := next((node for node in schedule.graph if node.operator.whole), None)):
            raise DesignLimit(f"node '{whole.name}': {one_of(whole.operator)} needs whole sequences, so no state is kept between "
                              "packets: build without it")

    @property
    def capabilities(self) -> set[str]:
        """Names of the fields of CAPABILITIES that are 1 by these options."""
        return {"FULL", *(name.upper() for name in ("counters", "loadable", "stateful", "parity") if getattr(self, name))}


OPTIONS = Options()


class System(wiring.Component):
    """An accelerator with the AMBA ports `s_axil_*`, `s_axis_*` and `m_axis_*`, and the level `irq`, on one clock.

    A packet is a sequence (`rtl.system.axi`). Every packet that begins gives one packet of results, unless RESET intervenes.

    Parameters
    ----------
    schedule
        for loadable weights, the schedule of `rtl.plan.loads.envelope(artifact)`
    options
        what the system is built with
    artifact
        holds the weights at power-on; by default the schedule's artifact
    """

    def __init__(self, schedule: Schedule, options: Options = OPTIONS, artifact: Artifact | None = None):
        if len(schedule.blocks) > STAGE_LIMIT - 2:
            raise DesignLimit(f"the system counts at most {STAGE_LIMIT - 2} stages; this model has {len(schedule.blocks)}")
        options.check(schedule)
        self.schedule, self.options, self.artifact = schedule, options, artifact or schedule.artifact
        self.stages = ["input", *schedule.blocks, "output"]
        self.queues = [queue.name for queue in schedule.queues()] if options.counters else []
        self.input_bytes, self.output_bytes = (element_bytes(port.format) for port in (schedule.input, schedule.output))
        self.loads = loads_of(schedule, self.artifact, options.parity) if options.loadable else None
        windows = [StateWindow(name, *size) for name, size in schedule.states.items()]
        self.state_words = States(windows).words if options.stateful else 0
        size = options.bus_bits // 8
        members = {f"s_axil_{name}": port for name, port in lite_ports().items()}
        for name, flow, back in (("s_axis", In, Out), ("m_axis", Out, In)):
            members |= {f"{name}_tdata": flow(8 * size), f"{name}_tkeep": flow(size), f"{name}_tlast": flow(1),
                        f"{name}_tvalid": flow(1), f"{name}_tready": back(1)}
        image = schedule.image if isinstance(schedule, EngineSchedule) else None
        self.supply = Supply(image) if image else None
        members |= self.supply.ports if self.supply else {}
        super().__init__(members | {"m_axis_tuser": Out(1), "irq": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.lite = lite = AxiLite()
        for name, port in lite_ports().items():
            ours, its = getattr(self, f"s_axil_{name}"), getattr(lite, name)
            m.d.comb += ours.eq(its) if port.flow is Out else its.eq(ours)
        options, loads = self.options, self.loads
        blocks = BlockOptions(count=options.counters, stateful=options.stateful, parity=options.parity)
        if self.supply:
            design = Engine(self.schedule, blocks)
        else:
            design = accelerator(self.schedule, blocks, loads=loads.memories if loads else None)
        bank = Bank(m, lite, options.capabilities | ({"STREAMED"} if self.supply else set()))
        core = Core(self.schedule, design, options.bus_bits // 8)
        words, guard = core.connect(m, bank)
        taken, given = words.i.payload, guard.o.payload
        m.d.comb += [
            taken.data.eq(self.s_axis_tdata), taken.keep.eq(self.s_axis_tkeep), taken.last.eq(self.s_axis_tlast),
            words.i.valid.eq(self.s_axis_tvalid), self.s_axis_tready.eq(words.i.ready),
            self.m_axis_tdata.eq(given.data), self.m_axis_tkeep.eq(given.keep), self.m_axis_tlast.eq(given.last),
            self.m_axis_tuser.eq(given.user), self.m_axis_tvalid.eq(guard.o.valid), guard.o.ready.eq(self.m_axis_tready),
        ]
        counters.cycles(m, bank)
        if loads:
            loading.connect(m, bank, core, loads)
        if options.stateful:
            state.connect(m, bank, core, States([*design.windows.values()]))
        if self.supply:
            m.submodules.supply = self.supply
            for name, port in self.supply.ports.items():
                ours, its = getattr(self, name), getattr(self.supply, name)
                m.d.comb += ours.eq(its) if port.flow is Out else its.eq(ours)
            streaming.connect(m, bank, core, self.supply)
        if options.counters:
            counters.stages(m, bank, core, words.i, guard.o)
        if options.parity:
            counters.parity(m, bank, core)
        bank.scratch.hold()
        bank.interrupt.on(result=self.m_axis_tvalid & self.m_axis_tready & self.m_axis_tlast, error=bank.errors.now.any())
        m.d.sync += self.irq.eq((bank.interrupt.seen & bank.interrupt_enable.hold()).any())
        self._identify(bank)
        bank.connect()
        return m

    def _identify(self, bank: Bank) -> None:
        """Binds the constants by which software knows the design."""
        schedule, options = self.schedule, self.options
        mean = any(isinstance(op, operators.Pool) and op.mean for op in self.artifact.operators.values())
        bank.magic.reads(MAGIC)
        bank.interface.reads(major=INTERFACE[0], minor=INTERFACE[1])
        bank.capabilities.reads(
            counters=options.counters, loadable=options.loadable, stateful=options.stateful, parity=options.parity, mean=mean,
            full=1, streamed=self.supply is not None,
            bus_bytes=options.bus_bits // 8, input_bytes=self.input_bytes, output_bytes=self.output_bytes)
        bank.sizes.reads(stages=len(self.stages), queues=len(self.queues))
        bank.tokens.reads(schedule.tokens)
        bank.input_width.reads(schedule.input.width)
        bank.output_width.reads(schedule.output.width)
        bank.output_tokens.reads(schedule.graph.output.tokens)
        if not self.loads:
            bank.digest.reads(*loading.digest_words(self.artifact.digest))
            bank.structure.reads(*[0] * loading.DIGEST_WORDS)
