"""The CPU that a user would otherwise take: the same frames through PyTorch, NumPy and a plain C loop, in turn in one run."""

import itertools
import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emamba.artifact import Artifact
from emamba.executors import BATCH, make_executor

from .integer import FLAGS, IntegerLoop, compiler

Array = np.ndarray

LARGE_BATCHES = (64, 128, 256)
"""PyTorch's throughput is that of the best of them; larger ones leave the caches."""
FRAMES = 256
"""Of one call of the C loop, where it is not called for each."""
REPETITIONS = 60
DURATION = 0.005
"""Seconds of a repetition, at least: short enough that some of them have a core of a busy machine to themselves."""


@dataclass
class Candidate:
    """One way to compute frames: `function` takes the `inputs` in turn, each of `frames` frames; `facts` go into the result."""

    executor: str
    batch: int
    threads: int
    function: Callable
    inputs: Sequence
    frames: int
    facts: dict
    us_per_frame: float = float("inf")

    def repeat(self) -> None:
        """One repetition; the best one counts."""
        start = time.perf_counter()
        for count, item in enumerate(itertools.cycle(self.inputs), 1):
            self.function(item)
            if (seconds := time.perf_counter() - start) >= DURATION:
                self.us_per_frame = min(self.us_per_frame, seconds * 1e6 / (count * self.frames))
                return

    def row(self) -> dict:
        return {"executor": self.executor, "batch": self.batch, "threads": self.threads,
                "us_per_frame": round(self.us_per_frame, 2), "frames_per_second": round(1e6 / self.us_per_frame)} | self.facts


def measure(artifact: Artifact, tokens: Array) -> dict:
    """Microseconds a frame of each executor on `tokens` [frames, L, input width] in the user's unit: the best repetition, and all
    executors take turns, so that whatever else the machine does hits all alike.

    PyTorch and C start from encoded inputs, as the hardware does, and run on one thread: a frame is too small to share, and other
    cores can take other frames. NumPy's executors encode on the way, which is little of their time, and use up to `threads`.
    `mismatches` are the head's integers that differ from the integer model's, `largest_difference` is PyTorch's from the NumPy
    float executor in the head's own scale, both over all frames.
    """
    machine = _machine()
    executors = {name: make_executor(artifact, name) for name in ("float", "int")}
    heads = {name: np.concatenate([run(part, ["head"])["head"] for part in _split(tokens, BATCH)])
             for name, run in executors.items()}
    choices, compilation = _torch(artifact, tokens, heads["float"])
    batch = min(BATCH, len(tokens))
    for name, run in executors.items():
        title = {"float": "NumPy, float64", "int": "NumPy, integer model"}[name]
        parts = _split(tokens[:len(tokens) // batch * batch], batch)
        choices.append([Candidate(title, batch, _cores(), lambda part, run=run: run(part, ["head"]), parts, batch, {})])
    choices += _c(artifact, tokens, heads["int"])
    for _ in range(REPETITIONS):
        for candidate in itertools.chain(*choices):
            candidate.repeat()
    return {"machine": machine, "frames": len(tokens), "repetitions": REPETITIONS, "torch_compile": compilation,
            "rows": [min(choice, key=lambda candidate: candidate.us_per_frame).row() for choice in choices]}


def table(result: dict) -> list[str]:
    """The rows of `measure` as Markdown."""
    return [
        "## The CPU that a user would otherwise take", "",
        f"{result['machine']['cpu']}, {result['machine']['cores']} cores; {result['frames']:,} MARS frames, best of repetitions "
        "that take turns, from encoded inputs.",
        "A mismatch would be a value of the head that differs from the integer model's.", "",
        "| executor | batch | threads | µs a frame | frames per second | mismatches |", "| --- | --- | --- | --- | --- | --- |",
        *(f"| {row['executor']} | {row['batch']:,} | {row['threads']} | {row['us_per_frame']:,.1f} "
          f"| {row['frames_per_second']:,} | {row.get('mismatches', '–')} |" for row in result["rows"])]


def _c(artifact: Artifact, tokens: Array, head: Array) -> list[list[Candidate]]:
    """One frame after another on one thread: a call from Python for each frame, and one for many."""
    loop = IntegerLoop(artifact)
    integers = artifact.codec.encode(tokens, artifact.input)
    choices = []
    for frames in (1, min(FRAMES, len(tokens))):
        calls = [loop.prepare(part) for part in _split(integers, frames)]
        facts = {"mismatches": int((np.concatenate([call() for call in calls]) != head).sum())}
        title = f"plain C, integers, {'a call a frame' if frames == 1 else f'a call for {frames} frames'}"
        choices.append([Candidate(title, 1, 1, lambda call: call(), calls[:len(tokens) // frames], frames, facts)])
    return choices


def _torch(artifact: Artifact, tokens: Array, head: Array) -> tuple[list[list[Candidate]], dict]:
    """PyTorch on one thread, eager and compiled, at batch 1 and at large batches; and what is known of the compilation."""
    import torch
    from torch._inductor.utils import fresh_cache

    from emamba.network import Mamba

    torch.set_num_threads(1)
    model = Mamba(artifact.config).eval()
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in artifact.weights.items()})
    inputs = artifact.codec.standardize(tokens)
    inputs = torch.from_numpy(inputs[..., 0].astype(np.int64) if artifact.config.input == "tokens" else inputs.astype(np.float32))
    choices = [[1], sorted({min(batch, len(tokens)) for batch in LARGE_BATCHES})]
    first_calls = []

    def candidate(title: str, function: Callable, batch: int) -> Candidate:
        """A candidate that has run once over all frames."""
        parts = inputs[:len(inputs) // batch * batch].split(batch)
        start = time.perf_counter()
        function(parts[0])
        first_calls.append(time.perf_counter() - start)
        values = torch.cat([function(part) for part in parts]).numpy().reshape(-1, *head.shape[1:])
        facts = {"largest_difference": float(np.abs(values - head[:len(values)]).max())}
        return Candidate(title, batch, 1, function, parts, batch, facts)

    function = torch.inference_mode()(model)
    eager = [[candidate("PyTorch eager, float32", function, batch) for batch in batches] for batches in choices]
    first_calls.clear()
    with fresh_cache():
        try:
            function = torch.inference_mode()(torch.compile(model))
            compiled = [[candidate("PyTorch compiled, float32", function, batch) for batch in batches] for batches in choices]
        except Exception as error:  # a compiler that is missing or does not fit fails in many ways
            reason = str(error).strip().partition("\n")[0]
            return eager, {"seconds": None, "failure": f"torch.compile raised {type(error).__name__}: {reason}"}
    return eager + compiled, {"seconds": round(sum(first_calls), 1), "failure": None}


def _split(x: Array, batch: int) -> list[Array]:
    return [x[k:k + batch] for k in range(0, len(x), batch)]


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _machine() -> dict:
    import torch

    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    cc = subprocess.run([compiler(), "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    return {"cpu": cpu, "cores": _cores(), "load_average": round(os.getloadavg()[0], 2), "torch": torch.__version__,
            "numpy": np.__version__, "cc": cc, "cc_flags": " ".join(FLAGS)}
