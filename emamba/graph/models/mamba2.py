"""Mamba-2 (SSD), with the units of the paper or with those of its authors' implementations."""

from ..builder import Builder, model
from .blocks import blocks, convolution
from .delta import step_size


@model("mamba2")
def mamba2(g: Builder) -> str:
    """norm → {x, B, C → conv → SiLU} ‖ {z → SiLU} ‖ δ → scan by heads → gate → norm → out, with the residual.

    arXiv 2405.21060. `gated_norm = "before"` puts the inner norm before the gate, "none" leaves it out.
    """
    return blocks(g, mixer)


def mixer(g: Builder, at: str, tensors: str, normed: str) -> str:
    """What lies between a block's norm and its residual sum."""
    c = g.config
    z = g.linear(f"{at}z", normed, c.d_inner, bias=bool(c.bias), tensors=f"{tensors}z")
    inner = {}
    for name, width in (("x", c.d_inner), ("B", c.groups * c.d_state), ("C", c.groups * c.d_state)):
        part = g.linear(f"{at}{name}", normed, width, bias=bool(c.bias), tensors=f"{tensors}{name}")
        part = convolution(g, f"{at}conv_{name}", part, tensors=f"{tensors}conv_{name}")
        inner[name] = g.activation(f"{at}silu_{name}", part, "silu")
    delta = step_size(g, at, normed, c.heads, tensors=f"{tensors}dt")
    y = g.head_scan(f"{at}y", inner["x"], delta, inner["B"], inner["C"], groups=c.groups, tensors=tensors.removesuffix("."))
    gate = g.activation(f"{at}silu", z, "silu")
    if c.gated_norm == "before":
        y = g.norm(f"{at}gated_norm", y, tensors=f"{tensors}gated_norm", bias=False, groups=c.norm_groups)
    y = g.multiply(f"{at}gate", y, gate)
    if c.gated_norm == "after":
        y = g.norm(f"{at}gated_norm", y, tensors=f"{tensors}gated_norm", groups=c.norm_groups)
    return g.linear(f"{at}out", y, c.d_model, bias=bool(c.bias), role="branch", tensors=f"{tensors}out")
