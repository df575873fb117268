"""A language model's shape on an engine whose weights are streamed: mamba-130m with random weights, and tokens a second."""

import json
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from emamba.artifact import Artifact, Codec
from emamba.base.formats import IntFormat
from emamba.config import ModelConfig
from emamba.graph import Node, build_graph
from emamba.ops import Input, Lookup, Operator, Scan, Weighted
from emamba.run.integer import IntegerModel
from rtl.engine.machine import Machine, Stream
from rtl.engine.schedule import EngineSchedule
from rtl.kit.emit import to_verilog
from rtl.plan.accelerator import accelerator
from sim.executor import RtlExecutor
from sim.models import random_artifact

SHAPE = {"form": "standard", "input": "tokens", "length": 1, "d_model": 768, "d_state": 16, "pool": "none", "norm": "rms",
         "task": "next_token", "carried": True}
LAYERS, VOCABULARY, SMALL = 24, 50_280, 64
RESIDUAL = "INT12·2^-2"
"""Of all residual values: the sum of 24 layers fits it."""
CLOCK_MHZ = 300
BYTES = 17.06e9 * 0.75 / (CLOCK_MHZ * 1e6)
"""A cycle, of the ZCU102's DDR4-2133 of 64 bits at 75 % of its peak (Manev, Vaishnav, Koch, FPT 2019)."""
REFRESH, RECOVERY = 2340, 105
"""Cycles of 7.8 µs and 350 ns."""
MEMORY = {"latency": 60, "refresh": REFRESH, "recovery": RECOVERY, "rate": round(1000 * BYTES * REFRESH / (REFRESH - RECOVERY))}
LANES = {8: 64, 4: 128}
"""By bits of a weight: as many as the memory can feed."""


def machine(bits: int) -> Machine:
    return Machine(LANES[bits], tile=1, stream=Stream(ports=4, bits=128))


def config(layers: int, vocabulary: int) -> ModelConfig:
    return ModelConfig(**SHAPE, blocks=layers, vocabulary=vocabulary, outputs=vocabulary)


def language_model(layers: int = LAYERS, vocabulary: int = VOCABULARY, bits: int = 8, seed: int = 0) -> Artifact:
    """Operators of a small random model, with other weights of the same formats, as often as there are layers; scales by channel
    where weights have 4 `bits`."""
    small = random_artifact(config(2, SMALL), seed, a_bits=8, formats={f"block{k}.residual": RESIDUAL for k in range(2)},
                            weight_bits=bits, weight_scale="dyadic" if bits < 8 else "power_of_two")
    full, rng, operators = config(layers, vocabulary), np.random.default_rng(seed), {}
    graph, ids = build_graph(full), IntFormat((vocabulary - 1).bit_length(), False)
    for node in graph:
        layer, _, end = node.name.partition(".")
        own = small.operators[f"block{min(1, int(layer.removeprefix('block')))}.{end}" if end else layer]
        operators[node.name] = _other(own, node, ids, rng)
    codec = Codec(None, None, np.ones(vocabulary), np.zeros(vocabulary))
    return Artifact("mamba-130m's shape", full, graph, {}, codec, operators, {}, {})


def _other(op: Operator, node: Node, ids: IntFormat, rng: np.random.Generator) -> Operator:
    """The operator with other weights, and as large as it must be."""
    width = node.width
    if isinstance(op, Input):
        return replace(op, o=ids)
    if isinstance(op, Lookup):
        return replace(op, table=_drawn(op.table, node.rows, rng), i=ids)
    if isinstance(op, Weighted):
        return replace(op, weight=_drawn(op.weight, width, rng), bias=np.resize(op.bias, width),
                       multiplier=np.resize(op.multiplier, width))
    if isinstance(op, Scan):
        return replace(op, A=np.roll(op.A, int(rng.integers(width)), 0), D=rng.permutation(op.D))
    return op


def _drawn(values: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    """[rows, …] integers of those in `values`."""
    kind = np.int8 if np.abs(values).max() < 128 else np.int16
    return rng.choice(values.ravel().astype(kind), (rows, values.shape[1]))


def measure(folder: Path, bits: int = 8, layers: int = LAYERS, vocabulary: int = VOCABULARY, tokens: int = 2) -> dict:
    """Builds the engine, and runs tokens on it, one after the other, with the state that each leaves to the next."""
    artifact, begun = language_model(layers, vocabulary, bits), time.process_time()
    schedule = EngineSchedule(artifact, machine(bits))
    verilog = to_verilog(accelerator(schedule))
    built = {"seconds": time.process_time() - begun + _children(), "verilog_bytes": len(verilog),
             "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}
    ids = np.random.default_rng(1).integers(0, vocabulary, (tokens, 1, 1))
    rtl = RtlExecutor(artifact, schedule, folder)
    found = rtl.answer(ids, memory=MEMORY, idle_cycles=10**9)
    differences = int((found != IntegerModel(artifact).answer(ids)).sum())
    cycles = rtl.last.output_cycles[len(rtl.last.output_cycles) // tokens - 1::len(rtl.last.output_cycles) // tokens]
    return {"bits": bits, "layers": layers, "tokens": tokens, "values": found.size, "differences": differences,
            "cycles": np.diff(cycles).tolist(), "first": int(cycles[0] - rtl.last.first_input), **built,
            "memory_bytes": rtl.last.memory_bytes, "stream": schedule.image.report()} | bounds(artifact, schedule, bits)


def bounds(artifact: Artifact, schedule: EngineSchedule, bits: int) -> dict:
    """Cycles a token by the lanes, by the ports, and by the memory for the image and for the weights alone."""
    weights = sum(op.weight.size for op in artifact.operators.values() if isinstance(op, Weighted))
    return {"parameters": weights, "compute_cycles": sum(schedule.cycles_per_tile[1:]),
            "image_cycles": round(schedule.image.report()["bytes_per_frame"] / BYTES),
            "bound_cycles": round(weights * bits / 8 / BYTES)}


def _children() -> float:
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for bits in LANES:
            print(json.dumps(measure(Path(folder), bits)), flush=True)
