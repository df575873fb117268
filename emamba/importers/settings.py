"""What the settings of a checkpoint, its config.json, may say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from ..base.errors import InputError

ALIASES = {("layer", "Mamba"): "Mamba1"}
"""Other words for a value."""

SAME_RESULT = {"residual_in_fp32", "fused_add_norm", "use_mambapy", "use_associative_scan", "use_fast_path", "use_cache", "pscan",
               "use_cuda", "chunk_size", "use_mem_eff_path"}
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
    "time_step_scale", "time_step_min", "time_step_max", "time_step_init_scheme", "time_step_floor", "time_step_rank",
    "initializer_range", "rescale_prenorm_residual", "dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor",
    "A_init_range", "conv_init", "initializer_cfg", "base_std", "mup_base_width", "decoder_start_token_id", "architectures",
    "auto_map", "custom_pipelines", "transformers_version", "torch_dtype", "dtype", "name_or_path", "tokenizer_class",
    "task_specific_params", "return_dict", "output_hidden_states", "output_attentions", "id2label", "label2id", "num_labels",
    "problem_type", "chunk_size_feed_forward", "is_encoder_decoder", "is_decoder", "add_cross_attention",
    "cross_attention_hidden_size", "tie_encoder_decoder", "prefix", "torchscript", "pruned_heads", "finetuning_task",
    "use_bfloat16", "tf_legacy_loss", "xla_device", "attn_implementation", "experts_implementation", "gradient_checkpointing",
    "keys_to_ignore_at_inference", "base_model_tp_plan", "base_model_pp_plan", "model_max_length", "max_position_embeddings",
    "padding_side", "truncation_side", "add_bos_token", "add_eos_token", "unsloth_version",
}
"""Keys that no inference reads: start values of a training, names, tokens that stand for something. So is each that begins
with _, which a package keeps for itself, and each that ends with _token_id."""


@dataclass(frozen=True)
class Keys:
    """What one package's settings may say: key → our word for it, keys that may have these values only, since any other makes a
    model of another kind, and by our words what holds where nothing is said."""

    sizes: Mapping[str, str]
    allowed: Mapping[str, tuple]
    defaults: Mapping[str, Any] = field(default_factory=dict)


def read_settings(settings: dict, layout: str, keys: Keys, where: str) -> tuple[dict, list[str]]:
    """What the settings say, by our words; and the keys that ask for another way to the same result."""
    flat = dict(settings)
    if layout == "mamba_ssm":
        inner = flat.pop("ssm_cfg", None) or {}
        if not isinstance(inner, dict):
            raise InputError(f"{where}: ssm_cfg must be a table of settings")
        flat |= inner
    said: dict[str, tuple[str, Any]] = {}
    for key, value in flat.items():
        value = [_plain(part) for part in value] if isinstance(value, list | tuple) else value
        value = ALIASES.get((key, value), value) if isinstance(value, str) else value
        if key in keys.allowed:
            if value not in keys.allowed[key]:
                possible = " or ".join(repr(one) for one in keys.allowed[key])
                raise InputError(f"{where}: {key} is {value!r}; only {possible} can be imported")
        elif key in keys.sizes:
            ours = keys.sizes[key]
            if ours in said and said[ours][1] != value:
                raise InputError(f"{where}: {said[ours][0]} is {said[ours][1]!r}, but {key} is {value!r}: make the two agree")
            said[ours] = key, value
        elif not _no_matter(key) and not (layout == "transformers" and key in ("ssm_cfg", "pad_vocab_size_multiple")):
            raise InputError(f"{where}: the setting {key} = {value!r} is unknown here, and may change what the model computes: "
                              "remove it from the settings if it does not")
    typed = {ours: _typed(ours, *pair, where) for ours, pair in said.items()}
    return dict(keys.defaults) | typed, sorted((SAME_RESULT | {"auto_map"}) & set(flat))


def _plain(value: Any) -> Any:
    """transformers 5 writes infinity as a table."""
    return float(value["__float__"]) if isinstance(value, dict) and value.keys() == {"__float__"} else value


def _no_matter(key: str) -> bool:
    return key in NO_MATTER or key.startswith("_") or key.endswith("_token_id")


def _typed(ours: str, key: str, value: Any, where: str) -> Any:
    """A value of the settings if it is of the right type and size."""
    if ours == "limits":
        right = value is None or (isinstance(value, list) and [type(one) in (int, float) for one in value] == [True, True]
                                  and 0 <= value[0] < value[1])
        wanted = "two numbers, the lower one first"
    elif ours in ("bias", "conv_bias", "tied", "rms", "wide_D", "gated", "before"):
        right, wanted = isinstance(value, bool), "true or false"
    elif ours in ("epsilon", "expand"):
        right = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < inf
        wanted = "a positive number"
    else:
        right = (type(value) is int and value > -(ours == "mlp")) or (ours == "dt_rank" and value == "auto")
        wanted = "a positive integer"
    if not right:
        raise InputError(f"{where}: {key} must be {wanted}, not {value!r}")
    return value
