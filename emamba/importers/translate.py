"""Trained Mamba models in the names of other implementations, as this project's configuration and weights.

The packages' names are known below any wrapper's (`wrappers`); what stands around the mixers is alike in all of them:

    embedding.weight or embeddings.weight [vocabulary, d]  → embed
    layers.K.norm.weight [d], .bias with LayerNorm         → blocks.K.norm
    layers.K.mixer.…                                       → the family's own (`mamba1`, `mamba2`)
    layers.K.norm2, .mlp.fc1.weight [2m, d], .fc2 [d, m]   → blocks.K.mlp_norm; mlp_up, mlp_gate; mlp_down
    norm_f.weight [d], .bias with LayerNorm                → norm
    lm_head.weight [vocabulary, d], or the embedding       → head

The result computes the same function: nothing is approximated. What a model has or asks for beyond that is refused by its name.
"""

from typing import Any

import numpy as np

from ..base.errors import InputError
from ..config import NORM_EPSILON, ModelConfig, validate
from ..graph import build_graph
from ..graph.parameters import check_tensors
from ..io.tensor_files import to_array
from ..io.wrappers import Place, check_alone, find_place, unwrapped
from .family import Array, Family, Head, Imported, Shape, Sizes
from .mamba1 import MAMBA1
from .mamba2 import MAMBA2
from .settings import read_settings

PADDING = {"transformers": 1, "mamba_ssm": 8, "mamba.py": 1}
"""The vocabulary is a multiple of it, unless pad_vocab_size_multiple says otherwise."""
MULTIPLE = 128
"""Of the hidden channels of an MLP (mamba_ssm)."""


def translate(tensors: dict[str, Any], settings: dict | None, length: int, where: str, head: Head | None = None) -> Imported:
    """A model in one of the layouts, for sequences of `length` tokens. tensors: arrays of NumPy or torch by name.

    settings: the content of config.json; None is possible where the tensors tell every size: not for transformers. Raises
    EmambaError with a sentence that names what is missing, too much, of another shape, not finite, or not supported.
    """
    tensors = unwrapped(tensors, where)
    place = find_place(tensors, where)
    check_alone(tensors, place.root, where)
    family = MAMBA2 if any(name.endswith(".mixer.dt_bias") for name in tensors) else MAMBA1
    layout = _layout(place, settings, where)
    if family is MAMBA2 and settings is None:
        raise InputError(f"{where} has a Mamba-2 but no config.json, which says its groups and where its gated norm stands: put "
                         "it beside the tensors")
    where = f"{where}, below '{place.root}'" if place.root else where
    said, ignored = read_settings(settings or {}, layout, family.keys[layout], where)
    sizes = _sizes(family, said, tensors, layout, place, where)
    if sizes["mlp"] and (settings or {}).get("fused_add_norm") is False:
        raise InputError(f"{where}: fused_add_norm is False beside MLPs, where versions of mamba_ssm differ in what they norm; "
                         "only True can be imported")
    has_head = place.head in tensors
    if settings is None or layout == "mamba.py":
        sizes["tied"] = not has_head
    config = _config(family, sizes, head, length, where)
    shapes = _shapes(family, sizes, place)
    own_head = has_head or (place.root != place.body and head is None)
    if own_head and head is not None:
        raise InputError(f"{where} has its own head 'lm_head.weight': give the model below it (its attribute backbone), or no "
                          "head of your own")
    if not own_head and head is None:
        raise InputError(f"{where} has no head, only the model below it: save it with its 'lm_head.weight', or give "
                          "emamba.compile a head")
    tied = own_head and sizes["tied"]
    if own_head and not (tied and not has_head):
        shapes[place.head] = (sizes["vocabulary"], sizes["d_model"])
    arrays = _checked(family, tensors, shapes, where)
    table = arrays[place.embedding]
    if tied and not np.array_equal(arrays.get(place.head, table), table):
        key = "tie_word_embeddings" if layout == "transformers" else "tie_embeddings"
        raise InputError(f"{where}: its settings tie the head to the embedding, but '{place.head}' is not "
                          f"'{place.embedding}': set {key} to what was trained")
    if head is None:
        head = Head(arrays.get(place.head, table), None, "next_token", "none")
    bias = np.zeros(config.outputs) if head.bias is None else head.bias
    weights = {"embed.weight": table, "head.weight": head.weight, "head.bias": bias}
    weights |= _blocks(family, arrays, place, sizes)
    weights = {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()}
    check_tensors(build_graph(config), weights, where)
    return Imported(config, weights, _notes(family, layout, place, config, sizes, arrays, tied, own_head, ignored))


def _layout(place: Place, settings: dict | None, where: str) -> str:
    if not place.embedding.startswith(place.body):
        return "mamba.py"
    known = settings is not None and "model_type" in settings
    if place.embedding.endswith("embeddings.weight") and not known:
        raise InputError(f"{where} has the names of transformers but no config.json with a model_type, which says "
                          "how its norms and activations are computed: put it beside the tensors")
    return "transformers" if known else "mamba_ssm"


