"""Attention as a mixer."""

from ..builder import Builder


def attention(g: Builder, at: str, tensors: str, normed: str) -> str:
    """q ‖ k ‖ v → attention by heads → out."""
    c = g.config
    q, k, v = (g.linear(f"{at}{name}", normed, c.d_model, tensors=f"{tensors}{name}") for name in "qkv")
    mixed = g.attention(f"{at}attention", q, k, v, c.attention_heads, causal=c.attention_causal)
    return g.linear(f"{at}out", mixed, c.d_model, role="branch", tensors=f"{tensors}out")
