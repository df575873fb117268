"""Mutated artifacts, configurations and data files: each must be refused with a sentence, or be what it says it is.

An artifact that loads is used as everything after `load` would: it is saved and loaded again, its states are bounded, a
schedule is made of it, and the integer model runs it. No case may take more than SECONDS of processor time or MEMORY more
bytes. Cases are the same in every run. Hypothesis draws and shrinks them; the mutations, and the guards of time and memory, are
kept by hand: its strategies know no safetensors, no digest that is right again after a change, and no limit of memory.
"""

import copy
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import tempfile
import time
import tomllib
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from boards.describe import golden_frames
from emamba import artifact as artifacts
from emamba import datasets
from emamba.base.errors import EmambaError, InputError, SettingError
from emamba.config import QuantizeConfig, Recipe, load_toml, validate
from emamba.ops import Scan
from emamba.ops.certificate import certify
from emamba.run.integer import IntegerModel
from emamba.training.settings import FinetuneConfig
from flow.search.space import Space
from rtl.plan.schedule import Schedule
from sim.models import random_artifact

from . import corpus
from .mutations import EDGES, mutate, mutate_archive, mutate_bytes, mutate_tensors

SECONDS, MEMORY = 10, 2 << 30
SHAPES = ("emamba-image", "emamba-per-token", "standard-sequence", "emamba-layer-norm")
BATCH = 500
"""Cases between two new starts of hypothesis, which keeps what it drew."""
RANDOM = st.randoms(use_true_random=False)
EVERY = {"deadline": None, "database": None, "phases": (Phase.generate, Phase.shrink), "suppress_health_check": list(HealthCheck)}
STORY = ("name", "data", "record")
"""Keys of a manifest that are not integers: each has a mutation of its own."""


class Slow(BaseException):
    """Not an Exception: no handler may take it for a fault of the file."""


def _too_slow(*_):
    raise Slow


