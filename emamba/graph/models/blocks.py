"""What all models share around a mixer: norms, residuals, directions, the convolution before the scan, MLPs."""

from collections.abc import Callable

from ..builder import Builder
from .attention import attention

Mixer = Callable[[Builder, str, str, str], str]
"""Adds its nodes to a builder, given the prefixes of their names and of their tensors and the node that it reads; returns the
last of them."""


def blocks(g: Builder, mixer: Mixer) -> str:
    """norm → mixer → residual, in the configuration's direction; every so many blocks the mixer is attention. The stream itself
    is reversed between two blocks of different directions, so that nothing beside it waits for a sequence; `both` reverses what
    one mixer reads, and gives."""
    c, x, backward = g.config, g.x, False
    for k in range(c.blocks):
        at, tensors = f"block{k}.", f"blocks.{k}."
        if k in c.merge:
            kernel = (1, 2) if g.grid(x)[0] == 1 else (2, 2)
            x = g.convolve(f"{at}merge", x, c.d_model, kernel, stride=kernel, role="stem", tensors=f"{tensors}merge")
        if backward != (wanted := c.direction == "backward" or (c.direction == "alternating" and k % 2 == 1)):
            x, backward = g.reverse(f"{at}turn", x), wanted
        normed = g.norm(f"{at}norm", x, tensors=f"{tensors}norm")
        mix = attention if c.attention is not None and (k + 1) % c.attention == 0 else mixer
        out = mix(g, at, tensors, normed)
        if c.direction == "both":
            shared = tensors if c.shared_directions else f"{tensors}back."
            back = g.reverse(f"{at}return", mix(g, f"{at}back.", shared, g.reverse(f"{at}turn", normed)))
            out = g.add("Add", f"{at}both", (out, back), g.width(out), role="branch")
        x = g.residual(f"{at}residual", x, out) if c.residual else out
        if c.mlp is not None:
            x = _mlp(g, f"{at}mlp_", f"{tensors}mlp_", x, c.mlp)
    return g.reverse("turn", x) if backward else x


def _mlp(g: Builder, at: str, tensors: str, x: str, width: int) -> str:
    """norm → {up → SiLU}, or {up} ‖ {gate → SiLU} → product, → down, with the residual."""
    c = g.config
    normed = g.norm(f"{at}norm", x, tensors=f"{tensors}norm")
    hidden = g.linear(f"{at}up", normed, width, bias=c.mlp_bias, tensors=f"{tensors}up")
    if c.mlp_gated:
        gate = g.linear(f"{at}gate", normed, width, bias=c.mlp_bias, tensors=f"{tensors}gate")
        hidden = g.multiply(f"{at}product", hidden, g.activation(f"{at}silu", gate, "silu"))
    else:
        hidden = g.activation(f"{at}silu", hidden, "silu")
    out = g.linear(f"{at}down", hidden, c.d_model, bias=c.mlp_bias, role="branch", tensors=f"{tensors}down")
    return g.residual(f"{at}residual", x, out) if c.residual else out


def convolution(g: Builder, name: str, x: str, *, tensors: str) -> str:
    """What the configuration has before the scan."""
    taps = g.config.d_conv
    if g.config.conv == "pointwise":
        return g.linear(name, x, g.width(x), tensors=tensors)
    if g.config.conv == "causal":
        return g.conv(name, x, taps, tensors=tensors)
    if g.config.conv == "same":
        return g.depthwise(name, x, (1, taps), grid=(1, g.nodes[x].tokens), tensors=tensors)
    return g.depthwise(name, x, (taps, taps), tensors=tensors)
