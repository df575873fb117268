"""Attention: LinearAttention with the rule `gated`, which is the scan of a Mamba, and the one with a softmax."""

from dataclasses import replace

import numpy as np

from ..base.errors import InputError
from .file import Operation
from .reader import reads
from .shapes import attended, stream
from .values import Array, Stream, Term, Value, is_term, is_zero, node, same, scaled


@reads("LinearAttention")
def linear_attention(operation: Operation, query: Value, key: Value, value: Value, past: Value | None = None,
                     decay: Value | None = None, beta: Value | None = None) -> Value:
    """A Scan, or a HeadScan of heads with several channels."""
    told = operation.attributes
    heads = told.get("kv_num_heads")
    if told.get("update_rule", "gated_delta") != "gated" or told.get("q_num_heads") != heads or decay is None:
        raise InputError(f"its rule is {told.get('update_rule', 'gated_delta')} with {told.get('q_num_heads')} heads of queries "
                         f"for {heads}; 'gated' with as many is read")
    start = {} if is_zero(past) else {"h0": _state(past)}
    states = query.shape[2] // heads
    delta, A = _decays(decay, heads)
    if (A >= 0).any():
        raise InputError("a decay is not negative, so its state would never fade")
    u, B, groups = _driven(key, value, delta, heads, states)
    C, of_queries = _of_heads(query, heads, states)
    if groups != of_queries:
        raise InputError(f"its keys have {groups} groups, its queries {of_queries}")
    if (factor := told.get("scale", 0.0) or states**-0.5) != 1:
        C = scaled(C, np.full(C.draft.width, factor))
    parameters = {"A_log": np.log(-A[:, 0]), "D": np.zeros(u.draft.width)} | start
    if u.draft.width == heads and groups == 1:
        return node("Scan", u, delta, B, C, parameters=parameters | {"A_log": np.log(-np.broadcast_to(A, (heads, states)))})
    if A.shape[1] > 1:
        raise InputError(f"it has {groups} groups of B and C, {u.draft.width // heads} channels a head and a decay for each "
                         "state; such a decay is possible with one group and one channel")
    return node("HeadScan", u, delta, B, C, parameters=parameters, groups=groups, wide_D=True)


def _driven(key: Value, value: Value, delta: Stream, heads: int, states: int) -> tuple[Stream, Stream, int]:
    """u, B and the number of its groups, where keys are B and values δ·u, or keys δ·B and values u."""
    if is_term(key, "packed") and key.args[0].what in ("product across", "product by heads"):
        B, step = key.args[0].args
        _check_delta(step, delta)
        return stream(value), B, 1
    B, groups = _of_heads(key, heads, states)
    if is_term(value, "packed") and is_term(value.args[0], "product by heads"):
        u, step = value.args[0].args
        _check_delta(step, delta)
        return u, B, groups
    made = stream(value)
    if made.draft.kind != "Multiply" or made.offset is not None:
        raise InputError("neither its values nor its keys are a product with δ")
    u, step = (replace(x, axes=delta.axes) for x in made.draft.inputs)
    u, step = (u, step) if same(step, delta) else (step, u)
    _check_delta(step, delta)
    return u if made.scale is None else scaled(u, made.scale), B, groups


def _state(past: Value) -> Array:
    """The same state before every sequence, [batch, heads, states, channels] → [heads · channels, states]."""
    if not isinstance(past, np.ndarray) or past.ndim != 4 or (past.shape[0] > 1 and past.strides[0]):
        raise InputError("it begins with a state that is computed, or that differs from sequence to sequence")
    return past[0].swapaxes(1, 2).reshape(-1, past.shape[2])


def _check_delta(step: Stream, delta: Stream) -> None:
    if not same(replace(step, axes=delta.axes), delta):
        raise InputError("the δ of its values is not that of its decays")


def _decays(decay: Value, heads: int) -> tuple[Stream, Array]:
    """δ and A [heads, states or 1]."""
    if is_term(decay, "packed") and is_term(decay.args[0], "product by states") and len(decay.args[0].args[1]) == heads:
        delta, A = decay.args[0].args
        return replace(delta, axes=("B", "L", "C")), A
    if isinstance(decay, Stream) and decay.draft.width == heads and decay.scale is not None and decay.offset is None:
        return replace(decay, scale=None), decay.scale[:, None]
    raise InputError("its decays are not δ·A with a constant A")


def _of_heads(x: Value, heads: int, states: int) -> tuple[Stream, int]:
    """What every head gets: its group's channels of a stream; and the number of groups."""
    if not is_term(x, "pick"):
        return stream(x), heads
    source, index = x.args
    groups = source.draft.width // states
    if not groups or heads % groups or not np.array_equal(
            index, np.arange(groups * states).reshape(groups, states).repeat(heads // groups, 0).reshape(-1)):
        raise InputError("its keys or queries are not the same for all heads of a group")
    return source, groups


@reads("Attention")
def attention(operation: Operation, q: Value, k: Value, v: Value, *rest: Value | None) -> Value:
    told, inputs = operation.attributes, [stream(x) for x in (q, k, v)]
    heads = told.get("q_num_heads")
    if any(x.axes != ("B", "L", "C") for x in inputs) or not heads or told.get("kv_num_heads") != heads:
        raise InputError("its inputs are not [batch, tokens, channels] with as many heads of keys as of queries")
    odd = told.get("softcap") or told.get("qk_matmul_output_mode") or told.get("is_causal", 0) not in (0, 1)
    if any(x is not None for x in rest) or odd:
        raise InputError("it has a mask, a state from before, or a limit of its scores")
    factor = told.get("scale", (inputs[0].draft.width // heads) ** -0.5)
    return attended(*inputs, heads, factor, bool(told.get("is_causal", 0)))


# -- as it is expanded --------------------------------------------------------------------------------------------------------


def scores(q: Term, k: Term) -> Term:
    """q·kᵀ by heads, with the factor and the mask that it has so far."""
    return Term("scores", (q.args[0], k.args[0], q.args[1], 1.0, False), (*q.shape[:3], k.shape[3]))


def factored(x: Term, factor: float) -> Term:
    """factor · x, of scores or of what they are made of."""
    if x.what == "scores":
        q, k, heads, before, causal = x.args
        return Term("scores", (q, k, heads, before * factor, causal), x.shape)
    return Term(x.what, (scaled(x.args[0], np.full(x.args[0].draft.width, factor)), x.args[1]), x.shape)


def masked(x: Term, keeps: Array) -> Term:
    """Scores of which a mask keeps some, [..., queries, keys]."""
    tokens, (q, k, heads, factor, causal) = x.shape[2], x.args
    kept = np.broadcast_to(keeps.reshape(keeps.shape[-2:]), (tokens, tokens))
    if not np.array_equal(kept, np.tri(tokens, dtype=bool)) or causal:
        raise InputError("its mask is not that of the tokens up to the query's own")
    return Term("scores", (q, k, heads, factor, True), x.shape)


@reads("Softmax")
def softmax(operation: Operation, x: Value) -> Value:
    if not is_term(x, "scores") or operation.attributes.get("axis", -1) not in (-1, 3):
        raise InputError("it is read in attention alone, of the products of queries and keys")
    return Term("shares", x.args, x.shape)
