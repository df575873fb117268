"""Changes of files for `verify.fuzz`: of JSON and TOML values, bytes, tensors and archives."""

import copy
import io
import json
import random

import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

EDGES = (
    None, True, False, -1, 0, 1, 2, 7, 62, 63, 64, 255, 1 << 20, 1 << 31, -(1 << 31), 1 << 48, 1 << 62, 1 << 63, 1 << 100,
    0.5, -0.0, 1e308, float("nan"), float("inf"), "", "x", "a" * 5000, "../../etc/passwd", "\x00", "é", [], [1], [[1]],
    [None], {}, {"a": 1}, {"bits": 8, "signed": True, "frac": 0}, "half_even", "range", "tokens", "mars", 10**30, "\ud800",
    "a\nb", "a" * 255, [0] * 300_000, [[[0]] * 4] * 100, {str(k): k for k in range(3000)}, json.loads("[" * 300 + "]" * 300),
)
"""Values that no place of a file expects, or one that does but not here."""


def _places(value, path=()):
    """Every (container, key) of a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(pairs):
        yield value, key
        if isinstance(part, dict | list):
            yield from _places(part)


def mutate(value, rng: random.Random) -> None:
    """Changes one place of a JSON value."""
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


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flips, drops, repeats and inserts bytes."""
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


def mutate_tensors(content: bytes, rng: random.Random) -> bytes:
    """Changes the header, or an array, of a safetensors file."""
    if rng.random() < 0.3:  # the header, as JSON
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        mutate(header, rng)
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


def mutate_archive(content: bytes, rng: random.Random) -> bytes:
    """Changes an array of an .npz file."""
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
