"""Each circuit against its integer model and its schedule, in the Amaranth simulator; `sim` runs all shapes on the other two."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from amaranth.sim import Simulator
from blocks import check

from emamba.base.formats import IntFormat, Rounding
from emamba.ops import Activation as Op
from emamba.piecewise import codes, fit
from rtl.blocks.activation import Activation
from rtl.blocks.head_scan import HeadScan
from rtl.blocks.layer_norm import LayerNorm
from rtl.blocks.linear import Linear
from rtl.blocks.range_norm import RangeNorm
from rtl.kit import packing
from rtl.kit.block import BlockOptions, beats
from rtl.kit.datapath import Products
from rtl.kit.shared import Ram
from sim import amaranth_bench, cases
from sim.bench import bench, random_tokens


@pytest.mark.quick
@pytest.mark.quick_only
@pytest.mark.parametrize("name", cases.FIRST)
def test_block(name):
    block = cases.BLOCKS[name]()
    check(block, *cases.tokens_of(block))


@pytest.mark.quick
@pytest.mark.parametrize("seed", range(10))
def test_random_head_scans(seed):
    """Heads, groups and lanes of odd numbers, with segments or tables, of δ·A whole or rounded."""
    rng = np.random.default_rng(seed)
    groups, states, size = (int(n) for n in rng.integers(1, (4, 5, 6)))
    heads = groups * int(rng.integers(1, 4))
    op = cases.head_scan(rng, heads * size, heads, groups, states)
    lanes = HeadScan.possible_lanes(op, int(rng.integers(1, op.width + 1)))
    block = cases.head_scan_block(heads * size, heads, groups, states, lanes, int(rng.integers(1, states + 1)),
                                  table=bool(seed % 2), rounded=seed % 3 == 0, rounding=list(Rounding)[seed % 3])
    check(block, *cases.tokens_of(block), stalls=(0, 50))


@pytest.mark.quick
@pytest.mark.parametrize("seed", range(10))
def test_random_attention(seed):
    """Heads, lanes, tokens and paces of odd numbers."""
    rng = np.random.default_rng(seed)
    heads, size, tokens, pace = (int(n) for n in rng.integers(1, (4, 6, 7, 30)))
    lanes = [n for n in range(1, size) if size % n == 0] + [size * n for n in range(1, heads + 1) if heads % n == 0]
    block = cases.attention_block(heads * size, heads, int(rng.choice(lanes)), pace, tokens=tokens, causal=bool(seed % 2),
                                  wide=seed % 3 == 0, narrow=seed % 4 == 0, rounding=list(Rounding)[seed % 3])
    check(block, *cases.tokens_of(block, length=tokens), stalls=(0, 50))


def test_linear_cycles():
    assert Linear(cases.linear(cases.rng(), 17, 5), 4, 2).cycles == beats(17, 4) * beats(5, 2) == 15


@pytest.mark.parametrize("low, high", [(0, 1), (-1, 0), (0, 0)])
@pytest.mark.parametrize("make", [lambda op: Linear(op, 2, 3, Products.LOGIC), lambda op: Linear(op, 5, 7, Products.LOGIC)])
def test_logic_products_without_lower_bits(make, low, high):
    """Halved products of weights of 0, which have one bit; whole ones."""
    op = cases.linear(cases.rng(), 5, 7)
    block = make(replace(op, w=IntFormat(2, True, 1), weight=np.random.default_rng(0).integers(low, high + 1, (7, 5))))
    check(block, random_tokens(block.inputs["i"], 3, cases.TOKENS))


def test_range_norm_of_equal_channels_is_zero():
    block = RangeNorm(cases.range_norm(5), 2)
    assert not block.model(np.full((1, 3, 5), -2048)).any()
    check(block, np.full((1, 3, 5), -2048))


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("channels, lanes, epsilon", [(5, 2, 0), (4, 4, 0), (5, 2, 3), (1, 1, 2)])
def test_layer_norm_at_the_edges(channels, lanes, epsilon, rms):
    """Constant tokens, the least spread, for which the shift is largest, and the greatest."""
    block = LayerNorm(cases.layer_norm(channels, rms=rms, epsilon=epsilon), lanes)
    low, high = block.op.i.min, block.op.i.max
    constant = [np.full((1, channels), value) for value in (low, -1, 0, 1, high)]
    one = np.eye(channels, dtype=np.int64)
    ends = np.random.default_rng(0).choice([low, high], (8, channels))
    tokens = np.concatenate([*constant, one, -one, one + 7, low + one, one * low, one * high, ends])[None]
    expected = block.model(tokens)
    assert rms or not expected[0, :5].any()
    check(block, tokens)


@pytest.mark.parametrize("name", ["silu", "softplus", "exp"])
@pytest.mark.parametrize("table", [False, True])
def test_activation_on_every_code(name, table):
    check(Activation(cases.activation(name, 4, table=table), 4), np.arange(-128, 128).reshape(1, 64, 4), stalls=(0, 30))


@pytest.mark.parametrize("name, i, knot_step, rule", [
    ("silu", IntFormat(8, True, 4), 8, "minimax"),
    ("softplus", IntFormat(7, False, 3), 16, "least_squares"),
    ("exp", IntFormat(11, True, 7), 32, "least_squares"),
    ("exp", IntFormat(9, True, 4), 256, "minimax"),
])
def test_coarse_knots_on_every_code(name, i, knot_step, rule):
    """The knots of the last unit are the lowest code, which x always reaches, and 0, for which the sign is enough."""
    segments = fit(name, i, IntFormat(8, True, 5), 11, rule, knot_step=knot_step)
    assert segments.knot_step >= knot_step
    op = Op(channels=4, i=i, o=segments.o, segments=segments)
    check(Activation(op, 4), codes(i).reshape(1, -1, 4), stalls=(0, 30))


@pytest.mark.parametrize("name, length", [("pool-5-3-True", cases.TOKENS), ("pool-5-3-False", 3), ("pool-5-3-False", 1),
                                          ("smooth-5-3-1", 3)])
def test_packets_that_go_on_with_a_state(name, length):
    """A packet without `first` goes on: a filter keeps its values, and a pool passes that on to what keeps a state after it."""
    block = cases.BLOCKS[name]()
    x = random_tokens(block.inputs["i"], 5, length)
    fresh, state, answers = [True, False, False, True, False], None, []
    for packet, begins in zip(x, fresh, strict=True):
        y, state = block.op.resume(None if begins else state, packet[None])
        answers.append(y)
    case = bench(block.build(BlockOptions(stateful=True)), x, model=lambda _: np.concatenate(answers), schedule=False)
    case.share = Fraction(1)
    for port, words in ((block.inputs["i"], case.stimulus["i"]), (block.output, case.expected["o"])):
        word, bit = divmod(packing.payload_bits(port) - 2, packing.WORD)
        words[~np.repeat(fresh, len(words) // len(fresh)), word] &= ~np.uint32(1 << bit)
    amaranth_bench.run(case, name, [(30, 30)])


@pytest.mark.quick
def test_lanes_of_fewer_words():
    """A RAM whose lanes are not used from a word on: what is written there changes none of the others."""
    ram, words, depths = Ram(5, 3, 4, depths=[5, 3, 2]), [0x321, 0x654, 0x987, 0xCBA, 0xFED], (5, 3, 2)

    async def bench(ctx):
        ctx.set(ram.write_en, 7)
        for address, word in enumerate(words):
            ctx.set(ram.write_addr, address)
            ctx.set(ram.write_data, word)
            await ctx.tick()
        ctx.set(ram.write_en, 0)
        for address, word in enumerate(words):
            ctx.set(ram.read_addr, address)
            await ctx.tick()
            used = sum(0xF << 4 * lane for lane, depth in enumerate(depths) if address < depth)
            assert ctx.get(ram.read_data) & used == word & used

    simulator = Simulator(ram)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
