"""Mutated artifacts, configurations and data files: each must be refused with a sentence, or be what it says it is.

An artifact that loads is used as everything behind `load` would: it is saved and loaded again, its states are bounded, a
schedule is made of it, and the integer model runs it. No case may take more than SECONDS of processor time or MEMORY more
bytes. Case k is the same in every run.
"""

import copy
import io
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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from boards.describe import golden_frames
from emamba import artifact as artifacts
from emamba import datasets
from emamba.base.errors import EmambaError, InputError, SettingError
from emamba.config import FinetuneConfig, QuantizeConfig, Recipe, load_toml, validate
from emamba.ops import Scan
from emamba.ops.certificate import certify
from emamba.run.integer import IntegerModel
from flow.search.space import Space
from rtl.plan.schedule import Schedule
from sim.models import random_artifact

SECONDS, MEMORY = 10, 2 << 30
SHAPES = ("emamba-image", "emamba-per-token", "standard-sequence", "emamba-layer-norm")
EDGES = (
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    7,
    62,
    63,
    64,
    255,
    1 << 20,
    1 << 31,
    -(1 << 31),
    1 << 48,
    1 << 62,
    1 << 63,
    1 << 100,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "a" * 5000,
    "../../etc/passwd",
    "\x00",
    "é",
    [],
    [1],
    [[1]],
    [None],
    {},
    {"a": 1},
    {"bits": 8, "signed": True, "frac": 0},
    "half_even",
    "range",
    "tokens",
    "mars",
    10**30,
    "\ud800",
    "a\nb",
    "a" * 255,
    [0] * 300_000,
    [[[0]] * 4] * 100,
    {str(k): k for k in range(3000)},
    json.loads("[" * 300 + "]" * 300),
)
STORY = ("name", "data", "record")
"""Keys of a manifest that are no integers: each has a mutation of its own."""


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
            "mars": ("mars_test.npz", _mars()),
            "japanese_vowels": ("JapaneseVowels_TEST.ts", _vowels()),
            "wikitext2": ("test.txt", b"The cat sat on the mat .\n" * 40),
            "cifar10": ("cifar10_jpeg.npz", _cifar10()),
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
                _mutate(manifest, rng)
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
            files[name] = _mutate_tensors(files[name], rng)
        if rng.random() < 0.95 and isinstance(manifest.get("files"), dict):
            manifest["files"] |= {name: artifacts._sha256(content) for name, content in files.items()}
        if rng.random() < 0.95:
            manifest["digest"] = artifacts._digest({key: value for key, value in manifest.items() if key != "digest"})
        files["manifest.json"] = json.dumps(manifest).encode()
        if kind == "bytes":
            name = rng.choice(sorted(files))
            files[name] = _mutate_bytes(files[name], rng)
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
            path.write_bytes(_mutate_bytes(self.space if cls is Space else content, rng))
            return lambda: load_toml(cls, path)
        if cls is QuantizeConfig:
            data = QuantizeConfig().model_dump(mode="json")
        elif cls is FinetuneConfig:
            data = FinetuneConfig().model_dump(mode="json")
        else:
            data = tomllib.loads((self.space if cls is Space else content).decode())
        for _ in range(rng.choice((1, 1, 2, 3))):
            _mutate(data, rng)
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
        changed = _mutate_archive(content, rng) if file.endswith("npz") and rng.random() < 0.6 else _mutate_bytes(content, rng)
        (place / file).write_bytes(changed)
        split = "bytes-8" if name == "wikitext2" else None
        return lambda: datasets.load(name, split, place)


KINDS = {"artifacts": Fuzzer.artifact, "configurations": Fuzzer.config, "data files": Fuzzer.dataset}


def fuzz(kind: str, count: int, first: int = 0) -> dict:
    """Cases `first` to `first` + `count` of a kind: how many were refused and loaded, and every fault."""
    result, faults, sentences, slowest = Counter(), [], set(), 0.0
    warnings.simplefilter("ignore")
    before = signal.signal(signal.SIGPROF, _too_slow)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, limits[1]))
    try:
        with tempfile.TemporaryDirectory() as name:
            fuzzer = Fuzzer(Path(name))
            for k in range(first, first + count):
                use = KINDS[kind](fuzzer, random.Random(f"{kind} {k}"))
                start = time.process_time()
                outcome, text = _outcome(use)
                slowest = max(slowest, time.process_time() - start)
                result[outcome] += 1
                if outcome == "refused":
                    sentences.add(text.split(": ")[-1][:40])
                elif outcome == "fault":
                    faults.append(f"case {k}: {text}")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGPROF, before)
    return {
        "cases": count,
        "refused": result["refused"],
        "loaded": result["loaded"],
        "faults": faults,
        "sentences": len(sentences),
        "slowest": round(slowest, 2),
        "limits": [SECONDS, MEMORY >> 30],
    }


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


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


# -- mutations ----------------------------------------------------------------------------------------------------------------


