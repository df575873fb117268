"""Weights that can be loaded while the design runs: every constant memory twice, one bank that answers and one to be loaded.

A load is one row of 32-bit words for all memories, written in order. Each memory is columns of 32 bits; the columns, and the
artifact's digest, lie in the load by falling size, each at a multiple of its size rounded up to a power of two.
"""

import hashlib
import json
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np

from emamba.artifact import Artifact
from emamba.artifact import to_json as parameter_json
from emamba.base.errors import DesignLimit, SettingError
from emamba.base.formats import IntFormat
from emamba.ops import Scan, Weighted

from ..kit.hdl import Cat, Component, In, Memory, Module, Mux, Out, Signal, counted, unsigned
from ..kit.parity import decode, encode_word
from ..kit.parity import encode as with_parity
from ..kit.rom import rom_latency
from .schedule import Schedule

WORD = 32
DIGEST = "digest"


def envelope(artifact: Artifact) -> Artifact:
    """The artifact with the largest weights that its formats allow, so that what is sized by it holds every other."""
    return replace(artifact, operators={name: op.largest() for name, op in artifact.operators.items()})


class LoadBus:
    """What all memories of a design share: `en` writes `data` to word `address` of the load, in the bank that does not answer;
    `bank` is the one that does."""

    def __init__(self, words: int):
        self.words = words
        self.en, self.bank = Signal(name="load_en"), Signal(name="load_bank")
        self.address, self.data = Signal(range(words), name="load_address"), Signal(WORD, name="load_data")


@dataclass(frozen=True)
class Column:
    """Up to 32 bits of every row of a memory, from bit `low`; word `base` + k of a load is row k's."""

    memory: str
    low: int
    bits: int
    rows: int
    base: int = 0

    @property
    def size(self) -> int:
        return 1 << (self.rows - 1).bit_length()


class LoadableRom(Component):
    """A `Rom` of the same timing, or of `steps`, in two banks. `rows` are there from the start. With `parity`, `fault` is high
    as a memory gives a word that is not as it was loaded."""

    def __init__(self, rows: np.ndarray, element: IntFormat, columns: list[Column], bus: LoadBus, parity: bool = False,
                 steps: int | None = None):
        self.element, self.columns, self.parity = element, columns, parity
        self.steps = rom_latency(len(rows)) if steps is None else steps
        self.bus = LoadBus(bus.words) if counted() else bus
        self.count, self.lanes = rows.shape
        self.words = encode(rows, element)
        super().__init__({"en": In(1), "addr": In(range(self.count)), "data": Out(unsigned(self.lanes * element.bits))}
                         | ({"fault": Out(1)} if parity else {}))

    def elaborate(self, platform):
        m = Module()
        bus, parts, faults = self.bus, [], []
        for k, column in enumerate(self.columns):
            place = column.size.bit_length() - 1
            write = Signal(name=f"write_{k}")
            m.d.comb += write.eq(bus.en & (bus.address[place:] == column.base >> place))
            part = [word >> column.low & (1 << column.bits) - 1 for word in self.words]
            value = bus.data[:column.bits]
            if self.count == 1:
                banks = [Signal(column.bits, name=f"row_{k}_{bank}", init=part[0] * (1 - bank), reset_less=True)
                         for bank in range(2)]
                for bank, row in enumerate(banks):
                    with m.If(write & (bus.bank != bank)):
                        m.d.sync += row.eq(value)
                parts.append(Mux(bus.bank, banks[1], banks[0]))
                continue
            part = [encode_word(word, column.bits, self.parity) for word in part]
            storage = Memory(shape=unsigned(column.bits + self.parity), depth=column.size + column.rows, init=part)
            m.submodules[f"storage_{k}"] = storage
            port, store = storage.read_port(), storage.write_port()
            m.d.comb += [
                port.en.eq(self.en), port.addr.eq(Cat(self.addr, bus.bank)),
                store.en.eq(write), store.addr.eq(Cat(bus.address[:place], ~bus.bank)),
                store.data.eq(with_parity(value, self.parity)),
            ]
            value = decode(port.data, self.parity)
            if self.parity:
                faults.append(port.data.xor())
            for _ in range(self.steps - 1):
                held = Signal.like(value, name=f"held_{k}", reset_less=True)
                with m.If(self.en):
                    m.d.sync += held.eq(value)
                value = held
            parts.append(value)
        m.d.comb += self.data.eq(Cat(parts))
        if self.parity:
            m.d.comb += self.fault.eq(Cat(faults).any())
        return m


def encode(rows: np.ndarray, element: IntFormat) -> list[int]:
    """One integer a row."""
    mask = (1 << element.bits) - 1
    return [sum((int(value) & mask) << (k * element.bits) for k, value in enumerate(row)) for row in rows]


