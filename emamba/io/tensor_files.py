"""Reads a checkpoint of another implementation: its tensors, and the config.json beside them. No torch for safetensors.

A folder holds `model.safetensors` or `pytorch_model.bin`, whole or in parts that an index names; a file is one of them, or an
archive of NumPy. They are untrusted input: a torch file is read as plain tensors only, so no code in it can run.
"""

import io
import json
import math
import os
import re
import warnings
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import safetensors

from ..base.errors import InputError, ToolMissing, brief, extra
from .disguises import ARRAYS, HEAD, PACKED, TENSORS, check_disguise
from .files import check_regular, read_bytes
from .wrappers import is_mamba, unwrapped

Array = np.ndarray

FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Looked for in a folder, in this order."""
TORCH = (".bin", ".pt", ".pth", ".ckpt")
KINDS = (".safetensors", ".npz", *TORCH)
TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
NESTED = 4
"""Tables inside each other in which a torch file's tensors are looked for."""
OWN = {"checkpoint.json": "a checkpoint of this project: give it to emamba quantize", "manifest.json": "an artifact of this "
       "project already", "adapter_config.json": "an adapter of PEFT: merge it into its model (merge_and_unload()) and save that",
       "zero_to_fp32.py": "a checkpoint of DeepSpeed, in parts: run zero_to_fp32.py in it and give what that writes", ".metadata":
       "a distributed checkpoint: make one file of it with torch.distributed.checkpoint.format_utils.dcp_to_torch_save"}
"""Files that tell what a folder is."""


def read_checkpoint_files(path: Path | str) -> tuple[dict[str, Array], dict | None, tuple[str, ...]]:
    """Tensors by name, float32 or float64, the settings of config.json, None where there is none, and what was left out."""
    path = Path(path)
    folder = path if os.path.isdir(path) else path.parent
    if path is folder:
        path = _find_file(folder)
    elif not path.name.endswith((".index.json", *KINDS)):
        what = "is no file of tensors" if os.path.exists(path) else "does not exist"
        raise InputError(f"{path} {what}: name a folder, or a file whose name ends with {', '.join(KINDS)}")
    settings = _read_json(folder / "config.json") if os.path.exists(folder / "config.json") else None
    notes: list[str] = []
    tensors = _read_index(path, notes) if path.name.endswith(".index.json") else _read_file(path, notes)
    return tensors, settings, tuple(notes)


def _find_file(folder: Path) -> Path:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}") from None
    if found := next((name for name in FILES if name in names), None):
        return folder / found
    lacks = f"{folder} has none of {', '.join(FILES)}: "
    if told := next((what for name, what in OWN.items() if name in names), None):
        raise InputError(f"{lacks}it is {told}")
    others = [name for name in names if name.endswith(KINDS) or name.startswith("checkpoint-")]
    raise InputError(f"{lacks}name the folder or the file of a trained checkpoint"
                     + (f", such as {folder / others[-1]}" if others else ""))


def read_array(path: Path | str) -> Array:
    """The array in a .npy file, in this machine's order of bytes and rows."""
    content = read_bytes(path)
    check_disguise(path, content, ARRAYS)
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, kind = read(stream)
        if any(size < 0 for size in shape):
            raise ValueError(shape)
    except Exception:  # a damaged header raises nearly every kind of exception
        raise InputError(f"{path} is no array of numbers in NumPy's format .npy: write it with numpy.save") from None
    if kind.hasobject:
        raise InputError(f"{path} is no array of numbers: its dtype is {kind}, whose values are objects of Python: give it a "
                         "dtype of numbers, as numpy.array(x, dtype=int) does, and write it again")
    needed, left = math.prod(shape) * kind.itemsize, len(content) - stream.tell()
    if left < needed:
        raise InputError(f"{path} has {left} of the {needed} bytes of its array of the shape {list(shape)}: copy it again")
    flat = np.frombuffer(content, kind, math.prod(shape), stream.tell())
    return np.array(flat.reshape(shape, order="F" if fortran else "C"), kind.newbyteorder("="), order="C")


def to_array(name: str, value: Any, where: str) -> Array:
    """A tensor of torch, of one of TYPES, or an array → float32 or float64."""
    if hasattr(value, "detach"):
        kind = str(value.dtype).removeprefix("torch.")
        if kind not in ("float64", "float32", "float16", "bfloat16"):
            raise _wrong_type(name, kind, where)
        if value.is_meta:
            raise InputError(f"{where}: tensor '{name}' is on the device meta, where it has no values: load the weights first")
        value = value.full_tensor() if hasattr(value, "full_tensor") else value  # in parts on several devices
        return (value if kind == "float64" else value.float()).detach().cpu().numpy()
    value = np.asarray(value)
    if value.dtype not in (np.float64, np.float32, np.float16):
        raise _wrong_type(name, str(value.dtype), where)
    return value.astype(np.float32) if value.dtype == np.float16 else value


def _wrong_type(name: str, kind: str, where: str) -> InputError:
    return InputError(f"{where}: tensor '{name}' is of the type {kind}; only float64, float32, float16 and bfloat16 can be "
                      "imported: save the weights before they were quantized")


