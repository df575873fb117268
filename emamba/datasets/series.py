"""From tables of a time series to windows: recordings, labels, gaps, resampling, and the part that each window is of."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..base.errors import InputError, SettingError, printable
from ..base.words import counted
from ..io.columns import read_columns
from ..io.tables import Table, check_order, seconds, values, words
from .grouping import PARTS, PATTERN, deal, group_of
from .prepared import Array, Prepared, named

LARGEST = 1 << 30
"""Values that a part may have."""
LABELS = ("last", "majority", "any")
MISSING = ("refuse", "previous", "linear", "drop")
FILLED = {"drop": "left out", "previous": "filled with the value before", "linear": "filled by a straight line"}
GAP = 5.0
"""Usual steps of time without a row, after which a new recording begins."""
MANY = 3
"""Files from which each file is a group of its own, where nothing is said."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How rows become windows, as the options of `emamba prepare` of these names."""

    length: int
    ahead: int | None = None
    step: int = 1
    classes: bool = False
    label: str = "last"
    group: str | None = None
    time: str | None = None
    rate: float | None = None
    missing: str = "refuse"
    change: bool = False

    def __post_init__(self):
        for name, value, least in (("--length", self.length, 1), ("--step", self.step, 1), ("--ahead", self.distance, 0)):
            if value < least:
                raise SettingError(f"{name} must be at least {least}, not {value}")
        if self.label != "last" and not self.classes:
            raise SettingError(f"--label {self.label} is for classes: add --classes, or leave it out")
        if self.change and self.classes:
            raise SettingError("--change is for values: leave it out, or --classes")
        if self.rate is not None and self.time is None:
            raise SettingError("--rate needs --time, the column that says when each row was measured")

    @property
    def distance(self) -> int:
        """Rows from the last one of a window to the last one that its target is of."""
        return (1 if self.label == "last" else 0) if self.ahead is None else self.ahead


@dataclass
class Run:
    """Rows that follow each other in time: x [rows, features], y [rows], values or numbers of classes."""

    group: str
    x: Array
    y: Array
    first: int
    """Its first row among those of its file."""
    rows: int
    """Of its file, after resampling."""


def series(files: Path | list[Path], inputs: list[str], target: str, options: Windows) -> Prepared:
    """Windows of the columns `inputs` of one or more tables, and what the column `target` holds for each."""
    files = [files] if isinstance(files, Path) else files
    inputs, target = [name.strip() for name in inputs], target.strip()
    if options.change and target not in inputs:
        raise SettingError(f"--change is added to the last value of '{target}', which the model must read: name it in --inputs "
                           "too")
    whole = options.group or ("file" if len(files) >= MANY else "none")
    tables = [_read(file, inputs, target, options, whole) for file in files]
    names = sorted({word for _, _, y, *_ in tables for word in y if word}) if options.classes else []
    number = {name: k for k, name in enumerate(names)}
    runs, notes, gaps, jumps, read_as = [], [], 0, 0, {}
    for table, x, y, groups, found in tables:
        labels = np.array([number.get(word, -1) for word in y]) if options.classes else y
        notes += [note for note in found if note not in notes]
        absent = np.isnan(x).any(1) | ((labels < 0) if options.classes else np.isnan(labels))
        gaps += int(absent.sum())
        clock, form = seconds(table, options.time) if options.time else (None, "")
        own, cuts = _runs(table, x, labels, groups, absent, clock, options)
        runs, jumps, read_as[form] = runs + own, jumps + cuts, None
    if options.time:
        notes.append(f"the column '{options.time}' is read as {' or '.join(read_as)}: {counted(jumps, 'gap')}, of more "
                     f"than {GAP:g} usual steps")
    if gaps:
        notes.append(f"{gaps} row{'s' * (gaps > 1)} with a missing value {FILLED[options.missing]}")
    if options.classes and options.label == "any":
        rarest = np.bincount(np.concatenate([run.y for run in runs]), minlength=len(names))
    else:
        rarest = np.zeros(len(names))
    note = f"windows of {options.length} rows of " + (files[0].name if len(files) == 1 else f"{len(files)} files")
    source = {"note": printable(note), "file": files[0].name, "tables": [file.name for file in files[:1000]], "inputs": inputs,
              "target": target, "length": options.length, "ahead": options.distance, "step": options.step}
    source |= {key: value for key in ("label", "time", "rate", "missing") if (value := getattr(options, key)) not in
               (None, "last", "refuse")}
    source |= {"change": True} if options.change else {}
    where = f"{files[0]}" if len(files) == 1 else f"{len(files)} files"
    starts = _starts(runs, options, whole, where, len(names), rarest, source)
    x, y, last = {}, {}, {}
    for part, places in starts.items():
        if sum(len(begin) for _, begin in places) * options.length * len(inputs) > LARGEST:
            raise SettingError(f"{where}: its windows of {options.length} rows are more than {LARGEST} values for {part}: take a "
                               "larger --step")
        rows = np.arange(options.length)
        x[part] = np.concatenate([run.x[begin[:, None] + rows] for run, begin in places]).astype(np.float32)
        found = np.concatenate([_labels(run, begin, options, rarest) for run, begin in places])
        if not options.classes and target in inputs:
            last[part] = np.concatenate([run.y[begin + options.length - 1] for run, begin in places])[:, None]
        if options.change:
            found = found - last.pop(part)[:, 0]
        y[part] = found.astype(np.int64) if options.classes else found[:, None].astype(np.float32)
    made = Prepared(x, y, source | {"remarks": notes + [f"recordings: {len(runs)}, and no window is in two"] * (len(runs) > 1)},
                    last)
    return named(made, names, lambda k: _why_absent(runs, k, names[k], options))


