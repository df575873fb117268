"""Reads a checkpoint of another implementation: its tensors, and the config.json beside them. No torch for safetensors.

A folder holds `model.safetensors` or `pytorch_model.bin`, whole or in parts that an index names; a file is one of them. They are
untrusted input: a torch file is read as plain tensors only, so no code in it can run.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from .errors import EmambaError, brief

Array = np.ndarray

FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Looked for in a folder, in this order."""
TORCH = (".bin", ".pt", ".pth")
TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}


def read_checkpoint_files(path: Path | str) -> tuple[dict[str, Array], dict | None]:
    """Tensors by name, float32 or float64, and the settings of config.json, None where there is none."""
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        found = next((folder / name for name in FILES if (folder / name).is_file()), None)
        if found is None:
            raise EmambaError(f"{path} has none of {', '.join(FILES)}: name the folder or the file of a trained checkpoint")
        path = found
    settings = _read_json(folder / "config.json") if (folder / "config.json").is_file() else None
    return _read_index(path) if path.name.endswith(".index.json") else _read_file(path), settings


def read_array(path: Path | str) -> Array:
    """The array in a .npy file."""
    try:
        with Path(path).open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise EmambaError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise EmambaError(f"{path} is no array of numbers in NumPy's format .npy: write it with numpy.save") from None


def to_array(name: str, value: Any, where: str) -> Array:
    """A tensor of torch, of one of TYPES, or an array → float32 or float64."""
    if hasattr(value, "detach"):
        kind = str(value.dtype).removeprefix("torch.")
        if kind not in ("float64", "float32", "float16", "bfloat16"):
            raise _wrong_type(name, kind, where)
        return (value if kind == "float64" else value.float()).detach().cpu().numpy()
    value = np.asarray(value)
    if value.dtype not in (np.float64, np.float32, np.float16):
        raise _wrong_type(name, str(value.dtype), where)
    return value.astype(np.float32) if value.dtype == np.float16 else value


def _wrong_type(name: str, kind: str, where: str) -> EmambaError:
    return EmambaError(f"{where}: tensor '{name}' is of the type {kind}; only float64, float32, float16 and bfloat16 can be "
                       "imported: save the weights before they were quantized")


def _read_file(path: Path) -> dict[str, Array]:
    if path.suffix in TORCH:
        return _read_torch(path)
    if path.suffix != ".safetensors":
        raise EmambaError(f"{path} is no file of tensors: name a folder, a .safetensors file, or one of torch "
                          f"({', '.join(TORCH)})")
    try:
        parts = safetensors.deserialize(path.read_bytes())
    except OSError as error:
        raise EmambaError(f"cannot read {path}: {error.strerror}") from None
    except safetensors.SafetensorError as error:
        raise EmambaError(f"{path} is not a safetensors file ({brief(error)}): copy it again") from None
    tensors = {}
    for name, part in parts:
        kind = part["dtype"]
        if kind not in TYPES:
            raise _wrong_type(name, kind, str(path))
        values = np.frombuffer(part["data"], TYPES[kind]).reshape(part["shape"])
        if kind == "BF16":  # the upper half of a float32
            values = (values.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = to_array(name, values, str(path))
    return tensors


def _read_torch(path: Path) -> dict[str, Array]:
    try:
        import torch
    except ImportError as error:
        raise EmambaError(f"{path} needs torch ({error}): pip install 'emamba[train]', or save it as safetensors") from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise EmambaError(f"cannot read {path}: {error.strerror}") from None
    except Exception as error:  # torch.load raises nearly every kind of exception on a file that is not plain tensors
        raise EmambaError(f"{path} does not hold plain tensors only ({type(error).__name__}): save the model's state_dict() as "
                          "safetensors") from None
    if not isinstance(content, dict):
        raise EmambaError(f"{path} holds no table of tensors: save the model's state_dict()")
    for name, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise EmambaError(f"{path}: '{name}' is no tensor: save the model's state_dict() alone")
    return {name: to_array(name, value, str(path)) for name, value in content.items()}


def _read_index(path: Path) -> dict[str, Array]:
    """The tensors of the files that an index names."""
    places = _read_json(path).get("weight_map")
    names = set(places.values()) if isinstance(places, dict) and all(isinstance(v, str) for v in places.values()) else set()
    if not names or any(Path(name).name != name for name in names):
        raise EmambaError(f"{path}: weight_map does not name files beside it: copy the checkpoint again")
    tensors: dict[str, Array] = {}
    for name in sorted(names):
        tensors |= _read_file(path.with_name(name))
    for name in sorted(set(places) - set(tensors)):
        raise EmambaError(f"{path} names a tensor '{name}' that is in none of its files: copy the checkpoint again")
    return tensors


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EmambaError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise EmambaError(f"{path} is damaged ({error}): copy the checkpoint again") from None
    if not isinstance(content, dict):
        raise EmambaError(f"{path} is damaged (it holds no table): copy the checkpoint again")
    return content
