"""Drawings of a model: its graph as boxes and lines, repeated blocks once, and the timetable of its pipeline. They are drawn from
what `graph_part` and `timetable_part` say, which report.json holds."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from rtl.kit.streams import Pacer
from rtl.plan.schedule import Schedule

WIDTH, HEIGHT, GAP, ROW = 92, 40, 42, 62
"""Of a box, of the room between two columns, of a row, in px."""
BLOCKS, ROWS = 4, 120
"""Different blocks that are drawn, and nodes of a timetable."""
COLOURS = {"Linear": "#cfe0f5", "Conv1d": "#d5ecd4", "Scan": "#f5cfe3", "Activation": "#f3e6b3", "Multiply": "#e6dcf2",
           "Add": "#e6dcf2", "RangeNorm": "#e3e3e3"}
PLAIN, SLOWEST = "#f4f4f4", "#c2410c"


@dataclass(frozen=True)
class Item:
    """A box: a node, or a block of them; `queues` has the FIFO depth of each input, where that is known."""

    name: str
    inputs: tuple[str, ...]
    kind: str = ""
    width: int = 0
    queues: tuple[int, ...] = ()


def text(x: float, y: float, words: str, anchor: str = "middle", size: int = 11, kind: str = "") -> str:
    shown = f' class="{kind}"' if kind else ""
    return f'<text{shown} x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'


def rectangle(x: float, y: float, width: float, height: float, fill: str, stroke: str = "#777", wide: float = 1) -> str:
    thick = f' stroke-width="{wide:g}"' if wide != 1 else ""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}" stroke="{stroke}"{thick} rx="2"/>'


def path(points: Iterable[tuple[float, float]], colour: str = "#777") -> str:
    return f'<path d="M{" L".join(f"{x:g} {y:g}" for x, y in points)}" fill="none" stroke="{colour}"/>'


@dataclass(frozen=True)
class Picture:
    """Elements of an SVG: `inline` in a page, or a `file` of its own."""

    title: str
    width: float
    height: float
    parts: Sequence[str]

    def inline(self) -> str:
        size = f'viewBox="0 0 {self.width:g} {self.height:g}" width="{self.width:g}" style="min-width:{min(self.width, 760):g}px"'
        return (f'<figure><svg class="drawing" {size} role="img" aria-label="{escape(self.title)}">{"".join(self.parts)}</svg>'
                "</figure>")

    def file(self) -> str:
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" width="{self.width:g}" '
            f'height="{self.height:g}" font-family="sans-serif" font-size="11">', f"<title>{escape(self.title)}</title>",
            f'<rect width="{self.width:g}" height="{self.height:g}" fill="white"/>', *self.parts, "</svg>", ""])


class Layout:
    """Items in columns: each stands after all that it reads; the branches of z and of the residual below."""

    def __init__(self, items: Sequence[Item]):
        names = {item.name for item in items}
        self.items, self.column, self.row = items, {}, {}
        self.sources = [name for name in dict.fromkeys(name for item in items for name in item.inputs) if name not in names]
        for name in self.sources:
            self.column[name], self.row[name] = 0, len(self.row)
        for item in items:
            self.column[item.name] = 1 + max((self.column[name] for name in item.inputs), default=-1)
            taken = {self.row[name] for name in names & set(self.row) if self.column[name] == self.column[item.name]}
            first = min((self.row[name] for name in item.inputs), default=0)
            self.row[item.name] = next(row for row in range(first, len(items) + 1) if row not in taken)
        long = any(self.column[item.name] > 1 for item in items for name in item.inputs if name in self.sources)
        self.width = (max(self.column.values()) + 1) * (WIDTH + GAP)
        self.height = (max(self.row.values()) + 1 + long) * ROW + 30

    def at(self, name: str) -> tuple[float, float]:
        return GAP / 2 + self.column[name] * (WIDTH + GAP), 34 + self.row[name] * ROW

    def box(self, name: str, lines: Sequence[str], fill: str, stroke: str = "#777") -> list[str]:
        x, y = self.at(name)
        top = y + HEIGHT / 2 + 10 - 6 * len(lines)
        return [f"<g><title>{escape(', '.join(lines))}</title>",
                rectangle(x, y, WIDTH, HEIGHT, fill, stroke, 1 if stroke == "#777" else 2),
                *(text(x + WIDTH / 2, top + 12 * k, _within(line), size=11 if k == 0 else 10, kind="box")
                  for k, line in enumerate(lines)), "</g>"]

    def edge(self, source: str, sink: str, port: int, ports: int) -> tuple[str, tuple[float, float]]:
        """A line of right angles into its port, and where something can stand on it."""
        (x0, y0), (x1, y1) = self.at(source), self.at(sink)
        start, end = (x0 + WIDTH, y0 + HEIGHT / 2), (x1, y1 + HEIGHT * (port + 1) / (ports + 1))
        if self.column[sink] - self.column[source] == 1:
            turn = x1 - GAP / 2 - 4 * port
            return path([start, (turn, start[1]), (turn, end[1]), end]), (x1 - 12, end[1])
        lane = max(self.at(name)[1] for name in (source, sink)) + HEIGHT + 8 + 4 * port
        if source in self.sources:
            lane = self.height - 44
        out, into = start[0] + 6 + 3 * port, x1 - 6 - 4 * port
        return path([start, (out, start[1]), (out, lane), (into, lane), (into, end[1]), end]), (into - 18, lane)

    def draw(self, title: str, words: Callable[[Item], Sequence[str]], slowest: str = "") -> Picture:
        lines, labels, boxes = [], [], []
        for item in self.items:
            for port, name in enumerate(item.inputs):
                line, (x, y) = self.edge(name, item.name, port, len(item.inputs))
                lines.append(line)
                if item.queues:
                    labels += [rectangle(x - 9, y - 7, 18, 14, "white"),
                               text(x, y + 4, str(item.queues[port]), size=9, kind="box")]
        for name in self.sources:
            boxes += self.box(name, [name], PLAIN)
        for item in self.items:
            boxes += self.box(item.name, words(item), COLOURS.get(item.kind, PLAIN), SLOWEST if item.name == slowest else "#777")
        return Picture(title, self.width, self.height, [text(GAP / 2, 18, title, "start", size=13), *lines, *labels, *boxes])


def _within(words: str) -> str:
    """What a box has room for; the whole stands in its title."""
    return words if len(words) <= 17 else f"{words[:8]}…{words[-8:]}"


# -- the graph ----------------------------------------------------------------------------------------------------------------


def graph_part(schedule: Schedule) -> list[dict]:
    """Of each node: kind, channels, inputs and the depths of the FIFOs before them."""
    depths = {(edge.sink, edge.index): edge.queue.depth for output in schedule.outputs.values() for edge in output.edges}
    return [{"name": node.name, "kind": node.kind, "width": node.width, "inputs": list(node.inputs),
             "fifo": [depths[node.name, port] for port in range(len(node.inputs))]} for node in schedule.graph]


def items_of(nodes: Sequence[Mapping]) -> list[Item]:
    """The boxes of what `graph_part` gave."""
    return [Item(node["name"], tuple(node["inputs"]), node["kind"], node["width"], tuple(node["fifo"])) for node in nodes]


def block_of(name: str) -> str:
    """The repeated part of the model that a node stands in: `block0` of block0.x; else the node itself."""
    return found.group(1) if (found := re.match(r"(.*?\d+)\.", name)) else name


def blocks_of(items: Sequence[Item]) -> list[tuple[list[str], list[Item]]]:
    """Runs of alike blocks, by their names, with the items of the first of each."""
    groups = [(name, list(group)) for name, group in groupby(items, key=lambda item: block_of(item.name))]
    if len({name for name, _ in groups}) < len(groups):  # names that are no blocks one after the other
        groups = [(item.name, [item]) for item in items]
    runs: list[tuple[list[str], list[Item]]] = []
    for name, group in groups:
        if len(group) > 1 and runs and _shape(name, group) == _shape(runs[-1][0][0], runs[-1][1]):
            runs[-1][0].append(name)
        else:
            runs.append(([name], group))
    return runs


def _shape(name: str, group: Sequence[Item]) -> list:
    """What alike blocks share."""
    inside = {item.name for item in group}
    return [(item.name.removeprefix(name), item.kind, item.width,
             [other.removeprefix(name) if other in inside else "" for other in item.inputs]) for item in group]


def drawings(nodes: Sequence[Mapping], words: Callable[[Item], Sequence[str]], slowest: str = "") -> list[Picture]:
    """The model with its blocks as boxes, and each different block; `words` stand below a node's name."""
    items = items_of(nodes)
    known, runs = {item.name: item for item in items}, blocks_of(items)
    label = {name: names[0] if len(names) == 1 else f"{names[0]} … {re.search(r'[0-9]*$', names[-1]).group()}"
             for names, _ in runs for name in names}
    boxes = []
    for names, group in runs:
        outside = dict.fromkeys(label.get(name) or label[block_of(name)] for item in group for name in item.inputs)
        outside.pop(label[names[0]], None)
        boxes.append(Item(label[names[0]], tuple(outside), group[0].kind if len(group) == 1 else "block"))
    counts = {label[names[0]]: f"{len(names)} × {len(group)} nodes" for names, group in runs}
    found = [Layout(boxes).draw("The model", lambda box: [box.name, *words(known[box.name])] if box.name in known
                                else [box.name, counts[box.name]], slowest)]
    for names, group in [run for run in runs if len(run[1]) > 1][:BLOCKS]:
        title = names[0] + (f", and {len(names) - 1} more alike" if len(names) > 1 else "")
        prefix = f"{names[0]}."
        found.append(Layout(group).draw(title, lambda item, own=prefix: [item.name.removeprefix(own), *words(item)], slowest))
    return found


