"""The accelerator: every node of an artifact as a block, connected as its schedule says."""

from collections.abc import Mapping
from dataclasses import replace

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..engine.engine import Engine
from ..engine.schedule import EngineSchedule
from ..engine.streamed import StreamedEngine
from ..kit.block import PLAIN, Beat, BlockOptions
from ..kit.shared import Shared
from ..kit.streams import Fifo, Fork, Gearbox, Pacer
from .schedule import Queue, Schedule


def accelerator(schedule: Schedule | EngineSchedule, options: BlockOptions = PLAIN, *, trace: bool = False,
                loads: Mapping[str, dict] | None = None) -> "Accelerator | Engine | StreamedEngine":
    """The component of a schedule, by its organization."""
    kind = Accelerator if isinstance(schedule, Schedule) else StreamedEngine if schedule.image else Engine
    return kind(schedule, options, trace=trace, loads=loads)


class Accelerator(wiring.Component):
    """Tokens in at `i`, results out at `o`. One token every `schedule.period` cycles.

    With `trace`, the output stream of every node is also visible: `trace_<k>` carries its payload and `fire`, high where a
    beat transfers; `trace` maps node names to ports in the order of k. `options` are those of every block, `loads` the loadable
    memories by node. With `trace` or `count`, `peak_<k>` is the high-water mark of FIFO k; with `count`, `clear_peaks` clears
    them and `hold_peaks` keeps them as they are. With `parity`, `fault` is high as a memory gives a word that is not as it was
    written.
    """

    def __init__(self, schedule: Schedule, options: BlockOptions = PLAIN, *, trace: bool = False,
                 loads: Mapping[str, dict] | None = None):
        self.schedule, self.tracked, self.parity = schedule, options.count, options.parity
        options = replace(options, carried=schedule.graph.carried)
        self.blocks = {name: spec.build(replace(options, loads=(loads or {}).get(name, {})), _identifier(name))
                       for name, spec in schedule.blocks.items()}
        self.inputs, self.output = {"i": schedule.input}, schedule.output
        self.windows = {name: block.window for name, block in self.blocks.items() if block.window is not None}
        self.trace = {name: block.output for name, block in schedule.blocks.items()} if trace else {}
        queues = schedule.queues() if trace or options.count else []
        self.peaks = [queue.name for queue in queues]
        members = {"i": In(schedule.input.signature), "o": Out(schedule.output.signature)}
        for k, port in enumerate(self.trace.values()):
            members[f"trace_{k}"] = Out(wiring.Signature({"payload": Out(Beat(port.format, port.lanes)), "fire": Out(1)}))
        if options.count:
            members |= {"clear_peaks": In(1), "hold_peaks": In(1)}
        if options.parity:
            members["fault"] = Out(1)
        for k, queue in enumerate(queues):
            members[f"peak_{k}"] = Out(range(queue.depth + 1))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        schedule = self.schedule
        self.faults = [fault for block in self.blocks.values()
                       for fault in (block.fault, *(memory.fault for memory in block.loads.values()))] if self.parity else []
        m.submodules.pacer = pacer = Pacer(schedule.input, schedule.period).build()
        wiring.connect(m, wiring.flipped(self.i), pacer.i)
        for name, block in self.blocks.items():
            m.submodules[_identifier(name)] = block
        for name, output in schedule.outputs.items():
            stream = self.blocks[name].o if name in self.blocks else pacer.o
            if name in self.trace:
                tap = getattr(self, f"trace_{list(self.trace).index(name)}")
                m.d.comb += [tap.payload.eq(stream.payload), tap.fire.eq(stream.valid & stream.ready)]
            stream = self._change(m, stream, output.gearbox, output.before, f"{name}.gearbox")
            if len(output.edges) > 1:
                m.submodules[_identifier(f"{name}.fork")] = fork = Fork(stream.payload.shape(), len(output.edges))
                wiring.connect(m, stream, fork.i)
                branches = list(fork.o)
            else:
                branches = [stream]
            for edge, branch in zip(output.edges, branches, strict=False):
                at = f"{name}.to.{edge.sink}.{edge.index}"
                branch = self._change(m, branch, edge.gearbox, edge.before, f"{at}.gearbox")
                branch = self._queue(m, branch, edge.queue, f"{at}.fifo")
                sink = self.blocks[edge.sink]
                wiring.connect(m, branch, getattr(sink, list(sink.inputs)[edge.index]))
            if not output.edges:
                wiring.connect(m, stream, wiring.flipped(self.o))
        if self.parity:
            m.d.comb += self.fault.eq(Cat(self.faults).any())
        return m

    def _change(self, m: Module, stream, gearbox: Gearbox | None, before: Queue | None, name: str):
        if gearbox is None:
            return stream
        if before.depth:
            stream = self._queue(m, stream, before, f"{name}.fifo")
        spec, gearbox = gearbox, gearbox.build()
        m.submodules[_identifier(name)] = Shared(gearbox, "gearbox", spec)
        wiring.connect(m, stream, gearbox.i)
        return gearbox.o

    def _queue(self, m: Module, stream, queue: Queue, name: str):
        layout = Beat(queue.port.format, queue.port.lanes)
        fifo = Fifo(layout, queue.depth, tracked=self.tracked, parity=self.parity)
        m.submodules[_identifier(name)] = Shared(fifo, f"fifo_{queue.depth}x{layout.size}", (self.tracked, self.parity))
        if self.tracked:
            m.d.comb += [fifo.clear.eq(self.clear_peaks), fifo.hold.eq(self.hold_peaks)]
        if self.parity:
            self.faults.append(fifo.fault)
        wiring.connect(m, stream, fifo.i)
        if queue.name in self.peaks:
            m.d.comb += getattr(self, f"peak_{self.peaks.index(queue.name)}").eq(fifo.peak)
        return fifo.o


def _identifier(name: str) -> str:
    return name.replace(".", "_")
