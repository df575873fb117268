"""Plots as SVG, without a library: axes with units, lines, steps, points and bars. Colours are classes (`a`, `b`, `c`, `limit`):
of the page's CSS, so that a plot follows light, dark and print, or of a sheet's own."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby

Points = Sequence[tuple[float, float]]

LEFT, RIGHT, TOP, BOTTOM = 58, 12, 22, 40
"""Margins in px, for ticks and labels."""
ROW = 15
"""Height in px of a bar."""
STYLE = """\
text { font: 11px sans-serif; fill: #1c2024; } .tick { fill: #5f6872; font-size: 10px; } .title { font-weight: bold; }
.grid { stroke: #e3e6ea; fill: none; } .frame { stroke: #5f6872; fill: none; stroke-width: .6; }
rect.a, circle.a { fill: #2166ac; } rect.b, circle.b { fill: #c2410c; } rect.c, circle.c { fill: #8a929c; }
polyline { fill: none; } .a { stroke: #2166ac; } .b { stroke: #c2410c; } .c { stroke: #8a929c; } .wide { stroke-width: 4; }"""


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers of low..high, at least two."""
    step = 10 ** math.floor(math.log10((high - low) / count))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= count)
    found = [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return found if len(found) > 1 else ticks(low, high, count + 1)


def decades(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` powers of ten of low..high; where there are not two, 1, 2 and 5 of each, or round numbers."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last > first:
        return [10.0**k for k in range(first, last + 1, 1 + (last - first) // count)]
    found = [factor * 10.0**k for k in (first - 1, first) for factor in (1, 2, 5) if low <= factor * 10.0**k <= high]
    return found if len(found) > 1 else ticks(low, high, count)


def number(value: float) -> str:
    """As a tick says it: 1200 → 1,200, 123456 → 123.5k, 0.00001 → 1e-5."""
    if abs(value) < 1e5 and value == round(value):
        return f"{value:,.0f}"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}".replace("e-0", "e-")


def heading(title: str, left: float, width: float) -> str:
    """A title that is not cut: it begins at `left`, or before it and drawn narrower where it is long."""
    need = 6.6 * len(title)
    left = min(left, max(4.0, width - 4 - need))
    narrow = f' textLength="{width - 8:g}" lengthAdjust="spacingAndGlyphs"' if need > width - 8 else ""
    return f'<text class="title" x="{left:g}" y="14"{narrow}>{escape(title)}</text>'


@dataclass
class Plot:
    """A plot of `size` px with labelled axes. Marks are clipped to x and y, (low, high); a logarithmic axis starts above 0."""

    title: str
    x_label: str
    y_label: str
    x: tuple[float, float]
    y: tuple[float, float]
    log_x: bool = False
    log_y: bool = False
    size: tuple[int, int] = (420, 240)
    marks: list[str] = field(default_factory=list)
    names: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self):
        self.x, self.y = (self._wide(*span, log) for span, log in ((self.x, self.log_x), (self.y, self.log_y)))

    @staticmethod
    def _wide(low: float, high: float, log: bool) -> tuple[float, float]:
        """No empty span."""
        if high > low:
            return low, high
        return (low / 2, low * 2) if log else (low - (abs(low) or 1) / 2, low + (abs(low) or 1) / 2)

    @property
    def _inner(self) -> tuple[int, int]:
        return self.size[0] - LEFT - RIGHT, self.size[1] - TOP - BOTTOM

    def _at(self, value: float, span: tuple[float, float], log: bool) -> float:
        value = min(max(value, span[0]), span[1])
        low, high, value = (math.log(v) for v in (*span, value)) if log else (*span, value)
        return (value - low) / (high - low)

    def _px(self, x: float) -> float:
        return LEFT + self._at(x, self.x, self.log_x) * self._inner[0]

    def _py(self, y: float) -> float:
        return TOP + (1 - self._at(y, self.y, self.log_y)) * self._inner[1]

    def _name(self, name: str, kind: str) -> None:
        if name:
            self.names.append((name, kind))

    def line(self, points: Points, kind: str, name: str = "", dots: bool = False) -> "Plot":
        path = " ".join(f"{self._px(x):.1f},{self._py(y):.1f}" for x, y in points)
        self.marks.append(f'<polyline class="{kind}" points="{path}"/>')
        if dots:
            self.marks += [f'<circle class="{kind}" cx="{self._px(x):.1f}" cy="{self._py(y):.1f}" r="3"><title>'
                           f"{number(x)}, {number(y)}</title></circle>" for x, y in points]
        self._name(name, kind)
        return self

    def dots(self, points: Points, kind: str, name: str = "") -> "Plot":
        self.marks += [f'<circle class="{kind}" cx="{self._px(x):.1f}" cy="{self._py(y):.1f}" r="2"/>' for x, y in points]
        self._name(name, kind)
        return self

    def steps(self, edges: Sequence[float], heights: Sequence[float], kind: str, name: str = "") -> "Plot":
        """A histogram."""
        for low, high, height in zip(edges, edges[1:], heights, strict=False):
            if height > self.y[0]:
                self.marks.append(f'<rect class="{kind}" x="{self._px(low):.1f}" y="{self._py(height):.1f}" '
                                  f'width="{max(self._px(high) - self._px(low), 0.4):.1f}" '
                                  f'height="{self._py(self.y[0]) - self._py(height):.1f}"/>')
        self._name(name, kind)
        return self

    def words(self, x: float, y: float, text: str) -> "Plot":
        """Words beside a point."""
        self.marks.append(f'<text class="tick" x="{self._px(x) + 4:.1f}" y="{self._py(y) - 4:.1f}">{escape(text)}</text>')
        return self

    def verticals(self, places: Iterable[float], kind: str, name: str = "") -> "Plot":
        for x in places:
            if self.x[0] <= x <= self.x[1]:
                self.marks.append(f'<path class="{kind}" d="M{self._px(x):.1f} {TOP}v{self._inner[1]}"/>')
        self._name(name, kind)
        return self

    def svg(self) -> str:
        return _svg(self.title, *self.size, self.parts(), self.names)

    def parts(self) -> list[str]:
        """Its elements, without the key."""
        height, inner, parts = self.size[1], self._inner, []
        for log, span, place in ((self.log_x, self.x, "x"), (self.log_y, self.y, "y")):
            count = max(2, inner[place == "y"] // (70, 34)[place == "y"])
            for value in (decades if log else ticks)(*span, count):
                if place == "x":
                    at = f"{self._px(value):.1f}"
                    parts.append(f'<path class="grid" d="M{at} {TOP}v{inner[1]}"/><text class="tick" x="{at}" '
                                 f'y="{TOP + inner[1] + 14}" text-anchor="middle">{number(value)}</text>')
                else:
                    parts.append(f'<path class="grid" d="M{LEFT} {self._py(value):.1f}h{inner[0]}"/><text class="tick" '
                                 f'x="{LEFT - 5}" y="{self._py(value) + 4:.1f}" text-anchor="end">{number(value)}</text>')
        parts += self.marks
        parts.append(f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{inner[0]}" height="{inner[1]}"/>')
        return [
            *parts, heading(self.title, LEFT, self.size[0]),
            f'<text x="{LEFT + inner[0] / 2}" y="{height - 8}" text-anchor="middle">{escape(self.x_label)}</text>',
            f'<text transform="translate(12 {TOP + inner[1] / 2}) rotate(-90)" text-anchor="middle">'
            f"{escape(self.y_label)}</text>",
        ]


def sheet(rows: Sequence[Sequence[Plot]]) -> str:
    """An SVG file of rows of plots, each with its key inside."""
    parts, y = [], 0
    for row in rows:
        x = 0
        for plot in row:
            key = [f'<circle class="{kind}" cx="{plot.size[0] - RIGHT - 8}" cy="{TOP + 12 + 14 * k}" r="3"/><text class="tick" '
                   f'x="{plot.size[0] - RIGHT - 16}" y="{TOP + 16 + 14 * k}" text-anchor="end">{escape(name)}</text>'
                   for k, (name, kind) in enumerate(plot.names)]
            parts.append(f'<g transform="translate({x} {y})">{"".join([*plot.parts(), *key])}</g>')
            x += plot.size[0]
        y += max(plot.size[1] for plot in row)
    width = max(sum(plot.size[0] for plot in row) for row in rows)
    return "\n".join(['<?xml version="1.0" encoding="utf-8"?>',
                      f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}">',
                      f"<style>{STYLE}</style>", f'<rect width="{width}" height="{y}" fill="white"/>', *parts, "</svg>", ""])


Row = tuple[str, float, str, str]


def bars(title: str, label: str, rows: Sequence[Row], limit: float | None = None, width: int = 556) -> str:
    """Rows of (name, value ≥ 0, class, words after the bar) over an axis that `label` names; `limit` is a line across."""
    left, right = _left(rows), max(150, 12 + 6 * max((len(row[3]) for row in rows), default=0))
    width = max(width, left + right + 180)
    most = max([value for _, value, _, _ in rows] + [limit or 0]) or 1
    height, inner = TOP + ROW * len(rows) + BOTTOM, width - left - right
    parts = []
    for value in ticks(0, most):
        x = left + value / most * inner
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}v{ROW * len(rows)}"/><text class="tick" x="{x:.1f}" '
                     f'y="{TOP + ROW * len(rows) + 14}" text-anchor="middle">{number(value)}</text>')
    if limit:
        parts.append(f'<path class="limit" d="M{left + limit / most * inner:.1f} {TOP}v{ROW * len(rows)}"/>')
    for k, (name, value, kind, words) in enumerate(rows):
        y = TOP + k * ROW
        end = left + (inner if limit else value / most * inner)  # no line runs through the words
        parts.append(f'{_name(name, left, y + 11)}'
                     f'<rect class="{kind}" x="{left}" y="{y + 2}" width="{value / most * inner:.1f}" height="{ROW - 4}"/>'
                     f'<text class="tick" x="{end + 6:.1f}" y="{y + 11}">{escape(words)}</text>')
    return _svg(title, width, height, [
        *parts, heading(title, left, width),
        f'<text x="{left + inner / 2}" y="{height - 8}" text-anchor="middle">{escape(label)}</text>'])


def _left(rows: Sequence[tuple]) -> int:
    """Room for the names of rows."""
    return max(110, min(240, 12 + 6 * max((len(row[0]) for row in rows), default=0)))


def _name(name: str, left: int, y: float) -> str:
    """A row's name, drawn narrower where it is long."""
    narrow = f' textLength="{left - 10}" lengthAdjust="spacingAndGlyphs"' if 6 * len(name) > left - 10 else ""
    return f'<text class="tick" x="{left - 6}" y="{y}" text-anchor="end"{narrow}>{escape(name)}</text>'


def matrix(title: str, names: Sequence[str], counts: Sequence[Sequence[int]], cell: int = 30) -> str:
    """Counts of true classes, in rows, by the predicted class, in columns; a cell is as dark as its share of the row."""
    cell = max(16, min(cell, 560 // len(names)))
    short = [name if len(name) <= 24 else f"{name[:23]}…" for name in names]
    room = 12 + 6 * max(map(len, short))
    left, bottom = 24 + room, TOP + cell * len(names)
    tilted = room > cell
    parts = []
    for k, row in enumerate(counts):
        y, total = TOP + k * cell, sum(row)
        parts.append(f'<text class="tick" x="{left - 6}" y="{y + cell / 2 + 4:g}" text-anchor="end">{escape(short[k])}</text>')
        for j, count in enumerate(row):
            x, share = left + j * cell, count / total if total else 0
            about, kind = f"{names[k]}, predicted as {names[j]}: {count}", "tick on" if share > 0.5 else "tick"
            parts.append(f'<rect class="{"a" if j == k else "b"}" x="{x}" y="{y}" width="{cell - 1}" height="{cell - 1}" '
                         f'fill-opacity="{share:.2g}"><title>{escape(about)}</title></rect>')
            if count and cell >= 22:
                parts.append(f'<text class="{kind}" x="{x + cell / 2:g}" y="{y + cell / 2 + 4:g}" '
                             f'text-anchor="middle">{count if count < 1000 else number(count)}</text>')
    for j, name in enumerate(short):
        x = left + (j + 0.5) * cell
        turn = f' transform="rotate(-45 {x:g} {bottom + 12})" text-anchor="end"' if tilted else ' text-anchor="middle"'
        parts.append(f'<text class="tick" x="{x:g}" y="{bottom + 14}"{turn}>{escape(name)}</text>')
    height = bottom + (round(0.75 * room) if tilted else 14) + 26
    width = max(left + cell * len(names) + 16, 220)
    return _svg(title, width, height, [
        *parts, heading(title, 8, width),
        f'<text x="{left + cell * len(names) / 2:g}" y="{height - 6}" text-anchor="middle">predicted class</text>',
        f'<text transform="translate(14 {TOP + cell * len(names) / 2:g}) rotate(-90)" text-anchor="middle">true class</text>'])


def heat(title: str, label: str, edges: Sequence[float], rows: Sequence[tuple[str, dict[str, Sequence[float]], str]],
         names: dict[str, str], width: int = 556) -> str:
    """Rows of (name, shares 0..1 of each bin by class, words after the row) over the axis `edges`, which `label` names; each
    class of `names` colours a bin by its share."""
    left, right, row = _left(rows), 150, 12
    inner, bottom = width - left - right, TOP + row * len(rows)
    low, high = edges[0], edges[-1]

    def px(value: float) -> float:
        return left + (value - low) / (high - low) * inner

    parts = [f'<path class="grid" d="M{px(value):.1f} {TOP}V{bottom}"/><text class="tick" x="{px(value):.1f}" y="{bottom + 14}" '
             f'text-anchor="middle">{number(value)}</text>' for value in ticks(low, high)]
    for k, (name, shares, words) in enumerate(rows):
        y = TOP + k * row
        parts.append(f'{_name(name, left, y + 10)}'
                     f'<text class="tick" x="{left + inner + 6}" y="{y + 10}">{escape(words)}</text>')
        for kind, values in shares.items():
            start = 0
            for shade, run in groupby(f"{value:.2g}" for value in values):
                end = start + len(list(run))
                if float(shade):
                    parts.append(f'<rect class="{kind}" x="{px(edges[start]):.1f}" y="{y + 1}" fill-opacity="{shade}" '
                                 f'width="{px(edges[end]) - px(edges[start]):.1f}" height="{row - 2}"/>')
                start = end
    return _svg(title, width, bottom + BOTTOM, [
        *parts, f'<rect class="frame" x="{left}" y="{TOP}" width="{inner}" height="{bottom - TOP}"/>',
        heading(title, left, width),
        f'<text x="{left + inner / 2}" y="{bottom + BOTTOM - 8}" text-anchor="middle">{escape(label)}</text>'],
        [(name, kind) for kind, name in names.items()])


def _svg(title: str, width: int, height: int, parts: list[str], names: list[tuple[str, str]] = ()) -> str:
    """With `names` of the marks below."""
    key = "".join(f'<span class="{kind}">{escape(name)}</span>' for name, kind in names)
    return (f'<figure><svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="{escape(title)}">'
            f"{''.join(parts)}</svg>{f'<figcaption>{key}</figcaption>' if key else ''}</figure>")