class Fuzzer:
    """Mutates what `make` of a kind gives."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.originals = []
        for shape in SHAPES:
            place = folder / shape
            artifacts.save(random_artifact(shape), place)
            manifest = json.loads((place / "manifest.json").read_text())
            files = {name: (place / name).read_bytes() for name in ("weights.safetensors", "float.safetensors")}
            self.originals.append((manifest, files))
        self.configs = [(path, path.read_bytes()) for path in sorted(Path("models/recipes").glob("*.toml"))]
        self.space = Path("models/searches/mars.toml").read_bytes()
        self.data = {
            "mars": ("mars_test.npz", corpus.mars()),
            "japanese_vowels": ("JapaneseVowels_TEST.ts", corpus.vowels()),
            "wikitext2": ("test.txt", b"The cat sat on the mat .\n" * 40),
            "cifar10": ("cifar10_jpeg.npz", corpus.cifar10()),
            "radhar": ("radhar_points.npz", corpus.radhar()),
        }

    # -- artifacts ------------------------------------------------------------------------------------------------------------

    def artifact(self, rng: random.Random) -> Callable[[], None]:
        manifest, files = copy.deepcopy(rng.choice(self.originals))
        kind = rng.choice(("manifest",) * 6 + ("story",) * 2 + ("tensors",) * 3 + ("bytes",) * 2 + ("files",))
        place = self.folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        if kind == "manifest":
            for _ in range(rng.choice((1, 1, 1, 2, 3))):
                mutate(manifest, rng)
        if kind == "story":
            key = rng.choice(STORY)
            keys = {"data": ("name", "split", "note", "unit", "unit_scale", "x"),
                    "record": ("golden", "answers", "training", "quantize", "certificate", "figures", "x")}.get(key)
            value = copy.deepcopy(rng.choice(EDGES))
            if keys:
                manifest[key][rng.choice(keys)] = rng.choice((value, {"recipe": value}, {"x": [value]}))
            else:
                manifest[key] = value
        if kind == "tensors":
            name = rng.choice(sorted(files))
            files[name] = mutate_tensors(files[name], rng)
        if rng.random() < 0.95 and isinstance(manifest.get("files"), dict):
            manifest["files"] |= {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        if rng.random() < 0.95:
            manifest["digest"] = _digest({key: value for key, value in manifest.items() if key != "digest"})
        files["manifest.json"] = json.dumps(manifest).encode()
        if kind == "bytes":
            name = rng.choice(sorted(files))
            files[name] = mutate_bytes(files[name], rng)
        for name, content in files.items():
            (place / name).write_bytes(content)
        if kind == "files":
            victim = place / rng.choice(sorted(files))
            victim.unlink()
            rng.choice(
                (
                    lambda: None,
                    victim.mkdir,
                    lambda: victim.symlink_to(place),
                    lambda: victim.symlink_to("/dev/null"),
                    victim.touch,
                    lambda: os.mkfifo(victim),
                    lambda: victim.symlink_to("/dev/zero"),
                )
            )()
        return lambda: self._use(artifacts.load(place))

    def _use(self, artifact: artifacts.Artifact) -> None:
        again = self.folder / "again"
        shutil.rmtree(again, ignore_errors=True)
        digest = artifacts.save(artifact, again)
        assert artifacts.load(again).digest == digest
        for op in artifact.operators.values():
            if isinstance(op, Scan):
                certify(op)
        config = artifact.config
        Schedule(artifact, 4)
        golden_frames(artifact)
        if "name" in artifact.data:
            with suppress(InputError, SettingError):
                datasets.load(artifact.data["name"], artifact.data.get("split"), self.folder / "none")
        rng = np.random.default_rng(0)
        i = artifact.input
        tokens = rng.integers(i.min, i.max, (2, min(config.tokens, 64), artifact.operators["input"].channels), endpoint=True)
        if config.tokens <= 64:
            values = IntegerModel(artifact).run(tokens)
            for name, value in values.items():
                o = artifact.operators[name].o
                assert o.min <= value.min() and value.max() <= o.max, f"{name} leaves its format"

    # -- configurations -------------------------------------------------------------------------------------------------------

    def config(self, rng: random.Random) -> Callable[[], None]:
        _, content = rng.choice(self.configs)
        cls = rng.choice((Recipe, Recipe, QuantizeConfig, FinetuneConfig, Space))
        if rng.random() < 0.5:
            path = self.folder / "case.toml"
            path.write_bytes(mutate_bytes(self.space if cls is Space else content, rng))
            return lambda: load_toml(cls, path)
        if cls is QuantizeConfig:
            data = QuantizeConfig().model_dump(mode="json")
        elif cls is FinetuneConfig:
            data = FinetuneConfig().model_dump(mode="json")
        else:
            data = tomllib.loads((self.space if cls is Space else content).decode())
        for _ in range(rng.choice((1, 1, 2, 3))):
            mutate(data, rng)
        return lambda: validate(cls, data, "case.toml")

    # -- data files -----------------------------------------------------------------------------------------------------------

    def dataset(self, rng: random.Random) -> Callable[[], None]:
        name = rng.choice(sorted(self.data))
        file, content = self.data[name]
        place = self.folder / "data"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        if name == "japanese_vowels":
            (place / "JapaneseVowels_TRAIN.ts").write_bytes(content)
        if name == "wikitext2":
            (place / "valid.txt").write_bytes(content)
        changed = mutate_archive(content, rng) if file.endswith("npz") and rng.random() < 0.6 else mutate_bytes(content, rng)
        (place / file).write_bytes(changed)
        split = "bytes-8" if name == "wikitext2" else None
        return lambda: datasets.load(name, split, place)


KINDS = {"artifacts": Fuzzer.artifact, "configurations": Fuzzer.config, "data files": Fuzzer.dataset}


def fuzz(kind: str, count: int) -> dict:
    """`count` cases of a kind: how many were refused and loaded, and every fault, by the smallest case that has it."""
    result, faults, sentences, slowest = Counter(), [], set(), 0.0

    def case(rng: random.Random) -> None:
        nonlocal slowest
        use = KINDS[kind](fuzzer, rng)
        start = time.process_time()
        outcome, text = _outcome(use)
        slowest = max(slowest, time.process_time() - start)
        result[outcome] += 1
        if outcome == "refused":
            sentences.add(text.split(": ")[-1][:40])
        assert outcome != "fault", text

    with _guarded(), tempfile.TemporaryDirectory() as name:
        fuzzer = Fuzzer(Path(name))
        for first in range(0, count, BATCH):
            cases = seed(first)(settings(max_examples=min(BATCH, count - first), **EVERY)(given(RANDOM)(case)))
            try:
                cases()
            except AssertionError as error:
                faults.append(f"batch from case {first}: {error}")
    return {
        "cases": count,
        "refused": result["refused"],
        "loaded": result["loaded"],
        "faults": faults,
        "sentences": len(sentences),
        "slowest": round(slowest, 2),
        "limits": [SECONDS, MEMORY >> 30],
    }


@contextmanager
def _guarded() -> Iterator[None]:
    """Limits the memory and the time of what a case does."""
    before, limits = signal.signal(signal.SIGPROF, _too_slow), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, limits[1]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGPROF, before)


def _outcome(use: Callable[[], None]) -> tuple[str, str]:
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        use()
        return "loaded", ""
    except EmambaError as error:
        text = str(error)
        if not text.strip() or "\n" in text or len(text) > 2000:
            return "fault", f"no sentence: {text[:200]!r}"
        return "refused", text
    except Slow:
        return "fault", f"more than {SECONDS} s"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        ours = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if "/emamba/" in frame.filename or "/rtl/" in frame.filename
        ]
        where = ours[-1] if ours else where
        return "fault", f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}: {str(error)[:160]}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _digest(manifest: dict) -> str:
    """As docs/architecture.md says."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
