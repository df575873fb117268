"""Columns of a CSV file as programs write it: encoding, separator, comments and decimal commas are recognized where they are
certain, and named where they are not."""

import codecs
import csv
import io
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np

from ..base.errors import InputError
from .disguises import TABLES, check_disguise
from .files import read_bytes

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
"""In the order in which they are tried."""
MARKED = re.compile(r'"?sep=([,;\t|: ])"?', re.IGNORECASE)
"""A first line by which Excel is told the separator."""
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
         codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""First bytes → encoding."""

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
COMMA = re.compile(r"[+-]?([0-9]+,[0-9]*|,[0-9]+)([eE][+-]?[0-9]+)?")
"""A number with a decimal comma."""
THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+")
"""What may as well be an integer with separators of thousands."""
LARGEST = float(np.finfo(np.float32).max)

MISSING = r"(?i)[+-]?(nan|na|n/a|null|none|inf|infinity|-|\?)"
FILL = "fill it in or remove the row; of inputs and target, --missing does so"
DATE = r"[0-9]+[-/.:][0-9]+[-/.:T ].*|[0-9]+:[0-9]+"
NO_NUMBERS = {
    r"": f"is empty: {FILL}",
    MISSING: f"holds '{{}}', no finite number: {FILL}",
    r"\S+ ?%": "holds the percentage '{}': write it as a number",
    r"[+-]?[0-9]{1,3}([,. '’\u00a0\u202f_][0-9]{3})+([.,][0-9]+)?": "holds '{}', a number with separators of thousands: write it "
                                                                    "without",
    DATE: "holds '{}', a date or a time: write it as a number, or name its column by --time",
}
"""Patterns of what is no number → the end of the sentence."""
NO_NUMBER = "holds '{}', no number: mend it or remove the row; a target of names needs --classes"


@dataclass(frozen=True)
class Table:
    """The wanted columns as text or arrays, the file's line of each row, and sentences on what was recognized and left out."""

    file: Path
    columns: Mapping[str, list[str] | np.ndarray]
    lines: list[int]
    notes: tuple[str, ...]
    counted: str = "line"
    """What `lines` count."""


def read_table(file: Path, wanted: list[str]) -> Table:
    """The columns `wanted` of a CSV file whose first line names all of them."""
    text = _decode(file)
    lines = io.StringIO(text, newline="").readlines()
    marked = MARKED.fullmatch(lines[0].rstrip("\r\n")) if lines else None
    start, comments = int(marked is not None), 0
    separators = [marked[1]] if marked else list(SEPARATORS)
    first = None
    while start < len(lines) and (first := _first_line(lines[start], wanted, separators)) is None:
        comments, start = comments + bool(lines[start].strip()), start + 1
    if first is None:
        raise InputError(f"{file} has no column '{wanted[0]}'; its first line names: none")
    lines[start] = first
    separator, header = _header(file, lines[start:], wanted, separators)
    rows, numbers, more = _body(file, lines, start, separator, header)
    notes = []
    if separator != "," and len(header) > 1:
        notes.append(f"columns are separated by a {SEPARATORS.get(separator, repr(separator))}")
    if comments + more:
        notes.append(f"{comments + more} comment line{'s' if comments + more > 1 else ''} skipped")
    return Table(file, {name: [row[header.index(name)].strip() for row in rows] for name in wanted}, numbers, tuple(notes))


