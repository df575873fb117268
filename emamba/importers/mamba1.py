"""Trained Mamba-1 models in the names of other implementations, as this project's configuration and weights.

Three layouts are known: `mamba_ssm`, `transformers` and `mamba.py`, below any wrapper's names (`wrappers`). With e = d_inner,
n = d_state, r = dt_rank, per block:

    mixer.in_proj.weight [2e, d]        → x (the first e rows), z
    mixer.conv1d.weight [e, 1, k]       → conv
    mixer.x_proj.weight [r + 2n, e]     → dt_low (the first r rows), B, C
    mixer.dt_proj.weight [e, r], .bias  → dt
    mixer.A_log [e, n], mixer.D [e]     → the same
    mixer.out_proj.weight [d, e]        → out
    norm.weight [d]                     → norm

The result computes the same function: nothing is approximated. What a model has or asks for beyond that is refused by its name.
"""

from dataclasses import dataclass
from math import ceil, inf
from typing import Any

import numpy as np

from ..base.errors import InputError
from ..config import NORM_EPSILON, ModelConfig, validate
from ..graph import build_graph
from ..graph.parameters import check_tensors
from ..io.tensor_files import to_array
from ..io.wrappers import Place, check_alone, find_place, unwrapped

Array = np.ndarray

SIZES = {
    "transformers": {
        "hidden_size": "d_model", "d_model": "d_model", "num_hidden_layers": "blocks", "n_layer": "blocks",
        "vocab_size": "vocabulary", "state_size": "d_state", "conv_kernel": "d_conv", "expand": "expand",
        "intermediate_size": "d_inner", "d_inner": "d_inner", "time_step_rank": "dt_rank", "layer_norm_epsilon": "epsilon",
        "use_bias": "bias", "use_conv_bias": "conv_bias", "tie_word_embeddings": "tied",
    },
    "mamba_ssm": {
        "d_model": "d_model", "n_layer": "blocks", "vocab_size": "vocabulary", "pad_vocab_size_multiple": "padding",
        "tie_embeddings": "tied", "rms_norm": "rms", "d_state": "d_state", "d_conv": "d_conv", "expand": "expand",
        "dt_rank": "dt_rank", "bias": "bias", "conv_bias": "conv_bias", "d_inner": "d_inner",
    },
    "mamba.py": {
        "d_model": "d_model", "n_layers": "blocks", "vocab_size": "vocabulary", "pad_vocab_size_multiple": "padding",
        "d_state": "d_state", "d_conv": "d_conv", "expand_factor": "expand", "d_inner": "d_inner", "dt_rank": "dt_rank",
        "rms_norm_eps": "epsilon", "bias": "bias", "conv_bias": "conv_bias",
    },
}
"""Keys of a model's settings → what they say. Those of mamba_ssm's table `ssm_cfg` stand beside the others."""

ALLOWED: dict[str, dict[str, tuple]] = {
    "transformers": {
        "model_type": ("mamba",), "hidden_act": ("silu", "swish"), "rms_norm": (True,),
        "time_step_limit": ([0.0, inf], None), "quantization_config": (None,),
    },
    "mamba_ssm": {"layer": ("Mamba1",), "d_intermediate": (0,), "attn_layer_idx": ([],), "attn_cfg": ({},)},
    "mamba.py": {"inner_layernorms": (False,), "mup": (False,)},
}
"""Keys that may have these values only: any other makes a model of another kind."""

ALIASES = {("layer", "Mamba"): "Mamba1"}
"""Other words for a value."""

SAME_RESULT = {"residual_in_fp32", "fused_add_norm", "use_mambapy", "use_associative_scan", "use_fast_path", "use_cache", "pscan",
               "use_cuda"}
"""Keys that choose how the same function is computed."""

