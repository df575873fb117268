"""Pictures of the pages, made from the code: `python -m benchmarks.pictures` writes them into docs/."""

import sys

from amaranth.sim import Simulator

from emamba.artifact import load
from emamba.base.door import guarded
from emamba.base.formats import IntFormat
from emamba.io.files import write_file
from flow.report.drawing import Item, Layout, Picture, graph_part, items_of, path, rectangle, text, timetable, timetable_part
from rtl.kit.block import Beat
from rtl.kit.streams import Fifo
from rtl.plan.schedule import Schedule

from .sections import DOCS

MODEL, CYCLES = "models/mars", 20


def block(schedule: Schedule, fifos: bool) -> Picture:
    """The nodes of a Mamba block: their kinds and widths; or as circuits, multipliers, cycles and the depth of every FIFO."""
    nodes = [node for node in graph_part(schedule) if node["name"].startswith("block0.")]
    layout = Layout(items_of(nodes if fifos else [node | {"fifo": []} for node in nodes]))

    def words(item) -> list[str]:
        made = schedule.blocks[item.name]
        return [item.name.removeprefix("block0."),
                f"{made.multipliers} mult, {made.cycles} cyc" if fifos else f"{item.kind} {item.width}"]

    return layout.draw(f"Its pipeline at {schedule.period} cycles a token: multipliers, cycles a token, FIFO depths in beats"
                       if fifos else f"A block of {schedule.artifact.name}: node, operator, channels", words)


FLOW = {"your data": ("files", ()), "checkpoint": ("emamba train", ("your data",)),
        "foreign model": ("Mamba, ONNX", ()), "ARTIFACT": ("integers, proofs", ("checkpoint", "foreign model")),
        "float": ("to compare", ("ARTIFACT",)), "integer model": ("NumPy, C loop", ("ARTIFACT",)),
        "C99": ("microcontroller", ("ARTIFACT",)), "Verilog": ("pipeline, engine", ("ARTIFACT",)),
        "simulation": ("Verilator", ("Verilog",)), "FPGA": ("Linux, serial", ("Verilog",)),
        "ASIC": ("cells, OpenROAD", ("Verilog",))}
"""What becomes what, and by which."""


def flow() -> Picture:
    """From data to every executor."""
    items = [Item(name, inputs, "Linear" if name == "ARTIFACT" else "") for name, (_, inputs) in FLOW.items()]
    return Layout(items).draw("One artifact, every executor: the same integers", lambda item: [item.name, FLOW[item.name][0]])


READY = (1, 0, 0, 1, 1, 0, 1, 1, 1, 1)


def transfers() -> list[dict[str, int]]:
    """Signals of a FIFO of two beats in every cycle, while the reader pauses."""
    fifo, seen = Fifo(Beat(IntFormat(8, signed=False), 1), 2), []

    async def run(ctx):
        beat = 0
        for cycle, ready in enumerate(READY):
            offers = cycle > 0 and beat < 5
            ctx.set(fifo.i.valid, offers)
            ctx.set(fifo.i.payload.data[0], 0xA0 + beat if offers else 0)
            ctx.set(fifo.o.ready, ready)
            await ctx.delay(1e-7)
            seen.append({f"{name}.{signal}": int(ctx.get(value)) for name, port in (("i", fifo.i), ("o", fifo.o))
                         for signal, value in (("valid", port.valid), ("ready", port.ready), ("payload", port.payload.data[0]))})
            beat += offers and seen[-1]["i.ready"]
            await ctx.tick()

    simulator = Simulator(fifo)
    simulator.add_clock(1e-6)
    simulator.add_testbench(run)
    simulator.run()
    return seen


def stream() -> Picture:
    """A wave of these transfers."""
    seen, left, cycle, pitch = transfers(), 80, 70, 26
    title = "Transfers through a FIFO of two beats: a beat moves in each shaded cycle, where valid and ready are high"
    rows = list(seen[0])
    parts = [text(12, 18, title, "start", size=13)]
    for k, now in enumerate(seen):
        for first in (0, 3):
            if now[rows[first]] and now[rows[first + 1]]:
                parts.append(rectangle(left + k * cycle, 34 + first * pitch, cycle, 3 * pitch - 4, "#fbe5d6", "none"))
        parts.append(text(left + (k + 0.5) * cycle, 44 + pitch * len(rows), str(k), size=10))
    for row, name in enumerate(rows):
        y = 38 + row * pitch
        parts.append(text(left - 8, y + 13, name, "end"))
        points = []
        for k, now in enumerate(seen):
            x = left + k * cycle
            if name.endswith("payload"):
                if now[name.replace("payload", "valid")]:
                    parts += [rectangle(x + 1, y, cycle - 2, 16, "white"),
                              text(x + cycle / 2, y + 12, f"{now[name]:#04x}", size=10)]
            else:
                points += [(x, y + (0 if now[name] else 16)), (x + cycle, y + (0 if now[name] else 16))]
        parts += [path(points)] if points else []
    return Picture(title, left + cycle * len(seen) + 20, 60 + pitch * len(rows), parts)


def pictures() -> dict[str, str]:
    """By file name."""
    schedule = Schedule(load(MODEL), CYCLES)
    frame = timetable(f"A frame of {schedule.artifact.name}, {schedule.period} cycles a token: from a token's first beat in to "
                      "its last beat out", timetable_part(schedule)["rows"])
    drawn = {"block": block(schedule, False), "pipeline": block(schedule, True), "timetable": frame, "stream": stream(),
             "flow": flow()}
    return {f"{name}.svg": picture.file() for name, picture in drawn.items()}


def main() -> None:
    for name, content in pictures().items():
        write_file(DOCS / name, lambda target, content=content: target.write_text(content, encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(guarded("benchmarks.pictures", main))
