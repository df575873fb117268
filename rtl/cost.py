"""Resources of an accelerator from its schedule, at once: nothing is elaborated or synthesized.

Each component says what it is made of (`rtl.inventory`). Multipliers and memories map to a family's macros by the rules of Yosys;
the lookup tables of each bit of adders, multiplexers and so on are fitted to Yosys' counts by `python -m benchmarks.calibrate`,
which keeps them, with their errors, in `costs.json`.
"""

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path

from .inventory import Inventory
from .schedule import Schedule
from .streams import Beat, Fifo, Fork, Pacer

COSTS = json.loads((Path(__file__).parent / "costs.json").read_text(encoding="utf-8"))
TOOL = COSTS["tool"]

FITTED = ("adders", "compressors", "comparisons", "muxes", "roms", "products", "registers", "control")
"""What the lookup tables are fitted to."""


@dataclass(frozen=True)
class Multiplier:
    """A multiplier block of `a` × `b` signed bits; operands wider than `a` are cut into pieces of `piece` bits, each with
    `headroom` for a sign. Operands below 2 bits, and products below `least`, become logic. The rules of Yosys' mul2dsp."""

    a: int
    b: int
    piece: int
    headroom: int
    least: int

    def blocks(self, a: int, b: int) -> tuple[int, int, int]:
        """Of a product: multiplier blocks, bits of the adders behind them, partial products of bits in logic."""
        if min(a, b) < 2 or a + b < self.least:
            return 0, 0, a * b
        if a > self.a:
            piece, rest = self.piece, a - self._cuts(a, self.a) * (self.piece - self.headroom)
            parts = [(piece, b)] * self._cuts(a, self.a) + [(rest, b)]
        elif b > self.b:
            piece, rest = min(self.piece, self.b), b - self._cuts(b, self.b) * (min(self.piece, self.b) - self.headroom)
            parts = [(a, piece)] * self._cuts(b, self.b) + [(a, rest)]
        else:
            return 1, 0, 0
        blocks, adders, logic = (sum(values) for values in zip(*(self.blocks(*part) for part in parts), strict=True))
        return blocks, adders + (len(parts) - 1) * (a + b - piece), logic

    def _cuts(self, bits: int, most: int) -> int:
        step = self.piece - self.headroom
        return (bits - most + step - 1) // step


@dataclass(frozen=True)
class Family:
    """How Yosys maps macros for a family. `shapes`: (words, bits) of a ROM block, and `rom_bits` that make one worthwhile;
    `rams`: (words, bits, lookup tables) of a RAM in lookup tables; `rom_words` of one lookup table."""

    multiplier: Multiplier | None = None
    block: str = ""
    block_share: float = 1
    shapes: tuple[tuple[int, int], ...] = ()
    rom_bits: int = 0
    styled: bool = True
    rams: tuple[tuple[int, int, int], ...] = ()
    rom_words: int = 16
    shift_register: int = 0  # stages of a delay line in one lookup table

    def rom_blocks(self, words: int, bits: int, style: str | None) -> int:
        """Block RAMs of a ROM; 0 where it becomes logic."""
        if not self.shapes:
            return 0
        blocks = min(ceil(words / w) * ceil(bits / b) for w, b in self.shapes)
        return blocks if (style == "block" and self.styled) or words * bits > self.rom_bits * blocks else 0


FAMILIES = {
    "xcup": Family(Multiplier(27, 18, 18, 1, 9), "bram36", 0.5, ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
                   64 * 129, rams=((64, 7, 8), (32, 14, 8)), rom_words=64, shift_register=32),
    "ecp5": Family(Multiplier(18, 18, 18, 0, 0), "ebr", 1, ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
                   16 * 128, rams=((16, 4, 6),)),
    "ice40": Family(Multiplier(16, 16, 16, 0, 11), "ebr", 1, ((256, 16), (512, 8), (1024, 4), (2048, 2)), 16 * 64, styled=False),
    "gates": Family(),
}
"""xcup: DSP48E2, RAMB18E2, RAM32M16 and RAM64M8; ecp5: MULT18X18D, DP16KD, TRELLIS_DPR16X4; ice40: SB_MAC16, SB_RAM40_4K."""


@dataclass
class Mapped:
    """An inventory on a family: what is known by rule, and `fitted`, the counts that FITTED names."""

    known: Counter
    fitted: dict[str, float]