GENERATION = {
    "max_length", "max_new_tokens", "min_length", "min_new_tokens", "max_time", "early_stopping", "stop_strings", "do_sample",
    "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "top_h", "min_p", "typical_p",
    "epsilon_cutoff", "eta_cutoff", "repetition_penalty", "encoder_repetition_penalty", "length_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "bad_words_ids", "force_words_ids", "constraints", "renormalize_logits",
    "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens", "forced_decoder_ids",
    "sequence_bias", "token_healing", "guidance_scale", "penalty_alpha", "dola_layers", "low_memory", "watermarking_config",
    "num_return_sequences", "output_scores", "output_logits", "return_dict_in_generate", "generation_config", "generation_kwargs",
    "cache_implementation", "cache_config", "return_legacy_cache", "max_cache_len", "prefill_chunk_size", "compile_config",
    "disable_compile", "continuous_batching_config", "is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule",
    "assistant_confidence_threshold", "assistant_early_exit", "assistant_lookbehind", "assistant_ensemble_weight",
    "target_lookbehind", "prompt_lookup_num_tokens", "max_matching_ngram_size", "speculation_type", "use_mtp",
}
"""How transformers chooses the next token from the outputs, which stay the same; 4.39 to 4.57 put much of it into every
configuration."""

NO_MATTER = SAME_RESULT | GENERATION | {
    "time_step_scale", "time_step_min", "time_step_max", "time_step_init_scheme", "time_step_floor", "initializer_range",
    "rescale_prenorm_residual", "dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "initializer_cfg", "base_std",
    "mup_base_width", "decoder_start_token_id", "architectures", "auto_map", "custom_pipelines", "transformers_version",
    "torch_dtype", "dtype", "name_or_path", "tokenizer_class", "task_specific_params", "return_dict", "output_hidden_states",
    "output_attentions", "id2label", "label2id", "num_labels", "problem_type", "chunk_size_feed_forward", "is_encoder_decoder",
    "is_decoder", "add_cross_attention", "cross_attention_hidden_size", "tie_encoder_decoder", "prefix", "torchscript",
    "pruned_heads", "finetuning_task", "use_bfloat16", "tf_legacy_loss", "xla_device", "attn_implementation",
    "experts_implementation", "gradient_checkpointing", "keys_to_ignore_at_inference", "base_model_tp_plan", "base_model_pp_plan",
    "model_max_length", "max_position_embeddings", "padding_side", "truncation_side", "add_bos_token", "add_eos_token",
    "unsloth_version",
}
"""Keys that no inference reads: start values of a training, names, tokens that stand for something. So is each that begins
with _, which a package keeps for itself, and each that ends with _token_id."""

PADDING = {"transformers": 1, "mamba_ssm": 8, "mamba.py": 1}
"""The vocabulary is a multiple of it, unless pad_vocab_size_multiple says otherwise."""


@dataclass(frozen=True)
class Head:
    """What stands on a model without a head: weight [outputs, d_model], bias [outputs] or None, after `pool` over the tokens."""

    weight: Array
    bias: Array | None
    task: str
    pool: str


@dataclass(frozen=True)
class Imported:
    """`weights` as `emamba.run.reference` names them, float32; `notes` are sentences on what was done."""

    config: ModelConfig
    weights: dict[str, Array]
    notes: tuple[str, ...]


