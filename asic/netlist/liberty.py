"""The syntax of Liberty: groups of attributes and groups, read and written."""

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from emamba.base.errors import InputError
from emamba.io.files import read_bytes

COMMENT = re.compile(r"/\*.*?\*/|\\\r?\n", re.S)
STATEMENT = re.compile(r"""(?P<end>\})
    |(?P<name>\w+)\s*(?:\((?P<arguments>[^()]*)\)\s*(?P<open>\{)?\s*;?|:\s*(?P<value>"[^"]*"|[^;\n}]*)\s*;?)""", re.X)
ARGUMENT = re.compile(r'"([^"]*)"|([^\s,"]+)')
DROPPED_GROUPS = {"pg_pin", "leakage_power", "normalized_driver_waveform", "test_cell", "wire_load", "output_voltage",
                  "input_voltage", "receiver_capacitance", "output_current_rise", "output_current_fall"}
DROPPED = re.compile(r"related_(pg|power|ground)_pin|.*_signal_level|(in|out)put_voltage|power_down_function|driver_waveform.*"
                     r"|dont_use|sdf_.*|voltage_map|comment|library_features|define.*|default_operating_conditions|cell_footprint")
LIBRARY_LIMIT = 1 << 30
"""Bytes of the largest library that is read, unpacked."""


@dataclass
class Group:
    """`kind (arguments) { attributes; groups }`. The value of an attribute with arguments is their list."""

    kind: str
    arguments: list[str]
    attributes: list[tuple[str, str | list[str]]] = field(default_factory=list)
    groups: list["Group"] = field(default_factory=list)

    def get(self, name: str, default: str | list[str] | None = None):
        return next((value for key, value in self.attributes if key == name), default)

    def all(self, kind: str) -> list["Group"]:
        return [group for group in self.groups if group.kind == kind]

    def lines(self) -> Iterator[str]:
        yield f"{self.kind} ({', '.join(map(_quoted, self.arguments))}) {{"
        for key, value in self.attributes:
            if not DROPPED.fullmatch(key):
                yield f"{key} ({', '.join(map(_quoted, value))});" if isinstance(value, list) else f"{key} : {_quoted(value)};"
        for group in self.groups:
            if group.kind not in DROPPED_GROUPS:
                yield from group.lines()
        yield "}"


def read_library(path: Path) -> str:
    """The text of a file of a process, which may be gzipped."""
    try:
        data = read_bytes(path, LIBRARY_LIMIT)
        if data[:2] == b"\x1f\x8b":
            with gzip.open(BytesIO(data)) as file:
                data = file.read(LIBRARY_LIMIT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is a damaged gzip file ({error}): copy it again") from None
    if len(data) > LIBRARY_LIMIT:
        raise InputError(f"{path} unpacks to more than {LIBRARY_LIMIT} bytes, which is the most that is read")
    return data.decode("utf-8", "replace")


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[A-Za-z]\w*|-?[\d.]+([eE][+-]?\d+)?", value) else f'"{value}"'


def parse(text: str) -> list[Group]:
    """The groups of a text without comments."""
    stack = [Group("", [])]
    for match in STATEMENT.finditer(text):
        if match["end"]:
            if len(stack) > 1:
                stack.pop()
        elif match["value"] is not None:
            stack[-1].attributes.append((match["name"], match["value"].strip().strip('"')))
        else:
            arguments = [quoted or plain for quoted, plain in ARGUMENT.findall(match["arguments"])]
            if match["open"]:
                group = Group(match["name"], arguments)
                stack[-1].groups.append(group)
                stack.append(group)
            else:
                stack[-1].attributes.append((match["name"], arguments))
    return stack[0].groups