def _read_file(path: Path, notes: list[str]) -> dict[str, Array]:
    if path.name.endswith(TORCH):
        return _read_torch(path, notes)
    content = read_bytes(path)
    if path.name.endswith(".npz"):
        return _read_arrays(path, content)
    check_disguise(path, content, TENSORS)
    try:
        parts = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file ({brief(error)}): copy it again") from None
    tensors = {}
    for name, part in parts:
        kind, shape = part["dtype"], part["shape"]
        if not shape and kind not in TYPES:
            notes.append(f"'{name}' is a counter, not read")
            continue
        if kind not in TYPES:
            raise _wrong_type(name, kind, str(path))
        values = np.frombuffer(part["data"], TYPES[kind]).reshape(shape)
        if kind == "BF16":  # the upper half of a float32
            values = (values.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = to_array(name, values, str(path))
    return tensors


def _read_arrays(path: Path, content: bytes) -> dict[str, Array]:
    """The arrays of a file that numpy.savez wrote."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return dict(archive)
    except Exception as error:  # a damaged archive raises nearly every kind of exception
        raise InputError(f"{path} holds no plain arrays ({brief(error)}): write it again with numpy.savez") from None


def _read_torch(path: Path, notes: list[str]) -> dict[str, Array]:
    check_regular(path)
    with path.open("rb") as file:
        head = file.read(HEAD)
    check_disguise(path, head, {kind: what for kind, what in TENSORS.items() if kind != "zip"})
    if head[8:10] == b'{"':
        raise InputError(f"{path} is a safetensors file: give it a name that ends with .safetensors")
    try:
        import torch
    except ImportError as error:
        raise ToolMissing(f"{path} needs torch ({error}): {extra('train')}, or save it as safetensors") from None
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([Namespace]):  # a table, of a training's options
            warnings.simplefilter("ignore")  # what torch would only warn of is refused
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises nearly every kind of exception on a file that is not plain tensors
        raise InputError(f"{path} {_cause(error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no table of tensors: save the model's state_dict()")
    place, table = _choose_table(content, path)
    if place:
        notes.append(f"taken from the table '{place}' of {path.name}")
    tensors = {}
    for name, value in table.items():
        if not isinstance(value, torch.Tensor) or not (value.ndim or value.is_floating_point()):
            notes.append(f"'{name}' is no tensor of weights, not read")
        else:
            tensors[name] = to_array(name, value, str(path))
    return tensors


def _cause(error: Exception) -> str:
    """Why torch.load failed, and what to do."""
    kind, text = type(error).__name__, str(error)
    if "TorchScript" in text:
        return "is a TorchScript archive, which is code: save the state_dict() of its module as safetensors"
    if isinstance(error, UnpicklingError):
        named = re.search(r"GLOBAL (\w+(?:\.\w+)+)", text)
        return f"does not hold plain tensors only ({named[1] if named else kind}): save the model's state_dict() as safetensors"
    first = text.strip().splitlines()[0].split(". ")[0] if text.strip() else "it ends too early"
    return f"is damaged, or torch.save did not write it ({kind}: {brief(ValueError(first))}): copy it again"


def _choose_table(content: dict, path: Path) -> tuple[str, dict]:
    """The table that holds a model's tensors, and the keys that lead to it."""
    tables = {place: table for place, table in _tables(content) if any(hasattr(value, "detach") for value in table.values())}
    if not tables:
        name = next(iter(content), None)
        raise InputError(f"{path} holds no table of tensors: save the model's state_dict()" if name is None else
                         f"{path}: '{name}' is no tensor: save the model's state_dict() alone")
    models = [place for place, table in tables.items() if is_mamba(unwrapped(table, str(path)))]
    if len(models) > 1:
        raise InputError(f"{path} holds {len(models)} models, in its tables {' and '.join(map(repr, models))}: save the one "
                         "that is meant alone")
    chosen = models[0] if models else max(tables, key=lambda place: len(tables[place]))
    return chosen, tables[chosen]


def _tables(content: dict, place: str = "", depth: int = NESTED) -> Iterator[tuple[str, dict]]:
    yield place, {name: value for name, value in content.items() if isinstance(name, str) and not isinstance(value, dict)}
    for name, value in content.items():
        if isinstance(value, dict) and depth:
            yield from _tables(value, f"{place}.{name}" if place else str(name), depth - 1)


def _read_index(path: Path, notes: list[str]) -> dict[str, Array]:
    """The tensors of the files that an index names."""
    places = _read_json(path).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        places = {}
    names = set(places.values())
    if not names or any(Path(name).name != name for name in names):
        raise InputError(f"{path}: weight_map does not name files beside it: copy the checkpoint again")
    tensors: dict[str, Array] = {}
    for name in sorted(names):
        part = _read_file(path.with_name(name), notes)
        if twice := sorted(set(part) & set(tensors)):
            raise InputError(f"{path} names {name}, whose tensor '{twice[0]}' is in another of its files too: copy the "
                             "checkpoint again")
        tensors |= part
    for name in sorted(set(places) - set(tensors)):
        raise InputError(f"{path} names a tensor '{name}' that is in none of its files: copy the checkpoint again")
    return tensors


def _read_json(path: Path) -> dict:
    content = read_bytes(path)
    check_disguise(path, content, PACKED)
    try:
        content = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}): copy the checkpoint again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged (it holds no table): copy the checkpoint again")
    return content
