"""Finds a Mamba below the prefixes that other programs put before its tensors' names.

Wrappers of torch add a part to names, at the front or inside; a training program keeps the model as an attribute, whose name then
begins all of its tensors' names. Which model is meant is never guessed: two of them side by side are refused.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..base.errors import InputError

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
"""Attributes and parts of names that wrappers add and that compute nothing: DataParallel and DistributedDataParallel,
torch.compile, FSDP, checkpointed activations, Fabric."""

PACKAGES = ("torch", "deepspeed", "lightning", "lightning_fabric", "pytorch_lightning", "accelerate")
"""Packages whose classes with such an attribute compute what it computes; a class of one's own may compute something else."""

LAYERS = re.compile(r"((?:.*?\.)?)layers\.\d+\.mixer\.")
BLOCKS = re.compile(r"((?:.*?\.)?)blocks\.\d+\.A_log$")
OTHERS = {
    r"\.lora_\w+\.|\.lora_\w+$": "has an adapter's tensor '{}': merge it into its model (merge_and_unload() of PEFT) and save "
                                 "that",
    r"\.weight_(orig|mask)$": "has a tensor '{}' of a pruning under way: end it with torch.nn.utils.prune.remove and save again",
    r"\.parametrizations\.": "has a tensor '{}' of a parametrization: end it with "
                             "torch.nn.utils.parametrize.remove_parametrizations and save again",
    r"\.weight_[gv]$": "has a tensor '{}' of a weight norm: end it with torch.nn.utils.remove_weight_norm and save again",
    r"\.(absmax|quant_map|SCB|qweight|qzeros|weight_scale|quant_state\..*)$": "has a tensor '{}' of quantized weights: save the "
                                                                              "weights before they were quantized",
}
"""Patterns of names that tell what a model is or went through → the sentence."""


@dataclass(frozen=True)
class Place:
    """Where a model's tensors are: what stands before all names, before `layers`, and the names of what is not in a layer."""

    root: str
    body: str
    embedding: str
    norm: str

    @property
    def head(self) -> str:
        return f"{self.root}lm_head.weight"


def unwrapped(tensors: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The tensors without the parts of their names that wrappers of torch add."""
    found: dict[str, Any] = {}
    theirs: dict[str, str] = {}
    for name, value in tensors.items():
        plain = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        if not name.isprintable():
            raise InputError(f"{where} has a tensor of the name {name!a}: names are printable text of one line")
        if plain in found:
            raise InputError(f"{where} has both '{theirs[plain]}' and '{name}', one tensor twice: save the state_dict() of one "
                             "model")
        found[plain], theirs[plain] = value, name
    return found


def prefixes(names: Iterable[str], pattern: re.Pattern) -> list[str]:
    """What stands before `pattern` in the names: an entry a model."""
    return sorted({found[1] for name in names if (found := pattern.match(name))})


def is_mamba(names: Iterable[str]) -> bool:
    return any(LAYERS.match(name) or BLOCKS.match(name) for name in names)


def find_place(tensors: Mapping[str, Any], where: str) -> Place:
    """The place of the one model in `tensors`, whose names are `unwrapped`."""
    for pattern, sentence in OTHERS.items():
        for name in sorted(tensors):
            if re.search(pattern, name):
                raise InputError(f"{where} {sentence.format(name)}")
    bodies = prefixes(tensors, LAYERS)
    check_one(bodies, where)
    own = prefixes(tensors, BLOCKS)
    if own and not bodies:
        raise InputError(f"{where} holds a model of this project ('{own[0]}blocks.0.A_log'), whose sizes its tensors alone do "
                         "not tell: give its module to emamba.compile, or its folder with checkpoint.json to emamba quantize")
    body = bodies[0] if bodies else "backbone."
    upper, attribute = _split(body)
    for place in (body, upper):  # mamba.py has the embedding beside the body
        for name in ("embedding", "embeddings"):
            if f"{place}{name}.weight" in tensors:
                whole = attribute == "backbone" or place != body or f"{upper}lm_head.weight" in tensors
                return Place(upper if whole else body, body, f"{place}{name}.weight", f"{place}norm_f")
    lacks = f"{where} has neither a tensor '{body}embedding.weight' (mamba_ssm) nor '{body}embeddings.weight' (transformers)"
    if bodies and f"{body}norm_f.weight" not in tensors:
        raise InputError(f"{lacks}: its layers '{body}layers.0…' alone are no model; save the whole, or build a module of your "
                         "own of this project's blocks, as docs/import.md shows")
    raise InputError(f"{lacks}: it is no Mamba in a layout that is known")


def check_one(found: list[str], where: str) -> None:
    """Refuses several models."""
    if len(found) > 1:
        names = " and ".join(f"'{prefix}'" if prefix else "no prefix" for prefix in found[:2])
        raise InputError(f"{where} holds {len(found)} models, below {names}: give one of them, or save its state_dict() alone")


def check_alone(tensors: Iterable[str], root: str, where: str) -> None:
    """Refuses tensors beside the model below `root`."""
    other = next((name for name in sorted(tensors) if not name.startswith(root)), None)
    if other is not None:
        raise InputError(f"{where} has a Mamba below '{root}', but beside it a tensor '{other}', and what that adds to the "
                         f"computation cannot be imported: give the model below '{root}', or its state_dict(), alone")


def peel(module: Any) -> Any:
    """The module of torch inside the wrappers of torch."""
    while type(module).__module__.split(".")[0] in PACKAGES and (inner := _inner(module)) is not None:
        module = inner
    return module


def follow(module: Any, root: str) -> Any:
    """The module whose tensors' names begin with `root` once they are `unwrapped`."""
    for part in (*root.split(".")[:-1], None):
        while (inner := _inner(module)) is not None:
            module = inner
        module = module if part is None else module.get_submodule(part)
    return module


def _inner(module: Any) -> Any:
    return next((child for name, child in getattr(module, "_modules", {}).items() if name in WRAPPERS), None)


def _split(prefix: str) -> tuple[str, str]:
    """'a.b.' → 'a.', 'b'."""
    upper, dot, last = prefix.removesuffix(".").rpartition(".")
    return upper + dot, last
