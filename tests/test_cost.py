"""The cost model: what components say that they are made of against their Verilog, rules of the families, the fitted errors."""

import json
import re
import sys
from pathlib import Path

import amaranth.hdl
import pytest
from amaranth.back import rtlil

from emamba.artifact import load
from emamba.ops import Operator
from rtl.kit import inventory
from rtl.kit.block import Port
from rtl.kit.datapath import Products
from rtl.kit.emit import parts, to_verilog
from rtl.kit.light import counting, node
from rtl.kit.registry import realizes
from rtl.kit.shared import collected
from rtl.kit.streams import Gearbox, Pacer
from rtl.kit.tally import tally
from rtl.plan import cost
from rtl.plan.accelerator import Accelerator
from rtl.plan.cost import COSTS, FAMILIES, FITTED, RESOURCES, components, estimate
from rtl.plan.loads import Loads, envelope
from rtl.plan.schedule import Realization, Schedule
from sim.bench import Together
from sim.cases import BLOCKS, I8, I12
from sim.models import random_artifact
from sim.small import artifact_of

MARS = load(Path("models/mars"))
REGISTER = re.compile(r"cell \$\w*dff\w* .*?parameter \\WIDTH (\d+)|memory width (\d+) size 1 ", re.S)
MULTIPLIER = re.compile(r"\$signed\([^;]*\) \* \$signed\(|\S+ \* \S+|DSP48E2 #\(")


def registers(component) -> int:
    """Bits of the registers of a component as it is written, with memories of one word."""
    with collected(None):
        found = REGISTER.findall(rtlil.convert(component, name="top", emit_src=False))
    return sum(int(bits or word) for bits, word in found)


def counted(made: inventory.Inventory) -> int:
    """The same of an inventory."""
    return made.registers + sum(stages * bits * count for (stages, bits), count in made.delays.items())


REGISTERS = list(BLOCKS)[::2]
PRODUCTS = [name for name in BLOCKS if re.match(r"linear-(20|9|17)|multiply|conv1d-8|(range|layer)_norm-(17|13|6)", name)]


@pytest.fixture(scope="module")
def verilog():
    """Of every block that is counted, by one run of Yosys for all."""
    names = sorted(PRODUCTS)
    texts = parts(to_verilog(Together({f"b{k}": BLOCKS[name]().build() for k, name in enumerate(names)})))
    return {name: texts[f"b{k}"] for k, name in enumerate(names)}


@pytest.mark.parametrize("name", REGISTERS)
def test_registers(name):
    """To the bit, where nothing is trimmed."""
    assert counted(tally(BLOCKS[name]().build, trim=False)) == registers(BLOCKS[name]().build())


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name, verilog):
    """As many products as multiplication signs and multipliers in the Verilog."""
    assert BLOCKS[name]().inventory().products.total() == len(MULTIPLIER.findall(verilog[name]))


def test_loadable_memories():
    """As many bits of memory as the Verilog has, and a register at the read port; a single row is two registers."""
    schedule = Schedule(envelope(artifact_of()), 6)
    makes = [make for parts in Loads(schedule, artifact_of()).memories.values() for make in parts.values()]
    memories = [make() for make in makes]
    assert {memory.count == 1 for memory in memories} == {False, True}
    texts = parts(to_verilog(Together({f"b{k}": memory for k, memory in enumerate(memories)})))
    for k, (make, memory) in enumerate(zip(makes, memories, strict=True)):
        verilog, made = texts[f"b{k}"], tally(make)
        found = [(int(high) + 1) * (int(last) + 1) for high, last in re.findall(r"reg \[(\d+):0\] \S+ \[(\d+):0\];", verilog)]
        assert sum(found) == sum(words * bits * count for (words, bits, _), count in made.rams.items())
        assert made.registers == memory.lanes * memory.element.bits * (1 if found else 2)


@pytest.mark.parametrize("component", [Gearbox(I8, 20, 4, 5), Gearbox(I8, 20, 10, 3), Pacer(Port(I12, 20, 4), 9)])
def test_registers_between_blocks(component):
    assert counted(tally(component.build, trim=False)) == registers(component.build())


