"""Pictures of the pages, made from the code: `python -m benchmarks.pictures` writes them into docs/."""

import sys
from collections.abc import Iterable
from html import escape

from amaranth.sim import Simulator

from emamba.artifact import load
from emamba.base.door import guarded
from emamba.base.formats import IntFormat
from emamba.io.files import write_file
from rtl.kit.block import Beat
from rtl.kit.streams import Fifo, Pacer
from rtl.plan.schedule import Schedule

from .sections import DOCS

MODEL, CYCLES = "models/mars", 20
WIDTH, HEIGHT, GAP, ROW = 92, 40, 42, 62
"""Of a box, of the room between two columns, of a row, in px."""
COLOURS = {"Linear": "#cfe0f5", "Conv1d": "#d5ecd4", "Scan": "#f7d7c4", "Activation": "#f3e6b3", "Multiply": "#e6dcf2",
           "Add": "#e6dcf2", "RangeNorm": "#e3e3e3"}


def svg(width: int, height: int, parts: Iterable[str], title: str) -> str:
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11">', f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>', *parts, "</svg>", ""])


def text(x: float, y: float, words: str, anchor: str = "middle", colour: str = "black", size: int = 11) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{escape(words)}</text>'


def rectangle(x: float, y: float, width: float, height: float, fill: str, stroke: str = "#444") -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}" stroke="{stroke}" rx="2"/>'


def path(points: Iterable[tuple[float, float]], colour: str = "#444") -> str:
    return f'<polyline points="{" ".join(f"{x:g},{y:g}" for x, y in points)}" fill="none" stroke="{colour}"/>'


class Layout:
    """The nodes of one block in columns: each stands after all that it reads; the branches of z and of the residual below."""

    def __init__(self, schedule: Schedule, block: str):
        nodes = [node for node in schedule.graph if node.name.startswith(f"{block}.")]
        names, self.source = {node.name for node in nodes}, next(iter(nodes[0].inputs))
        self.schedule, self.block, self.nodes = schedule, block, nodes
        self.column, self.row = {self.source: 0}, {self.source: 0}
        for node in nodes:
            self.column[node.name] = 1 + max(self.column[name] for name in node.inputs)
            taken = {self.row[name] for name in names & set(self.row) if self.column[name] == self.column[node.name]}
            first = min(self.row[name] for name in node.inputs)
            self.row[node.name] = next(row for row in range(first, len(nodes)) if row not in taken)
        self.width = (max(self.column.values()) + 1) * (WIDTH + GAP) + GAP
        self.height = (max(self.row.values()) + 2) * ROW + 30

    def at(self, name: str) -> tuple[float, float]:
        return GAP / 2 + self.column[name] * (WIDTH + GAP), 34 + self.row[name] * ROW

    def box(self, name: str, lines: list[str], fill: str) -> list[str]:
        x, y = self.at(name)
        return [rectangle(x, y, WIDTH, HEIGHT, fill),
                *(text(x + WIDTH / 2, y + 16 + 15 * k, line, size=11 if k == 0 else 10) for k, line in enumerate(lines))]

    def edge(self, source: str, sink: str, port: int, ports: int) -> tuple[list[str], tuple[float, float]]:
        """A line of right angles into its port, and where something can stand on it."""
        (x0, y0), (x1, y1) = self.at(source), self.at(sink)
        start, end = (x0 + WIDTH, y0 + HEIGHT / 2), (x1, y1 + HEIGHT * (port + 1) / (ports + 1))
        if self.column[sink] - self.column[source] == 1:
            turn = x1 - GAP / 2 - 4 * port
            return [path([start, (turn, start[1]), (turn, end[1]), end])], (x1 - 12, end[1])
        lane = max(self.at(name)[1] for name in (source, sink)) + HEIGHT + 8 + 4 * port
        if source == self.source:
            lane = self.height - 44
        out, into = start[0] + 6 + 3 * port, x1 - 6 - 4 * port
        return [path([start, (out, start[1]), (out, lane), (into, lane), (into, end[1]), end])], (into - 18, lane)

    def draw(self, title: str, words, fifos: bool) -> str:
        parts = [text(GAP / 2, 18, title, "start", size=13)]
        labels = []
        for node in self.nodes:
            for port, name in enumerate(node.inputs):
                line, (x, y) = self.edge(name, node.name, port, len(node.inputs))
                parts += line
                if fifos:
                    edge = next(edge for edge in self.schedule.outputs[name].edges
                                if edge.sink == node.name and edge.index == port)
                    labels += [rectangle(x - 9, y - 7, 18, 14, "white"), text(x, y + 4, str(edge.queue.depth), size=9)]
        parts += labels + self.box(self.source, [self.source], "white")
        for node in self.nodes:
            lines = [node.name.removeprefix(f"{self.block}."), *words(node)]
            parts += self.box(node.name, lines, COLOURS.get(node.kind, "white"))
        return svg(self.width, self.height, parts, title)