def values(table: Table, names: list[str], gaps: bool = False) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The columns `names` as float64, with `gaps` NaN where a value is missing, and sentences on how they were written."""
    mark = _decimal_mark(table, [name for name in names if isinstance(table.columns[name], list)])
    found = {}
    for name in names:
        column = table.columns[name]
        if isinstance(column, list):
            found[name] = np.array([_value(table, name, k, mark, gaps) for k in range(len(column))], np.float64)
        else:
            found[name] = _numbers(table, name, column, gaps)
    return found, ("numbers have decimal commas",) if mark == "," else ()


UNITS = ((1e17, 1e9, "nanoseconds"), (1e14, 1e6, "microseconds"), (1e11, 1e3, "milliseconds"), (-np.inf, 1.0, "seconds"))
"""Numbers from which a time is in a unit, how many of it are a second, and its name."""
DIGITS = {8: "YYYYMMDD", 12: "YYYYMMDDhhmm", 14: "YYYYMMDDhhmmss"}
"""Digits of a number that may be a date."""
YEAR_FIRST = re.compile(r"([0-9]{4})[-/]([0-9]{1,2})[-/]([0-9]{1,2})(?:[ T]([0-9]{1,2})(:.*))?")


def seconds(table: Table, name: str) -> tuple[np.ndarray, str]:
    """A column of times in seconds, and what it was read as: numbers, or dates with the year first, without a zone as UTC.

    Whole numbers whose digits all are dates are dates; others, too large for seconds since 1970, are thousandths, millionths or
    billionths.
    """
    try:
        found = values(table, [name])[0][name]
    except InputError:
        if len(table.lines) and NUMBER.fullmatch(str(table.columns[name][0])):
            raise
        return np.array([_moment(table, name, k) for k in range(len(table.lines))]), "dates"
    first = f"{found[0]:.0f}" if len(found) else ""
    if len(first) in DIGITS:
        with suppress(ValueError):
            return np.array([_stamp(f"{value:.0f}", len(first), value) for value in found]), f"dates {DIGITS[len(first)]}"
    per, unit = next((per, unit) for least, per, unit in UNITS if not len(found) or found[0] >= least)
    return found / per, unit


def check_order(table: Table, name: str, clock: np.ndarray, low: int) -> None:
    """Refuses times of a recording, whose first row is `low`, of which one is before the one above it, or most are not later."""
    steps = np.diff(clock)
    late = steps < 0 if len(steps) and np.median(steps) > 0 else steps <= 0  # a coarse clock shows a time twice
    if (back := np.flatnonzero(late)).size:
        raise InputError(f"{_cell(table, name, low + int(back[0]) + 1)} is not later than in the row before: sort the rows by "
                         "time, or give --group so that each recording has its own time")


def _stamp(digits: str, length: int, value: float) -> float:
    """Seconds of a date without marks; raises ValueError where it is none."""
    if len(digits) != length or value % 1:
        raise ValueError
    return _utc(datetime.fromisoformat(f"{digits[:8]}T{digits[8:] or '00'}"))


def _moment(table: Table, name: str, k: int) -> float:
    """Seconds of a date whose year is first."""
    word = str(table.columns[name][k])
    year_first = YEAR_FIRST.fullmatch(word)
    with suppress(ValueError):
        if not year_first:
            return _utc(datetime.fromisoformat(word))
        year, month, day, hour, rest = year_first.groups()
        return _utc(datetime.fromisoformat(f"{year}-{month:0>2}-{day:0>2}" + (f"T{hour:0>2}{rest}" if hour else "")))
    if re.fullmatch(DATE, word) or year_first or NUMBER.fullmatch(word):
        raise InputError(f"{_cell(table, name, k)} holds '{_shown(word[:80])}', a date or a time in another form: write it as "
                         "2010-01-01 00:00")
    raise _no_number(table, name, k)


def _utc(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def words(table: Table, name: str, gaps: bool = False) -> list[str]:
    """A column of names; with `gaps` one may be empty."""
    found = [str(word) for word in table.columns[name]]
    if not gaps and "" in found:
        raise InputError(f"{_cell(table, name, found.index(''))} {NO_NUMBERS['']}")
    return found


def split_names(text: str) -> list[str]:
    """Names of columns separated by commas; quotes are around a name that holds a comma."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]


def one_name(text: str) -> str:
    """The name of one column, which may be in quotes as in `split_names`."""
    names = split_names(text)
    return names[0] if len(names) == 1 else text


