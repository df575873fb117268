"""The CPU that a user would otherwise take: the same frames through PyTorch, NumPy and the C loop, in turn in one run."""

import copy
import itertools
import operator
import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emamba.artifact import Artifact
from emamba.run.compiled import FLAGS, IntegerLoop, compiler
from emamba.run.executors import BATCH, make_executor
from emamba.run.integer import THREADS, IntegerModel

Array = np.ndarray

LARGE_BATCHES = (64, 128, 256, 512)
"""PyTorch's throughput is the best over these; larger ones leave the caches."""
FRAMES = 256
"""Of one call of the compiled loop, where it is not called for each."""
CALLS = 64
"""Prepared calls of a frame each: a stream has one, whose input changes; a thousand do not stay in the caches."""
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

    PyTorch and C start from encoded inputs, as the hardware does; the executors of NumPy and of the product encode on the way.
    PyTorch runs on one thread, since other cores can take other frames, and at large batches on as many as the integer executor
    too. `mismatches` are the head's integers that differ from the integer model's, `largest_difference` is PyTorch's from the
    NumPy float executor in the head's own scale, both over all frames.
    """
    machine = _machine()
    model = IntegerModel(artifact)
    runs = {"NumPy, float64": (make_executor(artifact, "float"), _cores()),
            "NumPy, integer model": (lambda part, keep: model.run(artifact.codec.encode(part, artifact.input), keep), THREADS),
            "emamba's int executor": (make_executor(artifact, "int"), THREADS)}
    heads = {title: np.concatenate([run(part, ["head"])["head"] for part in _split(tokens, BATCH)])
             for title, (run, _) in runs.items()}
    choices, compilation = _torch(artifact, tokens, heads["NumPy, float64"])
    batch = min(BATCH, len(tokens))
    parts = _split(tokens[:len(tokens) // batch * batch], batch)
    integers = heads["NumPy, integer model"]
    for title, (run, threads) in runs.items():
        facts = {} if heads[title].dtype != integers.dtype else {"mismatches": int((heads[title] != integers).sum())}
        choices.append([Candidate(title, batch, threads, lambda part, run=run: run(part, ["head"]), parts, batch, facts)])
    choices += _c(artifact, tokens, integers)
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
    """A call from Python for each frame, and one for many, on one thread and on more; by vectors, and by the plain C."""
    loop, plain = IntegerLoop(artifact), IntegerLoop(artifact, vectors=False)
    integers = artifact.codec.encode(tokens, artifact.input)
    many, choices = min(FRAMES, len(tokens)), []
    cases = [("plain C", plain, 1, 1), ("plain C", plain, many, 1), ("vectors", loop, 1, 1), ("vectors", loop, many, 1),
             ("vectors", loop, many, THREADS)]
    if loop.tables:
        narrow = IntegerLoop(artifact, options=("-mno-avx512f", "-mno-avxvnni"))
        cases += [("AVX2 alone", narrow, 1, 1), ("AVX2 alone", narrow, many, 1)]
    for title, chosen, frames, threads in cases:
        calls = [chosen.prepare(part, threads) for part in _split(integers, frames)]
        facts = {"mismatches": int((np.concatenate([call() for call in calls]) != head).sum())}
        title = f"C loop, {title}, {'a call a frame' if frames == 1 else f'a call for {frames} frames'}"
        choices.append([Candidate(title, 1, threads, operator.call, calls[:min(CALLS, len(tokens) // frames)], frames, facts)])
    return choices


def _torch(artifact: Artifact, tokens: Array, head: Array) -> tuple[list[list[Candidate]], dict]:
    """PyTorch at batch 1 and at large batches, on one thread and on more: eager, with emamba's kernels, and compiled; and what
    is known of the compilation."""
    import torch
    from torch._inductor.utils import fresh_cache

    from emamba.training.network import Network

    model = Network(artifact.config).eval()
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in artifact.weights.items()})
    plain = _without_kernels(model)
    inputs = artifact.codec.standardize(tokens)
    inputs = torch.from_numpy(inputs[..., 0].astype(np.int64) if artifact.config.input == "tokens" else inputs.astype(np.float32))
    large = sorted({min(batch, len(tokens)) for batch in LARGE_BATCHES})
    first_calls = []

    def candidate(title: str, function: Callable, batch: int, threads: int) -> Candidate:
        """A candidate that has run once over all frames."""
        def run(part: torch.Tensor) -> torch.Tensor:
            torch.set_num_threads(threads)
            return function(part)

        parts = inputs[:len(inputs) // batch * batch].split(batch)
        start = time.perf_counter()
        run(parts[0])
        first_calls.append(time.perf_counter() - start)
        values = torch.cat([run(part) for part in parts]).numpy().reshape(-1, *head.shape[1:])
        facts = {"largest_difference": float(np.abs(values - head[:len(values)]).max())}
        return Candidate(title, batch, threads, run, parts, batch, facts)

    def rows(title: str, function: Callable) -> list[list[Candidate]]:
        cases = [([1], 1), (large, 1), (large, THREADS)]
        return [[candidate(title, function, batch, threads) for batch in batches] for batches, threads in cases]

    eager = rows("PyTorch eager, float32", torch.inference_mode()(plain))
    title = "PyTorch eager with emamba's kernels, float32"
    kernels = [[candidate(title, torch.inference_mode()(model), batch, THREADS) for batch in large]]
    first_calls.clear()
    with fresh_cache():
        try:
            compiled = rows("PyTorch compiled, float32", torch.inference_mode()(torch.compile(plain)))
        except Exception as error:  # a compiler that is missing or does not fit fails in many ways
            reason = str(error).strip().partition("\n")[0]
            return eager + kernels, {"seconds": None, "failure": f"torch.compile raised {type(error).__name__}: {reason}"}
    return eager + compiled + kernels, {"seconds": round(sum(first_calls), 1), "failure": None}


def _without_kernels(model):
    """A copy of the network in PyTorch alone, by the definitions of its loops: what a user has without emamba's kernels."""
    from emamba.training.kernels import simple_conv, simple_scan
    from emamba.training.network import Torch

    model = copy.deepcopy(model)
    model.xp = Torch()
    model.xp.conv, model.xp.scan = simple_conv, simple_scan
    return model


def _split(x: Array, batch: int) -> list[Array]:
    return [x[k:k + batch] for k in range(0, len(x), batch)]


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _machine() -> dict:
    import torch

    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    cc = subprocess.run([*compiler(), "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    return {"cpu": cpu, "cores": _cores(), "load_average": round(os.getloadavg()[0], 2), "torch": torch.__version__,
            "numpy": np.__version__, "cc": cc, "cc_flags": " ".join(FLAGS)}
