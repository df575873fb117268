"""model.h and model.c of an artifact."""

import hashlib
import re
from functools import cached_property
from pathlib import Path
from string import Template

import numpy as np

from ..artifact import Artifact
from ..ops import Scan
from ..run.compiled import Format
from .layout import Layout, Place
from .nodes import WIDTH, Constant, Kept, Limits, Nodes, narrowest
from .text import SHORT, Instances

ARITHMETIC = Path(__file__).parents[1] / "ops" / "arithmetic.c"
FILES = Path(__file__).with_name("files")
HEADER, ALIGNMENT = 16, 8
"""Bytes before the arrays of what is kept; both parts of the memory are multiples of ALIGNMENT, so that nothing is padded."""
CHECK = 8
"""Bytes after a saved state."""
TABLES = {"input": "in"}
UNSCHEDULED = 48
"""Inputs of a Linear from which on GCC's scheduling before registers are given costs more than it brings on a Cortex-M."""
LINE = 130
FULL = {(-(1 << bits - 1), (1 << bits - 1) - 1) for bits in (8, 16, 32, 64)} | {(0, (1 << bits) - 1) for bits in (8, 16)}
"""Limits that a type has itself."""


class Source:
    """C99 of an artifact. `header` and `code` are the two files; `ram`, `state` and `constants` are bytes."""

    def __init__(self, artifact: Artifact):
        self.artifact, self.graph = artifact, artifact.graph
        _ = self.graph.input, self.graph.output
        self.nodes = Nodes(artifact)
        self.layout = Layout(artifact, self.nodes.types)
        fields = self.nodes.fields
        self.layout.assign([(name, entry.type, entry.size) for name in fields
                            for entry in [fields[name].get("scratch")] if entry])
        self.states: dict[str, tuple[str, int]] = {}
        """Of nodes that keep a state: its type, and where it starts in the array of this type."""
        self.sizes: dict[str, int] = {}
        for name in fields:
            if kept := fields[name].get("kept"):
                start = self.sizes.get(kept.type, 0)
                self.states[name] = kept.type, start
                self.sizes[kept.type] = start + kept.size

    # -- memory ---------------------------------------------------------------------------------------------------------------

    @cached_property
    def _members(self) -> tuple[list[tuple[str, str, int]], list[tuple[str, str, int]]]:
        """Type, name and size of every array that is kept, and of scratch, the widest first."""
        kept = [(kind, f"state_{SHORT[kind]}", size) for kind, size in self.sizes.items()]
        parts: dict[bool, list] = {True: kept, False: []}
        for (keeps, kind), size in self.layout.pools.items():
            parts[keeps].append((kind, f"{'values' if keeps else 'work'}_{SHORT[kind]}", size))
        for keeps, members in parts.items():
            members.sort(key=lambda member: (-WIDTH[member[0]], member[1]))
            used = HEADER * keeps + sum(WIDTH[kind] * size for kind, _, size in members)
            if used % ALIGNMENT or not members:
                members.append(("uint8_t", "rest", -used % ALIGNMENT or ALIGNMENT))
        return parts[True], parts[False]

    @property
    def state(self) -> int:
        return HEADER + sum(WIDTH[kind] * size for kind, _, size in self._members[0]) + CHECK

    @property
    def ram(self) -> int:
        return self.state - CHECK + sum(WIDTH[kind] * size for kind, _, size in self._members[1])

    @property
    def constants(self) -> int:
        return sum(WIDTH[kind] * array.size for kind, array in self._constants.values())

    @cached_property
    def _constants(self) -> dict[str, tuple[str, np.ndarray]]:
        """Those that a node points to."""
        used = {value.name for fields in self.nodes.fields.values() for value in fields.values() if isinstance(value, Constant)}
        return {name: constant for name, constant in self.nodes.constants.items() if name in used}

    @cached_property
    def limits(self) -> list[tuple[int, str, Limits]]:
        """What a saved state may hold: from which byte on, of which type, and the limits, where the type does not have them."""
        starts, at = {}, HEADER
        for kind, name, size in self._members[0]:
            starts[name], at = at, at + WIDTH[kind] * size
        found = []
        for name, (kind, start) in self.states.items():
            for part in self.nodes.fields[name]["kept"].limits:
                if part.counted and self.layout.runs[name]:  # after the last token alone, which leaves nothing
                    part = Limits(part.size, 0, 0)
                found.append((starts[f"state_{SHORT[kind]}"] + WIDTH[kind] * start, kind, part))
                start += part.size
        for name, place in self.layout.places.items():
            if place.kept:
                node, o = self.graph[name], self.artifact.operators[name].o
                size = (node.tokens if self.layout.whole(name) else 1) * node.width
                found.append((starts[f"values_{SHORT[place.pool]}"] + WIDTH[place.pool] * place.start, place.pool,
                              Limits(size, o.min, o.max)))
        return sorted((entry for entry in found if entry[2].counted or narrowest(entry[2].low, entry[2].high) != entry[1]
                       or (entry[2].low, entry[2].high) not in FULL), key=lambda entry: entry[0])

    def _at(self, place: Place) -> str:
        array = f"{'kept.values' if place.kept else 'work'}_{SHORT[place.pool]}"
        return f"m->{array}" + (f" + {place.start}" if place.start else "")

    # -- nodes ----------------------------------------------------------------------------------------------------------------

    def _value(self, name: str, reader: str | None = None) -> str:
        """Where the token `at` of a node's values is, or for a `reader` of whole sequences the first one."""
        node = self.graph[name]
        moves = self.layout.whole(name) and not (reader and self.graph[reader].operator.whole)
        return self._at(self.layout.place(name)) + (f" + at * {node.width}" if moves else "")

    def _node(self, name: str, function: str) -> str:
        node, fields = self.graph[name], self.nodes.fields[name]
        inputs = ", ".join(self._value(source, name) for source in node.inputs)
        said = {"x": f"{{{inputs}}}", "y": self._value(name), "tokens": "1", "given": "1", "rows": str(node.reads),
                "out": str(node.width), "block": "1"}
        if node.operator.whole:
            said["at"] = "at"
        for field, value in fields.items():
            said[TABLES.get(field, field)] = self._field(name, field, value)
        moves = any("at" in text.replace("}", " ").replace(",", " ").split() for text in said.values())
        uses = "" if moves else "    (void)at;\n"
        shown = ",\n        ".join(f".{field} = {text}" for field, text in said.items())
        unscheduled = "UNSCHEDULED " * (isinstance(self.artifact.operators[name], Scan) or fields.get("input", 0) >= UNSCHEDULED)
        return (f"/* {name}: {node.kind}, {node.tokens} tokens of {node.width} */\n"
                f"{unscheduled}DISTINCT static void node_{name.replace('.', '_')}(model *m, place at) {{\n{uses}"
                f"    const node n = {{\n        {shown}}};\n    {function}(&n);\n}}\n")

    def _field(self, name: str, field: str, value) -> str:
        if isinstance(value, Format):
            return "{" + ", ".join(_number(getattr(value, part[0]), "int64_t") for part in Format._fields_) + "}"
        if isinstance(value, Constant):
            return value.name
        if isinstance(value, Kept) and field == "scratch":
            return self._at(self.layout.places[f"{name} scratch"])
        if isinstance(value, Kept):
            kind, start = self.states[name]
            return f"m->kept.state_{SHORT[kind]}" + (f" + {start}" if start else "")
        return "{" + ", ".join(map(str, value)) + "}" if isinstance(value, tuple) else _number(int(value), "int64_t")

    @cached_property
    def id(self) -> int:
        """Of a state: it differs where the integers or their places do."""
        content = [self.nodes.words, self.nodes.functions, self._members,
                   *((name, *(self._field(name, *field) for field in fields.items()))
                     for name, fields in self.nodes.fields.items()),
                   *((name, kind, array.tobytes()) for name, (kind, array) in self._constants.items())]
        return int.from_bytes(hashlib.sha256(repr(content).encode()).digest()[:4], "little")

    # -- files ----------------------------------------------------------------------------------------------------------------

    @cached_property
    def header(self) -> str:
        graph, i, o = self.graph, self.artifact.input, self.artifact.output
        streamed, carried = self.layout.phases[graph.output.name] == 0, graph.carried
        kept, scratch = ("".join(f"    {kind} {name}[{size}];\n" for kind, name, size in members) for members in self._members)
        return filled("src/model.h.txt", {
            "title": "One model in C.", "name": word_of(self.artifact.name), "input": str(i), "id": f"0x{self.id:08X}",
            "tokens": graph.length, "input_width": graph.input.width, "input_min": i.min, "input_max": i.max,
            "input_frac": i.frac, "output_tokens": graph.output.tokens, "output_width": graph.output.width,
            "output_frac": o.frac, "carried_flag": int(carried), "ram": self.ram, "state": self.state,
            "input_type": self.nodes.types[graph.input.name], "output_type": self.nodes.types[graph.output.name],
            "kept": kept, "scratch": scratch,
            "when": "After each token\n   there is a result." if streamed else "After the last one\n   there is the result.",
            "carried": " The state goes on from each sequence to the next, until `model_init`." if carried else
            " Each sequence begins\n   with the state of the start."})

    @cached_property
    def code(self) -> str:
        graph, layout, i = self.graph, self.layout, self.artifact.input
        instances = Instances()
        names = {name: instances.name(self.artifact.operators[name].source, self.nodes.functions[name], words)
                 for name, words in self.nodes.words.items()}
        limits = {"int8_t": (-128, 127), "uint8_t": (0, 255), "int16_t": (-32768, 32767), "uint16_t": (0, 65535)}
        least, most = limits.get(self.nodes.types[graph.input.name], (None, None))
        outside = " || ".join(["{array}[k] < MODEL_INPUT_MIN"] * (i.min != least)
                              + ["{array}[k] > MODEL_INPUT_MAX"] * (i.max != most))
        streamed = layout.phases[graph.output.name] == 0
        groups, later = [], []
        for k, group in enumerate(layout.groups):
            calls = [f"    node_{name.replace('.', '_')}(m, at);\n" for name in group.nodes if name in names]
            groups.append(f"/* {group.tokens} tokens */\nDISTINCT static void group_{k}(model *m, place at) {{\n"
                          + ("".join(calls) or "    (void)m, (void)at;\n") + "}\n")
            if k:
                later.append(f"    for (at = 0; at < {group.tokens}; at++)\n        group_{k}(m, at);\n")
        begin = [f"    memset(m->kept.state_{SHORT[kind]}, 0, sizeof m->kept.state_{SHORT[kind]});\n" for kind in self.sizes]
        for name, (kind, start) in self.states.items():
            if first := self.nodes.fields[name].get("start"):
                begin.append(f"    memcpy(m->kept.state_{SHORT[kind]} + {start}, {first.name}, sizeof {first.name});\n")
        check = ("    for (uint32_t k = 0; k < {count}; k++)\n"
                 f"        if ({outside})\n            return MODEL_RANGE;\n") if outside else ""
        return filled("src/model.c.txt", {
            "title": f"The model '{word_of(self.artifact.name)}'.",
            "arithmetic": ARITHMETIC.read_text(encoding="utf-8").replace("PLACE", "int32_t"),
            "dsp": (FILES / "src" / "dsp.c").read_text(encoding="utf-8"), "operators": "\n".join(instances.texts),
            "constants": "\n".join(_array(name, *constant) for name, constant in self._constants.items()),
            "nodes": "\n".join(self._node(name, names[name]) for name in names), "groups": "\n".join(groups),
            "begin": "".join(begin) or "    (void)m;\n",
            "check": check.format(count="count", array="token"),
            "check_all": check.format(count="count", array="sequence"),
            "restart": "" if graph.carried else "    if (m->kept.position == 0)\n        begin(m);\n",
            "input_place": f"({self._value(graph.input.name)})", "output_place": f"({self._at(layout.place(graph.output.name))})",
            "limits": ",\n".join(f"    {{{at}, {part.size}, {WIDTH[kind]}, {int(kind[0] == 'u')}, {int(part.counted)}, "
                                 f"{_number(part.low, 'int64_t')}, {_number(part.high, 'int64_t')}}}"
                                 for at, kind, part in self.limits) or "    {0, 0, 1, 0, 0, 0, 0}",
            "ready_each": int(streamed), "return_each": "MODEL_READY" if streamed else "MODEL_OK", "later": "".join(later),
            "ready_all": 1 if streamed else graph.output.tokens})


def word_of(name: str) -> str:
    """A name that can stand in C, JSON and scripts."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)


def filled(template: str, words: dict) -> str:
    return Template((FILES / template).read_text(encoding="utf-8")).substitute(words)


def _number(value: int, kind: str) -> str:
    if value == -(1 << 63):
        return "INT64_MIN"
    if value == -(1 << 31):
        return "-INT64_C(2147483648)" if kind == "int64_t" else "-2147483647 - 1"
    return f"INT64_C({value})" if not -(1 << 31) < value < 1 << 31 else str(value)


def _array(name: str, kind: str, values: np.ndarray) -> str:
    """A constant array, in lines."""
    lines = [f"static const {kind} {name}[{values.size}] = {{"]
    for value in values.tolist():
        text = _number(value, kind) + ","
        if len(lines) == 1 or len(lines[-1]) + len(text) >= LINE:
            lines.append("    " + text)
        else:
            lines[-1] += " " + text
    return "\n".join(lines)[:-1] + "};\n"