def translate(tensors: dict[str, Any], settings: dict | None, length: int, where: str, head: Head | None = None) -> Imported:
    """A model in one of the layouts, for sequences of `length` tokens. tensors: arrays of NumPy or torch by name.

    settings: the content of config.json; None is possible where the tensors tell every size: not for transformers. Raises
    EmambaError with a sentence that names what is missing, too much, of another shape, not finite, or not supported.
    """
    tensors = unwrapped(tensors, where)
    place = find_place(tensors, where)
    check_alone(tensors, place.root, where)
    layout = _layout(place, settings, where)
    where = f"{where}, below '{place.root}'" if place.root else where
    said, ignored = _settings(settings or {}, layout, where)
    sizes = _sizes(said, tensors, layout, place, where)
    has_head = place.head in tensors
    if settings is None or layout == "mamba.py":
        sizes["tied"] = not has_head
    config = _config(sizes, head, length, where)
    shapes = _shapes(sizes, place)
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
    arrays = _checked(tensors, shapes, where)
    table = arrays[place.embedding]
    if tied and not np.array_equal(arrays.get(place.head, table), table):
        key = "tie_word_embeddings" if layout == "transformers" else "tie_embeddings"
        raise InputError(f"{where}: its settings tie the head to the embedding, but '{place.head}' is not "
                          f"'{place.embedding}': set {key} to what was trained")
    if head is None:
        head = Head(arrays.get(place.head, table), None, "next_token", "none")
    bias = np.zeros(config.outputs) if head.bias is None else head.bias
    weights = {"embed.weight": table, "head.weight": head.weight, "head.bias": bias} | _blocks(arrays, place, config, sizes)
    weights = {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()}
    check_tensors(build_graph(config), weights, where)
    return Imported(config, weights, _notes(layout, place, config, sizes, arrays, tied, own_head, ignored))


def _layout(place: Place, settings: dict | None, where: str) -> str:
    if not place.embedding.startswith(place.body):
        return "mamba.py"
    known = settings is not None and "model_type" in settings
    if place.embedding.endswith("embeddings.weight") and not known:
        raise InputError(f"{where} has the names of transformers but no config.json with a model_type, which says "
                          "how its norms and activations are computed: put it beside the tensors")
    return "transformers" if known else "mamba_ssm"


def _settings(settings: dict, layout: str, where: str) -> tuple[dict, list[str]]:
    """What the settings say, by our words; and the keys that ask for another way to the same result."""
    flat = dict(settings)
    if layout == "mamba_ssm":
        inner = flat.pop("ssm_cfg", None) or {}
        if not isinstance(inner, dict):
            raise InputError(f"{where}: ssm_cfg must be a table of settings")
        flat |= inner
    said: dict[str, tuple[str, Any]] = {}
    for key, value in flat.items():
        value = list(value) if isinstance(value, tuple) else value
        value = ALIASES.get((key, value), value) if isinstance(value, str) else value
        if key in ALLOWED[layout]:
            if value not in ALLOWED[layout][key]:
                possible = " or ".join(repr(one) for one in ALLOWED[layout][key])
                raise InputError(f"{where}: {key} is {value!r}; only {possible} can be imported")
        elif key in SIZES[layout]:
            ours = SIZES[layout][key]
            if ours in said and said[ours][1] != value:
                raise InputError(f"{where}: {said[ours][0]} is {said[ours][1]!r}, but {key} is {value!r}: make the two agree")
            said[ours] = key, value
        elif not _no_matter(key) and not (layout == "transformers" and key in ("ssm_cfg", "pad_vocab_size_multiple")):
            raise InputError(f"{where}: the setting {key} = {value!r} is unknown here, and may change what the model computes: "
                              "remove it from the settings if it does not")
    typed = {ours: _typed(ours, *pair, where) for ours, pair in said.items()}
    return typed, sorted((SAME_RESULT | {"auto_map"}) & set(flat))


def _no_matter(key: str) -> bool:
    return key in NO_MATTER or key.startswith("_") or key.endswith("_token_id")


def _typed(ours: str, key: str, value: Any, where: str) -> Any:
    """A value of the settings if it is of the right type and size."""
    if ours in ("bias", "conv_bias", "tied", "rms"):
        right, wanted = isinstance(value, bool), "true or false"
    elif ours in ("epsilon", "expand"):
        right = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < inf
        wanted = "a positive number"
    else:
        right = (type(value) is int and value > 0) or (ours == "dt_rank" and value == "auto")
        wanted = "a positive integer"
    if not right:
        raise InputError(f"{where}: {key} must be {wanted}, not {value!r}")
    return value


