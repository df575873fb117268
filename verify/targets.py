"""What is mutated and covered: blocks and a small model, with tokens for them, and the answer in beats and cycles."""

from dataclasses import dataclass, replace

import numpy as np
from amaranth.lib.wiring import Component

from emamba.config import ModelConfig
from emamba.run.integer import IntegerModel
from rtl.blocks.activation import Activation
from rtl.blocks.linear import Linear
from rtl.blocks.pool import Pool
from rtl.plan.accelerator import Accelerator
from rtl.plan.schedule import Schedule
from sim import cases
from sim.models import random_artifact, random_inputs

from .equality import Joined

MANY = 3000
"""Sequences."""
TOKENS = 8
"""Of a sequence, so that a state can grow."""


def _narrow(op):
    """Sums, multipliers and shift so small that the least bits show in the result."""
    return replace(op, weight=op.weight >> 2, bias=op.bias >> 4, multiplier=op.multiplier % 16, shift=8)


BLOCKS = {
    "linear": lambda: cases.linear_block(5, 4, 2, 2),
    "linear, pairs": lambda: cases.linear_block(5, 4, 3, 4, products=cases.Products.PAIRS),
    "linear, dyadic, ReLU": lambda: Linear(_narrow(cases.linear(cases.rng(), 4, 3, dyadic=True, relu=True)), 2, 3),
    "conv1d": lambda: cases.conv1d_block(5, 3, 2, 3),
    "range_norm": lambda: cases.range_norm_block(5, 2, 8),
    "layer_norm": lambda: cases.layer_norm_block(5, 2, 8),
    "activation": lambda: cases.activation_block("silu"),
    "scan": lambda: Joined(cases.scan_block(2, 3, 2, 2)),
    "scan, table": lambda: Joined(cases.scan_block(2, 2, 2, 2, table=True)),
    "multiply": lambda: Joined(cases.multiply_block(3, 3)),
    "add": lambda: Joined(cases.add_block(3, 3)),
    "pool": lambda: cases.pool_block(5, 3, True),
    "lookup": lambda: cases.lookup_block(11, 5, 2),
}
TINY = ModelConfig(
    form="emamba",
    input="sequence",
    features=2,
    length=3,
    d_model=2,
    expand=1,
    d_state=2,
    dt_rank=1,
    d_conv=2,
    blocks=1,
    pool="none",
    norm="none",
    task="regression",
    outputs=1,
)
TINY_SEED = 2
"""The least model whose answers show, with weights of this seed, what its state was before a sequence."""
WHOLE = "whole model"


@dataclass
class Target:
    """What is mutated, tokens for it, and the answer in beats and cycles. If `exhausted`, every lane gets every code, and keeps
    none."""

    component: Component
    tokens: np.ndarray
    expected: np.ndarray
    cycles: list[int] | None
    idle_cycles: int = 2000
    exhausted: bool = False


def target(name: str, sequences: int = MANY) -> Target:
    if name == WHOLE:
        artifact = random_artifact(TINY, TINY_SEED)
        schedule = Schedule(artifact, 2)
        tokens = artifact.codec.encode(random_inputs(artifact.config, sequences), artifact.input)
        tokens[::3] = np.random.default_rng(1).integers(artifact.input.min, artifact.input.max + 1, tokens[::3].shape)
        answer = IntegerModel(artifact).answer(tokens)
        return Target(Accelerator(schedule), tokens, answer, schedule.timetable(len(tokens)))
    block = BLOCKS[name]()
    inner = block.block if isinstance(block, Joined) else block
    length = inner.tokens if isinstance(inner, Pool) else TOKENS
    parts = cases.tokens_of(inner, sequences, length)
    for part in parts:  # every second random sequence has small values
        part[1:sequences:2] >>= np.random.default_rng(2).integers(0, 8, (sequences // 2, 1, 1))
    arrivals = [[0] * (len(parts[0]) * length * port.beats) for port in inner.inputs.values()]
    exhausted = isinstance(inner, Activation) and all(
        len(np.unique(parts[0][..., lane::inner.output.lanes])) == 1 << inner.op.i.bits for lane in range(inner.output.lanes))
    return Target(block.build(), np.concatenate(parts, 2), inner.model(*parts), inner.schedule(*arrivals)[-1],
                  exhausted=exhausted)