def _decode(file: Path) -> str:
    content = read_bytes(file)
    check_disguise(file, content, TABLES)
    kind = next((kind for mark, kind in MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(kind)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{file}, line {line} is no {kind.upper()} ({error.reason} at the byte 0x{content[error.start]:02X}), "
                         "as where it was saved as Latin-1: save it as UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{file}, line {line} holds a NUL character, as a text in UTF-16 does: save it as UTF-8")
    return text


def _rows(lines: list[str], separator: str, strict: bool = True):
    return csv.reader(lines, delimiter=separator, skipinitialspace=separator != "\t", strict=strict)


def _cells(lines: list[str], separator: str) -> tuple[list[str], list[str]]:
    """The first two rows that are not blank."""
    rows = (row for row in _rows(lines, separator, strict=False) if row)
    found: list[list[str]] = []
    with suppress(csv.Error):  # a value too long; the rows are read again, and refused, with all others
        found += islice(rows, 2)
    first, second, *_ = [[cell.strip() for cell in row] for row in found] + [[], []]
    return first, second


def _first_line(line: str, wanted: list[str], separators: list[str]) -> str | None:
    """The line if it may name the columns, None for a blank one or a comment; numpy.savetxt puts # before the names."""
    text = line.strip()
    if text and not text.startswith("#"):
        return line
    for plain in (line, line.lstrip("# ")):
        if any(set(wanted) <= set(_cells([plain], one)[0]) for one in separators):
            return plain
    return None


def _header(file: Path, lines: list[str], wanted: list[str], separators: list[str]) -> tuple[str, list[str]]:
    """The separator, and the names of the columns: the first that gives all of them and fits the next line, else the first that
    gives them."""
    found = {one: _cells(lines, one) for one in separators}
    fitting = [one for one, (header, _) in found.items() if set(wanted) <= set(header)]
    if not fitting:
        header = max((header for header, _ in found.values()), key=len)
        _refuse_header(file, header, next((name for name in wanted if name not in header), wanted[0]))
    one = next((one for one in fitting if len(found[one][1]) == len(found[one][0])), fitting[0])
    header = found[one][0]
    for name in wanted:
        if header.count(name) > 1:
            first, second, *_ = (k + 1 for k, cell in enumerate(header) if cell == name)
            raise InputError(f"{file} names the column '{name}' twice, as columns {first} and {second}: rename one of them")
    return one, header


def _refuse_header(file: Path, header: list[str], name: str) -> None:
    shown = _shown(", ".join(header))
    if header and all(NUMBER.fullmatch(cell) or COMMA.fullmatch(cell) for cell in header):
        raise InputError(f"{file} has no line that names its columns: its first line holds numbers, {shown}; put the names "
                         "before it")
    told = f"{file} has no column '{name}'; its first line names: {shown or 'none'}"
    if len(header) == 1 and re.search(r"\S[^\w,]+\S", header[0]):
        told += f" (columns are separated by a {', '.join(list(SEPARATORS.values())[:-1])} or {SEPARATORS['|']})"
    if any("," in cell for cell in header):
        told += "; quote a name that holds a comma: --inputs '\"a, b\",c'"
    raise InputError(told)


def _body(file: Path, lines: list[str], start: int, separator: str, header: list[str]) -> tuple[list[list[str]], list[int], int]:
    """Rows after the first, the file's line of each, and how many comments are between them."""
    rows, numbers, comments = [], [], 0
    reader = _rows(lines[start:], separator)
    try:
        next(reader)
        for row in reader:
            if not row or row == [""] or (len(row) == 1 < len(header) and not row[0].strip()):
                continue
            number = start + reader.line_num
            if len(row) != len(header):
                if row[0].lstrip().startswith("#"):
                    comments += 1
                    continue
                raise InputError(f"{file}, line {number} has {len(row)} values where the first line names {len(header)}: "
                                 + _ragged(row, header, separator))
            rows.append(row)
            numbers.append(number)
    except csv.Error as error:
        raise InputError(f"{file}, line {start + reader.line_num} cannot be read as CSV ({error}): is a quote not "
                         "closed?") from None
    return rows, numbers, comments


def _ragged(row: list[str], header: list[str], separator: str) -> str:
    if len(row) > len(header) and not row[-1].strip():
        return "remove the separator at its end, or name one column more"
    if separator == "," and len(row) > len(header) and all(NUMBER.fullmatch(cell.strip()) for cell in row):
        return "if its numbers have decimal commas, separate the columns by semicolons"
    return "quote a value that holds the separator, or remove the line"


def _decimal_mark(table: Table, names: list[str]) -> str:
    """',' where that is certain: some number can be read in no other way, and none has a point."""
    with_comma = [(name, k, word) for name in names for k, word in enumerate(table.columns[name]) if COMMA.fullmatch(word)]
    if not with_comma:
        return "."
    name, k, word = with_comma[0]
    if all(THOUSANDS.fullmatch(word) for _, _, word in with_comma):
        raise InputError(f"{_cell(table, name, k)} holds '{word}', which may be {word.replace(',', '.')} or "
                         f"{word.replace(',', '')}: write decimal points, and no separators of thousands")
    for other in names:
        for at, text in enumerate(table.columns[other]):
            if "." in text and NUMBER.fullmatch(text):
                raise InputError(f"{_cell(table, name, k)} holds '{word}' with a comma, line {table.lines[at]} '{text}' with a "
                                 "point: write decimal points, and no separators of thousands")
    return ","


def _numbers(table: Table, name: str, column: np.ndarray, gaps: bool) -> np.ndarray:
    """A column of a file that is no text."""
    if column.dtype.kind not in "iufb":
        raise InputError(f"{_cell(table, name, 0)} {NO_NUMBER.format(_shown(str(column[0])[:80]))}" if len(column) else
                         f"{table.file} has no rows")
    found = column.astype(np.float64)
    wrong = np.isinf(found) | (abs(found) > LARGEST) | (np.isnan(found) & (not gaps))
    if wrong.any():
        k = int(wrong.argmax())
        raise InputError(f"{_cell(table, name, k)} {NO_NUMBERS[MISSING].format(found[k])}")
    return found


def _value(table: Table, name: str, k: int, mark: str, gaps: bool) -> float:
    word = table.columns[name][k]
    if gaps and (not word or re.fullmatch(MISSING, word)):
        return float("nan")
    plain = word.replace(",", ".") if mark == "," and COMMA.fullmatch(word) else word
    if NUMBER.fullmatch(plain):
        value = float(plain)
        if abs(value) <= LARGEST:
            return value
        raise InputError(f"{_cell(table, name, k)} holds '{word}', beyond {LARGEST:.3g}, the largest float32: give the column "
                         "in a larger unit")
    raise _no_number(table, name, k)


def _no_number(table: Table, name: str, k: int) -> InputError:
    word = str(table.columns[name][k])
    told = next((told for pattern, told in NO_NUMBERS.items() if re.fullmatch(pattern, word)), NO_NUMBER)
    return InputError(f"{_cell(table, name, k)} {told.format(_shown(word[:80]))}")


def _shown(text: str) -> str:
    """Its beginning, on one line."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:400])


def _cell(table: Table, name: str, k: int) -> str:
    return f"{table.file}, {table.counted} {table.lines[k]}: the column '{name}'"
