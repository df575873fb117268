"""Layouts of the user's own: how a model of any other program becomes a configuration and tensors of this project."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..base.errors import InputError, SettingError
from ..config import ModelConfig, validate
from ..graph import build_graph
from ..graph.own import import_named
from ..graph.parameters import check_tensors
from ..io.tensor_files import to_array
from .family import Array, Imported

Layout = Callable[[Mapping[str, Array], int], tuple[dict[str, Any], dict[str, Array]]]
LAYOUTS: dict[str, Layout] = {}
"""By name, functions (tensors of the checkpoint, tokens of a sequence) → (fields of a ModelConfig, our tensors by name)."""


def layout(name: str) -> Callable[[Layout], Layout]:
    """Registers a layout for `emamba import --layout`."""
    def add(function: Layout) -> Layout:
        LAYOUTS[name] = function
        return function
    return add


def translate_own(name: str, tensors: Mapping[str, Array], length: int, where: str) -> Imported:
    """A checkpoint in a layout of the user's own, which must read every tensor and give those of the graph.

    name: as the layout was registered
    length: tokens of a sequence
    where: the checkpoint, for sentences

    Raises EmambaError where a tensor is missing, is not read, or is not as the graph needs it.
    """
    if name not in LAYOUTS:
        import_named()
    if name not in LAYOUTS:
        raise SettingError(f"there is no layout '{name}'" + (f"; there are {', '.join(LAYOUTS)}" if LAYOUTS else "")
                           + ": name the Python file that registers it by --model")
    read = _Read(tensors)
    try:
        fields, ours = LAYOUTS[name](read, length)
    except KeyError as error:
        raise InputError(f"{where} has no tensor {error}, which the layout '{name}' reads") from None
    config = validate(ModelConfig, {"length": length} | fields, f"layout '{name}'")
    weights = {key: np.ascontiguousarray(to_array(key, value, where), np.float32) for key, value in ours.items()}
    check_tensors(build_graph(config), weights, where)
    if left := sorted(set(tensors) - read.names):
        raise InputError(f"{where} has a tensor '{left[0]}' that the layout '{name}' does not read: what it adds to the "
                         "computation would be lost")
    return Imported(config, weights, (f"layout '{name}': {len(tensors)} tensors, all taken over",))


class _Read(Mapping):
    """Tensors that remember which of them were read."""

    def __init__(self, tensors: Mapping[str, Array]):
        self.tensors, self.names = tensors, set[str]()

    def __getitem__(self, name: str) -> Array:
        self.names.add(name)
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)