def _read(file: Path, inputs: list[str], target: str, options: Windows, group: str):
    """Table, x, targets, group of each row, and notes."""
    column = group if group not in ("file", "none") and not group.startswith(PATTERN) else None
    wanted = [*inputs, target, *[name for name in (options.time, column) if name]]
    table = read_columns(file, list(dict.fromkeys(wanted)))
    gaps = options.missing != "refuse"
    columns, notes = values(table, inputs if options.classes else [*inputs, target], gaps)
    y = np.array(words(table, target, gaps), object) if options.classes else columns[target]
    if column:
        groups = words(table, column)
    else:
        name = group_of(file, group.removeprefix(PATTERN)) if group.startswith(PATTERN) else str(file)
        groups = [name] * len(table.lines)
    return table, np.stack([columns[name] for name in inputs], 1), y, groups, [*table.notes, *notes]


def _runs(table: Table, x: Array, y: Array, groups: list[str], absent: Array, clock: Array | None,
          options: Windows) -> tuple[list[Run], int]:
    """The recordings of a file, and its gaps in time: a new one begins with another group, after a gap, and after a row that is
    dropped."""
    edges = [0, *(k for k in range(1, len(x)) if groups[k] != groups[k - 1]), len(x)]
    found: list[Run] = []
    jumps = 0
    for low, high in pairwise(edges):
        cuts = {low, high}
        if clock is not None and options.time:
            check_order(table, options.time, clock[low:high], low)
            steps = np.diff(clock[low:high])
            cuts |= {low + 1 + int(k) for k in np.flatnonzero(steps > GAP * np.median(steps))} if len(steps) > 1 else set()
            jumps += len(cuts) - 2
        kept = ~absent if options.missing == "drop" else np.ones(len(x), bool)
        cuts |= {int(k) + edge for k in np.flatnonzero(~kept[low:high]) + low for edge in (0, 1)} if not kept.all() else set()
        for begin, end in pairwise(sorted(cuts)):
            if not kept[begin]:
                continue
            filled = _filled(table.file, x[begin:end], y[begin:end], options)
            rows = _resampled(*filled, clock[begin:end], options) if options.rate and clock is not None else filled
            found.append(Run(groups[begin], *rows, 0, 0))
    total = sum(len(run.x) for run in found)
    place = 0
    for run in found:
        run.first, run.rows, place = place, total, place + len(run.x)
    return found, jumps


