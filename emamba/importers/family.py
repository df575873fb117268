"""What one kind of mixer brings to an import, and what an import gives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..artifact import Codec
from ..config import ModelConfig
from ..graph import Graph
from .settings import Keys

Array = np.ndarray
Shape = tuple[int, ...]
Sizes = dict[str, Any]


@dataclass(frozen=True)
class Head:
    """What stands on a model without a head: weight [outputs, d_model], bias [outputs] or None, after `pool` over the tokens."""

    weight: Array
    bias: Array | None
    task: str
    pool: str


@dataclass(frozen=True)
class Imported:
    """`weights` as `emamba.run.reference` names them, float32; `notes` are sentences on what was done. A graph that no
    configuration builds, and scales of inputs and outputs, come with it."""

    config: ModelConfig
    weights: dict[str, Array]
    notes: tuple[str, ...]
    graph: Graph | None = None
    codec: Codec | None = None


@dataclass(frozen=True)
class Family:
    """One kind of mixer.

    name: as sentences call it
    keys: by layout, what its settings may say
    state: the tensor that tells d_state
    told: (shape of the first mixer's tensor by its name and rank, what the settings say) → the sizes that tensors tell; None is
        the shape of a tensor that is not there, if the rank is 0
    check: (sizes, layout, where) refuses sizes that do not go together
    shapes: sizes → name and shape of each tensor of a mixer
    config: sizes → the fields of a ModelConfig that are its own
    weights: (tensors of a mixer by name, sizes) → ours, below `blocks.K`
    notes: sizes → the sizes that are its own, and sentences on what was done
    """

    name: str
    keys: dict[str, Keys]
    state: str
    told: Callable[[Callable[[str, int], Any], Sizes], Sizes]
    check: Callable[[Sizes, str, str], None]
    shapes: Callable[[Sizes], dict[str, Shape]]
    config: Callable[[Sizes], dict[str, Any]]
    weights: Callable[[dict[str, Array], Sizes], dict[str, Array]]
    notes: Callable[[Sizes], tuple[str, tuple[str, ...]]]