def _sizes(said: dict, tensors: dict, layout: str, place: Place, where: str) -> dict:
    """Every size: what the settings say, else what the tensors have."""
    mixer = f"{place.body}layers.0.mixer"

    def shape(name: str, rank: int) -> tuple[int, ...]:
        if name not in tensors:
            raise InputError(f"{where} has no tensor '{name}', which a Mamba-1 model needs")
        if len(tensors[name].shape) != rank or 0 in tensors[name].shape:
            raise InputError(f"{where}: tensor '{name}' has the shape {list(tensors[name].shape)}, the model needs {rank} "
                              "dimensions above 0")
        return tuple(tensors[name].shape)

    (vocabulary, d_model), (d_inner, d_state) = shape(place.embedding, 2), shape(f"{mixer}.A_log", 2)
    sizes = {
        "d_model": d_model, "d_state": d_state, "d_conv": shape(f"{mixer}.conv1d.weight", 3)[2],
        "dt_rank": shape(f"{mixer}.dt_proj.weight", 2)[1], "epsilon": NORM_EPSILON, "tied": True,
        "rms": f"{place.body}layers.0.norm.bias" not in tensors, "bias": f"{mixer}.in_proj.bias" in tensors,
        "conv_bias": f"{mixer}.conv1d.bias" in tensors,
        "blocks": 1 + max(_block_number(name, place.body) for name in tensors),
    }
    for key, name in (("d_model", place.embedding), ("d_state", f"{mixer}.A_log")):
        if said.get(key, sizes[key]) != sizes[key]:
            raise InputError(f"{where}: its settings say a {key} of {said[key]}, but its tensor '{name}' of the shape "
                              f"{list(shape(name, 2))} makes it {sizes[key]}: put the config.json of these tensors beside them")
    sizes |= {key: value for key, value in said.items() if key not in ("vocabulary", "expand")}
    if layout == "transformers":
        sizes["rms"] = True
    if sizes["dt_rank"] == "auto":
        sizes["dt_rank"] = ceil(sizes["d_model"] / 16)
    sizes["words"] = said.get("vocabulary", vocabulary)
    sizes["vocabulary"] = _rows(said, vocabulary, layout, place, where)
    widened = int(said["expand"] * sizes["d_model"]) if "expand" in said else sizes.get("d_inner", d_inner)
    sizes.setdefault("d_inner", widened)
    if widened != sizes["d_inner"]:
        raise InputError(f"{where}: {sizes['d_inner']} channels inside a block are not expand = {said['expand']:g} times the "
                          f"{sizes['d_model']} of d_model: make the two agree")
    return sizes


def _rows(said: dict, rows: int, layout: str, place: Place, where: str) -> int:
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