def test_foreign_values(monkeypatch):
    """A block cannot be counted with values of Amaranth's own."""
    monkeypatch.setattr(sys.modules[__name__], "Mux", amaranth.hdl.Mux, raising=False)
    with pytest.raises(TypeError, match=r"the block Foreign takes Mux from amaranth.hdl: take it from rtl.kit.hdl"):
        realizes(Operator)(type("Foreign", (), {"__module__": __name__}))
    with pytest.raises(TypeError, match=r"take Signal, Mux and so on from rtl.kit.hdl"), counting():
        node(amaranth.hdl.Signal())


def test_components():
    """Every instance of the accelerator, and no other."""
    schedule = Schedule(random_artifact("standard-one-channel"), 4)
    top = re.search(r"^module top\(.*?^endmodule", to_verilog(Accelerator(schedule)), re.M | re.S)[0]
    instances = [name for _, name in re.findall(r"^  (\\\S+|\w+)\s+(\w+) \($", top, re.M)]
    assert sorted(instances) == sorted(name.replace(".", "_") for name in components(schedule))


@pytest.mark.parametrize("family", FAMILIES)
def test_estimate(family):
    """The parts make the whole; more cycles never take more multipliers."""
    found = [estimate(Schedule(MARS, cycles), family) for cycles in (1, 2, 5, 8, 20, 32, 128, 800)]
    assert all(list(row) == list(RESOURCES[family]) and min(row.values()) >= 0 for row in found)
    if FAMILIES[family].multiplier:
        assert [row["dsp"] for row in found[1:]] == sorted((row["dsp"] for row in found[1:]), reverse=True)
    schedule = Schedule(MARS, 20)
    nodes = estimate(schedule, family, by_node=True)
    assert set(nodes) == {"streams", *schedule.blocks}
    for name, value in estimate(schedule, family).items():
        assert sum(node[name] for node in nodes.values()) == pytest.approx(value)


def test_pairs():
    """Two products a multiplier on xcup, where it is wide enough, and none saved on ice40, where it is not."""
    alone, paired = (Schedule(MARS, 20, Realization(products)) for products in (Products.MULTIPLIERS, Products.PAIRS))
    assert estimate(paired, "xcup")["dsp"] < 0.75 * estimate(alone, "xcup")["dsp"]
    assert estimate(paired, "ice40")["dsp"] >= estimate(alone, "ice40")["dsp"]


@pytest.mark.parametrize(("family", "bits", "blocks"), [
    ("xcup", (4, 4), 0), ("xcup", (5, 4), 1), ("xcup", (27, 18), 1), ("xcup", (28, 8), 2),
    ("ecp5", (2, 2), 1), ("ecp5", (18, 18), 1), ("ecp5", (19, 8), 1), ("ecp5", (24, 16), 2), ("ecp5", (30, 20), 4),
    ("ecp5", (40, 18), 3),
])
def test_multiplier_blocks(family, bits, blocks):
    """As Yosys maps a registered product of these widths."""
    assert FAMILIES[family].multiplier.blocks(*bits)[0] == blocks


@pytest.mark.parametrize(("family", "rom", "blocks"), [
    ("xcup", (1024, 8, None), 0), ("xcup", (64, 100, "block"), 3), ("xcup", (512, 72, "block"), 2), ("ecp5", (64, 72, None), 2),
    ("ecp5", (512, 8, None), 1), ("ecp5", (256, 8, None), 0), ("ecp5", (32, 256, None), 0), ("ecp5", (64, 100, "block"), 3),
])
def test_rom_blocks(family, rom, blocks):
    """As Yosys maps a ROM of (words, bits); halves of a RAMB36E2 on xcup."""
    assert FAMILIES[family].rom_blocks(*rom) == blocks


def test_inventories():
    a, b = inventory.product(8, 12), inventory.register(7, 4)
    assert (2 * a + b).products == {(12, 8, 1.0): 2} and (a + 3 * b).delays == {(4, 7): 3}
    assert inventory.columns([[0, 5], [0, 5], [0, 2]], 3) == (3, 2)  # constants, and two equal columns
    step = [[word >= 48] for word in range(64)]
    assert inventory.tables(64, 1) == (7, 1) and inventory.tables(64, 40) == (280, 120)  # of random words
    assert inventory.tables(64, 1, step, 1) == (1, 1)  # parts of 16 words are constant


def test_costs():
    """Every coefficient of every family is there."""
    assert json.loads(Path(cost.__file__).with_name("costs.json").read_text()) == COSTS and COSTS["tool"].startswith("pyosys")
    for family in FAMILIES:
        assert set(COSTS["families"][family]["coefficients"]) == set(FITTED)
