"""The small model of the system's tests and benchmarks, and what is planted in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import numpy as np

from emamba.artifact import Artifact
from emamba.base.formats import IntFormat
from emamba.config import ModelConfig
from emamba.ops import Scan, Weighted
from rtl.plan import schedule as scheduling

from .models import random_artifact, random_inputs

TINY = {"input": "sequence", "features": 3, "length": 5, "d_model": 4, "d_state": 2, "dt_rank": 1, "blocks": 1,
        "task": "regression", "outputs": 3}


def artifact_of(seed: int = 0, **changes) -> Artifact:
    """Random weights, and a digest that stands for them."""
    return replace(random_artifact(ModelConfig(**TINY | changes), seed), digest=f"{seed:02x}" * 32)


def other(artifact: Artifact) -> Artifact:
    """The same structure with other weights."""
    rng = np.random.default_rng(1)

    def shuffled(op):
        if isinstance(op, Weighted):
            return replace(op, weight=rng.permuted(op.weight, axis=1), bias=rng.permutation(op.bias))
        return replace(op, A=rng.permuted(op.A), D=rng.permutation(op.D)) if isinstance(op, Scan) else op

    return replace(artifact, digest="fe" * 32, operators={name: shuffled(op) for name, op in artifact.operators.items()})


def frames_of(artifact: Artifact, count: int, seed: int = 0) -> np.ndarray:
    return artifact.codec.encode(random_inputs(artifact.config, count, seed), artifact.input)


def narrowed(artifact: Artifact, bits: int) -> Artifact:
    """Narrows the scans' states by `bits`, so that they are clipped."""
    def less(format: IntFormat) -> IntFormat:
        return IntFormat(format.bits - bits, format.signed, format.frac)

    return replace(artifact, operators={
        name: replace(op, h=less(op.h), h_wide=less(op.h_wide)) if isinstance(op, Scan) else op
        for name, op in artifact.operators.items()})


@contextmanager
def slowed(block: str, cycles: int) -> Iterator[None]:
    """Schedules made here give a block as few multipliers as `cycles` a token need."""
    fold = scheduling.fold
    with mock.patch.object(scheduling, "fold", lambda artifact, node, asked, realization: fold(
            artifact, node, cycles if node.name == block else asked, realization)):
        yield