def _sizes(family: Family, said: Sizes, tensors: dict, layout: str, place: Place, where: str) -> Sizes:
    """Every size: what the settings say, else what the tensors have."""
    mixer = f"{place.body}layers.0.mixer"

    def shape(name: str, rank: int) -> Shape | None:
        if name not in tensors and not rank:
            return None
        if name not in tensors:
            raise InputError(f"{where} has no tensor '{name}', which a {family.name} model needs")
        if (rank and len(tensors[name].shape) != rank) or 0 in tensors[name].shape:
            raise InputError(f"{where}: tensor '{name}' has the shape {list(tensors[name].shape)}, the model needs {rank} "
                              "dimensions above 0")
        return tuple(tensors[name].shape)

    vocabulary, d_model = shape(place.embedding, 2)
    up = shape(f"{place.body}layers.0.mlp.fc1.weight", 0)
    told = family.told(lambda name, rank: shape(f"{mixer}.{name}", rank), {"d_model": d_model} | said)
    sizes = {
        "d_model": d_model, "epsilon": NORM_EPSILON, "tied": True,
        "rms": f"{place.body}layers.0.norm.bias" not in tensors, "bias": f"{mixer}.in_proj.bias" in tensors,
        "conv_bias": f"{mixer}.conv1d.bias" in tensors, "mlp": 0 if up is None else up[0] // 2,
        "blocks": 1 + max(_block_number(name, place.body) for name in tensors),
    } | told
    for key, name in (("d_model", place.embedding), ("d_state", f"{mixer}.{family.state}")):
        if said.get(key, sizes[key]) != sizes[key]:
            raise InputError(f"{where}: its settings say a {key} of {said[key]}, but its tensor '{name}' of the shape "
                              f"{list(tensors[name].shape)} makes it {sizes[key]}: put the config.json of these tensors beside "
                              "them")
    sizes |= {key: value for key, value in said.items() if key not in ("vocabulary", "expand") and value != "auto"}
    sizes["mlp"] = -(-sizes["mlp"] // MULTIPLE) * MULTIPLE
    if layout == "transformers":
        sizes["rms"] = True
    sizes["words"] = said.get("vocabulary", vocabulary)
    sizes["vocabulary"] = _rows(said, vocabulary, layout, place, where)
    if "expand" in said:
        widened = int(said["expand"] * sizes["d_model"])
        if said.get("d_inner", widened) != widened:
            raise InputError(f"{where}: {sizes['d_inner']} channels inside a block are not expand = {said['expand']:g} times "
                              f"the {sizes['d_model']} of d_model: make the two agree")
        sizes["d_inner"] = widened
    family.check(sizes, layout, where)
    return sizes


def _rows(said: Sizes, rows: int, layout: str, place: Place, where: str) -> int:
    """Rows of the embedding: the vocabulary, which mamba_ssm pads to a multiple; not every trainer does."""
    words, padding = said.get("vocabulary", rows), said.get("padding", PADDING[layout])
    padded = -(-words // padding) * padding
    if "padding" in said or rows in (words, padded):
        return padded if "padding" in said else rows
    if padding > 1:
        raise InputError(f"{where}: tensor '{place.embedding}' has {rows} rows, but a vocab_size of {words} has {padded}, since "
                          f"pad_vocab_size_multiple is {padding} if it is not given: set it to what was trained; 1 pads nothing")
    return words


def _block_number(name: str, body: str) -> int:
    number = name.removeprefix(f"{body}layers.").split(".", 1)[0]
    return int(number) if name.startswith(f"{body}layers.") and number.isdecimal() and len(number) < 4 else -1


def _norms(sizes: Sizes, place: Place) -> dict[str, str]:
    """Their names of the norms → ours."""
    pairs = [("norm", "norm"), ("norm2", "mlp_norm")] if sizes["mlp"] else [("norm", "norm")]
    return {f"{place.body}layers.{k}.{theirs}": f"blocks.{k}.{ours}" for k in range(sizes["blocks"])
            for theirs, ours in pairs} | {place.norm: "norm"}


def _shapes(family: Family, sizes: Sizes, place: Place) -> dict[str, Shape]:
    """Name and shape of every tensor but the head."""
    shapes: dict[str, Shape] = {place.embedding: (sizes["vocabulary"], sizes["d_model"])}
    for norm in _norms(sizes, place):
        shapes |= {f"{norm}.{kind}": (sizes["d_model"],) for kind in _kinds(sizes)}
    for k in range(sizes["blocks"]):
        shapes |= {f"{place.body}layers.{k}.mixer.{name}": shape for name, shape in family.shapes(sizes).items()}
        if wide := sizes["mlp"]:
            shapes |= {f"{place.body}layers.{k}.mlp.fc1.weight": (2 * wide, sizes["d_model"]),
                       f"{place.body}layers.{k}.mlp.fc2.weight": (sizes["d_model"], wide)}
    return shapes


def _kinds(sizes: Sizes) -> tuple[str, ...]:
    """Parameters of a norm."""
    return ("weight",) if sizes["rms"] else ("weight", "bias")


def _checked(family: Family, tensors: dict, shapes: dict[str, Shape], where: str) -> dict[str, Array]:
    """The tensors as arrays; refuses any that is missing, too much, of another shape or type, or not finite."""
    arrays = {}
    for name, shape in shapes.items():
        if name not in tensors:
            raise InputError(f"{where} has no tensor '{name}' of shape {list(shape)}, which the model needs")
        arrays[name] = value = to_array(name, tensors[name], where)
        if value.shape != shape:
            raise InputError(f"{where}: tensor '{name}' has the shape {list(value.shape)}, the model needs {list(shape)}")
        if not np.isfinite(value).all():
            raise InputError(f"{where}: tensor '{name}' holds values that are not finite: train again")
    for name in sorted(set(tensors) - set(shapes)):
        raise InputError(f"{where} has a tensor '{name}' that a {family.name} model with these settings does not have: what it "
                          "adds to the computation cannot be imported")
    return arrays


def _config(family: Family, sizes: Sizes, head: Head | None, length: int, where: str) -> ModelConfig:
    task, pool = ("next_token", "none") if head is None else (head.task, head.pool)
    expand, rest = divmod(sizes["d_inner"], sizes["d_model"])
    return validate(ModelConfig, {
        "input": "tokens", "vocabulary": sizes["vocabulary"], "length": length, "d_model": sizes["d_model"],
        "d_state": sizes["d_state"], **({"inner": sizes["d_inner"]} if rest else {"expand": expand}), "d_conv": sizes["d_conv"],
        "blocks": sizes["blocks"], "norm": "rms" if sizes["rms"] else "layer", "norm_epsilon": sizes["epsilon"],
        "pool": pool, "task": task, "outputs": sizes["vocabulary"] if head is None else len(head.weight),
        **({"mlp": sizes["mlp"], "mlp_gated": True, "mlp_bias": False} if sizes["mlp"] else {}),
    } | family.config(sizes), where)


def _blocks(family: Family, arrays: dict[str, Array], place: Place, sizes: Sizes) -> dict[str, Array]:
    """The tensors of all blocks and of the last norm by our names."""
    weights = {f"{ours}.{kind}": arrays[f"{theirs}.{kind}"] for theirs, ours in _norms(sizes, place).items()
               for kind in _kinds(sizes)}
    for k in range(sizes["blocks"]):
        mixer = f"{place.body}layers.{k}.mixer."
        theirs = {name.removeprefix(mixer): value for name, value in arrays.items() if name.startswith(mixer)}
        weights |= {f"blocks.{k}.{name}": value for name, value in family.weights(theirs, sizes).items()}
        if wide := sizes["mlp"]:
            both, down = (arrays[f"{place.body}layers.{k}.mlp.{name}.weight"] for name in ("fc1", "fc2"))
            weights |= {f"blocks.{k}.mlp_up.weight": both[:wide], f"blocks.{k}.mlp_gate.weight": both[wide:],
                        f"blocks.{k}.mlp_down.weight": down}
    return weights


def _notes(family: Family, layout: str, place: Place, config: ModelConfig, sizes: Sizes, arrays: dict[str, Array], tied: bool,
           own_head: bool, ignored: list[str]) -> tuple[str, ...]:
    own, done = family.notes(sizes)
    norm = "RMSNorm" if sizes["rms"] else "LayerNorm"
    notes = [
        f"{layout}: {len(arrays)} tensors, all taken over; {config.blocks} blocks, d_model {config.d_model}, d_inner "
        f"{config.d_inner}, d_state {config.d_state}, {own}, d_conv {config.d_conv}, vocabulary {config.vocabulary}",
        f"norms: {norm} with an epsilon of {config.norm_epsilon:g}, kept", *done]
    if place.root:
        notes.append(f"its tensors stand below '{place.root}'")
    if sizes["mlp"]:
        notes.append(f"mlp.fc1 became mlp_up and mlp_gate, of {sizes['mlp']} channels each")
    if own_head:
        notes.append("the head is the embedding, tied" if tied else "the head is lm_head, not tied")
    if not sizes["conv_bias"]:
        notes.append("conv1d has no bias: 0 takes its place, which is the same")
    if sizes["bias"]:
        notes.append("in_proj and out_proj have biases, kept")
    if sizes["words"] != config.vocabulary:
        notes.append(f"the vocabulary of {sizes['words']} was padded to {config.vocabulary} before the training; all are kept")
    if same := [key for key in ignored if key != "auto_map"]:
        notes.append(f"{', '.join(same)}: another way to the same result, not needed here")
    if same != ignored:
        notes.append(f"auto_map names code of the checkpoint's own, which was not read: taken for the {family.name} of "
                     "transformers")
    if any(value.dtype == np.float64 for value in arrays.values()):
        notes.append("float64 tensors were rounded to float32")
    return tuple(notes)
