"""From what a user asks for to a schedule: multipliers, rates, devices, and what is refused."""

from dataclasses import replace

import pytest

from emamba import ops
from emamba.artifact import load
from emamba.base.errors import EmambaError
from emamba.graph.ir import ORDERS, Graph
from rtl.blocks import scan
from rtl.blocks.linear import Linear
from rtl.blocks.scan import Scan
from rtl.kit.datapath import Products
from rtl.kit.registry import Stage
from rtl.plan import devices
from rtl.plan.devices import Device
from rtl.plan.loads import envelope
from rtl.plan.planner import CYCLES_PER_TOKEN, Request, at, plan
from rtl.plan.schedule import MAX_CYCLES, Realization, Schedule
from sim import cases
from sim.models import random_artifact


@pytest.fixture(scope="module")
def small():
    return random_artifact("emamba-image")


def ultrascale(**limits) -> Device:
    return Device("small", "xcup", {"lut": 10**6, "ff": 10**6, "dsp": 10**6, "bram36": 10**6} | limits, 100.0)


@pytest.mark.parametrize("shape", ["standard-sequence", "emamba-image"])
def test_multipliers(shape):
    """The fastest design within the limit, of all that there are."""
    artifact = random_artifact(shape)
    needed = [Schedule(artifact, cycles).multipliers for cycles in range(1, 25)]
    assert needed == sorted(needed, reverse=True)
    for limit in {needed[0], needed[3], needed[3] + 1, needed[20]}:
        found = plan(artifact, Request(multipliers=limit)).schedule
        assert found.requested == next(k for k, count in enumerate(needed, 1) if count <= limit)


@pytest.mark.parametrize("shape", ["emamba-image", "standard-tokens", "mamba2-norm-before", "hybrid-attention"])
def test_latency_floor(shape):
    """No order of products is below it, no smaller T below the limit; more registers raise all three."""
    artifact = random_artifact(shape)
    for cycles in (1, 8):
        plain, deep = (Schedule(artifact, cycles, Realization(registers=registers)) for registers in (False, True))
        for found in (plain, deep):
            assert 0 < found.latency_limit <= found.latency_floor <= found.latency
        assert plain.latency_floor <= deep.latency_floor and plain.latency_limit <= deep.latency_limit
        for order in ORDERS:
            nodes = tuple(replace(node, order=order) for node in artifact.graph)
            other = Schedule(replace(artifact, graph=Graph(nodes, artifact.graph.outputs)), cycles)
            assert other.multipliers == plain.multipliers and other.latency_floor == plain.latency_floor <= other.latency


def test_registers_by_the_clock(small):
    """Where the clock is faster than the plain logic, or where they are asked for."""
    asked = {"cycles_per_token": 8, "device": devices.find("zcu102")}
    for clock, fixed, expected in ((None, {}, False), (100, {}, False), (125, {}, True), (125, {"registers": False}, False)):
        found = plan(small, Request(**asked, clock_mhz=clock, realization=fixed)).schedule.realization
        assert found.registers is expected


def test_too_few_multipliers(small):
    least = Schedule(small, MAX_CYCLES)
    stage = max(least.blocks, key=lambda name: least.blocks[name].multipliers)
    with pytest.raises(EmambaError) as refused:
        plan(small, Request(multipliers=3))
    assert str(refused.value) == (
        f"--multipliers 3: this model needs at least {least.multipliers}, {least.blocks[stage].multipliers} of them in {stage}, "
        f"which do at {least.period} cycles per token")


def test_rates(small):
    assert plan(small, Request(frames_per_second=1e6, clock_mhz=50)).schedule.requested == 12  # 50e6 / (1e6 · 4 tokens) = 12.5
    assert plan(small, Request(frames_per_second=1e-320, clock_mhz=1e300)).schedule.requested == MAX_CYCLES
    with pytest.raises(EmambaError, match=r"200 MHz give at most 5e\+07, a cycle for each of 4 tokens in every"):
        plan(small, Request(frames_per_second=1e9, clock_mhz=200))


def test_nothing_asked(small):
    assert plan(small, Request()).schedule.requested == CYCLES_PER_TOKEN


@pytest.mark.parametrize("limits", [{"dsp": 40}, {"lut": 9000}, {}])
def test_smallest_that_fits(small, limits):
    request = Request(device=ultrascale(**limits), fill=0.9)
    found = plan(small, request)
    assert found.load <= 0.9
    fitting = [cycles for cycles in range(1, found.schedule.requested + 1) if at(small, cycles, request).load <= 0.9]
    assert fitting == [found.schedule.requested]


