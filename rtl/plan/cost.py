"""Resources of an accelerator from its schedule, at once: nothing is synthesized.

Each component is counted from its circuit (`rtl.kit.tally`). Multipliers and memories map to a family's macros by the rules of
Yosys. The lookup tables of each bit of adders, multiplexers and so on are fitted to Yosys' counts by
`python -m benchmarks.calibrate`, which keeps them, with their errors, in `costs.json`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path

from ..kit.block import Beat, BlockOptions, Port, Spec
from ..kit.inventory import Inventory
from ..kit.streams import Fifo, Fork, Pacer
from ..kit.tally import tally
from .schedule import Schedule

COSTS = json.loads((Path(__file__).parent / "costs.json").read_text(encoding="utf-8"))
TOOL = COSTS["tool"]

COUNTED = ("adders", "increments", "inversions", "comparisons", "carry_saves", "compressors", "partials", "resets", "control")
FITTED = (*COUNTED, "logic", "operands", "multiplied", "rom_columns", "rom_bits", "registers")
"""What the lookup tables are fitted to."""


@dataclass(frozen=True)
class Multiplier:
    """A multiplier block of `a` × `b` signed bits; operands wider than `a` are cut into pieces of `piece` bits, each with
    `headroom` for a sign. Operands below 2 bits, and products below `least`, become logic. The rules of Yosys' mul2dsp. With
    `absorbs`, the register of a product that takes one block or two goes into them."""

    a: int
    b: int
    piece: int
    headroom: int
    least: int
    absorbs: bool = False

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
    """How Yosys maps macros for a family. `inputs`: of a lookup table, or of a gate; `shapes`: (words, bits) of a block RAM;
    `styled`, whether a ROM may ask for one; `block_cost` against `ram_cost` of a RAM in lookup tables and 1 of `rom_words` bits
    of a ROM in them; `rams`: (words, bits, lookup tables) of such a RAM; `shift_register`: stages of a delay line in one lookup
    table."""

    inputs: int
    multiplier: Multiplier | None = None
    block: str = ""
    block_share: float = 1
    shapes: tuple[tuple[int, int], ...] = ()
    block_cost: int = 0
    rom_words: int = 0
    styled: bool = True
    rams: tuple[tuple[int, int, int], ...] = ()
    ram_cost: int = 0
    shift_register: int = 0

    def tables(self, inputs: int) -> int:
        """Lookup tables of a bit of logic."""
        return ceil((inputs - 1) / (self.inputs - 1))

    def rom_blocks(self, words: int, bits: int, style: str | None) -> int:
        """Block RAMs of a ROM; 0 where it becomes logic, if that costs less."""
        blocks = self._blocks(words, bits)
        asked = style == "block" and self.styled
        return blocks if asked or words * bits > self.block_cost * self.rom_words * blocks else 0

    def ram(self, words: int, bits: int, held: bool) -> tuple[int, int, int]:
        """Of a RAM: block RAMs, or lookup tables and banks. A block RAM needs a register behind it, which it takes
        in, for as many that order reads and writes of the same word."""
        blocks = self._blocks(words, bits)
        if not self.rams:
            return (blocks if held and words * bits > self.block_cost * blocks else 0), 0, words
        cells, banks, luts = min((ceil(words / w) * ceil(bits / b), ceil(words / w), luts) for w, b, luts in self.rams)
        if held and cells * self.ram_cost + (banks - 1) * bits / 2 > self.block_cost * blocks:
            return blocks, 0, 1
        return 0, cells * luts, banks

    def _blocks(self, words: int, bits: int) -> int:
        return min((ceil(words / w) * ceil(bits / b) for w, b in self.shapes), default=0)


DEPTHS = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
FAMILIES = {
    "xcup": Family(6, Multiplier(27, 18, 18, 1, 9), "bram36", 0.5, DEPTHS, 129, 64, rams=((64, 7, 8), (32, 14, 8)), ram_cost=16,
                   shift_register=32),
    "ecp5": Family(4, Multiplier(18, 18, 18, 0, 0), "ebr", 1, DEPTHS, 128, 16, rams=((16, 4, 6),), ram_cost=4),
    "ice40": Family(4, Multiplier(16, 16, 16, 0, 11, absorbs=True), "ebr", 1, ((256, 16), (512, 8), (1024, 4), (2048, 2)), 64, 16,
                    styled=False),
    "gates": Family(2),
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
    fitted = dict.fromkeys(FITTED, 0.0) | {name: float(getattr(inventory, name)) for name in COUNTED}
    for name in ("logic", "operands"):
        fitted[name] += sum(bits * rules.tables(inputs) for inputs, bits in getattr(inventory, name).items())
    flipflops = float(inventory.registers)
    for (a, b, share), count in inventory.products.items():
        blocks, adders, logic = rules.multiplier.blocks(a, b) if rules.multiplier else (0, 0, a * b)
        known["dsp"] += count * blocks
        if 0 < blocks < 3 and rules.multiplier.absorbs:
            flipflops -= count * (a + b)
        fitted["adders"] += count * adders
        fitted["multiplied"] += count * logic * share
    for (words, bits, style, columns, *tables), count in inventory.roms.items():
        blocks = rules.rom_blocks(words, bits, style)
        known[rules.block] += count * blocks * rules.block_share
        if not blocks:
            flipflops += count * columns
            fitted["rom_columns"] += count * (columns if family == "gates" else tables[rules.inputs > 4])
            fitted["rom_bits"] += count * columns * words
    for (words, bits, held), count in inventory.rams.items():
        known["memory_bits"] += count * words * bits
        blocks, luts, banks = rules.ram(words, bits, held)
        known[rules.block] += count * blocks * rules.block_share
        known["lut"] += count * luts
        if luts or (family == "ice40" and not blocks):
            fitted["logic"] += count * bits * (banks - 1)
            flipflops += 0 if luts else count * words * bits
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


def components(schedule: Schedule, loads: Mapping[str, dict] | None = None) -> dict[str, tuple[str, Inventory]]:
    """Every instance in `Accelerator`, by name: its node, or "streams" before the first one, and what it is made of."""
    found = {"pacer": ("streams", Pacer(schedule.input, schedule.period).inventory())}
    found |= {name: (name, block.inventory(BlockOptions(carried=schedule.graph.carried, loads=(loads or {}).get(name, {}))))
              for name, block in schedule.blocks.items()}
    for name, output in schedule.outputs.items():
        node = name if name in schedule.blocks else "streams"
        places = [(name, output)] + [(f"{name}.to.{edge.sink}.{edge.index}", edge) for edge in output.edges]
        for at, place in places:
            if place.gearbox is not None:
                found[f"{at}.gearbox"] = node, place.gearbox.inventory()
                if place.before.depth:
                    found[f"{at}.gearbox.fifo"] = node, _fifo(place.before.port, place.before.depth)
            if at != name:
                found[f"{at}.fifo"] = node, _fifo(place.queue.port, place.queue.depth)
        if len(output.edges) > 1:
            found[f"{name}.fork"] = node, _fork(output.edges[0].queue.port if output.gearbox else output.port, len(output.edges))
    return found


def exceeds(blocks: Iterable[Spec], options: BlockOptions, family: str, limits: Mapping[str, float]) -> bool:
    """Whether blocks alone, without their FIFOs, take more than `limits`: the largest first, until that is clear."""
    taken = dict.fromkeys(limits, 0.0)
    for block in sorted(blocks, key=lambda block: -block.multipliers):
        found = resources(block.inventory(options), family)
        taken = {name: taken[name] + found[name] for name in taken}
        if any(taken[name] > limits[name] for name in taken):
            return True
    return False


@cache
def _fifo(port: Port, depth: int) -> Inventory:
    return tally(lambda: Fifo(Beat(port.format, port.lanes), depth))


@cache
def _fork(port: Port, outputs: int) -> Inventory:
    return tally(lambda: Fork(Beat(port.format, port.lanes), outputs))


def estimate(schedule: Schedule, family: str, *, by_node: bool = False, loads: Mapping[str, dict] | None = None) -> dict:
    """Resources of an accelerator, by RESOURCES[family]; or those of each node, with the FIFOs, fork and gearboxes behind it."""
    nodes: dict[str, Inventory] = {}
    for node, inventory in components(schedule, loads).values():
        nodes[node] = nodes.get(node, Inventory()) + inventory
    found = {node: resources(inventory, family) for node, inventory in nodes.items()}
    return found if by_node else {name: sum(node[name] for node in found.values()) for name in RESOURCES[family]}