class Loads:
    """The loadable memories of a `schedule`, which was made of `envelope(artifact)`, with `artifact` in them at first."""

    def __init__(self, schedule: Schedule, artifact: Artifact, parity: bool = False):
        self.schedule, self.artifact = schedule, artifact
        if any(getattr(block, "graph", None) or (getattr(block, "table", False) and isinstance(block.op, Scan))
               for block in schedule.blocks.values()):
            raise SettingError("weights cannot be loaded where adder graphs or tables of decays are built of them: "
                               "take --products multipliers or pairs, and --decays segments")
        self.elements = self._elements()
        rows = self._rows(artifact)
        self.columns = _placed([Column(DIGEST, 0, WORD, 8)] + [
            Column(name, low, min(WORD, values.shape[1] * self.elements[name].bits - low), len(values))
            for name, values in rows.items() for low in range(0, values.shape[1] * self.elements[name].bits, WORD)])
        last = max(self.columns, key=lambda column: column.base)
        self.words = last.base + last.size
        self.bus = LoadBus(self.words)
        self.structure = structure(schedule, artifact, self.elements)
        self.structure_digest = hashlib.sha256(json.dumps(self.structure, sort_keys=True).encode()).hexdigest()
        self.memories = self._makers(rows, parity)
        """Of every node, by part, what makes its memory."""

    def _elements(self) -> dict[str, IntFormat]:
        """The format of every memory."""
        return {f"{name}.{part}": _widened(part, element) for name, block in self.schedule.blocks.items()
                if block.op.loadable for part, (_, element) in block.constants().items()}

    def _makers(self, rows: dict[str, np.ndarray], parity: bool) -> dict[str, dict]:
        memories = {}
        for name in self.schedule.blocks:
            own = {key.removeprefix(f"{name}."): values for key, values in rows.items() if key.startswith(f"{name}.")}
            memories[name] = {part: partial(LoadableRom, values, self.elements[f"{name}.{part}"], self.of(f"{name}.{part}"),
                                            self.bus, parity) for part, values in own.items()}
        return memories

    def of(self, memory: str) -> list[Column]:
        return sorted((column for column in self.columns if column.memory == memory), key=lambda column: column.low)

    def image(self, artifact: Artifact) -> np.ndarray:
        """The words of a load of `artifact`, whose structure must be the same."""
        words = np.zeros(self.words, "<u4")
        rows = {DIGEST: [int(artifact.digest[k:k + 8], 16) for k in range(0, 64, 8)]}
        rows |= {name: encode(values, self.elements[name]) for name, values in self._rows(artifact).items()}
        for column in self.columns:
            mask = (1 << column.bits) - 1
            words[column.base:column.base + column.rows] = [row >> column.low & mask for row in rows[column.memory]]
        return words

    def _rows(self, artifact: Artifact) -> dict[str, np.ndarray]:
        """[rows, lanes] of every memory."""
        found = {}
        for name, block in self.schedule.blocks.items():
            op = artifact.operators[name]
            if not op.loadable:
                continue
            for bound in ("bound", "y_bound"):
                most, limit = (getattr(each, bound, 0) for each in (op, block.op))
                if most > limit:
                    raise DesignLimit(f"{name} of '{artifact.name}' can reach {most}; the design's accumulator is made for "
                                      f"{limit}: build a design for it")
            for part, (rows, _) in block.constants(op).items():
                element = self.elements[f"{name}.{part}"]
                if rows.min() < element.min or rows.max() > element.max:
                    raise DesignLimit(f"{name}.{part} of '{artifact.name}' holds {rows.min()}..{rows.max()}; the design's memory "
                                      f"takes {element.min}..{element.max}: build a design for it")
                found[f"{name}.{part}"] = rows
        return found


def _widened(part: str, element: IntFormat) -> IntFormat:
    """The formats of largest weights, which are positive, with a sign."""
    return element if element.signed or part in ("scale", "table") else IntFormat(element.bits + 1)


def _placed(columns: list[Column]) -> list[Column]:
    base, placed = 0, []
    for column in sorted(columns, key=lambda column: -column.size):
        placed.append(replace(column, base=base))
        base += column.size
    return placed


def structure(schedule: Schedule, artifact: Artifact, elements: dict[str, IntFormat]) -> dict:
    """All that loading cannot change: the model's shape, every node's formats, shifts and segments, the folding, the memories."""
    nodes = {}
    for name, op in artifact.operators.items():
        entries = {}
        for entry in fields(op):
            value = getattr(op, entry.name)
            if isinstance(value, np.ndarray):
                entries[entry.name] = list(value.shape) if op.loadable else value.tolist()
            elif value is not None:
                entries[entry.name] = parameter_json(value)
        if isinstance(op, Weighted):
            entries["dyadic"] = op.dyadic
        nodes[name] = entries
    return {
        "model": artifact.config.model_dump(mode="json", exclude_none=True), "nodes": nodes,
        "lanes": {name: [port.lanes for port in (*block.inputs.values(), block.output)]
                  for name, block in schedule.blocks.items()},
        "memories": {name: [element.bits, element.signed] for name, element in elements.items()},
    } | schedule.structure()


def crc_step(state: Signal, data: Signal) -> list:
    """The 32 bits of a CRC-32 (zlib's, without its inversions) after little-endian `data`, each the parity of some bits."""
    bits = [{k} for k in range(WORD)]
    for k in range(len(data)):
        out = bits[0] ^ {WORD + k}
        bits = [bits[j + 1] if j + 1 < WORD else set() for j in range(WORD)]
        bits = [entry ^ out if 0xEDB88320 >> j & 1 else entry for j, entry in enumerate(bits)]
    source = [*state, *data]
    return [Cat(source[k] for k in sorted(entry)).xor() for entry in bits]