def test_other_products_where_multipliers_are_too_few(small):
    free = plan(small, Request(cycles_per_token=4, device=ultrascale()))
    assert not free.schedule.realization.own
    tight = plan(small, Request(cycles_per_token=4, device=ultrascale(dsp=int(free.resources["dsp"]))))
    assert tight.schedule.realization.own and tight.resources["dsp"] <= 0.8 * int(free.resources["dsp"])
    assert tight.resources["lut"] > free.resources["lut"] and tight.schedule.requested == 4


def test_what_the_user_fixes_stays(small):
    fixed = {"products": Products.MULTIPLIERS, "decay_tables": False}
    found = plan(small, Request(cycles_per_token=4, device=devices.find("zcu102"), realization=fixed))
    assert found.schedule.realization.products is Products.MULTIPLIERS and not found.schedule.realization.decay_tables


def test_tables_of_a_chip(small, monkeypatch):
    """Ā is a table where products are a chip's and the table is small, or as asked."""
    def tables(*asked):
        return {block.table for block in Schedule(small, 4, Realization(*asked)).blocks.values() if isinstance(block, Scan)}

    assert tables() == tables(Products.PAIRS) == tables(Products.MERGED, True, False) == {False}
    assert tables(Products.MERGED) == tables(Products.MULTIPLIERS, True, True) == {True}
    op = next(op for op in small.operators.values() if isinstance(op, ops.Scan))
    for words, expected in ((op.A.size << op.dt.bits, True), ((op.A.size << op.dt.bits) - 1, False)):
        monkeypatch.setattr(scan, "TABLE_WORDS", words)
        assert tables(Products.MERGED) == {expected}


@pytest.mark.parametrize(("products", "cycles", "lanes", "norm_lanes"), [
    (Products.MULTIPLIERS, 56, (5, 3), 2), (Products.MERGED, 56, (20, 1), 1), (Products.MERGED, 20, (20, 2), 10)])
def test_a_lean_chip(products, cycles, lanes, norm_lanes):
    """Above SHORT, whole sums from more multipliers in place of a memory of partial ones, and norms of fewer lanes."""
    stage = Stage(cycles=cycles, order="emit", products=products)
    block = Linear.fold(cases.linear(cases.rng(), 20, 40), stage)
    assert (block.in_lanes, block.lanes, stage.quick_lanes(20)) == (*lanes, norm_lanes)


def test_too_small_a_device(small):
    with pytest.raises(EmambaError) as refused:
        plan(small, Request(device=ultrascale(lut=100)))
    with pytest.raises(EmambaError, match="the nearest that fits is ulx3s-85f at "):
        plan(small, Request(cycles_per_token=1, device=devices.find("ulx3s-85f")))
    assert "LUT of small, " in str(refused.value) and "the nearest that fits is kv260 at " in str(refused.value)
    with pytest.raises(EmambaError, match=r"at 1 cycles per token the design takes an estimated .* the nearest that fits is"):
        plan(small, Request(cycles_per_token=1, device=ultrascale(lut=9000)))


@pytest.mark.parametrize("fill", [0, -1, 1.01, float("nan")])
def test_refused_shares(small, fill):
    with pytest.raises(EmambaError, match="--fill must be a share above 0 and at most 1"):
        plan(small, Request(device=ultrascale(), fill=fill))


def test_unknown_device():
    with pytest.raises(EmambaError, match="there is no device 'zcu999'; choose one of zcu102, kv260, "):
        devices.find("zcu999")


def test_the_board_has_room_for_mars():
    """Every cycle a token at T = 1 on the ZCU102, by estimate; the default build far below its limits."""
    mars = load("models/mars")
    request = Request(device=devices.find("zcu102"))
    default = plan(mars, replace(request, cycles_per_token=20))
    assert default.load < 0.4 and default.schedule.realization.products is Products.CASCADES
    fastest = plan(mars, replace(request, fill=0.9))
    assert fastest.schedule.requested == 1 and fastest.schedule.realization.products is Products.CONSTANTS


def test_loadable_memories_are_in_the_estimate(small, monkeypatch):
    """Two banks of RAM in place of constants: what just fits a device with constants is too large for it."""
    fixed = {"decay_tables": False, "products": Products.PAIRS}
    requests = [Request(cycles_per_token=8, device=ultrascale(), realization=fixed, loadable=loadable)
                for loadable in (False, True)]
    constant, loadable = (plan(envelope(small), request) for request in requests)
    assert loadable.resources["lut"] > constant.resources["lut"] and loadable.resources["ff"] > constant.resources["ff"]
    assert loadable.resources["dsp"] >= constant.resources["dsp"]
    full = ultrascale(lut=round(constant.resources["lut"]) + 1)
    assert plan(envelope(small), replace(requests[0], device=full)).load <= 1
    monkeypatch.setattr("rtl.plan.planner._nearest", lambda artifact, request: "nothing")
    with pytest.raises(EmambaError, match="at 8 cycles per token the design takes an estimated"):
        plan(envelope(small), replace(requests[1], device=full))