def _places(value, path=()):
    """Every (container, key) of a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(pairs):
        yield value, key
        if isinstance(part, dict | list):
            yield from _places(part)


def _mutate(value, rng: random.Random) -> None:
    places = list(_places(value))
    container, key = rng.choice(places)
    old = container[key]
    match rng.randrange(7):
        case 0:
            del container[key]
        case 1 if isinstance(old, int | float):
            container[key] = old + rng.choice((-1, 1, 2, -2))
        case 2 if isinstance(old, int | float):
            container[key] = old * rng.choice((2, -1, 1000, 0.5, 1 << 20))
        case 3 if isinstance(old, list) and old:
            container[key] = rng.choice((old[:-1], old + old, old[::-1], old * 3, [old]))
        case 4:
            other, name = rng.choice(places)
            container[key] = copy.deepcopy(other[name]) if name in other or (isinstance(other, list) and name < len(other)) else 0
        case 5 if isinstance(container, dict):
            container[rng.choice(("extra", "__class__", "", "bits"))] = copy.deepcopy(old)
        case _:
            container[key] = copy.deepcopy(rng.choice(EDGES))


def _mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        at = rng.randrange(len(data)) if data else 0
        match rng.randrange(6):
            case 0 if data:
                data[at] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at] = rng.choice((0, 255, 10, 34, 44, 46, 58, 91, 93, 123, 125, rng.randrange(256)))
            case 2:
                data = data[:at]
            case 3:
                data[at:at] = rng.randbytes(rng.choice((1, 4, 100)))
            case 4:
                del data[at : at + rng.choice((1, 2, 8, 100))]
            case _:
                start = rng.randrange(len(data)) if data else 0
                data[at:at] = data[start : start + rng.choice((1, 8, 200))]
    return bytes(data)


def _mutate_tensors(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.3:  # the header, as JSON
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        _mutate(header, rng)
        text = json.dumps(header).encode()
        return rng.choice((len(text), len(text), size, 1 << 62)).to_bytes(8, "little") + text + content[8 + size :]
    arrays = dict(load_tensors(content))
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    match rng.randrange(7):
        case 0:
            del arrays[name]
        case 1:
            arrays[name + rng.choice(("x", ".weight", ""))] = np.zeros((2, 2), np.int8)
        case 2:
            arrays[name] = array.reshape(-1) if rng.random() < 0.5 else array[None]
        case 3:
            arrays[name] = array[:-1] if rng.random() < 0.5 else np.concatenate([array, array])
        case 4:
            arrays[name] = array.astype(rng.choice((np.float32, np.float64, np.uint8, np.int64, np.bool_, np.int32)))
        case 5:
            wide = array.astype(np.int64) if array.dtype.kind == "i" else array.astype(np.float32)
            edges = (1 << 62, -(1 << 63), 1 << 40, 300, -300) if array.dtype.kind == "i" else (np.nan, np.inf, -np.inf, 1e38)
            if wide.size:
                wide.reshape(-1)[rng.randrange(wide.size)] = rng.choice(edges)
            arrays[name] = wide
        case _:
            arrays[name] = (
                array.T
                if rng.random() < 0.5
                else np.zeros(rng.choice(((0,), (0, 3), (1,), (1, 1, 1, 1), (1000, 1000))), array.dtype)
            )
    return save_tensors({key: np.ascontiguousarray(value) for key, value in arrays.items()})


def _mutate_archive(content: bytes, rng: random.Random) -> bytes:
    with np.load(io.BytesIO(content)) as archive:
        arrays = dict(archive)
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    match rng.randrange(6):
        case 0:
            del arrays[name]
        case 1:
            arrays[name] = array[:-1] if array.ndim else array
        case 2:
            arrays[name] = array.astype(rng.choice((np.float64, np.int64, np.uint8, np.bool_, np.complex64, "S4", "U3")))
        case 3:
            arrays[name] = array.reshape(-1) if array.ndim > 1 else array[None]
        case 4:
            wide = array.astype(np.float64)
            if wide.size:
                wide.reshape(-1)[rng.randrange(wide.size)] = rng.choice((np.nan, np.inf, -1e30, 1e18, -1, 70))
            arrays[name] = wide
        case _:
            arrays[name] = np.zeros(rng.choice(((), (0,), (3, 0), (1,))), array.dtype)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _mars() -> bytes:
    rng, file = np.random.default_rng(0), io.BytesIO()
    count = np.array([3, 64, 1])
    points = {key: rng.integers(-500, 500, count.sum()).astype(np.int16) for key in ("x", "y", "z", "doppler", "intensity")}
    arrays = {
        "count": count.astype(np.uint8),
        "subject": np.array([1, 2, 2], np.uint8),
        "labels": rng.normal(size=(3, 57)).astype(np.float32),
    }
    np.savez(file, **{f"test_{key}": value for key, value in (points | arrays).items()})
    return file.getvalue()


def _vowels() -> bytes:
    rng = np.random.default_rng(0)
    lines = [
        ":".join([*(",".join(f"{v:.3f}" for v in rng.normal(size=9)) for _ in range(12)), str(1 + k % 9)]) for k in range(50)
    ]
    return ("@problemName JapaneseVowels\n@data\n" + "\n".join(lines) + "\n").encode()


def _cifar10() -> bytes:
    from PIL import Image

    file, picture = io.BytesIO(), io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(picture, "JPEG")
    jpeg = np.frombuffer(picture.getvalue(), np.uint8)
    parts = {"jpeg": np.tile(jpeg, 2), "length": np.full(2, len(jpeg)), "label": np.array([3, 9], np.uint8)}
    np.savez(file, **{f"{part}_{key}": value for part in ("train", "test") for key, value in parts.items()})
    return file.getvalue()