def block(schedule: Schedule) -> str:
    """The nodes of a Mamba block, their kinds and widths."""
    return Layout(schedule, "block0").draw(f"A block of {schedule.artifact.name}: node, operator, channels",
                                           lambda node: [f"{node.kind} {node.width}"], fifos=False)


def pipeline(schedule: Schedule) -> str:
    """The same as circuits: multipliers, cycles a token, and the depth of every FIFO."""
    def words(node) -> list[str]:
        made = schedule.blocks[node.name]
        return [f"{made.multipliers} mult, {made.cycles} cyc"]

    return Layout(schedule, "block0").draw(
        f"Its pipeline at {schedule.period} cycles a token: multipliers, cycles a token, FIFO depths in beats", words, fifos=True)


def beats(schedule: Schedule, tokens: int) -> dict[str, list[tuple[int, int]]]:
    """By node, for each token the cycles in which its first beats have come on all inputs, and in which its last beat leaves."""
    entered, departures = Pacer(schedule.input, schedule.period).schedule([0] * (tokens * schedule.input.beats))
    arrivals, found = {node.name: [[]] * len(node.inputs) for node in schedule.graph}, {}
    for node in schedule.graph:
        if node.name in schedule.blocks:
            came = arrivals[node.name]
            *_, departures = schedule.blocks[node.name].schedule(*came)
            outs = len(departures) // tokens or len(departures)
            count = len(departures) // outs
            starts = [max(beats[k * len(beats) // tokens] for beats in came) for k in range(count)]
            ends = departures[outs - 1::outs]
            found[node.name] = [(start - entered[0], end - entered[0]) for start, end in zip(starts, ends, strict=True)]
        output = schedule.outputs[node.name]
        flow = output.gearbox.schedule(departures)[1] if output.gearbox else departures
        for edge in output.edges:
            arrivals[edge.sink][edge.index] = edge.gearbox.schedule(flow)[1] if edge.gearbox else flow
    return found


def timetable(schedule: Schedule) -> str:
    """When each node works on which token of one sequence."""
    rows, left, pitch = beats(schedule, schedule.tokens), 110, 15
    last = max(end for spans in rows.values() for _, end in spans)
    scale = 760 / last
    title = (f"A frame of {schedule.artifact.name}, {schedule.period} cycles a token: from a token's first beat in to its last "
             "beat out")
    bottom = 40 + pitch * len(rows)
    parts = [text(12, 18, title, "start", size=13)]
    for cycle in range(0, last + 1, 100):
        x = left + cycle * scale
        parts += [path([(x, 30), (x, bottom)], "#ddd"), text(x, bottom + 14, str(cycle), size=10)]
    for k, (name, spans) in enumerate(rows.items()):
        y = 34 + pitch * k
        parts.append(text(left - 6, y + 9, name, "end", size=10))
        for token, (start, end) in enumerate(spans):
            fill = "#d9622b" if token == 0 else ("#8fb0d6", "#c3d4ea")[token % 2]
            width = max((end + 1 - start) * scale, 1.5)
            parts.append(rectangle(round(left + start * scale, 1), y + 4 * (token % 2), round(width, 1), 6, fill, "none"))
    parts.append(text(left + 380, bottom + 30, f"cycles; token 0 in orange; the result leaves in cycle {last}", size=10))
    return svg(890, bottom + 40, parts, title)


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


def stream() -> str:
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
    return svg(left + cycle * len(seen) + 20, 60 + pitch * len(rows), parts, title)


def pictures() -> dict[str, str]:
    """By file name."""
    schedule = Schedule(load(MODEL), CYCLES)
    return {"block.svg": block(schedule), "pipeline.svg": pipeline(schedule), "timetable.svg": timetable(schedule),
            "stream.svg": stream()}


def main() -> None:
    for name, content in pictures().items():
        write_file(DOCS / name, lambda target, content=content: target.write_text(content, encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(guarded("benchmarks.pictures", main))