def mapped(inventory: Inventory, family: str) -> Mapped:
    """The macros of an inventory, and what is left for lookup tables."""
    rules, known = FAMILIES[family], Counter()
    fitted = {name: float(getattr(inventory, name)) for name in FITTED if name not in ("roms", "products")} | {
        "roms": 0.0, "products": 0.0}
    flipflops = float(inventory.registers)
    for (a, b), count in inventory.products.items():
        blocks, adders, logic = rules.multiplier.blocks(a, b) if rules.multiplier else (0, 0, a * b)
        known["dsp"] += count * blocks
        fitted["adders"] += count * adders
        fitted["products"] += count * logic
    for (words, bits, style, columns), count in inventory.roms.items():
        blocks = rules.rom_blocks(words, bits, style)
        known[rules.block] += count * blocks * rules.block_share
        if not blocks:
            flipflops += count * columns
            fitted["roms"] += count * columns * max(1, words / rules.rom_words)
    for (words, bits), count in inventory.rams.items():
        known["memory_bits"] += count * words * bits
        if rules.rams:
            luts, banks = min((ceil(words / w) * ceil(bits / b) * cost, ceil(words / w)) for w, b, cost in rules.rams)
            known["lut"] += count * luts
            fitted["muxes"] += count * (banks - 1) * bits
        elif family == "ice40":
            flipflops += count * words * bits
            fitted["muxes"] += count * (words - 1) * bits
    for (stages, bits), count in inventory.delays.items():
        if rules.shift_register:
            known["lut"] += count * bits * ceil(stages / rules.shift_register)
        else:
            flipflops += count * stages * bits
    fitted["registers"] = flipflops
    known["ff"] = flipflops
    return Mapped(known, fitted)


RESOURCES = {"xcup": ("lut", "ff", "dsp", "bram36"), "ecp5": ("lut", "ff", "dsp", "ebr"), "ice40": ("lut", "ff", "dsp", "ebr"),
             "gates": ("nand2", "ff", "memory_bits")}


def resources(inventory: Inventory, family: str) -> dict[str, float]:
    """Resources of an inventory on a family; the keys are RESOURCES[family]."""
    found, coefficients = mapped(inventory, family), COSTS["families"][family]["coefficients"]
    logic = sum(coefficients[name] * count for name, count in found.fitted.items())
    found.known["nand2" if family == "gates" else "lut"] += logic
    return {name: float(found.known[name]) for name in RESOURCES[family]}


def components(schedule: Schedule) -> dict[str, tuple[str, object]]:
    """Every instance in `Accelerator`, by name: its node, or "streams" before the first one, and the component."""
    @cache
    def fifo(port, depth):
        return Fifo(Beat(port.format, port.lanes), depth)

    found = {"pacer": ("streams", Pacer(schedule.input, schedule.period))}
    found |= {name: (name, block) for name, block in schedule.blocks.items()}
    for name, output in schedule.outputs.items():
        node = "streams" if name == "input" else name
        places = [(name, output)] + [(f"{name}.to.{edge.sink}.{edge.index}", edge) for edge in output.edges]
        for at, place in places:
            if place.gearbox is not None:
                found[f"{at}.gearbox"] = node, place.gearbox
                if place.before.depth:
                    found[f"{at}.gearbox.fifo"] = node, fifo(place.before.port, place.before.depth)
            if at != name:
                found[f"{at}.fifo"] = node, fifo(place.queue.port, place.queue.depth)
        if len(output.edges) > 1:
            port = output.edges[0].queue.port if output.gearbox else output.port
            found[f"{name}.fork"] = node, Fork(Beat(port.format, port.lanes), len(output.edges))
    return found


def estimate(schedule: Schedule, family: str, *, by_node: bool = False) -> dict:
    """Resources of an accelerator, by RESOURCES[family]; or those of each node, with the FIFOs, fork and gearboxes behind it."""
    nodes: dict[str, Inventory] = {}
    for node, component in components(schedule).values():
        nodes[node] = nodes.get(node, Inventory()) + component.inventory
    found = {node: resources(inventory, family) for node, inventory in nodes.items()}
    return found if by_node else {name: sum(node[name] for node in found.values()) for name in RESOURCES[family]}