def _shapes(sizes: dict, place: Place) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor but the head."""
    d, e, n, r = (sizes[key] for key in ("d_model", "d_inner", "d_state", "dt_rank"))
    shapes: dict[str, tuple[int, ...]] = {place.embedding: (sizes["vocabulary"], d)}

    def norm(name: str) -> None:
        shapes[f"{name}.weight"] = (d,)
        if not sizes["rms"]:
            shapes[f"{name}.bias"] = (d,)

    for k in range(sizes["blocks"]):
        block = f"{place.body}layers.{k}"
        norm(f"{block}.norm")
        mixer = {"in_proj.weight": (2 * e, d), "conv1d.weight": (e, 1, sizes["d_conv"]), "x_proj.weight": (r + 2 * n, e),
                 "dt_proj.weight": (e, r), "dt_proj.bias": (e,), "A_log": (e, n), "D": (e,), "out_proj.weight": (d, e)}
        if sizes["conv_bias"]:
            mixer["conv1d.bias"] = (e,)
        if sizes["bias"]:
            mixer |= {"in_proj.bias": (2 * e,), "out_proj.bias": (d,)}
        shapes |= {f"{block}.mixer.{name}": shape for name, shape in mixer.items()}
    norm(place.norm)
    return shapes


def _checked(tensors: dict, shapes: dict[str, tuple[int, ...]], where: str) -> dict[str, Array]:
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
        raise InputError(f"{where} has a tensor '{name}' that a Mamba-1 model with these settings does not have: what it adds "
                          "to the computation cannot be imported")
    return arrays


def _config(sizes: dict, head: Head | None, length: int, where: str) -> ModelConfig:
    task, pool = ("next_token", "none") if head is None else (head.task, head.pool)
    return validate(ModelConfig, {
        "form": "standard", "input": "tokens", "vocabulary": sizes["vocabulary"], "length": length,
        "d_model": sizes["d_model"], "d_state": sizes["d_state"],
        **({"inner": sizes["d_inner"]} if sizes["d_inner"] % sizes["d_model"] else
           {"expand": sizes["d_inner"] // sizes["d_model"]}),
        "dt_rank": sizes["dt_rank"], "d_conv": sizes["d_conv"], "blocks": sizes["blocks"],
        "norm": "rms" if sizes["rms"] else "layer", "norm_epsilon": sizes["epsilon"], "bias": sizes["bias"] or None,
        "pool": pool, "task": task, "outputs": sizes["vocabulary"] if head is None else len(head.weight),
    }, where)


def _blocks(arrays: dict[str, Array], place: Place, config: ModelConfig, sizes: dict) -> dict[str, Array]:
    """The tensors of all blocks and of the last norm by our names."""
    e, n, r = config.d_inner, config.d_state, config.dt_rank
    weights = {}
    for k in range(config.blocks):
        theirs, ours = f"{place.body}layers.{k}.mixer", f"blocks.{k}"
        low = arrays[f"{theirs}.x_proj.weight"]
        for kind in ("weight", "bias") if sizes["bias"] else ("weight",):
            both = arrays[f"{theirs}.in_proj.{kind}"]
            weights |= {f"{ours}.x.{kind}": both[:e], f"{ours}.z.{kind}": both[e:],
                        f"{ours}.out.{kind}": arrays[f"{theirs}.out_proj.{kind}"]}
        weights |= {
            f"{ours}.conv.weight": arrays[f"{theirs}.conv1d.weight"][:, 0],
            f"{ours}.conv.bias": arrays.get(f"{theirs}.conv1d.bias", np.zeros(e, np.float32)),
            f"{ours}.dt_low.weight": low[:r], f"{ours}.B.weight": low[r:r + n], f"{ours}.C.weight": low[r + n:],
            f"{ours}.dt.weight": arrays[f"{theirs}.dt_proj.weight"], f"{ours}.dt.bias": arrays[f"{theirs}.dt_proj.bias"],
            f"{ours}.A_log": arrays[f"{theirs}.A_log"], f"{ours}.D": arrays[f"{theirs}.D"],
        }
    norms = {f"blocks.{k}.norm": f"{place.body}layers.{k}.norm" for k in range(config.blocks)} | {"norm": place.norm}
    for ours, theirs in norms.items():
        for kind in ("weight",) if sizes["rms"] else ("weight", "bias"):
            weights[f"{ours}.{kind}"] = arrays[f"{theirs}.{kind}"]
    return weights


def _notes(layout: str, place: Place, config: ModelConfig, sizes: dict, arrays: dict[str, Array], tied: bool, own_head: bool,
           ignored: list[str]) -> tuple[str, ...]:
    norm = "RMSNorm" if sizes["rms"] else "LayerNorm"
    notes = [
        f"{layout}: {len(arrays)} tensors, all taken over; {config.blocks} blocks, d_model {config.d_model}, d_inner "
        f"{config.d_inner}, d_state {config.d_state}, dt_rank {config.dt_rank}, d_conv {config.d_conv}, vocabulary "
        f"{config.vocabulary}",
        f"norms: {norm} with an epsilon of {config.norm_epsilon:g}, kept",
        "in_proj became x and z; x_proj became dt_low, B and C",
    ]
    if place.root:
        notes.append(f"its tensors stand below '{place.root}'")
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
        notes.append("auto_map names code of the checkpoint's own, which was not read: taken for the Mamba-1 of transformers")
    if any(value.dtype == np.float64 for value in arrays.values()):
        notes.append("float64 tensors were rounded to float32")
    return tuple(notes)
