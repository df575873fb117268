"""Blocks around any mixer: norm, direction, residual."""

from collections.abc import Callable

from ..builder import Builder

Mixer = Callable[[Builder, str, str, str], str]
"""Adds its nodes to a builder, given the prefixes of their names and of their tensors and the node that it reads; returns the
last of them."""


def blocks(g: Builder, mixer: Mixer) -> str:
    """norm → mixer → residual, in the configuration's direction. The stream itself is reversed between two blocks of different
    directions, so that nothing beside it waits for a sequence; `both` reverses what one mixer reads, and gives."""
    c, x, backward = g.config, g.x, False
    for k in range(c.blocks):
        at, tensors = f"block{k}.", f"blocks.{k}."
        if backward != (wanted := c.direction == "backward" or (c.direction == "alternating" and k % 2 == 1)):
            x, backward = g.reverse(f"{at}turn", x), wanted
        normed = g.norm(f"{at}norm", x, tensors=f"{tensors}norm")
        out = mixer(g, at, tensors, normed)
        if c.direction == "both":
            shared = tensors if c.shared_directions else f"{tensors}back."
            back = g.reverse(f"{at}return", mixer(g, f"{at}back.", shared, g.reverse(f"{at}turn", normed)))
            out = g.add("Add", f"{at}both", (out, back), g.width(out), role="branch")
        x = g.residual(f"{at}residual", x, out) if c.residual else out
    return g.reverse("turn", x) if backward else x