def _filled(file: Path, x: Array, y: Array, options: Windows) -> tuple[Array, Array]:
    """Without gaps; what is missing at an end takes the nearest value. A class is never between two: it is that of the row
    before."""
    if options.missing in ("refuse", "drop"):
        return x, y
    columns = [*x.T, *([] if options.classes else [y])]
    rows = np.arange(len(x))
    made = []
    for column in columns:
        known = np.flatnonzero(~np.isnan(column))
        if not len(known):
            raise InputError(f"{file}: a column has no value in a recording of {len(x)} rows: leave it out, or take "
                             "--missing drop")
        if options.missing == "linear":
            made.append(np.interp(rows, known, column[known]))
        else:
            made.append(column[known[np.maximum(np.searchsorted(known, rows, "right") - 1, 0)]])
    if options.classes:
        known = np.flatnonzero(y >= 0)
        if not len(known):
            raise InputError(f"{file}: a recording of {len(x)} rows has no class: take --missing drop")
        y = y[known[np.maximum(np.searchsorted(known, rows, "right") - 1, 0)]]
    width = x.shape[1]
    return np.stack(made[:width], 1), y if options.classes else made[width]


def _resampled(x: Array, y: Array, clock: Array, options: Windows) -> tuple[Array, Array]:
    """On a grid of `rate` rows a second, by straight lines; a class is that of the row before."""
    grid = clock[0] + np.arange(int((clock[-1] - clock[0]) * options.rate + 1e-6) + 1) / options.rate
    x = np.stack([np.interp(grid, clock, column) for column in x.T], 1)
    if options.classes:
        return x, y[np.searchsorted(clock, grid + 1e-9, "right") - 1]
    return x, np.interp(grid, clock, y)


def _starts(runs: list[Run], options: Windows, group: str, where: str, classes: int, rarest: Array,
            source: dict) -> dict[str, list[tuple[Run, Array]]]:
    """By part: recordings and the first rows of their windows."""
    reach = options.length + options.distance
    found: dict[str, list] = {part: [] for part in PARTS}
    held = dict.fromkeys(PARTS, 0)
    if group == "none":
        for run in runs:
            edges = [run.rows * k // 5 - run.first for k in (0, 3, 4, 5)]
            for part, low, high in zip(PARTS, edges, edges[1:], strict=False):
                low, high = max(low, 0), min(high, len(run.x))
                held[part] += max(0, high - low)
                found[part].append((run, np.arange(low, max(low, high - reach + 1), options.step, dtype=np.int64)))
    else:
        every = [(run, np.arange(0, max(0, len(run.x) - reach + 1), options.step, dtype=np.int64)) for run in runs]
        names = sorted({run.group for run in runs})
        counts = np.zeros((len(names), max(1, classes)))
        for run, begin in every:
            if len(begin):
                labels = _labels(run, begin, options, rarest) if classes else np.zeros(len(begin), np.int64)
                counts[names.index(run.group)] += np.bincount(labels, minlength=counts.shape[1])
        parts = deal(names, counts, where)
        source["groups"] = {part: [printable(Path(name).name) for name in names if parts[name] == part] for part in PARTS}
        for run, begin in every:
            found[parts[run.group]].append((run, begin))
            held[parts[run.group]] += len(run.x)
    for part in PARTS:
        if not sum(len(begin) for _, begin in found[part]):
            rows = sum(len(run.x) for run in runs)
            recordings = f" in {len(runs)} recordings" * (len(runs) > 1)
            raise SettingError(f"{where} has {rows} rows{recordings}, of which {held[part]} are for {part}: too few "
                               f"for windows of {options.length} rows and a target {options.distance} later; give more rows or a "
                               "smaller --length")
    return found


def _labels(run: Run, begin: Array, options: Windows, rarest: Array) -> Array:
    """The target of every window that begins at `begin`."""
    if options.label == "last":
        return run.y[begin + options.length - 1 + options.distance]
    seen = np.zeros((len(run.y) + 1, len(rarest)), np.int64)
    np.cumsum(np.eye(len(rarest), dtype=np.int64)[run.y], 0, out=seen[1:])
    begin = begin + options.distance
    counts = seen[begin + options.length] - seen[begin]
    if options.label == "majority":
        return counts.argmax(1)
    return np.where(counts > 0, rarest, np.iinfo(np.int64).max).argmin(1)


def _why_absent(runs: list[Run], k: int, name: str, options: Windows) -> str:
    rows = sum(int((run.y == k).sum()) for run in runs)
    ends = {"last": f"ends {options.distance} rows before one of them", "majority": "has them as its majority",
            "any": "holds one of them before a rarer class"}[options.label]
    return (f"the class '{name}' has {rows} of {sum(len(run.y) for run in runs)} rows, but no window that trains {ends}: give "
            "more rows of it, cut by --group, take a smaller --step or --length, or another --label")