# -- the timetable ------------------------------------------------------------------------------------------------------------


def beats(schedule: Schedule, tokens: int) -> dict[str, list[tuple[int, int]]]:
    """By node, for each token the cycles in which its first beats have come on all inputs, and in which its last beat leaves."""
    entered, departures = Pacer(schedule.input, schedule.period).schedule([0] * (tokens * schedule.input.beats))
    arrivals, found = {node.name: [[]] * len(node.inputs) for node in schedule.graph}, {}
    for node in schedule.graph:
        if node.name in schedule.blocks:
            came = arrivals[node.name]
            *_, departures = schedule.blocks[node.name].over(tokens * node.reads // schedule.tokens).schedule(*came)
            outs = max(1, len(departures) // tokens)
            count = len(departures) // outs
            starts = [max(beats[k * len(beats) // tokens] for beats in came) for k in range(min(count, tokens))]
            ends = departures[outs - 1::outs]
            found[node.name] = [(int(start - entered[0]), int(end - entered[0]))
                                for start, end in zip(starts, ends, strict=False)]
        output = schedule.outputs[node.name]
        flow = output.gearbox.schedule(departures)[1] if output.gearbox else departures
        for edge in output.edges:
            arrivals[edge.sink][edge.index] = edge.gearbox.schedule(flow)[1] if edge.gearbox else flow
    return found


def timetable_part(schedule: Schedule) -> dict:
    """When each node works on which of the first tokens of a sequence."""
    rows = beats(schedule, schedule.window)
    return {"tokens": schedule.window, "rows": [{"name": name, "spans": spans} for name, spans in rows.items()]}


def timetable(title: str, rows: Sequence[Mapping], width: int = 890) -> Picture:
    """Of `timetable_part`'s rows: a bar for each token, from its first beat in to its last beat out."""
    rows, pitch = rows[:ROWS], 15
    left = max(110, min(260, 12 + 6 * max(len(row["name"]) for row in rows)))
    last = max(end for row in rows for _, end in row["spans"])
    scale, bottom = (width - left - 20) / max(last, 1), 40 + pitch * len(rows)
    parts = [text(12, 18, title, "start", size=13)]
    step = next(step for step in (10 ** (k // 3) * (1, 2, 5)[k % 3] for k in range(60)) if last / step <= 10)
    for cycle in range(0, last + 1, step):
        x = round(left + cycle * scale, 1)
        parts += [path([(x, 30), (x, bottom)], "#8884"), text(x, bottom + 14, f"{cycle:,}", size=10)]
    for k, row in enumerate(rows):
        y = 34 + pitch * k
        parts.append(text(left - 6, y + 9, row["name"], "end", size=10))
        for token, (start, end) in enumerate(row["spans"]):
            fill = "#2f7d4f" if token == 0 else ("#8fb0d6", "#b9cde6")[token % 2]
            wide = max((end + 1 - start) * scale, 1.5)
            parts.append(rectangle(round(left + start * scale, 1), y + 4 * (token % 2), round(wide, 1), 6, fill, "none"))
    parts.append(text(left, bottom + 30, f"cycles; token 0 in green; the last result leaves in cycle {last:,}", "start", 10))
    return Picture(title, width, bottom + 40, parts)
